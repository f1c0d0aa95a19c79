/**
 * A large cluster, without faults of its own but those of the plan: what a heartbeat, a join, a leave and the loss of
 * a rack cost, counted; and whether all shards are served again, in how much virtual time.
 *
 * Owns the plan and the counts. Talks to the simulator's parts. Clients ask all the while, so that there are tails to
 * replay and answers to check.
 */
import { type Candidate, Placement } from "../../runtime/cluster/placement.ts";
import { isKeyturnError, textOf } from "../../runtime/words/errors.ts";
import { limits, nodeDefaults } from "../../runtime/words/limits.ts";
import { audit } from "../../runtime/testing/simulator/audit.ts";
import { Cluster, type Site } from "../../runtime/testing/simulator/cluster.ts";
import { type Claim, Disk } from "../../runtime/testing/simulator/disk.ts";
import { Faults, noFaults } from "../../runtime/testing/simulator/faults.ts";
import { Network } from "../../runtime/testing/simulator/network.ts";
import { Prng } from "../../runtime/testing/simulator/prng.ts";
import type { Scenario } from "../../runtime/testing/simulator/scenario.ts";
import { type Owner, Timeline } from "../../runtime/testing/simulator/timeline.ts";
import { decodeBatch } from "../../runtime/engine/record.ts";
import type { ShardEntry } from "../../runtime/ports/index.ts";
import { simCounter } from "./workloads/counter.ts";

export interface ScaleOptions {
  readonly nodes: number;
  readonly shards: number;
  /** Nodes that are lost at once. */
  readonly rack: number;
  readonly seed: number;
}

/** What one phase took. */
export interface Phase {
  readonly name: string;
  /** Virtual time until every shard was served where it belongs. */
  readonly took_ms: number;
  /** How long shards were served by nobody, the longest and on average. */
  readonly longestGap_ms: number;
  readonly meanGap_ms: number;
  /** Shards that changed hands. */
  readonly moves: number;
  readonly seals: number;
  /** Operations of all nodes by name, and what they read or wrote. */
  readonly calls: ReadonlyMap<string, { readonly count: number; readonly items: number }>;
  readonly heartbeats: number;
}

export interface ScaleResult {
  readonly phases: readonly Phase[];
  readonly violations: readonly string[];
  readonly asks: number;
  readonly longestAsk_ms: number;
  readonly events: number;
  readonly hash: string;
}

interface Begun {
  readonly now: number;
  readonly calls: ReadonlyMap<string, { readonly count: number; readonly items: number }>;
}

const CLIENTS = 8;
const KEYS = 400;
const ASK_EVERY_MS = 40;
const QUIET_BEATS = 10;
/** No phase may take longer. */
const LIMIT_MS = 120_000;

/**
 * @param told hears of every phase when it is over
 * @param prepare called with the disk before anything runs; for seeded bugs
 */
export async function scale(
  options: ScaleOptions,
  told?: (phase: Phase) => void,
  prepare?: (disk: Disk) => void,
): Promise<ScaleResult> {
  return new Scale(options, told, prepare).run();
}

class Scale {
  readonly #options: ScaleOptions;
  readonly #told: ((phase: Phase) => void) | undefined;
  readonly #timeline: Timeline;
  readonly #disk: Disk;
  readonly #cluster: Cluster;
  readonly #random: Prng;
  readonly #driver: Owner = ownerOf("driver", -2);
  readonly #violations: string[] = [];
  readonly #phases: Phase[] = [];
  /** Owner of every shard as it took effect, and since when nobody serves it. */
  readonly #owners = new Map<number, string>();
  readonly #unserved = new Map<number, number>();
  #gaps: number[] = [];
  #moves = 0;
  #seals = new Map<string, number>();
  #asks = 0;
  #longestAsk_ms = 0;
  #asking = true;
  #open = 0;
  readonly #placement: Placement<Candidate>;
  readonly #sums = new Map<string, { sure: number; maybe: number }>();

  constructor(options: ScaleOptions, told?: (phase: Phase) => void, prepare?: (disk: Disk) => void) {
    this.#options = options;
    this.#told = told;
    this.#placement = new Placement(options.shards);
    this.#random = new Prng(options.seed, "scale");
    this.#timeline = new Timeline(this.#random.split("ties"), false);
    const faults = new Faults(noFaults, this.#random.split("faults"));
    const network = new Network(faults, false, ownerOf("wire", -1));
    this.#disk = new Disk(this.#timeline, faults, network, ownerOf("store", -3));
    this.#cluster = new Cluster({
      scenario: scenarioOf(options),
      timeline: this.#timeline,
      random: this.#random.split("hosts"),
      network,
      disk: this.#disk,
      actors: [simCounter],
      violated: (text) => this.#violated(text),
    });
    this.#disk.onClaim = (claim, before) => {
      this.#cluster.checkClaim(claim, before);
      this.#claimed(claim, before);
    };
    this.#countSeals();
    prepare?.(this.#disk);
  }

  async run(): Promise<ScaleResult> {
    const { nodes, rack, shards } = this.#options;
    for (let shard = 0; shard < shards; shard++) this.#unserved.set(shard, 0);
    await this.#phase(`${nodes} nodes start within a second`, () => {
      for (let n = 0; n < nodes; n++) this.#later(this.#random.between(0, 1_000), () => this.#cluster.add());
    });
    for (let n = 0; n < CLIENTS; n++) this.#ask(n);
    await this.#quiet();
    await this.#phase("one node joins", () => this.#cluster.add());
    await this.#phase("one node leaves", () => this.#cluster.stop(this.#site(0)));
    await this.#phase("one node is lost", () => this.#lose([this.#site(1)]));
    const lost = this.#random
      .shuffle(this.#cluster.sites.filter((site) => site.state === "up"))
      .slice(0, rack);
    await this.#phase(`${rack} nodes are lost at once`, () => this.#lose(lost));
    await this.#phase(`the ${rack} come back`, () => {
      for (const site of lost) this.#cluster.start(site);
    });
    const leaving = this.#cluster.sites.filter((site) => site.state === "up").slice(0, rack);
    await this.#phase(`${rack} nodes leave at once`, () => {
      for (const site of leaving) this.#cluster.stop(site);
    });
    this.#asking = false;
    if (!(await this.#timeline.run(() => this.#open === 0, LIMIT_MS)))
      this.#violated("asks are not answered");
    await this.#check();
    return {
      phases: this.#phases,
      violations: this.#violations,
      asks: this.#asks,
      longestAsk_ms: this.#longestAsk_ms,
      events: this.#timeline.count,
      hash: this.#timeline.hash,
    };
  }

  // ---- Phases -----------------------------------------------------------------------------------------------------

  async #phase(name: string, begin: () => void): Promise<void> {
    const before = this.#begin();
    begin();
    let looked = 0;
    const balanced = (): boolean => {
      if (this.#timeline.now < looked) return false;
      looked = this.#timeline.now + 10;
      return this.#isBalanced();
    };
    // What begins later than now is not to be missed.
    await this.#timeline.run(() => false, 1_000);
    if (!(await this.#timeline.run(() => balanced() || this.#violations.length > 0, LIMIT_MS)))
      this.#violated(`${name}: ${this.#unserved.size} shards are not served after ${LIMIT_MS} ms`);
    this.#end(name, before);
  }

  /** Nothing happens but heartbeats and asks. */
  async #quiet(): Promise<void> {
    await this.#timeline.run(() => false, 5_000);
    const before = this.#begin();
    await this.#timeline.run(() => false, QUIET_BEATS * nodeDefaults.heartbeat_ms);
    this.#end(`${QUIET_BEATS} heartbeats`, before);
  }

  #begin(): Begun {
    this.#gaps = [];
    this.#moves = 0;
    this.#seals = new Map();
    return { now: this.#timeline.now, calls: new Map(this.#disk.calls) };
  }

  #end(name: string, { now, calls: before }: Begun): void {
    const calls = new Map<string, { count: number; items: number }>();
    for (const [call, { count, items }] of this.#disk.calls) {
      const was = before.get(call) ?? { count: 0, items: 0 };
      if (count > was.count) calls.set(call, { count: count - was.count, items: items - was.items });
    }
    const phase: Phase = {
      name,
      took_ms: this.#timeline.now - now,
      longestGap_ms: Math.max(0, ...this.#gaps),
      meanGap_ms: this.#gaps.reduce((sum, gap) => sum + gap, 0) / Math.max(1, this.#gaps.length),
      moves: this.#moves,
      seals: this.#seals.size,
      calls,
      heartbeats: calls.get("beat")?.count ?? 0,
    };
    for (const [lane, count] of this.#seals)
      if (count > 1) this.#violated(`lane ${lane} was sealed ${count} times`);
    this.#phases.push(phase);
    this.#told?.(phase);
  }

  #lose(sites: readonly Site[]): void {
    for (const site of sites) {
      const incarnation = site.node?.incarnation.name;
      this.#cluster.crash(site);
      for (const [shard, owner] of this.#owners)
        if (owner === incarnation) this.#unserved.set(shard, this.#timeline.now);
    }
  }

  #site(nth: number): Site {
    return this.#cluster.sites.filter((site) => site.state === "up")[nth] as Site;
  }

  #later(delay_ms: number, run: () => void): void {
    this.#timeline.after(delay_ms, this.#driver, "plan", run);
  }

  /** All that should run does, and every shard is served where it belongs. */
  #isBalanced(): boolean {
    if (this.#unserved.size > 0) return false;
    const members: Candidate[] = [];
    for (const { state, node, nodeName } of this.#cluster.sites) {
      if (state === "starting" || state === "stopping") return false;
      if (node !== undefined) members.push({ node: nodeName, incarnation: node.incarnation.name, weight: 1 });
    }
    this.#placement.update(members);
    for (const [shard, owner] of this.#owners)
      if (this.#placement.of(shard)?.incarnation !== owner) return false;
    return true;
  }

  // ---- What the store sees ------------------------------------------------------------------------------------------

  #claimed({ shard, entry }: Claim, before: ShardEntry | undefined): void {
    const { now } = this.#timeline;
    if (entry.owner === undefined) {
      this.#owners.delete(shard);
      this.#unserved.set(shard, now);
      return;
    }
    if (entry.epoch === before?.epoch) return;
    this.#moves++;
    this.#owners.set(shard, entry.owner);
    const since = this.#unserved.get(shard);
    if (since !== undefined) this.#gaps.push(now - since);
    this.#unserved.delete(shard);
  }

  #countSeals(): void {
    const { journal } = this.#disk.memory;
    const append = journal.append.bind(journal);
    journal.append = async (lane, expected, bytes) => {
      const result = await append(lane, expected, bytes);
      if (result.kind === "committed" && decodeBatch(bytes, 0).header.sealedBy !== undefined)
        this.#seals.set(lane, (this.#seals.get(lane) ?? 0) + 1);
      return result;
    };
  }

  // ---- Asks -------------------------------------------------------------------------------------------------------

  #ask(number: number): void {
    const client = this.#cluster.client(`c${number}`);
    const random = this.#random.split(`c${number}`);
    const next = (): void => {
      if (!this.#asking) return;
      this.#later(-Math.log(1 - random.next()) * ASK_EVERY_MS, next);
      const key = `k${random.below(KEYS)}`;
      const sum = this.#sums.get(key) ?? { sure: 0, maybe: 0 };
      this.#sums.set(key, sum);
      const asked = this.#timeline.now;
      this.#asks++;
      this.#open++;
      client
        .actor(simCounter, key)
        .ask({ type: "add", by: 1 }, { timeout_ms: limits.deadline_ms })
        .then(
          () => {
            sum.sure++;
          },
          (error: unknown) => {
            if (!isKeyturnError(error)) this.#violated(`an ask threw ${textOf(error)}`);
            else if (error.outcome === "unknown") sum.maybe++;
          },
        )
        .finally(() => {
          this.#open--;
          this.#longestAsk_ms = Math.max(this.#longestAsk_ms, this.#timeline.now - asked);
        });
    };
    next();
  }

  // ---- The verdict --------------------------------------------------------------------------------------------------

  async #check(): Promise<void> {
    const served = new Map<number, string>();
    for (const { name, node, state } of this.#cluster.sites) {
      if (state !== "up" || node === undefined) continue;
      for (const shard of node.shards) {
        if (served.has(shard)) this.#violated(`shard ${shard} is served by ${served.get(shard)} and ${name}`);
        served.set(shard, name);
      }
    }
    if (served.size !== this.#options.shards)
      this.#violated(`${this.#options.shards - served.size} shards are served by nobody`);
    const { violations, actors } = await audit(this.#disk);
    for (const text of violations) this.#violated(text);
    for (const [key, { sure, maybe }] of this.#sums) {
      const data = actors.get(`${simCounter.type}.${key}`);
      const count = (data?.machine.context as { count: number } | undefined)?.count ?? 0;
      if (count < sure || count > sure + maybe)
        this.#violated(`${key} counts ${count}, of ${sure} sure and ${maybe} unknown`);
    }
  }

  #violated(text: string): void {
    if (this.#violations.length < 20) this.#violations.push(text);
  }
}

function scenarioOf({ nodes, shards, seed }: ScaleOptions): Scenario {
  return {
    seed,
    nodes,
    shards,
    clients: CLIENTS,
    settings: {},
    rates: noFaults,
    calamities: {},
    calm_ms: 0,
    safety_ms: 0,
    liveness_ms: LIMIT_MS,
    skew_ms: 0,
    drift: 0.01,
    knowsListeners: false,
    namesakes: false,
    upgrades: false,
    workloads: [],
    requests: 0,
  };
}

function ownerOf(name: string, number: number): Owner {
  return { name, number, state: "up", stalled: [] };
}
