/**
 * Catalogs: which actors of a type there are in a shard, in the order of their keys, with what queries look at.
 *
 * Owns one row for each actor of the types that somebody asks about, in memory. A catalog is built when it is first asked
 * for, for all shards of this node at once (finding.ts), is kept in step with every commit from then on, and dropped when
 * nobody has asked for a while. The engine tells it of commits.
 *
 * Each complete list of rows has a log of its newest changes, by which watchers are told what changed since they asked.
 *
 * Invariants:
 * 1. A complete catalog shows exactly what is committed: the engine notes a turn before it is answered.
 * 2. What memory, the tail or the waiting part of an index knows when the building begins, or a commit brings during it,
 *    is newer than what is found in the store, and stands.
 * 3. Rows are bounded by the node's `catalogRows`, over all types.
 */
import { KeyturnError } from "../../words/errors.ts";
import type { Activation, Turn } from "../activation.ts";
import type { HostedType } from "../definition.ts";
import type { Engine } from "../engine.ts";
import type { ShardState } from "../shard.ts";
import { Finding } from "./finding.ts";
import { rowOfTurn } from "./row.ts";
import { ShardRows } from "./rows.ts";

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
    this.#added(rows.size - size);
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
    const rows = this.#catalogOf(hosted).shards.get(shard);
    return rows !== undefined && isEnough(rows) ? rows : this.#found(shard, hosted, start, isEnough);
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
    shard: ShardState,
    hosted: HostedType,
    start: string,
    isEnough: (rows: ShardRows) => boolean,
  ): Promise<ShardRows> {
    while (true) {
      // Each time: in one that was dropped meanwhile no commits are noted.
      const catalog = this.#catalogOf(hosted);
      let rows = catalog.shards.get(shard);
      if (rows !== undefined && isEnough(rows)) return rows;
      if (this.#engine.stopped || shard.phase === "gone")
        return new ShardRows(this.#engine.parts.world.random.id());
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

  #walk(catalog: Catalog, start: string): Promise<void> {
    this.#sweepLater();
    const { hosted, shards } = catalog;
    return new Finding(this.#engine, hosted, shards, (rows) => this.#added(rows, catalog)).run(start);
  }

  /** So many rows were added, at most. All are counted only when they may be too many: there is a list for each shard. */
  #added(rows: number, keep?: Catalog): void {
    this.#room -= rows;
    if (this.#room < 0) this.#makeRoom(keep);
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

function sizeIn({ shards }: Catalog): number {
  let rows = 0;
  for (const { size } of shards.values()) rows += size;
  return rows;
}

function tooMany(type: string, most: number): KeyturnError {
  const text = `There are more than ${most} actors of type "${type}" on one node, as many as it keeps rows for. Raise its setting catalogRows, or add nodes.`;
  return new KeyturnError("overloaded", text);
}
