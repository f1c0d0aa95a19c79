/**
 * A host: one simulated process, with clocks of its own.
 *
 * Owns the skew, the jumps and the speed of its clocks, and the order of what it defers. Talks to the timeline.
 *
 * Invariants:
 * 1. The monotonic clock never goes back and runs on while the host is paused; hosts run at slightly different speeds.
 * 2. Deferred callbacks of one host run in order, one by one; between hosts the order is drawn.
 */
import type { Clock, World } from "../../ports/index.ts";
import type { Prng } from "./prng.ts";
import type { Event, Owner, Timeline } from "./timeline.ts";

/** Wall clocks begin here: some day in 2033. */
const EPOCH_MS = 2_000_000_000_000;

export class Host implements Owner {
  readonly name: string;
  readonly number: number;
  readonly timeline: Timeline;
  readonly random: Prng;
  readonly world: World;
  readonly stalled: Event[] = [];
  state: Owner["state"] = "up";
  /** Milliseconds that the wall clock is off. */
  skew_ms: number;
  /** Local milliseconds per virtual millisecond. */
  readonly rate: number;
  readonly #origin_ms: number;
  /** Where the wall clock is somebody else's: it then moves only when they say so. */
  readonly #wallOf: (() => number) | undefined;
  readonly #deferred: (() => void)[] = [];
  #ticking = false;

  constructor(
    name: string,
    number: number,
    timeline: Timeline,
    random: Prng,
    skew_ms: number,
    drift: number,
    wallOf?: () => number,
  ) {
    this.name = name;
    this.number = number;
    this.timeline = timeline;
    this.random = random;
    this.skew_ms = skew_ms;
    this.rate = 1 + random.between(-drift, drift);
    this.#wallOf = wallOf;
    this.#origin_ms = random.between(0, 1_000_000);
    const clock: Clock = {
      now: () => this.wall,
      monotonic: () => this.#origin_ms + timeline.now * this.rate,
      after: (delay_ms, callback) => {
        const event = timeline.after(delay_ms / this.rate, this, "timer", callback);
        return () => {
          event.run = undefined;
        };
      },
      defer: (callback) => {
        this.#deferred.push(callback);
        this.#tick();
      },
    };
    this.world = { clock, random: { next: () => random.next(), id: () => random.id() } };
  }

  /** What its wall clock shows. */
  get wall(): number {
    return this.#wallOf?.() ?? Math.floor(EPOCH_MS + this.timeline.now + this.skew_ms);
  }

  get isUp(): boolean {
    return this.state !== "down";
  }

  /** Runs a callback on this host later. */
  after(delay_ms: number, label: string, run: () => void): Event {
    return this.timeline.after(delay_ms, this, label, run);
  }

  /** Ends the process: nothing of it ever runs again. */
  kill(): void {
    this.state = "down";
    this.stalled.length = 0;
  }

  pause(): void {
    if (this.state === "up") this.state = "paused";
  }

  resume(): void {
    this.timeline.resume(this);
  }

  #tick(): void {
    if (this.#ticking) return;
    this.#ticking = true;
    this.after(0, "deferred", () => {
      this.#ticking = false;
      const callback = this.#deferred.shift();
      if (this.#deferred.length > 0) this.#tick();
      callback?.();
    });
  }
}
