/**
 * A pace: lets so many things a second through, and after a rest a few at once. A token bucket.
 *
 * Owns its count only. Reads no clock: it is told the monotonic time.
 *
 * Invariant: in any stretch of t seconds it lets no more than `perSecond * (t + BURST_S)` through, and one at least.
 */

/** How many seconds' worth may go at once after a rest. */
const BURST_S = 0.1;

export class Pace {
  readonly #perSecond: number;
  readonly #most: number;
  #tokens: number;
  #at_ms = Number.NEGATIVE_INFINITY;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#most = Math.max(1, perSecond * BURST_S);
    this.#tokens = this.#most;
  }

  /** Whether one more may go now. */
  take(now_ms: number): boolean {
    const since_ms = now_ms - this.#at_ms;
    if (since_ms > 0) {
      this.#tokens = Math.min(this.#most, this.#tokens + (since_ms * this.#perSecond) / 1_000);
      this.#at_ms = now_ms;
    }
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }

  /** Milliseconds until the next may go, counted from the last time that one asked. */
  get wait_ms(): number {
    return this.#tokens >= 1 ? 0 : ((1 - this.#tokens) * 1_000) / this.#perSecond;
  }
}
