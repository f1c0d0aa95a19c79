/** The actors that an actor's machine has invoked and spawned: where each stands, in its own statechart, and what it knows. */
import type { VNode } from "preact";
import { useMemo, useState } from "preact/hooks";
import type { ChartState } from "../../words/chart.ts";
import type { Children, ChildState, TypeDescription } from "./api.ts";
import { Chart } from "./chart.tsx";
import { count, stateText } from "./format.ts";
import { StatusTag } from "./parts.tsx";
import { Value } from "./value.tsx";

/** With so many a chart of each would be too much to look at. */
const OPEN = 2;
/** Rows that are drawn, and how many more are each time. */
const ROWS = 50;
/** With more of them there is a search by id. */
const SEARCHED = 12;

export function ChildrenCard(props: {
  children: Children | undefined;
  described: TypeDescription | undefined;
  /** How what is not of now is framed. */
  frame: string;
}): VNode | null {
  const { children = {}, described, frame } = props;
  const [wanted, setWanted] = useState("");
  const [most, setMost] = useState(ROWS);
  const all = useMemo(() => Object.entries(children), [children]);
  const found = useMemo(() => all.filter(([path]) => path.includes(wanted)), [all, wanted]);
  const charts = useMemo(() => chartsOf(described, children), [described, children]);
  if (all.length === 0) return null;
  return (
    <section class={`card ${frame}`} aria-label="Children">
      <h2>
        Children <span class="tag">{count(all.length)}</span>
      </h2>
      {all.length > SEARCHED && (
        <label class="child-search">
          Id contains
          <input
            type="search"
            name="child"
            value={wanted}
            onInput={(event) => {
              setWanted(event.currentTarget.value);
              setMost(ROWS);
            }}
            autoComplete="off"
            spellcheck={false}
          />
        </label>
      )}
      <ul class="children">
        {found.slice(0, most).map(([path, child]) => (
          <li key={path} data-child={path} style={{ marginLeft: `${depthOf(path) * 18}px` }}>
            <Child path={path} child={child} chart={charts.get(path)} isOpen={charts.size <= OPEN} />
          </li>
        ))}
      </ul>
      {found.length === 0 && <p class="dim quiet-line">None has such an id.</p>}
      {found.length > most && (
        <button type="button" class="small-button" onClick={() => setMost(most + 4 * ROWS)}>
          {count(found.length - most)} more
        </button>
      )}
    </section>
  );
}

function Child(props: {
  path: string;
  child: ChildState;
  chart: ChartState | undefined;
  isOpen: boolean;
}): VNode {
  const { path, child, chart, isOpen } = props;
  const { src, status, value, context, output, error } = child;
  const isOpenNow = isOpen && chart !== undefined;
  /** What nobody has opened is not drawn. */
  const [isDrawn, setDrawn] = useState(isOpenNow);
  const isInline = /^(xstate\.invoke|spawn)\./.test(src);
  const hasMore = chart !== undefined || context !== undefined || output !== undefined || error !== undefined;
  const head = (
    <>
      <strong>{idOf(path)}</strong>
      {!isInline && src !== idOf(path) && <span class="dim">{src}</span>}
      {status !== "active" && <StatusTag status={status} />}
      {value !== undefined && (
        <span class={`state-chip ${status === "active" ? "on" : ""}`}>{stateText(value)}</span>
      )}
      {value === undefined && status === "active" && <span class="dim">at work</span>}
    </>
  );
  if (!hasMore) return <p class="child-head">{head}</p>;
  return (
    <details open={isOpenNow} onToggle={(event) => event.currentTarget.open && setDrawn(true)}>
      <summary class="child-head">{head}</summary>
      {isDrawn && <ChildParts chart={chart} title={isInline ? idOf(path) : src} child={child} />}
    </details>
  );
}

function ChildParts(props: { chart: ChartState | undefined; title: string; child: ChildState }): VNode {
  const { chart, title } = props;
  const { value, context, output, error } = props.child;
  return (
    <>
      {chart !== undefined && <Chart chart={chart} title={title} value={value} />}
      {context !== undefined && <Value value={context} />}
      {output !== undefined && output !== null && (
        <p>
          <span class="dim">output</span> <Value value={output} depth={1} />
        </p>
      )}
      {error !== undefined && (
        <div class="trouble">
          <Value value={error} />
        </div>
      )}
    </>
  );
}

/** Statecharts by path, as far as they are known. */
function chartsOf(described: TypeDescription | undefined, children: Children): Map<string, ChartState> {
  const charts = new Map<string, ChartState>();
  const places = new Map<string, number>([["", 0]]);
  const machines = described?.machines ?? [];
  for (const [path, { src }] of Object.entries(children)) {
    const above = places.get(parentOf(path));
    const place = above === undefined ? undefined : machines[above]?.actors[src];
    const chart = place === undefined ? undefined : machines[place]?.chart;
    if (place === undefined || chart === undefined) continue;
    places.set(path, place);
    charts.set(path, chart);
  }
  return charts;
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

function idOf(path: string): string {
  return path
    .slice(path.lastIndexOf("/") + 1)
    .replaceAll("~1", "/")
    .replaceAll("~0", "~");
}

function depthOf(path: string): number {
  return path.split("/").length - 1;
}
