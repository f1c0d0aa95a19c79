/**
 * The world of a test runtime: a small cluster of the simulator without faults, whose wall clock stands still.
 *
 * Owns the timeline, the memory store, the network, the nodes and the wall clock. Talks to the simulator's parts and to
 * the driver.
 *
 * Two clocks. The *wall clock* is what machines and timers see: it moves when the test says so, and only then. The
 * *monotonic clock* is what the runtime itself waits by (frames and store operations on their way, repetitions, deadlines
 * of calls, heartbeats): it runs on by itself as long as something is under way, and costs no real time.
 *
 * A node that crashed is taken off the list of members at once, as its followers would do after a lease: nobody has to
 * wait for one, and no timer comes due meanwhile.
 */
import type { Client } from "../../client/client.ts";
import type { AnyActorDefinition } from "../../engine/definition.ts";
import { Cluster, type ClusterParts, type Site } from "../simulator/cluster.ts";
import { Disk } from "../simulator/disk.ts";
import { type FaultRates, Faults, noFaults } from "../simulator/faults.ts";
import { unrest } from "../simulator/inspection.ts";
import { Network } from "../simulator/network.ts";
import { Prng } from "../simulator/prng.ts";
import type { Scenario } from "../simulator/scenario.ts";
import type { Owner } from "../simulator/timeline.ts";
import type { NodeSettings } from "../../words/limits.ts";
import { Driver, HeardTimeline } from "./driver.ts";

export interface WorldOptions {
  readonly actors: readonly AnyActorDefinition[];
  readonly seed: number;
  readonly nodes: number;
  readonly shards: number;
  /** Where the wall clock begins. */
  readonly wall_ms: number;
  readonly settings: Partial<NodeSettings>;
}

/** A network that repeats every frame, some of them late, and a store that gets every write twice. */
const repeating: FaultRates = {
  ...noFaults,
  repetition: 1,
  requestRepetition: 1,
  ordered: false,
  straggling: 0.25,
  delayMax_ms: 20,
};

export class TestWorld {
  /** Milliseconds since the epoch. */
  wall_ms: number;
  readonly timeline: HeardTimeline;
  readonly disk: Disk;
  readonly cluster: Cluster;
  readonly driver: Driver;
  readonly client: Client;
  /** What the runtime reported and no caller is told. */
  readonly reports: string[] = [];
  /** Why a node cannot start. */
  startFault: unknown;
  readonly #faults: Faults;
  readonly #network: Network;
  readonly #scenario: Scenario;
  readonly #parts: ClusterParts & { actors: readonly AnyActorDefinition[] };

  constructor({ actors, seed, nodes, shards, wall_ms, settings }: WorldOptions) {
    const random = new Prng(seed, "kit");
    this.wall_ms = wall_ms;
    this.timeline = new HeardTimeline(random.split("ties"));
    this.#faults = new Faults(noFaults, random.split("faults"));
    const network = new Network(this.#faults, true, ownerOf("wire", -1));
    this.#network = network;
    this.disk = new Disk(this.timeline, this.#faults, network, ownerOf("store", -2));
    this.#scenario = scenarioOf(seed, nodes, shards, settings);
    this.#parts = {
      scenario: this.#scenario,
      timeline: this.timeline,
      random: random.split("hosts"),
      network,
      disk: this.disk,
      actors,
      violated: (text) => void this.reports.push(text),
      wallOf: () => this.wall_ms,
      troubled: (error) => {
        this.startFault = error;
      },
    };
    this.cluster = new Cluster(this.#parts);
    this.client = this.cluster.client("test");
    this.driver = new Driver(
      this.timeline,
      () => this.#unrest(),
      () => this.client.inFlight,
      () => this.sitesUp.some(({ node }) => (node?.incarnation.engine.works.promises ?? 0) > 0),
    );
    for (let node = 0; node < nodes; node++) this.cluster.add();
  }

  set actors(actors: readonly AnyActorDefinition[]) {
    this.#parts.actors = actors;
  }

  set repeats(on: boolean) {
    this.#faults.rates = on ? repeating : noFaults;
  }

  get sitesUp(): Site[] {
    return this.cluster.sites.filter((site) => site.state === "up");
  }

  /** Waits until all nodes that were started serve. */
  async started(): Promise<void> {
    this.startFault = undefined;
    await this.driver.until(() => this.startFault !== undefined || this.#unrest() === undefined);
    if (this.startFault !== undefined) throw this.startFault;
  }

  /** Kills nodes, each between two events. */
  async kill(sites: readonly Site[]): Promise<void> {
    const names = sites.flatMap(({ node }) => (node === undefined ? [] : [node.incarnation.name]));
    for (const site of sites) this.cluster.crash(site);
    await this.driver.settled(Promise.all(names.map((name) => this.disk.memory.directory.leave(name))));
  }

  /** Sets the wall clock. Resolves when everything that is due then, and all that followed from it, is done. */
  async moveTo(wall_ms: number): Promise<void> {
    this.wall_ms = wall_ms;
    // Each node would look by itself within a minute, as after a jump of its clock.
    const looks = this.sitesUp.map(({ node }) => node?.incarnation.ownership.extendTimers(wall_ms));
    await this.driver.settled(Promise.all(looks));
    await this.driver.rest();
  }

  /** When the next timer is due that is not due yet, of actors in memory and of others. */
  async nextDue(): Promise<number | undefined> {
    let next = Number.POSITIVE_INFINITY;
    for (const { node } of this.sitesUp)
      for (const shard of node?.incarnation.engine.shards.values() ?? [])
        next = Math.min(next, shard.due.next() ?? next);
    const after = { id: "", due: this.wall_ms + 1 };
    const { snapshots } = this.disk.memory;
    for (let shard = 0; shard < this.#scenario.shards; shard++) {
      const [entry] = await snapshots.due(shard, Number.POSITIVE_INFINITY, 1, after);
      next = Math.min(next, entry?.due ?? next);
    }
    return next === Number.POSITIVE_INFINITY ? undefined : next;
  }

  #unrest(): string | undefined {
    if (this.client.inFlight > 0) return `${this.client.inFlight} requests are in flight`;
    if (this.#network.underWay > 0) return `${this.#network.underWay} frames are under way`;
    const moving = unrest(this.cluster, this.#scenario);
    if (moving !== undefined) return moving;
    for (const { node } of this.sitesUp)
      for (const shard of node?.incarnation.engine.shards.values() ?? []) {
        // What runs outside is not of this world; see the driver.
        for (const id of shard.due.taken.keys())
          if (node?.incarnation.engine.works.has(id) !== true) return `a timer in shard ${shard.shard} fires`;
        const due = shard.due.next();
        if (due !== undefined && due <= this.wall_ms) return `a timer in shard ${shard.shard} is due`;
      }
    return undefined;
  }
}

function ownerOf(name: string, number: number): Owner {
  return { name, number, state: "up", stalled: [] };
}

function scenarioOf(seed: number, nodes: number, shards: number, settings: Partial<NodeSettings>): Scenario {
  return {
    seed,
    nodes,
    shards,
    clients: 1,
    settings,
    rates: noFaults,
    calamities: {},
    calm_ms: 0,
    safety_ms: 0,
    liveness_ms: 0,
    skew_ms: 0,
    drift: 0,
    knowsListeners: true,
    namesakes: false,
    upgrades: false,
    workloads: [],
    requests: 0,
  };
}
