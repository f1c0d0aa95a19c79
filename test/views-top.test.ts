/** The top of a view from its index: the same as reading all keys gives, in step with commits, and read alone. */
import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import { Best, inRank } from "../runtime/engine/catalog/best.ts";
import type { Row } from "../runtime/engine/catalog/row.ts";
import { memory, startNode, type Store } from "../runtime/index.ts";
import { avg, count, defineView, min, sum, tumbling, type ViewReader } from "../runtime/streams/index.ts";
import { testRuntime } from "../runtime/testing/index.ts";
import { shardOf } from "../runtime/words/address.ts";
import { emitter, sold } from "./support/emitter.ts";

const AT = Date.UTC(2030, 0, 1);

const shops = defineView("shops", {
  over: emitter,
  on: "sold",
  key: (event) => event.shop,
  aggregate: {
    orders: count(),
    cents: sum("cents"),
    least: min((event) => (event.cents > 0 ? event.cents : null)),
  },
  index: ["cents", "least"],
});

type Reader = ViewReader<{ orders: ReturnType<typeof count>; cents: ReturnType<typeof sum> }>;

/** By reading all keys, as any function does. */
async function slowly(reader: Reader, limit: number): Promise<[string, number][]> {
  const entries = await reader.top(limit, ({ values }) => values.cents);
  return entries.map(({ key, values }) => [key, values.cents]);
}

async function quickly(reader: Reader, limit: number): Promise<[string, number][]> {
  return (await reader.top(limit, "cents")).map(({ key, values }) => [key, values.cents]);
}

describe("the best rows of a shard", () => {
  const row = (key: string, value: unknown): Row => ({ key, fields: [value] }) as Partial<Row> as Row;

  it("are those of all rows, whatever changes and goes", () => {
    const change = fc.record({
      key: fc.integer({ min: 0, max: 40 }).map((at) => `k${at}`),
      value: fc.oneof(
        { weight: 8, arbitrary: fc.integer({ min: -20, max: 20 }) },
        fc.constantFrom(undefined, null, "much", Number.NaN, Number.POSITIVE_INFINITY, -0),
      ),
      gone: fc.integer({ min: 0, max: 3 }).map((one) => one === 0),
      look: fc.integer({ min: 0, max: 3 }),
    });
    let looks = 0;
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3 }),
        fc.array(change, { minLength: 60, maxLength: 200, size: "max" }),
        (size, changes) => {
          const rows = new Map<string, Row>();
          const best = new Best(0, size, []);
          for (const { key, value, gone, look } of changes) {
            if (gone) {
              rows.delete(key);
              best.delete(key);
            } else {
              rows.set(key, row(key, value));
              best.set(row(key, value));
            }
            if (look === 0) continue;
            const wanted = [...rows.values()]
              .flatMap(({ key: one, fields: [number] }) =>
                typeof number === "number" && !Number.isNaN(number) ? [{ key: one, value: number }] : [],
              )
              .sort(inRank)
              .slice(0, size);
            const found = best.first(size, () => {
              looks++;
              return rows.values();
            });
            expect(found).toEqual(wanted);
          }
        },
      ),
    );
    // Otherwise nothing ever fell out of them.
    expect(looks).toBeGreaterThan(0);
  });
});

describe("top by a name in the index", () => {
  it("is what reading all keys gives, after each settled change, on two nodes, over power losses", async () => {
    const t = await testRuntime({ actors: [emitter, ...shops.actors], nodes: 2, seed: 5 });
    const reader = shops.reader(t.client) as unknown as Reader;
    const till = t.client.actor(emitter, "till");
    const sell = async (shop: number, cents: number): Promise<void> => {
      await till.send({ type: "emit", event: sold(`s${shop}`, AT, cents) });
    };
    expect(await quickly(reader, 3)).toEqual([]);
    for (let shop = 0; shop < 200; shop++) await sell(shop, (shop * 37) % 50);
    for (let round = 0; round < 8; round++) {
      // The best of all fall behind, and others rise.
      for (const [key, cents] of (await quickly(reader, 3)).slice(0, 2))
        await sell(Number(key.slice(1)), -cents);
      await sell((round * 71) % 200, 45 + round);
      if (round % 4 === 1) await t.crash();
      await reader.settled();
      for (const limit of [1, 7, 60, 10_000])
        expect(await quickly(reader, limit)).toEqual(await slowly(reader, limit));
    }
    const [[first]] = (await quickly(reader, 1)) as [[string, number]];
    await t.client.actor(shops.definition, first).delete();
    expect(await quickly(reader, 9)).toEqual(await slowly(reader, 9));
    const least = await shops.reader(t.client).top(5, "least");
    const slow = await shops.reader(t.client).top(5, ({ values }) => values.least);
    expect(least.map(({ key }) => key)).toEqual(slow.map(({ key }) => key));
    // Where only some keys are asked for, those are read.
    const some = await shops.reader(t.client).top(3, "cents", { prefix: "s1" });
    expect(some.map(({ key }) => key[1])).toEqual(["1", "1", "1"]);
    await t.stop();
  });

  it("where one shard has all of the best, it is asked until they are found", async () => {
    const shards = 4;
    const store = memory();
    const node = await startNode({ actors: [emitter], views: [shops], store, shards });
    onTestFinished(() => node.stop());
    const keys = Array.from({ length: 5_000 }, (_, at) => `s${at}`);
    const here = keys.filter((key) => shardOf("shops", key, shards) === 0);
    const events = keys.map((key, at) => sold(key, AT, here.includes(key) ? 1_000 + (at % 300) : at % 900));
    for (let at = 0; at < events.length; at += 500)
      await node.client.actor(emitter, "till").send({ type: "burst", events: events.slice(at, at + 500) });
    const reader = shops.reader(node.client) as unknown as Reader;
    await reader.settled();
    expect(here.length).toBeGreaterThan(1_100);
    for (const limit of [here.length - 1, 3_000])
      expect(await quickly(reader, limit)).toEqual(await slowly(reader, limit));
  });

  it("reads the keys that it gives, and no others", async () => {
    const store = memory();
    const first = await started(store);
    const events = Array.from({ length: 600 }, (_, at) => sold(`s${at}`, AT, at));
    await first.client.actor(emitter, "till").send({ type: "burst", events });
    await shops.reader(first.client).settled();
    await first.stop({ closeStore: false });
    const second = await started(store);
    onTestFinished(() => second.stop());
    const loads = (): number => {
      const metric = second.metrics().find(({ name }) => name === "keyturn_activations_total");
      return (metric as unknown as { points: { value: number }[] }).points.reduce(
        (all, { value }) => all + value,
        0,
      );
    };
    const before = loads();
    expect(await quickly(shops.reader(second.client) as unknown as Reader, 4)).toEqual([
      ["s599", 599],
      ["s598", 598],
      ["s597", 597],
      ["s596", 596],
    ]);
    expect(loads() - before).toBe(4);
    await slowly(shops.reader(second.client) as unknown as Reader, 4);
    expect(loads() - before).toBe(600);
  });

  it("an index that comes to a view later has what was counted before", async () => {
    const store = memory();
    const plain = defineView("shops", {
      ...{ over: emitter, on: "sold" as const },
      key: (event) => event.shop,
      aggregate: { cents: sum("cents") },
    });
    const first = await startNode({ actors: [emitter], views: [plain], store });
    const events = Array.from({ length: 50 }, (_, at) => sold(`s${at}`, AT, at));
    await first.client.actor(emitter, "till").send({ type: "burst", events });
    await plain.reader(first.client).settled();
    await first.stop({ closeStore: false });
    const ranked = defineView("shops", {
      over: emitter,
      on: "sold",
      key: (event) => event.shop,
      aggregate: { cents: sum("cents") },
      index: ["cents"],
    });
    const second = await startNode({ actors: [emitter], views: [ranked], store });
    onTestFinished(() => second.stop());
    expect((await ranked.reader(second.client).top(2, "cents")).map(({ key }) => key)).toEqual([
      "s49",
      "s48",
    ]);
  });

  it("what cannot be in an index is refused by name", () => {
    const made = (options: object) => () =>
      defineView("v", {
        over: emitter,
        aggregate: { cents: sum("cents"), mean: avg("cents"), "a.b": count() },
        ...options,
      } as never);
    expect(made({ index: ["profit"] })).toThrow(/no aggregate "profit" .* It has cents, mean, a\.b\./);
    expect(made({ index: ["mean"] })).toThrow(/"mean" \(avg\).*only count, sum, min and max/);
    expect(made({ index: ["a.b"] })).toThrow(/no dot/);
    expect(made({ index: "cents" })).toThrow(/a list of names/);
    expect(made({ index: ["cents", "cents"] })).toThrow(/each once/);
    expect(made({ index: ["cents"], split: 4 })).toThrow(/split.*top reads all keys/);
    expect(made({ index: ["cents"], window: tumbling("1 min", { time: "at" }) })).toThrow(/windows/);
    expect(made({ index: ["cents"] })()).toMatchObject({ name: "v" });
  });
});

async function started(store: Store) {
  return await startNode({ actors: [emitter], views: [shops], store });
}
