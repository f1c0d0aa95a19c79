/**
 * A pile: items in no order, of which those with the least keys are taken, some at a time.
 *
 * Owns how they are found: the first come out after about one look at each item, where it lies, without moving any other,
 * long before all are sorted; and all of them after as many looks as sorting takes. Source: Paredes and Navarro, Optimal
 * Incremental Sorting (ALENEX 2006).
 *
 * Invariant: keys of a section are below those of the section before it, and none is below its `from`.
 */
import { compareKeys, comparesNatively } from "../../words/address.ts";
import type { Stint } from "./stint.ts";

/** Keys of which one divides a section. */
const SAMPLE = 31;
/** Of so many times what is wanted the least half is kept while all is looked through. */
const SIEVED = 4;
/** Items that are looked at before the stint is asked. */
const PART = 4_096;

interface Keyed {
  readonly key: string;
}

/** Where items lie. What is added to it meanwhile may be found, or not. */
export interface Source<T extends Keyed> {
  /** Puts the items into a sieve whose keys it wants. */
  sift(sieve: Sieve<T>, stint: Stint): Promise<void>;
}

interface Bounds {
  readonly from: string;
  readonly to: string | undefined;
}

interface Section<T> {
  readonly from: string;
  readonly items: readonly T[];
}

/** All items with keys from where the one before ended, before `to`; to the end without it. */
export interface Taken<T> {
  readonly items: readonly T[];
  readonly to: string | undefined;
}

/** Items that lie in a list. */
export class Listed<T extends Keyed> implements Source<T> {
  readonly #items: readonly T[];

  constructor(items: readonly T[]) {
    this.#items = items;
  }

  async sift(sieve: Sieve<T>, stint: Stint): Promise<void> {
    const items = this.#items;
    for (let at = 0; at < items.length; ) {
      const end = Math.min(at + PART, items.length);
      const looks = end - at;
      for (; at < end; at++) {
        const item = items[at] as T;
        if (sieve.wants(item.key)) sieve.put(item);
      }
      const pause = stint.spend(looks);
      if (pause !== undefined) await pause;
    }
  }
}

/** Holds what comes with the least keys within bounds. */
export class Sieve<T extends Keyed> {
  readonly #most: number;
  #isWithin: (key: string) => boolean;
  readonly #from: string;
  #to: string | undefined;
  #items: T[] = [];

  /** @param most of so many that come, about half stay; far more than there are of one key */
  constructor(from: string, to: string | undefined, most: number) {
    this.#most = most;
    this.#from = from;
    this.#to = to;
    this.#isWithin = within(from, to);
  }

  /** All that came with keys before `to`. */
  get items(): readonly T[] {
    return this.#items;
  }

  get to(): string | undefined {
    return this.#to;
  }

  wants(key: string): boolean {
    return this.#isWithin(key);
  }

  put(item: T): void {
    this.#items.push(item);
    if (this.#items.length < this.#most) return;
    this.#items.sort((a, b) => compareKeys(a.key, b.key));
    const to = (this.#items[this.#most >> 1] as T).key;
    // All of one key stay, or none.
    this.#isWithin = within(this.#from, to);
    this.#items = this.#items.filter(({ key }) => this.#isWithin(key));
    this.#to = to;
  }
}

/** Whether keys lie from one on, before another one. Most texts are compared natively: see `comparesNatively`. */
export function within(from: string, to: string | undefined): (key: string) => boolean {
  if (!comparesNatively(from) || (to !== undefined && !comparesNatively(to)))
    return (key) => compareKeys(key, from) >= 0 && (to === undefined || compareKeys(key, to) < 0);
  if (to === undefined) return from === "" ? () => true : (key) => key >= from;
  return from === "" ? (key) => key < to : (key) => key >= from && key < to;
}

export class Pile<T extends Keyed> {
  readonly #stint: Stint;
  readonly #sources: readonly Source<T>[];
  /** Where what is still in the sources begins and ends; undefined if nothing is. */
  #rest: Bounds | undefined;
  /** Before the rest; the least is the last. */
  readonly #sections: Section<T>[] = [];
  /** Whether nothing was taken yet: what comes first is wanted soon, all else is to cost little. */
  #fresh = true;

  /** The items of some sources with keys from one on, before another one; to the end without it. */
  constructor(from: string, to: string | undefined, sources: readonly Source<T>[], stint: Stint) {
    this.#rest = { from, to };
    this.#sources = sources;
    this.#stint = stint;
  }

  /**
   * Takes the least, in no order.
   * @param end only those with keys before it
   * @param most so many at most, far more than there are of one key
   */
  async take(end: string | undefined, most: number): Promise<Taken<T>> {
    const found = await this.#find(end, most);
    this.#fresh = false;
    return found;
  }

  async #find(end: string | undefined, most: number): Promise<Taken<T>> {
    const taken: T[] = [];
    while (true) {
      const section = this.#sections.at(-1);
      const from = section?.from ?? this.#rest?.from;
      if (from === undefined || (end !== undefined && compareKeys(from, end) >= 0))
        return { items: taken, to: end };
      if (section === undefined) {
        // Whether it fits is known when it is looked through.
        if (taken.length > 0) return { items: taken, to: from };
        await this.#collect(most);
        continue;
      }
      const { items } = section;
      if (taken.length > 0 && taken.length + items.length > most) return { items: taken, to: from };
      if (items.length > most) await this.#split(section, this.#fresh ? (2 * most) / items.length : 1 / 2);
      else {
        this.#sections.pop();
        const behind: T[] = [];
        const isTaken = within("", end);
        for (const item of items) (isTaken(item.key) ? taken : behind).push(item);
        if (behind.length > 0) this.#sections.push({ from: end as string, items: behind });
      }
    }
  }

  /** What is still in the sources becomes a section: the first time only the least of it, if there is much. */
  async #collect(most: number): Promise<void> {
    const { from, to } = this.#rest as Bounds;
    const sieve = new Sieve<T>(from, to, this.#fresh ? SIEVED * most : Number.POSITIVE_INFINITY);
    for (const source of this.#sources) await source.sift(sieve, this.#stint);
    this.#rest = sieve.to === to ? undefined : { from: sieve.to as string, to };
    this.#sections.push({ from, items: sieve.items });
  }

  /** Divides the last section, so that about a share of it, the half at most, comes first. */
  async #split({ from, items }: Section<T>, share: number): Promise<void> {
    const pivot = pivotOf(sampleOf(items), share) as string;
    const isLow = within("", pivot);
    const low: T[] = [];
    const high: T[] = [];
    for (let at = 0; at < items.length; at += PART) {
      const end = Math.min(at + PART, items.length);
      for (let i = at; i < end; i++) {
        const item = items[i] as T;
        (isLow(item.key) ? low : high).push(item);
      }
      const pause = this.#stint.spend(end - at);
      if (pause !== undefined) await pause;
    }
    this.#sections.pop();
    this.#sections.push({ from: pivot, items: high }, { from, items: low });
  }
}

/** A key behind about a share of some keys, the half at most, that is not the least; undefined if there is none. */
function pivotOf(some: readonly string[], share: number): string | undefined {
  const keys = [...some].sort(compareKeys);
  const [least] = keys;
  const place = Math.min(keys.length >> 1, Math.ceil(keys.length * share));
  return keys.slice(place).find((key) => key !== least);
}

function sampleOf(items: readonly Keyed[]): string[] {
  const step = Math.max(1, items.length / SAMPLE);
  const count = Math.min(SAMPLE, items.length);
  return Array.from({ length: count }, (_, n) => (items[Math.floor(n * step)] as Keyed).key);
}
