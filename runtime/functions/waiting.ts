/**
 * Waiting for answers that come later than the turn that took the event.
 *
 * Owns who waits for which ticket of which key. One watch a key serves all who wait for it. Talks to the actors' client.
 *
 * Invariants:
 * 1. Whoever waits gets the answer, an error of the function's, or `timeout`; never nothing.
 * 2. Where nobody waits any more the watch ends soon; it is there a little longer for who calls again at once.
 */
import type { ActorRef, CallOptions, Client } from "../client/client.ts";
import type { Clock } from "../ports/index.ts";
import { KeyturnError } from "../words/errors.ts";
import { answerOf } from "./answers.ts";
import { DONE, TAKEN } from "./events.ts";
import type { Context } from "./keeping.ts";
import { failureOf } from "./run.ts";

const DEFAULT_TIMEOUT_MS = 10_000;
/** Begins the request id of an event that its key has taken, whose caller gave it none: its answer can be waited for. */
const TICKET = "functions.ticket:";

/** The ticket that a request id names, if it is the id of an event that was taken. */
export function ticketIn(requestId: string | undefined): number | undefined {
  if (typeof requestId !== "string" || !requestId.startsWith(TICKET)) return undefined;
  const ticket = Number(requestId.slice(TICKET.length));
  return Number.isSafeInteger(ticket) && ticket > 0 ? ticket : undefined;
}

interface Waiter {
  readonly ticket: number;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  /** Whether it is being looked up if the key was deleted. */
  doubting: boolean;
}

interface Watched {
  readonly waiters: Set<Waiter>;
  stop(): void;
}

/** For so long a watch that nobody needs stays, milliseconds, and so many of them. */
const LINGER_MS = 100;
const LINGERING_MAX = 1_024;

export class Waiting {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #watched = new Map<string, Watched>();
  /** Watches that nobody needs, by address, with the time since when; oldest first. */
  readonly #lingering = new Map<string, number>();
  #sweeping = false;

  constructor(client: Client) {
    this.#client = client;
    this.#clock = client.clock;
  }

  /** @param gone_ms how much of the time-out has passed */
  answer(
    ref: ActorRef,
    ticket: number,
    { timeout_ms = DEFAULT_TIMEOUT_MS, requestId }: CallOptions,
    gone_ms: number,
  ): Promise<unknown> {
    // One promise and no async function: each would be a good part of what waiting costs.
    return new Promise<unknown>((resolve, reject) => {
      const cancel = this.#clock.after(Math.max(1, timeout_ms - gone_ms), () =>
        waiter.reject(
          new KeyturnError(
            "timeout",
            `${ref.address} did not answer within ${timeout_ms} ms. Its function may still end.`,
            { requestId: requestId ?? `${TICKET}${ticket}` },
          ),
        ),
      );
      const over = (): void => {
        cancel();
        this.#remove(ref.address, waiter);
      };
      const waiter: Waiter = {
        ticket,
        resolve: (value) => {
          over();
          resolve(value);
        },
        reject: (error) => {
          over();
          reject(error);
        },
        doubting: false,
      };
      this.#add(ref, waiter);
    });
  }

  #add(ref: ActorRef, waiter: Waiter): void {
    const known = this.#watched.get(ref.address);
    if (known !== undefined) {
      this.#lingering.delete(ref.address);
      known.waiters.add(waiter);
      return;
    }
    const waiters = new Set([waiter]);
    this.#watched.set(ref.address, { waiters, stop: this.#watch(ref, waiters) });
  }

  #remove(address: string, waiter: Waiter): void {
    const watched = this.#watched.get(address);
    if (watched?.waiters.delete(waiter) !== true || watched.waiters.size > 0) return;
    this.#lingering.set(address, this.#clock.monotonic());
    if (this.#lingering.size > LINGERING_MAX) this.#end(this.#lingering.keys().next().value as string);
    this.#sweepLater();
  }

  #sweepLater(): void {
    if (this.#sweeping || this.#lingering.size === 0) return;
    this.#sweeping = true;
    this.#clock.after(LINGER_MS, () => {
      this.#sweeping = false;
      const before = this.#clock.monotonic() - LINGER_MS;
      for (const [address, since] of this.#lingering) {
        if (since > before) break;
        this.#end(address);
      }
      this.#sweepLater();
    });
  }

  #end(address: string): void {
    this.#lingering.delete(address);
    const watched = this.#watched.get(address);
    this.#watched.delete(address);
    watched?.stop();
  }

  /** Every state is looked at, whichever is newest. Returns what ends it. */
  #watch(ref: ActorRef, waiters: ReadonlySet<Waiter>): () => void {
    return this.#client.listen(ref, {
      newest: undefined,
      seen: ({ context }) => {
        for (const waiter of waiters) if (!settle(ref, context as Context, waiter)) doubt(ref, waiter);
      },
      failed: (error) => {
        // Who calls next begins another.
        if (this.#watched.get(ref.address)?.waiters === waiters) this.#end(ref.address);
        for (const waiter of waiters) waiter.reject(error);
      },
    });
  }
}

/**
 * A state in which nothing of the event is to be seen: it is older, come late from wherever the key was before, or the key
 * was deleted.
 */
function doubt(ref: ActorRef, waiter: Waiter): void {
  if (waiter.doubting) return;
  waiter.doubting = true;
  ref.get().then(
    ({ context }) => {
      waiter.doubting = false;
      if (!settle(ref, context as Context, waiter))
        waiter.reject(
          new KeyturnError(
            "request_forgotten",
            `${ref.address} was deleted while something waited for its answer.`,
          ),
        );
    },
    () => {
      waiter.doubting = false;
    },
  );
}

/** Answers whoever waits, if a state has the answer. False if nothing of the event is to be seen there. */
function settle(ref: ActorRef, context: Context, { ticket, resolve, reject }: Waiter): boolean {
  const taken = context[TAKEN] as number | undefined;
  const done = context[DONE] as number | undefined;
  if (taken === undefined || taken < ticket) return false;
  if (done === undefined || done < ticket) return true;
  const answer = answerOf(context, ticket);
  if (answer?.error !== undefined) reject(failureOf(ref.type, answer.error));
  else if (answer === undefined)
    reject(
      new KeyturnError(
        "request_forgotten",
        `${ref.address} has processed the event, but its answer was too large to be kept, or came too long ago.`,
      ),
    );
  else resolve(answer.value);
  return true;
}
