/**
 * Where a statechart's states and arrows lie.
 *
 * Owns the geometry. dagre ranks the children of one state at a time, innermost first: an arrow belongs to the innermost
 * state that holds both of its ends, and is laid between that state's children that lead to them. (dagre's own nesting
 * takes no arrows to a state that has children; elk does, and is thirty times its size.)
 *
 * Transitions that do not leave their state are lines of text in its box, and so are those between the children of a
 * state that has too many (chart-grid.ts).
 */
import { Graph, layout } from "@dagrejs/dagre";
import type { ChartState, ChartTransition } from "../../words/chart.ts";
import { gridOf, isCrowded, isHeavy } from "./chart-grid.ts";

export interface Line {
  readonly text: string;
  readonly kind: "transition" | "action" | "invoke";
  readonly event: string | undefined;
}

export interface Box {
  readonly state: ChartState;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly lines: readonly Line[];
  readonly depth: number;
  /** Region of a parallel state. */
  readonly isRegion: boolean;
}

export type Point = readonly [x: number, y: number];

export interface Label {
  readonly lines: readonly string[];
  /** Of its middle. */
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface Arrow {
  readonly id: string;
  readonly source: string;
  readonly target: string;
  readonly transition: ChartTransition | undefined;
  readonly points: readonly Point[];
  readonly label: Label | undefined;
}

export interface Laid {
  readonly width: number;
  readonly height: number;
  /** Outer ones before inner ones. */
  readonly boxes: readonly Box[];
  readonly arrows: readonly Arrow[];
  /** Dots where compound states begin. */
  readonly starts: readonly Point[];
}

export type Direction = "LR" | "TB";

export const HEAD = 28;
export const LINE = 17;
const PAD = 12;
const MIN_WIDTH = 74;
const LABEL = 15;
const DOT = 10;
const GUARD_LENGTH = 30;
/** An id that XState gives to what is invoked without one: `0.order.paying`. */
const OWN_ID = /^\d+\./;

interface Local {
  readonly state: ChartState;
  readonly width: number;
  readonly height: number;
  readonly lines: readonly Line[];
  readonly children: readonly { readonly local: Local; readonly x: number; readonly y: number }[];
  readonly arrows: readonly (Omit<Arrow, "label"> & {
    readonly label: Arrow["label"];
    readonly from: string;
    readonly to: string;
  })[];
  readonly start: Point | undefined;
}

interface Edge {
  readonly id: string;
  readonly source: string;
  readonly target: string;
  readonly from: string;
  readonly to: string;
  readonly transition: ChartTransition;
}

interface Sorted {
  /** By the id of the state that holds both ends. */
  readonly edges: Map<string, Edge[]>;
  readonly lines: Map<string, Line[]>;
  /** Ids of the states whose children are no graph. */
  readonly crowded: ReadonlySet<string>;
}

interface Way {
  readonly direction: Direction;
  readonly widthOf: (text: string) => number;
  /** Beside the name of each state. */
  readonly beside: number;
}

/**
 * Lays a chart out, in both directions unless it is large.
 * @param widthOf how wide a text is, pixels
 * @param beside the room to be left beside the name of each state
 */
export function layChart(root: ChartState, widthOf: (text: string) => number, beside = 0): readonly Laid[] {
  const sorted = sort(root);
  const ways: readonly Direction[] = isHeavy(statesIn(root)) ? ["LR"] : ["LR", "TB"];
  return ways.map((direction) => layOut(root, sorted, { direction, widthOf, beside }));
}

function layOut(root: ChartState, sorted: Sorted, way: Way): Laid {
  const local = measure(root, sorted, way);
  const boxes: Box[] = [];
  const arrows: Arrow[] = [];
  const starts: Point[] = [];
  place(local, 0, 0, 0, false, boxes, arrows, starts);
  const at = new Map(boxes.map((box) => [box.state.id, box]));
  const reaching = arrows.map((arrow) => reach(arrow, at));
  return { width: local.width, height: local.height, boxes, arrows: reaching, starts };
}

export function triggerText({ trigger, event, delay }: ChartTransition): string {
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

function labelOf(transition: ChartTransition): string[] {
  const { guard } = transition;
  if (guard === undefined) return [triggerText(transition)];
  const shown = guard === "inline" ? "guard" : guard;
  const cut = shown.length > GUARD_LENGTH ? `${shown.slice(0, GUARD_LENGTH - 1)}…` : shown;
  return [triggerText(transition), `[${cut}]`];
}

/** Which transitions are arrows, and which are lines in their state's box. */
function sort(root: ChartState): Sorted {
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

function statesIn(state: ChartState): number {
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

function measure(state: ChartState, sorted: Sorted, way: Way): Local {
  const { widthOf, beside } = way;
  const lines = sorted.lines.get(state.id) ?? [];
  const texts = Math.max(
    widthOf(state.key) * 1.2 + 46 + beside,
    ...lines.map(({ text }) => widthOf(text) + 2 * PAD),
  );
  const top = HEAD + lines.length * LINE + (lines.length > 0 ? 6 : 0);
  if (state.states.length === 0) {
    const width = Math.max(MIN_WIDTH, texts);
    return {
      state,
      width,
      height: Math.max(top, HEAD + 4),
      lines,
      children: [],
      arrows: [],
      start: undefined,
    };
  }
  const locals = state.states.map((child) => measure(child, sorted, way));
  if (sorted.crowded.has(state.id)) return inGrid(state, locals, lines, texts, top);
  const edges = sorted.edges.get(state.id) ?? [];
  const graph = graphOf(state, locals, edges, way);
  layout(graph);
  const { width: inner = 0, height: innerHeight = 0 } = graph.graph() as { width?: number; height?: number };
  const width = Math.max(inner + 2 * PAD, texts);
  const left = (width - inner) / 2;
  const down = top + PAD / 2;
  const children = locals.map((local) => {
    const { x, y } = graph.node(local.state.id) as { x: number; y: number };
    return { local, x: left + x - local.width / 2, y: down + y - local.height / 2 };
  });
  const arrows = edges.map((edge) => arrowOf(graph, edge, left, down));
  let start: Point | undefined;
  if (graph.hasNode(START)) {
    const { x, y } = graph.node(START) as { x: number; y: number };
    start = [left + x, down + y];
    const to = state.initial as string;
    const { points } = graph.edge({ v: START, w: childHolding(state, to), name: START }) as Pointed;
    const moved = points.map(({ x, y }): Point => [left + x, down + y]);
    arrows.push({
      id: `${state.id} start`,
      source: START,
      target: to,
      from: START,
      to,
      transition: undefined,
      points: moved,
      label: undefined,
    });
  }
  return { state, width, height: down + innerHeight + PAD, lines, children, arrows, start };
}

function inGrid(
  state: ChartState,
  locals: readonly Local[],
  lines: readonly Line[],
  texts: number,
  top: number,
): Local {
  const { places, width: inner, height } = gridOf(locals);
  const children = locals.map((local, n) => {
    const { x, y } = places[n] as { x: number; y: number };
    return { local, x: PAD + x, y: top + PAD / 2 + y };
  });
  const width = Math.max(inner + 2 * PAD, texts);
  return {
    state,
    width,
    height: top + PAD / 2 + height + PAD,
    lines,
    children,
    arrows: [],
    start: undefined,
  };
}

const START = "\u0000start";

interface Pointed {
  readonly points: readonly { readonly x: number; readonly y: number }[];
  readonly x?: number;
  readonly y?: number;
  readonly width?: number;
  readonly height?: number;
}

function graphOf(
  state: ChartState,
  locals: readonly Local[],
  edges: readonly Edge[],
  { direction, widthOf }: Way,
): Graph {
  const graph = new Graph({ multigraph: true });
  graph.setGraph({ rankdir: direction, nodesep: 24, ranksep: 26, edgesep: 12, marginx: 0, marginy: 0 });
  for (const { state: child, width, height } of locals) graph.setNode(child.id, { width, height });
  if (state.initial !== undefined && state.states.length > 1) {
    graph.setNode(START, { width: DOT, height: DOT });
    graph.setEdge(
      START,
      childHolding(state, state.initial),
      { minlen: 1, weight: 3, width: 0, height: 0 },
      START,
    );
  }
  for (const { id, from, to, transition } of edges) {
    const lines = labelOf(transition);
    const width = Math.max(...lines.map(widthOf)) * 0.94 + 10;
    graph.setEdge(from, to, { width, height: lines.length * LABEL, labelpos: "c", minlen: 1 }, id);
  }
  return graph;
}

function childHolding(state: ChartState, id: string): string {
  const holds = (one: ChartState): boolean => one.id === id || one.states.some(holds);
  return state.states.find(holds)?.id ?? (state.states[0] as ChartState).id;
}

function arrowOf(graph: Graph, edge: Edge, left: number, down: number): Local["arrows"][number] {
  const {
    points,
    x = 0,
    y = 0,
    width = 0,
    height = 0,
  } = graph.edge({ v: edge.from, w: edge.to, name: edge.id }) as Pointed;
  return {
    ...edge,
    points: points.map(({ x, y }): Point => [left + x, down + y]),
    label: { lines: labelOf(edge.transition), x: left + x, y: down + y, width, height },
  };
}

function place(
  local: Local,
  x: number,
  y: number,
  depth: number,
  isRegion: boolean,
  boxes: Box[],
  arrows: Arrow[],
  starts: Point[],
): void {
  const { state, width, height, lines } = local;
  boxes.push({ state, x, y, width, height, lines, depth, isRegion });
  for (const arrow of local.arrows)
    arrows.push({
      ...arrow,
      points: arrow.points.map(([px, py]): Point => [x + px, y + py]),
      label: arrow.label && { ...arrow.label, x: x + arrow.label.x, y: y + arrow.label.y },
    });
  if (local.start !== undefined) starts.push([x + local.start[0], y + local.start[1]]);
  for (const child of local.children)
    place(child.local, x + child.x, y + child.y, depth + 1, state.type === "parallel", boxes, arrows, starts);
}

/** Lets an arrow begin and end at the states it is for, where these lie within those it was laid between. */
function reach(arrow: Arrow, at: ReadonlyMap<string, Box>): Arrow {
  const points = [...arrow.points];
  const source = at.get(arrow.source);
  const target = at.get(arrow.target);
  const [first] = points;
  const last = points.at(-1);
  if (source !== undefined && first !== undefined) {
    const from = borderOf(source, first);
    if (far(from, first)) points.unshift(from);
  }
  if (target !== undefined && last !== undefined) {
    const to = borderOf(target, last);
    if (far(to, last)) points.push(to);
  }
  return { ...arrow, points };
}

function borderOf({ x, y, width, height }: Box, [px, py]: Point): Point {
  return [Math.min(Math.max(px, x), x + width), Math.min(Math.max(py, y), y + height)];
}

function far([ax, ay]: Point, [bx, by]: Point): boolean {
  return Math.abs(ax - bx) + Math.abs(ay - by) > 2;
}

/** The states of a chart that have none within, in their order. */
export function leavesOf(state: ChartState): readonly ChartState[] {
  return state.states.length === 0 ? [state] : state.states.flatMap(leavesOf);
}
