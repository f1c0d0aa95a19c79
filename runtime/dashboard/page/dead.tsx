/** Messages that were refused for good while nobody waited for the error, a page at a time; each can be sent again. */
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { actorPath, ask, type DeadLetter, textOf } from "./api.ts";
import { moment } from "./format.ts";
import { linkTo, usePolled } from "./hooks.ts";
import { Trouble } from "./parts.tsx";
import { short, Value } from "./value.tsx";

const PAGE = 50;
const LOOK_MS = 1_500;

export function DeadView(): VNode {
  const [cursors, setCursors] = useState<readonly string[]>([""]);
  const cursor = cursors.at(-1) ?? "";
  const path = `/dead-letters?limit=${PAGE}${cursor === "" ? "" : `&cursor=${cursor}`}`;
  const { value, error } = usePolled(
    (signal) => ask<{ letters: DeadLetter[]; next?: string }>(path, { signal }),
    LOOK_MS,
    [path],
  );
  const next = value?.next;
  return (
    <>
      <h1>Dead letters</h1>
      <p class="dim">
        Messages that were refused for good and had nobody waiting for the error, oldest first. Sending one
        again is a new message: the letter stays.
      </p>
      <Trouble error={error} />
      {value?.letters.length === 0 && <p class="nothing">None.</p>}
      <ul class="letters">
        {value?.letters.map((letter) => (
          <Letter key={letter.id} letter={letter} />
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
    </>
  );
}

function Letter({ letter }: { letter: DeadLetter }): VNode {
  const { type, key, event, time, code, reason } = letter;
  const [outcome, setOutcome] = useState<string>();
  const again = async (): Promise<void> => {
    try {
      await ask(`${actorPath(type, key)}?mode=send`, { method: "POST", body: event });
      setOutcome("Taken.");
    } catch (error) {
      setOutcome(textOf(error));
    }
  };
  return (
    <li class="card letter" data-letter={letter.id}>
      <header>
        <a href={linkTo(["actors", type, key])}>
          {type}/{key}
        </a>
        <span class="tag status-error">{code}</span>
        <time class="dim" dateTime={new Date(time).toISOString()}>
          {moment(time)}
        </time>
        <button type="button" onClick={again}>
          Send again
        </button>
      </header>
      <p>{reason}</p>
      <details>
        <summary>{short(event, 100)}</summary>
        <Value value={event} />
      </details>
      {outcome !== undefined && <p role="status">{outcome}</p>}
    </li>
  );
}
