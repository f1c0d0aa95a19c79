/**
 * Fills catalogs from stored indexes: some large values instead of a snapshot an actor.
 *
 * Owns the order of reads. Pieces are read in the order of their keys, from where the first question begins, one of each
 * shard after the other, so that a range begins before the last one is there. Talks to Snapshots; what memory and the tail know is in the rows before.
 *
 * An index that cannot be read is no damage: it is made of snapshots, which are read instead.
 */
import type { Snapshots } from "../../ports/index.ts";
import type { HostedType } from "../definition.ts";
import type { ShardState } from "../shard.ts";
import { compareKeys } from "../../words/address.ts";
import { decodeBlock } from "./block.ts";
import {
  decodePiece,
  decodeRoot,
  type PieceRef,
  pieceId,
  type Root,
  rootId,
  type Run,
} from "./index-format.ts";
import type { ShardRows } from "./rows.ts";

/** Roots in one call of the store. */
const ROOTS_AT_ONCE = 32;
/** Pieces in one call of the store: they are decoded in some ten milliseconds, then turns go on. */
const PIECES_AT_ONCE = 64;
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
  /** Place of the piece that was read first, and how many are read: from there to the end, then from the first on. */
  begin: number;
  read: number;
  tries: number;
}

export interface Fill<F extends Filling> {
  readonly snapshots: Snapshots;
  readonly hosted: HostedType;
  /** What is asked for first. */
  readonly start: string;
  readonly breathe: () => Promise<void>;
  /** Whether a shard is still to be filled. */
  readonly isWanted: (one: F) => boolean;
  /** Looks at the patches of some shards: what they say is newer than an index. */
  readonly settle: (some: readonly F[]) => Promise<void>;
  /** Rows were added. Throws if there are too many. */
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
      else readings.push({ one, ...begin(one, root, fill.start), tries: 0 });
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
function begin(
  { rows }: Filling,
  { runs, pieces }: Root,
  start: string,
): Pick<Reading<Filling>, "pieces" | "begin" | "read"> {
  for (let at = runs.length - 1; at >= 0; at--) {
    const block = decodeBlock((runs[at] as Run).block);
    rows.fill(block.rows);
    for (const key of block.gone) if (!rows.knows(key)) rows.delete(key);
  }
  if (pieces.length === 0) rows.finish();
  let first = 0;
  while (first + 1 < pieces.length && compareKeys((pieces[first + 1] as PieceRef).first, start) <= 0) first++;
  return { pieces, begin: first, read: 0 };
}

/** The piece that is read next. */
function nextOf({ pieces, begin: first, read }: Reading<Filling>): PieceRef {
  return pieces[(first + read) % pieces.length] as PieceRef;
}

/** A piece was read. */
function advance(reading: Reading<Filling>): void {
  const { pieces, begin: first } = reading;
  const { rows } = reading.one;
  reading.read++;
  const behind = first + reading.read;
  if (reading.read === pieces.length) rows.finish();
  else if (behind <= pieces.length)
    rows.reach({ from: first === 0 ? "" : (pieces[first] as PieceRef).first, to: pieces[behind]?.first });
}

async function readPieces<F extends Filling>(
  fill: Fill<F>,
  readings: readonly Reading<F>[],
  others: Set<F>,
): Promise<void> {
  const { snapshots, hosted, isWanted, breathe, grown } = fill;
  const { type } = hosted.definition;
  let open = readings.filter(({ pieces }) => pieces.length > 0);
  while (open.length > 0) {
    for (let from = 0; from < open.length; from += PIECES_AT_ONCE) {
      const some = open.slice(from, from + PIECES_AT_ONCE);
      const ids = some.map((reading) => pieceId(reading.one.shard.shard, type, nextOf(reading).number));
      const found = await snapshots.read(ids);
      const torn: Reading<F>[] = [];
      for (const [place, reading] of some.entries()) {
        const { rows, shard } = reading.one;
        const block = decodePiece(shard.shard, type, nextOf(reading), found[place]?.value);
        if (block === undefined) torn.push(reading);
        else {
          rows.fill(decodeBlock(block).rows);
          advance(reading);
        }
      }
      // Before anybody is answered.
      grown();
      await beginAgain(fill, torn, others);
      await breathe();
    }
    open = open.filter(({ one }) => !others.has(one) && !one.rows.complete && isWanted(one));
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
    Object.assign(reading, begin(reading.one, root, fill.start));
  }
}
