/**
 * The recommendations: what the items count is what is counted without a runtime, on both stores, and better than the
 * most popular; and counts in bounded space keep their promise.
 */
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import type { Progress } from "../../examples/program.ts";
import { adviceFor, hitRates, popularOf } from "../../examples/recommend/advice.ts";
import { type Basket, installedModules, isHeldOut, readBaskets } from "../../examples/recommend/baskets.ts";
import { type Counts, counted, surely } from "../../examples/recommend/counts.ts";
import { learn, recommend, withNode } from "../../examples/recommend/recommend.ts";
import { shelfOf } from "../../examples/recommend/sell.ts";
import { embedded } from "../../runtime/index.ts";
import { shelfWithout } from "../support/baskets.ts";
import { onBothStores } from "../support/example-stores.ts";
import { temporaryPath } from "../support/temporary.ts";

const quiet: Progress = { start: () => undefined, update: () => undefined, stop: () => undefined };
const never = new AbortController().signal;

let baskets: readonly Basket[];

beforeAll(async () => {
  baskets = await readBaskets(installedModules());
});

describe("the baskets", () => {
  it("are those of the installed packages, each once, always in the same order", async () => {
    expect(baskets.length).toBeGreaterThan(150);
    expect(new Set(baskets.map(({ name }) => name)).size).toBe(baskets.length);
    const { items } = baskets.find(({ name }) => name === "cli-table3") as Basket;
    expect(items).toContain("string-width");
    expect(await readBaskets(installedModules())).toEqual(baskets);
    const heldOut = baskets.filter(isHeldOut).length / baskets.length;
    expect(heldOut).toBeGreaterThan(0.1);
    expect(heldOut).toBeLessThan(0.3);
  });
});

describe("the advice", () => {
  const small = shelfWithout([
    { name: "1", items: ["bread", "butter"] },
    { name: "2", items: ["bread", "butter", "jam"] },
    { name: "3", items: ["bread", "beer"] },
    { name: "4", items: ["beer", "crisps"] },
  ]);

  it("is what was together with most of the items, without those that are there already", () => {
    expect(adviceFor(["bread"], small)).toEqual([
      { item: "butter", chance: 2 / 4 },
      { item: "beer", chance: 1 / 4 },
      { item: "jam", chance: 1 / 4 },
    ]);
    expect(adviceFor(["bread", "butter"], small)).toEqual([
      { item: "jam", chance: (1 / 4 + 1 / 3) / 2 },
      { item: "beer", chance: 1 / 8 },
    ]);
    expect(adviceFor(["caviar"], small)).toEqual([]);
    expect(popularOf(small)).toEqual(["bread", "beer", "butter", "crisps", "jam"]);
  });

  it("is tested with what it could know only", () => {
    const heldOut = [{ name: "5", items: ["bread", "butter", "caviar"] }];
    expect(hitRates(heldOut, small)).toEqual({ hidden: 2, unknown: 1, together: 1, popular: 1 });
  });
});

describe("counts in bounded space", () => {
  it("are exact while there is room", () => {
    const names = ["constructor", "__proto__", "a", "constructor"];
    expect([...counted(new Map(), names, 3)]).toEqual([
      ["constructor", { count: 2, over: 0 }],
      ["__proto__", { count: 1, over: 0 }],
      ["a", { count: 1, over: 0 }],
    ]);
  });

  it("are never too low and too high by little, and what is frequent is there", () => {
    const lists = fc.array(fc.array(fc.constantFrom(..."abcdefghijkl"), { maxLength: 5 }), { maxLength: 40 });
    fc.assert(
      fc.property(lists, fc.integer({ min: 1, max: 8 }), (seen, room) => {
        let kept: Counts = new Map();
        for (const names of seen) kept = counted(kept, names, room);
        const all = seen.flat();
        expect(kept.size).toBeLessThanOrEqual(room);
        for (const name of new Set(all)) {
          const truth = all.filter((one) => one === name).length;
          const count = kept.get(name);
          if (count === undefined) expect(truth).toBeLessThanOrEqual(all.length / room);
          else {
            expect(count.count).toBeGreaterThanOrEqual(truth);
            expect(surely(count)).toBeLessThanOrEqual(truth);
            expect(count.over).toBeLessThanOrEqual(all.length / room);
          }
        }
      }),
    );
  });
});

onBothStores(
  () => {
    const path = temporaryPath();
    return () => embedded({ path });
  },
  (open) => {
    it("counts every basket once, stopped half way and gone on, and beats the most popular", async () => {
      const stop = new AbortController();
      const store = await open();
      const half = { ...quiet, update: (done: number) => done === 50 && stop.abort() };
      const run = (signal: AbortSignal, progress: Progress) =>
        withNode(store, (client) => learn(client, { signal, progress }));
      expect(await run(stop.signal, half)).toBeUndefined();
      const report = await run(never, quiet);

      const expected = shelfWithout(baskets.filter((basket) => !isHeldOut(basket)));
      await withNode(store, async (client) => {
        const known = await shelfOf(
          client,
          baskets.flatMap(({ items }) => items),
        );
        expect(known.size).toBe(expected.size);
        expect([...expected].filter(([name, row]) => !isDeepStrictEqual(known.get(name), row))).toEqual([]);

        const { advice, unknown } = await recommend(client, ["mocha", "nobody/has-this"]);
        expect(unknown).toEqual(["nobody/has-this"]);
        expect(advice).toEqual(adviceFor(["mocha"], expected).slice(0, 10));
      });
      await store.close();

      const heldOut = baskets.filter(isHeldOut);
      expect(report).toMatchObject({
        baskets: baskets.length - heldOut.length,
        heldOut: heldOut.length,
        items: expected.size,
        ...hitRates(heldOut, expected),
      });
      // About 0.65 and 0.27; what is installed differs from system to system.
      expect(report?.together).toBeGreaterThan(0.45);
      expect(report?.together).toBeGreaterThan(1.5 * (report?.popular as number));
    }, 60_000);
  },
);
