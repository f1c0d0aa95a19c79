/** Invoked and spawned actors of every logic: as in plain XState, and what recovery does with each. */
import {
  assign,
  createMachine,
  fromTransition,
  sendParent,
  sendTo,
  setup,
  spawnChild,
  stopChild,
} from "xstate";
import { describe, expect, it } from "vitest";
import { defineActor, isKeyturnError } from "../runtime/index.ts";
import { Durable, expectSame, type Make, type Mode, playDurable } from "./support/beside-plain.ts";

// biome-ignore lint/suspicious/noExplicitAny: the events of these machines are many
type AnyEvent = any;
const types = { context: {} as { got: unknown; list: readonly unknown[] }, events: {} as AnyEvent };
const context = { got: null, list: [] as readonly unknown[] };
const restores: readonly Mode[] = ["stopped and restored", "killed and recovered", "handed over"];

const counter = setup({
  types: { context: {} as { n: number }, input: {} as { from: number }, events: {} as AnyEvent },
}).createMachine({
  context: ({ input }) => ({ n: input.from }),
  initial: "on",
  states: {
    on: {
      on: {
        inc: { actions: [assign({ n: ({ context }) => context.n + 1 }), sendParent({ type: "counted" })] },
        end: "off",
      },
      after: { 50: { actions: assign({ n: ({ context }) => context.n * 10 }) } },
    },
    off: { type: "final" },
  },
  output: ({ context }) => context.n,
});

const adder = fromTransition(
  (sum: number, event: AnyEvent) => (event.type === "add" ? sum + event.by : sum),
  0,
);

/** Invokes one logic as "w"; what comes of it is kept. */
const invoking =
  (src: (outside: Parameters<Make>[0]) => object): Make =>
  (outside) =>
    setup({ types, actors: { w: src(outside) as never } }).createMachine({
      context,
      initial: "idle",
      states: {
        idle: { on: { go: "on" } },
        on: {
          invoke: {
            src: "w",
            id: "w",
            input: () => ({ from: 3 }),
            onDone: { target: "over", actions: assign({ got: ({ event }) => event.output }) },
            onError: { target: "failed", actions: assign({ got: ({ event }) => event.error }) },
          },
          on: {
            leave: "idle",
            tell: { actions: sendTo("w" as never, (({ event }: AnyEvent) => event.what) as never) },
          },
        },
        over: { on: { go: "on" } },
        failed: { on: { go: "on" } },
      },
      on: { "*": { actions: assign({ list: ({ context, event }) => [...context.list, event] }) } },
    } as never) as unknown as ReturnType<Make>;

const tell = (what: object) => ({ type: "tell", what });

describe("what recovery does with each actor logic", () => {
  it("machine logic is resumed: state, timers, onDone", async () => {
    const make = invoking(() => counter);
    await expectSame(make, [
      "go",
      tell({ type: "inc" }),
      30,
      tell({ type: "inc" }),
      20,
      tell({ type: "end" }),
      "go",
      "leave",
    ]);
  });

  it("transition logic is resumed with its context", async () => {
    const make = invoking(() => adder);
    await expectSame(make, ["go", tell({ type: "add", by: 2 }), tell({ type: "add", by: 3 }), "leave", "go"]);
  });

  it("a promise is run again: same idempotency key, further attempt; onDone and onError once", async () => {
    const make = invoking((outside) => outside.promise("w"));
    await expectSame(make, [
      "go",
      "x",
      (o) => o.resolve("w", { a: 1 }),
      "go",
      (o) => o.reject("w", { code: 1 }),
      "go",
      "leave",
      "x",
    ]);
    for (const mode of restores) {
      const durable = new Durable(make);
      await durable.play("go");
      await durable.between(mode);
      const [first, second, ...more] = durable.outside.runs.w ?? [];
      expect(more, mode).toEqual([]);
      expect(second, mode).toMatchObject({
        idempotencyKey: first?.idempotencyKey,
        attempt: 2,
        input: { from: 3 },
      });
      await durable.play((o) => o.resolve("w", 7));
      await durable.between(mode);
      expect(await durable.look(), mode).toMatchObject({ value: "over", context: { got: 7 } });
      expect(durable.outside.runs.w, mode).toHaveLength(2);
      durable.end();
    }
  });

  it("a callback is run again: what it was sent is not sent again, what it sent back is kept once", async () => {
    const make = invoking((outside) => outside.callback("w"));
    await expectSame(make, [
      "go",
      tell({ type: "hello" }),
      (o) => o.sendBack("w", { type: "heard" }),
      tell({ type: "bye" }),
      (o) => o.sendBack("w", { type: "heard" }),
      "leave",
      (o) => o.sendBack("w", { type: "late" }),
    ]);
    for (const mode of restores) {
      const durable = new Durable(make);
      for (const step of ["go", tell({ type: "hello" })]) await durable.play(step);
      await durable.between(mode);
      expect(durable.outside.inputs.w, mode).toEqual([{ from: 3 }, { from: 3 }]);
      expect(durable.outside.done, mode).toEqual([{ w: { type: "hello" } }]);
      durable.end();
    }
  });

  it("an observable is subscribed to again; onSnapshot, onDone and onError as in XState", async () => {
    const make: Make = (outside) =>
      setup({ types, actors: { w: outside.observable("w") } }).createMachine({
        context,
        initial: "on",
        states: {
          on: {
            invoke: {
              src: "w",
              id: "w",
              input: 5,
              onSnapshot: {
                actions: assign({ list: ({ context, event }) => [...context.list, event.snapshot.context] }),
              },
              onDone: "over",
              onError: { target: "failed", actions: assign({ got: ({ event }) => event.error }) },
            },
          },
          over: { on: { go: "on" } },
          failed: {},
        },
      });
    const end: Parameters<typeof expectSame>[1] = [
      (o) => o.complete("w"),
      "go",
      (o) => o.fail("w", { code: 2 }),
    ];
    await expectSame(make, ["go", (o) => o.next("w", 1), (o) => o.next("w", 2), ...end]);
    for (const mode of restores) {
      const durable = new Durable(make);
      await durable.play("go");
      await durable.between(mode);
      expect(durable.outside.inputs.w, mode).toEqual([5, 5]);
      durable.end();
    }
  });

  it("an event observable is subscribed to again; its events are the machine's", async () => {
    const make = invoking((outside) => outside.eventObservable("w"));
    await expectSame(make, [
      "go",
      (o) => o.next("w", { type: "a" }),
      (o) => o.next("w", { type: "b" }),
      (o) => o.complete("w"),
    ]);
    const durable = new Durable(make);
    await durable.play("go");
    await durable.between("killed and recovered");
    expect(durable.outside.begun.w).toBe(2);
    durable.end();
  });

  it("custom logic with a start is started again from its kept snapshot; without one it is resumed", async () => {
    const logic = (starts: (() => void) | undefined): object => ({
      transition: (snapshot: AnyEvent, event: AnyEvent) =>
        event.type === "add" ? { ...snapshot, context: snapshot.context + 1 } : snapshot,
      getInitialSnapshot: () => ({ status: "active", output: undefined, error: undefined, context: 0 }),
      getPersistedSnapshot: (snapshot: AnyEvent) => snapshot,
      restoreSnapshot: (snapshot: AnyEvent) => snapshot,
      ...(starts === undefined ? {} : { start: starts }),
    });
    await expectSame(
      invoking(() => logic(undefined)),
      ["go", tell({ type: "add" }), tell({ type: "add" })],
    );
    for (const mode of restores) {
      const durable = new Durable(invoking((outside) => logic(() => outside.done.push("started"))));
      for (const step of ["go", tell({ type: "add" })]) await durable.play(step);
      await durable.between(mode);
      expect(await durable.look(), mode).toMatchObject({
        children: { w: { context: 1 } },
        done: ["started", "started"],
      });
      durable.end();
    }
  });

  it("spawned inline without a name: refused with the remedy; with a name in children it is resumed", async () => {
    const hidden: Make = () =>
      createMachine({
        context: ({ spawn }: AnyEvent) => ({ child: spawn(adder, { id: "c" }) }),
        on: { add: { actions: sendTo(({ context }) => context.child, { type: "add", by: 2 } as never) } },
      });
    const refused = await playDurable(hidden, ["add"], "left alone").catch((error: unknown) => error);
    expect(isKeyturnError(refused) && [refused.code, refused.message]).toEqual([
      "unsupported_machine",
      expect.stringContaining("defineActor({ children })"),
    ]);
    await expectSame(hidden, ["add", "add", "add"], { children: () => ({ adder }) });
    expect(() =>
      defineActor({ type: "fine", machine: hidden(new Durable(hidden).outside), children: { adder } }),
    ).not.toThrow();
  });
});

describe("spawned actors", () => {
  it("spawnChild and stopChild, system ids, references in the context, delayed sendTo a child", async () => {
    await expectSame(
      () =>
        setup({
          types: { context: {} as { ref: unknown; counted: number }, events: {} as AnyEvent },
          actors: { counter, adder },
        }).createMachine({
          context: { ref: null, counted: 0 },
          on: {
            make: {
              actions: [
                spawnChild("counter", { id: "a", systemId: "first", input: { from: 1 } }),
                assign({ ref: ({ spawn }) => spawn("adder", { id: "b" }) }),
              ],
            },
            inc: { actions: sendTo(({ system }) => system.get("first"), { type: "inc" }) },
            add: { actions: sendTo(({ context }) => context.ref as never, { type: "add", by: 4 } as never) },
            later: { actions: sendTo("a", { type: "inc" }, { delay: 40 }) },
            drop: { actions: stopChild("a") },
            counted: { actions: assign({ counted: ({ context }) => context.counted + 1 }) },
          },
        }),
      ["x", "make", "inc", "add", "later", 39, 1, 20, "inc", "drop", "add", "x"],
    );
  });
});

const family: Make = () =>
  setup({ types, actors: { counter } }).createMachine({
    context,
    entry: [
      spawnChild("counter", { id: "a", systemId: "the-a", input: { from: 0 } }),
      spawnChild("counter", { id: "b", input: { from: 10 } }),
    ],
    on: {
      a: { actions: sendTo(({ system }) => system.get("the-a"), { type: "inc" }) },
      b: { actions: sendTo("b", { type: "inc" }) },
      stop: { actions: stopChild("b") },
      again: { actions: spawnChild("counter", { id: "b", input: { from: 20 } }) },
      endA: { actions: sendTo("a", { type: "end" }) },
    },
  });

describe("open issues of XState with persistence", () => {
  it("#5077: restored children persist again, as often as one likes, and children made after a restore too", async () => {
    await expectSame(family, ["a", "x", "x", "b", "stop", "x", "again", "b", "x", "a"]);
  });

  it("#4873: system.get finds an actor after a restore, and nobody under the id of one that is gone", async () => {
    await expectSame(family, ["a", "a", "x", "a"]);
    await expectSame(
      () =>
        setup({ types, actors: { counter } }).createMachine({
          context,
          initial: "on",
          states: {
            on: {
              invoke: { src: "counter", id: "a", systemId: "it", input: { from: 0 } },
              on: { leave: "off" },
            },
            off: { on: { back: "on" } },
          },
          on: {
            look: { actions: assign({ got: ({ system }) => system.get("it")?.id ?? "nobody" }) },
          },
        }),
      ["look", "leave", "look", "back", "look"],
    );
  });

  it("#4583: an actor that is done, and a child that is done or stopped, are stored and read again as they are", async () => {
    await expectSame(family, ["a", "endA", "x", "stop", "x", "x"]);
    const make: Make = () =>
      setup({ types, actors: { counter } }).createMachine({
        context,
        initial: "on",
        states: {
          on: { invoke: { src: "counter", id: "a", input: { from: 4 } }, on: { end: "over" } },
          over: { type: "final" },
        },
        output: { fine: true },
      });
    const seen = await expectSame(make, ["x", "end", "x", "end"]);
    expect(seen.at(-1)).toMatchObject({ status: "done", output: { fine: true }, value: "over" });
  });
});
