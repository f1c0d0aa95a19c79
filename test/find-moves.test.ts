/** Questions about a type while its shards move, actors leave memory, and pieces are replaced: nothing of it harms a node. */
import { defineActor } from "keyturn";
import { assign, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { FaultStore } from "./support/fault-store.ts";
import { keyIn, type Rig, rig } from "./support/probe.ts";

const machine = setup({
  types: { context: {} as { sum: number; beside: number }, events: {} as { type: "add" } },
}).createMachine({
  context: { sum: 0, beside: 0 },
  on: { add: { actions: assign({ sum: ({ context }) => context.sum + 1 }) } },
});
const plain = defineActor({ type: "order", machine });

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
      expect(second.told).toEqual([]);
    });
});
