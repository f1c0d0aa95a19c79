/**
 * Keeps the stored index of types that declare one: checkpoints write what was stored of their actors since.
 *
 * Owns what is not in a root yet, and the order of writes that makes new pieces appear at once. Talks to Snapshots, the
 * saver and the catalogs; the saver and checkpoints tell it what they have stored.
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
import type { SnapshotWrite } from "../../ports/index.ts";
import { decodeKey } from "../../words/address.ts";
import { checksumOf } from "../../words/codec.ts";
import type { Activation, Turn } from "../activation.ts";
import type { HostedType } from "../definition.ts";
import type { Engine } from "../engine.ts";
import { typeOfId } from "../record.ts";
import type { ShardState } from "../shard.ts";
import type { ActorData } from "../state.ts";
import { decodeBlock, encodeBlock } from "./block.ts";
import {
  decodePiece,
  decodeRoot,
  encodePiece,
  encodeRoot,
  isFull,
  noRoot,
  type PieceRef,
  pieceId,
  type Root,
  rootId,
} from "./index-format.ts";
import { addUp, blockOf, type Changes, divide, merge, type NewPiece, shareOut } from "./index-merge.ts";
import { type Row, rowOfData, rowOfTurn } from "./row.ts";

/** Roots in one call of the store. */
const ROOTS_AT_ONCE = 32;
/** Pieces in one call of the store. */
const PIECES_AT_ONCE = 16;
/** Rounds in which roots may turn out to have been written by another. */
const CONFLICTS_MAX = 8;

/** The index of one type in one shard. */
interface Kept {
  readonly shard: ShardState;
  readonly hosted: HostedType;
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

interface StoredRoot {
  readonly root: Root;
  readonly revision: number;
}

export class IndexWriter {
  readonly #engine: Engine;
  readonly #kept = new Map<ShardState, Map<string, Kept>>();
  /** Types of which actors were stored in shards that have no index. */
  readonly #missing = new Set<string>();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** The saver has stored a turn's snapshot, or a deletion. */
  saved(a: Activation, turn: Turn): void {
    const kept = this.#keptOf(a.shard, a.hosted);
    kept?.changed.set(a.key, turn.snapshot === undefined ? undefined : rowOfTurn(a, turn));
  }

  /** A deletion was committed: of an actor that was never stored, nothing else would say so. */
  deleted(a: Activation): void {
    this.#keptOf(a.shard, a.hosted)?.changed.set(a.key, undefined);
  }

  /** A checkpoint has stored what the tail says of an actor. */
  patched(shard: ShardState, id: string, data: ActorData | undefined): void {
    const hosted = this.#engine.parts.registry.get(typeOfId(id));
    const kept = hosted === undefined ? undefined : this.#keptOf(shard, hosted);
    if (hosted === undefined || kept === undefined) return;
    const key = decodeKey(id.slice(id.indexOf(".") + 1));
    // What the saver has stored meanwhile is newer.
    if (kept.changed.has(key) || kept.writing?.has(key) === true) return;
    const now = this.#engine.parts.world.clock.now();
    kept.changed.set(key, data === undefined ? undefined : rowOfData(hosted, key, data, now));
  }

  /** What is not in the root yet. */
  *waiting(shard: ShardState, type: string): Generator<[key: string, row: Row | undefined]> {
    const kept = this.#kept.get(shard)?.get(type);
    for (const one of kept?.writing ?? []) if (!kept?.changed.has(one[0])) yield one;
    yield* kept?.changed ?? [];
  }

  /**
   * A shard is this node's: of the types that its index was kept of, those count that this node keeps on. Where there
   * was no checkpoint yet everything is in the tail, and all begin.
   */
  add(shard: ShardState): void {
    const { registry } = this.#engine.parts;
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
    let types = this.#kept.get(shard);
    if (types === undefined) this.#kept.set(shard, (types = new Map()));
    let kept = types.get(type);
    if (kept === undefined) types.set(type, (kept = newKept(shard, hosted)));
    return kept;
  }

  /** Before a checkpoint: where all rows are known, nobody is to take an older root for a whole one. */
  async prepare(shards: readonly ShardState[]): Promise<readonly Beginning[]> {
    const beginnings: Beginning[] = [];
    for (const hosted of this.#engine.parts.registry.values()) {
      const { index, type } = hosted.definition;
      const known = index === undefined ? [] : shards.filter((shard) => this.#canBegin(shard, type));
      for (let at = 0; at < known.length; at += ROOTS_AT_ONCE) {
        const some = known.slice(at, at + ROOTS_AT_ONCE).map((shard) => newKept(shard, hosted));
        const stored = await this.#roots(some);
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
      let types = this.#kept.get(shard);
      if (types === undefined) this.#kept.set(shard, (types = new Map()));
      types.set(hosted.definition.type, kept);
      shard.indexed.add(hosted.definition.type);
    }
  }

  #begin(kept: Kept): boolean {
    const rows = this.#engine.catalogs.known(kept.shard, kept.hosted.definition.type);
    if (rows?.complete !== true) return false;
    kept.begun = rows.all();
    kept.changed = new Map();
    return true;
  }

  #canBegin(shard: ShardState, type: string): boolean {
    return !shard.indexed.has(type) && this.#engine.catalogs.known(shard, type)?.complete === true;
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
    for (const type of this.#missing) {
      this.#missing.delete(type);
      const hosted = this.#engine.parts.registry.get(type);
      if (hosted !== undefined) this.#engine.catalogs.find(hosted);
    }
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
    for (const kept of some) await this.#sweep(kept);
  }

  /** Returns those whose roots were changed by another. */
  async #tryWrite(some: readonly Kept[]): Promise<Kept[]> {
    const stored = await this.#roots(some);
    const refused: Kept[] = [];
    const runs: { kept: Kept; value: Uint8Array; revision: number; leftovers: readonly number[] }[] = [];
    for (const [at, kept] of some.entries()) {
      const { root, revision } = stored[at] as StoredRoot;
      if (kept.known !== revision) await this.#engine.saver.checkOwner(kept.shard);
      kept.known = revision;
      const { definition } = kept.hosted;
      const changes = kept.writing as Changes;
      if (kept.begun !== undefined || !root.whole) {
        if (!(await this.#anew(kept, root, revision))) refused.push(kept);
        continue;
      }
      const run = encodeBlock(blockOf(changes), definition.index?.length ?? 0);
      const longer = {
        ...root,
        leftovers: stillLeft(kept, root),
        runs: [...root.runs, Uint8Array.from(run)],
      };
      const value = isFull(longer) ? undefined : encodeRoot(kept.shard.shard, definition, longer);
      if (value !== undefined) runs.push({ kept, value, revision, leftovers: longer.leftovers });
      else if (!(await this.#workIn(kept, root, revision, changes))) refused.push(kept);
    }
    if (runs.length === 0) return refused;
    const answers = await this.#engine.parts.store.snapshots.write(
      runs.map(({ kept, value, revision }) => writeOf(kept, rootIdOf(kept), value, revision)),
    );
    for (const [at, { kept, leftovers }] of runs.entries()) {
      if (this.#stored(kept, answers[at])) kept.leftovers = leftovers;
      else refused.push(kept);
    }
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
    for (const [key, row] of kept.writing ?? []) changes.set(key, row);
    const empty: Root = { ...root, pieces: [], runs: [], leftovers, whole: false };
    if (!(await this.#workIn(kept, empty, revision, changes))) return false;
    kept.begun = undefined;
    return true;
  }

  /** Nobody takes the root for a whole one any more. */
  async #void(kept: Kept, root: Root, revision: number): Promise<boolean> {
    if (kept.known !== revision) await this.#engine.saver.checkOwner(kept.shard);
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
    const { shard, hosted } = kept;
    const { type, index = [] } = hosted.definition;
    const shares = shareOut(root.pieces, addUp(root.runs, changes));
    const rows = await this.#rowsOf(
      kept,
      root.pieces.filter((_, at) => shares[at]?.length),
    );
    if (rows === undefined) {
      // A piece is not what the root names.
      if (!(await this.#void(kept, root, revision))) return false;
      this.#forget(kept);
      return true;
    }
    const made: (PieceRef | NewPiece)[] = [];
    const replaced: number[] = [];
    for (const [at, share] of shares.entries()) {
      const piece = root.pieces[at];
      if (share.length === 0 && piece !== undefined) made.push(piece);
      else {
        if (piece !== undefined) replaced.push(piece.number);
        made.push(
          ...divide(merge(piece === undefined ? [] : (rows.get(piece.number) ?? []), share), index.length),
        );
        await this.#engine.breathe();
      }
    }
    // Numbers of an ownership of its own, so that no damage to a root can bring one up again.
    let claimed = Math.max(root.claimed, shard.epoch * NUMBERS_EACH);
    const pieces: PieceRef[] = [];
    const fresh: { readonly number: number; readonly bytes: Uint8Array }[] = [];
    for (const one of made) {
      if ("number" in one) {
        pieces.push(one);
        continue;
      }
      const number = ++claimed;
      const bytes = encodePiece(shard.shard, type, number, one.block);
      pieces.push({ number, checksum: checksumOf(bytes), bytes: bytes.length, first: one.first });
      fresh.push({ number, bytes });
    }
    const numbers = fresh.map(({ number }) => number);
    const leftovers = stillLeft(kept, root);
    const claim = await this.#replace(
      kept,
      { ...root, claimed, leftovers: [...leftovers, ...numbers] },
      revision,
    );
    if (claim === undefined) return false;
    await this.#writePieces(kept, fresh);
    const next: Root = { claimed, pieces, leftovers: [...leftovers, ...replaced], runs: [], whole: true };
    return this.#stored(kept, await this.#replace(kept, next, claim));
  }

  /** Undefined if there are others than the root names. */
  async #rowsOf(kept: Kept, pieces: readonly PieceRef[]): Promise<Map<number, readonly Row[]> | undefined> {
    const { snapshots } = this.#engine.parts.store;
    const rows = new Map<number, readonly Row[]>();
    for (let at = 0; at < pieces.length; at += PIECES_AT_ONCE) {
      const some = pieces.slice(at, at + PIECES_AT_ONCE);
      const found = await snapshots.read(some.map(({ number }) => pieceIdOf(kept, number)));
      for (const [place, piece] of some.entries()) {
        const { type } = kept.hosted.definition;
        const block = decodePiece(kept.shard.shard, type, piece, found[place]?.value);
        if (block === undefined) return undefined;
        rows.set(piece.number, decodeBlock(block).rows);
      }
      await this.#engine.breathe();
    }
    return rows;
  }

  async #writePieces(kept: Kept, fresh: readonly { number: number; bytes: Uint8Array }[]): Promise<void> {
    for (let at = 0; at < fresh.length; at += PIECES_AT_ONCE) {
      const answers = await this.#engine.parts.store.snapshots.write(
        fresh
          .slice(at, at + PIECES_AT_ONCE)
          .map(({ number, bytes }) => writeOf(kept, pieceIdOf(kept, number), bytes, 0)),
      );
      if (answers.includes(undefined))
        throw new Error(`A piece of the index of ${rootIdOf(kept)} is there already.`);
    }
  }

  async #roots(some: readonly Pick<Kept, "shard" | "hosted">[]): Promise<StoredRoot[]> {
    const found = await this.#engine.parts.store.snapshots.read(some.map(rootIdOf));
    return some.map(({ shard, hosted }, at) => {
      const { value, revision = 0 } = found[at] ?? {};
      return { root: decodeRoot(shard.shard, hosted.definition, value), revision };
    });
  }

  /** The new revision; undefined if the root is not at that one. */
  async #replace(kept: Kept, root: Root, revision: number): Promise<number | undefined> {
    const value =
      encodeRoot(kept.shard.shard, kept.hosted.definition, root) ??
      // Too much for one value. What lies in its pieces is never looked for again.
      encodeRoot(kept.shard.shard, kept.hosted.definition, { ...noRoot, claimed: root.claimed });
    const write = writeOf(kept, rootIdOf(kept), value as Uint8Array, revision);
    const [written] = await this.#engine.parts.store.snapshots.write([write]);
    if (written === undefined) return undefined;
    kept.known = written;
    kept.leftovers = root.leftovers;
    return written;
  }

  /** Deletes what is left over, also what is not there: the marker holds off a write that comes late. */
  async #sweep(kept: Kept): Promise<void> {
    const { snapshots } = this.#engine.parts.store;
    const left = stillLeft(kept, kept);
    try {
      for (let at = 0; at < left.length; at += PIECES_AT_ONCE) {
        const numbers = left.slice(at, at + PIECES_AT_ONCE);
        const ids = numbers.map((number) => pieceIdOf(kept, number));
        const found = await snapshots.read(ids);
        const writes: SnapshotWrite[] = [];
        for (const [place, id] of ids.entries()) {
          const { value, revision: of = 0 } = found[place] ?? {};
          if (value !== undefined || of === 0) writes.push(writeOf(kept, id, undefined, of));
        }
        const answers = writes.length === 0 ? [] : await snapshots.write(writes);
        if (!answers.includes(undefined)) for (const number of numbers) kept.swept.add(number);
      }
    } catch (error) {
      this.#engine.parts.observer.troubled(`delete old pieces of ${rootIdOf(kept)}`, error);
    }
  }
}

/** Numbers that one ownership of a shard may use. */
const NUMBERS_EACH = 2 ** 24;

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

function rootIdOf({ shard, hosted }: Pick<Kept, "shard" | "hosted">): string {
  return rootId(shard.shard, hosted.definition.type);
}

function pieceIdOf({ shard, hosted }: Kept, number: number): string {
  return pieceId(shard.shard, hosted.definition.type, number);
}

function writeOf(
  { shard }: Kept,
  id: string,
  value: Uint8Array | undefined,
  expected: number,
): SnapshotWrite {
  return { id, shard: shard.shard, value, expected, due: undefined };
}
