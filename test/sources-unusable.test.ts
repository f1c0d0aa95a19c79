/** Items that cannot be used: counted, kept as dead letters, or a reason to stop. */
import { describe, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { defineSource, ndjson, runSource, sourceStatus, toldTo } from "../runtime/streams/index.ts";
import {
  type Row,
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
