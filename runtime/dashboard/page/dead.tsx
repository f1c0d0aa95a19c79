/**
 * Dead letters, a page at a time, to be tried again or dropped: messages that were refused for good while nobody waited for
 * the error, and of each source the items that it could not use.
 */
import type { ComponentChildren, VNode } from "preact";
import { useState } from "preact/hooks";
import { ask, type DeadLetter, type Json, type SourceDeadLetter, type SourceRow, textOf } from "./api.ts";
import { count, moment } from "./format.ts";
import { linkTo, usePolled } from "./hooks.ts";
import { Dialog, Trouble, Waiting } from "./parts.tsx";
import { short, Value } from "./value.tsx";

const PAGE = 50;
const LOOK_MS = 1_500;
const SOURCES_MS = 4_000;

/** Of whom letters are, and how they are shown. */
interface Kind<T> {
  readonly path: string;
  readonly lead: string;
  /** What trying one again is called; undefined if it cannot be. */
  readonly again: string | undefined;
  readonly refused: string;
  readonly lost: string;
  /** Newest are listed first. */
  readonly newest: boolean;
  readonly parts: (letter: T) => Parts;
}

interface Parts {
  readonly head: ComponentChildren;
  readonly reason: string;
  /** One line of what it is about, and all of that. */
  readonly line: string;
  readonly value: Json;
}

const OF_ACTORS: Kind<DeadLetter> = {
  path: "/dead-letters",
  lead: "Messages that were refused for good and had nobody waiting for the error, oldest first. One that is sent again, and taken, is gone from here.",
  again: "Send again",
  refused: "Refused again: ",
  lost: "Their events are gone then, and nobody can send them again.",
  newest: false,
  parts: ({ type, key, code, reason, event }) => ({
    head: (
      <>
        <a class="key" href={linkTo(["actors", type, key])}>
          {type}/{key}
        </a>
        <span class="tag status-error">{code}</span>
      </>
    ),
    reason,
    line: short(event, 100),
    value: event,
  }),
};

function ofSource(source: string, retries: boolean): Kind<SourceDeadLetter> {
  return {
    path: `/sources/${encodeURIComponent(source)}/dead-letters`,
    lead: `Items that the source ${source} could not use, newest first in each part. One that is read again, and can be used now, counts once and is gone from here.${retries ? "" : " This node does not host the source, so it cannot read them again."}`,
    again: retries ? "Read again" : undefined,
    refused: "",
    lost: "They are not read again then.",
    newest: true,
    parts: ({ of, number, reason, text }) => ({
      head: (
        <>
          <strong class="key">{of}</strong>
          <span class="tag" title="line, row or sequence">
            item {count(number)}
          </span>
        </>
      ),
      reason,
      line: text.length > 100 ? `${text.slice(0, 99)}…` : text,
      value: itemOf(text),
    }),
  };
}

/** Items are shown as JSON, or as they begin. */
function itemOf(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return text;
  }
}

/** @param source whose letters; those of actors without one */
export function DeadView({ source }: { source: string | undefined }): VNode {
  const { value, error } = usePolled(
    (signal) => ask<{ sources: SourceRow[] }>("/sources", { signal }),
    SOURCES_MS,
    [],
  );
  const sources = value?.sources ?? [];
  const row = sources.find((one) => one.source === source);
  const isKnown = value !== undefined || error !== undefined;
  return (
    <>
      {(sources.length > 0 || source !== undefined) && (
        <nav class="tabs" aria-label="Whose letters">
          <a href={linkTo(["dead"])} aria-current={source === undefined ? "page" : undefined}>
            Actors
          </a>
          {sources.map(({ source: name, deadLetters = 0, more }) => (
            <a
              key={name}
              href={linkTo(["dead", name])}
              aria-current={name === source ? "page" : undefined}
              data-source={name}
            >
              {name}
              {(deadLetters > 0 || more) && (
                <span class="tag status-error">
                  {count(deadLetters)}
                  {more && "+"}
                </span>
              )}
            </a>
          ))}
        </nav>
      )}
      {source === undefined ? (
        <Letters kind={OF_ACTORS} />
      ) : isKnown ? (
        <Letters kind={ofSource(source, row?.retries !== false)} />
      ) : (
        <Waiting what="letters" />
      )}
    </>
  );
}

/** What became of a letter that somebody has done something with. */
interface Done {
  readonly what: "taken" | "dropped" | "refused";
  readonly text: string;
}

function Letters<T extends SomeLetter>({ kind }: { kind: Kind<T> }): VNode {
  const [cursors, setCursors] = useState<readonly string[]>([""]);
  const cursor = cursors.at(-1) ?? "";
  const path = `${kind.path}?limit=${PAGE}${cursor === "" ? "" : `&cursor=${cursor}`}`;
  const { value, error, again } = usePolled(
    (signal) => ask<{ letters: T[]; next?: string }>(path, { signal }),
    LOOK_MS,
    [path],
  );
  const [done, setDone] = useState<ReadonlyMap<string, Done>>(new Map());
  const [isBusy, setBusy] = useState(false);
  const [isDropping, setDropping] = useState(false);
  const [summary, setSummary] = useState("");
  const next = value?.next;
  const letters = value?.letters.filter(({ id }) => (done.get(id)?.what ?? "refused") === "refused") ?? [];

  /** One after the other, oldest first: letters for one actor come in their order. */
  const each = async (some: readonly T[], what: "taken" | "dropped"): Promise<void> => {
    const chosen = kind.newest ? [...some].reverse() : some;
    setBusy(true);
    setSummary("");
    let refused = 0;
    for (const { id } of chosen) {
      let outcome: Done;
      try {
        const at = `${kind.path}/${id}`;
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
            {kind.again !== undefined && (
              <button type="button" disabled={isBusy} onClick={() => each(letters, "taken")}>
                {kind.again.replace(" ", " all on this page ")}
              </button>
            )}
            <button type="button" class="danger" disabled={isBusy} onClick={() => setDropping(true)}>
              Drop all on this page
            </button>
          </div>
        )}
      </div>
      <p class="lead">{kind.lead}</p>
      <Trouble error={error} />
      <p class="summary" role="status">
        {summary}
      </p>
      {value === undefined && error === undefined && <Waiting what="letters" />}
      {value !== undefined && letters.length === 0 && (
        <p class="nothing">{next === undefined ? "None. That is how it should be." : "None on this page."}</p>
      )}
      <ul class="letters">
        {letters.map((letter) => (
          <Letter
            key={letter.id}
            letter={letter}
            kind={kind}
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
          <p>{kind.lost}</p>
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

type SomeLetter = { readonly id: string; readonly time: number };

function Letter<T extends SomeLetter>(props: {
  letter: T;
  kind: Kind<T>;
  refusal: string | undefined;
  isBusy: boolean;
  onRetry: () => void;
  onDrop: () => void;
}): VNode {
  const { letter, kind, refusal, isBusy, onRetry, onDrop } = props;
  const { id, time } = letter;
  const { head, reason, line, value } = kind.parts(letter);
  return (
    <li class="card letter" data-letter={id}>
      <header>
        {head}
        <time class="dim" dateTime={new Date(time).toISOString()} title={`id ${id}`}>
          {moment(time)}
        </time>
        <span class="letter-actions">
          {kind.again !== undefined && (
            <button type="button" disabled={isBusy} onClick={onRetry}>
              {kind.again}
            </button>
          )}
          <button type="button" class="danger" disabled={isBusy} onClick={onDrop}>
            Drop
          </button>
        </span>
      </header>
      <p>{reason}</p>
      <details>
        <summary>{line}</summary>
        <Value value={value} />
      </details>
      {refusal !== undefined && refusal !== "" && (
        <p class="trouble" role="status">
          {kind.refused}
          {refusal}
        </p>
      )}
    </li>
  );
}
