/**
 * What of a statechart is an arrow, and what is a line of text in a state's box.
 *
 * An arrow belongs to the innermost state that holds both of its ends. Owns the texts of transitions too.
 */
import type { ChartState, ChartTransition } from "../../words/chart.ts";
import { isCrowded } from "./chart-grid.ts";

export interface Line {
  readonly text: string;
  readonly kind: "transition" | "action" | "invoke";
  readonly event: string | undefined;
}

export interface Edge {
  readonly id: string;
  readonly source: string;
  readonly target: string;
  readonly from: string;
  readonly to: string;
  readonly transition: ChartTransition;
}

export interface Sorted {
  /** By the id of the state that holds both ends. */
  readonly edges: Map<string, Edge[]>;
  readonly lines: Map<string, Line[]>;
  /** Ids of the states whose children are no graph. */
  readonly crowded: ReadonlySet<string>;
}

const GUARD_LENGTH = 30;
/** An id that XState gives to what is invoked without one: `0.order.paying`. */
const OWN_ID = /^\d+\./;

function triggerText({ trigger, event, delay }: ChartTransition): string {
  switch (trigger) {
    case "event":
      return event;
    case "always":
      return "always";
    case "after":
      return `after ${typeof delay === "number" ? spanText(delay) : (delay ?? "?")}`;
    default:
      // What is invoked without an id of its author's stands in the state's box.
      return event === "" || OWN_ID.test(event) ? trigger : `${trigger} ${event}`;
  }
}

export function spanText(ms: number): string {
  if (ms < 1_000) return `${ms} ms`;
  for (const [unit, name] of [
    [86_400_000, "d"],
    [3_600_000, "h"],
    [60_000, "min"],
  ] as const)
    if (ms >= unit && ms % unit === 0) return `${ms / unit} ${name}`;
  return `${ms / 1_000} s`;
}

export function labelOf(transition: ChartTransition): string[] {
  const { guard } = transition;
  if (guard === undefined) return [triggerText(transition)];
  const shown = guard === "inline" ? "guard" : guard;
  const cut = shown.length > GUARD_LENGTH ? `${shown.slice(0, GUARD_LENGTH - 1)}…` : shown;
  return [triggerText(transition), `[${cut}]`];
}

/** Which transitions are arrows, and which are lines in their state's box. */
export function sort(root: ChartState): Sorted {
  const chains = new Map<string, readonly ChartState[]>();
  const walk = (state: ChartState, above: readonly ChartState[]): void => {
    const chain = [...above, state];
    chains.set(state.id, chain);
    for (const child of state.states) walk(child, chain);
  };
  walk(root, []);
  const sorted = {
    edges: new Map<string, Edge[]>(),
    lines: new Map<string, Line[]>(),
    crowded: new Set<string>(),
  };
  const add = <T>(map: Map<string, T[]>, id: string, one: T): void => {
    const there = map.get(id);
    if (there === undefined) map.set(id, [one]);
    else there.push(one);
  };
  let number = 0;
  for (const chain of chains.values()) {
    const source = chain.at(-1) as ChartState;
    for (const line of ownLines(source)) add(sorted.lines, source.id, line);
    for (const transition of source.transitions) {
      const event = transition.trigger === "event" ? transition.event : undefined;
      const text = labelOf(transition).join(" ");
      if (transition.targets.length === 0) {
        const doing = transition.actions.length === 0 ? "" : ` / ${transition.actions.join(", ")}`;
        add(sorted.lines, source.id, { text: `${text}${doing}`, kind: "transition", event });
      }
      for (const target of transition.targets) {
        const other = chains.get(target);
        if (other === undefined) continue;
        let at = 0;
        while (chain[at] !== undefined && chain[at] === other[at]) at++;
        const from = chain[at];
        const to = other[at];
        if (from === undefined || to === undefined) {
          const name = target === source.id ? "↻" : `→ ${other.at(-1)?.key ?? target}`;
          add(sorted.lines, source.id, { text: `${text} ${name}`, kind: "transition", event });
          continue;
        }
        const holder = (chain[at - 1] as ChartState).id;
        const id = `${source.id} ${number++}`;
        add(sorted.edges, holder, { id, source: source.id, target, from: from.id, to: to.id, transition });
      }
    }
  }
  const states = chains.size;
  for (const [id, chain] of chains) {
    const edges = sorted.edges.get(id) ?? [];
    if (!isCrowded(chain.at(-1) as ChartState, edges.length, states)) continue;
    sorted.crowded.add(id);
    sorted.edges.delete(id);
    for (const { source, target, transition } of edges) {
      const event = transition.trigger === "event" ? transition.event : undefined;
      const text = `${labelOf(transition).join(" ")} → ${chains.get(target)?.at(-1)?.key ?? target}`;
      add(sorted.lines, source, { text, kind: "transition", event });
    }
  }
  return sorted;
}

export function statesIn(state: ChartState): number {
  return state.states.reduce((sum, child) => sum + statesIn(child), 1);
}

function ownLines({ entry, exit, invoke, type, history }: ChartState): Line[] {
  const lines: Line[] = [];
  const line = (kind: Line["kind"], text: string): void => {
    lines.push({ text, kind, event: undefined });
  };
  if (type === "history") line("action", history === "deep" ? "deep history" : "history");
  for (const { src, id } of invoke)
    line("invoke", `invoke ${src === "inline" && !OWN_ID.test(id) ? id : src}`);
  if (entry.length > 0) line("action", `entry / ${entry.join(", ")}`);
  if (exit.length > 0) line("action", `exit / ${exit.join(", ")}`);
  return lines;
}
