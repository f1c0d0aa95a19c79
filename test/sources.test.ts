/**
 * Sources: each item counts once, whatever is killed, moved or repeated between any two batches.
 *
 * The runtime in memory loses what was not flushed; nodes on a real store are handed over; real processes are killed in
 * test/sources-kill.test.ts.
 */
import { appendFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { memory, startNode } from "../runtime/index.ts";
import {
  defineSource,
  ndjson,
  resetSource,
  runSource,
  type SourceReader,
  sourceStatus,
  toldTo,
} from "../runtime/streams/index.ts";
import { Feed } from "../runtime/streams/sources/feed.ts";
import { askGates, delivered } from "../runtime/streams/sources/gates.ts";
import type { Batch } from "../runtime/streams/sources/mapping.ts";
import type { PartitionContext } from "../runtime/streams/sources/words.ts";
import { testRuntime } from "../runtime/testing/index.ts";
import { temporaryPath } from "./support/temporary.ts";
import {
  type Row,
  KEYS,
  rows,
  text,
  written,
  source,
  sums,
  expected,
  on,
  lettersOf,
  failure,
} from "./support/sources.ts";

describe("each item counts once", () => {
  it("power losses between any two batches, with every frame delivered several times", async () => {
    const all = rows(120);
    const from = ndjson<Row>({ path: written(text(all)) });
    let allow: () => void = () => undefined;
    const stepped: SourceReader<Row> = {
      ...from,
      async *read(partition, position, options) {
        for await (const { items } of from.read(partition, position, options))
          for (let at = 0; at < items.length; at += 8) {
            yield { items: items.slice(at, at + 8) };
            await new Promise<void>((resolve) => {
              allow = resolve;
            });
          }
      },
    };
    const items = source(stepped, { batch: 5 });
    const t = await testRuntime({ actors: [counter, ...items.actors], nodes: 2, seed: 7 });
    t.deliveredTwice();
    const run = runSource(t.client, items);
    let over = false;
    const done = run.done.finally(() => {
      over = true;
    });
    let crashes = 0;
    for (; !over; crashes++) {
      allow();
      await t.pass(3 * (crashes % 12));
      await t.crash();
    }
    expect(crashes).toBeGreaterThanOrEqual(15);
    expect(await done).toMatchObject({
      items: 120,
      told: 120,
      delivered: 120,
      malformed: 0,
      lag: 0,
      ended: true,
    });
    expect(await sums(t.client)).toEqual(expected(all));
    expect(await t.deadLetters()).toEqual([]);
    await t.stop();
  });

  it("whatever dies, at random moments, with two runners: twelve seeds", { timeout: 60_000 }, async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const all = rows(90);
      const lines = all.map((row, n) => (n % 31 === 30 ? "oops" : JSON.stringify(row)));
      const from = ndjson<Row>({ path: written(lines.join("\n")), partitions: 1 + (seed % 3) });
      const items = source(from, { batch: 2 + (seed % 5) });
      const t = await testRuntime({ actors: [counter, ...items.actors], nodes: 1 + (seed % 3), seed });
      t.deliveredTwice(seed % 2 === 1);
      const runs = [runSource(t.client, items), runSource(t.client, items)];
      let over = false;
      const done = Promise.all(runs.map((run) => run.done)).finally(() => {
        over = true;
      });
      for (let rounds = 0; !over; rounds++) {
        await t.pass((7 * seed + 5 * rounds) % 40);
        await (rounds % 3 === 0 ? t.failover() : t.crash());
      }
      for (const status of await done)
        expect(status, `seed ${seed}`).toMatchObject({
          items: 90,
          malformed: 2,
          told: 88,
          delivered: 90,
          ended: true,
        });
      expect(await sums(t.client), `seed ${seed}`).toEqual(expected(all.filter((_, n) => n % 31 !== 30)));
      expect(await t.deadLetters()).toEqual([]);
      await t.stop();
    }
  });

  it("two runners at once share the parts, and one of them leaves", async () => {
    const all = rows(300);
    const items = source(ndjson({ path: written(text(all)), partitions: 4 }), { batch: 10 });
    await on(items, async (client) => {
      const [one, other] = [
        runSource(client, items, { lease_ms: 300 }),
        runSource(client, items, { lease_ms: 300 }),
      ];
      await other.stop();
      expect(await one.done).toMatchObject({ items: 300, delivered: 300, ended: true, runners: [] });
      expect(await sums(client)).toEqual(expected(all));
    });
  });

  it("two runners that both believe a part to be theirs: one gets on, nothing counts twice", async () => {
    const all = rows(300);
    const path = written(text(all));
    const items = source(ndjson({ path }), { batch: 3 });
    await on(items, async (client) => {
      const { PartitionRun } = await import("../runtime/streams/sources/partition.ts");
      const [planned] = await items.from.plan();
      const make = () =>
        new PartitionRun({
          client,
          source: items,
          key: "0",
          planned: planned!,
          troubled: () => undefined,
        }).run();
      await Promise.all([make(), make(), make()]);
      expect(await sums(client)).toEqual(expected(all));
    });
  });

  it("nodes of one store hand over while it runs", async () => {
    const all = rows(300);
    const items = source(ndjson({ path: written(text(all)), partitions: 2 }), { batch: 4 });
    const store = memory();
    const actors = [counter, ...items.actors];
    const first = await startNode({ actors, store, name: "first" });
    const run = runSource(first.client, items, { lease_ms: 300 });
    const second = await startNode({ actors, store, name: "second" });
    const other = runSource(second.client, items, { lease_ms: 300 });
    await run.stop();
    await first.stop({ closeStore: false });
    expect(await other.done).toMatchObject({ items: 300, delivered: 300, ended: true });
    expect(await sums(second.client)).toEqual(expected(all));
    await second.stop();
  });

  it("run again it finds nothing to do; what was appended meanwhile counts", async () => {
    const path = written(text(rows(50)));
    const items = source(ndjson({ path }));
    await on(items, async (client) => {
      await runSource(client, items).done;
      const { position } = await client.actor("source-items/0").get();
      expect(await runSource(client, items).done).toMatchObject({ items: 50, ended: true });
      expect((await client.actor("source-items/0").get()).position).toBe(position);
      appendFileSync(path, text(rows(20, 50)));
      expect(await sourceStatus(client, items)).toMatchObject({ items: 50, lag: expect.any(Number) });
      expect(await runSource(client, items).done).toMatchObject({ items: 70, lag: 0 });
      expect(await sums(client)).toEqual(expected(rows(70)));
    });
  });

  it("many items for one actor are one event, and still count once each", async () => {
    const path = written(text(rows(300)));
    const items = defineSource<Row>("items", {
      from: ndjson({ path }),
      batch: 40,
      toBatch: (values) => {
        const added = new Map<string, number>();
        for (const { key, by } of values) added.set(key, (added.get(key) ?? 0) + by);
        return [...added].map(([key, by]) => toldTo(counter, key, { type: "add", by }));
      },
    });
    await on(items, async (client) => {
      const status = await runSource(client, items).done;
      expect(status).toMatchObject({ items: 300, delivered: 300 });
      expect(status.told).toBe(8 * KEYS);
      expect(await sums(client)).toEqual(expected(rows(300)));
    });
  });

  it("files that are new are read, those not declared any more are left; parts stay as they were planned", async () => {
    const folder = temporaryPath();
    const files = Array.from({ length: 150 }, (_, n) => join(folder, `${n}.ndjson`));
    for (const [n, path] of files.entries()) writeFileSync(path, text(rows(2, 2 * n)));
    const [many, fewer] = [files.slice(0, 140), files.slice(10, 150)];
    const first = source(ndjson({ path: many }));
    await on(first, async (client) => {
      expect(await runSource(client, first).done).toMatchObject({ items: 280, ended: true });
      for (const path of files.slice(0, 10)) rmSync(path);
      const status = await runSource(client, source(ndjson({ path: fewer, partitions: 3 }))).done;
      expect(status).toMatchObject({ items: 300, delivered: 300, malformed: 0, ended: true });
      expect(status.partitions).toHaveLength(140 + 3 * 10);
      expect(await sums(client)).toEqual(expected(rows(300)));
      const tooMany = ndjson<Row>({ path: files.slice(10), partitions: 8 });
      expect(await runSource(client, source(tooMany)).done).toMatchObject({ items: 300 });
    });
    const wide = source(ndjson({ path: files.slice(10), partitions: 8 }));
    await on(wide, async (client) => {
      expect(await failure(runSource(client, wide).done)).toMatch(
        /^invalid_options: .* 1 to 1024 partitions/,
      );
    });
  });

  it("in an app of more shards than one turn can tell, what is delivered is known", async () => {
    const all = rows(300);
    const items = source(ndjson({ path: written(text(all)) }));
    const node = await startNode({ actors: [counter, ...items.actors], store: memory(), shards: 1_100 });
    expect(await runSource(node.client, items).done).toMatchObject({ items: 300, delivered: 300 });
    expect(await sums(node.client)).toEqual(expected(all));
    await node.stop();
  });

  it("a reset source begins anew", async () => {
    const items = source(ndjson({ path: written(`${text(rows(20))}oops\n`) }));
    await on(items, async (client) => {
      await runSource(client, items).done;
      await resetSource(client, items);
      expect(await sourceStatus(client, items)).toMatchObject({ items: 0, partitions: [] });
      await runSource(client, items).done;
      expect(await sums(client)).toEqual(expected(rows(20)).map((sum) => 2 * sum));
      expect(await lettersOf(client, items)).toHaveLength(1);
    });
  });
});

it("two runners that cut the same items differently, at once: each item counts once", async () => {
  const items = source(ndjson<Row>({ path: written("") }));
  await on(items, async (client) => {
    const ref = client.actor(`${items.parts.partition.type}/0`);
    const { context } = await ref.get();
    const feed = () =>
      new Feed(context as unknown as PartitionContext, {
        clock: client.world.clock,
        ref,
        signal: new AbortController().signal,
        troubled: () => undefined,
        apart: () => [],
      });
    const cut = (from: number, upTo: number): Batch => ({
      source: [],
      position: upTo,
      items: upTo - from,
      skipped: 0,
      missed: 0,
      letters: [],
      tells: rows(upTo - from, from).map(({ key, by }) => [`counter/${key}`, { type: "add", by }] as const),
      ended: false,
    });
    const [one, other] = [feed(), feed()];
    await one.push(cut(0, 3));
    await one.drain();
    // It has read the same, and does not know of the first. Its second batch follows revision 1, but not what that is.
    await Promise.all([other.push(cut(0, 2)), other.push(cut(2, 6))]);
    await other.drain();
    await one.push(cut(3, 6));
    await one.drain();
    await askGates(ref, client, true);
    await delivered(client, ref, 2, new AbortController().signal);
    expect([one.lost, other.lost, await sums(client)]).toEqual([false, true, expected(rows(6))]);
  });
});
