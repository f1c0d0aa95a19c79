/**
 * Rebuilds of actors that the new definition has invoked something for already: what ran or was asked is not run or asked
 * again, whenever that began.
 */
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { embedded, memory, type Store, startNode } from "../runtime/index.ts";
import { rebuildType } from "../runtime/rebuild/rebuild.ts";
import { begunVersions, until } from "./support/begun.ts";
import { temporaryPath } from "./support/temporary.ts";

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
