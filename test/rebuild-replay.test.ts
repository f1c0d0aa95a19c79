/** A rebuild's replay: what a definition makes of the past is what it made of it. In virtual time. */
import { assign, cancel, fromCallback, raise, sendTo, setup } from "xstate";
import { describe, expect, it } from "vitest";
import {
  type AnyActorDefinition,
  ask,
  defineActor,
  fromDurablePromise,
  memory,
  type MemoryStore,
  reply,
  startNode,
  tell,
} from "../runtime/index.ts";
import { rebuildType } from "../runtime/rebuild/rebuild.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

const price = defineActor({
  type: "price",
  machine: setup({ types: { events: {} as { type: "quote"; of: number } } }).createMachine({
    on: { quote: { actions: reply(({ event }) => (event as { type: string; of: number }).of * 2) } },
  }),
});

let failures = 0;
const charge = fromDurablePromise<string, { n: number }>(async ({ input, attempt }) => {
  if (input.n % 3 === 0 && attempt === 1) {
    failures++;
    throw new Error("try again");
  }
  if (input.n % 5 === 0) throw new Error(`no ${input.n}`);
  return `charged ${input.n}`;
});

type Event =
  | { type: "add"; by: number }
  | { type: "arm" }
  | { type: "disarm" }
  | { type: "charge" }
  | { type: "quote" }
  | { type: "watch" }
  | { type: "tick" }
  | { type: "boom" }
  | { type: "spawn" }
  | { type: "poke" }
  | { type: "hand"; to: string };

const child = setup({
  types: { context: {} as { pokes: number }, events: {} as { type: "poke" } },
}).createMachine({
  context: { pokes: 0 },
  initial: "on",
  states: {
    on: {
      after: { 5000: "tired" },
      on: { poke: { actions: assign({ pokes: ({ context }) => context.pokes + 1 }) } },
    },
    tired: { type: "final" },
  },
});

/** Everything that a machine can be sent, and can wait for. */
function everything(more: { version?: number; factor?: number; patience?: number } = {}) {
  const { version = 1, factor = 1, patience = 10_000 } = more;
  return defineActor({
    type: "all",
    version,
    invoke: { retry: { attempts: 2, first_ms: 100 } },
    machine: setup({
      types: {
        context: {} as { n: number; log: readonly string[]; input: unknown },
        events: {} as Event,
        input: {} as { type: string; key: string } | { given: number },
      },
      actors: {
        charge,
        ask,
        child,
        clock: fromCallback(({ sendBack }) => sendBack({ type: "tick" })),
      },
      delays: { patience },
    }).createMachine({
      context: ({ input }) => ({ n: 0, log: [], input }),
      type: "parallel",
      on: {
        add: {
          actions: [
            assign({ n: ({ context, event }) => context.n + event.by * factor }),
            reply(({ context }) => context.n),
          ],
        },
        tick: { actions: assign({ log: ({ context }) => [...context.log, "tick"] }) },
        boom: {
          actions: () => {
            throw new Error("boom");
          },
        },
        hand: { actions: tell(({ event }) => event.to, { type: "add", by: 100 }) },
        poke: { actions: sendTo("child", { type: "poke" }) },
      },
      states: {
        alarm: {
          initial: "idle",
          states: {
            idle: { on: { arm: "armed" } },
            armed: {
              after: {
                patience: { target: "rung", actions: assign({ n: ({ context }) => context.n + 1_000 }) },
              },
              entry: raise({ type: "tick" }, { delay: 3_000, id: "soon" }),
              on: { disarm: { target: "idle", actions: cancel("soon") } },
            },
            rung: { on: { arm: "armed" } },
          },
        },
        paying: {
          initial: "no",
          states: {
            no: { on: { charge: "yes", quote: "asking", watch: "watching", spawn: "parent" } },
            yes: {
              invoke: {
                src: "charge",
                input: ({ context }) => ({ n: context.n }),
                onDone: {
                  target: "no",
                  actions: assign({ log: ({ context, event }) => [...context.log, event.output] }),
                },
                onError: {
                  target: "no",
                  actions: assign({ log: ({ context }) => [...context.log, "declined"] }),
                },
              },
            },
            asking: {
              invoke: {
                src: "ask",
                input: ({ context }) => ({ to: "price/p", event: { type: "quote", of: context.n } }),
                onDone: {
                  target: "no",
                  actions: assign({ n: ({ event }) => event.output as number }),
                },
                onError: "no",
              },
            },
            watching: { invoke: { src: "clock" }, after: { 50: "no" } },
            parent: {
              invoke: {
                src: "child",
                id: "child",
                onDone: {
                  target: "no",
                  actions: assign({ log: ({ context }) => [...context.log, "child is done"] }),
                },
              },
              on: { disarm: "no" },
            },
          },
        },
      },
    }),
  });
}

/** Random events to some keys, in virtual time. */
async function played(actor: AnyActorDefinition): Promise<{ world: VirtualWorld; store: MemoryStore }> {
  const world = new VirtualWorld();
  const store = memory();
  const node = await world.run(startNode({ actors: [actor, price], world, store, shards: 4, name: "n1" }));
  let seed = 7;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 0x1_0000_0000) * below);
  };
  const kinds = ["add", "add", "arm", "disarm", "charge", "quote", "watch", "boom", "spawn", "poke", "hand"];
  for (let n = 0; n < 600; n++) {
    const ref = node.client.actor(`all/k${random(12)}`);
    const type = kinds[random(kinds.length)] as string;
    const event = { type, by: random(10), to: `all/k${random(12)}` } as { type: string };
    if (random(60) === 0) {
      await world.run(ref.delete());
      if (random(2) === 0) await world.run(ref.create({ given: n } as never));
    } else await world.run(ref.send(event as never)).catch(() => undefined);
    if (random(3) === 0) await world.advance(random(4_000));
    if (random(200) === 0) await world.run(node.checkpoint());
  }
  await world.advance(1_000);
  node.kill();
  return { world, store };
}

describe("a replay through the same definition", () => {
  it("makes the same states, whatever the machine was sent and waited for", async () => {
    const { world, store } = await played(everything());
    expect(failures).toBeGreaterThan(0);
    for (const keysMax of [1_000, 3]) {
      const rebuilt = await rebuildType({
        store,
        world,
        actors: [everything(), price],
        type: "all",
        keysMax,
      });
      const { report } = rebuilt;
      expect(report.paths).toEqual([]);
      expect(report.rejected).toEqual([]);
      expect(report.unmatched).toEqual([]);
      expect(report).toMatchObject({ keys: report.equal, differing: 0, states: [], outdated: 0 });
      expect(report.keys).toBeGreaterThan(8);
      expect(report.passes > 1).toBe(keysMax === 3);
      expect(rebuilt.same).toBe(true);
    }
  });
});

/** An order whose payment is waited for. */
function orderOf({ version = 1, patience = 60_000, vat = 0, express = true } = {}) {
  return defineActor({
    type: "order",
    version,
    machine: setup({
      types: {
        context: {} as { total: number },
        events: {} as { type: "put"; price: number } | { type: "express" } | { type: "pay" },
      },
    }).createMachine({
      context: { total: 0 },
      initial: "open",
      states: {
        open: {
          after: { [patience]: "late" },
          on: {
            put: {
              actions: assign({ total: ({ context, event }) => context.total + event.price * (1 + vat) }),
            },
            ...(express
              ? { express: { actions: assign({ total: ({ context }) => context.total + 5 }) } }
              : {}),
            pay: "paid",
          },
        },
        late: { on: { pay: "paid" } },
        paid: {},
      },
    }),
  });
}

describe("a replay through another definition", () => {
  it("says which actors differ, where, and which events are rejected now", async () => {
    const world = new VirtualWorld();
    const store = memory();
    const order = orderOf();
    const node = await world.run(startNode({ actors: [order], world, store, shards: 4 }));
    const ref = (key: string) => node.client.actor(order, key);
    const send = (key: string, event: Parameters<ReturnType<typeof ref>["send"]>[0]) =>
      world.run(ref(key).send(event));
    // Paid in time for both; late for the new one only; late for both; still open, and overdue for the new one.
    for (const [key, wait_ms] of [
      ["soon", 10_000],
      ["between", 40_000],
      ["late", 90_000],
    ] as const) {
      await send(key, { type: "put", price: 100 });
      await world.advance(wait_ms);
      if (key === "between") await send(key, { type: "put", price: 1 });
      else await send(key, { type: "pay" });
    }
    await send("open", { type: "put", price: 7 });
    await send("open", { type: "express" });
    await send("express", { type: "express" });
    await world.advance(40_000);
    const before = await world.run(ref("between").get());
    expect(before.value).toBe("late");

    const { report, same } = await rebuildType({
      store,
      world,
      actors: orderOf({ version: 2, patience: 30_000, vat: 1, express: false }),
    });
    expect(same).toBe(false);
    expect(report).toMatchObject({ keys: 5, equal: 0, differing: 4, outdated: 4, passes: 1, records: 11 });
    expect(report.unbegun).toEqual({ name: "unbegun", count: 1, samples: ["express"] });
    expect(report.states).toEqual([]);
    expect(report.paths.find(({ path }) => path === "context.total")).toEqual({
      path: "context.total",
      keys: 4,
      samples: [
        { key: "soon", running: 100, rebuilt: 200 },
        // It was late by then, and put is not taken any more.
        { key: "between", running: 101, rebuilt: 200 },
        { key: "late", running: 100, rebuilt: 200 },
      ],
    });
    // The timer that is running has another due time.
    expect(report.paths.map(({ path, keys }) => [path, keys])).toEqual([
      ["context.total", 4],
      ["timers.xstate.after.60000.(machine).open", 1],
      ["timers.xstate.after.30000.(machine).open", 1],
    ]);
    expect(report.rejected).toEqual([
      {
        event: "express",
        code: "invalid_event",
        events: 2,
        samples: [
          expect.objectContaining({ key: "open", turn: 1, event: { type: "express" } }),
          expect.objectContaining({
            key: "express",
            turn: 0,
            reason: expect.stringMatching(/no transition/),
          }),
        ],
      },
    ]);
    // Those that fired, the new definition had fired itself.
    expect(report.unmatched).toEqual([
      { name: "xstate.after.60000.(machine).open", count: 2, samples: ["between", "late"] },
    ]);
    const sooner = await rebuildType({ store, world, actors: orderOf({ patience: 5_000 }) });
    expect(sooner.report.states).toEqual([]);
    const never = await rebuildType({ store, world, actors: orderOf({ patience: 1e9 }) });
    expect(never.report.states).toEqual([
      { running: "late", rebuilt: "open", keys: 1, samples: ["between"] },
    ]);
    node.kill();
  });
});

describe("what was refused, and what lies in the past", () => {
  it("is tried again if that is asked for, and delays that are overdue fire after the promotion", async () => {
    const world = new VirtualWorld();
    const store = memory();
    const counterOf = (version: number, doubles: boolean) =>
      defineActor({
        type: "counter",
        version,
        machine: setup({
          types: { context: {} as { n: number }, events: {} as { type: "add" } | { type: "double" } },
        }).createMachine({
          context: { n: 0 },
          initial: "on",
          states: {
            on: {
              ...(doubles ? { after: { 60000: "off" } } : {}),
              on: {
                add: { actions: assign({ n: ({ context }) => context.n + 1 }) },
                ...(doubles ? { double: { actions: assign({ n: ({ context }) => context.n * 2 }) } } : {}),
              },
            },
            off: {},
          },
        }),
      });
    const teller = defineActor({
      type: "teller",
      machine: setup({ types: { events: {} as { type: "go"; to: string; what: string } } }).createMachine({
        on: {
          go: {
            actions: tell(
              ({ event }) => event.to,
              ({ event }) => ({ type: event.what }),
            ),
          },
        },
      }),
    });
    const first = await world.run(
      startNode({ actors: [counterOf(1, false), teller], world, store, shards: 2 }),
    );
    const go = (to: string, what: string) =>
      world.run(first.client.actor(teller, "t").send({ type: "go", to: `counter/${to}`, what }));
    for (const what of ["add", "add", "double", "add"]) await go("known", what);
    await go("unknown", "double");
    await world.advance(10_000);
    const plain = await rebuildType({ store, world, actors: counterOf(2, true) });
    expect(plain.report).toMatchObject({ keys: 1, rejected: [], unbegun: { count: 0 } });
    expect(plain.report.paths.map(({ path }) => path)).toEqual(["timers.xstate.after.60000.(machine).on"]);
    const tried = await rebuildType({ store, world, actors: counterOf(2, true), retryRefused: true });
    expect(tried.report).toMatchObject({ keys: 2, differing: 2, records: 5 });
    expect(tried.report.states).toEqual([
      { running: "(none)", rebuilt: "on", keys: 1, samples: ["unknown"] },
    ]);
    expect(tried.report.paths[0]).toEqual({
      path: "context.n",
      keys: 1,
      samples: [{ key: "known", running: 3, rebuilt: 5 }],
    });

    await world.advance(120_000);
    await world.run(first.stop({ closeStore: false }));
    const node = await world.run(startNode({ actors: [counterOf(2, true), teller], world, store }));
    expect(await world.run(tried.promote(node.client))).toMatchObject({ promoted: 2, failed: 0 });
    await world.settle();
    for (const [key, n] of [
      ["known", 5],
      ["unknown", 0],
    ] as const) {
      await world.advance(1);
      const state = await world.run(node.client.actor(`counter/${key}`).get());
      expect(state).toMatchObject({ value: "off", context: { n } });
    }
    node.kill();
  });
});

describe("effects", () => {
  it("none of a replay or promotion leaves; work that only the new definition does begins after it", async () => {
    const world = new VirtualWorld();
    const store = memory();
    const ran: string[] = [];
    const jobOf = (version: number) =>
      defineActor({
        type: "job",
        version,
        expireAfter: "1 day",
        machine: setup({
          types: { context: {} as { done: unknown }, events: {} as { type: "go" } },
          actors: {
            work: fromDurablePromise<string, unknown>(async () => {
              ran.push("work");
              return "worked";
            }),
          },
          actions: { shout: () => void ran.push("shout") },
        }).createMachine({
          context: { done: null },
          initial: "idle",
          states: {
            idle: {
              on: {
                go: { target: "busy", actions: ["shout", tell("job/other", { type: "go" }), reply("gone")] },
              },
            },
            busy:
              version === 1
                ? {}
                : {
                    invoke: {
                      src: "work",
                      onDone: { target: "idle", actions: assign({ done: ({ event }) => event.output }) },
                    },
                  },
          },
        }),
      });
    const first = await world.run(startNode({ actors: [jobOf(1)], world, store, shards: 2 }));
    await world.run(first.client.actor("job/one").send({ type: "go" } as never));
    await world.settle();
    const lifeOf = async (client: typeof first.client) =>
      (await world.run(client.actor("job/one").past())).timers.filter(
        ([id]) => id === "xstate.keyturn.expire",
      );
    const life = await lifeOf(first.client);
    expect(life).toHaveLength(1);
    expect(ran).toEqual(["shout", "shout"]);
    await world.run(first.stop({ closeStore: false }));
    const rebuild = await rebuildType({ store, world, actors: jobOf(2) });
    expect(rebuild.report).toMatchObject({ keys: 2, differing: 2 });
    expect(rebuild.report.paths.map(({ path }) => path).sort()).toEqual([
      expect.stringMatching(/^children\.0\./),
      expect.stringMatching(/^timers\./),
    ]);
    expect(ran).toEqual(["shout", "shout"]);

    const node = await world.run(startNode({ actors: [jobOf(2)], world, store }));
    const turnsOf = async (key: string) => (await world.run(node.client.actor(`job/${key}`).get())).turn;
    expect(await world.run(rebuild.promote(node.client))).toMatchObject({ promoted: 2 });
    await world.settle();
    expect(ran).toEqual(["shout", "shout", "work", "work"]);
    // The promotion, and what came of the work; nothing was told again.
    expect([await turnsOf("one"), await turnsOf("other")]).toEqual([3, 4]);
    expect((await world.run(node.client.actor("job/one").get())).context).toEqual({ done: "worked" });
    expect(await lifeOf(node.client)).toEqual(life);
    const again = await rebuildType({ store, world, actors: jobOf(2) });
    expect(again.report).toMatchObject({ keys: 2, equal: 2, unmatched: [], rejected: [] });
    node.kill();
  });

  it("a question that only the new definition asks is asked once, and answered", async () => {
    const world = new VirtualWorld();
    const store = memory();
    const buyerOf = (version: number) =>
      defineActor({
        type: "buyer",
        version,
        machine: setup({
          types: { context: {} as { price: unknown }, events: {} as { type: "go" } },
          actors: { ask },
        }).createMachine({
          context: { price: null },
          initial: "idle",
          states: {
            idle: { on: { go: "asking" } },
            asking:
              version === 1
                ? {}
                : {
                    invoke: {
                      src: "ask",
                      input: { to: "price/p", event: { type: "quote", of: 4 } },
                      onDone: { target: "idle", actions: assign({ price: ({ event }) => event.output }) },
                    },
                  },
          },
        }),
      });
    const first = await world.run(startNode({ actors: [buyerOf(1), price], world, store, shards: 2 }));
    await world.run(first.client.actor("buyer/one").send({ type: "go" } as never));
    await world.run(first.stop({ closeStore: false }));
    const node = await world.run(startNode({ actors: [buyerOf(2), price], world, store }));
    const rebuild = await rebuildType({ store, world, actors: buyerOf(2) });
    expect(await world.run(rebuild.promote(node.client))).toMatchObject({ promoted: 1 });
    await world.settle();
    expect(await world.run(node.client.actor("buyer/one").get())).toMatchObject({
      value: "idle",
      context: { price: 8 },
    });
    expect((await world.run(node.client.actor("price/p").get())).turn).toBe(1);
    expect((await rebuildType({ store, world, actors: buyerOf(2) })).report).toMatchObject({
      equal: 1,
      unmatched: [],
    });
    node.kill();
  });
});
