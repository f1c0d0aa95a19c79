/**
 * The cluster: nodes that start, crash, pause, stop and come back.
 *
 * Owns the hosts of nodes and clients. Talks to the runtime's public entry (`startNode`, `createClient`) and to the
 * simulated network and disk.
 */
import { Client } from "../../client/client.ts";
import type { AnyActorDefinition } from "../../engine/definition.ts";
import { covers } from "../../cluster/versions.ts";
import type { Observer } from "../../engine/observer.ts";
import { KeepPolicy } from "../../engine/keep.ts";
import { type KeyturnNode, startNode } from "../../node.ts";
import { textOf } from "../../words/errors.ts";
import type { ShardEntry } from "../../ports/index.ts";
import type { Claim, Disk } from "./disk.ts";
import { Host } from "./host.ts";
import type { Network } from "./network.ts";
import type { Prng } from "./prng.ts";
import type { Scenario } from "./scenario.ts";
import type { Timeline } from "./timeline.ts";
import type { Visitor } from "./workload.ts";

/** How long after a failed start it is tried again. */
const RESTART_MS = 100;
/** Versions that a node goes through, if it is upgraded. */
export const VERSIONS = 3;

export interface ClusterParts {
  readonly scenario: Scenario;
  readonly timeline: Timeline;
  readonly random: Prng;
  readonly network: Network;
  readonly disk: Disk;
  readonly actors: readonly AnyActorDefinition[];
  /** Something happened that never may. */
  readonly violated: (text: string) => void;
  /** What all wall clocks show, if they do not run by themselves. */
  readonly wallOf?: () => number;
  /** A node could not start; it is tried again. */
  readonly troubled?: (error: unknown) => void;
}

/** A place where a node of one name runs, or not. */
export class Site {
  /** Of the host. */
  readonly name: string;
  /** Of the node that runs there. */
  readonly nodeName: string;
  host: Host | undefined;
  node: KeyturnNode | undefined;
  /** Counts its starts. */
  life = 0;
  /** Of the actors that its node hosts, where nodes are upgraded. */
  version = 0;
  /** `starting` until the runtime says that it has joined. */
  state: "down" | "starting" | "up" | "stopping" = "down";

  constructor(name: string, nodeName: string) {
    this.name = name;
    this.nodeName = nodeName;
  }
}

export class Cluster {
  readonly sites: Site[] = [];
  /** The faults are over: whatever stops is started again. */
  healed = false;
  readonly #parts: ClusterParts;
  #hosts = 0;

  constructor(parts: ClusterParts) {
    this.#parts = parts;
  }

  /** A host for whatever runs outside of nodes. */
  host(name: string): Host {
    const { scenario, timeline, random } = this.#parts;
    const skew = random.between(-scenario.skew_ms, scenario.skew_ms);
    return new Host(
      name,
      this.#hosts++,
      timeline,
      random.split(name),
      Math.round(skew),
      scenario.drift,
      this.#parts.wallOf,
    );
  }

  client(name: string): Client {
    const host = this.host(name);
    return new Client(this.#parts.disk.viewFor(host), host.world, this.#parts.scenario.shards);
  }

  /** A process that works on the store itself. */
  visitor(name: string): Visitor {
    const { disk, network, scenario } = this.#parts;
    const host = this.host(name);
    const store = disk.viewFor(host);
    const kill = (): void => {
      host.kill();
      network.drop(host);
    };
    return { store, world: host.world, client: new Client(store, host.world, scenario.shards), kill };
  }

  /** Starts a node, under a new name or one that had been there. */
  start(site: Site): void {
    if (site.state !== "down") return;
    site.life++;
    site.version = Math.min(site.version + 1, VERSIONS);
    const { scenario, disk } = this.#parts;
    const { version } = site;
    const actors = scenario.upgrades
      ? this.#parts.actors.map((definition) => ({ ...definition, version }))
      : this.#parts.actors;
    const host = this.host(site.name);
    site.host = host;
    site.state = "starting";
    const { settings, shards, keepBytes } = scenario;
    // Nothing in a run is an hour old.
    const keep = keepBytes === undefined ? undefined : (new KeepPolicy(undefined, keepBytes, 0) as never);
    const begin = (): void => {
      const store = disk.viewFor(host);
      const observer = this.#observer(host);
      const { world } = host;
      startNode({ actors, store, name: site.nodeName, shards, settings, observer, world, keep }).then(
        (node) => {
          site.node = node;
          site.state = "up";
          host.timeline.note(host, "has joined");
        },
        (error: unknown) => {
          host.timeline.note(host, `cannot start: ${textOf(error)}`);
          this.#parts.troubled?.(error);
          host.after(RESTART_MS, "start again", begin);
        },
      );
    };
    host.after(0, "start", begin);
  }

  /** @param version what its node has had before, where nodes are upgraded */
  add(version = 0): Site {
    const name = `n${this.sites.length}`;
    const namesake = this.#parts.scenario.namesakes && this.sites.length === 1;
    const site = new Site(name, namesake ? "n0" : name);
    site.version = version;
    this.sites.push(site);
    this.start(site);
    return site;
  }

  /** SIGKILL. */
  crash(site: Site): void {
    if (site.host === undefined) return;
    site.host.timeline.note(site.host, "crashes");
    site.host.kill();
    this.#parts.network.drop(site.host);
    site.host = undefined;
    site.node = undefined;
    site.state = "down";
  }

  /** A graceful stop. */
  stop(site: Site): void {
    const { host, node } = site;
    if (host === undefined || node === undefined || site.state !== "up") return;
    site.state = "stopping";
    host.after(0, "stop", () => {
      node.stop({ closeStore: false }).then(
        () => {
          if (site.host === host) this.crash(site);
          if (this.healed) this.start(site);
        },
        (error: unknown) => this.#parts.violated(`stop of ${site.name} threw: ${textOf(error)}`),
      );
    });
  }

  /**
   * What a shard needs only grows. And the rule of leases, looked at from outside: nobody takes a shard of a node which is sure that it is listed, since
   * that one answers reads from memory.
   */
  checkClaim({ shard, entry }: Claim, before: ShardEntry | undefined): void {
    if (!covers(entry.versions, before?.versions))
      this.#parts.violated(`shard ${shard} has forgotten which versions it needs`);
    const owner = before?.owner;
    if (owner === undefined || entry.owner === undefined || entry.owner === owner) return;
    for (const { host, node } of this.sites) {
      if (host?.isUp !== true || node?.incarnation.name !== owner || !node.incarnation.membership.holds())
        continue;
      this.#parts.violated(`shard ${shard} passed from ${owner}, whose lease holds, to ${entry.owner}`);
    }
  }

  #observer(host: Host): Partial<Observer> {
    const { violated } = this.#parts;
    return {
      shardFailed: (shard, error) =>
        violated(`shard ${shard} was stopped on ${host.name}: ${error.code}: ${error.message}`),
      troubled: (task, error) => host.timeline.note(host, `troubled: ${task}: ${textOf(error)}`),
      fenced: (incarnation) => host.timeline.note(host, `${incarnation} is fenced`),
      shardServing: (shard, incarnation, epoch) =>
        host.timeline.note(host, `${incarnation} serves shard ${shard} in epoch ${epoch}`),
      shardReleased: (shard, incarnation) =>
        host.timeline.note(host, `${incarnation} releases shard ${shard}`),
      actionFailed: (id, action, error) => violated(`action ${action} of ${id} threw: ${textOf(error)}`),
    };
  }
}
