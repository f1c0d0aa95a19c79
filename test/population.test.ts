/** The stored population: every actor is counted once and judged as loading it would judge it, and nothing is written. */
import { describe, expect, it } from "vitest";
import { createMachine, setup } from "xstate";
import { registryOf } from "../runtime/engine/definition.ts";
import { pathOf, population, type PopulationRow } from "../runtime/engine/population.ts";
import { type AnyActorDefinition, defineActor } from "../runtime/index.ts";
import type { Store } from "../runtime/ports/index.ts";
import { FaultStore } from "./support/fault-store.ts";
import { orderNow, orderV1, toV2, toV3 } from "./support/orders.ts";
import { type Rig, rig } from "./support/probe.ts";

const put = (sku: string, price = 1) => ({ type: "put", sku, price }) as const;

const lamp = defineActor({
  type: "lamp",
  machine: setup({ types: { events: {} as { type: "flip" } | { type: "dim" } } }).createMachine({
    type: "parallel",
    states: {
      light: { initial: "off", states: { off: { on: { flip: "on" } }, on: { on: { flip: "off" } } } },
      level: { initial: "full", states: { full: { on: { dim: "half" } }, half: {} } },
    },
  }),
});
const plain = defineActor({ type: "plain", machine: createMachine({ on: { hi: {} } }) });

/** The store, for somebody who may only read. */
function readOnly(store: Store): Store {
  const refused = (): never => {
    throw new Error("It wrote.");
  };
  const { journal, snapshots, directory } = store;
  return {
    ...store,
    description: store.description,
    durability: store.durability,
    deadLetters: { put: refused, list: refused, remove: refused },
    transport: { publish: refused, subscribe: refused },
    journal: {
      last: (lane) => journal.last(lane),
      read: (lane, from, to) => journal.read(lane, from, to),
      get: refused,
      ends: refused,
      scan: refused,
      append: refused,
    },
    snapshots: {
      sync: () => snapshots.sync(),
      read: (ids) => snapshots.read(ids),
      list: (limit, cursor) => snapshots.list(limit, cursor),
      write: refused,
      due: refused,
    },
    directory: {
      ...directory,
      settings: () => directory.settings(),
      readShard: (shard) => directory.readShard(shard),
      app: refused,
      readShards: refused,
      writeShard: refused,
      join: refused,
      beat: refused,
      leave: refused,
      members: refused,
      beats: refused,
      watch: refused,
    },
    close: refused,
  };
}

async function look(
  r: Pick<Rig, "store" | "world">,
  actors: readonly AnyActorDefinition[],
): Promise<string[]> {
  const rows = await r.world.run(population(readOnly(r.store.inner), 4, registryOf(actors), r.world));
  return rows.map(lineOf);
}

function lineOf({ type, version, state, actors, problem }: PopulationRow): string {
  return `${type} ${version ?? "?"} ${state} ${actors}${problem === undefined ? "" : ` ${problem.code}`}`;
}

/** Orders, lamps and others, some in snapshots and some in the tail, some in both, some deleted in either. */
async function populated(): Promise<Rig> {
  const r = await rig({ actors: [orderV1, lamp, plain] });
  const order = (key: string) => r.node.client.actor(orderV1, key);
  for (let n = 0; n < 12; n++) await r.world.run(order(`o${n}`).send(put("tea")));
  for (let n = 0; n < 5; n++) await r.world.run(order(`o${n}`).send({ type: "pay" }));
  for (const key of ["l1", "l2"]) await r.world.run(r.node.client.actor(lamp, key).send({ type: "flip" }));
  await r.world.run(r.node.checkpoint());
  // From here on it is in the tail: of what is stored, and of what is not.
  for (let n = 4; n < 7; n++) await r.world.run(order(`o${n}`).send({ type: "hold" }));
  for (const key of ["o11", "new1", "new2"]) await r.world.run(order(key).send(put("jam")));
  for (const key of ["o10", "new2", "o0"]) await r.world.run(order(key).delete());
  await r.world.run(order("o0").send(put("again")));
  await r.world.run(r.node.client.actor(lamp, "l2").send({ type: "dim" }));
  await r.world.run(r.node.client.actor(plain, "p").send({ type: "hi" }));
  return r;
}

describe("population", () => {
  it("names states by their paths", () => {
    expect(pathOf("a")).toBe("a");
    expect(pathOf({ a: { b: "c" } })).toBe("a.b.c");
    expect(pathOf({ a: { b: "c" }, d: {}, e: { f: "g", h: "i" } })).toBe("a.b.c + d + e.f.g + e.h.i");
    expect(pathOf({})).toBe("");
  });

  it.each(["beside the node", "after it was killed", "after it has stopped"])(
    "counts everything once, %s",
    async (when) => {
      const r = await populated();
      if (when === "after it was killed") r.node.kill();
      if (when === "after it has stopped") await r.world.run(r.node.stop({ closeStore: false }));
      expect(await look(r, [orderV1, lamp, plain])).toEqual([
        "lamp 1 light.on + level.full 1",
        "lamp 1 light.on + level.half 1",
        "order 1 held 3",
        "order 1 open.paid 3",
        "order 1 open.pending 6",
        "plain 1  1",
      ]);
      // New types are fine, and migrations that cover everything.
      expect(await look(r, [orderNow(3, toV3), lamp, plain, orderV2Of("new")])).toHaveLength(6);
    },
  );

  it("says which states the new machine lacks, and which types", async () => {
    const r = await populated();
    expect(await look(r, [orderNow(3, {}), plain])).toEqual([
      "lamp 1 light.on + level.full 1 unknown_type",
      "lamp 1 light.on + level.half 1 unknown_type",
      "order 1 held 3",
      "order 1 open.paid 3 incompatible_snapshot",
      "order 1 open.pending 6 incompatible_snapshot",
      "plain 1  1",
    ]);
  });

  it("tells actors of one state apart whose migration fails", async () => {
    const r = await populated();
    const picky = {
      1: (state: Parameters<NonNullable<(typeof toV2)[1]>>[0]) => {
        if (state.context.items.length > 1) throw new Error("too many");
        return (toV2[1] as NonNullable<(typeof toV2)[1]>)(state);
      },
    };
    expect((await look(r, [orderNow(2, picky), lamp, plain])).slice(2, 5)).toEqual([
      "order 1 held 3",
      "order 1 open.paid 3",
      "order 1 open.pending 5",
    ]);
    const rows = await population(r.store.inner, 4, registryOf([orderNow(2, picky)]), r.world);
    expect(rows.find(({ problem }) => problem?.code === "migration_failed")).toMatchObject({
      state: "open.pending",
      actors: 1,
      example: "o11",
      problem: { reason: expect.stringMatching(/from version 1 to 2 failed: it threw: too many/) },
    });
  });

  it("an older module cannot read what a newer one wrote", async () => {
    const r = await populated();
    r.node.kill();
    const second = await rig({
      world: r.world,
      store: r.store,
      actors: [orderNow(3, toV3), lamp, plain],
      name: "n2",
    });
    await r.world.run(second.node.client.actor(orderV1, "o11").send(put("jam")));
    await r.world.run(second.node.client.actor(orderV1, "new1").send({ type: "pay" }));
    await r.world.advance(10_000);
    const rows = await look(r, [orderV1, lamp, plain]);
    expect(rows).toContain("order 3 active.paid 1 newer_version");
    expect(rows.filter((row) => row.endsWith("newer_version")).length).toBeGreaterThan(1);
    expect(await look(r, [orderNow(3, toV3), lamp, plain])).not.toContainEqual(
      expect.stringMatching("newer"),
    );
  });

  it("a damaged snapshot is counted as such, and the others are judged all the same", async () => {
    const r = await populated();
    await r.world.run(r.node.stop({ closeStore: false }));
    const [entry] = await r.store.inner.snapshots.read(["lamp.l1"]);
    const value = Uint8Array.from(entry?.value as Uint8Array);
    value[20] = (value[20] as number) ^ 1;
    await r.store.inner.snapshots.write([
      { id: "lamp.l1", shard: 0, value, expected: entry?.revision as number, due: undefined },
    ]);
    expect(await look(r, [orderV1, lamp, plain])).toEqual([
      "lamp ? ? 1 corrupt_snapshot",
      "lamp 1 light.on + level.half 1",
      "order 1 held 3",
      "order 1 open.paid 3",
      "order 1 open.pending 6",
      "plain 1  1",
    ]);
  });

  it("a node that moves snapshots past the tail meanwhile makes no false alarm", async () => {
    const r = await populated();
    const { snapshots } = r.store.inner;
    const read = snapshots.read.bind(snapshots);
    let moved = false;
    // Between the tail and the snapshots of its actors: more turns, and a checkpoint that cuts the tail.
    snapshots.read = async (ids) => {
      if (!moved && ids.some((id) => id.startsWith("order."))) {
        moved = true;
        snapshots.read = read;
        await r.world.run(r.node.client.actor(orderV1, "new1").send(put("tea")));
        await r.world.run(r.node.client.actor(orderV1, "o11").delete());
        await r.world.run(r.node.client.actor(orderV1, "o11").send(put("tea")));
        await r.world.run(r.node.client.actor(orderV1, "o5").delete());
        await r.world.run(r.node.checkpoint());
      }
      return read(ids);
    };
    const rows = await population(readOnly(r.store.inner), 4, registryOf([orderV1, lamp, plain]), r.world);
    expect(moved).toBe(true);
    expect(rows.filter(({ problem }) => problem !== undefined)).toEqual([]);
    expect(await look(r, [orderV1, lamp, plain])).toContain("order 1 held 2");
  });

  it("an app on which nobody ever was is empty", async () => {
    const r = await rig({ store: new FaultStore(), shards: 4 });
    expect(await look(r, [orderV1])).toEqual([]);
  });
});

/** A type that is not stored yet. */
function orderV2Of(type: string): AnyActorDefinition {
  return defineActor({ type, machine: orderV1.machine });
}
