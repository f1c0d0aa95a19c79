/**
 * The client: reaches every actor of an app, one by its reference (ref.ts) or many by questions (find.ts, changes.ts).
 *
 * Owns nothing but its session. Talks to the request channels (session.ts). It is the same in the process of a node and
 * outside of it; types come from the actor's definition.
 */
import type { ActorDefinition, ActorState, AnyActorDefinition } from "../engine/definition.ts";
import type { Machine } from "../engine/machine.ts";
import { decodeSnapshot } from "../engine/state.ts";
import type { Telemetry } from "../engine/telemetry.ts";
import { KeyValueStore, type StoreOptions } from "../kv/store.ts";
import type { Clock, Store, World } from "../ports/index.ts";
import { parseAddress, placeOf } from "../words/address.ts";
import { KeyturnError } from "../words/errors.ts";
import { Query, type RequestKind } from "../words/frames.ts";
import { limits } from "../words/limits.ts";
import type { ShardAnswer } from "../words/queries.ts";
import { PLAN_KEY } from "../words/sources.ts";
import { sizeOf } from "../words/values.ts";
import { type AskChanges, type ChangedActor, changes, type ChangesQuery } from "./changes.ts";
import { type Cluster, readCluster } from "./cluster.ts";
import { delivered, type Deliveries } from "./delivered.ts";
import {
  type Activity,
  type Count,
  Finder,
  type FindQuery,
  type FoundActor,
  type FoundPage,
  type FoundTimer,
  type TimersQuery,
} from "./find.ts";
import { type CallOptions, carriedTrace, checkCall, type Recipient, type WatchOptions } from "./options.ts";
import { ActorRef } from "./ref.ts";
import { Call, Requests } from "./session.ts";
import { SharedAsks } from "./shared-asks.ts";
import type { AskShard } from "./shards.ts";
import { RequestTracing } from "./tracing.ts";
import { type StateListener, Watching } from "./watching.ts";

export type { CallOptions, GetOptions, HistoryOptions, Recipient, WatchOptions } from "./options.ts";
export { ActorRef, type CreateArgs, type RefFor } from "./ref.ts";

/** Timers that are cancelled at once. */
const CANCELS_AT_ONCE = 256;
/** A look at the cluster waits so long for what the sources say. */
const PLAN_MS = 2_000;

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
  readonly #watching: Watching;
  readonly #shards: number;
  readonly #askShard: AskShard;
  readonly #finder: Finder;
  readonly #world: World;
  readonly #tracing: RequestTracing | undefined;
  /** A client of its own for questions that are held: what waits for long must not slow down repetitions here. */
  #holder: Client | undefined;
  /** Its questions that are held. */
  #shared: SharedAsks | undefined;
  /** Those that are answered at once. */
  #reading = 0;

  constructor(store: Store, world: World, shards: number, telemetry?: Telemetry) {
    this.#tracing = telemetry && new RequestTracing(telemetry, world);
    this.#store = store;
    this.#clock = world.clock;
    this.#shards = shards;
    const name = `${store.transport.sessionPrefix ?? ""}${world.random.id()}`;
    this.#watching = new Watching(name, world.clock, (ref, kind, watch) =>
      this.request(ref, kind, watch, {}),
    );
    this.#requests = new Requests(name, store.transport, world.clock, (watch, state) =>
      this.#watching.heard(watch, state),
    );
    this.#askShard = (shard, type, query, timeout_ms) => {
      const to = { type, key: "", id: type, shard, last: undefined };
      const bytes = sizeOf(query);
      if (bytes > limits.eventBytes) return Promise.reject(tooMuchAsked(bytes));
      return this.request(to, Query, query, { timeout_ms }, bytes) as Promise<ShardAnswer>;
    };
    this.#finder = new Finder(this.#askShard, shards);
    this.#world = world;
  }

  /** Requests that wait for their outcome. */
  get inFlight(): number {
    return this.#requests.inFlight + this.#reading;
  }

  /** Its clock and its randomness. @internal */
  get world(): World {
    return this.#world;
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
    return changes(this.#held(), this.#shards, this.#clock, target, query);
  }

  /** Asks questions that may be held. */
  #held(): AskChanges {
    const holder = (this.#holder ??= new Client(this.#store, this.#world, this.#shards));
    const shared = (this.#shared ??= new SharedAsks(holder.#askShard));
    return async (shard, type, asked, timeout_ms, isFresh) => {
      if (asked.since !== undefined) return await shared.ask(shard, type, asked, timeout_ms, isFresh);
      this.#reading++;
      try {
        return await holder.#askShard(shard, type, asked, timeout_ms);
      } finally {
        this.#reading--;
      }
    };
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
   * The nodes of the app, who serves which shard, and who reads which source: may be a moment behind.
   * @throws KeyturnError `access_denied` for a client that may not read the directory, and what the store throws
   */
  cluster(): Promise<Cluster> {
    const planOf = async (type: string): Promise<unknown> =>
      (await this.#ref(type, PLAN_KEY).get({ timeout_ms: PLAN_MS })).context;
    return readCluster(this.#store.directory, this.#shards, planOf);
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

  /** Keys of the actors with the highest numbers at a path of their index. @internal */
  top(
    target: AnyActorDefinition,
    by: string,
    count: number,
    options: Pick<CallOptions, "timeout_ms">,
  ): Promise<readonly string[]> {
    return this.#finder.top(target, by, count, options.timeout_ms);
  }

  /** Resolves when what actors of some shards have told over a lane is committed by its receivers. @internal */
  delivered(asked: Deliveries): Promise<void> {
    return delivered(this.#held(), this.#clock, asked);
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
    return new Promise((resolve, reject) => {
      const timeout_ms = checkCall(options);
      const trace = carriedTrace(options);
      const { requestId } = options;
      const call =
        this.#tracing === undefined
          ? new Call(kind, ref, ref, event, bytes, requestId, trace, resolve, reject)
          : this.#tracing.call(kind, ref, event, bytes, requestId, trace, resolve, reject);
      try {
        if (requestId !== undefined && this.#requests.again(requestId, timeout_ms, call)) return;
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

  /** @internal Returns what ends it. */
  listen(ref: Recipient, listener: StateListener): () => void {
    return this.#watching.listen(ref, listener);
  }

  /** @internal */
  watch(ref: Recipient, options: WatchOptions): AsyncGenerator<ActorState> {
    return this.#watching.watch(ref, options);
  }
}

function tooMuchAsked(bytes: number): KeyturnError {
  const text = `A question takes up to ${limits.eventBytes} bytes, this one about ${bytes}.`;
  return new KeyturnError("invalid_options", text);
}
