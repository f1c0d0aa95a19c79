/**
 * Replays what an actor's journal says that it took, one event after the other, through the plain machine.
 *
 * Owns nothing. Uses XState's own pure functions (`initialTransition`, `transition`), which run no action; see plain.ts
 * for why the engine's machine is not used.
 */
import { type AnyMachineSnapshot, type AnyStateMachine, initialTransition, transition } from "xstate";

/** What of a state can be compared. Tags follow from the value. */
export interface MachineState {
  readonly value: unknown;
  readonly context: unknown;
  readonly status: string;
  readonly output: unknown;
}

interface Wanted {
  readonly type: string;
  readonly params?: { readonly delay?: unknown; readonly event?: unknown };
}

export class Replay {
  readonly #machine: AnyStateMachine;
  #snapshot: AnyMachineSnapshot;
  /** Events that the machine sent to itself for later, so far. */
  readonly scheduled: unknown[] = [];

  constructor(machine: AnyStateMachine, input: { readonly type: string; readonly key: string }) {
    this.#machine = machine;
    const [snapshot, actions] = initialTransition(machine, input as never);
    this.#snapshot = snapshot as AnyMachineSnapshot;
    this.#note(actions as readonly Wanted[]);
  }

  get state(): MachineState {
    const { value, context, status, output } = this.#snapshot;
    return { value, context, status, output };
  }

  take(event: unknown): void {
    // An actor that is done takes nothing.
    if (this.#snapshot.status !== "active") return;
    const [snapshot, actions] = transition(this.#machine, this.#snapshot as never, event as never);
    this.#snapshot = snapshot as AnyMachineSnapshot;
    this.#note(actions as readonly Wanted[]);
  }

  #note(actions: readonly Wanted[]): void {
    for (const { type, params } of actions) {
      const later = type === "xstate.raise" && typeof params?.delay === "number";
      if (later || type === "xstate.sendTo") this.scheduled.push(params?.event);
    }
  }
}
