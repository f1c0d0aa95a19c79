/** Invoked and spawned actors: they mean the same when they are stored and restored between any two events. */
import {
  assign,
  createActor,
  createMachine,
  enqueueActions,
  type EventObject,
  fromCallback,
  fromObservable,
  fromPromise,
  fromTransition,
  raise,
  sendParent,
  sendTo,
  setup,
  spawnChild,
  stopChild,
} from "xstate";
import { describe, expect, it } from "vitest";
import { isWorkTimer, MachineHost, persist } from "../runtime/engine/machine.ts";
import { decode, encode } from "../runtime/words/codec.ts";
import type { MachineState } from "../runtime/engine/machine.ts";
import { shownState } from "../runtime/engine/outgoing.ts";
import { expectSame, NOW } from "./support/steps-beside-plain.ts";

const counter = setup({
  types: { context: {} as { n: number }, input: {} as { from?: number } | undefined, output: {} as number },
}).createMachine({
  id: "counter",
  context: ({ input }) => ({ n: input?.from ?? 0 }),
  initial: "counting",
  states: {
    counting: {
      on: {
        inc: { actions: assign({ n: ({ context }) => context.n + 1 }) },
        report: { actions: sendParent(({ context }) => ({ type: "reported", n: context.n })) },
        end: "ended",
        fail: { actions: () => undefined },
      },
    },
    ended: { type: "final" },
  },
  output: ({ context }) => context.n,
});

const adder = fromTransition(
  (state: { sum: number }, event: { type: string; by?: number }) =>
    event.type === "add" ? { sum: state.sum + (event.by ?? 1) } : state,
  { sum: 0 },
);

describe("children that are pure", () => {
  it("an invoked machine: events to it, from it, its output, leaving its state", () => {
    const machine = setup({ actors: { counter } }).createMachine({
      context: { reported: [] as number[], output: null as unknown },
      initial: "working",
      states: {
        working: {
          invoke: {
            id: "child",
            src: "counter",
            input: { from: 10 },
            onDone: { target: "done", actions: assign({ output: ({ event }) => event.output }) },
          },
          on: {
            inc: { actions: sendTo("child", { type: "inc" }) },
            ask: { actions: sendTo("child", { type: "report" }) },
            finish: { actions: sendTo("child", { type: "end" }) },
            leave: "idle",
          },
        },
        idle: { on: { back: "working" } },
        done: {},
      },
      on: {
        reported: {
          actions: assign({
            reported: ({ context, event }) => [...context.reported, (event as never as { n: number }).n],
          }),
        },
      },
    });
    expectSame(machine, ["inc", "ask", "inc", "leave", "inc2", "back", "ask", "inc", "finish", "ask"]);
  });

  it("spawned in assign, kept by reference in the context, stopped by reference", () => {
    const machine = setup({ actors: { counter, adder } }).createMachine({
      context: ({ spawn, self }) => ({
        first: spawn("counter", { id: "first" }),
        list: [] as unknown[],
        self,
      }),
      on: {
        more: {
          actions: assign({
            list: ({ context, spawn }) => [
              ...context.list,
              spawn("adder", { id: `a${context.list.length}` }),
            ],
          }),
        },
        add: {
          actions: enqueueActions(({ context, enqueue }) => {
            for (const ref of context.list) enqueue.sendTo(ref as never, { type: "add", by: 2 } as never);
          }),
        },
        inc: { actions: sendTo(({ context }) => context.first, { type: "inc" }) },
        drop: { actions: [stopChild(({ context }) => context.first)] },
      },
    });
    expectSame(machine, ["inc", "more", "add", "more", "add", "inc", "drop", "inc", "more", "add"]);
  });

  it("spawnChild, three levels, system ids, onSnapshot", () => {
    const leaf = setup({}).createMachine({
      context: { n: 0 },
      on: {
        hit: {
          actions: [
            assign({ n: ({ context }) => context.n + 1 }),
            sendTo(({ system }) => system.get("top"), { type: "leafHit" }),
            sendParent({ type: "leafHit" }),
          ],
        },
      },
    });
    const middle = setup({ actors: { leaf } }).createMachine({
      context: { seen: 0 },
      entry: spawnChild("leaf", { id: "leaf/1", systemId: "leaf" }),
      on: { leafHit: { actions: assign({ seen: ({ context }) => context.seen + 1 }) } },
    });
    const top = setup({ actors: { counter } }).createMachine({
      context: { hits: 0 },
      on: { leafHit: { actions: assign({ hits: ({ context }) => context.hits + 1 }) } },
    });
    const machine = setup({ actors: { middle, top, counter } }).createMachine({
      context: { snapshots: [] as number[] },
      invoke: [
        { src: "top", id: "top", systemId: "top" },
        { src: "middle", id: "middle" },
        {
          src: "counter",
          id: "counted",
          onSnapshot: {
            actions: assign({
              snapshots: ({ context, event }) => [
                ...context.snapshots,
                (event.snapshot as { context: { n: number } }).context.n,
              ],
            }),
          },
        },
      ],
      on: {
        hit: { actions: sendTo(({ system }) => system.get("leaf"), { type: "hit" }) },
        inc: { actions: sendTo("counted", { type: "inc" }) },
      },
    });
    expectSame(machine, ["hit", "inc", "hit", "inc", "hit"]);
  });

  it("references in a context without any child: to itself, and to one that has ended", () => {
    const machine = setup({ actors: { counter } }).createMachine({
      context: ({ self }) => ({ self, gone: null as unknown, n: 0 }),
      on: {
        spawn: { actions: assign({ gone: ({ spawn }) => spawn("counter", { id: "c" }) }) },
        stop: { actions: stopChild("c") },
        send: {
          actions: sendTo(({ context }) => (context.gone ?? context.self) as never, { type: "inc" } as never),
        },
        inc: { actions: assign({ n: ({ context }) => context.n + 1 }) },
      },
    });
    expectSame(machine, ["send", "send", "spawn", "send", "stop", "send", "send"]);
  });

  it("entered anew in the same event: the former one is gone, the new one begins", () => {
    const machine = setup({ actors: { counter } }).createMachine({
      initial: "a",
      states: {
        a: {
          invoke: { src: "counter", id: "c" },
          on: { inc: { actions: sendTo("c", { type: "inc" }) }, again: { target: "a", reenter: true } },
        },
      },
    });
    expectSame(machine, ["inc", "inc", "again", "inc", "again", "again", "inc"]);
  });

  it("a child machine that throws is its parent's onError; unhandled, it refuses the event", () => {
    const bad = setup({}).createMachine({
      on: {
        boom: {
          actions: assign(() => {
            throw new Error("boom");
          }),
        },
      },
    });
    const handled = setup({ actors: { bad } }).createMachine({
      initial: "a",
      context: { why: "" },
      states: {
        a: {
          invoke: {
            src: "bad",
            id: "bad",
            onError: {
              target: "failed",
              actions: assign({ why: ({ event }) => (event.error as Error).message }),
            },
          },
          on: { go: { actions: sendTo("bad", { type: "boom" }) } },
        },
        failed: {},
      },
    });
    expectSame(handled, ["go", "go"]);
    const unhandled = setup({ actors: { bad } }).createMachine({
      invoke: { src: "bad", id: "bad" },
      context: { n: 0 },
      on: {
        go: { actions: [assign({ n: 1 }), sendTo("bad", { type: "boom" })] },
        fine: { actions: [assign({ n: 2 }), sendTo("bad", { type: "hello" })] },
      },
    });
    const host = new MachineHost("test", unhandled);
    const { snapshot } = host.start("k", 1, NOW);
    expect(() => host.step(snapshot, { type: "go" }, [], 2, NOW)).toThrow(/boom/);
    const next = host.step(snapshot, { type: "fine" }, [], 2, NOW).snapshot;
    expect(shownState(next, 2, 0)).toMatchObject({
      context: { n: 2 },
      children: { bad: { status: "active" } },
    });
  });

  it("an event for the id of a child that is not there fails, as in XState; one for its reference is dropped", () => {
    const machine = setup({ actors: { counter } }).createMachine({
      context: ({ spawn }) => ({ ref: spawn("counter", { id: "c" }), n: 0 }),
      on: {
        stop: { actions: stopChild("c") },
        ref: { actions: [assign({ n: 1 }), sendTo(({ context }) => context.ref, { type: "inc" })] },
        id: { actions: [assign({ n: 2 }), sendTo("c", { type: "inc" })] },
      },
    });
    const text = /Unable to send event to actor 'c'/;
    const actor = createActor(machine);
    const errors: unknown[] = [];
    actor.subscribe({ error: (error) => errors.push(error) });
    actor.start();
    for (const type of ["stop", "ref", "id"]) actor.send({ type });
    expect(errors).toMatchObject([{ message: expect.stringMatching(text) }]);
    // Here the event is refused, as any that throws; the actor stays.
    const host = new MachineHost("test", machine);
    let { snapshot } = host.start("k", 1, NOW);
    snapshot = host.step(snapshot, { type: "stop" }, [], 2, NOW).snapshot;
    snapshot = host.step(snapshot, { type: "ref" }, [], 3, NOW).snapshot;
    expect(snapshot.context.n).toBe(1);
    expect(() => host.step(snapshot, { type: "id" }, [], 4, NOW)).toThrow(text);
  });

  it("a step that fails leaves every child as it was", () => {
    const machine = setup({ actors: { counter, adder } }).createMachine({
      invoke: [
        { src: "counter", id: "c" },
        { src: "adder", id: "a" },
      ],
      on: {
        inc: { actions: [sendTo("c", { type: "inc" }), sendTo("a", { type: "add" })] },
        bad: {
          actions: [
            sendTo("c", { type: "inc" }),
            sendTo("c", { type: "report" }),
            stopChild("a"),
            spawnChild("adder", { id: "other" }),
          ],
        },
        reported: {
          actions: () => undefined,
          guard: () => {
            throw new Error("no");
          },
        },
      },
    });
    const host = new MachineHost("test", machine);
    let { snapshot } = host.start("k", 1, NOW);
    snapshot = host.step(snapshot, { type: "inc" }, [], 2, NOW).snapshot;
    const before = JSON.stringify(shownState(snapshot, 2, 0));
    expect(() => host.step(snapshot, { type: "bad" }, [], 3, NOW)).toThrow(/no/);
    expect(JSON.stringify(shownState(snapshot, 2, 0))).toBe(before);
    snapshot = host.step(snapshot, { type: "inc" }, [], 3, NOW).snapshot;
    expect(shownState(snapshot, 3, 0).children).toMatchObject({
      c: { context: { n: 2 } },
      a: { context: { sum: 2 } },
    });
    expect(Object.keys(shownState(snapshot, 3, 0).children ?? {})).toEqual(["c", "a"]);
  });

  it("events in a circle between actors are refused", () => {
    const echo = setup({}).createMachine({ on: { ping: { actions: sendParent({ type: "pong" }) } } });
    const machine = setup({ actors: { echo } }).createMachine({
      invoke: { src: "echo", id: "echo" },
      on: { pong: { actions: sendTo("echo", { type: "ping" }) } },
    });
    const host = new MachineHost("test", machine);
    const { snapshot } = host.start("k", 1, NOW);
    expect(() => host.step(snapshot, { type: "pong" }, [], 2, NOW)).toThrow(
      expect.objectContaining({ code: "machine_looped" }),
    );
  });

  it("inline logics: invoked and spawned in actions by their place, in assign by the name in children", () => {
    const machine = createMachine({
      entry: spawnChild(adder, { id: "spawned" }),
      invoke: { src: counter, id: "invoked" },
      on: {
        go: { actions: [sendTo("spawned", { type: "add" }), sendTo("invoked", { type: "inc" })] },
      },
    });
    expectSame(machine, ["go", "go"]);
    const hidden = createMachine({
      context: ({ spawn }) => ({ ref: spawn(adder, { id: "x" }) }),
      on: { go: { actions: sendTo(({ context }) => context.ref, { type: "add" }) } },
    });
    expect(() => new MachineHost("test", hidden).start("k", 1, NOW)).toThrow(
      expect.objectContaining({ code: "unsupported_machine" }),
    );
    const named = new MachineHost("test", hidden, new Map([["adder", adder]]));
    const { snapshot } = named.start("k", 1, NOW);
    const restored = named.restore(decode(encode(persist(snapshot))) as MachineState);
    const next = named.step(restored, { type: "go" }, [], 2, NOW).snapshot;
    expect(shownState(next, 2, 0).children).toMatchObject({ x: { context: { sum: 1 } } });
  });
});

describe("timers of children", () => {
  const timed = setup({}).createMachine({
    initial: "waiting",
    states: {
      waiting: {
        after: { 100: "late" },
        on: { poke: { actions: raise({ type: "later" }, { delay: 50, id: "r" }) } },
      },
      late: {},
    },
    on: { later: ".late" },
  });
  const machine = setup({ actors: { timed } }).createMachine({
    initial: "a",
    states: {
      a: {
        invoke: { src: "timed", id: "t" },
        after: { 100: "b" },
        on: {
          poke: {
            actions: [sendTo("t", { type: "poke" }), sendTo("t", { type: "poke" }, { delay: 10, id: "r" })],
          },
        },
      },
      b: {},
    },
  });

  it("stand in the actor's state, apart from its own of the same name, and go with the child", () => {
    const host = new MachineHost("test", machine);
    let { snapshot, effects } = host.start("k", 1, NOW);
    const first = [...effects.timers];
    expect(
      first.map(({ due, source, target }) => [due - NOW, source === undefined, target === undefined]),
    ).toEqual(
      expect.arrayContaining([
        [100, true, true],
        [100, false, false],
      ]),
    );
    ({ snapshot, effects } = host.step(snapshot, { type: "poke" }, first, 2, NOW));
    expect(
      effects.timers.filter((timer) => timer.id === "r").map((timer) => timer.source === undefined),
    ).toEqual(expect.arrayContaining([true, false]));
    const own = effects.timers.find((timer) => timer.source === undefined && timer.due === NOW + 100);
    ({ snapshot, effects } = host.step(snapshot, own?.event as EventObject, effects.timers, 3, NOW + 100));
    expect(snapshot.value).toBe("b");
    // The one that the machine itself sends to the child stays, as in XState, and finds nobody.
    expect(effects.timers.filter((timer) => timer.source !== undefined)).toEqual([]);
  });
});

describe("children that work outside", () => {
  const working = setup({
    actors: {
      load: fromPromise(async ({ input }: { input: { n: number } }) => input.n),
      listen: fromCallback(({ sendBack }) => sendBack({ type: "heard" })),
      watch: fromObservable(() => ({ subscribe: () => ({ unsubscribe: () => undefined }) })),
    },
  }).createMachine({
    initial: "a",
    context: { got: null as unknown },
    states: {
      a: {
        invoke: [
          {
            src: "load",
            id: "load",
            input: { n: 7 },
            onDone: { target: "b", actions: assign({ got: ({ event }) => event.output }) },
            onError: { target: "c", actions: assign({ got: ({ event }) => event.error }) },
          },
          { src: "listen", id: "listen" },
          { src: "watch", id: "watch" },
        ],
        on: { tell: { actions: sendTo("listen", { type: "told" }) } },
      },
      b: {},
      c: {},
    },
  });

  it("do nothing within a step but stand as work, with their input; leaving the state ends them", () => {
    const host = new MachineHost("test", working);
    const { snapshot, effects } = host.start("k", 1, NOW);
    const timers = [...effects.timers];
    expect(timers).toHaveLength(3);
    expect(timers.every(isWorkTimer)).toBe(true);
    const restored = host.restore(decode(encode(persist(snapshot))) as MachineState);
    const session = timers[0]?.source as string;
    const told = host.step(restored, { type: "tell" }, timers, 2, NOW);
    expect(told.effects.receives).toEqual([expect.objectContaining({ event: { type: "told" } })]);
    const done = host.step(
      told.snapshot,
      { type: "xstate.promise.resolve", data: 7 } as EventObject,
      timers,
      3,
      NOW,
      false,
      session,
    );
    expect(done.snapshot).toMatchObject({ value: "b", context: { got: 7 } });
    expect(done.effects.timers).toEqual([]);
    // Later again: whom it is for is gone.
    const late = { type: "xstate.promise.resolve", data: 8 } as EventObject;
    expect(host.step(done.snapshot, late, [], 4, NOW, false, session).snapshot).toBe(done.snapshot);
  });
});
