/**
 * Sources: each item counts once, whatever is killed, moved or repeated between any two batches.
 *
 * The runtime in memory loses what was not flushed; nodes on a real store are handed over; real processes are killed in
 * test/sources-kill.test.ts.
 */
import { appendFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { assign, setup } from "xstate";
import { counter } from "../actors/index.ts";
import { type Client, defineActor, isKeyturnError, memory, startNode } from "../runtime/index.ts";
import {
  csv,
  defineSource,
  ndjson,
  resetSource,
  runSource,
  type AnySource,
  type Source,
  sourceDeadLetters,
  type SourceReader,
  sourceStatus,
  toldTo,
} from "../runtime/streams/index.ts";
import { Feed } from "../runtime/streams/sources/feed.ts";
import { askGates, delivered } from "../runtime/streams/sources/gates.ts";
import type { Batch } from "../runtime/streams/sources/mapping.ts";
import type { PartitionContext } from "../runtime/streams/sources/words.ts";
import { testRuntime } from "../runtime/testing/index.ts";
import { limits } from "../runtime/words/limits.ts";
import { temporaryPath } from "./support/temporary.ts";

interface Row {
  readonly key: string;
  readonly by: number;
}

const KEYS = 7;
/** Sums that tell which items counted: each has a bit of its own, over its key. */
const rowAt = (n: number): Row => ({ key: `k${n % KEYS}`, by: 2 ** Math.floor(n / KEYS) });
const rows = (count: number, from = 0): Row[] => Array.from({ length: count }, (_, n) => rowAt(from + n));
const text = (items: readonly unknown[]): string => items.map((item) => `${JSON.stringify(item)}\n`).join("");

function written(content: string, name = "items.ndjson"): string {
  const path = join(temporaryPath(), name);
  writeFileSync(path, content);
  return path;
}

function source(
  from: SourceReader<Row>,
  options: { batch?: number; onMalformed?: "stop" } = {},
): Source<Row> {
  return defineSource("items", {
    from,
    to: ({ key, by }) => toldTo(counter, key, { type: "add", by }),
    ...options,
  });
}

async function sums(client: Client): Promise<number[]> {
  const keys = Array.from({ length: KEYS }, (_, key) => client.actor(counter, `k${key}`).get());
  return (await Promise.all(keys)).map(({ context }) => context.count);
}

function expected(items: readonly Row[]): number[] {
  const all = Array.from({ length: KEYS }, () => 0);
  for (const { key, by } of items) all[Number(key.slice(1))] = (all[Number(key.slice(1))] as number) + by;
  return all;
}

async function on<T>(items: AnySource, work: (client: Client) => Promise<T>): Promise<T> {
  const node = await startNode({ actors: [counter, ...items.actors], store: memory() });
  try {
    return await work(node.client);
  } finally {
    await node.stop();
  }
}

async function lettersOf(client: Client, items: AnySource, limit?: number) {
  const letters = [];
  for await (const { number, reason, text: begins } of sourceDeadLetters(
    client,
    items,
    limit === undefined ? {} : { limit },
  ))
    letters.push({ number, reason, text: begins });
  return letters;
}

async function failure(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "none",
    (error: unknown) => (isKeyturnError(error) ? `${error.code}: ${error.message}` : String(error)),
  );
}

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

describe("items that cannot be used", () => {
  it("are counted, kept with their line numbers, and hold nothing up", async () => {
    const lines = rows(150).map((row) => JSON.stringify(row));
    lines[3] = '{"key":';
    lines[77] = "\u{1f600}".repeat(600);
    lines[149] = "null";
    const items = source(ndjson({ path: written(`${lines.join("\n")}\n`) }), { batch: 20 });
    await on(items, async (client) => {
      expect(await runSource(client, items).done).toMatchObject({
        items: 150,
        malformed: 3,
        told: 147,
        delivered: 150,
      });
      const letters = await lettersOf(client, items);
      expect(letters.map(({ number }) => number)).toEqual([150, 78, 4]);
      expect(letters[0]?.reason).toMatch(/^The mapping failed: /);
      expect(letters[1]?.text.length).toBeLessThan(600);
      expect(letters[2]).toMatchObject({ reason: expect.stringMatching(/^It is not JSON/), text: '{"key":' });
      expect(await lettersOf(client, items, 1)).toEqual(letters.slice(0, 1));
    });
  });

  it("what no actor can be sent is found among the others, one at a time or combined", async () => {
    const path = written(text(rows(40)));
    const bad = new Map<number, unknown>([
      [5, { to: "no address", event: { type: "add", by: 1 } }],
      [9, { to: "counter/x", event: { type: "add", by: () => 1 } }],
      [17, { to: "counter/x", event: { type: "xstate.done", by: 1 } }],
      [23, { to: "counter/x", event: { type: "add", by: 1, much: "x".repeat(300_000) } }],
      [31, { to: `counter/${"k".repeat(500)}`, event: { type: "add", by: 1 } }],
      [33, 7],
    ]);
    const tell = (row: Row, n: number) =>
      (bad.get(n) ?? toldTo(counter, row.key, { type: "add", by: row.by })) as never;
    const each = defineSource<Row>("each", {
      from: ndjson({ path }),
      to: (row, { number }) => tell(row, number),
    });
    const combined = defineSource<Row>("combined", {
      from: ndjson({ path }),
      toBatch: (values, infos) => values.map((row, at) => tell(row, infos[at]!.number)),
    });
    const good = expected(rows(40).filter((_, n) => !bad.has(n + 1)));
    for (const items of [each, combined]) {
      await on(items, async (client) => {
        expect(await runSource(client, items).done).toMatchObject({
          items: 40,
          malformed: 6,
          told: 34,
          delivered: 40,
        });
        expect((await lettersOf(client, items)).map(({ number }) => number)).toEqual([33, 31, 23, 17, 9, 5]);
        expect(await sums(client)).toEqual(good);
      });
    }
  });

  it("stop a source that was told so, before them", async () => {
    const items = source(ndjson({ path: written(`${text(rows(30))}oops\n${text(rows(5, 30))}`) }), {
      onMalformed: "stop",
      batch: 8,
    });
    await on(items, async (client) => {
      expect(await failure(runSource(client, items).done)).toMatch(/^source_malformed: Item 31 .*oops/);
      expect(await sourceStatus(client, items)).toMatchObject({ items: 30, malformed: 0 });
      expect(await sums(client)).toEqual(expected(rows(30)));
    });
  });

  it("stop it also where only the engine can tell that they cannot be sent", async () => {
    const items = defineSource<Row>("items", {
      from: ndjson({ path: written(text(rows(40))) }),
      to: ({ key, by }, { number }) => ({
        to: number === 23 ? "nobody" : `counter/${key}`,
        event: { type: "add", by },
      }),
      onMalformed: "stop",
      batch: 10,
    });
    await on(items, async (client) => {
      expect(await failure(runSource(client, items).done)).toMatch(
        /^source_malformed: Item 23 .*not an address/,
      );
      expect(await sourceStatus(client, items)).toMatchObject({ items: 22, malformed: 0, told: 22 });
      expect(await sums(client)).toEqual(expected(rows(22)));
    });
  });

  it("only the newest letters are kept", async () => {
    const items = defineSource("items", {
      from: ndjson({ path: written("x\n".repeat(1_000)) }),
      to: () => undefined,
      keepLetters: 100,
    });
    await on(items, async (client) => {
      expect(await runSource(client, items).done).toMatchObject({ items: 1_000, malformed: 1_000 });
      const numbers = (await lettersOf(client, items)).map(({ number }) => number);
      expect(numbers).toEqual(Array.from({ length: 100 }, (_, n) => 1_000 - n));
    });
  });

  it("items for which the mapping gives nothing are skipped, and counted so", async () => {
    const items = defineSource<Row>("items", {
      from: ndjson({ path: written(text(rows(30))) }),
      to: ({ key, by }) =>
        key === "k0" ? [] : key === "k1" ? null : toldTo(counter, key, { type: "add", by }),
    });
    await on(items, async (client) => {
      expect(await runSource(client, items).done).toMatchObject({ items: 30, skipped: 10, told: 20 });
    });
  });
});

describe("a source that changes underneath", () => {
  it("is refused where it was cut or replaced, and told by name", async () => {
    const path = written(text(rows(50)));
    const items = source(ndjson({ path }));
    await on(items, async (client) => {
      await runSource(client, items).done;
      truncateSync(path, 100);
      expect(await failure(runSource(client, items).done)).toMatch(/^source_changed: .* was cut or replaced/);
      writeFileSync(path, `[${" ".repeat(5_000)}]\n`);
      expect(await failure(runSource(client, items).done)).toMatch(/^source_changed: .* was replaced/);
      expect(await sums(client)).toEqual(expected(rows(50)));
    });
  });

  it("that is followed is read as it grows, and its replacement is noticed", async () => {
    const path = written(text(rows(10)));
    const items = source(ndjson({ path, follow: true, poll_ms: 5 }));
    await on(items, async (client) => {
      const run = runSource(client, items);
      const reached = async (count: number): Promise<void> => {
        for await (const { delivered } of run.progress({ every_ms: 5 })) if (delivered === count) return;
      };
      await reached(10);
      const [half, rest] = [text(rows(10, 10)).slice(0, 155), text(rows(10, 10)).slice(155)];
      appendFileSync(path, half);
      appendFileSync(path, rest);
      await reached(20);
      expect(await sums(client)).toEqual(expected(rows(20)));
      renameSync(path, `${path}.1`);
      writeFileSync(path, text(rows(10, 20)));
      expect(await failure(run.done)).toMatch(/^source_changed: .* was replaced while it was followed/);
    });
  });

  it("that is missing fails; followed, it may come later", async () => {
    const path = join(temporaryPath(), "later.csv");
    const from = (follow: boolean) =>
      defineSource("later", {
        from: csv({ path, follow, poll_ms: 5 }),
        to: ({ key = "", by }) => toldTo(counter, key, { type: "add", by: Number(by) }),
      });
    const items = from(true);
    await on(items, async (client) => {
      expect(await failure(runSource(client, from(false)).done)).toMatch(/^source_failed: .*ENOENT/);
      const troubles: unknown[] = [];
      const come = (): void => writeFileSync(path, "key,by\nk1,4\n");
      const run = runSource(client, items, { onTrouble: (error) => troubles.push(error) && come() });
      for await (const { delivered } of run.progress({ every_ms: 5 })) if (delivered === 1) break;
      expect(troubles.length).toBeGreaterThan(0);
      await run.stop();
      expect(await run.done).toMatchObject({ items: 1, ended: false });
      expect((await sums(client))[1]).toBe(4);
    });
  });
});

describe("a run", () => {
  const slow = defineActor({
    type: "slow",
    machine: setup({
      types: { context: {} as { got: number }, events: {} as { type: "put"; what: string } },
    }).createMachine({
      context: { got: 0 },
      on: { put: { actions: assign({ got: ({ context }) => context.got + 1 }) } },
    }),
  });

  it("slows down where the store is full, and goes on where it was", async () => {
    const items = source(ndjson({ path: written(text(rows(100))) }), { batch: 10 });
    const store = memory();
    const node = await startNode({ actors: [counter, ...items.actors], store });
    const append = store.journal.append.bind(store.journal);
    let refusals = 0;
    store.journal.append = (lane, expectedLast, bytes) =>
      refusals < 1 && bytes.length > 1_000 && ++refusals > 0
        ? Promise.resolve({ kind: "full", cause: new Error("full") })
        : append(lane, expectedLast, bytes);
    const codes = new Set<string>();
    const run = runSource(node.client, items, {
      onTrouble: (error) => codes.add(isKeyturnError(error) ? error.code : String(error)),
    });
    expect(await run.done).toMatchObject({ items: 100, delivered: 100 });
    expect(refusals).toBe(1);
    expect([...codes]).toEqual(["store_full"]);
    expect(await sums(node.client)).toEqual(expected(rows(100)));
    await node.stop();
  });

  it("waits for room in the outbox, and nothing is lost", async () => {
    const big = Array.from({ length: 60 }, (_, n) => ({ n, what: "x".repeat(30_000) }));
    const items = defineSource<{ n: number; what: string }>("big", {
      from: ndjson({ path: written(text(big)) }),
      to: ({ n, what }) => toldTo(slow, `s${n % 3}`, { type: "put", what }),
      batch: 3,
    });
    const bounds = limits as { outboxBytes: number };
    const { outboxBytes } = limits;
    bounds.outboxBytes = 100_000;
    try {
      const node = await startNode({ actors: [slow, ...items.actors], store: memory() });
      const codes = new Set<string>();
      const onTrouble = (error: unknown) => codes.add(isKeyturnError(error) ? error.code : String(error));
      const status = await runSource(node.client, items, { onTrouble }).done;
      expect(status).toMatchObject({ items: 60, delivered: 60, malformed: 0 });
      expect([...codes]).toEqual(["outbox_full"]);
      const got = await Promise.all([0, 1, 2].map((n) => node.client.actor(slow, `s${n}`).get()));
      expect(got.map(({ context }) => context.got)).toEqual([20, 20, 20]);
      await node.stop();
    } finally {
      bounds.outboxBytes = outboxBytes;
    }
  });

  it("takes apart what is too much for one turn, also where only its encoding is", async () => {
    const wide = Array.from({ length: 400 }, (_, n) => ({ n, what: "\u{4e16}".repeat(250) }));
    const items = defineSource<{ n: number; what: string }>("wide", {
      from: ndjson({ path: written(text(wide)) }),
      to: ({ n, what }) => [
        toldTo(slow, `s${n % 3}`, { type: "put", what }),
        toldTo(slow, "all", { type: "put", what: what.repeat(2) }),
      ],
    });
    const node = await startNode({ actors: [slow, ...items.actors], store: memory() });
    const status = await runSource(node.client, items).done;
    expect(status).toMatchObject({ items: 400, told: 800, delivered: 400, malformed: 0 });
    expect((await node.client.actor(slow, "all").get()).context.got).toBe(400);
    await node.stop();
  });

  it("goes on when nobody looks at its progress any more", async () => {
    const items = source(ndjson({ path: written(text(rows(200))) }), { batch: 5 });
    await on(items, async (client) => {
      const run = runSource(client, items);
      for await (const { source: name } of run.progress({ every_ms: 1 })) {
        expect(name).toBe("items");
        break;
      }
      const seen: number[] = [];
      for await (const { items: count } of run.progress({ every_ms: 1 })) seen.push(count);
      expect(seen.at(-1)).toBe(200);
      expect(await run.done).toMatchObject({ items: 200, ended: true });
      for await (const letter of sourceDeadLetters(client, items)) expect(letter).toBe("none");
    });
  });

  it("is stopped by its signal, and leaves nothing behind", async () => {
    const items = source(ndjson({ path: written(text(rows(20))), follow: true, poll_ms: 5 }));
    await on(items, async (client) => {
      const stop = new AbortController();
      const run = runSource(client, items, { signal: stop.signal });
      for await (const { delivered, runners } of run.progress({ every_ms: 5 })) {
        if (delivered < 20) continue;
        expect(runners).toEqual([run.runner]);
        break;
      }
      stop.abort();
      expect(await run.done).toMatchObject({ items: 20, runners: [] });
      expect(await runSource(client, items, { signal: AbortSignal.abort() }).done).toMatchObject({
        items: 20,
      });
    });
  });

  it("says so where no node hosts its actors", async () => {
    const items = source(ndjson({ path: written(text(rows(5))) }));
    const node = await startNode({ actors: [counter], store: memory() });
    expect(await failure(runSource(node.client, items).done)).toMatch(/^unknown_type: .*source-items/);
    await node.stop();
  });
});

it("what makes no sense is refused where it is declared", () => {
  const from = ndjson<Row>({ path: "x" });
  const to = (): undefined => undefined;
  const refused: readonly (() => unknown)[] = [
    () => defineSource("a b", { from, to }),
    () => defineSource("", { from, to }),
    () => defineSource("a", { from } as never),
    () => defineSource("a", { from, to, toBatch: () => [] } as never),
    () => defineSource("a", { from: {} as never, to }),
    () => defineSource("a", { from, to, batch: 0 }),
    () => defineSource("a", { from, to, keepLetters: 0.5 }),
    () => defineSource("a", { from, to, onMalformed: "throw" as never }),
    () => ndjson({ path: [] }),
    () => ndjson({ path: ["a", "a"] }),
    () => ndjson({ path: "a", partitions: 0 }),
    () => csv({ path: "a", delimiter: ";;" }),
    () => csv({ path: "a", header: ["x", "x"] }),
    () => runSource({} as never, defineSource("a", { from, to }), { lease_ms: 1 }),
  ];
  for (const run of refused) {
    let code = "accepted";
    try {
      run();
    } catch (error) {
      if (isKeyturnError(error)) code = error.code;
    }
    expect(code, run.toString()).toBe("invalid_options");
  }
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
