/** Nodes that keep less than everything: what they trim by themselves, what stays, and what says so. On all stores. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { loadApp } from "../runtime/cli/actors.ts";
import { keepOf } from "../runtime/cli/options.ts";
import { holdJournal, trimmingAlone } from "../runtime/engine/holds.ts";
import {
  type Keep,
  memory,
  type NodeOptions,
  rebuildType,
  type Store,
  startNode,
  trimJournal,
} from "../runtime/index.ts";
import { realWorld } from "../runtime/world.ts";
import { scanAll } from "./conformance/helpers.ts";
import { tallyV1, tallyV2 } from "./support/rebuild.ts";
import { temporaryPath } from "./support/temporary.ts";
import { threeStores } from "./support/three-stores.ts";

const stores = threeStores("keep");

const HOUR = 3_600_000;

/** A world whose wall clock is moved by hand. */
class Moved {
  hours = 0;
  readonly random = realWorld.random;
  readonly clock = {
    now: () => realWorld.clock.now() + this.hours * HOUR,
    monotonic: () => realWorld.clock.monotonic(),
    after: realWorld.clock.after,
    defer: realWorld.clock.defer,
  };
}

async function started(store: Store, world: Moved, options: Partial<NodeOptions> = {}) {
  const settings = { lease_ms: 3_000, heartbeat_ms: 60, trim_ms: 20, checkpoint_ms: 50 };
  const node = await startNode({ actors: [tallyV1], store, settings, world, name: "n", ...options });
  onTestFinished(() => node.kill());
  return node;
}

describe.each(stores)("on the store %s", (_name, open) => {
  const opened = async (): Promise<Store> => {
    const store = await open();
    onTestFinished(() => store.close());
    return store;
  };
  const entriesIn = async (store: Store): Promise<number> => (await scanAll(store.journal)).length;

  it("a node keeps what is young and what recovery needs; pasts say where they are not whole", async () => {
    const store = await opened();
    const world = new Moved();
    const node = await started(store, world, { keep: { age: "1 hour" } });
    const add = async (key: string, times: number): Promise<void> => {
      for (let n = 0; n < times; n++) await node.client.actor(tallyV1, key).send({ type: "add", by: 1 });
    };
    await add("old", 100);
    await add("both", 10);
    const before = await entriesIn(store);
    await node.checkpoint();
    world.hours = 1;
    // An hour and a margin, for clocks and pinned snapshots, stay.
    expect(await trimJournal({ store, keep: { age: "1 hour" }, world })).toMatchObject({ trimmed: 0 });
    expect(await entriesIn(store)).toBe(before);
    world.hours = 3;
    await add("both", 70);
    await vi.waitFor(async () => expect(await entriesIn(store)).toBeLessThanOrEqual(72), { timeout: 20_000 });
    await add("young", 3);
    node.kill();
    const next = await started(store, world, { keep: "forever", name: "next" });
    const sumOf = async (key: string): Promise<number> =>
      (await next.client.actor(tallyV1, key).get()).context.sum;
    expect([await sumOf("old"), await sumOf("both"), await sumOf("young")]).toEqual([100, 80, 3]);

    const turns = [];
    for await (const turn of next.client.actor(tallyV1, "both").history({ order: "newest" }))
      turns.push(turn);
    // From the keyframe on that is left.
    expect(turns.at(-1)).toMatchObject({ turn: 65, trimmed: true });
    await expect(async () => {
      for await (const _turn of next.client.actor(tallyV1, "old").history());
    }).rejects.toMatchObject({ code: "history_trimmed" });
    await expect(next.client.actor(tallyV1, "old").past(3)).rejects.toMatchObject({
      code: "history_trimmed",
    });
    await expect(
      next.client.actor(tallyV1, "old").fork({ at: 3, to: "tally/sandbox" }),
    ).rejects.toMatchObject({ code: "history_trimmed" });
    const whole = [];
    for await (const turn of next.client.actor(tallyV1, "young").history()) whole.push(turn);
    expect(whole).toHaveLength(3);
    expect(whole[0]?.trimmed).toBeUndefined();
    const { report } = await rebuildType({ store, actors: tallyV2() });
    expect(report.notWhole.count).toBe(2);
    expect(report.keys).toBe(3);
    // Those that there are and those that change come from states, not from the journal.
    const found: string[] = [];
    for await (const { key } of next.client.changes(tallyV1)) if (found.push(key) === 3) break;
    expect(found.sort()).toEqual(["both", "old", "young"]);
  });

  it("a pinned snapshot shows what was there, whatever is written and trimmed meanwhile", async () => {
    const store = await opened();
    const world = new Moved();
    const node = await started(store, world, { keep: { age: "1 hour" } });
    // A client of its own, with that clock.
    const films = node.client.store<string | { big: string }>("films");
    const big = { big: "x".repeat(20_000) };
    for (const name of ["kept", "changed", "twice", "deleted"]) await films.put(name, `${name} 1`);
    await films.put("big", big);
    await films.put("grown", big);
    const before = await entriesIn(store);
    world.hours = 30;
    await vi.waitFor(async () => expect(await entriesIn(store)).toBeLessThan(before), { timeout: 20_000 });
    const pinned = await films.snapshot();
    await films.put("changed", "changed 2");
    await films.put("twice", "twice 2");
    await films.put("twice", "twice 3");
    await films.put("grown", "small");
    await films.put("new", "new 1");
    await films.delete("deleted");
    const shown = [];
    for await (const one of pinned) shown.push(one);
    expect(shown).toEqual([
      ["big", big],
      ["changed", "changed 1"],
      ["deleted", "deleted 1"],
      ["grown", big],
      ["kept", "kept 1"],
      ["twice", "twice 1"],
    ]);
  });

  it("about so many bytes are kept, if they are old enough to go", async () => {
    const store = await opened();
    const world = new Moved();
    const node = await started(store, world, { keep: { bytes: "40 KB" } });
    const event = { type: "add", by: 1, note: "n".repeat(2_000) } as { type: "add"; by: number };
    for (let n = 0; n < 100; n++) await node.client.actor(tallyV1, "k").send(event);
    const young = await entriesIn(store);
    expect(young).toBeGreaterThanOrEqual(100);
    world.hours = 2;
    await node.client.actor(tallyV1, "k").send(event);
    await vi.waitFor(async () => expect(await entriesIn(store)).toBeLessThan(40), { timeout: 20_000 });
    expect(await entriesIn(store)).toBeGreaterThan(3);
    expect((await node.client.actor(tallyV1, "k").get()).context.sum).toBe(101);
    await vi.waitFor(() => {
      const trimmed = node.metrics().find(({ name }) => name === "keyturn_trimmed_lanes_total");
      expect(trimmed?.kind === "counter" && trimmed.points[0]?.value).toBeGreaterThan(0);
    });
  });

  it("who reads the journal from its beginning is not trimmed under, and who trims is waited for", async () => {
    const store = await opened();
    const world = new Moved();
    const node = await started(store, world);
    for (let n = 0; n < 20; n++) await node.client.actor(tallyV1, "k").send({ type: "add", by: 1 });
    await node.checkpoint();
    const before = await entriesIn(store);
    world.hours = 3;
    const letGo = await holdJournal(store.snapshots, world);
    const report = await trimJournal({ store, keep: { age: "1 hour" }, world });
    expect(report).toMatchObject({ held: true, trimmed: 0 });
    expect(await entriesIn(store)).toBe(before);
    await letGo();

    let began = false;
    let done = (): void => undefined;
    const working = new Promise<void>((resolve) => {
      done = resolve;
    });
    let held: Promise<() => Promise<void>> | undefined;
    const trimming = trimmingAlone(store.snapshots, world, async (isAlone) => {
      expect(await isAlone()).toBe(true);
      // A second one does nothing, and a reader waits.
      expect(await trimmingAlone(store.snapshots, world, async () => expect.unreachable())).toBe(false);
      held = holdJournal(store.snapshots, world).finally(() => {
        began = true;
      });
      await vi.waitFor(async () => {
        const [entry] = await store.snapshots.read(["_keep"]);
        expect(Buffer.from(entry?.value ?? []).includes("readers")).toBe(true);
      });
      expect(began).toBe(false);
      done();
    });
    await working;
    expect(await trimming).toBe(true);
    await (await held)?.();
    expect(await trimJournal({ store, keep: { age: "1 hour" }, world })).toMatchObject({ held: false });
    expect(await entriesIn(store)).toBeLessThan(before);
    // One that has died is forgotten.
    await holdJournal(store.snapshots, { ...world, clock: { ...world.clock, after: () => () => undefined } });
    world.hours = 4;
    expect(await trimmingAlone(store.snapshots, world, async () => undefined)).toBe(true);
  });
});

describe("what is to be kept", () => {
  const nonsense: unknown[] = [
    "never",
    null,
    {},
    { age: "10 min" },
    { age: "soon" },
    { age: -1 },
    { bytes: -1 },
    { bytes: "ten" },
    { bytes: "10 parsecs" },
    { age: "1 day", days: 3 },
  ];
  it.each(nonsense)("%j is refused by name", async (keep) => {
    const options = { actors: [tallyV1], store: memory(), keep: keep as Keep };
    await expect(startNode(options)).rejects.toMatchObject({ code: "invalid_options" });
  });

  it("a store that cannot be trimmed is said to be so at start", async () => {
    const { retention: _, ...store } = memory();
    const options = { actors: [tallyV1], store: store as Store, keep: { age: "1 day" } };
    await expect(startNode(options)).rejects.toThrow(/cannot be trimmed/);
  });

  it("is read from the command line", () => {
    expect(keepOf("forever")).toBe("forever");
    expect(keepOf("30 days")).toEqual({ age: "30 days" });
    expect(keepOf("10GB")).toEqual({ bytes: "10GB" });
    expect(keepOf("30d, 1.5 TiB")).toEqual({ age: "30d", bytes: "1.5 TiB" });
    for (const text of ["", "5 min", "1 day,2 days", "a lot"]) expect(() => keepOf(text)).toThrow();
  });

  it("is what a module exports as keep", async () => {
    const folder = temporaryPath();
    const module = (name: string, keep: string): string => {
      const path = join(folder, name);
      writeFileSync(
        path,
        `${keep}\nexport const one = { type: "${name.slice(0, 1)}", version: 1, machine: { __xstatenode: true } };`,
      );
      return path;
    };
    const a = module("a.mjs", 'export const keep = { age: "30 days" };');
    const b = module("b.mjs", "");
    const c = module("c.mjs", 'export const keep = { age: "a while" };');
    const d = module("d.mjs", 'export const keep = "forever";');
    expect(await loadApp([a, b])).toMatchObject({
      keep: { age: "30 days" },
      actors: [{ type: "a" }, { type: "b" }],
    });
    expect((await loadApp([b])).keep).toBeUndefined();
    await expect(loadApp([c])).rejects.toThrow(/keep: The age/);
    await expect(loadApp([a, d])).rejects.toThrow(/say otherwise/);
  });
});
