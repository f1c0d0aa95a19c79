/** Contract 2: one writer. Hand-over, take-over by lease, and nodes that should be dead. */
import { describe, expect, it } from "vitest";
import { createClient } from "../runtime/client/client.ts";
import type { ShardState } from "../runtime/engine/shard.ts";
import { memory } from "../runtime/stores/memory/index.ts";
import { Get } from "../runtime/words/frames.ts";
import { FaultStore, Gate } from "./support/fault-store.ts";
import { failure, probeOf, type Rig, rig } from "./support/probe.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

const add = { type: "add", by: 1 } as const;
const SHARDS = 16;

async function count(r: Rig, key: string): Promise<number> {
  return (await r.world.run(r.node.client.actor(r.probe, key).get())).context.count;
}

const keys = Array.from({ length: 40 }, (_, n) => `k${n}`);

/** Every shard is served by one of the nodes, none by two. */
function expectAllServedOnce(nodes: readonly Rig[]): void {
  const served = nodes.flatMap(({ node }) => [...node.shards]).sort((a, b) => a - b);
  expect(served).toEqual(Array.from({ length: SHARDS }, (_, n) => n));
}

describe("hand-over", () => {
  it("nothing fails, nothing is lost and order is kept while nodes join and leave under load", async () => {
    const first = await rig({ name: "n1", shards: SHARDS });
    const { store, world, probe } = first;
    const client = await createClient(store, world, SHARDS);
    const refs = keys.map((key) => client.actor(probe, key));
    let sent = 0;
    let longest_ms = 0;
    let busy = true;
    const failures: unknown[] = [];
    const load = refs.map(async (ref) => {
      for (let n = 0; busy; n++) {
        sent++;
        const asked = world.monotonic();
        await ref.send({ type: "note", from: "", n }).catch((error: unknown) => failures.push(error));
        longest_ms = Math.max(longest_ms, world.monotonic() - asked);
        await new Promise<void>((resolve) => world.after(10, resolve));
      }
    });
    const second = await rig({ store, world, probe, name: "n2" });
    await world.advance(2_000);
    expectAllServedOnce([first, second]);
    expect(second.node.shards.length).toBeGreaterThan(0);
    const third = await rig({ store, world, probe, name: "n3" });
    await world.advance(2_000);
    expectAllServedOnce([first, second, third]);
    await world.run(first.node.stop({ closeStore: false }));
    await world.advance(2_000);
    expectAllServedOnce([second, third]);
    await world.run(third.node.stop({ closeStore: false }));
    await world.advance(1_000);
    expectAllServedOnce([second]);
    busy = false;
    await world.run(Promise.all(load));
    expect(failures).toEqual([]);
    let applied = 0;
    for (const key of keys) {
      const { seen } = (await world.run(second.node.client.actor(probe, key).get())).context;
      expect(seen).toEqual(seen.map((_, n) => `${n}`));
      applied += seen.length;
    }
    expect(applied).toBe(sent);
    expect(longest_ms).toBeLessThanOrEqual(100);
  });

  it("of many shards gives them away in portions, so that none waits for all", async () => {
    const shards = 200;
    const first = await rig({ name: "n1", shards });
    const { store, world, probe } = first;
    const { directory } = store;
    const { writeShard } = directory;
    let most = 0;
    directory.writeShard = (shard, entry, expected) => {
      const held = [...first.node.incarnation.engine.shards.values()];
      most = Math.max(most, held.filter(({ phase }) => phase === "draining").length);
      return writeShard.call(directory, shard, entry, expected);
    };
    const second = await rig({ store, world, probe, name: "n2" });
    await world.advance(2_000);
    expect(first.node.shards.length + second.node.shards.length).toBe(shards);
    expect(second.node.shards.length).toBeGreaterThan(64);
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(4);
  });

  it("what is watched goes on being watched at the new owner", async () => {
    const first = await rig({ name: "n1", shards: SHARDS });
    const { store, world, probe } = first;
    const client = await createClient(store, world, SHARDS);
    const watch = client.actor(probe, "a").watch();
    await world.run(watch.next());
    const second = await rig({ store, world, probe, name: "n2" });
    await world.run(first.node.stop({ closeStore: false }));
    await world.run(second.node.client.actor(probe, "a").send(add));
    expect((await world.run(watch.next())).value).toMatchObject({ context: { count: 1 } });
  });

  it("nodes with weights share the shards, and a restarted node of the same name gets its own back", async () => {
    const first = await rig({ name: "n1", shards: SHARDS });
    const { store, world, probe } = first;
    const second = await rig({ store, world, probe, name: "n2", weight: 3 });
    await world.advance(1_000);
    const had = [...second.node.shards];
    expect(had.length).toBeGreaterThan(first.node.shards.length);
    await world.run(second.node.stop({ closeStore: false }));
    const again = await rig({ store, world, probe, name: "n2", weight: 3 });
    await world.advance(1_000);
    expect([...again.node.shards].sort()).toEqual(had.sort());
    expectAllServedOnce([first, again]);
  });
});

describe("the shard table", () => {
  /** The calls of a node's directory, by name. */
  function counting(r: { readonly store: FaultStore }): Map<string, number> {
    const calls = new Map<string, number>();
    const { directory } = r.store;
    for (const name of ["readShard", "readShards", "writeShard", "members", "beats"] as const) {
      const original = directory[name] as (...args: unknown[]) => Promise<never>;
      directory[name] = (...args: unknown[]) => {
        calls.set(name, (calls.get(name) ?? 0) + 1);
        return original.apply(directory, args);
      };
    }
    return calls;
  }

  it("is not read by a node that has what it should have, nor written without turns", async () => {
    const first = await rig({ name: "n1", shards: SHARDS });
    const { world, probe } = first;
    const second = await rig({ world, probe, name: "n2", store: new FaultStore(first.store.inner) });
    await world.advance(5_000);
    expectAllServedOnce([first, second]);
    const calls = [first, second].map(counting);
    await world.advance(60_000);
    for (const one of calls) expect([...one.keys()].sort()).toEqual(["beats", "members"]);
  });

  it("a shard that was given up is found with the next heartbeat, if nobody is told of anything", async () => {
    const first = await rig({ name: "n1", shards: SHARDS });
    const { world, probe, store } = first;
    store.inner.directory.watch = () => () => undefined;
    const deaf = new FaultStore(store.inner);
    const second = await rig({ world, probe, name: "n2", store: deaf });
    first.node.kill();
    await world.advance(10_000);
    expectAllServedOnce([second]);
    const third = await rig({ world, probe, name: "n3", store: new FaultStore(store.inner) });
    await world.advance(3_100);
    expectAllServedOnce([second, third]);
    expect(third.node.shards.length).toBeGreaterThan(0);
  });

  it("a release without an answer, which had no effect: the shard is given up once more", async () => {
    const first = await rig({ name: "n1", shards: SHARDS });
    const { world, probe, store } = first;
    const { directory } = store;
    const { writeShard } = directory;
    let lost = 0;
    directory.writeShard = async (shard, entry, expected) => {
      if (entry.owner !== undefined || lost >= 3) return writeShard.call(directory, shard, entry, expected);
      lost++;
      throw new Error("No answer.");
    };
    const second = await rig({ world, probe, name: "n2", store: new FaultStore(store.inner) });
    await world.advance(5_000);
    expect(lost).toBe(3);
    expectAllServedOnce([first, second]);
  });

  it("a claim without an answer, which has its effect when the shard should be elsewhere: it is given up", async () => {
    const first = await rig({ name: "n1", shards: SHARDS });
    const { world, probe } = first;
    const store = new FaultStore(first.store.inner);
    const { directory } = store;
    const { writeShard } = directory;
    const late: (() => Promise<unknown>)[] = [];
    directory.writeShard = async (shard, entry, expected) => {
      if (entry.epoch === 1) return writeShard.call(directory, shard, entry, expected);
      late.push(() => writeShard.call(directory, shard, entry, expected));
      throw new Error("No answer.");
    };
    const second = await rig({ world, probe, name: "n2", store });
    await world.advance(1_000);
    expect(late.length).toBeGreaterThan(0);
    expect(second.node.shards).toEqual([]);
    // It leaves; what it has claimed is nobody's, and takes effect before the first node looks.
    first.store.directoryGate.close();
    const leaving = second.node.incarnation.membership.leave();
    for (const claim of late) await claim();
    expect(await world.run(leaving)).toBe(true);
    await world.run(second.node.incarnation.membership.look());
    directory.writeShard = writeShard;
    await world.run(second.node.incarnation.ownership.reconcile());
    first.store.directoryGate.open();
    await world.advance(5_000);
    expectAllServedOnce([first]);
    await world.run(second.node.stop({ closeStore: false }));
  });

  it("a shard that is offered while the table is being read is acquired once, and served", async () => {
    const first = await rig({ name: "n1", shards: SHARDS });
    const { world, probe } = first;
    const store = new FaultStore(first.store.inner);
    const { directory } = store;
    const { readShards, writeShard } = directory;
    const reads = new Gate();
    const writes = new Gate();
    reads.close();
    writes.close();
    let claims = 0;
    directory.readShards = async (shards) => {
      await reads.pass();
      return readShards.call(directory, shards);
    };
    directory.writeShard = async (shard, entry, expected) => {
      claims++;
      await writes.pass();
      return writeShard.call(directory, shard, entry, expected);
    };
    // By then everything is released and told of; then the table says so too; and only then claims get through.
    world.after(1_000, () => reads.open());
    world.after(1_100, () => writes.open());
    const second = await rig({ world, probe, name: "n2", store });
    await world.advance(1_000);
    expectAllServedOnce([first, second]);
    expect(claims).toBe(second.node.shards.length);
    expect(claims).toBeGreaterThan(0);
  });

  it("contract 2: a node that finds another's name in an entry of its own is over", async () => {
    const r = await rig({ name: "n1", shards: 4 });
    const { world, store, probe } = r;
    const life = r.node.incarnation;
    await world.run(r.node.client.actor(probe, "a").send(add));
    const stored = await store.directory.readShard(2);
    const entry = { owner: "somebody", epoch: 9, segments: [] };
    await store.directory.writeShard(2, entry, stored?.revision ?? 0);
    await world.run(r.node.checkpoint());
    expect(life.engine.stopped).toBe(true);
    expect(r.told).toContain(`fenced ${life.name}`);
    await world.advance(5_000);
    // Nobody of that name is a member, so the next life has all of them.
    expect([...r.node.shards].sort()).toEqual([0, 1, 2, 3]);
    expect(await count(r, "a")).toBe(1);
  });
});

describe("two nodes of one name", () => {
  it("share what the name gets, and the one that is left has all of it", async () => {
    const first = await rig({ name: "twin", shards: SHARDS });
    const { store, world, probe } = first;
    const second = await rig({ store, world, probe, name: "twin" });
    const third = await rig({ store, world, probe, name: "other" });
    await world.advance(3_000);
    expectAllServedOnce([first, second, third]);
    const others = [...third.node.shards];
    expect(first.node.shards.length).toBeGreaterThan(0);
    expect(second.node.shards.length).toBeGreaterThan(0);
    for (const key of keys) await world.run(third.node.client.actor(probe, key).send(add));
    second.node.kill();
    await world.advance(8_000);
    expectAllServedOnce([first, third]);
    expect(third.node.shards).toEqual(others);
    for (const key of keys) expect(await count(third, key)).toBe(1);
  });

  it("one that is killed and started again at once has its shards back after the lease", async () => {
    const first = await rig({ name: "n1", shards: SHARDS });
    const { store, world, probe } = first;
    const second = await rig({ store, world, probe, name: "n2" });
    await world.advance(3_000);
    const had = [...second.node.shards].sort();
    second.node.kill();
    const again = await rig({ store, world, probe, name: "n2" });
    await world.advance(8_000);
    expectAllServedOnce([first, again]);
    expect([...again.node.shards].sort()).toEqual(had);
  });
});

describe("take-over", () => {
  it("a killed node's shards are taken after its lease, not before, with everything that was answered", async () => {
    const first = await rig({ name: "n1", shards: SHARDS });
    const { store, world, probe } = first;
    const second = await rig({ store, world, probe, name: "n2", weight: 1e-9 });
    await world.advance(2_000);
    await world.run(Promise.all(keys.map((key) => first.node.client.actor(probe, key).send(add))));
    const had = first.node.shards.length;
    expect(had).toBeGreaterThan(SHARDS / 2);
    first.node.kill();
    await world.advance(3_400);
    expect(second.node.shards.length).toBe(SHARDS - had);
    // Seen up to a heartbeat late, looked at again up to a heartbeat after the lease.
    await world.advance(4_700);
    expectAllServedOnce([second]);
    for (const key of keys) expect(await count(second, key)).toBe(1);
  });

  /** Two nodes that share an app; the first one is cut off from the directory, and the second has taken over. */
  async function takenOver(cutOff: (store: FaultStore) => void): Promise<{ dead: Rig; heir: Rig }> {
    const dead = await rig({ name: "n1", shards: SHARDS });
    const { world, probe } = dead;
    await world.run(dead.node.client.actor(probe, "a").send(add));
    dead.store.directoryGate.close();
    cutOff(dead.store);
    const heir = await rig({ world, probe, name: "n2", store: new FaultStore(dead.store.inner) });
    await world.advance(10_000);
    expectAllServedOnce([heir]);
    return { dead, heir };
  }

  it("contract 2: a node that was paused past its lease commits nothing more, in any shard", async () => {
    const { dead, heir } = await takenOver((store) => store.appendGate.close());
    const { world, probe } = heir;
    const zombie = dead.node.incarnation;
    // It still takes requests in, and computes them.
    const asked = dead.node.client.actor(probe, "a").ask(add, { timeout_ms: 60_000 });
    await world.run(heir.node.client.actor(probe, "b").send(add));
    await world.advance(1_000);
    dead.store.directoryGate.open();
    dead.store.appendGate.open();
    expect(await world.run(asked)).toBe(2);
    await world.advance(5_000);
    expect(zombie.engine.stopped).toBe(true);
    expect(dead.node.incarnation).not.toBe(zombie);
    expectAllServedOnce([heir, dead]);
    expect([await count(heir, "a"), await count(heir, "b")]).toEqual([2, 1]);
  });

  it("who waits for a node that is silent is answered as soon as its shards are served elsewhere", async () => {
    const dead = await rig({ name: "n1", shards: SHARDS });
    const { world, probe } = dead;
    const heir = await rig({ world, probe, name: "n2", store: new FaultStore(dead.store.inner) });
    await world.advance(2_000);
    const { client } = heir.node;
    const refs = keys.map((key) => client.actor(probe, key));
    const ref = refs.find(({ shard }) => dead.node.shards.includes(shard)) as (typeof refs)[number];
    await world.run(ref.send(add));
    dead.store.directoryGate.close();
    dead.store.appendGate.close();
    let answered = false;
    const asked = ref.ask(add).then(() => (answered = true));
    // Long enough that the pauses between repetitions are at their longest.
    while (!heir.node.shards.includes(ref.shard)) {
      expect(answered).toBe(false);
      await world.advance(10);
    }
    await world.advance(10);
    expect(answered).toBe(true);
    await asked;
  });

  it("contract 7: nor does it answer a read from memory", async () => {
    const { dead, heir } = await takenOver(() => undefined);
    const { world, probe } = heir;
    const zombie = dead.node.incarnation;
    const { shard } = heir.node.client.actor(probe, "a");
    await world.run(heir.node.client.actor(probe, "a").send(add));
    const answers: string[] = [];
    heir.store.transport.subscribe("client.stranger", ({ kind }) => answers.push(kind));
    // A request that reaches only the zombie, as over a network that is cut in two.
    const state = zombie.engine.shards.get(shard) as ShardState;
    const get = {
      kind: Get,
      type: "probe",
      key: "a",
      id: "probe.a",
      event: undefined,
      requestId: undefined,
    } as const;
    zombie.engine.receive(state, {
      kind: "request",
      shard,
      session: "stranger",
      base: 1,
      first: 1,
      epoch: state.epoch,
      requests: [{ ...get, trace: undefined }],
    });
    await world.settle();
    expect(answers).toEqual([]);
    expect(zombie.engine.stopped).toBe(true);
  });

  it("the lanes of many nodes lost at once are sealed side by side, each once", async () => {
    const first = await rig({ name: "n0", shards: 64 });
    const { world, probe } = first;
    const store = new FaultStore(first.store.inner);
    const others: Rig[] = [];
    for (let n = 1; n <= 5; n++) others.push(await rig({ world, probe, name: `n${n}`, store }));
    await world.advance(5_000);
    await world.run(Promise.all(keys.map((key) => first.node.client.actor(probe, key).send(add))));
    const lanes = new Set(others.map(({ node }) => node.incarnation.name));
    first.store.concerns = (lane) => lanes.has(lane);
    first.store.appendGate.close();
    const before = first.store.appends;
    for (const { node } of others) node.kill();
    await world.advance(9_000);
    expect(first.store.appendGate.waiting).toBe(5);
    first.store.appendGate.open();
    await world.advance(2_000);
    expect(first.store.appends - before).toBe(5);
    expect(first.node.shards.length).toBe(64);
    for (const key of keys) expect(await count(first, key)).toBe(1);
  });

  it("one that was cut off for longer than its lease, and learns it, comes back in another life", async () => {
    const first = await rig({ name: "n1", shards: SHARDS });
    const { world, probe } = first;
    const second = await rig({ world, probe, name: "n2", store: new FaultStore(first.store.inner) });
    await world.advance(3_000);
    const life = first.node.incarnation;
    first.store.directoryGate.close();
    await world.advance(10_000);
    expectAllServedOnce([second]);
    expect(life.membership.holds()).toBe(false);
    first.store.directoryGate.open();
    await world.advance(3_000);
    expect(first.told).toContain(`fenced ${life.name}`);
    expect(first.node.incarnation).not.toBe(life);
    expectAllServedOnce([first, second]);
    expect(first.node.shards.length).toBeGreaterThan(0);
  });

  it("two nodes that take the same shards at once: one gets each, and nothing is applied twice", async () => {
    const first = await rig({ name: "n1", shards: SHARDS });
    const { store, world, probe } = first;
    await world.run(Promise.all(keys.map((key) => first.node.client.actor(probe, key).send(add))));
    first.node.kill();
    const [second, third] = await Promise.all([
      rig({ store, world, probe, name: "n2" }),
      rig({ store, world, probe, name: "n3" }),
    ]);
    await world.advance(15_000);
    expectAllServedOnce([second, third]);
    for (const key of keys) expect(await count(second, key)).toBe(1);
  });

  it("contract 3: a deletion of nothing, which leaves no record, is not done again by the next owner", async () => {
    const first = await rig({ name: "n1", shards: 1 });
    const { store, world, probe } = first;
    const client = await createClient(store, world, 1);
    // The answer to the first request is lost, so the client goes on repeating it, and what comes after it.
    const lost = first.node.incarnation;
    store.loses = (subject, frame) =>
      subject.startsWith("client.") &&
      frame.kind === "reply" &&
      first.node.incarnation === lost &&
      frame.replies.some(([, number]) => number === 1);
    const open = client.actor(probe, "a").ask(add, { timeout_ms: 60_000 });
    await world.settle();
    await world.run(client.actor(probe, "b").delete());
    first.node.kill();
    store.loses = (subject) => subject.startsWith("shard.");
    const second = await rig({ store, world, probe, name: "n2" });
    await world.advance(10_000);
    store.loses = () => false;
    expect(await world.run(second.node.client.actor(probe, "b").ask(add))).toBe(1);
    expect(await world.run(open)).toBe(1);
    expect(await count(second, "b")).toBe(1);
  });

  it("without any node a request times out as unknown", async () => {
    const store = memory();
    const world = new VirtualWorld();
    const client = await createClient(store, world, SHARDS);
    const error = await world.run(failure(client.actor(probeOf(), "a").ask(add)));
    expect(error).toMatchObject({ code: "timeout", outcome: "unknown" });
  });
});
