/** Questions about a type while its shards move, its pieces are replaced, or its values are large: no harm is done to the node. */
import { defineActor } from "keyturn";
import { assign, setup } from "xstate";
import { describe, expect, it } from "vitest";
import type { ShardState } from "../runtime/engine/shard.ts";
import { KeyturnError } from "../runtime/words/errors.ts";
import { FaultStore } from "./support/fault-store.ts";
import { keyIn, type Rig, rig } from "./support/probe.ts";

const machine = setup({
  types: { context: {} as { sum: number; beside: number }, events: {} as { type: "add" } },
}).createMachine({
  context: { sum: 0, beside: 0 },
  on: { add: { actions: assign({ sum: ({ context }) => context.sum + 1 }) } },
});
const plain = defineActor({ type: "order", machine });
const order = defineActor({ type: "order", machine, index: ["sum"] });

async function add(r: Rig, key: string, times = 1): Promise<void> {
  for (let n = 0; n < times; n++) await r.world.run(r.node.client.actor(plain, key).send({ type: "add" }));
}

describe("a shard that has moved to another node while its actors are looked for", () => {
  for (const what of ["deleted", "stored anew"])
    it(`and in which an actor was ${what} is no damage`, async () => {
      const first = await rig({ actors: [plain], shards: 8 });
      const inShards = Array.from({ length: 8 }, (_, shard) => keyIn(first.node, plain, shard));
      for (const key of inShards) await add(first, key);
      await first.world.run(first.node.checkpoint());
      // What the tail says of them does not stand alone.
      for (const key of inShards) await add(first, key);
      first.node.kill();
      const { world } = first;
      const second = await rig({
        world,
        store: new FaultStore(first.store.inner),
        actors: [plain],
        name: "n2",
      });
      await world.advance(20_000);
      const { engine } = second.node.incarnation;
      const owned = [...engine.shards.values()];
      second.store.snapshotListGate.close();
      const asked = second.node.client.count(plain);
      await world.settle();
      expect(second.store.snapshotListGate.waiting).toBe(1);
      const third = await rig({
        world,
        store: new FaultStore(first.store.inner),
        actors: [plain],
        name: "n3",
      });
      await world.advance(20_000);
      const moved = inShards.filter((_, shard) => third.node.incarnation.engine.shards.has(shard));
      expect(moved.length).toBeGreaterThan(0);
      for (const key of moved)
        if (what === "deleted") await world.run(third.node.client.actor(plain, key).delete());
        else await add(third, key, 3);
      await world.run(third.node.checkpoint());
      second.store.snapshotListGate.open();
      // The shards were asked before.
      expect((await world.run(asked)).total).toBe(8);
      const { total } = await world.run(second.node.client.count(plain));
      expect(total).toBe(what === "deleted" ? 8 - moved.length : 8);
      // Nor is what anybody else takes for damage of such a shard.
      const gone = owned.find(({ phase }) => phase === "gone") as ShardState;
      await world.run(engine.failShard(gone, new KeyturnError("corrupt_snapshot", "It is behind.")));
      expect(second.told).toEqual([]);
    });
});

/** What is done before any pieces of a stored index are read. */
function beforePieces(store: FaultStore, before: () => Promise<void>): void {
  const { snapshots } = store;
  const read = snapshots.read.bind(snapshots);
  snapshots.read = async (ids) => {
    if (ids.some((id) => /^_index\.\d+\.order\.\d+$/.test(id))) await before();
    return read(ids);
  };
}

it("pieces that are replaced again and again while they are read do not make anybody read the snapshots", async () => {
  const keys = Array.from({ length: 800 }, (_, n) => `k${String(n).padStart(4, "0")}`);
  const touchAll = (r: Rig): Promise<unknown> =>
    Promise.all(keys.map((key) => r.node.client.actor(order, key).send({ type: "add" })));
  const first = await rig({ actors: [order], shards: 1 });
  await first.world.run(touchAll(first));
  await first.world.run(first.node.stop());
  const { world } = first;
  const heir = await rig({ world, store: new FaultStore(first.store.inner), actors: [order], name: "n2" });
  let reads = 0;
  let isTouching = false;
  beforePieces(heir.store, async () => {
    if (isTouching || reads++ % 2 === 1) return;
    isTouching = true;
    await touchAll(heir);
    await heir.node.checkpoint();
    isTouching = false;
  });
  heir.store.snapshotListGate.close();
  const counts: number[] = [];
  const read = async (): Promise<void> => {
    for await (const { fields } of heir.node.client.find(order)) counts.push(fields.sum as number);
  };
  await world.run(read());
  expect(reads).toBeGreaterThan(2 * 4);
  expect(counts).toHaveLength(keys.length);
  expect(heir.told).toEqual([]);
});

describe("turns go on while large values are decoded", () => {
  const machine = setup({
    types: { context: {} as { texts: readonly string[] }, events: {} as { type: "fill"; length: number } },
  }).createMachine({
    context: { texts: [] },
    on: {
      fill: {
        actions: assign({ texts: ({ event }) => new Array<string>(8).fill("x".repeat(event.length)) }),
      },
    },
  });
  const index = Array.from({ length: 8 }, (_, n) => `texts.${n}`);
  const large = defineActor({ type: "order", machine, index });

  /** How often others went on while a node that has just begun found so many actors, with values of so many characters. */
  async function breaths(count: number, length: number): Promise<number> {
    const first = await rig({ actors: [large], shards: 16 });
    const fill = (_: unknown, n: number): Promise<unknown> =>
      first.node.client.actor(large, `k${n}`).send({ type: "fill", length });
    await first.world.run(Promise.all(Array.from({ length: count }, fill)));
    await first.world.run(first.node.stop());
    const store = new FaultStore(first.store.inner);
    const heir = await rig({ world: first.world, store, actors: [large], name: "n2" });
    const { engine } = heir.node.incarnation;
    const { breathe } = engine;
    let taken = 0;
    engine.breathe = () => {
      taken++;
      return breathe.call(engine);
    };
    expect((await heir.world.run(heir.node.client.count(large))).total).toBe(count);
    return taken;
  }

  for (const [where, count] of [
    ["in roots", 400],
    ["in pieces", 800],
  ] as const)
    it(where, async () => {
      const few = await breaths(count, 10);
      // Some three or six megabytes.
      expect(await breaths(count, 1_000)).toBeGreaterThanOrEqual(few + 2);
    });
});
