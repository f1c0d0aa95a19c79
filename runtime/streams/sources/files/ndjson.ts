/**
 * NDJSON files (JSON Lines) as a source: one JSON value a line.
 *
 * A large file may be read in several parts at once: each begins with the first line that begins in its range of bytes.
 * A position is the byte and the line after which it stands. Empty lines are no items.
 */
import { isUtf8 } from "node:buffer";
import { textOf } from "../../../words/errors.ts";
import type { PlannedPartition, Position } from "../actors.ts";
import {
  type Chunk,
  checkWhole,
  type Extent,
  type Item,
  type ReadOptions,
  type SourceReader,
} from "../reader.ts";
import {
  checkIdentity,
  FileBytes,
  type FileOptions,
  type FollowOptions,
  identityOf,
  opened,
  pathsOf,
  sizeOfFile,
} from "./file.ts";

export interface NdjsonOptions extends FileOptions, FollowOptions {
  /** Parts in which each file is read at once, over all nodes; 1 by default. Fixed when a file is first read. */
  readonly partitions?: number;
  /** A longer line is malformed; 1 MiB by default. */
  readonly maxLineBytes?: number;
}

const LINE_BYTES = 1_024 * 1_024;
const LINE_BYTES_MAX = 256 * 1_024 * 1_024;
const PARTS_MAX = 256;
const CHUNK_ITEMS = 4_096;
const SHOWN_BYTES = 2_000;
const NEWLINE = 10;

interface LinePosition {
  readonly [name: string]: number;
  readonly byte: number;
  readonly line: number;
}

/**
 * Reads NDJSON. Items are the parsed values, numbered by their lines.
 * @throws KeyturnError `invalid_options`
 */
export function ndjson<T = unknown>(options: NdjsonOptions): SourceReader<T> {
  const paths = pathsOf(options);
  const { partitions = 1, maxLineBytes = LINE_BYTES, follow = false, poll_ms = 100 } = options;
  checkWhole("partitions", partitions, 1, PARTS_MAX);
  checkWhole("maxLineBytes", maxLineBytes, 1, LINE_BYTES_MAX);
  checkWhole("poll_ms", poll_ms, 1, 60_000);
  return {
    description: `NDJSON of ${paths.join(", ")}`,
    unit: "bytes",
    follow,
    plan: async () => (await Promise.all(paths.map((path) => partsOf(path, partitions)))).flat(),
    read: (partition, position, { signal }) =>
      read<T>(partition, position as LinePosition | null, { maxLineBytes, follow, poll_ms, signal }),
    extent,
  };
}

async function partsOf(path: string, count: number): Promise<PlannedPartition[]> {
  const [size, { head, headBytes }] = await Promise.all([sizeOfFile(path), identityOf(path)]);
  return Array.from({ length: count }, (_, at) => ({
    group: path,
    spec: {
      path,
      from: Math.floor((size * at) / count),
      to: at + 1 === count ? null : Math.floor((size * (at + 1)) / count),
    },
    identity: { head, headBytes },
  }));
}

async function extent({ spec }: PlannedPartition, position: Position): Promise<Extent> {
  const from = spec.from as number;
  const to = (spec.to as number | null) ?? (await sizeOfFile(spec.path as string));
  const total = Math.max(0, to - from);
  const byte = (position as LinePosition | null)?.byte ?? from;
  return { done: Math.min(total, Math.max(0, byte - from)), total };
}

async function* read<T>(
  { spec, identity }: PlannedPartition,
  position: LinePosition | null,
  { maxLineBytes, follow, poll_ms, signal }: FollowOptions & ReadOptions & { readonly maxLineBytes: number },
): AsyncGenerator<Chunk<T>> {
  const path = spec.path as string;
  const end = (spec.to as number | null) ?? Number.POSITIVE_INFINITY;
  const file = await opened(path);
  try {
    await checkIdentity(file, path, identity, position?.byte ?? 0);
    const start =
      position ?? (await firstLine(new FileBytes(file, path, 0, {}, signal), spec.from as number));
    // Only the last part of a file grows.
    const following = spec.to === null ? { follow: follow ?? false, poll_ms: poll_ms ?? 100 } : {};
    const bytes = new FileBytes(file, path, start.byte, following, signal);
    const lines = new Lines<T>(start, end, maxLineBytes);
    while (!lines.over && !signal.aborted) {
      const block = await bytes.next();
      if (signal.aborted) return;
      if (block === undefined) lines.end();
      else lines.add(block);
      for (let chunk = lines.chunk(); chunk !== undefined; chunk = lines.chunk()) yield chunk;
      if (block === undefined) break;
    }
  } finally {
    await file.close();
  }
}

/** The first line that begins at a byte or after it: counts the lines before. */
async function firstLine(bytes: FileBytes, from: number): Promise<LinePosition> {
  if (from === 0) return { byte: 0, line: 0 };
  let byte = 0;
  let line = 0;
  for (let block = await bytes.next(); block !== undefined; block = await bytes.next()) {
    for (let at = block.indexOf(NEWLINE); at >= 0; at = block.indexOf(NEWLINE, at + 1)) {
      line++;
      if (byte + at + 1 >= from) return { byte: byte + at + 1, line };
    }
    byte += block.length;
  }
  return { byte, line };
}

/** Cuts bytes into lines, and lines into chunks of items. */
class Lines<T> {
  /** The next line begins behind the part. */
  over = false;
  readonly #end: number;
  readonly #max: number;
  #byte: number;
  #line: number;
  /** Of the line that is not complete: its bytes so far, at most as many as a line may have. */
  #open: Buffer[] = [];
  #openBytes = 0;
  #items: Item<T>[] = [];
  /** How far `#items`, with the empty lines after them, go; of the last chunk that was given. */
  #given: number;

  constructor({ byte, line }: LinePosition, end: number, max: number) {
    this.#byte = byte;
    this.#line = line;
    this.#end = end;
    this.#max = max;
    this.#given = byte;
    this.over = byte >= end;
  }

  add(block: Buffer): void {
    let from = 0;
    for (let at = block.indexOf(NEWLINE); at >= 0 && !this.over; at = block.indexOf(NEWLINE, from)) {
      this.#take(block.subarray(from, at), true);
      from = at + 1;
    }
    if (!this.over && from < block.length) this.#keep(block.subarray(from));
  }

  /** Nothing comes any more: what is open is a line. */
  end(): void {
    if (this.#openBytes > 0 && !this.over) this.#take(Buffer.alloc(0), false);
  }

  /** The items so far; undefined if there are none, and no empty lines. */
  chunk(): Chunk<T> | undefined {
    if (this.#items.length === 0 && this.#given === this.#byte) return undefined;
    const items = this.#items.slice(0, CHUNK_ITEMS);
    this.#items = this.#items.slice(CHUNK_ITEMS);
    if (this.#items.length > 0) return { items };
    this.#given = this.#byte;
    return { items, position: this.#position() };
  }

  #keep(part: Buffer): void {
    const room = this.#max - this.#openBytes;
    if (room > 0) this.#open.push(part.length > room ? part.subarray(0, room) : part);
    this.#openBytes += part.length;
  }

  #take(rest: Buffer, newline: boolean): void {
    const bytes = this.#openBytes + rest.length;
    let line = rest;
    if (this.#openBytes > 0) {
      if (bytes <= this.#max) this.#open.push(rest);
      line = Buffer.concat(this.#open);
      this.#open = [];
      this.#openBytes = 0;
    }
    const first = this.#byte === 0;
    this.#byte += bytes + (newline ? 1 : 0);
    this.#line++;
    if (this.#byte >= this.#end) this.over = true;
    // A file may begin with a byte order mark.
    if (first && line[0] === 0xef && line[1] === 0xbb && line[2] === 0xbf) line = line.subarray(3);
    if (bytes > this.#max) this.#fault(line, `The line has ${bytes} bytes, more than ${this.#max}.`);
    else this.#parse(line);
  }

  #parse(line: Buffer): void {
    const text = line.toString("utf8");
    if (text.includes("\ufffd") && !isUtf8(line)) {
      this.#fault(line, "It is not UTF-8.");
      return;
    }
    try {
      const value = JSON.parse(text) as T;
      this.#items.push({ number: this.#line, after: this.#position(), value });
    } catch (error) {
      if (text.trim() !== "") this.#fault(line, `It is not JSON: ${textOf(error)}.`);
    }
  }

  #fault(line: Buffer, fault: string): void {
    const text = line.subarray(0, SHOWN_BYTES).toString("utf8");
    this.#items.push({ number: this.#line, after: this.#position(), fault, text });
  }

  #position(): LinePosition {
    return { byte: this.#byte, line: this.#line };
  }
}
