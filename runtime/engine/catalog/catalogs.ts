/**
 * Catalogs: which actors of a type there are in a shard, in the order of their keys, with what queries look at.
 *
 * Owns one row for each actor of the types that somebody asks about, in memory. A catalog is built when it is first asked
 * for, for all shards of this node at once: from the stored indexes of types that declare one (index-reader.ts), else by
 * one walk over the stored snapshots of the type. It is kept in step with every commit from then on, and dropped when
 * nobody has asked for a while. Talks to Snapshots and to the actors and patches in memory; the engine tells it of commits.
 *
 * Each complete list of rows has a log of its newest changes, by which watchers are told what changed since they asked.
 *
 * Invariants:
 * 1. A complete catalog shows exactly what is committed: the engine notes a turn before it is answered.
 * 2. What memory, the tail or the waiting part of an index knows when the building begins, or a commit brings during it,
 *    is newer than what is found in the store, and stands.
 * 3. Rows are bounded by the node's `catalogRows`, over all types.
 */
import { decodeKey, placeOfId } from "../../words/address.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";
import { limits } from "../../words/limits.ts";
import type { Activation, Turn } from "../activation.ts";
import type { HostedType } from "../definition.ts";
import type { Engine } from "../engine.ts";
import { isDamage } from "../loader.ts";
import { typeOfId } from "../record.ts";
import type { ShardState } from "../shard.ts";
import { type ActorData, decodeSnapshot, type Patch } from "../state.ts";
import { date } from "./dates.ts";
import { fillFromIndexes } from "./index-reader.ts";
import type { Changes } from "./index-merge.ts";
import { rowOfData, rowOfTurn } from "./row.ts";
import { ShardRows } from "./rows.ts";

/** Entries asked for at once when a catalog is built: they are decoded in some ten milliseconds, then turns go on. */
const WALK_ENTRIES = 1_000;
/** A catalog that nobody has asked for so long is dropped. */
const IDLE_MS = 10 * 60_000;
const SWEEP_MS = 60_000;

/** The actors of one type on this node. */
interface Catalog {
  readonly hosted: HostedType;
  readonly shards: Map<ShardState, ShardRows>;
  walk: Promise<void> | undefined;
  used_ms: number;
}

/** A shard whose rows are being found. */
interface Wanted {
  readonly shard: ShardState;
  readonly rows: ShardRows;
  /** What the tail says of actors that are not in memory, as of the beginning of the walk. */
  readonly patches: Map<string, Patch>;
  /** What was stored and is not in the index, the newest first. */
  readonly waiting: readonly Changes[];
}

export class Catalogs {
  readonly #engine: Engine;
  readonly #catalogs = new Map<string, Catalog>();
  #cancelSweep: (() => void) | undefined;
  /** Rows that may be added before they are counted again. */
  #room = 0;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** Rows of all types. */
  get rows(): number {
    let rows = 0;
    for (const catalog of this.#catalogs.values()) rows += sizeIn(catalog);
    return rows;
  }

  /** A turn was committed. */
  note(a: Activation, turn: Turn): void {
    if (turn.snapshot === undefined) this.#engine.indexes.deleted(a);
    if (this.#catalogs.size === 0) return;
    const rows = this.#catalogs.get(a.hosted?.definition.type ?? "")?.shards.get(a.shard);
    if (rows === undefined) return;
    const { size } = rows;
    if (turn.snapshot === undefined) rows.delete(a.key);
    else rows.set(rowOfTurn(a, turn));
    this.#room -= rows.size - size;
    if (this.#room < 0) this.#makeRoom();
  }

  /** A shard is not this node's any more. */
  drop(shard: ShardState): void {
    for (const { shards } of this.#catalogs.values()) {
      // Nobody waits here any more.
      shards.get(shard)?.wake();
      shards.delete(shard);
    }
  }

  stop(): void {
    this.#cancelSweep?.();
    for (const { shards } of this.#catalogs.values()) for (const rows of shards.values()) rows.wake();
    this.#catalogs.clear();
  }

  /** What is known of a type in a shard, however much that is. */
  known(shard: ShardState, type: string): ShardRows | undefined {
    return this.#catalogs.get(type)?.shards.get(shard);
  }

  /**
   * Finds the actors of a type, for whoever will ask.
   * @throws as `of`
   */
  find(hosted: HostedType): Promise<void> {
    return this.#begun(this.#catalogOf(hosted), "");
  }

  /**
   * The actors of a type in a shard, once all of them are known, or enough for whoever asks.
   * @param start key that is asked for first: it is looked for first
   * @throws KeyturnError `store_failed`; `overloaded` if there are more than a node may keep rows for
   */
  of(
    shard: ShardState,
    hosted: HostedType,
    start: string,
    isEnough: (rows: ShardRows) => boolean,
  ): ShardRows | Promise<ShardRows> {
    const catalog = this.#catalogOf(hosted);
    const rows = catalog.shards.get(shard);
    return rows !== undefined && isEnough(rows) ? rows : this.#found(catalog, shard, start, isEnough);
  }

  #catalogOf(hosted: HostedType): Catalog {
    const { type } = hosted.definition;
    let catalog = this.#catalogs.get(type);
    if (catalog === undefined)
      this.#catalogs.set(type, (catalog = { hosted, shards: new Map(), walk: undefined, used_ms: 0 }));
    catalog.used_ms = this.#engine.parts.world.clock.monotonic();
    return catalog;
  }

  async #found(
    catalog: Catalog,
    shard: ShardState,
    start: string,
    isEnough: (rows: ShardRows) => boolean,
  ): Promise<ShardRows> {
    while (true) {
      let rows = catalog.shards.get(shard);
      if (rows !== undefined && isEnough(rows)) return rows;
      if (this.#engine.stopped || shard.phase === "gone") return this.#rows();
      if (shard.failed !== undefined) throw shard.failed;
      const walk = this.#begun(catalog, start);
      rows = catalog.shards.get(shard);
      let forget: (() => void) | undefined;
      try {
        await new Promise<void>((resolve, reject) => {
          forget = rows?.onChange(resolve);
          walk.then(resolve, reject);
        });
      } finally {
        forget?.();
      }
    }
  }

  #begun(catalog: Catalog, start: string): Promise<void> {
    catalog.walk ??= this.#walk(catalog, start).finally(() => {
      catalog.walk = undefined;
    });
    return catalog.walk;
  }

  #rows(): ShardRows {
    return new ShardRows(this.#engine.parts.world.random.id());
  }

  async #walk(catalog: Catalog, start: string): Promise<void> {
    this.#sweepLater();
    const wanted = this.#begin(catalog);
    try {
      this.#makeRoom(catalog);
      await this.#date(catalog, wanted.values());
      const others = await this.#readIndexes(catalog, wanted, start);
      if (others.length > 0) {
        const left = new Map(others.map((one) => [one.shard.shard, one] as const));
        await this.#read(catalog, left);
        await this.#date(catalog, left.values());
        for (const one of [...left.values()]) await this.#end(catalog, one, left);
      }
      for (const { shard } of wanted.values())
        if (shard.phase === "gone" || shard.failed !== undefined) catalog.shards.delete(shard);
      this.#makeRoom(catalog);
    } catch (cause) {
      for (const { shard, rows } of wanted.values())
        if (catalog.shards.get(shard) === rows) catalog.shards.delete(shard);
      if (cause instanceof KeyturnError) throw cause;
      throw new KeyturnError("store_failed", `Snapshots cannot be read: ${textOf(cause)}`, { cause });
    }
  }

  /** Notes what is known without the store, in one moment; commits are noted from now on. */
  #begin(catalog: Catalog): Map<number, Wanted> {
    const { actors, shards } = this.#engine;
    const { type } = catalog.hosted.definition;
    const wanted = new Map<number, Wanted>();
    for (const shard of shards.values()) {
      if (shard.phase === "gone" || shard.failed !== undefined || catalog.shards.has(shard)) continue;
      const rows = this.#rows();
      catalog.shards.set(shard, rows);
      const patches = new Map([...shard.patches].filter(([id]) => typeOfId(id) === type));
      const waiting = this.#engine.indexes.waiting(shard, type);
      wanted.set(shard.shard, { shard, rows, patches, waiting });
    }
    for (const a of actors.values()) {
      const one = wanted.get(a.shard.shard);
      if (one === undefined || typeOfId(a.id) !== type || a.failed !== undefined) continue;
      if (a.loading) {
        if (a.patch !== undefined) one.patches.set(a.id, a.patch);
      } else if (a.committed.snapshot === undefined) one.rows.delete(a.key);
      else one.rows.set(rowOfTurn(a, a.committed));
    }
    return wanted;
  }

  #readIndexes(catalog: Catalog, wanted: Map<number, Wanted>, start: string): Promise<readonly Wanted[]> {
    return fillFromIndexes<Wanted>(
      {
        start,
        snapshots: this.#engine.parts.store.snapshots,
        hosted: catalog.hosted,
        breathe: () => this.#engine.breathe(),
        isWanted: (one) =>
          !this.#engine.stopped &&
          wanted.get(one.shard.shard) === one &&
          catalog.shards.get(one.shard) === one.rows,
        settle: async (some) => {
          for (const one of some) {
            await this.#settle(catalog, one, wanted);
            for (const changes of one.waiting) lay(changes, one.rows);
          }
        },
        grown: () => this.#makeRoom(catalog),
      },
      [...wanted.values()],
    );
  }

  async #date({ hosted }: Catalog, some: Iterable<Wanted>): Promise<void> {
    if (hosted.definition.index === undefined) return;
    await date(
      this.#engine.parts.store.journal,
      Array.from(some, ({ rows }) => rows),
    );
  }

  /** What the tail says of actors is looked for by their names: where there is an index, nobody comes upon them. */
  async #settle(catalog: Catalog, one: Wanted, wanted: Map<number, Wanted>): Promise<void> {
    const { rows, patches } = one;
    try {
      while (patches.size > 0) {
        const some = [...patches].slice(0, WALK_ENTRIES);
        const based = some.filter(([, patch]) => !patch.standsAlone).map(([id]) => id);
        const found = based.length === 0 ? [] : await this.#engine.parts.store.snapshots.read(based);
        const stored = new Map(based.map((id, at) => [id, found[at]?.value] as const));
        for (const [id] of some) {
          const { key } = placeOfId(id, this.#engine.parts.shards);
          const value = stored.get(id);
          if (rows.knows(key)) patches.delete(id);
          else this.#find(catalog, one, id, key, value && decodeSnapshot(id, value));
        }
        await this.#engine.breathe();
      }
    } catch (cause) {
      await this.#damaged(catalog, one, wanted, cause);
    }
  }

  async #read(catalog: Catalog, wanted: Map<number, Wanted>): Promise<void> {
    const { store, shards } = this.#engine.parts;
    const { type } = catalog.hosted.definition;
    let cursor: string | undefined;
    do {
      const { entries, next } = await store.snapshots.list(WALK_ENTRIES, cursor, type);
      if (this.#engine.stopped) return;
      for (const { id, value } of entries) {
        const { key, shard } = placeOfId(id, shards);
        const one = wanted.get(shard);
        if (one === undefined || one.rows.knows(key)) continue;
        try {
          this.#find(catalog, one, id, key, decodeSnapshot(id, value));
        } catch (cause) {
          await this.#damaged(catalog, one, wanted, cause);
        }
      }
      this.#makeRoom(catalog);
      cursor = next;
      await this.#engine.breathe();
    } while (cursor !== undefined);
  }

  /** What is stored of an actor, with what the tail says of it. */
  #find({ hosted }: Catalog, { rows, patches }: Wanted, id: string, key: string, stored?: ActorData): void {
    const patch = patches.get(id);
    patches.delete(id);
    const data = patch === undefined ? stored : patch.applyTo(id, stored, limits.requestsPerActor);
    if (data !== undefined) rows.set(rowOfData(hosted, key, data, this.#engine.parts.world.clock.now()));
    // The walk may come upon what was stored of it once more.
    else rows.deleted?.add(key);
  }

  async #end(catalog: Catalog, one: Wanted, wanted: Map<number, Wanted>): Promise<void> {
    const { rows, patches } = one;
    try {
      for (const id of [...patches.keys()]) {
        const key = decodeKey(id.slice(id.indexOf(".") + 1));
        // What has taken a turn meanwhile, or is gone, was not looked for in the store.
        if (!rows.knows(key)) this.#find(catalog, one, id, key);
      }
    } catch (cause) {
      await this.#damaged(catalog, one, wanted, cause);
      return;
    }
    rows.finish();
  }

  /** As when the actor were used: damage stops its shard, and no other's actors are less well found. */
  async #damaged(
    catalog: Catalog,
    { shard, rows }: Wanted,
    wanted: Map<number, Wanted>,
    cause: unknown,
  ): Promise<void> {
    if (!(cause instanceof KeyturnError) || !isDamage(cause)) throw cause;
    wanted.delete(shard.shard);
    if (catalog.shards.get(shard) === rows) catalog.shards.delete(shard);
    await this.#engine.failShard(shard, cause);
  }

  /** Drops the catalogs that were not asked for longest while there are too many rows. */
  #makeRoom(keep?: Catalog): void {
    const { catalogRows } = this.#engine.parts.settings;
    let { rows } = this;
    while (rows > catalogRows) {
      const others = [...this.#catalogs].filter(([, other]) => other !== keep && other.walk === undefined);
      const [oldest] = others.sort(([, a], [, b]) => a.used_ms - b.used_ms);
      if (oldest === undefined) {
        if (keep === undefined) break;
        throw tooMany(keep.hosted.definition.type, catalogRows);
      }
      rows -= sizeIn(oldest[1]);
      this.#catalogs.delete(oldest[0]);
      for (const dropped of oldest[1].shards.values()) dropped.wake();
    }
    this.#room = Math.max(0, catalogRows - rows);
  }

  #sweepLater(): void {
    this.#cancelSweep ??= this.#engine.parts.world.clock.after(SWEEP_MS, () => {
      this.#cancelSweep = undefined;
      const now = this.#engine.parts.world.clock.monotonic();
      for (const [type, { used_ms, walk }] of this.#catalogs)
        if (walk === undefined && now - used_ms > IDLE_MS) this.#catalogs.delete(type);
      if (this.#catalogs.size > 0 && !this.#engine.stopped) this.#sweepLater();
    });
  }
}

/** What is known stands. */
function lay(changes: Changes, rows: ShardRows): void {
  for (const [key, row] of changes) {
    if (rows.knows(key)) continue;
    if (row === undefined) rows.delete(key);
    else rows.set(row);
  }
}

function sizeIn({ shards }: Catalog): number {
  let rows = 0;
  for (const { size } of shards.values()) rows += size;
  return rows;
}

function tooMany(type: string, most: number): KeyturnError {
  const text = `There are more than ${most} actors of type "${type}" on one node, as many as it keeps rows for. Raise its setting catalogRows, or add nodes.`;
  return new KeyturnError("overloaded", text);
}
