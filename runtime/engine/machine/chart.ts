/**
 * A machine's statechart as plain data, for those who draw it.
 *
 * Reads XState's state nodes; runs nothing of the user's. The form is words/chart.ts. What has no name in XState (an inline guard or action) is shown as that.
 *
 * Invariants:
 * 1. Ids are those of XState's state nodes, each once in a chart, and every target is one of them.
 * 2. States and transitions stand in the order in which the machine declares them, which is the order they are tried in.
 */
import type { ChartState, ChartTransition, ChartTrigger } from "../../words/chart.ts";
import type { Machine } from "./internals.ts";

type Node = Machine["root"];
type Transition = Node["always"] extends readonly (infer T)[] | undefined ? T : never;

const INLINE = "inline";
const DONE_STATE = "xstate.done.state.";
/** Events of what a state invokes, by what they say of it. */
const INVOKED: readonly (readonly [prefix: string, trigger: ChartTrigger])[] = [
  ["xstate.done.actor.", "done"],
  ["xstate.error.actor.", "error"],
  ["xstate.snapshot.", "snapshot"],
];

/** The statechart of a machine: its root state with everything below it. */
export function chartOf(machine: Machine): ChartState {
  return stateOf(machine.root);
}

function stateOf(node: Node): ChartState {
  const { id, key, path, type, history, description } = node;
  const initial = type === "compound" ? node.initial?.target?.[0]?.id : undefined;
  return {
    id,
    key,
    path: [...path],
    type,
    ...(type === "history" ? { history: history === "deep" ? "deep" : "shallow" } : {}),
    ...(initial === undefined ? {} : { initial }),
    ...(description === undefined ? {} : { description: String(description) }),
    tags: [...(node.tags ?? [])].map(String),
    entry: namesOf(node.entry?.filter((action) => !isDelay(node, action))),
    exit: namesOf(node.exit?.filter((action) => !isDelay(node, action))),
    invoke: (node.invoke ?? []).map((one) => ({ id: String(one.id), src: sourceOf(one.src) })),
    transitions: transitionsOf(node),
    states: Object.values(node.states ?? {})
      .sort((a, b) => a.order - b.order)
      .map((one) => stateOf(one)),
  };
}

function transitionsOf(node: Node): ChartTransition[] {
  if (node.type === "history") {
    const target = (node.config as { target?: unknown }).target;
    if (target === undefined) return [];
    const targets = targetsOfHistory(node);
    return targets.length === 0 ? [] : [{ ...plain("always", ""), targets }];
  }
  const shown: ChartTransition[] = [];
  for (const [event, transitions] of node.transitions ?? new Map())
    for (const one of transitions) shown.push(transitionOf(node, event, one));
  for (const one of node.always ?? []) shown.push(transitionOf(node, "", one));
  return shown;
}

/** Where a history state leads when there is no history yet. */
function targetsOfHistory(node: Node): string[] {
  const parent = node.parent;
  const { target } = node.config as { target?: string | readonly string[] };
  const names = [target ?? []].flat();
  return names.flatMap((name) => {
    const found = name.startsWith("#")
      ? node.machine.getStateNodeById(name.slice(1))
      : parent?.states[name.replace(/^\./, "")];
    return found === undefined ? [] : [found.id];
  });
}

function plain(trigger: ChartTrigger, event: string): ChartTransition {
  return { trigger, event, targets: [], actions: [], reenter: false };
}

function transitionOf(node: Node, event: string, one: Transition): ChartTransition {
  const { trigger, name, delay } = triggerOf(node, event);
  const { guard, target, actions, reenter, description } = one;
  return {
    ...plain(trigger, name),
    ...(delay === undefined ? {} : { delay }),
    ...(guard === undefined ? {} : { guard: guardName(guard) }),
    targets: (target ?? []).map(({ id }) => id),
    actions: namesOf(actions),
    reenter: reenter === true,
    ...(description === undefined ? {} : { description: String(description) }),
  };
}

function triggerOf(
  node: Node,
  event: string,
): { readonly trigger: ChartTrigger; readonly name: string; readonly delay?: number | string } {
  if (event === "") return { trigger: "always", name: "" };
  const delayed = node.after.find((one) => one.eventType === event);
  if (delayed !== undefined)
    return { trigger: "after", name: "", delay: delayOf(node, event, delayed.delay) };
  if (event.startsWith(DONE_STATE)) return { trigger: "done", name: "" };
  for (const [prefix, trigger] of INVOKED)
    if (event.startsWith(prefix)) return { trigger, name: event.slice(prefix.length) };
  return { trigger: "event", name: event };
}

/** A delay that is computed by a function in the machine has no name but its place. */
function delayOf(node: Node, event: string, delay: unknown): number | string {
  if (typeof delay === "number" || typeof delay === "string") return delay;
  const [, name] = /^xstate\.after\.(.+)$/.exec(event) ?? [];
  const suffix = `.${node.id}`;
  return name?.endsWith(suffix) === true ? name.slice(0, -suffix.length) : INLINE;
}

function guardName(guard: unknown): string {
  if (typeof guard === "string") return guard;
  if (typeof guard !== "function") {
    const { type } = (guard ?? {}) as { type?: unknown };
    return typeof type === "string" ? type : INLINE;
  }
  const { name, guards, stateValue } = guard as unknown as {
    name: string;
    guards?: readonly unknown[];
    stateValue?: unknown;
  };
  // XState's own: and, or, not, stateIn.
  if (Array.isArray(guards)) return `${name}(${guards.map(guardName).join(", ")})`;
  if (stateValue !== undefined)
    return `stateIn(${typeof stateValue === "string" ? stateValue : JSON.stringify(stateValue)})`;
  return name === "" || name === "guard" ? INLINE : name;
}

function namesOf(actions: readonly unknown[] | undefined): string[] {
  return (actions ?? []).map((action) => {
    if (typeof action === "string") return action;
    const { type, name } = action as { type?: unknown; name?: unknown };
    if (typeof type === "string") return type.replace(/^xstate\./, "");
    return typeof name === "string" && name !== "" && name !== "actions" ? name : INLINE;
  });
}

/** Whether an action only begins or ends the time of an `after`: XState adds them, its author has not written them. */
function isDelay(node: Node, action: unknown): boolean {
  const { event, sendId } = action as { event?: { type?: unknown }; sendId?: unknown };
  return node.after.some(({ eventType }) => eventType === event?.type || eventType === sendId);
}

function sourceOf(src: unknown): string {
  if (typeof src !== "string") return INLINE;
  // XState's own name for logic that is written where it is invoked.
  return src.startsWith("xstate.invoke.") ? INLINE : src;
}

/** A machine's own configuration as a JSON text, as Stately's tools read it: functions are their names. */
export function configText(machine: Machine): string {
  return JSON.stringify(machine.config, (_, value: unknown) => {
    if (typeof value === "function") return { type: namesOf([value])[0] ?? INLINE };
    return typeof value === "bigint" ? String(value) : value;
  });
}
