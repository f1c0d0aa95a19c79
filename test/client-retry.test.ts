/** The client's retries while nobody owns a shard, under a clock whose timers are early, as those of Node are. */
import { expect, test } from "vitest";
import { Call, Requests } from "../runtime/client/session.ts";
import type { Clock, Transport } from "../runtime/ports/index.ts";
import { placeOf } from "../runtime/words/address.ts";
import {
  Ask,
  CancelTimer,
  decodeFrames,
  encodeFrames,
  type Frame,
  Get,
  History,
  Query,
  type RequestKind,
} from "../runtime/words/frames.ts";
import { limits } from "../runtime/words/limits.ts";

/** Timers fire up to a millisecond early by the monotonic clock: Node counts whole milliseconds from a cached time. */
class EarlyClock implements Clock {
  time = 0;
  readonly #timers: { at: number; run: (() => void) | undefined }[] = [];

  now(): number {
    return this.time;
  }
  monotonic(): number {
    return this.time;
  }
  after(delay_ms: number, run: () => void): () => void {
    const timer = { at: this.time + Math.max(0, delay_ms - 0.7), run: run as (() => void) | undefined };
    this.#timers.push(timer);
    return () => {
      timer.run = undefined;
    };
  }
  defer(run: () => void): void {
    this.#timers.push({ at: this.time, run });
  }
  /** Runs everything that is due up to a time. */
  runTo(end: number): void {
    while (true) {
      this.#timers.sort((a, b) => a.at - b.at);
      const next = this.#timers[0];
      if (next === undefined || next.at > end) break;
      this.#timers.shift();
      this.time = Math.max(this.time, next.at);
      next.run?.();
    }
    this.time = end;
  }
}

class Wire implements Transport {
  owned = false;
  readonly sent: number[] = [];
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }
  publish(_subject: string, _frame: Frame): boolean {
    this.sent.push(this.#clock.monotonic());
    return this.owned;
  }
  subscribe(): () => void {
    return () => undefined;
  }
}

test("every retry is sent when its time comes, also if the timer was a little early", () => {
  const clock = new EarlyClock();
  const wire = new Wire(clock);
  const requests = new Requests("client", wire, clock, () => undefined);
  const to = { type: "probe", key: "a", id: "probe.a" };
  const call = new Call(
    Ask,
    to,
    { last: undefined },
    {},
    0,
    undefined,
    undefined,
    () => undefined,
    () => undefined,
  );
  requests.send(3, call, 60_000);
  clock.runTo(3_000);
  // 2, 4, 8 … 128, then every 200 ms; a try that is passed over would leave a gap of up to two seconds.
  const gaps = wire.sent.slice(1).map((at, n) => at - (wire.sent[n] as number));
  expect(Math.max(...gaps)).toBeLessThan(205);
  expect(wire.sent.length).toBeGreaterThan(18);
  wire.owned = true;
  clock.runTo(3_200);
  expect(wire.sent.at(-1)).toBeGreaterThan(3_000 - 1);
  requests.close();
});

test("a repeated frame can be read by whoever gets it, whatever in it is settled", () => {
  const clock = new EarlyClock();
  let receive: (frame: Frame) => void = () => undefined;
  const frames: Frame[] = [];
  const transport: Transport = {
    publish: (_subject, frame) => {
      frames.push(frame);
      return true;
    },
    subscribe: (_subject, handler) => {
      receive = handler;
      return () => undefined;
    },
  };
  const requests = new Requests("client", transport, clock, () => undefined);
  const actor = placeOf("probe", "a", 1);
  const shard = { type: "probe", key: "", id: "probe" };
  const ends = [() => undefined, () => undefined] as const;
  const kinds: RequestKind[] = [Ask, Query, Ask, Get, CancelTimer, Query, History];
  for (const kind of kinds) {
    const to = kind === Query ? shard : actor;
    requests.send(0, new Call(kind, to, { last: undefined }, {}, 0, undefined, undefined, ...ends), 60_000);
  }
  clock.runTo(1);
  // All but the first are answered; the frame that brings that one once more has their places.
  const replies = kinds.slice(1).map((_, at) => [0, at + 2, undefined, 1] as const);
  receive({ kind: "reply", from: "n", replies });
  clock.runTo(1_000);
  expect(frames.length).toBeGreaterThan(1);
  for (const frame of frames)
    for (const payload of encodeFrames([frame]))
      expect(decodeFrames(payload, limits.frameBytes, 1)).toMatchObject([
        { kind: "request", first: 1, requests: kinds.map(() => ({})) },
      ]);
  requests.close();
});
