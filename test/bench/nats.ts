/**
 * The benchmarks over NATS: a real server, node processes, and the load in this process; the floor beside each figure.
 *
 * Owns the processes that it starts. The floor (floor.ts) runs right before and right after, on a server of its own with
 * the same settings, so that a ratio is of one moment of one machine.
 */
import { type ChildProcess, fork, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type ConnectedClient, connect, type NodeSettings } from "../../runtime/index.ts";
import { type NatsServer, startServer } from "../support/nats-server.ts";
import {
  type BenchOptions,
  CountingLoad,
  closedLoop,
  type Loop,
  type Print,
  type Row,
  round,
} from "./harness.ts";

const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url));
const NODE_FLAGS = ["--max-semi-space-size=64"];

/** A node in a process of its own. */
export interface NodeProcess {
  readonly child: ChildProcess;
  ask(question: string): Promise<Record<string, number>>;
}

export interface Cluster {
  readonly server: NatsServer;
  readonly nodes: NodeProcess[];
  readonly client: ConnectedClient;
  add(weight?: number): Promise<NodeProcess>;
  /** Processor time of all processes so far, in microseconds. */
  cpu(): Promise<number>;
  end(): Promise<void>;
}

export async function openCluster(
  options: BenchOptions,
  count: number,
  settings: Partial<NodeSettings> = {},
): Promise<Cluster> {
  const server = await startServer({ durability: options.durability });
  const nodes: NodeProcess[] = [];
  const add = async (weight = 1): Promise<NodeProcess> => {
    const node = await startNodeProcess(server.url, `bench${nodes.length}`, settings, 1, weight);
    nodes.push(node);
    return node;
  };
  for (let n = 0; n < count; n++) await add();
  const client = await connect({ nats: { servers: server.url } });
  return {
    server,
    nodes,
    client,
    add,
    async cpu() {
      const { user, system } = process.cpuUsage();
      const used = await Promise.all(nodes.map((node) => node.ask("cpu")));
      return user + system + used.reduce((sum, { cpu = 0 }) => sum + cpu, 0) + cpuOf(server.pid);
    },
    async end() {
      await client.disconnect();
      for (const { child } of nodes) child.kill("SIGKILL");
      await server.stop();
    },
  };
}

export async function startNodeProcess(
  url: string,
  name: string,
  settings: Partial<NodeSettings>,
  replicas = 1,
  weight = 1,
): Promise<NodeProcess> {
  const child = fork(
    here("node.js"),
    [url, name, JSON.stringify(settings), String(replicas), String(weight)],
    {
      execArgv: NODE_FLAGS,
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    },
  );
  const ask = (question: string): Promise<Record<string, number>> => {
    const answer = once(child);
    child.send(question);
    return answer;
  };
  await once(child);
  return { child, ask };
}

function once(child: ChildProcess): Promise<Record<string, number>> {
  return new Promise((resolve, reject) => {
    const ended = (): void => reject(new Error("A node process ended."));
    child.once("exit", ended);
    child.once("message", (message) => {
      child.off("exit", ended);
      resolve(message as Record<string, number>);
    });
  });
}

/** Microseconds of processor time of a process. Source: proc(5), fields utime and stime in ticks of 10 ms. */
function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

/** The floor at the same settings: with a frame a shard, or with one frame for all. */
export async function floor(
  options: BenchOptions,
  shards: number,
  inFlight: number,
  keys: number,
): Promise<Loop> {
  const server = await startServer({ durability: options.durability });
  const node = spawn(process.execPath, [...NODE_FLAGS, here("floor.js"), "node", server.url], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    await new Promise((resolve) => node.stdout.once("data", resolve));
    const args = ["load", server.url, shards, inFlight, keys, options.seconds].map(String);
    const load = spawn(process.execPath, [...NODE_FLAGS, here("floor.js"), ...args], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let text = "";
    load.stdout.on("data", (data: Buffer) => {
      text += data.toString();
    });
    await new Promise((resolve) => load.once("exit", resolve));
    const { per_s, p50_ms, p99_ms } = JSON.parse(text) as Loop;
    return { count: 0, per_s, p50_ms: round(p50_ms, 3), p99_ms: round(p99_ms, 3) };
  } finally {
    node.kill("SIGKILL");
    await server.stop();
  }
}

/** Asks from another process, beside the floor with 64 frames and with one. */
export async function natsAsk(options: BenchOptions, print: Print): Promise<void> {
  const { inFlight, keys } = options;
  const loads: [inFlight: number, keys: number][] =
    inFlight !== undefined || keys !== undefined
      ? [[inFlight ?? 64, keys ?? 1_000]]
      : [
          [64, 1_000],
          [2_048, 100_000],
          [256, 1],
          [1, 1_000],
        ];
  for (const [open, count] of loads) print(await askOnce(options, open, count, options.nodes));
}

async function askOnce(options: BenchOptions, inFlight: number, keys: number, nodes: number): Promise<Row> {
  const before = options.floor ? await floor(options, 64, inFlight, keys) : undefined;
  const cluster = await openCluster(options, nodes, { activeActors: 150_000 });
  let loop: Loop;
  let cpu: number;
  try {
    const load = new CountingLoad(cluster, keys);
    for (let key = 0; key < keys; key += 1_024) {
      await Promise.all(Array.from({ length: Math.min(1_024, keys - key) }, (_, n) => load.ask(key + n)));
    }
    await closedLoop(inFlight, options.seconds / 2, load.nextInTurn);
    const used = await cluster.cpu();
    // Keys in turn, as the floor takes them.
    loop = await closedLoop(inFlight, options.seconds, load.nextInTurn);
    cpu = ((await cluster.cpu()) - used) / loop.count;
    await load.verify();
  } finally {
    await cluster.end();
  }
  const { per_s, p50_ms, p99_ms } = loop;
  const row = {
    name: "ask",
    store: "nats",
    durability: options.durability,
    nodes,
    in_flight: inFlight,
    keys,
    per_s,
    p50_ms,
    p99_ms,
    cpu_us: round(cpu, 1),
  };
  if (before === undefined) return row;
  const one = await floor(options, 1, inFlight, keys);
  const after = await floor(options, 64, inFlight, keys);
  const beside = (before.per_s + after.per_s) / 2;
  return {
    ...row,
    floor_per_s: Math.round(beside),
    floor_p50_ms: round((before.p50_ms + after.p50_ms) / 2, 3),
    ratio: round(per_s / beside, 3),
    one_frame_per_s: one.per_s,
    ratio_one_frame: round(per_s / one.per_s, 3),
    ratio_p50: round(p50_ms / ((before.p50_ms + after.p50_ms) / 2), 3),
  };
}
