/** NATS goes away and comes back: by death, by freezing, by another server in its place. Nothing answered is lost. */
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, connect as dial, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import {
  connect,
  isKeyturnError,
  type KeyturnNode,
  nats,
  type NatsOptions,
  type NatsStore,
  startNode,
} from "../runtime/index.ts";
import { natsClient } from "../runtime/stores/nats/index.ts";
import type { Frame } from "../runtime/words/frames.ts";
import { TcpProxy } from "./chaos/proxy.ts";
import { bytesOf, eventually } from "./conformance/helpers.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";
import { failure, type Probe, probeOf } from "./support/probe.ts";

interface Rig {
  readonly server: NatsServer;
  readonly node: KeyturnNode;
  readonly store: NatsStore;
  readonly probe: Probe;
}

/** Kills a server, and starts it again when a process has seen that it is away. */
async function bounce(server: NatsServer, seen: () => boolean): Promise<void> {
  await server.kill("SIGKILL");
  await eventually(seen);
  await server.restart();
}

/** Freezes a server: a signal takes its time, and until then it goes on answering. */
async function freeze(server: NatsServer): Promise<void> {
  const asking = await natsClient({ servers: server.url, timeout_ms: 200 });
  await server.kill("SIGSTOP");
  for (let frozen = false; !frozen; ) {
    frozen = await asking.directory.readShard(1).then(
      () => false,
      (error: unknown) => isKeyturnError(error, "unreachable"),
    );
  }
  await asking.close();
}

/** A node on a server of its own; both end with the body. */
async function withNode(
  body: (rig: Rig) => Promise<void>,
  { lease_ms = 5_000, ...more }: Partial<NatsOptions> & { lease_ms?: number } = {},
): Promise<void> {
  const server = await startServer({ durability: "process" });
  const store = await nats({ servers: server.url, ...more });
  const probe = probeOf();
  const settings = { lease_ms, heartbeat_ms: lease_ms / 5 };
  const node = await startNode({ actors: [probe], store, shards: 8, settings });
  try {
    await body({ server, node, store, probe });
  } finally {
    node.kill();
    await store.close();
    await server.stop();
  }
}

/** Adds one after another to some actors until told to stop; every answer has to be the next number. */
function load(
  node: KeyturnNode,
  probe: Probe,
  actors: number,
): { readonly counts: number[]; stop(): Promise<void> } {
  const counts: number[] = new Array(actors).fill(0);
  let going = true;
  const runs = counts.map(async (_, at) => {
    const ref = node.client.actor(probe, `k${at}`);
    while (going) {
      const answer = await ref.ask({ type: "add", by: 1 }, { timeout_ms: 60_000 });
      counts[at] = (counts[at] as number) + 1;
      if (answer !== counts[at]) throw new Error(`k${at} answered ${answer}, not ${counts[at]}`);
    }
  });
  return {
    counts,
    stop: async () => {
      going = false;
      await Promise.all(runs);
    },
  };
}

async function advances(counts: readonly number[], by: number): Promise<void> {
  const before = [...counts];
  await eventually(() => counts.every((count, at) => count >= (before[at] as number) + by), 20_000);
}

describe("The server dies and comes back", () => {
  it(
    "a node under load goes on: every turn is applied once, every answer is the next one",
    () =>
      withNode(async ({ server, node, store, probe }) => {
        const work = load(node, probe, 20);
        await advances(work.counts, 5);
        for (let round = 0; round < 3; round++) {
          await bounce(server, () => {
            const { ready, checks } = node.health();
            return !ready && /lost/.test(checks.connection.text);
          });
          await eventually(() => store.connection.connected);
          await advances(work.counts, 5);
        }
        await work.stop();
        for (const [at, count] of work.counts.entries())
          expect((await node.client.actor(probe, `k${at}`).get()).context.count).toBe(count);
      }),
    60_000,
  );

  it(
    "for longer than the lease: the same life goes on, since nobody else could have taken anything",
    () =>
      withNode(
        async ({ server, node, store, probe }) => {
          const life = node.incarnation.name;
          const work = load(node, probe, 5);
          await advances(work.counts, 2);
          await server.kill("SIGKILL");
          await eventually(() => !node.health().checks.lease.ok);
          await server.restart();
          await eventually(() => store.connection.connected);
          await advances(work.counts, 5);
          await eventually(() => node.health().ready, 10_000);
          expect(node.incarnation.name).toBe(life);
          await work.stop();
        },
        { lease_ms: 1_000 },
      ),
    60_000,
  );

  it(
    "what waits for an answer is settled at once, and everything after it while there is none",
    () =>
      withNode(
        async ({ server, store }) => {
          await freeze(server);
          const pending = [
            store.journal.append("x", 0, bytesOf("x")),
            failure(store.directory.readShard(1)),
            failure(store.snapshots.read(["t.k"])),
            failure(store.directory.writeShard(99, { owner: undefined, epoch: 1, segments: [] }, 0)),
          ];
          const began = performance.now();
          await server.kill("SIGKILL");
          const [append, ...others] = await Promise.all(pending);
          expect(performance.now() - began).toBeLessThan(2_000);
          expect(append).toMatchObject({ kind: "unknown", cause: { code: "unreachable" } });
          for (const error of others)
            expect(error).toMatchObject({ code: "unreachable", outcome: "unknown" });
          const again = performance.now();
          expect(await failure(store.directory.readShard(1))).toMatchObject({ code: "unreachable" });
          expect(await failure(store.deadLetters.list(1))).toMatchObject({ code: "unreachable" });
          expect(store.transport.publish("shard.77", { kind: "ack", shard: 77, fromShard: 1, upTo: 1 })).toBe(
            false,
          );
          expect(performance.now() - again).toBeLessThan(200);
        },
        { timeout_ms: 60_000 },
      ),
    60_000,
  );

  it(
    "a client of its own connection finds the actors again",
    () =>
      withNode(async ({ server, probe }) => {
        const client = await connect({ nats: { servers: server.url } });
        const ref = client.actor(probe, "k");
        expect(await ref.ask({ type: "add", by: 1 })).toBe(1);
        await server.kill("SIGKILL");
        const asking = ref.ask({ type: "add", by: 1 }, { timeout_ms: 30_000 });
        await server.restart();
        expect(await asking).toBe(2);
        expect(await ref.ask({ type: "add", by: 1 })).toBe(3);
        await client.disconnect();
      }),
    60_000,
  );
});

describe("The server freezes", () => {
  it(
    "requests are unknown at their time-out, and the node goes on when it wakes",
    () =>
      withNode(
        async ({ server, node, store, probe }) => {
          const ref = node.client.actor(probe, "k");
          await ref.ask({ type: "add", by: 1 });
          await freeze(server);
          expect(await failure(store.directory.readShard(1))).toMatchObject({ code: "unreachable" });
          const error = await failure(ref.ask({ type: "add", by: 1 }, { timeout_ms: 600 }));
          expect(error).toMatchObject({ code: "timeout", outcome: "unknown" });
          const { requestId } = error;
          expect(node.health().checks.connection.text).toMatch(
            /keyturn_journal takes nothing in.*disk may be full/,
          );
          await server.kill("SIGCONT");
          expect(await ref.ask({ type: "add", by: 1 }, { requestId: requestId as string })).toBe(2);
          expect((await ref.get()).context.count).toBe(2);
          await eventually(() => node.health().ready);
        },
        { timeout_ms: 300 },
      ),
    60_000,
  );

  it(
    "what a process may send into it is bounded, and refused beyond",
    () =>
      withNode(async ({ server }) => {
        const store = await natsClient({ servers: server.url });
        await freeze(server);
        const frame: Frame = { kind: "watch", watch: "w", state: "x".repeat(200_000) };
        let taken = 0;
        for (let n = 0; n < 500; n++) {
          if (store.transport.publish("client.far", frame)) taken++;
          await new Promise((resolve) => setImmediate(resolve));
        }
        expect(taken * 200_000).toBeGreaterThan(16 * 1024 * 1024);
        expect(taken * 200_000).toBeLessThan(34 * 1024 * 1024);
        expect(store.transport.dropped).toBe(500 - taken);
        await server.kill("SIGCONT");
        await eventually(() => store.transport.publish("client.far", frame), 10_000);
        await store.close();
      }),
    60_000,
  );

  it(
    "a store that is closed meanwhile ends in the time that its requests have",
    () =>
      withNode(
        async ({ server }) => {
          const store = await nats({ servers: server.url, timeout_ms: 500 });
          await freeze(server);
          const pending = failure(store.directory.readShard(1));
          const began = performance.now();
          await Promise.all([store.close(), store.close()]);
          expect(performance.now() - began).toBeLessThan(4_000);
          expect(await pending).toMatchObject({ code: "unreachable" });
          await server.kill("SIGCONT");
          await store.close();
          expect(await failure(store.directory.readShard(1))).toMatchObject({ code: "unreachable" });
          expect(await store.journal.append("x", 0, bytesOf("x"))).toMatchObject({ kind: "unknown" });
          await expect(store.journal.read("x", 1, 9)[Symbol.asyncIterator]().next()).rejects.toMatchObject({
            code: "unreachable",
          });
        },
        { timeout_ms: 500 },
      ),
    60_000,
  );
});

describe("A process that is slow or cut off", () => {
  it("is cut by the server when too much waits for it, comes back, and asks on", async () => {
    const server = await startServer({
      durability: "process",
      extra: 'max_pending: 2MB\nwrite_deadline: "1s"',
    });
    const probe = probeOf();
    const node = await startNode({ actors: [probe], store: nats({ servers: server.url }), shards: 4 });
    const proxy = await TcpProxy.start([server.port]);
    const client = await connect({ nats: { servers: proxy.addresses[0] as string } });
    const ref = client.actor(probe, "k");
    await ref.ask({ type: "add", by: 1 });
    proxy.cut(["down"]);
    // The answers, none of which is read.
    const asks = Array.from({ length: 200 }, () =>
      ref.ask({ type: "answerBig", bytes: 100_000 }, { timeout_ms: 30_000 }).then((text) => text.length),
    );
    await eventually(() => /Slow Consumer/.test(server.log()), 20_000);
    expect(await node.client.actor(probe, "other").ask({ type: "add", by: 1 })).toBe(1);
    proxy.heal("reset");
    expect(new Set(await Promise.all(asks))).toEqual(new Set([100_000]));
    expect(await ref.ask({ type: "add", by: 1 })).toBe(2);
    await client.disconnect();
    await node.stop();
    await proxy.close();
    await server.stop();
  }, 60_000);

  it("a subscriber that reads nothing is the server's to cut; the node does not feel it", async () => {
    const server = await startServer({
      durability: "process",
      extra: 'max_pending: 2MB\nwrite_deadline: "1s"',
    });
    const probe = probeOf();
    const store = await nats({ servers: server.url });
    const node = await startNode({ actors: [probe], store, shards: 4 });
    const mute: Socket = dial(server.port, "127.0.0.1");
    await new Promise<void>((resolve) => mute.once("data", () => resolve()));
    mute.pause();
    mute.on("error", () => undefined);
    mute.write('CONNECT {"verbose":false}\r\nSUB keyturn.> 1\r\n');
    const ref = node.client.actor(probe, "k");
    const flood = await natsClient({ servers: server.url });
    const frame: Frame = { kind: "watch", watch: "w", state: "x".repeat(500_000) };
    let n = 0;
    while (!/Slow Consumer/.test(server.log()) && n < 200) {
      flood.transport.publish("client.far", frame);
      expect(await ref.ask({ type: "add", by: 1 })).toBe(++n);
    }
    expect(server.log()).toMatch(/Slow Consumer/);
    expect(store.connection.connected).toBe(true);
    expect(node.health().ready).toBe(true);
    mute.destroy();
    await flood.close();
    await node.stop();
    await server.stop();
  }, 60_000);
});

describe("Another server, or other permissions", () => {
  it("a server that is too old is not used, and left again for one that will do", async () => {
    const server = await startServer({ durability: "process" });
    const old = createServer((socket) => {
      socket.on("error", () => undefined);
      const info = {
        server_id: "x",
        server_name: "x",
        version: "2.10.27",
        proto: 1,
        headers: true,
        max_payload: 1_048_576,
      };
      socket.write(`INFO ${JSON.stringify(info)}\r\n`);
      socket.on("data", (bytes) => bytes.includes("PING") && socket.write("PONG\r\n"));
    });
    await new Promise<void>((resolve) => old.listen(0, "127.0.0.1", resolve));
    const port = (old.address() as AddressInfo).port;
    const both = await openPreferring(server, port);
    const troubles: unknown[] = [];
    both.onTrouble((_task, error) => troubles.push(error));
    await server.kill("SIGKILL");
    await eventually(() => /2\.10\.27/.test(both.connection.text), 10_000);
    expect(both.connection.connected).toBe(false);
    expect(troubles).toContainEqual(expect.objectContaining({ code: "server_unsuitable" }));
    expect(await failure(both.directory.readShard(1))).toMatchObject({ code: "unreachable" });
    await server.restart();
    await eventually(() => both.connection.connected, 15_000);
    expect(await both.directory.readShard(1)).toBeUndefined();
    await both.close();
    old.close();
    await server.stop();
  }, 60_000);

  it("a permission that is taken away is named, and used again when it is given back", async () => {
    const rule = 'deny: ["keyturn.nothing"]';
    const server = await startServer({
      durability: "process",
      extra: `authorization { users = [ { user: a, password: a, permissions: { subscribe: { ${rule} } } } ] }`,
    });
    const store = await nats({ servers: server.url, user: "a", pass: "a" });
    const other = await natsClient({ servers: server.url, user: "a", pass: "a" });
    const got: Frame[] = [];
    store.transport.subscribe("node.life1", (frame) => got.push(frame));
    const before = readFileSync(server.configPath, "utf8");
    writeFileSync(server.configPath, before.replace(rule, 'deny: ["keyturn.node.*"]'));
    await server.kill("SIGHUP");
    await eventually(() => /may not subscribe to "keyturn.node.life1"/.test(store.connection.text), 10_000);
    expect(store.connection.connected).toBe(false);
    writeFileSync(server.configPath, before);
    await server.kill("SIGHUP");
    await eventually(() => store.connection.connected && other.connection.connected, 15_000);
    const frame: Frame = {
      kind: "request",
      shard: 1,
      session: "s",
      base: 1,
      first: 1,
      epoch: 0,
      requests: [
        { kind: 2, type: "t", key: "k", id: "t.k", event: undefined, requestId: undefined, trace: undefined },
      ],
    };
    await eventually(() => {
      other.transport.publish("node.life1", frame);
      return got.length > 0;
    });
    await store.close();
    await other.close();
    await server.stop();
  }, 60_000);
});

/** A store that is connected to the server, and knows another one at `port`. */
async function openPreferring(server: NatsServer, port: number): Promise<NatsStore> {
  for (;;) {
    const store = await nats({ servers: [server.url, `127.0.0.1:${port}`], timeout_ms: 1_000 }).catch(
      (error: unknown) => {
        // The library takes them in any order.
        if ((error as { code?: string }).code === "server_unsuitable") return undefined;
        throw error;
      },
    );
    if (store !== undefined) return store;
  }
}
