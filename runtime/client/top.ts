/**
 * The actors of a type with the highest numbers at a path of its index.
 *
 * Owns the merge: each shard gives its own best, and is asked for more only as long as what it gave last could be followed by
 * one that is wanted. Talks to the shards as find does, and sees what was acknowledged before each was asked.
 */
import { compareKeys } from "../words/address.ts";
import { limits } from "../words/limits.ts";
import type { FoundRow, ShardQuery } from "../words/queries.ts";
import { type AskShard, eachOf } from "./shards.ts";

interface Candidate {
  readonly key: string;
  readonly value: number;
}

/** What of one shard was read. */
interface Part {
  readonly shard: number;
  /** The last of them, if there are more. */
  last: Candidate | undefined;
}

/** More than its share, since some shards have more of the best than others. */
const SPARE = 8;

/**
 * Keys in order, highest first; of equal ones the first by key.
 * @throws KeyturnError `invalid_options` if the path is not in the type's index
 */
export async function topKeys(
  ask: AskShard,
  shards: number,
  type: string,
  by: string,
  count: number,
  timeout_ms: number | undefined,
): Promise<readonly string[]> {
  const limit = Math.min(count, limits.queryPage, 2 * Math.ceil(count / shards) + SPARE);
  const found = new Map<string, number>();
  let best: readonly Candidate[] = [];
  let open: Part[] = Array.from({ length: shards }, (_, shard) => ({ shard, last: undefined }));
  while (open.length > 0) {
    const asked = open;
    await eachOf(asked.length, async (at) => {
      const part = asked[at] as Part;
      const query: ShardQuery = {
        ask: "top",
        by,
        limit,
        ...(part.last === undefined ? {} : { behind: [part.last.value, part.last.key] as const }),
      };
      const { paths = [], found: rows = [], next } = await ask(part.shard, type, query, timeout_ms);
      const place = paths.indexOf(by);
      for (const row of rows) found.set(row[0], valueIn(row, place));
      const last = rows.at(-1);
      part.last =
        next === undefined || last === undefined ? undefined : { key: last[0], value: valueIn(last, place) };
    });
    best = Array.from(found, ([key, value]) => ({ key, value }))
      .sort(inOrder)
      .slice(0, count);
    const worst = best.length < count ? undefined : best.at(-1);
    open = asked.filter(
      ({ last }) => last !== undefined && (worst === undefined || inOrder(last, worst) < 0),
    );
  }
  return best.map(({ key }) => key);
}

function valueIn([, , , , , , fields]: FoundRow, place: number): number {
  return fields[place] as number;
}

function inOrder(a: Candidate, b: Candidate): number {
  return a.value === b.value ? compareKeys(a.key, b.key) : a.value > b.value ? -1 : 1;
}
