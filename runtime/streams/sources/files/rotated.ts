/**
 * Logs that are rotated: one that is renamed, copied and cut, or compressed goes on in the next, each line once.
 *
 * Owns the way from one file to the next. A position names the file by its inode, and by a hash of what was seen of its
 * beginning, by which it is found where it was copied or compressed. So the file is found again under whatever name: as `log.1`, as
 * `log-20300101`, as `log.2.gz`, or as the copy of a log that was cut.
 *
 * Invariants:
 * 1. A file is left only when another has its name, and nothing was written to it for a while. Its last line is an item
 *    then, also without a newline.
 * 2. Files follow one another by the numbers or dates of their names, or else by the times when they were last written;
 *    the one that has the name itself is the last.
 * 3. Where the file of a position is not there any more, `source_changed` says so: something may never have been read.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { createGunzip } from "node:zlib";
import {
  type Chunk,
  changed,
  type Extent,
  type ReadOptions,
  type SourceReader,
  unreadable,
} from "../reader.ts";
import type { Position } from "../words.ts";
import { lineAt, type LinePosition } from "./lines.ts";
import { cutLines, type ItemCutter } from "./text.ts";

const HEAD_BYTES = 4_096;
const BLOCK_BYTES = 512 * 1_024;
/** A log that was renamed is still written for a moment, by who has it open. */
const SETTLE_MS = 1_000;
const REMEDY =
  "Keep rotated files for longer than the source may stand still; begin anew with resetSource().";

/** Where a reading stands in a log: in which file, and where in it. */
interface LogPosition extends LinePosition {
  /** Inode, as a number. */
  readonly ino: number;
  /** Of its first bytes, as many as were seen of them: the first 12 digits of a hash. */
  readonly head: number;
  readonly headBytes: number;
}

interface LogFile {
  readonly path: string;
  readonly ino: number;
  readonly size: number;
  readonly written_ms: number;
  readonly zipped: boolean;
  /** It has the log's own name. */
  readonly isCurrent: boolean;
}

interface LogOptions {
  readonly maxLineBytes: number;
  readonly poll_ms: number;
}

/**
 * Makes the format, for each file.
 * @param begin the file's bytes from its beginning; undefined if that is where the reading begins
 */
export type LogCutter<T> = (
  path: string,
  begin: (() => AsyncIterable<Buffer>) | undefined,
) => ItemCutter<T> | Promise<ItemCutter<T>>;

/** A reader of logs that are rotated. */
export function logReader<T>(
  description: string,
  paths: readonly string[],
  options: LogOptions,
  cutter: LogCutter<T>,
): SourceReader<T> {
  return {
    description,
    unit: "bytes",
    follow: true,
    numberAt: lineAt,
    plan: async () => paths.map((path) => ({ group: path, spec: { path, rotated: 1 }, identity: {} })),
    read: ({ spec }, position, { signal }) =>
      readRotated(spec.path as string, position as LogPosition | null, { ...options, signal }, cutter),
    extent: ({ spec }, position) => extentOfLog(spec.path as string, position),
  };
}

async function* readRotated<T>(
  path: string,
  position: LogPosition | null,
  { maxLineBytes, poll_ms, signal }: LogOptions & ReadOptions,
  cutter: LogCutter<T>,
): AsyncGenerator<Chunk<T>> {
  let at = position;
  while (!signal.aborted) {
    const found =
      at === null ? (await filesOf(path)).find(({ isCurrent }) => isCurrent) : await located(path, at);
    if (found === undefined) {
      if (at !== null)
        throw changed(
          `What follows byte ${at.byte} of a file that was ${path} is not there any more: it was removed, or changed, before it was read to its end. ${REMEDY}`,
        );
      throw unreadable(path, new Error("there is no such file."));
    }
    const start: LogPosition = at ?? beginOf(found);
    const log = new LogBytes(path, found, start.byte, poll_ms, signal);
    try {
      await log.open();
      const { path: file, zipped } = found;
      const begin = (): AsyncIterable<Buffer> => streamOf(file, zipped);
      const items = await cutter(file, start.byte === 0 ? undefined : begin);
      for await (const chunk of cutLines(log, start, items, {
        maxLineBytes,
        signal,
        isLast: () => !log.wasCut,
      })) {
        const located = {
          ...chunk,
          items: chunk.items.map((item) => ({ ...item, after: log.placed(item.after) })),
        };
        yield chunk.position === undefined ? located : { ...located, position: log.placed(chunk.position) };
        at = log.placed(chunk.position ?? chunk.items.at(-1)?.after ?? start) as LogPosition;
      }
      if (signal.aborted) return;
      at ??= start;
      // It was cut: what was in it is in a copy.
      if (log.wasCut) continue;
      const next = await log.following();
      if (next === undefined) throw changed(`No file follows ${found.path}, as ${path}. ${REMEDY}`);
      at = beginOf(next);
      yield { items: [], position: at as unknown as Position };
    } finally {
      await log.close();
    }
  }
}

function beginOf({ ino }: LogFile): LogPosition {
  return { byte: 0, line: 0, ino, head: hashOf(Buffer.alloc(0)), headBytes: 0 };
}

/** How much there is: of the file that is read, and of those after it that are not compressed. */
async function extentOfLog(path: string, position: Position): Promise<Extent> {
  const at = position as LogPosition | null;
  const files = await filesOf(path);
  const found = at === null ? files.find(({ isCurrent }) => isCurrent) : await located(path, at);
  const done = at?.byte ?? 0;
  if (found === undefined) return { done, total: done };
  const after = files.slice(files.findIndex(({ ino }) => ino === found.ino) + 1);
  const rest = found.zipped ? 0 : Math.max(0, found.size - done);
  return { done, total: done + rest + after.reduce((sum, { size, zipped }) => sum + (zipped ? 0 : size), 0) };
}

/** The log and what it was, earliest first. */
async function filesOf(path: string): Promise<readonly LogFile[]> {
  const folder = dirname(path);
  const name = basename(path);
  const names = (
    await readdir(folder).catch((cause: unknown) => {
      throw unreadable(path, cause);
    })
  ).filter((one) => one === name || (one.startsWith(name) && /^[.-]/.test(one.slice(name.length))));
  const files = await Promise.all(
    names.map(async (one): Promise<LogFile | undefined> => {
      // While it is compressed there are both.
      if (one.endsWith(".gz") && names.includes(one.slice(0, -3))) return undefined;
      const file = join(folder, one);
      const found = await stat(file).catch(() => undefined);
      if (found?.isFile() !== true) return undefined;
      const { ino, size, mtimeMs: written_ms } = found;
      return { path: file, ino, size, written_ms, zipped: one.endsWith(".gz"), isCurrent: one === name };
    }),
  );
  return files.filter((file) => file !== undefined).sort(inOrder);
}

/** Which was written before: by their names, as far as these say it, or else by the times of their last writes. */
function inOrder(a: LogFile, b: LogFile): number {
  if (a.isCurrent !== b.isCurrent) return a.isCurrent ? 1 : -1;
  const [one, other] = [stampOf(a), stampOf(b)];
  if (one !== undefined && other !== undefined && one.length === other.length)
    // The highest number is the oldest, as is the earliest day.
    return one.length === NUMBER ? (one > other ? -1 : 1) : one < other ? -1 : 1;
  return a.written_ms - b.written_ms;
}

/** Digits to which numbers are filled up; dates are of other lengths. */
const NUMBER = 7;

/** `log.2.gz` has the number 2; `log-20300101` a date. */
function stampOf({ path }: LogFile): string | undefined {
  const [, kind, digits = ""] = /([.-])(\d[\d-]*)(?:\.gz)?$/.exec(path) ?? [];
  if (kind === "." && digits.length < NUMBER) return digits.padStart(NUMBER, "0");
  return digits.length > NUMBER ? digits : undefined;
}

/**
 * The file of a position, under whatever name it has now.
 * @throws KeyturnError `source_changed` if it may be one of several
 */
async function located(path: string, at: LogPosition): Promise<LogFile | undefined> {
  const { byte, ino, head, headBytes } = at;
  const isIt = async (file: LogFile): Promise<boolean> =>
    (file.zipped || file.size >= Math.max(byte, headBytes)) &&
    hashOf(await beginningOf(file, headBytes)) === head;
  const files = await filesOf(path);
  const own = files.find((file) => file.ino === ino);
  if (own !== undefined && (await isIt(own))) return own;
  if (headBytes === 0) return undefined;
  const alike: LogFile[] = [];
  for (const file of files) if (file.ino !== ino && (await isIt(file))) alike.push(file);
  if (alike.length > 1)
    throw changed(
      `What was ${path} is not there any more under its inode, and ${alike.map((one) => one.path).join(", ")} begin alike. ${REMEDY}`,
    );
  return alike[0];
}

/** The first bytes of a file, unpacked. */
async function beginningOf({ path, zipped }: LogFile, bytes: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  try {
    for await (const part of streamOf(path, zipped)) {
      parts.push(part as Buffer);
      length += (part as Buffer).length;
      if (length >= bytes) break;
    }
  } catch {
    // Removed meanwhile, or not what its name says.
    return Buffer.alloc(0);
  }
  return Buffer.concat(parts).subarray(0, bytes);
}

/** How many bytes a compressed file has, unpacked. */
async function lengthOf({ path, zipped }: LogFile): Promise<number> {
  let length = 0;
  try {
    for await (const part of streamOf(path, zipped)) length += (part as Buffer).length;
  } catch {
    return -1;
  }
  return length;
}

function streamOf(path: string, zipped: boolean): Readable {
  const plain = createReadStream(path, { highWaterMark: zipped ? BLOCK_BYTES : HEAD_BYTES });
  if (!zipped) return plain;
  const unpacked = createGunzip();
  plain.on("error", (error) => unpacked.destroy(error));
  unpacked.on("close", () => plain.destroy());
  return plain.pipe(unpacked);
}

function hashOf(bytes: Buffer): number {
  return Number.parseInt(createHash("sha256").update(bytes).digest("hex").slice(0, 12), 16);
}

/** One file's bytes from a position on; ends where the file is over. */
class LogBytes {
  wasCut = false;
  readonly #log: string;
  readonly #file: LogFile;
  readonly #poll_ms: number;
  readonly #signal: AbortSignal;
  #at: number;
  #handle: FileHandle | undefined;
  #stream: AsyncIterator<Buffer> | undefined;
  /** What the file begins with, as much as a hash needs; and the hash of all of that. */
  #head = Buffer.alloc(0);
  #hash = hashOf(Buffer.alloc(0));
  /** Of an unpacked block, what is behind the place where the reading begins. */
  #left: Buffer | undefined;
  #written_ms: number;

  constructor(log: string, file: LogFile, at: number, poll_ms: number, signal: AbortSignal) {
    this.#log = log;
    this.#file = file;
    this.#at = at;
    this.#poll_ms = poll_ms;
    this.#signal = signal;
    this.#written_ms = file.written_ms;
  }

  async open(): Promise<void> {
    const { path, zipped } = this.#file;
    this.#note(await beginningOf(this.#file, HEAD_BYTES));
    if (zipped) this.#stream = streamOf(path, true)[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    else
      this.#handle = await open(path, "r").catch((cause: unknown) => {
        throw unreadable(path, cause);
      });
    for (let skip = zipped ? this.#at : 0; skip > 0; ) {
      const { done, value } = await this.#unzipped();
      if (done === true) return;
      if (value.length > skip) this.#left = value.subarray(skip);
      skip -= Math.min(skip, value.length);
    }
  }

  async close(): Promise<void> {
    await this.#handle?.close();
    await this.#stream?.return?.();
  }

  /** A place in this file, as a position of the log. */
  placed(position: Position): Position {
    const { byte, line } = position as LinePosition;
    return { byte, line, ino: this.#file.ino, head: this.#hash, headBytes: this.#head.length };
  }

  /** @throws KeyturnError `source_failed` */
  async next(): Promise<Buffer | undefined> {
    if (this.#stream !== undefined) return await this.#nextUnzipped();
    const handle = this.#handle as FileHandle;
    let waited = false;
    while (!this.#signal.aborted) {
      const block = Buffer.allocUnsafe(BLOCK_BYTES);
      const { bytesRead } = await handle.read(block, 0, BLOCK_BYTES, this.#at).catch((cause: unknown) => {
        throw unreadable(this.#file.path, cause);
      });
      if (bytesRead > 0) {
        if (waited && !(await this.#beginsAsBefore())) {
          // Cut, and written beyond this place since.
          this.wasCut = true;
          return undefined;
        }
        const bytes = block.subarray(0, bytesRead);
        this.#took(bytes);
        return bytes;
      }
      if (await this.#isOver()) return undefined;
      waited = true;
      await sleep(this.#poll_ms, undefined, { signal: this.#signal }).catch(() => undefined);
    }
    return undefined;
  }

  /** Which file comes after this one; it may have another name by now, or be compressed. */
  async following(): Promise<LogFile | undefined> {
    const files = await filesOf(this.#log);
    // A file that begins alike and is as long.
    const isSame = async (file: LogFile): Promise<boolean> =>
      this.#head.length > 0 &&
      !file.isCurrent &&
      (file.zipped || file.size === this.#at) &&
      hashOf(await beginningOf(file, this.#head.length)) === this.#hash &&
      (!file.zipped || (await lengthOf(file)) === this.#at);
    let self = files.findIndex(({ ino, isCurrent }) => ino === this.#file.ino && !isCurrent);
    for (let at = 0; self < 0 && at < files.length; at++) if (await isSame(files[at] as LogFile)) self = at;
    // Removed meanwhile: what was written later.
    const after =
      self < 0
        ? files.filter(({ isCurrent, written_ms }) => isCurrent || written_ms > this.#written_ms)
        : files.slice(self + 1);
    for (const file of after) if (!(await isSame(file))) return file;
    return undefined;
  }

  /** At the end of what there is: whether nothing will come any more. */
  async #isOver(): Promise<boolean> {
    const here = await (this.#handle as FileHandle).stat();
    this.#written_ms = here.mtimeMs;
    if (here.size < this.#at) {
      this.wasCut = true;
      return true;
    }
    const named = await stat(this.#log).catch(() => undefined);
    if (named === undefined || (named.ino === here.ino && named.dev === here.dev)) return false;
    return Date.now() - here.mtimeMs >= SETTLE_MS && here.size === this.#at;
  }

  async #beginsAsBefore(): Promise<boolean> {
    const { length } = this.#head;
    const { buffer, bytesRead } = await (this.#handle as FileHandle).read(Buffer.alloc(length), 0, length, 0);
    return bytesRead === length && buffer.equals(this.#head);
  }

  #unzipped(): Promise<IteratorResult<Buffer>> {
    return (this.#stream as AsyncIterator<Buffer>).next().catch((cause: unknown) => {
      throw unreadable(this.#file.path, cause);
    });
  }

  async #nextUnzipped(): Promise<Buffer | undefined> {
    const left = this.#left;
    this.#left = undefined;
    if (left !== undefined) {
      this.#took(left);
      return left;
    }
    const { done, value } = await this.#unzipped();
    if (done === true) return undefined;
    this.#took(value);
    return value;
  }

  #took(bytes: Buffer): void {
    const more = this.#head.length - this.#at;
    if (this.#head.length < HEAD_BYTES && more >= 0 && more < bytes.length) this.#note(bytes.subarray(more));
    this.#at += bytes.length;
  }

  #note(bytes: Buffer): void {
    this.#head = Buffer.concat([this.#head, bytes.subarray(0, HEAD_BYTES - this.#head.length)]);
    this.#hash = hashOf(this.#head);
  }
}
