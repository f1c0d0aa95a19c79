/**
 * How often each caller may come: a token bucket each.
 *
 * Owns the buckets of those who came lately; one that would be full again is forgotten. There are at most
 * `BUCKETS` of them, and beyond that the one that was used longest ago goes, so that memory is bounded whoever calls.
 */
import type { RateLimit } from "./options.ts";
import { Refusal } from "./problem.ts";

const BUCKETS = 100_000;

interface Bucket {
  tokens: number;
  at_ms: number;
}

export class Rate {
  readonly #perMs: number;
  readonly #burst: number;
  readonly #buckets = new Map<string, Bucket>();

  constructor({ perSecond, burst = Math.max(1, perSecond) }: RateLimit) {
    this.#perMs = perSecond / 1_000;
    this.#burst = burst;
  }

  /**
   * Takes so much of a caller's allowance. What is more than a whole burst passes when the bucket is full, and is paid
   * for afterwards.
   * @param now_ms monotonic
   * @throws Refusal 429
   */
  take(caller: string, amount: number, now_ms: number): void {
    const bucket = this.#buckets.get(caller) ?? { tokens: this.#burst, at_ms: now_ms };
    this.#buckets.delete(caller);
    bucket.tokens = Math.min(this.#burst, bucket.tokens + (now_ms - bucket.at_ms) * this.#perMs);
    bucket.at_ms = now_ms;
    const needed = Math.min(amount, this.#burst);
    const allowed = bucket.tokens >= needed;
    if (allowed) bucket.tokens -= amount;
    for (const [oldest] of this.#buckets) {
      if (this.#buckets.size < BUCKETS) break;
      this.#buckets.delete(oldest);
    }
    this.#buckets.set(caller, bucket);
    if (allowed) return;
    const wait_s = Math.max(1, Math.ceil((needed - bucket.tokens) / this.#perMs / 1_000));
    throw new Refusal(
      429,
      "overloaded",
      `More than the ${this.#perMs * 1_000} requests a second that one caller may make.`,
      {
        "retry-after": String(wait_s),
      },
    );
  }
}
