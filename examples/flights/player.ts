/**
 * Plays messages into airports: many in flight, each airport's in order, each until it is confirmed.
 *
 * Owns one lane per airport and the messages in them that are not confirmed. Talks to the airports.
 *
 * Invariants:
 * 1. At most `inFlight` messages are not confirmed.
 * 2. The messages of one airport are asked in order. Once an answer is missing, or says that a message came too early,
 *    its lane asks nothing more until all its answers are in; then it goes back to the first that is not confirmed.
 *    What was applied all the same is recognised by the airport.
 * 3. `play` ends when everything is confirmed, when it is told to stop, or with an error that no repetition can cure;
 *    in each case nothing is in flight any more.
 */
import { setMaxListeners } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import { isKeyturnError } from "keyturn";
import type { AirportEvent, AirportReply } from "keyturn/actors";
import type { Message } from "./flights.ts";

export interface PlayOptions {
  /** 1,024 by default. */
  readonly inFlight?: number;
  /** Called whenever another message is confirmed, with how many are. */
  readonly onProgress?: (confirmed: number) => void;
  /** Ends the playing early. */
  readonly signal?: AbortSignal;
}

const IN_FLIGHT = 1_024;
/** A lane that went back so often while no lane got any further has failed. */
const TRIES = 10;
const PAUSE_FIRST_MS = 20;
const PAUSE_LAST_MS = 2_000;

/** What is needed of a reference to an airport. */
export interface Airport {
  readonly address: string;
  ask(event: AirportEvent): Promise<AirportReply>;
}

class Lane {
  readonly airport: Airport;
  /** Messages that are not confirmed, in order. */
  readonly open = new Set<Message>();
  /** How many of them wait for their answer. */
  asked = 0;
  /** Why the lane asks nothing at the moment. */
  trouble: unknown;
  /** How often it went back since anything was confirmed, and how much was at that time. */
  tries = 0;
  confirmed = 0;

  constructor(airport: Airport) {
    this.airport = airport;
  }
}

/**
 * Plays the messages.
 * @param airportOf the reference to an airport, asked for once
 * @returns how many are confirmed; fewer than there are only if `signal` said so
 */
export function play(
  airportOf: (name: string) => Airport,
  messages: Iterable<Message>,
  options: PlayOptions = {},
): Promise<number> {
  return new Player(airportOf, options).play(messages);
}

class Player {
  readonly #airportOf: (name: string) => Airport;
  readonly #limit: number;
  readonly #onProgress: PlayOptions["onProgress"];
  readonly #lanes = new Map<string, Lane>();
  /** Aborted when nothing shall be asked any more. */
  readonly #end = new AbortController();
  #failure: { readonly error: unknown } | undefined;
  #open = 0;
  #asked = 0;
  #confirmed = 0;
  #wake: () => void = () => undefined;

  constructor(
    airportOf: (name: string) => Airport,
    { inFlight = IN_FLIGHT, onProgress, signal }: PlayOptions,
  ) {
    this.#airportOf = airportOf;
    this.#limit = inFlight;
    this.#onProgress = onProgress;
    // One for every lane that pauses.
    setMaxListeners(0, this.#end.signal);
    if (signal?.aborted) this.#end.abort();
    signal?.addEventListener("abort", () => this.#stop(), { signal: this.#end.signal });
  }

  async play(messages: Iterable<Message>): Promise<number> {
    for (const message of messages) {
      await this.#until(() => this.#open < this.#limit || this.#ending);
      if (this.#ending) break;
      this.#give(message);
    }
    await this.#until(() => this.#asked === 0 && (this.#open === 0 || this.#ending));
    this.#end.abort();
    if (this.#failure !== undefined) throw this.#failure.error;
    return this.#confirmed;
  }

  get #ending(): boolean {
    return this.#end.signal.aborted;
  }

  #stop(): void {
    this.#end.abort();
    this.#wake();
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#stop();
  }

  async #until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #give(message: Message): void {
    let lane = this.#lanes.get(message.airport);
    if (lane === undefined) {
      lane = new Lane(this.#airportOf(message.airport));
      this.#lanes.set(message.airport, lane);
    }
    lane.open.add(message);
    this.#open++;
    if (lane.trouble === undefined) this.#ask(lane, message);
  }

  #ask(lane: Lane, message: Message): void {
    lane.asked++;
    this.#asked++;
    lane.airport
      .ask(message.event)
      .then(
        (reply) => this.#answered(lane, message, reply),
        (error: unknown) => this.#failed(lane, error),
      )
      .finally(() => {
        lane.asked--;
        this.#asked--;
        if (lane.asked === 0 && lane.trouble !== undefined) void this.#goBack(lane);
        this.#wake();
      });
  }

  #answered(lane: Lane, message: Message, reply: AirportReply): void {
    if (reply === "outOfOrder") {
      lane.trouble ??= new Error(`${lane.airport.address} is missing messages that were sent to it.`);
      return;
    }
    lane.open.delete(message);
    this.#open--;
    this.#confirmed++;
    this.#onProgress?.(this.#confirmed);
  }

  #failed(lane: Lane, error: unknown): void {
    lane.trouble ??= error;
    if (!isKeyturnError(error) || !error.retryable) this.#fail(error);
  }

  /** Everything of the lane is answered or failed: begins again with what is not confirmed. */
  async #goBack(lane: Lane): Promise<void> {
    if (lane.confirmed !== this.#confirmed) lane.tries = 0;
    lane.confirmed = this.#confirmed;
    if (++lane.tries > TRIES) this.#fail(lane.trouble);
    const wait_ms = Math.min(PAUSE_LAST_MS, PAUSE_FIRST_MS * 2 ** (lane.tries - 1));
    await pause(wait_ms, undefined, { signal: this.#end.signal }).catch(() => undefined);
    if (this.#ending) return;
    lane.trouble = undefined;
    for (const message of lane.open) this.#ask(lane, message);
  }
}
