/** Delays of a new version: they begin when a migrated actor is found, whoever finds it, and are recorded once. */
import { describe, expect, it } from "vitest";
import { assign, createMachine, raise, setup } from "xstate";
import { DeltaTurn, KeyframeTurn } from "../runtime/engine/record.ts";
import { defineActor } from "../runtime/index.ts";
import { orderV1 } from "./support/orders.ts";
import { failure, type Rig, rig } from "./support/probe.ts";
import { orderV3, put, next, recordsOf, historyOf } from "./support/migrated.ts";

describe("delays of a new version", () => {
  const HOUR = 3_600_000;
  const waiting = { active: { waiting: "payment" } };
  const patience = "xstate.after.patience.order.active.waiting";

  async function paidLate(r: Rig): Promise<unknown> {
    return (await r.world.run(r.node.client.actor(orderV3, "a").get())).value;
  }

  it.each(["from the tail", "from a snapshot"])(
    "one that the new machine lacks is dropped, and its own begins when the actor is found, %s",
    async (where) => {
      const r = await rig({ actors: [orderV1] });
      await r.world.run(r.node.client.actor(orderV1, "a").send(put("tea", 5)));
      await r.world.advance(400);
      if (where === "from the tail") r.node.kill();
      else await r.world.run(r.node.stop({ closeStore: false }));
      const second = await next(r, [orderV3], "n2");
      // Nobody sends anything: the old timer brings the actor into memory, at its time or when the lease has run out.
      await r.world.advance(599);
      expect(await recordsOf(r.store, "order.a")).toHaveLength(1);
      while ((await recordsOf(r.store, "order.a")).length < 2) await r.world.advance(1);
      const found = r.world.now();
      const [, woken] = await recordsOf(r.store, "order.a");
      expect(woken).toMatchObject({
        kind: KeyframeTurn,
        version: 3,
        turn: 2,
        refusal: undefined,
        event: { type: "xstate.keyturn.migrated" },
        change: {
          value: waiting,
          timers: [{ id: patience, generation: 1, event: { type: patience } }],
        },
      });
      const due = woken?.change?.timers?.[0]?.due as number;
      expect(due).toBeGreaterThan(found + HOUR + 490);
      expect(due).toBeLessThanOrEqual(found + HOUR + 500);
      second.node.kill();
      const third = await next(r, [orderV3], "n3");
      await r.world.advance(due - 1 - r.world.now());
      expect(await paidLate(third)).toEqual(waiting);
      await r.world.advance(1);
      expect(await paidLate(third)).toEqual({ active: "late" });
      const turns = await historyOf(third, orderV3, "a", "oldest");
      expect(turns.map(({ event }) => event.type)).toEqual(["put", "xstate.keyturn.migrated", patience]);
    },
  );

  it("begins with the first message, which is then the turn that records it", async () => {
    const r = await rig({ actors: [orderV1] });
    await r.world.run(r.node.client.actor(orderV1, "a").send(put("tea", 5)));
    await r.world.run(r.node.stop({ closeStore: false }));
    const second = await next(r, [orderV3], "n2");
    await second.world.run(second.node.client.actor(orderV3, "a").ask(put("jam", 1)));
    await r.world.advance(10);
    const [, first, ...more] = await recordsOf(r.store, "order.a");
    expect(first).toMatchObject({
      kind: KeyframeTurn,
      version: 3,
      turn: 2,
      change: { timers: [{ id: patience }] },
    });
    expect(more).toEqual([]);
  });

  it("is not lost by a node that dies before it is recorded, however often", async () => {
    const r = await rig({ actors: [orderV1] });
    await r.world.run(r.node.client.actor(orderV1, "a").send(put("tea", 5)));
    await r.world.run(r.node.stop({ closeStore: false }));
    let last: Rig = r;
    for (let life = 2; life < 6; life++) {
      last = await next(r, [orderV3], `n${life}`);
      const lane = last.node.incarnation.name;
      r.store.concerns = (name) => name === lane;
      r.store.appendGate.close();
      await r.world.advance(10_000);
      // It waits for its commit; the shards' entries are written meanwhile.
      expect(r.store.appendGate.waiting).toBe(1);
      await Promise.race([r.world.run(last.node.checkpoint()), r.world.advance(10)]);
      last.node.kill();
      r.store.appendFaults.push("unknown-lost");
      r.store.appendGate.open();
      await r.world.settle();
      r.store.appendFaults.length = 0;
    }
    expect(await recordsOf(r.store, "order.a")).toHaveLength(1);
    last = await next(r, [orderV3], "n9");
    await r.world.advance(10_000);
    expect(await recordsOf(r.store, "order.a")).toHaveLength(2);
    await r.world.advance(HOUR + 500);
    expect(await paidLate(last)).toEqual({ active: "late" });
  });

  it("those that both machines have go on, and timers that are no delays of states stay", async () => {
    const machine = setup({ types: { events: {} as { type: "go" } | { type: "tick" } } }).createMachine({
      id: "m",
      initial: "a",
      states: { a: { after: { 20000: "b" } }, b: { after: { 50: "c" } }, c: {} },
      on: { go: { actions: raise({ type: "tick" }, { delay: 17_000, id: "mine" }) }, tick: {} },
    });
    const v1 = defineActor({ type: "m", machine });
    const v2 = defineActor({ type: "m", machine, version: 2 });
    const r = await rig({ actors: [v1] });
    const begun = r.world.now();
    await r.world.run(r.node.client.actor(v1, "a").send({ type: "go" }));
    await r.world.advance(300);
    r.node.kill();
    const second = await next(r, [v2], "n2");
    // Nothing begins anew, so nothing is recorded for a read.
    expect((await r.world.run(second.node.client.actor(v2, "a").get())).turn).toBe(1);
    await r.world.advance(30_000);
    const turns = await historyOf(second, v2, "a", "oldest");
    expect(turns.map(({ event, time }) => [event.type, time - begun])).toEqual([
      ["go", 0],
      ["tick", 17_000],
      ["xstate.after.20000.m.a", 20_000],
      ["xstate.after.50.m.b", 20_050],
    ]);
    const records = await recordsOf(r.store, "m.a");
    expect(records.map(({ version, kind }) => [version, kind])).toEqual([
      [1, KeyframeTurn],
      [2, KeyframeTurn],
      [2, DeltaTurn],
      [2, DeltaTurn],
    ]);
  });

  it("a new version without a migration waits too; one that is migrated to its end waits no more", async () => {
    const on = { on: { go: {} } };
    const v1 = defineActor({
      type: "m",
      machine: createMachine({
        id: "m",
        initial: "a",
        states: { a: { after: { 10000: "b" } }, b: {} },
        ...on,
      }),
    });
    const v2 = defineActor({
      type: "m",
      version: 2,
      machine: createMachine({
        id: "m",
        initial: "a",
        states: { a: { after: { 20000: "b", 30000: "b" } }, b: { type: "final" } },
        ...on,
      }),
    });
    const v3 = defineActor({
      type: "m",
      version: 3,
      machine: v2.machine,
      migrations: { 2: (state) => ({ ...state, value: "b", status: "done", output: "over" }) },
    });
    const r = await rig({ actors: [v1] });
    await r.world.run(r.node.client.actor(v1, "a").send({ type: "go" }));
    await r.world.run(r.node.stop({ closeStore: false }));
    const second = await next(r, [v2], "n2");
    await r.world.advance(5_000);
    const begun = r.world.now();
    expect(await r.world.run(second.node.client.actor(v2, "a").get())).toMatchObject({ value: "a", turn: 1 });
    await r.world.advance(10);
    expect((await recordsOf(r.store, "m.a")).at(-1)?.change?.timers).toMatchObject([
      { id: "xstate.after.20000.m.a", due: begun + 20_000 },
      { id: "xstate.after.30000.m.a", due: begun + 30_000 },
    ]);
    second.node.kill();
    const third = await next(r, [v3], "n3");
    const state = await r.world.run(third.node.client.actor(v3, "a").get());
    expect(state).toMatchObject({ value: "b", status: "done", output: "over", turn: 2 });
    await r.world.advance(60_000);
    expect(await recordsOf(r.store, "m.a")).toHaveLength(2);
  });

  it("a timer that fails first of all in the new version is recorded with the whole state", async () => {
    const of = (version: number) =>
      defineActor({
        type: "m",
        version,
        migrations: version === 1 ? {} : { 1: (state) => ({ ...state, context: { made: 2 } }) },
        machine: setup({
          types: { context: {} as { made: number }, events: {} as { type: "go" } | { type: "fail" } },
        }).createMachine({
          id: "m",
          context: { made: version },
          on: {
            go: { actions: raise({ type: "fail" }, { delay: 500 }) },
            fail: {
              actions: assign(() => {
                throw new Error("no such luck");
              }),
            },
          },
        }),
      });
    const r = await rig({ actors: [of(1)] });
    await r.world.run(r.node.client.actor(of(1), "a").send({ type: "go" }));
    r.node.kill();
    await next(r, [of(2)], "n2");
    await r.world.advance(10_000);
    expect((await recordsOf(r.store, "m.a")).at(-1)).toMatchObject({
      kind: KeyframeTurn,
      version: 2,
      turn: 2,
      refusal: ["machine_failed", expect.stringMatching("no such luck")],
      change: { context: { made: 2 }, timers: null },
    });
  });

  it.each<[string, () => number, RegExp]>([
    [
      "throws",
      () => {
        throw new Error("no clock");
      },
      /xstate\.after\.soon\.m\.a of a migrated actor cannot begin: it threw: no clock/,
    ],
    ["gives no time", () => Number.NaN, /cannot begin: NaN ms is not a time/],
    ["gives a past", () => -1, /cannot begin: -1 ms is not a time/],
  ])("one that %s refuses the actor", async (_what, soon, text) => {
    const on = { on: { go: {} } };
    const v1 = defineActor({
      type: "m",
      machine: createMachine({ id: "m", initial: "a", states: { a: {} }, ...on }),
    });
    const v2 = defineActor({
      type: "m",
      version: 2,
      machine: setup({ delays: { soon } }).createMachine({
        id: "m",
        initial: "a",
        states: { a: { after: { soon: "b" } }, b: {} },
        ...on,
      }),
    });
    const r = await rig({ actors: [v1] });
    await r.world.run(r.node.client.actor(v1, "a").send({ type: "go" }));
    r.node.kill();
    const second = await next(r, [v2], "n2");
    const error = await r.world.run(failure(second.node.client.actor(v2, "a").get()));
    expect(error.code).toBe("migration_failed");
    expect(error.message).toMatch(text);
  });
});
