/** One actor: where it stands in its statechart, what it knows and waits for, its past, and what it can be sent. */
import type { VNode } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import {
  type ActorState,
  actorPath,
  ask,
  type Json,
  listen,
  textOf,
  type Timer,
  type Turn,
  type TypeDescription,
} from "./api.ts";
import { Chart, eventsTaken, isLarge, litIn } from "./chart.tsx";
import { spanText } from "./chart-layout.ts";
import { EventForm } from "./event-form.tsx";
import { count, moment, span, stateText } from "./format.ts";
import { linkTo, useNow, usePolled } from "./hooks.ts";
import { Dialog, StatusTag, Trouble } from "./parts.tsx";
import { Past } from "./past.ts";
import { inspectWithStately } from "./stately.ts";
import { Timeline } from "./timeline.tsx";
import { Value } from "./value.tsx";

export function ActorView({
  type,
  actorKey,
  query,
}: {
  type: string;
  actorKey: string;
  query: URLSearchParams;
}): VNode {
  const described = usePolled((signal) => ask<TypeDescription>(`/types/${type}`, { signal }), 60_000, [type]);
  const live = useLive(type, actorKey);
  const { state } = live;
  const given = Number(query.get("turn"));
  const [selected, setSelected] = useState<number | undefined>(given >= 1 ? given : undefined);
  const past = usePast(type, actorKey, state, selected);
  const [chosen, setChosen] = useState<{ event: string }>();
  const select = (turn: number | undefined): void => {
    setSelected(turn);
    const place = linkTo(["actors", type, actorKey], turn === undefined ? {} : { turn: String(turn) });
    history.replaceState(null, "", place);
  };
  const at = selected ?? state?.turn ?? 0;
  const turn = past.turns.get(at);
  const shown = selected === undefined ? state : (turn ?? state);
  const before = past.turns.get(at - 1);
  const chart = described.value?.chart;
  const taken = useMemo(
    () => (chart === undefined ? new Set<string>() : eventsTaken(chart, litIn(chart, state?.value))),
    [chart, state?.value],
  );
  const examples = useMemo(() => examplesIn(past.turns), [past.turns]);
  const step = useMemo(
    () =>
      turn === undefined || before === undefined
        ? undefined
        : { before: before.value, event: turn.event.type },
    [turn, before],
  );
  const chartCard = (
    <section class={`card ${selected === undefined ? "" : "in-past"}`} aria-label="Statechart">
      {chart !== undefined && (
        <Chart chart={chart} value={shown?.value} step={step} onEvent={(event) => setChosen({ event })} />
      )}
    </section>
  );
  return (
    <>
      <nav class="crumbs" aria-label="Where this is">
        <a href={linkTo([])}>Cluster</a> / <a href={linkTo(["types", type])}>{type}</a> /{" "}
        <span aria-current="page">{actorKey}</span>
      </nav>
      <header class="actor-head">
        <h1>{actorKey}</h1>
        {state !== undefined && <StatusTag status={state.status} />}
        {state !== undefined && <span class="state-chip on">{stateText(state.value)}</span>}
        <span class={`tag ${live.error === undefined ? "connected" : "broken"}`}>
          {live.error === undefined ? (state === undefined ? "…" : "live") : "not connected"}
        </span>
        <button
          type="button"
          class="stately"
          title="Opens stately.ai in a window of its own"
          onClick={() => inspectWithStately(type, actorKey)}
        >
          Stately ↗
        </button>
        <DeleteButton type={type} actorKey={actorKey} />
      </header>
      <Trouble error={live.error} />
      <Trouble error={described.error} />
      <Trouble error={past.error} />
      {selected !== undefined && state !== undefined && (
        <p class="past-note" role="status">
          This is turn {count(selected)} of {count(state.turn)}.{" "}
          <button type="button" onClick={() => select(undefined)}>
            Back to now
          </button>
        </p>
      )}
      <div class="columns">
        {isLarge(chart) && <div class="whole">{chartCard}</div>}
        <div class="wide">
          {!isLarge(chart) && chartCard}
          <section class="card" aria-label="History">
            <h2>History</h2>
            {state !== undefined && (
              <Timeline
                turns={past.turns}
                total={state.turn}
                selected={selected}
                onSelect={select}
                isReading={past.isReading}
                chart={chart}
              />
            )}
          </section>
        </div>
        <div class="narrow">
          {described.value !== undefined && state !== undefined && (
            <section class="card" aria-label="Send an event">
              <h2>Send</h2>
              <EventForm
                described={described.value}
                type={type}
                actorKey={actorKey}
                taken={taken}
                chosen={chosen}
                examples={examples}
                isNew={state.turn === 0}
              />
            </section>
          )}
          <section
            class={`card ${selected === undefined ? "" : "in-past"}`}
            aria-label="Context"
            data-context
          >
            <h2>Context{selected === undefined ? "" : `, turn ${count(selected)}`}</h2>
            {shown !== undefined && (
              <Value key={selected === undefined ? "live" : selected} value={shown.context} />
            )}
            {selected === undefined && <Ending state={state} />}
          </section>
          <Timers type={type} actorKey={actorKey} position={state?.position ?? 0} />
          <Children state={state} />
        </div>
      </div>
    </>
  );
}

function Ending({ state }: { state: ActorState | undefined }): VNode | null {
  if (state === undefined) return null;
  const { output, error, tags = [], status } = state;
  return (
    <>
      {status === "done" && (
        <p>
          <span class="dim">output</span> <Value value={output ?? null} />
        </p>
      )}
      {error !== undefined && (
        <p class="trouble">
          <Value value={error} />
        </p>
      )}
      {tags.length > 0 && (
        <p>
          {tags.map((tag) => (
            <span class="tag" key={tag}>
              {tag}
            </span>
          ))}
        </p>
      )}
    </>
  );
}

function Children({ state }: { state: ActorState | undefined }): VNode | null {
  const children = Object.entries(state?.children ?? {});
  if (children.length === 0) return null;
  return (
    <section class="card" aria-label="Children">
      <h2>Children</h2>
      <ul class="plain">
        {children.map(([id, { src, status, value }]) => (
          <li key={id}>
            <strong>{id}</strong> <span class="dim">{src}</span> <StatusTag status={status} />{" "}
            {value !== undefined && stateText(value)}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Timers({
  type,
  actorKey,
  position,
}: {
  type: string;
  actorKey: string;
  position: number;
}): VNode | null {
  const path = `${actorPath(type, actorKey)}/timers`;
  const { value, error, again } = usePolled((signal) => ask<{ timers: Timer[] }>(path, { signal }), 10_000, [
    path,
    position,
  ]);
  const now = useNow(250);
  const [refusal, setRefusal] = useState<string>();
  const cancel = async ({ id, child }: Timer): Promise<void> => {
    try {
      const query = child === undefined ? "" : `?child=${encodeURIComponent(child)}`;
      await ask(`${path}/${encodeURIComponent(id)}${query}`, { method: "DELETE" });
      setRefusal(undefined);
      again();
    } catch (failure) {
      setRefusal(textOf(failure));
    }
  };
  const timers = value?.timers ?? [];
  if (timers.length === 0 && error === undefined) return null;
  return (
    <section class="card" aria-label="Timers">
      <h2>Timers</h2>
      <Trouble error={error ?? refusal} />
      <ul class="plain timers">
        {timers.map((timer) => (
          <li key={`${timer.child ?? ""} ${timer.id}`}>
            <span class="due" title={moment(timer.due)}>
              {timer.due > now ? `in ${span(timer.due - now)}` : "now"}
            </span>
            <span class="id">
              {timer.child === undefined ? "" : `${timer.child}: `}
              {timerText(timer.id)}
            </span>
            <button type="button" onClick={() => cancel(timer)}>
              Cancel
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** XState's own name of an `after` in words: how long, and in which state. */
function timerText(id: string): string {
  const [, delay, state] = /^xstate\.after\.([^.]+)\.(.+)$/.exec(id) ?? [];
  if (delay === undefined || state === undefined) return id;
  const time = /^\d+$/.test(delay) ? spanText(Number(delay)) : delay;
  return `after ${time} in ${state.replace(/^[^.]+\./, "")}`;
}

function DeleteButton({ type, actorKey }: { type: string; actorKey: string }): VNode {
  const [isAsking, setAsking] = useState(false);
  const [refusal, setRefusal] = useState<string>();
  const remove = async (): Promise<void> => {
    try {
      await ask(actorPath(type, actorKey), { method: "DELETE" });
      location.hash = linkTo(["types", type]);
    } catch (error) {
      setRefusal(textOf(error));
    }
  };
  return (
    <>
      <button type="button" class="danger" onClick={() => setAsking(true)}>
        Delete
      </button>
      {isAsking && (
        <Dialog title={`Delete ${type}/${actorKey}?`} onClose={() => setAsking(false)}>
          <p>
            Its state, timers and work are gone, and a later message begins anew. What it has told others
            stays told.
          </p>
          <Trouble error={refusal} />
          <div class="actions">
            <button type="button" class="danger" onClick={remove}>
              Delete
            </button>
            <button type="button" onClick={() => setAsking(false)}>
              Keep
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}

interface Live {
  readonly state: ActorState | undefined;
  readonly error: string | undefined;
}

/** The actor's state as it changes. */
function useLive(type: string, key: string): Live {
  const [live, setLive] = useState<Live>({ state: undefined, error: undefined });
  useEffect(() => {
    const stop = new AbortController();
    setLive({ state: undefined, error: undefined });
    const heard = (event: string, data: string): void => {
      if (event === "state") setLive({ state: JSON.parse(data) as ActorState, error: undefined });
      else if (event === "problem")
        setLive(({ state }) => ({ state, error: (JSON.parse(data) as { detail?: string }).detail ?? data }));
    };
    const broken = (error: unknown): void => setLive(({ state }) => ({ state, error: textOf(error) }));
    void listen(`${actorPath(type, key)}/watch`, stop.signal, heard, broken);
    return () => stop.abort();
  }, [type, key]);
  return live;
}

interface Read {
  readonly turns: ReadonlyMap<number, Turn>;
  readonly error: string | undefined;
  readonly isReading: boolean;
}

/** The turns around the one that is looked at. */
function usePast(
  type: string,
  key: string,
  state: ActorState | undefined,
  selected: number | undefined,
): Read {
  // A deletion begins another life, whose turns count from 1 again.
  const highest = useRef(0);
  const [life, setLife] = useState(0);
  const past = useMemo(() => new Past(type, key), [type, key, life]);
  const [read, setRead] = useState<Read>({ turns: new Map(), error: undefined, isReading: false });
  const total = state?.turn;
  useEffect(() => {
    if (total === undefined) return undefined;
    if (total < highest.current) setLife((n) => n + 1);
    highest.current = total;
    const stop = new AbortController();
    const run = async (): Promise<void> => {
      if (total === 0) return setRead({ turns: new Map(), error: undefined, isReading: false });
      setRead((now) => ({ ...now, isReading: true }));
      try {
        await past.refresh(total);
        await past.ensure(selected ?? total, stop.signal);
        if (!stop.signal.aborted) setRead({ turns: new Map(past.turns), error: undefined, isReading: false });
      } catch (error) {
        if (!stop.signal.aborted)
          setRead({ turns: new Map(past.turns), error: textOf(error), isReading: false });
      }
    };
    void run();
    return () => stop.abort();
  }, [past, total, selected]);
  return read;
}

/** The newest event of each type. */
function examplesIn(turns: ReadonlyMap<number, Turn>): ReadonlyMap<string, Readonly<Record<string, Json>>> {
  const newest = new Map<string, Turn>();
  for (const turn of turns.values()) {
    const there = newest.get(turn.event.type);
    if (there === undefined || there.turn < turn.turn) newest.set(turn.event.type, turn);
  }
  return new Map([...newest].map(([type, { event }]) => [type, event]));
}
