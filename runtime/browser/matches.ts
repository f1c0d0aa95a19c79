/** Whether an actor stands in a state: as `snapshot.matches` of XState, for states that came as plain data. */
import type { SnapshotFrom, StateValue } from "xstate";
import type { Machine } from "../engine/machine.ts";

/** What can be asked of a machine's states: a name, or an object of names by region. */
export type StateTest<M extends Machine> =
  SnapshotFrom<M> extends { matches(test: infer T): boolean } ? T : StateValue;

/**
 * Whether a state is the one that is asked about, or within it.
 * @param test `"waiting"`, `{ waiting: "payment" }`, or by path `"waiting.payment"`
 * @param value of an actor's state
 */
export function matchesState(test: StateValue, value: StateValue | undefined): boolean {
  if (value === undefined) return false;
  if (typeof test === "string") return matchesName(test, value);
  if (typeof value === "string") return false;
  return Object.entries(test).every(
    ([name, inner]) =>
      inner !== undefined && Object.hasOwn(value, name) && matchesState(inner, value[name] as StateValue),
  );
}

/** A name may have dots of its own; that is tried before it is taken for a path. */
function matchesName(test: string, value: StateValue): boolean {
  if (typeof value === "string") return test === value;
  if (Object.hasOwn(value, test)) return true;
  for (let dot = test.indexOf("."); dot >= 0; dot = test.indexOf(".", dot + 1)) {
    const name = test.slice(0, dot);
    if (Object.hasOwn(value, name) && matchesName(test.slice(dot + 1), value[name] as StateValue))
      return true;
  }
  return false;
}
