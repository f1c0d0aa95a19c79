/** Views: what is kept of emitted events, read back; exact under crashes; split; chained; and what is refused. */
import { describe, expect, it } from "vitest";
import { KeyturnError } from "../runtime/index.ts";
import {
  avg,
  count,
  defineSink,
  defineView,
  distinct,
  first,
  fold,
  hopping,
  last,
  max,
  min,
  session,
  sum,
  toFunction,
  topK,
  tumbling,
  type ViewOptions,
} from "../runtime/streams/index.ts";
import { testRuntime } from "../runtime/testing/index.ts";
import { collected } from "./support/collected.ts";
import { emitter, sold } from "./support/emitter.ts";

const HOUR = 3_600_000;
/** Where test runtimes begin. */
const START = Date.UTC(2030, 0, 1);

const everything = defineView("everything", {
  over: emitter,
  on: "sold",
  key: (event) => event.shop,
  aggregate: {
    orders: count(),
    dear: count((event: { cents: number }) => event.cents > 50),
    revenue: sum("cents"),
    least: min("cents"),
    most: max("cents"),
    mean: avg("cents"),
    products: distinct("product"),
    top: topK(2, { by: "product", weight: "cents" }),
    opened: first("product"),
    newest: last((event: { product: string }, by) => `${by.address} ${event.product}`),
    longest: fold({
      start: "",
      step: (a: string, b: { product: string }) => (b.product.length > a.length ? b.product : a),
    }),
  },
});

describe("a view", () => {
  it("keeps what its aggregates say of each key, and nothing of other events", async () => {
    const t = await testRuntime({ actors: [emitter, ...everything.actors] });
    const till = t.client.actor(emitter, "till");
    const reader = everything.reader(t.client);
    expect((await reader.get("a")).values).toEqual({
      orders: 0,
      dear: 0,
      revenue: 0,
      least: undefined,
      most: undefined,
      mean: undefined,
      products: { count: 0, exact: true },
      top: [],
      opened: undefined,
      newest: undefined,
      longest: "",
    });
    await till.ask({ type: "emit", event: sold("a", 0, 10, "pen") });
    await till.ask({
      type: "burst",
      events: [
        sold("a", 0, 100, "book"),
        sold("b", 0, 7),
        { type: "other" },
        sold("a", 0, 25, "pen"),
        sold("a", 0, 5, "ink"),
      ],
    });
    await t.settle();
    const state = await reader.get("a");
    expect(state.values).toEqual({
      orders: 4,
      dear: 1,
      revenue: 140,
      least: 5,
      most: 100,
      mean: 35,
      products: { count: 3, exact: true },
      top: [
        { value: "book", weight: 100, error: 0 },
        { value: "pen", weight: 35, error: 0 },
      ],
      opened: "pen",
      newest: "emitter/till ink",
      longest: "book",
    });
    expect([state.events, state.late, state.watermark]).toEqual([4, 0, undefined]);
    expect((await reader.get("b")).values.orders).toBe(1);
    await t.stop();
  });

  it("is exact whatever happens between any two steps: crashes, take-overs, frames that come again", async () => {
    const hourly = defineView("hourly", {
      over: emitter,
      on: "sold",
      key: (event) => event.shop,
      aggregate: { orders: count(), revenue: sum("cents"), products: distinct("product") },
      window: tumbling("1 hour", { time: "at", lateness: "2 hours" }),
    });
    const split = defineView("split", {
      over: emitter,
      on: "sold",
      key: (event) => event.shop,
      aggregate: { orders: count(), revenue: sum("cents") },
      split: 3,
    });
    for (let seed = 1; seed <= 3; seed++) {
      const t = await testRuntime({ actors: [emitter, ...hourly.actors, ...split.actors], nodes: 2, seed });
      if (seed % 2 === 0) t.deliveredTwice();
      for (let round = 0; round < 6; round++) {
        const asked = ["x", "y", "z"].map((key, at) => {
          const event = sold(
            key === "z" ? "b" : "a",
            START + round * 1_200_000,
            10 + round,
            `p${(round + at) % 4}`,
          );
          return t.client.actor(emitter, key).ask({ type: "emit", event }, { requestId: `${key}${round}` });
        });
        for (const one of asked) one.catch(() => undefined);
        await t.pass(seed * 5 + round * 9);
        await (round % 2 === 0 ? t.crash() : t.failover());
        await Promise.all(asked);
      }
      await t.settle();
      const windows = await hourly.reader(t.client).windows("a");
      expect(windows.map(({ start, values }) => [(start - START) / HOUR, values])).toEqual([
        [0, { orders: 6, revenue: 66, products: { count: 4, exact: true } }],
        [1, { orders: 6, revenue: 84, products: { count: 4, exact: true } }],
      ]);
      expect((await hourly.reader(t.client).windows("b")).map(({ events }) => events)).toEqual([3, 3]);
      expect((await split.reader(t.client).get("a")).values).toEqual({ orders: 12, revenue: 150 });
      expect((await split.reader(t.client).get("b")).values).toEqual({ orders: 6, revenue: 75 });
      expect(await t.deadLetters()).toEqual([]);
      await t.stop();
    }
  });

  it("counts once, and a sink has it, if the power fails after any one step on the way", async () => {
    const view = defineView("each", {
      over: emitter,
      key: () => "all",
      aggregate: { n: count(), sum: sum("n") },
    });
    const seen = new Set<string>();
    const out = defineSink("out", {
      over: emitter,
      to: toFunction((items) => {
        for (const { id, event } of items) seen.add(`${id} ${event.n}`);
      }),
      partitions: 1,
    });
    const t = await testRuntime({ actors: [emitter, ...view.actors, ...out.actors], nodes: 2 });
    const steps = 40;
    for (let step = 1; step <= steps; step++) {
      const asked = t.client
        .actor(emitter, `e${step % 7}`)
        .ask({ type: "emit", event: { type: "other", n: step } }, { requestId: `${step}` });
      asked.catch(() => undefined);
      await t.pass(step);
      await t.crash();
      await asked;
    }
    await t.settle();
    expect((await view.reader(t.client).get("all")).values).toEqual({
      n: steps,
      sum: (steps * (steps + 1)) / 2,
    });
    expect([...seen].map((text) => Number(text.split(" ")[1])).sort((a, b) => a - b)).toEqual(
      Array.from({ length: steps }, (_, at) => at + 1),
    );
    await t.stop();
  });

  it("never refuses the turn that emitted: what a function of it throws on is a dead letter that holds the event", async () => {
    const strict = defineView("strict", {
      over: emitter,
      on: "sold",
      key: (event) => {
        if (event.shop === "throw") throw new Error("no such shop");
        if (event.shop === "number") return 7 as never;
        return event.shop === "none" ? undefined : event.shop;
      },
      where: (event) => event.shop !== "left out",
      aggregate: { revenue: sum("cents"), top: topK(1, { by: "product" }) },
      window: tumbling("1 hour", { time: "at", ahead: "1 hour" }),
    });
    const t = await testRuntime({ actors: [emitter, ...strict.actors] });
    const till = t.client.actor(emitter, "till");
    const wrong = [
      { ...sold("a", START), cents: "7" },
      { ...sold("a", START), cents: Number.NaN },
      { ...sold("a", START), product: true },
      { ...sold("a", START), at: "yesterday" },
      sold("a", START + 2 * HOUR),
      sold("throw", START),
      sold("number", START),
      sold("", START),
      sold("x".repeat(400), START),
    ];
    for (const event of [...wrong, sold("none", START), sold("left out", START), sold("a", START, 3)])
      await till.ask({ type: "emit", event: event as never });
    await t.settle();
    const letters = await t.deadLetters();
    expect(letters.map(({ type, key, code }) => [type, key, code])).toEqual(
      wrong.map(() => ["strict", "~faults", "route_failed"]),
    );
    for (const [at, why] of [
      '"cents" is "7", not a finite number',
      '"cents" is NaN',
      "what topK() reads is true",
      'its time is "yesterday"',
      'ahead of the clock (see "ahead")',
      "no such shop",
      "its key is number",
      "key is empty",
      "key takes",
    ].entries())
      expect(JSON.stringify(letters[at]).replaceAll("\\", "")).toContain(why);
    expect((await strict.reader(t.client).get("a")).values.revenue).toBe(3);
    expect((await till.get()).context.n).toBe(12);
    await t.stop();
  });

  it.each([1, 4])("lists its keys, in pages and the highest first, in %i parts", async (split) => {
    const list = defineView("list", {
      over: emitter,
      on: "sold",
      key: (event) => event.shop,
      aggregate: { orders: count(), revenue: sum("cents"), newest: last("product") },
      split: split === 1 ? 1 : split,
      ...(split === 1 ? {} : { aggregate: { orders: count(), revenue: sum("cents") } as never }),
    });
    const t = await testRuntime({ actors: [emitter, ...list.actors], nodes: 2 });
    const shops = Array.from({ length: 30 }, (_, at) => `shop ${String((at * 7) % 30).padStart(2, "0")}`);
    for (const [at, shop] of [...shops, ...shops.slice(0, 10)].entries())
      await t.client.actor(emitter, `till${at % 5}`).send({ type: "emit", event: sold(shop, START, at + 1) });
    // One that the view cannot take is a dead letter of it, and no key.
    const bad = { ...sold("x", START), shop: 7 };
    await t.client.actor(emitter, "till").send({ type: "emit", event: bad as never });
    const reader = list.reader(t.client);
    await reader.settled();
    const sorted = [...shops].sort();
    expect(await collected(reader.keys())).toEqual(sorted);
    expect(await collected(reader.keys({ prefix: "shop 1" }))).toEqual(sorted.slice(10, 20));
    expect(await collected(reader.keys({ after: "shop 27", limit: 5 }))).toEqual(["shop 28", "shop 29"]);
    expect(await collected(reader.keys({ limit: 0 }))).toEqual([]);
    const pages = [];
    for (let after: string | undefined, more = true; more; ) {
      const page = await reader.page({ limit: 12, after });
      pages.push(page.entries.map(({ key }) => key));
      after = page.next;
      more = after !== undefined;
    }
    expect(pages.map((page) => page.length)).toEqual([12, 12, 6]);
    expect(pages.flat()).toEqual(sorted);
    // The first ten were sold twice: at their place, and 30 later.
    const best = await reader.top(3, "revenue");
    expect(best.map(({ key, values }) => [key, values.revenue])).toEqual([
      [shops[9], 50],
      [shops[8], 48],
      [shops[7], 46],
    ]);
    const least = await reader.top(2, ({ values, events }) => (events > 1 ? undefined : -values.revenue));
    expect(least.map(({ key }) => key)).toEqual([shops[10], shops[11]]);
    await expect(reader.top(3, "profit" as never)).rejects.toThrow(/has no "profit"/);
    await expect(reader.top(0, "orders")).rejects.toThrow(KeyturnError);
    await expect(reader.top(3, (() => "much") as never)).rejects.toThrow(/no number/);
    await expect(collected(reader.keys({ limit: -1 }))).rejects.toThrow(KeyturnError);
  });

  it("settles: what was acknowledged before is read then, also through a view over a view", async () => {
    const minutes = defineView("minutes", {
      over: emitter,
      on: "sold",
      key: (event) => event.shop,
      aggregate: { revenue: sum("cents") },
      window: tumbling("1 min", { time: "at" }),
    });
    const all = defineView("all", {
      over: minutes,
      on: "window.closed",
      key: () => "all",
      aggregate: {
        windows: count(),
        revenue: sum((event) => (event as { values: { revenue: number } }).values.revenue),
      },
    });
    const t = await testRuntime({ actors: [emitter, ...minutes.actors, ...all.actors], nodes: 3 });
    const till = t.client.actor(emitter, "till");
    for (let n = 1; n <= 20; n++) {
      await till.send({ type: "emit", event: sold("a", START + n * 60_000, n) });
      await minutes.reader(t.client).settled({ of: till.address });
      expect((await minutes.reader(t.client).get("a")).events).toBe(n);
      await all.reader(t.client).settled();
      expect((await all.reader(t.client).get("all")).events).toBe(n - 1);
    }
    expect((await all.reader(t.client).get("all")).values.revenue).toBe(190);
  });

  it("can be watched, also split", async () => {
    const split = defineView("split", {
      over: emitter,
      key: () => "all",
      aggregate: { n: count() },
      split: 4,
    });
    const whole = defineView("whole", { over: emitter, key: () => "all", aggregate: { n: count() } });
    const t = await testRuntime({ actors: [emitter, ...split.actors, ...whole.actors] });
    const follow = async (view: typeof split): Promise<number[]> => {
      const seen: number[] = [];
      for await (const { values } of view.reader(t.client).watch("all")) {
        seen.push(values.n);
        if (values.n === 6) break;
      }
      return seen;
    };
    const following = [follow(split), follow(whole)];
    await t.settle();
    for (const key of ["a", "b", "c", "d", "e", "f"])
      await t.client.actor(emitter, key).ask({ type: "emit", event: { type: "other" } });
    for (const seen of await Promise.all(following)) {
      expect(seen.at(-1)).toBe(6);
      expect(seen).toEqual([...seen].sort((a, b) => a - b));
    }
    await t.stop();
  });

  it("is bounded: what does not fit into a key's actor is a dead letter that names the bound, and the rest goes on", async () => {
    const texts = defineView("texts", {
      over: emitter,
      key: () => "all",
      aggregate: {
        n: count(),
        all: fold({
          start: "",
          of: "text",
          bytes: 600_000,
          step: (all: string, text: string) => {
            if (text === "throw") throw new Error("a fold that throws");
            return all + text;
          },
        }),
      },
    });
    const visits = defineView("visits", {
      over: emitter,
      key: () => "all",
      aggregate: { n: count() },
      window: session(1, { time: "at", lateness: "1 hour" }),
    });
    const t = await testRuntime({ actors: [emitter, ...texts.actors, ...visits.actors] });
    const till = t.client.actor(emitter, "till");
    const at = t.now();
    for (const text of [
      "x".repeat(200_000),
      "x".repeat(200_000),
      "throw",
      "x".repeat(200_000),
      "x".repeat(200_000),
      "y",
    ])
      await till.ask({ type: "emit", event: { type: "other", text, at } });
    await till.ask({
      type: "burst",
      events: Array.from({ length: 300 }, (_, n) => ({ type: "other", text: "", at: at + 10 * n })),
    });
    await t.settle();
    const letters = await t.deadLetters();
    expect(letters.filter(({ type }) => type === "texts").map(({ code, reason }) => [code, reason])).toEqual([
      ["machine_failed", '"texts" threw: a fold that throws'],
      ["state_too_large", expect.stringMatching(/^The turn of texts\.all takes \d+ bytes, at most \d+ fit/)],
    ]);
    expect((await texts.reader(t.client).get("all")).values.n).toBe(304);
    const refused = letters.filter(({ type }) => type === "visits");
    expect(
      refused.every(({ code, reason }) => code === "state_too_large" && /256 sessions open/.test(reason)),
    ).toBe(true);
    expect(refused).toHaveLength(44);
    expect(await visits.reader(t.client).windows("all")).toHaveLength(256);
    await t.stop();
  });

  it("forgets keys that have become idle, if told to", async () => {
    const recent = defineView("recent", { over: emitter, aggregate: { n: count() }, idleAfter: "1 hour" });
    const t = await testRuntime({ actors: [emitter, ...recent.actors] });
    await t.client.actor(emitter, "a").ask({ type: "emit", event: { type: "other" } });
    await t.advance("59 minutes");
    expect((await recent.reader(t.client).get("a")).values.n).toBe(1);
    await t.advance("2 minutes");
    expect((await recent.reader(t.client).get("a")).values.n).toBe(0);
    await t.stop();
  });
});

describe("what a view refuses where it is declared", () => {
  const refusal = (
    change: Partial<ViewOptions<typeof emitter, string, Record<string, ReturnType<typeof count>>>>,
  ): string => {
    try {
      defineView("v", { over: emitter, aggregate: { n: count() }, ...change } as never);
    } catch (error) {
      expect(error).toBeInstanceOf(KeyturnError);
      return `${(error as KeyturnError).code}: ${(error as KeyturnError).message}`;
    }
    return "nothing";
  };
  const newest = { newest: last("product") } as never;

  it("is what does not commute, if it is split or has sessions", () => {
    expect(refusal({ split: 8 })).toBe("nothing");
    expect(refusal({ split: 8, aggregate: newest })).toMatch(
      /invalid_options: .*cannot be split: "newest" \(last\)/,
    );
    expect(refusal({ window: session("1 h"), aggregate: newest })).toMatch(/cannot have sessions: "newest"/);
    const step = (a: number): number => a;
    expect(refusal({ split: 2, aggregate: { f: fold({ start: 0, step }) } as never })).toMatch(
      /"f" \(fold\)/,
    );
    expect(
      refusal({ split: 2, aggregate: { f: fold({ start: 0, step, merge: (a, b) => a + b }) } as never }),
    ).toBe("nothing");
    expect(refusal({ split: 2, window: session("1 h") })).toMatch(/a session may lie in several parts/);
  });

  it("is a view over the windows of a split one", () => {
    const split = defineView("parts", {
      over: emitter,
      aggregate: { n: count() },
      split: 2,
      window: tumbling("1 h"),
    });
    expect(() => defineView("v", { over: split, aggregate: { n: count() } })).toThrow(
      /"parts", which is split/,
    );
  });

  it.each([
    ["a split of no size", () => defineView("v", { over: emitter, aggregate: { n: count() }, split: 0 })],
    ["no aggregate", () => defineView("v", { over: emitter, aggregate: {} })],
    ["an aggregate that is none", () => defineView("v", { over: emitter, aggregate: { n: 7 } as never })],
    [
      "a window that is none",
      () => defineView("v", { over: emitter, aggregate: { n: count() }, window: {} as never }),
    ],
    ["too many windows", () => tumbling("1 h", { keep: 5_000 })],
    ["too much lateness", () => tumbling("1 s", { lateness: "2 h" })],
    ["windows with gaps", () => hopping("1 h", "2 h")],
    ["no size", () => tumbling(0)],
    ["a size without a unit", () => tumbling("1 moment")],
    [
      "too many sketches",
      () =>
        defineView("v", {
          over: emitter,
          aggregate: { d: distinct("x", { precision: 14 }) },
          window: tumbling("1 h"),
        }),
    ],
    ["a precision of 3", () => distinct("x", { precision: 3 })],
    ["the top 0", () => topK(0, { by: "x" })],
    ["a capacity below k", () => topK(10, { by: "x", capacity: 5 })],
    ["a path that is none", () => sum("")],
    ["a type that is none", () => defineView("no type", { over: emitter, aggregate: { n: count() } })],
  ])("is %s", (_name, make) => {
    expect(make).toThrow(KeyturnError);
  });
});
