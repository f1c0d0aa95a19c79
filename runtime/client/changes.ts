/**
 * Watching all actors of a type: which changed, and what they are now.
 *
 * Owns what was seen of each shard. Each shard is asked what changed since its last answer, and holds the question until
 * something has, so nothing is sent while nothing happens; watches that have heard the same share the question
 * (shared-asks.ts). When a shard's owner changes, or has forgotten, everything is
 * read once and compared. Talks to the client's request channels.
 *
 * Invariants:
 * 1. Who reads slowly may miss states in between, never the last of any actor; and holds one change an actor.
 * 2. A watch does not go back: after everything was read, an answer is of later.
 */
import type { AnyActorDefinition } from "../engine/definition.ts";
import type { Clock } from "../ports/index.ts";
import { isKeyturnError, KeyturnError } from "../words/errors.ts";
import type { ChangesMark, FoundRow, ShardAnswer, ShardQuery } from "../words/queries.ts";
import { type FindQuery, type FoundActor, foundOf, shardQueryOf, typeOf } from "./find.ts";

export interface ChangesQuery extends Omit<FindQuery, "limit" | "after" | "olderThan"> {
  /** False leaves out what is there when the watch begins. */
  readonly initial?: boolean | undefined;
  /** Ends the watch. */
  readonly signal?: AbortSignal | undefined;
  /** A mark of an earlier watch with the same query: goes on behind it, instead of with what is there. */
  readonly since?: string | undefined;
  /** Called with a mark each time that all that is known was given and taken, if it is another than before. */
  readonly onMark?: ((mark: string) => void) | undefined;
  /** With `since`: what was behind a mark is not known any more. Deletions may be missed; the rest is given, again. */
  readonly onReset?: (() => void) | undefined;
}

/** An actor that changed. */
export interface ChangedActor {
  readonly key: string;
  /** `type/key`. */
  readonly address: string;
  /** What it is now; undefined if it was deleted, or does not fit the query any more. */
  readonly actor: FoundActor | undefined;
}

/**
 * Asks one shard; what is to be held may be asked together with others.
 * @param isFresh whether the answer has to be of now on
 */
export type AskChanges = (
  shard: number,
  type: string,
  query: ShardQuery,
  timeout_ms: number | undefined,
  isFresh?: boolean,
) => Promise<ShardAnswer>;

/** How long a shard holds a question. */
const HOLD_MS = 20_000;
const TIMEOUT_MS = 30_000;
const PAUSE_MS = 200;
/** Changes that wait for their reader; shards are asked for more when they are fewer. */
const WAITING_MAX = 8_192;

export async function* changes(
  ask: AskChanges,
  shards: number,
  clock: Clock,
  target: string | AnyActorDefinition,
  query: ChangesQuery,
): AsyncGenerator<ChangedActor> {
  const type = typeOf(target);
  const watch = new Watch(ask, clock, type, query, shards);
  const stop = (): void => watch.stop();
  query.signal?.addEventListener("abort", stop);
  if (query.signal?.aborted === true) stop();
  const marks = marksIn(query.since, shards);
  for (let shard = 0; shard < shards; shard++) watch.follow(shard, marks[shard]);
  try {
    while (true) {
      const changed = await watch.next();
      if (changed === undefined) return;
      yield changed;
    }
  } finally {
    query.signal?.removeEventListener("abort", stop);
    watch.stop();
  }
}

/** What was given or passed over of one shard: positions by key. */
type Known = Map<string, number>;

function positionIn([, , , , position]: FoundRow): number {
  return position;
}

/** A mark for people to keep: of every shard `log.number`, with commas between. */
function textOf(marks: readonly (ChangesMark | undefined)[]): string | undefined {
  const parts: string[] = [];
  for (const mark of marks) {
    if (mark === undefined) return undefined;
    parts.push(`${mark.log}.${mark.number}`);
  }
  return parts.join(",");
}

/** @throws KeyturnError `invalid_options` */
function marksIn(text: string | undefined, shards: number): readonly (ChangesMark | undefined)[] {
  if (text === undefined) return [];
  const parts = typeof text === "string" ? text.split(",", shards + 1) : [];
  const marks = parts.map((part) => {
    const [, log, number] = /^([A-Za-z0-9_-]{1,64})\.(\d{1,15})$/.exec(part) ?? [];
    return log === undefined ? undefined : { log, number: Number(number) };
  });
  if (marks.length === shards && !marks.includes(undefined)) return marks;
  throw new KeyturnError("invalid_options", "Changes go on since a mark that an earlier watch has given.");
}

class Watch {
  readonly #ask: AskChanges;
  readonly #clock: Clock;
  readonly #type: string;
  readonly #query: ShardQuery;
  readonly #options: ChangesQuery;
  /** How far each shard was heard. */
  readonly #marks: (ChangesMark | undefined)[];
  #told: string | undefined;
  /** By key, in the order of their last change. */
  readonly #waiting = new Map<string, ChangedActor>();
  #wake: () => void = () => undefined;
  readonly #room: (() => void)[] = [];
  #fault: unknown;
  #ended = false;

  constructor(ask: AskChanges, clock: Clock, type: string, query: ChangesQuery, shards: number) {
    this.#ask = ask;
    this.#clock = clock;
    this.#type = type;
    this.#query = shardQueryOf("changes", query);
    this.#options = query;
    this.#marks = new Array<ChangesMark | undefined>(shards).fill(undefined);
  }

  stop(): void {
    this.#ended = true;
    this.#wake();
    for (const go of this.#room.splice(0)) go();
  }

  /** Undefined at the end. */
  async next(): Promise<ChangedActor | undefined> {
    while (true) {
      if (this.#fault !== undefined) throw this.#fault;
      if (this.#ended) return undefined;
      for (const [key, changed] of this.#waiting) {
        this.#waiting.delete(key);
        if (this.#waiting.size < WAITING_MAX) for (const go of this.#room.splice(0)) go();
        return changed;
      }
      this.#mark();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Whoever reads has taken everything that was heard. */
  #mark(): void {
    const { onMark } = this.#options;
    const mark = onMark === undefined ? undefined : textOf(this.#marks);
    if (mark === undefined || mark === this.#told) return;
    this.#told = mark;
    onMark?.(mark);
  }

  follow(shard: number, since: ChangesMark | undefined): void {
    this.#follow(shard, since).catch((error: unknown) => {
      this.#fault = error;
      this.#wake();
    });
  }

  async #follow(shard: number, mark: ChangesMark | undefined): Promise<void> {
    let since = mark;
    let silent = this.#options.initial === false && since === undefined;
    const known: Known = new Map();
    /** Who goes on behind a mark does not know what was given before it. */
    let sure = since === undefined;
    let isFresh = false;
    while (!this.#ended) {
      try {
        const answer = await this.#ask(
          shard,
          this.#type,
          { ...this.#query, since, hold_ms: HOLD_MS },
          TIMEOUT_MS,
          isFresh,
        );
        if (this.#ended) return;
        isFresh = answer.reset === true;
        if (answer.reset === true) {
          if (!sure) this.#options.onReset?.();
          await this.#readAll(shard, known, silent);
          silent = false;
          sure = true;
        } else {
          for (const row of answer.found ?? []) this.#put(known, row, answer.paths ?? []);
          for (const key of answer.gone ?? []) this.#drop(known, key, sure);
        }
        since = answer.mark;
        this.#marks[shard] = since;
        this.#wake();
      } catch (error) {
        if (!isKeyturnError(error) || !error.retryable) throw error;
        await new Promise<void>((resolve) => this.#clock.after(PAUSE_MS, resolve));
      }
      if (this.#waiting.size >= WAITING_MAX && !this.#ended)
        await new Promise<void>((resolve) => this.#room.push(resolve));
    }
  }

  async #readAll(shard: number, known: Known, silent: boolean): Promise<void> {
    const left = new Set(known.keys());
    let after: string | undefined;
    do {
      const asked: ShardQuery = { ...this.#query, ask: "find", after };
      const { found = [], paths = [], next } = await this.#ask(shard, this.#type, asked, TIMEOUT_MS);
      for (const row of found) {
        left.delete(row[0]);
        if (silent) known.set(row[0], positionIn(row));
        else this.#put(known, row, paths);
      }
      after = next;
    } while (after !== undefined && !this.#ended);
    for (const key of left) this.#drop(known, key, true);
  }

  #put(known: Known, row: FoundRow, paths: readonly string[]): void {
    // The reading of everything and the changes behind its mark overlap.
    if (known.get(row[0]) === positionIn(row)) return;
    known.set(row[0], positionIn(row));
    const actor = foundOf(this.#type, row, paths);
    this.#give({ key: actor.key, address: actor.address, actor });
  }

  #drop(known: Known, key: string, sure: boolean): void {
    // What never fitted did not go either.
    if (known.delete(key) || !sure) this.#give({ key, address: `${this.#type}/${key}`, actor: undefined });
  }

  #give(changed: ChangedActor): void {
    this.#waiting.delete(changed.key);
    this.#waiting.set(changed.key, changed);
    this.#wake();
  }
}
