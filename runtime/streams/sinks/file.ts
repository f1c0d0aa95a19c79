/**
 * Files as a sink's target: one a partition, a line of JSON for each event, flushed to disk before it counts.
 *
 * Owns nothing between two batches. During one it holds a lock beside the file, so that two that publish one partition (a
 * node that was taken for dead and woke up) or name one file by mistake never write into each other; the kernel frees it
 * when its process dies, and one that waits longer says so and is tried again. A file that ends with another sink's line is
 * refused. A line is `{ id, from, at, event }`; within a file their numbers grow. A run looks at
 * the file's end first: what a killed run left unfinished is cut off, and what it had written is left out. So each event
 * is there once, as long as the file stays where it was; a partition that moves to another machine begins a file there,
 * and may write again what was not confirmed: at least once.
 */
import { mkdir, open, type FileHandle } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { FolderLock } from "../../stores/embedded/lock.ts";
import { isKeyturnError, KeyturnError } from "../../words/errors.ts";
import {
  lineOf,
  type Published,
  type PublishArgs,
  type SinkBatch,
  type SinkItem,
  type SinkTarget,
} from "./target.ts";

export interface FileSinkOptions {
  /** `{sink}` and `{partition}` are replaced: "out/{sink}-{partition}.ndjson". Folders are made. */
  readonly path: string;
  /** A line, without its end; must hold the item's `id` as JSON's first property to be recognised after a crash. */
  readonly line?: (item: SinkItem) => string;
  /** Flushes to disk before a batch counts as published; true by default. */
  readonly fsync?: boolean;
}

const LOOK_BYTES = 64 * 1024;
/** A longer line is none of ours. */
const LOOK_MAX = 4 * 1024 * 1024;
const NEWLINE = 10;
/** How long another who writes the file is waited for. */
const LOCK_WAIT_MS = 2_000;
const LOCK_LOOK_MS = 10;

/**
 * Appends to files, at least once.
 * @throws KeyturnError `invalid_options`
 */
export function toFile(options: FileSinkOptions): SinkTarget {
  if (typeof options?.path !== "string" || options.path === "")
    throw new KeyturnError("invalid_options", 'toFile takes { path: "out/{sink}-{partition}.ndjson" }.');
  const { path, line = lineOf, fsync = true } = options;
  return Object.freeze({
    description: `the file ${path}`,
    check: (sink: string, partitions: number) => {
      if (partitions === 1 || path.includes("{partition}")) return;
      throw new KeyturnError(
        "invalid_options",
        `The sink "${sink}" has ${partitions} partitions, which cannot write one file. Put {partition} into the path, or give it one partition.`,
      );
    },
    publish: async (batch: SinkBatch, { signal }: PublishArgs) => {
      const name = path.replaceAll("{sink}", batch.sink).replaceAll("{partition}", String(batch.partition));
      return append(resolve(name), batch, line, fsync, signal);
    },
  });
}

async function append(
  path: string,
  batch: SinkBatch,
  line: (item: SinkItem) => string,
  fsync: boolean,
  signal: AbortSignal,
): Promise<Published> {
  await mkdir(dirname(path), { recursive: true });
  const lock = await locked(path, signal);
  try {
    return await write(path, batch, line, fsync, signal);
  } finally {
    await lock.release();
  }
}

/** @throws KeyturnError `store_locked` if another process writes the file, and does not end */
async function locked(path: string, signal: AbortSignal): Promise<FolderLock> {
  const folder = `${path}.lock`;
  await mkdir(folder, { recursive: true });
  for (let waited_ms = 0; ; waited_ms += LOCK_LOOK_MS) {
    try {
      return await FolderLock.take(path, folder, lockedFile);
    } catch (error) {
      if (!isKeyturnError(error, "store_locked") || waited_ms >= LOCK_WAIT_MS || signal.aborted) throw error;
      await sleep(LOCK_LOOK_MS);
    }
  }
}

function lockedFile(path: string, holder: string): KeyturnError {
  return new KeyturnError(
    "store_locked",
    `The file ${path} is being written by ${holder}. Give each sink a file of its own; if it is a node of this sink that is frozen, end it.`,
  );
}

async function write(
  path: string,
  { sink, partition, items }: SinkBatch,
  line: (item: SinkItem) => string,
  fsync: boolean,
  signal: AbortSignal,
): Promise<Published> {
  const folder = dirname(path);
  const file = await open(path, "a+");
  try {
    const { size } = await file.stat();
    const { end, last } = await endOf(file, size);
    checkOwn(path, `${sink}.${partition}.`, last);
    if (end < size) await file.truncate(end);
    const text = missingFrom(items, last)
      .map((item) => `${line(item)}\n`)
      .join("");
    if (signal.aborted) throw new Error("Another node publishes this partition.");
    if (text !== "") await file.appendFile(text);
    if (fsync) await file.sync();
    // A new file is found after a power loss only if its folder was flushed too.
    if (fsync && size === 0) await syncFolder(folder);
    return {};
  } finally {
    await file.close();
  }
}

/** Two sinks in one file would take each other's lines for what they have not written. */
function checkOwn(path: string, own: string, last: string | undefined): void {
  const [, other] = /^([^.]+\.\d+\.)[^.]+\.\d+$/.exec(last ?? "") ?? [];
  if (other === undefined || other === own) return;
  const [name, number] = other.split(".");
  throw new KeyturnError(
    "sink_refused",
    `The file ${path} was written last by partition ${number} of the sink "${name}". Give each a file of its own: "{sink}-{partition}.ndjson"; or move that file away.`,
  );
}

/**
 * Items behind the one whose id is in the last line. That may be of a later batch: this run is of a node that was taken for
 * dead, and woke up.
 */
function missingFrom(items: readonly SinkItem[], last: string | undefined): readonly SinkItem[] {
  const dot = last?.lastIndexOf(".") ?? -1;
  const life = last?.slice(0, dot + 1) ?? "";
  const number = Number(last?.slice(dot + 1));
  if (dot < 0 || !Number.isSafeInteger(number)) return items;
  return items.filter((item) => item.id !== `${life}${item.number}` || item.number > number);
}

/** Where the last whole line ends, and the id in it. */
async function endOf(file: FileHandle, size: number): Promise<{ end: number; last: string | undefined }> {
  for (let look = Math.min(LOOK_BYTES, size); size > 0; look = Math.min(look * 4, size)) {
    const { buffer } = await file.read(Buffer.alloc(look), 0, look, size - look);
    const newline = buffer.lastIndexOf(NEWLINE);
    const before = newline <= 0 ? -1 : buffer.lastIndexOf(NEWLINE, newline - 1);
    const whole = look === size;
    if (newline >= 0 && (before >= 0 || whole))
      return { end: size - look + newline + 1, last: idIn(buffer.toString("utf8", before + 1, newline)) };
    if (whole && newline < 0) return { end: 0, last: undefined };
    if (look > LOOK_MAX)
      throw new Error(
        "The end of the file is a line of more than 4 MiB. It is not of this sink; move it away.",
      );
  }
  return { end: 0, last: undefined };
}

function idIn(text: string): string | undefined {
  try {
    const { id } = JSON.parse(text) as { id?: unknown };
    return typeof id === "string" ? id : undefined;
  } catch {
    return undefined;
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } catch {
    // Some systems cannot; what the file holds is flushed.
  } finally {
    await handle.close();
  }
}
