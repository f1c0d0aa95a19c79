/**
 * Virtual time: the queue of events, and the loop that runs them one after the other.
 *
 * Owns the current time, the events to come and the trace. Talks to nobody: who acts at which time is handed in as a
 * callback on a host (see host.ts).
 *
 * Invariants:
 * 1. Events run in the order of (time, seeded tie, order of scheduling). After each one every promise that it settled
 *    has run to its end: one turn of the real event loop per event drains the microtasks.
 * 2. Events of a host that is down never run; those of a paused host run when it is resumed, in their order.
 * 3. The trace hash covers every event that ran. Two runs of a seed have equal hashes or the simulator is broken.
 */
import type { Prng } from "./prng.ts";

/** Who an event belongs to. */
export interface Owner {
  readonly name: string;
  /** Distinguishes hosts of one name in the trace. */
  readonly number: number;
  state: "up" | "paused" | "down";
  readonly stalled: Event[];
}

export interface Event {
  at: number;
  readonly tie: number;
  readonly order: number;
  readonly owner: Owner;
  readonly label: string;
  /** Undefined once cancelled. */
  run: (() => void) | undefined;
}

/** The real one, also where a test puts fake timers in its place later. */
const { setImmediate: soon } = globalThis;

/** Lines kept of the trace, for the report of a violation. */
const TAIL_LINES = 400;

export class Timeline {
  /** Virtual milliseconds since the run began. */
  now = 0;
  /** Events run so far. */
  count = 0;
  /** Set to hear every line of the trace. */
  listener: ((line: string) => void) | undefined;
  /** Keep a tail of the trace; costs time, so only a replay does it. */
  readonly tracing: boolean;
  readonly #random: Prng;
  readonly #tail: string[] = [];
  readonly #heap: Event[] = [];
  #order = 0;
  #hash = 0x811c9dc5;

  constructor(random: Prng, tracing: boolean) {
    this.#random = random;
    this.tracing = tracing;
  }

  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, "0");
  }

  get tail(): readonly string[] {
    return this.#tail;
  }

  /** Runs a callback on a host so many milliseconds from now. */
  after(delay_ms: number, owner: Owner, label: string, run: () => void): Event {
    const event: Event = {
      at: this.now + Math.max(0, delay_ms),
      tie: this.#random.word(),
      order: this.#order++,
      owner,
      label,
      run,
    };
    this.#push(event);
    return event;
  }

  /** Writes into the trace. */
  note(owner: Owner, text: string): void {
    if (!this.tracing) return;
    const line = `${this.now.toFixed(3).padStart(12)} ${owner.name}#${owner.number} ${text}`;
    this.#tail.push(line);
    if (this.#tail.length > TAIL_LINES) this.#tail.shift();
    this.listener?.(line);
  }

  /** Adds a number to the trace hash. */
  mix(value: number): void {
    this.#hash = Math.imul(this.#hash ^ value, 0x01000193);
  }

  /** Lets a paused host go on: what it missed runs now, in order. */
  resume(owner: Owner): void {
    if (owner.state !== "paused") return;
    owner.state = "up";
    for (const event of owner.stalled.splice(0)) {
      event.at = this.now;
      this.#push(event);
    }
  }

  /**
   * Runs events until the condition holds or so much virtual time has passed.
   * @returns whether the condition held
   */
  async run(until: () => boolean, limit_ms: number): Promise<boolean> {
    const end = this.now + limit_ms;
    await drained();
    while (!until()) {
      const event = this.#heap[0];
      if (event === undefined || event.at > end) {
        this.now = Math.max(this.now, end);
        return until();
      }
      this.#pop();
      if (event.run === undefined) continue;
      this.now = event.at;
      const { owner } = event;
      if (owner.state === "down") continue;
      if (owner.state === "paused") {
        owner.stalled.push(event);
        continue;
      }
      this.count++;
      this.mix(event.at * 4096);
      this.mix(owner.number);
      this.mix(event.label.length);
      if (this.tracing) this.note(owner, event.label);
      event.run();
      await drained();
    }
    return true;
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = heap[up] as Event;
      if (!isBefore(event, parent)) break;
      heap[at] = parent;
      at = up;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Event;
    if (heap.length === 0) return;
    let at = 0;
    while (true) {
      let down = 2 * at + 1;
      if (down >= heap.length) break;
      if (down + 1 < heap.length && isBefore(heap[down + 1] as Event, heap[down] as Event)) down++;
      if (!isBefore(heap[down] as Event, last)) break;
      heap[at] = heap[down] as Event;
      at = down;
    }
    heap[at] = last;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.at - b.at < 0 || (a.at === b.at && (a.tie - b.tie || a.order - b.order) < 0);
}

/** Everything that was promised and is settled has run when this resolves. No other macrotask exists in a run. */
function drained(): Promise<void> {
  return new Promise((resolve) => void soon(resolve));
}
