/**
 * The network: a transport per host, on which frames are lost, repeated, late and out of order.
 *
 * Owns the subscriptions of all hosts. Frames travel as bytes, within the bounds of a real network, so that hosts share
 * nothing by reference. Talks to the timeline and obeys the fault rates.
 *
 * Invariant: a frame is handed to whoever is subscribed when it arrives, on a host that its sender can reach then.
 */
import type { Transport } from "../../ports/index.ts";
import { decodeFrames, encodeFrames, type Frame } from "../../words/frames.ts";
import { limits } from "../../words/limits.ts";
import type { Faults } from "./faults.ts";
import type { Host } from "./host.ts";
import type { Owner } from "./timeline.ts";

interface Subscription {
  readonly host: Host;
  readonly handler: (frame: Frame) => void;
}

export class Network {
  /** A sender learns at once that nobody is subscribed, as in one process; otherwise it never learns it. */
  readonly knowsListeners: boolean;
  /** Frames that were sent and have not arrived. */
  underWay = 0;
  readonly #faults: Faults;
  readonly #subscriptions = new Map<string, Subscription[]>();
  /** For ordered delivery: when the last frame from a sender on a subject arrives. */
  readonly #lastArrival = new Map<string, number>();
  readonly #wire: Owner;

  constructor(faults: Faults, knowsListeners: boolean, wire: Owner) {
    this.#faults = faults;
    this.#wire = wire;
    this.knowsListeners = knowsListeners;
  }

  transportOf(host: Host): Transport {
    return {
      publish: (subject, frame) => this.#publish(host, subject, frame),
      subscribe: (subject, handler) => this.#subscribe(host, subject, handler),
    };
  }

  /** A host is gone: nobody listens there any more. */
  drop(host: Host): void {
    for (const [subject, list] of this.#subscriptions) {
      const left = list.filter((s) => s.host !== host);
      if (left.length === 0) this.#subscriptions.delete(subject);
      else this.#subscriptions.set(subject, left);
    }
  }

  #subscribe(host: Host, subject: string, handler: (frame: Frame) => void): () => void {
    const own: Subscription = { host, handler };
    this.#subscriptions.set(subject, [...(this.#subscriptions.get(subject) ?? []), own]);
    return () => {
      const left = (this.#subscriptions.get(subject) ?? []).filter((other) => other !== own);
      if (left.length === 0) this.#subscriptions.delete(subject);
      else this.#subscriptions.set(subject, left);
    };
  }

  #publish(host: Host, subject: string, frame: Frame): boolean {
    const faults = this.#faults;
    if (this.knowsListeners && !this.#subscriptions.has(subject)) return false;
    const [bytes] = encodeFrames([frame]) as [Uint8Array];
    host.timeline.mix(bytes.length);
    if (faults.strikes("frame lost", faults.rates.loss)) return true;
    this.#travel(host, subject, bytes, frame.kind);
    for (let copies = 0; copies < 3 && faults.strikes("frame repeated", faults.rates.repetition); copies++) {
      this.#travel(host, subject, bytes, frame.kind);
    }
    return true;
  }

  #travel(from: Host, subject: string, bytes: Uint8Array, kind: string): void {
    const { timeline } = from;
    let delay_ms = this.#faults.delay_ms();
    if (this.#faults.rates.ordered) {
      const way = `${from.number} ${subject}`;
      const arrival = Math.max(timeline.now + delay_ms, this.#lastArrival.get(way) ?? 0);
      this.#lastArrival.set(way, arrival);
      delay_ms = arrival - timeline.now;
    }
    this.underWay++;
    timeline.after(delay_ms, this.#wire, kind, () => {
      this.underWay--;
      this.#arrive(from, subject, bytes, kind);
    });
  }

  #arrive(from: Host, subject: string, bytes: Uint8Array, kind: string): void {
    const { timeline } = from;
    for (const subscription of this.#subscriptions.get(subject) ?? []) {
      const { host, handler } = subscription;
      if (!this.#faults.reaches(from.name, host.name)) {
        this.#faults.count("frame cut off");
        continue;
      }
      const [frame] = decodeFrames(bytes, limits.frameBytes) as [Frame];
      if (timeline.tracing) timeline.note(host, `< ${from.name} ${subject} ${describe(frame)}`);
      if (host.state === "up") handler(frame);
      else host.after(0, kind, () => handler(frame));
    }
  }
}

function describe(frame: Frame): string {
  return JSON.stringify(frame, (_, value: unknown) =>
    typeof value === "bigint" ? `${value}n` : value,
  ).slice(0, 400);
}
