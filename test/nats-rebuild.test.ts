/** Rebuilds on a real server: several journals whose positions say nothing about each other, and trimmed ones. */
import { jetstreamManager } from "@nats-io/jetstream";
import { connect as connectNats } from "@nats-io/transport-node";
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest";
import { connect, type KeyturnNode, nats, rebuildType, startNode } from "../runtime/index.ts";
import type { World } from "../runtime/ports/index.ts";
import { realWorld } from "../runtime/world.ts";
import { begunVersions, until } from "./support/begun.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";
import { tallyV1, tallyV2, Traffic } from "./support/rebuild.ts";

let server: NatsServer;

beforeAll(async () => {
  server = await startServer({ durability: "process" });
});

afterAll(() => server.stop());

/** Clocks of nodes go apart by minutes: what is read in the order of times is not in the order of turns. */
let skew_ms = 0;

function skewed(): World {
  const { clock, random } = realWorld;
  const by = (skew_ms = 60_000 - skew_ms);
  return {
    random,
    clock: {
      now: () => clock.now() - by,
      monotonic: () => clock.monotonic(),
      after: (delay_ms, callback) => clock.after(delay_ms, callback),
      defer: (callback) => clock.defer(callback),
    },
  };
}

async function nodeOf(app: string, version: 1 | 2, journals?: number): Promise<KeyturnNode> {
  const actor = version === 1 ? tallyV1 : (tallyV2() as unknown as typeof tallyV1);
  const store = nats({ servers: server.url, app, ...(journals === undefined ? {} : { journals }) });
  const node = await startNode({
    actors: [actor],
    store,
    world: skewed(),
    settings: { lease_ms: 1_500, heartbeat_ms: 400 },
    ...(version === 1 ? { shards: 16 } : {}),
  });
  onTestFinished(() => node.stop());
  return node;
}

async function clientOf(app: string) {
  const client = await connect({ nats: { servers: server.url, app } });
  onTestFinished(() => client.disconnect());
  return client;
}

it("follows actors whose shards have moved between journals, and promotes under traffic", async () => {
  const app = "moved";
  const traffic = new Traffic(100);
  const client = await clientAfter(app, await nodeOf(app, 1, 3));
  // Each node has a lane of its own, in one of the journals; each that comes or goes moves shards.
  const nodes = [await nodeOf(app, 1)];
  const store = await nats({ servers: server.url, app });
  onTestFinished(() => store.close());
  const journals = async () => (await store.journal.ends()).filter(({ last }) => last > 0).length;
  // Which journal is drawn with the node's name: four rounds may stay within one.
  for (let round = 0; round < 4 || (await journals()) < 2; round++) {
    await traffic.send(client, 300);
    nodes.push(await nodeOf(app, 1));
    await traffic.send(client, 300);
    await nodes.shift()?.stop();
  }
  const stopping = traffic.begin(client);
  const same = await rebuildType({ store, actors: tallyV1 });
  await stopping();
  expect(same.report).toMatchObject({ keys: 100, equal: 100, rejected: [] });
  expect(same.report.notWhole.count).toBe(0);

  const rebuild = await rebuildType({ store, actors: tallyV2() });
  expect(rebuild.report.paths).toEqual([expect.objectContaining({ path: "context.odd", keys: 100 })]);
  for (const node of [...started.splice(0), ...nodes]) await node.stop();
  await nodeOf(app, 2);
  await nodeOf(app, 2);
  const end = traffic.begin(client);
  expect(await rebuild.promote(client)).toEqual({ promoted: 100, told: 0, failed: 0, gone: 0, failures: [] });
  await end();
  expect(await traffic.found(client)).toEqual(traffic.expected);
});

/** Nodes that a test stops itself. */
const started: KeyturnNode[] = [];

async function clientAfter(app: string, node: KeyturnNode) {
  started.push(node);
  return await clientOf(app);
}

it("says which actors have lost the beginning of their past, and leaves them alone unless it is told to begin later", async () => {
  const app = "trimmed";
  const node = await nodeOf(app, 1);
  const { client } = node;
  const add = (key: string, by: number) => client.actor(tallyV1, key).send({ type: "add", by });
  // Of each actor another part is trimmed: nothing; its first block; all.
  await add("gone", 1);
  for (let n = 0; n < 100; n++) await add("long", 1);
  const turns: number[] = [];
  for await (const { position } of client.actor(tallyV1, "long").history({ order: "oldest" }))
    turns.push(position);
  await add("whole", 3);
  await node.checkpoint();
  const connection = await connectNats({ servers: server.url });
  onTestFinished(() => connection.close());
  const manager = await jetstreamManager(connection);
  await manager.streams.purge(`${app}_journal`, { seq: turns[10] as number });

  const { report } = await rebuildType({ store: node.store, actors: tallyV2() });
  expect(report).toMatchObject({ keys: 3, differing: 1, equal: 0 });
  expect([...report.notWhole.samples].sort()).toEqual(["gone", "long"]);

  const later = await rebuildType({ store: node.store, actors: tallyV2(), fromSnapshots: true });
  // From turn 65 on, which is the first whole state that is left.
  expect(
    later.report.paths.map(({ path, samples }) => [path, samples.map(({ key, rebuilt }) => [key, rebuilt])]),
  ).toEqual([
    [
      "context.odd",
      expect.arrayContaining([
        ["long", 35],
        ["whole", 1],
      ]),
    ],
  ]);
  const store = node.store;
  await node.stop({ closeStore: false });
  const next = await startNode({ actors: [tallyV2() as unknown as typeof tallyV1], store });
  onTestFinished(() => next.stop());
  expect(await (await rebuildType({ store, actors: tallyV2() })).promote(next.client)).toMatchObject({
    promoted: 1,
  });
  const context = async (key: string) => (await next.client.actor(tallyV1, key).get()).context;
  expect(await context("whole")).toEqual({ sum: 3, odd: 1 });
  expect(await context("long")).toEqual({ sum: 100 });
  expect(await context("gone")).toEqual({ sum: 1 });
  const left: [number, true | undefined][] = [];
  for await (const turn of next.client.actor(tallyV1, "long").history({ order: "oldest" }))
    left.push([turn.turn, turn.trimmed]);
  expect(left.slice(0, 2)).toEqual([
    [65, true],
    [66, undefined],
  ]);
  expect(left).toHaveLength(36);
});

it("lets go on what nodes have begun before a promotion, and gives it no second run", async () => {
  const app = "begun";
  const { jobV1, jobV2, shop, runs } = begunVersions();
  const settings = { lease_ms: 1_500, heartbeat_ms: 400 };
  const nodeWith = async (actor: typeof jobV1 | typeof jobV2) => {
    const node = await startNode({
      actors: [actor as typeof jobV1, shop],
      store: nats({ servers: server.url, app }),
      settings,
    });
    onTestFinished(() => node.stop());
    return node;
  };
  const first = await nodeWith(jobV1);
  const client = await clientOf(app);
  const keys = ["running", "ended"];
  for (const key of keys)
    for (const type of ["add", "go", "add"] as const) await client.actor(jobV1, key).send({ type });
  // Both versions at once, as in a deploy: the shards move, and the actors are loaded by the new node.
  const second = await nodeWith(jobV2);
  await first.stop();
  for (const key of keys) await until(client.actor(jobV2, key), ({ price }) => price === 7);
  expect(runs).toHaveLength(2);
  const runOf = (key: string) => runs.find((run) => run.key.startsWith(`job.${key}:`));
  runOf("ended")?.end("done");
  await until(client.actor(jobV2, "ended"), ({ got }) => got === "done");
  const rebuild = await rebuildType({ store: second.store, actors: jobV2 });
  expect(await rebuild.promote(client)).toEqual({ promoted: 2, told: 0, failed: 0, gone: 0, failures: [] });
  runOf("running")?.end("late");
  await until(client.actor(jobV2, "running"), ({ got }) => got === "late");
  for (const [key, got] of [
    ["running", "late"],
    ["ended", "done"],
  ] as const)
    expect((await client.actor(jobV2, key).get()).context).toEqual({ n: 4, got, price: 7 });
  expect(runs).toHaveLength(2);
  expect((await client.actor(shop, "s").get()).context).toEqual({ asked: 2 });
});
