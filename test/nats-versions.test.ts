/** Rolling deploys on a real server: two versions of a type side by side, and what an older node does without a newer one. */
import { jetstreamManager } from "@nats-io/jetstream";
import { connect as connectNats } from "@nats-io/transport-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { counter } from "../actors/index.ts";
import { connect, type KeyturnNode, nats, startNode } from "../runtime/index.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";

const settings = { lease_ms: 1_500, heartbeat_ms: 400 };
const keys = Array.from({ length: 200 }, (_, n) => `k${n}`);
const add = { type: "add", by: 1 } as const;
const later = { ...counter, version: 2 };

let server: NatsServer;
/** What nodes said, and who waits for it. */
const told: string[] = [];
const hears = new Set<() => void>();

beforeAll(async () => {
  server = await startServer({ durability: "process" });
});

afterAll(async () => {
  await server.stop();
});

/** Resolves when it holds; looked at whenever a node reports something. */
function until(holds: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!holds()) return;
      hears.delete(look);
      resolve();
    };
    hears.add(look);
    look();
  });
}

async function start(name: string, definition: typeof counter): Promise<KeyturnNode> {
  const changed = (): void => {
    // After the node itself has noted it.
    setImmediate(() => {
      for (const look of [...hears]) look();
    });
  };
  const troubled = (task: string, error: unknown): void => {
    told.push(`${name}: ${task}: ${String(error)}`);
    changed();
  };
  const observer = { troubled, shardServing: changed, shardReleased: changed };
  const store = await nats({ servers: server.url });
  try {
    return await startNode({ actors: [definition], store, name, settings, observer, shards: 32 });
  } catch (error) {
    await store.close();
    throw error;
  }
}

function share(...nodes: readonly KeyturnNode[]): boolean {
  const served = new Set(nodes.flatMap(({ shards }) => shards));
  return served.size === 32 && nodes.every(({ shards }) => shards.length > 0);
}

test("shards that a newer node has had wait for a newer one, by name; the others are served; alone an older one does not start", {
  timeout: 90_000,
}, async () => {
  const one = await start("one", counter);
  const client = await connect({ nats: { servers: server.url } });
  const all = (): Promise<number[]> => Promise.all(keys.map((key) => client.actor(counter, key).ask(add)));
  expect(new Set(await all())).toEqual(new Set([1]));
  const two = await start("two", later);
  await until(() => share(one, two));
  expect(new Set(await all())).toEqual(new Set([2]));
  const lost = new Set(two.shards);
  two.kill();
  await two.store.close();
  await until(() => told.some((line) => line.includes(`${lost.size} shards are served by nobody`)));
  expect(told.join("\n")).toMatch(/one: take shards: .*"counter" of version 2, and this node has version 1/);
  expect(one.health()).toMatchObject({ live: true, ready: false, checks: { versions: { ok: false } } });
  const refs = keys.map((key) => client.actor(counter, key));
  const readable = refs.filter(({ shard }) => !lost.has(shard));
  expect(new Set(await Promise.all(readable.map((ref) => ref.ask(add))))).toEqual(new Set([3]));
  // Who asks the others meanwhile is answered when a newer node is there.
  const waiting = refs
    .filter(({ shard }) => lost.has(shard))
    .map((ref) => ref.ask(add, { timeout_ms: 60_000 }));
  const three = await start("three", later);
  await until(() => share(one, three));
  expect(new Set(await Promise.all(waiting))).toEqual(new Set([3]));
  await expect.poll(() => one.health().ready, { timeout: 10_000, interval: 100 }).toBe(true);

  await one.stop();
  await until(() => share(three));
  expect(new Set(await all())).toEqual(new Set([4]));
  await three.stop();
  await expect(start("four", counter)).rejects.toMatchObject({
    code: "newer_version",
    outcome: "notApplied",
  });
  const five = await start("five", later);
  expect(new Set(await all())).toEqual(new Set([5]));
  await client.disconnect();
  await five.stop();
});

test("an app without later versions stores none; its entries are read as they always were", {
  timeout: 30_000,
}, async () => {
  const nc = await connectNats({ servers: server.url });
  const manager = await jetstreamManager(nc);
  const entry = async (): Promise<unknown> => {
    const found = await manager.streams.getMessage("KV_plain_shards", {
      last_by_subj: "$KV.plain_shards.3",
    });
    return found?.json();
  };
  const store = nats({ servers: server.url, app: "plain" });
  const node = await startNode({ actors: [counter], store, shards: 8, settings });
  const plain = await entry();
  expect(plain).toMatchObject({ epoch: 1 });
  expect(plain).not.toHaveProperty("versions");
  await node.stop();
  const young = await startNode({
    actors: [later],
    store: nats({ servers: server.url, app: "plain" }),
    settings,
  });
  expect(young.shards).toHaveLength(8);
  expect(await entry()).toMatchObject({ versions: { counter: 2 } });
  await young.stop();
  expect(await entry()).toMatchObject({ owner: null, versions: { counter: 2 } });
  await nc.close();
});
