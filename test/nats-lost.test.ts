/**
 * A stream of the app is deleted under running nodes: errors are typed and name the stream, the nodes live, and nobody
 * puts an empty one in the place of what was answered.
 */
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect as connectPlain, type NatsConnection } from "@nats-io/transport-node";
import { afterEach, beforeEach, expect, test } from "vitest";
import { counter } from "../actors/index.ts";
import {
  isKeyturnError,
  type KeyturnError,
  type KeyturnNode,
  nats,
  provisionNats,
  startNode,
} from "../runtime/index.ts";
import { FORMAT } from "../runtime/node.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";

const SETTINGS = { lease_ms: 1_800, heartbeat_ms: 500 };
const add = { type: "add", by: 1 } as const;

let server: NatsServer;
let nodes: KeyturnNode[];
let troubles: unknown[];
let hears: Set<() => void>;
let plain: NatsConnection;
let manager: JetStreamManager;

beforeEach(async () => {
  server = await startServer();
  troubles = [];
  hears = new Set();
  nodes = [await start("one"), await start("two")];
  await until(() => {
    const shares = nodes.map(({ shards }) => shards.length);
    return Math.min(...shares) > 0 && shares.reduce((sum, count) => sum + count, 0) === 64;
  });
  plain = await connectPlain({ servers: server.url });
  manager = await jetstreamManager(plain);
}, 60_000);

afterEach(async () => {
  for (const node of nodes) node.kill();
  for (const { store } of nodes) await store.close();
  await plain.close();
  await server.stop();
}, 60_000);

function start(name: string): Promise<KeyturnNode> {
  const changed = (): void => {
    // After the node itself has noted it.
    setImmediate(() => {
      for (const look of [...hears]) look();
    });
  };
  const observer = {
    troubled: (_task: string, error: unknown) => {
      troubles.push(error);
      changed();
    },
    shardServing: changed,
    shardReleased: changed,
  };
  const store = nats({ servers: server.url });
  return startNode({ actors: [counter], store, name, settings: SETTINGS, observer });
}

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

/** Resolves when the nodes have said that this stream is missing. */
async function told(stream: string): Promise<KeyturnError> {
  const find = (): unknown =>
    troubles.find((error) => isKeyturnError(error, "not_provisioned") && error.message.includes(stream));
  await until(() => find() !== undefined);
  return find() as KeyturnError;
}

/** An actor of each node. */
function actors(): ReturnType<typeof refOf>[] {
  const keys = Array.from({ length: 200 }, (_, at) => `k${at}`);
  return nodes.map((node) => {
    const key = keys.find((one) => node.shards.includes(refOf(node, one).shard));
    return refOf(nodes[0]!, key as string);
  });
}

function refOf(node: KeyturnNode, key: string) {
  return node.client.actor(counter, key);
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "none";
  } catch (error) {
    if (!isKeyturnError(error)) throw error;
    return `${error.code}, ${error.outcome}`;
  }
}

const provision = () => provisionNats({ servers: server.url }, { shards: 64, format: FORMAT });

test("the journal: nothing is acknowledged any more, the nodes say why, and no empty journal takes its place", async () => {
  const refs = actors();
  for (const ref of refs) expect(await ref.ask(add)).toBe(1);
  await manager.streams.delete("keyturn_journal");
  const asked = refs.map((ref) => codeOf(ref.ask(add, { timeout_ms: 3_000 })));
  expect((await told("keyturn_journal")).message).toMatch(/is missing/);
  expect(await Promise.all(asked)).toEqual(refs.map(() => "timeout, unknown"));
  expect(await codeOf(provision())).toBe("corrupt_record, notApplied");
  await expect(start("three")).rejects.toThrow(/stream keyturn_journal is gone.*Restore it from a backup/);
  // The nodes live, and are red.
  for (const node of nodes) {
    expect(node.health()).toMatchObject({
      live: true,
      ready: false,
      checks: { connection: { ok: false, text: expect.stringContaining("keyturn_journal does not answer") } },
    });
  }
}, 60_000);

test("the snapshots: what is in memory goes on, and no empty bucket takes their place", async () => {
  const refs = actors();
  for (const ref of refs) expect(await ref.ask(add)).toBe(1);
  await manager.streams.delete("KV_keyturn_snapshots");
  for (const ref of refs) expect(await ref.ask(add)).toBe(2);
  await nodes[0]?.checkpoint().catch(() => undefined);
  expect(await codeOf(refOf(nodes[0]!, "never asked before").ask(add, { timeout_ms: 2_000 }))).toMatch(
    /^(store_failed|not_provisioned|timeout), /,
  );
  expect(await codeOf(provision())).toBe("corrupt_record, notApplied");
  await expect(start("three")).rejects.toThrow(/stream KV_keyturn_snapshots is gone/);
  for (const ref of refs) expect(await ref.ask(add)).toBe(3);
}, 60_000);

test("the shard table: what is served goes on being served, and nobody begins a second app beside it", async () => {
  const refs = actors();
  for (const ref of refs) expect(await ref.ask(add)).toBe(1);
  await manager.streams.delete("KV_keyturn_shards");
  for (const ref of refs) expect(await ref.ask(add)).toBe(2);
  expect(await codeOf(provision())).toBe("corrupt_record, notApplied");
  await expect(start("three")).rejects.toThrow(/stream KV_keyturn_shards is gone/);
}, 60_000);

test("the list of nodes: it may be made anew, and everything goes on", async () => {
  const refs = actors();
  for (const ref of refs) expect(await ref.ask(add)).toBe(1);
  await manager.streams.delete("KV_keyturn_nodes");
  await told("KV_keyturn_nodes");
  expect((await provision()).streams.filter(({ made }) => made).map(({ stream }) => stream)).toEqual([
    "KV_keyturn_nodes",
  ]);
  for (const ref of refs) expect(await ref.ask(add, { timeout_ms: 20_000 })).toBe(2);
  for (const node of nodes)
    await expect.poll(() => node.health().ready, { timeout: 20_000, interval: 200 }).toBe(true);
}, 60_000);

test("an app that nobody has written to yet may be made while somebody else makes it", async () => {
  await Promise.all(nodes.map((node) => node.stop()));
  for await (const { config } of manager.streams.list()) await manager.streams.delete(config.name);
  nodes = await Promise.all(["a", "b", "c", "d"].map(start));
  expect(await refOf(nodes[0]!, "k").ask(add)).toBe(1);
}, 60_000);
