/** Events played on a machine host and on a plain XState actor, whose states must be the same after each. */
import { type AnyStateMachine, createActor, type EventObject } from "xstate";
import { expect } from "vitest";
import { MachineHost, type MachineState, persist, type Timer } from "../../runtime/engine/machine.ts";
import { pathOf } from "../../runtime/engine/machine/family.ts";
import { shownState } from "../../runtime/engine/outgoing.ts";
import { decode, encode } from "../../runtime/words/codec.ts";

export const NOW = 1_000_000;

/** Plays events on the machine host; between any two of them everything is stored, read back and restored. */
function durable(machine: AnyStateMachine, events: readonly EventObject[], restored = true): unknown[] {
  const host = new MachineHost("test", machine);
  let { snapshot, effects } = host.start("k", 1, NOW, undefined);
  const states = [shownState(snapshot, 0, 0)];
  let timers: readonly Timer[] = effects.timers;
  for (const [at, event] of events.entries()) {
    if (restored) snapshot = host.restore(decode(encode(persist(snapshot))) as MachineState);
    ({ snapshot, effects } = host.step(snapshot, event, timers, at + 2, NOW));
    timers = effects.timers;
    states.push(shownState(snapshot, 0, 0));
  }
  return states;
}

/** The same on a plain XState actor. */
function plain(machine: AnyStateMachine, events: readonly EventObject[]): unknown[] {
  const actor = createActor(machine, { id: "test" }).start();
  const seen = (): unknown => {
    const { value, context, status, output, children } = actor.getSnapshot();
    // At once: XState's actors change.
    return comparable([{ value, context, status, output, children }])[0];
  };
  const states = [seen()];
  for (const event of events) {
    actor.send(event);
    states.push(seen());
  }
  return states;
}

type Snap = {
  value: unknown;
  context: unknown;
  status: string;
  output: unknown;
  children?: Record<string, unknown>;
};

/** What can be compared: children by id with their states; references by the id of whom they are of. */
function comparable(states: readonly unknown[]): unknown[] {
  const data = (value: unknown): unknown => {
    if (typeof value !== "object" || value === null) return value;
    if ("sessionId" in value && "send" in value) return { ref: (value as unknown as { id: string }).id };
    if ("xstate$$type" in value) return { ref: (value as unknown as { id: string }).id };
    if (Array.isArray(value)) return value.map(data);
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, data(inner)]));
  };
  return states.map((state) => {
    const { value, context, status, output, children = {} } = state as Snap;
    const flat: Record<string, unknown> = {};
    const add = (path: string, child: unknown): void => {
      const live = "getSnapshot" in (child as object);
      const snapshot = (live ? (child as { getSnapshot(): Snap }).getSnapshot() : child) as Snap;
      const { value, context, status, output } = snapshot;
      flat[path] = data({ value, context, status, output });
      // Plain XState nests them; ours come as a flat list already.
      if (live)
        for (const [id, inner] of Object.entries(snapshot.children ?? {})) add(pathOf(path, id), inner);
    };
    for (const [id, child] of Object.entries(children)) add(id, child);
    return { value, context: data(context), status, output: data(output), children: flat };
  });
}

/** Compares each state on the way; on the host without, and with, storing it in between. */
export function expectSame(machine: AnyStateMachine, types: readonly (string | EventObject)[]): void {
  const events = types.map((type) => (typeof type === "string" ? { type } : type));
  const expected = plain(machine, events);
  expect(comparable(durable(machine, events, false))).toEqual(expected);
  expect(comparable(durable(machine, events))).toEqual(expected);
}
