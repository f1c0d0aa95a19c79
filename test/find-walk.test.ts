/** What is found while a catalog is being built, and what bounds it: contract 7, 11 and 12 for questions about a type. */
import { defineActor } from "keyturn";
import { assign, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { ShardRows } from "../runtime/engine/catalog/rows.ts";
import { decode, encode } from "../runtime/words/codec.ts";
import { positionOf } from "../runtime/words/position.ts";
import { FaultStore } from "./support/fault-store.ts";
import { failure, keyIn, type Rig, rig } from "./support/probe.ts";

async function found(r: Rig): Promise<[string, number][]> {
  const turns: [string, number][] = [];
  for await (const { key, turn } of r.node.client.find(r.probe)) turns.push([key, turn]);
  return turns;
}

async function add(r: Rig, key: string): Promise<void> {
  await r.world.run(r.node.client.actor(r.probe, key).send({ type: "add", by: 1 }));
}

/** A node that took over actors whose snapshots stand at turn 2, and their tail has turn 3. */
async function takenOver(): Promise<Rig> {
  const first = await rig({ shards: 1 });
  for (const key of ["a", "b", "c"]) for (let n = 0; n < 2; n++) await add(first, key);
  await first.world.run(first.node.checkpoint());
  for (const key of ["a", "b", "c"]) await add(first, key);
  first.node.kill();
  const { world, probe } = first;
  const heir = await rig({ world, probe, store: new FaultStore(first.store.inner), name: "n2" });
  await world.advance(20_000);
  return heir;
}

describe("while the stored actors are read", () => {
  it("what the tail says is found, and what happens to those actors meanwhile", async () => {
    const r = await takenOver();
    r.store.snapshotListGate.close();
    const asked = found(r);
    await r.world.settle();
    expect(r.store.snapshotListGate.waiting).toBe(1);
    await add(r, "a");
    await r.world.run(r.node.client.actor(r.probe, "b").delete());
    await r.world.run(r.node.checkpoint());
    r.store.snapshotListGate.open();
    expect(await r.world.run(asked)).toEqual([
      ["a", 4],
      ["c", 3],
    ]);
    expect(r.told).toEqual([]);
  });

  it("whoever sets no deadline waits as long as it takes, others ask again", async () => {
    const r = await takenOver();
    r.store.snapshotListGate.close();
    const waits = r.node.client.count(r.probe);
    const hurries = failure(r.node.client.count(r.probe, { timeout_ms: 5_000 }));
    await r.world.advance(150_000);
    expect((await hurries).code).toBe("timeout");
    r.store.snapshotListGate.open();
    expect((await r.world.run(waits)).total).toBe(3);
    const again = r.node.client.count(r.probe, { timeout_ms: 5_000 });
    expect((await r.world.run(again)).total).toBe(3);
  });

  it("contract 12: a damaged snapshot stops its shard, as it does when its actor is used, and no other", async () => {
    const r = await rig({ shards: 2 });
    const [here, there] = [keyIn(r.node, r.probe, 0), keyIn(r.node, r.probe, 1)];
    await add(r, here);
    await add(r, there);
    await r.world.run(r.node.checkpoint());
    r.node.kill();
    const [entry] = await r.store.inner.snapshots.read([`probe.${here}`]);
    const damaged = Uint8Array.from(entry?.value as Uint8Array);
    damaged[damaged.length - 1] = (damaged.at(-1) as number) ^ 1;
    await r.store.inner.snapshots.write([
      { id: `probe.${here}`, shard: 0, value: damaged, expected: entry?.revision ?? 0, due: undefined },
    ]);
    const heir = await rig({ ...r, store: new FaultStore(r.store.inner), name: "n2" });
    await heir.world.advance(20_000);
    expect((await heir.world.run(failure(found(heir)))).code).toBe("corrupt_snapshot");
    expect(heir.told).toEqual(["shard 0 corrupt_snapshot"]);
    expect((await heir.world.run(failure(found(heir)))).code).toBe("corrupt_snapshot");
    await add(heir, there);
  });
});

it("what an older version wrote is found as the new one has it, in memory or not", async () => {
  const machineOf = (state: string) =>
    setup({ types: { context: {} as { sum: number }, events: {} as { type: "go" } } }).createMachine({
      context: { sum: 3 },
      initial: "new",
      states: { new: { on: { go: state } }, [state]: {} },
    });
  const older = defineActor({ type: "order", machine: machineOf("paying"), index: ["sum"] });
  const newer = defineActor({
    type: "order",
    version: 2,
    index: ["sum"],
    machine: machineOf("charging"),
    migrations: {
      1: (state) => ({
        ...state,
        value: state.value === "paying" ? "charging" : state.value,
        context: { sum: 4 },
      }),
    },
  });
  const r = await rig({ actors: [older] });
  for (const key of ["a", "b"]) await r.world.run(r.node.client.actor(older, key).send({ type: "go" }));
  await r.world.run(r.node.stop());
  const next = await rig({ world: r.world, store: r.store, actors: [newer], name: "n2" });
  await next.world.run(next.node.client.actor(newer, "a").get());
  expect(await next.world.run(next.node.client.count(newer, { where: { sum: 4 } }))).toEqual({
    total: 2,
    states: { charging: 2 },
  });
});

describe("contract 11: rows are bounded", () => {
  it("also by what begins after the first question", async () => {
    const r = await rig({ settings: { catalogRows: 8 } });
    expect(await r.world.run(r.node.client.count(r.probe))).toMatchObject({ total: 0 });
    for (let n = 0; n < 40; n++) await add(r, `k${n}`);
    expect(r.node.incarnation.engine.catalogs.rows).toBeLessThanOrEqual(8);
    expect((await r.world.run(failure(r.node.client.count(r.probe)))).code).toBe("overloaded");
  });

  it("the newest place is known in each journal", () => {
    const rows = new ShardRows("log");
    const row = {
      turn: 1,
      time: 0,
      value: "on",
      state: "on",
      status: "active",
      fields: [],
      timers: [],
    } as const;
    rows.set({ ...row, key: "a", position: positionOf(0, 500) });
    rows.set({ ...row, key: "b", position: positionOf(1, 20) });
    rows.set({ ...row, key: "c", position: positionOf(0, 400) });
    expect([0, 1, 2].map((journal) => rows.lastIn(journal))).toEqual([500, positionOf(1, 20), 0]);
  });

  it("and what has gone leaves nothing, whoever asks", () => {
    const rows = new ShardRows("log");
    rows.deleted = undefined;
    const row = {
      turn: 1,
      position: 1,
      time: 0,
      value: "on",
      state: "on",
      status: "active",
      fields: [],
      timers: [],
    } as const;
    for (let n = 0; n < 20_000; n++) {
      rows.set({ ...row, key: `k${n}` });
      rows.delete(`k${n}`);
    }
    expect(rows.size).toBe(0);
    expect(rows.kept).toBeLessThan(2_000);
    rows.set({ ...row, key: "z" });
    expect(rows.keys().filter((key) => rows.get(key) !== undefined)).toEqual(["z"]);
  });
});

it("a child in an index is found as it is stored, and can be carried", async () => {
  const child = setup({}).createMachine({ initial: "here", states: { here: {} } });
  const machine = setup({
    types: { context: {} as { kid: unknown }, events: {} as { type: "go" } },
    actors: { child },
  }).createMachine({
    context: { kid: null },
    on: { go: { actions: assign({ kid: ({ spawn }) => spawn("child", { id: "kid" }) }) } },
  });
  const parent = defineActor({ type: "parent", machine, index: ["kid"] });
  const r = await rig({ actors: [parent] });
  const kids = async (): Promise<unknown[]> => {
    const found: unknown[] = [];
    for await (const { fields } of r.node.client.find(parent)) found.push(decode(encode(fields.kid)));
    return found;
  };
  expect(await r.world.run(kids())).toEqual([]);
  await r.world.run(r.node.client.actor(parent, "a").send({ type: "go" }));
  const live = await r.world.run(kids());
  r.node.kill();
  const heir = await rig({ world: r.world, store: r.store, actors: [parent], name: "n2" });
  await heir.world.advance(20_000);
  const stored: unknown[] = [];
  const reading = async (): Promise<void> => {
    for await (const { fields } of heir.node.client.find(parent)) stored.push(fields.kid);
  };
  await heir.world.run(reading());
  expect(stored).toHaveLength(1);
  expect(live).toEqual(stored);
});

it("questions that wait for a change end with their node", async () => {
  const r = await rig();
  await add(r, "a");
  const changes = r.node.client.changes(r.probe);
  await r.world.run(changes.next());
  const waits = changes.next().catch(() => undefined);
  await r.world.advance(1_000);
  expect(r.world.rest_ms).toBeGreaterThan(10_000);
  await r.world.run(r.node.stop());
  await r.world.advance(1_000);
  expect(r.world.rest_ms).toBeLessThan(1_000);
  await waits;
});
