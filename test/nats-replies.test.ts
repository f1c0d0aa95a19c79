/** Whoever sends chooses where an answer goes; a node answers inboxes only, with its own permissions behind it. */
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { counter } from "../actors/index.ts";
import { type KeyturnNode, type NatsStore, nats, startNode } from "../runtime/index.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";

let server: NatsServer;
let store: NatsStore;
let node: KeyturnNode;
let stranger: NatsConnection;

beforeAll(async () => {
  server = await startServer({ durability: "process" });
  store = await nats({ servers: server.url, inboxPrefix: "_INBOX_nodes" });
  node = await startNode({ actors: [counter], store });
  stranger = await connect({ servers: server.url });
});

afterAll(async () => {
  await stranger.close();
  await node.stop();
  await server.stop();
});

test("an answer never goes to a stream, another node, or an inbox of nodes", async () => {
  const [lane = ""] = [node.incarnation.name];
  const settings = await store.directory.settings();
  const last = await store.journal.last(lane);
  const targets = [
    "keyturn.journal.evil",
    `keyturn.journal.${lane}`,
    "$KV.keyturn_shards.app",
    "$KV.keyturn_snapshots._app",
    "$JS.API.STREAM.DELETE.keyturn_journal",
    "keyturn.shard.1",
    "keyturn.peer.1",
    `keyturn.node.${lane}`,
    "keyturn.changed",
    "_INBOX_nodes.1.2",
    "anything",
  ];
  const heard: string[] = [];
  for (const target of targets) {
    // There the node's own appends are heard.
    if (target === `keyturn.journal.${lane}`) continue;
    stranger.subscribe(target, { callback: (_error, { subject }) => void heard.push(subject) });
  }
  await stranger.flush();
  const before = store.transport.foreign;
  for (const reply of targets) {
    stranger.publish("keyturn.info", "", { reply });
    stranger.publish("keyturn.actor.counter.home", '{"type":"add","by":1}', { reply });
    stranger.publish("keyturn.shard.5", "no frame", { reply });
  }
  // What was sent before this is handled before it.
  const answer = await stranger.request("keyturn.actor.counter.home", '{"type":"add","by":1}');
  expect(answer.json<{ value: number }>().value).toBe(1);
  expect(store.transport.foreign - before).toBeGreaterThanOrEqual(3 * targets.length - 6);
  expect(heard.filter((subject) => subject !== "keyturn.changed")).toEqual([]);
  expect(await store.directory.settings()).toEqual(settings);
  expect(await store.journal.last("evil")).toBe(0);
  expect(await store.journal.last(lane)).toBeGreaterThan(last);
  expect(await node.client.actor(counter, "home").ask({ type: "add", by: 1 })).toBe(2);
  expect(node.incarnation.name).toBe(lane);
});

test("inboxes are answered, also those with a prefix of their own", async () => {
  const own = await connect({ servers: server.url, inboxPrefix: "_INBOX_somebody" });
  const answer = await own.request("keyturn.info", "");
  expect(answer.json()).toEqual({ shards: 64, format: 1 });
  await own.close();
});
