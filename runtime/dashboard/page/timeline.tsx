/** An actor's past as a line that can be scrubbed: every turn with what came in, what came out, and what it changed. */
import type { VNode } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";
import type { ChartState } from "../../words/chart.ts";
import type { Turn } from "./api.ts";
import { colourIn } from "./chart.tsx";
import { Detail } from "./detail.tsx";
import { count, eventText, moment, span, stateText } from "./format.ts";

/** Beyond so many turns the strip shows a stretch around the one that is looked at. */
const STRIP = 240;
const ROWS = 60;

export interface TimelineProps {
  readonly turns: ReadonlyMap<number, Turn>;
  readonly total: number;
  /** The newest that was read; an actor at work is ahead of it. */
  readonly latest: number;
  /** The turn that is looked at; undefined for the newest. */
  readonly selected: number | undefined;
  readonly onSelect: (turn: number | undefined) => void;
  readonly isReading: boolean;
  readonly chart: ChartState | undefined;
  readonly onWhatIf: (turn: number) => void;
  readonly onFork: (turn: number) => void;
}

export function Timeline(props: TimelineProps): VNode {
  const { turns, total, latest, selected, onSelect, isReading, chart, onWhatIf, onFork } = props;
  const at = selected ?? latest;
  const step = (by: number): void => {
    const to = Math.min(Math.max(1, at + by), total);
    onSelect(to === total ? undefined : to);
  };
  if (total === 0) return <p class="dim">No message has reached this actor yet.</p>;
  return (
    <div class="timeline">
      <div class="scrub">
        <button type="button" aria-label="Turn before" disabled={at <= 1} onClick={() => step(-1)}>
          ‹
        </button>
        <input
          type="range"
          name="turn"
          aria-label="Turn"
          aria-valuetext={`Turn ${count(at)} of ${count(total)}`}
          min={1}
          max={Math.max(total, 2)}
          disabled={total < 2}
          value={at}
          onInput={(event) => {
            const turn = Number(event.currentTarget.value);
            onSelect(turn >= total ? undefined : turn);
          }}
        />
        <button type="button" aria-label="Turn after" disabled={at >= total} onClick={() => step(1)}>
          ›
        </button>
        <output class="at" data-turn={at}>
          {count(at)} <span class="dim">of {count(total)}</span>
        </output>
        <button
          type="button"
          class={selected === undefined ? "live on" : "live"}
          onClick={() => onSelect(undefined)}
        >
          {selected === undefined ? "Live" : "Back to now"}
        </button>
      </div>
      <Strip
        chart={chart}
        turns={turns}
        total={total}
        at={at}
        onSelect={(turn) => onSelect(turn === total ? undefined : turn)}
      />
      <div class="detail" data-detail={turns.get(at)?.turn} aria-busy={isReading}>
        <TurnDetail turn={turns.get(at)} before={turns.get(at - 1)} at={at} isReading={isReading} />
        {turns.has(at) && (
          <div class="detail-actions">
            <button type="button" class="small-button" onClick={() => onWhatIf(at)}>
              What if …
            </button>
            <button type="button" class="small-button" onClick={() => onFork(at)}>
              Fork …
            </button>
          </div>
        )}
      </div>
      <Rows chart={chart} turns={turns} at={at} total={total} onSelect={onSelect} />
    </div>
  );
}

/** A bar for each turn in the colour of the state that it led to. */
function Strip(props: {
  turns: ReadonlyMap<number, Turn>;
  total: number;
  at: number;
  onSelect: (turn: number) => void;
  chart: ChartState | undefined;
}): VNode {
  const { turns, total, at, onSelect, chart } = props;
  const first = Math.max(1, Math.min(at - STRIP / 2, total - STRIP + 1));
  const shown = Array.from({ length: Math.min(STRIP, total - first + 1) }, (_, n) => first + n);
  return (
    <div class="strip" aria-hidden="true">
      {shown.map((number) => {
        const turn = turns.get(number);
        const state = turn === undefined ? "" : stateText(turn.value);
        const kinds = [
          turn === undefined ? "unread" : `c${colourIn(chart, turn.value)}`,
          number === at ? "now" : "",
        ];
        return (
          <button
            type="button"
            tabIndex={-1}
            key={number}
            class={kinds.join(" ")}
            title={
              turn === undefined
                ? `Turn ${count(number)}`
                : `Turn ${count(number)}: ${eventText(turn.event.type)} → ${state}`
            }
            onClick={() => onSelect(number)}
          />
        );
      })}
    </div>
  );
}

function TurnDetail(props: {
  turn: Turn | undefined;
  before: Turn | undefined;
  at: number;
  isReading: boolean;
}): VNode {
  const { turn, before, at, isReading } = props;
  if (turn === undefined)
    return (
      <p class="dim">
        {isReading ? `Reading turn ${count(at)} …` : `Turn ${count(at)} cannot be told any more.`}
      </p>
    );
  const { time, refusal } = turn;
  return (
    <Detail
      event={turn.event}
      before={before}
      after={turn}
      isFirst={turn.turn === 1}
      time={
        <time class="dim" dateTime={new Date(time).toISOString()}>
          {moment(time)}
          {before !== undefined && `, ${span(time - before.time)} after the turn before`}
        </time>
      }
      refusal={refusal ?? undefined}
      replied={turn.replied}
      reply={turn.reply}
      told={turn.told}
      emitted={turn.emitted}
    />
  );
}

function Rows(props: {
  turns: ReadonlyMap<number, Turn>;
  at: number;
  total: number;
  onSelect: (turn: number | undefined) => void;
  chart: ChartState | undefined;
}): VNode {
  const { turns, at, total, onSelect, chart } = props;
  const list = useRef<HTMLOListElement>(null);
  const numbers = useMemo(() => {
    const first = Math.min(total, at + ROWS / 2);
    const last = Math.max(1, first - ROWS);
    const found: number[] = [];
    for (let number = first; number >= last; number--) if (turns.has(number)) found.push(number);
    return found;
  }, [turns, at, total]);
  // The list follows what is looked at.
  useEffect(() => {
    const row = list.current?.querySelector<HTMLElement>(".on");
    const frame = list.current;
    if (row == null || frame === null) return;
    // The frame is what its rows are placed in.
    const top = row.offsetTop;
    if (top < frame.scrollTop || top > frame.scrollTop + frame.clientHeight - 40) frame.scrollTop = top - 60;
  }, [at, numbers]);
  return (
    <ol class="turns" ref={list} aria-label="Turns, newest first">
      {numbers.map((number) => {
        const turn = turns.get(number) as Turn;
        return (
          <li key={number}>
            <button
              type="button"
              class={number === at ? "on" : ""}
              aria-current={number === at ? "true" : undefined}
              onClick={() => onSelect(number === total ? undefined : number)}
            >
              <span class="n">{count(number)}</span>
              <span class={`dot c${colourIn(chart, turn.value)}`} aria-hidden="true" />
              <span class="what">{eventText(turn.event.type)}</span>
              <span class="to">{stateText(turn.value)}</span>
              <time class="dim">{moment(turn.time)}</time>
            </button>
          </li>
        );
      })}
    </ol>
  );
}
