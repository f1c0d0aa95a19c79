/**
 * What is asked of an actor's history: a page of it, or one past state as a whole.
 *
 * Owns the shapes and the check of those that come from outside. Talks to nobody.
 */
import { KeyturnError } from "../words/errors.ts";
import type { MachineState } from "./machine.ts";
import type { Link, PackedTimer } from "./record.ts";

/** Blocks that a cursor lists at most: a quarter of a million turns. */
export const CURSOR_LINKS = 4_096;

/** A page of history. */
export interface HistoryQuery {
  readonly order: "newest" | "oldest";
  readonly limit: number;
  /** Where the page before ended: its `next`. */
  readonly cursor: HistoryCursor | undefined;
  /** Of `newest` without a cursor: turns up to this one. */
  readonly upTo?: number | undefined;
  /** Asks for one past state as a whole instead of a page: after that turn, or the last one up to that position. */
  readonly state?: PastQuery | undefined;
}

export type PastQuery = { readonly turn: number } | { readonly position: number };

/** All of a past state, as a fork begins with it. */
export interface PastState {
  readonly turn: number;
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly position: number;
  readonly version: number;
  readonly machine: MachineState;
  readonly timers: readonly PackedTimer[];
}

/** Where the next page begins. Opaque to clients. */
export interface HistoryCursor {
  /** The next record to read; for `oldest` the last records of the blocks to read, the block to read next last. */
  readonly links: readonly Link[];
  /** Turns of that block that were given already. */
  readonly skip: number;
  /** For `oldest`: there are blocks that are not listed, of turns behind this one. */
  readonly behind: number | undefined;
}

/**
 * Checks a query that came from outside.
 * @throws KeyturnError `invalid_frame`
 */
export function checkQuery(value: unknown): HistoryQuery {
  const { order, limit, cursor, state, upTo } = (value ?? {}) as Partial<Record<keyof HistoryQuery, unknown>>;
  if (state !== undefined && state !== null)
    return { order: "newest", limit: 1, cursor: undefined, state: checkPast(state) };
  if ((order !== "newest" && order !== "oldest") || !isWhole(limit)) throw noQuery();
  if (upTo !== undefined && upTo !== null && !(isWhole(upTo) && upTo > 0)) throw noQuery();
  if (cursor === undefined || cursor === null)
    return { order, limit, cursor: undefined, ...(upTo ? { upTo } : {}) };
  const { links, skip, behind } = cursor as Partial<Record<keyof HistoryCursor, unknown>>;
  if (!Array.isArray(links) || links.length > CURSOR_LINKS || !links.every(isLink) || !isWhole(skip))
    throw noQuery();
  if (behind !== undefined && !isWhole(behind)) throw noQuery();
  return { order, limit, cursor: { links, skip, behind } };
}

function checkPast(state: unknown): PastQuery {
  const { turn, position } = state as { readonly turn?: unknown; readonly position?: unknown };
  if (isWhole(turn) && turn > 0) return { turn };
  if (isWhole(position) && position > 0) return { position };
  throw noQuery();
}

function isWhole(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isLink(value: unknown): value is Link {
  return Array.isArray(value) && value.length === 2 && isWhole(value[0]) && value[0] > 0 && isWhole(value[1]);
}

function noQuery(): KeyturnError {
  return new KeyturnError("invalid_frame", "A request for history is not one that this runtime makes.");
}
