/** Sinks: what is emitted is published in order, with ids, however the target behaves; files, HTTP, and back-pressure. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { emit, setup } from "xstate";
import { afterEach, describe, expect, it } from "vitest";
import {
  defineActor,
  isKeyturnError,
  type KeyturnNode,
  KeyturnError,
  memory,
  startNode,
} from "../runtime/index.ts";
import {
  count,
  defineSink,
  defineView,
  type Sink,
  type SinkItem,
  SinkRefusal,
  type SinkTarget,
  toFile,
  toFunction,
  toHttp,
  tumbling,
} from "../runtime/streams/index.ts";
import { testRuntime } from "../runtime/testing/index.ts";
import { emitter, sold } from "./support/emitter.ts";
import { lost, until } from "./support/sinks.ts";

/** A target that keeps what it was given, and fails when told to. */
class Kept {
  readonly items: SinkItem[] = [];
  readonly keys: string[] = [];
  /** The items that came under each key; more than one set would be a fault. */
  readonly batches = new Map<string, Set<string>>();
  readonly attempts: number[] = [];
  fails: (() => unknown) | undefined;
  readonly target: SinkTarget = toFunction(async (items, { idempotencyKey, attempt }) => {
    this.keys.push(idempotencyKey);
    const ids = items.map(({ id }) => id).join();
    this.batches.set(idempotencyKey, (this.batches.get(idempotencyKey) ?? new Set()).add(ids));
    this.attempts.push(attempt);
    const failure = this.fails?.();
    if (failure !== undefined) throw failure;
    this.items.push(...items);
  });

  /** The n's of what one actor emitted, as published. */
  of(from: string): unknown[] {
    return this.items.filter((item) => item.from === from).map(({ event }) => event.n);
  }

  get unique(): number {
    return new Set(this.items.map(({ id }) => id)).size;
  }
}

const numbered = (n: number) => ({ type: "other", n });

describe("a sink, in virtual time", () => {
  it("publishes everything at least once, in the order of each actor, under one id, over crashes at any moment", async () => {
    for (let seed = 1; seed <= 3; seed++) {
      const kept = new Kept();
      let calls = 0;
      kept.fails = () => (++calls % 3 === 0 ? new Error("down") : undefined);
      const out = defineSink("out", {
        over: emitter,
        to: kept.target,
        partitions: 2,
        batch: 3,
        retry: { first: 100 },
      });
      const t = await testRuntime({ actors: [emitter, ...out.actors], nodes: 2, seed });
      if (seed % 2 === 0) t.deliveredTwice();
      for (let round = 1; round <= 6; round++) {
        const asked = ["a", "b", "c"].map((key) =>
          t.client
            .actor(emitter, key)
            .ask({ type: "emit", event: numbered(round) }, { requestId: `${key}${round}` }),
        );
        for (const one of asked) one.catch(() => undefined);
        await t.pass(seed * 6 + round * 11);
        await (round % 2 === 0 ? t.crash() : t.failover());
        await Promise.all(asked);
      }
      await t.advance("1 hour");
      const status = await out.status(t.client);
      expect(status).toMatchObject({
        waiting: 0,
        published: 18,
        refused: 0,
        failing: 0,
        oldest_at: undefined,
      });
      for (const key of ["a", "b", "c"]) {
        // Repetitions come with the batch that they are of; without them it is the order in which it was emitted.
        const first = [...new Map(kept.items.map((item) => [item.id, item])).values()];
        expect(first.filter(({ from }) => from === `emitter/${key}`).map(({ event }) => event.n)).toEqual([
          1, 2, 3, 4, 5, 6,
        ]);
      }
      expect(kept.unique).toBe(18);
      // A key is of one batch, always.
      expect([...kept.batches.values()].every((batches) => batches.size === 1)).toBe(true);
      expect(await t.deadLetters()).toEqual([]);
      await t.stop();
    }
  });

  it("tries again with growing pauses, the same batch under the same key, and shows how it is", async () => {
    const kept = new Kept();
    kept.fails = () => new Error("it is down");
    const out = defineSink("out", {
      over: emitter,
      to: kept.target,
      partitions: 1,
      retry: { first: "1 s", factor: 3, last: "5 s" },
    });
    const t = await testRuntime({ actors: [emitter, ...out.actors] });
    const at = t.now();
    await t.client.actor(emitter, "a").ask({ type: "emit", event: numbered(1) });
    await t.settle();
    await t.client.actor(emitter, "a").ask({ type: "emit", event: numbered(2) });
    await t.settle();
    expect(await out.status(t.client)).toEqual({
      target: "a function",
      waiting: 2,
      oldest_at: at,
      published: 0,
      refused: 0,
      failing: 1,
      full: 0,
      error: "it is down",
      partitions: [
        {
          partition: 0,
          state: "waiting",
          waiting: 2,
          oldest_at: at,
          published: 0,
          refused: 0,
          failures: 1,
          error: "it is down",
        },
      ],
    });
    for (const [pause, attempts] of [
      [999, 1],
      [1, 2],
      [2_999, 2],
      [1, 3],
      [5_000, 4],
      [5_000, 5],
    ] as const) {
      await t.advance(pause);
      expect(kept.keys.length).toBe(attempts);
    }
    await t.crash();
    kept.fails = undefined;
    await out.retryNow(t.client);
    await t.settle();
    expect(kept.of("emitter/a")).toEqual([1, 2]);
    expect(kept.attempts.slice(0, 6)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(new Set(kept.keys.slice(0, 6)).size).toBe(1);
    expect(kept.keys[6]).not.toBe(kept.keys[0]);
    expect(await out.status(t.client)).toMatchObject({
      waiting: 0,
      published: 2,
      failing: 0,
      error: undefined,
    });
    await t.stop();
  });

  it("makes dead letters of what is given up or refused, one an event, and goes on", async () => {
    const kept = new Kept();
    const out = defineSink("out", {
      over: emitter,
      to: kept.target,
      partitions: 1,
      batch: 2,
      retry: { attempts: 3, first: 10 },
    });
    const t = await testRuntime({ actors: [emitter, ...out.actors] });
    kept.fails = () => new Error("down");
    await t.client.actor(emitter, "a").ask({ type: "burst", events: [1, 2, 3].map(numbered) });
    await t.advance("30 ms");
    kept.fails = () => new SinkRefusal("never");
    await t.advance("10 ms");
    kept.fails = undefined;
    await t.client.actor(emitter, "a").ask({ type: "emit", event: numbered(4) });
    await t.advance("1 s");
    expect(kept.of("emitter/a")).toEqual([4]);
    const letters = await t.deadLetters();
    expect(letters.map(({ code, event }) => [code, (event as { event: { n: number } }).event.n])).toEqual(
      [1, 2, 3].map((n) => ["sink_refused", n]),
    );
    expect(letters[0]?.reason).toMatch(/The sink "out" gave up out\.0\..*\.1, which emitter\/a emitted: /);
    expect(await out.status(t.client)).toMatchObject({ waiting: 0, published: 1, refused: 3 });
    // One that is as large as may be told is given up too, without itself in the letter.
    kept.fails = () => new SinkRefusal("too large");
    const large = { ...numbered(5), text: "x".repeat(261_000) };
    await t.client.actor(emitter, "a").ask({ type: "emit", event: large });
    await t.advance("1 s");
    kept.fails = undefined;
    expect((await t.deadLetters()).at(-1)?.event).toMatchObject({ why: "too large", event: undefined });
    await t.client.actor(emitter, "a").ask({ type: "emit", event: numbered(6) });
    await t.settle();
    expect(kept.of("emitter/a")).toEqual([4, 6]);
    await t.stop();
  });

  it("publishes what is mapped and not left out; what its functions throw on is a dead letter, the turn stands", async () => {
    const kept = new Kept();
    const out = defineSink("out", {
      over: emitter,
      on: "sold",
      where: (event) => event.cents > 1,
      map: (event) => {
        if (event.cents === 13) throw new Error("thirteen");
        return event.cents === 12 ? (undefined as never) : { type: "sale", n: event.cents };
      },
      to: kept.target,
    });
    const t = await testRuntime({ actors: [emitter, ...out.actors] });
    for (const cents of [1, 2, 13, 12, 3])
      await t.client.actor(emitter, "a").ask({ type: "emit", event: sold("s", 0, cents) });
    await t.client.actor(emitter, "a").ask({ type: "emit", event: numbered(9) });
    await t.settle();
    expect(kept.items.map(({ event, from }) => [event.type, event.n, from])).toEqual([
      ["sale", 2, "emitter/a"],
      ["sale", 3, "emitter/a"],
    ]);
    expect(
      (await t.deadLetters()).map(({ key, reason }) => [key, /thirteen|"type"/.exec(reason)?.[0]]),
    ).toEqual([
      ["~dead", "thirteen"],
      ["~dead", '"type"'],
    ]);
    expect((await t.client.actor(emitter, "a").get()).context.n).toBe(6);
    await t.stop();
  });

  it("publishes the closed windows of a view", async () => {
    const kept = new Kept();
    const hourly = defineView("hourly", {
      over: emitter,
      on: "sold",
      key: (e) => e.shop,
      aggregate: { n: count() },
      window: tumbling("1 h", { time: "at" }),
    });
    const out = defineSink("out", { over: hourly, on: "window.closed", to: kept.target });
    const t = await testRuntime({ actors: [emitter, ...hourly.actors, ...out.actors] });
    const at = t.now();
    for (const hour of [0, 0, 1, 2])
      await t.client.actor(emitter, "a").ask({ type: "emit", event: sold("s", at + hour * 3_600_000) });
    await t.settle();
    expect(kept.items.map(({ event, from }) => [from, (event.start - at) / 3_600_000, event.values])).toEqual(
      [
        ["hourly/s", 0, { n: 2 }],
        ["hourly/s", 1, { n: 1 }],
      ],
    );
    await t.stop();
  });
});

describe("what a sink refuses where it is declared", () => {
  it.each([
    ["no target", { to: undefined as never }],
    ["no partitions", { partitions: 0 }],
    ["a buffer without room", { buffer: { events: 0 } }],
    ["more bytes than an actor holds", { buffer: { bytes: 400 * 1024 } }],
    ["half an attempt", { retry: { attempts: 0.5 } }],
    ["pauses that shrink", { retry: { factor: 0.5 } }],
    ["several partitions for one file", { to: toFile({ path: "x.ndjson" }) }],
  ])("is %s", (_name, options) => {
    expect(() => defineSink("out", { over: emitter, to: toFunction(() => undefined), ...options })).toThrow(
      KeyturnError,
    );
  });

  it("is the windows of a split view, and targets that make no sense", () => {
    const split = defineView("split", { over: emitter, aggregate: { n: count() }, split: 2 });
    expect(() => defineSink("out", { over: split, to: toFunction(() => undefined) })).toThrow(
      /which is split/,
    );
    for (const make of [
      () => toHttp({ url: "ftp://x" }),
      () => toHttp({ url: "http://user:pass@x" }),
      () => toFile({ path: "" }),
      () => toFunction(7 as never),
    ])
      expect(make).toThrow(KeyturnError);
  });
});

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function started(sink: Sink, store = memory(), name = "n1"): Promise<KeyturnNode> {
  const node = await startNode({ actors: [emitter, ...sink.actors], store, name, shards: 4 });
  cleanups.push(() => node.stop({ closeStore: false }));
  return node;
}

describe("a sink that is down", () => {
  it("loses nothing and holds up nothing but itself: its events wait, then turns that emit to it are refused by name", async () => {
    const kept = new Kept();
    const other = new Kept();
    kept.fails = () => new Error("down");
    const big = { type: "big", text: "x".repeat(200_000) };
    // Emits when its time has come, whether there is room or not.
    const alarm = defineActor({
      type: "alarm",
      machine: setup({}).createMachine({
        initial: "idle",
        states: {
          idle: { on: { set: "set" } },
          set: { after: { 5: "rung" } },
          rung: { entry: emit({ ...big, n: "alarm" } as never) },
        },
      }),
    });
    const broken = defineSink("broken", {
      over: [emitter, alarm],
      on: ["big", "small"],
      to: kept.target,
      partitions: 1,
      batch: 5,
      buffer: { events: 5 },
      retry: { first: "1 hour", last: "1 hour" },
    });
    const fine = defineSink("fine", { over: emitter, on: "other", to: other.target, partitions: 1 });
    const node = await startNode({
      actors: [emitter, alarm, ...broken.actors, ...fine.actors],
      store: memory(),
      shards: 1,
    });
    cleanups.push(() => node.stop());
    const till = node.client.actor(emitter, "a");
    let taken = 0;
    let refusal: unknown;
    // 8 MiB for all sinks of a shard.
    while (refusal === undefined && taken < 100) {
      await till.ask({ type: "emit", event: big }).then(
        () => taken++,
        (error: unknown) => {
          refusal = error;
        },
      );
    }
    expect(taken).toBeGreaterThan(35);
    expect(taken).toBeLessThan(60);
    expect(isKeyturnError(refusal, "sink_full")).toBe(true);
    expect(String(refusal)).toContain('The sink "broken" does not take');
    expect(refusal).toMatchObject({ retryable: true, outcome: "notApplied" });
    await node.client.actor(alarm, "a").send({ type: "set" });
    // What emits nothing to it goes on, and so do other sinks in the same shards.
    for (let n = 1; n <= 20; n++) await till.ask({ type: "emit", event: numbered(n) });
    await until(fine, node, ({ published }) => published === 20);
    expect(other.of("emitter/a")).toHaveLength(20);
    expect(await broken.status(node.client)).toMatchObject({ failing: 1, published: 0, error: "down" });
    expect((await broken.status(node.client)).waiting).toBeGreaterThan(0);
    // It comes back: everything arrives, in order, and turns are taken again.
    kept.fails = undefined;
    await broken.retryNow(node.client);
    await until(broken, node, ({ published }) => published === taken + 1);
    await till.ask({ type: "emit", event: { type: "small", n: "last" } });
    await until(broken, node, ({ published }) => published === taken + 2);
    expect(kept.of("emitter/a")).toHaveLength(taken + 1);
    expect(kept.of("alarm/a")).toEqual(["alarm"]);
    expect(kept.of("emitter/a").at(-1)).toBe("last");
    expect(await node.deadLetters()).toEqual([]);
  });

  it("contract 6: and comes back publishes what waited in the order of each actor", async () => {
    const kept = new Kept();
    kept.fails = () => new Error("down");
    const retry = { first: "1 hour", last: "1 hour" } as const;
    const out = defineSink("out", { over: emitter, to: kept.target, partitions: 1, retry });
    const node = await started(out);
    const keys = Array.from({ length: 200 }, (_, n) => `k${n}`);
    const rounds = 20;
    for (let n = 1; n <= rounds; n++)
      await Promise.all(
        keys.map((key) => node.client.actor(emitter, key).ask({ type: "emit", event: numbered(n) })),
      );
    await until(out, node, ({ full }) => full === 1);
    kept.fails = undefined;
    await out.retryNow(node.client);
    await until(out, node, ({ published }) => published === keys.length * rounds);
    for (const key of keys)
      expect(kept.of(`emitter/${key}`)).toEqual(Array.from({ length: rounds }, (_, at) => at + 1));
  });

  it("keeps what waits over a crash of the node, in the actors and in the channels", async () => {
    const kept = new Kept();
    kept.fails = () => new Error("down");
    const out = defineSink("out", {
      over: emitter,
      to: kept.target,
      partitions: 2,
      batch: 3,
      buffer: { events: 4 },
      retry: { first: "1 hour", last: "1 hour" },
    });
    const store = memory();
    const first = await startNode({ actors: [emitter, ...out.actors], store, name: "n1", shards: 4 });
    for (let n = 1; n <= 40; n++) {
      // Half of it comes from the shards' entries, the other half from the tail.
      if (n === 20) await first.checkpoint();
      await Promise.all(
        ["a", "b", "c"].map((key) =>
          first.client.actor(emitter, key).ask({ type: "emit", event: numbered(n) }),
        ),
      );
    }
    await until(out, first, ({ full }) => full === 2);
    await lost(first);
    kept.fails = undefined;
    const node = await started(out, store);
    await out.retryNow(node.client);
    await until(out, node, ({ published }) => published === 120);
    for (const key of ["a", "b", "c"])
      expect(kept.of(`emitter/${key}`)).toEqual(Array.from({ length: 40 }, (_, at) => at + 1));
  });
});

interface Received {
  readonly key: string;
  readonly type: string;
  readonly lines: { id: string; from: string; event: { n: number } }[];
}

async function httpServer(
  answer: (request: Received, response: ServerResponse) => void,
  port = 0,
): Promise<{ server: Server; url: string; port: number }> {
  const server = createServer((request: IncomingMessage, response) => {
    let body = "";
    request.setEncoding("utf8");
    request.on("data", (part: string) => {
      body += part;
    });
    request.on("end", () => {
      const type = String(request.headers["content-type"]);
      const lines = type.includes("ndjson")
        ? body
            .trimEnd()
            .split("\n")
            .map((line) => JSON.parse(line))
        : JSON.parse(body);
      answer({ key: String(request.headers["idempotency-key"]), type, lines }, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const taken = (server.address() as AddressInfo).port;
  return { server, url: `http://127.0.0.1:${taken}/in?secret=1`, port: taken };
}

function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => {
    server.close(() => resolve());
  });
}

describe("a sink to HTTP", () => {
  it("posts batches with a key that stays the same, through a server that is down, slow to take it, and comes back", async () => {
    const seen: Received[] = [];
    let mode: "take" | "hang up" | "503" = "take";
    const answer = (request: Received, response: ServerResponse): void => {
      seen.push(request);
      if (mode === "hang up") response.destroy();
      else response.writeHead(mode === "503" ? 503 : 204, { "retry-after": "0" }).end();
    };
    let { server, url, port } = await httpServer(answer);
    cleanups.push(() => closed(server));
    const out = defineSink("out", {
      over: emitter,
      to: toHttp({ url, headers: () => ({ authorization: "Bearer x" }) }),
      partitions: 1,
      retry: { first: 5, last: 20 },
    });
    const node = await started(out);
    const till = node.client.actor(emitter, "a");
    await till.ask({ type: "burst", events: [1, 2, 3].map(numbered) });
    await until(out, node, ({ published }) => published === 3);
    expect(seen[0]?.type).toBe("application/x-ndjson");
    expect((await out.status(node.client)).target).toBe(`POST http://127.0.0.1:${port}/in`);
    for (const wrong of ["hang up", "503"] as const) {
      mode = wrong;
      const before = seen.length;
      await till.ask({ type: "emit", event: numbered(4) });
      await until(out, node, ({ partitions }) => (partitions[0]?.failures ?? 0) >= 2);
      mode = "take";
      await until(out, node, ({ waiting }) => waiting === 0);
      expect(new Set(seen.slice(before).map(({ key }) => key)).size).toBe(1);
    }
    await closed(server);
    await till.ask({ type: "emit", event: numbered(5) });
    const { error } = await until(out, node, ({ failing }) => failing === 1);
    expect(error).toMatch(/no answer: ECONNREFUSED/);
    ({ server } = await httpServer(answer, port));
    await until(out, node, ({ published }) => published === 6);
    const ids = new Map(seen.flatMap(({ lines }) => lines).map((line) => [line.id, line.event.n]));
    expect([...ids.values()]).toEqual([1, 2, 3, 4, 4, 5]);
  });

  it("takes 4xx for a refusal, and sends JSON if asked", async () => {
    const seen: Received[] = [];
    const { server, url } = await httpServer((request, response) => {
      seen.push(request);
      response.writeHead(request.lines.some(({ event }) => event.n === 13) ? 422 : 200).end("so it is");
    });
    cleanups.push(() => closed(server));
    const out = defineSink("out", {
      over: emitter,
      to: toHttp({ url, body: "json" }),
      partitions: 1,
      batch: 1,
    });
    const node = await started(out);
    await node.client.actor(emitter, "a").ask({ type: "burst", events: [12, 13, 14].map(numbered) });
    await until(out, node, ({ published, refused }) => published + refused === 3);
    expect(seen.map(({ type, lines }) => [type, lines.length])).toEqual(
      [1, 1, 1].map((n) => ["application/json", n]),
    );
    const [letter] = await lettersOf(node, 1);
    expect(letter?.reason).toContain("it answered 422: so it is");
  });
});

/** Dead letters are stored after the turn. */
async function lettersOf(node: KeyturnNode, many: number) {
  for (;;) {
    const letters = await node.deadLetters();
    if (letters.length >= many) return letters;
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
  }
}

describe("a sink to files", () => {
  it("appends lines, each once, over kills between writing and confirming; a torn line is cut off", async () => {
    const folder = mkdtempSync(join(tmpdir(), "keyturn-sink-"));
    cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
    const real = toFile({ path: join(folder, "deep", "{sink}-{partition}.ndjson") });
    let killed: (() => void) | undefined;
    const target: SinkTarget = {
      ...real,
      publish: async (batch, args) => {
        const done = await real.publish(batch, args);
        if (killed === undefined) return done;
        killed();
        return new Promise(() => undefined);
      },
    };
    const out = defineSink("out", { over: emitter, to: target, partitions: 2, batch: 4 });
    const store = memory();
    let emitted = 0;
    for (let life = 1; life <= 3; life++) {
      const node = await startNode({ actors: [emitter, ...out.actors], store, name: "n1", shards: 4 });
      const written = new Promise<void>((resolve) => {
        killed = resolve;
      });
      for (let n = 0; n < 5; n++) {
        emitted++;
        await Promise.all(
          ["a", "b", "c"].map((key) =>
            node.client.actor(emitter, key).ask({ type: "emit", event: numbered(emitted) }),
          ),
        );
      }
      await written;
      await lost(node);
      // As if it had been killed within a write.
      for (const partition of [0, 1]) {
        const path = join(folder, "deep", `out-${partition}.ndjson`);
        try {
          writeFileSync(path, `${readFileSync(path, "utf8")}{"id":"torn`);
        } catch {
          // That partition had written nothing yet.
        }
      }
    }
    killed = undefined;
    const node = await started(out, store);
    await until(out, node, ({ published }) => published === emitted * 3);
    const lines = [0, 1].flatMap((partition) =>
      readFileSync(join(folder, "deep", `out-${partition}.ndjson`), "utf8")
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
    );
    expect(new Set(lines.map(({ id }) => id)).size).toBe(lines.length);
    for (const key of ["a", "b", "c"])
      expect(lines.filter(({ from }) => from === `emitter/${key}`).map(({ event }) => event.n)).toEqual(
        Array.from({ length: emitted }, (_, at) => at + 1),
      );
  });

  it("a node that was taken for dead and wakes up writes nothing again that others wrote", async () => {
    const folder = mkdtempSync(join(tmpdir(), "keyturn-sink-"));
    cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
    const target = toFile({ path: join(folder, "out.ndjson") });
    const publish = (from: number, upTo: number) => {
      const items = Array.from({ length: upTo - from + 1 }, (_, at): SinkItem => {
        const number = from + at;
        return { number, id: `out.0.e.${number}`, from: "emitter/a", at: 0, event: numbered(number) };
      });
      const args = { idempotencyKey: "k", attempt: 1, signal: new AbortController().signal };
      return target.publish({ sink: "out", partition: 0, epoch: "e", items, mark: undefined }, args);
    };
    await publish(1, 3);
    await publish(4, 6);
    // The first batch once more, by whoever had begun it; then one that is there in part.
    await publish(1, 3);
    await publish(5, 8);
    const lines = readFileSync(join(folder, "out.ndjson"), "utf8").trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line).event.n)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });
});
