/**
 * The actors of a type as they change, out of a page: `/events`, gone on with after every break.
 *
 * Owns where such a stream stands. It has a connection of its own: unlike watches, streams with different questions
 * cannot be one. Talks to http.ts.
 *
 * Invariant: no actor's last change is missed; what was told just before a break may be told again.
 */
import type { ChangedActor } from "../client/changes.ts";
import type { FoundActor } from "../client/find.ts";
import { fromJson } from "../http/json.ts";
import { KeyturnError } from "../words/errors.ts";
import { errorOf, Failure, type Http } from "./http.ts";
import { pause, pauseAfter } from "./pause.ts";
import { readEvents, type StreamEvent } from "./sse.ts";

export interface FollowOptions {
  readonly path: string;
  /** With the reason `undefined` the stream ends quietly. */
  readonly signal: AbortSignal;
  readonly onReset?: (() => void) | undefined;
}

/** A server says more often that it lives, unless it is told to do so more seldom. */
const SILENCE_MS = 60_000;
const FIRST_PAUSE_MS = 250;
const LAST_PAUSE_MS = 10_000;

/** @throws KeyturnError if the server refuses it */
export async function* follow(http: Http, options: FollowOptions): AsyncGenerator<ChangedActor> {
  const { signal } = options;
  const place: Place = { lastId: undefined, failures: 0 };
  while (!signal.aborted) {
    let after_ms = 0;
    try {
      yield* once(http, options, place);
    } catch (thrown) {
      if (signal.aborted) break;
      if (thrown instanceof Failure && !thrown.error.retryable) throw thrown.error;
      after_ms = (thrown instanceof Failure ? thrown.after_ms : undefined) ?? 0;
    }
    place.failures++;
    await pause(Math.max(pauseAfter(place.failures, FIRST_PAUSE_MS, LAST_PAUSE_MS), after_ms), signal);
  }
  if (signal.reason instanceof KeyturnError) throw signal.reason;
}

interface Place {
  lastId: string | undefined;
  failures: number;
}

/** One connection, until it ends. @throws Failure, or whatever has broken it */
async function* once(http: Http, options: FollowOptions, place: Place): AsyncGenerator<ChangedActor> {
  const { path, signal, onReset } = options;
  const stop = new AbortController();
  const abort = (): void => stop.abort(signal.reason);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const heard = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(), SILENCE_MS);
  };
  signal.addEventListener("abort", abort);
  heard();
  try {
    const headers = {
      accept: "text/event-stream",
      ...(place.lastId === undefined ? {} : { "last-event-id": place.lastId }),
    };
    const { body } = await http.open({ method: "GET", path, headers }, stop.signal);
    if (body === null) return;
    const known = (id: string | undefined): void => {
      place.lastId = id ?? place.lastId;
    };
    for await (const event of readEvents(body, heard, known)) {
      place.failures = 0;
      if (event.event === "reset") onReset?.();
      const changed = changedIn(event);
      if (changed !== undefined) yield changed;
      known(event.id);
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
    stop.abort();
  }
}

/** @throws Failure for a problem of the stream's own */
function changedIn({ event, data }: StreamEvent): ChangedActor | undefined {
  const told = JSON.parse(data) as Readonly<Record<string, unknown>>;
  if (event === "problem")
    throw new Failure(errorOf(told) ?? new KeyturnError("server_unsuitable", "It was refused."));
  const { key, address } = told as unknown as ChangedActor;
  if (event === "changed") return { key, address, actor: fromJson(told, "actor") as FoundActor };
  return event === "gone" ? { key, address, actor: undefined } : undefined;
}
