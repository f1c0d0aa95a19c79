/** What a client can ask of an actor, on one healthy node. */
import { describe, expect, it } from "vitest";
import { counter } from "../actors/counter.ts";
import type { ActorState } from "../runtime/index.ts";
import type { HistoryTurn } from "../runtime/engine/history.ts";
import type { KeyturnNode } from "../runtime/node.ts";
import { limits } from "../runtime/words/limits.ts";
import { failure, probeOf, rig } from "./support/probe.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

describe("ask and send", () => {
  it("ask resolves with the machine's reply", async () => {
    const { node, probe, world } = await rig();
    const ref = node.client.actor(probe, "a");
    expect(await world.run(ref.ask({ type: "add", by: 2 }))).toBe(2);
    expect(await world.run(ref.ask({ type: "add", by: 3 }))).toBe(5);
  });

  it("ask resolves with the new state, frozen, when the machine replies nothing", async () => {
    const { node, probe, world } = await rig();
    const state = await world.run(node.client.actor(probe, "a").ask({ type: "note", from: "x", n: 1 }));
    expect(state).toEqual({
      value: "on",
      context: { count: 0, ticks: 0, seen: ["x1"], blob: "" },
      status: "active",
      output: undefined,
      turn: 1,
      position: 1,
    });
    expect(Object.isFrozen(state.context.seen)).toBe(true);
  });

  it("an event that no transition takes is a turn that changes nothing", async () => {
    const { node, probe, world } = await rig();
    const ref = node.client.actor("probe/a");
    const state = (await world.run(ref.ask({ type: "idle" }))) as ActorState;
    expect(state.turn).toBe(1);
    expect(state.context).toEqual({ count: 0, ticks: 0, seen: [], blob: "" });
    expect(await world.run(node.client.actor(probe, "a").ask({ type: "add", by: 1 }))).toBe(1);
  });

  it("an event that no state of the machine knows is rejected as invalid_event, and leaves no turn", async () => {
    const { node, world } = await rig();
    const ref = node.client.actor("probe/a");
    const error = await world.run(failure(ref.ask({ type: "unheard-of" })));
    expect(error).toMatchObject({ code: "invalid_event", outcome: "rejected" });
    expect(error.message).toContain("add, ");
    expect((await world.run(ref.get())).turn).toBe(0);
  });

  it("an event that does not fit the type's schema is rejected with the path of the fault; the state stays", async () => {
    const { node, world } = await rig({ actors: [counter] });
    const ref = node.client.actor("counter/a");
    for (const event of [{ type: "add" }, { type: "add", by: "two" }, { type: "add", by: Number.NaN }]) {
      const error = await world.run(failure(ref.ask(event)));
      expect(error).toMatchObject({ code: "invalid_event", outcome: "rejected" });
      expect(error.message).toContain("event.by");
    }
    expect((await world.run(ref.get())).turn).toBe(0);
  });

  it("send resolves with nothing, after the turn", async () => {
    const { node, probe, world } = await rig();
    const ref = node.client.actor(probe, "a");
    expect(await world.run(ref.send({ type: "add", by: 4 }))).toBeUndefined();
    expect((await world.run(ref.get())).context.count).toBe(4);
  });

  it("contract 6: what one ref sends without waiting is applied in that order", async () => {
    const { node, probe, world } = await rig();
    const ref = node.client.actor(probe, "a");
    const sends = Array.from({ length: 300 }, (_, n) => ref.send({ type: "note", from: "s", n }));
    await world.run(Promise.all(sends));
    const { context } = await world.run(ref.get());
    expect(context.seen).toEqual(Array.from({ length: 300 }, (_, n) => `s${n}`));
  });

  it("keys are actors of their own, whatever characters they hold", async () => {
    const { node, probe, world } = await rig();
    const keys = ["a", "A", "a.b", "a b", "=41", "ü", "\u{1f600}", "*", ">", "a/b", "\ufeffa"];
    const counts = keys.map((key, n) => node.client.actor(probe, key).ask({ type: "add", by: n + 1 }));
    expect(await world.run(Promise.all(counts))).toEqual(keys.map((_, n) => n + 1));
    const again = await world.run(Promise.all(keys.map((key) => node.client.actor(`probe/${key}`).get())));
    expect(again.map((s) => (s.context as { count: number }).count)).toEqual(keys.map((_, n) => n + 1));
  });

  it("a machine that has reached its final state ignores events, as in XState", async () => {
    const { node, probe, world } = await rig();
    const ref = node.client.actor(probe, "a");
    await world.run(ref.send({ type: "later", ms: 1_000 }));
    await world.run(ref.send({ type: "finish" }));
    await world.run(ref.send({ type: "add", by: 1 }));
    await world.advance(5_000);
    const state = await world.run(ref.get());
    expect(state).toMatchObject({ status: "done", value: "off", context: { count: 0, ticks: 0 } });
  });
});

describe("get", () => {
  it("contract 7: sees every turn answered before", async () => {
    const { node, probe, world } = await rig();
    const ref = node.client.actor(probe, "a");
    for (let n = 1; n <= 5; n++) {
      await world.run(ref.send({ type: "add", by: 1 }));
      expect((await world.run(ref.get())).context.count).toBe(n);
    }
  });

  it("of an actor that no message has reached shows the initial state at turn 0, and creates nothing", async () => {
    const { node, probe, world, store } = await rig();
    const state = await world.run(node.client.actor(probe, "new").get());
    expect(state).toMatchObject({ turn: 0, position: 0, value: "on", context: { count: 0 } });
    await world.run(node.checkpoint());
    expect(await store.inner.snapshots.read(["probe.new"])).toEqual([undefined]);
  });

  it("contract 7: a stale read shows the last snapshot with its position, or undefined without one", async () => {
    const { node, probe, world } = await rig();
    const ref = node.client.actor(probe, "a");
    await world.run(ref.send({ type: "add", by: 1 }));
    expect(await world.run(ref.get({ stale: true }))).toBeUndefined();
    await world.run(node.checkpoint());
    await world.run(ref.send({ type: "add", by: 1 }));
    const stale = await world.run(ref.get({ stale: true }));
    expect(stale).toMatchObject({ turn: 1, position: 1, context: { count: 1 } });
  });
});

describe("delete", () => {
  it("removes the state; a later message begins anew at turn 1", async () => {
    const { node, probe, world } = await rig();
    const ref = node.client.actor(probe, "a");
    await world.run(ref.send({ type: "add", by: 7 }));
    await world.run(ref.delete());
    expect(await world.run(ref.get())).toMatchObject({ turn: 0, context: { count: 0 } });
    expect(await world.run(ref.ask({ type: "note", from: "x", n: 1 }))).toMatchObject({ turn: 1 });
  });

  it("removes timers, remembered request ids and the snapshot", async () => {
    const { node, probe, world, store } = await rig();
    const ref = node.client.actor(probe, "a");
    await world.run(ref.send({ type: "later", ms: 1_000 }));
    await world.run(ref.ask({ type: "add", by: 1 }, { requestId: "r" }));
    await world.run(node.checkpoint());
    await world.run(ref.delete());
    await world.run(node.checkpoint());
    expect((await store.inner.snapshots.read(["probe.a"]))[0]?.value).toBeUndefined();
    await world.advance(10_000);
    expect((await world.run(ref.get())).turn).toBe(0);
    expect(await world.run(ref.ask({ type: "add", by: 1 }, { requestId: "r" }))).toBe(1);
  });

  it("of an actor that does not exist succeeds", async () => {
    const { node, probe, world, store } = await rig();
    await world.run(node.client.actor(probe, "never").delete());
    expect(store.appends).toBe(0);
  });

  it("survives a restart, before and after the snapshot is gone", async () => {
    for (const checkpoint of [false, true]) {
      const first = await rig();
      const { store, world, probe } = first;
      const ref = first.node.client.actor(probe, "a");
      await world.run(ref.send({ type: "add", by: 7 }));
      await world.run(first.node.checkpoint());
      await world.run(ref.delete());
      if (checkpoint) await world.run(first.node.checkpoint());
      first.node.kill();
      const second = await rig({ store, world, probe, name: "n2" });
      await world.advance(10_000);
      expect((await world.run(second.node.client.actor(probe, "a").get())).turn).toBe(0);
    }
  });

  it("leaves no history behind", async () => {
    const { node, probe, world } = await rig();
    const ref = node.client.actor(probe, "a");
    await world.run(ref.send({ type: "add", by: 1 }));
    await world.run(ref.delete());
    expect(await world.run(all(ref.history()))).toEqual([]);
    expect(await world.run(all(ref.history({ order: "oldest" })))).toEqual([]);
    await world.run(ref.send({ type: "add", by: 5 }));
    expect((await world.run(all(ref.history()))).map((turn) => turn.context.count)).toEqual([5]);
  });
});

describe("history", () => {
  const turns = 150;
  async function filled(): Promise<{ node: KeyturnNode; world: VirtualWorld }> {
    const { node, probe, world } = await rig();
    const ref = node.client.actor(probe, "a");
    for (let n = 1; n <= turns; n++) {
      void node.client.actor(probe, `other${n % 3}`).send({ type: "add", by: 1 });
      await world.run(ref.send({ type: "add", by: n }));
    }
    return { node, world };
  }
  const counts = Array.from({ length: turns }, (_, n) => ((n + 1) * (n + 2)) / 2);

  it("gives every turn with the state it made, in both orders, over keyframes and pages", async () => {
    const { node, world } = await filled();
    const ref = node.client.actor("probe/a");
    const oldest = await world.run(all(ref.history({ order: "oldest" })));
    expect(oldest.map((turn) => turn.context.count)).toEqual(counts);
    expect(oldest.map((turn) => turn.turn)).toEqual(counts.map((_, n) => n + 1));
    expect(oldest.map((turn) => turn.reply)).toEqual(counts);
    const newest = await world.run(all(ref.history()));
    expect(newest).toEqual([...oldest].reverse());
    expect(turns).toBeGreaterThan(2 * limits.keyframeTurns);
  });

  it("stops at the limit, in both orders", async () => {
    const { node, world } = await filled();
    const ref = node.client.actor("probe/a");
    const numbers = (list: HistoryTurn[]): number[] => list.map((turn) => turn.turn);
    expect(numbers(await world.run(all(ref.history({ limit: 3 }))))).toEqual([150, 149, 148]);
    expect(numbers(await world.run(all(ref.history({ limit: 2, order: "oldest" }))))).toEqual([1, 2]);
    expect(await world.run(all(ref.history({ limit: 70, order: "oldest" })))).toHaveLength(70);
  });

  it("of an actor without a past is empty", async () => {
    const { node, world, probe } = await rig();
    expect(await world.run(all(node.client.actor(probe, "none").history()))).toEqual([]);
  });

  it("shows what was told and emitted", async () => {
    const { node, world, probe } = await rig();
    const ref = node.client.actor(probe, "a");
    await world.run(ref.send({ type: "tell", to: "probe/b", event: { type: "idle" } }));
    await world.run(ref.send({ type: "shout", what: "hey" }));
    const [shouted, told] = await world.run(all(ref.history()));
    expect(told?.told).toEqual([{ to: "probe/b", event: { type: "idle" } }]);
    expect(shouted?.emitted).toEqual([{ type: "shouted", what: "hey" }]);
  });
});

describe("watch", () => {
  it("gives the state now and after commits, the last one always, and ends with its signal", async () => {
    const { node, world, probe } = await rig();
    const ref = node.client.actor(probe, "a");
    await world.run(ref.send({ type: "add", by: 1 }));
    const end = new AbortController();
    const seen: number[] = [];
    const watching = (async () => {
      for await (const state of ref.watch({ signal: end.signal })) seen.push(state.context.count);
    })();
    await world.settle();
    for (let n = 0; n < 5; n++) await world.run(ref.send({ type: "add", by: 1 }));
    expect(seen).toEqual([1, 2, 3, 4, 5, 6]);
    end.abort();
    await world.run(watching);
  });

  it("shows a deletion as turn 0 and the new life after it", async () => {
    const { node, world, probe } = await rig();
    const ref = node.client.actor(probe, "a");
    const end = new AbortController();
    const seen: number[] = [];
    const watching = (async () => {
      for await (const state of ref.watch({ signal: end.signal })) seen.push(state.turn);
    })();
    await world.settle();
    await world.run(ref.send({ type: "add", by: 1 }));
    await world.run(ref.send({ type: "add", by: 1 }));
    await world.run(ref.delete());
    await world.run(ref.send({ type: "add", by: 1 }));
    end.abort();
    await world.run(watching);
    expect(seen).toEqual([0, 1, 2, 0, 1]);
  });

  it("lives on while it is renewed, and is dropped when its client is gone", async () => {
    const { node, world, probe, store } = await rig();
    const ref = node.client.actor(probe, "a");
    const watching = ref.watch();
    expect((await world.run(watching.next())).value).toMatchObject({ turn: 0 });
    await world.advance(60_000);
    const next = watching.next();
    await world.run(ref.send({ type: "add", by: 1 }));
    expect((await world.run(next)).value).toMatchObject({ turn: 1 });
    node.client.close();
    await world.advance(60_000);
    const before = store.frames.filter(({ frame }) => frame.kind === "watch").length;
    const { node: other } = await rig({ world, store, probe, name: "n2", weight: 1e-9 });
    await world.run(other.client.actor(probe, "a").send({ type: "add", by: 1 }));
    expect(store.frames.filter(({ frame }) => frame.kind === "watch")).toHaveLength(before);
  });

  it("of a type that is not hosted fails with unknown_type", async () => {
    const { node, world } = await rig();
    const watching = node.client.actor("nothing/a").watch();
    expect((await world.run(failure(watching.next()))).code).toBe("unknown_type");
  });
});

describe("a world of its own", () => {
  it("two nodes in one process do not share anything but their store", async () => {
    const world = new VirtualWorld();
    const [one, two] = [await rig({ world }), await rig({ world, probe: probeOf() })];
    await world.run(one.node.client.actor("probe/a").send({ type: "add", by: 1 } as never));
    expect((await world.run(two.node.client.actor("probe/a").get())).turn).toBe(0);
  });
});
