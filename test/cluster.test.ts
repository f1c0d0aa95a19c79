/** Contract 2: one writer. Hand-over, take-over by lease, and nodes that should be dead. */
import { describe, expect, it } from "vitest";
import { createClient } from "../runtime/client/client.ts";
import type { ShardState } from "../runtime/engine/shard.ts";
import { memory } from "../runtime/stores/memory/index.ts";
import { Get } from "../runtime/words/frames.ts";
import { FaultStore } from "./support/fault-store.ts";
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
        await new Promise<void>((resolve) => world.after(5, resolve));
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
