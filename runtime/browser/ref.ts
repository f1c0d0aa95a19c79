/**
 * A reference to an actor, out of a page.
 *
 * Owns what its methods promise; the same as those of a reference in Node (client/client.ts), over HTTP. Talks to calls.ts
 * for what is in order, to http.ts for pages of the past, to watches.ts for what is shown.
 */
import type { ActorState, AnswerTo, NoReplies } from "../engine/definition.ts";
import type { HistoryTurn } from "../engine/history.ts";
import type { EventOf, InputOf, Machine } from "../engine/machine.ts";
import type { PendingTimer } from "../engine/pending.ts";
import { fromJson, toJson } from "../http/json.ts";
import { KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import type { Answer, Calls, Mode } from "./calls.ts";
import { checkTimeout, DEFAULT_TIMEOUT_MS, type Reads } from "./reads.ts";
import type { Watched, Watches } from "./watches.ts";

export interface CallOptions {
  /** How long to wait for the outcome, over all repetitions, in milliseconds; 10,000 by default. */
  readonly timeout_ms?: number | undefined;
  /** Ends the waiting; the call is rejected with the signal's reason, and what was sent may be applied. */
  readonly signal?: AbortSignal | undefined;
}

/** For calls that may be a turn. */
export interface TurnOptions extends CallOptions {
  /**
   * An id of your own for this request, instead of one that is made: a repetition with it, also by another page or after
   * a reload, is answered from the first one's stored reply. Each actor remembers its last 256 ids.
   */
  readonly requestId?: string | undefined;
}

export interface HistoryOptions extends CallOptions {
  /** Newest turn first by default. */
  readonly order?: "newest" | "oldest" | undefined;
  /** Stop after so many turns. */
  readonly limit?: number | undefined;
}

export interface HistoryPageOptions extends HistoryOptions {
  /** `next` of the page before. */
  readonly cursor?: string | undefined;
}

/** A page of an actor's past. */
export interface TurnsPage<M extends Machine = Machine> {
  readonly turns: readonly HistoryTurn<M>[];
  /** For `cursor`; undefined at the end. */
  readonly next: string | undefined;
}

export interface WatchOptions {
  /** Ends the watch. */
  readonly signal?: AbortSignal | undefined;
}

/** What `create` takes: where the machine's input may be undefined, or is not declared, it may be left out. */
export type CreateArgs<M extends Machine> =
  undefined extends InputOf<M>
    ? [input?: InputOf<M>, options?: TurnOptions]
    : [input: InputOf<M>, options?: TurnOptions];

/** What all references of one client share. */
export interface Parts {
  readonly calls: Calls;
  readonly reads: Reads;
  readonly watches: Watches;
}

const PAGE = 64;

/** A reference to one actor. */
export class BrowserRef<M extends Machine = Machine, R extends object = NoReplies> {
  readonly type: string;
  readonly key: string;
  /** `type/key`. */
  readonly address: string;
  readonly #parts: Parts;

  /** @internal */
  constructor(parts: Parts, type: string, key: string) {
    this.#parts = parts;
    this.type = type;
    this.key = key;
    this.address = `${type}/${key}`;
  }

  /**
   * Sends an event; resolves once its turn is committed. Repeated until that is known, and applied once.
   * @throws KeyturnError; its `outcome` says what became of the event
   */
  async send(event: EventOf<M>, options: TurnOptions = {}): Promise<void> {
    await this.#call("send", event, "invalid_event", options);
  }

  /**
   * Sends an event; resolves with the machine's reply, or else the new state, once its turn is committed. Repeated until
   * that is known, and applied once.
   * @throws KeyturnError; its `outcome` says what became of the event
   */
  async ask<const E extends EventOf<M>>(event: E, options: TurnOptions = {}): Promise<AnswerTo<M, R, E>> {
    const { value, replied, state } = await this.call(event, options);
    return (replied ? value : state) as AnswerTo<M, R, E>;
  }

  /**
   * Sends an event; resolves with the machine's reply (null for none, which `replied` tells from a reply that is null)
   * and the new state, once its turn is committed.
   * @throws KeyturnError; its `outcome` says what became of the event
   */
  async call(
    event: EventOf<M>,
    options: TurnOptions = {},
  ): Promise<{ value: unknown; replied: boolean; state: ActorState<M> }> {
    const { value, replied = false, state } = await this.#call("ask", event, "invalid_event", options);
    return { value, replied, state: state as ActorState<M> };
  }

  /**
   * Begins the actor with an input for its machine; resolves with its state once that is committed, as turn 1.
   * @throws KeyturnError `already_exists` if it has taken a turn, `invalid_input`, and others
   */
  async create(...[input, options = {}]: CreateArgs<M>): Promise<ActorState<M>> {
    return (await this.#call("create", input, "invalid_input", options)).state as ActorState<M>;
  }

  /** The current state, linearizable. @throws KeyturnError */
  async get(options: CallOptions = {}): Promise<ActorState<M>> {
    return (await this.#call("get", undefined, undefined, options)).state as ActorState<M>;
  }

  /**
   * Removes the actor: state, timers, history. A later message begins anew. Nothing is left that could remember an id, so
   * it is not repeated when its outcome is unknown.
   * @throws KeyturnError
   */
  async delete(options: CallOptions = {}): Promise<void> {
    await this.#call("delete", undefined, undefined, options);
  }

  /** The delays that the actor waits for, its own and its children's, earliest first. @throws KeyturnError */
  async timers(options: CallOptions = {}): Promise<readonly PendingTimer[]> {
    const { timers } = (await this.#read("/timers", options)) as { timers: readonly PendingTimer[] };
    return timers;
  }

  /** The actor's turns: event, time, resulting state, position. @throws KeyturnError */
  async *history(options: HistoryOptions = {}): AsyncGenerator<HistoryTurn<M>> {
    const { limit = Number.POSITIVE_INFINITY } = options;
    let left = limit;
    let cursor: string | undefined;
    do {
      const page = await this.historyPage({ ...options, cursor, limit: Math.min(Math.ceil(left), PAGE) });
      for (const turn of page.turns) {
        if (left-- <= 0) return;
        yield turn;
      }
      cursor = page.next;
    } while (cursor !== undefined && left > 0);
  }

  /** The same a page at a time, 64 turns by default. @throws KeyturnError */
  async historyPage(options: HistoryPageOptions = {}): Promise<TurnsPage<M>> {
    const { order = "newest", limit = PAGE, cursor } = options;
    const query = new URLSearchParams({
      order,
      limit: String(limit),
      ...(cursor === undefined ? {} : { cursor }),
    });
    const page = (await this.#read(`/history?${query}`, options)) as Partial<TurnsPage<M>>;
    return { turns: page.turns ?? [], next: page.next };
  }

  /**
   * The state now and after every commit; a slow reader may miss some in between, never the last, and is never given an
   * older one after a newer. Goes on by itself after a break.
   * @throws KeyturnError if the server refuses it
   */
  async *watch({ signal }: WatchOptions = {}): AsyncGenerator<ActorState<M>> {
    let wake: () => void = () => undefined;
    const look = (): void => wake();
    const leave = this.subscribe(look);
    signal?.addEventListener("abort", look);
    let shown: ActorState<M> | undefined;
    try {
      while (signal?.aborted !== true) {
        const { state, status, error } = this.watched();
        if (status === "failed") throw error;
        if (state !== undefined && state !== shown) {
          shown = state;
          yield state;
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      signal?.removeEventListener("abort", look);
      leave();
    }
  }

  /**
   * Calls back whenever what `watched()` gives has changed: the state, or how the watch stands.
   * @returns what ends it
   */
  subscribe(listener: (watched: Watched<ActorState<M>>) => void): () => void {
    return this.#parts.watches.subscribe(this.address, () => listener(this.watched()));
  }

  /** What is known now of an actor that somebody of this page watches; the same object until something changes. */
  watched(): Watched<ActorState<M>> {
    return this.#parts.watches.watched(this.address) as Watched<ActorState<M>>;
  }

  async #call(
    mode: Mode,
    given: unknown,
    code: "invalid_event" | "invalid_input" | undefined,
    options: TurnOptions,
  ): Promise<Answer> {
    const { timeout_ms = DEFAULT_TIMEOUT_MS, signal } = options;
    checkTimeout(timeout_ms);
    const answer = await this.#parts.calls.run({
      mode,
      type: this.type,
      key: this.key,
      given: code === undefined || given === undefined ? undefined : jsonOf(given, code),
      requestId: code === undefined ? undefined : requestIdOf(options.requestId),
      timeout_ms,
      signal,
    });
    // What is committed need not be waited for on another way.
    if (answer.state !== undefined) this.#parts.watches.offer(this.address, answer.state as ActorState);
    return answer;
  }

  async #read(path: string, options: CallOptions): Promise<unknown> {
    if (this.key === "." || this.key === "..") {
      const text = `No client puts the key "${this.key}" into a path, so only its events and its state are reached.`;
      throw new KeyturnError("invalid_address", text);
    }
    const at = `/actors/${encodeURIComponent(this.type)}/${encodeURIComponent(this.key)}${path}`;
    return fromJson(await this.#parts.reads.get(at, options), "answer");
  }
}

/** @throws KeyturnError of that code for what is no plain data */
function jsonOf(given: unknown, code: "invalid_event" | "invalid_input"): unknown {
  try {
    const json = toJson(given);
    // Now, so that what the page changes later does not matter, and what cannot be sent is refused here.
    return JSON.parse(JSON.stringify(json)) as unknown;
  } catch (cause) {
    const what = code === "invalid_event" ? "event" : "input";
    throw new KeyturnError(code, `The ${what} is no plain data: ${String(cause)}`, { cause });
  }
}

/** An id of 128 random bits, or the given one. @throws KeyturnError `invalid_options` */
function requestIdOf(given: string | undefined): string {
  if (given === undefined) {
    // `randomUUID` is there only for pages that came over HTTPS.
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return btoa(String.fromCharCode(...bytes))
      .replaceAll("+", "-")
      .replaceAll("/", "_")
      .slice(0, 22);
  }
  const longest = limits.requestIdBytes - 17;
  if (typeof given === "string" && /^[\x21-\x7e]+$/.test(given) && given.length <= longest) return given;
  const text = `A request's id has 1 to ${longest} visible ASCII characters.`;
  throw new KeyturnError("invalid_options", text);
}
