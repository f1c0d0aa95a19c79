/** Reads a part of a text file: its bytes, cut into lines, made into items by a format, in chunks. */
import type { PlannedPartition } from "../words.ts";
import type { Chunk, Item, ReadOptions } from "../reader.ts";
import { checkIdentity, FileBytes, type FollowOptions, opened } from "./file.ts";
import { firstLine, type Line, LineCutter, type LinePosition } from "./lines.ts";

/** Items of a chunk, about: a block's lines are not kept for longer. */
const CHUNK_ITEMS = 4_096;

/** Makes items of lines. */
export interface ItemCutter<T> {
  /** Those that are complete; whoever reads takes them away. */
  items: Item<T>[];
  /** Where everything before is complete: in `items`, or nothing. Undefined before the first. */
  position: LinePosition | undefined;
  line(line: Line): void;
  /** Nothing comes any more. */
  end(): void;
}

interface TextOptions extends ReadOptions, FollowOptions {
  readonly maxLineBytes: number;
  readonly wholeLines?: boolean | undefined;
}

/** @param cutter makes the format, for this reading */
export async function* readText<T>(
  { spec, identity }: PlannedPartition,
  position: LinePosition | null,
  { maxLineBytes, follow = false, poll_ms = 100, wholeLines, signal }: TextOptions,
  cutter: () => ItemCutter<T>,
): AsyncGenerator<Chunk<T>> {
  const path = spec.path as string;
  const end = (spec.to as number | null) ?? Number.POSITIVE_INFINITY;
  const file = await opened(path);
  try {
    await checkIdentity(file, path, identity, position?.byte ?? 0);
    const start =
      position ?? (await firstLine(new FileBytes(file, path, 0, {}, signal), spec.from as number));
    if (start.byte >= end) return;
    // Only the last part of a file grows.
    const following = spec.to === null ? { follow, poll_ms } : {};
    const bytes = new FileBytes(file, path, start.byte, following, signal);
    const isLast = (): boolean => spec.to !== null || wholeLines !== true;
    yield* cutLines(bytes, start, cutter(), { maxLineBytes, isLast, signal }, end);
  } finally {
    await file.close();
  }
}

interface CutOptions extends ReadOptions {
  readonly maxLineBytes: number;
  /** Asked in the end: whether what is open then is a line. */
  readonly isLast: () => boolean;
}

/**
 * Items of what the lines of some bytes are made into, in chunks, until the bytes are over.
 * @param end lines that begin there or after it are left out
 */
export async function* cutLines<T>(
  bytes: { next(): Promise<Buffer | undefined> },
  start: LinePosition,
  items: ItemCutter<T>,
  { maxLineBytes, isLast, signal }: CutOptions,
  end = Number.POSITIVE_INFINITY,
): AsyncGenerator<Chunk<T>> {
  const lines = new LineCutter(start, maxLineBytes, (line) => items.line(line));
  let given = start.byte;
  for (let over = false; !over; ) {
    const block = await bytes.next();
    if (signal.aborted) return;
    if (block !== undefined) over = lines.add(block, end);
    else {
      if (isLast()) lines.end();
      over = true;
    }
    if (over && isLast()) items.end();
    const ready = items.items;
    items.items = [];
    for (let at = 0; at + CHUNK_ITEMS < ready.length; at += CHUNK_ITEMS)
      yield { items: ready.slice(at, at + CHUNK_ITEMS) };
    const rest = ready.slice(
      ready.length - (ready.length % CHUNK_ITEMS || Math.min(ready.length, CHUNK_ITEMS)),
    );
    const stands = items.position ?? start;
    if (rest.length > 0 || stands.byte > given) {
      given = stands.byte;
      yield { items: rest, position: stands };
    }
  }
}
