/**
 * Drives virtual time while somebody waits for something, and lets it rest otherwise.
 *
 * Owns the one loop that runs the timeline's events. Talks to the timeline, which tells it when anything is scheduled, so
 * a test needs to do nothing but await its calls.
 *
 * Invariants:
 * 1. Events run, one after the other, as long as something is under way: a request without its answer, a turn without its
 *    commit, a message without its receiver, a condition that somebody waits for. Then the loop ends; heartbeats alone do
 *    not keep it going, and nothing of it keeps the process alive.
 * 2. While nothing moves but promises that actors have invoked, time stands still: they are of the real world and take
 *    their real time, up to `HOLD_MS`.
 * 3. What never comes to rest is given up after `EVENTS_MAX` events, with what was still moving. Requests in flight are
 *    bounded by their own deadlines.
 */
import { textOf } from "../../words/errors.ts";
import type { Prng } from "../simulator/prng.ts";
import { type Event, type Owner, Timeline } from "../simulator/timeline.ts";
import { TestFailure } from "./failure.ts";

/** Events without rest after which nobody believes in it any more. */
const EVENTS_MAX = 100_000;
/** Looking at every actor after every event would take most of the time. */
const LOOK_MS = 1;
/** So long the real world may take, real milliseconds. */
const HOLD_MS = 25_000;
/** Of this module's own: fake timers of a test runner must not hold it up. */
const soon = setImmediate;
/** Nothing that is waited for takes so long of the runtime's own time. */
const STRETCH_MS = 3_600_000;

/** A timeline that tells when something is scheduled. */
export class HeardTimeline extends Timeline {
  onScheduled: () => void = () => undefined;

  constructor(random: Prng) {
    super(random, false);
  }

  override after(delay_ms: number, owner: Owner, label: string, run: () => void): Event {
    const event = super.after(delay_ms, owner, label, run);
    this.onScheduled();
    return event;
  }
}

interface Waiter {
  readonly holds: () => boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class Driver {
  readonly #timeline: HeardTimeline;
  /** What is under way, or undefined; cheap things are looked at first. */
  readonly #unrest: () => string | undefined;
  /** Requests that wait for an answer. */
  readonly #inFlight: () => number;
  /** Whether promises of actors run, in the real world. */
  readonly #outside: () => boolean;
  #waiters: Waiter[] = [];
  #driving = false;
  #ended = false;
  /** Events that had run when it last seemed to get on. */
  #since = 0;
  #looked_ms = Number.NEGATIVE_INFINITY;
  #resting = false;
  #gaveUp = false;

  constructor(
    timeline: HeardTimeline,
    unrest: () => string | undefined,
    inFlight: () => number,
    outside: () => boolean,
  ) {
    this.#outside = outside;
    this.#timeline = timeline;
    this.#unrest = unrest;
    this.#inFlight = inFlight;
    timeline.onScheduled = () => this.#wake();
  }

  /** Runs until a condition holds; it is looked at after every event. */
  until(holds: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ holds, resolve, reject });
      this.#since = this.#timeline.count;
      this.#wake();
    });
  }

  /** Runs until nothing is under way. */
  rest(): Promise<void> {
    this.#looked_ms = Number.NEGATIVE_INFINITY;
    return this.until(() => this.#rests());
  }

  /** Runs until a promise of the virtual world is settled. */
  async settled<T>(promise: Promise<T>): Promise<T> {
    let open = true;
    const close = (): void => {
      open = false;
    };
    promise.then(close, close);
    await this.until(() => !open);
    return promise;
  }

  /** Nothing runs any more; who waits is told. */
  end(): void {
    this.#ended = true;
    this.#fail(new TestFailure("This test runtime was stopped."));
  }

  #wake(): void {
    if (this.#driving || this.#ended) return;
    this.#driving = true;
    this.#gaveUp = false;
    this.#since = this.#timeline.count;
    this.#drive().then(
      () => {
        this.#driving = false;
        // Somebody may have asked for something since the loop looked for the last time.
        if (this.#waiters.length > 0 || !(this.#gaveUp || this.#rests())) this.#wake();
      },
      (error: unknown) => {
        this.#driving = false;
        this.#fail(error);
      },
    );
  }

  async #drive(): Promise<void> {
    let held: number | undefined;
    while (!this.#ended) {
      const { now } = this.#timeline;
      await this.#timeline.run(() => this.#isDone(), STRETCH_MS);
      if (this.#gaveUp) return;
      if (this.#waiters.length === 0 && this.#rests()) return;
      if (this.#holds()) {
        held ??= performance.now();
        if (performance.now() - held > HOLD_MS)
          this.#giveUp("a promise that an actor has invoked does not end");
        await new Promise<void>((resolve) => soon(resolve));
        continue;
      }
      held = undefined;
      if (this.#timeline.now - now >= STRETCH_MS) this.#giveUp("nothing is scheduled any more");
    }
  }

  /** After every event: who got what they wait for, and whether there is anything left to do. */
  #isDone(): boolean {
    if (this.#ended || this.#gaveUp) return true;
    const open = this.#waiters.filter((waiter) => {
      const holds = waiter.holds();
      if (holds) waiter.resolve();
      return !holds;
    });
    if (open.length < this.#waiters.length) {
      // Whoever goes on now does so before the next event.
      this.#waiters = open;
      return true;
    }
    if (this.#inFlight() > 0) this.#since = this.#timeline.count;
    else if (this.#timeline.count - this.#since > EVENTS_MAX)
      this.#giveUp(this.#unrest() ?? "nothing, but what was waited for did not happen");
    return this.#gaveUp || (this.#waiters.length === 0 && this.#rests()) || this.#holds();
  }

  /** Whether nothing moves but what is outside. */
  #holds(): boolean {
    return this.#outside() && this.#inFlight() === 0 && this.#unrest() === undefined;
  }

  #giveUp(why: string): void {
    this.#gaveUp = true;
    this.#fail(
      new TestFailure(
        `The runtime did not come to rest at this time; what still moves: ${why}. Look for actors that send each other messages in a circle, and for timers without a delay that set themselves again.`,
      ),
    );
  }

  #rests(): boolean {
    if (this.#inFlight() > 0 || this.#outside()) return false;
    const { now } = this.#timeline;
    if (now - this.#looked_ms < LOOK_MS) return this.#resting;
    this.#looked_ms = now;
    this.#resting = this.#unrest() === undefined;
    return this.#resting;
  }

  #fail(error: unknown): void {
    const failure =
      error instanceof TestFailure
        ? error
        : new TestFailure(`The virtual world broke: ${textOf(error)}`, { cause: error });
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.reject(failure);
  }
}
