/** Stored indexes: what is found after a start, a crash, a move or damage is what is committed, and no snapshot is listed for it. */
import { defineActor } from "keyturn";
import { assign, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { decodeRoot, type Root } from "../runtime/engine/catalog/index-format.ts";
import type { SnapshotWrite } from "../runtime/ports/index.ts";
import { FaultStore } from "./support/fault-store.ts";
import { type Rig, rig } from "./support/probe.ts";

interface OrderContext {
  readonly sum: number;
  readonly customer: { readonly name: string };
}

const machine = setup({
  types: { context: {} as OrderContext, events: {} as { type: "add" } | { type: "wait" } },
  delays: { long: 3_600_000 },
}).createMachine({
  context: { sum: 0, customer: { name: "ada" } },
  initial: "open",
  states: { open: { on: { wait: "waiting" } }, waiting: { after: { long: "open" } } },
  on: { add: { actions: assign({ sum: ({ context }) => context.sum + 1 }) } },
});
const order = defineActor({ type: "order", machine, index: ["sum", "customer.name"] });
const without = defineActor({ type: "order", machine });
const otherwise = defineActor({ type: "order", machine, index: ["customer.name"] });

type Definition = typeof order;

function start(r: Partial<Rig>, definition: Definition = order, name = "n1", shards?: number): Promise<Rig> {
  const store = r.store === undefined ? new FaultStore() : new FaultStore(r.store.inner);
  return rig({ ...r, store, actors: [definition], name, ...(shards === undefined ? {} : { shards }) });
}

/** The next owner: after a stop, or after the lease of one that was killed is over. */
async function next(r: Rig, definition: Definition = order, name = `${r.node.name}x`): Promise<Rig> {
  const heir = await start(r, definition, name);
  await heir.world.advance(20_000);
  return heir;
}

async function send(r: Rig, keys: readonly string[], type: "add" | "wait" = "add"): Promise<void> {
  await r.world.run(Promise.all(keys.map((key) => r.node.client.actor(order, key).send({ type }))));
}

/** Everything that questions answer, with listing held back where none is to be needed. */
async function found(r: Rig, listing = false): Promise<Record<string, unknown>> {
  if (!listing) r.store.snapshotListGate.close();
  const { client } = r.node;
  const look = async (): Promise<Record<string, unknown>> => {
    const rows: Record<string, unknown> = {};
    for await (const { key, value, turn, fields } of client.find(order)) rows[key] = [value, turn, fields];
    const timers: unknown[] = [];
    for await (const { key, id, due } of client.timers(order)) timers.push([key, id, due]);
    return { rows, timers, count: await client.count(order) };
  };
  const result = await r.world.run(look());
  r.store.snapshotListGate.open();
  return result;
}

const keys = (count: number, prefix = "k"): string[] =>
  Array.from({ length: count }, (_, n) => `${prefix}${String(n).padStart(4, "0")}`);

async function rootOf(r: Rig, shard = 0): Promise<Root> {
  const [entry] = await r.store.inner.snapshots.read([`_index.${shard}.order`]);
  return decodeRoot(shard, order, entry?.value);
}

/** Numbers of the pieces that lie in the store, of those that anybody may have written. */
async function piecesOf(r: Rig, root: Root, shard = 0): Promise<number[]> {
  const last = root.claimed;
  const numbers = Array.from({ length: 200 }, (_, n) => last - 100 + n);
  const entries = await r.store.inner.snapshots.read(numbers.map((n) => `_index.${shard}.order.${n}`));
  return numbers.filter((_, at) => entries[at]?.value !== undefined);
}

describe("after a start", () => {
  it("everything is found without a look at any snapshot", async () => {
    const first = await start({}, order, "n1", 4);
    await send(first, keys(300));
    await send(first, keys(20), "wait");
    await first.world.run(first.node.client.actor(order, "k0007").delete());
    const before = await found(first);
    await first.world.run(first.node.stop());
    const second = await next(first);
    expect(await found(second)).toEqual(before);
    expect(before.count).toEqual({ total: 299, states: { open: 280, waiting: 19 } });
  });

  it("also what only the tail knows, what was passivated, and what began and went in between", async () => {
    const first = await start({ store: new FaultStore() }, order, "n1", 2);
    await send(first, keys(50));
    await first.world.run(first.node.checkpoint());
    await send(first, keys(10));
    await send(first, keys(5, "new"));
    await first.world.run(first.node.client.actor(order, "k0001").delete());
    await first.world.run(first.node.client.actor(order, "new0001").delete());
    const before = await found(first);
    first.node.kill();
    const heir = await next(first);
    expect(await found(heir)).toEqual(before);
    await heir.world.run(heir.node.checkpoint());
    heir.node.kill();
    expect(await found(await next(heir))).toEqual(before);
  });

  it("what was stored and has left memory since the last checkpoint is found", async () => {
    const world = await start({}, order, "n1", 1);
    const r = await rig({ world: world.world, actors: [order], shards: 1, settings: { activeActors: 10 } });
    await send(r, keys(100));
    await r.world.run(r.node.checkpoint());
    await send(r, keys(100));
    await r.world.settle();
    expect(r.node.incarnation.engine.actors.size).toBeLessThan(50);
    const { rows } = (await found(r)) as { rows: Record<string, [string, number]> };
    expect(Object.values(rows).map(([, turn]) => turn)).toEqual(keys(100).map(() => 2));
  });

  it("a page is answered before the last piece is read, from where it begins", async () => {
    const first = await start({}, order, "n1", 1);
    await send(first, keys(2_000));
    await first.world.run(first.node.stop());
    const second = await next(first);
    expect((await rootOf(second)).pieces.length).toBeGreaterThan(8);
    const { store } = second;
    const read = store.snapshots.read.bind(store.snapshots);
    let pieces = 0;
    store.snapshots.read = (ids) => {
      if (ids.some((id) => id.startsWith("_index.0.order.")) && ++pieces === 2)
        store.snapshotReadGate.close();
      return read(ids);
    };
    const asked = second.node.client.findPage(order, { from: "k1000", limit: 20 });
    const { actors } = await second.world.run(asked);
    expect(actors.map(({ key }) => key)).toEqual(keys(2_000).slice(1_000, 1_020));
    expect(store.snapshotReadGate.waiting).toBe(1);
    store.snapshotReadGate.open();
    const all = second.node.client.findPage(order, { from: "k0001", to: "k1999", limit: 5_000 });
    expect((await second.world.run(all)).actors.map(({ key }) => key)).toEqual(keys(2_000).slice(1, 1_999));
  });
});

describe("an index that does not show what is committed is not believed", () => {
  it("an owner in between did not keep it", async () => {
    const first = await start({}, order, "n1", 2);
    await send(first, keys(20));
    await first.world.run(first.node.stop());
    const other = await next(first, without as unknown as Definition);
    await send(other, keys(10));
    await send(other, keys(3, "new"));
    await other.world.run(other.node.client.actor(order, "k0015").delete());
    await other.world.run(other.node.stop());
    const third = await next(other);
    const { rows } = (await found(third, true)) as { rows: Record<string, [string, number]> };
    expect(Object.keys(rows)).toHaveLength(22);
    expect(rows.k0003).toEqual(["open", 2, { sum: 2, "customer.name": "ada" }]);
    // From here on it is kept again.
    await third.world.run(third.node.checkpoint());
    third.node.kill();
    expect(((await found(await next(third))) as { rows: unknown }).rows).toEqual(rows);
  });

  it("the definition has another list of paths", async () => {
    const first = await start({}, order, "n1", 1);
    await send(first, keys(5));
    await first.world.run(first.node.stop());
    const second = await next(first, otherwise as unknown as Definition);
    expect(await found(second, true)).toMatchObject({
      rows: { k0001: ["open", 1, { "customer.name": "ada" }] },
    });
    await send(second, keys(2));
    await second.world.run(second.node.stop());
    const third = await next(second);
    expect(await found(third, true)).toMatchObject({
      rows: { k0001: ["open", 2, { sum: 2, "customer.name": "ada" }], k0004: ["open", 1, {}] },
      count: { total: 5 },
    });
  });

  it.each(["root", "piece"])(
    "its %s is damaged: the snapshots are read, and it is made anew",
    async (what) => {
      const first = await start({}, order, "n1", 1);
      await send(first, keys(400));
      const before = await found(first);
      await first.world.run(first.node.stop());
      const { pieces } = await rootOf(first);
      const id = what === "root" ? "_index.0.order" : `_index.0.order.${pieces[1]?.number}`;
      await damage(first, id);
      const second = await next(first);
      expect(await found(second, true)).toEqual(before);
      await send(second, keys(400));
      await second.world.run(second.node.checkpoint());
      await second.world.run(second.node.checkpoint());
      const after = await found(second);
      second.node.kill();
      expect(await found(await next(second))).toEqual(after);
      expect(second.told).toEqual([]);
    },
  );
});

it("the age of what was stored before its type had an index is known from the journal", async () => {
  const first = await start({}, without as unknown as Definition, "n1", 2);
  await send(first, keys(20));
  await first.world.run(first.node.stop());
  await first.world.advance(3_600_000);
  const second = await next(first);
  await send(second, ["k0001"]);
  await second.world.run(second.node.client.actor(order, "k0002").get());
  const older = (r: Rig, olderThan: string) => r.world.run(r.node.client.count(order, { olderThan }));
  expect((await older(second, "2 hours")).total).toBe(0);
  expect((await older(second, "30 minutes")).total).toBe(19);
  expect((await older(second, "0 ms")).total).toBe(20);
  await second.world.run(second.node.stop());
  const third = await next(second);
  await third.world.run(third.node.client.actor(order, "k0002").get());
  third.store.snapshotListGate.close();
  expect((await older(third, "2 hours")).total).toBe(0);
  expect((await older(third, "30 minutes")).total).toBe(19);
});

async function damage(r: Rig, id: string): Promise<void> {
  const { snapshots } = r.store.inner;
  const [entry] = await snapshots.read([id]);
  const value = Uint8Array.from(entry?.value as Uint8Array);
  value[value.length - 1] = (value.at(-1) as number) ^ 1;
  const write: SnapshotWrite = { id, shard: 0, value, expected: entry?.revision as number, due: undefined };
  expect(await snapshots.write([write])).not.toEqual([undefined]);
}

describe("what is written", () => {
  it("is what changed; pieces that nothing falls to stay, and those that are replaced are deleted", async () => {
    const r = await start({}, order, "n1", 1);
    await send(r, keys(1_000));
    await r.world.run(r.node.checkpoint());
    const first = await rootOf(r);
    expect(first.runs).toHaveLength(0);
    expect(await piecesOf(r, first)).toEqual(first.pieces.map(({ number }) => number).sort((a, b) => a - b));
    for (let n = 1; n <= 8; n++) {
      await send(r, ["k0500"]);
      await r.world.run(r.node.checkpoint());
      expect((await rootOf(r)).runs).toHaveLength(n);
    }
    expect((await rootOf(r)).pieces).toEqual(first.pieces);
    await send(r, ["k0500", "k0999x"]);
    await r.world.run(r.node.checkpoint());
    const root = await rootOf(r);
    const kept = root.pieces.filter(({ number }) => first.pieces.some((piece) => piece.number === number));
    expect([root.runs.length, kept.length]).toEqual([0, first.pieces.length - 2]);
    expect(await piecesOf(r, root)).toEqual(root.pieces.map(({ number }) => number).sort((a, b) => a - b));
    const before = await found(r);
    r.node.kill();
    expect(await found(await next(r))).toEqual(before);
  });

  it("survives a write that fails anywhere, with or without effect, and leaves nothing behind", async () => {
    for (let at = 0, failed = true; failed; at++) {
      failed = false;
      for (const kept of [false, true]) {
        const r = await start({}, order, "n1", 1);
        await send(r, keys(300));
        await r.world.run(r.node.checkpoint());
        await send(r, keys(1_200));
        let calls = 0;
        const { store } = r;
        const write = store.snapshots.write.bind(store.snapshots);
        store.snapshots.write = async (writes) => {
          const isIndex = writes.some(({ id }) => id.startsWith("_index."));
          if (!isIndex || calls++ !== at) return write(writes);
          failed = true;
          if (kept) await write(writes);
          throw new Error("No answer.");
        };
        const done = r.node.checkpoint().then(
          () => true,
          () => false,
        );
        await r.world.run(done);
        const before = await found(r);
        r.node.kill();
        const heir = await next(r);
        expect(await found(heir), `write ${at}, ${kept}`).toEqual(before);
        await send(heir, keys(1_200));
        await heir.world.run(heir.node.checkpoint());
        const root = await rootOf(heir);
        const named = root.pieces.map(({ number }) => number).sort((a, b) => a - b);
        expect(await piecesOf(heir, root)).toEqual(named.filter((number) => number > root.claimed - 100));
        heir.node.kill();
      }
    }
  });
});
