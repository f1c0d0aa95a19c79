/**
 * Many keys in one call.
 *
 * Owns how many of a call's writes and reads are under way at once: what is asked in one tick leaves in one frame a shard.
 * Talks to nobody.
 */
import { KeyturnError } from "../words/errors.ts";

const AT_ONCE = 2_048;

/**
 * What a caller gave as several.
 * @param what says what it should be
 * @throws KeyturnError `invalid_options` if it cannot be iterated
 */
export function listOf<T>(items: Iterable<T>, what: string): T[] {
  if (typeof (items as Partial<Iterable<T>> | null | undefined)?.[Symbol.iterator] === "function")
    return [...items];
  throw new KeyturnError("invalid_options", `${what}, not ${items === null ? "null" : typeof items}.`);
}

/** Runs a task for each item, so many at once; the first error ends it, once those under way are settled. */
export async function eachOf<T>(
  items: readonly T[],
  task: (item: T, place: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failed = false;
  const run = async (): Promise<void> => {
    while (next < items.length && !failed) {
      const place = next++;
      try {
        await task(items[place] as T, place);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const runs = await Promise.allSettled(Array.from({ length: Math.min(AT_ONCE, items.length) }, run));
  for (const result of runs) if (result.status === "rejected") throw result.reason;
}
