/**
 * One stream of `POST /watch`: from its request to its end, whoever ends it.
 *
 * Owns the connection, and the watch over it: one that is silent for longer than the server's heartbeat is dead, though
 * nobody has said so. Talks to http.ts; tells its owner what comes.
 *
 * Invariant: `lost` is called once, at the end, unless it was `stop` that ended it; nothing is told afterwards.
 */
import type { ActorState } from "../engine/definition.ts";
import { fromJson } from "../http/json.ts";
import { KeyturnError } from "../words/errors.ts";
import { errorOf, Failure, type Http } from "./http.ts";
import { readEvents, type StreamEvent } from "./sse.ts";

/** What a stream tells. */
export interface StreamOwner {
  opened(stream: WatchStream): void;
  /** @param isFirst of this actor in this stream */
  state(stream: WatchStream, address: string, state: ActorState, isFirst: boolean): void;
  unchanged(stream: WatchStream, address: string): void;
  /** Nothing will come of that actor any more. */
  refused(stream: WatchStream, address: string, error: KeyturnError): void;
  lost(stream: WatchStream, failure: Failure): void;
}

/** How long the server may take to begin, milliseconds. */
const BEGIN_MS = 15_000;
const HEARTBEAT_MS = 15_000;
/** How late a heartbeat may be. */
const LATE_MS = 5_000;

export class WatchStream {
  /** Actors of which something may still come, with what was known of each when the stream began. */
  readonly known: Map<string, ActorState | undefined>;
  readonly size: number;
  /** When the server had begun; undefined before. */
  opened_ms: number | undefined;
  readonly #owner: StreamOwner;
  readonly #stop = new AbortController();
  readonly #first = new Set<string>();
  #isOver = false;
  #heard_ms = performance.now();
  #silence_ms = BEGIN_MS;
  #watchdog: ReturnType<typeof setTimeout> | undefined;

  constructor(http: Http, owner: StreamOwner, known: ReadonlyMap<string, ActorState | undefined>) {
    this.#owner = owner;
    this.known = new Map(known);
    this.size = known.size;
    for (const address of known.keys()) this.#first.add(address);
    this.#guard();
    void this.#run(http);
  }

  stop(): void {
    this.#end();
    this.#stop.abort();
  }

  async #run(http: Http): Promise<void> {
    const { signal } = this.#stop;
    const actors = [...this.known].map(([address, state]) => ({
      address,
      ...(state === undefined ? {} : { since: `${state.position}-${state.turn}` }),
    }));
    const headers = { accept: "text/event-stream" };
    let failure = new Failure(new KeyturnError("unreachable", "The stream has ended."));
    try {
      const response = await http.open({ method: "POST", path: "/watch", headers, body: { actors } }, signal);
      if (response.body === null || !/^text\/event-stream\b/.test(response.headers.get("content-type") ?? ""))
        throw new Failure(new KeyturnError("server_unsuitable", "The server answers with no stream."));
      for await (const event of readEvents(response.body, () => this.#hear())) {
        if (this.#isOver) return;
        this.#take(event);
      }
    } catch (thrown) {
      failure =
        thrown instanceof Failure
          ? thrown
          : new Failure(new KeyturnError("unreachable", "The stream is broken.", { cause: thrown }));
    }
    this.#lost(failure);
  }

  #take({ event, data }: StreamEvent): void {
    const told = JSON.parse(data) as Readonly<Record<string, unknown>>;
    const { address, heartbeat_ms } = told;
    if (event === "open") {
      this.#silence_ms = (typeof heartbeat_ms === "number" ? heartbeat_ms : HEARTBEAT_MS) + LATE_MS;
      this.opened_ms = performance.now();
      clearTimeout(this.#watchdog);
      this.#guard();
      this.#owner.opened(this);
      return;
    }
    if (typeof address !== "string" || !this.known.has(address)) return;
    if (event === "state") {
      const state = fromJson(told.state, "state") as ActorState;
      this.#owner.state(this, address, state, this.#first.delete(address));
    } else if (event === "unchanged") {
      this.#first.delete(address);
      this.#owner.unchanged(this, address);
    } else if (event === "problem") {
      this.known.delete(address);
      const error = errorOf(told.problem) ?? new KeyturnError("server_unsuitable", "It was refused.");
      this.#owner.refused(this, address, error);
    }
  }

  #hear(): void {
    this.#heard_ms = performance.now();
  }

  /** Also a timer that was held up, by a computer that slept, finds that it is over. */
  #guard(): void {
    const silent_ms = performance.now() - this.#heard_ms;
    if (silent_ms < this.#silence_ms) {
      this.#watchdog = setTimeout(() => this.#guard(), Math.min(this.#silence_ms - silent_ms, HEARTBEAT_MS));
      return;
    }
    this.#lost(new Failure(new KeyturnError("unreachable", "The stream is silent.")));
    this.#stop.abort();
  }

  #lost(failure: Failure): void {
    if (this.#isOver) return;
    this.#end();
    this.#owner.lost(this, failure);
  }

  #end(): void {
    this.#isOver = true;
    clearTimeout(this.#watchdog);
  }
}
