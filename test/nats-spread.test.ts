/** An app whose snapshots lie in several buckets and whose journal lies in several streams. */
import { jetstreamManager } from "@nats-io/jetstream";
import { connect as connectNats } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cell, counter } from "../actors/index.ts";
import { connect, type KeyturnNode, nats, provisionNats, startNode } from "../runtime/index.ts";
import { FORMAT } from "../runtime/node.ts";
import { journalAt, positionOf, rangeIn, seqAt } from "../runtime/words/position.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";

let server: NatsServer;

beforeAll(async () => {
  server = await startServer({ durability: "process" });
});

afterAll(async () => {
  await server.stop();
});

const settings = { lease_ms: 1_500, heartbeat_ms: 400 };
const keys = Array.from({ length: 120 }, (_, n) => `k${n}`);
const add = { type: "add", by: 1 } as const;

async function start(app: string, name: string): Promise<KeyturnNode> {
  const store = nats({ servers: server.url, app, snapshotBuckets: 3, journals: 4 });
  return startNode({ actors: [counter, cell], store, name, settings });
}

async function messagesIn(app: string): Promise<Map<string, number>> {
  const nc = await connectNats({ servers: server.url });
  const manager = await jetstreamManager(nc);
  const counts = new Map<string, number>();
  for await (const { config, state } of manager.streams.list())
    if (config.name.includes(app)) counts.set(config.name, state.messages);
  await nc.close();
  return counts;
}

describe("spread over streams", () => {
  test("actors move between nodes of different journals with their state and their whole history", {
    timeout: 60_000,
  }, async () => {
    const nodes = [await start("moves", "one")];
    const client = await connect({ nats: { servers: server.url, app: "moves" } });
    const ref = (key: string) => client.actor(counter, key);
    const all = (): Promise<number[]> => Promise.all(keys.map((key) => ref(key).ask(add)));
    expect(new Set(await all())).toEqual(new Set([1]));
    // Life after life, so that lanes come to lie in every journal.
    for (let round = 2; round <= 9; round++) {
      nodes.push(await start("moves", `node-${round}`));
      expect(new Set(await all())).toEqual(new Set([round]));
      await nodes.shift()?.stop();
    }
    nodes[0]?.kill();
    const heir = await start("moves", "heir");
    expect(new Set(await all())).toEqual(new Set([10]));

    const history = [];
    for await (const turn of ref("k7").history({ order: "oldest" })) history.push(turn);
    expect(history.map(({ context }) => context.count)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    const journals = new Set(history.map(({ position }) => journalAt(position)));
    expect(journals.size).toBeGreaterThan(1);
    const newest = [];
    for await (const turn of ref("k7").history()) newest.push(turn);
    expect(newest).toEqual([...history].reverse());

    await heir.checkpoint();
    const stale = await Promise.all(keys.map((key) => ref(key).get({ stale: true })));
    expect(new Set(stale.map((state) => state?.context.count))).toEqual(new Set([10]));
    const counts = await messagesIn("moves");
    const buckets = ["KV_moves_snapshots", "KV_moves_snapshots_1", "KV_moves_snapshots_2"];
    for (const bucket of buckets) expect(counts.get(bucket)).toBeGreaterThan(20);
    const streams = [...counts].filter(([name]) => name.startsWith("moves_journal"));
    expect(streams).toHaveLength(4);
    expect(streams.filter(([, count]) => count > 0).length).toBeGreaterThan(1);
    await client.disconnect();
    await heir.stop();
  });

  test("a watch shows what comes after a deletion and after a move", { timeout: 60_000 }, async () => {
    const first = await start("watched", "one");
    const ref = first.client.actor(counter, "a");
    for (let n = 0; n < 5; n++) await ref.ask(add);
    const client = await connect({ nats: { servers: server.url, app: "watched" } });
    const watch = client.actor(counter, "a").watch();
    expect((await watch.next()).value?.context.count).toBe(5);
    const second = await start("watched", "two");
    await first.stop();
    await second.client.actor(counter, "a").delete();
    await second.client.actor(counter, "a").ask(add);
    for await (const state of watch) if (state.context.count === 1) break;
    await client.disconnect();
    await second.stop();
  });

  test("how it is spread is frozen, and found again", async () => {
    const app = "frozen";
    const wanted = { shards: 16, format: FORMAT };
    const made = await provisionNats({ servers: server.url, app, snapshotBuckets: 2, journals: 3 }, wanted);
    expect(made.layout).toEqual({ snapshotBuckets: 2, journals: 3 });
    expect(made.streams.filter((stream) => stream.made)).toHaveLength(8);
    const again = await provisionNats({ servers: server.url, app }, wanted);
    expect(again).toMatchObject({ layout: made.layout, made: false });
    expect(again.streams.some((stream) => stream.made)).toBe(false);
    for (const other of [{ snapshotBuckets: 1 }, { journals: 2 }]) {
      await expect(nats({ servers: server.url, app, ...other })).rejects.toMatchObject({
        code: "app_mismatch",
      });
    }
    for (const wrong of [{ snapshotBuckets: 0 }, { snapshotBuckets: 1.5 }, { journals: 1_000 }]) {
      await expect(nats({ servers: server.url, app, ...wrong })).rejects.toMatchObject({
        code: "invalid_options",
      });
    }
    // Of two that create it at once with different wishes one is told so.
    const race = await Promise.allSettled(
      [2, 3].map((journals) =>
        provisionNats({ servers: server.url, app: "race", journals }, { shards: 16, format: FORMAT }),
      ),
    );
    const failed = race.flatMap((one) => (one.status === "rejected" ? [one.reason] : []));
    for (const reason of failed) expect(reason).toMatchObject({ code: "app_mismatch" });
    expect(failed.length).toBeLessThan(2);
  });
});

test("a position holds its journal and its sequence", () => {
  for (const [journal, seq] of [
    [0, 1],
    [0, 2 ** 44 - 1],
    [1, 1],
    [511, 2 ** 44 - 1],
  ] as const) {
    const position = positionOf(journal, seq);
    expect(Number.isSafeInteger(position)).toBe(true);
    expect([journalAt(position), seqAt(position)]).toEqual([journal, seq]);
  }
  expect(rangeIn(0, 3, Number.MAX_SAFE_INTEGER)).toEqual({ from: 3, to: 2 ** 44 - 1 });
  expect(rangeIn(2, 1, positionOf(2, 9))).toEqual({ from: 1, to: 9 });
  expect(rangeIn(2, positionOf(2, 4), positionOf(2, 9))).toEqual({ from: 4, to: 9 });
});
