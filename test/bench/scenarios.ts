/** The benchmarks, by name. Each prints its rows as it goes and throws if a result is wrong. */
import { rmSync } from "node:fs";
import { initialTransition } from "xstate";
import { counter } from "../../actors/counter.ts";
import { startNode } from "../../runtime/index.ts";
import { bareSendsPerSecond } from "./bare.ts";
import { asyncFunctionsBench, functionsBench } from "./functions.ts";
import { kv, natsKv } from "./kv.ts";
import { natsAsk } from "./nats.ts";
import { natsCold, natsHandOver, natsProcesses, natsReplicas, natsTakeOver } from "./nats-moves.ts";
import { sources } from "./sources.ts";
import { replay } from "./replay.ts";
import { natsRestore, statechart } from "./statechart.ts";
import { telemetryCost } from "./telemetry.ts";
import {
  type BenchOptions,
  CountingLoad,
  closedLoop,
  openBench,
  openStore,
  type Print,
  type Row,
  round,
} from "./harness.ts";
import { viewTop } from "./views.ts";

export type Scenario = (options: BenchOptions, print: Print) => Promise<void>;

/** Beyond any tail of these benches: nothing is checkpointed while it is measured. */
const NEVER = { checkpointRecords: 1e9, checkpointBytes: 1e12, checkpoint_ms: 1e9 } as const;

async function bare(_options: BenchOptions, print: Print): Promise<void> {
  print({ name: "bare", per_s: bareSendsPerSecond(1_000) });
}

/** Asks of one kind of load after another, each beside a bare actor of the same moment. */
async function ask(options: BenchOptions, print: Print): Promise<void> {
  const { inFlight, keys } = options;
  const loads: [inFlight: number, keys: number][] = [];
  if (inFlight !== undefined || keys !== undefined) loads.push([inFlight ?? 64, keys ?? 1_000]);
  else {
    for (const count of [1_000, 100_000]) for (const open of [1, 64, 1_024]) loads.push([open, count]);
    loads.push([1_024, 1]);
  }
  for (const [open, count] of loads) print(await askOnce(options, open, count));
}

async function askOnce(options: BenchOptions, inFlight: number, keys: number): Promise<Row> {
  const bench = await openBench(options, { activeActors: 150_000 });
  try {
    const load = new CountingLoad(bench.node, keys);
    // Every key once, so that what is measured is turns and not first activations.
    for (let key = 0; key < keys; key += 1_024) {
      await Promise.all(Array.from({ length: Math.min(1_024, keys - key) }, (_, n) => load.ask(key + n)));
    }
    await closedLoop(inFlight, options.seconds / 4, load.next);
    const before = bareSendsPerSecond();
    const loop = await closedLoop(inFlight, options.seconds, load.next);
    const beside = (before + bareSendsPerSecond()) / 2;
    await load.verify();
    const { per_s, p50_ms, p99_ms } = loop;
    const ratio = round(per_s / beside, 3);
    return {
      name: "ask",
      ...settings(options),
      in_flight: inFlight,
      keys,
      per_s,
      p50_ms,
      p99_ms,
      ratio,
      ratio_to: "bare",
    };
  } finally {
    await bench.end();
  }
}

/** Keys at random, far more than fit into memory: every ask loads an actor and passivates another. */
async function cold(options: BenchOptions, print: Print): Promise<void> {
  const keys = options.keys ?? 1_000_000;
  const active = Math.max(1, Math.floor(keys / 20));
  const inFlight = options.inFlight ?? 1_024;
  const bench = await openBench(options, { activeActors: active });
  try {
    const load = new CountingLoad(bench.node, keys);
    const filling = performance.now();
    for (let key = 0; key < keys; key += 4_096) {
      await Promise.all(Array.from({ length: Math.min(4_096, keys - key) }, (_, n) => load.ask(key + n)));
    }
    const fill_per_s = Math.round((keys / (performance.now() - filling)) * 1000);
    const { per_s, p50_ms, p99_ms } = await closedLoop(inFlight, options.seconds * 2, load.next);
    await load.verify();
    print({
      name: "cold",
      ...settings(options),
      in_flight: inFlight,
      keys,
      active,
      fill_per_s,
      per_s,
      p50_ms,
      p99_ms,
    });
  } finally {
    await bench.end();
  }
}

/** Time from a killed node to the first answer of the next, by length of the tail and by number of keys. */
async function recovery(options: BenchOptions, print: Print): Promise<void> {
  if (options.store === "memory")
    throw new Error("Recovery is measured on a store that outlives a node: --store embedded.");
  for (const tail of [0, 10_000, 100_000, 1_000_000]) print(await recoverOnce(options, tail, 1_000));
  for (const keys of [10_000, 100_000, 1_000_000]) print(await recoverOnce(options, 10_000, keys));
}

async function recoverOnce(options: BenchOptions, tail: number, keys: number): Promise<Row> {
  const bench = await openBench(options, NEVER);
  let second: Awaited<ReturnType<typeof startNode>> | undefined;
  try {
    const load = new CountingLoad(bench.node, keys);
    const inFlight = 4_096;
    for (let key = 0; key < keys; key += inFlight) {
      await Promise.all(Array.from({ length: Math.min(inFlight, keys - key) }, (_, n) => load.ask(key + n)));
    }
    await bench.node.checkpoint();
    let left = tail;
    const caller = async (): Promise<void> => {
      while (left-- > 0) await load.ask();
    };
    await Promise.all(Array.from({ length: inFlight }, caller));
    bench.node.kill();
    await bench.store.close();
    const start = performance.now();
    const store = await openStore(options, bench.path);
    second = await startNode({ actors: [counter], store, settings: NEVER });
    await second.client.actor(counter, "k0").ask({ type: "add", by: 0 });
    const first_answer_ms = round(performance.now() - start, 1);
    await load.verify(second);
    return { name: "recovery", ...settings(options), keys, tail, first_answer_ms };
  } finally {
    await second?.stop();
    rmSync(bench.path, { recursive: true, force: true });
  }
}

/** Bytes of the JavaScript heap that one active small actor takes, beside its XState snapshot. */
async function memoryPerActor(options: BenchOptions, print: Print): Promise<void> {
  const collect = (globalThis as { gc?: () => void }).gc;
  if (collect === undefined) throw new Error("Run with node --expose-gc.");
  const used = (): number => {
    collect();
    collect();
    return process.memoryUsage().heapUsed;
  };
  const keys = options.keys ?? 100_000;
  const machine = counter.machine;
  const empty = used();
  const snapshots: unknown[] = new Array(keys);
  for (let n = 0; n < keys; n++) snapshots[n] = initialTransition(machine)[0];
  const snapshot_bytes = Math.round((used() - empty) / keys);
  if (snapshots.length !== keys) throw new Error("The snapshots were collected too early.");
  snapshots.length = 0;
  const bench = await openBench(options, { activeActors: keys * 2 });
  try {
    const warm = bench.node.client.actor(counter, "warm");
    for (let n = 0; n < 1_000; n++) await warm.ask({ type: "add", by: 1 });
    const before = used();
    for (let key = 0; key < keys; key += 1_000) {
      const some = Array.from({ length: 1_000 }, (_, n) => bench.node.client.actor(counter, `k${key + n}`));
      await Promise.all(some.map((ref) => ref.ask({ type: "add", by: 1 })));
    }
    const actor_bytes = Math.round((used() - before) / keys);
    const active = bench.node.incarnation.engine.actors.size;
    if (active < keys) throw new Error(`${active} actors are active, there must be ${keys}.`);
    print({
      name: "memory",
      ...settings(options),
      keys,
      actor_bytes,
      snapshot_bytes,
      beyond_bytes: actor_bytes - snapshot_bytes,
    });
  } finally {
    await bench.end();
  }
}

function settings(options: BenchOptions): { store: string; durability: string } {
  return { store: options.store, durability: options.store === "memory" ? "none" : options.durability };
}

export const natsScenarios: Readonly<Record<string, Scenario>> = {
  ask: natsAsk,
  cold: natsCold,
  "take-over": natsTakeOver,
  "hand-over": natsHandOver,
  processes: natsProcesses,
  replicas: natsReplicas,
  restore: natsRestore,
  kv: natsKv,
};

export const scenarios: Readonly<Record<string, Scenario>> = {
  bare,
  ask,
  cold,
  recovery,
  memory: memoryPerActor,
  statechart,
  functions: functionsBench,
  "async-functions": asyncFunctionsBench,
  kv,
  sources,
  "view-top": viewTop,
  telemetry: telemetryCost,
  replay,
};
