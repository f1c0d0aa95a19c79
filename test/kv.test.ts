/** The key-value store. */
import { type Client, embedded, isKeyturnError, memory, startNode } from "keyturn";
import { testRuntime, type TestRuntime } from "keyturn/testing";
import fc from "fast-check";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, expectTypeOf, it } from "vitest";
import { failure, rig } from "./support/probe.ts";
import { collected } from "./support/collected.ts";

const running: TestRuntime[] = [];

async function start(options: { nodes?: number } = {}): Promise<TestRuntime> {
  const t = await testRuntime({ actors: [], ...options });
  running.push(t);
  return t;
}

afterEach(async () => {
  for (const t of running.splice(0)) {
    expect(t.reports).toEqual([]);
    await t.stop();
  }
});

describe("a store", () => {
  it("puts, gets and deletes, one key or many", async () => {
    const t = await start();
    const films = t.client.store<{ year: number } | null>("films");
    expect(await films.get("alien")).toBeUndefined();
    const version = await films.put("alien", { year: 1979 });
    expect(await films.entry("alien")).toEqual({ key: "alien", value: { year: 1979 }, version });
    expect(await films.put("alien", null)).toBeGreaterThan(version);
    expect(await films.get("alien")).toBeNull();
    await films.putAll([
      ["heat", { year: 1995 }],
      ["brazil", { year: 1985 }],
    ]);
    expect(await films.getAll(["brazil", "nothing", "heat"])).toEqual(
      new Map([
        ["brazil", { year: 1985 }],
        ["heat", { year: 1995 }],
      ]),
    );
    expect(await films.delete("heat")).toBe(true);
    expect(await films.delete("heat")).toBe(false);
    expect(await films.delete("never")).toBe(false);
    expect(await films.deleteAll(["alien", "heat", "brazil"])).toBe(2);
    expect(await collected(films.all())).toEqual([]);
    const other = t.client.store("films2");
    await other.put("alien", 1);
    expect(await films.get("alien")).toBeUndefined();
    expect(await collected(films.all())).toEqual([]);
  });

  it("computes with numbers, atomically, and refuses what is none", async () => {
    const t = await start();
    const counts = t.client.store<unknown>("counts");
    expect(await counts.add("a", 4)).toBe(4);
    await Promise.all(Array.from({ length: 50 }, () => counts.add("a", 1)));
    expect(await counts.multiply("a", 2)).toBe(108);
    expect(await counts.subtract("a", 8)).toBe(100);
    expect(await counts.divide("a", 8)).toBe(12.5);
    const refused = async (write: Promise<unknown>, text: RegExp): Promise<void> => {
      const error = await write.then(
        () => undefined,
        (cause: unknown) => cause,
      );
      expect(isKeyturnError(error, "invalid_operand") && error.outcome).toBe("rejected");
      expect(String(error)).toMatch(text);
    };
    await refused(counts.divide("a", 0), /12\.5 cannot be divided by zero/);
    await refused(counts.add("a", "1" as never), /the operand a string/);
    await refused(counts.add("a", Number.NaN), /no finite number/);
    await refused(counts.multiply("a", Number.MAX_VALUE), /no finite number/);
    await counts.put("text", "x");
    await refused(counts.add("text", 1), /the value is a string/);
    expect(await counts.get("a")).toBe(12.5);
  });

  it("compares and sets by version, which never comes again", async () => {
    const t = await start();
    const cells = t.client.store<number>("cells");
    const first = await cells.put("a", 1, { ifVersion: 0 });
    await expect(cells.put("a", 2, { ifVersion: 0 })).rejects.toMatchObject({ code: "version_conflict" });
    const second = await cells.put("a", 2, { ifVersion: first });
    await expect(cells.delete("a", { ifVersion: first })).rejects.toThrow(
      new RegExp(`stands at version ${second}`),
    );
    expect(await cells.delete("a", { ifVersion: second })).toBe(true);
    const third = await cells.put("a", 3, { ifVersion: 0 });
    expect(third).toBeGreaterThan(second);
    await cells.delete("a");
    await t.advance("2 days");
    expect((await t.client.count("keyturn-kv")).total).toBe(0);
    expect(await cells.put("a", 4, { ifVersion: 0 })).toBeGreaterThan(third);
  });

  it("forgets what has a time to live, also while nobody runs", async () => {
    const t = await start();
    const sessions = t.client.store<string>("sessions");
    await sessions.putAll([["a", "x"]], { ttl: "1 hour" });
    await sessions.put("b", "y", { ttl: "1 hour" });
    await sessions.put("b", "z", { ttl: 2 * 3_600_000 });
    await sessions.put("c", "lasts");
    await t.advance("59 minutes");
    expect(await collected(sessions.all())).toHaveLength(3);
    await t.crash();
    await t.advance("2 minutes");
    expect(await sessions.get("a")).toBeUndefined();
    expect(await collected(sessions.all())).toEqual([
      ["b", "z"],
      ["c", "lasts"],
    ]);
    await sessions.put("b", "lasts too");
    await t.advance("3 days");
    expect(await collected(sessions.all())).toEqual([
      ["b", "lasts too"],
      ["c", "lasts"],
    ]);
  });

  it("takes keys of any bytes, and ranges in their order", async () => {
    const t = await start();
    const bytes = t.client.store<number>("bytes", { keys: "bytes" });
    const keys = [
      [],
      [0],
      [0, 0],
      [0, 255],
      [65],
      [127],
      [128],
      [194, 163],
      [195],
      [226, 130, 172],
      [255, 255],
    ].map((key) => Uint8Array.from(key));
    await bytes.putAll(keys.map((key, n) => [key, n]));
    expect(await collected(bytes.all())).toEqual(keys.map((key, n) => [key, n]));
    expect(await bytes.get(Uint8Array.from([194, 163]))).toBe(7);
    const texts = t.client.store<number>("bytes");
    expect(await texts.get("£")).toBe(7);
    expect(await texts.get("")).toBe(0);
    expect((await collected(bytes.range("A", "£"))).map(([, n]) => n)).toEqual([4, 5, 6]);
    await expect(collected(texts.all())).rejects.toThrow(/a key that is no text in UTF-8: 00ff|: 80/);
    await expect(collected(texts.range("b", "a"))).rejects.toThrow(/begins at "b", behind its end, "a"/);
    await expect(texts.get("\ud800")).rejects.toMatchObject({ code: "invalid_address" });
    await expect(texts.get(7 as never)).rejects.toThrow(/neither a text nor bytes/);
    expect(() => t.client.store("no name")).toThrow(/is no name of a store/);
    expect(() => t.client.store("a", { keys: "numbers" as never })).toThrow(/"text" or as "bytes"/);
    await expect(texts.put("a", undefined as never)).rejects.toThrow(/Undefined is no value/);
    await expect(texts.put("a", 1, { ifVersion: -1 })).rejects.toThrow(/A version is/);
    await expect(texts.put("a", 1, { ttl: "soon" })).rejects.toThrow(/ttl/);
  });

  it("lists pages with a cursor, and large values", async () => {
    const t = await start();
    const pages = t.client.store<string>("pages");
    const all = Array.from({ length: 25 }, (_, n): [string, string] => [
      `k${String(n).padStart(2, "0")}`,
      n === 13 ? "x".repeat(5_000) : `v${n}`,
    ]);
    await pages.putAll(all);
    await pages.put("other", "x");
    const found: [string, string][] = [];
    let after: string | undefined;
    do {
      const page = await pages.list({ prefix: "k", limit: 7, after });
      found.push(...page.entries);
      after = page.next;
    } while (after !== undefined);
    expect(found).toEqual(all);
    const some = pages.range("k10");
    expect((await some.next()).value).toEqual(["k10", "v10"]);
    await some.return(undefined);
    expect(await some.next()).toEqual({ value: undefined, done: true });
  });

  it("a pinned snapshot shows what was, over crashes and moves, as often as it is read", async () => {
    const t = await start({ nodes: 2 });
    const prices = t.client.store<number | string>("prices");
    const keys = Array.from({ length: 20 }, (_, n) => `k${String(n).padStart(2, "0")}`);
    await prices.putAll(keys.map((key, n) => [key, n === 5 ? "x".repeat(3_000) : n]));
    await prices.delete("k03");
    const before = await collected(prices.all());
    const pinned = await prices.snapshot();
    const part = await prices.snapshot("k05", "k08");
    for (const key of keys.slice(0, 10)) await prices.put(key, -1);
    await prices.delete("k15");
    await prices.put("k16", 0);
    await prices.put("new", 1);
    expect(await collected(pinned)).toEqual(before);
    await t.crash();
    await t.failover();
    await prices.put("k17", -2);
    expect(await collected(pinned.iterator())).toEqual(before);
    expect(await collected(part)).toEqual(before.filter(([key]) => key >= "k05" && key < "k08"));
    expect(await collected(prices.all())).toHaveLength(20);
    part.close();
    await expect(collected(part)).rejects.toThrow(/was closed/);
    await t.advance("2 hours");
    await expect(collected(pinned)).rejects.toMatchObject({ code: "snapshot_expired" });
  });

  it("is watched by key and by prefix", async () => {
    const t = await start();
    const lights = t.client.store<string>("lights");
    const one = lights.watch("hall/door");
    expect((await one.next()).value).toEqual({ key: "hall/door", value: undefined });
    const all = lights.watchPrefix("hall/");
    const first = all.next();
    await lights.put("hall/door", "on");
    await lights.put("kitchen/door", "on");
    expect((await one.next()).value).toMatchObject({ value: "on" });
    expect((await first).value).toMatchObject({ key: "hall/door", value: "on" });
    await lights.put("hall/stairs", "off", { ttl: "1 minute" });
    expect((await all.next()).value).toMatchObject({ key: "hall/stairs", value: "off" });
    await t.advance("2 minutes");
    expect((await all.next()).value).toEqual({ key: "hall/stairs", value: undefined });
    await one.return(undefined);
    await all.return(undefined);
  });

  it("a closed handle refuses, and has flushed", async () => {
    const t = await start();
    const logs = t.client.store<number>("logs");
    const writing = logs.put("a", 1);
    await logs.close();
    await writing;
    await expect(logs.get("a")).rejects.toMatchObject({ code: "client_ended" });
    await expect(logs.put("a", 2)).rejects.toThrow(/is closed/);
    await expect(collected(logs.all())).rejects.toThrow(/is closed/);
    await expect(logs.getAll([])).rejects.toThrow(/is closed/);
    await expect(logs.putAll([])).rejects.toThrow(/is closed/);
    const again = t.client.store<number>("logs");
    void again.put("b", 2);
    await again.flush();
    expect(await collected(again.all())).toEqual([
      ["a", 1],
      ["b", 2],
    ]);
  });
});

describe("what makes no sense", () => {
  it("is refused by a typed error, before anything of it is written", async () => {
    const t = await start();
    const cells = t.client.store<number>("cells");
    await cells.put("a", 1);
    const refused = async (code: string, task: () => unknown): Promise<void> => {
      const error = await failure((async () => task())());
      expect(error, String(task)).toMatchObject({ code, outcome: "rejected" });
    };
    for (const several of [undefined, null, 5, {}] as never[]) {
      await refused("invalid_options", () => cells.putAll(several));
      await refused("invalid_options", () => cells.getAll(several));
      await refused("invalid_options", () => cells.deleteAll(several));
    }
    await refused("invalid_options", () => cells.putAll([["b", 1], 2 as never]));
    await refused("invalid_address", () =>
      cells.putAll([
        ["b", 1],
        [5 as never, 1],
      ]),
    );
    await refused("invalid_address", () => cells.deleteAll(["a", "\ud800"]));
    for (const limit of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, "9" as never]) {
      await refused("invalid_options", () => cells.list({ limit }));
      await refused("invalid_options", () => t.client.findPage("keyturn-kv", { limit }));
    }
    for (const ifVersion of [-1, 1.5, Number.NaN, "1" as never]) {
      await refused("invalid_options", () => cells.put("a", 2, { ifVersion }));
      await refused("invalid_options", () => cells.delete("a", { ifVersion }));
    }
    expect(await collected(cells.all())).toEqual([["a", 1]]);
  });

  it("of a key that comes twice in one call the last one stands", async () => {
    const t = await start();
    const cells = t.client.store<number>("cells");
    await cells.putAll(Array.from({ length: 9_000 }, (_, n): [string, number] => [`k${n % 3}`, n]));
    expect(await collected(cells.all())).toEqual([
      ["k0", 8_997],
      ["k1", 8_998],
      ["k2", 8_999],
    ]);
    expect(await cells.deleteAll(["k0", "k0", "k1"])).toBe(2);
  });

  it("is no value of the store's type, and no number of one that holds none", () => {
    const typed = async (client: Client): Promise<void> => {
      const films = client.store<{ year: number }>("films");
      expectTypeOf(await films.get("alien")).toEqualTypeOf<{ year: number } | undefined>();
      // @ts-expect-error another shape
      await films.put("alien", { yeer: 1979 });
      // @ts-expect-error nothing to add to
      await films.add("alien", 1);
      expectTypeOf(await client.store<number | null>("counts").add("a", 1)).toEqualTypeOf<number>();
      await client.store("anything").add("a", 1);
      for await (const [key] of client.store("b", { keys: "bytes" }).all())
        expectTypeOf(key).toEqualTypeOf<Uint8Array>();
    };
    expect(typed).toBeTypeOf("function");
  });
});

it("is a sorted map, whatever is done to it, under crashes", async () => {
  const key = fc.uint8Array({ maxLength: 3 });
  const step = fc.oneof(
    fc.record({ do: fc.constant("put" as const), key, value: fc.integer() }),
    fc.record({ do: fc.constant("add" as const), key, value: fc.integer({ min: -9, max: 9 }) }),
    fc.record({ do: fc.constant("delete" as const), key, value: fc.constant(0) }),
    fc.record({
      do: fc.constantFrom("crash" as const, "failover" as const, "range" as const),
      key,
      value: fc.constant(0),
    }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.nat(), async (steps, seed) => {
      const t = await testRuntime({ actors: [], nodes: 2, seed, settings: { activeActors: 3 } });
      const store = t.client.store<number>("s", { keys: "bytes" });
      const model = new Map<string, number>();
      const nameOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
      for (const { do: what, key: bytes, value } of steps) {
        if (what === "put") {
          await store.put(bytes, value);
          model.set(nameOf(bytes), value);
        } else if (what === "add") {
          const sum = (model.get(nameOf(bytes)) ?? 0) + value;
          expect(await store.add(bytes, value)).toBe(sum);
          model.set(nameOf(bytes), sum);
        } else if (what === "delete") expect(await store.delete(bytes)).toBe(model.delete(nameOf(bytes)));
        else if (what === "crash") await t.crash();
        else if (what === "failover") await t.failover();
        else {
          const wanted = [...model]
            .filter(([name]) => name >= nameOf(bytes))
            .sort(([a], [b]) => (a < b ? -1 : 1));
          const found = await collected(store.range(bytes));
          expect(found.map(([name, n]) => [nameOf(name), n])).toEqual(wanted);
        }
      }
      await t.stop();
    }),
    { numRuns: 20 },
  );
});

it("lasts on the embedded store, over a restart", async () => {
  const path = await mkdtemp(join(tmpdir(), "keyturn-kv-"));
  const open = () => startNode({ actors: [], store: embedded({ path }) });
  let node = await open();
  await node.client.store<number>("numbers").putAll(Array.from({ length: 3_000 }, (_, n) => [`n${n}`, n]));
  await node.stop();
  node = await open();
  const numbers = node.client.store<number>("numbers");
  const found = await collected(numbers.range("n1", "n2"));
  expect(found).toHaveLength(1_111);
  expect(found.every(([key, n]) => key === `n${n}`)).toBe(true);
  await node.stop();
  await rm(path, { recursive: true });
});

it("one store is the same from every client", async () => {
  const node = await startNode({ actors: [], store: memory() });
  await node.client.store("shared").put("a", 1);
  expect(await node.client.store("shared").get("a")).toBe(1);
  await node.stop();
});

describe("contract 8: a write whose outcome is unknown", () => {
  it("is learnt, not applied again, by repeating it with the error's request id", async () => {
    const r = await rig();
    const views = r.node.client.store<number>("views", { timeout_ms: 4_000 });
    const lost = async (write: () => Promise<unknown>): Promise<string> => {
      r.store.loses = (_subject, frame) => frame.kind === "reply";
      const failed = failure(write());
      await r.world.advance(4_500);
      r.store.loses = () => false;
      const { code, requestId } = await failed;
      expect(code).toBe("timeout");
      return requestId as string;
    };
    const added = await lost(() => views.add("home", 2));
    expect(await r.world.run(views.add("home", 2, { requestId: added }))).toBe(2);
    const { version } = (await r.world.run(views.entry("home"))) ?? {};
    const put = await lost(() => views.put("home", 7, { ifVersion: version }));
    const next = await r.world.run(views.put("home", 7, { ifVersion: version, requestId: put }));
    expect(await r.world.run(views.entry("home"))).toEqual({ key: "home", value: 7, version: next });
    const deleted = await lost(() => views.delete("home"));
    expect(await r.world.run(views.delete("home", { requestId: deleted }))).toBe(true);
  });

  it("and so is one with an id of its own, from any client", async () => {
    const t = await start();
    const views = t.client.store<number>("views");
    expect(await views.add("home", 2, { requestId: "mine" })).toBe(2);
    await expect(views.add("home", 3, { requestId: "mine" })).rejects.toMatchObject({
      code: "request_id_reused",
    });
    await t.crash();
    expect(await views.add("home", 2, { requestId: "mine" })).toBe(2);
    expect(await views.get("home")).toBe(2);
  });
});
