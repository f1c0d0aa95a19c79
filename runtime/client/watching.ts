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
import { journalAt } from "../words/position.ts";
import type { Recipient, WatchOptions } from "./options.ts";

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

  /** The state now and after every commit. */
  async *watch(ref: Recipient, options: WatchOptions): AsyncGenerator<ActorState> {
    const name = `${this.#session}:${++this.#count}`;
    let newest: ActorState | undefined;
    let shown: ActorState | undefined;
    let fault: unknown;
    let ended = false;
    let wake: () => void = () => undefined;
    const offer = (state: ActorState, known?: ActorState): void => {
      options.seen?.(state);
      // What was read after something was known, and cannot be compared with it, is newer.
      const sure = known !== undefined && known === newest && !comparable(state, known);
      if (sure || newest === undefined || isNewer(state, newest)) newest = state;
      wake();
    };
    const renew = (): void => {
      const known = newest;
      this.#request(ref, Watch, name).then(
        (state) => offer(state as ActorState, known),
        (error: unknown) => {
          if (error instanceof KeyturnError && error.retryable) return;
          fault = error;
          wake();
        },
      );
    };
    this.#open.set(name, (state) => (state === null ? renew() : offer(state as ActorState)));
    let cancel = (): void => undefined;
    const arrange = (): void => {
      cancel = this.#clock.after(WATCH_TTL_MS / 3, () => {
        renew();
        arrange();
      });
    };
    const stop = (): void => {
      ended = true;
      wake();
    };
    options.signal?.addEventListener("abort", stop);
    renew();
    arrange();
    try {
      while (!ended && options.signal?.aborted !== true) {
        if (fault !== undefined) throw fault;
        const state: ActorState | undefined = newest;
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
      cancel();
      options.signal?.removeEventListener("abort", stop);
      this.#open.delete(name);
      this.#request(ref, Unwatch, name).catch(() => undefined);
    }
  }
}

/** Whether a state of an actor, told by some owner, is newer than another. */
function isNewer(state: ActorState, than: ActorState): boolean {
  // Where an actor that was deleted begins again its turns do; its positions go on, if they can be compared.
  return (comparable(state, than) && state.position > than.position) || state.turn > than.turn;
}

function comparable(state: ActorState, other: ActorState): boolean {
  return journalAt(state.position) === journalAt(other.position);
}

function isSame(state: ActorState, other: ActorState | undefined): boolean {
  return other !== undefined && state.position === other.position && state.turn === other.turn;
}
