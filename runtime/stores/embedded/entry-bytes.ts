/** How much room an entry takes in a table on disk. Without LMDB itself, for who only hears of such a table. */

/** LMDB's pages on most machines, and what an entry's key and heads take. */
const PAGE_BYTES = 4_096;
const KEY_BYTES = 64;

/** A value that does not fit into half a page has pages of its own. */
export function entryBytes(bytes: number): number {
  const whole = bytes + KEY_BYTES;
  return whole < PAGE_BYTES / 2 ? whole : Math.ceil(whole / PAGE_BYTES) * PAGE_BYTES;
}
