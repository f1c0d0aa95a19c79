/**
 * Fills catalogs from stored indexes: some large values instead of a snapshot an actor.
 *
 * Owns the order of reads. Pieces are read in the order of their keys, the first of all shards first, so that a range
 * begins before the last one is there. Talks to Snapshots; what memory and the tail know is in the rows before.
 *
 * An index that cannot be read is no damage: it is made of snapshots, which are read instead.
 */
import type { Snapshots } from "../../ports/index.ts";
import type { HostedType } from "../definition.ts";
import type { ShardState } from "../shard.ts";
import { decodeBlock } from "./block.ts";
import { decodePiece, decodeRoot, type PieceRef, pieceId, type Root, rootId } from "./index-format.ts";
import type { ShardRows } from "./rows.ts";

/** Roots in one call of the store. */
const ROOTS_AT_ONCE = 32;
/** Pieces in one call of the store: they are decoded in some ten milliseconds, then turns go on. */
const PIECES_AT_ONCE = 32;
/** How often a root is read again whose pieces are not there: a checkpoint is just replacing it. */
const READ_TRIES = 3;

/** A shard whose rows are being found. */
export interface Filling {
  readonly shard: ShardState;
  readonly rows: ShardRows;
}

interface Reading<F extends Filling> {
  readonly one: F;
  pieces: readonly PieceRef[];
  /** Pieces that are read. */
  at: number;
  tries: number;
}

export interface Fill<F extends Filling> {
  readonly snapshots: Snapshots;
  readonly hosted: HostedType;
  readonly breathe: () => Promise<void>;
  /** Whether a shard is still to be filled. */
  readonly isWanted: (one: F) => boolean;
  /** Looks at the patches of some shards: what they say is newer than an index. */
  readonly settle: (some: readonly F[]) => Promise<void>;
  /** Rows were added. */
  readonly grown: () => void;
}

/** Completes the rows of shards whose index can be read. Returns the others. */
export async function fillFromIndexes<F extends Filling>(
  fill: Fill<F>,
  wanted: readonly F[],
): Promise<readonly F[]> {
  const { type, index } = fill.hosted.definition;
  const listed = wanted.filter(({ shard }) => index !== undefined && shard.indexed.has(type));
  const others = new Set(wanted.filter((one) => !listed.includes(one)));
  const readings: Reading<F>[] = [];
  for (let at = 0; at < listed.length; at += ROOTS_AT_ONCE) {
    const some = listed.slice(at, at + ROOTS_AT_ONCE);
    const roots = await rootsOf(fill, some);
    const whole = some.filter((_, place) => roots[place] !== undefined);
    await fill.settle(whole);
    for (const [place, one] of some.entries()) {
      const root = roots[place];
      if (root === undefined) others.add(one);
      else readings.push({ one, pieces: begin(one, root), at: 0, tries: 0 });
    }
    await fill.breathe();
  }
  await readPieces(fill, readings, others);
  return [...others].filter(fill.isWanted);
}

async function rootsOf<F extends Filling>(
  { snapshots, hosted: { definition } }: Fill<F>,
  some: readonly F[],
): Promise<(Root | undefined)[]> {
  const found = await snapshots.read(some.map(({ shard }) => rootId(shard.shard, definition.type)));
  return some.map(({ shard }, at) => {
    const root = decodeRoot(shard.shard, definition, found[at]?.value);
    return root.whole ? root : undefined;
  });
}

/** Lays a root's runs over what is there, which is newer: the newest run first, since what is known stands. */
function begin({ rows }: Filling, { runs, pieces }: Root): readonly PieceRef[] {
  for (let at = runs.length - 1; at >= 0; at--) {
    const block = decodeBlock(runs[at] as Uint8Array);
    for (const row of block.rows) if (!rows.knows(row.key)) rows.set(row);
    for (const key of block.gone) if (!rows.knows(key)) rows.delete(key);
  }
  if (pieces.length === 0) rows.finish();
  return pieces;
}

async function readPieces<F extends Filling>(
  fill: Fill<F>,
  readings: readonly Reading<F>[],
  others: Set<F>,
): Promise<void> {
  const { snapshots, hosted, isWanted, breathe, grown } = fill;
  const { type } = hosted.definition;
  const idOf = ({ one, pieces, at }: Reading<F>): string =>
    pieceId(one.shard.shard, type, (pieces[at] as PieceRef).number);
  let open = readings.filter(({ at, pieces }) => at < pieces.length);
  while (open.length > 0) {
    for (let from = 0; from < open.length; from += PIECES_AT_ONCE) {
      const some = open.slice(from, from + PIECES_AT_ONCE);
      const found = await snapshots.read(some.map(idOf));
      const torn: Reading<F>[] = [];
      for (const [place, reading] of some.entries()) {
        const { one, pieces, at } = reading;
        const piece = pieces[at] as PieceRef;
        const block = decodePiece(one.shard.shard, type, piece, found[place]?.value);
        if (block === undefined) {
          torn.push(reading);
          continue;
        }
        const { rows } = one;
        for (const row of decodeBlock(block).rows) if (!rows.knows(row.key)) rows.set(row);
        reading.at++;
        const next = pieces[reading.at];
        if (next === undefined) rows.finish();
        else rows.reach(next.first);
      }
      await beginAgain(fill, torn, others);
      grown();
      await breathe();
    }
    open = open.filter(
      ({ one, at, pieces }) => at < pieces.length && !others.has(one) && !one.rows.complete && isWanted(one),
    );
  }
}

/** Pieces were not there. What was read is as of an older root, and everything newer is known: it stands. */
async function beginAgain<F extends Filling>(
  fill: Fill<F>,
  torn: readonly Reading<F>[],
  others: Set<F>,
): Promise<void> {
  if (torn.length === 0) return;
  const roots = await rootsOf(
    fill,
    torn.map(({ one }) => one),
  );
  for (const [place, reading] of torn.entries()) {
    const root = roots[place];
    if (root === undefined || ++reading.tries > READ_TRIES) {
      others.add(reading.one);
      continue;
    }
    reading.pieces = begin(reading.one, root);
    reading.at = 0;
  }
}
