/**
 * The statistics: what lines of a log mean, when sessions end, and that what the actors come to is what a direct count of
 * the same file says, on both stores, stopped half way and gone on.
 */
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createActor, SimulatedClock } from "xstate";
import type { Progress } from "../../examples/program.ts";
import { hourOf, parseLine } from "../../examples/statistics/common-log.ts";
import { directFlights, flightDifferences } from "../../examples/statistics/flights-direct.ts";
import { statistics, type StatisticsOptions } from "../../examples/statistics/statistics.ts";
import { recordTraffic } from "../../examples/statistics/traffic.ts";
import { hours, pages } from "../../examples/statistics/views.ts";
import { PAUSE_MS, visitor, type VisitorEvent } from "../../examples/statistics/visitor.ts";
import { type Direct, differencesOf, directCount } from "../../examples/statistics/web-direct.ts";
import { embedded } from "../../runtime/index.ts";
import { testRuntime } from "../../runtime/testing/index.ts";
import { encodeKey } from "../../runtime/words/address.ts";
import { onBothStores } from "../support/example-stores.ts";
import { temporaryPath } from "../support/temporary.ts";

const MINUTE = 60_000;
const VISITORS = 50;
const FLIGHTS = 20_000;
const quiet: Progress = { start: () => undefined, update: () => undefined, stop: () => undefined };
const never = new AbortController().signal;

const FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0";
const line = (request: string, status = 200, agent = FIREFOX, time = "26/Nov/2026:15:04:05 +0100"): string =>
  `192.0.2.7 - - [${time}] "${request}" ${status} 512 "-" "${agent}"`;

describe("a line of a log", () => {
  it.each([
    ["GET /a/b?c=d HTTP/1.1", 200, "view", "/a/b", 0],
    ["GET / HTTP/2.0", 304, "view", "/", 0],
    ["GET /logo.PNG?v=3 HTTP/1.1", 200, "other", "(files)", 0],
    ["GET /gone HTTP/1.1", 404, "other", "/gone", 0],
    ["POST /cart HTTP/1.1", 201, "cart", "/cart", 0],
    ["POST /cartoons HTTP/1.1", 200, "other", "/cartoons", 0],
    ["POST /orders?total=49.90&x=1 HTTP/1.1", 201, "order", "/orders", 4_990],
    ["POST /orders/17?value=1e9 HTTP/1.1", 302, "order", "/orders/17", 0],
    ["POST /orders?total=49.90 HTTP/1.1", 409, "other", "/orders", 0],
    ["GET http://example.com/a HTTP/1.1", 200, "view", "/a", 0],
    ["-", 408, "other", "(no request)", 0],
    ['\\x16\\x03\\x01 \\"hello\\"', 400, "other", "(no request)", 0],
  ] as const)("says what was asked for: %s, answered %i", (request, status, kind, page, cents) => {
    expect(parseLine(line(request, status))).toMatchObject({ kind, page, cents, status, bytes: 512 });
  });

  it("says when it was and by whom; in Common Log Format too", () => {
    const hit = parseLine(line("GET / HTTP/1.1"));
    expect(hit?.at).toBe(Date.UTC(2026, 10, 26, 14, 4, 5));
    expect(hourOf(hit?.at ?? 0)).toBe("2026-11-26T14");
    expect(hit?.visitor).toMatch(/^192\.0\.2\.7~[0-9a-f]{6}$/);
    const common = '2001:db8::1 - ada lovelace [29/Feb/2024:23:59:59 -0830] "GET /x HTTP/1.0" 200 -';
    expect(parseLine(common)).toMatchObject({
      visitor: "ada lovelace",
      at: Date.UTC(2024, 2, 1, 8, 29, 59),
      bytes: 0,
    });
    const robot = parseLine(
      line("GET / HTTP/1.1", 200, "Mozilla/5.0 (compatible; ExampleBot/2.1; +https://e.com)"),
    );
    expect(robot).toMatchObject({ kind: "robot", visitor: "ExampleBot" });
    expect(parseLine("  ")).toBeUndefined();
    // Neither takes long.
    const long = "a".repeat(60_000);
    expect(parseLine(line(`GET /${long} HTTP/1.1`, 200, long))).toMatchObject({ kind: "view" });
    expect(parseLine(line("GET / HTTP/1.1", 200, `${long}bot`))?.visitor).toMatch(/^a{40}bot$/);
  });

  it.each([
    "hello",
    line("GET / HTTP/1.1").slice(0, 60),
    line("GET / HTTP/1.1", 200, FIREFOX, "31/Jun/2026:15:04:05 +0000"),
    line("GET / HTTP/1.1", 200, FIREFOX, "26/Nox/2026:15:04:05 +0000"),
    line("GET / HTTP/1.1", 200, FIREFOX, "26/Nov/2026:25:04:05 +0000"),
  ])("that is none is refused: %s", (text) => {
    expect(() => parseLine(text)).toThrow(/^(It is not in Common Log Format|Its time is none)/);
  });

  it("whatever it holds, its page and its visitor are keys of actors", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "binary", maxLength: 80 }),
        fc.string({ maxLength: 200 }),
        (path, user) => {
          const request = `GET /${path.replace(/[\s"\\]/g, "")} HTTP/1.1`;
          const text = `192.0.2.7 - ${user.replace(/[\s[]/g, "")} [26/Nov/2026:15:04:05 +0100] "${request}" 200 5`;
          const hit = parseLine(text);
          for (const key of [hit?.page ?? "", hit?.visitor ?? ""]) expect(() => encodeKey(key)).not.toThrow();
        },
      ),
      { numRuns: 50 },
    );
  });
});

const hit = (kind: "view" | "cart" | "order" | "other", minute: number): VisitorEvent => ({
  type: `hit.${kind}`,
  at: minute * MINUTE,
  page: "/",
  status: 200,
  bytes: 1,
  cents: kind === "order" ? 100 : 0,
});

describe("a session", () => {
  it("does not depend on when timers fired: what they ended too early goes on", () => {
    const events = fc.array(
      fc.tuple(
        fc.constantFrom("view", "cart", "order", "other"),
        fc.integer({ min: 0, max: 45 }),
        fc.boolean(),
      ),
      { maxLength: 25 },
    );
    fc.assert(
      fc.property(events, (steps) => {
        const play = (timers: boolean) => {
          const clock = new SimulatedClock();
          const actor = createActor(visitor.machine, { clock, input: {} as never }).start();
          let emitted = 0;
          actor.on("hit", () => emitted++);
          let minute = 1_000;
          for (const [kind, pause, fires] of steps) {
            actor.send(hit(kind, (minute += pause)));
            if (timers && fires) clock.increment(PAUSE_MS);
          }
          actor.send({ type: "clock", at: (minute + 60) * MINUTE });
          const { context, value } = actor.getSnapshot();
          expect(emitted).toBe(steps.length);
          expect(context.left + context.abandoned + context.bought).toBe(context.sessions);
          return { context, value };
        };
        expect(play(true)).toEqual(play(false));
      }),
    );
  });

  it("of a live visitor ends by a durable timer, half an hour after the last line, over crashes too", async () => {
    const t = await testRuntime({ actors: [visitor, ...pages.actors, ...hours.actors] });
    const ada = t.client.actor(visitor, "ada");
    const minute = t.now() / MINUTE;
    await ada.send(hit("view", minute));
    await t.advance("20 minutes");
    await ada.send(hit("cart", minute + 20));
    await t.advance("20 minutes");
    expect((await ada.get()).value).toEqual({ active: "cart" });
    await t.crash();
    await t.advance("11 minutes");
    expect((await ada.get()).value).toEqual({ over: "abandoned" });

    // The line was on its way for long: the session was not over.
    await ada.send(hit("order", minute + 45));
    expect(await ada.get()).toMatchObject({
      value: { active: "ordered" },
      context: { sessions: 1, abandoned: 0, orders: 1, lasted_ms: 45 * MINUTE },
    });
    await t.advance("1 hour");
    await ada.send(hit("view", minute + 200));
    expect(await ada.get()).toMatchObject({
      value: { active: "browsing" },
      context: { sessions: 2, bought: 1, abandoned: 0, left: 0 },
    });
    await t.settle();
    const { values } = await pages.reader(t.client).get("/");
    expect(values).toMatchObject({
      requests: 4,
      views: 2,
      orders: 1,
      cents: 100,
      visitors: { count: 1, exact: true },
    });
    await t.stop();
  });
});

onBothStores(
  () => {
    const path = temporaryPath();
    return () => embedded({ path });
  },
  (open) => {
    let log: string;
    beforeAll(async () => {
      log = (await recorded()).log;
    });

    it("is what a direct count says, stopped half way and gone on", { timeout: 60_000 }, async () => {
      const store = await open();
      const options: StatisticsOptions = { log, take: FLIGHTS, signal: never, progress: quiet };
      const stop = new AbortController();
      const progress = { ...quiet, update: (done: number) => done > 0 && stop.abort() };
      expect(await statistics(store, { ...options, signal: stop.signal, progress })).toBeUndefined();
      const { log: web, flights } = (await statistics(store, options)) ?? {};
      expect(web?.differences).toEqual([]);
      expect(flights?.differences).toEqual([]);
      expect(flights).toMatchObject({ flights: FLIGHTS, malformed: 0 });
      expect(flights?.airports.reduce((sum, { arrivals }) => sum + arrivals, 0)).toBe(FLIGHTS);

      // What the shop has written, found in another way.
      const text = readFileSync(log, "latin1");
      const orders = [...text.matchAll(/"POST \/orders\?total=([\d.]+) HTTP\/1.1" 201 /g)];
      const cents = orders.reduce((sum, [, total]) => sum + Math.round(100 * Number(total)), 0);
      expect(orders.length).toBeGreaterThan(5);
      expect(web?.totals).toMatchObject({
        orders: orders.length,
        cents,
        requests: text.split("\n").length - 1 - 3,
      });
      expect(web).toMatchObject({ malformed: 3, lines: text.split("\n").length - 1 });
      expect(web?.letters.map(({ reason }) => reason)).toEqual(
        Array(3).fill("It is not in Common Log Format."),
      );
      const { begun, bought, abandoned, left, active } = web?.sessions ?? {};
      expect([bought, abandoned, left].every((count) => (count ?? 0) > 5)).toBe(true);
      expect((bought ?? 0) + (abandoned ?? 0) + (left ?? 0) + (active ?? 0)).toBe(begun);

      const again = await statistics(store, { ...options, only: "log" });
      expect(again?.log).toMatchObject({
        work: { now: 0, before: web?.lines },
        totals: web?.totals,
        hours: web?.hours,
      });
      await store.close();
    });
  },
);

describe("the log", () => {
  it("is followed as it is written, and goes on where it was", { timeout: 30_000 }, async () => {
    const folder = temporaryPath();
    const log = join(folder, "access.log");
    writeFileSync(log, `${line("GET /one HTTP/1.1")}\n`);
    const store = await embedded({ path: join(folder, "data") });
    const until = new AbortController();
    let appended = false;
    const onLines = (lines: number): void => {
      if (lines === 1 && !appended) {
        appended = true;
        appendFileSync(log, `${line("GET /two HTTP/1.1")}\n${line("GET /three HTTP/1.1")}`);
      }
      if (lines === 2) until.abort();
    };
    const options: StatisticsOptions = { log, only: "log", onLines, signal: never, progress: quiet };
    const { log: first } = (await statistics(store, { ...options, until: until.signal })) ?? {};
    // A line that is not whole waits.
    expect(first).toMatchObject({ lines: 2, malformed: 0, differences: [], work: { now: 2 } });
    const { log: then } = (await statistics(store, options)) ?? {};
    expect(then).toMatchObject({ lines: 3, differences: [], work: { now: 1, before: 2 } });
    await store.close();
  });

  it("is checked: whatever the actors had wrong would be named", async () => {
    const { log, bytes } = await recorded();
    const direct = (await directCount([{ path: log, bytes }])) as Direct;
    expect(differencesOf(direct, direct)).toEqual([]);
    // A timer may have ended what the log leaves open, and nothing else.
    expect(differencesOf({ ...direct, visitors: direct.timedOut }, direct)).toEqual([]);
    const open = [...direct.visitors].find(([, { active }]) => active === 0) as [string, { left: number }];
    const wrong = new Map(direct.visitors).set(open[0], {
      ...(open[1] as never as object),
      left: 99,
    } as never);
    expect(differencesOf({ ...direct, visitors: wrong }, direct)).toEqual([
      `visitors ${open[0]}, left: the actors say 99, the files ${open[1].left}`,
    ]);
    const without = new Map(direct.pages);
    without.delete("/");
    expect(differencesOf({ ...direct, pages: without }, direct)).toHaveLength(10);
    expect(await directCount([{ path: log, bytes: bytes + 1 }])).toBeUndefined();
    const flights = await directFlights(100);
    const missing = await directFlights(99);
    expect(flightDifferences(missing, flights).length).toBeGreaterThan(5);
  });
});

let folderOfAll: string;

beforeAll(() => {
  folderOfAll = mkdtempSync(join(tmpdir(), "keyturn-test-"));
});

afterAll(() => rmSync(folderOfAll, { recursive: true, force: true }));

let record: Promise<{ readonly log: string; readonly bytes: number }> | undefined;

/** The traffic, recorded once. */
function recorded() {
  record ??= (async () => {
    const log = join(folderOfAll, "access.log");
    expect(await recordTraffic(log, 7, { visitors: VISITORS, signal: never })).toBe(true);
    return { log, bytes: readFileSync(log).length };
  })();
  return record;
}
