/** Forks: a sandbox that begins with another actor's past state; and histories that say that they are trimmed. */
import { assign, emit, setup } from "xstate";
import { describe, expect, it, onTestFinished } from "vitest";
import {
  defineActor,
  fromDurablePromise,
  memory,
  reply,
  type Store,
  startNode,
  tell,
  whatIf,
} from "../runtime/index.ts";

const machine = setup({
  types: {
    context: {} as { total: number; items: readonly string[] },
    events: {} as { type: "put"; sku: string; price: number } | { type: "pay" },
  },
}).createMachine({
  context: { total: 0, items: [] },
  initial: "open",
  states: {
    open: {
      after: { 3600000: "late" },
      on: {
        put: {
          actions: assign({
            total: ({ context, event }) => context.total + event.price,
            items: ({ context, event }) => [...context.items, event.sku],
          }),
        },
        pay: "paid",
      },
    },
    late: {},
    paid: { type: "final" },
  },
});
const order = defineActor({ type: "order", machine });

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

async function started(store: Store = memory()) {
  const node = await startNode({ actors: [order], store });
  onTestFinished(() => node.stop());
  return node;
}

describe("ref.fork", () => {
  it("begins a sandbox with the state after any turn, and leaves the original alone", async () => {
    const { client } = await started();
    const ref = client.actor(order, "42");
    for (let n = 1; n <= 150; n++) await ref.send({ type: "put", sku: `s${n}`, price: n });
    const turns = await all(ref.history({ order: "oldest" }));
    for (const turn of [1, 63, 64, 65, 100, 128, 129, 150]) {
      const sandbox = await ref.fork({ at: turn, to: `order/sandbox-${turn}` });
      expect(sandbox.address).toBe(`order/sandbox-${turn}`);
      const { value, context } = turns[turn - 1] ?? {};
      expect(await sandbox.get()).toMatchObject({ value, context, turn: 1, status: "active" });
    }
    const position = turns[76]?.position as number;
    const byPosition = await ref.fork({ at: { position }, to: client.actor(order, "p") });
    expect((await byPosition.get()).context).toEqual(turns[76]?.context);
    await byPosition.send({ type: "put", sku: "what-if", price: 1_000 });
    await byPosition.send({ type: "pay" });
    expect((await byPosition.get()).status).toBe("done");
    expect(await ref.get()).toMatchObject({ turn: 150, status: "active", context: turns[149]?.context });
    const [first] = await all(byPosition.history({ order: "oldest" }));
    expect(first?.event).toEqual({ type: "xstate.keyturn.forked", of: "order/42@77" });
  });

  it("drops delays, or keeps them when asked to", async () => {
    const node = await started();
    const ref = node.client.actor(order, "a");
    await ref.send({ type: "put", sku: "x", price: 1 });
    await ref.fork({ to: "order/still" });
    const kept = await ref.fork({ to: "order/running", timers: "keep" });
    const timers = async (key: string): Promise<number[]> =>
      (await node.client.actor(order, key).past(undefined)).timers.map(([, due]) => due);
    expect(await timers("still")).toEqual([]);
    expect(await timers("running")).toEqual(await timers("a"));
    await kept.send({ type: "pay" });
    expect(await timers("running")).toEqual([]);
  });

  it("refuses what cannot be", async () => {
    const { client } = await started();
    const ref = client.actor(order, "a");
    await ref.send({ type: "put", sku: "x", price: 1 });
    const refused = (options: Parameters<typeof ref.fork>[0], code: string) =>
      expect(ref.fork(options)).rejects.toMatchObject({ code });
    await refused({ to: "order/a" }, "invalid_options");
    await refused({ to: "other/b" }, "invalid_options");
    await refused({ to: "order/b", at: 2 }, "invalid_options");
    await refused({ to: "order/b", at: 0 }, "invalid_options");
    await refused({ to: "order/b", at: { position: 0.5 } }, "invalid_options");
    await refused({ to: "order/b", timers: "now" as "keep" }, "invalid_options");
    await client.actor(order, "b").send({ type: "pay" });
    await refused({ to: "order/b" }, "already_exists");
    await client.actor(order, "b").delete();
    expect((await (await ref.fork({ to: "order/b" })).get()).context.total).toBe(1);
  });
});

describe("whatIf", () => {
  it("tells what events would do, in imagined time, and does nothing", async () => {
    const { client } = await started();
    const ref = client.actor(order, "42");
    await ref.send({ type: "put", sku: "a", price: 10 });
    await ref.send({ type: "put", sku: "b", price: 20 });
    const from = await ref.past(1);
    const result = whatIf(order, {
      from,
      events: [
        { type: "put", sku: "c", price: 5 },
        { after: "30 min", event: { type: "put", sku: "d", price: 1 } },
        { type: "nothing" } as never,
        { after: "1 hour" },
        { type: "pay" },
      ],
    });
    expect(result.steps.map(({ event, fired, refused }) => [event.type, fired, refused?.code])).toEqual([
      ["put", false, undefined],
      ["put", false, undefined],
      ["nothing", false, "invalid_event"],
      ["xstate.after.3600000.(machine).open", true, undefined],
      ["pay", false, undefined],
    ]);
    expect(result.steps[0]?.changes).toEqual([
      { path: "context.total", before: 10, after: 15 },
      { path: "context.items.length", before: 1, after: 2 },
    ]);
    expect(result.steps[3]?.time).toBe(from.time + 3_600_000);
    expect(result.state).toMatchObject({ value: "late", context: { total: 16, items: ["a", "c", "d"] } });
    expect(result.timers).toEqual([]);
    expect(await ref.get()).toMatchObject({ turn: 2, value: "open", context: { total: 30 } });
  });

  it("lists what would be told, answered, emitted, run and begun", () => {
    const actor = defineActor({
      type: "teller",
      machine: setup({
        types: { events: {} as { type: "go" } },
        actors: { work: fromDurablePromise(async () => 1) },
        actions: {
          shout: () => {
            throw new Error("It ran.");
          },
        },
      }).createMachine({
        initial: "idle",
        states: {
          idle: {
            on: { go: { target: "busy", actions: ["shout", tell("other/a", { type: "x" }), reply(7)] } },
          },
          busy: { entry: emit({ type: "begun" }), invoke: { src: "work", id: "job" } },
        },
      }),
    });
    const { steps, state } = whatIf(actor, { events: [{ type: "go" }] });
    expect(steps).toHaveLength(1);
    expect(steps[0]).toMatchObject({
      told: [{ to: "other/a", event: { type: "x" }, asked: false }],
      emitted: [{ type: "begun" }],
      replied: true,
      reply: 7,
      actions: ["shout"],
      begun: ["job"],
    });
    expect(state.children).toMatchObject({ job: { src: "work", status: "active" } });
    expect(() => whatIf(actor, { events: [{ after: "soon" }] })).toThrow(/after/);
  });
});

/** A store from whose journal everything up to a position has been trimmed. */
function trimmed(store: Store, upTo: () => number): Store {
  const { journal } = store;
  return {
    ...store,
    description: store.description,
    durability: store.durability,
    deadLetters: store.deadLetters,
    transport: store.transport,
    close: () => store.close(),
    journal: {
      last: (lane) => journal.last(lane),
      append: (lane, expected, bytes) => journal.append(lane, expected, bytes),
      read: (lane, from, to) => journal.read(lane, Math.max(from, upTo() + 1), to),
      get: async (seq) => (seq <= upTo() ? undefined : journal.get(seq)),
      ends: async () =>
        (await journal.ends()).map(({ first, last }) => ({ first: Math.max(first, upTo() + 1), last })),
      scan: (from, to) => journal.scan(Math.max(from, upTo() + 1), to),
    },
  };
}

describe("a trimmed history", () => {
  it("ends with the oldest turn that is left, which says so, from either end", async () => {
    let upTo = 0;
    const store = trimmed(memory(), () => upTo);
    const first = await startNode({ actors: [order], store });
    let ref = first.client.actor(order, "42");
    for (let n = 1; n <= 200; n++) await ref.send({ type: "put", sku: "s", price: n });
    const whole = await all(ref.history());
    expect(whole.map(({ turn }) => turn)).toEqual(Array.from({ length: 200 }, (_, n) => 200 - n));
    expect(whole.every((turn) => turn.trimmed === undefined)).toBe(true);
    upTo = (whole.find(({ turn }) => turn === 70)?.position as number) - 1;
    // A node keeps some of what it has read.
    await first.stop({ closeStore: false });
    const second = await startNode({ actors: [order], store });
    ref = second.client.actor(order, "42");
    for (const order of ["newest", "oldest"] as const) {
      const left = await all(ref.history({ order }));
      if (order === "newest") left.reverse();
      expect(left.map(({ turn }) => turn)).toEqual(Array.from({ length: 200 - 128 }, (_, n) => n + 129));
      expect(left.map((turn) => turn.trimmed)).toEqual([true, ...Array(71).fill(undefined)]);
    }
    await second.stop({ closeStore: false });
    upTo = whole[0]?.position as number;
    ref = (await started(store)).client.actor(order, "42");
    for (const order of ["newest", "oldest"] as const)
      await expect(all(ref.history({ order }))).rejects.toMatchObject({ code: "history_trimmed" });
    await expect(ref.fork({ at: 100, to: "order/f" })).rejects.toMatchObject({ code: "history_trimmed" });
    expect((await ref.get()).turn).toBe(200);
  });
});
