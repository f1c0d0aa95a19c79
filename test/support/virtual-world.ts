/**
 * A world for tests: time moves only when the test says so, names count up.
 *
 * `defer` still goes through the event loop, so a promise that needs no time settles by itself; `advance` fires what
 * falls due, in order, and lets everything come to rest in between.
 */
import type { Clock, Random, World } from "../../runtime/ports/index.ts";

interface Alarm {
  readonly due: number;
  readonly order: number;
  readonly callback: () => void;
}

/** Rounds of the event loop without anything deferred after which nothing moves any more. */
const QUIET_ROUNDS = 3;

export class VirtualWorld implements World, Clock, Random {
  /** Of the wall clock; a test may let it jump. */
  wall_ms = Date.UTC(2030, 0, 1);
  #time = 0;
  #order = 0;
  #names = 0;
  #deferred = 0;
  readonly #alarms = new Set<Alarm>();

  get clock(): Clock {
    return this;
  }

  get random(): Random {
    return this;
  }

  now(): number {
    return this.wall_ms + this.#time;
  }

  monotonic(): number {
    return this.#time;
  }

  after(delay_ms: number, callback: () => void): () => void {
    const alarm = { due: this.#time + Math.max(0, delay_ms), order: this.#order++, callback };
    this.#alarms.add(alarm);
    return () => this.#alarms.delete(alarm);
  }

  defer(callback: () => void): void {
    this.#deferred++;
    setImmediate(() => {
      this.#deferred--;
      callback();
    });
  }

  next(): number {
    // Any fixed sequence does: nothing under test needs it to be random.
    return (Math.imul(++this.#names, 0x9e3779b1) >>> 0) / 0x1_0000_0000;
  }

  id(): string {
    return `v${++this.#names}`;
  }

  /** How long the last thing that is still to come takes, milliseconds. A process does not end before. */
  get rest_ms(): number {
    return Math.max(0, ...[...this.#alarms].map(({ due }) => due - this.#time));
  }

  /** Waits until nothing moves without time. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < QUIET_ROUNDS; ) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      quiet = this.#deferred === 0 ? quiet + 1 : 0;
    }
  }

  /** Lets time pass. */
  async advance(ms: number): Promise<void> {
    const end = this.#time + ms;
    await this.settle();
    while (this.#fireNext(end)) await this.settle();
    this.#time = end;
  }

  /** Lets time pass until a promise is settled, and gives its result. Fails after `limit_ms` of virtual time. */
  async run<T>(promise: Promise<T>, limit_ms = 120_000): Promise<T> {
    let open = true;
    const close = (): void => {
      open = false;
    };
    promise.then(close, close);
    const end = this.#time + limit_ms;
    await this.settle();
    while (open) {
      if (!this.#fireNext(end)) throw new Error(`Nothing came of it within ${limit_ms} ms of virtual time.`);
      await this.settle();
    }
    return promise;
  }

  /** Fires everything of the next moment that has an alarm. */
  #fireNext(end: number): boolean {
    let due = Number.POSITIVE_INFINITY;
    for (const alarm of this.#alarms) due = Math.min(due, alarm.due);
    if (due > end) return false;
    this.#time = Math.max(this.#time, due);
    const firing = [...this.#alarms].filter((alarm) => alarm.due <= due);
    for (const alarm of firing.sort((a, b) => a.due - b.due || a.order - b.order)) {
      if (this.#alarms.delete(alarm)) alarm.callback();
    }
    return true;
  }
}
