/** Runs of sources: what they wait for and stop at, files that change underneath, and what is refused where it is declared. */
import { appendFileSync, renameSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { assign, setup } from "xstate";
import { counter } from "../actors/index.ts";
import { defineActor, isKeyturnError, memory, startNode } from "../runtime/index.ts";
import { csv, defineSource, ndjson, runSource, sourceDeadLetters, toldTo } from "../runtime/streams/index.ts";
import { limits } from "../runtime/words/limits.ts";
import { temporaryPath } from "./support/temporary.ts";
import { type Row, rows, text, written, source, sums, expected, on, failure } from "./support/sources.ts";

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
