/**
 * Rebuilds of actors that the new definition has invoked something for already: what ran or was asked is not run or asked
 * again, whenever that began.
 */
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { assign, setup } from "xstate";
import {
  defineActor,
  embedded,
  fromDurablePromise,
  memory,
  type Store,
  startNode,
  whatIf,
} from "../runtime/index.ts";
import { rebuildType } from "../runtime/rebuild/rebuild.ts";
import { begunVersions, until } from "./support/begun.ts";
import { temporaryPath } from "./support/temporary.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

const stores: readonly [string, () => Promise<Store>][] = [
  ["memory", async () => memory()],
  ["embedded", () => embedded({ path: join(temporaryPath(), "data"), durability: "process" })],
];

describe.each(stores)("what a node has begun before a promotion, on the store %s,", (_name, open) => {
  /** An actor in `busy` of the first version, and a node of the second that has loaded it. */
  async function loaded() {
    const { jobV1, jobV2, shop, runs } = begunVersions();
    const store = await open();
    onTestFinished(() => store.close());
    const first = await startNode({ actors: [jobV1, shop], store });
    for (const type of ["add", "go", "add"] as const) await first.client.actor(jobV1, "a").send({ type });
    await first.stop({ closeStore: false });
    const early = await rebuildType({ store, actors: jobV2 });
    const node = await startNode({ actors: [jobV2, shop], store });
    onTestFinished(() => node.stop({ closeStore: false }));
    const ref = node.client.actor(jobV2, "a");
    await ref.get();
    // It has begun, and the question is answered.
    await until(ref, ({ price }) => price === 7);
    expect(runs).toHaveLength(1);
    return { early, node, ref, runs, store, jobV2, shop };
  }

  it.each(["before", "after"] as const)("goes on and is not run again; rebuilt %s it began", async (when) => {
    const { early, node, ref, runs, store, jobV2, shop } = await loaded();
    const rebuild = when === "before" ? early : await rebuildType({ store, actors: jobV2 });
    expect(await rebuild.promote(node.client)).toMatchObject({ promoted: 1, failed: 0 });
    expect((await ref.get()).context).toEqual({ n: 4, got: null, price: 7 });
    expect(runs).toHaveLength(1);
    runs[0]?.end("loaded");
    await until(ref, ({ got }) => got === "loaded");
    expect((await ref.get()).context).toEqual({ n: 4, got: "loaded", price: 7 });
    expect((await node.client.actor(shop, "s").get()).context).toEqual({ asked: 1 });
    const again = await rebuildType({ store, actors: jobV2 });
    expect(again.report).toMatchObject({ keys: 1, equal: 1, unmatched: [] });
  });

  it("and has ended, is not run again; its result counts", async () => {
    const { early, node, ref, runs, shop } = await loaded();
    runs[0]?.end("loaded");
    await until(ref, ({ got }) => got === "loaded");
    expect(await early.promote(node.client)).toMatchObject({ promoted: 1, failed: 0 });
    expect((await ref.get()).context).toEqual({ n: 4, got: "loaded", price: 7 });
    await ref.send({ type: "add" });
    expect(runs).toHaveLength(1);
    expect((await node.client.actor(shop, "s").get()).context).toEqual({ asked: 1 });
  });

  it("is run again under its own key where a node dies after the promotion", async () => {
    const { early, node, runs, store, jobV2, shop } = await loaded();
    expect(await early.promote(node.client)).toMatchObject({ promoted: 1 });
    await node.stop({ closeStore: false });
    const heir = await startNode({ actors: [jobV2, shop], store });
    onTestFinished(() => heir.stop({ closeStore: false }));
    const ref = heir.client.actor(jobV2, "a");
    await ref.get();
    await expect.poll(() => runs.length).toBe(2);
    expect(runs[1]?.key).toBe(runs[0]?.key);
    runs[1]?.end("loaded");
    await until(ref, ({ got }) => got === "loaded");
    expect((await heir.client.actor(shop, "s").get()).context).toEqual({ asked: 1 });
  });
});

/** A promise that ends with its name when it is told to, or has been run by nobody. */
function workOf(name: string, runs: string[]) {
  return fromDurablePromise<string, unknown>(async () => {
    runs.push(name);
    return name;
  });
}

interface Invoked {
  readonly src: "one" | "two" | "nested";
  readonly id?: string;
}

/** A machine whose `busy` invokes these, and notes who has ended. */
function invoking(version: number, invokes: readonly Invoked[], runs: string[]) {
  const noted = assign<
    { log: readonly unknown[] },
    { type: string; output: unknown },
    undefined,
    never,
    never
  >({
    log: ({ context, event }) => [...context.log, event.output],
  });
  const nested = setup({ actors: { one: workOf("nested one", runs) } }).createMachine({
    initial: "on",
    states: { on: { invoke: { src: "one", onDone: "off" } }, off: { type: "final" } },
    output: "nested",
  });
  return defineActor({
    type: "job",
    version,
    machine: setup({
      types: { context: {} as { log: readonly unknown[] }, events: {} as { type: "go" } | { type: "idle" } },
      actors: { one: workOf("one", runs), two: workOf("two", runs), nested },
    }).createMachine({
      context: { log: [] },
      initial: "idle",
      states: {
        idle: { on: { go: "busy" } },
        busy: { invoke: invokes.map((invoke) => ({ ...invoke, onDone: { actions: noted } })) as never },
      },
      on: { idle: {} },
    }),
  });
}

describe("a replay through a definition that invokes otherwise", () => {
  /** What becomes of an actor that the first definition has brought to its end, after a promotion. */
  async function through(before: readonly Invoked[], after: readonly Invoked[]) {
    const world = new VirtualWorld();
    const store = memory();
    const runs: string[] = [];
    const first = await world.run(startNode({ actors: [invoking(1, before, runs)], world, store }));
    await world.run(first.client.actor("job/a").send({ type: "go" } as never));
    await world.settle();
    const past = runs.splice(0);
    await world.run(first.stop({ closeStore: false }));
    const second = invoking(2, after, runs);
    const rebuild = await rebuildType({ store, world, actors: second });
    const node = await world.run(startNode({ actors: [second], world, store, name: "n2" }));
    expect(await world.run(rebuild.promote(node.client))).toMatchObject({ promoted: 1, failed: 0 });
    await world.settle();
    const { context } = await world.run(node.client.actor("job/a").get());
    const again = await rebuildType({ store, world, actors: second });
    expect(again.report).toMatchObject({ keys: 1, equal: 1 });
    node.kill();
    return { past, runs, log: (context as { log: unknown[] }).log, rebuild };
  }

  it("runs only what it has more, and gives each its own result", async () => {
    const { past, runs, log } = await through([{ src: "one" }], [{ src: "two" }, { src: "one" }]);
    expect(past).toEqual(["one"]);
    expect(runs).toEqual(["two"]);
    expect(log).toEqual(["one", "two"]);
  });

  it("does not take what came of one for another's result", async () => {
    const { runs, log, rebuild } = await through([{ src: "one", id: "x" }], [{ src: "two", id: "y" }]);
    expect(rebuild.report.unmatched).toEqual([{ name: "xstate.promise.resolve", count: 1, samples: ["a"] }]);
    expect(runs).toEqual(["two"]);
    expect(log).toEqual(["two"]);
  });

  it("takes a logic that stands in another's place for the same", async () => {
    const { runs, log } = await through([{ src: "one", id: "x" }], [{ src: "two", id: "x" }]);
    expect(runs).toEqual([]);
    expect(log).toEqual(["one"]);
  });

  it("finds what its children have invoked too", async () => {
    const { past, runs, log } = await through(
      [{ src: "nested", id: "n" }],
      [{ src: "two" }, { src: "one" }, { src: "nested", id: "n" }],
    );
    expect(past).toEqual(["nested one"]);
    expect(runs.sort()).toEqual(["one", "two"]);
    expect([...log].sort()).toEqual(["nested", "one", "two"]);
  });

  it("begins in forks of older actors what only it invokes", async () => {
    const world = new VirtualWorld();
    const store = memory();
    const runs: string[] = [];
    const none = invoking(1, [], runs);
    const first = await world.run(startNode({ actors: [none], world, store }));
    const ref = first.client.actor(none, "a");
    await world.run(ref.send({ type: "go" }));
    await world.run(ref.fork({ at: 1, to: "job/fork" }));
    const past = await world.run(ref.past(1));
    await world.run(first.stop({ closeStore: false }));
    const second = invoking(2, [{ src: "one" }], runs);
    const result = whatIf(second, { from: past, events: [{ type: "idle" }] });
    expect(result.steps.map(({ begun }) => begun)).toEqual([["0.(machine).busy"]]);
    expect(result.timers).toEqual([]);
    const rebuild = await rebuildType({ store, world, actors: second });
    const node = await world.run(startNode({ actors: [second], world, store, name: "n2" }));
    await world.run(rebuild.promote(node.client));
    await world.settle();
    expect(runs).toEqual(["one", "one"]);
    for (const key of ["a", "fork"])
      expect((await world.run(node.client.actor(second, key).get())).context).toEqual({ log: ["one"] });
    node.kill();
  });
});
