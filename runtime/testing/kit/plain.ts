/**
 * The plain machine: the same machine in XState's own actor, with no runtime around it. What a durable actor must be
 * like.
 *
 * Owns the clock that its timers run by. This and replay.ts are the files outside of the engine's machine that import
 * XState at run time (and paths.ts `xstate/graph`): what is compared with the engine must not be built out of it.
 */
import { type AnyActor, type AnyStateMachine, createActor } from "xstate";
import type { MachineState } from "./replay.ts";

interface Alarm {
  readonly due: number;
  readonly order: number;
  readonly run: () => void;
}

/** Fires everything at exactly its time, in order, also what is set meanwhile. */
class PlainClock {
  now: number;
  readonly #alarms = new Map<number, Alarm>();
  #count = 0;

  constructor(now: number) {
    this.now = now;
  }

  setTimeout(run: (...args: unknown[]) => void, delay_ms: number): number {
    const order = ++this.#count;
    this.#alarms.set(order, { due: this.now + delay_ms, order, run });
    return order;
  }

  clearTimeout(id: unknown): void {
    this.#alarms.delete(id as number);
  }

  moveTo(time: number): void {
    for (let next = this.#next(); next !== undefined && next.due <= time; next = this.#next()) {
      this.now = Math.max(this.now, next.due);
      this.#alarms.delete(next.order);
      next.run();
    }
    this.now = Math.max(this.now, time);
  }

  #next(): Alarm | undefined {
    let first: Alarm | undefined;
    for (const alarm of this.#alarms.values())
      if (first === undefined || alarm.due < first.due) first = alarm;
    return first;
  }
}

export class PlainActor {
  readonly #clock: PlainClock;
  readonly #actor: AnyActor;
  /** What it threw; an XState actor is over then. */
  failure: { readonly error: unknown } | undefined;

  constructor(machine: AnyStateMachine, input: { readonly type: string; readonly key: string }, now: number) {
    this.#clock = new PlainClock(now);
    const clock = {
      setTimeout: (run: (...args: unknown[]) => void, delay_ms: number) =>
        this.#clock.setTimeout(run, delay_ms),
      clearTimeout: (id: unknown) => this.#clock.clearTimeout(id),
    };
    this.#actor = createActor(machine, { input, clock, logger: () => undefined });
    this.#actor.subscribe({
      error: (error: unknown) => {
        this.failure = { error };
      },
    });
    this.#actor.start();
  }

  get state(): MachineState {
    const { value, context, status, output } = this.#actor.getSnapshot() as MachineState;
    return { value, context, status, output };
  }

  send(event: { readonly type: string }): void {
    this.#actor.send(event);
  }

  /** Lets time pass up to a moment. */
  moveTo(time: number): void {
    this.#clock.moveTo(time);
  }

  stop(): void {
    this.#actor.stop();
  }
}
