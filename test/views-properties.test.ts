/** Windows, lateness, sessions, splitting and sketches beside plain reference implementations, for drawn events. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  count,
  defineSink,
  defineView,
  distinct,
  hopping,
  max,
  min,
  session,
  sum,
  topK,
  toFunction,
  tumbling,
  type WindowSpec,
} from "../runtime/streams/index.ts";
import { hash53 } from "../runtime/streams/views/hash.ts";
import {
  Change,
  emptyContext,
  mergedWindows,
  type ViewContext,
  windowsOf,
} from "../runtime/streams/views/state.ts";
import { simulateActor, testRuntime } from "../runtime/testing/index.ts";
import { decode, encode } from "../runtime/words/codec.ts";
import { emitter, sold } from "./support/emitter.ts";

interface Item {
  readonly time: number;
  readonly cents: number;
  readonly product: string;
}

const by = { type: "t", key: "k", address: "t/k", at: 0 };
const aggregates = {
  n: count(),
  sum: sum("cents"),
  least: min("cents"),
  most: max("cents"),
  products: distinct("product", { exact: 64 }),
  top: topK(3, { by: "product", weight: "cents" }),
};

/** What the view's actor does, turn by turn, each state as it would come back from a store. */
function viewed(window: WindowSpec | undefined, items: readonly Item[]) {
  const shape = { aggregates, window };
  let context: ViewContext = emptyContext;
  const closed: { start: number; end: number; events: number }[] = [];
  for (const item of items) {
    const event = { type: "item", ...item };
    const taken: Record<string, unknown> = {};
    for (const [name, aggregate] of Object.entries(aggregates)) taken[name] = aggregate.take(event, by);
    const change = new Change(shape, context);
    change.add({ time: item.time, taken });
    let more = change.more;
    closed.push(...change.closed);
    context = decode(encode({ ...context, ...change.update })) as ViewContext;
    while (more) {
      const next = new Change(shape, context);
      next.close();
      more = next.more;
      closed.push(...next.closed);
      context = { ...context, ...next.update };
    }
  }
  return { context, windows: windowsOf(shape, context), closed, shape };
}

interface Plain {
  start: number;
  end: number;
  closed: boolean;
  items: Item[];
}

/** The same, written down plainly: all events of every window are kept. */
function reference(window: WindowSpec, items: readonly Item[]) {
  const { size_ms, every_ms, lateness_ms, keep, kind } = window;
  let windows: Plain[] = [];
  const closings: Plain[] = [];
  let latest = Number.NEGATIVE_INFINITY;
  let late = 0;
  for (const item of items) {
    const watermark = latest - lateness_ms;
    let counted = false;
    if (kind === "session") {
      const own: Plain = { start: item.time, end: item.time + size_ms, closed: false, items: [] };
      const touching = windows.filter((w) => !w.closed && w.start < own.end && w.end > own.start);
      const all = [...touching, own];
      const grown: Plain = {
        start: Math.min(...all.map((w) => w.start)),
        end: Math.max(...all.map((w) => w.end)),
        closed: false,
        items: [...all.flatMap((w) => w.items), item],
      };
      if (grown.end > watermark) {
        windows = [...windows.filter((w) => !touching.includes(w)), grown];
        counted = true;
      }
    } else {
      for (
        let start = Math.floor(item.time / every_ms) * every_ms;
        start > item.time - size_ms;
        start -= every_ms
      ) {
        if (start + size_ms <= watermark) continue;
        let found = windows.find((w) => w.start === start && !w.closed);
        if (found === undefined)
          windows.push((found = { start, end: start + size_ms, closed: false, items: [] }));
        found.items.push(item);
        counted = true;
      }
    }
    if (!counted) late++;
    latest = Math.max(latest, item.time);
    const ready = windows.filter((w) => !w.closed && w.end <= latest - lateness_ms);
    ready.sort((a, b) => a.end - b.end || a.start - b.start);
    for (const w of ready) {
      w.closed = true;
      closings.push(w);
    }
    const old = windows.filter((w) => w.closed).sort((a, b) => a.end - b.end || a.start - b.start);
    const dropped = new Set(old.slice(0, Math.max(0, old.length - keep)));
    windows = windows.filter((w) => !dropped.has(w));
  }
  windows.sort((a, b) => a.start - b.start || a.end - b.end);
  return { windows, late, closings };
}

function directly(items: readonly Item[]) {
  const weights = new Map<string, number>();
  for (const { product, cents } of items) weights.set(product, (weights.get(product) ?? 0) + cents);
  return {
    n: items.length,
    sum: items.reduce((all, { cents }) => all + cents, 0),
    least: Math.min(...items.map(({ cents }) => cents)),
    most: Math.max(...items.map(({ cents }) => cents)),
    products: { count: weights.size, exact: true },
    top: [...weights]
      .filter(([, weight]) => weight > 0)
      .sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1))
      .slice(0, 3)
      .map(([value, weight]) => ({ value, weight, error: 0 })),
  };
}

function resultsOf(states: Readonly<Record<string, unknown>>) {
  return Object.fromEntries(
    Object.entries(aggregates).map(([name, aggregate]) => [name, aggregate.result(states[name] as never)]),
  );
}

const item = fc.record({
  time: fc.integer({ min: -50, max: 1_000 }),
  cents: fc.integer({ min: 0, max: 100 }),
  product: fc.constantFrom("a", "b", "c", "d", "e", "1"),
});
const items = fc.array(item, { maxLength: 60 });
/** Mostly in order, as real streams are. */
const nearly = items.map((list) => list.map((one, at) => ({ ...one, time: at * 15 + (one.time % 40) })));

const windows = fc.oneof(
  fc
    .record({
      size: fc.integer({ min: 1, max: 100 }),
      lateness: fc.integer({ min: 0, max: 120 }),
      keep: fc.integer({ min: 0, max: 5 }),
    })
    .map(({ size, lateness, keep }) => tumbling(size, { lateness, keep })),
  fc
    .record({
      size: fc.integer({ min: 5, max: 100 }),
      every: fc.integer({ min: 5, max: 100 }),
      lateness: fc.integer({ min: 0, max: 60 }),
      keep: fc.integer({ min: 0, max: 50 }),
    })
    .map(({ size, every, lateness, keep }) =>
      hopping(Math.max(size, every), Math.min(size, every), { lateness, keep }),
    ),
  fc
    .record({
      gap: fc.integer({ min: 1, max: 60 }),
      lateness: fc.integer({ min: 0, max: 120 }),
      keep: fc.integer({ min: 0, max: 5 }),
    })
    .map(({ gap, lateness, keep }) => session(gap, { lateness, keep })),
);

describe("windows", () => {
  it("hold, close, drop and leave out the same as the plain reference, for any events in any order", () => {
    fc.assert(
      fc.property(windows, fc.oneof(items, nearly), (window, list) => {
        const mine = viewed(window, list);
        const plain = reference(window, list);
        expect(mine.context.m.late).toBe(plain.late);
        expect(mine.context.m.seen).toBe(list.length);
        expect(mine.closed.map(({ start, end, events }) => [start, end, events])).toEqual(
          plain.closings.map((w) => [w.start, w.end, w.items.length]),
        );
        expect(mine.windows.map(({ states, ...rest }) => ({ ...rest, ...resultsOf(states) }))).toEqual(
          plain.windows.map(({ start, end, closed, items: held }) => ({
            start,
            end,
            closed,
            events: held.length,
            ...directly(held),
          })),
        );
      }),
      { numRuns: 400 },
    );
  });

  it("never take more properties than there are windows at once", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4 }), nearly, (keep, list) => {
        const { context } = viewed(tumbling(10, { lateness: 20, keep }), list);
        expect(context.m.slots).toBeLessThanOrEqual(keep + 6);
      }),
    );
  });
});

describe("split keys", () => {
  it("are merged into what one actor would have, however events are shared out", () => {
    fc.assert(
      fc.property(items, fc.integer({ min: 1, max: 5 }), fc.boolean(), (list, parts, windowed) => {
        // Lateness enough, and all are kept: what is late is judged by each part.
        const window = windowed ? tumbling(50, { lateness: 2_000 }) : undefined;
        const one = viewed(window, list);
        const several = Array.from({ length: parts }, (_, part) =>
          viewed(
            window,
            list.filter((_item, at) => at % parts === part),
          ),
        );
        const merged = mergedWindows(
          one.shape,
          several.map((each) => each.windows),
        );
        expect(merged.map(({ states, ...rest }) => ({ ...rest, ...resultsOf(states) }))).toEqual(
          one.windows.map(({ states, ...rest }) => ({ ...rest, ...resultsOf(states) })),
        );
      }),
    );
  });

  it("on the runtime: equal to a direct computation, with windows, whichever actors emit", async () => {
    const view = defineView("split", {
      over: emitter,
      on: "sold",
      key: (event) => event.shop,
      aggregate: {
        orders: count(),
        revenue: sum("cents"),
        products: distinct("product"),
        top: topK(2, { by: "product" }),
      },
      window: hopping(100, 50, { time: "at", lateness: "1 s", keep: 10, ahead: Number.POSITIVE_INFINITY }),
      split: 4,
    });
    const t = await testRuntime({ actors: [emitter, ...view.actors], nodes: 2 });
    const events = Array.from({ length: 120 }, (_, at) =>
      sold(at % 3 === 0 ? "a" : "b", at * 7, at, `p${at % 5}`),
    );
    await Promise.all(
      events.map((event, at) => t.client.actor(emitter, `e${at % 13}`).ask({ type: "emit", event })),
    );
    await t.settle();
    for (const shop of ["a", "b"]) {
      const own = events.filter((event) => event.shop === shop);
      const shown = await view.reader(t.client).windows(shop);
      const starts = [
        ...new Set(own.flatMap(({ at }) => [Math.floor(at / 50) * 50, Math.floor(at / 50) * 50 - 50])),
      ].sort((a, b) => a - b);
      expect(shown.map(({ start }) => start)).toEqual(starts);
      for (const { start, end, values, events: n } of shown) {
        const within = own.filter(({ at }) => at >= start && at < end);
        expect([n, values.orders, values.revenue]).toEqual([
          within.length,
          within.length,
          within.reduce((all, { cents }) => all + cents, 0),
        ]);
        expect(values.products).toEqual({
          count: new Set(within.map(({ product }) => product)).size,
          exact: true,
        });
      }
    }
    await t.stop();
  });
});

describe("sketches", () => {
  it("count a hundred thousand different values within three standard errors, also merged, and say that it is an estimate", () => {
    for (const precision of [8, 11, 14]) {
      const aggregate = distinct("v", { exact: 10, precision });
      for (const many of [11, 300, 5_000, 100_000]) {
        let whole: unknown = aggregate.empty;
        const parts: unknown[] = [aggregate.empty, aggregate.empty];
        for (let at = 0; at < many; at++) {
          const taken = aggregate.take({ type: "x", v: `visitor ${at}` }, by);
          whole = aggregate.add(whole, taken);
          if (precision === 11 && many <= 5_000) parts[at % 2] = aggregate.add(parts[at % 2], taken);
        }
        const { count: estimate, exact } = aggregate.result(whole);
        expect(exact).toBe(false);
        expect(Math.abs(estimate - many) / many).toBeLessThan((3 * 1.04) / Math.sqrt(2 ** precision));
        if (precision === 11 && many <= 5_000) expect(aggregate.merge(parts[0], parts[1])).toEqual(whole);
      }
    }
  });

  it("golden: hashes never change", () => {
    expect(["", "a", "visitor 1", "ü€𐍈", 7, "7", true, -0.5].map(hash53)).toMatchInlineSnapshot(`
      [
        7605386321634802,
        4026904241565018,
        7447616549803548,
        4988977640246947,
        6323791012147182,
        7702471381004633,
        3495607960222934,
        2153719696266990,
      ]
    `);
  });

  it("are exact below their bound whatever the order, and merge to the same", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom("a", "b", "c", 1, 2), fc.integer({ min: 0, max: 9 }))),
        (list) => {
          const aggregate = topK(10, { by: "v", weight: "w" });
          const run = (some: typeof list): unknown =>
            some.reduce<unknown>((state, [v, w]) => {
              return aggregate.add(state, aggregate.take({ type: "x", v, w }, by));
            }, aggregate.empty);
          const all = aggregate.result(run(list));
          const half = Math.floor(list.length / 2);
          expect(aggregate.result(aggregate.merge(run(list.slice(half)), run(list.slice(0, half))))).toEqual(
            all,
          );
          expect(all.every(({ error }) => error === 0)).toBe(true);
        },
      ),
    );
  });

  it("of heavy values over a bound: none above total / capacity is missed, and the error is a bound", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 1, maxLength: 400 }),
        fc.integer({ min: 1, max: 3 }),
        (list, parts) => {
          const capacity = 10;
          const aggregate = topK(capacity, { by: "v", capacity });
          const states = Array.from({ length: parts }, (): unknown => aggregate.empty);
          const real = new Map<number, number>();
          for (const [at, value] of list.entries()) {
            // Squared, so that some are heavy.
            const v = Math.floor((value * value) / 40);
            real.set(v, (real.get(v) ?? 0) + 1);
            states[at % parts] = aggregate.add(states[at % parts], aggregate.take({ type: "x", v }, by));
          }
          const merged = states.reduce((a, b) => aggregate.merge(a, b));
          const shown = aggregate.result(merged);
          for (const { value, weight, error } of shown) {
            const truly = real.get(value as number) ?? 0;
            expect(weight).toBeGreaterThanOrEqual(truly);
            expect(weight - error).toBeLessThanOrEqual(truly);
          }
          if (parts > 1) return;
          for (const [value, weight] of real)
            if (weight > list.length / capacity) expect(shown.map((one) => one.value)).toContain(value);
        },
      ),
    );
  });
});

describe("views and sinks in the simulator", () => {
  it("take part in clusters that crash, pause and lose power, and every channel adds up, also those of sinks", async () => {
    const view = defineView("seen", {
      over: emitter,
      key: () => "all",
      aggregate: { n: count() },
      window: tumbling("1 s", { ahead: Number.POSITIVE_INFINITY }),
    });
    const split = defineView("split", {
      over: emitter,
      key: () => "all",
      aggregate: { n: count() },
      split: 3,
    });
    const out = defineSink("out", {
      over: emitter,
      to: toFunction(() => undefined),
      partitions: 2,
      buffer: { events: 3 },
    });
    const report = await simulateActor(emitter, {
      events: (random) => ({ type: "emit" as const, event: { type: "other", n: random.whole(1, 9) } }),
      actors: [...view.actors, ...split.actors, ...out.actors],
      seeds: 3,
    });
    expect(report.turns).toBeGreaterThan(300);
  });
});
