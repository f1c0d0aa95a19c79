/** What types ask to be kept: stands in the store, so it holds whoever trims and whoever hosts them. On all stores. */
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { counter } from "../actors/index.ts";
import { holdJournal } from "../runtime/engine/holds.ts";
import { defineActor, embedded, type Keep, type Store, startNode, trimJournal } from "../runtime/index.ts";
import { realWorld } from "../runtime/world.ts";
import { scanAll } from "./conformance/helpers.ts";
import { cli } from "./support/cli-run.ts";
import { temporaryPath } from "./support/temporary.ts";
import { threeStores } from "./support/three-stores.ts";

const stores = threeStores("keeps");

const HOUR = 3_600_000;

function moved(hours: number) {
  const { clock, random } = realWorld;
  const now = (): number => clock.now() + hours * HOUR;
  return {
    random,
    clock: { ...clock, now, monotonic: () => clock.monotonic(), after: clock.after, defer: clock.defer },
  };
}

function audit(keep?: Keep) {
  return defineActor({ type: "audit", machine: counter.machine, ...(keep === undefined ? {} : { keep }) });
}

/** Some turns at an hour, in snapshots; then the node is gone. */
async function worked(store: Store, actors: ReturnType<typeof audit>[], hours = 0): Promise<void> {
  const settings = { lease_ms: 3_000, heartbeat_ms: 500, checkpoint_ms: 1e9 };
  const node = await startNode({
    actors: [counter, ...actors],
    store,
    settings,
    world: moved(hours),
    name: `n${hours}`,
  });
  onTestFinished(() => node.kill());
  for (let n = 0; n < 5; n++) await node.client.actor(counter, "k").send({ type: "add", by: 1 });
  await node.stop({ closeStore: false });
}

describe.each(stores)("on the store %s", (_name, open) => {
  const opened = async (): Promise<Store> => {
    const store = await open();
    onTestFinished(() => store.close());
    return store;
  };
  const entriesIn = async (store: Store): Promise<number> => (await scanAll(store.journal)).length;

  it("forever holds all, also where no node hosts the type any more, until it is lifted", async () => {
    const store = await opened();
    await worked(store, [audit("forever")]);
    await worked(store, [], 5);
    const before = await entriesIn(store);
    const trim = (lift?: string[]) => trimJournal({ store, keep: { age: "1 hour" }, lift, world: moved(10) });
    expect(await trim()).toMatchObject({ trimmed: 0, held: false, keptFor: ["audit"] });
    expect(await trim(["counter"])).toMatchObject({ trimmed: 0, keptFor: ["audit"] });
    expect(await entriesIn(store)).toBe(before);
    const lifted = await trim(["audit"]);
    expect(lifted).toMatchObject({ keptFor: [] });
    expect(lifted.trimmed).toBeGreaterThan(0);
    expect(await entriesIn(store)).toBeLessThan(before);
  });

  it("an age holds what is as young; what all permit goes", async () => {
    const store = await opened();
    const other = defineActor({
      type: "other",
      machine: counter.machine,
      keep: { age: "5 hours", bytes: "1GB" },
    });
    await worked(store, [audit({ age: "20 hours" }), other as never]);
    const old = await entriesIn(store);
    await worked(store, [], 12);
    const all = await entriesIn(store);
    // At hour 15 the app permits all but the last hour, the types all but 20 and 5 hours.
    const trim = (hours: number) => trimJournal({ store, keep: { age: "1 hour" }, world: moved(hours) });
    expect(await trim(15)).toMatchObject({ trimmed: 0, keptFor: ["audit", "other"] });
    expect(await entriesIn(store)).toBe(all);
    const report = await trim(25);
    expect(report).toMatchObject({ keptFor: ["audit"] });
    expect(report.trimmed).toBeGreaterThan(0);
    const left = await entriesIn(store);
    expect(left).toBeLessThan(all);
    expect(left).toBeGreaterThanOrEqual(all - old);
    // It never makes less kept than the app says.
    expect(await trimJournal({ store, keep: "forever", world: moved(99) })).toMatchObject({
      trimmed: 0,
      keptFor: [],
    });
  });

  it("it stands while others hold the journal and let go, and what is asked last counts", async () => {
    const store = await opened();
    const letGo = await holdJournal(store.snapshots, moved(0));
    await worked(store, [audit("forever")]);
    await letGo();
    await worked(store, [], 1);
    const trim = () => trimJournal({ store, keep: { age: "1 hour" }, world: moved(10) });
    expect(await trim()).toMatchObject({ trimmed: 0, keptFor: ["audit"] });
    await worked(store, [audit({ age: "2 hours" })], 2);
    await worked(store, [], 8);
    const report = await trim();
    expect(report.trimmed).toBeGreaterThan(0);
    expect(await trim()).toMatchObject({ held: false });
  });
});

it("a keep that makes no sense is refused where it is written", () => {
  expect(() => audit("never" as never)).toThrow(
    /The keep of "audit": What is kept of the journal is "forever"/,
  );
  expect(() => audit({ age: "5 min" })).toThrow(/The keep of "audit": At least the last hour/);
  expect(audit({ bytes: "1GB" }).keep).toEqual({ bytes: "1GB" });
});

it("keyturn trim says for which types more was kept, and lifts it", async () => {
  const data = join(temporaryPath(), "data");
  const store = await embedded({ path: data, durability: "process" });
  await worked(store, [audit("forever")], -10);
  await worked(store, [], -5);
  await store.close();
  const trim = (...more: string[]) => cli(["trim", "--keep", "1 hour", "--data", data, ...more]);
  expect((await trim()).stdout).toMatch(
    /^0 of \d+ lanes .*; more was kept, as asked by the types audit\.\n$/,
  );
  expect((await trim("--lift", "audit", "--json")).rows).toMatchObject([{ event: "trimmed", keptFor: [] }]);
});
