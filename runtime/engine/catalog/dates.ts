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

/** Gives rows without a time the time of their last turn's batch. */
export async function date(journal: Journal, shards: readonly ShardRows[]): Promise<void> {
  const undated = new Map<number, [rows: ShardRows, row: Row][]>();
  for (const rows of shards)
    for (const row of rows.all()) {
      if (row.time !== 0 || row.position === 0) continue;
      const others = undated.get(row.position);
      if (others === undefined) undated.set(row.position, [[rows, row]]);
      else others.push([rows, row]);
    }
  await forEach([...undated], READS_AT_ONCE, async ([position, some]) => {
    const time = await timeAt(journal, position);
    // What took a turn meanwhile has a time of its own.
    for (const [rows, row] of some) if (rows.get(row.key) === row) rows.set({ ...row, time });
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
