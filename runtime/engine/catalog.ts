/**
 * Catalogs: which actors of a type there are in a shard, in the order of their keys, with what queries look at.
 *
 * Owns one row for each actor of the types that somebody asks about, in memory, and nothing in the store. A catalog is
 * built when it is first asked for, by one walk over the stored snapshots of the type for all shards of this node, kept
 * in step with every commit from then on, and dropped when nobody has asked for a while. Talks to Snapshots and to the
 * actors and patches in memory; the engine tells it of commits.
 *
 * Each complete list of rows has a log of its newest changes, by which watchers are told what changed since they asked.
 *
 * Invariants:
 * 1. A complete catalog shows exactly what is committed: the engine notes a turn before it is answered.
 * 2. What memory or the tail knows when a walk begins, or a commit brings during it, is newer than what the walk finds
 *    in the store, and stands.
 * 3. Rows are bounded by the node's `catalogRows`, over all types.
 */
import { compareKeys, decodeKey, placeOfId } from "../words/address.ts";
import { KeyturnError, textOf } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import { journalAt } from "../words/position.ts";
import { sizeOf } from "../words/values.ts";
import type { Activation, Turn } from "./activation.ts";
import { linkOf } from "./activation.ts";
import type { ActorState, AnyActorDefinition, HostedType } from "./definition.ts";
import type { Engine } from "./engine.ts";
import { isDamage } from "./loader.ts";
import { familyOf, persist, withoutRefs } from "./machine.ts";
import type { StateValue } from "./machine/internals.ts";
import { adopt } from "./migration.ts";
import { type PendingTimer, pendingTimers } from "./pending.ts";
import { type Link, typeOfId } from "./record.ts";
import type { ShardState } from "./shard.ts";
import { type ActorData, decodeSnapshot, type Patch } from "./state.ts";

/** What a catalog knows of an actor. */
export interface Row {
  readonly key: string;
  readonly turn: number;
  /** Its last record. */
  readonly at: Link;
  /** When that was, milliseconds since the epoch; 0 if the type has no index. */
  readonly time: number;
  readonly value: StateValue;
  readonly status: ActorState["status"];
  /** Values at the paths of the type's index, in its order; OMITTED for one that is too large. */
  readonly fields: readonly unknown[];
  readonly timers: readonly PendingTimer[];
}

/** Stands for a value that is too large for a row. */
export const OMITTED: unique symbol = Symbol("keyturn.omitted");

/** The largest value that a row keeps, bytes as they are estimated. */
const FIELD_BYTES = 1_024;
/** Entries asked for at once when a catalog is built: they are decoded in some ten milliseconds, then turns go on. */
const WALK_ENTRIES = 1_000;
/** A catalog that nobody has asked for so long is dropped. */
const IDLE_MS = 10 * 60_000;
const SWEEP_MS = 60_000;
const nothing: readonly never[] = [];

/** Keys that are kept unsorted, besides twice as many as there are rows. */
const ADDED_MAX = 1_024;

/** Changes that are remembered for watchers, of one type in one shard. */
const CHANGES_MAX = 8_192;

/** The actors of one type in one shard. */
export class ShardRows {
  /** Names this list: numbers of changes count within it. */
  readonly log: string;
  /** Number of the last change. */
  number = 0;
  /** The newest place in each journal of any of these actors. */
  readonly #last: number[] = [];
  /** Keys that changed; the last one is change `number`. */
  #changed: string[] = [];
  readonly #waiting = new Set<() => void>();
  readonly #rows = new Map<string, Row>();
  /** Keys in order; some may be gone. */
  #sorted: string[] = [];
  #added: string[] = [];
  #gone = 0;
  /** While the walk goes on: actors that were deleted, which it may still find. */
  deleted: Set<string> | undefined = new Set();

  constructor(log: string) {
    this.log = log;
  }

  get size(): number {
    return this.#rows.size;
  }

  /** The newest place in a journal of any of these actors, 0 if there is none. */
  lastIn(journal: number): number {
    return this.#last[journal] ?? 0;
  }

  get complete(): boolean {
    return this.deleted === undefined;
  }

  get(key: string): Row | undefined {
    return this.#rows.get(key);
  }

  set(row: Row): void {
    const isNew = !this.#rows.has(row.key);
    this.#rows.set(row.key, row);
    if (isNew) this.#add(row.key);
    const [position] = row.at;
    const journal = journalAt(position);
    if (position > (this.#last[journal] ?? 0)) this.#last[journal] = position;
    this.deleted?.delete(row.key);
    this.#change(row.key);
  }

  delete(key: string): void {
    if (this.#rows.delete(key)) this.#gone++;
    this.deleted?.add(key);
    this.#change(key);
  }

  #add(key: string): void {
    this.#added.push(key);
    // Where actors come and go, and nobody asks for their keys.
    if (this.#added.length > 2 * this.#rows.size + ADDED_MAX) this.keys();
  }

  #change(key: string): void {
    if (this.deleted !== undefined) return;
    this.number++;
    this.#changed.push(key);
    if (this.#changed.length >= 2 * CHANGES_MAX) this.#changed = this.#changed.slice(-CHANGES_MAX);
    this.wake();
  }

  /** Whoever waits for a change looks again. */
  wake(): void {
    if (this.#waiting.size === 0) return;
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  /** Keys that changed behind a number, in order; undefined if that is not known any more. */
  changedSince(number: number): readonly string[] | undefined {
    const count = this.number - number;
    if (count < 0 || count > this.#changed.length) return undefined;
    return count === 0 ? nothing : this.#changed.slice(-count);
  }

  /** Calls back, once, with the next change. Returns the way to stop it. */
  onChange(wake: () => void): () => void {
    this.#waiting.add(wake);
    return () => this.#waiting.delete(wake);
  }

  /** Whether something newer is known of an actor than what the walk can find. */
  knows(key: string): boolean {
    return this.#rows.has(key) || this.deleted?.has(key) === true;
  }

  /** All keys in the order of their bytes; some may be gone. */
  keys(): readonly string[] {
    if (this.#added.length > 0) {
      this.#sorted = merged(this.#sorted, this.#added.sort(compareKeys));
      this.#added = [];
    }
    if (this.#gone > 64 && this.#gone * 2 > this.#sorted.length) {
      this.#sorted = this.#sorted.filter((key) => this.#rows.has(key));
      this.#gone = 0;
    }
    return this.#sorted;
  }

  /** How many keys are kept, some of them gone. */
  get kept(): number {
    return this.#sorted.length + this.#added.length;
  }
}

/** Two sorted lists as one, each key once. */
function merged(some: readonly string[], others: readonly string[]): string[] {
  const all: string[] = [];
  let a = 0;
  let b = 0;
  const put = (key: string): void => {
    if (all.at(-1) !== key) all.push(key);
  };
  while (a < some.length && b < others.length) {
    if (compareKeys(some[a] as string, others[b] as string) <= 0) put(some[a++] as string);
    else put(others[b++] as string);
  }
  while (a < some.length) put(some[a++] as string);
  while (b < others.length) put(others[b++] as string);
  return all;
}

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

  /**
   * The actors of a type in a shard, once they are known.
   * @throws KeyturnError `store_failed`; `overloaded` if there are more than a node may keep rows for
   */
  of(shard: ShardState, hosted: HostedType): ShardRows | Promise<ShardRows> {
    const { type } = hosted.definition;
    let catalog = this.#catalogs.get(type);
    if (catalog === undefined)
      this.#catalogs.set(type, (catalog = { hosted, shards: new Map(), walk: undefined, used_ms: 0 }));
    catalog.used_ms = this.#engine.parts.world.clock.monotonic();
    const rows = catalog.shards.get(shard);
    return rows?.complete === true ? rows : this.#found(catalog, shard);
  }

  async #found(catalog: Catalog, shard: ShardState): Promise<ShardRows> {
    while (true) {
      const rows = catalog.shards.get(shard);
      if (rows?.complete === true) return rows;
      if (this.#engine.stopped || shard.phase === "gone") return this.#rows();
      if (shard.failed !== undefined) throw shard.failed;
      catalog.walk ??= this.#walk(catalog).finally(() => {
        catalog.walk = undefined;
      });
      await catalog.walk;
    }
  }

  #rows(): ShardRows {
    return new ShardRows(this.#engine.parts.world.random.id());
  }

  async #walk(catalog: Catalog): Promise<void> {
    this.#sweepLater();
    const wanted = this.#begin(catalog);
    try {
      await this.#read(catalog, wanted);
      for (const one of [...wanted.values()]) await this.#end(catalog, one, wanted);
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
      wanted.set(shard.shard, { shard, rows, patches });
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
    const { shard, rows, patches } = one;
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
    rows.deleted = undefined;
    // Given away meanwhile, or stopped.
    if (shard.phase === "gone" || shard.failed !== undefined) catalog.shards.delete(shard);
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

function sizeIn({ shards }: Catalog): number {
  let rows = 0;
  for (const { size } of shards.values()) rows += size;
  return rows;
}

function tooMany(type: string, most: number): KeyturnError {
  const text = `There are more than ${most} actors of type "${type}" on one node, as many as it keeps rows for. Raise its setting catalogRows, or add nodes.`;
  return new KeyturnError("overloaded", text);
}

function rowOfTurn(a: Activation, turn: Turn): Row {
  const { definition } = a.hosted;
  const snapshot = turn.snapshot as NonNullable<Turn["snapshot"]>;
  const { timers } = turn;
  const family = familyOf(snapshot);
  return {
    key: a.key,
    turn: turn.turn,
    at: linkOf(turn),
    time: turn.time,
    value: snapshot.value,
    status: snapshot.status,
    // References to children are shown as they are stored.
    fields: fieldsOf(definition, snapshot.context, family === undefined ? same : withoutRefs),
    timers:
      timers.length === 0
        ? nothing
        : briefly(pendingTimers(timers, (session) => family?.bySession(session)?.path)),
  };
}

function rowOfData(hosted: HostedType, key: string, stored: ActorData, now: number): Row {
  const { definition } = hosted;
  if (stored.version < definition.version) return rowOfOlder(hosted, key, stored, now);
  return rowOfStored(definition, key, stored);
}

/** One that an older version wrote is found as it is when it is used. */
function rowOfOlder(hosted: HostedType, key: string, stored: ActorData, now: number): Row {
  const { definition } = hosted;
  try {
    const { snapshot, timers } = adopt(hosted, stored, now);
    return rowOfStored(definition, key, { ...stored, machine: persist(snapshot), timers });
  } catch {
    // It cannot be used either, until somebody mends its migration.
    return rowOfStored(definition, key, stored);
  }
}

function rowOfStored(definition: AnyActorDefinition, key: string, data: ActorData): Row {
  const { machine, timers, turn, last, time = 0 } = data;
  const pathOf = (session: string): string | undefined =>
    machine.children?.find(([, own]) => own === session)?.[0];
  return {
    key,
    turn,
    at: last,
    time,
    value: machine.value,
    status: machine.status,
    fields: fieldsOf(definition, machine.context),
    timers: timers.length === 0 ? nothing : briefly(pendingTimers(timers, pathOf)),
  };
}

/** Without what their events carry: rows are many. */
function briefly(timers: readonly PendingTimer[]): PendingTimer[] {
  return timers.map((timer) => ({ ...timer, event: { type: timer.event.type } }));
}

function same(value: unknown): unknown {
  return value;
}

function fieldsOf(
  { index }: AnyActorDefinition,
  context: unknown,
  shown: (value: unknown) => unknown = same,
): readonly unknown[] {
  if (index === undefined || index.length === 0) return nothing;
  return index.map((path) => {
    let value: unknown = context;
    for (const name of path.split(".")) {
      if (typeof value !== "object" || value === null) return undefined;
      value = (value as Record<string, unknown>)[name];
    }
    value = shown(value);
    return isSmall(value) ? value : OMITTED;
  });
}

function isSmall(value: unknown): boolean {
  if (typeof value === "string") return value.length <= FIELD_BYTES;
  return typeof value !== "object" || value === null || sizeOf(value) <= FIELD_BYTES;
}
