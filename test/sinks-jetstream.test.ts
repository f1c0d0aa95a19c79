/** Sinks to JetStream on a real server: each emitted event is in the stream exactly once, in order, whatever is killed. */
import { type JetStreamManager, jetstream, jetstreamManager, type StoredMsg } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type KeyturnNode, KeyturnError, memory, nats, startNode } from "../runtime/index.ts";
import {
  defineSink,
  type PublishArgs,
  type Sink,
  type SinkBatch,
  type SinkTarget,
  toJetStream,
} from "../runtime/streams/index.ts";
import { emitter } from "./support/emitter.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";
import { lost, until } from "./support/sinks.ts";

let server: NatsServer;
let plain: NatsConnection;
let manager: JetStreamManager;
const cleanups: (() => unknown)[] = [];

beforeAll(async () => {
  server = await startServer();
  plain = await connect({ servers: server.url, reconnectTimeWait: 50, maxReconnectAttempts: -1 });
  manager = await jetstreamManager(plain);
}, 60_000);

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

afterAll(async () => {
  await plain.close();
  await server.stop();
});

let streams = 0;

async function stream(config: object = {}): Promise<string> {
  const name = `S${++streams}`;
  await manager.streams.add({ name, subjects: [`${name}.>`], ...config });
  return name;
}

async function contents(name: string): Promise<StoredMsg[]> {
  const { state } = await manager.streams.info(name);
  const all: StoredMsg[] = [];
  for (let seq = state.first_seq; seq > 0 && seq <= state.last_seq; seq++) {
    const found = await manager.streams.getMessage(name, { seq });
    if (found !== null) all.push(found);
  }
  return all;
}

function nOf(message: StoredMsg): number {
  return message.json<{ n: number }>().n;
}

function fromOf(message: StoredMsg): string {
  return message.header.get("Keyturn-From");
}

async function node(
  sink: Sink,
  options: Partial<Parameters<typeof startNode>[0]> = {},
): Promise<KeyturnNode> {
  const started = await startNode({
    actors: [emitter, ...sink.actors],
    store: memory(),
    name: "n1",
    shards: 4,
    ...options,
  });
  cleanups.push(async () => {
    await sink.close();
    started.kill();
  });
  return started;
}

async function emitted(at: KeyturnNode, from: number, to: number, keys = ["a", "b", "c"]): Promise<void> {
  for (let n = from; n <= to; n++)
    await Promise.all(
      keys.map((key) => at.client.actor(emitter, key).ask({ type: "emit", event: { type: "other", n } })),
    );
}

function expectOnce(messages: readonly StoredMsg[], upTo: number, keys = ["a", "b", "c"]): void {
  for (const key of keys)
    expect(messages.filter((one) => fromOf(one) === `emitter/${key}`).map(nOf)).toEqual(
      Array.from({ length: upTo }, (_, at) => at + 1),
    );
  expect(messages).toHaveLength(upTo * keys.length);
}

const retry = { first: 20, last: 100 };

describe("a sink to JetStream", () => {
  it.each([
    ["message by message", {}, false],
    ["message by message, below its subject", {}, true],
    ["in atomic batches", { allow_atomic: true }, false],
    ["in atomic batches, below its subject", { allow_atomic: true }, true],
  ])("publishes %s: payload, subject, ids", async (_name, config, deep) => {
    const name = await stream(config);
    const out = defineSink("out", {
      over: emitter,
      to: toJetStream({
        nats: { servers: server.url },
        stream: name,
        subject: `${name}.events`,
        ...(deep ? { suffix: (item) => `of.${item.event.n}` } : {}),
        headers: () => ({ Kind: "test" }),
      }),
      partitions: 2,
    });
    const running = await node(out);
    await running.client
      .actor(emitter, "a")
      .ask({ type: "burst", events: [1, 2, 3, 4].map((n) => ({ type: "other", n })) });
    await emitted(running, 5, 6, ["a"]);
    await until(out, running, ({ published }) => published === 6);
    const messages = await contents(name);
    expectOnce(messages, 6, ["a"]);
    const [first] = messages;
    const partition = first?.subject.split(".")[2];
    expect(first?.json()).toEqual({ type: "other", n: 1 });
    expect(first?.subject).toBe(deep ? `${name}.events.${partition}.of.1` : `${name}.events.${partition}`);
    expect(first?.header.get("Kind")).toBe("test");
    expect(messages.map(({ header }) => header.get("Keyturn-Item"))).toEqual(
      messages.map((_, at) => expect.stringMatching(new RegExp(`^out\\.[0-9a-z]+\\.${at + 1}$`))),
    );
  });

  it.each([
    ["message by message", {}],
    ["in atomic batches", { allow_atomic: true }],
  ])(
    "is in the stream once, %s, if nodes are killed between publishing and confirming, also half way, without ids",
    async (_name, config) => {
      const name = await stream(config);
      const real = toJetStream({
        nats: { servers: server.url },
        stream: name,
        subject: `${name}.x`,
        msgId: false,
      });
      const late: (() => Promise<unknown>)[] = [];
      let cut: ((batch: SinkBatch, args: PublishArgs) => Promise<void>) | undefined;
      const target: SinkTarget = {
        description: real.description,
        close: async () => real.close?.(),
        publish: async (batch, args) => {
          if (cut === undefined) return real.publish(batch, args);
          await cut(batch, args);
          return new Promise(() => undefined);
        },
      };
      const out = defineSink("out", { over: emitter, to: target, partitions: 2, batch: 4, retry });
      const store = memory();
      let upTo = 0;
      // In each life a part of the first batch gets out, all of it, or none, and nobody is told.
      for (const part of [1, 4, 0, 2]) {
        const running = await startNode({ actors: [emitter, ...out.actors], store, name: "n1", shards: 4 });
        const hit = new Promise<void>((resolve) => {
          cut = async (batch, args) => {
            const { signal: _, ...rest } = args;
            const free = { ...rest, signal: new AbortController().signal };
            // Long after the node was lost, it wakes up and publishes what it had.
            late.push(() => real.publish(batch, free));
            if (part > 0) await real.publish({ ...batch, items: batch.items.slice(0, part) }, free);
            resolve();
          };
        });
        await emitted(running, upTo + 1, upTo + 5);
        upTo += 5;
        await hit;
        await lost(running);
      }
      cut = undefined;
      const running = await node(out, { store });
      await until(out, running, ({ published }) => published === upTo * 3);
      expectOnce(await contents(name), upTo);
      for (const wake of late) await wake();
      expectOnce(await contents(name), upTo);
      await emitted(running, upTo + 1, upTo + 2);
      await until(out, running, ({ published }) => published === (upTo + 2) * 3);
      expectOnce(await contents(name), upTo + 2);
    },
  );

  it("two runs of one batch at the same time publish it once", async () => {
    const name = await stream();
    const items = Array.from({ length: 30 }, (_, at) => ({
      number: at + 1,
      id: `out.0.e.${at + 1}`,
      from: "emitter/a",
      at: 0,
      event: { type: "other", n: at + 1 },
    }));
    const target = toJetStream({ nats: plain, stream: name, subject: `${name}.x`, msgId: false });
    const args = { idempotencyKey: "k", attempt: 1, signal: new AbortController().signal };
    const batch: SinkBatch = { sink: "out", partition: 0, epoch: "e", items, mark: undefined };
    const marks = await Promise.allSettled([1, 2, 3].map(() => target.publish(batch, args)));
    // Who loses too often tries again, as a sink does.
    if (marks.some(({ status }) => status === "rejected")) await target.publish(batch, args);
    expectOnce(await contents(name), 30, ["a"]);
    // A former life's messages are no reason to leave out the ones of a new life.
    await target.publish({ ...batch, epoch: "f", items: items.slice(0, 2) }, args);
    expect((await contents(name)).map(nOf)).toEqual([...items.map(({ number }) => number), 1, 2]);
  });

  it("goes on when the server was killed and is there again, two nodes on the same server and one of them lost", async () => {
    const name = await stream();
    const out = defineSink("out", {
      over: emitter,
      to: toJetStream({ nats: { servers: server.url, timeout_ms: 500 }, stream: name, subject: `${name}.x` }),
      partitions: 4,
      retry,
    });
    const app = `app${streams}`;
    const start = (own: string) =>
      node(out, {
        store: nats({ servers: server.url, app, timeout_ms: 500 }),
        name: own,
        shards: 4,
        settings: { lease_ms: 3_000, heartbeat_ms: 700 },
      });
    const one = await start("one");
    const two = await start("two");
    await emitted(two, 1, 4);
    await server.kill();
    await server.restart();
    const again = async (n: number, key: string): Promise<void> => {
      const options = { requestId: `${key}${n}` };
      for (;;) {
        const done = await two.client
          .actor(emitter, key)
          .ask({ type: "emit", event: { type: "other", n } }, options)
          .then(
            () => true,
            (error: KeyturnError) => {
              if (!error.retryable) throw error;
              return false;
            },
          );
        if (done) return;
      }
    };
    for (let n = 5; n <= 6; n++) await Promise.all(["a", "b", "c"].map((key) => again(n, key)));
    await lost(one);
    for (let n = 7; n <= 8; n++) await Promise.all(["a", "b", "c"].map((key) => again(n, key)));
    await until(out, two, ({ published }) => published === 24);
    expectOnce(await contents(name), 8);
    await two.store.close();
    await one.store.close();
  }, 40_000);

  it("says what is wrong, and goes on when it is mended: no stream, somebody else's messages", async () => {
    const name = `LATE${++streams}`;
    const out = defineSink("out", {
      over: emitter,
      to: toJetStream({ nats: { servers: server.url }, stream: name, subject: `${name}.x` }),
      partitions: 1,
      retry,
    });
    const running = await node(out);
    await emitted(running, 1, 1, ["a"]);
    expect((await until(out, running, ({ failing }) => failing === 1)).error).toMatch(
      /The stream LATE\d+ cannot be published to/,
    );
    await manager.streams.add({ name, subjects: [`${name}.>`] });
    await until(out, running, ({ published }) => published === 1);
    await jetstream(plain).publish(`${name}.x.0`, "mine");
    await emitted(running, 2, 2, ["a"]);
    const { error } = await until(out, running, ({ failing }) => failing === 1);
    expect(error).toMatch(/Message 2 on LATE\d+\.x\.0 is not of this sink\. Nobody else may publish to/);
    await manager.streams.deleteMessage(name, 2);
    await until(out, running, ({ published }) => published === 2);
    // All of it is gone: the numbers go on.
    await manager.streams.purge(name);
    await emitted(running, 3, 3, ["a"]);
    await until(out, running, ({ published }) => published === 3);
    expect((await contents(name)).map(nOf)).toEqual([3]);
  });

  it.each([
    ["message by message", {}],
    ["in atomic batches", { allow_atomic: true }],
  ])(
    "makes dead letters of what the stream never takes, %s, and publishes the rest",
    async (_name, config) => {
      const name = await stream({ max_msg_size: 4_096, ...config });
      const out = defineSink("out", {
        over: emitter,
        to: toJetStream({
          nats: { servers: server.url },
          stream: name,
          subject: `${name}.x`,
          encode: ({ event }) => {
            if (event.n === 2) throw new Error("no code for it");
            return JSON.stringify(event);
          },
        }),
        partitions: 1,
        retry,
      });
      const running = await node(out);
      const events = [1, 2, 3, 4].map((n) => ({
        type: "other",
        n,
        ...(n === 3 ? { text: "x".repeat(5_000) } : {}),
      }));
      await running.client.actor(emitter, "a").ask({ type: "burst", events });
      await until(out, running, ({ published, refused }) => published + refused === 4);
      expect((await contents(name)).map(nOf)).toEqual([1, 4]);
      expect(await out.status(running.client)).toMatchObject({ published: 2, refused: 2, waiting: 0 });
    },
  );

  it("waits for a server that is not there yet, and says so", async () => {
    const name = await stream();
    const late = await startServer();
    await late.kill();
    const out = defineSink("out", {
      over: emitter,
      to: toJetStream({ nats: { servers: late.url, timeout_ms: 500 }, stream: name, subject: `${name}.x` }),
      partitions: 1,
      retry,
    });
    cleanups.push(() => late.stop());
    const running = await node(out);
    await emitted(running, 1, 3, ["a"]);
    expect((await until(out, running, ({ failing }) => failing === 1)).error).toMatch(/127\.0\.0\.1/);
    await late.restart();
    const other = await connect({ servers: late.url });
    await (await jetstreamManager(other)).streams.add({ name, subjects: [`${name}.>`] });
    await until(out, running, ({ published }) => published === 3);
    expect((await (await jetstreamManager(other)).streams.info(name)).state.messages).toBe(3);
    await other.close();
  });

  it("is refused where it is declared if it makes no sense", () => {
    const fine = { nats: { servers: "127.0.0.1:4222" }, stream: "S", subject: "s" };
    for (const wrong of [
      { subject: "a.*" },
      { subject: "" },
      { stream: "" },
      { nats: undefined },
      { nats: { servers: [] } },
      { encode: 7 },
    ])
      expect(() => toJetStream({ ...fine, ...wrong } as never)).toThrow(KeyturnError);
  });
});
