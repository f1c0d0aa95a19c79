/** A node on NATS when something is taken from it: streams, room, permissions. It lives, says what is wrong, and goes on. */
import { jetstreamManager, type StreamConfig } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isKeyturnError, type KeyturnNode, nats, type NatsStore, startNode } from "../runtime/index.ts";
import { eventually } from "./conformance/helpers.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";
import { failure, type Probe, probeOf } from "./support/probe.ts";

let server: NatsServer;
let raw: NatsConnection;
let apps = 0;
const open: KeyturnNode[] = [];

beforeAll(async () => {
  server = await startServer({ durability: "process" });
  raw = await connect({ servers: server.url });
}, 60_000);

afterAll(async () => {
  for (const node of open) {
    node.kill();
    await node.store.close();
  }
  await raw.close();
  await server.stop();
});

interface Rig {
  readonly node: KeyturnNode;
  readonly store: NatsStore;
  readonly probe: Probe;
  readonly troubles: string[];
}

async function rig(settings: Parameters<typeof startNode>[0]["settings"] = {}): Promise<Rig> {
  const store = await nats({ servers: server.url, app: `app${++apps}`, timeout_ms: 1_000 });
  const probe = probeOf();
  const troubles: string[] = [];
  const node = await startNode({
    actors: [probe],
    store,
    shards: 4,
    settings: { lease_ms: 1_500, heartbeat_ms: 200, ...settings },
    observer: {
      troubled: (task, error) =>
        troubles.push(`${task}: ${isKeyturnError(error) ? error.code : String(error)}`),
    },
  });
  open.push(node);
  return { node, store, probe, troubles };
}

async function update(stream: string, change: Partial<StreamConfig>): Promise<void> {
  await (await jetstreamManager(raw)).streams.update(stream, change);
}

async function remove(stream: string): Promise<void> {
  await (await jetstreamManager(raw)).streams.delete(stream);
}

/** Looks at the node's health until something is as it should be; a look in itself is what makes it see stillness. */
async function healthy(node: KeyturnNode, ready: boolean, wait_ms = 10_000): Promise<string> {
  let texts = "";
  await eventually(() => {
    const { ready: now, checks } = node.health();
    texts = Object.values(checks)
      .filter(({ ok }) => !ok)
      .map(({ text }) => text)
      .join(" ");
    return now === ready;
  }, wait_ms);
  return texts;
}

describe("No room", () => {
  it("in the journal: writes are refused as certainly not applied, reads go on, and writes too when there is room", async () => {
    const { node, store, probe } = await rig();
    const ref = node.client.actor(probe, "k");
    await ref.ask({ type: "add", by: 1 });
    await node.checkpoint();
    await update(`${store.app}_journal`, { max_bytes: 20_000 });
    let applied = 1;
    let refused: unknown;
    while (refused === undefined && applied < 1_000) {
      await ref.ask({ type: "add", by: 1 }).then(
        () => applied++,
        (error: unknown) => {
          refused = error;
        },
      );
    }
    expect(refused).toMatchObject({ code: "store_full", retryable: true, outcome: "notApplied" });
    expect((await ref.get()).context.count).toBe(applied);
    expect((await ref.get({ stale: true }))?.context.count).toBe(1);
    expect(node.health().checks.membership.ok).toBe(true);
    await update(`${store.app}_journal`, { max_bytes: -1 });
    await eventuallyDone(() => ref.ask({ type: "add", by: 1 }));
    expect((await ref.get()).context.count).toBe(applied + 1);
  });

  it("in the account: the same, for all of its streams", async () => {
    const own = await startServer({
      durability: "process",
      accounts: "{ A { jetstream { max_file: 300000 }, users = [ { user: a, password: a } ] } }",
    });
    const probe = probeOf();
    const store = await nats({ servers: own.url, user: "a", pass: "a" });
    const node = await startNode({ actors: [probe], store, shards: 2 });
    const ref = node.client.actor(probe, "k");
    let refused: unknown;
    for (let n = 0; refused === undefined && n < 500; n++)
      await ref.ask({ type: "grow", bytes: 5_000 + n }).catch((error: unknown) => {
        refused = error;
      });
    expect(refused).toMatchObject({ code: "store_full", outcome: "notApplied" });
    await expect(node.checkpoint()).rejects.toMatchObject({ code: "store_full" });
    expect((await ref.get()).context.blob.length).toBeGreaterThan(5_000);
    node.kill();
    await store.close();
    await own.stop();
  });

  it("in the bucket of snapshots: turns go on, checkpoints fail by name and are done later", async () => {
    const { node, store, probe, troubles } = await rig({ checkpoint_ms: 300 });
    const ref = node.client.actor(probe, "k");
    await ref.ask({ type: "add", by: 1 });
    await update(`KV_${store.app}_snapshots`, { max_bytes: 1_000 });
    await ref.ask({ type: "grow", bytes: 10_000 });
    await eventually(() => troubles.includes("checkpoint: store_full"));
    expect(await ref.ask({ type: "add", by: 1 })).toBe(2);
    await update(`KV_${store.app}_snapshots`, { max_bytes: -1 });
    await node.checkpoint();
    expect((await ref.get({ stale: true }))?.context.count).toBe(2);
  });
});

describe("A stream is deleted under the node", () => {
  it("the journal: what is asked is unknown, reads go on, health says which stream", async () => {
    const { node, store, probe } = await rig();
    const ref = node.client.actor(probe, "k");
    await ref.ask({ type: "add", by: 1 });
    await remove(`${store.app}_journal`);
    const error = await failure(ref.ask({ type: "add", by: 1 }, { timeout_ms: 500 }));
    expect(error).toMatchObject({ code: "timeout", outcome: "unknown" });
    expect(await healthy(node, false)).toContain(`${store.app}_journal`);
    expect(node.health().live).toBe(true);
    expect(node.health().checks.membership.ok).toBe(true);
    expect(node.shards).toHaveLength(4);
  });

  it("snapshots: actors in memory go on, a cold one is a typed error, health says which stream", async () => {
    const { node, store, probe } = await rig();
    const ref = node.client.actor(probe, "warm");
    await ref.ask({ type: "add", by: 1 });
    await node.checkpoint();
    const { config } = await (await jetstreamManager(raw)).streams.info(`KV_${store.app}_snapshots`);
    await remove(`KV_${store.app}_snapshots`);
    expect(await ref.ask({ type: "add", by: 1 })).toBe(2);
    const error = await failure(
      node.client.actor(probe, "cold").ask({ type: "add", by: 1 }, { timeout_ms: 5_000 }),
    );
    expect(error.code).toBe("store_failed");
    expect(error.message).toContain(`KV_${store.app}_snapshots`);
    expect(await healthy(node, false)).toContain(`KV_${store.app}_snapshots`);
    expect(await ref.ask({ type: "add", by: 1 })).toBe(3);
    await expect(node.checkpoint()).rejects.toMatchObject({ code: "not_provisioned" });
    expect(await failure(nats({ servers: server.url, app: store.app }))).toMatchObject({
      code: "corrupt_record",
    });
    // Made anew by hand it is empty. What was in it is gone, and that is not served as if it had never been.
    await (await jetstreamManager(raw)).streams.add(config);
    await raw.request(`$KV.${store.app}_snapshots._app`);
    const lost = await failure(
      node.client.actor(probe, "cold").ask({ type: "add", by: 1 }, { timeout_ms: 60_000 }),
    );
    expect(lost.code).toBe("store_failed");
    expect(await ref.ask({ type: "add", by: 1 })).toBe(4);
  }, 90_000);

  it("the shard table: the node serves on, health says which stream", async () => {
    const { node, store, probe, troubles } = await rig();
    const ref = node.client.actor(probe, "k");
    await ref.ask({ type: "add", by: 1 });
    await remove(`KV_${store.app}_shards`);
    await node.checkpoint().catch(() => undefined);
    expect(await healthy(node, false)).toContain(`KV_${store.app}_shards`);
    expect(await ref.ask({ type: "add", by: 1 })).toBe(2);
    expect(node.shards).toHaveLength(4);
    expect(troubles.every((text) => /not_provisioned/.test(text))).toBe(true);
  });

  it("the members: no lease, so reads wait for a commit; turns go on; health is red", async () => {
    const { node, store, probe, troubles } = await rig();
    const ref = node.client.actor(probe, "k");
    await ref.ask({ type: "add", by: 1 });
    await remove(`KV_${store.app}_nodes`);
    await healthy(node, false);
    await eventually(() => !node.health().checks.lease.ok);
    expect(await ref.ask({ type: "add", by: 1 })).toBe(2);
    expect((await ref.get()).context.count).toBe(2);
    expect(troubles.some((text) => text === "heartbeat: not_provisioned")).toBe(true);
    // Made anew, the list does not have this incarnation: it is over, and the node comes back as another one.
    const before = node.incarnation.name;
    await (await nats({ servers: server.url, app: store.app })).close();
    await eventually(() => node.incarnation.name !== before && node.incarnation.phase === "active", 10_000);
    await healthy(node, true, 20_000);
    expect(await node.client.actor(probe, "k").ask({ type: "add", by: 1 })).toBe(3);
  }, 60_000);

  it("the dead letters: turns go on, letters are kept until they can be stored", async () => {
    const { node, store, probe } = await rig();
    await remove(`${store.app}_dead`);
    const teller = node.client.actor(probe, "teller");
    await teller.ask({ type: "tell", to: "probe/other", event: { type: "fail" } });
    expect(await healthy(node, false)).toContain(`${store.app}_dead`);
    await expect(node.deadLetters()).rejects.toMatchObject({ code: "not_provisioned" });
    expect(await node.client.actor(probe, "other").ask({ type: "add", by: 1 })).toBe(1);
    await (await nats({ servers: server.url, app: store.app })).close();
    await node.checkpoint();
    expect(await node.deadLetters()).toMatchObject([{ type: "probe", key: "other", code: "machine_failed" }]);
    await healthy(node, true);
  });

  it("direct reads are switched off: a cold actor is a typed error, and is read when they are on again", async () => {
    const { node, store, probe } = await rig();
    const cold = node.client.actor(probe, "cold");
    await update(`KV_${store.app}_snapshots`, { allow_direct: false });
    const error = await failure(cold.ask({ type: "add", by: 1 }, { timeout_ms: 5_000 }));
    expect(error.code).toBe("store_failed");
    expect(error.message).toContain("cannot be read directly");
    await update(`KV_${store.app}_snapshots`, { allow_direct: true });
    expect(await cold.ask({ type: "add", by: 1 })).toBe(1);
    await healthy(node, true);
  });
});

async function eventuallyDone<T>(run: () => Promise<T>, wait_ms = 10_000): Promise<T> {
  const end = performance.now() + wait_ms;
  for (;;) {
    try {
      return await run();
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
