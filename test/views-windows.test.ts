/** Windows of views: each is emitted once as it closes, also of keys that have become idle, and many at once. */
import { describe, expect, it } from "vitest";
import { count, defineView, distinct, max, sum, tumbling } from "../runtime/streams/index.ts";
import { testRuntime } from "../runtime/testing/index.ts";
import { emitter, sold } from "./support/emitter.ts";

const HOUR = 3_600_000;
/** Where test runtimes begin. */
const START = Date.UTC(2030, 0, 1);

describe("a view", () => {
  it("emits each window once as it closes, for other views and subscriptions; and what is late", async () => {
    const hourly = defineView("hourly", {
      over: emitter,
      on: "sold",
      key: (event) => event.shop,
      aggregate: { orders: count(), revenue: sum("cents") },
      window: tumbling("1 hour", { time: "at", keep: 2 }),
    });
    const best = defineView("best", {
      over: hourly,
      on: "window.closed",
      key: () => "all",
      aggregate: { hours: count(), most: max((event) => event.values.revenue), events: sum("events") },
    });
    const tooLate = defineView("too-late", {
      over: hourly,
      on: "window.late",
      aggregate: { n: count(), lost: sum("taken.revenue") },
    });
    const t = await testRuntime({
      actors: [emitter, ...hourly.actors, ...best.actors, ...tooLate.actors],
      nodes: 2,
    });
    t.deliveredTwice();
    const till = t.client.actor(emitter, "till");
    for (const [hour, cents] of [
      [0, 5],
      [0, 6],
      [1, 20],
      [0, 1_000],
      [4, 1],
      [5, 2],
      [6, 3],
    ] as const) {
      await till.ask({ type: "emit", event: sold("a", START + hour * HOUR, cents) });
      await t.crash();
    }
    await t.settle();
    const state = await hourly.reader(t.client).get("a");
    expect([state.events, state.late, state.watermark, state.dropped]).toEqual([
      7,
      1,
      START + 6 * HOUR,
      START + 2 * HOUR,
    ]);
    const windows = await hourly.reader(t.client).windows("a");
    expect(windows.map(({ start, closed, events }) => [(start - START) / HOUR, closed, events])).toEqual([
      [4, true, 1],
      [5, true, 1],
      [6, false, 1],
    ]);
    expect((await best.reader(t.client).get("all")).values).toEqual({ hours: 4, most: 20, events: 5 });
    expect((await tooLate.reader(t.client).get("a")).values).toEqual({ n: 1, lost: 1_000 });
    await t.stop();
  });

  it("closes the windows of a key that has become idle", async () => {
    const hourly = defineView("hourly", {
      over: emitter,
      key: () => "all",
      aggregate: { n: count() },
      window: tumbling("1 hour", { time: "at", idle: "5 minutes" }),
    });
    const closed = defineView("closed", {
      over: hourly,
      on: "window.closed",
      aggregate: { n: sum("values.n") },
    });
    const t = await testRuntime({ actors: [emitter, ...hourly.actors, ...closed.actors] });
    const till = t.client.actor(emitter, "till");
    await till.ask({ type: "emit", event: sold("a", START) });
    await t.advance("4 minutes");
    await till.ask({ type: "emit", event: sold("a", START + 1) });
    await t.advance("2 minutes");
    expect((await hourly.reader(t.client).window("all", START))?.closed).toBe(false);
    await t.crash();
    await t.advance("5 minutes");
    expect(await hourly.reader(t.client).window("all", START)).toMatchObject({ closed: true, events: 2 });
    expect((await closed.reader(t.client).get("all")).values.n).toBe(2);
    await till.ask({ type: "emit", event: sold("a", START + 2) });
    await till.ask({ type: "emit", event: sold("a", START + HOUR) });
    await t.advance("1 hour");
    expect(await hourly.reader(t.client).get("all")).toMatchObject({ events: 4, late: 1 });
    expect((await closed.reader(t.client).get("all")).values.n).toBe(3);
    await t.stop();
  });

  it("closes many windows at once in several turns, none twice", async () => {
    const tiny = defineView("tiny", {
      over: emitter,
      key: () => "all",
      aggregate: { n: count() },
      window: tumbling("1 s", { time: "at", lateness: "200 s", keep: 10 }),
    });
    const closed = defineView("closed", {
      over: tiny,
      on: "window.closed",
      aggregate: { n: count(), starts: distinct("start") },
    });
    const t = await testRuntime({ actors: [emitter, ...tiny.actors, ...closed.actors] });
    const till = t.client.actor(emitter, "till");
    const events = Array.from({ length: 150 }, (_, at) => sold("a", START + at * 1_000));
    await till.ask({ type: "burst", events });
    await till.ask({ type: "emit", event: sold("a", START + 1_000_000) });
    await t.settle();
    expect((await closed.reader(t.client).get("all")).values).toEqual({
      n: 150,
      starts: { count: 150, exact: true },
    });
    expect(await tiny.reader(t.client).windows("all")).toHaveLength(11);
    await t.stop();
  });
});
