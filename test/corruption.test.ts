/** Contract 12: damage in the store is found, stops what it touches, loudly, and is never served; the rest goes on. */
import { createMachine } from "xstate";
import { describe, expect, it } from "vitest";
import { defineActor } from "../runtime/index.ts";
import type { JournalEntry } from "../runtime/ports/index.ts";
import { failure, keyIn, type Rig, rig } from "./support/probe.ts";

const add = { type: "add", by: 1 } as const;

async function count(r: Rig, key: string): Promise<number> {
  return (await r.world.run(r.node.client.actor(r.probe, key).get())).context.count;
}

/** A node with one actor in every shard; killed, with or without a checkpoint. The keys are by shard. */
async function killed(checkpoint: boolean): Promise<Rig & { keys: readonly string[]; lane: string }> {
  const r = await rig();
  const keys = [0, 1, 2, 3].map((shard) => keyIn(r.node, r.probe, shard));
  for (let n = 0; n < 3; n++)
    for (const key of keys) await r.world.run(r.node.client.actor(r.probe, key).send(add));
  if (checkpoint) await r.world.run(r.node.checkpoint());
  const lane = r.node.incarnation.name;
  r.node.kill();
  return { ...r, keys, lane };
}

/** Makes the store's journal give other entries than it holds. */
function rewrite(r: Rig, change: (entry: JournalEntry) => JournalEntry | undefined): void {
  const { read } = r.store.journal;
  r.store.journal.read = async function* (lane, from, to) {
    for await (const entries of read(lane, from, to)) {
      yield entries.map(change).filter((entry) => entry !== undefined);
    }
  };
}

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy[at] = (copy[at] as number) ^ 0x10;
  return copy;
}

async function takenOver(dead: Rig): Promise<Rig> {
  const heir = await rig({ ...dead, name: "n2" });
  await heir.world.advance(10_000);
  return heir;
}

describe("a damaged tail", () => {
  const damages: [string, (entry: JournalEntry) => JournalEntry | undefined][] = [
    ["a flipped bit", (e) => (e.seq === 5 ? { seq: 5, bytes: flipped(e.bytes, e.bytes.length >> 1) } : e)],
    [
      "a batch cut short",
      (e) => (e.seq === 5 ? { seq: 5, bytes: e.bytes.subarray(0, e.bytes.length - 3) } : e),
    ],
    ["an empty batch", (e) => (e.seq === 5 ? { seq: 5, bytes: new Uint8Array(0) } : e)],
    ["a missing batch", (e) => (e.seq === 5 ? undefined : e)],
    ["a missing batch with the last turn of an actor", (e) => (e.seq === 10 ? undefined : e)],
    ["a missing end", (e) => (e.seq >= 12 ? undefined : e)],
    ["a missing begin", (e) => (e.seq <= 2 ? undefined : e)],
  ];
  it.each(damages)("%s stops the shards whose tail it is in, with a typed error", async (_what, damage) => {
    const dead = await killed(false);
    rewrite(dead, damage);
    const heir = await takenOver(dead);
    expect(heir.told.filter((line) => line.endsWith("corrupt_record"))).toHaveLength(4);
    for (const key of dead.keys) {
      const ref = heir.node.client.actor(heir.probe, key);
      const calls = [() => ref.get(), () => ref.ask(add), () => ref.delete(), () => ref.history().next()];
      for (const call of calls) {
        const error = await heir.world.run(failure(call()));
        expect(error).toMatchObject({ code: "corrupt_record", outcome: "notApplied" });
        expect(error.message).toContain("damaged");
      }
    }
  });

  it("two batches that changed places are found", async () => {
    const dead = await killed(false);
    const at = async (seq: number): Promise<Uint8Array> =>
      (await dead.store.inner.journal.get(seq)) as Uint8Array;
    const [five, six] = [await at(5), await at(6)];
    rewrite(dead, (e) => (e.seq === 5 ? { seq: 5, bytes: six } : e.seq === 6 ? { seq: 6, bytes: five } : e));
    const heir = await takenOver(dead);
    expect(heir.told.filter((line) => line.endsWith("corrupt_record"))).toHaveLength(4);
  });

  it("shards whose tail was cut behind it are served, whole", async () => {
    const r = await rig();
    const keys = [0, 1, 2, 3].map((shard) => keyIn(r.node, r.probe, shard));
    for (const key of keys) await r.world.run(r.node.client.actor(r.probe, key).send(add));
    // The others' tails now begin behind the four batches; shard 0's entry is put back to where it began.
    const before = await r.store.directory.readShard(0);
    await r.world.run(r.node.checkpoint());
    for (const key of keys) await r.world.run(r.node.client.actor(r.probe, key).send(add));
    const now = await r.store.directory.readShard(0);
    if (before === undefined || now === undefined) throw new Error("There is no such shard.");
    r.node.kill();
    await r.store.inner.directory.writeShard(0, before.entry, now.revision);
    rewrite(r, (e) => (e.seq === 2 ? { seq: 2, bytes: flipped(e.bytes, 40) } : e));
    const heir = await takenOver(r);
    expect(heir.told).toEqual(["shard 0 corrupt_record"]);
    expect(
      (await heir.world.run(failure(heir.node.client.actor(r.probe, keys[0] as string).ask(add)))).code,
    ).toBe("corrupt_record");
    for (const key of keys.slice(1))
      expect(await heir.world.run(heir.node.client.actor(r.probe, key).ask(add))).toBe(3);
  });

  it("a damaged end of a lane stops the take-over of its shards, not that of another lane's", async () => {
    const dead = await killed(false);
    const { get } = dead.store.inner.journal;
    const last = await dead.store.inner.journal.last(dead.lane);
    dead.store.journal.get = async (seq) => {
      const bytes = await get.call(dead.store.inner.journal, seq);
      return seq === last && bytes !== undefined ? flipped(bytes, 20) : bytes;
    };
    const heir = await takenOver(dead);
    expect(heir.told.filter((line) => line.endsWith("corrupt_record"))).toHaveLength(4);
  });

  it("the store is left as it was: with the right bytes back, another node serves everything", async () => {
    const dead = await killed(false);
    const { read } = dead.store.journal;
    rewrite(dead, (e) => (e.seq === 5 ? undefined : e));
    const heir = await takenOver(dead);
    expect(heir.told).toHaveLength(4);
    await heir.world.run(heir.node.stop({ closeStore: false }));
    dead.store.journal.read = read;
    const next = await rig({ ...dead, name: "n3" });
    await next.world.advance(10_000);
    for (const key of dead.keys)
      expect(await next.world.run(next.node.client.actor(dead.probe, key).ask(add))).toBe(4);
  });
});

describe("a damaged snapshot", () => {
  /** Changes the stored bytes of an entry in place. */
  async function damage(r: Rig, id: string, at: number): Promise<void> {
    const [entry] = await r.store.inner.snapshots.read([id]);
    if (entry?.value === undefined) throw new Error(`There is no ${id}.`);
    entry.value[at] = (entry.value[at] as number) ^ 0x04;
  }

  it("of an actor stops its shard when the actor is asked for; other shards serve", async () => {
    const dead = await killed(true);
    await damage(dead, `probe.${dead.keys[1]}`, 30);
    const heir = await takenOver(dead);
    const same = keyIn(heir.node, heir.probe, 1, "same");
    expect(await heir.world.run(heir.node.client.actor(heir.probe, same).ask(add))).toBe(1);
    const [zero, one] = dead.keys as [string, string];
    expect((await heir.world.run(failure(heir.node.client.actor(heir.probe, one).ask(add)))).code).toBe(
      "corrupt_snapshot",
    );
    expect(heir.told).toEqual(["shard 1 corrupt_snapshot"]);
    expect((await heir.world.run(failure(heir.node.client.actor(heir.probe, same).get()))).code).toBe(
      "corrupt_snapshot",
    );
    expect(await heir.world.run(heir.node.client.actor(heir.probe, zero).ask(add))).toBe(4);
  });

  it("a shard that is stopped so keeps its tail when the node stops: no answered turn is lost", async () => {
    const dead = await killed(true);
    const [, one] = dead.keys as [string, string];
    const heir = await takenOver(dead);
    const same = keyIn(heir.node, heir.probe, 1, "same");
    await heir.world.run(heir.node.client.actor(heir.probe, same).send(add));
    await damage(dead, `probe.${one}`, 30);
    await heir.world.run(failure(heir.node.client.actor(heir.probe, one).ask(add)));
    await heir.world.run(heir.node.checkpoint());
    await heir.world.run(heir.node.stop({ closeStore: false }));
    await damage(dead, `probe.${one}`, 30);
    const next = await rig({ ...dead, name: "n3" });
    await next.world.advance(10_000);
    expect([await count(next, same), await count(next, one)]).toEqual([1, 3]);
  });

  it("found by a checkpoint, it does not hold up the other shards' checkpoints", async () => {
    const r = await rig();
    const keys = [0, 1, 2, 3].map((shard) => keyIn(r.node, r.probe, shard));
    for (const key of keys) await r.world.run(r.node.client.actor(r.probe, key).send(add));
    await r.world.run(r.node.checkpoint());
    for (const key of keys) await r.world.run(r.node.client.actor(r.probe, key).send(add));
    r.node.kill();
    await damage(r, `probe.${keys[2]}`, 30);
    const heir = await takenOver(r);
    await heir.world.run(heir.node.checkpoint());
    expect(heir.told).toEqual(["shard 2 corrupt_snapshot"]);
    const cut = [...(await r.store.directory.readShards([0, 1, 2, 3]))].map(
      ([, { entry }]) => entry.segments.length,
    );
    expect(cut).toEqual([1, 1, 2, 1]);
  });

  it("of a shard's own entry stops that shard; other shards serve", async () => {
    const dead = await killed(true);
    await damage(dead, "_shard.3", 12);
    const heir = await takenOver(dead);
    expect(heir.told).toEqual(["shard 3 corrupt_snapshot"]);
    const [zero, , , three] = dead.keys as [string, string, string, string];
    expect((await heir.world.run(failure(heir.node.client.actor(heir.probe, three).ask(add)))).code).toBe(
      "corrupt_snapshot",
    );
    expect(await heir.world.run(heir.node.client.actor(heir.probe, zero).ask(add))).toBe(4);
  });

  it("a stale read of it is refused too", async () => {
    const dead = await killed(true);
    await damage(dead, `probe.${dead.keys[1]}`, 30);
    const heir = await takenOver(dead);
    const ref = heir.node.client.actor(heir.probe, dead.keys[1] as string);
    expect((await heir.world.run(failure(ref.get({ stale: true })))).code).toBe("corrupt_snapshot");
  });

  it("from a newer format refuses its actor only, and is left as it is", async () => {
    const dead = await killed(true);
    const [zero, one] = dead.keys as [string, string];
    const [entry] = await dead.store.inner.snapshots.read([`probe.${one}`]);
    if (entry?.value === undefined) throw new Error("It is not there.");
    entry.value[1] = 2;
    const heir = await takenOver(dead);
    expect(await heir.world.run(failure(heir.node.client.actor(heir.probe, one).ask(add)))).toMatchObject({
      code: "newer_format",
      outcome: "notApplied",
    });
    const same = keyIn(heir.node, heir.probe, 1, "same");
    expect(await heir.world.run(heir.node.client.actor(heir.probe, same).ask(add))).toBe(1);
    expect(await heir.world.run(heir.node.client.actor(heir.probe, zero).ask(add))).toBe(4);
    await heir.world.run(heir.node.checkpoint());
    expect((await dead.store.inner.snapshots.read([`probe.${one}`]))[0]?.value?.[1]).toBe(2);
    entry.value[1] = 1;
    await heir.world.run(heir.node.stop({ closeStore: false }));
    const next = await rig({ ...dead, name: "n3" });
    expect(await count(next, one)).toBe(3);
  });
});

describe("XState #3091: a machine that no longer has the stored state", () => {
  const before = defineActor({
    type: "door",
    machine: createMachine({
      initial: "open",
      states: { open: { on: { shut: "shut", lock: "locked", noop: {} } }, shut: {}, locked: {} },
    }),
  });
  const after = defineActor({
    type: "door",
    version: 2,
    machine: createMachine({
      initial: "open",
      states: {
        open: { on: { shut: "shut" } },
        shut: { initial: "latched", states: { latched: {}, ajar: {} } },
      },
    }),
  });

  it("refuses that actor only, names the state, and keeps it for the machine that has it", async () => {
    const first = await rig({ actors: [before], shards: 1 });
    const { store, world } = first;
    for (const [key, type] of [
      ["a", "lock"],
      ["b", "shut"],
      ["c", "noop"],
    ] as const)
      await world.run(first.node.client.actor(`door/${key}`).send({ type }));
    await world.run(first.node.stop({ closeStore: false }));
    const second = await rig({ store, world, actors: [after], name: "n2" });
    for (const key of ["a", "b"]) {
      const error = await world.run(failure(second.node.client.actor(`door/${key}`).ask({ type: "shut" })));
      expect(error).toMatchObject({ code: "incompatible_snapshot", outcome: "notApplied" });
      expect(error.message).toContain(key === "a" ? '"locked"' : '"shut"');
    }
    expect(await world.run(second.node.client.actor("door/c").ask({ type: "shut" }))).toMatchObject({
      value: { shut: "latched" },
      turn: 2,
    });
    await world.run(second.node.stop({ closeStore: false }));
    // Under a later version: an earlier one is never given what a later one may have written.
    const again = defineActor({ type: "door", version: 3, machine: before.machine });
    const third = await rig({ store, world, actors: [again], name: "n3" });
    expect(await world.run(third.node.client.actor("door/a").get())).toMatchObject({
      value: "locked",
      turn: 1,
    });
  });
});
