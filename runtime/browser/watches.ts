/**
 * What a page watches: for each actor the newest state that is known, and who listens.
 *
 * Owns the set of actors that is wanted and the one stream that tells of all of them. When the set changes another stream
 * is begun, with what is known, and the former one ends when that one has begun: a browser has six connections to a
 * server, and what does not change is never without. Talks to stream.ts.
 *
 * Invariants:
 * 1. No listener is shown an older state after a newer one. What a stream tells first was read after it was begun: so it
 *    is newer than what was known then, even where a server that has lost everything counts from zero again.
 * 2. At most two streams at a time; who listens for a moment only (as React does in its strict mode) begins none.
 * 3. A stream that is lost is begun again, after pauses that grow, until nobody listens or the server refuses it.
 */
import type { ActorState } from "../engine/definition.ts";
import { KeyturnError } from "../words/errors.ts";
import { isNewer } from "../words/newer.ts";
import type { Failure, Http } from "./http.ts";
import { pauseAfter } from "./pause.ts";
import { shared } from "./share.ts";
import { type StreamOwner, WatchStream } from "./stream.ts";

/**
 * How a watch stands: `connecting` until a state has come; `live` while what is shown is what the server told last;
 * `reconnecting` while the connection is being made again, and what is shown may be old; `failed` when the server refuses
 * it.
 */
export type WatchStatus = "connecting" | "live" | "reconnecting" | "failed";

/** What is known of an actor that is watched. Another object whenever something of it changes. */
export interface Watched<S = ActorState> {
  readonly state: S | undefined;
  readonly status: WatchStatus;
  /** Why it has failed. */
  readonly error: KeyturnError | undefined;
}

interface Entry {
  readonly listeners: Set<() => void>;
  watched: Watched;
  /** Set while nobody listens. */
  leaving: ReturnType<typeof setTimeout> | undefined;
}

/** Nothing is known. */
export const UNKNOWN: Watched = Object.freeze({ state: undefined, status: "connecting", error: undefined });

/** How long a change of the set waits for further ones, milliseconds. */
const GATHER_MS = 5;
/** So long an actor is watched after the last listener has left: another view may show it. */
const LINGER_MS = 1_000;
const FIRST_PAUSE_MS = 250;
const LAST_PAUSE_MS = 10_000;
/** A stream that has lived so long was a good one. */
const GOOD_MS = 5_000;
/** Actors in a stream that nobody wants any more, before it is begun again without them. */
const UNWANTED = 8;

export class Watches implements StreamOwner {
  readonly #http: Http;
  readonly #entries = new Map<string, Entry>();
  #stream: WatchStream | undefined;
  /** Begun, and has not told anything yet. */
  #next: WatchStream | undefined;
  #gathering: ReturnType<typeof setTimeout> | undefined;
  #pausing: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  /** The server is one: what else answers for it then will pass. */
  #isKnown = false;
  #isClosed = false;

  constructor(http: Http) {
    this.#http = http;
    for (const [target, name] of hints()) target.addEventListener(name, this.#hurry);
  }

  watched(address: string): Watched {
    return this.#entries.get(address)?.watched ?? UNKNOWN;
  }

  /** @returns what ends it; to call that again does nothing */
  subscribe(address: string, listener: () => void): () => void {
    let entry = this.#entries.get(address);
    if (entry === undefined) {
      entry = { listeners: new Set(), watched: UNKNOWN, leaving: undefined };
      this.#entries.set(address, entry);
    }
    clearTimeout(entry.leaving);
    entry.leaving = undefined;
    // The same function may listen twice.
    const own = (): void => listener();
    entry.listeners.add(own);
    if (this.#isClosed) this.#fail(entry, ended());
    else if (entry.watched.status === "failed") this.#set(entry, { error: undefined, status: unsure(entry) });
    this.#gather(GATHER_MS);
    const mine = entry;
    return () => {
      if (!mine.listeners.delete(own) || mine.listeners.size > 0) return;
      mine.leaving = setTimeout(() => {
        this.#entries.delete(address);
        this.#gather(GATHER_MS);
      }, LINGER_MS);
    };
  }

  /** A state that came on another way, and is committed. */
  offer(address: string, state: ActorState): void {
    const entry = this.#entries.get(address);
    const known = entry?.watched.state;
    if (entry !== undefined && (known === undefined || isNewer(state, known))) this.#show(entry, state, {});
  }

  /** Begins again what was refused, and whatever waits to be. */
  reconnect(): void {
    if (this.#isClosed) return;
    for (const entry of this.#entries.values())
      if (entry.watched.status === "failed") this.#set(entry, { error: undefined, status: unsure(entry) });
    this.#hurry();
    this.#gather(0);
  }

  close(): void {
    this.#isClosed = true;
    this.#stream?.stop();
    this.#next?.stop();
    this.#stream = this.#next = undefined;
    clearTimeout(this.#gathering);
    clearTimeout(this.#pausing);
    for (const [target, name] of hints()) target.removeEventListener(name, this.#hurry);
    for (const entry of this.#entries.values()) {
      clearTimeout(entry.leaving);
      this.#fail(entry, ended());
    }
  }

  // ---- The set, and its stream ----------------------------------------------------------------------------------------

  #gather(ms: number): void {
    if (this.#isClosed || this.#gathering !== undefined) return;
    this.#gathering = setTimeout(() => {
      this.#gathering = undefined;
      this.#arrange();
    }, ms);
  }

  readonly #hurry = (): void => {
    if (this.#pausing === undefined) return;
    this.#pause(0);
  };

  #pause(ms: number): void {
    clearTimeout(this.#pausing);
    this.#pausing = setTimeout(() => {
      this.#pausing = undefined;
      this.#arrange();
    }, ms);
  }

  /** Begins another stream if this one does not tell of all that is wanted, or of too much. */
  #arrange(): void {
    if (this.#isClosed || this.#next !== undefined || this.#pausing !== undefined) return;
    const wanted = [...this.#entries].filter(([, { watched }]) => watched.status !== "failed");
    const stream = this.#stream;
    const missing = wanted.filter(([address]) => stream?.known.has(address) !== true);
    const unwanted = (stream?.known.size ?? 0) - (wanted.length - missing.length);
    if (wanted.length === 0) {
      this.#stream = undefined;
      stream?.stop();
    } else if (missing.length > 0 || unwanted > Math.max(UNWANTED, wanted.length)) {
      const known = wanted.map(([address, { watched }]) => [address, watched.state] as const);
      this.#next = new WatchStream(this.#http, this, new Map(known));
    }
  }

  opened(stream: WatchStream): void {
    if (stream !== this.#next) return;
    const former = this.#stream;
    this.#stream = stream;
    this.#next = undefined;
    this.#isKnown = true;
    former?.stop();
    // Others may have come meanwhile.
    this.#gather(GATHER_MS);
  }

  lost(stream: WatchStream, { error, after_ms }: Failure): void {
    if (stream === this.#next) this.#next = undefined;
    if (stream === this.#stream) {
      this.#stream = undefined;
      for (const entry of this.#entries.values())
        if (entry.watched.status === "live") this.#set(entry, { status: "reconnecting" });
    }
    const lived_ms = stream.opened_ms === undefined ? 0 : performance.now() - stream.opened_ms;
    this.#failures = lived_ms > GOOD_MS ? 1 : this.#failures + 1;
    if (error.retryable || (this.#isKnown && error.code === "server_unsuitable")) {
      this.#pause(Math.max(pauseAfter(this.#failures, FIRST_PAUSE_MS, LAST_PAUSE_MS), after_ms ?? 0));
      return;
    }
    for (const address of stream.known.keys()) {
      const entry = this.#entries.get(address);
      if (entry !== undefined) this.#fail(entry, error);
    }
    this.#gather(GATHER_MS);
  }

  // ---- What a stream tells --------------------------------------------------------------------------------------------

  state(stream: WatchStream, address: string, state: ActorState, isFirst: boolean): void {
    const entry = this.#entries.get(address);
    if (entry === undefined) return;
    const known = entry.watched.state;
    const isSure = isFirst && known === stream.known.get(address);
    const live = { status: "live" } as const;
    if (known === undefined || isSure || isNewer(state, known)) this.#show(entry, state, live);
    else this.#set(entry, live);
  }

  unchanged(_: WatchStream, address: string): void {
    const entry = this.#entries.get(address);
    if (entry !== undefined) this.#set(entry, { status: "live" });
  }

  refused(_: WatchStream, address: string, error: KeyturnError): void {
    const entry = this.#entries.get(address);
    if (entry !== undefined) this.#fail(entry, error);
  }

  // ---- Who is told ----------------------------------------------------------------------------------------------------

  #show(entry: Entry, state: ActorState, more: Partial<Watched>): void {
    this.#set(entry, { ...more, state: shared(entry.watched.state, state) as ActorState });
  }

  #fail(entry: Entry, error: KeyturnError): void {
    this.#set(entry, { status: "failed", error });
  }

  #set(entry: Entry, changed: Partial<Watched>): void {
    const { watched } = entry;
    const next = { ...watched, ...changed };
    if (next.state === watched.state && next.status === watched.status && next.error === watched.error)
      return;
    entry.watched = Object.freeze(next);
    for (const listener of [...entry.listeners]) {
      try {
        listener();
      } catch (fault) {
        // It is its own; the others are told all the same.
        queueMicrotask(() => {
          throw fault;
        });
      }
    }
  }
}

/** What a browser says when it is worth while to try again at once. */
function hints(): readonly (readonly [EventTarget, string])[] {
  const page = globalThis as { readonly document?: EventTarget; readonly addEventListener?: unknown };
  if (typeof page.addEventListener !== "function") return [];
  const online = [globalThis as unknown as EventTarget, "online"] as const;
  return page.document === undefined ? [online] : [online, [page.document, "visibilitychange"]];
}

/** How one stands that is not live. */
function unsure({ watched }: Entry): WatchStatus {
  return watched.state === undefined ? "connecting" : "reconnecting";
}

function ended(): KeyturnError {
  return new KeyturnError("client_closed", "The client is closed.");
}
