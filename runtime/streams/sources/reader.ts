/**
 * What a source reads from: the contract between the runner and the readers of files and streams.
 *
 * Owns no code but checks. A reader knows nothing of actors.
 *
 * 1. `plan` says which parts there are now. The parts of a group that was planned before are not planned again, so what
 *    it says of a known group does not matter.
 * 2. `read` gives a part's items after a position, each with the position after it, in an order that never changes; `null`
 *    is the beginning. It ends where the part ends, or never if it is followed. Once `signal` is aborted it ends soon.
 * 3. `read` throws `source_changed` if the position does not belong to what is there now, by the part's identity.
 * 4. Memory is bounded, whatever the items are like.
 */
import { KeyturnError } from "../../words/errors.ts";
import type { PlannedPartition, Position } from "./words.ts";

/** One item, or what could not be made one. */
export interface Item<T> {
  /** Line, row or sequence; counts from 1. */
  readonly number: number;
  /** Where the reader stands after it. */
  readonly after: Position;
  readonly value?: T;
  /** Why it is none. Then `text` is how it begins. */
  readonly fault?: string;
  readonly text?: string;
  readonly info?: MessageInfo;
}

/** What is known of a stream's message besides its value. */
export interface MessageInfo {
  readonly subject: string;
  /** When the stream took it, milliseconds since the epoch. */
  readonly time_ms: number;
  header(name: string): string | undefined;
}

/** Some items in a row. */
export interface Chunk<T> {
  readonly items: readonly Item<T>[];
  /** Items that were gone before they could be read. */
  readonly missed?: number;
  /** Where the reader stands after it, if that is behind its last item. */
  readonly position?: Position;
}

export interface ReadOptions {
  readonly signal: AbortSignal;
}

/** How far a part was read: so many units of so many that there are now. */
export interface Extent {
  readonly done: number;
  readonly total: number;
}

export interface SourceReader<T = unknown> {
  /** For people. */
  readonly description: string;
  readonly unit: "bytes" | "rows" | "messages" | "items";
  /** Whether it goes on after what is there now. */
  readonly follow: boolean;
  plan(): Promise<readonly PlannedPartition[]>;
  read(partition: PlannedPartition, position: Position, options: ReadOptions): AsyncIterable<Chunk<T>>;
  extent(partition: PlannedPartition, position: Position): Promise<Extent>;
  /** The number of the last item before a position, if that is known: files have it. */
  numberAt?(position: Position): number;
  /** It may end before the end of what there is: what it has read tells nothing of how much that is. */
  readonly isPartial?: true;
  /** Items come by requests: there is nothing to run. */
  readonly passive?: true;
  /** Lets go of connections. */
  close?(): Promise<void>;
}

/** The part of a source is not what it was when its position was noted. */
export function changed(text: string): KeyturnError {
  return new KeyturnError("source_changed", text);
}

/** A source cannot be read. */
export function unreadable(what: string, cause: unknown): KeyturnError {
  if (cause instanceof KeyturnError) return cause;
  const why = cause instanceof Error ? cause.message : String(cause);
  return new KeyturnError("source_failed", `${what} cannot be read: ${why}`, { cause });
}

/** Refuses what is not a whole number within bounds. */
export function checkWhole(name: string, value: unknown, low: number, high: number): void {
  if (Number.isSafeInteger(value) && (value as number) >= low && (value as number) <= high) return;
  throw new KeyturnError(
    "invalid_options",
    `${name} is ${String(value)}; it is a whole number from ${low} to ${high}.`,
  );
}
