/** Messages that were refused for good while nobody waited for the error, a page at a time: sent again, or dropped. */
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { ask, type DeadLetter, textOf } from "./api.ts";
import { count, moment } from "./format.ts";
import { linkTo, usePolled } from "./hooks.ts";
import { Dialog, Trouble, Waiting } from "./parts.tsx";
import { short, Value } from "./value.tsx";

const PAGE = 50;
const LOOK_MS = 1_500;

/** What became of a letter that somebody has done something with. */
interface Done {
  readonly what: "taken" | "dropped" | "refused";
  readonly text: string;
}

export function DeadView(): VNode {
  const [cursors, setCursors] = useState<readonly string[]>([""]);
  const cursor = cursors.at(-1) ?? "";
  const path = `/dead-letters?limit=${PAGE}${cursor === "" ? "" : `&cursor=${cursor}`}`;
  const { value, error, again } = usePolled(
    (signal) => ask<{ letters: DeadLetter[]; next?: string }>(path, { signal }),
    LOOK_MS,
    [path],
  );
  const [done, setDone] = useState<ReadonlyMap<string, Done>>(new Map());
  const [isBusy, setBusy] = useState(false);
  const [isDropping, setDropping] = useState(false);
  const [summary, setSummary] = useState("");
  const next = value?.next;
  const letters = value?.letters.filter(({ id }) => (done.get(id)?.what ?? "refused") === "refused") ?? [];

  /** One after the other: letters for one actor come in their order. */
  const each = async (chosen: readonly DeadLetter[], what: "taken" | "dropped"): Promise<void> => {
    setBusy(true);
    setSummary("");
    let refused = 0;
    for (const { id } of chosen) {
      let outcome: Done;
      try {
        const at = `/dead-letters/${id}`;
        await (what === "taken" ? ask(`${at}/retry`, { method: "POST" }) : ask(at, { method: "DELETE" }));
        outcome = { what, text: "" };
      } catch (failure) {
        refused++;
        outcome = { what: "refused", text: textOf(failure) };
      }
      setDone((before) => new Map(before).set(id, outcome));
    }
    setBusy(false);
    const many = chosen.length - refused;
    // Of one alone its own row says it.
    const stays = refused === 0 ? "" : ` ${count(refused)} refused: still here.`;
    if (many > 0 || chosen.length > 1) setSummary(`${count(many)} ${what}.${stays}`);
    again();
  };
  return (
    <>
      <div class="head">
        <h1>Dead letters</h1>
        {letters.length > 1 && (
          <div class="head-actions">
            <button type="button" disabled={isBusy} onClick={() => each(letters, "taken")}>
              Send all on this page again
            </button>
            <button type="button" class="danger" disabled={isBusy} onClick={() => setDropping(true)}>
              Drop all on this page
            </button>
          </div>
        )}
      </div>
      <p class="lead">
        Messages that were refused for good and had nobody waiting for the error, oldest first. One that is
        sent again, and taken, is gone from here.
      </p>
      <Trouble error={error} />
      <p class="summary" role="status">
        {summary}
      </p>
      {value === undefined && error === undefined && <Waiting what="letters" />}
      {value !== undefined && letters.length === 0 && <p class="nothing">None. That is how it should be.</p>}
      <ul class="letters">
        {letters.map((letter) => (
          <Letter
            key={letter.id}
            letter={letter}
            refusal={done.get(letter.id)?.text}
            isBusy={isBusy}
            onRetry={() => each([letter], "taken")}
            onDrop={() => each([letter], "dropped")}
          />
        ))}
      </ul>
      {(cursors.length > 1 || next !== undefined) && (
        <div class="pager">
          <button
            type="button"
            disabled={cursors.length < 2}
            onClick={() => setCursors(cursors.slice(0, -1))}
          >
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
      )}
      {isDropping && (
        <Dialog title={`Drop ${count(letters.length)} dead letters?`} onClose={() => setDropping(false)}>
          <p>Their events are gone then, and nobody can send them again.</p>
          <div class="actions">
            <button
              type="button"
              class="danger"
              onClick={() => {
                setDropping(false);
                void each(letters, "dropped");
              }}
            >
              Drop
            </button>
            <button type="button" onClick={() => setDropping(false)}>
              Keep
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}

function Letter(props: {
  letter: DeadLetter;
  refusal: string | undefined;
  isBusy: boolean;
  onRetry: () => void;
  onDrop: () => void;
}): VNode {
  const { letter, refusal, isBusy, onRetry, onDrop } = props;
  const { id, type, key, event, time, code, reason } = letter;
  return (
    <li class="card letter" data-letter={id}>
      <header>
        <a class="key" href={linkTo(["actors", type, key])}>
          {type}/{key}
        </a>
        <span class="tag status-error">{code}</span>
        <time class="dim" dateTime={new Date(time).toISOString()} title={`id ${id}`}>
          {moment(time)}
        </time>
        <span class="letter-actions">
          <button type="button" disabled={isBusy} onClick={onRetry}>
            Send again
          </button>
          <button type="button" class="danger" disabled={isBusy} onClick={onDrop}>
            Drop
          </button>
        </span>
      </header>
      <p>{reason}</p>
      <details>
        <summary>{short(event, 100)}</summary>
        <Value value={event} />
      </details>
      {refusal !== undefined && refusal !== "" && (
        <p class="trouble" role="status">
          Refused again: {refusal}
        </p>
      )}
    </li>
  );
}
