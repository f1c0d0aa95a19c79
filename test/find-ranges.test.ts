/** Ranges, pages, timers and counts over whatever keys: on a node that has just begun, in any order of questions. */
import fc from "fast-check";
import { defineActor, type FindQuery } from "keyturn";
import { assign, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { compareKeys } from "../runtime/words/address.ts";
import { collected } from "./support/collected.ts";
import { FaultStore } from "./support/fault-store.ts";
import { type Rig, rig } from "./support/probe.ts";

const machine = setup({
  types: { context: {} as { sum: number }, events: {} as { type: "add" } | { type: "wait" } },
  delays: { long: 3_600_000 },
}).createMachine({
  context: { sum: 0 },
  initial: "open",
  states: { open: { on: { wait: "waiting" } }, waiting: { after: { long: "open" } } },
  on: { add: { actions: assign({ sum: ({ context }) => context.sum + 1 }) } },
});
const indexed = defineActor({ type: "order", machine, index: ["sum"] });
const plain = defineActor({ type: "order", machine });

interface Known {
  turn: number;
  sum: number;
  waits: boolean;
}

type Asked = FindQuery & { readonly kind: "find" | "page" | "timers" | "count" };

const unit = fc.constantFrom(
  "a",
  "b",
  "c",
  "\u0000",
  "\u007f",
  "ÿ",
  "\ud7ff",
  "\ue000",
  "\uffff",
  "𐀀",
  "🙂",
  "\u{10ffff}",
);
const anyKey = fc.string({ minLength: 1, maxLength: 3, unit });
const bound = fc.option(fc.oneof(anyKey, fc.constant("")), { nil: undefined });
const asked: fc.Arbitrary<Asked> = fc
  .record({
    kind: fc.constantFrom("find" as const, "page" as const, "timers" as const, "count" as const),
    from: bound,
    to: bound,
    prefix: fc.option(anyKey, { nil: undefined, freq: 3 }),
    after: fc.option(anyKey, { nil: undefined, freq: 2 }),
    limit: fc.option(fc.oneof(fc.nat(3), fc.constantFrom(7, 8, 9, 32, 40)), { nil: undefined }),
    state: fc.option(fc.constantFrom("open", "waiting"), { nil: undefined, freq: 2 }),
    sum: fc.option(fc.nat(3), { nil: undefined, freq: 2 }),
  })
  .map(({ kind, from, to, prefix, sum, limit, ...others }) => {
    const isTurned = from !== undefined && to !== undefined && compareKeys(from, to) > 0;
    const range =
      prefix === undefined ? { from: isTurned ? to : from, to: isTurned ? from : to } : { prefix };
    const where = sum === undefined ? {} : { where: { sum: { gte: sum } } };
    return { kind, ...range, ...where, ...others, limit: kind === "page" ? Math.max(1, limit ?? 3) : limit };
  });

function expected(all: ReadonlyMap<string, Known>, query: Asked, isIndexed: boolean): [string, Known][] {
  const { from = "", to, prefix = "", after, state, where } = query;
  const least = isIndexed ? (where?.sum as { gte: number } | undefined)?.gte : undefined;
  return [...all]
    .filter(
      ([key, { sum, waits }]) =>
        compareKeys(key, from) >= 0 &&
        (to === undefined || compareKeys(key, to) < 0) &&
        key.startsWith(prefix) &&
        (after === undefined || compareKeys(key, after) > 0) &&
        (state === undefined || waits === (state === "waiting")) &&
        (least === undefined || sum >= least),
    )
    .sort(([a], [b]) => compareKeys(a, b));
}

async function check(
  r: Rig,
  all: ReadonlyMap<string, Known>,
  query: Asked,
  isIndexed: boolean,
): Promise<void> {
  const { kind, where, ...rest } = query;
  const sent = { ...rest, ...(isIndexed && where ? { where } : {}) };
  const { client } = r.node;
  const type = indexed;
  const fits = expected(all, query, isIndexed);
  if (kind === "count") {
    const { limit: _, ...counted } = sent;
    expect((await client.count(type, counted)).total).toBe(fits.length);
  } else if (kind === "timers") {
    const keys: string[] = [];
    for await (const { key } of client.timers(type, sent)) keys.push(key);
    const waiting = fits.filter(([, { waits }]) => waits).map(([key]) => key);
    expect(keys).toEqual(waiting.slice(0, sent.limit ?? waiting.length));
  } else if (kind === "find") {
    const rows: [string, number][] = [];
    for await (const { key, turn } of client.find(type, sent)) rows.push([key, turn]);
    const turns = fits.map(([key, { turn }]) => [key, turn]);
    expect(rows).toEqual(turns.slice(0, sent.limit ?? turns.length));
  } else {
    const keys: string[] = [];
    for (let { after } = sent; ; ) {
      const { actors, next } = await client.findPage(type, { ...sent, after });
      if (next !== undefined) expect(actors.length).toBe(sent.limit);
      keys.push(...actors.map(({ key }) => key));
      if (next === undefined) break;
      after = next;
    }
    expect(keys).toEqual(fits.map(([key]) => key));
  }
}

describe("a node that has just begun", () => {
  for (const [name, definition] of [
    ["with an index", indexed],
    ["without an index", plain as unknown as typeof indexed],
  ] as const)
    it(`answers several questions that begin anywhere, of a type ${name}`, async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.uniqueArray(anyKey, { minLength: 1, maxLength: 120 }),
          fc.array(fc.tuple(fc.nat(119), fc.constantFrom("add", "wait", "delete", "checkpoint")), {
            maxLength: 40,
          }),
          fc.array(asked, { minLength: 1, maxLength: 8 }),
          fc.constantFrom(1, 2, 16),
          async (keys, steps, questions, shards) => {
            const all = new Map<string, Known>();
            const first = await rig({ actors: [definition], shards, settings: { activeActors: 30 } });
            const { world } = first;
            const add = async (key: string): Promise<void> => {
              await first.node.client.actor(definition, key).send({ type: "add" });
              const known = all.get(key) ?? { turn: 0, sum: 0, waits: false };
              all.set(key, { ...known, turn: known.turn + 1, sum: known.sum + 1 });
            };
            await world.run(Promise.all(keys.map(add)));
            for (const [at, what] of steps) {
              const key = keys[at % keys.length] as string;
              const ref = first.node.client.actor(definition, key);
              if (what === "checkpoint") await world.run(first.node.checkpoint());
              else if (what === "add") await world.run(add(key));
              else if (what === "delete") {
                await world.run(ref.delete());
                all.delete(key);
              } else {
                await world.run(ref.send({ type: "wait" }));
                const known = all.get(key) ?? { turn: 0, sum: 0, waits: false };
                all.set(key, { ...known, turn: known.turn + 1, waits: true });
              }
            }
            const isIndexed = definition === indexed;
            const askAll = (r: Rig): Promise<unknown> =>
              r.world.run(Promise.all(questions.map((question) => check(r, all, question, isIndexed))));
            await askAll(first);
            first.node.kill();
            const store = new FaultStore(first.store.inner);
            const heir = await rig({ world, store, actors: [definition], name: "n2" });
            await world.advance(20_000);
            await askAll(heir);
            expect(heir.told).toEqual([]);
            heir.node.kill();
          },
        ),
        { numRuns: 40 },
      );
    });
});

describe("who reads a range", () => {
  const keys = Array.from({ length: 60 }, (_, n) => `k${String(n).padStart(2, "0")}`);
  const filled = async (): Promise<Rig> => {
    const r = await rig({ actors: [indexed], shards: 1 });
    await r.world.run(
      Promise.all(keys.map((key) => r.node.client.actor(indexed, key).send({ type: "add" }))),
    );
    return r;
  };
  const questions = ({ store }: Rig): number =>
    store.frames.filter(({ frame }) => frame.kind === "request").length;

  it("goes on although the page that was asked for ahead has failed before it was wanted", async () => {
    const r = await filled();
    const rows = r.node.client.find(indexed, { timeout_ms: 1_000 });
    const read: string[] = [];
    const next = async (): Promise<void> => {
      read.push(((await r.world.run(rows.next())).value as { key: string }).key);
    };
    for (let n = 0; n < 4; n++) await next();
    r.store.loses = () => true;
    await next();
    await r.world.advance(5_000);
    r.store.loses = () => false;
    await r.world.advance(5_000);
    while (read.length < keys.length) await next();
    expect((await r.world.run(rows.next())).done).toBe(true);
    expect(read).toEqual(keys);
  });

  it("asks for no more once all that is wanted was read", async () => {
    for (const [limit, pages] of [
      [1, 1],
      [8, 1],
      [9, 2],
      [40, 2],
      [41, 3],
    ] as const) {
      const r = await filled();
      const before = questions(r);
      const rows = await r.world.run(collected(r.node.client.find(indexed, { limit })));
      expect(rows.map(({ key }) => key)).toEqual(keys.slice(0, limit));
      await r.world.advance(1_000);
      expect(questions(r) - before).toBe(pages);
    }
  });

  it("asks for nothing when it breaks off but what was asked for already, and fails with the first of many shards", async () => {
    const r = await filled();
    const before = questions(r);
    for await (const { key } of r.node.client.find(indexed)) if (key === keys[4]) break;
    await r.world.advance(60_000);
    expect(questions(r) - before).toBe(2);
    const many = await rig({ actors: [indexed], shards: 1_024 });
    await expect(many.world.run(many.node.client.count("nobody"))).rejects.toThrow(
      /No actor of type "nobody"/,
    );
    await many.world.advance(10_000);
    const shards = new Set(
      many.store.frames.map(({ subject }) => subject).filter((s) => s.startsWith("shard.")),
    );
    expect(shards.size).toBeLessThanOrEqual(300);
  });

  it("reads one row a page where that is asked for, and every timer once", async () => {
    const r = await filled();
    for (const key of keys.slice(10, 20))
      await r.world.run(r.node.client.actor(indexed, key).send({ type: "wait" }));
    const before = questions(r);
    const timers = await r.world.run(collected(r.node.client.timers(indexed, { limit: 3 })));
    expect(timers.map(({ key }) => key)).toEqual(keys.slice(10, 13));
    expect(questions(r) - before).toBeLessThanOrEqual(2);
    expect(await r.world.run(collected(r.node.client.timers(indexed, { limit: 0 })))).toEqual([]);
  });
});
