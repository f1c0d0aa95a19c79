/**
 * What changed, laid over pieces of a stored index.
 *
 * Owns how changes fall to pieces and how rows are divided into new ones. All of it is synchronous and pure; the writer
 * decides when. Talks to blocks.
 */
import { compareKeys } from "../../words/address.ts";
import { type Block, decodeBlock, encodeBlock } from "./block.ts";
import type { PieceRef, Run } from "./index-format.ts";
import type { Row } from "./row.ts";

/** Rows in a piece, about; one of twice as many is divided. The first page of a range needs one of each shard. */
const PIECE_ROWS = 64;
/** A piece of rows with large values is divided until it is below this. */
const PIECE_BYTES = 256 * 1024;

/** Says that an actor is gone. */
export interface Gone {
  readonly key: string;
  readonly gone: true;
}

export function goneOf(key: string): Gone {
  return { key, gone: true };
}

/** What became of an actor. */
export type Change = Row | Gone;

/** The same of many, by key. */
export type Changes = Map<string, Change>;

export interface NewPiece {
  readonly first: string;
  readonly rows: number;
  readonly block: Uint8Array;
}

/** Changes as a block. */
export function blockOf(changes: Changes): Block {
  const rows: Row[] = [];
  const gone: string[] = [];
  for (const change of changes.values()) {
    if ("gone" in change) gone.push(change.key);
    else rows.push(change);
  }
  return { rows, gone };
}

/** Runs added up, the newest last, with what is newer than all of them. */
export function addUp(runs: readonly Run[], newest: Changes): Changes {
  const all: Changes = new Map();
  for (const { block } of runs) lay(all, decodeBlock(block));
  for (const [key, change] of newest) all.set(key, change);
  return all;
}

function lay(all: Changes, { rows, gone }: Block): void {
  for (const row of rows) all.set(row.key, row);
  for (const key of gone) all.set(key, goneOf(key));
}

/** For each piece, in order, what falls into its stretch of keys. Without pieces there is one stretch for all. */
export function shareOut(pieces: readonly PieceRef[], changes: Changes): Change[][] {
  const sorted = [...changes.values()].sort((a, b) => compareKeys(a.key, b.key));
  const shares: Change[][] = [[]];
  let at = 0;
  for (const change of sorted) {
    while (at + 1 < pieces.length && compareKeys((pieces[at + 1] as PieceRef).first, change.key) <= 0) at++;
    while (shares.length <= at) shares.push([]);
    (shares[at] as Change[]).push(change);
  }
  while (shares.length < pieces.length) shares.push([]);
  return shares;
}

/** Rows in the order of their keys with sorted changes, in order. */
export function merge(rows: readonly Row[], changes: readonly Change[]): Row[] {
  const merged: Row[] = [];
  let at = 0;
  for (const change of changes) {
    for (; at < rows.length; at++) {
      const order = compareKeys((rows[at] as Row).key, change.key);
      if (order > 0) break;
      if (order < 0) merged.push(rows[at] as Row);
    }
    if (!("gone" in change)) merged.push(change);
  }
  for (; at < rows.length; at++) merged.push(rows[at] as Row);
  return merged;
}

/** Rows as blocks of about the same size. */
export function divide(rows: readonly Row[], columns: number): NewPiece[] {
  const first = rows[0];
  if (first === undefined) return [];
  const parts = rows.length > 2 * PIECE_ROWS ? Math.round(rows.length / PIECE_ROWS) : 1;
  if (parts === 1) {
    const block = encodeBlock({ rows, gone: [] }, columns);
    if (block.length <= PIECE_BYTES || rows.length === 1)
      return [{ first: first.key, rows: rows.length, block }];
  }
  const each = Math.ceil(rows.length / Math.max(parts, 2));
  const pieces: NewPiece[] = [];
  for (let at = 0; at < rows.length; at += each) pieces.push(...divide(rows.slice(at, at + each), columns));
  return pieces;
}
