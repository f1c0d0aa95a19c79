/**
 * Roots and pieces of stored indexes in the store: what is read and written at once, without an order of writes.
 *
 * Owns what they are called in the store, and new pieces until they are stored. Talks to Snapshots; the writer decides
 * what is written when.
 */
import type { Snapshots, SnapshotWrite } from "../../ports/index.ts";
import { checksumOf } from "../../words/codec.ts";
import type { HostedType } from "../definition.ts";
import type { ShardState } from "../shard.ts";
import { decodeBlock } from "./block.ts";
import {
  decodePiece,
  decodeRoot,
  encodePiece,
  type PieceRef,
  pieceId,
  type Root,
  rootId,
} from "./index-format.ts";
import { addUp, type Changes, divide, merge, type NewPiece, shareOut } from "./index-merge.ts";
import type { Row } from "./row.ts";

/** Pieces in one call of the store. */
const PIECES_AT_ONCE = 16;

/** Of which type in which shard an index is. */
export interface IndexPlace {
  readonly shard: ShardState;
  readonly hosted: HostedType;
}

export interface StoredRoot {
  readonly root: Root;
  /** 0 if there is none. */
  readonly revision: number;
}

/** The pieces of a root, some of them new. */
export interface Reworked {
  readonly pieces: readonly PieceRef[];
  readonly fresh: readonly FreshPiece[];
  /** Numbers of those that are not among them any more. */
  readonly replaced: readonly number[];
}

/** A piece that is not stored yet. */
export interface FreshPiece {
  readonly ref: PieceRef;
  readonly bytes: Uint8Array;
}

export function rootIdOf({ shard, hosted }: IndexPlace): string {
  return rootId(shard.shard, hosted.definition.type);
}

function freshPiece(
  { shard, hosted }: IndexPlace,
  number: number,
  { first, rows, block }: NewPiece,
): FreshPiece {
  const bytes = encodePiece(shard.shard, hosted.definition.type, number, block);
  return { ref: { number, checksum: checksumOf(bytes), rows, first }, bytes };
}

export class IndexStore {
  readonly #snapshots: Snapshots;
  readonly #breathe: () => Promise<void>;

  constructor(snapshots: Snapshots, breathe: () => Promise<void>) {
    this.#snapshots = snapshots;
    this.#breathe = breathe;
  }

  async roots(some: readonly IndexPlace[]): Promise<StoredRoot[]> {
    const found = await this.#snapshots.read(some.map(rootIdOf));
    return some.map(({ shard, hosted }, at) => {
      const { value, revision = 0 } = found[at] ?? {};
      return { root: decodeRoot(shard.shard, hosted.definition, value), revision };
    });
  }

  /** The new revisions, undefined for a root that is not at the expected one. */
  writeRoots(
    some: readonly { place: IndexPlace; value: Uint8Array; expected: number }[],
  ): Promise<readonly (number | undefined)[]> {
    return this.#snapshots.write(
      some.map(({ place, value, expected }) => writeOf(place, rootIdOf(place), value, expected)),
    );
  }

  /** The rows of pieces by their numbers; undefined if there are others than the root names. */
  async rowsIn(
    place: IndexPlace,
    pieces: readonly PieceRef[],
  ): Promise<Map<number, readonly Row[]> | undefined> {
    const { shard, hosted } = place;
    const rows = new Map<number, readonly Row[]>();
    for (let at = 0; at < pieces.length; at += PIECES_AT_ONCE) {
      const some = pieces.slice(at, at + PIECES_AT_ONCE);
      const found = await this.#snapshots.read(some.map(({ number }) => pieceIdOf(place, number)));
      for (const [index, piece] of some.entries()) {
        const block = decodePiece(shard.shard, hosted.definition.type, piece, found[index]?.value);
        if (block === undefined) return undefined;
        rows.set(piece.number, decodeBlock(block).rows);
      }
      await this.#breathe();
    }
    return rows;
  }

  /**
   * Runs and changes worked into the pieces; those that nothing falls to stay as they are. Stores nothing. Undefined if a
   * piece is not what the root names.
   * @param claimed numbers of pieces up to here are taken
   */
  async workIn(
    place: IndexPlace,
    root: Root,
    changes: Changes,
    claimed: number,
  ): Promise<Reworked | undefined> {
    const shares = shareOut(root.pieces, addUp(root.runs, changes));
    const touched = root.pieces.filter((_, at) => shares[at]?.length);
    const rows = await this.rowsIn(place, touched);
    if (rows === undefined) return undefined;
    const columns = place.hosted.definition.index?.length ?? 0;
    const pieces: PieceRef[] = [];
    const fresh: FreshPiece[] = [];
    for (const [at, share] of shares.entries()) {
      const piece = root.pieces[at];
      if (piece !== undefined && share.length === 0) {
        pieces.push(piece);
        continue;
      }
      const before = piece === undefined ? [] : (rows.get(piece.number) as readonly Row[]);
      for (const made of divide(merge(before, share), columns)) {
        const one = freshPiece(place, claimed + fresh.length + 1, made);
        pieces.push(one.ref);
        fresh.push(one);
      }
      await this.#breathe();
    }
    return { pieces, fresh, replaced: touched.map(({ number }) => number) };
  }

  async writePieces(place: IndexPlace, fresh: readonly FreshPiece[]): Promise<void> {
    for (let at = 0; at < fresh.length; at += PIECES_AT_ONCE) {
      const writes = fresh
        .slice(at, at + PIECES_AT_ONCE)
        .map(({ ref, bytes }) => writeOf(place, pieceIdOf(place, ref.number), bytes, 0));
      const answers = await this.#snapshots.write(writes);
      if (answers.includes(undefined)) throw new Error(`A piece of ${rootIdOf(place)} is there already.`);
    }
  }

  /**
   * Deletes pieces, also those that are not there: the marker holds off a write that comes late. Calls back with those
   * that are certainly gone.
   */
  async deletePieces(
    place: IndexPlace,
    numbers: readonly number[],
    gone: (number: number) => void,
  ): Promise<void> {
    for (let at = 0; at < numbers.length; at += PIECES_AT_ONCE) {
      const some = numbers.slice(at, at + PIECES_AT_ONCE);
      const found = await this.#snapshots.read(some.map((number) => pieceIdOf(place, number)));
      const writes: SnapshotWrite[] = [];
      for (const [index, number] of some.entries()) {
        const { value, revision = 0 } = found[index] ?? {};
        if (value !== undefined || revision === 0)
          writes.push(writeOf(place, pieceIdOf(place, number), undefined, revision));
      }
      const answers = writes.length === 0 ? [] : await this.#snapshots.write(writes);
      if (!answers.includes(undefined)) for (const number of some) gone(number);
    }
  }
}

function pieceIdOf({ shard, hosted }: IndexPlace, number: number): string {
  return pieceId(shard.shard, hosted.definition.type, number);
}

function writeOf(
  { shard }: IndexPlace,
  id: string,
  value: Uint8Array | undefined,
  expected: number,
): SnapshotWrite {
  return { id, shard: shard.shard, value, expected, due: undefined };
}
