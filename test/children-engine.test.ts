/** Children on the engine: recovery from the tail and from snapshots, passivation, history, repeated answers. */
import { assign, emit, enqueueActions, sendTo, setup, stopChild } from "xstate";
import { describe, expect, it } from "vitest";
import { type ActorState, defineActor, memory, startNode } from "../runtime/index.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

const counter = setup({
  types: { context: {} as { n: number }, events: {} as { type: "inc" } },
}).createMachine({
  context: { n: 0 },
  initial: "low",
  states: {
    low: {
      tags: ["few"],
      always: { guard: ({ context }) => context.n > 2, target: "high" },
      after: { 600000: "slept" },
    },
    high: {},
    slept: {},
  },
  on: { inc: { actions: assign({ n: ({ context }) => context.n + 1 }) } },
});

const parent = defineActor({
  type: "parent",
  machine: setup({
    types: {
      context: {} as { refs: readonly unknown[]; made: number },
      events: {} as
        | { type: "spawn" }
        | { type: "inc"; at: number }
        | { type: "drop"; at: number }
        | { type: "idle" },
    },
    actors: { counter },
  }).createMachine({
    context: { refs: [], made: 0 },
    tags: ["root"],
    on: {
      idle: {},
      spawn: {
        actions: assign({
          refs: ({ context, spawn }) => [...context.refs, spawn("counter", { id: `c${context.made}` })],
          made: ({ context }) => context.made + 1,
        }),
      },
      inc: {
        actions: enqueueActions(({ context, event, enqueue }) => {
          const ref = context.refs[event.at % Math.max(1, context.refs.length)];
          if (ref !== undefined) enqueue(sendTo(ref as never, { type: "inc" } as never));
        }),
      },
      drop: {
        actions: enqueueActions(({ context, event, enqueue }) => {
          const ref = context.refs[event.at % Math.max(1, context.refs.length)];
          if (ref === undefined) return;
          enqueue(stopChild(ref as never));
          enqueue.assign({ refs: context.refs.filter((other) => other !== ref) });
        }),
      },
    },
  }),
});

const start = (world: VirtualWorld, store: ReturnType<typeof memory>, name: string, activeActors = 100) =>
  world.run(startNode({ actors: [parent], store, world, name, settings: { activeActors } }));

/** Everything but positions, which depend on batches. */
function seen({ position: _, ...state }: ActorState): unknown {
  return state;
}

describe("children on the engine", () => {
  it("are the same after 200 turns with kills, stops, checkpoints and passivations as without", async () => {
    const events = Array.from({ length: 200 }, (_, n) => {
      const at = (n * 7) % 5;
      if (n % 11 === 3) return { type: "drop", at } as const;
      return n % 5 === 0 ? ({ type: "spawn" } as const) : ({ type: "inc", at } as const);
    });
    const calm = new VirtualWorld();
    const undisturbed = await start(calm, memory(), "n");
    const expected: unknown[] = [];
    for (const event of events)
      expected.push(seen(await calm.run(undisturbed.client.actor(parent, "a").ask(event))));

    const world = new VirtualWorld();
    const store = memory();
    let node = await start(world, store, "n0", 1);
    for (const [n, event] of events.entries()) {
      if (n % 17 === 5) {
        node.kill();
        node = await start(world, store, `n${n}`, 1);
      } else if (n % 23 === 7) {
        await world.run(node.stop({ closeStore: false }));
        node = await start(world, store, `n${n}`, 1);
      } else if (n % 13 === 1) await world.run(node.checkpoint());
      else if (n % 3 === 0) await world.run(node.client.actor(parent, `other${n}`).send({ type: "spawn" }));
      const ref = node.client.actor(parent, "a");
      expect(seen(await world.run(ref.ask(event)))).toEqual(expected[n]);
      expect(seen(await world.run(ref.get()))).toEqual(expected[n]);
    }
    const turns = [];
    for await (const turn of node.client.actor(parent, "a").history({ order: "oldest" })) turns.push(turn);
    expect(turns.map(({ children }) => children)).toEqual(
      expected.map((state) => (state as ActorState).children),
    );
  });

  it("a repeated answer has the tags and children that the first had, also after a crash", async () => {
    const world = new VirtualWorld();
    const store = memory();
    const node = await start(world, store, "n1");
    const first = await world.run(node.client.actor(parent, "a").ask({ type: "spawn" }, { requestId: "x" }));
    expect(first).toMatchObject({ tags: ["root"], children: { c0: { src: "counter", value: "low" } } });
    await world.run(node.client.actor(parent, "a").ask({ type: "inc", at: 0 }));
    node.kill();
    const heir = await start(world, store, "n2");
    const again = await world.run(heir.client.actor(parent, "a").ask({ type: "spawn" }, { requestId: "x" }));
    expect(again).toEqual(first);
  });

  it("timers of a child fire after a crash, once, in a cold actor", async () => {
    const world = new VirtualWorld();
    const store = memory();
    const node = await start(world, store, "n1");
    await world.run(node.client.actor(parent, "a").ask({ type: "spawn" }));
    node.kill();
    const heir = await start(world, store, "n2");
    await world.advance(700_000);
    const { children, turn } = await world.run(heir.client.actor(parent, "a").get());
    expect(children).toMatchObject({ c0: { value: "slept" } });
    expect(turn).toBe(2);
  });

  it("what they emit is in the history by their path, and not what the actor emits", async () => {
    const inner = setup({}).createMachine({
      on: { go: { actions: emit(({ self }) => ({ type: "inner", of: self.id })) } },
    });
    const outer = setup({ actors: { inner } }).createMachine({
      invoke: { src: "inner", id: "inner" },
      on: { go: { actions: [emit({ type: "outer" }), sendTo("inner", { type: "go" })] } },
    });
    const actor = defineActor({
      type: "emitting",
      machine: setup({
        types: { events: {} as { type: "go" } | { type: "rest" } },
        actors: { outer },
      }).createMachine({
        invoke: { src: "outer", id: "outer" },
        on: { go: { actions: [emit({ type: "own" }), sendTo("outer", { type: "go" })] }, rest: {} },
      }),
    });
    const world = new VirtualWorld();
    const store = memory();
    const begin = (name: string) => world.run(startNode({ actors: [actor], store, world, name }));
    const node = await begin("n1");
    await world.run(node.client.actor(actor, "a").send({ type: "go" }));
    await world.run(node.client.actor(actor, "a").send({ type: "rest" }));
    node.kill();
    const heir = await begin("n2");
    await world.run(heir.client.actor(actor, "a").get());
    const turns = [];
    for await (const turn of heir.client.actor(actor, "a").history({ order: "oldest" })) turns.push(turn);
    expect(turns.map(({ emitted }) => emitted)).toEqual([[{ type: "own" }], []]);
    expect(turns[0]?.childEmitted).toEqual({
      outer: [{ type: "outer" }],
      "outer/inner": [{ type: "inner", of: "inner" }],
    });
    expect(turns[1]).not.toHaveProperty("childEmitted");
    await world.run(heir.stop());
  });
});
