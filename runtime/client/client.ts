/**
 * The client: references to actors, and what can be asked of them.
 *
 * Owns nothing but its session. Talks to the request channels (session.ts). It is the same in the process of a node and
 * outside of it; types come from the actor's definition.
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
import { checkEvent, tooLarge } from "../engine/outgoing.ts";
import { WATCH_TTL_MS } from "../engine/watches.ts";
import type { Clock, Store, World } from "../ports/index.ts";
import { parseAddress, placeOf } from "../words/address.ts";
import { KeyturnError } from "../words/errors.ts";
import {
  Ask,
  AskBoth,
  CancelTimer,
  Create,
  Delete,
  Get,
  History,
  Query,
  type RequestKind,
  Send,
  Timers,
  Unwatch,
  Watch,
} from "../words/frames.ts";
import { limits } from "../words/limits.ts";
import { journalAt } from "../words/position.ts";
import type { ShardAnswer } from "../words/queries.ts";
import { traceOf } from "../words/trace.ts";
import { seal, sizeOf, ValueFault } from "../words/values.ts";
import type { Telemetry } from "../engine/telemetry.ts";
import { checkTimerName, type PendingTimer, type TimerName } from "../engine/pending.ts";
import { decodeSnapshot } from "../engine/state.ts";
import { type Cluster, readCluster } from "./cluster.ts";
import { cursorText, type HistoryPageOptions, pageFrom, type TurnsPage } from "./history-page.ts";
import { type ChangedActor, changes, type ChangesQuery } from "./changes.ts";
import {
  type Activity,
  type AskShard,
  type Count,
  Finder,
  type FindQuery,
  type FoundActor,
  type FoundPage,
  type FoundTimer,
  type TimersQuery,
} from "./find.ts";
import { KeyValueStore, type StoreOptions } from "../kv/store.ts";
import { forkActor, type ForkOptions, pastOf } from "./fork.ts";
import { SharedAsks } from "./shared-asks.ts";
import { Call, Requests, type Sender } from "./session.ts";
import { RequestTracing } from "./tracing.ts";

export interface CallOptions {
  /** How long to wait for the outcome, in milliseconds; 10,000 by default, at most `limits.deadline_ms`. */
  readonly timeout_ms?: number | undefined;
  /**
   * An id of the caller's own for this request. A repetition with the same id, from any client and also after a
   * crash, is answered from the first one's stored reply; each actor remembers its last `limits.requestsPerActor` ids.
   */
  readonly requestId?: string | undefined;
  /** W3C `traceparent`, carried into the record and to the actors that are told. */
  readonly trace?: string | undefined;
  /** W3C `tracestate` that came with it. What is malformed or beyond 512 characters is left out, as W3C has it. */
  readonly traceState?: string | undefined;
}

export interface GetOptions extends CallOptions {
  /** Reads the last snapshot from the store, past the actor: it may be behind by the length of the tail. */
  readonly stale?: boolean;
}

export interface HistoryOptions {
  /** Newest turn first by default. */
  readonly order?: "newest" | "oldest";
  /** Stop after so many turns. */
  readonly limit?: number | undefined;
  readonly timeout_ms?: number | undefined;
}

export interface WatchOptions {
  /** Ends the watch. */
  readonly signal?: AbortSignal | undefined;
  /** @internal Called with every state that is published, also those that a slow reader misses. */
  readonly seen?: (state: ActorState) => void;
}

const DEFAULT_TIMEOUT_MS = 10_000;
const HISTORY_PAGE = 64;
/** Timers that are cancelled at once. */
const CANCELS_AT_ONCE = 256;

/** Whom a request is for: an actor, or for a Query a shard. */
export interface Recipient extends Sender {
  readonly type: string;
  readonly key: string;
  readonly id: string;
  readonly shard: number;
}

/** Makes a client of the app whose nodes use this store. */
export async function createClient(
  store: Store,
  world: World,
  shards: number,
  telemetry?: Telemetry,
): Promise<Client> {
  return new Client(store, world, shards, telemetry);
}

/** Reaches every actor of an app. A node has one (`node.client`); other programs get theirs from `connect`. */
export class Client {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #requests: Requests;
  readonly #shards: number;
  readonly #askShard: AskShard;
  readonly #finder: Finder;
  readonly #world: World;
  readonly #tracing: RequestTracing | undefined;
  /** A client of its own for questions that are held: what waits for long must not slow down repetitions here. */
  #holder: Client | undefined;
  #held: SharedAsks | undefined;
  /** Its questions that are answered at once. */
  #reading = 0;
  readonly #watches = new Map<string, (state: unknown) => void>();
  #watchCount = 0;

  constructor(store: Store, world: World, shards: number, telemetry?: Telemetry) {
    this.#tracing = telemetry && new RequestTracing(telemetry, world);
    this.#store = store;
    this.#clock = world.clock;
    this.#shards = shards;
    const name = `${store.transport.sessionPrefix ?? ""}${world.random.id()}`;
    this.#requests = new Requests(name, store.transport, world.clock, (watch, state) =>
      this.#watches.get(watch)?.(state),
    );
    this.#askShard = (shard, type, query, timeout_ms) => {
      const to = { type, key: "", id: type, shard, last: undefined };
      return this.request(to, Query, query, { timeout_ms }, sizeOf(query)) as Promise<ShardAnswer>;
    };
    this.#finder = new Finder(this.#askShard, shards);
    this.#world = world;
  }

  /** Requests that wait for their outcome. */
  get inFlight(): number {
    return this.#requests.inFlight + this.#reading;
  }

  /** Shards of the app. */
  get shards(): number {
    return this.#shards;
  }

  /** @internal For facades that wait. */
  get clock(): Clock {
    return this.#clock;
  }

  /**
   * A reference to an actor. It need not exist: it begins with its first message.
   * @throws KeyturnError `invalid_address`
   */
  actor<T extends string, M extends Machine, R extends object>(
    definition: ActorDefinition<T, M, R>,
    key: string,
  ): ActorRef<M, R>;
  actor(address: string): ActorRef;
  actor(target: string | AnyActorDefinition, key?: string): ActorRef {
    if (typeof target === "object" && target !== null) return this.#ref(target.type, key as string, target);
    if (typeof target !== "string" || key !== undefined) {
      throw new KeyturnError(
        "invalid_address",
        'Name an actor by actor(definition, "key") or actor("type/key").',
      );
    }
    const address = parseAddress(target);
    return this.#ref(address.type, address.key);
  }

  /**
   * The actors of a type that fit, in the order of their keys, read as they are asked for. Consistent with every turn
   * that was acknowledged before; what comes while it is read may show or not.
   *
   * The first question about a type reads its stored actors once; nodes keep what they need to answer further ones.
   * @throws KeyturnError `invalid_options`; `overloaded` if there are more actors than the nodes may keep rows for
   */
  find(target: string | AnyActorDefinition, query: FindQuery = {}): AsyncGenerator<FoundActor> {
    return this.#finder.find(target, query);
  }

  /** The same a page at a time, 100 by default; `next` of one page is `after` of the next. */
  findPage(target: string | AnyActorDefinition, query: FindQuery = {}): Promise<FoundPage> {
    return this.#finder.page(target, query);
  }

  /** How many actors of a type fit, in all and in each state. */
  count(target: string | AnyActorDefinition, query: FindQuery = {}): Promise<Count> {
    return this.#finder.count(target, query);
  }

  /** The same, with the turns that they have taken: twice in a row it is their rate. @internal */
  activity(target: string | AnyActorDefinition, query: FindQuery = {}): Promise<Activity> {
    return this.#finder.activity(target, query);
  }

  /**
   * The actors of a type that fit, and then each that changes, as it is after the change; one that was deleted, or does
   * not fit any more, without its state. A slow reader may miss some in between, never the last of any actor.
   */
  changes(target: string | AnyActorDefinition, query: ChangesQuery = {}): AsyncGenerator<ChangedActor> {
    const holder = (this.#holder ??= new Client(this.#store, this.#world, this.#shards));
    const held = (this.#held ??= new SharedAsks(holder.#askShard));
    const ask: AskShard = async (shard, type, asked, timeout_ms) => {
      if (asked.since !== undefined) return await held.ask(shard, type, asked, timeout_ms);
      this.#reading++;
      try {
        return await holder.#askShard(shard, type, asked, timeout_ms);
      } finally {
        this.#reading--;
      }
    };
    return changes(ask, this.#shards, this.#clock, target, query);
  }

  /** What actors of a type wait for: their `after`s and delayed events, by key. */
  timers(target: string | AnyActorDefinition, query: TimersQuery = {}): AsyncGenerator<FoundTimer> {
    return this.#finder.timers(target, query);
  }

  /**
   * Cancels the timers of a type that fit; resolves with how many there were. Each is a turn of its actor. Those that
   * are set meanwhile may be left.
   */
  async cancelTimers(target: string | AnyActorDefinition, query: TimersQuery = {}): Promise<number> {
    let count = 0;
    let open: Promise<void>[] = [];
    for await (const { type, key, id, child } of this.timers(target, query)) {
      const name = child === undefined ? { id } : { id, child };
      const cancelled = this.#ref(type, key)
        .cancelTimer(name)
        .then((was) => {
          if (was) count++;
        });
      // It may fail while more timers are being looked for; whoever called learns it below.
      cancelled.catch(() => undefined);
      open.push(cancelled);
      if (open.length < CANCELS_AT_ONCE) continue;
      await Promise.all(open);
      open = [];
    }
    await Promise.all(open);
    return count;
  }

  /**
   * The nodes of the app and who serves which shard, as the store's directory has it: may be a moment behind.
   * @throws KeyturnError `access_denied` for a client that may not read the directory, and what the store throws
   */
  cluster(): Promise<Cluster> {
    return readCluster(this.#store.directory, this.#shards);
  }

  /**
   * A key-value store of this app, by its name: it need not exist. See KeyValueStore.
   * @throws KeyturnError `invalid_options`
   */
  store<V = unknown>(name: string, options?: StoreOptions & { readonly keys?: "text" }): KeyValueStore<V>;
  store<V = unknown>(
    name: string,
    options: StoreOptions & { readonly keys: "bytes" },
  ): KeyValueStore<V, Uint8Array>;
  store(name: string, options: StoreOptions = {}): KeyValueStore<unknown, never> {
    return new KeyValueStore(this, () => this.#clock.now(), name, options);
  }

  /** Where the journal stands for each shard. @internal */
  positions(type: string, options: CallOptions): Promise<number[]> {
    return this.#finder.positions(type, options.timeout_ms);
  }

  /** @internal */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.#clock.after(ms, resolve));
  }

  /** Settles everything that is open as unknown, and ends. */
  close(): void {
    this.#holder?.close();
    this.#requests.close();
  }

  #ref(type: string, key: string, definition?: AnyActorDefinition): ActorRef {
    const { id, shard } = placeOf(type, key, this.#shards);
    return new ActorRef(this, type, key, id, shard, definition);
  }

  /** @internal */
  request(
    ref: Recipient,
    kind: RequestKind,
    event: unknown,
    options: CallOptions,
    bytes = 0,
  ): Promise<unknown> {
    const { timeout_ms = DEFAULT_TIMEOUT_MS, requestId } = options;
    return new Promise((resolve, reject) => {
      if (typeof timeout_ms !== "number" || !(timeout_ms >= 1 && timeout_ms <= limits.deadline_ms)) {
        throw new KeyturnError(
          "invalid_options",
          `A time-out is between 1 and ${limits.deadline_ms} ms, not ${timeout_ms}.`,
        );
      }
      const trace = carriedTrace(options);
      const call =
        this.#tracing === undefined
          ? new Call(kind, ref, ref, event, bytes, requestId, trace, resolve, reject)
          : this.#tracing.call(kind, ref, event, bytes, requestId, trace, resolve, reject);
      try {
        if (requestId !== undefined) {
          checkRequestId(requestId);
          if (this.#requests.again(requestId, timeout_ms, call)) return;
        }
        this.#requests.send(ref.shard, call, timeout_ms);
      } catch (error) {
        // Through the call, whose span ends with it.
        call.reject(error as KeyturnError);
      }
    });
  }

  /** @internal */
  async stale(ref: ActorRef): Promise<ActorState | undefined> {
    const [entry] = await this.#store.snapshots.read([ref.id]);
    if (entry?.value === undefined) return undefined;
    const { machine, turn, last } = decodeSnapshot(ref.id, entry.value);
    const { value, context, status, output } = machine;
    return Object.freeze({ value, context, status, output, turn, position: last[0] }) as ActorState;
  }

  /** @internal */
  async *watch(ref: ActorRef, options: WatchOptions): AsyncGenerator<ActorState> {
    const name = `${this.#requests.name}:${++this.#watchCount}`;
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
      this.request(ref, Watch, name, {}).then(
        (state) => offer(state as ActorState, known),
        (error: unknown) => {
          if (error instanceof KeyturnError && error.retryable) return;
          fault = error;
          wake();
        },
      );
    };
    this.#watches.set(name, (state) => (state === null ? renew() : offer(state as ActorState)));
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
      this.#watches.delete(name);
      this.request(ref, Unwatch, name, {}).catch(() => undefined);
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

/** What `create` takes: where the machine's input may be undefined, or is not declared, it may be left out. */
export type CreateArgs<M extends Machine> =
  undefined extends InputOf<M>
    ? [input?: InputOf<M>, options?: CallOptions]
    : [input: InputOf<M>, options?: CallOptions];

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
   * Sends an event; resolves with the machine's reply (null for none) and the new state, once its turn is committed.
   * @throws KeyturnError; its `outcome` says what became of the event
   */
  async call(
    event: EventOf<M>,
    options: CallOptions = {},
  ): Promise<{ value: unknown; state: ActorState<M> }> {
    const bytes = this.#checkOutgoing(event, options);
    const answer = await this.#client.request(this as unknown as ActorRef, AskBoth, event, options, bytes);
    return answer as { value: unknown; state: ActorState<M> };
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

/** @throws KeyturnError `invalid_options` */
function carriedTrace({ trace, traceState }: CallOptions): string | undefined {
  if (traceState !== undefined && typeof traceState !== "string")
    throw new KeyturnError("invalid_options", "A traceState is a text.");
  if (trace === undefined) return undefined;
  if (typeof trace !== "string" || Buffer.byteLength(trace) > limits.traceBytes)
    throw new KeyturnError("invalid_options", `A trace is a text of at most ${limits.traceBytes} bytes.`);
  const carried = traceOf(trace, traceState);
  return carried.length > limits.traceBytes ? trace : carried;
}

function checkRequestId(requestId: string): void {
  if (
    typeof requestId !== "string" ||
    requestId === "" ||
    Buffer.byteLength(requestId) > limits.requestIdBytes
  ) {
    throw new KeyturnError(
      "invalid_options",
      `A request id is a text of 1 to ${limits.requestIdBytes} bytes.`,
    );
  }
}
