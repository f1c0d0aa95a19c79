/**
 * The index by due time: one key beside each snapshot that has a timer, in the same bucket.
 *
 *   _due.<shard>.<day>.<minute>.<type>.<encoded key>
 *
 * Owns the keys and which of them a range of time needs. Talks to nobody. A key is only a hint: the entry itself says
 * when it is due, and a hint that says otherwise is passed over and cleared away.
 */

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
const MINUTES = DAY_MS / MINUTE_MS;
/** More minutes of one day than this are asked for as the whole day. */
const MINUTES_MAX = 32;
/** More days than this are asked for as everything. */
const DAYS_MAX = 64;

export function dueKey(shard: number, due: number, id: string): string {
  const day = Math.floor(due / DAY_MS);
  const minute = Math.floor((due - day * DAY_MS) / MINUTE_MS);
  return `_due.${shard}.${day}.${Math.min(minute, MINUTES - 1)}.${id}`;
}

/** The id in a key that `dueKey` made. */
export function idOfDueKey(key: string): string {
  return key.split(".").slice(4).join(".");
}

/** Patterns of keys that hold everything due in `[from, before)`, and some around it, in order of time. */
export function dueFilters(shard: number, from: number, before: number): string[] {
  const first = Math.floor(from / DAY_MS);
  const last = Math.floor(before / DAY_MS);
  if (!(last - first <= DAYS_MAX)) return [`_due.${shard}.>`];
  const filters: string[] = [];
  for (let day = first; day <= last; day++) {
    const start = day === first ? Math.floor((from - day * DAY_MS) / MINUTE_MS) : 0;
    const end = day === last ? Math.floor((before - day * DAY_MS) / MINUTE_MS) : MINUTES - 1;
    if (end - start >= MINUTES_MAX) filters.push(`_due.${shard}.${day}.>`);
    else for (let minute = start; minute <= end; minute++) filters.push(`_due.${shard}.${day}.${minute}.>`);
  }
  return filters;
}
