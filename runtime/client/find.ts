/**
 * Questions about all actors of a type: find, count, and what they wait for.
 *
 * Owns the walk over the shards: each is asked for pages of its own, in the order of keys, and the pages are merged, so
 * memory is bounded by two pages a shard, and who stops reading stops asking. Pages begin small and grow, so that what
 * comes first comes soon; the next one is asked for when half of one is read. Talks to the client's request channels.
 *
 * What is found is consistent with every turn that was acknowledged before the shard was asked. Shards are asked at
 * different moments: there is no common one.
 */
import type { AnyActorDefinition } from "../engine/definition.ts";
import type { PendingTimer, TimerName } from "../engine/pending.ts";
import { behindPrefix, checkType, compareKeys } from "../words/address.ts";
import { durationOf } from "../words/duration.ts";
import { KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import {
  checkShardQuery,
  type Filter,
  type FoundRow,
  type ShardAnswer,
  type ShardQuery,
  type TimerRow,
} from "../words/queries.ts";
import { isWellFormed } from "../words/text.ts";
import { type AskShard, eachOf } from "./shards.ts";
import { topKeys } from "./top.ts";

/** Which actors; see Filter. */
export interface FindQuery extends Omit<Filter, "olderThan"> {
  /** Milliseconds, or a text such as "1 hour": the last turn is so long ago at least. */
  readonly olderThan?: number | string | undefined;
  /** Only keys that begin so. */
  readonly prefix?: string | undefined;
  /** Only keys behind this one: `next` of a page. */
  readonly after?: string | undefined;
  /** Stop after so many. */
  readonly limit?: number | undefined;
  /**
   * For each exchange with a shard, milliseconds. The first may have to find all actors, which goes on behind a deadline
   * that is over; by default it is waited for.
   */
  readonly timeout_ms?: number | undefined;
}

/** An actor that was found. */
export interface FoundActor {
  readonly type: string;
  readonly key: string;
  /** `type/key`. */
  readonly address: string;
  /** As in the actor's state. */
  readonly value: unknown;
  readonly status: "active" | "done" | "error" | "stopped";
  readonly turn: number;
  readonly position: number;
  /** When its last turn was, milliseconds since the epoch; undefined if the type has no index. */
  readonly time: number | undefined;
  /** Values of the type's index by path. One that is too large for an index is left out: read the actor. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** A page of what was found. */
export interface FoundPage {
  readonly actors: readonly FoundActor[];
  /** For `after`; undefined at the end. */
  readonly next: string | undefined;
}

/** How many actors were found, and how many of them in each state: `{ "waiting.payment": 3 }`. */
export interface Count {
  readonly total: number;
  readonly states: Readonly<Record<string, number>>;
}

/** The same, with how many turns they have taken together, and the newest batch that any shard has committed. */
export interface Activity extends Count {
  readonly turns: number;
  readonly position: number;
}

export interface TimersQuery extends FindQuery {
  /** Only what is due before, milliseconds since the epoch. */
  readonly dueBefore?: number | undefined;
  /** Only timers of that id, or of that child. */
  readonly id?: string | undefined;
  readonly child?: string | undefined;
}

/** A delay that an actor waits for. Of its event only the type is shown; `ref.timers()` shows all. */
export interface FoundTimer extends PendingTimer {
  readonly type: string;
  readonly key: string;
  readonly address: string;
}

/** Rows of a shard's first page: of all shards together they are many. */
const FIRST_ROWS = 8;
/** How much larger each page is than the one before. */
const PAGE_GROWTH = 4;
const TIMEOUT_MS = 60_000;

export class Finder {
  readonly #ask: AskShard;
  readonly #shards: number;

  constructor(ask: AskShard, shards: number) {
    this.#ask = async (shard, type, query, timeout_ms) => {
      if (timeout_ms !== undefined) return ask(shard, type, query, timeout_ms);
      // The first question may have to find all actors. Whoever sets no deadline waits as long as somebody does that.
      while (true) {
        const answer = await ask(shard, type, { ...query, waits: true }, TIMEOUT_MS);
        if (answer.finding === undefined) return answer;
      }
    };
    this.#shards = shards;
  }

  async *find(target: string | AnyActorDefinition, query: FindQuery): AsyncGenerator<FoundActor> {
    const type = typeOf(target);
    const { limit = Number.POSITIVE_INFINITY } = query;
    const rows = this.#merged(type, shardQueryOf("find", query), limit, query.timeout_ms, pageOfRows);
    for await (const { row, paths } of rows) yield foundOf(type, row, paths);
  }

  async page(target: string | AnyActorDefinition, query: FindQuery): Promise<FoundPage> {
    const { limit = 100 } = query;
    if (!(Number.isSafeInteger(limit) && limit >= 1))
      throw new KeyturnError(
        "invalid_options",
        `A page has a whole number of actors from 1, not ${String(limit)}.`,
      );
    const actors: FoundActor[] = [];
    for await (const actor of this.find(target, { ...query, limit: limit + 1 })) actors.push(actor);
    const more = actors.length > limit;
    if (more) actors.pop();
    return { actors, next: more ? actors.at(-1)?.key : undefined };
  }

  async count(target: string | AnyActorDefinition, query: FindQuery): Promise<Count> {
    const { total, states } = await this.activity(target, query);
    return { total, states };
  }

  async activity(target: string | AnyActorDefinition, query: FindQuery): Promise<Activity> {
    const type = typeOf(target);
    const asked = shardQueryOf("count", query);
    const states = new Map<string, number>();
    const unknown = new UnknownState(type, asked);
    let turns = 0;
    let position = 0;
    const countShard = async (shard: number): Promise<void> => {
      let after = asked.after;
      do {
        const answer = await this.#ask(shard, type, { ...asked, after }, query.timeout_ms);
        const { counts = {}, next } = answer;
        unknown.see(answer);
        turns += answer.turns ?? 0;
        position = Math.max(position, answer.position ?? 0);
        for (const [state, count] of Object.entries(counts))
          states.set(state, (states.get(state) ?? 0) + count);
        after = next;
      } while (after !== undefined);
    };
    await eachOf(this.#shards, countShard);
    if (states.size === 0) unknown.check();
    const sorted = [...states].sort(([a], [b]) => compareKeys(a, b));
    return {
      total: sorted.reduce((total, [, count]) => total + count, 0),
      states: Object.fromEntries(sorted),
      turns,
      position,
    };
  }

  /** Where the journal stands for each shard: all that was acknowledged before lies there or earlier. */
  async positions(type: string, timeout_ms: number | undefined): Promise<number[]> {
    const positions: number[] = new Array(this.#shards).fill(0);
    await eachOf(this.#shards, async (shard) => {
      // Of no actor at all: no key is empty.
      const nobody: ShardQuery = { ask: "count", limit: 1, from: "", to: "" };
      positions[shard] = (await this.#ask(shard, type, nobody, timeout_ms)).position ?? 0;
    });
    return positions;
  }

  /** Keys of the actors with the highest numbers at a path of the index, highest first. */
  top(
    target: string | AnyActorDefinition,
    by: string,
    count: number,
    timeout_ms: number | undefined,
  ): Promise<readonly string[]> {
    return topKeys(this.#ask, this.#shards, typeOf(target), by, count, timeout_ms);
  }

  async *timers(target: string | AnyActorDefinition, query: TimersQuery): AsyncGenerator<FoundTimer> {
    const type = typeOf(target);
    const asked = { ...shardQueryOf("timers", query), dueBefore: query.dueBefore };
    const { limit = Number.POSITIVE_INFINITY } = query;
    checkLimit(limit);
    if (limit === 0) return;
    let left = limit;
    const rows = this.#merged(type, asked, Number.POSITIVE_INFINITY, query.timeout_ms, pageOfTimers);
    for await (const { row } of rows) {
      const [key, id, child, due, eventType] = row;
      if ((query.id !== undefined && query.id !== id) || (query.child !== undefined && query.child !== child))
        continue;
      const named: TimerName = child === null ? { id } : { id, child };
      yield { ...named, due, event: { type: eventType }, type, key, address: `${type}/${key}` };
      // Not looked for: the next one may be far away.
      if (--left === 0) return;
    }
  }

  /** The rows of all shards in the order of their keys. */
  async *#merged<R extends Keyed>(
    type: string,
    asked: ShardQuery,
    limit: number,
    timeout_ms: number | undefined,
    rowsOf: (answer: ShardAnswer) => readonly R[],
  ): AsyncGenerator<{ readonly row: R; readonly paths: readonly string[] }> {
    checkLimit(limit);
    if (limit === 0) return;
    const open: Pages<R>[] = [];
    const unknown = new UnknownState(type, asked);
    await eachOf(this.#shards, async (shard) => {
      const ask = async (after: string | undefined, most: number): Promise<ShardAnswer> => {
        const answer = await this.#ask(shard, type, { ...asked, after, limit: most }, timeout_ms);
        unknown.see(answer);
        return answer;
      };
      const pages = new Pages(ask, rowsOf, asked.after);
      await pages.fill(limit);
      if (pages.first !== undefined) open.push(pages);
    });
    if (open.length === 0) unknown.check();
    const heap = new Heap(open);
    for (let left = limit; left > 0; ) {
      const { first } = heap;
      if (first === undefined) return;
      yield { row: first.first as R, paths: first.paths };
      if (--left === 0) return;
      if (!first.next(left)) await first.fill(left);
      heap.settle();
    }
  }
}

/**
 * Whether nothing was found because no machine has such a state. Nodes of different versions may have different ones, and
 * actors of a former version may still stand in a state of theirs: one that knows it, or one that is found, is enough.
 */
class UnknownState {
  readonly #type: string;
  readonly #state: string | undefined;
  #isKnown = false;
  #beside: readonly string[] = [];

  constructor(type: string, { state }: ShardQuery) {
    this.#type = type;
    this.#state = state;
  }

  see({ unknown }: ShardAnswer): void {
    if (unknown === undefined) this.#isKnown = true;
    else this.#beside = unknown;
  }

  /** @throws KeyturnError `invalid_options` */
  check(): void {
    if (this.#isKnown || this.#state === undefined) return;
    const there = this.#beside.length === 0 ? "It has none." : `There are: ${this.#beside.join(", ")}.`;
    throw new KeyturnError(
      "invalid_options",
      `The machine of "${this.#type}" has no state "${this.#state.slice(0, 80)}". ${there}`,
    );
  }
}

/** What one shard finds, in the order of keys: a page, of which the first row is given next, and the page behind it. */
class Pages<R> {
  readonly #ask: (after: string | undefined, most: number) => Promise<ShardAnswer>;
  readonly #rowsOf: (answer: ShardAnswer) => readonly R[];
  #rows: readonly R[] = [];
  #at = 0;
  #paths: readonly string[] = [];
  #after: string | undefined;
  #more = true;
  #size = FIRST_ROWS;
  /** The page behind this one, if it is asked for. */
  #ahead: Promise<ShardAnswer> | undefined;

  /** @param ask for so many rows at most behind a key */
  constructor(
    ask: (after: string | undefined, most: number) => Promise<ShardAnswer>,
    rowsOf: (answer: ShardAnswer) => readonly R[],
    after: string | undefined,
  ) {
    this.#ask = ask;
    this.#rowsOf = rowsOf;
    this.#after = after;
  }

  /** Undefined where a page ends, and at the end. */
  get first(): R | undefined {
    return this.#rows[this.#at];
  }

  get paths(): readonly string[] {
    return this.#paths;
  }

  /** The first row was given. False if the next one is in no page that is here. @param left rows that are still wanted */
  next(left: number): boolean {
    this.#at++;
    const there = this.#rows.length - this.#at;
    if (there > 0 && this.#at === this.#rows.length >> 1 && this.#more && left > there)
      this.#askAhead(left - there);
    return there > 0;
  }

  /** Brings the next page. @param most rows that are still wanted */
  async fill(most: number): Promise<void> {
    this.#at = 0;
    this.#rows = [];
    while (this.#rows.length === 0 && this.#more) {
      const asked = this.#ahead ?? this.#askNext(most);
      this.#ahead = undefined;
      const answer = await asked;
      this.#rows = this.#rowsOf(answer);
      this.#paths = answer.paths ?? [];
      this.#after = answer.next;
      this.#more = answer.next !== undefined;
    }
  }

  #askNext(most: number): Promise<ShardAnswer> {
    const limit = Math.min(this.#size, most);
    this.#size = Math.min(this.#size * PAGE_GROWTH, limits.queryPage);
    return this.#ask(this.#after, limit);
  }

  /** Whoever reads on does not wait for it. One that fails before anybody does is asked for again. */
  #askAhead(most: number): void {
    const ahead = this.#askNext(most);
    this.#ahead = ahead;
    ahead.catch(() => {
      if (this.#ahead === ahead) this.#ahead = undefined;
    });
  }
}

type Keyed = readonly [key: string, ...unknown[]];

/** Shards by their next keys. */
class Heap<R extends Keyed> {
  readonly #items: Pages<R>[];

  constructor(items: Pages<R>[]) {
    this.#items = items.sort((a, b) => compareKeys(keyIn(a), keyIn(b)));
  }

  get first(): Pages<R> | undefined {
    return this.#items[0];
  }

  /** The first has another next key, or none any more. */
  settle(): void {
    const items = this.#items;
    let moved = items[0] as Pages<R>;
    if (moved.first === undefined) {
      const last = items.pop() as Pages<R>;
      if (items.length === 0) return;
      moved = last;
    }
    const key = keyIn(moved);
    let at = 0;
    for (let down = 1; down < items.length; down = 2 * at + 1) {
      if (down + 1 < items.length && compareKeys(keyOf(items, down + 1), keyOf(items, down)) < 0) down++;
      if (compareKeys(keyOf(items, down), key) >= 0) break;
      items[at] = items[down] as Pages<R>;
      at = down;
    }
    items[at] = moved;
  }
}

function keyOf<R extends Keyed>(items: readonly Pages<R>[], at: number): string {
  return keyIn(items[at] as Pages<R>);
}

function keyIn<R extends Keyed>(pages: Pages<R>): string {
  return (pages.first as R)[0];
}

function pageOfRows({ found = [] }: ShardAnswer): readonly FoundRow[] {
  return found;
}

function pageOfTimers({ timers = [] }: ShardAnswer): readonly TimerRow[] {
  return timers;
}

export function foundOf(type: string, row: FoundRow, paths: readonly string[]): FoundActor {
  const [key, value, status, turn, position, time, values, omitted = []] = row;
  const fields: Record<string, unknown> = {};
  for (const [place, path] of paths.entries()) if (!omitted.includes(place)) fields[path] = values[place];
  return Object.freeze({
    type,
    key,
    address: `${type}/${key}`,
    value,
    status: status as FoundActor["status"],
    turn,
    position,
    time: time === 0 ? undefined : time,
    fields,
  });
}

/** @throws KeyturnError `invalid_options` */
export function shardQueryOf(ask: ShardQuery["ask"], query: FindQuery): ShardQuery {
  const { state, status, where, olderThan, prefix, after } = query;
  let { from, to } = query;
  if (prefix !== undefined) {
    if (from !== undefined || to !== undefined || typeof prefix !== "string")
      throw new KeyturnError("invalid_options", "Name a prefix, or from and to.");
    if (!isWellFormed(prefix))
      throw new KeyturnError("invalid_options", "A prefix is a text of well-formed Unicode, as keys are.");
    from = prefix;
    to = behindPrefix(prefix);
  }
  const age = olderThan === undefined ? undefined : durationOf(olderThan, "olderThan");
  return checkShardQuery({
    ask,
    limit: limits.queryPage,
    state,
    status,
    where,
    olderThan: age,
    from,
    to,
    after,
  });
}

function checkLimit(limit: number): void {
  const isOne = limit === Number.POSITIVE_INFINITY || (Number.isSafeInteger(limit) && limit >= 0);
  if (!isOne)
    throw new KeyturnError("invalid_options", `A limit is a whole number from 0 on, not ${String(limit)}.`);
}

export function typeOf(target: string | AnyActorDefinition): string {
  const type = typeof target === "string" ? target : target?.type;
  if (typeof type !== "string")
    throw new KeyturnError("invalid_address", 'Name a type by its definition, or as "order".');
  checkType(type);
  return type;
}
