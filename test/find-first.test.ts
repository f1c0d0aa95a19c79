/** The first question about a type: what memory knows is shown from its first page on, and turns go on while rows are made. */
import { defineActor } from "keyturn";
import fc from "fast-check";
import { assign, setup } from "xstate";
import { afterEach, describe, expect, it } from "vitest";
import { divide, Pile } from "../runtime/engine/catalog/pile.ts";
import { Stint } from "../runtime/engine/stint.ts";
import { compareKeys } from "../runtime/words/address.ts";
import { FaultStore } from "./support/fault-store.ts";
import { type Rig, rig } from "./support/probe.ts";

const machine = setup({
  types: { context: {} as { sum: number }, events: {} as { type: "add" } },
}).createMachine({
  context: { sum: 0 },
  on: { add: { actions: assign({ sum: ({ context }) => context.sum + 1 }) } },
});
const order = defineActor({ type: "order", machine, index: ["sum"] });
const plain = defineActor({ type: "order", machine });

const keys = (count: number, prefix = "k"): string[] =>
  Array.from({ length: count }, (_, n) => `${prefix}${String(n).padStart(4, "0")}`);

async function send(r: Rig, some: readonly string[]): Promise<void> {
  await r.world.run(Promise.all(some.map((key) => r.node.client.actor(order, key).send({ type: "add" }))));
}

async function remove(r: Rig, some: readonly string[]): Promise<void> {
  await r.world.run(Promise.all(some.map((key) => r.node.client.actor(order, key).delete())));
}

/** Keys and turns, from a key on. */
async function found(r: Rig, from?: string, limit?: number): Promise<[string, number][]> {
  const rows: [string, number][] = [];
  for await (const { key, turn } of r.node.client.find(order, { from, limit })) rows.push([key, turn]);
  return rows;
}

function rowsIn(r: Rig): number {
  return r.node.incarnation.engine.catalogs.rows;
}

/** Long work stops where it would let others go on. Returns the way to let it go on for good. */
function hold(r: Rig): () => void {
  const { engine } = r.node.incarnation;
  const { breathe } = engine;
  const held: (() => void)[] = [];
  engine.breathe = () => new Promise((resolve) => held.push(resolve));
  return () => {
    engine.breathe = breathe;
    for (const go of held) go();
  };
}

describe("while the rows of most actors are not made yet", () => {
  it("a page is answered, turns are taken, and what they did is found", async () => {
    const r = await rig({ actors: [order], shards: 1 });
    await send(r, keys(2_000).toReversed());
    const release = hold(r);
    const page = await r.world.run(found(r, "k1000", 8));
    expect(page).toEqual(
      keys(1_008)
        .slice(1_000)
        .map((key) => [key, 1]),
    );
    expect(rowsIn(r)).toBeGreaterThanOrEqual(8);
    expect(rowsIn(r)).toBeLessThan(64);
    await send(r, ["k0500", "k1001", "k1500", "k1500x", "k0000"]);
    await remove(r, ["k0600", "k1002", "k1600"]);
    // The page that is there already shows it at once.
    expect(await r.world.run(found(r, "k1000", 2))).toEqual([
      ["k1000", 1],
      ["k1001", 2],
    ]);
    expect(rowsIn(r)).toBeLessThan(70);
    const rest = found(r, "k1000");
    const all = found(r);
    const count = r.node.client.count(order);
    release();
    const expected = new Map<string, number>(keys(2_000).map((key) => [key, 1]));
    for (const key of ["k0500", "k1001", "k1500", "k0000"]) expected.set(key, 2);
    expected.set("k1500x", 1);
    for (const key of ["k0600", "k1002", "k1600"]) expected.delete(key);
    const sorted = [...expected].sort(([a], [b]) => compareKeys(a, b));
    expect(await r.world.run(rest)).toEqual(sorted.filter(([key]) => key >= "k1000"));
    expect(await r.world.run(all)).toEqual(sorted);
    expect((await r.world.run(count)).total).toBe(1_998);
  });

  it("a question about many actors is answered in parts, whatever they are known by", async () => {
    for (const definition of [order, plain as unknown as typeof order]) {
      const r = await rig({ actors: [definition], shards: 1 });
      await send(r, keys(6_000));
      const { engine } = r.node.incarnation;
      const { breathe } = engine;
      const made: number[] = [];
      let before = 0;
      engine.breathe = () => {
        made.push(rowsIn(r) - before);
        before = rowsIn(r);
        return breathe.call(engine);
      };
      expect((await r.world.run(r.node.client.count(order))).total).toBe(6_000);
      expect(before).toBeGreaterThan(4_000);
      expect(Math.max(...made)).toBeLessThan(2_500);
    }
  });
});

describe("whatever is known by memory, the tail, what waits and the index", () => {
  afterEach(() => {
    Stint.prototype.spend = spend;
  });
  const { spend } = Stint.prototype;

  const step = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({ do: fc.constant("add" as const), from: fc.nat(150), many: fc.nat(60) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant("delete" as const), from: fc.nat(150), many: fc.nat(9) }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("checkpoint", "kill", "stop") }) },
  );

  for (const pace of ["as usual", "with turns after each look"])
    it(`the first question finds what is committed, from where it begins and in all, ${pace}`, async () => {
      if (pace !== "as usual")
        Stint.prototype.spend = function (this: Stint) {
          return this.rest();
        };
      const from = fc.nat(210).map((n) => `k${String(n).padStart(4, "0")}`);
      await fc.assert(
        fc.asyncProperty(
          fc.array(step, { maxLength: 8 }),
          from,
          fc.constantFrom(1, 3),
          async (steps, start, shards) => {
            const expected = new Map<string, number>();
            let names = 0;
            const settings = { activeActors: 40 };
            let r = await rig({ actors: [order], shards, settings });
            for (const one of [...steps, { do: "add", from: 3, many: 3 } as const]) {
              if (one.do === "checkpoint") await r.world.run(r.node.checkpoint());
              else if (one.do === "kill" || one.do === "stop") {
                if (one.do === "kill") r.node.kill();
                else await r.world.run(r.node.stop());
                const store = new FaultStore(r.store.inner);
                r = await rig({ world: r.world, store, actors: [order], name: `n${++names}`, settings });
                await r.world.advance(20_000);
              } else if ("from" in one) {
                const some = keys(211).slice(one.from, one.from + one.many);
                if (one.do === "add") await send(r, some);
                else await remove(r, some);
                for (const key of some)
                  if (one.do === "delete") expected.delete(key);
                  else expected.set(key, (expected.get(key) ?? 0) + 1);
              }
            }
            const sorted = [...expected].sort(([a], [b]) => compareKeys(a, b));
            const first = found(r, start);
            const all = found(r);
            expect(await r.world.run(first)).toEqual(sorted.filter(([key]) => compareKeys(key, start) >= 0));
            expect(await r.world.run(all)).toEqual(sorted);
            expect(r.told).toEqual([]);
            await r.world.run(r.node.stop());
          },
        ),
        { numRuns: 12 },
      );
    });
});

describe("a pile", () => {
  it("knows which keys lie before one, between two, and behind, whatever they are made of", () => {
    const anyKey = fc.string({
      maxLength: 3,
      unit: fc.constantFrom("a", "b", "\ud7ff", "\ue000", "\uffff", "🙂", "𐀀"),
    });
    fc.assert(
      fc.property(anyKey, anyKey, anyKey, fc.boolean(), (from, key, end, isOpen) => {
        const to = isOpen ? undefined : end;
        const before: { key: string }[] = [];
        const within: { key: string }[] = [];
        const behind: { key: string }[] = [];
        divide([{ key: "beside" }, { key }], 1, 2, from, to, before, within, behind);
        const isBefore = compareKeys(key, from) < 0;
        const isWithin = !isBefore && (to === undefined || compareKeys(key, to) < 0);
        expect([before.length, within.length, behind.length]).toEqual([
          isBefore ? 1 : 0,
          isWithin ? 1 : 0,
          isBefore || isWithin ? 0 : 1,
        ]);
      }),
      { numRuns: 2_000 },
    );
  });

  it("gives what has the least keys, and all in the end", async () => {
    const anyKey = fc.string({ minLength: 1, maxLength: 3, unit: fc.constantFrom("a", "b", "c", "é", "🙂") });
    const drain = async (
      pile: Pile<{ key: string }>,
      ends: readonly (string | undefined)[],
      all: string[],
    ) => {
      const left = all.sort(compareKeys);
      for (const end of ends)
        for (let to: string | undefined = ""; to !== end; ) {
          const taken = await pile.take(end, 32);
          expect(taken.items.length).toBeLessThanOrEqual(32);
          const keysOf = taken.items.map(({ key }) => key).sort(compareKeys);
          expect(keysOf).toEqual(left.splice(0, keysOf.length));
          to = taken.to;
          if (to !== undefined) {
            expect(left.every((key) => compareKeys(key, to as string) >= 0)).toBe(true);
            expect(keysOf.every((key) => compareKeys(key, to as string) < 0)).toBe(true);
          }
          const middle = keysOf[keysOf.length >> 1];
          if (middle === undefined || middle === keysOf[0]) continue;
          const later = taken.items.filter(({ key }) => compareKeys(key, middle) >= 0);
          pile.putBack(middle, later);
          left.unshift(...keysOf.slice(-later.length));
          to = middle;
        }
      expect(left).toEqual([]);
    };
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(anyKey, { maxLength: 100 }),
        fc.uniqueArray(anyKey, { maxLength: 4 }),
        fc.oneof(fc.constant(""), anyKey),
        async (some, others, start) => {
          const items = some.flatMap((key) => [{ key }, { key }]);
          const stint = new Stint(() => Promise.resolve());
          const [ahead, behind] = await Pile.around(start, items, 32, stint);
          const ends = others.sort(compareKeys);
          const keysAhead = items.map(({ key }) => key).filter((key) => compareKeys(key, start) >= 0);
          const keysBehind = items.map(({ key }) => key).filter((key) => compareKeys(key, start) < 0);
          await drain(ahead, [...ends.filter((end) => compareKeys(end, start) > 0), undefined], keysAhead);
          await drain(behind, [...ends.filter((end) => compareKeys(end, start) < 0), start], keysBehind);
        },
      ),
    );
  });

  it("looks at each item about once before the first come out, and lets others go on in between", async () => {
    let rests = 0;
    const stint = new Stint(() => {
      rests++;
      return Promise.resolve();
    });
    const items = Array.from({ length: 200_000 }, (_, n) => ({
      key: String((n * 7_919) % 200_000).padStart(6, "0"),
    }));
    const [pile] = await Pile.around("", items, 48, stint);
    const { items: taken } = await pile.take(undefined, 48);
    expect(taken.length).toBeGreaterThan(8);
    expect(rests).toBeGreaterThan(4);
    expect(rests).toBeLessThan(12);
  });
});
