/** Answers that are lost on the way, between one process and NATS: nothing is taken for what it is not. */
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Lane, sealLane } from "../runtime/engine/lane.ts";
import {
  isBatchDropped,
  isConflict,
  isFull,
  isInFlight,
  isStreamMissing,
} from "../runtime/stores/nats/api.ts";
import { type NatsStore, nats, startNode } from "../runtime/index.ts";
import { realWorld } from "../runtime/world.ts";
import { TcpProxy } from "./chaos/proxy.ts";
import {
  bytesOf,
  committed,
  eventually,
  readAll,
  snapshot,
  textOf,
  writeSure,
} from "./conformance/helpers.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";
import { probeOf } from "./support/probe.ts";

const untroubled = (): void => undefined;
let server: NatsServer;
let raw: NatsConnection;
let apps = 0;
const closing: (() => Promise<void>)[] = [];

beforeAll(async () => {
  server = await startServer({ durability: "process" });
  raw = await connect({ servers: server.url });
}, 60_000);

afterAll(async () => {
  for (const close of closing) await close();
  await raw.close();
  await server.stop();
});

/** A store behind a proxy, and one beside it that sees what is so. */
async function behindProxy(
  timeout_ms = 400,
): Promise<{ store: NatsStore; beside: NatsStore; proxy: TcpProxy }> {
  const app = `app${++apps}`;
  const proxy = await TcpProxy.start([server.port]);
  const store = await nats({ servers: proxy.addresses[0] as string, app, timeout_ms });
  const beside = await nats({ servers: server.url, app });
  closing.push(async () => {
    proxy.heal("reset");
    await store.close();
    await beside.close();
    await proxy.close();
  });
  return { store, beside, proxy };
}

describe("An append whose answer is lost", () => {
  it("is unknown at its time-out; the identical one is a conflict, and the lane holds it once", async () => {
    const { store, beside, proxy } = await behindProxy();
    const first = committed(await store.journal.append("life1", 0, bytesOf("one")));
    proxy.cut(["down"]);
    const lost = await store.journal.append("life1", first, bytesOf("two"));
    expect(lost).toMatchObject({ kind: "unknown", cause: { code: "unreachable", outcome: "unknown" } });
    proxy.heal();
    expect(await store.journal.append("life1", first, bytesOf("two"))).toEqual({ kind: "conflict" });
    expect((await readAll(beside.journal, "life1")).map(([, text]) => text)).toEqual(["one", "two"]);
  });

  it("is unknown at once when the connection is lost, and may be there or not", async () => {
    const { store, beside, proxy } = await behindProxy(60_000);
    const first = committed(await store.journal.append("life1", 0, bytesOf("one")));
    proxy.cut(["down"]);
    const began = performance.now();
    const pending = store.journal.append("life1", first, bytesOf("two"));
    await eventually(() => true);
    proxy.reset();
    expect(await pending).toMatchObject({ kind: "unknown", cause: { code: "unreachable" } });
    expect(performance.now() - began).toBeLessThan(5_000);
    // While there is no connection nothing is sent, and that is said at once.
    await eventually(() => !store.connection.connected);
    expect(await store.journal.append("life1", first, bytesOf("two"))).toMatchObject({ kind: "unknown" });
    proxy.heal("reset");
    await eventually(() => store.connection.connected);
    const again = await store.journal.append("life1", first, bytesOf("two"));
    expect(["committed", "conflict"]).toContain(again.kind);
    expect((await readAll(beside.journal, "life1")).map(([, text]) => text)).toEqual(["one", "two"]);
  });

  it("is resolved by the lane: committed, with the sequence that it has", async () => {
    const { store, beside, proxy } = await behindProxy();
    const lane = new Lane("life1", store.journal, realWorld.clock, untroubled);
    const encode = (text: string): Uint8Array => lane.encode(1, [bytesOf(text)], [0], text.length);
    expect(await lane.append(encode("one"))).toMatchObject({ kind: "committed" });
    proxy.cut(["down"]);
    const appending = lane.append(encode("two"));
    // The server has it; the process does not know.
    const last = lane.last;
    await eventuallyAsync(async () => (await beside.journal.last("life1")) > last);
    proxy.heal();
    const result = await appending;
    expect(result).toEqual({ kind: "committed", seq: await beside.journal.last("life1") });
    expect(await lane.append(encode("three"))).toMatchObject({ kind: "committed" });
    expect(await readAll(beside.journal, "life1")).toHaveLength(3);
  });

  it("is committed even if a seal lies behind it; the next one is fenced", async () => {
    const { store, beside, proxy } = await behindProxy();
    const lane = new Lane("life1", store.journal, realWorld.clock, untroubled);
    const encode = (text: string): Uint8Array => lane.encode(1, [bytesOf(text)], [0], text.length);
    await lane.append(encode("one"));
    proxy.cut(["down"]);
    const last = lane.last;
    const appending = lane.append(encode("two"));
    await eventuallyAsync(async () => (await beside.journal.last("life1")) > last);
    const two = await beside.journal.last("life1");
    const seal = await sealLane(beside.journal, "life1", "life2", realWorld.clock, untroubled);
    expect(seal).toBeGreaterThan(two);
    proxy.heal();
    expect(await appending).toEqual({ kind: "committed", seq: two });
    expect(await lane.append(encode("three"))).toEqual({ kind: "fenced" });
    expect(await sealLane(beside.journal, "life1", "life3", realWorld.clock, untroubled)).toBe(seal);
  });

  it("a node goes on over it: every ask is applied once, none is lost", async () => {
    const { store, proxy } = await behindProxy();
    const probe = probeOf();
    const node = await startNode({ actors: [probe], store, shards: 4 });
    const ref = node.client.actor(probe, "k");
    expect(await ref.ask({ type: "add", by: 1 })).toBe(1);
    for (let round = 0; round < 3; round++) {
      proxy.cut(["down"]);
      const asks = Array.from({ length: 20 }, () => ref.ask({ type: "add", by: 1 }));
      await new Promise((resolve) => setImmediate(resolve));
      proxy.heal(round === 1 ? "reset" : "late");
      const answers = await Promise.all(asks);
      const begin = 1 + round * 20;
      expect(answers).toEqual(Array.from({ length: 20 }, (_, n) => begin + n + 1));
    }
    expect((await ref.get()).context.count).toBe(61);
    await node.stop({ closeStore: false });
  });
});

describe("A write of snapshots whose answer is lost", () => {
  it("throws an unknown; what is so is found by reading, and the write is either whole or not there", async () => {
    const { store, beside, proxy } = await behindProxy();
    const revision = await writeSure(store, snapshot("t.a", "old", 0));
    proxy.cut(["down"]);
    const writes = [
      snapshot("t.a", "new", revision),
      snapshot("t.b", "new", 0, { due: 5 }),
      snapshot("t.c", "new", 0),
    ];
    await expect(store.snapshots.write(writes)).rejects.toMatchObject({
      code: "unreachable",
      outcome: "unknown",
    });
    proxy.heal();
    const found = await beside.snapshots.read(["t.a", "t.b", "t.c"]);
    const texts = found.map((entry) => textOf(entry?.value));
    expect([
      ["new", "new", "new"],
      ["old", undefined, undefined],
    ]).toContainEqual(texts);
    // Repeated as it was: conflicts, which is what whoever reads then finds explained.
    const again = await store.snapshots.write(writes);
    if (texts[0] === "new") expect(again).toEqual([undefined, undefined, undefined]);
    else expect(again.every((one) => one !== undefined)).toBe(true);
    expect(await beside.snapshots.due(1, 100, 10)).toEqual([{ id: "t.b", due: 5 }]);
  });

  it("a batch that lost its middle is stored not at all, and written again by itself", async () => {
    const { store } = await behindProxy();
    const prefix = `$KV.${store.app}_snapshots.`;
    // What a connection leaves that breaks within a batch: its beginning.
    const { headers } = await import("@nats-io/transport-node");
    for (let n = 0; n < 60; n++) {
      const set = headers();
      set.set("Nats-Batch-Id", `open${n}`);
      set.set("Nats-Batch-Sequence", "1");
      raw.publish(`${prefix}t.left${n}`, "x", { headers: set });
    }
    await raw.flush();
    // Sixty are open, more than the server keeps for one stream: whoever comes now waits for them to end.
    const writing = store.snapshots.write([snapshot("t.a", "x", 0, { due: 1 }), snapshot("t.b", "y", 0)]);
    const answer = await writing.catch((error: unknown) => error);
    // Refused by name, or left without an answer: which of the two depends on how many messages are under way.
    if (answer instanceof Error)
      expect(answer).toMatchObject({
        code: expect.stringMatching(/^(?:store_failed|unreachable)$/),
        retryable: true,
      });
    else expect((answer as unknown[]).every((one) => one !== undefined)).toBe(true);
    expect((await store.snapshots.read(["t.left0", "t.left59"])).every((entry) => entry === undefined)).toBe(
      true,
    );
  });
});

describe("What the server's refusals mean", () => {
  // As servers of 2.12 to 2.15 answer them.
  const answers = {
    last: { code: 400, err_code: 10_071, description: "wrong last sequence: 12" },
    inFlight: { code: 400, err_code: 10_164, description: "wrong last sequence" },
    account: { code: 400, err_code: 10_002, description: "resource limits exceeded for account" },
    resources: { code: 503, err_code: 10_023, description: "insufficient resources" },
    storage: { code: 500, err_code: 10_047, description: "insufficient storage resources available" },
    bytes: { code: 503, err_code: 10_077, description: "maximum bytes exceeded" },
    messages: { code: 503, err_code: 10_077, description: "maximum messages exceeded" },
    broken: { code: 503, err_code: 10_077, description: "open x.blk: input/output error" },
    missing: { code: 404, err_code: 10_059, description: "stream not found" },
    off: { code: 503, err_code: 10_076, description: "JetStream not enabled" },
    offHere: { code: 503, err_code: 10_039, description: "JetStream not enabled for account" },
    incomplete: { code: 400, err_code: 10_176, description: "atomic publish batch is incomplete" },
    tooMany: { code: 429, err_code: 10_210, description: "atomic publish too many inflight" },
    leader: { code: 503, err_code: 10_008, description: "JetStream system temporarily unavailable" },
  };
  const meanings: readonly (readonly [
    string,
    (error: (typeof answers)["last"]) => boolean,
    readonly string[],
  ])[] = [
    ["a conflict", isConflict, ["last", "inFlight"]],
    ["in flight", isInFlight, ["inFlight"]],
    ["no room", isFull, ["account", "resources", "storage", "bytes", "messages"]],
    ["no stream", isStreamMissing, ["missing", "off", "offHere"]],
    ["a batch that was dropped", isBatchDropped, ["incomplete", "tooMany"]],
  ];
  for (const [what, is, names] of meanings) {
    it(`${what}: ${names.join(", ")}, and no other`, () => {
      expect(
        Object.entries(answers)
          .filter(([, error]) => is(error))
          .map(([name]) => name),
      ).toEqual(names);
    });
  }
});

async function eventuallyAsync(holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 5_000;
  while (!(await holds())) if (performance.now() > end) throw new Error("It has not come about");
}
