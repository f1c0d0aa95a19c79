/**
 * Load of the end-to-end tests: counters, one in every shard, added to without a break.
 *
 * Owns the history of what was asked. An ask waits as long as the client waits by default, and is made once: what fails,
 * failed for a user too.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { counter } from "../../actors/index.ts";
import { type Client, type ConnectedClient, KeyturnError, shardOf } from "../../runtime/index.ts";
import {
  assertLinearizable,
  checkCounter,
  type CounterInput,
  counterModel,
  HistoryRecorder,
} from "../../runtime/testing/checkers/index.ts";

const SHARDS = 64;
/** Between two asks of one key. */
const PAUSE_MS = 40;

export class Load {
  /** Codes of the asks that failed, or of which it is not known what became. */
  readonly failures: string[] = [];
  /** Longest time from an ask to its answer since `mark`. */
  longest_ms = 0;
  readonly #client: Client;
  readonly #keys = keyOfEveryShard();
  readonly #history = new HistoryRecorder<CounterInput, number>();
  readonly #answers = new Map<string, number>();
  readonly #waiting = new Set<() => void>();
  readonly #running: Promise<unknown>;
  #ending = false;

  constructor(client: ConnectedClient) {
    this.#client = client;
    this.#running = Promise.all(this.#keys.map((key) => this.#add(key)));
  }

  /** Begins to measure. */
  mark(): void {
    this.longest_ms = 0;
    this.failures.length = 0;
  }

  /** Resolves when an ask that was made from now on has been answered in every shard. */
  onwards(): Promise<void> {
    // Of a key's asks the next answer may be of one that is on its way; the one after it is not.
    const wanted = new Map(this.#keys.map((key) => [key, (this.#answers.get(key) ?? 0) + 2]));
    return new Promise((resolve) => {
      const look = (): void => {
        for (const [key, count] of wanted) if ((this.#answers.get(key) ?? 0) >= count) wanted.delete(key);
        if (wanted.size > 0) return;
        this.#waiting.delete(look);
        resolve();
      };
      this.#waiting.add(look);
      look();
    });
  }

  /** Ends it, and checks all that was asked: linearizable, and the counts are what was acknowledged. */
  async end(): Promise<number> {
    this.#ending = true;
    await this.#running;
    const final = new Map<string, number>();
    for (const key of this.#keys) {
      const { count } = (await this.#client.actor(counter, key).get()).context;
      final.set(key, count);
      const handle = this.#history.begin("final", key, { type: "read" }, performance.now());
      this.#history.ok(handle, count, performance.now());
    }
    const operations = this.#history.operations();
    const violations = checkCounter(operations, final);
    if (violations.length > 0) throw new Error(violations.map(({ message }) => message).join("\n"));
    assertLinearizable(operations, counterModel());
    return operations.length;
  }

  async #add(key: string): Promise<void> {
    const ref = this.#client.actor(counter, key);
    await sleep(Math.random() * PAUSE_MS);
    while (!this.#ending) {
      const from_ms = performance.now();
      const handle = this.#history.begin(key, key, { type: "add", amount: 1 }, from_ms);
      try {
        const count = await ref.ask({ type: "add", by: 1 }, { requestId: randomUUID() });
        this.#history.ok(handle, count, performance.now());
        this.longest_ms = Math.max(this.longest_ms, performance.now() - from_ms);
        this.#answers.set(key, (this.#answers.get(key) ?? 0) + 1);
      } catch (error) {
        if (!(error instanceof KeyturnError)) throw error;
        this.failures.push(error.code);
        this.#history[error.outcome === "unknown" ? "unknown" : "failed"](
          handle,
          error.code,
          performance.now(),
        );
      }
      for (const look of [...this.#waiting]) look();
      await sleep(PAUSE_MS);
    }
  }
}

function keyOfEveryShard(): readonly string[] {
  const keys = new Map<number, string>();
  for (let at = 0; keys.size < SHARDS; at++) {
    const key = `key ${at}`;
    const shard = shardOf("counter", key, SHARDS);
    if (!keys.has(shard)) keys.set(shard, key);
  }
  return [...keys.values()];
}
