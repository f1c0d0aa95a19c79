/** Trimming the journal: what goes, what stays, and what says so. On all three stores. */
import { describe, expect, it, onTestFinished } from "vitest";
import { memory, rebuildType, type Store, startNode, trimJournal } from "../runtime/index.ts";
import { realWorld } from "../runtime/world.ts";
import { appendAll, bytesOf, readAll, scanAll } from "./conformance/helpers.ts";
import { tallyV1, tallyV2, Traffic } from "./support/rebuild.ts";
import { threeStores } from "./support/three-stores.ts";

const stores = threeStores("app");

/** So much later. */
function later(hours: number) {
  const { clock, random } = realWorld;
  const now = (): number => clock.now() + hours * 3_600_000;
  return {
    random,
    clock: { ...clock, now, monotonic: () => clock.monotonic(), after: clock.after, defer: clock.defer },
  };
}

async function started(store: Store, actor = tallyV1, name?: string) {
  const settings = { lease_ms: 1_500, heartbeat_ms: 400, checkpoint_ms: 1e9, checkpointRecords: 1e9 };
  const node = await startNode({ actors: [actor], store, settings, ...(name === undefined ? {} : { name }) });
  onTestFinished(() => node.kill());
  return node;
}

describe.each(stores)("on the store %s", (_name, open) => {
  const opened = async (): Promise<Store> => {
    const store = await open();
    onTestFinished(() => store.close());
    return store;
  };

  it("a lane is trimmed up to where it is said, and keeps its last entry", async () => {
    const store = await opened();
    await store.directory.app({ shards: 4, format: 1 });
    const { journal, retention } = store;
    const a = await appendAll(journal, "a", ["0", "1", "2", "3"]);
    const b = await appendAll(journal, "b", ["x", "y"]);
    expect([...((await retention?.lanes()) ?? [])].sort()).toEqual(["a", "b"]);
    await retention?.trim("a", a[1] as number);
    expect(await readAll(journal, "a")).toEqual([
      [a[2], "2"],
      [a[3], "3"],
    ]);
    expect((await scanAll(journal)).map(([, text]) => text).sort()).toEqual(["2", "3", "x", "y"]);
    expect(await journal.get(a[0] as number)).toBeUndefined();
    for (const lane of ["a", "b", "none"]) await retention?.trim(lane, Number.MAX_SAFE_INTEGER);
    expect((await scanAll(journal)).sort(([x], [y]) => x - y)).toEqual(
      [
        [a[3], "3"],
        [b[1], "y"],
      ].sort(([x], [y]) => (x as number) - (y as number)),
    );
    expect(await journal.last("a")).toBe(a[3]);
    expect(await journal.append("a", 0, bytesOf("late"))).toEqual({ kind: "conflict" });
    expect((await journal.append("a", a[3] as number, bytesOf("4"))).kind).toBe("committed");
    expect(await journal.last("none")).toBe(0);
  });

  it("an app goes on, recovers, and says what is missing", async () => {
    const store = await opened();
    const traffic = new Traffic(40);
    const first = await started(store);
    await traffic.send(first.client, 400);
    const ref = first.client.actor(tallyV1, "old");
    await ref.send({ type: "add", by: 1 }, { requestId: "mine" });
    for (let n = 0; n < 70; n++) await ref.send({ type: "add", by: 1 });
    const before = (await scanAll(store.journal)).length;
    // Nothing is in snapshots yet: recovery needs it all.
    expect(await trimJournal({ store, keep: { age: "1 hour" }, world: later(2) })).toMatchObject({
      trimmed: 0,
    });
    expect(await scanAll(store.journal)).toHaveLength(before);
    await first.checkpoint();
    await traffic.send(first.client, 100);
    // Too young, whatever is asked for.
    expect(await trimJournal({ store, keep: { bytes: 0 } })).toMatchObject({ trimmed: 0, heldBack: 0 });
    expect(await trimJournal({ store, keep: "forever", world: later(9) })).toMatchObject({ trimmed: 0 });
    expect(await trimJournal({ store, keep: { age: "1 hour" }, world: later(2) })).toMatchObject({
      trimmed: 1,
    });
    const after = (await scanAll(store.journal)).length;
    expect(after).toBeLessThan(before);
    await traffic.send(first.client, 50);
    expect(await traffic.found(first.client)).toEqual(withoutOdd(traffic));

    first.kill();
    const second = await started(store, tallyV1, "second");
    expect(await traffic.found(second.client)).toEqual(withoutOdd(traffic));
    const again = second.client.actor(tallyV1, "old");
    expect((await again.get()).context).toEqual({ sum: 71 });
    await expect(again.ask({ type: "add", by: 1 }, { requestId: "mine" })).rejects.toMatchObject({
      code: "answer_too_large",
      outcome: "applied",
    });
    expect((await again.get()).context).toEqual({ sum: 71 });
    await expect(async () => {
      for await (const _turn of again.history());
    }).rejects.toMatchObject({ code: "history_trimmed" });
    const { report } = await rebuildType({ store, actors: tallyV2() });
    expect(report.notWhole.count).toBe(report.keys);
    expect(report.keys).toBe(traffic.expected.size + 1);
  });
});

function withoutOdd({ expected }: Traffic): Map<string, unknown> {
  return new Map([...expected].map(([key, { sum }]) => [key, { sum }]));
}

it("what is kept is said plainly", async () => {
  const store = memory();
  for (const keep of [
    "never",
    { age: "10 min" },
    { age: "soon" },
    { bytes: -1 },
    { age: "1 day", bytes: "many" },
    null,
  ])
    await expect(trimJournal({ store, keep: keep as never })).rejects.toMatchObject({
      code: "invalid_options",
    });
});
