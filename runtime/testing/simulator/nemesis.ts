/**
 * The nemesis: picks what goes wrong next.
 *
 * Owns the schedule of calamities and their healing. Talks to the cluster, the disk and the fault rates.
 */
import type { Cluster, Site } from "./cluster.ts";
import { type Disk, STORE } from "./disk.ts";
import type { Faults } from "./faults.ts";
import type { Prng } from "./prng.ts";
import type { Calamity, Scenario } from "./scenario.ts";
import type { Owner, Timeline } from "./timeline.ts";

const NODES_MAX = 7;
const HOUR_MS = 3_600_000;

export class Nemesis {
  readonly #scenario: Scenario;
  readonly #timeline: Timeline;
  readonly #cluster: Cluster;
  readonly #disk: Disk;
  readonly #faults: Faults;
  readonly #random: Prng;
  readonly #owner: Owner;
  #over = false;
  /** Counts partitions, so that the end of one does not heal the next. */
  #partitions = 0;

  constructor(
    scenario: Scenario,
    timeline: Timeline,
    cluster: Cluster,
    disk: Disk,
    random: Prng,
    owner: Owner,
  ) {
    this.#scenario = scenario;
    this.#timeline = timeline;
    this.#cluster = cluster;
    this.#disk = disk;
    this.#faults = disk.faults;
    this.#random = random;
    this.#owner = owner;
  }

  /** Strikes again and again until `end`. */
  begin(): void {
    if (Object.keys(this.#scenario.calamities).length === 0) return;
    const wait = -Math.log(1 - this.#random.next()) * this.#scenario.calm_ms;
    this.#later(wait, () => {
      this.#strike();
      this.begin();
    });
  }

  /** Everything is well again. */
  end(): void {
    this.#over = true;
    this.#cluster.healed = true;
    this.#faults.cut(undefined);
    this.#faults.full = false;
    this.#faults.down = false;
    for (const site of this.#cluster.sites) {
      site.host?.resume();
      this.#cluster.start(site);
    }
  }

  #later(delay_ms: number, run: () => void): void {
    this.#timeline.after(delay_ms, this.#owner, "nemesis", () => {
      if (!this.#over) run();
    });
  }

  #strike(): void {
    const choices = Object.entries(this.#scenario.calamities) as [Calamity, number][];
    let at = this.#random.next() * choices.reduce((sum, [, weight]) => sum + weight, 0);
    const chosen = choices.find(([, weight]) => (at -= weight) < 0)?.[0] ?? "crash";
    const lasts = this.#random.logarithmic(1, (this.#scenario.settings.lease_ms as number) * 4);
    const site = this.#random.pick(this.#cluster.sites);
    this.#timeline.note(this.#owner, `${chosen} (${site.name}, ${lasts.toFixed(0)} ms)`);
    this.#faults.count(chosen);
    this.#do(chosen, site, lasts);
  }

  #do(chosen: Calamity, site: Site, lasts: number): void {
    const cluster = this.#cluster;
    switch (chosen) {
      case "crash":
        cluster.crash(site);
        this.#later(lasts, () => cluster.start(site));
        return;
      case "rack": {
        const rack = this.#random.shuffle(cluster.sites).slice(0, Math.ceil(cluster.sites.length / 2));
        for (const lost of rack) cluster.crash(lost);
        this.#later(lasts, () => {
          for (const lost of rack) cluster.start(lost);
        });
        return;
      }
      case "pause": {
        const { host } = site;
        host?.pause();
        this.#later(lasts, () => host?.resume());
        return;
      }
      case "stop":
        cluster.stop(site);
        this.#later(lasts * 2, () => cluster.start(site));
        return;
      case "join":
        if (cluster.sites.length < NODES_MAX) cluster.add();
        return;
      case "partition":
        if (this.#random.chance(0.3)) this.#cutFromStore(site);
        else this.#partition(this.#random.chance(0.5) ? lasts : this.#longerThanLease());
        return;
      case "jump":
        if (site.host !== undefined) site.host.skew_ms += Math.round(this.#random.between(-HOUR_MS, HOUR_MS));
        return;
      case "powerLoss":
        this.#disk.crash(this.#random.between(0, lasts));
        return;
      case "full":
        this.#faults.full = true;
        this.#later(lasts, () => {
          this.#faults.full = false;
        });
    }
  }

  /** One node cannot reach the store; everybody else can, and clients still reach the node. */
  #cutFromStore(site: Site): void {
    const lasts = this.#longerThanLease();
    const oneWay = this.#random.chance(0.3);
    this.#faults.cut(
      (from, to) => (from === site.name && to === STORE) || (!oneWay && from === STORE && to === site.name),
    );
    this.#healAfter(lasts);
  }

  #healAfter(lasts: number): void {
    const partition = ++this.#partitions;
    this.#later(lasts, () => {
      if (partition === this.#partitions) this.#faults.cut(undefined);
    });
  }

  /** Long enough for shards to be taken over; anything shorter is only a slow network. */
  #longerThanLease(): number {
    return this.#random.between(1, 4) * (this.#scenario.settings.lease_ms as number);
  }

  /** Splits hosts and store into two groups; one way or both ways. */
  #partition(lasts: number): void {
    const salt = this.#random.word();
    const oneWay = this.#random.chance(0.4);
    const sparesStore = this.#random.chance(0.3);
    const isFar = (name: string): boolean => {
      if (name === STORE && sparesStore) return false;
      let hash = salt;
      for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193);
      return ((hash >>> 13) & 1) === 1;
    };
    this.#faults.cut((from, to) => {
      if (sparesStore && (from === STORE || to === STORE)) return false;
      return oneWay ? isFar(from) && !isFar(to) : isFar(from) !== isFar(to);
    });
    this.#healAfter(lasts);
  }
}
