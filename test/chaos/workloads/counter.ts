/**
 * Counters, one in every shard: asked by a client that always finds out what became of its request, so that the final
 * count is known exactly; by clients that are cut off and give up; and in JSON by one that is not ours.
 *
 * The first is also the probe: for how long an ask waits is how long its shard was away.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../../../runtime/index.ts";
import {
  checkCounter,
  type CounterInput,
  HistoryRecorder,
  partitionByKey,
} from "../../../runtime/testing/checkers/index.ts";
import { resultOf } from "../../../runtime/testing/simulator/index.ts";
import { shardOf } from "../../../runtime/words/address.ts";
import { counter } from "../actors.ts";
import {
  type ChaosContext,
  type ChaosWorkload,
  linesOf,
  now,
  OPERATIONS_MAX,
  operate,
  pause,
  readAll,
} from "./workload.ts";

const NAME = "counter";
const SHARDS = 64;
const PROBE_MS = 200;
const PROBE_TIMEOUT_MS = 15_000;

export function counters(context: ChaosContext): ChaosWorkload {
  const { random, clients, steady, meter } = context;
  const keys = keyOfEveryShard();
  const history = new HistoryRecorder<CounterInput, number>({ operationsMax: OPERATIONS_MAX });
  let final = new Map<string, number>();
  let requests = 0;

  /** Asks until the outcome is known: with the same id it is applied once. Without `again` it asks once, without one. */
  const settle = async (
    process: string,
    key: string,
    by: number,
    ask: (by: number, requestId: string | undefined) => Promise<number>,
    again = true,
  ): Promise<void> => {
    const requestId = again ? `${process}-${++requests}` : undefined;
    const handle = history.begin(process, key, { type: "add", amount: by }, now());
    while (true) {
      const result = await resultOf(ask(by, requestId));
      if (result.outcome === "ok") {
        history.ok(handle, result.value, now());
        meter.count(NAME, "ok");
        return;
      }
      meter.count(NAME, result.outcome, result.error.code);
      if (!result.error.retryable || !again) {
        history[result.outcome](handle, result.error.code, now());
        return;
      }
      await sleep(20);
    }
  };

  const probe = (key: string) => async (): Promise<void> => {
    const ref = steady.actor(counter, key);
    await pause(context, random.between(0, PROBE_MS));
    while (!context.ending) {
      const asked_ms = now();
      await settle(`probe ${key}`, key, 1, (by, requestId) =>
        ref.ask({ type: "add", by }, { requestId, timeout_ms: PROBE_TIMEOUT_MS }),
      );
      meter.answered(asked_ms, now());
      await pause(context, PROBE_MS * random.between(0.5, 1.5));
    }
  };

  const hasty = (name: string, client: Client) => async (): Promise<void> => {
    while (!context.ending) {
      const key = random.pick(keys);
      const input: CounterInput = random.chance(0.3)
        ? { type: "read" }
        : { type: "add", amount: random.whole(1, 9) };
      const options = { timeout_ms: Math.round(random.logarithmic(50, 5_000)) };
      const ref = client.actor(counter, key);
      const handle = history.begin(name, key, input, now());
      const call =
        input.type === "read"
          ? ref.get(options).then(({ context: { count } }) => count)
          : ref.ask({ type: "add", by: input.amount }, options);
      const result = await operate(context, NAME, call);
      if (result.outcome === "ok") history.ok(handle, result.value, now());
      else history[result.outcome](handle, result.error.code, now());
      await pause(context, random.logarithmic(5, 100));
    }
  };

  const plain = async (): Promise<void> => {
    while (!context.ending) {
      const key = random.pick(keys);
      const ask = async (by: number, requestId: string | undefined): Promise<number> => {
        const event = JSON.stringify({ type: "add", by });
        const answer = await context.plain(`keyturn.actor.counter.${key}`, event, requestId);
        return (JSON.parse(answer) as { value: number }).value;
      };
      await settle("plain", key, 1, ask, random.chance(0.5));
      await pause(context, random.logarithmic(20, 200));
    }
  };

  return {
    name: NAME,
    processes: [...keys.map(probe), ...clients.map((client, at) => hasty(`hasty ${at}`, client)), plain],
    async finals() {
      const found = await readAll(keys, async (key, timeout_ms) => {
        const { count } = (await steady.actor(counter, key).get({ timeout_ms })).context;
        return count;
      });
      final = found;
      return new Map([...found].map(([key, count]) => [key, `${count}`]));
    },
    check() {
      const operations = history.operations();
      const byKey = partitionByKey(operations);
      const unknown = operations.filter(({ outcome }) => outcome === "unknown").length;
      return [
        {
          promise: "counters hold what was acknowledged, once, give or take the unknown",
          scope: `${operations.length} operations, ${keys.length} keys, ${unknown} unknown to the end`,
          violations: checkCounter(operations, final).map(({ key, message }) => ({
            key,
            message,
            history: linesOf(byKey.get(key) ?? []),
          })),
        },
      ];
    },
  };
}

/** A key in each shard. */
function keyOfEveryShard(): string[] {
  const keys = new Map<number, string>();
  for (let at = 0; keys.size < SHARDS; at++) {
    const shard = shardOf("counter", `c${at}`, SHARDS);
    if (!keys.has(shard)) keys.set(shard, `c${at}`);
  }
  return [...keys.values()];
}
