/**
 * The key-value store: many keys at once beside one after the other, and ranges, hot, after new writes, and cold.
 *
 * On NATS the node is a process of its own, and this one the client; ranges are read from both ends of a restart. Their
 * floor, in the same moment, is a consumer that reads the stored entries of the same keys and does nothing with them.
 */
import { jetstreamManager } from "@nats-io/jetstream";
import { connect, createInbox } from "@nats-io/transport-node";
import { type Client, type KeyValueStore, startNode } from "../../runtime/index.ts";
import { type BenchOptions, openBench, openStore, type Print, type Row, round } from "./harness.ts";
import { openCluster, startNodeProcess } from "./nats.ts";

const MANY = 10_000;
const SINGLE = 200;

const keyOf = (n: number): string => `k${String(n).padStart(7, "0")}`;

async function timed(task: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await task();
  return performance.now() - begun;
}

/** Reads all entries; how long until the first one, and in all. */
async function readAll(store: KeyValueStore<number>, keys: number): Promise<Omit<Row, "name">> {
  const begun = performance.now();
  let first_ms = 0;
  let count = 0;
  let last = "";
  for await (const [key, value] of store.range()) {
    if (count++ === 0) first_ms = performance.now() - begun;
    if (key <= last || key !== keyOf(value)) throw new Error(`${key} holds ${value}, behind ${last}.`);
    last = key;
  }
  if (count !== keys) throw new Error(`The range has ${count} entries, there are ${keys}.`);
  const all_ms = performance.now() - begun;
  return {
    first_ms: round(first_ms, 1),
    all_ms: round(all_ms, 0),
    per_s: Math.round((keys / all_ms) * 1000),
  };
}

async function measure(
  client: Client,
  name: string,
  store: string,
  keys: number,
  print: Print,
): Promise<void> {
  const many = client.store<number>("many");
  const entries = Array.from({ length: MANY }, (_, n): [string, number] => [keyOf(n), n]);
  const names = entries.map(([key]) => key);
  for (const round_ of ["first", "again"]) {
    const put = await timed(() => many.putAll(entries));
    const got = await timed(() => many.getAll(names));
    let one = 0;
    for (let n = 0; n < SINGLE; n++) one += await timed(() => many.put(keyOf(n), n));
    print({
      name: `${name} many`,
      store,
      round: round_,
      put_all_ms: round(put, 0),
      get_all_ms: round(got, 0),
      one_ms: round(one / SINGLE, 3),
      beside_single: round(put / ((one / SINGLE) * MANY), 4),
    });
  }
  const all = client.store<number>("all");
  for (let at = 0; at < keys; at += MANY)
    await all.putAll(
      Array.from({ length: Math.min(MANY, keys - at) }, (_, n): [string, number] => [keyOf(at + n), at + n]),
    );
  for (const when of ["first", "again"])
    print({ name: `${name} range`, store, keys, when, ...(await readAll(all, keys)) });
  await all.put(keyOf(1), 1);
  print({ name: `${name} range`, store, keys, when: "after a write", ...(await readAll(all, keys)) });
}

export async function kv(options: BenchOptions, print: Print): Promise<void> {
  const keys = options.keys ?? 100_000;
  const bench = await openBench(options);
  await measure(bench.node.client, "kv", options.store, keys, print);
  if (options.store !== "embedded") {
    await bench.end();
    return;
  }
  await bench.node.stop();
  const node = await startNode({ actors: [], store: await openStore(options, bench.path) });
  for (const when of ["cold", "warm"]) {
    const row = await readAll(node.client.store<number>("all"), keys);
    print({ name: "kv range", store: options.store, keys, when, ...row });
  }
  await node.stop();
}

export async function natsKv(options: BenchOptions, print: Print): Promise<void> {
  const keys = options.keys ?? 100_000;
  const cluster = await openCluster(options, options.nodes);
  try {
    await measure(cluster.client, "kv", "nats", keys, print);
    // What the next nodes have of it is what lies in the store.
    for (const { child } of cluster.nodes) child.send("stop");
    await Promise.all(
      cluster.nodes.map(({ child }) => new Promise((resolve) => child.once("exit", resolve))),
    );
    await startNodeProcess(cluster.server.url, "second", {}).then((node) => cluster.nodes.push(node));
    await rawRead(cluster.server.url);
    const before = await rawRead(cluster.server.url);
    const store = cluster.client.store<number>("all");
    const cold = await readAll(store, keys);
    const warm = await readAll(store, keys);
    const after = await rawRead(cluster.server.url);
    const per_s = (before + after) / 2;
    print({
      name: "kv range, floor",
      store: "nats",
      keys,
      per_s: Math.round(per_s),
      all_ms: round((keys / per_s) * 1000, 0),
    });
    for (const [when, row] of [
      ["cold", cold],
      ["warm", warm],
    ] as const) {
      const beside_floor = round((row.per_s as number) / per_s, 3);
      print({ name: "kv range", store: "nats", keys, when, ...row, beside_floor });
    }
  } finally {
    await cluster.end();
  }
}

/** Stored entries a second that a consumer of the bucket is given. */
async function rawRead(servers: string): Promise<number> {
  const connection = await connect({ servers });
  const stream = "KV_keyturn_snapshots";
  const inbox = createInbox();
  const manager = await jetstreamManager(connection);
  const begun = performance.now();
  let count = 0;
  const done = new Promise<void>((resolve, reject) => {
    connection.subscribe(inbox, {
      callback: (error, message) => {
        if (error !== null) return reject(error);
        if (message.headers?.code === 100) {
          message.respond();
          return;
        }
        count++;
        // The subject of its acknowledgement ends with how many are left.
        if (message.reply?.endsWith(".0") === true) resolve();
      },
    });
  });
  await manager.consumers.add(stream, {
    deliver_subject: inbox,
    ack_policy: "none",
    deliver_policy: "all",
    filter_subject: "$KV.keyturn_snapshots.keyturn-kv.*",
    flow_control: true,
    idle_heartbeat: 1_000_000_000,
    inactive_threshold: 5_000_000_000,
    mem_storage: true,
  });
  await done;
  const per_s = (count / (performance.now() - begun)) * 1000;
  await connection.close();
  return per_s;
}
