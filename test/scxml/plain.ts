/**
 * The plain subject: the converted machine in an XState actor of its own, never restarted.
 *
 * Owns a clock that moves when the script says so. Talks to XState alone.
 */
import { type Actor, type AnyMachineSnapshot, type AnyStateMachine, createActor } from "xstate";
import type { MachineEvent } from "./content.ts";
import { basicStates, type Observation, type Subject } from "./cases.ts";

/**
 * Fires what is due, one at a time in the order of due times. (XState's SimulatedClock moves to the end of a wait first:
 * a timer that another one sets would be late.)
 */
class SteppedClock {
  #now = 0;
  #id = 0;
  readonly #timeouts = new Map<number, { due: number; fire: () => void }>();

  setTimeout(fire: () => void, timeout: number): number {
    this.#timeouts.set(++this.#id, { due: this.#now + timeout, fire });
    return this.#id;
  }

  clearTimeout(id: number): void {
    this.#timeouts.delete(id);
  }

  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const [next] = [...this.#timeouts].sort(([a, one], [b, other]) => one.due - other.due || a - b);
      if (next === undefined || next[1].due > end) break;
      this.#timeouts.delete(next[0]);
      this.#now = next[1].due;
      next[1].fire();
    }
    this.#now = end;
  }
}

export class PlainSubject implements Subject {
  readonly #clock = new SteppedClock();
  readonly #actor: Actor<AnyStateMachine>;

  /** Throws what the machine throws at its start. */
  constructor(machine: AnyStateMachine) {
    this.#actor = createActor(machine, { clock: this.#clock as never, logger: () => undefined });
    // Without somebody who listens XState throws a machine's error out of a timer of the process.
    this.#actor.subscribe({ error: () => undefined });
    this.#actor.start();
    this.#check();
  }

  async send(event: MachineEvent): Promise<void> {
    this.#actor.send(event);
    this.#check();
  }

  async wait(ms: number): Promise<void> {
    this.#clock.advance(ms);
    this.#check();
  }

  async look(): Promise<Observation> {
    const { value, status, context, output } = this.#actor.getSnapshot() as AnyMachineSnapshot;
    return { states: basicStates(value), status, context, output };
  }

  async restart(): Promise<void> {
    // Plain is what is never restarted.
  }

  stop(): void {
    this.#actor.stop();
  }

  #check(): void {
    const { status, error } = this.#actor.getSnapshot() as AnyMachineSnapshot;
    if (status === "error") throw error;
  }
}
