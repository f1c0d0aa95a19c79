/**
 * A pile: items in no order, of which those with the least keys are taken, some at a time.
 *
 * Owns how they are found: the first come out after about one look at each item, long before all are sorted; and all of
 * them after as many looks as sorting takes. Source: Paredes and Navarro, Optimal Incremental Sorting (ALENEX 2006).
 *
 * Invariant: keys of a section are below those of the section before it, and none is below its `from`.
 */
import { compareKeys, comparesNatively } from "../../words/address.ts";
import { KEY_LOOKS, type Stint } from "../stint.ts";

/** Keys of which one divides a section. */
const SAMPLE = 31;
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

  private constructor(sections: Section<T>[], stint: Stint) {
    this.#sections = sections;
    this.#stint = stint;
  }

  /**
   * Items as two piles: with keys from one on, and with those before it. Of the first, so many at most are brought to the
   * front: they are taken without a look at any other.
   */
  static async around<T extends Keyed>(
    start: string,
    items: readonly T[],
    most: number,
    stint: Stint,
  ): Promise<readonly [ahead: Pile<T>, behind: Pile<T>]> {
    const before: T[] = [];
    const near: T[] = [];
    const far: T[] = [];
    const pivot = pivotAhead(items, start, most);
    for (let at = 0; at < items.length; at += PART) {
      const end = Math.min(at + PART, items.length);
      divide(items, at, end, start, pivot, before, near, far);
      const pause = stint.spend((end - at) * KEY_LOOKS);
      if (pause !== undefined) await pause;
    }
    const ahead = new Pile<T>([], stint);
    if (pivot !== undefined) ahead.putBack(pivot, far);
    ahead.putBack(start, near);
    await ahead.#lift(most, true);
    const behind = new Pile<T>([], stint);
    behind.putBack("", before);
    return [ahead, behind];
  }

  /**
   * Takes the least, in no order.
   * @param end only those with keys before it
   * @param most so many at most, far more than there are of one key
   */
  async take(end: string | undefined, most: number): Promise<Taken<T>> {
    const taken: T[] = [];
    while (true) {
      const section = this.#sections.at(-1);
      if (section === undefined || (end !== undefined && compareKeys(section.from, end) >= 0))
        return { items: taken, to: end };
      const { from, items } = section;
      if (taken.length > 0 && taken.length + items.length > most) return { items: taken, to: from };
      if (items.length > most) {
        await this.#lift(most, false);
        continue;
      }
      this.#sections.pop();
      const behind: T[] = [];
      divide(items, 0, items.length, "", end, [], taken, behind);
      this.putBack(end as string, behind);
    }
  }

  /** Some of what was taken last, with keys from one on: they come next. */
  putBack(from: string, items: readonly T[]): void {
    if (items.length > 0) this.#sections.push({ from, items });
  }

  /** Brings the least to the front. @param soon they are wanted soon; else all is to cost little in the end */
  async #lift(most: number, soon: boolean): Promise<void> {
    while (true) {
      const section = this.#sections.at(-1);
      if (section === undefined || section.items.length <= most) return;
      await this.#split(section, soon ? (2 * most) / section.items.length : 1 / 2);
    }
  }

  /** Divides the last section, so that about a share of it, the half at most, comes first. */
  async #split({ from, items }: Section<T>, share: number): Promise<void> {
    const pivot = pivotOf(sampleOf(items), share) as string;
    const low: T[] = [];
    const high: T[] = [];
    for (let at = 0; at < items.length; at += PART) {
      const end = Math.min(at + PART, items.length);
      divide(items, at, end, "", pivot, [], low, high);
      const pause = this.#stint.spend((end - at) * KEY_LOOKS);
      if (pause !== undefined) await pause;
    }
    this.#sections.pop();
    this.#sections.push({ from: pivot, items: high }, { from, items: low });
  }
}

/**
 * Puts items to those with keys before `from`, from there on before `to`, or behind; without `to` none is behind. This is
 * run over all that is known while somebody waits, most often for the first time: so it is plain loops.
 */
export function divide<T extends Keyed>(
  items: readonly T[],
  begin: number,
  end: number,
  from: string,
  to: string | undefined,
  before: T[],
  within: T[],
  behind: T[],
): void {
  if (!comparesNatively(from) || (to !== undefined && !comparesNatively(to)))
    for (let at = begin; at < end; at++) {
      const item = items[at] as T;
      if (compareKeys(item.key, from) < 0) before.push(item);
      else if (to === undefined || compareKeys(item.key, to) < 0) within.push(item);
      else behind.push(item);
    }
  else if (from === "" && to !== undefined)
    for (let at = begin; at < end; at++) {
      const item = items[at] as T;
      if (item.key < to) within.push(item);
      else behind.push(item);
    }
  else
    for (let at = begin; at < end; at++) {
      const item = items[at] as T;
      const { key } = item;
      if (key < from) before.push(item);
      else if (to === undefined || key < to) within.push(item);
      else behind.push(item);
    }
}

/** A key behind about twice as many as are wanted of those from one on; undefined if all of them are. */
function pivotAhead(items: readonly Keyed[], start: string, most: number): string | undefined {
  const sample = sampleOf(items);
  const ahead = sample.filter((key) => compareKeys(key, start) >= 0);
  const count = (items.length * ahead.length) / sample.length;
  return count <= most ? undefined : pivotOf(ahead, (2 * most) / count);
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
