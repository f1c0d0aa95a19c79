/**
 * One run: a cluster, its clients and their faults, from a seed to a verdict.
 *
 * Owns the phases. First safety: everything that may go wrong does. Then liveness: everything heals, and within
 * bounded virtual time all requests are settled, all shards served, all messages delivered and all timers fired. Then
 * the verdict: workloads' own checks, the audit of the journal, live state against the journal, and a fresh node's
 * state after recovery against the journal.
 */
import type { Client } from "../../client/client.ts";
import { textOf } from "../../words/errors.ts";
import { audit, type Audit } from "./audit.ts";
import { Cluster, VERSIONS } from "./cluster.ts";
import { Disk } from "./disk.ts";
import { Faults, noFaults } from "./faults.ts";
import { Nemesis } from "./nemesis.ts";
import { Network } from "./network.ts";
import { Prng } from "./prng.ts";
import { compareFound, compareLive, compareRecovered, unrest } from "./inspection.ts";
import type { Scenario } from "./scenario.ts";
import { type Owner, Timeline } from "./timeline.ts";
import type { RunningWorkload, Workload, WorkloadContext } from "./workload.ts";

export interface RunOptions {
  /** All that the scenario may name. */
  readonly workloads: readonly Workload[];
  /** Keep a trace and hand every line to this. */
  readonly trace?: ((line: string) => void) | undefined;
  /** Called with the disk before anything runs. For seeded bugs. */
  readonly prepare?: ((disk: Disk) => void) | undefined;
}

export interface RunResult {
  readonly scenario: Scenario;
  /** Empty if all went well. */
  readonly violations: readonly string[];
  readonly hash: string;
  readonly events: number;
  readonly virtual_ms: number;
  readonly records: number;
  /** How often each fault struck. */
  readonly faults: ReadonlyMap<string, number>;
  /** The last lines of the trace, if there was one. */
  readonly tail: readonly string[];
}

/** Wall clocks are set to this after the faults, so that every timer is due. */
const HEALED_SKEW_MS = 4 * 3_600_000;

/** Plays one scenario in virtual time and checks what comes of it. The same scenario gives the same run, event by event. */
export async function simulate(scenario: Scenario, options: RunOptions): Promise<RunResult> {
  const run = new Run(scenario, options);
  const rejected = (error: unknown): void => run.violated(`unhandled rejection: ${stackOf(error)}`);
  process.on("unhandledRejection", rejected);
  try {
    await run.play();
  } catch (error) {
    run.violated(`thrown: ${stackOf(error)}`);
  } finally {
    process.off("unhandledRejection", rejected);
  }
  return run.result();
}

class Run {
  readonly #scenario: Scenario;
  readonly #timeline: Timeline;
  readonly #faults: Faults;
  readonly #disk: Disk;
  readonly #cluster: Cluster;
  readonly #nemesis: Nemesis;
  readonly #workloads: readonly Workload[];
  readonly #random: Prng;
  readonly #driver: Owner;
  readonly #violations: string[] = [];
  #clients: readonly Client[] = [];
  readonly #running: RunningWorkload[] = [];
  #ending = false;
  #open = 0;
  #visitors = 0;
  #audit: Audit | undefined;

  constructor(scenario: Scenario, options: RunOptions) {
    const random = new Prng(scenario.seed, "run");
    const timeline = new Timeline(random.split("ties"), options.trace !== undefined);
    timeline.listener = options.trace;
    const faults = new Faults(scenario.rates, random.split("faults"));
    const wire = ownerOf("wire", -1);
    const network = new Network(faults, scenario.knowsListeners, wire);
    this.#driver = ownerOf("driver", -2);
    this.#disk = new Disk(timeline, faults, network, ownerOf("store", -3));
    this.#workloads = scenario.workloads.map((name) => {
      const found = options.workloads.find((workload) => workload.name === name);
      if (found === undefined) throw new RangeError(`there is no workload ${name}`);
      return found;
    });
    this.#cluster = new Cluster({
      scenario,
      timeline,
      random: random.split("hosts"),
      network,
      disk: this.#disk,
      actors: this.#workloads.flatMap((workload) => workload.actors),
      violated: (text) => this.violated(text),
    });
    this.#disk.onClaim = (claim, before) => this.#cluster.checkClaim(claim, before);
    this.#nemesis = new Nemesis(
      scenario,
      timeline,
      this.#cluster,
      this.#disk,
      random.split("nemesis"),
      this.#driver,
    );
    this.#scenario = scenario;
    this.#timeline = timeline;
    this.#faults = faults;
    this.#random = random;
    options.prepare?.(this.#disk);
  }

  violated(text: string): void {
    if (this.#violations.length < 20) this.#violations.push(text);
    this.#timeline.note(this.#driver, `VIOLATION ${text}`);
  }

  async play(): Promise<void> {
    const { safety_ms, liveness_ms, clients, nodes } = this.#scenario;
    for (let node = 0; node < nodes; node++) this.#cluster.add();
    const apart = Array.from({ length: clients }, (_, at) => this.#cluster.client(`c${at}`));
    const observer = this.#cluster.client("observer");
    this.#clients = [...apart, observer];
    for (const workload of this.#workloads) this.#begin(workload, apart, observer);
    this.#nemesis.begin();
    await this.#timeline.run(() => this.#open === 0 || this.#violations.length > 0, safety_ms);
    this.#heal();
    if (!(await this.#settled(() => this.#open === 0, liveness_ms)))
      this.violated(`liveness: ${this.#open} client processes still wait after ${liveness_ms} ms`);
    await this.#rest("at rest");
    if (this.#violations.length > 0) return;
    this.#spawn(this.#running.map((running) => () => running.finish?.() ?? Promise.resolve()));
    if (!(await this.#settled(() => this.#open === 0, liveness_ms)))
      this.violated("liveness: the final reads are not answered");
    await this.#rest("at rest after the final reads");
    if (this.#violations.length > 0) return;
    for (const running of this.#running) for (const text of running.check()) this.violated(text);
    if (this.#violations.length === 0) await this.#verdict(observer);
  }

  result(): RunResult {
    return {
      scenario: this.#scenario,
      violations: this.#violations,
      hash: this.#timeline.hash,
      events: this.#timeline.count,
      virtual_ms: Math.round(this.#timeline.now),
      records: this.#audit?.records ?? 0,
      faults: this.#faults.counts,
      tail: this.#timeline.tail,
    };
  }

  #begin(workload: Workload, clients: readonly Client[], observer: Client): void {
    const random = this.#random.split(workload.name);
    const self = this;
    const context: WorkloadContext = {
      random,
      clients,
      observer,
      requests: this.#scenario.requests,
      keepsAll: this.#scenario.keepBytes === undefined,
      get ending() {
        return self.#ending;
      },
      now: () => this.#timeline.now,
      sleep: (delay_ms) =>
        new Promise((resolve) => void this.#timeline.after(delay_ms, this.#driver, "sleep", resolve)),
      visit: () => this.#cluster.visitor(`v${this.#visitors++}`),
      timeout_ms: () => (random.chance(0.3) ? random.logarithmic(5, 500) : random.logarithmic(500, 20_000)),
    };
    const running = workload.begin(context);
    this.#running.push(running);
    this.#spawn(running.processes);
  }

  #spawn(processes: readonly (() => Promise<void>)[]): void {
    for (const process of processes) {
      this.#open++;
      this.#timeline.after(0, this.#driver, "process", () => {
        process().then(
          () => {
            this.#open--;
          },
          (error: unknown) => {
            this.#open--;
            this.violated(`a client process threw: ${stackOf(error)}`);
          },
        );
      });
    }
  }

  #heal(): void {
    this.#timeline.note(this.#driver, "the faults are over");
    this.#ending = true;
    this.#faults.rates = noFaults;
    this.#nemesis.end();
    for (const { host } of this.#cluster.sites) if (host !== undefined) host.skew_ms = HEALED_SKEW_MS;
  }

  #settled(condition: () => boolean, limit_ms: number): Promise<boolean> {
    return this.#timeline.run(() => this.#violations.length > 0 || condition(), limit_ms);
  }

  /** Waits until nothing moves any more but heartbeats. */
  async #rest(name: string): Promise<void> {
    const { liveness_ms } = this.#scenario;
    let checked = 0;
    const quiet = (): boolean => {
      // Looking at every engine after every event would take most of the time.
      if (this.#timeline.now < checked) return false;
      checked = this.#timeline.now + 20;
      return this.#unrest() === undefined;
    };
    while (this.#violations.length === 0) {
      const calm = await this.#settled(quiet, liveness_ms);
      if (!calm) {
        this.violated(`liveness: not ${name} after ${liveness_ms} ms: ${this.#unrest()}`);
        return;
      }
      const { undelivered, latestDue } = await audit(this.#disk);
      if (undelivered === 0 && latestDue === 0) return;
      const begun = this.#timeline.now;
      // Nobody waits for hours of virtual time: the wall clocks jump to when the last timer is due.
      for (const { host } of this.#cluster.sites)
        if (host !== undefined && host.wall <= latestDue) host.skew_ms += latestDue - host.wall + 1;
      // Acknowledgements are on their way, or a timer is looked at once a minute only.
      await this.#timeline.run(() => false, 5_000);
      if (begun > liveness_ms * 4) {
        this.violated(
          `liveness: ${undelivered} messages are not delivered, the last timer is due ${latestDue}`,
        );
        return;
      }
    }
  }

  #unrest(): string | undefined {
    // A request that nobody waits for any more is repeated all the same, until its outcome is known.
    for (const client of this.#clients)
      if (client.inFlight > 0) return `a client has ${client.inFlight} requests in flight`;
    return unrest(this.#cluster, this.#scenario);
  }

  async #verdict(observer: Client): Promise<void> {
    const found = await audit(this.#disk);
    this.#audit = found;
    for (const text of found.violations) this.violated(text);
    for (const text of compareLive(this.#cluster, found)) this.violated(text);
    if (this.#violations.length > 0) return;
    await this.#compare("finds what lives", compareFound(observer, found));
    if (this.#violations.length > 0) return;
    this.#cluster.healed = false;
    for (const site of this.#cluster.sites) this.#cluster.crash(site);
    const fresh = this.#cluster.add(VERSIONS);
    if (fresh.host !== undefined) fresh.host.skew_ms = HEALED_SKEW_MS;
    await this.#compare("answers for every actor", compareRecovered(observer, found));
    await this.#compare("finds every actor", compareFound(observer, found));
    await this.#rest("at rest after recovery");
    const after = await audit(this.#disk);
    for (const text of after.violations) this.violated(text);
    if (after.records !== found.records)
      this.violated(`recovery: ${after.records - found.records} more records, although nobody asked for any`);
  }

  /** Reports differences, once they are known. */
  async #compare(what: string, differences: Promise<readonly string[]>): Promise<void> {
    let texts: readonly string[] | undefined;
    differences.then(
      (list) => {
        texts = list;
      },
      (error: unknown) => this.violated(`${what}: ${textOf(error)}`),
    );
    if (!(await this.#settled(() => texts !== undefined, this.#scenario.liveness_ms)))
      this.violated(`liveness: no node ${what}`);
    for (const text of texts ?? []) this.violated(text);
  }
}

function ownerOf(name: string, number: number): Owner {
  return { name, number, state: "up", stalled: [] };
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
