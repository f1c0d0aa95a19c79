/** Finding actors of a type: by state, by what is in them, by age; counted; in the order of their keys. */
import { defineActor, memory, startNode } from "keyturn";
import { testRuntime, type TestRuntime, type TestRuntimeOptions } from "keyturn/testing";
import fc from "fast-check";
import { afterEach, expect, it } from "vitest";
import { createMachine } from "xstate";
import { counter } from "../actors/index.ts";
import { statesBeside } from "../runtime/engine/states.ts";
import { behindPrefix, compareKeys } from "../runtime/words/address.ts";
import { parcel } from "./support/parcels.ts";
import { collected } from "./support/collected.ts";

const running: TestRuntime[] = [];

async function start(options: Partial<TestRuntimeOptions> = {}): Promise<TestRuntime> {
  const t = await testRuntime({ actors: [parcel, counter], ...options });
  running.push(t);
  return t;
}

afterEach(async () => {
  for (const t of running.splice(0)) {
    expect(t.reports).toEqual([]);
    await t.stop();
  }
});

async function keysOf(found: AsyncIterable<{ key: string }>): Promise<string[]> {
  return (await collected(found)).map(({ key }) => key);
}

async function pack(t: TestRuntime, count: number): Promise<void> {
  const sent = Array.from({ length: count }, async (_, n) => {
    const ref = t.client.actor(parcel, `p${n}`);
    await ref.send({ type: "pack", owner: n % 2 === 0 ? "ada" : "bob", weight: n });
    if (n % 3 === 0) await ref.send({ type: "send" });
  });
  await Promise.all(sent);
}

it("says so where nobody can be in a state, and which there are", async () => {
  const t = await start();
  await pack(t, 3);
  const { client } = t;
  for (const asked of [
    () => collected(client.find(parcel, { state: "opne" })),
    () => client.findPage(parcel, { state: "opne", limit: 5 }),
    () => client.count(parcel, { state: "opne" }),
    () => client.count(parcel, { state: "opne", where: { weight: 1 } }),
    () => collected(client.timers(parcel, { state: "opne" })),
  ])
    await expect(asked()).rejects.toMatchObject({
      code: "invalid_options",
      message: expect.stringMatching(/^The machine of "parcel" has no state "opne". There are: .*\bopen\b/),
    });
  await expect(client.count(counter, { state: "x" })).rejects.toThrow(/has no state "x"\. There are: /);
});

it("of many states those near are named, and none of a kind that nobody stands in", () => {
  const names = [..."abcdefghij"].map((letter) => `${letter.repeat(9)}`);
  const states = Object.fromEntries(names.map((name) => [name, {}]));
  const machine = createMachine({
    initial: "waiting",
    states: {
      ...states,
      waiting: { initial: "payment", states: { payment: {}, back: { type: "history" } } },
    },
  });
  expect(statesBeside(machine, "payment")).toEqual(["waiting.payment"]);
  expect(statesBeside(machine, "Waiting")).toEqual(["waiting"]);
  expect(statesBeside(machine, "waiting.back")).toContain("waiting.payment");
  expect(statesBeside(machine, "waiting.payment")).toBeUndefined();
  expect(statesBeside(machine, "zzz")).toHaveLength(8);
  expect(statesBeside(createMachine({}), "on")).toEqual([]);
});

it("actors of a former version are found in the state that they will be migrated to", async () => {
  const of = (version: number, state: string) =>
    defineActor({
      type: "shop",
      version,
      machine: createMachine({ initial: state, states: { [state]: { on: { go: {} } } } }),
      migrations: version === 1 ? {} : { 1: (old) => ({ ...old, value: "shut" }) },
    });
  const t = await start({ actors: [of(1, "open")] });
  await t.client.actor("shop/a").send({ type: "go" });
  await t.restart({ actors: [of(2, "shut")] });
  const seen = { open: 0, shut: 0 };
  for (const state of ["open", "shut"] as const)
    seen[state] = await t.client.count("shop", { state }).then(
      ({ total }) => total,
      ({ code }) => (code === "invalid_options" ? -1 : -2),
    );
  // As it will be when it is next loaded.
  expect(seen).toEqual({ open: -1, shut: 1 });
});

it("finds by state, by values of the index, by both", async () => {
  const t = await start();
  await pack(t, 12);
  const { client } = t;
  expect(await keysOf(client.find(parcel, { state: "under way" }))).toEqual(["p0", "p3", "p6", "p9"]);
  expect(await keysOf(client.find("parcel", { state: "under way.moving" }))).toHaveLength(4);
  expect(await keysOf(client.find(parcel, { state: "under way.late" }))).toEqual([]);
  expect(
    await keysOf(client.find(parcel, { where: { "owner.id": "bob", weight: { gte: 7, lt: 11 } } })),
  ).toEqual(["p7", "p9"]);
  expect(
    await keysOf(client.find(parcel, { state: "open", where: { "owner.id": { in: ["ada"] } } })),
  ).toEqual(["p10", "p2", "p4", "p8"]);
  expect(
    await keysOf(client.find(parcel, { where: { "owner.id": { prefix: "a" }, weight: { ne: 0 } } })),
  ).toEqual(["p10", "p2", "p4", "p6", "p8"]);
  expect(await keysOf(client.find(parcel, { where: { note: null } }))).toHaveLength(12);
  const [first] = await collected(client.find(parcel, { where: { weight: 5 } }));
  expect(first).toMatchObject({
    address: "parcel/p5",
    value: "open",
    status: "active",
    turn: 1,
    fields: { "owner.id": "bob", weight: 5, note: undefined },
  });
  expect(first?.position).toBe((await client.actor(parcel, "p5").get()).position);
});

it("counts by state, and shows what was deleted no more", async () => {
  const t = await start();
  await pack(t, 10);
  expect(await t.client.count(parcel)).toEqual({ total: 10, states: { open: 6, "under way.moving": 4 } });
  await t.client.actor(parcel, "p0").send({ type: "arrive" });
  await t.client.actor(parcel, "p1").delete();
  expect(await t.client.count(parcel)).toEqual({
    total: 9,
    states: { open: 5, there: 1, "under way.moving": 3 },
  });
  expect(await t.client.count(parcel, { status: "done" })).toEqual({ total: 1, states: { there: 1 } });
  expect((await t.client.count(counter)).total).toBe(0);
});

it("finds what has rested for a while, across restarts", async () => {
  const t = await start();
  await pack(t, 4);
  await t.advance("2 hours");
  await t.client.actor(parcel, "p1").send({ type: "note", text: "again" });
  expect(await keysOf(t.client.find(parcel, { olderThan: "1 hour", state: "open" }))).toEqual(["p2"]);
  await t.crash();
  expect(await keysOf(t.client.find(parcel, { olderThan: "1 hour", state: "open" }))).toEqual(["p2"]);
  await t.advance("2 hours");
  await t.failover();
  expect(await keysOf(t.client.find(parcel, { olderThan: "1 hour", state: "open" }))).toEqual(["p1", "p2"]);
});

it("goes through pages, by keys in the order of their bytes", async () => {
  const t = await start();
  // The last two are in another order as UTF-16.
  const keys = ["", "-", "a", "a/b", "aa", "b", "é", "ﬀ", "𝒳"].slice(1);
  await Promise.all(keys.map((key) => t.client.actor(parcel, key).send({ type: "send" })));
  expect(await keysOf(t.client.find(parcel))).toEqual(keys);
  const pages: string[][] = [];
  let after: string | undefined;
  do {
    const page = await t.client.findPage(parcel, { limit: 3, after });
    pages.push(page.actors.map(({ key }) => key));
    after = page.next;
  } while (after !== undefined);
  expect(pages).toEqual([keys.slice(0, 3), keys.slice(3, 6), keys.slice(6)]);
  expect(await keysOf(t.client.find(parcel, { from: "a", to: "b" }))).toEqual(["a", "a/b", "aa"]);
  expect(await keysOf(t.client.find(parcel, { prefix: "a" }))).toEqual(["a", "a/b", "aa"]);
  expect(await keysOf(t.client.find(parcel, { from: "a/", limit: 2 }))).toEqual(["a/b", "aa"]);
});

it("a value too large for an index is left out, and fits no condition", async () => {
  const t = await start();
  await t.client.actor(parcel, "p").send({ type: "note", text: "x".repeat(2_000) });
  const [found] = await collected(t.client.find(parcel));
  expect(found?.fields).toEqual({ "owner.id": undefined, weight: 0 });
  expect(await keysOf(t.client.find(parcel, { where: { note: { ne: "y" } } }))).toEqual([]);
});

it("what cannot be asked is refused, and says what can", async () => {
  const t = await start();
  const rejects = async (query: object, text: RegExp, type = "parcel"): Promise<void> => {
    await expect(keysOf(t.client.find(type, query))).rejects.toThrow(text);
  };
  await rejects({ where: { colour: "red" } }, /"colour" is not in the index of "parcel".*owner\.id, weight/);
  await rejects({ where: { weight: { above: 3 } } }, /"above" is no comparison/);
  await rejects({ where: { weight: [3] } }, /condition for "weight"/);
  await rejects({ from: "b", to: "a" }, /comes after "to"/);
  await rejects({ status: "asleep" }, /"status" is/);
  await rejects({ olderThan: "soon" }, /olderThan/);
  await rejects({ prefix: "a", from: "a" }, /Name a prefix, or from and to/);
  for (const limit of [-1, 2.5, Number.NaN, "3"]) await rejects({ limit }, /A limit is a whole number/);
  const half = "\ud83d";
  for (const name of ["from", "to", "after", "prefix", "state"])
    await rejects({ [name]: half }, /well-formed/);
  for (const condition of [half, { ne: half }, { in: ["a", half] }, new Date(Number.NaN)])
    await rejects({ where: { weight: condition } }, /well-formed/);
  await rejects({ where: { [half]: 1 } }, /well-formed/);
  const many = Array.from({ length: 40_000 }, (_, n) => n);
  await rejects({ where: { weight: { in: many } } }, /A question takes up to \d+ bytes/);
  for (const limit of [-1, 2.5, Number.NaN])
    await expect(collected(t.client.timers("parcel", { limit }))).rejects.toThrow(
      /A limit is a whole number/,
    );
  await rejects({ olderThan: 1 }, /Give its definition an index/, "counter");
  await rejects({}, /No actor of type "nobody"/, "nobody");
  await rejects({}, /not an actor type/, "no body");
});

it("a node that has too many says so", async () => {
  const node = await startNode({ actors: [parcel], store: memory(), settings: { catalogRows: 3 } });
  const sent = Array.from({ length: 4 }, (_, n) => node.client.actor(parcel, `p${n}`).send({ type: "send" }));
  await Promise.all(sent);
  await expect(node.client.count(parcel)).rejects.toThrow(/more than 3 actors of type "parcel"/);
  await node.stop();
});

it("is always what was acknowledged, under crashes, hand-overs, evictions and new shards", async () => {
  const step = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ key: fc.nat(30), do: fc.constantFrom("pack", "send", "arrive", "delete") }),
    },
    { weight: 1, arbitrary: fc.constantFrom("crash", "failover", "count") },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.nat(), async (steps, seed) => {
      const t = await testRuntime({ actors: [parcel], nodes: 2, seed, settings: { activeActors: 4 } });
      const states = new Map<string, string>();
      const check = async (): Promise<void> => {
        const found = await collected(t.client.find(parcel));
        expect(found.map(({ key, value }) => [key, JSON.stringify(value)])).toEqual(
          [...states].sort(([a], [b]) => compareKeys(a, b)),
        );
      };
      for (const one of steps) {
        if (one === "crash") await t.crash();
        else if (one === "failover") await t.failover();
        else if (one === "count") await check();
        else {
          const ref = t.client.actor(parcel, `k${one.key}`);
          if (one.do === "delete") {
            await ref.delete();
            states.delete(ref.key);
          } else {
            const event =
              one.do === "pack" ? { type: "pack" as const, owner: "ada", weight: 1 } : { type: one.do };
            const { value } = await ref.ask(event as { type: "send" });
            states.set(ref.key, JSON.stringify(value));
          }
        }
      }
      await check();
      await t.stop();
    }),
    { numRuns: 15 },
  );
});

it("the end of a prefix is the first text behind all that begin so", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: "binary", minLength: 1 }),
      fc.string({ unit: "binary" }),
      (prefix, rest) => {
        const end = behindPrefix(prefix);
        if (end === undefined) expect([...prefix].every((c) => c === "\u{10ffff}")).toBe(true);
        else expect(compareKeys(prefix + rest, end)).toBeLessThan(0);
      },
    ),
  );
  expect(behindPrefix("a")).toBe("b");
  expect(behindPrefix("a\u{10ffff}")).toBe("b");
  expect(behindPrefix("\ud7ff")).toBe("\ue000");
});

it("keys compare as the bytes of their UTF-8 do", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (a, b) => {
      expect(Math.sign(compareKeys(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)));
    }),
  );
});
