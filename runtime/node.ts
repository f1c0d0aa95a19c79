/**
 * A node: hosts actor types on a store, and comes back under a new incarnation when it was fenced.
 *
 * Owns the settings, the current incarnation and the client in this process. Talks to the cluster.
 */
import { Client } from "./client/client.ts";
import { Incarnation, type NodeParts } from "./cluster/incarnation.ts";
import { type AnyActorDefinition, type Registry, registryOf } from "./engine/definition.ts";
import { metricsOf, type NodeMetrics } from "./engine/metrics.ts";
import { type Observer, silent } from "./engine/observer.ts";
import { keepForTypes } from "./engine/holds.ts";
import { type Keep, policyOf } from "./engine/keep.ts";
import { Tally } from "./engine/tally.ts";
import { guarded, type Telemetry } from "./engine/telemetry.ts";
import { PlainGateway } from "./gateway.ts";
import { HealthWatch, type NodeHealth } from "./health.ts";
import { ownActors } from "./own-actors.ts";
import type { DeadLetter, Store, World } from "./ports/index.ts";
import { checkSources, NodeSources } from "./node-sources.ts";
import type { AnySource } from "./streams/sources/define.ts";
import type { SourceStatus } from "./streams/sources/status.ts";
import { KeyturnError } from "./words/errors.ts";
import { FORMAT } from "./words/format.ts";
import { limits, nodeDefaults, type NodeSettings } from "./words/limits.ts";
import { realWorld } from "./world.ts";

export { FORMAT };
export const SHARDS_DEFAULT = 64;

/** A node that stops waits so long at most for others to take what it had, if clients that are not ours may ask it. */
const TAKEN_OVER_MS = 1_000;
const TAKEN_OVER_LOOK_MS = 10;
/** A share of a source is held for the node's lease, or for this. */
const SOURCE_LEASE_MS = 300;
/** And so long for the answers to those that had asked. */
const ANSWERED_MS = 5_000;

export interface NodeOptions {
  /** What this node hosts. */
  readonly actors: readonly AnyActorDefinition[];
  /**
   * Sources that this node hosts and reads, with all other nodes that were started with them: each part of one is read by
   * one of them, and by another when that is gone.
   */
  readonly sources?: readonly AnySource[] | undefined;
  /** Views and sinks that it hosts; the same as their `actors` among `actors`. */
  readonly views?: readonly Hosted[] | undefined;
  readonly sinks?: readonly Hosted[] | undefined;
  /** `memory()`, `embedded({ path })`, or a promise of one. */
  readonly store: Store | Promise<Store>;
  /** Name of the node, kept over restarts; by default one that is drawn. */
  readonly name?: string;
  /** Share of the shards relative to the other nodes; 1 by default. */
  readonly weight?: number;
  /** Shards of the app; 64 by default; frozen when the app is created. */
  readonly shards?: number;
  /** Bounds that differ from `nodeDefaults`. */
  readonly settings?: Partial<NodeSettings>;
  /**
   * How much of the journal is kept: `"forever"` by default, `{ age: "30 days" }`, `{ bytes: "10GB" }` or both. The same on
   * every node. Never less than the last hour, what recovery needs, and what types ask for (`defineActor({ keep })`). On NATS the nodes then need the permission to purge
   * the journal's streams.
   */
  readonly keep?: Keep | undefined;
  readonly observer?: Partial<Observer>;
  /** Traces, and metrics that are pushed: `telemetry()` of `keyturn/telemetry`. None by default. */
  readonly telemetry?: Telemetry | undefined;
  /** Clock and randomness; the real ones by default. */
  readonly world?: World;
}

/** What is made of actors: `defineView`, `defineSink`, `defineSource`. */
export interface Hosted {
  readonly actors: readonly AnyActorDefinition[];
}

export interface StopOptions {
  /** Close the store too; true by default. Say false when other nodes or clients still use it. */
  readonly closeStore?: boolean;
}

/**
 * Starts a node. Resolves when it has joined and serves the shards that were free.
 * @throws KeyturnError `invalid_options`, `app_mismatch`, and what the store throws; `newer_version` if there is no
 *   other node and every shard was served by nodes with later versions of the actors, whose work this one cannot read
 */
export async function startNode(options: NodeOptions): Promise<KeyturnNode> {
  if (typeof options !== "object" || options === null) {
    throw new KeyturnError("invalid_options", "startNode takes { actors, store }.");
  }
  const { name, weight = 1, shards = SHARDS_DEFAULT, world = realWorld } = options;
  const settings = settingsOf(options.settings);
  checkOptions(options, weight, shards);
  const keep = policyOf(options.keep === undefined ? "forever" : options.keep);
  const { sources = [] } = options;
  checkSources(sources);
  const registry = registryOf([...hostedBy(options), ...ownActors]);
  const store = await options.store;
  if (typeof store?.directory?.app !== "function") {
    throw new KeyturnError(
      "invalid_options",
      'The store is none: give what embedded({ path: "./data" }) or memory() returns.',
    );
  }
  if (!keep.isForever && store.retention === undefined) {
    throw new KeyturnError(
      "invalid_options",
      `The journal of ${store.description} cannot be trimmed: it is kept forever.`,
    );
  }
  const app = await store.directory.app({ shards, format: FORMAT });
  if (app.format !== FORMAT || (options.shards !== undefined && app.shards !== shards)) {
    throw new KeyturnError(
      "app_mismatch",
      `The app was created with ${app.shards} shards in format ${app.format}; this node was started with ${shards} in format ${FORMAT}. Both are frozen: start it as the app is, or use another store.`,
    );
  }
  await keepOwn(registry, store, world);
  const tally = new Tally();
  const observer = tally.over({ ...silent, logged: writeLog, ...options.observer });
  const node = new KeyturnNode(
    {
      node: name ?? world.random.id(),
      weight,
      world,
      store,
      settings,
      registry,
      shards: app.shards,
      observer,
      tally,
      keep,
      telemetry:
        options.telemetry && guarded(options.telemetry, (error) => observer.troubled("telemetry", error)),
    },
    sources,
  );
  try {
    await node.join();
    node.startSources();
  } catch (error) {
    // What has begun must not go on without anybody who could stop it.
    node.kill();
    throw error;
  }
  return node;
}

/** Notes in the store what the types of a node ask to be kept, for whoever trims. */
async function keepOwn(registry: Registry, store: Store, world: World): Promise<void> {
  if (store.retention === undefined) return;
  const asked = [...registry].flatMap(
    ([
      type,
      {
        definition: { keep },
      },
    ]) => (keep === undefined ? [] : [[type, policyOf(keep)] as const]),
  );
  if (asked.length > 0) await keepForTypes(store.snapshots, world, new Map(asked));
}

/** A node that runs: hosts actors, and has a client to reach them. Made by `startNode`. */
export class KeyturnNode {
  readonly name: string;
  /** A client in this process; reaches every actor of the app. */
  readonly client: Client;
  readonly store: Store;
  readonly #parts: NodeParts;
  readonly #health = new HealthWatch();
  #life: Incarnation;
  #stopped = false;
  readonly #gateway: PlainGateway;
  #unserve: (() => Promise<void>) | undefined;
  readonly #unmeter: (() => void) | undefined;

  readonly #sources: NodeSources;

  /** @internal */
  constructor(parts: NodeParts, sources: readonly AnySource[]) {
    this.#parts = parts;
    this.name = parts.node;
    this.store = parts.store;
    this.#life = this.#newLife();
    this.client = new Client(parts.store, parts.world, parts.shards, parts.telemetry);
    this.#sources = new NodeSources(this.client, sources);
    this.#unmeter = parts.telemetry?.node(parts.node, () => this.metrics());
    this.#gateway = new PlainGateway(() => this.client, { shards: parts.shards, format: FORMAT });
  }

  /** This life's name; changes when the node was fenced and came back. */
  get incarnation(): Incarnation {
    return this.#life;
  }

  /** Shards served here. */
  get shards(): readonly number[] {
    return this.#life.ownership.serving;
  }

  /** What this node hosts, but for what the runtime brings itself. */
  get actors(): readonly AnyActorDefinition[] {
    const all = [...this.#parts.registry.values()].map(({ definition }) => definition);
    return all.filter((definition) => !ownActors.includes(definition));
  }

  /** Shards of the app. */
  get shardsOfApp(): number {
    return this.#parts.shards;
  }

  /**
   * Whether this node does its work. "Nothing moves" is seen by comparing with earlier looks: ask about once a second.
   */
  health(): NodeHealth {
    const { engine, membership, ownership, name, phase } = this.#life;
    return this.#health.look(
      {
        connection: this.store.connection ?? { connected: true, text: this.store.description },
        phase,
        stopped: this.#stopped || membership.self.leaving,
        leaseHeld: membership.holds(),
        incarnation: name,
        serving: ownership.serving.length,
        shards: this.#parts.shards,
        oldest: engine.oldest,
        queued: engine.queued,
        overdue: engine.overdue,
        committed: engine.committedSeq,
        unserved: ownership.unserved,
      },
      this.#parts.world.clock.monotonic(),
    );
  }

  /** What this node counts, and what is so now. `prometheus(node.metrics())` is its text for Prometheus. */
  metrics(): NodeMetrics {
    const { engine, ownership } = this.#life;
    const { tally } = this.#parts;
    return metricsOf(this.name, engine, tally, ownership.serving.length, this.#sources.metrics());
  }

  /** How the sources stand that this node was started with, whichever nodes read them. */
  sources(): Promise<readonly SourceStatus[]> {
    return this.#sources.status();
  }

  /** @internal */
  startSources(): void {
    const { settings, observer } = this.#parts;
    this.#sources.start(this.name, Math.max(settings.lease_ms, SOURCE_LEASE_MS), observer);
  }

  /** @internal */
  async join(): Promise<void> {
    const life = this.#life;
    // Before it has shards: their plain messages come from the first moment on.
    this.#unserve = this.store.transport.serve?.(this.#gateway);
    await life.join();
    const { refusal } = life.ownership;
    if (refusal !== undefined) {
      await life.leave();
      throw refusal;
    }
    this.#parts.observer.joined(life.name);
  }

  /** Messages that were refused for good and had nobody waiting for the error, oldest first. */
  deadLetters(limit = 100, after?: DeadLetter): Promise<readonly DeadLetter[]> {
    return this.store.deadLetters.list(limit, after);
  }

  /** Writes snapshots of everything and cuts the tail, so that the next start has nothing to replay. */
  checkpoint(): Promise<void> {
    return this.#life.ownership.checkpoint();
  }

  /** Ends the sources, hands the shards over, or flushes them if there is nobody else, and ends. */
  async stop({ closeStore = true }: StopOptions = {}): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    await this.#sources.stop();
    await this.#life.leave();
    this.#unmeter?.();
    await this.#closeGateway();
    this.client.close();
    if (closeStore) await this.store.close();
  }

  /** Ends as a killed process does: nothing is flushed, released or closed. For tests. */
  kill(): void {
    this.#stopped = true;
    this.#unmeter?.();
    void this.#unserve?.();
    this.#life.kill();
    this.#sources.kill();
    this.client.close();
  }

  /** Plain clients notice nothing: what still comes here is passed on until others listen, and all of it is answered. */
  async #closeGateway(): Promise<void> {
    if (this.#unserve === undefined) return;
    const { clock } = this.#parts.world;
    const until_ms = clock.monotonic() + TAKEN_OVER_MS;
    const others = this.#life.membership.candidates().length > 0;
    while (others && clock.monotonic() < until_ms && !(await this.#areOwned()))
      await new Promise<void>((resolve) => clock.after(TAKEN_OVER_LOOK_MS, resolve));
    const answered = this.#unserve().then(() => this.#gateway.idle());
    let cancel = (): void => undefined;
    const late = new Promise<void>((resolve) => {
      cancel = clock.after(ANSWERED_MS, resolve);
    });
    await Promise.race([answered, late]);
    cancel();
  }

  /** Whether every shard has an owner. Without the store nobody knows, and nothing is to be waited for. */
  async #areOwned(): Promise<boolean> {
    const shards = Array.from({ length: this.#parts.shards }, (_, shard) => shard);
    const table = await this.store.directory.readShards(shards).catch(() => undefined);
    return table === undefined || shards.every((shard) => table.get(shard)?.entry.owner !== undefined);
  }

  #newLife(): Incarnation {
    return new Incarnation(this.#parts, () => {
      if (this.#stopped) return;
      this.#life = this.#newLife();
      this.#rejoin(this.#life);
    });
  }

  #rejoin(life: Incarnation): void {
    life.join().then(
      () => {
        if (life.phase === "active") this.#parts.observer.joined(life.name);
      },
      (error: unknown) => {
        this.#parts.observer.troubled("rejoin", error);
        if (this.#stopped || life !== this.#life) return;
        this.#parts.world.clock.after(this.#parts.settings.heartbeat_ms, () => this.#rejoin(life));
      },
    );
  }
}

/** What a machine says with XState's `log` goes where XState's own default writes it. */
function writeLog(_id: string, label: string | undefined, value: unknown): void {
  // biome-ignore lint/suspicious/noConsole: it is what the machine's author asked for; an observer takes it elsewhere
  console.log(...(label === undefined || label === "" ? [value] : [label, value]));
}

function settingsOf(given: Partial<NodeSettings> = {}): NodeSettings {
  if (typeof given !== "object" || given === null)
    throw new KeyturnError("invalid_options", "Settings are an object.");
  const chosen = Object.entries(given).filter(([, value]) => value !== undefined);
  const settings = { ...nodeDefaults, ...Object.fromEntries(chosen) };
  for (const [name, value] of Object.entries(settings)) {
    if (!Object.hasOwn(nodeDefaults, name))
      throw new KeyturnError("invalid_options", `There is no setting "${name}".`);
    if (!(typeof value === "number" && value > 0 && Number.isFinite(value))) {
      throw new KeyturnError(
        "invalid_options",
        `The setting ${name} is ${value}; it is a finite number above 0.`,
      );
    }
  }
  if (settings.heartbeat_ms * 3 > settings.lease_ms) {
    throw new KeyturnError(
      "invalid_options",
      "A lease is at least three heartbeats: lease_ms >= 3 * heartbeat_ms.",
    );
  }
  return settings;
}

/** Each once, however often it is named. */
function hostedBy({ actors, sources = [], views = [], sinks = [] }: NodeOptions): AnyActorDefinition[] {
  const parts = [...sources, ...views, ...sinks];
  if (parts.some((part) => !Array.isArray(part?.actors)))
    throw new KeyturnError(
      "invalid_options",
      "Views are what defineView returns, sinks what defineSink does.",
    );
  // One that is named twice among the actors is a mistake; parts may have some in common with them.
  const named = new Set(actors);
  const more = new Set(parts.flatMap((part) => part.actors).filter((actor) => !named.has(actor)));
  return [...actors, ...more];
}

function checkOptions(options: NodeOptions, weight: number, shards: number): void {
  if (!Array.isArray(options.actors)) {
    throw new KeyturnError(
      "invalid_options",
      "Say what the node hosts: startNode({ actors: [counter], store }); key-value stores are there without.",
    );
  }
  if ((options.store as unknown) === undefined) {
    throw new KeyturnError(
      "invalid_options",
      'A node needs a store, for example embedded({ path: "./data" }) or memory().',
    );
  }
  if (!(weight > 0 && Number.isFinite(weight)))
    throw new KeyturnError("invalid_options", "A weight is a number above 0.");
  if (!Number.isSafeInteger(shards) || shards < 1 || shards > limits.shards) {
    throw new KeyturnError("invalid_options", `An app has 1 to ${limits.shards} shards, not ${shards}.`);
  }
  if (options.name !== undefined && !/^[A-Za-z0-9_-]{1,64}$/.test(options.name)) {
    throw new KeyturnError(
      "invalid_options",
      `"${options.name}" is not a node name: up to 64 letters, digits, "_" or "-".`,
    );
  }
}
