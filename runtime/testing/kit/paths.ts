/**
 * Paths through a machine, found by `xstate/graph`: sequences of events that lead to each of its states, or through each
 * of its transitions in turn.
 *
 * Owns what is generated and its bounds. XState generates for whatever size a graph has; here the number of states is
 * bounded before, and simple paths, of which there are easily more than anybody can count, are walked one by one.
 */
import type { AnyMachineSnapshot, AnyStateMachine } from "xstate";
import { type AdjacencyMap, getAdjacencyMap, getShortestPaths } from "xstate/graph";
import type { Prng } from "../simulator/prng.ts";
import { seal } from "../../words/values.ts";
import { textOfValue } from "./failure.ts";

export interface AnyEvent {
  readonly type: string;
}

export interface PathOptions {
  /** Examples of events; a type without one is sent with nothing but its type. */
  readonly events: readonly AnyEvent[];
  readonly paths: "shortest" | "simple";
  /** At most so many paths, and so many states are looked at. */
  readonly limit: number;
  readonly random: Prng;
  readonly input: { readonly type: string; readonly key: string };
}

const AFTER = "xstate.after.";
/** Longer simple paths are cut: a cut path is a path. */
const STEPS_MAX = 50;
/** Branches looked at for each path that is wanted. */
const BRANCHES = 200;

/** Whether an event stands for time that passes. */
export function isTime(event: AnyEvent): boolean {
  return event.type.startsWith(AFTER);
}

/** Paths, none of them the beginning of another. */
export function pathsOf(machine: AnyStateMachine, options: PathOptions): AnyEvent[][] {
  const { limit, random } = options;
  const found = options.paths === "shortest" ? shortest(machine, options) : simple(machine, options);
  const whole = withoutBeginnings(found);
  return whole.length <= limit ? whole : random.shuffle(whole).slice(0, limit);
}

/** What may come next in a state: examples, or an event with its type only, and the timers. */
function eventsIn({ events, limit }: PathOptions): (state: unknown) => AnyEvent[] {
  let states = 0;
  return (state) => {
    // The graph ends here, quietly: `limit` of xstate/graph throws.
    if (++states > limit) return [];
    const { _nodes: nodes, context } = state as AnyMachineSnapshot;
    // Frozen as in the engine, so that a machine that changes it in place throws where it does.
    seal(context, "context");
    const types = [...new Set(nodes.flatMap((node) => [...node.transitions.keys()]))];
    const known = types.flatMap((type) => {
      // Wildcards are no events, and nobody but a child or the machine itself sends its other own events.
      if (type.includes("*") || (type.startsWith("xstate.") && !isTime({ type }))) return [];
      const examples = events.filter((event) => event.type === type);
      return examples.length > 0 ? examples : [{ type }];
    });
    // Examples of events that only a wildcard takes.
    const wild = types.filter((type) => type.endsWith("*")).map((type) => type.slice(0, -1));
    const others = events.filter(
      (event) => !known.includes(event) && wild.some((start) => event.type.startsWith(start)),
    );
    return [...known, ...others];
  };
}

/** The graph's own options: what they take for a name of a state must be one for any value, not only for JSON. */
function traversal(options: PathOptions): never {
  return {
    events: eventsIn(options),
    input: options.input,
    serializeState: nameOf,
    serializeEvent: textOfValue,
  } as never;
}

function nameOf(state: unknown): string {
  const { value, context } = state as { value: unknown; context: unknown };
  return textOfValue([value, context]);
}

function graphOf(machine: AnyStateMachine, options: PathOptions): AdjacencyMap<unknown, AnyEvent> {
  return getAdjacencyMap(machine, traversal(options)) as AdjacencyMap<unknown, AnyEvent>;
}

/** To every state the shortest way, and from there each event that it knows: so every transition is taken. */
function shortest(machine: AnyStateMachine, options: PathOptions): AnyEvent[][] {
  const graph = graphOf(machine, options);
  return getShortestPaths(machine, traversal(options)).flatMap(({ state, steps }) => {
    const path = steps.map(({ event }) => event as AnyEvent).filter(({ type }) => type !== "xstate.init");
    const edges = Object.values(graph[nameOf(state) as never]?.transitions ?? {});
    return [path, ...edges.map(({ event }) => [...path, event])];
  });
}

/** Paths that visit no state twice, drawn until there are enough. */
function simple(machine: AnyStateMachine, options: PathOptions): AnyEvent[][] {
  const graph = graphOf(machine, options);
  const [start] = Object.keys(graph);
  const paths: AnyEvent[][] = [];
  let branches = options.limit * BRANCHES;
  const walk = (state: string, visited: ReadonlySet<string>, path: readonly AnyEvent[]): void => {
    const next = Object.values(graph[state as never]?.transitions ?? {}).filter(
      (edge) => !visited.has(nameOf(edge.state)),
    );
    if (next.length === 0 || path.length >= STEPS_MAX) {
      paths.push([...path]);
      return;
    }
    for (const { event, state: reached } of options.random.shuffle(next)) {
      if (paths.length >= options.limit || branches-- <= 0) return;
      const name = nameOf(reached);
      walk(name, new Set([...visited, name]), [...path, event]);
    }
  };
  if (start !== undefined) walk(start, new Set([start]), []);
  return paths;
}

/** Takes away paths that are the beginning of others. */
function withoutBeginnings(paths: readonly AnyEvent[][]): AnyEvent[][] {
  const texts = paths.map((path) => path.map(textOfValue));
  const beginnings = new Set<string>();
  for (const text of texts)
    for (let length = 0; length < text.length; length++) beginnings.add(text.slice(0, length).join("\n"));
  const seen = new Set<string>();
  return paths.filter((path, at) => {
    const text = (texts[at] ?? []).join("\n");
    if (path.length === 0 || beginnings.has(text) || seen.has(text)) return false;
    seen.add(text);
    return true;
  });
}
