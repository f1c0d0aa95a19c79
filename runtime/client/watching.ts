/**
 * Watches: the states of actors, as their owners tell them.
 *
 * Owns the watches of one client that are open, and which state of each is the newest. A watch is asked for again and
 * again, so it is found by whoever owns the actor next. Talks to the client's requests.
 *
 * Invariant: what a reader is given is never older than what it was given before; the last state is never missed.
 */
import type { ActorState } from "../engine/definition.ts";
import { WATCH_TTL_MS } from "../engine/watches.ts";
import type { Clock } from "../ports/index.ts";
import { KeyturnError } from "../words/errors.ts";
import { type RequestKind, Unwatch, Watch } from "../words/frames.ts";
import { comparable, isNewer, isSame } from "../words/newer.ts";
import type { Recipient, WatchOptions } from "./options.ts";

/** Hears of every state of an actor that is published, also of those that a slow reader of a watch misses. */
export interface StateListener {
  /** @param known the state that was newest when this one was asked for; undefined if it was not asked for */
  seen(state: ActorState, known: ActorState | undefined): void;
  /** The newest state that it knows. */
  readonly newest: ActorState | undefined;
  /** It hears nothing more. */
  failed(error: unknown): void;
}

export class Watching {
  readonly #session: string;
  readonly #clock: Clock;
  readonly #request: (ref: Recipient, kind: RequestKind, watch: string) => Promise<unknown>;
  readonly #open = new Map<string, (state: unknown) => void>();
  #count = 0;

  /** @param session the client's, by which its watches are named */
  constructor(
    session: string,
    clock: Clock,
    request: (ref: Recipient, kind: RequestKind, watch: string) => Promise<unknown>,
  ) {
    this.#session = session;
    this.#clock = clock;
    this.#request = request;
  }

  /** An owner tells a state; null if it is not the owner any more. */
  heard(watch: string, state: unknown): void {
    this.#open.get(watch)?.(state);
  }

  /** Tells a listener every state that is published, without a generator between. Returns what ends it. */
  listen(ref: Recipient, listener: StateListener): () => void {
    const name = `${this.#session}:${++this.#count}`;
    const renew = (): void => {
      const { newest } = listener;
      this.#request(ref, Watch, name).then(
        (state) => listener.seen(state as ActorState, newest),
        (error: unknown) => {
          if (!(error instanceof KeyturnError && error.retryable)) listener.failed(error);
        },
      );
    };
    this.#open.set(name, (state) =>
      state === null ? renew() : listener.seen(state as ActorState, undefined),
    );
    let cancel = (): void => undefined;
    const arrange = (): void => {
      cancel = this.#clock.after(WATCH_TTL_MS / 3, () => {
        renew();
        arrange();
      });
    };
    renew();
    arrange();
    return () => {
      cancel();
      this.#open.delete(name);
      this.#request(ref, Unwatch, name).catch(() => undefined);
    };
  }

  /** The state now and after every commit. */
  async *watch(ref: Recipient, options: WatchOptions): AsyncGenerator<ActorState> {
    let shown: ActorState | undefined;
    let fault: unknown;
    let ended = false;
    let wake: () => void = () => undefined;
    const listener = {
      newest: undefined as ActorState | undefined,
      seen: (state: ActorState, known: ActorState | undefined): void => {
        const { newest } = listener;
        // What was read after something was known, and cannot be compared with it, is newer.
        const sure = known !== undefined && known === newest && !comparable(state, known);
        if (sure || newest === undefined || isNewer(state, newest)) listener.newest = state;
        wake();
      },
      failed: (error: unknown): void => {
        fault = error;
        wake();
      },
    };
    const stop = (): void => {
      ended = true;
      wake();
    };
    options.signal?.addEventListener("abort", stop);
    const end = this.listen(ref, listener);
    try {
      while (!ended && options.signal?.aborted !== true) {
        if (fault !== undefined) throw fault;
        const state: ActorState | undefined = listener.newest;
        if (state !== undefined && !isSame(state, shown)) {
          shown = state;
          yield state;
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      options.signal?.removeEventListener("abort", stop);
      end();
    }
  }
}
