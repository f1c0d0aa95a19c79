/**
 * The actors in memory.
 *
 * Owns where they are found: by id, and of each shard by type, so that neither a shard's hand-over nor the first question
 * about a type has to look at all of them. Talks to nobody.
 *
 * Invariant: an actor is in the list of its shard and type, at its `place`, exactly while it is found by its id.
 */
import type { Activation } from "./activation.ts";
import type { ShardState } from "./shard.ts";

export class Actors {
  readonly #byId = new Map<string, Activation>();
  readonly #lists = new Map<ShardState, Map<string, Activation[]>>();

  get size(): number {
    return this.#byId.size;
  }

  get(id: string): Activation | undefined {
    return this.#byId.get(id);
  }

  has(id: string): boolean {
    return this.#byId.has(id);
  }

  /** Whether it is this one that is found by its id. */
  holds(a: Activation): boolean {
    return this.#byId.get(a.id) === a;
  }

  /** All, in the order in which they came. What comes and goes meanwhile comes last, or not at all. */
  values(): IterableIterator<Activation> {
    return this.#byId.values();
  }

  /** Those of one type in one shard, in no order, as of now. Whether they are loaded, or could be, is theirs to say. */
  of(shard: ShardState, type: string): Activation[] {
    return this.#lists.get(shard)?.get(type)?.slice() ?? [];
  }

  /** Takes in one whose id is not there. */
  add(a: Activation): void {
    this.#byId.set(a.id, a);
    const type = typeOf(a);
    let types = this.#lists.get(a.shard);
    if (types === undefined) this.#lists.set(a.shard, (types = new Map()));
    let list = types.get(type);
    if (list === undefined) types.set(type, (list = []));
    a.place = list.push(a) - 1;
  }

  /** Nothing if it is not there. */
  delete(a: Activation): void {
    if (!this.holds(a)) return;
    this.#byId.delete(a.id);
    const list = this.#lists.get(a.shard)?.get(typeOf(a)) as Activation[];
    const last = list.pop() as Activation;
    if (last === a) return;
    list[a.place] = last;
    last.place = a.place;
  }

  deleteShard(shard: ShardState): void {
    for (const list of this.#lists.get(shard)?.values() ?? []) for (const a of list) this.#byId.delete(a.id);
    this.#lists.delete(shard);
  }

  clear(): void {
    this.#byId.clear();
    this.#lists.clear();
  }
}

/** Of what is not hosted here nobody asks. */
function typeOf(a: Activation): string {
  return a.hosted?.definition.type ?? "";
}
