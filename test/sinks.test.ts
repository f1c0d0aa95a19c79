/** Sinks: what is emitted is published in order, with ids, however the target behaves. */
import { describe, expect, it } from "vitest";
import { KeyturnError } from "../runtime/index.ts";
import {
  count,
  defineSink,
  defineView,
  SinkRefusal,
  toFile,
  toFunction,
  toHttp,
  tumbling,
} from "../runtime/streams/index.ts";
import { testRuntime } from "../runtime/testing/index.ts";
import { emitter, sold } from "./support/emitter.ts";
import { Kept, numbered } from "./support/sinks.ts";

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
