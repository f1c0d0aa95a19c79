/** What questions to many shards share: how one is asked, and how all are, some at once. */
import type { ShardAnswer, ShardQuery } from "../words/queries.ts";

/** Asks one shard about a type. */
export type AskShard = (
  shard: number,
  type: string,
  query: ShardQuery,
  timeout_ms: number | undefined,
) => Promise<ShardAnswer>;

/** Shards that are asked at once. */
const SHARDS_AT_ONCE = 256;

/** Runs a task for every shard, some at once. After one has failed none begins any more. */
export async function eachOf(shards: number, task: (shard: number) => Promise<void>): Promise<void> {
  let next = 0;
  const run = async (): Promise<void> => {
    while (next < shards) await task(next++);
  };
  try {
    await Promise.all(Array.from({ length: Math.min(shards, SHARDS_AT_ONCE) }, run));
  } finally {
    next = shards;
  }
}
