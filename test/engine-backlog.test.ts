/** After a downtime many actors are overdue at once: they fire at a pace, each once, beside what is on time. */
import { assign, cancel, fromPromise, raise, setup } from "xstate";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { defineActor } from "../runtime/index.ts";
import { Alarm } from "../runtime/engine/alarm.ts";
import { Pace } from "../runtime/engine/pace.ts";
import { ShardState } from "../runtime/engine/shard.ts";
import { DueHeap } from "../runtime/engine/timers.ts";
import { nodeDefaults } from "../runtime/words/limits.ts";
import { failure, keyIn, type Rig, rig } from "./support/probe.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** What the pace lets go at once after a rest, of 2,000 a second. */
const BURST = 200;

type SleeperEvent = { type: "sleep"; ms: number } | { type: "wake" } | { type: "never" } | { type: "work" };

/** `rung` holds the keys that woke, in order. */
function sleepers() {
  const rung: string[] = [];
  const worked: string[] = [];
  const sleeper = defineActor({
    type: "sleeper",
    machine: setup({
      types: {
        context: {} as { key: string; wakes: number },
        events: {} as SleeperEvent,
        input: {} as { key: string },
      },
      actions: { note: ({ context }) => void rung.push(context.key) },
      actors: {
        work: fromPromise<void, string>(({ input }) => {
          worked.push(input);
          return new Promise(() => undefined);
        }),
      },
    }).createMachine({
      context: ({ input }) => ({ key: input.key, wakes: 0 }),
      initial: "idle",
      states: {
        idle: { on: { work: "busy" } },
        busy: { invoke: { src: "work", input: ({ context }) => context.key } },
      },
      on: {
        sleep: { actions: raise({ type: "wake" }, { id: "alarm", delay: ({ event }) => event.ms }) },
        never: { actions: cancel("alarm") },
        wake: { actions: [assign({ wakes: ({ context }) => context.wakes + 1 }), "note"] },
      },
    }),
  });
  return { sleeper, rung, worked };
}

type Sleeper = ReturnType<typeof sleepers>["sleeper"];

const send = (r: Rig, sleeper: Sleeper, keys: readonly string[], event: SleeperEvent): Promise<unknown> =>
  r.world.run(Promise.all(keys.map((key) => r.node.client.actor(sleeper, key).send(event))));

const wakesOf = async (r: Rig, sleeper: Sleeper, keys: readonly string[]): Promise<number[]> => {
  const states = await r.world.run(Promise.all(keys.map((key) => r.node.client.actor(sleeper, key).get())));
  return states.map(({ context }) => context.wakes);
};

const keysOf = (count: number, prefix = "k"): string[] =>
  Array.from({ length: count }, (_, n) => `${prefix}${n}`);

const backlogOf = (r: Rig): number => r.node.incarnation.engine.overdue;

/** Stops a node gracefully, or kills it, and starts the next one after a while; it serves when this resolves. */
async function downtime(
  r: Rig,
  sleeper: Sleeper,
  more: { ms?: number; name?: string; settings?: object } = {},
) {
  const { ms = HOUR, name = "n2", settings = {} } = more;
  await r.world.run(r.node.stop({ closeStore: false }));
  await r.world.advance(ms);
  const { world, store } = r;
  return rig({ world, store, actors: [sleeper], name, settings });
}

describe("a backlog after a downtime", () => {
  it("10,000 overdue actors are spread over five seconds, each fires once; one that is on time passes", async () => {
    const { sleeper, rung } = sleepers();
    const first = await rig({ actors: [sleeper] });
    const keys = keysOf(10_000);
    await send(first, sleeper, keys, { type: "sleep", ms: MINUTE });
    await send(first, sleeper, ["soon"], { type: "sleep", ms: HOUR + 1_000 });
    const before = first.world.now();
    const r = await downtime(first, sleeper);
    const begun = r.world.now();
    expect(begun).toBeLessThan(before + HOUR + 500);
    for (let tenths = 1; tenths <= 50; tenths++) {
      await r.world.advance(begun + tenths * 100 - r.world.now());
      const most = BURST + tenths * 200;
      expect(rung.length).toBeLessThanOrEqual(most + 1);
      expect(rung.length).toBeGreaterThan(Math.min(10_000, most - BURST - 200));
      if (tenths === 11) expect(rung).toContain("soon");
      if (tenths === 9) expect(rung).not.toContain("soon");
    }
    await r.world.advance(1_000);
    expect(rung).toHaveLength(keys.length + 1);
    expect(new Set(rung).size).toBe(keys.length + 1);
    expect(backlogOf(r)).toBe(0);
    await r.world.advance(HOUR);
    expect(rung).toHaveLength(keys.length + 1);
  });

  it("a crash in the middle of it loses none and fires none twice, whatever was stored meanwhile", async () => {
    for (const checkpoint of [false, true]) {
      const { sleeper } = sleepers();
      const first = await rig({ actors: [sleeper] });
      const keys = keysOf(600);
      await send(first, sleeper, keys, { type: "sleep", ms: MINUTE });
      const settings = { overduePerSecond: 100 };
      const second = await downtime(first, sleeper, { settings });
      await second.world.advance(2_000);
      if (checkpoint) await second.world.run(second.node.checkpoint());
      await second.world.advance(500);
      expect(backlogOf(second)).toBeGreaterThan(200);
      expect(backlogOf(second)).toBeLessThan(500);
      second.node.kill();
      const { world, store } = second;
      const third = await rig({ world, store, actors: [sleeper], name: "n3", settings });
      await world.advance(20_000);
      expect(backlogOf(third)).toBe(0);
      expect(new Set(await wakesOf(third, sleeper, keys))).toEqual(new Set([1]));
    }
  });

  it("is handed over with its shards", async () => {
    const { sleeper } = sleepers();
    const first = await rig({ actors: [sleeper] });
    const keys = keysOf(300);
    await send(first, sleeper, keys, { type: "sleep", ms: MINUTE });
    const settings = { overduePerSecond: 50 };
    const second = await downtime(first, sleeper, { settings });
    await second.world.advance(1_000);
    const third = await downtime(second, sleeper, { ms: 10, name: "n3", settings });
    expect(backlogOf(third)).toBeGreaterThan(100);
    await third.world.advance(10_000);
    expect(new Set(await wakesOf(third, sleeper, keys))).toEqual(new Set([1]));
  });

  it("one in it may be cancelled, moved and deleted", async () => {
    const { sleeper, rung } = sleepers();
    const first = await rig({ actors: [sleeper], shards: 1 });
    await send(first, sleeper, ["first"], { type: "sleep", ms: MINUTE });
    await send(first, sleeper, ["cancelled", "moved", "deleted", "stays"], { type: "sleep", ms: 2 * MINUTE });
    const settings = { overduePerSecond: 1 / 30 };
    const r = await downtime(first, sleeper, { settings });
    await r.world.advance(100);
    expect(rung).toEqual(["first"]);
    expect(backlogOf(r)).toBe(4);
    expect(r.node.health().checks.consumption.text).toContain("Timers of 4 actors are overdue");
    await send(r, sleeper, ["cancelled"], { type: "never" });
    await send(r, sleeper, ["moved"], { type: "sleep", ms: 5_000 });
    await r.world.run(r.node.client.actor(sleeper, "deleted").delete());
    expect(backlogOf(r)).toBe(1);
    await r.world.advance(4_000);
    expect(rung).toEqual(["first"]);
    await r.world.advance(1_500);
    expect(rung).toEqual(["first", "moved"]);
    await r.world.advance(30_000);
    expect(rung).toEqual(["first", "moved", "stays"]);
    await r.world.advance(10 * MINUTE);
    expect(rung).toEqual(["first", "moved", "stays"]);
    expect(await wakesOf(r, sleeper, ["cancelled", "deleted"])).toEqual([0, 0]);
  });

  it("the oldest come first, work to be run again too; no shard waits for another's backlog", async () => {
    const { sleeper, rung, worked } = sleepers();
    const first = await rig({ actors: [sleeper], shards: 2 });
    const many = Array.from({ length: 100 }, (_, n) => keyIn(first.node, sleeper, 0, `s${n}.`));
    const lone = keyIn(first.node, sleeper, 1, "lone");
    const worker = keyIn(first.node, sleeper, 0, "worker");
    await send(first, sleeper, [worker], { type: "work" });
    expect(worked).toEqual([worker]);
    for (const [n, key] of many.entries())
      await send(first, sleeper, [key], { type: "sleep", ms: MINUTE + (n % 10) * 1_000 });
    await send(first, sleeper, [lone], { type: "sleep", ms: 2 * MINUTE });
    const r = await downtime(first, sleeper, { settings: { overduePerSecond: 2 } });
    await r.world.advance(2_000);
    expect(worked).toEqual([worker, worker]);
    expect(rung.length).toBeLessThan(6);
    expect(rung).toContain(lone);
    await r.world.advance(60_000);
    expect([...rung].sort()).toEqual([...many, lone].sort());
    const tens = rung.filter((key) => key !== lone).map((key) => many.indexOf(key) % 10);
    expect(tens).toEqual([...tens].sort());
  });

  it("a few are no backlog: they fire at once", async () => {
    const { sleeper, rung } = sleepers();
    const first = await rig({ actors: [sleeper] });
    const keys = keysOf(100);
    await send(first, sleeper, keys, { type: "sleep", ms: MINUTE });
    const r = await downtime(first, sleeper);
    await r.world.advance(20);
    expect(rung).toHaveLength(keys.length);
  });

  it("what a process that was suspended finds is spread as well", async () => {
    const { sleeper, rung } = sleepers();
    const r = await rig({ actors: [sleeper], settings: { overduePerSecond: 100 } });
    await send(r, sleeper, keysOf(300), { type: "sleep", ms: MINUTE });
    r.world.wall_ms += HOUR;
    await r.world.advance(2_000);
    expect(rung.length).toBeGreaterThan(10);
    expect(rung.length).toBeLessThan(215);
    await r.world.advance(3_000);
    expect(new Set(rung).size).toBe(300);
  });

  it("goes on after a store that had no room, and after actors that could not be read", async () => {
    const { sleeper } = sleepers();
    const first = await rig({ actors: [sleeper] });
    const keys = keysOf(60);
    await send(first, sleeper, keys, { type: "sleep", ms: MINUTE });
    first.store.failsToRead = (id) => id === "sleeper.k7";
    const r = await downtime(first, sleeper, { settings: { overduePerSecond: 20 } });
    r.store.appendFaults.push("full");
    await r.world.advance(1_500);
    expect(r.told).toContain("full");
    r.store.failsToRead = () => false;
    await r.world.advance(MINUTE);
    expect(new Set(await wakesOf(r, sleeper, keys))).toEqual(new Set([1]));
    expect(backlogOf(r)).toBe(0);
  });

  it("its pace is a setting of the node, as when it begins", async () => {
    const { sleeper } = sleepers();
    for (const settings of [{ overduePerSecond: 0 }, { overdue_ms: -1 }, { overduePerSecond: Number.NaN }]) {
      const error = await failure(rig({ actors: [sleeper], settings }));
      expect(error.code).toBe("invalid_options");
    }
  });
});

describe("the alarm", () => {
  it("has watched without a break as long as it looks by itself, whoever else does; a suspension is one", async () => {
    const world = new VirtualWorld();
    const shard = new ShardState(0);
    shard.watched_ms = world.now();
    const begun = world.now();
    const alarm = new Alarm(
      world.clock,
      nodeDefaults,
      new Map([[0, shard]]),
      () => true,
      () => undefined,
    );
    alarm.look();
    await world.advance(10 * MINUTE);
    expect(shard.watched_ms).toBe(begun);
    world.wall_ms += 10 * MINUTE;
    await world.advance(MINUTE);
    expect(shard.watched_ms).toBeGreaterThanOrEqual(begun + 20 * MINUTE);
    alarm.stop();
  });
});

describe("the pace", () => {
  it("lets no more through in any stretch than it says, and as many in the long run", () => {
    const steps = fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 200 });
    fc.assert(
      fc.property(steps, fc.constantFrom(0.5, 3, 2_000), (waits, perSecond) => {
        const pace = new Pace(perSecond);
        let now = 1_000;
        let taken = 0;
        const most = Math.max(1, perSecond / 10);
        for (const wait of waits) {
          now += wait;
          while (pace.take(now)) taken++;
          expect(taken).toBeLessThanOrEqual(most + ((now - 1_000) * perSecond) / 1_000 + 1e-6);
          expect(pace.wait_ms).toBeGreaterThan(0);
          now += pace.wait_ms + 1e-6;
          expect(pace.take(now)).toBe(true);
          taken++;
        }
      }),
    );
  });
});

describe("the due heap with a backlog", () => {
  it("heap 1 and 3: an actor is in the one or the other, and none is lost", () => {
    const id = fc.integer({ min: 0, max: 12 }).map((n) => `k${n}`);
    const op = fc.oneof(
      fc.record({ id, due: fc.option(fc.integer({ min: 0, max: 100 }), { nil: undefined }) }),
      fc.record({ before: fc.integer({ min: 0, max: 60 }), most: fc.integer({ min: 1, max: 5 }) }),
      fc.record({ take: fc.integer({ min: 0, max: 100 }) }),
      fc.constant("takeOverdue" as const),
    );
    fc.assert(
      fc.property(fc.array(op, { maxLength: 400 }), (ops) => {
        const heap = new DueHeap();
        const onTime = new Map<string, number>();
        let backlog: { id: string; due: number }[] = [];
        let edge = Number.NEGATIVE_INFINITY;
        const least = (dues: Iterable<number>): number | undefined => {
          const min = Math.min(...dues);
          return min === Number.POSITIVE_INFINITY ? undefined : min;
        };
        for (const op of ops) {
          if (op === "takeOverdue") {
            expect(heap.takeOverdue()).toBe(backlog.shift()?.id);
          } else if ("take" in op) {
            const first = least(onTime.values());
            const taken = heap.take(op.take);
            if (first === undefined || first > op.take) expect(taken).toBeUndefined();
            else {
              expect(onTime.get(taken as string)).toBe(first);
              onTime.delete(taken as string);
            }
          } else if ("before" in op) {
            edge = op.before;
            const late = [...onTime].filter(([, due]) => due < edge).sort((x, y) => x[1] - y[1]);
            const moved = heap.setAside(edge, op.most);
            expect(moved).toBe(Math.min(op.most, late.length));
            for (const [id, due] of late.slice(0, moved)) {
              onTime.delete(id);
              backlog.push({ id, due });
            }
          } else {
            const { id } = op;
            // No two are due at the same time, so that the order is one.
            const due = op.due === undefined ? undefined : op.due + Number(id.slice(1)) / 100;
            heap.set(id, due);
            const waiting = backlog.find((one) => one.id === id);
            if (waiting !== undefined && due !== undefined && (due < edge || due === waiting.due))
              waiting.due = due;
            else {
              backlog = backlog.filter((one) => one !== waiting);
              if (due === undefined) onTime.delete(id);
              else onTime.set(id, due);
            }
          }
          expect(heap.next()).toBe(least(onTime.values()));
          const earliest = least([...onTime.values(), ...backlog.map(({ due }) => due)]);
          if (backlog.length === 0) expect(heap.earliest()).toBe(earliest);
          else expect(heap.earliest()).toBeLessThanOrEqual(earliest as number);
          expect(heap.overdue).toBe(backlog.length);
          expect(heap.size).toBe(onTime.size + backlog.length);
          for (const { id, due } of backlog) expect(heap.get(id)).toBe(due);
        }
      }),
    );
  });
});
