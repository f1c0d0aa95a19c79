/**
 * The stored index of one type in one shard, as bytes: a root, `_index.<shard>.<type>`, and pieces,
 * `_index.<shard>.<type>.<number>`, among the snapshots.
 *
 * Owns the format. Talks to the codec; index-reader.ts and index-writer.ts read and write it. Golden files hold it
 * (test/golden).
 *
 * Pieces hold rows in the order of keys, one stretch of keys each. What changed since they were written stands in the
 * root, as runs, the newest last. So the rows are those of the pieces with the runs laid over them.
 *
 * Invariants:
 * 1. A piece is written once: its number is used for nothing else, by anybody, ever.
 * 2. A root is of one version of the type and of one list of paths; to all others it says nothing.
 */
import { checksumOf, decode, encode, envelope, openEnvelope } from "../../words/codec.ts";
import { limits } from "../../words/limits.ts";
import type { AnyActorDefinition } from "../definition.ts";

const ROOT_MAGIC = 0x49;
const PIECE_MAGIC = 0x52;
const VERSION = 1;

/**
 * Runs may hold a share of the rows that the pieces hold; then they are worked into the pieces. They are read before the
 * first page of a range, of all shards.
 */
const RUN_SHARE = 1 / 8;
const RUN_ROWS_MIN = 128;
/** More changes than this at once are no run. */
export const RUN_ROWS_MAX = 1_024;
const RUN_BYTES_MAX = 256 * 1024;
const RUNS_MAX = 8;
/** What a root may take in all. */
const ROOT_BYTES = limits.stateBytes;

/** One piece, as the root names it. */
export interface PieceRef {
  readonly number: number;
  readonly checksum: number;
  readonly rows: number;
  /** Its first key; it may hold keys up to that of the next piece. */
  readonly first: string;
}

/** A block of what changed. */
export interface Run {
  /** Actors that it speaks of. */
  readonly rows: number;
  readonly block: Uint8Array;
}

export interface Root {
  /** Pieces up to this number were claimed by somebody, and are never written again. */
  readonly claimed: number;
  /** In the order of their keys. */
  readonly pieces: readonly PieceRef[];
  /** Numbers of pieces that may lie in the store and are of no use. */
  readonly leftovers: readonly number[];
  /** The newest last. */
  readonly runs: readonly Run[];
  /** False if it does not hold all actors: nobody may read them from it. */
  readonly whole: boolean;
}

/** Of nobody: what stands in the place of a root that cannot be read. */
export const noRoot: Root = { claimed: 0, pieces: [], leftovers: [], runs: [], whole: false };
/** Where an index is kept and nothing was written into it yet. */
const emptyRoot: Root = { ...noRoot, whole: true };

export function rootId(shard: number, type: string): string {
  return `_index.${shard}.${type}`;
}

export function pieceId(shard: number, type: string, number: number): string {
  return `_index.${shard}.${type}.${number}`;
}

/** Undefined if there is too much in it for one value. */
export function encodeRoot(
  shard: number,
  definition: AnyActorDefinition,
  root: Root,
): Uint8Array | undefined {
  const { claimed, pieces, leftovers, runs, whole } = root;
  const { type, version, index = [] } = definition;
  const packed = pieces.map(({ number, checksum, rows, first }) => [number, checksum, rows, first]);
  const blocks = runs.map(({ rows, block }) => [rows, block]);
  const body = encode([shard, type, version, index, claimed, packed, leftovers, blocks, whole]);
  return body.length > ROOT_BYTES - 64 ? undefined : envelope(body, ROOT_MAGIC, VERSION);
}

/**
 * What a root says, `whole` only if it is of this definition. What cannot be read is no damage: the index is made of
 * snapshots, and can be made again.
 * @param bytes undefined if there is none, where the shard's entry says that the index is kept
 */
export function decodeRoot(
  shard: number,
  { type, version, index = [] }: AnyActorDefinition,
  bytes: Uint8Array | undefined,
): Root {
  if (bytes === undefined) return emptyRoot;
  const body = openEnvelope(bytes, ROOT_MAGIC, VERSION);
  if (typeof body === "string") return noRoot;
  const [ofShard, ofType, ofVersion, paths, claimed, packed, leftovers, blocks, whole] = decode(body) as [
    number,
    string,
    number,
    string[],
    number,
    [number, number, number, string][],
    number[],
    [number, Uint8Array][],
    boolean,
  ];
  if (ofShard !== shard || ofType !== type) return noRoot;
  const fits =
    ofVersion === version && paths.length === index.length && paths.every((p, at) => p === index[at]);
  const pieces = packed.map(([number, checksum, rows, first]) => ({ number, checksum, rows, first }));
  const runs = blocks.map(([rows, block]) => ({ rows, block }));
  return { claimed, pieces, leftovers, runs, whole: whole && fits };
}

/** Whether the runs are to be worked into the pieces. */
export function isFull({ pieces, runs }: Root): boolean {
  const inPieces = pieces.reduce((sum, { rows }) => sum + rows, 0);
  const inRuns = runs.reduce((sum, { rows }) => sum + rows, 0);
  const bytes = runs.reduce((sum, { block }) => sum + block.length, 0);
  const most = Math.min(RUN_ROWS_MAX, Math.max(RUN_ROWS_MIN, RUN_SHARE * inPieces));
  return runs.length > RUNS_MAX || inRuns > most || bytes > RUN_BYTES_MAX;
}

export function encodePiece(shard: number, type: string, number: number, block: Uint8Array): Uint8Array {
  return envelope(encode([shard, type, number, block]), PIECE_MAGIC, VERSION);
}

/** The block in a piece; undefined if it is not the one that the root names. */
export function decodePiece(
  shard: number,
  type: string,
  { number, checksum }: PieceRef,
  bytes: Uint8Array | undefined,
): Uint8Array | undefined {
  const body = bytes === undefined ? "truncated" : openEnvelope(bytes, PIECE_MAGIC, VERSION);
  if (typeof body === "string" || checksumOf(bytes as Uint8Array) !== checksum) return undefined;
  const [ofShard, ofType, ofNumber, block] = decode(body) as [number, string, number, Uint8Array];
  return ofShard === shard && ofType === type && ofNumber === number ? block : undefined;
}
