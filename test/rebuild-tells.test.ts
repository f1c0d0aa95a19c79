/** What a new definition tells others otherwise: found by a rebuild, told to nobody. In virtual time. */
import { assign, emit, enqueueActions, raise, setup } from "xstate";
import { describe, expect, it } from "vitest";
import {
  type AnyActorDefinition,
  ask,
  defineActor,
  memory,
  reply,
  startNode,
  tell,
} from "../runtime/index.ts";
import { defineFunction, defineFunctions, defineState } from "../runtime/functions/index.ts";
import { rebuildType } from "../runtime/rebuild/rebuild.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

type Event =
  | { type: "pay"; cents: number; to: string }
  | { type: "close" }
  | { type: "late" }
  | { type: "flood"; n: number };

/** A till that tells what it was paid. */
function tillOf({
  version = 1,
  fee = 0,
  twice = false,
  silent = false,
  delay = 0,
  emits = 1,
}: {
  version?: number;
  fee?: number;
  twice?: boolean;
  silent?: boolean;
  delay?: number;
  emits?: number;
} = {}) {
  return defineActor({
    type: "till",
    version,
    machine: setup({
      types: { context: {} as { cents: number; due: string }, events: {} as Event },
    }).createMachine({
      context: { cents: 0, due: "" },
      on: {
        pay: {
          actions: [
            assign({
              cents: ({ context, event }) => context.cents + event.cents,
              due: ({ event }) => event.to,
            }),
            reply(({ context }) => context.cents + fee),
            enqueueActions(({ enqueue, event }) => {
              if (silent) return;
              const paid = { type: "paid", cents: event.cents - fee };
              if (delay === 0) enqueue(tell(event.to, paid));
              else enqueue(raise({ type: "late" }, { delay }));
              if (twice) enqueue(tell("audit/all", { type: "noted", cents: event.cents }));
            }),
          ],
        },
        late: {
          actions: tell(
            ({ context }) => context.due,
            ({ context }) => ({ type: "paid", cents: context.cents }),
          ),
        },
        close: { actions: emit({ type: "closed", n: emits } as never) },
        flood: {
          actions: enqueueActions(({ enqueue, event }) => {
            for (let n = 0; n < 200 && !silent; n++)
              enqueue(emit({ type: "flooded", n: event.n * 200 + n } as never));
          }),
        },
      },
    }),
  });
}

const account = defineActor({
  type: "account",
  machine: setup({
    types: { context: {} as { cents: number }, events: {} as { type: "paid"; cents: number } },
  }).createMachine({
    context: { cents: 0 },
    on: { paid: { actions: assign({ cents: ({ context, event }) => context.cents + event.cents }) } },
  }),
});

/** Asks another for something, and keeps what it got. */
function buyerOf(to: string, question: { readonly type: string }) {
  return defineActor({
    type: "buyer",
    machine: setup({
      types: { context: {} as { got: unknown }, events: {} as { type: "buy" } },
      actors: { ask },
    }).createMachine({
      context: { got: null },
      initial: "idle",
      states: {
        idle: { on: { buy: "buying" } },
        buying: {
          invoke: {
            src: "ask",
            input: { to, event: question },
            onDone: { target: "idle", actions: assign({ got: ({ event }) => event.output }) },
          },
        },
      },
    }),
  });
}

const payment: Event = { type: "pay", cents: 5, to: "account/eve" };
const buyer = buyerOf("till/c", payment);

async function past(till: AnyActorDefinition = tillOf()) {
  const world = new VirtualWorld();
  const store = memory();
  const actors = [till, account, buyer];
  const node = await world.run(startNode({ actors, world, store, shards: 4 }));
  const pay = (key: string, cents: number, to: string) =>
    world.run(node.client.actor(`till/${key}`).send({ type: "pay", cents, to } as never));
  await pay("a", 100, "account/ada");
  await pay("a", 200, "account/bob");
  await pay("b", 300, "account/ada");
  await world.run(node.client.actor("till/b").send({ type: "close" } as never));
  await world.run(node.client.actor(buyer, "x").send({ type: "buy" }));
  await world.advance(5_000);
  return { world, store, node };
}

describe("what a new definition tells", () => {
  it("is the same where it tells the same", async () => {
    const { world, store, node } = await past();
    for (const type of ["till", "buyer"]) {
      const rebuild = await rebuildType({ store, world, actors: [tillOf(), account, buyer], type });
      expect(rebuild.report.tells).toEqual({
        // Four were paid, one answer, one event was emitted.
        ...(type === "till" ? { running: 6, rebuilt: 6 } : { running: 1, rebuilt: 1 }),
        rows: [],
        addresses: [],
        exact: true,
      });
      expect(rebuild.same).toBe(true);
    }
    node.kill();
  });

  it("otherwise is shown by event and by address, also where the states are the same", async () => {
    const { world, store, node } = await past();
    const rebuild = await rebuildType({ store, world, actors: tillOf({ version: 2, fee: 1, emits: 2 }) });
    const { tells } = rebuild.report;
    expect(rebuild.report).toMatchObject({ differing: 0, equal: 3 });
    expect(rebuild.same).toBe(false);
    expect(tells).toMatchObject({ running: 6, rebuilt: 6, exact: true });
    const row = { otherwise: 1, notAnyMore: 0, notYet: 0 };
    expect(tells.rows).toEqual([
      {
        ...row,
        way: "told",
        to: "account",
        event: "paid",
        otherwise: 4,
        samples: [
          {
            key: "a",
            turn: 1,
            time: expect.any(Number),
            to: "account/ada",
            running: { type: "paid", cents: 100 },
            rebuilt: { type: "paid", cents: 99 },
          },
          expect.objectContaining({ key: "a", turn: 2 }),
          expect.objectContaining({ key: "b", turn: 1 }),
        ],
      },
      expect.objectContaining({ ...row, way: "emitted", to: "", event: "closed" }),
      expect.objectContaining({
        ...row,
        way: "answered",
        to: "buyer",
        samples: [
          expect.objectContaining({
            to: "buyer/x",
            running: { type: "xstate.promise.resolve", data: 5 },
            rebuilt: { type: "xstate.promise.resolve", data: 6 },
          }),
        ],
      }),
    ]);
    expect(tells.addresses).toEqual([
      { ...row, to: "account/ada", otherwise: 2 },
      { ...row, to: "account/bob" },
      { ...row, to: "account/eve" },
      { ...row, to: "buyer/x" },
    ]);
    // Nobody is told when it is promoted.
    await world.run(node.stop({ closeStore: false }));
    const next = await world.run(
      startNode({
        actors: [tillOf({ version: 2, fee: 1, emits: 2 }) as AnyActorDefinition, account, buyer],
        world,
        store,
      }),
    );
    expect(await world.run(rebuild.promote(next.client))).toMatchObject({ promoted: 3, failed: 0 });
    await world.settle();
    expect((await world.run(next.client.actor(account, "ada").get())).context).toEqual({ cents: 400 });
    next.kill();
  });

  it("not any more, and not yet, are told apart", async () => {
    const { world, store, node } = await past();
    const silent = await rebuildType({ store, world, actors: tillOf({ version: 2, silent: true }) });
    expect(silent.report.tells.rows).toEqual([
      expect.objectContaining({ event: "paid", otherwise: 0, notAnyMore: 4, notYet: 0 }),
    ]);
    const more = await rebuildType({ store, world, actors: tillOf({ version: 2, twice: true }), keysMax: 1 });
    expect(more.report.passes).toBeGreaterThan(1);
    expect(more.report.tells.rows).toEqual([
      expect.objectContaining({ to: "audit", event: "noted", otherwise: 0, notAnyMore: 0, notYet: 4 }),
    ]);
    expect(more.report.tells.addresses).toEqual([
      { to: "audit/all", otherwise: 0, notAnyMore: 0, notYet: 4 },
    ]);
    node.kill();
  });

  it("in another turn, but told all the same, is no difference", async () => {
    const { world, store, node } = await past();
    // Of the only payment of b: 300 in either case, two seconds later.
    await world.run(node.client.actor("till/b").send({ type: "close" } as never));
    const { report } = await rebuildType({ store, world, actors: tillOf({ version: 2, delay: 2_000 }) });
    expect(report.tells.addresses).toEqual(
      expect.not.arrayContaining([expect.objectContaining({ to: "account/ada", notAnyMore: 2 })]),
    );
    expect(report.tells.addresses.find(({ to }) => to === "account/ada")).toMatchObject({ notAnyMore: 1 });
    node.kill();
  });

  it("before its actors were deleted counts too", async () => {
    const { world, store, node } = await past();
    for (const key of ["a", "b", "c"]) await world.run(node.client.actor(`till/${key}`).delete());
    const { report } = await rebuildType({ store, world, actors: tillOf({ version: 2, silent: true }) });
    expect(report).toMatchObject({ keys: 0 });
    expect(report.tells.rows).toEqual([expect.objectContaining({ event: "paid", notAnyMore: 4 })]);
    node.kill();
  });

  it("is kept track of in bounded memory", async () => {
    const { world, store, node } = await past();
    const ref = node.client.actor("till/m");
    const turns = 350;
    for (let n = 0; n < turns; n++) await world.run(ref.send({ type: "flood", n } as never));
    const { report } = await rebuildType({ store, world, actors: tillOf({ version: 2, silent: true }) });
    expect(report.tells.exact).toBe(false);
    expect(report.tells.rows).toEqual([
      expect.objectContaining({ event: "flooded", notAnyMore: 200 * turns }),
      expect.objectContaining({ event: "paid", notAnyMore: 4 }),
    ]);
    node.kill();
  });
});

describe("a function that runs outside and is asked by an actor", () => {
  it("is rebuilt with who waits for it, and answers after the promotion", async () => {
    const world = new VirtualWorld();
    const store = memory();
    const ends: ((value: number) => void)[] = [];
    const shop = (version: number) =>
      defineFunctions(
        "shop",
        [
          defineFunction(
            "price",
            { sold: defineState("sold", 0) },
            async (event: { by: number }, { sold }) => ({
              result: await new Promise<number>((end) => void ends.push(end)),
              state: { sold: sold + event.by * version },
            }),
          ),
        ],
        { version },
      );
    const price = { type: "price", by: 1 };
    const asking = buyerOf("shop/s", price);
    const first = await world.run(startNode({ actors: [shop(1), asking], world, store, shards: 4 }));
    const buy = (key: string, client: typeof first.client) =>
      world.run(client.actor(asking, key).send({ type: "buy" }));
    await buy("a", first.client);
    await world.settle();
    ends.shift()?.(7);
    await world.settle();
    await buy("b", first.client);
    await buy("c", first.client);
    await world.settle();
    await world.run(first.stop({ closeStore: false }));
    const rebuild = await rebuildType({ store, world, actors: [shop(2)] });
    expect(rebuild.report.tells).toMatchObject({ running: 1, rebuilt: 1, rows: [] });
    expect(rebuild.report.paths).toEqual([]);
    const node = await world.run(startNode({ actors: [shop(2), asking], world, store, name: "n2" }));
    expect(await world.run(rebuild.promote(node.client))).toMatchObject({ promoted: 1, failed: 0 });
    for (const end of [8, 9]) {
      await world.settle();
      ends.splice(0).at(-1)?.(end);
    }
    await world.settle();
    const got = async (key: string) => (await world.run(node.client.actor(asking, key).get())).context.got;
    expect([await got("a"), await got("b"), await got("c")]).toEqual([7, 8, 9]);
    expect((await world.run(node.client.actor("shop/s").get())).context).toMatchObject({ sold: 5 });
    node.kill();
  });
});
