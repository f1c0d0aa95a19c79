/** The test runtime, as somebody who writes actors uses it. */
import { defineActor, isKeyturnError, reply } from "keyturn";
import { TestFailure, testRuntime, type TestRuntime, type TestRuntimeOptions } from "keyturn/testing";
import { assign, raise, setup } from "xstate";
import { afterEach, describe, expect, it, vi } from "vitest";
import { bugs, Patcher } from "./sim/bugs/index.ts";
import { ledger, order } from "./support/shop.ts";
import { collected } from "./support/collected.ts";

const patcher = new Patcher();
const DAY = 86_400_000;
const running: TestRuntime[] = [];

async function start(options: Partial<TestRuntimeOptions> = {}): Promise<TestRuntime> {
  const t = await testRuntime({ actors: [order, ledger], ...options });
  running.push(t);
  return t;
}

afterEach(async () => {
  vi.useRealTimers();
  patcher.undo();
  for (const t of running.splice(0)) {
    expect(t.reports).toEqual([]);
    await t.stop();
  }
});

/** Beats every minute for ever, and notes when. */
const metronome = defineActor({
  type: "metronome",
  machine: setup({
    types: { context: {} as { beats: number }, events: {} as { type: "start" } | { type: "beat" } },
  }).createMachine({
    context: { beats: 0 },
    on: {
      start: { actions: raise({ type: "beat" as const }, { delay: 60_000 }) },
      beat: {
        actions: [
          assign({ beats: ({ context }) => context.beats + 1 }),
          raise({ type: "beat" as const }, { delay: 60_000 }),
        ],
      },
    },
  }),
});

/** Never comes to rest. */
const restless = defineActor({
  type: "restless",
  machine: setup({ types: { events: {} as { type: "go" } } }).createMachine({
    initial: "calm",
    states: {
      calm: { on: { go: "tick" } },
      tick: { after: { 0: "tock" } },
      tock: { after: { 0: "tick" } },
    },
  }),
});

/** Fails as told. */
const fragile = defineActor({
  type: "fragile",
  machine: setup({
    types: { context: {} as { n: number }, events: {} as { type: "break" } | { type: "late" } },
  }).createMachine({
    context: { n: 0 },
    on: {
      break: {
        actions: assign(() => {
          throw new Error("no glue");
        }),
      },
      late: {
        actions: () => {
          throw new Error("the printer is out of paper");
        },
      },
    },
  }),
});

describe("a test runtime", () => {
  it("is simply awaited, and time stands still", async () => {
    const t = await start();
    const begun = t.now();
    const ref = t.client.actor(order, "42");
    const state = await ref.ask({ type: "place", cents: 500 });
    expect(state.value).toBe("placed");
    expect(await ref.ask({ type: "total" })).toBe(500);
    expect(t.now()).toBe(begun);
    const [turn] = await collected(ref.history({ order: "oldest" }));
    expect(turn?.time).toBe(begun);
  });

  it("answers many at once, in order", async () => {
    const t = await start({ nodes: 3 });
    const refs = Array.from({ length: 50 }, (_, at) => t.client.actor(order, `o${at}`));
    await Promise.all(
      refs.flatMap((ref) => [ref.send({ type: "place", cents: 3 }), ref.send({ type: "pay", cents: 3 })]),
    );
    await t.settle();
    expect((await t.client.actor(ledger, "shop").get()).context).toEqual({ cents: 150, entries: 50 });
  });

  it("a watch sees every state that it waits for", async () => {
    const t = await start();
    const ref = t.client.actor(order, "42");
    const seen: unknown[] = [];
    const watching = (async () => {
      for await (const { value } of ref.watch()) {
        seen.push(value);
        if (value === "cancelled") return;
      }
    })();
    await t.settle();
    await ref.send({ type: "place", cents: 5 });
    await t.settle();
    await t.advance("3 days");
    await watching;
    expect(seen).toEqual(["new", "placed", "cancelled"]);
  });

  it("is not in the way of fake timers, nor they in its", async () => {
    vi.useFakeTimers();
    const t = await start();
    const ref = t.client.actor(order, "42");
    await ref.send({ type: "place", cents: 5 });
    await t.advance("3 days");
    expect((await ref.get()).value).toBe("cancelled");
  });

  it("runs the same under the same seed", async () => {
    const run = async (seed: number): Promise<unknown> => {
      const t = await start({ seed, nodes: 2 });
      await t.client.actor(order, "42").send({ type: "place", cents: 5 });
      await t.crash();
      const turns = await collected(t.client.actor(order, "42").history());
      return [t.now(), turns.map(({ position }) => position)];
    };
    expect(await run(5)).toEqual(await run(5));
  });
});

describe("advance", () => {
  it("fires a timer when its time has come, at exactly that time, and not before", async () => {
    const t = await start();
    const begun = t.now();
    const ref = t.client.actor(order, "42");
    await ref.send({ type: "place", cents: 500 });
    expect(await t.timers(ref)).toMatchObject([{ due: begun + 3 * DAY, in_ms: 3 * DAY }]);
    await t.advance(3 * DAY - 1);
    expect((await ref.get()).value).toBe("placed");
    await t.advance(1);
    expect((await ref.get()).value).toBe("cancelled");
    const [last] = await collected(ref.history({ limit: 1 }));
    expect(last?.time).toBe(begun + 3 * DAY);
    expect(await t.timers(ref)).toEqual([]);
  });

  it("fires what is set meanwhile too, each at its own time", async () => {
    const t = await start({ actors: [metronome] });
    const begun = t.now();
    const ref = t.client.actor(metronome, "a");
    await ref.send({ type: "start" });
    await t.advance("2 hours, 30 s");
    expect((await ref.get()).context.beats).toBe(120);
    const times = (await collected(ref.history({ order: "oldest" }))).map(({ time }) => time - begun);
    expect(times).toEqual(Array.from({ length: 121 }, (_, at) => at * 60_000));
    expect((await t.timers(ref)).map(({ in_ms }) => in_ms)).toEqual([30_000]);
  });

  it("fires timers of actors that nobody has touched since a crash, long after it", async () => {
    const t = await start({ nodes: 2, settings: { checkpointRecords: 5, activeActors: 4 } });
    const refs = Array.from({ length: 20 }, (_, at) => t.client.actor(order, `o${at}`));
    for (const ref of refs) {
      await ref.send({ type: "place", cents: 1 });
      await t.advance("1h");
    }
    await t.crash();
    await t.advance("3 days");
    for (const ref of refs) {
      const [last] = await collected(ref.history({ limit: 1 }));
      expect(last?.value).toBe("cancelled");
    }
    const first = await collected((refs[0] as (typeof refs)[0]).history());
    expect((first[0]?.time ?? 0) - (first[1]?.time ?? 0)).toBe(3 * DAY);
  });

  it("gives up on actors that never come to rest, and says so", async () => {
    const t = await start({ actors: [restless] });
    await t.client.actor(restless, "a").send({ type: "go" });
    const failure = await t.advance("1 s").catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(TestFailure);
    expect((failure as Error).message).toMatch(
      /did not come to rest at this time; what still moves: .*timer/,
    );
  });

  it.each(["3 fortnights", "", "-1 s", -5, 1.5, Number.NaN, "1 month", undefined])(
    "refuses %j",
    async (duration) => {
      const t = await start();
      const refused = await t.advance(duration as string).catch((error: unknown) => error);
      expect(isKeyturnError(refused, "invalid_options"), String(refused)).toBe(true);
    },
  );
});

describe("crash, failover, restart", () => {
  it("crash: what was answered is there, and what was asked meanwhile is answered", async () => {
    const t = await start({ nodes: 2 });
    const begun = t.now();
    const ref = t.client.actor(order, "42");
    await ref.send({ type: "place", cents: 500 });
    const paid = ref.ask({ type: "pay", cents: 500 });
    await t.crash();
    expect((await paid).value).toBe("paid");
    expect((await ref.get()).context).toEqual({ key: "42", cents: 500, paid: 500 });
    expect(t.now()).toBe(begun);
    await t.settle();
    expect((await t.client.actor(ledger, "shop").get()).context.entries).toBe(1);
  });

  it.each([1, 3])("failover of %i nodes: every actor goes on elsewhere", async (nodes) => {
    const t = await start({ nodes });
    const refs = Array.from({ length: 12 }, (_, at) => t.client.actor(order, `o${at}`));
    for (const ref of refs) await ref.send({ type: "place", cents: 7 });
    await t.failover();
    await t.failover(refs[3]);
    await t.failover(refs[3]);
    for (const ref of refs) await ref.send({ type: "pay", cents: 7 });
    await t.settle();
    expect((await t.client.actor(ledger, "shop").get()).context).toEqual({ cents: 84, entries: 12 });
    await t.advance("3 days");
    for (const ref of refs) expect((await ref.get()).value).toBe("paid");
  });

  it("restart: stops gracefully, and may bring other actors", async () => {
    const t = await start({ actors: [order] });
    const ref = t.client.actor(order, "42");
    await ref.send({ type: "place", cents: 500 });
    await t.restart();
    expect((await ref.get()).value).toBe("placed");
    await expect(t.client.actor(ledger, "shop").get()).rejects.toMatchObject({ code: "unknown_type" });
    await t.restart({ actors: [order, ledger] });
    await ref.send({ type: "pay", cents: 500 });
    await t.settle();
    expect((await t.client.actor(ledger, "shop").get()).context.entries).toBe(1);
  });

  it("deliveredTwice: repeated frames and writes change nothing", async () => {
    const t = await start({ nodes: 2 });
    t.deliveredTwice();
    const refs = Array.from({ length: 10 }, (_, at) => t.client.actor(order, `o${at}`));
    for (const ref of refs) {
      await ref.send({ type: "place", cents: 2 });
      await ref.send({ type: "pay", cents: 2 });
    }
    await t.failover();
    t.deliveredTwice(false);
    await t.settle();
    expect((await t.client.actor(ledger, "shop").get()).context).toEqual({ cents: 20, entries: 10 });
    for (const ref of refs) expect(await collected(ref.history())).toHaveLength(2);
  });
});

describe("it bites", () => {
  it.each(["no-request-dedupe", "no-told-dedupe"])("deliveredTwice shows %s", async (name) => {
    const t = await start({ shards: 2 });
    bugs.find((bug) => bug.name === name)?.install(undefined as never, patcher);
    t.deliveredTwice();
    const refs = Array.from({ length: 8 }, (_, at) => t.client.actor(order, `o${at}`));
    for (const ref of refs) {
      await ref.send({ type: "place", cents: 2 });
      await ref.send({ type: "pay", cents: 2 });
    }
    t.deliveredTwice(false);
    await t.settle();
    let taken = 0;
    for (const ref of refs) taken += (await collected(ref.history())).length;
    const { entries } = (await t.client.actor(ledger, "shop").get()).context;
    expect(taken > 2 * refs.length || entries > refs.length, `${taken} turns, ${entries} entries`).toBe(true);
  });

  it("crash shows requests-forgotten", async () => {
    bugs.find(({ name }) => name === "requests-forgotten")?.install(undefined as never, patcher);
    let most = 0;
    // The crash must come between the commit and the answer.
    for (let events = 1; events < 40; events++) {
      const t = await start();
      const ref = t.client.actor(ledger, "shop");
      const asked = ref.ask({ type: "add", cents: 1 });
      await t.pass(events);
      await t.crash();
      await asked;
      most = Math.max(most, (await ref.get()).context.entries);
    }
    expect(most).toBe(2);
  });
});

describe("what goes wrong", () => {
  it("a machine that throws rejects its caller and leaves the actor", async () => {
    const t = await start({ actors: [fragile] });
    const ref = t.client.actor(fragile, "a");
    await expect(ref.ask({ type: "break" })).rejects.toMatchObject({ code: "machine_failed" });
    expect((await ref.get()).turn).toBe(0);
  });

  it("a custom action that throws is reported", async () => {
    const t = await testRuntime({ actors: [fragile] });
    await t.client.actor(fragile, "a").send({ type: "late" });
    await t.settle();
    expect(t.reports).toEqual([expect.stringContaining("the printer is out of paper")]);
    await t.stop();
  });

  it("a told message that nobody takes is a dead letter", async () => {
    const t = await start({ actors: [order] });
    const ref = t.client.actor(order, "42");
    await ref.send({ type: "place", cents: 5 });
    await ref.send({ type: "pay", cents: 5 });
    expect(await t.deadLetters()).toMatchObject([{ type: "ledger", key: "shop", code: "unknown_type" }]);
  });

  it("stop rejects what is open, and everything after it", async () => {
    const t = await testRuntime({ actors: [order] });
    const open = t.client.actor(order, "42").ask({ type: "total" });
    await t.stop();
    await expect(open).rejects.toMatchObject({ code: "client_closed" });
    await expect(t.advance(1)).rejects.toThrow("was stopped");
    await expect(t.client.actor(order, "42").get()).rejects.toMatchObject({ code: "client_ended" });
    await t.stop();
  });

  it.each<[string, unknown]>([
    ["nothing", undefined],
    ["no actors", {}],
    ["no list of actors", { actors: undefined }],
    ["what is no actor", { actors: [{}] }],
    ["two actors of one type", { actors: [order, order] }],
    ["a negative seed", { actors: [order], seed: -1 }],
    ["no nodes", { actors: [order], nodes: 0 }],
    ["too many nodes", { actors: [order], nodes: 100 }],
    ["a part of a shard", { actors: [order], shards: 1.5 }],
    ["a time that is none", { actors: [order], at: "now" }],
    ["a setting that does not exist", { actors: [order], settings: { lease: 1 } }],
  ])("refuses %s", async (_, options) => {
    const refused = await testRuntime(options as never).catch((error: unknown) => error);
    expect(isKeyturnError(refused, "invalid_options"), String(refused)).toBe(true);
  });

  it("a reply is what the machine said", async () => {
    const echo = defineActor({
      type: "echo",
      machine: setup({ types: { events: {} as { type: "say"; text: string } } }).createMachine({
        on: { say: { actions: reply(({ event }) => event.text) } },
      }),
      types: {} as { replies: { say: string } },
    });
    const t = await start({ actors: [echo] });
    expect(await t.client.actor(echo, "a").ask({ type: "say", text: "hello" })).toBe("hello");
  });
});
