/** One actor: where it stands in its statechart, what it knows and waits for, its past, and what it can be sent. */
import type { VNode } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import {
  type ActorState,
  actorPath,
  ask,
  type Json,
  textOf,
  type Turn,
  type TypeDescription,
} from "./api.ts";
import { Chart, eventsTaken, isLarge, litIn } from "./chart.tsx";
import { ChildrenCard } from "./children.tsx";
import { EventForm } from "./event-form.tsx";
import { count, pathsOf, stateText } from "./format.ts";
import { linkTo, usePolled } from "./hooks.ts";
import { useLive } from "./live.ts";
import { Dialog, StatusTag, Trouble, Waiting } from "./parts.tsx";
import { usePast } from "./past.ts";
import { StatelyButton } from "./stately.tsx";
import { Timeline } from "./timeline.tsx";
import { Value } from "./value.tsx";
import { MailboxCard, Timers } from "./waiting.tsx";
import { beforeStep, ForkDialog, PassTime, useWhatIf, WhatIfPanel } from "./what-if.tsx";

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
  const [asking, setAsking] = useState<number | null>(null);
  const [forking, setForking] = useState<number>();
  const imagined = useWhatIf(type, actorKey, asking);
  const select = (turn: number | undefined): void => {
    setSelected(turn);
    const place = linkTo(["actors", type, actorKey], turn === undefined ? {} : { turn: String(turn) });
    history.replaceState(null, "", place);
  };
  // Of an actor that takes turn after turn, the newest that was read.
  const total = state?.turn ?? 0;
  const latest = past.latest > 0 ? Math.min(total, past.latest) : total;
  const at = asking ?? selected ?? latest;
  const turn = past.turns.get(at);
  // While a turn is being read the one before it stays: nothing flickers as somebody drags over the past.
  const held = useRef<Turn | undefined>(undefined);
  if (turn !== undefined) held.current = turn;
  const isPast = selected !== undefined || asking !== null;
  const base = isPast ? asState(turn ?? held.current ?? state) : state;
  const chart = described.value?.chart;
  const imaginedStep = imagined?.result?.steps[imagined.step];
  const shown = imaginedStep?.state ?? imagined?.result?.state ?? base;
  const before = imagined === undefined ? past.turns.get(at - 1) : beforeStep(imagined, base, imagined.step);
  const led = imagined === undefined ? turn : imaginedStep;
  const lastState = imagined === undefined ? state : (imagined.result?.state ?? base);
  const taken = useMemo(
    () => (chart === undefined ? new Set<string>() : eventsTaken(chart, litIn(chart, lastState?.value))),
    [chart, lastState?.value],
  );
  const examples = useMemo(() => examplesIn(past.turns), [past.turns]);
  const step = useMemo(
    () =>
      led === undefined || before === undefined ? undefined : { before: before.value, event: led.event.type },
    [led, before],
  );
  const frame = asking !== null ? "imagined" : selected !== undefined ? "in-past" : "";
  const isWide = isLarge(chart);
  const chartCard = (
    <section class={`card chart-card ${frame}`} aria-label="Statechart">
      {chart === undefined && described.error === undefined && <Waiting what="the machine" />}
      {chart !== undefined && (
        <Chart
          chart={chart}
          title={type}
          value={shown?.value}
          step={step}
          onEvent={(event) => setChosen({ event })}
        />
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
        {state !== undefined && pathsOf(state.value).length > 0 && (
          <span class="state-chip on">{stateText(state.value)}</span>
        )}
        <span class={`tag ${live.error === undefined ? "connected" : "broken"}`}>
          {live.error === undefined ? (state === undefined ? "reading …" : "live") : "not connected"}
        </span>
        <span class="head-actions">
          <StatelyButton type={type} actorKey={actorKey} />
          <DeleteButton type={type} actorKey={actorKey} />
        </span>
      </header>
      <Trouble error={live.error} />
      <Trouble error={described.error} />
      <Trouble error={past.error} />
      {asking !== null && (
        <p class="past-note imagined-note" role="status">
          What is drawn is imagined.
          <button type="button" class="small-button" onClick={() => setAsking(null)}>
            Back to what is
          </button>
        </p>
      )}
      {asking === null && selected !== undefined && state !== undefined && (
        <p class="past-note" role="status">
          This is turn {count(selected)} of {count(state.turn)}.
          <button type="button" class="small-button" onClick={() => select(undefined)}>
            Back to now
          </button>
        </p>
      )}
      <div class="columns">
        {isWide && <div class="whole">{chartCard}</div>}
        <div class="wide">
          {!isWide && chartCard}
          {imagined !== undefined && (
            <WhatIfPanel
              imagined={imagined}
              chart={chart}
              base={base}
              onClose={() => setAsking(null)}
              onFork={() => setForking(at)}
            />
          )}
          <section class="card" aria-label="History" hidden={imagined !== undefined}>
            <h2>History</h2>
            {state === undefined && live.error === undefined && <Waiting what="the actor" />}
            {state !== undefined && (
              <Timeline
                turns={past.turns}
                total={state.turn}
                latest={latest}
                selected={selected}
                onSelect={select}
                isReading={past.isReading}
                chart={chart}
                onWhatIf={setAsking}
                onFork={setForking}
              />
            )}
          </section>
          <ChildrenCard children={shown?.children} described={described.value} frame={frame} />
        </div>
        <div class="narrow">
          {described.value !== undefined && state !== undefined && (
            <section
              class={`card ${imagined === undefined ? "" : "imagined"}`}
              aria-label={imagined === undefined ? "Send" : "Imagine"}
            >
              <h2>{imagined === undefined ? "Send" : "What if it is sent"}</h2>
              <EventForm
                described={described.value}
                type={type}
                actorKey={actorKey}
                taken={taken}
                chosen={chosen}
                examples={examples}
                isNew={state.turn === 0}
                compose={imagined && ((event) => imagined.add({ event }))}
              />
              {imagined !== undefined && <PassTime onPass={(after) => imagined.add({ after })} />}
              {imagined === undefined && state.turn === 0 && (
                <p class="dim quiet-line">
                  No message has reached it yet.{" "}
                  <button type="button" class="link" onClick={() => setAsking(0)}>
                    What if one did?
                  </button>
                </p>
              )}
            </section>
          )}
          <section class={`card ${frame}`} aria-label="Context" data-context>
            <h2>Context{contextName(asking !== null, selected)}</h2>
            {shown !== undefined && (
              <Value key={isPast ? `${at} ${imagined?.step ?? ""}` : "live"} value={shown.context} />
            )}
            {!isPast && <Ending state={state} />}
          </section>
          {asking === null && (
            <>
              <MailboxCard type={type} actorKey={actorKey} />
              <Timers type={type} actorKey={actorKey} position={state?.position ?? 0} />
            </>
          )}
        </div>
      </div>
      {forking !== undefined && (
        <ForkDialog
          type={type}
          actorKey={actorKey}
          at={forking === 0 ? undefined : forking}
          given={imagined?.given ?? []}
          onClose={() => setForking(undefined)}
        />
      )}
    </>
  );
}

function contextName(isImagined: boolean, selected: number | undefined): string {
  if (isImagined) return ", imagined";
  return selected === undefined ? "" : `, turn ${count(selected)}`;
}

/** A turn as the state that it made. */
function asState(turn: Turn | ActorState | undefined): ActorState | undefined {
  return turn;
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

/** The newest event of each type. */
function examplesIn(turns: ReadonlyMap<number, Turn>): ReadonlyMap<string, Readonly<Record<string, Json>>> {
  const newest = new Map<string, Turn>();
  for (const turn of turns.values()) {
    const there = newest.get(turn.event.type);
    if (there === undefined || there.turn < turn.turn) newest.set(turn.event.type, turn);
  }
  return new Map([...newest].map(([type, { event }]) => [type, event]));
}
