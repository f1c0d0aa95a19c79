/**
 * Snapshots of a machine as plain data, and back.
 *
 * Owns the form in which a state is stored (`MachineState`; its children: family.ts). Talks to XState's nodes.
 *
 * Invariant: a restored snapshot is in the very states that were stored, or nothing is restored.
 */
import type { StateValue } from "xstate";
import { KeyturnError, textOf } from "../../words/errors.ts";
import { seal } from "../../words/values.ts";
import { familyOf, historyOf, type PackedChild, type PackedMachine, packMachine } from "./family.ts";
import type { Machine, MachineSnapshot } from "./internals.ts";
import { settle } from "./planned.ts";

/** A snapshot as plain data. `history` maps history nodes to state node ids. */
export interface MachineState {
  readonly value: StateValue;
  readonly context: Readonly<Record<string, unknown>>;
  readonly status: MachineSnapshot["status"];
  readonly output: unknown;
  readonly history: Readonly<Record<string, readonly string[]>> | undefined;
  /** Why it failed, for the status "error": an error of a child that the machine did not handle. */
  readonly error?: unknown;
  /** The actors that it has invoked and spawned, parents first. */
  readonly children?: readonly PackedChild[] | undefined;
}

/** A snapshot as plain data. */
export function persist(snapshot: MachineSnapshot): MachineState {
  const family = familyOf(snapshot);
  if (family === undefined && snapshot.error === undefined) {
    return {
      value: snapshot.value,
      context: snapshot.context,
      status: snapshot.status,
      output: snapshot.output,
      history: historyOf(snapshot),
    };
  }
  const [value, context, status, output, history, error] = packMachine(snapshot);
  return { value, context, status, output, history: history ?? undefined, error, children: family?.pack() };
}

/** A snapshot without children. Throws if the machine has no such state. */
export function resolveSnapshot(type: string, machine: Machine, packed: PackedMachine): MachineSnapshot {
  const [value, context, status, output, history, error] = packed;
  seal(context, "context");
  const historyValue: Record<string, unknown> = {};
  for (const [node, ids] of Object.entries(history ?? {}))
    historyValue[node] = ids.map((id) => nodeOf(machine, id));
  const config = { value, context, status, output, error, historyValue };
  const snapshot = machine.resolveState(config as never) as MachineSnapshot;
  // XState fills in initial states where the machine has become deeper; nobody has entered those.
  if (!sameValue(snapshot.value, value)) throw incompatible(type, value, undefined);
  // XState takes it for done where its nodes are final; it may have failed before.
  (snapshot as { status: string }).status = status;
  settle(snapshot);
  share(snapshot, undefined);
  return snapshot;
}

export function incompatible(type: string, value: StateValue, cause: unknown): KeyturnError {
  const why = cause === undefined ? "" : ` (${textOf(cause)})`;
  return new KeyturnError(
    "incompatible_snapshot",
    `The stored state ${JSON.stringify(value)} of a "${type}" is not a state of its machine${why}. ` +
      "Deploy a machine that has it, or a migration.",
    { cause },
  );
}

const noTags: Set<string> = new Set();

/** XState builds tags and value anew for every snapshot. Shared, an actor takes two thirds of the memory. */
export function share(next: MachineSnapshot, before: MachineSnapshot | undefined): void {
  if (next.tags.size === 0) next.tags = noTags;
  if (before === undefined || next === before || !sameStates(next, before)) return;
  next.tags = before.tags;
  next.value = before.value;
}

function sameValue(a: StateValue, b: StateValue): boolean {
  if (typeof a === "string" || typeof b === "string") return a === b;
  const names = Object.keys(a);
  return (
    names.length === Object.keys(b).length &&
    names.every((name) => {
      const [mine, other] = [a[name], b[name]];
      return mine !== undefined && other !== undefined && sameValue(mine, other);
    })
  );
}

/** Whether two snapshots are in the same states; XState keeps the node list when they are. */
export function sameStates(a: MachineSnapshot, b: MachineSnapshot): boolean {
  return a._nodes === b._nodes;
}

/** XState's own search takes the dots of an id that was given for a path. */
function nodeOf(machine: Machine, id: string): Machine["root"] {
  for (const node of walkNodes(machine.root)) if (node.id === id) return node;
  throw new Error(`There is no state node "${id}".`);
}

/** A node with all below it. */
export function* walkNodes(node: Machine["root"]): Generator<Machine["root"]> {
  yield node;
  for (const child of Object.values(node.states)) yield* walkNodes(child as Machine["root"]);
}
