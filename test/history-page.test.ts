/** An actor's past, a page at a time, with cursors that are short texts. */
import { memory, startNode } from "keyturn";
import { afterAll, beforeAll, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import type { ActorRef, KeyturnNode } from "../runtime/index.ts";

/** More blocks between keyframes than one cursor lists. */
const TURNS = 9_000;
const store = memory();
let node: KeyturnNode;
let ref: ActorRef;

beforeAll(async () => {
  node = await startNode({ actors: [counter], store });
  ref = node.client.actor("counter/long");
  for (let n = 0; n < TURNS; n += 1_000)
    await Promise.all(Array.from({ length: 1_000 }, () => ref.send({ type: "add", by: 1 })));
});

afterAll(() => node.stop());

it.each(["oldest", "newest"] as const)("gives every turn once, %s first", async (order) => {
  let cursor: string | undefined;
  let expected = order === "oldest" ? 1 : TURNS;
  do {
    const { turns, next } = await ref.historyPage({ order, limit: 256, cursor });
    expect(turns.length).toBeGreaterThan(0);
    for (const { turn, context } of turns) {
      expect([turn, context]).toEqual([expected, { count: expected }]);
      expected += order === "oldest" ? 1 : -1;
    }
    if (next !== undefined) expect(next).toMatch(/^[a-z0-9.-]{1,4000}$/);
    cursor = next;
  } while (cursor !== undefined);
  expect(expected).toBe(order === "oldest" ? TURNS + 1 : 0);
});

it("begins at any turn of a long past", async () => {
  for (const upTo of [1, 2, 63, 64, 65, 128, 4_711, TURNS - 1, TURNS, TURNS + 5]) {
    const { turns, next } = await ref.historyPage({ upTo, limit: 100 });
    const newest = Math.min(upTo, TURNS);
    const expected = Array.from({ length: Math.min(100, newest) }, (_, n) => newest - n);
    expect(turns.map(({ turn }) => turn)).toEqual(expected);
    expect(turns.map(({ context }) => context)).toEqual(expected.map((count) => ({ count })));
    if (newest > 100) {
      const further = await ref.historyPage({ cursor: next, limit: 3 });
      expect(further.turns.map(({ turn }) => turn)).toEqual([newest - 100, newest - 101, newest - 102]);
    } else expect(next).toBeUndefined();
  }
  const none = node.client.actor("counter/none");
  expect(await none.historyPage({ upTo: 3 })).toEqual({ turns: [], next: undefined });
});

it("refuses what is no page, and what is no cursor", async () => {
  for (const limit of [0, 257, 1.5, Number.NaN])
    await expect(ref.historyPage({ limit })).rejects.toMatchObject({ code: "invalid_options" });
  for (const upTo of [0, 1.5, -1, "3" as unknown as number])
    await expect(ref.historyPage({ upTo })).rejects.toMatchObject({ code: "invalid_options" });
  await expect(ref.historyPage({ upTo: 3, order: "oldest" })).rejects.toMatchObject({
    code: "invalid_options",
  });
  await expect(ref.historyPage({ order: "any" as "newest" })).rejects.toMatchObject({
    code: "invalid_options",
  });
  for (const cursor of [
    "",
    "x.0.",
    "o.0.",
    "o.0..1",
    "o.0..0-0",
    "n.-1..1-0",
    "n.0..1-0-0",
    "o.0.zzzzzzzzzzzzzzz",
  ])
    await expect(ref.historyPage({ cursor })).rejects.toMatchObject({ code: "invalid_options" });
});

it("says so where turns are trimmed between two pages", async () => {
  for (let n = 0; n < 20; n++)
    await Promise.all(Array.from({ length: 64 }, () => ref.send({ type: "add", by: 1 })));
  // Up to the last block that the cursor lists; those behind it are found anew.
  let last = 0;
  let cursor: string | undefined;
  do {
    const { turns, next } = await ref.historyPage({ order: "oldest", limit: 256, cursor });
    last = turns.at(-1)?.turn as number;
    cursor = next;
  } while (cursor !== undefined && cursor.split(".").length > 3);
  expect(cursor).toBeDefined();
  const [until] = (await ref.historyPage({ upTo: TURNS + 600, limit: 1 })).turns;
  // Another node has not read them.
  await node.stop({ closeStore: false });
  for (const lane of (await store.retention?.lanes()) ?? [])
    await store.retention?.trim(lane, (until?.position as number) - 1);
  node = await startNode({ actors: [counter], store });
  ref = node.client.actor("counter/long");
  const [first, second] = (await ref.historyPage({ cursor, limit: 2 })).turns;
  expect(first?.turn).toBeGreaterThan(last + 1);
  expect(first?.trimmed).toBe(true);
  expect(second).toMatchObject({ turn: (first?.turn as number) + 1 });
  expect(second?.trimmed).toBeUndefined();
});
