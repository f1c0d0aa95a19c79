/**
 * What a node reports, as structured logs: an observer that writes to pino, or to whatever logs like it.
 *
 * Owns what is said at which level. A trouble that comes again and again is said once in `repeat_ms`, with how often it
 * came; nothing else is held back. Never throws.
 */
import type { Observer } from "../engine/observer.ts";
import { type KeyturnError, textOf } from "../words/errors.ts";

export type Level = "debug" | "info" | "warn" | "error";

/** The part of pino that is used; a child logger works as well. */
export type Log = { readonly [L in Level]: (fields: object, message: string) => void };

export interface LogOptions {
  /** The same trouble is said so often at most, in milliseconds; 10,000 by default. */
  readonly repeat_ms?: number;
  /** Whether lines name actors' keys; true by default. Where false, only the type is said. */
  readonly keys?: boolean;
}

/** The same trouble is said so often, where nothing else is wanted. */
export const REPEAT_MS = 10_000;
/** Of so many different troubles is remembered when they were said. */
const TROUBLES = 256;

/**
 * ```ts
 * startNode({ actors, store, observer: logTo(pino()) });
 * ```
 */
export function logTo(log: Log, options: LogOptions = {}): Partial<Observer> {
  const { repeat_ms = REPEAT_MS, keys = true } = options;
  const seldom = new Seldom(repeat_ms);
  const actorOf = (id: string): object => (keys ? { actor: id } : { type: id.slice(0, id.indexOf(".")) });
  const trouble = (level: Level, fields: object, message: string, err: unknown): void => {
    const repeated = seldom.pass(`${message} ${JSON.stringify(fields)} ${textOf(err)}`);
    if (repeated !== undefined)
      log[level]({ ...fields, err, ...(repeated > 0 ? { repeated } : {}) }, message);
  };
  return {
    joined: (incarnation) => log.info({ event: "joined", incarnation }, "joined"),
    fenced: (incarnation) =>
      log.warn({ event: "fenced", incarnation }, "fenced: another node has taken over; joins again"),
    shardServing: (shard, incarnation, epoch) =>
      log.debug({ event: "shard_serving", shard, incarnation, epoch }, "serves a shard"),
    shardReleased: (shard, incarnation) =>
      log.debug({ event: "shard_released", shard, incarnation }, "has released a shard"),
    shardFailed: (shard: number, err: KeyturnError) =>
      log.error(
        { event: "shard_failed", shard, code: err.code, err },
        "a shard is stopped, the others go on",
      ),
    actionFailed: (id, action, err) =>
      trouble("error", { event: "action_failed", ...actorOf(id), action }, "an action failed", err),
    logged: (id, label, value) =>
      log.info(
        { event: "logged", ...actorOf(id), ...(label === undefined ? {} : { label }), value },
        typeof value === "string" ? value : (label ?? "logged"),
      ),
    sourceRuns: (source, from) => log.info({ event: "source_runs", source, from }, "reads a source"),
    sourceEnded: (source, { items, malformed, ended }) =>
      log.info({ event: "source_ended", source, items, malformed, ended }, "has stopped reading a source"),
    sourceFailed: (source, err) =>
      log.error({ event: "source_failed", source, err }, "a source cannot be read on; the node goes on"),
    storeFull: (cause) =>
      trouble("error", { event: "store_full" }, "the store has no room; what is written is refused", cause),
    troubled: (task, err) => trouble("warn", { event: "troubled", task }, "failed, and is tried again", err),
  };
}

/** Says of what comes again and again when it is to be said once more. */
export class Seldom {
  readonly #repeat_ms: number;
  /** When each was said last, and how often it came since. */
  readonly #said = new Map<string, { at_ms: number; since: number }>();

  constructor(repeat_ms: number) {
    this.#repeat_ms = repeat_ms;
  }

  /** How often it came unsaid since it was said last; undefined if it is not to be said now. */
  pass(key: string): number | undefined {
    const now_ms = performance.now();
    const before = this.#said.get(key);
    if (before !== undefined && now_ms - before.at_ms < this.#repeat_ms) {
      before.since++;
      return undefined;
    }
    if (this.#said.size >= TROUBLES) this.#said.clear();
    this.#said.set(key, { at_ms: now_ms, since: 0 });
    return before?.since ?? 0;
  }
}
