/** Steps of machines without an engine. */
import { type AnyStateMachine, createMachine } from "xstate";
import { KeyturnError } from "../../runtime/index.ts";
import { type Effects, MachineHost, type MachineSnapshot, type Timer } from "../../runtime/engine/machine.ts";

export const NOW = 1_000_000;

/** Steps a machine from its beginning and gives copies of what the last step wanted. */
export function stepped(
  machine: AnyStateMachine,
  ...events: { type: string }[]
): { snapshot: MachineSnapshot; effects: Effects } {
  const host = new MachineHost("test", machine);
  let { snapshot, effects } = host.start("k", 1, NOW);
  let timers: readonly Timer[] = effects.timers;
  events.forEach((event, at) => {
    ({ snapshot, effects } = host.step(snapshot, event, timers, at + 1, NOW, at === 0));
    timers = effects.timers;
  });
  return { snapshot, effects: { ...effects } };
}

export function refusal(run: () => unknown): KeyturnError {
  try {
    run();
  } catch (error) {
    if (error instanceof KeyturnError) return error;
    throw error;
  }
  throw new Error("It was not refused.");
}

/** A machine that does some actions on `go`. */
export function doing(
  actions: unknown,
  context: Record<string, unknown> = { list: [1, 2], deep: { a: { n: 1 } } },
): AnyStateMachine {
  return createMachine({ context, on: { go: { actions: actions as never } } });
}
