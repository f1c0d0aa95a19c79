/** Contract 9: timers are durable, fire at least once and are applied exactly once. */
import { assign, raise, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { defineActor } from "../runtime/index.ts";
import { DueHeap } from "../runtime/engine/timers.ts";
import fc from "fast-check";
import { failure, probeOf, type Rig, rig } from "./support/probe.ts";

const MINUTE = 60_000;

async function ticks(r: Rig, key = "a"): Promise<number> {
  return (await r.world.run(r.node.client.actor(r.probe, key).get())).context.ticks;
}

/** Kills a node and starts another on the same store. */
async function restarted(r: Rig, name = "n2"): Promise<Rig> {
  r.node.kill();
  return rig({ store: r.store, world: r.world, probe: r.probe, name });
}

const light = defineActor({
  type: "light",
  machine: setup({
    types: { context: {} as { greens: number }, events: {} as { type: "stop" } | { type: "poke" } },
  }).createMachine({
    context: { greens: 0 },
    initial: "red",
    states: {
      red: { after: { 1000: "green" }, on: { stop: "off" } },
      green: {
        entry: assign({ greens: ({ context }) => context.greens + 1 }),
        after: { 500: "red" },
        on: { stop: "off", poke: { target: "green", reenter: true } },
      },
      off: {},
    },
  }),
});

describe("delayed events", () => {
  it("fire when they are due, not before, and once", async () => {
    const r = await rig();
    await r.world.run(r.node.client.actor(r.probe, "a").send({ type: "later", ms: 1_000 }));
    await r.world.advance(990);
    expect(await ticks(r)).toBe(0);
    await r.world.advance(20);
    expect(await ticks(r)).toBe(1);
    await r.world.advance(10_000);
    expect(await ticks(r)).toBe(1);
  });

  it("fire in the order of their due times", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    const order = [300, 100, 200];
    for (const ms of order) await r.world.run(ref.send({ type: "later", ms }));
    const seen: number[] = [];
    for (let at = 0; at < 4; at++) {
      seen.push(await ticks(r));
      await r.world.advance(101);
    }
    expect(seen).toEqual([0, 1, 2, 3]);
  });

  it("are cancelled by their id, and replaced by a new one of the same id", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "later", ms: 1_000, id: "x" }));
    await r.world.run(ref.send({ type: "later", ms: 1_000, id: "y" }));
    await r.world.run(ref.send({ type: "forget", id: "x" }));
    await r.world.run(ref.send({ type: "later", ms: 5_000, id: "y" }));
    await r.world.advance(3_000);
    expect(await ticks(r)).toBe(0);
    await r.world.advance(3_000);
    expect(await ticks(r)).toBe(1);
  });

  it("cancelled in the batch in which they fall due, do not fire", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "later", ms: 1_000, id: "x" }));
    r.store.appendGate.close();
    void ref.send({ type: "forget", id: "x" });
    await r.world.advance(5_000);
    r.store.appendGate.open();
    await r.world.advance(5_000);
    expect(await ticks(r)).toBe(0);
  });

  it("one key that sends to itself for ever does not hold up the others", async () => {
    const r = await rig();
    await r.world.run(r.node.client.actor(r.probe, "a").send({ type: "again" }));
    expect(await r.world.run(r.node.client.actor(r.probe, "b").ask({ type: "add", by: 1 }))).toBe(1);
    const before = await ticks(r);
    await r.world.advance(100);
    const after = await ticks(r);
    expect(after).toBeGreaterThan(before + 10);
    expect(after).toBeLessThan(before + 1_000);
  });
});

describe("after", () => {
  it("moves the machine on, and begins anew when its state is entered again", async () => {
    const r = await rig({ actors: [light] });
    const ref = r.node.client.actor(light, "a");
    await r.world.run(ref.send({ type: "poke" }));
    await r.world.advance(1_010);
    expect((await r.world.run(ref.get())).value).toBe("green");
    await r.world.advance(400);
    await r.world.run(ref.send({ type: "poke" }));
    await r.world.advance(400);
    expect(await r.world.run(ref.get())).toMatchObject({ value: "green", context: { greens: 2 } });
    await r.world.advance(110);
    expect((await r.world.run(ref.get())).value).toBe("red");
  });

  it("is cancelled when its state is left", async () => {
    const r = await rig({ actors: [light] });
    const ref = r.node.client.actor(light, "a");
    await r.world.run(ref.send({ type: "stop" }));
    await r.world.advance(10_000);
    expect(await r.world.run(ref.get())).toMatchObject({ value: "off", turn: 1, context: { greens: 0 } });
  });

  it("XState #5331: goes on after a restart from the old deadline, from the tail and from a snapshot", async () => {
    for (const checkpoint of [false, true]) {
      const first = await rig({ actors: [light] });
      const { world, store } = first;
      await world.run(first.node.client.actor(light, "a").send({ type: "poke" }));
      if (checkpoint) await world.run(first.node.checkpoint());
      first.node.kill();
      await world.advance(700);
      const second = await rig({ store, world, actors: [light], name: "n2" });
      await world.advance(12_000);
      const state = await world.run(second.node.client.actor(light, "a").get());
      expect(state.context.greens).toBeGreaterThan(0);
      expect(state.turn).toBeGreaterThan(3);
    }
  });
});

describe("contract 9: restart and hand-over", () => {
  it("a timer survives a kill and fires once, from the tail and from a snapshot", async () => {
    for (const checkpoint of [false, true]) {
      const first = await rig();
      await first.world.run(first.node.client.actor(first.probe, "a").send({ type: "later", ms: 20_000 }));
      if (checkpoint) await first.world.run(first.node.checkpoint());
      const second = await restarted(first);
      await second.world.advance(15_000);
      expect(await ticks(second)).toBe(0);
      await second.world.advance(10_000);
      expect(await ticks(second)).toBe(1);
      const third = await restarted(second, "n3");
      await third.world.advance(MINUTE);
      expect(await ticks(third)).toBe(1);
    }
  });

  it("one that fell due while no node was there fires when one is", async () => {
    const first = await rig();
    await first.world.run(first.node.client.actor(first.probe, "a").send({ type: "later", ms: 1_000 }));
    await first.world.run(first.node.stop({ closeStore: false }));
    await first.world.advance(60 * MINUTE);
    const second = await rig({ ...first, name: "n2" });
    await second.world.advance(1_000);
    expect(await ticks(second)).toBe(1);
  });

  it("cancelled before the restart, it stays cancelled, whatever the stored index says", async () => {
    const first = await rig();
    const ref = first.node.client.actor(first.probe, "a");
    await first.world.run(ref.send({ type: "later", ms: 20_000, id: "x" }));
    await first.world.run(first.node.checkpoint());
    await first.world.run(ref.send({ type: "forget", id: "x" }));
    const second = await restarted(first);
    await second.world.advance(MINUTE);
    expect(await ticks(second)).toBe(0);
  });

  it("an actor that is not in memory is loaded for its timer", async () => {
    const r = await rig({ settings: { activeActors: 1 } });
    await r.world.run(r.node.client.actor(r.probe, "a").send({ type: "later", ms: 5_000 }));
    for (let n = 0; n < 5; n++)
      await r.world.run(r.node.client.actor(r.probe, `k${n}`).send({ type: "add", by: 1 }));
    expect(r.node.incarnation.engine.actors.has("probe.a")).toBe(false);
    await r.world.advance(6_000);
    expect(await ticks(r)).toBe(1);
  });
});

describe("far timers", () => {
  const far = 35 * MINUTE;

  it("are found in the store's index when their time comes near, and fire once", async () => {
    const first = await rig();
    for (let n = 0; n < 20; n++) {
      const ref = first.node.client.actor(first.probe, `k${n}`);
      await first.world.run(ref.send({ type: "later", ms: far + n * MINUTE }));
    }
    await first.world.run(first.node.stop({ closeStore: false }));
    first.store.read.length = 0;
    const second = await rig({ ...first, name: "n2" });
    const held = (): number =>
      [...second.node.incarnation.engine.shards.values()].reduce((sum, shard) => sum + shard.due.size, 0);
    expect(held()).toBe(0);
    await second.world.advance(far - MINUTE);
    expect(held()).toBeGreaterThan(0);
    expect(second.store.read.filter((id) => id.startsWith("probe."))).toEqual([]);
    await second.world.advance(25 * MINUTE);
    for (let n = 0; n < 20; n++) expect(await ticks(second, `k${n}`)).toBe(1);
  });

  it("recovery 3: the heap is rebuilt without loading a cold actor", async () => {
    const first = await rig();
    for (let n = 0; n < 50; n++) {
      await first.world.run(
        first.node.client.actor(first.probe, `k${n}`).send({ type: "later", ms: 5 * MINUTE }),
      );
    }
    await first.world.run(first.node.stop({ closeStore: false }));
    first.store.read.length = 0;
    const second = await rig({ ...first, name: "n2" });
    const shards = [...second.node.incarnation.engine.shards.values()];
    expect(shards.reduce((sum, shard) => sum + shard.due.size, 0)).toBe(50);
    expect(second.store.read.every((id) => id.startsWith("_shard."))).toBe(true);
    expect(second.node.incarnation.engine.actors.size).toBe(0);
  });

  it("recovery: one stored while the horizon moves on is not lost", async () => {
    const r = await rig({ settings: { checkpoint_ms: 60 * MINUTE } });
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "later", ms: 12 * MINUTE }));
    const { due } = r.store.snapshots;
    let checkpointed: Promise<void> | undefined;
    r.store.snapshots.due = async (...args) => {
      const page = await due(...args);
      // The page has been read; before its answer is there, the actor is stored for the first time.
      checkpointed ??= r.node.checkpoint();
      await checkpointed;
      return page;
    };
    await r.world.advance(14 * MINUTE);
    expect(checkpointed).toBeDefined();
    expect(await ticks(r)).toBe(1);
  });

  it("a wall clock that jumps ahead fires what is due then; one that jumps back delays it", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "later", ms: 30 * MINUTE }));
    r.world.wall_ms += 60 * MINUTE;
    await r.world.advance(2 * MINUTE);
    expect(await ticks(r)).toBe(1);
    await r.world.run(ref.send({ type: "later", ms: MINUTE }));
    r.world.wall_ms -= 10 * MINUTE;
    await r.world.advance(5 * MINUTE);
    expect(await ticks(r)).toBe(1);
    await r.world.advance(7 * MINUTE);
    expect(await ticks(r)).toBe(2);
  });
});

describe("contract 9: the due index is read from where it may hold something", () => {
  /** From where each shard's index is read first, of those that are read from somewhere. */
  function beginnings(r: Rig): Map<number, number> {
    const from = new Map<number, number>();
    const { due } = r.store.snapshots;
    r.store.snapshots.due = (shard, before, limit, after) => {
      if (!from.has(shard)) from.set(shard, after?.due ?? 0);
      return due(shard, before, limit, after);
    };
    return from;
  }

  it("behind what has fired, up to the earliest that is set", async () => {
    const first = await rig({ shards: 1 });
    const now = first.world.now();
    for (let n = 0; n < 10; n++)
      await first.world.run(
        first.node.client.actor(first.probe, `k${n}`).send({ type: "later", ms: 1_000 + n }),
      );
    const ref = first.node.client.actor(first.probe, "last");
    await first.world.run(ref.send({ type: "later", ms: 40 * MINUTE }));
    await first.world.advance(5 * MINUTE);
    await first.world.run(first.node.checkpoint());
    const from = beginnings(first);
    const second = await restarted(first);
    await second.world.advance(10_000);
    // Nothing is due in the ten minutes that the first node knew.
    expect(from.get(0)).toBeGreaterThanOrEqual(now + 10 * MINUTE);
    await second.world.advance(31 * MINUTE);
    await second.world.run(second.node.checkpoint());
    from.clear();
    const third = await restarted(second, "n3");
    await third.world.advance(10_000);
    expect(from.get(0)).toBe(now + 40 * MINUTE);
    await third.world.advance(10 * MINUTE);
    expect(await ticks(third, "last")).toBe(1);
    for (let n = 0; n < 10; n++) expect(await ticks(third, `k${n}`)).toBe(1);
  });

  it("not behind a timer that has been rung and is not committed when a checkpoint is written", async () => {
    const first = await rig({ shards: 1 });
    await first.world.run(first.node.client.actor(first.probe, "a").send({ type: "later", ms: 10_000 }));
    await first.world.run(first.node.client.actor(first.probe, "b").send({ type: "later", ms: 20_000 }));
    await first.world.run(first.node.checkpoint());
    first.store.appendGate.close();
    await first.world.advance(11_000);
    expect(first.store.appendGate.waiting).toBe(1);
    await first.world.run(first.node.checkpoint());
    first.node.kill();
    first.store.appendFaults.push("unknown-lost");
    first.store.appendGate.open();
    const second = await rig({ ...first, name: "n2" });
    await second.world.advance(MINUTE);
    expect([await ticks(second, "a"), await ticks(second, "b")]).toEqual([1, 1]);
  });

  it("not behind a timer whose actor cannot be read just now", async () => {
    const first = await rig({ shards: 1, settings: { activeActors: 1 } });
    await first.world.run(first.node.client.actor(first.probe, "a").send({ type: "later", ms: 10_000 }));
    for (let n = 0; n < 5; n++)
      await first.world.run(first.node.client.actor(first.probe, `k${n}`).send({ type: "add", by: 1 }));
    expect(first.node.incarnation.engine.actors.has("probe.a")).toBe(false);
    first.store.failsToRead = (id) => id === "probe.a";
    await first.world.advance(10_500);
    for (let n = 0; n < 8; n++) {
      // It is rung, waits, and is rung again.
      await first.world.advance(37);
      await first.world.run(first.node.checkpoint());
    }
    first.store.failsToRead = () => false;
    const second = await restarted(first);
    await second.world.advance(MINUTE);
    expect(await ticks(second, "a")).toBe(1);
  });

  it("not behind what is being looked up when a checkpoint is written", async () => {
    const first = await rig({ shards: 1 });
    const ref = first.node.client.actor(first.probe, "a");
    await first.world.run(ref.send({ type: "later", ms: 14 * MINUTE }));
    await first.world.run(first.node.checkpoint());
    const { due } = first.store.snapshots;
    let checkpointed: Promise<void> | undefined;
    first.store.snapshots.due = async () => {
      checkpointed ??= first.node.checkpoint();
      await checkpointed;
      throw new Error("It cannot be read.");
    };
    await first.world.advance(6 * MINUTE);
    expect(checkpointed).toBeDefined();
    first.store.snapshots.due = due;
    const second = await restarted(first);
    await second.world.advance(20 * MINUTE);
    expect(await ticks(second)).toBe(1);
  });

  it("a timer whose cancelling was undone, for want of room, fires all the same", async () => {
    const r = await rig({ shards: 1 });
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "later", ms: 1_000, id: "x" }));
    r.store.appendGate.close();
    r.store.appendFaults.push("full");
    const cancelled = ref.send({ type: "forget", id: "x" });
    const refused = expect(cancelled).rejects.toMatchObject({ code: "store_full" });
    await r.world.advance(2_000);
    r.store.appendGate.open();
    await r.world.run(refused);
    await r.world.advance(10_000);
    expect(await ticks(r)).toBe(1);
  });
});

describe("the due heap", () => {
  it("heap 1 and 2: gives what a sorted list would, and keeps few superseded rows", () => {
    const op = fc.record({
      id: fc.integer({ min: 0, max: 12 }).map((n) => `k${n}`),
      due: fc.option(fc.integer({ min: 0, max: 100 }), { nil: undefined }),
      take: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(op, { maxLength: 300 }), (ops) => {
        const heap = new DueHeap();
        const model = new Map<string, number>();
        for (const { id, due, take } of ops) {
          if (take) {
            const first = Math.min(...model.values());
            const taken = heap.take(50);
            if (first > 50) expect(taken).toBeUndefined();
            else {
              expect(model.get(taken as string)).toBe(first);
              model.delete(taken as string);
            }
          } else {
            heap.set(id, due);
            if (due === undefined) model.delete(id);
            else model.set(id, due);
          }
          expect(heap.size).toBe(model.size);
          expect(heap.next()).toBe(model.size === 0 ? undefined : Math.min(...model.values()));
        }
      }),
    );
  });
});

describe("a rig of its own", () => {
  it("timers of two actors with the same id do not mix", async () => {
    const r = await rig({ probe: probeOf() });
    await r.world.run(r.node.client.actor(r.probe, "a").send({ type: "later", ms: 100, id: "x" }));
    await r.world.run(r.node.client.actor(r.probe, "b").send({ type: "later", ms: 100, id: "x" }));
    await r.world.run(r.node.client.actor(r.probe, "b").send({ type: "forget", id: "x" }));
    await r.world.advance(1_000);
    expect([await ticks(r, "a"), await ticks(r, "b")]).toEqual([1, 0]);
  });
});

it("contract 12: a delay by a name that is no text is refused, and nothing of it is ever recorded", async () => {
  const machine = setup({ types: { events: {} as { type: "set" } | { type: "go" } } }).createMachine({
    on: { set: { actions: raise({ type: "go" }, { id: (() => "name") as never, delay: 1_000 }) }, go: {} },
  });
  const odd = defineActor({ type: "odd", machine });
  const r = await rig({ actors: [odd] });
  const ref = r.node.client.actor(odd, "a");
  await r.world.run(ref.send({ type: "go" }));
  expect((await r.world.run(failure(ref.send({ type: "set" })))).code).toBe("machine_failed");
  r.node.kill();
  const heir = await rig({ world: r.world, store: r.store, actors: [odd], name: "n2" });
  await heir.world.advance(20_000);
  expect((await heir.world.run(heir.node.client.actor(odd, "a").get())).turn).toBe(1);
  expect(heir.told).toEqual([]);
});
