/**
 * The rows with the highest numbers at one place of a type's index, kept in step with every change.
 *
 * Owns some of the best rows of a list, not all of its rows: about as many as an answer gives, so a change costs a lookup and
 * an answer does not look at the others. Talks to nobody.
 *
 * Invariant: whoever is not among the members comes behind the floor, or has no number. Without a floor everybody who has one
 * is a member. So as long as there are enough members for an answer they are it; when too many have fallen out, all rows are
 * looked at once more.
 */
import { compareKeys } from "../../words/address.ts";
import type { Row } from "./row.ts";

/** A row and its number. */
export interface Ranked {
  readonly key: string;
  readonly value: number;
}

/** Highest first; of equal ones the first by key. */
export function inRank(a: Ranked, b: Ranked): number {
  return a.value === b.value ? compareKeys(a.key, b.key) : a.value > b.value ? -1 : 1;
}

/** What ranks a row: a number, undefined if it has none. */
export function numberIn({ fields }: Row, place: number): number | undefined {
  const value = fields[place];
  return typeof value === "number" && !Number.isNaN(value) ? value : undefined;
}

export class Best {
  readonly #place: number;
  readonly size: number;
  readonly #members = new Map<string, number>();
  #floor: Ranked | undefined;
  /** Members in order, until one changes. */
  #order: readonly Ranked[] | undefined;

  /**
   * @param place in the type's index
   * @param size the most that it can give
   */
  constructor(place: number, size: number, rows: Iterable<Row>) {
    this.#place = place;
    this.size = size;
    this.#fill(rows);
  }

  /** A row is new or has changed. */
  set(row: Row): void {
    const { key } = row;
    this.#order = undefined;
    const value = numberIn(row, this.#place);
    if (value === undefined || (this.#floor !== undefined && inRank({ key, value }, this.#floor) > 0)) {
      this.#members.delete(key);
      return;
    }
    this.#members.set(key, value);
    // Some more than are wanted, so that few that fall do not cost a look at all.
    if (this.#members.size > 4 * this.size) this.#cut();
  }

  delete(key: string): void {
    if (this.#members.delete(key)) this.#order = undefined;
  }

  /**
   * The first so many, `size` at most.
   * @param rows all there are, if they have to be looked at
   */
  first(count: number, rows: () => Iterable<Row>): readonly Ranked[] {
    if (this.#floor !== undefined && this.#members.size < count) this.#fill(rows());
    this.#order ??= this.#ranked();
    return this.#order.slice(0, count);
  }

  #fill(rows: Iterable<Row>): void {
    this.#members.clear();
    this.#floor = undefined;
    for (const row of rows) this.set(row);
  }

  #cut(): void {
    const kept = this.#ranked().slice(0, 2 * this.size);
    this.#members.clear();
    for (const { key, value } of kept) this.#members.set(key, value);
    this.#floor = kept.at(-1);
  }

  #ranked(): Ranked[] {
    return Array.from(this.#members, ([key, value]) => ({ key, value })).sort(inRank);
  }
}
