/**
 * Fills catalogs from stored indexes: some large values instead of a snapshot an actor.
 *
 * Owns the order: stretches of keys, from where the first question begins, one of each shard after the other, so that a
 * range begins before the last piece is there. Of each stretch the rows of what is known (known.ts) are made first: it is
 * newer than any piece. Talks to Snapshots.
 *
 * An index that cannot be read is no damage: it is made of snapshots, which are read instead.
 */
import type { Snapshots } from "../../ports/index.ts";
import { compareKeys } from "../../words/address.ts";
import type { HostedType } from "../definition.ts";
import type { ShardState } from "../shard.ts";
import { ROW_LOOKS, type Stint } from "../stint.ts";
import { decodeBlock } from "./block.ts";
import type { Share } from "./finding.ts";
import { decodePiece, decodeRoot, type PieceRef, pieceId, type Root, rootId } from "./index-format.ts";
import { addUp, type Changes } from "./index-merge.ts";
import type { Known } from "./known.ts";
import type { Taken } from "./pile.ts";
import type { Row } from "./row.ts";

/** Roots in one call of the store. */
const ROOTS_AT_ONCE = 64;
/** Pieces in one call of the store. */
const PIECES_AT_ONCE = 64;
/** Bytes that are decoded in the time of a look, about. */
const LOOK_BYTES = 64;
/** How often in a row a root is read again whose pieces are not there: a checkpoint is just replacing it. */
const READ_TRIES = 3;
/** Items of what is known in a stretch, at most: of the first one, which is to be there soon, and of the others. */
const FIRST_ITEMS = 16;
const ITEMS = 512;

/** A shard whose rows are being found, from `start` on to the end, then from the first key on to `start`. */
interface Reading {
  readonly one: Known;
  pieces: readonly PieceRef[];
  ahead: boolean;
  /** All up to here is found, from where this direction begins. */
  at: string;
  /** The piece that was read last. */
  piece: { readonly number: number; readonly rows: readonly Row[] } | undefined;
  /** Items of what is known that the next stretch takes. */
  most: number;
  /** How often its root was read again since the last stretch. */
  tries: number;
}

/** What comes next of a shard. */
interface Stretch extends Taken<Share["items"][number]> {
  readonly reading: Reading;
  /** The one that it lies in; undefined if the index has none. */
  readonly ref: PieceRef | undefined;
  /** Whether that is all of it. */
  readonly whole: boolean;
}

export interface Fill {
  readonly snapshots: Snapshots;
  readonly hosted: HostedType;
  /** What is asked for first. */
  readonly start: string;
  readonly stint: Stint;
  /** Whether a shard is still to be filled. */
  readonly isWanted: (one: Known) => boolean;
  /** What was stored of a shard's actors and is not in its root, the newest first. */
  readonly waiting: (shard: ShardState) => readonly Changes[];
  /** Makes rows of what is known. */
  readonly lay: (some: readonly Share[]) => Promise<void>;
  readonly layAll: (one: Known) => Promise<void>;
  /** So many rows were added, at most. Throws if there are too many. */
  readonly grown: (rows: number) => void;
}

/** Completes the rows of shards whose index can be read. Returns the others. */
export async function fillFromIndexes(fill: Fill, wanted: readonly Known[]): Promise<readonly Known[]> {
  const { type, index } = fill.hosted.definition;
  const isListed = ({ shard }: Known): boolean => index !== undefined && shard.indexed.has(type);
  const listed = wanted.filter(isListed);
  const others = new Set(wanted.filter((one) => !isListed(one)));
  const readings: Reading[] = [];
  let next = beginOf(fill, listed, 0);
  for (let at = 0; at < listed.length; at += ROOTS_AT_ONCE) {
    const { some, roots } = next;
    next = beginOf(fill, listed, at + ROOTS_AT_ONCE);
    const begun = await readingsOf(fill, some, roots);
    const rooted = new Set(begun.map(({ one }) => one));
    for (const one of some) if (!rooted.has(one)) others.add(one);
    await readOn(fill, begun, others);
    readings.push(...begun);
  }
  for (let open = readings; open.length > 0; ) {
    open = open.filter(({ one }) => !others.has(one) && !one.rows.complete && fill.isWanted(one));
    await readOn(fill, open, others);
  }
  return [...others].filter(fill.isWanted);
}

interface Begun {
  readonly some: readonly Known[];
  readonly roots: Promise<readonly (Root | undefined)[]>;
}

/** What waits is looked at before the root is read: what is written meanwhile stands in one of them. */
function beginOf(fill: Fill, listed: readonly Known[], at: number): Begun {
  const some = listed.slice(at, at + ROOTS_AT_ONCE);
  for (const one of some) one.arrange(fill.start, fill.waiting(one.shard), fill.stint);
  const roots = some.length === 0 ? Promise.resolve([]) : rootsOf(fill, some);
  // If they cannot be read, whoever awaits them learns it; there may be nobody any more.
  roots.catch(() => undefined);
  return { some, roots };
}

/** Of those that have a root. While it is read, what memory knows is looked through. */
async function readingsOf(
  { start, stint }: Fill,
  some: Begun["some"],
  roots: Begun["roots"],
): Promise<Reading[]> {
  for (const one of some) await one.lift(FIRST_ITEMS);
  const readings: Reading[] = [];
  for (const [place, root] of (await roots).entries()) {
    if (root === undefined) continue;
    const one = some[place] as Known;
    one.addOlder(addUp(root.runs, new Map()));
    const { pieces, runs } = root;
    readings.push({ one, pieces, ahead: true, at: start, piece: undefined, most: FIRST_ITEMS, tries: 0 });
    const pause = stint.spend(runs.reduce((sum, { block, rows }) => sum + looksOf(block, rows), 0));
    if (pause !== undefined) await pause;
  }
  return readings;
}

async function rootsOf(
  { snapshots, hosted: { definition } }: Fill,
  some: readonly Known[],
): Promise<(Root | undefined)[]> {
  const found = await snapshots.read(some.map(({ shard }) => rootId(shard.shard, definition.type)));
  return some.map(({ shard }, at) => {
    const root = decodeRoot(shard.shard, definition, found[at]?.value);
    return root.whole ? root : undefined;
  });
}

/** Reads the next stretch of each. */
async function readOn(fill: Fill, readings: readonly Reading[], others: Set<Known>): Promise<void> {
  for (let from = 0; from < readings.length; from += PIECES_AT_ONCE) {
    const stretches: Stretch[] = [];
    for (const reading of readings.slice(from, from + PIECES_AT_ONCE))
      stretches.push(await nextOf(reading, fill.start));
    const torn = await readPieces(fill, stretches);
    await fill.lay(stretches.map(({ reading, items }) => ({ one: reading.one, items })));
    const found = stretches.filter(({ reading }) => !torn.has(reading) && fill.isWanted(reading.one));
    let rows = 0;
    for (const stretch of found) rows += fillFrom(stretch);
    // Before anybody is answered.
    fill.grown(rows);
    for (const stretch of found) advance(stretch, fill.start);
    const pause = fill.stint.spend(rows * ROW_LOOKS);
    if (pause !== undefined) await pause;
    await beginAgain(fill, torn, others);
  }
  await fill.stint.rest();
}

async function nextOf(reading: Reading, start: string): Promise<Stretch> {
  const { one, pieces, ahead, at, most } = reading;
  const place = placeOf(pieces, at);
  const ref = pieces[place];
  const last = ahead ? undefined : start;
  let end = pieces[place + 1]?.first;
  if (last !== undefined && (end === undefined || compareKeys(end, last) > 0)) end = last;
  const { items, to } = await one.take(ahead, end, most);
  const whole = ref !== undefined && compareKeys(at, ref.first) <= 0 && to === pieces[place + 1]?.first;
  return { reading, ref, items, to, whole };
}

/** Place of the last piece that begins at a key or before; of the first one, if there is none. */
function placeOf(pieces: readonly PieceRef[], key: string): number {
  let low = 1;
  let high = pieces.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compareKeys((pieces[middle] as PieceRef).first, key) <= 0) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Reads the pieces that stretches lie in. Returns those of which they are not there. */
async function readPieces(
  { snapshots, hosted: { definition }, stint }: Fill,
  stretches: readonly Stretch[],
): Promise<Set<Reading>> {
  const { type } = definition;
  const torn = new Set<Reading>();
  const unread = stretches.filter(
    ({ reading, ref }) => ref !== undefined && reading.piece?.number !== ref.number,
  );
  if (unread.length === 0) return torn;
  const idOf = ({ reading, ref }: Stretch): string =>
    pieceId(reading.one.shard.shard, type, (ref as PieceRef).number);
  const found = await snapshots.read(unread.map(idOf));
  for (const [place, { reading, ref }] of unread.entries()) {
    const piece = ref as PieceRef;
    const block = decodePiece(reading.one.shard.shard, type, piece, found[place]?.value);
    if (block === undefined) torn.add(reading);
    else {
      const { rows } = decodeBlock(block);
      reading.piece = { number: piece.number, rows };
      const pause = stint.spend(looksOf(block, rows.length));
      if (pause !== undefined) await pause;
    }
  }
  return torn;
}

/** What decoding a block takes more than its rows are counted for once they are found: they are large. */
function looksOf({ length }: Uint8Array, rows: number): number {
  return Math.max(0, Math.round(length / LOOK_BYTES) - rows * ROW_LOOKS);
}

/** Rows of a stretch from its piece. Returns how many that were. */
function fillFrom({ reading, ref, to, whole }: Stretch): number {
  if (ref === undefined) return 0;
  const { rows } = reading.piece as NonNullable<Reading["piece"]>;
  const within = whole
    ? rows
    : rows.filter(
        ({ key }) => compareKeys(key, reading.at) >= 0 && (to === undefined || compareKeys(key, to) < 0),
      );
  reading.one.rows.fill(within);
  return within.length;
}

/** A stretch is found. */
function advance({ reading, to }: Stretch, start: string): void {
  const { rows } = reading.one;
  reading.most = ITEMS;
  reading.tries = 0;
  if (reading.ahead) {
    if (to !== undefined || start !== "") rows.reach({ from: start, to });
    if (to !== undefined) reading.at = to;
    else if (start === "") rows.finish();
    else Object.assign(reading, { ahead: false, at: "" });
  } else if (to === start) rows.finish();
  else reading.at = to as string;
}

/** Pieces were not there. What was found is as of an older root, and everything newer is known: it stands. */
async function beginAgain(fill: Fill, torn: ReadonlySet<Reading>, others: Set<Known>): Promise<void> {
  if (torn.size === 0) return;
  const readings = [...torn];
  const roots = await rootsOf(
    fill,
    readings.map(({ one }) => one),
  );
  for (const [place, reading] of readings.entries()) {
    const root = roots[place];
    if (root === undefined || ++reading.tries > READ_TRIES) {
      others.add(reading.one);
      continue;
    }
    // It is newer than the runs.
    await fill.layAll(reading.one);
    const changes = addUp(root.runs, new Map());
    for (const change of changes.values()) {
      if (reading.one.rows.knows(change.key)) continue;
      if ("gone" in change) reading.one.rows.delete(change.key);
      else reading.one.rows.set(change);
    }
    fill.grown(changes.size);
    reading.pieces = root.pieces;
    reading.piece = undefined;
  }
}
