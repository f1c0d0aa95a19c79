/**
 * What it costs over NATS when shards move, when keys are cold, and when there are more nodes or servers.
 *
 * Talks to nats.ts for the processes. Every figure is of checked answers only.
 */
import { counter } from "../../actors/counter.ts";
import { connect, type NodeSettings } from "../../runtime/index.ts";
import { startCluster } from "../support/nats-server.ts";
import { type BenchOptions, CountingLoad, closedLoop, type HasClient, type Print, round } from "./harness.ts";
import { type Cluster, openCluster, startNodeProcess } from "./nats.ts";

/** Beyond any tail of these benches: nothing is checkpointed while it is measured. */
const NEVER = { checkpointRecords: 1e9, checkpointBytes: 1e12, checkpoint_ms: 1e9 } as const;

async function fill(load: CountingLoad, keys: number, open = 4_096): Promise<number> {
  const start = performance.now();
  for (let key = 0; key < keys; key += open) {
    await Promise.all(Array.from({ length: Math.min(open, keys - key) }, (_, n) => load.ask(key + n)));
  }
  return Math.round((keys / (performance.now() - start)) * 1000);
}

/** Keys at random, far more than fit into memory: every ask reads a snapshot and writes another. */
export async function natsCold(options: BenchOptions, print: Print): Promise<void> {
  const keys = options.keys ?? 1_000_000;
  const active = Math.max(1, Math.floor(keys / 20));
  const inFlight = options.inFlight ?? 1_024;
  const cluster = await openCluster(options, options.nodes, {
    activeActors: Math.ceil(active / options.nodes),
  });
  try {
    const load = new CountingLoad(cluster, keys);
    const fill_per_s = await fill(load, keys);
    const used = await cluster.cpu();
    const { per_s, p50_ms, p99_ms, count } = await closedLoop(inFlight, options.seconds * 2, load.next);
    const cpu_us = round(((await cluster.cpu()) - used) / count, 1);
    await load.verify();
    const { durability, nodes } = options;
    print({
      name: "cold",
      store: "nats",
      durability,
      nodes,
      in_flight: inFlight,
      keys,
      active,
      fill_per_s,
      per_s,
      p50_ms,
      p99_ms,
      cpu_us,
    });
  } finally {
    await cluster.end();
  }
}

/** Asks a few keys of every shard all the time, and notes the longest silence of one ask. */
class Watchman {
  longest_ms = 0;
  count = 0;
  failed = 0;
  #stopped = false;
  readonly #ended: Promise<unknown>;

  constructor({ client }: HasClient, keys: number) {
    const watch = async (key: number): Promise<void> => {
      const ref = client.actor(counter, `watch${key}`);
      while (!this.#stopped) {
        const start = performance.now();
        try {
          await ref.ask({ type: "add", by: 1 }, { timeout_ms: 60_000 });
          this.count++;
        } catch {
          this.failed++;
        }
        this.longest_ms = Math.max(this.longest_ms, performance.now() - start);
      }
    };
    this.#ended = Promise.all(Array.from({ length: keys }, (_, key) => watch(key)));
  }

  async end(): Promise<void> {
    this.#stopped = true;
    await this.#ended;
  }
}

/** Share of the shards of a node that is only there to inherit. */
const STANDBY = 1e-6;
const LEASE_MS = 3_000;
const LEASE = { lease_ms: LEASE_MS, heartbeat_ms: 1_000 } as const;

/** A node is killed with a long tail: time until every shard answers again. */
export async function natsTakeOver(options: BenchOptions, print: Print): Promise<void> {
  for (const [tail, keys] of [
    [0, 1_000],
    [100_000, 1_000],
    [1_000_000, 1_000],
    [1_000_000, 100_000],
  ] as const) {
    const cluster = await openCluster(options, 1, { ...NEVER, ...LEASE });
    try {
      const load = new CountingLoad(cluster, keys);
      await fill(load, keys);
      // Its heir stands by with no shards, or few; then it must take all of them.
      await cluster.add(STANDBY);
      await (cluster.nodes[0] as Cluster["nodes"][0]).ask("checkpoint");
      let left = tail;
      const caller = async (): Promise<void> => {
        while (left-- > 0) await load.ask();
      };
      await Promise.all(Array.from({ length: 4_096 }, caller));
      const before = cluster.nodes[0] as Cluster["nodes"][0];
      before.child.kill("SIGKILL");
      const killed = performance.now();
      cluster.nodes.shift();
      await Promise.all(Array.from({ length: 256 }, (_, n) => load.ask(n)));
      const back_ms = performance.now() - killed;
      await load.verify();
      print({
        name: "take-over",
        store: "nats",
        durability: options.durability,
        keys,
        tail,
        lease_ms: LEASE_MS,
        served_again_ms: round(back_ms, 0),
        beyond_lease_ms: round(back_ms - LEASE_MS, 0),
      });
    } finally {
      await cluster.end();
    }
  }
}

/** Nodes join and leave under load: the longest that any ask waits. */
export async function natsHandOver(options: BenchOptions, print: Print): Promise<void> {
  const cluster = await openCluster(options, 1);
  try {
    const load = new CountingLoad(cluster, 10_000);
    await fill(load, 10_000);
    const step = async (name: string, change: () => Promise<unknown>): Promise<void> => {
      const watchman = new Watchman(cluster, 128);
      await closedLoop(64, 1, load.nextInTurn);
      const calm_ms = watchman.longest_ms;
      watchman.longest_ms = 0;
      await Promise.all([change(), closedLoop(64, options.seconds, load.nextInTurn)]);
      await watchman.end();
      print({
        name: "hand-over",
        store: "nats",
        durability: options.durability,
        step: name,
        asks: watchman.count,
        failed: watchman.failed,
        longest_before_ms: round(calm_ms, 1),
        longest_ms: round(watchman.longest_ms, 1),
      });
    };
    await step("second node joins", () => cluster.add());
    await step("third node joins", () => cluster.add());
    await step("first node leaves", async () => {
      const [first] = cluster.nodes.splice(0, 1);
      const ended = new Promise((resolve) => first?.child.once("exit", resolve));
      first?.child.send("stop");
      await ended;
    });
    await load.verify();
  } finally {
    await cluster.end();
  }
}

/** The same load on one, two and four node processes: processor time of an ask. */
export async function natsProcesses(options: BenchOptions, print: Print): Promise<void> {
  const inFlight = options.inFlight ?? 256;
  const keys = options.keys ?? 10_000;
  let alone: number | undefined;
  for (const nodes of [1, 2, 4]) {
    const cluster = await openCluster(options, nodes);
    try {
      const load = new CountingLoad(cluster, keys);
      await fill(load, keys);
      await closedLoop(inFlight, options.seconds / 2, load.nextInTurn);
      const used = await cluster.cpu();
      const { per_s, p50_ms, p99_ms, count } = await closedLoop(inFlight, options.seconds, load.nextInTurn);
      const cpu = ((await cluster.cpu()) - used) / count;
      alone ??= cpu;
      await load.verify();
      const row = {
        name: "processes",
        store: "nats",
        durability: options.durability,
        nodes,
        in_flight: inFlight,
        keys,
      };
      print({ ...row, per_s, p50_ms, p99_ms, cpu_us: round(cpu, 1), cpu_ratio: round(cpu / alone, 3) });
    } finally {
      await cluster.end();
    }
  }
}

/** Three servers, three replicas of everything, all on this machine. */
export async function natsReplicas(options: BenchOptions, print: Print): Promise<void> {
  const servers = await startCluster(3, { durability: options.durability });
  const settings: Partial<NodeSettings> = {};
  const node = await startNodeProcess(servers.urls.join(","), "bench0", settings, 3);
  const client = await connect({ nats: { servers: servers.urls } });
  try {
    for (const [inFlight, keys] of [
      [1, 1_000],
      [64, 1_000],
      [2_048, 100_000],
    ] as const) {
      const load = new CountingLoad({ client }, keys);
      await fill(load, keys);
      await closedLoop(inFlight, options.seconds / 2, load.nextInTurn);
      const { per_s, p50_ms, p99_ms } = await closedLoop(inFlight, options.seconds, load.nextInTurn);
      await load.verify();
      print({
        name: "replicas",
        store: "nats",
        durability: options.durability,
        servers: 3,
        replicas: 3,
        in_flight: inFlight,
        keys,
        per_s,
        p50_ms,
        p99_ms,
      });
      // The next load counts from zero again.
      for (let key = 0; key < keys; key += 1_024) {
        const some = Array.from({ length: Math.min(1_024, keys - key) }, (_, n) =>
          client.actor(counter, `k${key + n}`).delete(),
        );
        await Promise.all(some);
      }
    }
  } finally {
    await client.disconnect();
    node.child.kill("SIGKILL");
    await servers.stop();
  }
}
