/** Contract 1 and 10, passivation and checkpoints: whatever is in memory can be lost, and comes back from the store. */
import { describe, expect, it } from "vitest";
import { ShardState } from "../runtime/engine/shard.ts";
import { DeltaTurn, FromSession, NoLink, type TurnRecord } from "../runtime/engine/record.ts";
import { limits } from "../runtime/words/limits.ts";
import { FaultStore } from "./support/fault-store.ts";
import { failure, keyIn, type Rig, rig } from "./support/probe.ts";

const add = { type: "add", by: 1 } as const;

async function count(r: Rig, key: string): Promise<number> {
  return (await r.world.run(r.node.client.actor(r.probe, key).get())).context.count;
}

const keys = Array.from({ length: 30 }, (_, n) => `k${n}`);

describe("passivation", () => {
  it("saver 3: with room for few actors, many are served, none forgets anything, and memory stays bounded", async () => {
    const r = await rig({ settings: { activeActors: 3 } });
    for (let round = 1; round <= 5; round++) {
      const asks = keys.map((key) => r.node.client.actor(r.probe, key).ask(add));
      expect(await r.world.run(Promise.all(asks))).toEqual(keys.map(() => round));
    }
    await r.world.settle();
    expect(r.node.incarnation.engine.actors.size).toBeLessThanOrEqual(3);
    for (const key of keys) expect(await count(r, key)).toBe(5);
  });

  it("contract 11: actors that are only read are passivated too", async () => {
    const r = await rig({ settings: { activeActors: 3 } });
    for (const key of keys) expect(await count(r, key)).toBe(0);
    await r.world.settle();
    expect(r.node.incarnation.engine.actors.size).toBeLessThanOrEqual(3);
    expect(r.store.appends).toBe(0);
  });

  it("never takes an actor whose turns are in flight or whose snapshot could not be written", async () => {
    const r = await rig({ settings: { activeActors: 1 } });
    r.store.failsToWrite = (write) => write.id.startsWith("probe.");
    for (const key of keys) await r.world.run(r.node.client.actor(r.probe, key).send(add));
    expect(r.told.some((line) => line.startsWith("troubled passivation"))).toBe(true);
    for (const key of keys) expect(await count(r, key)).toBe(1);
    r.store.failsToWrite = () => false;
    await r.world.run(r.node.client.actor(r.probe, "k0").send(add));
    await r.world.advance(2_000);
    expect(r.node.incarnation.engine.actors.size).toBeLessThanOrEqual(2);
    expect(await count(r, "k0")).toBe(2);
  });

  it("a deletion while the actor's snapshot is being written removes the snapshot after all", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send(add));
    r.store.snapshotWriteGate.close();
    const checkpoint = r.node.checkpoint();
    await r.world.settle();
    // The shards' entries are held back first; let them through, and hold the actor's own.
    expect(r.store.snapshotWriteGate.waiting).toBe(1);
    r.store.snapshotWriteGate.open();
    r.store.snapshotWriteGate.close();
    await r.world.settle();
    expect(r.store.snapshotWriteGate.waiting).toBe(1);
    await r.world.run(ref.delete());
    r.store.snapshotWriteGate.open();
    await r.world.run(checkpoint);
    await r.world.run(r.node.checkpoint());
    expect((await r.store.inner.snapshots.read(["probe.a"]))[0]?.value).toBeUndefined();
    r.node.kill();
    const second = await rig({ ...r, name: "n2" });
    expect((await second.world.run(second.node.client.actor(r.probe, "a").get())).turn).toBe(0);
  });
});

describe("restart", () => {
  it("contract 1 and 10: after a kill everything answered is there, and no user code ran again", async () => {
    const r = await rig();
    for (let round = 0; round < 70; round++) {
      await r.world.run(
        Promise.all(keys.slice(0, 5).map((key) => r.node.client.actor(r.probe, key).send(add))),
      );
    }
    await r.world.run(r.node.client.actor(r.probe, "k1").delete());
    await r.world.run(r.node.client.actor(r.probe, "k1").send(add));
    r.node.kill();
    const second = await rig({ ...r, name: "n2" });
    expect(await Promise.all(keys.slice(0, 6).map((key) => count(second, key)))).toEqual([
      70, 1, 70, 70, 70, 0,
    ]);
    expect(second.store.journalReads).toBeGreaterThan(0);
  });

  it("contract 10: after a checkpoint and a clean stop nothing is replayed", async () => {
    const r = await rig();
    for (const key of keys) await r.world.run(r.node.client.actor(r.probe, key).send(add));
    await r.world.run(r.node.stop({ closeStore: false }));
    r.store.journalReads = 0;
    const second = await rig({ ...r, name: "n2" });
    expect(second.node.shards).toHaveLength(4);
    expect(second.store.journalReads).toBe(0);
    for (const key of keys) expect(await count(second, key)).toBe(1);
  });

  it("a checkpoint cuts the tail: only what came after is replayed", async () => {
    const r = await rig();
    for (let n = 0; n < 20; n++) await r.world.run(r.node.client.actor(r.probe, "a").send(add));
    await r.world.run(r.node.checkpoint());
    for (let n = 0; n < 3; n++) await r.world.run(r.node.client.actor(r.probe, "a").send(add));
    for (const [, { entry }] of await r.store.directory.readShards([0, 1, 2, 3])) {
      expect(entry.segments).toEqual([{ lane: r.node.incarnation.name, from: 21, to: undefined }]);
    }
    r.node.kill();
    const second = await rig({ ...r, name: "n2" });
    expect(await count(second, "a")).toBe(23);
  });

  it("checkpoint: a crash between any two of its writes loses nothing and applies nothing twice", async () => {
    for (let allowed = 0; allowed < 12; allowed++) {
      const r = await rig();
      const [from, to] = [keyIn(r.node, r.probe, 0), keyIn(r.node, r.probe, 1)];
      for (let n = 0; n < 3; n++) {
        await r.world.run(
          r.node.client
            .actor(r.probe, from)
            .send({ type: "tellMany", to: [`probe/${to}`], from: `${n}.`, count: 2 }),
        );
        await r.world.run(r.node.client.actor(r.probe, from).send(add));
        await r.world.run(r.node.client.actor(r.probe, `r${n}`).ask(add, { requestId: "x" }));
      }
      let writes = 0;
      r.store.failsToWrite = () => ++writes > allowed;
      await r.world.run(Promise.allSettled([r.node.checkpoint()]));
      await r.world.run(r.node.client.actor(r.probe, from).send(add));
      r.node.kill();
      r.store.failsToWrite = () => false;
      const second = await rig({ ...r, name: "n2" });
      await second.world.advance(10_000);
      expect(await count(second, from)).toBe(4);
      const { seen } = (await second.world.run(second.node.client.actor(r.probe, to).get())).context;
      expect(seen).toEqual(["0.1", "0.2", "1.1", "1.2", "2.1", "2.2"]);
      for (let n = 0; n < 3; n++) {
        expect(
          await second.world.run(second.node.client.actor(r.probe, `r${n}`).ask(add, { requestId: "x" })),
        ).toBe(1);
      }
    }
  });

  it("a second crash before anything was checkpointed is survived as well, many times", async () => {
    let r = await rig({ name: "n0" });
    for (let life = 1; life <= 5; life++) {
      await r.world.run(
        Promise.all(keys.map((key) => r.node.client.actor(r.probe, key).send(add, { timeout_ms: 60_000 }))),
      );
      r.node.kill();
      r = await rig({ ...r, name: `n${life}` });
    }
    for (const key of keys) expect(await count(r, key)).toBe(5);
  });

  it("checkpoint: a former owner's snapshot that comes in late does not hide the tail's newer turns", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send(add));
    await r.world.run(r.node.checkpoint());
    const [old] = await r.store.inner.snapshots.read(["probe.a"]);
    await r.world.run(ref.send(add));
    r.node.kill();
    const second = await rig({ ...r, name: "n2" });
    await second.world.advance(8_000);
    const { write } = r.store.snapshots;
    let late = true;
    r.store.snapshots.write = async (writes) => {
      if (late && writes.some(({ id }) => id === "probe.a")) {
        late = false;
        const zombie = {
          id: "probe.a",
          shard: ref.shard,
          value: old?.value,
          expected: old?.revision ?? 0,
          due: undefined,
        };
        expect(await r.store.inner.snapshots.write([zombie])).not.toEqual([undefined]);
      }
      return write(writes);
    };
    await second.world.run(second.node.checkpoint());
    expect(late).toBe(false);
    second.node.kill();
    const third = await rig({ ...second, name: "n3" });
    expect(await count(third, "a")).toBe(2);
  });

  it.each([
    ["stored", true],
    ["never stored", false],
  ])(
    "contract 2: a former owner's late first snapshot does not bring back an actor that was deleted meanwhile, %s by its new owner",
    async (_what, stored) => {
      const r = await rig();
      const ref = r.node.client.actor(r.probe, "a");
      await r.world.run(ref.send(add));
      await r.world.run(ref.send(add));
      // The first owner's write is on its way while the node loses touch with the others. It does not even look at its lease.
      const { owner, saver } = r.node.incarnation.engine;
      owner.checkLease = () => undefined;
      r.store.failsToWrite = ({ id }) => id.startsWith("_shard.");
      r.store.snapshotWriteGate.close();
      const late = saver.save([...r.node.incarnation.engine.actors.values()]);
      const refused = expect(late).rejects.toThrow("belongs to another node");
      await r.world.settle();
      expect(r.store.snapshotWriteGate.waiting).toBe(1);
      r.store.directoryGate.close();
      const heir = await rig({ ...r, store: new FaultStore(r.store.inner), name: "n2" });
      await heir.world.advance(20_000);
      if (stored) await heir.world.run(heir.node.checkpoint());
      await heir.world.run(heir.node.client.actor(r.probe, "a").delete());
      await heir.world.run(heir.node.checkpoint());
      r.store.snapshotWriteGate.open();
      await r.world.settle();
      r.store.directoryGate.open();
      await r.world.run(refused);
      const [entry] = await r.store.inner.snapshots.read(["probe.a"]);
      expect([entry?.value, (entry?.revision ?? 0) > 0]).toEqual([undefined, true]);
      heir.node.kill();
      r.node.kill();
      const next = await rig({ ...heir, name: "n3" });
      await next.world.advance(10_000);
      expect((await next.world.run(next.node.client.actor(r.probe, "a").get())).turn).toBe(0);
    },
  );

  it("a deletion that only the tail knows leaves a marker, whoever writes it", async () => {
    for (const used of [true, false]) {
      const r = await rig();
      const ref = r.node.client.actor(r.probe, "a");
      await r.world.run(ref.send(add));
      await r.world.run(ref.delete());
      expect(await r.store.inner.snapshots.read(["probe.a"])).toEqual([undefined]);
      r.node.kill();
      const heir = await rig({ ...r, name: "n2" });
      await heir.world.advance(10_000);
      if (used) await heir.world.run(heir.node.client.actor(r.probe, "a").get());
      await heir.world.run(heir.node.checkpoint());
      const [entry] = await r.store.inner.snapshots.read(["probe.a"]);
      expect([entry?.value, (entry?.revision ?? 0) > 0]).toEqual([undefined, true]);
    }
  });

  it("an actor lives on where its marker was forgotten, and where it was not", async () => {
    for (const forgotten of [true, false]) {
      const r = await rig();
      const ref = r.node.client.actor(r.probe, "a");
      await r.world.run(ref.send(add));
      await r.world.run(r.node.checkpoint());
      await r.world.run(ref.delete());
      await r.world.run(r.node.checkpoint());
      const { read, write } = r.store.snapshots;
      if (forgotten) {
        // The store has another entry by that name, so to say: none.
        const other = (id: string): string => (id === "probe.a" ? "probe.a2" : id);
        r.store.snapshots.read = (ids) => read(ids.map(other));
        r.store.snapshots.write = (writes) => write(writes.map((w) => ({ ...w, id: other(w.id) })));
      }
      await r.world.run(ref.send({ type: "add", by: 7 }));
      await r.world.run(r.node.checkpoint());
      r.node.kill();
      const heir = await rig({ ...r, name: "n2" });
      await heir.world.advance(10_000);
      expect((await heir.world.run(heir.node.client.actor(r.probe, "a").get())).context.count).toBe(7);
    }
  });

  it("recovery: a tail with more sessions than a shard may have is recovered all the same", () => {
    const shard = new ShardState(0);
    const record = (n: number): TurnRecord => ({
      kind: DeltaTurn,
      id: "probe.a",
      turn: n,
      previous: NoLink,
      keyframe: NoLink,
      source: FromSession,
      sourceName: `s${n}`,
      sourceNumber: 1,
      delay: 0,
      version: 1,
      event: null,
      change: null,
      out: [],
      emitted: [],
      replied: false,
      reply: undefined,
      requestId: undefined,
      trace: undefined,
      refusal: undefined,
    });
    for (let n = 0; n <= limits.sessionsPerShard; n++) shard.replay(record(n), [n + 1, 0], 0);
    expect(shard.sessions.size).toBe(limits.sessionsPerShard + 1);
    expect(() => shard.session("one more", 1, 0)).toThrow(expect.objectContaining({ code: "overloaded" }));
  });
});

describe("automatic checkpoints", () => {
  it("come when the tail has so many records, or is so old, and not without a tail", async () => {
    const r = await rig({ settings: { checkpointRecords: 10, checkpoint_ms: 20_000 } });
    const cut = async (): Promise<number> =>
      Math.min(
        ...[...(await r.store.directory.readShards([0, 1, 2, 3])).values()].map(
          ({ entry }) => entry.segments[0]?.from ?? 0,
        ),
      );
    await r.world.advance(60_000);
    expect(await cut()).toBe(1);
    for (let n = 0; n < 12; n++) await r.world.run(r.node.client.actor(r.probe, "a").send(add));
    await r.world.advance(3_000);
    expect(await cut()).toBe(13);
    await r.world.run(r.node.client.actor(r.probe, "a").send(add));
    await r.world.advance(5_000);
    expect(await cut()).toBe(13);
    await r.world.advance(30_000);
    expect(await cut()).toBe(14);
  });

  it("one that fails is tried again, though nothing more is sent", async () => {
    const r = await rig({ settings: { checkpointRecords: 10, checkpoint_ms: 20_000 } });
    r.store.failsToWrite = () => true;
    await r.world.run(r.node.client.actor(r.probe, "a").send(add));
    await r.world.advance(30_000);
    r.store.failsToWrite = () => false;
    await r.world.advance(30_000);
    expect((await r.store.inner.snapshots.read(["probe.a"]))[0]).toBeDefined();
  });
});

describe("a node that stops", () => {
  it("settles what its own client has open as unknown, and takes nothing after", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send(add));
    r.store.appendGate.close();
    const open = failure(ref.send(add));
    await r.world.settle();
    r.node.kill();
    expect((await r.world.run(open)).outcome).toBe("unknown");
    r.store.appendGate.open();
    await r.world.settle();
    expect((await failure(ref.send(add))).code).toBe("client_ended");
    expect(r.node.incarnation.engine.actors.size).toBe(0);
  });
});
