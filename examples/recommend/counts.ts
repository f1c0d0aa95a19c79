/**
 * Counts of what is frequent, in bounded space: Space-Saving (Metwally, Agrawal and El Abbadi, 2005). Pure functions.
 *
 * Who is new when there is no room takes the place of the least frequent and goes on from its count, and it is kept how
 * much of a count was taken over so. Hence, of n things counted with room for k: what was seen more often than n/k is
 * there, no count is too low, and none is too high by more than what it took over, which is at most n/k. As long as there
 * is room, all counts are exact.
 */

export interface Count {
  /** Never below the truth. */
  readonly count: number;
  /** By how much the count may be above the truth. */
  readonly over: number;
}

/** By name. A Map, since a thing may be called "constructor". */
export type Counts = ReadonlyMap<string, Count>;

/** Adds one to each of these names. */
export function counted(counts: Counts, names: readonly string[], room: number): Counts {
  const next = new Map(counts);
  for (const name of names) {
    const known = next.get(name);
    if (known !== undefined) next.set(name, { count: known.count + 1, over: known.over });
    else if (next.size < room) next.set(name, { count: 1, over: 0 });
    else {
      const [least, { count }] = leastOf(next);
      next.delete(least);
      next.set(name, { count: count + 1, over: count });
    }
  }
  return next;
}

/** How often it was surely seen. */
export function surely({ count, over }: Count): number {
  return count - over;
}

function leastOf(counts: Counts): [name: string, count: Count] {
  let least: [string, Count] | undefined;
  for (const entry of counts) if (least === undefined || entry[1].count < least[1].count) least = entry;
  if (least === undefined) throw new RangeError("There is no room for anything.");
  return least;
}
