/**
 * NDJSON files (JSON Lines) as a source: one JSON value a line.
 *
 * A large file may be read in several parts at once: each begins with the first line that begins in its range of bytes.
 * Empty lines are no items.
 */
import { isUtf8 } from "node:buffer";
import { textOf } from "../../../words/errors.ts";
import type { PlannedPartition, Position } from "../words.ts";
import { checkWhole, type Extent, type Item, type SourceReader } from "../reader.ts";
import {
  checkRotated,
  type FileOptions,
  type FollowOptions,
  identityOf,
  type LineOptions,
  pathsOf,
  type RotationOptions,
  sizeOfFile,
} from "./file.ts";
import { type Line, lineAt, type LinePosition } from "./lines.ts";
import { logReader } from "./rotated.ts";
import { type ItemCutter, readText } from "./text.ts";

export interface NdjsonOptions extends FileOptions, FollowOptions, LineOptions, RotationOptions {
  /**
   * Parts in which each file is read at once, over all nodes; 1 by default. Fixed when a file is first read. A part first
   * counts the lines before it.
   */
  readonly partitions?: number;
  /** A longer line is malformed; 1 MiB by default. */
  readonly maxLineBytes?: number;
}

export const LINE_BYTES = 1_024 * 1_024;
export const LINE_BYTES_MAX = 256 * 1_024 * 1_024;
export const PARTS_MAX = 256;
const SHOWN_BYTES = 2_000;

/**
 * Reads NDJSON. Items are the parsed values, numbered by their lines.
 * @throws KeyturnError `invalid_options`
 */
export function ndjson<T = unknown>(options: NdjsonOptions): SourceReader<T> {
  const paths = pathsOf(options);
  const { partitions = 1, maxLineBytes = LINE_BYTES, poll_ms = 100 } = options;
  checkWhole("partitions", partitions, 1, PARTS_MAX);
  checkWhole("maxLineBytes", maxLineBytes, 1, LINE_BYTES_MAX);
  checkWhole("poll_ms", poll_ms, 1, 60_000);
  return textReader(
    `NDJSON of ${paths.join(", ")}`,
    { ...options, paths },
    () => new JsonLines<T>(maxLineBytes),
  );
}

/** A reader of files whose items are made of single lines. */
export function textReader<T>(
  description: string,
  {
    paths,
    partitions = 1,
    maxLineBytes = LINE_BYTES,
    follow = false,
    poll_ms = 100,
    wholeLines = false,
    rotated = false,
  }: Omit<NdjsonOptions, "path"> & { readonly paths: readonly string[] },
  cutter: () => ItemCutter<T>,
): SourceReader<T> {
  checkRotated(rotated, follow, partitions);
  const common = { description, unit: "bytes", follow, numberAt: lineAt } as const;
  if (rotated) return logReader(description, paths, { maxLineBytes, poll_ms }, cutter);
  return {
    ...common,
    ...(wholeLines ? { isPartial: true } : {}),
    plan: async () => (await Promise.all(paths.map((path) => partsOf(path, partitions)))).flat(),
    read: (partition, position, { signal }) => {
      const options = { maxLineBytes, follow, poll_ms, wholeLines, signal };
      return readText(partition, position as LinePosition | null, options, cutter);
    },
    extent,
  };
}

export async function partsOf(path: string, count: number): Promise<PlannedPartition[]> {
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

/** How much of a part was read, in bytes. */
export async function extent({ spec }: PlannedPartition, position: Position): Promise<Extent> {
  const from = spec.from as number;
  const to = (spec.to as number | null) ?? (await sizeOfFile(spec.path as string));
  const total = Math.max(0, to - from);
  const byte = (position as LinePosition | null)?.byte ?? from;
  return { done: Math.min(total, Math.max(0, byte - from)), total };
}

class JsonLines<T> implements ItemCutter<T> {
  items: Item<T>[] = [];
  position: LinePosition | undefined;
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  line(line: Line): void {
    this.position = line.after;
    const { bytes, length, after } = line;
    if (length > this.#max) {
      this.items.push(faultyLine(line, `The line has ${length} bytes, more than ${this.#max}.`));
      return;
    }
    const text = bytes.toString("utf8");
    if (isBroken(text, bytes)) {
      this.items.push(faultyLine(line, "It is not UTF-8."));
      return;
    }
    try {
      const value = JSON.parse(text) as T;
      this.items.push({ number: after.line, after, value });
    } catch (error) {
      if (text.trim() !== "") this.items.push(faultyLine(line, `It is not JSON: ${textOf(error)}.`));
    }
  }

  end(): void {
    // A line is complete by itself.
  }
}

export function isBroken(text: string, bytes: Buffer): boolean {
  return text.includes("\ufffd") && !isUtf8(bytes);
}

export function faultyLine({ bytes, after }: Line, fault: string): Item<never> {
  return { number: after.line, after, fault, text: bytes.subarray(0, SHOWN_BYTES).toString("utf8") };
}
