/**
 * What is known of the actors of a type in a shard, without a row yet: by memory, by the tail, and by what was stored and
 * waits to be written into the index, or stands in its root.
 *
 * Owns it until rows are made of it, stretch by stretch, in the order of keys, so that the first page of a range need not
 * wait for the last row. Talks to nobody; finding.ts makes the rows.
 *
 * Invariant: all that is known of one key is taken together, and its kinds say what is newer.
 */
import { decodeKey } from "../../words/address.ts";
import { Activation } from "../activation.ts";
import type { ShardState } from "../shard.ts";
import type { Patch } from "../state.ts";
import type { Changes } from "./index-merge.ts";
import { Listed, Pile, type Sieve, type Source, type Taken } from "./pile.ts";
import type { Row } from "./row.ts";
import type { ShardRows } from "./rows.ts";
import type { Stint } from "./stint.ts";

/** Of whom the tail says something. */
export interface Patched {
  readonly key: string;
  readonly id: string;
}

/** Stored, or deleted, since the pieces of the index were written. */
export interface Changed {
  readonly key: string;
  readonly row: Row | undefined;
}

export type Item = Activation | Patched | Changed;

/** What is newer comes first. */
export const kinds: readonly ((item: Item) => boolean)[] = [
  (item) => item instanceof Activation,
  (item) => "id" in item && !(item instanceof Activation),
  (item) => "row" in item,
];

export class Known {
  readonly shard: ShardState;
  readonly rows: ShardRows;
  /** What the tail says of actors, until it is in a row. */
  readonly patches = new Map<string, Patch>();
  readonly #actors: Activation[] = [];
  #ahead: Pile<Item> | undefined;
  #behind: Pile<Item> | undefined;

  constructor(shard: ShardState, rows: ShardRows) {
    this.shard = shard;
    this.rows = rows;
  }

  /** An actor is in memory, or is just being brought there. */
  add(a: Activation): void {
    if (!a.loading) this.#actors.push(a);
    else if (a.patch !== undefined) this.patches.set(a.id, a.patch);
  }

  get arranged(): boolean {
    return this.#ahead !== undefined;
  }

  /**
   * Now it can be taken.
   * @param start where taking ahead begins; behind it is taken up to there
   * @param layers what was stored, the newest first; without it the tail is left out too
   */
  arrange(start: string, layers: readonly Changes[] | undefined, stint: Stint): void {
    const sources: Source<Item>[] = [new Listed(this.#actors)];
    if (layers !== undefined) {
      const patched = Array.from(this.patches.keys(), (id) => ({
        key: decodeKey(id.slice(id.indexOf(".") + 1)),
        id,
      }));
      sources.push(new Listed(patched));
      for (const [at, layer] of layers.entries())
        if (layer.size > 0) sources.push(new Layer(layer, layers.slice(0, at)));
    }
    this.#ahead = new Pile(start, undefined, sources, stint);
    this.#behind = new Pile("", start, sources, stint);
  }

  /** Takes what comes next, ahead of the start or behind it. */
  take(ahead: boolean, end: string | undefined, most: number): Promise<Taken<Item>> {
    const pile = ahead ? this.#ahead : this.#behind;
    return (pile as Pile<Item>).take(end, most);
  }
}

/** What was stored, and is in no newer layer. */
class Layer implements Source<Item> {
  readonly #changes: Changes;
  readonly #newer: readonly Changes[];

  constructor(changes: Changes, newer: readonly Changes[]) {
    this.#changes = changes;
    this.#newer = newer;
  }

  async sift(sieve: Sieve<Item>, stint: Stint): Promise<void> {
    await stint.each(this.#changes.keys(), (key) => {
      if (sieve.wants(key) && !this.#newer.some((one) => one.has(key)))
        sieve.put({ key, row: this.#changes.get(key) });
    });
  }
}
