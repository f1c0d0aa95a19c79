/**
 * A reference to one actor: what can be asked of it, typed by its definition.
 *
 * Owns nothing but the checks of what it is given, and the name of its last request, by which a client keeps the order of
 * one reference's messages. Talks to its client.
 */
import { checkInput } from "../engine/beginning.ts";
import {
  type ActorDefinition,
  type ActorState,
  type AnswerTo,
  type AnyActorDefinition,
  checkEventSchema,
  type NoReplies,
} from "../engine/definition.ts";
import type { HistoryPage, HistoryQuery, HistoryTurn, PastState } from "../engine/history.ts";
import type { EventOf, InputOf, Machine } from "../engine/machine.ts";
import type { MailboxState } from "../words/mailbox.ts";
import { checkEvent, tooLarge } from "../engine/outgoing.ts";
import { checkTimerName, type PendingTimer, type TimerName } from "../engine/pending.ts";
import { KeyturnError } from "../words/errors.ts";
import {
  Ask,
  AskBoth,
  CancelTimer,
  Create,
  Delete,
  Get,
  History,
  Mailbox,
  Send,
  Timers,
} from "../words/frames.ts";
import { limits } from "../words/limits.ts";
import { seal, sizeOf, ValueFault } from "../words/values.ts";
import type { Client } from "./client.ts";
import { forkActor, type ForkOptions, pastOf } from "./fork.ts";
import { cursorText, type HistoryPageOptions, pageFrom, type TurnsPage } from "./history-page.ts";
import type { CallOptions, GetOptions, HistoryOptions, WatchOptions } from "./options.ts";
import type { Sender } from "./session.ts";

const HISTORY_PAGE = 64;

/** What `create` takes: where the machine's input may be undefined, or is not declared, it may be left out. */
export type CreateArgs<M extends Machine> =
  undefined extends InputOf<M>
    ? [input?: InputOf<M>, options?: CallOptions]
    : [input: InputOf<M>, options?: CallOptions];

/** A node of a former version does not say whether there was a reply. */
interface Answered<M extends Machine> {
  readonly value: unknown;
  readonly replied?: boolean;
  readonly state: ActorState<M>;
}

/** A reference to one actor. */
export class ActorRef<M extends Machine = Machine, R extends object = NoReplies> implements Sender {
  readonly type: string;
  readonly key: string;
  /** @internal */
  readonly id: string;
  readonly shard: number;
  /** @internal */
  last: Sender["last"] = undefined;
  readonly #client: Client;
  /** What it was made from; by address there is none, and only the actor's node knows what fits. */
  readonly #definition: AnyActorDefinition | undefined;

  /** @internal */
  constructor(
    client: Client,
    type: string,
    key: string,
    id: string,
    shard: number,
    definition?: AnyActorDefinition,
  ) {
    this.#definition = definition;
    this.#client = client;
    this.type = type;
    this.key = key;
    this.id = id;
    this.shard = shard;
  }

  /** `type/key`. */
  get address(): string {
    return `${this.type}/${this.key}`;
  }

  /**
   * Begins the actor with an input for its machine; resolves with its state once that is committed, as turn 1. Without an
   * input it begins with the one that its address gives it. The input is frozen.
   * @throws KeyturnError `already_exists` if it has taken a turn, `invalid_input` if the input does not fit, and others;
   *   its `outcome` says what became of the request
   */
  async create(...[input, options = {}]: CreateArgs<M>): Promise<ActorState<M>> {
    const bytes = checkGiven(input, "input", "invalid_input");
    if (this.#definition !== undefined && options.requestId === undefined)
      checkInput(this.#definition, input);
    const self = this as unknown as ActorRef;
    return this.#client.request(self, Create, input, options, bytes) as Promise<ActorState<M>>;
  }

  /**
   * Sends an event; resolves once its turn is committed. The event is frozen.
   * @throws KeyturnError; its `outcome` says what became of the event
   */
  async send(event: EventOf<M>, options: CallOptions = {}): Promise<void> {
    const bytes = this.#checkOutgoing(event, options);
    await this.#client.request(this as unknown as ActorRef, Send, event, options, bytes);
  }

  /**
   * Sends an event; resolves with the machine's reply, or else the new state, once its turn is committed.
   * @throws KeyturnError; its `outcome` says what became of the event
   */
  ask<E extends EventOf<M>>(event: E, options: CallOptions = {}): Promise<AnswerTo<M, R, E>> {
    let bytes: number;
    try {
      bytes = this.#checkOutgoing(event, options);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#client.request(this as unknown as ActorRef, Ask, event, options, bytes) as Promise<
      AnswerTo<M, R, E>
    >;
  }

  /**
   * Sends an event; resolves with the machine's reply (null for none; `replied` tells that from a reply that is null) and
   * the new state, once its turn is committed.
   * @throws KeyturnError; its `outcome` says what became of the event
   */
  async call(
    event: EventOf<M>,
    options: CallOptions = {},
  ): Promise<{ value: unknown; replied: boolean; state: ActorState<M> }> {
    const bytes = this.#checkOutgoing(event, options);
    const answer = await this.#client.request(this as unknown as ActorRef, AskBoth, event, options, bytes);
    const { value, state, replied = value !== null } = answer as Answered<M>;
    return { value, replied, state };
  }

  /**
   * Checks and freezes an event; returns about how many bytes it takes. One with an id may be a repetition of what fitted
   * once, and was applied: that is for the actor to say.
   */
  #checkOutgoing(event: unknown, options: CallOptions): number {
    checkEvent(event);
    const bytes = checkGiven(event, "event", "invalid_event");
    if (this.#definition !== undefined && options.requestId === undefined)
      checkEventSchema(this.#definition, event);
    return bytes;
  }

  /**
   * The current state, linearizable. With `stale`, the last snapshot, in the form of the version that wrote it, or
   * undefined if none was written yet.
   * @throws KeyturnError `invalid_input` for an actor that does not exist and cannot begin without an input
   */
  get(options?: GetOptions & { stale?: false }): Promise<ActorState<M>>;
  get(options: GetOptions & { stale: true }): Promise<ActorState<M> | undefined>;
  get(options: GetOptions = {}): Promise<ActorState<M> | undefined> {
    const self = this as unknown as ActorRef;
    const state = options.stale
      ? this.#client.stale(self)
      : this.#client.request(self, Get, undefined, options);
    return state as Promise<ActorState<M> | undefined>;
  }

  /**
   * Removes the actor: state, timers, remembered requests, history. A later message begins anew. It takes no request
   * id: nothing is left that could remember it.
   */
  async delete(options: Omit<CallOptions, "requestId"> = {}): Promise<void> {
    await this.#client.request(this as unknown as ActorRef, Delete, undefined, options);
  }

  /** The delays that the actor waits for, its own and its children's, earliest first. */
  async timers(options: Omit<CallOptions, "requestId"> = {}): Promise<readonly PendingTimer[]> {
    const self = this as unknown as ActorRef;
    return (await this.#client.request(self, Timers, undefined, options)) as readonly PendingTimer[];
  }

  /**
   * What waits for the actor just now, on the node that has it: messages without a turn, and what it has invoked and is
   * not answered yet. Answered past all of that, at once; nothing is loaded for it.
   */
  async mailbox(options: Omit<CallOptions, "requestId"> = {}): Promise<MailboxState> {
    const self = this as unknown as ActorRef;
    return (await this.#client.request(self, Mailbox, undefined, options)) as MailboxState;
  }

  /**
   * Takes a delay away: its event will not come. The machine is not told; a state that only an `after` leaves is stayed
   * in. Resolves with whether it was still waited for, once that is committed.
   * @throws KeyturnError `invalid_options`, and others; its `outcome` says what became of the request
   */
  async cancelTimer(
    timer: string | TimerName,
    options: Omit<CallOptions, "requestId"> = {},
  ): Promise<boolean> {
    const name = checkTimerName(typeof timer === "string" ? { id: timer } : timer);
    const self = this as unknown as ActorRef;
    return (await this.#client.request(self, CancelTimer, name, options, sizeOf(name))) as boolean;
  }

  /** The state now and after every commit; a slow reader may miss some in between, never the last. */
  watch(options: WatchOptions = {}): AsyncGenerator<ActorState<M>> {
    return this.#client.watch(this as unknown as ActorRef, options) as AsyncGenerator<ActorState<M>>;
  }

  /**
   * The same a page at a time, 64 turns by default; `next` of one page is `cursor` of the next. A page may hold fewer
   * turns than asked for although there are more.
   * @throws KeyturnError `invalid_options`, `history_trimmed`, and others
   */
  async historyPage(options: HistoryPageOptions = {}): Promise<TurnsPage<M>> {
    const self = this as unknown as ActorRef;
    const ask = (query: HistoryQuery): Promise<HistoryPage> =>
      this.#client.request(self, History, query, options, sizeOf(query)) as Promise<HistoryPage>;
    const { query, page } = await pageFrom(ask, options);
    return { turns: page.turns as readonly HistoryTurn<M>[], next: await cursorText(ask, query.order, page) };
  }

  /**
   * Begins a sandbox with a past state of this actor, for events that ask "what if". The sandbox is an actor like any
   * other: what it is sent from then on has all its effects (to see what events would do without any, use `whatIf`).
   * @returns a reference to the sandbox
   * @throws KeyturnError `already_exists` if it does, `history_trimmed`, `invalid_options` if there was no such turn
   */
  async fork(options: ForkOptions): Promise<ActorRef<M, R>> {
    const { type, key } = await forkActor(this.#client, this as unknown as ActorRef, options);
    const definition = this.#definition;
    const ref =
      definition === undefined ? this.#client.actor(`${type}/${key}`) : this.#client.actor(definition, key);
    return ref as unknown as ActorRef<M, R>;
  }

  /**
   * A past state as a whole, with what only the runtime knows of it: for `whatIf`.
   * @param at the turn, or the last one up to a position; the present by default
   * @throws KeyturnError `history_trimmed`, `invalid_options` if there was no such turn
   */
  async past(at?: ForkOptions["at"], options: Omit<CallOptions, "requestId"> = {}): Promise<PastState> {
    return pastOf(this.#client, this as unknown as ActorRef, at, options);
  }

  /** The actor's turns: event, time, resulting state, position. */
  async *history(options: HistoryOptions = {}): AsyncGenerator<HistoryTurn<M>> {
    const { order = "newest", limit = Number.POSITIVE_INFINITY } = options;
    if (!(limit >= 0))
      throw new KeyturnError("invalid_options", `A limit is a number from 0 on, not ${limit}.`);
    let left = limit;
    let cursor: HistoryPage["next"];
    do {
      const query = { order, limit: Math.ceil(Math.min(left, HISTORY_PAGE)), cursor };
      const page = (await this.#client.request(
        this as unknown as ActorRef,
        History,
        query,
        options,
        sizeOf(query),
      )) as HistoryPage;
      for (const turn of page.turns as readonly HistoryTurn<M>[]) {
        if (left-- <= 0) return;
        yield turn;
      }
      cursor = page.next;
    } while (cursor !== undefined && left > 0);
  }
}

/** A reference to a definition's actors. */
export type RefFor<D> = D extends ActorDefinition<string, infer M, infer R> ? ActorRef<M, R> : never;

/** Checks and freezes what a request brings; returns about how many bytes it takes. */
function checkGiven(value: unknown, name: string, code: "invalid_event" | "invalid_input"): number {
  let bytes: number;
  try {
    bytes = seal(value, name);
  } catch (fault) {
    if (fault instanceof ValueFault) throw new KeyturnError(code, fault.message, { cause: fault });
    throw fault;
  }
  if (bytes > limits.eventBytes) {
    throw tooLarge(bytes, name);
  }
  return bytes;
}
