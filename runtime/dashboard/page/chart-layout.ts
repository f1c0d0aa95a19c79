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
import { gridOf, isHeavy } from "./chart-grid.ts";
import { type Edge, labelOf, type Line, sort, type Sorted, statesIn } from "./chart-sort.ts";

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
