/**
 * The rows of one type in one shard, in the order of their keys, counted by state, with a log of what changed.
 *
 * Owns the order, the counts and the log, by which watchers are told what changed since they asked. Talks to nobody: it
 * is filled by catalogs.ts and looked at by queries.
 *
 * Invariants:
 * 1. The counts are those of the rows, at any moment.
 * 2. Until it is complete it remembers who was deleted: what is read in the store is older than that.
 */
import { compareKeys } from "../../words/address.ts";
import { journalAt } from "../../words/position.ts";
import type { StateValue } from "../machine/internals.ts";
import { Best, type Ranked } from "./best.ts";
import type { Row } from "./row.ts";

/** Keys that are kept unsorted, besides twice as many as there are rows. */
const ADDED_MAX = 1_024;

/** Changes that are remembered for watchers, of one type in one shard. */
const CHANGES_MAX = 8_192;

/** Of the best rows so many are kept, also if fewer are asked for: they fall, too. */
const BEST_MIN = 64;

const nothing: readonly never[] = [];

/** The actors of one status that stand in one state. */
export interface Tally {
  readonly status: Row["status"];
  readonly state: string;
  readonly value: StateValue;
  count: number;
  /** That they have taken together. */
  turns: number;
}

/** Keys from one on, before another one; to the end without it. */
export interface Stretch {
  readonly from: string;
  readonly to: string | undefined;
}

/** The actors of one type in one shard. */
export class ShardRows {
  /** Names this list: numbers of changes count within it. */
  readonly log: string;
  /** Number of the last change. */
  number = 0;
  /** The newest place in each journal of any of these actors. */
  readonly #last: number[] = [];
  /** Keys that changed; the last one is change `number`. */
  #changed: string[] = [];
  readonly #waiting = new Set<() => void>();
  readonly #rows = new Map<string, Row>();
  /** By status, then by state. */
  readonly #tallies = new Map<string, Map<string, Tally>>();
  /** Keys in order; some may be gone. */
  #sorted: string[] = [];
  #added: string[] = [];
  #gone = 0;
  /** Until all rows are found: actors that were deleted, which may still be found in the store. */
  deleted: Set<string> | undefined = new Set();
  #stretch: Stretch | undefined;
  /** By place in the index, of those that somebody has asked for. */
  readonly #best = new Map<number, Best>();

  constructor(log: string) {
    this.log = log;
  }

  get size(): number {
    return this.#rows.size;
  }

  /** The newest place in a journal of any of these actors, 0 if there is none. */
  lastIn(journal: number): number {
    return this.#last[journal] ?? 0;
  }

  get complete(): boolean {
    return this.deleted === undefined;
  }

  /** Until all rows are found: where all of them are. */
  get stretch(): Stretch | undefined {
    return this.#stretch;
  }

  /** Adds what was found in the store, where nothing newer is known. */
  fill(found: readonly Row[]): void {
    for (const row of found) if (!this.knows(row.key)) this.set(row);
  }

  /** All rows with such keys are found. */
  reach(stretch: Stretch): void {
    this.#stretch = stretch;
    this.wake();
  }

  /** All rows are found. */
  finish(): void {
    this.deleted = undefined;
    this.#stretch = undefined;
    this.wake();
  }

  get(key: string): Row | undefined {
    return this.#rows.get(key);
  }

  /** In no order. */
  all(): Row[] {
    return [...this.#rows.values()];
  }

  set(row: Row): void {
    const before = this.#rows.get(row.key);
    this.#rows.set(row.key, row);
    if (before === undefined) this.#add(row.key);
    else this.#uncount(before);
    this.#count(row);
    for (const best of this.#best.values()) best.set(row);
    const { position } = row;
    const journal = journalAt(position);
    if (position > (this.#last[journal] ?? 0)) this.#last[journal] = position;
    this.deleted?.delete(row.key);
    this.#change(row.key);
  }

  delete(key: string): void {
    const before = this.#rows.get(key);
    if (before !== undefined) {
      this.#rows.delete(key);
      this.#uncount(before);
      this.#gone++;
      for (const best of this.#best.values()) best.delete(key);
    }
    this.deleted?.add(key);
    this.#change(key);
  }

  /** How many actors stand in each state. */
  *tallies(): Generator<Tally> {
    for (const states of this.#tallies.values()) yield* states.values();
  }

  /** The rows with the highest numbers at a place of the index, once all are found. */
  top(place: number, count: number): readonly Ranked[] {
    let best = this.#best.get(place);
    if (best === undefined || best.size < count) {
      best = new Best(place, Math.max(BEST_MIN, count), this.#rows.values());
      this.#best.set(place, best);
    }
    return best.first(count, () => this.#rows.values());
  }

  #count({ status, state, value, turn }: Row): void {
    let states = this.#tallies.get(status);
    if (states === undefined) this.#tallies.set(status, (states = new Map()));
    const tally = states.get(state);
    if (tally === undefined) states.set(state, { status, state, value, count: 1, turns: turn });
    else {
      tally.count++;
      tally.turns += turn;
    }
  }

  #uncount({ status, state, turn }: Row): void {
    const states = this.#tallies.get(status);
    const tally = states?.get(state);
    if (states === undefined || tally === undefined) return;
    tally.count--;
    tally.turns -= turn;
    if (tally.count === 0) states.delete(state);
  }

  #add(key: string): void {
    this.#added.push(key);
    // Where actors come and go, and nobody asks for their keys.
    if (this.#added.length > 2 * this.#rows.size + ADDED_MAX) this.keys();
  }

  #change(key: string): void {
    if (this.deleted !== undefined) return;
    this.number++;
    this.#changed.push(key);
    if (this.#changed.length >= 2 * CHANGES_MAX) this.#changed = this.#changed.slice(-CHANGES_MAX);
    this.wake();
  }

  /** Whoever waits for a change looks again. */
  wake(): void {
    if (this.#waiting.size === 0) return;
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  /** Keys that changed behind a number, in order; undefined if that is not known any more. */
  changedSince(number: number): readonly string[] | undefined {
    const count = this.number - number;
    if (count < 0 || count > this.#changed.length) return undefined;
    return count === 0 ? nothing : this.#changed.slice(-count);
  }

  /** Calls back, once, with the next change, or when more rows are found. Returns the way to stop it. */
  onChange(wake: () => void): () => void {
    this.#waiting.add(wake);
    return () => this.#waiting.delete(wake);
  }

  /** Whether something newer is known of an actor than what the walk can find. */
  knows(key: string): boolean {
    return this.#rows.has(key) || this.deleted?.has(key) === true;
  }

  /** All keys in the order of their bytes; some may be gone. The next call may change the list. */
  keys(): readonly string[] {
    if (this.#added.length > 0) {
      this.#sorted = merged(this.#sorted, this.#added.sort(compareKeys));
      this.#added = [];
    }
    if (this.#gone > 64 && this.#gone * 2 > this.#sorted.length) {
      this.#sorted = this.#sorted.filter((key) => this.#rows.has(key));
      this.#gone = 0;
    }
    return this.#sorted;
  }

  /** Keys that the next `keys()` sorts. */
  get unsorted(): number {
    return this.#added.length;
  }

  /** How many keys are kept, some of them gone. */
  get kept(): number {
    return this.#sorted.length + this.#added.length;
  }
}

/** Two sorted lists as one, each key once. The first may be changed. */
function merged(some: string[], others: readonly string[]): string[] {
  const last = some.at(-1);
  if (last === undefined || compareKeys(last, others[0] as string) < 0) {
    // As they are read from an index.
    for (const key of others) if (some.at(-1) !== key) some.push(key);
    return some;
  }
  const all: string[] = [];
  let a = 0;
  let b = 0;
  const put = (key: string): void => {
    if (all.at(-1) !== key) all.push(key);
  };
  while (a < some.length && b < others.length) {
    if (compareKeys(some[a] as string, others[b] as string) <= 0) put(some[a++] as string);
    else put(others[b++] as string);
  }
  while (a < some.length) put(some[a++] as string);
  while (b < others.length) put(others[b++] as string);
  return all;
}
