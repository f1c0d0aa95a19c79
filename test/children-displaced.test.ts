/** Children whose id another takes, or that are spawned without an id: both go on, as in XState, also after a restart. */
import {
  assign,
  fromCallback,
  fromPromise,
  raise,
  sendParent,
  sendTo,
  setup,
  spawnChild,
  stopChild,
} from "xstate";
import { describe, expect, it } from "vitest";
import { MachineHost, type MachineState, persist } from "../runtime/engine/machine.ts";
import { shownState } from "../runtime/engine/outgoing.ts";
import { defineActor, memory, startNode } from "../runtime/index.ts";
import { decode, encode } from "../runtime/words/codec.ts";
import { expectSame, NOW } from "./support/steps-beside-plain.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

/** Tells its parent what it counts, so that one that is not among the children is heard. */
const counter = setup({
  types: { context: {} as { name: string; n: number }, input: {} as { name: string } },
}).createMachine({
  context: ({ input }) => ({ name: input.name, n: 0 }),
  initial: "on",
  states: {
    on: {
      on: {
        inc: {
          actions: [
            assign({ n: ({ context }) => context.n + 1 }),
            sendParent(({ context }) => ({ type: "counted", name: context.name, n: context.n })),
          ],
        },
        later: { actions: raise({ type: "inc" }, { delay: 1_000 }) },
        end: "ended",
      },
    },
    ended: { type: "final" },
  },
});

type Heard = { type: "counted"; name: string; n: number };

const parent = setup({
  types: { context: {} as { refs: readonly unknown[]; made: number; heard: readonly string[] } },
  actors: { counter },
}).createMachine({
  context: { refs: [], made: 0, heard: [] },
  on: {
    // All of them have one id.
    spawn: {
      actions: assign(({ context, spawn }) => ({
        refs: [...context.refs, spawn("counter", { id: "c", input: { name: `c${context.made}` } })],
        made: context.made + 1,
      })),
    },
    nameless: {
      actions: [
        spawnChild("counter", { input: { name: "n0" }, systemId: "n0" }),
        spawnChild("counter", { input: { name: "n1" }, systemId: "n1" }),
      ],
    },
    "inc.first": { actions: sendTo(({ context }) => context.refs[0] as never, { type: "inc" } as never) },
    "inc.second": { actions: sendTo(({ context }) => context.refs[1] as never, { type: "inc" } as never) },
    "inc.c": { actions: sendTo("c", { type: "inc" }) },
    "inc.n0": { actions: sendTo(({ system }) => system.get("n0"), { type: "inc" }) },
    "inc.n1": { actions: sendTo(({ system }) => system.get("n1"), { type: "inc" }) },
    "end.first": { actions: sendTo(({ context }) => context.refs[0] as never, { type: "end" } as never) },
    "later.first": { actions: sendTo(({ context }) => context.refs[0] as never, { type: "later" } as never) },
    "stop.first": { actions: stopChild(({ context }) => context.refs[0] as never) },
    "stop.c": { actions: stopChild("c") },
    forget: { actions: assign({ refs: ({ context }) => context.refs.slice(1) }) },
    counted: {
      actions: assign({
        heard: ({ context, event }) => {
          const { name, n } = event as unknown as Heard;
          return [...context.heard, `${name}:${n}`];
        },
      }),
    },
  },
});

describe("a child whose id another takes", () => {
  it("goes on, reachable by reference; its parent shows the other", () => {
    expectSame(parent, ["spawn", "inc.c", "spawn", "inc.first", "inc.c", "inc.second", "inc.first"]);
  });

  it("takes the other's id away when it is stopped by reference, and the other goes on", () => {
    expectSame(parent, [
      "spawn",
      "spawn",
      "stop.first",
      "inc.second",
      "inc.first",
      "spawn",
      "inc.c",
      "inc.second",
    ]);
  });

  it("may be followed by a third and a fourth, also after the one in between was stopped", () => {
    expectSame(parent, ["spawn", "spawn", "spawn", "inc.second", "stop.c", "inc.first", "spawn", "inc.c"]);
    expectSame(parent, ["spawn", "spawn", "stop.c", "inc.first", "spawn", "spawn", "inc.c", "inc.first"]);
  });

  it("reports its end as its parent's child", () => {
    expectSame(parent, ["spawn", "spawn", "inc.first", "end.first", "inc.first", "inc.c", "spawn", "inc.c"]);
  });

  it("two without an id: both go on, reachable by system id", () => {
    expectSame(parent, ["nameless", "inc.n0", "inc.n1", "inc.n0"]);
  });

  it("with children of its own, which go on with it", () => {
    const outer = setup({ actors: { counter } }).createMachine({
      invoke: { src: "counter", id: "inner", input: { name: "inner" } },
      on: {
        inc: { actions: sendTo("inner", { type: "inc" }) },
        counted: { actions: sendParent(({ event }) => event) },
      },
    });
    const machine = setup({ actors: { outer } }).createMachine({
      context: ({ spawn }) => ({ first: spawn("outer", { id: "o" }), heard: [] as unknown[] }),
      on: {
        again: { actions: spawnChild("outer", { id: "o" }) },
        first: { actions: sendTo(({ context }) => context.first, { type: "inc" }) },
        second: { actions: sendTo("o", { type: "inc" }) },
        counted: { actions: assign({ heard: ({ context, event }) => [...context.heard, event] }) },
      },
    });
    expectSame(machine, ["first", "again", "first", "second", "again", "first", "second"]);
  });

  it("is as it was when a step behind its displacement fails", () => {
    const host = new MachineHost("test", parent);
    let { snapshot } = host.start("k", 1, NOW);
    snapshot = host.step(snapshot, { type: "spawn" }, [], 2, NOW).snapshot;
    // Taken back, as when the store is full.
    host.step(snapshot, { type: "spawn" }, [], 3, NOW);
    snapshot = host.step(snapshot, { type: "inc.c" }, [], 3, NOW).snapshot;
    expect(snapshot.context.heard).toEqual(["c0:1"]);
    const stored = persist(snapshot);
    expect(stored.children).toHaveLength(1);
    snapshot = host.restore(decode(encode(stored)) as MachineState);
    expect(host.step(snapshot, { type: "inc.first" }, [], 4, NOW).snapshot.context.heard).toEqual([
      "c0:1",
      "c0:2",
    ]);
  });

  it("ends with its parent, and is deaf then", () => {
    const outer = setup({ actors: { counter } }).createMachine({
      entry: [
        spawnChild("counter", { id: "x", input: { name: "first" }, systemId: "first" }),
        spawnChild("counter", { id: "x", input: { name: "second" } }),
      ],
      on: { counted: { actions: sendParent(({ event }) => event) } },
    });
    const machine = setup({ actors: { outer } }).createMachine({
      initial: "on",
      states: { on: { invoke: { src: "outer", id: "outer" }, on: { off: "off" } }, off: {} },
    });
    const host = new MachineHost("test", machine);
    const on = host.start("k", 1, NOW).snapshot;
    expect(persist(on).children).toHaveLength(3);
    expect(Object.keys(shownState(on, 1, 0).children ?? {})).toEqual(["outer", "outer/x"]);
    const off = host.step(on, { type: "off" }, [], 2, NOW).snapshot;
    expect(persist(off).children).toEqual([]);
  });
});

describe("displaced children on the engine", () => {
  it("keep their timers, work and questions over a kill, and are in the history as they are shown", async () => {
    const sends: ((event: { type: "heard" }) => void)[] = [];
    const settle: ((value: unknown) => void)[] = [];
    const actor = defineActor({
      type: "displacing",
      machine: setup({
        types: {
          context: {} as { first: unknown; heard: number; done: readonly unknown[] },
          events: {} as { type: "spawn" } | { type: "heard" } | { type: "counted" } | { type: "later" },
        },
        actors: {
          counter,
          listen: fromCallback(({ sendBack }) => {
            sends.push(sendBack as never);
          }),
          load: fromPromise(() => new Promise((resolve) => settle.push(resolve))),
        },
      }).createMachine({
        context: ({ spawn }) => ({
          first: spawn("counter", { id: "c", input: { name: "first" } }),
          heard: 0,
          done: [],
        }),
        on: {
          spawn: {
            actions: [
              spawnChild("counter", { id: "c", input: { name: "second" } }),
              spawnChild("listen"),
              spawnChild("listen"),
              spawnChild("load", { id: "l" }),
              spawnChild("load", { id: "l" }),
            ],
          },
          later: { actions: sendTo(({ context }) => context.first as never, { type: "later" } as never) },
          heard: { actions: assign({ heard: ({ context }) => context.heard + 1 }) },
          counted: { actions: assign({ heard: ({ context }) => context.heard + 100 }) },
          "xstate.done.actor.l": {
            actions: assign({ done: ({ context, event }) => [...context.done, event.output] }),
          },
        },
      }),
    });
    const world = new VirtualWorld();
    const store = memory();
    const start = (name: string) => world.run(startNode({ actors: [actor], store, world, name }));
    const first = await start("n1");
    const ref = first.client.actor(actor, "a");
    await world.run(ref.send({ type: "spawn" }));
    await world.run(ref.send({ type: "later" }));
    await world.settle();
    expect([sends.length, settle.length]).toEqual([2, 2]);
    first.kill();
    const node = await start("n2");
    await world.advance(20_000);
    // Its timer fired, and everything that works outside was begun again.
    expect([sends.length, settle.length]).toEqual([4, 4]);
    for (const send of sends.slice(2)) send({ type: "heard" });
    settle[2]?.("one");
    settle[3]?.("two");
    await world.settle();
    const state = await world.run(node.client.actor(actor, "a").get());
    expect(state.context).toMatchObject({ heard: 102, done: ["one", "two"] });
    expect(state.children?.c).toMatchObject({ context: { name: "second", n: 0 } });
    expect(Object.keys(state.children ?? {}).sort()).toEqual(["c", "l", "undefined"]);
    const turns = [];
    for await (const turn of node.client.actor(actor, "a").history({ order: "newest" })) turns.push(turn);
    expect(turns[0]?.children).toEqual(state.children);
    await world.run(node.stop());
  });
});
