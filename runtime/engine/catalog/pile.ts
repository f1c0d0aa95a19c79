/**
 * A pile: items in no order, of which those with the least keys are taken, some at a time.
 *
 * Owns how they are found: the first come out after one or two looks at each item, long before all are sorted, and all
 * of them after as many as sorting takes. Source: Paredes and Navarro, Optimal Incremental Sorting (ALENEX 2006).
 *
 * Invariant: keys of a section are below those of the section before it, and none is below its `from`.
 */
import { compareKeys } from "../../words/address.ts";
import type { Stint } from "./stint.ts";

/** Keys of which one divides a section. */
const SAMPLE = 15;
/** Items that are looked at before the stint is asked. */
const PART = 4_096;

interface Keyed {
  readonly key: string;
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

export class Pile<T extends Keyed> {
  readonly #stint: Stint;
  /** The least is the last. */
  readonly #sections: Section<T>[];
  /** Whether nothing was taken yet: what comes first is wanted soon, all else is to cost little. */
  #fresh = true;

  /** @param from no key is below it */
  constructor(from: string, items: readonly T[], stint: Stint) {
    this.#sections = [{ from, items }];
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
      if (section === undefined || (end !== undefined && compareKeys(section.from, end) >= 0))
        return { items: taken, to: end };
      const { from, items } = section;
      if (taken.length > 0 && taken.length + items.length > most) return { items: taken, to: from };
      if (items.length > most) await this.#split(section, this.#fresh ? (2 * most) / items.length : 1 / 2);
      else {
        this.#sections.pop();
        const behind: T[] = [];
        for (const item of items) {
          if (end === undefined || compareKeys(item.key, end) < 0) taken.push(item);
          else behind.push(item);
        }
        if (behind.length > 0) this.#sections.push({ from: end as string, items: behind });
      }
    }
  }

  /** Divides the last section, so that about a share of it, the half at most, comes first. */
  async #split({ from, items }: Section<T>, share: number): Promise<void> {
    const pivot = pivotOf(items, share);
    const low: T[] = [];
    const high: T[] = [];
    for (let at = 0; at < items.length; at += PART) {
      const end = Math.min(at + PART, items.length);
      for (let i = at; i < end; i++) {
        const item = items[i] as T;
        if (compareKeys(item.key, pivot) < 0) low.push(item);
        else high.push(item);
      }
      const pause = this.#stint.spend(end - at);
      if (pause !== undefined) await pause;
    }
    this.#sections.pop();
    this.#sections.push({ from: pivot, items: high }, { from, items: low });
  }
}

/** A key behind about a share of the keys that is not the least. */
function pivotOf(items: readonly Keyed[], share: number): string {
  const step = items.length / SAMPLE;
  const keys = Array.from({ length: SAMPLE }, (_, n) => (items[Math.floor(n * step)] as Keyed).key);
  keys.sort(compareKeys);
  const [least] = keys;
  const place = Math.min(SAMPLE >> 1, Math.ceil(SAMPLE * share));
  return keys.slice(place).find((key) => key !== least) as string;
}
