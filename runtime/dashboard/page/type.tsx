/** A type: its statechart with how many actors stand where, and its actors, a page at a time. */
import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { splitConditions } from "../../words/condition-text.ts";
import { ask, type Found, type TypeDescription } from "./api.ts";
import { Chart, isLarge } from "./chart.tsx";
import { CountedStates, Total } from "./cluster.tsx";
import { useCount } from "./counting.ts";
import { count, moment, stateText } from "./format.ts";
import { linkTo, usePolled, useSettled } from "./hooks.ts";
import { StatusTag, Trouble, Waiting } from "./parts.tsx";
import { short } from "./value.tsx";

const PAGE = 50;
const LIST_MS = 1_500;
const SETTLE_MS = 200;

export function TypeView({ type, query }: { type: string; query: URLSearchParams }): VNode {
  const described = usePolled((signal) => ask<TypeDescription>(`/types/${type}`, { signal }), 60_000, [type]);
  const counts = useCount(type);
  return (
    <>
      <nav class="crumbs" aria-label="Where this is">
        <a href={linkTo([])}>Cluster</a> / <span aria-current="page">{type}</span>
      </nav>
      <h1 class="with-total">
        <span>{type}</span> <Total counted={counts} />
      </h1>
      <Trouble error={described.error} />
      <div class="columns">
        <section class={`card ${isLarge(described.value?.chart) ? "whole" : ""}`} aria-label="Statechart">
          {described.value === undefined && described.error === undefined && <Waiting what="the machine" />}
          {described.value !== undefined && (
            <Chart
              chart={described.value.chart}
              title={type}
              counts={counts.value?.states}
              onState={(state) => {
                location.hash = linkTo(["types", type], { state });
              }}
            />
          )}
        </section>
        <section
          class={`card ${isLarge(described.value?.chart) ? "whole" : ""}`}
          aria-label="Actors by state"
          ref={counts.place}
        >
          <h2>By state</h2>
          <CountedStates type={type} counted={counts} />
        </section>
      </div>
      <List key={type} type={type} index={described.value?.index} given={query} />
    </>
  );
}

interface Filters {
  readonly prefix: string;
  readonly state: string;
  readonly status: string;
  readonly where: string;
}

function filtersIn(query: URLSearchParams): Filters {
  const text = (name: string): string => query.get(name) ?? "";
  return { prefix: text("prefix"), state: text("state"), status: text("status"), where: text("where") };
}

function List(props: { type: string; index: readonly string[] | undefined; given: URLSearchParams }): VNode {
  const { type, index = [], given } = props;
  // When actors of other types had their last turn is not kept.
  const hasTimes = props.index !== undefined;
  const [filters, setFilters] = useState(() => filtersIn(given));
  /** Cursors of the pages before this one, and of this one. */
  const [cursors, setCursors] = useState<readonly string[]>([""]);
  const asked = useSettled(filters, SETTLE_MS);
  const change = (part: Partial<Filters>): void => {
    setFilters({ ...filters, ...part });
    setCursors([""]);
  };
  // The address says what is looked for, so that it can be sent to somebody.
  useEffect(() => {
    history.replaceState(null, "", linkTo(["types", type], { ...asked }));
  }, [asked, type]);
  const text = given.toString();
  // A link to the same view with another filter.
  useEffect(() => change(filtersIn(given)), [text]);
  const cursor = cursors.at(-1) ?? "";
  const { value, error, isSlow } = usePolled(
    (signal) => ask<{ actors: Found[]; next?: string }>(listPath(type, asked, cursor), { signal }),
    LIST_MS,
    [type, asked, cursor],
  );
  const next = value?.next;
  return (
    <section class="list" aria-label="Actors">
      <form class="filters" aria-label="Which actors" onSubmit={(event) => event.preventDefault()}>
        <label>
          Key begins with
          <input
            type="search"
            name="prefix"
            value={filters.prefix}
            onInput={(event) => change({ prefix: event.currentTarget.value })}
            autoComplete="off"
            spellcheck={false}
          />
        </label>
        <label>
          State
          <input
            type="search"
            name="state"
            placeholder="waiting.payment"
            value={filters.state}
            onInput={(event) => change({ state: event.currentTarget.value })}
            autoComplete="off"
            spellcheck={false}
          />
        </label>
        <label>
          Status
          <select
            name="status"
            value={filters.status}
            onChange={(event) => change({ status: event.currentTarget.value })}
          >
            <option value="">any</option>
            {["active", "done", "error", "stopped"].map((status) => (
              <option key={status}>{status}</option>
            ))}
          </select>
        </label>
        {index.length > 0 && (
          <label>
            Where
            <input
              type="search"
              name="where"
              placeholder={index.length > 1 ? `${index[0]}=ada, ${index[1]}>=10` : `${index[0]}=ada`}
              value={filters.where}
              onInput={(event) => change({ where: event.currentTarget.value })}
              autoComplete="off"
              spellcheck={false}
            />
          </label>
        )}
      </form>
      <Trouble error={error} />
      <table>
        <thead>
          <tr>
            <th scope="col">Key</th>
            <th scope="col">State</th>
            <th scope="col" class="extra">
              Status
            </th>
            <th scope="col" class="right">
              Turns
            </th>
            {index.map((path) => (
              <th scope="col" key={path} class="extra">
                {path}
              </th>
            ))}
            {hasTimes && (
              <th scope="col" class="extra">
                Last turn
              </th>
            )}
          </tr>
        </thead>
        <tbody>
          {value?.actors.map(({ key, value: state, status, turn, time, fields }) => (
            <tr key={key} data-key={key}>
              <td class="key">
                <a href={linkTo(["actors", type, key])}>{key}</a>
              </td>
              <td>{stateText(state)}</td>
              <td class="extra">
                <StatusTag status={status} />
              </td>
              <td class="right">{count(turn)}</td>
              {index.map((path) => (
                <td key={path} class="extra">
                  {short(fields[path], 40)}
                </td>
              ))}
              {hasTimes && <td class="extra dim">{time === undefined || time === 0 ? "–" : moment(time)}</td>}
            </tr>
          ))}
        </tbody>
      </table>
      {value === undefined && error === undefined && <Waiting what="actors" isSlow={isSlow} />}
      {value !== undefined && value.actors.length === 0 && (
        <p class="nothing">
          No such actors. One that no message has reached has no row, but can be opened by its address.
        </p>
      )}
      <div class="pager" hidden={cursors.length < 2 && next === undefined}>
        <button type="button" disabled={cursors.length < 2} onClick={() => setCursors(cursors.slice(0, -1))}>
          ← Before
        </button>
        <span class="dim">Page {cursors.length}</span>
        <button
          type="button"
          disabled={next === undefined}
          onClick={() => next !== undefined && setCursors([...cursors, next])}
        >
          Next →
        </button>
      </div>
    </section>
  );
}

/** A condition that has a value. */
const WHOLE = /[^\s=<>!^]\s*(?:==|!=|>=|<=|\^=|=|<|>)\s*[^\s=]/;
/** As conditions were written before: total=gte:10. */
const OLDER = /^\s*([^=<>!^]+?)\s*=\s*((?:eq|ne|gte?|lte?|in|prefix):.+)$/;

function listPath(type: string, { prefix, state, status, where }: Filters, cursor: string): string {
  const query = new URLSearchParams({ limit: String(PAGE) });
  for (const [name, value] of Object.entries({ prefix, state, status, cursor }))
    if (value !== "") query.set(name, value);
  for (const one of splitConditions(where)) {
    const [, path, older] = OLDER.exec(one) ?? [];
    if (path !== undefined && older !== undefined) query.set(`where.${path}`, older);
    // Not what is still being written.
    else if (WHOLE.test(one)) query.append("where", one.trim());
  }
  return `/actors/${type}?${query}`;
}
