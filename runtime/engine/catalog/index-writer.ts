/**
 * Keeps the stored index of types that declare one: checkpoints write what was stored of their actors since.
 *
 * Owns what is not in a root yet, and the order of writes that makes new pieces appear at once. Talks to Snapshots, the
 * owner (owner.ts) and the catalogs; the saver and checkpoints tell it what they have stored.
 *
 * Why it shows what is committed: a checkpoint writes snapshots, then the index, then cuts the tail. So what a root
 * lacks lies in the tail, or is waiting here. Of which types a shard's index is kept stands in the shard's own entry,
 * written at each checkpoint: where an owner did not keep it, whoever comes next reads the snapshots instead.
 *
 * The order, where pieces are written: claim their numbers in the root, write them, write the root that names them,
 * delete what it does not name any more. A crash in between leaves the root before, with a list of what is left over.
 *
 * Invariants:
 * 1. A root is replaced only at the revision that was read, and after a look at the shard table if that is none of this
 *    node's own: what a former owner stored late is older news, and what is laid over it is all that is newer.
 * 2. A shard is listed as kept only while no root that it has can be taken for a whole one that is older.
 */
import type { Activation, Turn } from "../activation.ts";
import { forEach } from "../concurrently.ts";
import type { HostedType } from "../definition.ts";
import type { Owner } from "../owner.ts";
import type { EngineParts } from "../parts.ts";
import { keyOfId, typeOfId } from "../record.ts";
import type { ShardState } from "../shard.ts";
import type { ActorData } from "../state.ts";
import { encodeBlock } from "./block.ts";
import type { Catalogs } from "./catalogs.ts";
import { encodeRoot, isFull, noRoot, type Root, RUN_ROWS_MAX } from "./index-format.ts";
import { blockOf, type Changes, goneOf } from "./index-merge.ts";
import { type IndexPlace, IndexStore, rootIdOf, type StoredRoot } from "./index-store.ts";
import { type Row, rowOfData, rowOfTurn } from "./row.ts";

/** Roots in one call of the store. */
const ROOTS_AT_ONCE = 32;
/** Indexes whose pieces are written at once: the rows of a shard are in memory meanwhile. */
const WORKED_IN_AT_ONCE = 8;
/** Numbers of pieces that one ownership of a shard may use. */
const NUMBERS_EACH = 2 ** 24;
/** Rounds in which roots may turn out to have been written by another. */
const CONFLICTS_MAX = 8;

/** The index of one type in one shard. */
interface Kept extends IndexPlace {
  /** What was stored of actors since the root was written. */
  changed: Changes;
  /** What is just being written into it. */
  writing: Changes | undefined;
  /** All rows, where the index begins with the next write. */
  begun: readonly Row[] | undefined;
  /** Revision of the root that this node has written or looked at. */
  known: number | undefined;
  /** Leftovers of the root that this node has written last. */
  leftovers: readonly number[];
  /** Numbers of pieces that are certainly not in the store. */
  readonly swept: Set<number>;
}

/** A shard whose index may begin. */
export type Beginning = Pick<Kept, "shard" | "hosted" | "known">;

export class IndexWriter {
  readonly #parts: EngineParts;
  readonly #catalogs: Catalogs;
  readonly #owner: Owner;
  readonly #isStopped: () => boolean;
  readonly #store: IndexStore;
  readonly #kept = new Map<ShardState, Map<string, Kept>>();
  /** Types of which actors were stored in shards that have no index. */
  readonly #missing = new Set<string>();
  /** Types whose actors could not all be found: a node keeps no index of them until somebody has asked. */
  readonly #hopeless = new Set<string>();

  constructor(
    parts: EngineParts,
    catalogs: Catalogs,
    owner: Owner,
    breathe: () => Promise<void>,
    isStopped: () => boolean,
  ) {
    this.#parts = parts;
    this.#catalogs = catalogs;
    this.#owner = owner;
    this.#isStopped = isStopped;
    this.#store = new IndexStore(parts.store.snapshots, breathe);
  }

  /** The saver has stored a turn's snapshot, or a deletion. */
  saved(a: Activation, turn: Turn): void {
    const kept = this.#keptOf(a.shard, a.hosted);
    kept?.changed.set(a.key, turn.snapshot === undefined ? goneOf(a.key) : rowOfTurn(a, turn));
  }

  /** A deletion was committed: of an actor that was never stored, nothing else would say so. */
  deleted(a: Activation): void {
    this.#keptOf(a.shard, a.hosted)?.changed.set(a.key, goneOf(a.key));
  }

  /** A checkpoint has stored what the tail says of an actor. */
  patched(shard: ShardState, id: string, data: ActorData | undefined): void {
    const hosted = this.#parts.registry.get(typeOfId(id));
    const kept = hosted === undefined ? undefined : this.#keptOf(shard, hosted);
    if (hosted === undefined || kept === undefined) return;
    const key = keyOfId(id);
    // What the saver has stored meanwhile is newer.
    if (kept.changed.has(key) || kept.writing?.has(key) === true) return;
    const now = this.#parts.world.clock.now();
    kept.changed.set(key, data === undefined ? goneOf(key) : rowOfData(hosted, key, data, now));
  }

  /**
   * What is not in the root yet, the newest first. What is added to it later is newer still; what is written into the
   * root stays in it.
   */
  waiting(shard: ShardState, type: string): readonly Changes[] {
    const kept = this.#kept.get(shard)?.get(type);
    if (kept === undefined) return [];
    return kept.writing === undefined ? [kept.changed] : [kept.changed, kept.writing];
  }

  /**
   * A shard is this node's: of the types that its index was kept of, those count that this node keeps on. Where there
   * was no checkpoint yet everything is in the tail, and all begin.
   */
  add(shard: ShardState): void {
    const { registry } = this.#parts;
    for (const type of shard.indexed)
      if (registry.get(type)?.definition.index === undefined) shard.indexed.delete(type);
    if (shard.stored.revision > 0) return;
    for (const { definition } of registry.values())
      if (definition.index !== undefined) shard.indexed.add(definition.type);
  }

  drop(shard: ShardState): void {
    this.#kept.delete(shard);
  }

  stop(): void {
    this.#kept.clear();
  }

  #keptOf(shard: ShardState, hosted: HostedType): Kept | undefined {
    const { type, index } = hosted.definition;
    if (index === undefined || shard.phase === "gone") return undefined;
    if (!shard.indexed.has(type)) {
      this.#missing.add(type);
      return undefined;
    }
    return this.#kept.get(shard)?.get(type) ?? this.#keep(newKept(shard, hosted));
  }

  #keep(kept: Kept): Kept {
    const types = this.#kept.get(kept.shard) ?? new Map<string, Kept>();
    this.#kept.set(kept.shard, types.set(kept.hosted.definition.type, kept));
    return kept;
  }

  /** Before a checkpoint: where all rows are known, nobody is to take an older root for a whole one. */
  async prepare(shards: readonly ShardState[]): Promise<readonly Beginning[]> {
    const beginnings: Beginning[] = [];
    for (const hosted of this.#parts.registry.values()) {
      const { index, type } = hosted.definition;
      const known = index === undefined ? [] : shards.filter((shard) => this.#canBegin(shard, type));
      for (let at = 0; at < known.length; at += ROOTS_AT_ONCE) {
        const some = known.slice(at, at + ROOTS_AT_ONCE).map((shard) => newKept(shard, hosted));
        const stored = await this.#store.roots(some);
        for (const [place, kept] of some.entries()) {
          const { root, revision } = stored[place] as StoredRoot;
          if (await this.#void(kept, root, revision)) beginnings.push(kept);
        }
      }
    }
    return beginnings;
  }

  /**
   * In the moment in which a checkpoint notes where it cuts: what is begun holds what is committed now. What is deleted
   * later is in the tail; what was deleted before need not be stored anywhere.
   */
  capture(beginnings: readonly Beginning[]): void {
    for (const types of this.#kept.values())
      for (const kept of types.values())
        if (kept.begun !== undefined && !this.#begin(kept)) this.#forget(kept);
    for (const { shard, hosted, known } of beginnings) {
      const kept = { ...newKept(shard, hosted), known };
      if (shard.phase === "gone" || !this.#begin(kept)) continue;
      this.#keep(kept);
      shard.indexed.add(hosted.definition.type);
    }
  }

  #begin(kept: Kept): boolean {
    const rows = this.#catalogs.known(kept.shard, kept.hosted.definition.type);
    if (rows?.complete !== true) return false;
    kept.begun = rows.all();
    kept.changed = new Map();
    return true;
  }

  #canBegin(shard: ShardState, type: string): boolean {
    return !shard.indexed.has(type) && this.#catalogs.known(shard, type)?.complete === true;
  }

  /**
   * Before a checkpoint cuts the tails of shards: what was stored of their actors goes into the index.
   * @throws what the store throws, or an error if a shard is another node's
   */
  async write(shards: ReadonlySet<ShardState>): Promise<void> {
    const dirty: Kept[] = [];
    for (const shard of shards)
      for (const kept of this.#kept.get(shard)?.values() ?? [])
        if (kept.begun !== undefined || kept.changed.size > 0) dirty.push(kept);
    for (let at = 0; at < dirty.length; at += ROOTS_AT_ONCE)
      await this.#writeSome(dirty.slice(at, at + ROOTS_AT_ONCE));
    this.#findMissing();
  }

  /** Shards without an index get one when all their rows are known: by the next checkpoint. */
  #findMissing(): void {
    const { registry, observer } = this.#parts;
    for (const type of this.#missing) {
      const hosted = registry.get(type);
      if (hosted === undefined || this.#hopeless.has(type)) continue;
      this.#catalogs.find(hosted).catch((error: unknown) => {
        this.#hopeless.add(type);
        if (!this.#isStopped()) observer.troubled(`find the actors of ${type}`, error);
      });
    }
    this.#missing.clear();
  }

  async #writeSome(some: readonly Kept[]): Promise<void> {
    for (const kept of some) {
      kept.writing = kept.changed;
      kept.changed = new Map();
    }
    try {
      let left = some;
      for (let conflicts = 0; left.length > 0; conflicts++) {
        if (conflicts > CONFLICTS_MAX) throw new Error("Indexes of shards keep changing under this node.");
        left = await this.#tryWrite(left.filter(({ shard }) => shard.phase !== "gone"));
      }
    } finally {
      // What is not written waits again, behind what came meanwhile.
      for (const kept of some) {
        if (kept.writing === undefined) continue;
        kept.changed = new Map([...kept.writing, ...kept.changed]);
        kept.writing = undefined;
      }
    }
    await forEach(some, WORKED_IN_AT_ONCE, (kept) => this.#sweep(kept));
  }

  /** Returns those whose roots were changed by another. */
  async #tryWrite(some: readonly Kept[]): Promise<Kept[]> {
    const stored = await this.#store.roots(some);
    const refused: Kept[] = [];
    const runs: LongerRoot[] = [];
    const others: { readonly kept: Kept; readonly stored: StoredRoot }[] = [];
    for (const [at, kept] of some.entries()) {
      const { root, revision } = stored[at] as StoredRoot;
      if (kept.known !== revision) await this.#owner.check(kept.shard);
      kept.known = revision;
      const run = kept.begun === undefined && root.whole ? runOf(kept, root, revision) : undefined;
      if (run !== undefined) runs.push(run);
      else others.push({ kept, stored: { root, revision } });
    }
    const answers = runs.length === 0 ? [] : await this.#store.writeRoots(runs);
    for (const [at, { place: kept, root }] of runs.entries()) {
      if (!this.#stored(kept, answers[at])) refused.push(kept);
      else kept.leftovers = root.leftovers;
    }
    await forEach(others, WORKED_IN_AT_ONCE, async ({ kept, stored: { root, revision } }) => {
      const isWritten =
        kept.begun === undefined && root.whole
          ? await this.#workIn(kept, root, revision, kept.writing as Changes)
          : await this.#anew(kept, root, revision);
      if (!isWritten) refused.push(kept);
    });
    return refused;
  }

  #stored(kept: Kept, revision: number | undefined): boolean {
    if (revision === undefined) return false;
    kept.known = revision;
    kept.writing = undefined;
    return true;
  }

  /** There is no root to go on from: all rows are written, if they are known; else it is not kept any more. */
  async #anew(kept: Kept, root: Root, revision: number): Promise<boolean> {
    const leftovers = [...root.leftovers, ...root.pieces.map(({ number }) => number)];
    if (kept.begun === undefined) {
      if (!(await this.#void(kept, root, revision))) return false;
      this.#forget(kept);
      return true;
    }
    const changes: Changes = new Map(kept.begun.map((row) => [row.key, row]));
    for (const [key, change] of kept.writing ?? []) changes.set(key, change);
    const empty: Root = { ...root, pieces: [], runs: [], leftovers, whole: false };
    if (!(await this.#workIn(kept, empty, revision, changes))) return false;
    kept.begun = undefined;
    return true;
  }

  /** Nobody takes the root for a whole one any more. */
  async #void(kept: Kept, root: Root, revision: number): Promise<boolean> {
    if (kept.known !== revision) await this.#owner.check(kept.shard);
    const leftovers = [...stillLeft(kept, root), ...root.pieces.map(({ number }) => number)];
    const empty: Root = { ...root, pieces: [], runs: [], leftovers, whole: false };
    return (await this.#replace(kept, empty, revision)) !== undefined;
  }

  #forget(kept: Kept): void {
    const { shard, hosted } = kept;
    const { type } = hosted.definition;
    kept.writing = undefined;
    shard.indexed.delete(type);
    this.#kept.get(shard)?.delete(type);
    this.#missing.add(type);
  }

  /** Works runs and changes into the pieces; those that nothing falls to stay as they are. False after a conflict. */
  async #workIn(kept: Kept, root: Root, revision: number, changes: Changes): Promise<boolean> {
    // Numbers of an ownership of its own, so that no damage to a root can bring one up again.
    const claimed = Math.max(root.claimed, kept.shard.epoch * NUMBERS_EACH);
    const made = await this.#store.workIn(kept, root, changes, claimed);
    if (made === undefined) {
      // A piece is not what the root names.
      if (!(await this.#void(kept, root, revision))) return false;
      this.#forget(kept);
      return true;
    }
    const { fresh, pieces } = made;
    const left = stillLeft(kept, root);
    const numbers = fresh.map(({ ref }) => ref.number);
    const upTo = claimed + fresh.length;
    const open: Root = { ...root, claimed: upTo, leftovers: [...left, ...numbers] };
    const claim = await this.#replace(kept, open, revision);
    if (claim === undefined) return false;
    await this.#store.writePieces(kept, fresh);
    const leftovers = [...left, ...made.replaced];
    const next: Root = { claimed: upTo, pieces, leftovers, runs: [], whole: true };
    return this.#stored(kept, await this.#replace(kept, next, claim));
  }

  /** The new revision; undefined if the root is not at that one. */
  async #replace(kept: Kept, root: Root, expected: number): Promise<number | undefined> {
    const { shard, hosted } = kept;
    const value =
      encodeRoot(shard.shard, hosted.definition, root) ??
      // Too much for one value. What lies in its pieces is never looked for again.
      encodeRoot(shard.shard, hosted.definition, { ...noRoot, claimed: root.claimed });
    const write = { place: kept, value: value as Uint8Array, expected };
    const [written] = await this.#store.writeRoots([write]);
    if (written === undefined) return undefined;
    kept.known = written;
    kept.leftovers = root.leftovers;
    return written;
  }

  /** Deletes what is left over. What cannot be deleted stays listed, for the next time. */
  async #sweep(kept: Kept): Promise<void> {
    try {
      await this.#store.deletePieces(kept, stillLeft(kept, kept), (number) => kept.swept.add(number));
    } catch (error) {
      this.#parts.observer.troubled(`delete old pieces of ${rootIdOf(kept)}`, error);
    }
  }
}

/** A root with one more run. */
interface LongerRoot {
  readonly place: Kept;
  readonly root: Root;
  readonly value: Uint8Array;
  readonly expected: number;
}

/** Undefined if changes are to be worked into the pieces. */
function runOf(kept: Kept, root: Root, expected: number): LongerRoot | undefined {
  const changes = kept.writing as Changes;
  if (changes.size > RUN_ROWS_MAX) return undefined;
  const { definition } = kept.hosted;
  const block = encodeBlock(blockOf(changes), definition.index?.length ?? 0);
  const longer = {
    ...root,
    leftovers: stillLeft(kept, root),
    runs: [...root.runs, { rows: changes.size, block }],
  };
  const value = isFull(longer) ? undefined : encodeRoot(kept.shard.shard, definition, longer);
  return value && { place: kept, root: longer, value, expected };
}

function newKept(shard: ShardState, hosted: HostedType): Kept {
  return {
    shard,
    hosted,
    changed: new Map(),
    writing: undefined,
    begun: undefined,
    known: undefined,
    leftovers: [],
    swept: new Set(),
  };
}

function stillLeft({ swept }: Kept, { leftovers }: Pick<Root, "leftovers">): number[] {
  return swept.size === 0 ? [...leftovers] : leftovers.filter((number) => !swept.has(number));
}
