/**
 * Waiting until what actors have told is committed by whom they told it.
 *
 * Owns nothing. Each shard is asked, and holds the question until it is so; a shard that moves is asked again where it
 * is. Talks to the client's request channels.
 */
import { forEach } from "../engine/concurrently.ts";
import type { Clock } from "../ports/index.ts";
import { isKeyturnError, KeyturnError } from "../words/errors.ts";
import type { AskShard } from "./shards.ts";

export interface Deliveries {
  /** A type that every node hosts; for whom it is. */
  readonly type: string;
  /** See lanes.ts. */
  readonly lane: number;
  /** Of the actors that told it. */
  readonly shards: readonly number[];
  /** How long to wait, milliseconds; 10,000 by default. */
  readonly timeout_ms?: number | undefined;
}

const TIMEOUT_MS = 10_000;
/** How long a shard holds a question; it may move meanwhile, and then nobody answers. */
const HOLD_MS = 1_000;
const ANSWER_MS = 5_000;
const SHARDS_AT_ONCE = 256;

/** @throws KeyturnError `timeout` if it takes longer, and what no repetition can cure */
export async function delivered(
  ask: AskShard,
  clock: Clock,
  { type, lane, shards, timeout_ms = TIMEOUT_MS }: Deliveries,
): Promise<void> {
  const end_ms = clock.monotonic() + timeout_ms;
  await forEach(shards, SHARDS_AT_ONCE, async (shard) => {
    for (let left_ms = timeout_ms; left_ms > 0; left_ms = end_ms - clock.monotonic()) {
      const hold_ms = Math.min(left_ms, HOLD_MS);
      const query = { ask: "delivered", limit: 1, lane, hold_ms } as const;
      try {
        const answer = await ask(shard, type, query, Math.min(left_ms, hold_ms + ANSWER_MS));
        if (answer.delivered === true) return;
      } catch (error) {
        if (!isKeyturnError(error) || !error.retryable) throw error;
      }
    }
    throw new KeyturnError(
      "timeout",
      `What was emitted has not reached "${type}" within ${timeout_ms} ms. It will, as soon as it can be delivered.`,
    );
  });
}
