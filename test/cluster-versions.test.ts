/** Rolling deploys: nodes with different versions of a type side by side, forward without a gap, back never. */
import { assign, setup } from "xstate";
import { beforeEach, describe, expect, it } from "vitest";
import { createClient } from "../runtime/client/client.ts";
import { covers, versionIn } from "../runtime/cluster/versions.ts";
import { defineActor, reply } from "../runtime/index.ts";
import type { ShardEntry } from "../runtime/ports/index.ts";
import { FaultStore } from "./support/fault-store.ts";
import { failure, type Rig, rig } from "./support/probe.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

const SHARDS = 48;
const keys = Array.from({ length: 40 }, (_, n) => `k${n}`);
const add = { type: "add" } as const;

const made = setup({
  types: { context: {} as { count: number }, events: {} as { type: "add" } },
  actions: { count: assign({ count: ({ context }) => context.count + 1 }) },
});
const replies = {} as { replies: { add: number } };

/** Version 1 has one state. */
const before = defineActor({
  type: "tally",
  machine: made.createMachine({
    context: { count: 0 },
    initial: "one",
    states: { one: { on: { add: { actions: ["count", reply(({ context }) => context.count)] } } } },
  }),
  types: replies,
});

/** Version 2 leads everybody into another, which version 1 does not know. */
const after = defineActor({
  type: "tally",
  version: 2,
  machine: made.createMachine({
    context: { count: 0 },
    initial: "one",
    states: {
      one: { on: { add: { target: "two", actions: ["count", reply(({ context }) => context.count)] } } },
      two: { on: { add: { actions: ["count", reply(({ context }) => context.count)] } } },
    },
  }),
  types: replies,
});

const third = defineActor({ type: "tally", version: 3, machine: after.machine, types: replies });

let world: VirtualWorld;
let store: FaultStore;
/** What is wrong with what was written into the shard table. */
let wrong: string[];
/** By incarnation. */
let versions: Map<string, number>;
let rigs: Rig[];

beforeEach(() => {
  world = new VirtualWorld();
  store = new FaultStore();
  wrong = [];
  versions = new Map();
  rigs = [];
  const table = new Map<number, ShardEntry>();
  const { directory } = store.inner;
  const { writeShard, join } = directory;
  directory.join = (member) => {
    // Who does not host it at all can do nothing wrong with it.
    const hosts = member.types.includes("tally");
    versions.set(member.incarnation, hosts ? versionIn(member.versions, "tally") : Number.POSITIVE_INFINITY);
    return join.call(directory, member);
  };
  directory.writeShard = async (shard, entry, expected) => {
    const revision = await writeShard.call(directory, shard, entry, expected);
    if (revision === undefined) return undefined;
    const needed = table.get(shard)?.versions;
    table.set(shard, entry);
    if (!covers(entry.versions, needed)) wrong.push(`shard ${shard} has forgotten what it needs`);
    if (entry.owner === undefined) return revision;
    const version = versions.get(entry.owner) as number;
    if (version < versionIn(needed, "tally")) wrong.push(`shard ${shard} went back to ${entry.owner}`);
    if (version < 9 && version > versionIn(entry.versions, "tally"))
      wrong.push(`shard ${shard} does not say what it needs`);
    return revision;
  };
});

async function start(name: string, tally: typeof before | typeof third): Promise<Rig> {
  const one = await rig({ world, store, shards: SHARDS, name, actors: [tally] });
  rigs.push(one);
  return one;
}

function stop({ node }: Rig): Promise<void> {
  return world.run(node.stop({ closeStore: false }));
}

function served(...nodes: readonly Rig[]): number[] {
  return nodes.flatMap(({ node }) => [...node.shards]).sort((a, b) => a - b);
}

const all = Array.from({ length: SHARDS }, (_, n) => n);

/** Adds to every key, one after the other, all the time; notes what fails and how long it takes. */
async function load(): Promise<{
  end(): Promise<{ asked: number; failures: unknown[]; longest_ms: number }>;
}> {
  const client = await createClient(store, world, SHARDS);
  const failures: unknown[] = [];
  let asked = 0;
  let longest_ms = 0;
  let busy = true;
  const running = keys.map(async (key) => {
    const ref = client.actor(before, key);
    for (let count = 1; busy; count++) {
      const from = world.monotonic();
      asked++;
      const answer = await ref.ask(add).catch((error: unknown) => failures.push(error));
      if (answer !== count) failures.push(`${key}: ${answer} instead of ${count}`);
      longest_ms = Math.max(longest_ms, world.monotonic() - from);
      await new Promise<void>((resolve) => world.after(7, resolve));
    }
  });
  return {
    async end() {
      busy = false;
      await world.run(Promise.all(running));
      return { asked, failures, longest_ms };
    },
  };
}

async function total({ node }: Rig): Promise<number> {
  let sum = 0;
  for (const key of keys) sum += (await world.run(node.client.actor(before, key).get())).context.count;
  return sum;
}

function troubles({ told }: Rig): string[] {
  return told.filter((line) => line.startsWith("troubled"));
}

describe("a rolling deploy", () => {
  it("newer nodes join, older ones leave: nothing fails or is lost, and no shard goes back", async () => {
    const old: Rig[] = [];
    for (const name of ["a1", "a2", "a3"]) old.push(await start(name, before));
    await world.advance(3_000);
    const asking = await load();
    const young: Rig[] = [];
    for (const name of ["b1", "b2", "b3"]) {
      young.push(await start(name, after));
      await world.advance(3_000);
      expect(served(...old, ...young)).toEqual(all);
      for (const { node } of young) expect(node.shards.length).toBeGreaterThan(0);
    }
    // They have their share, and not more, as long as the others are there.
    expect(served(...old).length).toBeGreaterThan(0);
    for (const one of [...old]) {
      await stop(one);
      old.shift();
      await world.advance(3_000);
      expect(served(...old, ...young)).toEqual(all);
    }
    const { asked, failures, longest_ms } = await asking.end();
    expect(failures).toEqual([]);
    expect(longest_ms).toBeLessThanOrEqual(100);
    expect(await total(young[0] as Rig)).toBe(asked);
    expect(wrong).toEqual([]);
    for (const one of rigs) expect(troubles(one)).toEqual([]);
    for (const { node } of young) expect(node.health()).toMatchObject({ ready: true });
  });

  it("node by node under the same names, one killed on the way: as well, and a third version after the second", async () => {
    const nodes: Rig[] = [];
    const names = ["n1", "n2", "n3"];
    for (const name of names) nodes.push(await start(name, before));
    await world.advance(3_000);
    const asking = await load();
    for (const tally of [after, third]) {
      for (const [at, name] of names.entries()) {
        if (at === 1) nodes[at]?.node.kill();
        else await stop(nodes[at] as Rig);
        nodes[at] = await start(name, tally);
        await world.advance(at === 1 ? 10_000 : 3_000);
        expect(served(...nodes)).toEqual(all);
      }
    }
    const { asked, failures } = await asking.end();
    expect(failures).toEqual([]);
    expect(await total(nodes[0] as Rig)).toBe(asked);
    expect(wrong).toEqual([]);
  });

  it("newer nodes give their shards to newer ones, and an older node that restarts on the way has what is left", async () => {
    const old = [await start("a1", before), await start("a2", before)];
    const young = [await start("b1", after), await start("b2", after)];
    await world.advance(3_000);
    const [left] = young as [Rig, Rig];
    const had = [...left.node.shards];
    await stop(left);
    await world.advance(3_000);
    expect(young[1]?.node.shards).toEqual(expect.arrayContaining(had));
    await stop(old[0] as Rig);
    old[0] = await start("a1", before);
    await world.advance(3_000);
    expect(served(...old, young[1] as Rig)).toEqual(all);
    expect(served(...old).length).toBeGreaterThan(0);
    expect(wrong).toEqual([]);
  });

  it("costs older nodes no reads, and newer ones only of shards that may become theirs", async () => {
    const nodes = [await start("a1", before), await start("a2", before), await start("b1", after)];
    await world.advance(5_000);
    const [b1] = nodes.slice(2) as [Rig];
    const read: number[] = [];
    const { directory } = store;
    const { readShards, readShard } = directory;
    let single = 0;
    directory.readShards = (shards) => {
      read.push(...shards);
      return readShards.call(directory, shards);
    };
    directory.readShard = (shard) => {
      single++;
      return readShard.call(directory, shard);
    };
    await world.advance(1_500);
    const others = all.filter((shard) => !b1.node.shards.includes(shard));
    expect(read.sort((a, b) => a - b)).toEqual(others);
    expect(single).toBe(0);
  });

  it("a shard that a newer node gives up unseen is found by the one whose it is, with a heartbeat", async () => {
    store.inner.directory.watch = () => () => undefined;
    const old = await start("a1", before);
    const young = await start("b1", after);
    await world.advance(5_000);
    expect(served(old, young)).toEqual(all);
    const [shard] = old.node.shards as [number];
    // As if another newer node, with other members before its eyes, had claimed it and given it up again.
    const { directory } = store.inner;
    const stored = await directory.readShard(shard);
    const entry = { owner: undefined, epoch: 9, segments: [], versions: { tally: 2 } };
    expect(await directory.writeShard(shard, entry, stored?.revision ?? 0)).toBeDefined();
    await world.advance(1_600);
    expect(young.node.shards).toContain(shard);
    expect((await directory.readShard(shard))?.entry.epoch).toBe(10);
  });
});

describe("going back", () => {
  it("without newer nodes their shards stay unserved, by name, and are served again when one comes", async () => {
    const old = [await start("a1", before), await start("a2", before)];
    const young = [await start("b1", after), await start("b2", after)];
    await world.advance(3_000);
    const [a1] = old as [Rig, Rig];
    const { client } = a1.node;
    for (const key of keys) await world.run(client.actor(before, key).ask(add));
    const lost = served(...young);
    expect(lost.length).toBeGreaterThan(1);
    for (const { node } of young) node.kill();
    await world.advance(12_000);
    expect(served(...old)).toEqual(all.filter((shard) => !lost.includes(shard)));
    const texts = old.flatMap(troubles);
    expect(texts.length).toBeGreaterThan(0);
    expect(texts[0]).toMatch(
      /take shards: .*may hold "tally" of version 2, and this node has version 1\..*later version/,
    );
    for (const { node } of old)
      if (!node.health().ready)
        expect(node.health()).toMatchObject({
          live: true,
          checks: { versions: { ok: false, text: expect.stringContaining("tally") }, lease: { ok: true } },
        });
    expect(old.some(({ node }) => !node.health().ready)).toBe(true);
    // It is said once, and does not make the process one that should be started again.
    await world.advance(90_000);
    for (const { node } of old) expect(node.health().live).toBe(true);
    expect(old.flatMap(troubles).length).toBe(texts.length);
    // The others are served, and who asks one of these is answered when a newer node is there.
    const readable = keys.filter((key) => !lost.includes(client.actor(before, key).shard));
    for (const key of readable) expect(await world.run(client.actor(before, key).ask(add))).toBe(2);
    const key = keys.find((one) => lost.includes(client.actor(before, one).shard)) as string;
    const asked = client.actor(before, key).ask(add, { timeout_ms: 60_000 });
    await world.advance(10_000);
    const again = await start("b3", after);
    expect(await world.run(asked)).toBe(2);
    await world.advance(3_000);
    expect(served(...old, again)).toEqual(all);
    for (const { node } of [...old, again]) expect(node.health().ready).toBe(true);
    expect(wrong).toEqual([]);
  });

  it("alone it is refused at the start, and changes nothing", async () => {
    const young = await start("b1", after);
    for (const key of keys) await world.run(young.node.client.actor(after, key).ask(add));
    await stop(young);
    const error = await failure(start("a1", before));
    expect(error).toMatchObject({ code: "newer_version", outcome: "notApplied", retryable: false });
    expect(error.message).toContain('may hold "tally" of version 2, and this node has version 1.');
    expect(await store.directory.members()).toEqual([]);
    const again = await start("b2", after);
    expect(served(again)).toEqual(all);
    expect(await total(again)).toBe(keys.length);
    expect(wrong).toEqual([]);
  });

  it("a type that nobody hosts any more holds up no shard, and what was stored of it stays", async () => {
    const other = defineActor({ type: "other", machine: before.machine });
    const young = await start("b1", after);
    await world.run(young.node.client.actor(after, "k1").ask(add));
    await stop(young);
    const without = await start("c1", other as unknown as typeof before);
    expect(served(without)).toEqual(all);
    expect(await world.run(failure(without.node.client.actor("tally/k1").ask(add)))).toMatchObject({
      code: "unknown_type",
    });
    // It keeps what it serves while nobody is there who could read it all, and gives it to whoever comes and can.
    const old = await rig({ world, store, name: "a1", actors: [before, other] });
    await world.advance(3_000);
    expect(served(without, old)).toEqual(all);
    expect(old.node.shards).toEqual([]);
    const again = await rig({ world, store, name: "b2", actors: [after, other] });
    await world.advance(3_000);
    expect(served(again)).toEqual(all);
    expect(await world.run(again.node.client.actor(after, "k1").ask(add))).toBe(2);
    expect(wrong).toEqual([]);
  });

  it("an actor of a later version, in a shard that does not say so, is refused by itself and kept", async () => {
    const young = await start("b1", after);
    await world.run(young.node.client.actor(after, "k1").ask(add));
    await stop(young);
    const { directory } = store.inner;
    for (const shard of all) {
      const stored = await directory.readShard(shard);
      const { epoch = 0 } = stored?.entry ?? {};
      await directory.writeShard(shard, { owner: undefined, epoch, segments: [] }, stored?.revision ?? 0);
    }
    const old = await start("a1", before);
    const { client } = old.node;
    const ref = client.actor(before, "k1");
    for (const call of [() => ref.ask(add), () => ref.get()]) {
      const error = await world.run(failure(call()));
      expect(error).toMatchObject({ code: "newer_version", outcome: "notApplied", retryable: false });
      expect(error.message).toMatch(/type "tally" was written by version 2, and this node hosts version 1/);
    }
    const neighbour = Array.from({ length: 400 }, (_, n) => `n${n}`).find(
      (key) => client.actor(before, key).shard === ref.shard,
    ) as string;
    expect(await world.run(client.actor(before, neighbour).ask(add))).toBe(1);
    await stop(old);
    const again = await start("b2", after);
    expect(await world.run(again.node.client.actor(after, "k1").ask(add))).toBe(2);
    expect(await world.run(again.node.client.actor(after, neighbour).ask(add))).toBe(2);
  });
});
