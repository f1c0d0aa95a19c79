/**
 * What if: events put to the state after a turn, in the server's memory. What each would do is shown as if it had happened;
 * nothing is stored, told or run. Whoever wants to go on with it for real forks a sandbox.
 */
import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { ChartState } from "../../words/chart.ts";
import {
  type ActorState,
  actorPath,
  ask,
  type Json,
  Refused,
  textOf,
  type WhatIf,
  type WhatIfStep,
} from "./api.ts";
import { colourIn } from "./chart.tsx";
import { Detail } from "./detail.tsx";
import { count, eventText, moment, span, stateText } from "./format.ts";
import { linkTo } from "./hooks.ts";
import { Clock, Dialog, Trouble } from "./parts.tsx";
import { short } from "./value.tsx";

/** An event, or time that passes. */
export type Given = { readonly event: Json } | { readonly after: string };

export interface Imagined {
  /** The turn that it begins after; undefined for an actor that has taken none. */
  readonly at: number | undefined;
  readonly given: readonly Given[];
  readonly result: WhatIf | undefined;
  readonly error: string | undefined;
  readonly isAsking: boolean;
  readonly step: number;
  select(step: number): void;
  add(one: Given): void;
  remove(n: number): void;
}

/** What is imagined of one place. */
interface Dream {
  readonly place: string;
  readonly given: readonly Given[];
  readonly result?: WhatIf | undefined;
  readonly error?: string | undefined;
  readonly isAsking: boolean;
  readonly step: number;
}

/** @param at the turn that it begins after; null if nobody asks */
export function useWhatIf(type: string, key: string, at: number | null): Imagined | undefined {
  const place = `${type}/${key}@${at}`;
  const empty: Dream = { place, given: [], isAsking: true, step: -1 };
  const [kept, setKept] = useState(empty);
  // With another place it begins anew, at once: whoever is quick must not lose what he put to it.
  const dream = kept.place === place ? kept : empty;
  const change = (by: (dream: Dream) => Partial<Dream>): void =>
    setKept((before) => {
      const now = before.place === place ? before : empty;
      return { ...now, ...by(now) };
    });
  const { given } = dream;
  const asked = JSON.stringify(given);
  useEffect(() => {
    if (at === null) return undefined;
    const stop = new AbortController();
    change(() => ({ isAsking: true }));
    const events = given.map((one) => ("after" in one ? one : one.event));
    const body = { ...(at === 0 ? {} : { at }), events };
    ask<WhatIf>(`${actorPath(type, key)}/what-if`, { method: "POST", body, signal: stop.signal }).then(
      (result) => {
        if (stop.signal.aborted) return;
        change(() => ({ result, error: undefined, step: result.steps.length - 1, isAsking: false }));
      },
      (failure: unknown) => {
        if (stop.signal.aborted) return;
        const code = failure instanceof Refused ? `${failure.problem.code}: ` : "";
        change(() => ({ error: `${code}${textOf(failure)}`, isAsking: false }));
      },
    );
    return () => stop.abort();
  }, [place, asked]);
  if (at === null) return undefined;
  const { result, error, isAsking, step } = dream;
  return {
    at: at === 0 ? undefined : at,
    given,
    result,
    error,
    isAsking,
    step,
    select: (step) => change(() => ({ step })),
    add: (one) => change(({ given }) => ({ given: [...given, one] })),
    remove: (n) => change(({ given }) => ({ given: given.filter((_, place) => place !== n) })),
  };
}

/** The state before a step. */
export function beforeStep({ result }: Imagined, base: ActorState | undefined, step: number) {
  return step > 0 ? result?.steps[step - 1]?.state : base;
}

export function WhatIfPanel(props: {
  imagined: Imagined;
  chart: ChartState | undefined;
  /** Where it begins. */
  base: ActorState | undefined;
  onClose: () => void;
  onFork: () => void;
}): VNode {
  const { imagined, chart, base, onClose, onFork } = props;
  const { at, given, result, error, step, isAsking } = imagined;
  const steps = result?.steps ?? [];
  const shown = steps[step];
  const begun_ms = result?.from?.time ?? steps[0]?.time ?? 0;
  return (
    <section class="card imagined" aria-label="What if">
      <header class="card-head">
        <h2>What if{at === undefined ? "" : `, after turn ${count(at)}`}</h2>
        <button type="button" class="small-button" onClick={onFork}>
          Fork …
        </button>
        <button type="button" class="small-button" onClick={onClose}>
          Close
        </button>
      </header>
      <p class="dim quiet-line">Nothing of this happens: nobody is told, nothing is stored or run.</p>
      <ul class="given" aria-label="What is put to it">
        {given.map((one, n) => (
          <li key={n} data-given={n}>
            <span class="chip">
              {"after" in one ? (
                <>
                  <Clock /> {one.after}
                </>
              ) : (
                givenText(one.event)
              )}
              <button type="button" aria-label={`Take out ${n + 1}`} onClick={() => imagined.remove(n)}>
                ×
              </button>
            </span>
          </li>
        ))}
      </ul>
      <Trouble error={error} />
      {steps.length === 0 && error === undefined && (
        <p class="nothing small-nothing">
          {isAsking ? "Imagining …" : "Choose an event, or let time pass: what it would do shows here."}
        </p>
      )}
      {steps.length > 0 && (
        <ol class="turns" aria-label="What would happen, first first">
          {steps.map((one, n) => (
            <li key={n} data-step={n}>
              <button
                type="button"
                class={n === step ? "on" : ""}
                aria-current={n === step ? "true" : undefined}
                onClick={() => imagined.select(n)}
              >
                <span class="n">{n + 1}</span>
                <span
                  class={`dot ${one.refused === undefined ? `c${colourIn(chart, one.state.value)}` : "refused"}`}
                  aria-hidden="true"
                />
                <span class="what">
                  {one.fired && <Clock />} {eventText(one.event.type)}
                </span>
                <span class="to">
                  {one.refused === undefined ? stateText(one.state.value) : one.refused.code}
                </span>
                <time class="dim">+{span(one.time - begun_ms)}</time>
              </button>
            </li>
          ))}
        </ol>
      )}
      {shown !== undefined && (
        <div class="detail" data-imagined={step}>
          <StepDetail
            step={shown}
            before={beforeStep(imagined, base, step)}
            isFirst={base?.turn === 0 && step === 0}
          />
        </div>
      )}
      {result !== undefined && result.timers.length > 0 && (
        <p class="dim quiet-line">
          In the end it waits for{" "}
          {result.timers.map(({ id, due }, n) => (
            <span key={id}>
              {n > 0 ? "; " : ""}
              {eventText(id)} ({moment(due)})
            </span>
          ))}
          .
        </p>
      )}
    </section>
  );
}

function StepDetail(props: { step: WhatIfStep; before: ActorState | undefined; isFirst: boolean }): VNode {
  const { step, before, isFirst } = props;
  return (
    <Detail
      event={step.event}
      before={before}
      after={step.state}
      isFirst={isFirst}
      time={<time class="dim">{moment(step.time)}, imagined</time>}
      refusal={step.refused && [step.refused.code, step.refused.reason]}
      replied={step.replied}
      reply={step.reply}
      told={step.told}
      emitted={step.emitted}
      would={{ actions: step.actions, begun: step.begun }}
    />
  );
}

function givenText(event: Json): string {
  const { type, ...parts } = event as { readonly type: string };
  return Object.keys(parts).length === 0 ? type : `${type} ${short(parts as Json, 40)}`;
}

/** Lets imagined time pass. */
export function PassTime({ onPass }: { onPass: (after: string) => void }): VNode {
  const [after, setAfter] = useState("1 hour");
  return (
    <form
      class="pass-time"
      aria-label="Let time pass"
      onSubmit={(event) => {
        event.preventDefault();
        onPass(after.trim());
      }}
    >
      <label>
        Or let time pass
        <input
          name="after"
          required
          value={after}
          placeholder="30 s, 1 hour, 3 days"
          autoComplete="off"
          onInput={(event) => setAfter(event.currentTarget.value)}
        />
      </label>
      <button type="submit">Pass</button>
    </form>
  );
}

/** Begins a sandbox, and sends it what was imagined if that is wanted. */
export function ForkDialog(props: {
  type: string;
  actorKey: string;
  at: number | undefined;
  given: readonly Given[];
  onClose: () => void;
}): VNode {
  const { type, actorKey, at, given, onClose } = props;
  const events = given.flatMap((one) => ("event" in one ? [one.event] : []));
  const [key, setKey] = useState(`${actorKey}-fork${at === undefined ? "" : `-${at}`}`);
  const [timers, setTimers] = useState("drop");
  const [sends, setSends] = useState(events.length > 0);
  const [isBusy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<string>();
  const fork = async (): Promise<void> => {
    setBusy(true);
    try {
      await ask(`${actorPath(type, actorKey)}/fork`, {
        method: "POST",
        body: { ...(at === undefined ? {} : { at }), to: `${type}/${key}`, timers },
      });
      for (const event of sends ? events : [])
        await ask(`${actorPath(type, key)}?mode=send`, { method: "POST", body: event });
      onClose();
      location.hash = linkTo(["actors", type, key]);
    } catch (failure) {
      setRefusal(textOf(failure));
      setBusy(false);
    }
  };
  return (
    <Dialog
      title={`Fork ${actorKey}${at === undefined ? "" : `, after turn ${count(at)}`}`}
      onClose={onClose}
    >
      <p>
        Another actor begins with that state. It is one like any other: what it is sent has all its effects.
      </p>
      <form
        class="fork-form"
        onSubmit={(event) => {
          event.preventDefault();
          void fork();
        }}
      >
        <label>
          Its key
          <input
            name="to"
            required
            autoComplete="off"
            spellcheck={false}
            value={key}
            onInput={(event) => setKey(event.currentTarget.value)}
          />
        </label>
        <label>
          Its delays
          <select name="timers" value={timers} onChange={(event) => setTimers(event.currentTarget.value)}>
            <option value="drop">dropped: nothing happens by itself</option>
            <option value="keep">kept, due when they were</option>
          </select>
        </label>
        {events.length > 0 && (
          <label class="check">
            <input
              type="checkbox"
              name="sends"
              checked={sends}
              onChange={(event) => setSends(event.currentTarget.checked)}
            />
            Send it {events.length === 1 ? "the event" : `the ${events.length} events`} of the what-if, for
            real
          </label>
        )}
        <Trouble error={refusal} />
        <div class="actions">
          <button type="submit" class="main" disabled={isBusy}>
            Fork
          </button>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
        </div>
      </form>
    </Dialog>
  );
}
