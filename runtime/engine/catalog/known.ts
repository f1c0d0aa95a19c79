/**
 * What is known of the actors of a type in a shard, without a row yet: by memory, by the tail, and by what was stored and
 * waits to be written into the index, or stands in its root.
 *
 * Owns it until rows are made of it, stretch by stretch, in the order of keys, so that the first page of a range need not
 * wait for the last row. Talks to nobody; finding.ts makes the rows.
 *
 * Invariant: all that is known of one key is taken together, and its kinds say what is newer.
 */
import { Activation } from "../activation.ts";
import { keyOfId } from "../record.ts";
import type { ShardState } from "../shard.ts";
import type { Patch } from "../state.ts";
import type { Stint } from "../stint.ts";
import type { Change, Changes } from "./index-merge.ts";
import { divide, Pile, type Taken } from "./pile.ts";
import type { ShardRows } from "./rows.ts";

/** Of whom the tail says something. */
export interface Patched {
  readonly key: string;
  readonly id: string;
}

/** A row, or that it is gone: what was stored since the pieces of the index were written. */
export type Item = Activation | Patched | Change;

/** What is newer comes first. */
export const kinds: readonly ((item: Item) => boolean)[] = [
  (item) => item instanceof Activation,
  (item) => "id" in item && !(item instanceof Activation),
  (item) => !("id" in item),
];

export class Known {
  readonly shard: ShardState;
  readonly rows: ShardRows;
  /** What the tail says of actors, until it is in a row. */
  readonly patches = new Map<string, Patch>();
  /** In memory, or on their way there. */
  actors: readonly Activation[] = [];
  #start = "";
  #stint: Stint | undefined;
  /** Lists that are in no pile yet. What is newer comes first, here and in the piles. */
  readonly #lists: (readonly Item[])[] = [];
  readonly #ahead: Pile<Item>[] = [];
  readonly #behind: Pile<Item>[] = [];

  constructor(shard: ShardState, rows: ShardRows) {
    this.shard = shard;
    this.rows = rows;
  }

  get arranged(): boolean {
    return this.#stint !== undefined;
  }

  /**
   * Now it can be taken.
   * @param start where taking ahead begins; behind it is taken up to there
   * @param layers what was stored, the newest first; without it the tail is left out too
   */
  arrange(start: string, layers: readonly Changes[] | undefined, stint: Stint): void {
    this.#start = start;
    this.#stint = stint;
    this.#lists.push(this.actors);
    this.actors = [];
    if (layers === undefined) return;
    this.#lists.push(Array.from(this.patches.keys(), (id) => ({ key: keyOfId(id), id })));
    for (const layer of layers) this.addOlder(layer);
  }

  /** Adds what was stored before all that is known, while nothing is taken. */
  addOlder(layer: Changes): void {
    this.#lists.push([...layer.values()]);
  }

  /** So many come sooner when they are taken. */
  async lift(most: number): Promise<void> {
    for (const list of this.#lists.splice(0)) {
      if (list.length === 0) continue;
      const [ahead, behind] = await Pile.around(this.#start, list, most, this.#stint as Stint);
      this.#ahead.push(ahead);
      this.#behind.push(behind);
    }
  }

  /** Takes what comes next, ahead of the start or behind it: of one key what is newer comes first. */
  async take(ahead: boolean, end: string | undefined, most: number): Promise<Taken<Item>> {
    await this.lift(most);
    const piles = ahead ? this.#ahead : this.#behind;
    let to = end;
    const taken: (readonly Item[])[] = [];
    for (const pile of piles) {
      const found = await pile.take(to, most);
      to = found.to;
      taken.push(found.items);
    }
    const items: Item[] = [];
    for (const [place, some] of taken.entries()) {
      const later: Item[] = [];
      divide(some, 0, some.length, "", to, [], items, later);
      piles[place]?.putBack(to as string, later);
    }
    return { items, to };
  }
}
