/** Rebuilds of running apps: promoted under traffic, broken off and resumed, from trimmed journals. */
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { embedded, memory, type Store, startNode } from "../runtime/index.ts";
import { rebuildType } from "../runtime/rebuild/rebuild.ts";
import { tallyV1, tallyV2, Traffic } from "./support/rebuild.ts";
import { temporaryPath } from "./support/temporary.ts";

async function nodeWith(actor: typeof tallyV1 | ReturnType<typeof tallyV2>, store: Store) {
  const node = await startNode({
    actors: [actor as typeof tallyV1],
    store,
    settings: { checkpointRecords: 500 },
  });
  onTestFinished(() => node.stop({ closeStore: false }));
  return node;
}

const stores: readonly [string, () => Promise<Store>][] = [
  ["memory", async () => memory()],
  ["embedded", () => embedded({ path: join(temporaryPath(), "data"), durability: "process" })],
];

describe.each(stores)("a rebuild on the store %s", (_name, open) => {
  for (const state of ["counting", "busy"]) {
    const how = state === "counting" ? "reads" : "cannot read";
    it(`is promoted under traffic, and loses nothing, where the new definition ${how} what is stored`, async () => {
      const store = await open();
      onTestFinished(() => store.close());
      const traffic = new Traffic(200);
      const first = await nodeWith(tallyV1, store);
      await traffic.send(first.client, 2_000);
      // Beside the running ones, which go on.
      const stop = traffic.begin(first.client);
      const rebuild = await rebuildType({ store, actors: tallyV2(state) });
      await stop();
      const { report } = rebuild;
      expect(report).toMatchObject({ type: "tally", version: 2, keys: 200, equal: 0, outdated: 200 });
      expect(report.paths).toEqual([expect.objectContaining({ path: "context.odd", keys: 200 })]);
      expect(report.states).toEqual(
        state === "counting"
          ? []
          : [{ running: "counting", rebuilt: "busy", keys: 200, samples: expect.any(Array) }],
      );
      await expect(rebuild.promote(first.client)).rejects.toMatchObject({
        code: "newer_version",
        message: expect.stringMatching(/Deploy version 2/),
      });
      await traffic.send(first.client, 300);
      await first.stop({ closeStore: false });

      const { client } = await nodeWith(tallyV2(state), store);
      const end = traffic.begin(client);
      const promoted = await rebuild.promote(client);
      await end();
      expect(promoted).toEqual({ promoted: 200, told: 0, failed: 0, gone: 0, failures: [] });
      await traffic.send(client, 300);
      expect(await traffic.found(client)).toEqual(traffic.expected);

      const again = await rebuildType({ store, actors: tallyV2(state) });
      expect(again.report).toMatchObject({ keys: 200, equal: 200, differing: 0, outdated: 0 });
      expect(again.same).toBe(true);
    });
  }
});

describe("a promotion", () => {
  it("that is broken off is taken up by the next, and repeats nothing", async () => {
    const store = memory();
    const traffic = new Traffic(1_500);
    const first = await nodeWith(tallyV1, store);
    await traffic.send(first.client, 6_000, 512);
    await first.stop({ closeStore: false });
    const keys = traffic.expected.size;
    const { client } = await nodeWith(tallyV2(), store);
    const abort = new AbortController();
    const rebuild = await rebuildType({
      store,
      actors: tallyV2(),
      onProgress: ({ phase, done }) => phase === "promote" && done > 0 && abort.abort(),
    });
    const begun = await rebuild.promote(client, abort.signal);
    expect(begun.promoted).toBeGreaterThan(0);
    expect(begun.failed).toBe(keys - begun.promoted);
    // Another process, in smaller parts, knows nothing of the first.
    const next = await rebuildType({ store, actors: tallyV2(), keysMax: 400 });
    expect(next.report).toMatchObject({ keys, equal: begun.promoted, differing: begun.failed });
    expect(next.report.passes).toBeGreaterThan(1);
    expect(await next.promote(client)).toMatchObject({ promoted: begun.failed, failed: 0 });
    expect(await traffic.found(client)).toEqual(traffic.expected);
    const turns = await Promise.all(
      [...traffic.expected.keys()].map(async (key) => {
        let rebuilt = 0;
        for await (const { event } of client.actor(`tally/${key}`).history())
          if (event.type === "xstate.keyturn.rebuilt") rebuilt++;
        return rebuilt;
      }),
    );
    expect(turns.every((rebuilt) => rebuilt === 1)).toBe(true);
  });

  it("goes on when a node dies in the middle, and loses nothing", async () => {
    const store = memory();
    const traffic = new Traffic(1_200);
    const first = await nodeWith(tallyV1, store);
    await traffic.send(first.client, 5_000, 512);
    await first.stop({ closeStore: false });
    const settings = { lease_ms: 600, heartbeat_ms: 150 };
    const actors = [tallyV2()];
    const victim = await startNode({ actors, store, settings, name: "victim" });
    const heir = await startNode({ actors, store, settings, name: "heir" });
    onTestFinished(() => heir.stop());
    expect(victim.shards.length).toBeGreaterThan(0);
    const rebuild = await rebuildType({
      store,
      actors: tallyV2(),
      onProgress: ({ phase, done }) => phase === "promote" && done > 0 && victim.kill(),
    });
    const end = traffic.begin(heir.client);
    expect(await rebuild.promote(heir.client)).toMatchObject({ promoted: traffic.expected.size, failed: 0 });
    await end();
    expect(await traffic.found(heir.client)).toEqual(traffic.expected);
  });

  it("leaves deleted actors deleted, and what began meanwhile as it is", async () => {
    const store = memory();
    const first = await nodeWith(tallyV1, store);
    const send = (client: typeof first.client, key: string, by: number) =>
      client.actor(`tally/${key}`).send({ type: "add", by } as never);
    for (const key of ["gone", "again", "stays"]) await send(first.client, key, 3);
    await first.stop({ closeStore: false });
    const { client } = await nodeWith(tallyV2(), store);
    const rebuild = await rebuildType({ store, actors: tallyV2() });
    await client.actor("tally/gone").delete();
    await client.actor("tally/again").delete();
    await send(client, "again", 5);
    await send(client, "new", 7);
    expect(await rebuild.promote(client)).toMatchObject({ promoted: 1, gone: 2, failed: 0 });
    const state = async (key: string) => {
      const { context, turn } = await client.actor(`tally/${key}`).get();
      return [context, turn];
    };
    expect(await state("gone")).toEqual([{ sum: 0, odd: 0 }, 0]);
    expect(await state("again")).toEqual([{ sum: 5, odd: 1 }, 1]);
    expect(await state("new")).toEqual([{ sum: 7, odd: 1 }, 1]);
    expect(await state("stays")).toEqual([{ sum: 3, odd: 1 }, 2]);
  });
});
