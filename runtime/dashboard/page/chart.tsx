/**
 * A statechart, drawn: states as boxes, the current ones lit, the transition that was just taken marked, and, for a type,
 * how many actors stand where.
 */
import type { VNode } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ChartState, ChartTransition } from "../../words/chart.ts";
import type { Json } from "./api.ts";
import {
  type Arrow,
  type Box,
  HEAD,
  type Laid,
  LINE,
  layChart,
  leavesOf,
  type Point,
} from "./chart-layout.ts";
import { count, rounded, stateText } from "./format.ts";

const FONT = '12px system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", sans-serif';
/** Below this the texts cannot be read, so the chart is scrolled instead. */
const LEAST_SCALE = 0.75;
const LEAST_SCALE_NARROW = 0.55;
const NARROW = 500;
const TALLEST = 560;
const LARGE = 4;
/** Room for a count beside a state's name; larger ones are rounded. */
const COUNT_WIDTH = 36;
const COUNT_MAX = 9_999_999;

let measuring: CanvasRenderingContext2D | null | undefined;

function widthOf(text: string): number {
  measuring ??= document.createElement("canvas").getContext("2d");
  if (!measuring) return text.length * 7;
  measuring.font = FONT;
  return measuring.measureText(text).width;
}

/** Ids of the states that a value names, the outer ones too. */
export function litIn(chart: ChartState, value: Json | undefined): ReadonlySet<string> {
  const lit = new Set<string>();
  const walk = (state: ChartState, below: Json | undefined): void => {
    lit.add(state.id);
    for (const child of state.states) {
      if (below === child.key) walk(child, undefined);
      else if (
        typeof below === "object" &&
        below !== null &&
        !Array.isArray(below) &&
        Object.hasOwn(below, child.key)
      )
        walk(child, (below as Record<string, Json>)[child.key]);
    }
  };
  if (value !== undefined && value !== null) walk(chart, value);
  return lit;
}

/** Charts with many states have the whole width of the page. */
export function isLarge(chart: ChartState | undefined): boolean {
  return chart !== undefined && leavesOf(chart).length > LARGE;
}

/** Which of the eight colours a state has: those that are declared one after the other differ. */
export function colourIn(chart: ChartState | undefined, value: Json): number {
  if (chart === undefined) return 0;
  const lit = litIn(chart, value);
  return (
    Math.max(
      0,
      leavesOf(chart).findIndex(({ id }) => lit.has(id)),
    ) % 8
  );
}

/** Event types that some lit state has a transition for. */
export function eventsTaken(chart: ChartState, lit: ReadonlySet<string>): ReadonlySet<string> {
  const events = new Set<string>();
  const walk = (state: ChartState): void => {
    if (!lit.has(state.id)) return;
    for (const { trigger, event } of state.transitions) if (trigger === "event") events.add(event);
    for (const child of state.states) walk(child);
  };
  walk(chart);
  return events;
}

export interface Step {
  readonly before: Json | undefined;
  readonly event: string;
}

export interface ChartProps {
  readonly chart: ChartState;
  /** Of a machine that its author gave no id. */
  readonly title?: string | undefined;
  readonly value?: Json | undefined;
  /** The turn that led to the value. */
  readonly step?: Step | undefined;
  /** Actors by state path. */
  readonly counts?: Readonly<Record<string, number>> | undefined;
  readonly onEvent?: ((event: string) => void) | undefined;
  readonly onState?: ((path: string) => void) | undefined;
}

/** XState's own name of a machine without an id. */
const NAMELESS = "(machine)";

export function Chart({ chart: given, title, value, step, counts, onEvent, onState }: ChartProps): VNode {
  const chart = useMemo(
    () => (given.key === NAMELESS && title !== undefined ? { ...given, key: title } : given),
    [given, title],
  );
  const frame = useRef<HTMLDivElement>(null);
  const [room, setRoom] = useState(0);
  useEffect(() => {
    const element = frame.current;
    if (element === null) return undefined;
    const watching = new ResizeObserver(([entry]) => setRoom(Math.floor(entry?.contentRect.width ?? 0)));
    watching.observe(element);
    return () => watching.disconnect();
  }, []);
  const beside = counts === undefined && onState === undefined ? 0 : COUNT_WIDTH;
  const both = useMemo(() => layChart(chart, widthOf, beside), [chart, beside]);
  const laid = useMemo(() => fitting(both, room), [both, room]);
  const lit = useMemo(() => litIn(chart, value), [chart, value]);
  const before = useMemo(() => litIn(chart, step?.before), [chart, step?.before]);
  const least = room < NARROW ? LEAST_SCALE_NARROW : LEAST_SCALE;
  const scale = Math.max(least, Math.min(1.15, room / (laid.width + 4), TALLEST / laid.height));
  const name =
    value === undefined ? `Statechart ${chart.key}` : `Statechart ${chart.key}, now in ${stateText(value)}`;
  return (
    <div class="chart" ref={frame} tabIndex={-1}>
      {room > 0 && (
        <svg
          role="img"
          aria-label={name}
          width={Math.ceil((laid.width + 4) * scale)}
          height={Math.ceil((laid.height + 4) * scale)}
          viewBox={`-2 -2 ${Math.ceil(laid.width + 4)} ${Math.ceil(laid.height + 4)}`}
        >
          <title>{name}</title>
          <defs>
            {["tip", "tip-taken"].map((id) => (
              <marker
                id={id}
                key={id}
                viewBox="0 0 8 8"
                refX="7.2"
                refY="4"
                markerWidth="8"
                markerHeight="8"
                orient="auto"
                markerUnits="userSpaceOnUse"
              >
                <path d="M0.5 0.8 L7.4 4 L0.5 7.2 z" class={id} />
              </marker>
            ))}
          </defs>
          {laid.boxes.map((box) => (
            <State
              key={box.state.id}
              box={box}
              isLit={lit.has(box.state.id)}
              counted={counts && countIn(counts, box.state)}
              onEvent={onEvent}
              onState={onState}
            />
          ))}
          {laid.starts.map(([x, y]) => (
            <circle key={`${x} ${y}`} class="start" cx={x} cy={y} r="4.5" />
          ))}
          {laid.arrows.map((arrow) => {
            const taken = step !== undefined && wasTaken(arrow, step.event, before, lit);
            return <ArrowLine key={arrow.id} arrow={arrow} taken={taken} onEvent={onEvent} />;
          })}
        </svg>
      )}
    </div>
  );
}

/** The direction in which it can be drawn larger; the one that is wide, if both fit. */
function fitting(laid: readonly Laid[], room: number): Laid {
  const scaleOf = ({ width, height }: Laid): number => Math.min(1, room / width, TALLEST / height);
  const [wide, tall] = laid as [Laid, Laid?];
  if (tall === undefined) return wide;
  return scaleOf(tall) > scaleOf(wide) + 0.02 ? tall : wide;
}

function wasTaken(
  { transition, source, target }: Arrow,
  event: string,
  before: ReadonlySet<string>,
  now: ReadonlySet<string>,
): boolean {
  if (transition === undefined || !before.has(source) || !now.has(target)) return false;
  if (transition.trigger === "always" && before.has(target)) return false;
  return isFor(transition, source, event);
}

function isFor({ trigger, event: wanted, delay }: ChartTransition, source: string, event: string): boolean {
  switch (trigger) {
    case "event":
      if (wanted === "*") return !event.startsWith("xstate.");
      return wanted === event || (wanted.endsWith(".*") && event.startsWith(wanted.slice(0, -1)));
    case "after":
      return (
        event.startsWith("xstate.after.") &&
        (event === `xstate.after.${delay}.${source}` || delay === "inline")
      );
    case "done":
      return wanted === ""
        ? event === `xstate.done.state.${source}`
        : event === `xstate.done.actor.${wanted}`;
    case "error":
      return event === `xstate.error.actor.${wanted}`;
    // What follows on any transition by itself; which one it followed on is not known, only that it has led there.
    case "always":
      return true;
    default:
      return false;
  }
}

function countIn(counts: Readonly<Record<string, number>>, state: ChartState): number | undefined {
  const path = state.path.join(".");
  if (path === "" || state.type === "history") return undefined;
  let total = 0;
  for (const [states, found] of Object.entries(counts))
    if (states.split(" + ").some((one) => one === path || one.startsWith(`${path}.`))) total += found;
  return total;
}

interface StateProps {
  readonly box: Box;
  readonly isLit: boolean;
  readonly counted: number | undefined;
  readonly onEvent: ChartProps["onEvent"];
  readonly onState: ChartProps["onState"];
}

function State({ box, isLit, counted, onEvent, onState }: StateProps): VNode {
  const { state, x, y, width, height, lines, depth, isRegion } = box;
  const kinds = [
    "state",
    state.type,
    isLit ? "lit" : "",
    isRegion ? "region" : "",
    depth === 0 ? "root" : "",
  ];
  const round = state.type === "history" ? 16 : state.states.length > 0 ? 10 : 8;
  const path = state.path.join(".");
  const head = y + (lines.length === 0 && state.states.length === 0 ? height / 2 + 4.5 : 18.5);
  const canPick = onState !== undefined && path !== "";
  return (
    <g class={kinds.filter(Boolean).join(" ")} data-state={path} data-lit={isLit ? "true" : undefined}>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: a shortcut of the filter above the list */}
      <rect
        x={x}
        y={y}
        width={width}
        height={height}
        rx={round}
        class={canPick ? "pick" : undefined}
        onClick={canPick ? () => onState(path) : undefined}
      />
      {state.type === "final" && (
        <rect x={x + 3} y={y + 3} width={width - 6} height={height - 6} rx={round - 2} class="inner" />
      )}
      {lines.length > 0 && <path class="rule" d={`M${x} ${y + HEAD} h${width}`} />}
      <text class="name" x={x + 12} y={head}>
        {state.key}
        {state.type === "parallel" && <tspan class="kind"> ∥</tspan>}
      </text>
      {counted !== undefined && (
        <text class={`count ${counted > 0 ? "some" : ""}`} x={x + width - 10} y={head}>
          {counted > COUNT_MAX ? rounded(counted) : count(counted)}
        </text>
      )}
      {lines.map(({ text, kind, event }, n) => {
        const canSend = event !== undefined && onEvent !== undefined && !event.includes("*");
        return (
          // biome-ignore lint/a11y/noStaticElementInteractions: a shortcut of the form beside it
          <text
            key={`${text} ${n}`}
            class={`line ${kind} ${canSend ? "pick" : ""}`}
            x={x + 12}
            y={y + HEAD + 14 + n * LINE}
            onClick={canSend ? () => onEvent(event) : undefined}
          >
            {text}
          </text>
        );
      })}
      {state.description !== undefined && <title>{state.description}</title>}
    </g>
  );
}

function ArrowLine(props: { arrow: Arrow; taken: boolean; onEvent: ChartProps["onEvent"] }): VNode {
  const { arrow, taken, onEvent } = props;
  const { transition, points, label } = arrow;
  const event = transition?.trigger === "event" ? transition.event : undefined;
  const canSend = event !== undefined && onEvent !== undefined && !event.includes("*");
  const from = label === undefined ? 0 : label.y - ((label.lines.length - 1) * 15) / 2 + 4;
  return (
    <g class={`arrow ${taken ? "taken" : ""} ${transition?.trigger ?? ""}`} data-event={event}>
      <path d={curve(points)} marker-end={taken ? "url(#tip-taken)" : "url(#tip)"} />
      {label !== undefined && (
        <rect
          x={label.x - label.width / 2 + 2}
          y={label.y - label.height / 2}
          width={label.width - 4}
          height={label.height}
          rx="3"
        />
      )}
      {label?.lines.map((line, n) => (
        // biome-ignore lint/a11y/noStaticElementInteractions: a shortcut of the form beside it
        <text
          key={line}
          class={`label ${n > 0 ? "guard" : ""} ${canSend ? "pick" : ""}`}
          x={label.x}
          y={from + n * 15}
          onClick={canSend ? () => onEvent(event) : undefined}
        >
          {line}
        </text>
      ))}
      {transition !== undefined && transition.actions.length > 0 && (
        <title>{`/ ${transition.actions.join(", ")}`}</title>
      )}
    </g>
  );
}

/** A smooth line through all points: its label lies on one of them. */
function curve(points: readonly Point[]): string {
  const [first] = points;
  if (first === undefined) return "";
  const text = [`M${at(first)}`];
  for (let n = 0; n + 1 < points.length; n++) {
    const [before, from, to, after] = [n - 1, n, n + 1, n + 2].map(
      (place) => points[Math.min(Math.max(place, 0), points.length - 1)] as Point,
    ) as [Point, Point, Point, Point];
    const out: Point = [from[0] + (to[0] - before[0]) / 6, from[1] + (to[1] - before[1]) / 6];
    const back: Point = [to[0] - (after[0] - from[0]) / 6, to[1] - (after[1] - from[1]) / 6];
    text.push(`C${at(out)} ${at(back)} ${at(to)}`);
  }
  return text.join(" ");
}

function at([x, y]: Point): string {
  return `${x.toFixed(1)} ${y.toFixed(1)}`;
}
