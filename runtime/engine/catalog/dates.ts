/**
 * When actors had their last turn, where that was not kept: they were stored before their type had an index.
 *
 * Owns the look-up in the journal: a batch says when it was made. One that was trimmed or cannot be read leaves the time
 * unknown, which is as long ago as can be. Talks to Journal.
 */
import type { Journal } from "../../ports/index.ts";
import { isKeyturnError } from "../../words/errors.ts";
import { forEach } from "../concurrently.ts";
import { decodeBatch } from "../record.ts";
import type { Row } from "./row.ts";
import type { ShardRows } from "./rows.ts";

/** Batches that are read at once. */
const READS_AT_ONCE = 64;

/** Rows without a time, and what they lie in. */
export type Undated = readonly [rows: ShardRows, row: Row];

/** Gives rows the time of their last turn's batch. */
export async function date(journal: Journal, some: readonly Undated[]): Promise<void> {
  const undated = new Map<number, Undated[]>();
  for (const one of some) {
    const [, { position }] = one;
    const others = undated.get(position);
    if (others === undefined) undated.set(position, [one]);
    else others.push(one);
  }
  await forEach([...undated], READS_AT_ONCE, async ([position, rest]) => {
    const time = await timeAt(journal, position);
    // What took a turn meanwhile has a time of its own.
    for (const [rows, row] of rest) if (rows.get(row.key) === row) rows.set({ ...row, time });
  });
}

async function timeAt(journal: Journal, position: number): Promise<number> {
  const bytes = await journal.get(position);
  try {
    return bytes === undefined ? 0 : decodeBatch(bytes, position).header.time;
  } catch (error) {
    if (!isKeyturnError(error)) throw error;
    return 0;
  }
}
