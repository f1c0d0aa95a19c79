/**
 * Finding all actors of a type in the shards of a node that nobody has asked before: one walk.
 *
 * Owns the walk. What memory knows is looked through and noted without making rows, then rows are made: of what is known
 * and of stored indexes, stretch by stretch (index-reader.ts), else of the stored snapshots of the type. All of it goes on
 * in parts, with turns in between. Talks to Snapshots and to the actors and patches in memory.
 *
 * Why nothing is missed: from the beginning on commits are noted in the rows, and what they say stands. An actor that was
 * committed before is in memory when that is looked through, or was stored and has left it: then it is found in what waits
 * to be written into the index, which is looked at later, or in the store, which is read after that. Of one that is
 * brought into memory meanwhile, the tail was looked at before.
 */
import { placeOfId } from "../../words/address.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";
import { limits } from "../../words/limits.ts";
import { Activation } from "../activation.ts";
import type { HostedType } from "../definition.ts";
import type { Engine } from "../engine.ts";
import { isDamage } from "../loader.ts";
import { keyOfId, typeOfId } from "../record.ts";
import type { ShardState } from "../shard.ts";
import { type ActorData, decodeSnapshot } from "../state.ts";
import { ROW_LOOKS, Stint } from "../stint.ts";
import { date, type Undated } from "./dates.ts";
import { fillFromIndexes } from "./index-reader.ts";
import { type Item, Known, kinds } from "./known.ts";
import { rowOfData, rowOfTurn } from "./row.ts";
import { ShardRows } from "./rows.ts";

/** Entries asked for at once: they are decoded in some ten milliseconds, then turns go on. */
const WALK_ENTRIES = 1_000;

/** Some of what is known of a shard. */
export interface Share {
  readonly one: Known;
  readonly items: readonly Item[];
}

export class Finding {
  readonly #engine: Engine;
  readonly #hosted: HostedType;
  /** The rows of the type, by shard. */
  readonly #found: Map<ShardState, ShardRows>;
  /** So many rows were added, at most. Throws if there are too many. */
  readonly #grown: (rows: number) => void;
  readonly #stint: Stint;
  readonly #all: Known[] = [];
  /** By number of the shard, those whose rows are not complete. */
  readonly #wanted = new Map<number, Known>();
  #undated: Undated[] = [];

  constructor(
    engine: Engine,
    hosted: HostedType,
    found: Map<ShardState, ShardRows>,
    grown: (rows: number) => void,
  ) {
    this.#engine = engine;
    this.#hosted = hosted;
    this.#found = found;
    this.#grown = grown;
    this.#stint = new Stint(() => engine.breathe());
  }

  /**
   * Resolves when all is found, with rows that show it.
   * @param start key that is asked for first
   * @throws KeyturnError `store_failed`, and what `grown` throws
   */
  async run(start: string): Promise<void> {
    try {
      this.#begin();
      await this.#lookAtTails();
      this.#lookAtActors();
      await this.#read(await this.#readIndexes(start));
      for (const { shard } of this.#all)
        if (shard.phase === "gone" || shard.failed !== undefined) this.#found.delete(shard);
    } catch (cause) {
      for (const one of this.#all) this.#drop(one);
      if (cause instanceof KeyturnError) throw cause;
      throw new KeyturnError("store_failed", `Snapshots cannot be read: ${textOf(cause)}`, { cause });
    }
  }

  /** Commits are noted from now on. */
  #begin(): void {
    for (const shard of this.#engine.shards.values()) {
      if (shard.phase === "gone" || shard.failed !== undefined || this.#found.has(shard)) continue;
      const one = new Known(shard, new ShardRows(this.#engine.parts.world.random.id()));
      this.#found.set(shard, one.rows);
      this.#all.push(one);
      this.#wanted.set(shard.shard, one);
    }
  }

  async #lookAtTails(): Promise<void> {
    const { type } = this.#hosted.definition;
    for (const { shard, patches } of this.#all)
      await this.#stint.each(shard.patches, ([id, patch]) => {
        if (typeOfId(id) === type) patches.set(id, patch);
      });
  }

  /** Whoever is in memory at this moment. */
  #lookAtActors(): void {
    const { type } = this.#hosted.definition;
    const { actors, loader } = this.#engine;
    for (const one of this.#all) one.actors = actors.of(one.shard, type);
    for (const { id, hosted, shard, patch } of loader.loading) {
      const one = this.#wanted.get(shard.shard);
      if (patch !== undefined && hosted.definition.type === type && one?.shard === shard)
        one.patches.set(id, patch);
    }
  }

  /** Returns the shards whose actors are not all found. */
  #readIndexes(start: string): Promise<readonly Known[]> {
    return fillFromIndexes(
      {
        start,
        snapshots: this.#engine.parts.store.snapshots,
        hosted: this.#hosted,
        stint: this.#stint,
        isWanted: (one) => !this.#engine.stopped && this.#isWanted(one),
        waiting: (shard) => this.#engine.indexes.waiting(shard, this.#hosted.definition.type),
        lay: (some) => this.#lay(some),
        layAll: (one) => this.#layAll(one),
        grown: this.#grown,
      },
      this.#all,
    );
  }

  /** Whether commits are still noted in its rows: of a shard that has moved, newer things are stored than it knows. */
  #isWanted(one: Known): boolean {
    return this.#wanted.get(one.shard.shard) === one && this.#found.get(one.shard) === one.rows;
  }

  #drop(one: Known): void {
    this.#wanted.delete(one.shard.shard);
    if (this.#found.get(one.shard) === one.rows) this.#found.delete(one.shard);
    one.rows.wake();
  }

  /** Makes rows of what is known. What commits have brought meanwhile stands. */
  async #lay(some: readonly Share[]): Promise<void> {
    const patched = some.flatMap(({ one: { rows, patches }, items }) =>
      items.flatMap((item) => {
        if (!("id" in item) || item instanceof Activation || rows.knows(item.key)) return [];
        return patches.get(item.id)?.standsAlone === false ? [item.id] : [];
      }),
    );
    const stored = await this.#stored(patched);
    for (const { one, items } of some) {
      if (!this.#isWanted(one)) continue;
      try {
        for (const isOne of kinds) for (const item of items) if (isOne(item)) this.#know(one, item, stored);
      } catch (cause) {
        await this.#damaged(one, cause);
      }
      this.#grown(items.length);
      const pause = this.#stint.spend((items.length + 1) * ROW_LOOKS);
      if (pause !== undefined) await pause;
    }
    await this.#date();
  }

  async #layAll(one: Known): Promise<void> {
    if (!one.arranged) one.arrange("", undefined, this.#stint);
    for (const ahead of [true, false])
      for (let to: string | undefined = ""; to !== undefined; ) {
        const taken = await one.take(ahead, undefined, WALK_ENTRIES);
        to = taken.to;
        await this.#lay([{ one, items: taken.items }]);
      }
  }

  async #stored(ids: readonly string[]): Promise<Map<string, Uint8Array | undefined>> {
    const stored = new Map<string, Uint8Array | undefined>();
    for (let at = 0; at < ids.length; at += WALK_ENTRIES) {
      const some = ids.slice(at, at + WALK_ENTRIES);
      const found = await this.#engine.parts.store.snapshots.read(some);
      for (const [place, id] of some.entries()) stored.set(id, found[place]?.value);
    }
    return stored;
  }

  #know(one: Known, item: Item, stored: ReadonlyMap<string, Uint8Array | undefined>): void {
    const { rows } = one;
    const { key } = item;
    if (rows.knows(key)) {
      if ("id" in item) one.patches.delete(item.id);
    } else if (item instanceof Activation) {
      // What is stored of it tells more, with what the tail says.
      if (item.loading || item.failed !== undefined) return;
      if (item.committed.snapshot === undefined) rows.delete(key);
      else this.#set(rows, rowOfTurn(item, item.committed));
    } else if ("id" in item) {
      const value = stored.get(item.id);
      this.#find(one, item.id, key, value && decodeSnapshot(item.id, value));
    } else if ("gone" in item) rows.delete(key);
    else rows.set(item);
  }

  /** What is stored of an actor, with what the tail says of it. */
  #find({ rows, patches }: Known, id: string, key: string, stored?: ActorData): void {
    const patch = patches.get(id);
    patches.delete(id);
    const data = patch === undefined ? stored : patch.applyTo(id, stored, limits.requestsPerActor);
    if (data === undefined) {
      // The walk may come upon what was stored of it once more.
      rows.deleted?.add(key);
    } else this.#set(rows, rowOfData(this.#hosted, key, data, this.#engine.parts.world.clock.now()));
  }

  #set(rows: ShardRows, row: ReturnType<typeof rowOfTurn>): void {
    rows.set(row);
    if (row.time === 0 && row.position !== 0) this.#undated.push([rows, row]);
  }

  /** Before anybody is answered. */
  async #date(): Promise<void> {
    const undated = this.#undated;
    this.#undated = [];
    if (this.#hosted.definition.index !== undefined && undated.length > 0)
      await date(this.#engine.parts.store.journal, undated);
  }

  /** Reads the snapshots of the type, for the shards that have no index. */
  async #read(others: readonly Known[]): Promise<void> {
    if (others.length === 0) return;
    for (const one of others) await this.#layAll(one);
    const { store, shards } = this.#engine.parts;
    const { type } = this.#hosted.definition;
    let cursor: string | undefined;
    do {
      const { entries, next } = await store.snapshots.list(WALK_ENTRIES, cursor, type);
      if (this.#engine.stopped) return;
      for (const { id, value } of entries) {
        const { key, shard } = placeOfId(id, shards);
        const one = this.#wanted.get(shard);
        if (one === undefined || !this.#isWanted(one) || one.rows.complete || one.rows.knows(key)) continue;
        try {
          this.#find(one, id, key, decodeSnapshot(id, value));
        } catch (cause) {
          await this.#damaged(one, cause);
        }
      }
      await this.#date();
      this.#grown(entries.length);
      cursor = next;
      await this.#stint.rest();
    } while (cursor !== undefined);
    for (const one of others) if (this.#isWanted(one)) await this.#end(one);
  }

  async #end(one: Known): Promise<void> {
    const { rows, patches } = one;
    const { size } = rows;
    try {
      for (const id of [...patches.keys()]) {
        const key = keyOfId(id);
        // What has taken a turn meanwhile, or is gone, was not looked for in the store.
        if (!rows.knows(key)) this.#find(one, id, key);
      }
      await this.#date();
    } catch (cause) {
      await this.#damaged(one, cause);
      return;
    }
    this.#grown(rows.size - size);
    rows.finish();
  }

  /** As when the actor were used: damage stops its shard, and no other's actors are less well found. */
  async #damaged(one: Known, cause: unknown): Promise<void> {
    if (!(cause instanceof KeyturnError) || !isDamage(cause)) throw cause;
    this.#drop(one);
    await this.#engine.failShard(one.shard, cause);
  }
}
