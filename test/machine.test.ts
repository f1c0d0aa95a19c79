/** The one file that knows XState: what it relies on beyond the documented interface, and what a step gives. */
import {
  type AnyStateMachine,
  assign,
  cancel,
  createActor,
  createMachine,
  emit,
  enqueueActions,
  log,
  raise,
  sendTo,
  setup,
} from "xstate";
import { describe, expect, it } from "vitest";
import { KeyturnError, reply, tell } from "../runtime/index.ts";
import { MachineHost, type MachineSnapshot, type Timer } from "../runtime/engine/machine.ts";
import { limits } from "../runtime/words/limits.ts";
import { doing, NOW, refusal, stepped } from "./support/machines.ts";

describe("what is relied on of XState without being documented", () => {
  const collected: { type: string; info: unknown; params: unknown; exec: unknown }[] = [];
  const self = createActor(createMachine({}));
  const scope = {
    self,
    system: self.system,
    id: "x",
    sessionId: "x",
    defer: () => undefined,
    logger: () => undefined,
    stopChild: () => undefined,
    emit: () => undefined,
    actionExecutor: (action: (typeof collected)[number]) => collected.push(action),
  };
  const executor = scope.actionExecutor;
  const machine = setup({ actions: { act: (_, _params: { n: number }) => undefined } }).createMachine({
    context: { n: 0 },
    initial: "a",
    states: {
      a: {
        on: {
          go: "b",
          stay: { actions: assign({ n: 1 }) },
          act: { actions: { type: "act", params: { n: 7 } } },
        },
      },
      b: { on: { fail: { actions: assign(() => raiseError()) } }, after: { 50: "a" } },
    },
  });
  function raiseError(): never {
    throw new Error("thrown");
  }
  const step = (from: MachineSnapshot, type: string): MachineSnapshot =>
    machine.transition(from as never, { type } as never, scope as never) as MachineSnapshot;
  const first = machine.getInitialSnapshot(scope as never, undefined as never) as MachineSnapshot;

  it("one inert scope serves any number of steps, and comes out of each as it went in", () => {
    for (let n = 0; n < 1_000; n++) expect(step(first, "go").value).toBe("b");
    expect(scope.actionExecutor).toBe(executor);
    expect(() => step(step(first, "go"), "fail")).toThrow("thrown");
    expect(scope.actionExecutor).toBe(executor);
  });

  it("a step leaves the snapshot it began from as it was", () => {
    const before = { ...first };
    step(first, "go");
    step(first, "stay");
    expect({ ...first }).toEqual(before);
  });

  it("actions are handed to actionExecutor, with arguments, parameters and implementation, and are not run", () => {
    collected.length = 0;
    step(first, "act");
    expect(collected).toEqual([
      expect.objectContaining({ type: "act", params: { n: 7 }, exec: expect.any(Function) }),
    ]);
    expect(collected[0]?.info).toMatchObject({ context: { n: 0 }, event: { type: "act" } });
  });

  it("delayed transitions are raises with an id derived from their place", () => {
    collected.length = 0;
    step(first, "go");
    expect(collected).toEqual([
      expect.objectContaining({
        type: "xstate.raise",
        params: expect.objectContaining({ delay: 50, id: "xstate.after.50.(machine).b" }),
      }),
    ]);
  });

  it("the node list is the same object while the states are the same, another when they are not", () => {
    expect(step(first, "stay")._nodes).toBe(first._nodes);
    expect(step(first, "unknown")._nodes).toBe(first._nodes);
    expect(step(first, "go")._nodes).not.toBe(first._nodes);
  });

  it("context, history and children are the same objects while nothing changed them", () => {
    const next = step(first, "go");
    expect(next.context).toBe(first.context);
    expect(next.children).toBe(first.children);
    expect(next.historyValue).toBe(first.historyValue);
  });

  it("options.maxIterations bounds eventless loops, also in the initial state", () => {
    const loop = createMachine({ initial: "a", states: { a: { always: "b" }, b: { always: "a" } } });
    loop.options.maxIterations = 10;
    const snapshot = loop.getInitialSnapshot(scope as never, undefined as never);
    expect(snapshot.status).toBe("error");
    expect(String(snapshot.error)).toContain("Infinite loop detected");
  });

  it("provide({}) copies: its options are not the user's machine's", () => {
    const host = new MachineHost("test", machine);
    expect((host.machine.options as { maxIterations: number }).maxIterations).toBe(limits.microsteps);
    expect((machine.options as { maxIterations: number }).maxIterations).toBe(Number.POSITIVE_INFINITY);
  });

  it("a final root gives the status done, which restoring finds again", () => {
    const final = createMachine({ initial: "a", states: { a: { type: "final" } } });
    const snapshot = final.getInitialSnapshot(scope as never, undefined as never) as MachineSnapshot;
    expect(snapshot.status).toBe("done");
    expect(final.resolveState({ value: "a", context: {} }).status).toBe("done");
  });
});

describe("machine 1: effects are collected, in order, and not run", () => {
  it("tell and reply, with values and expressions, with parameters, inside enqueueActions, the last reply counting", () => {
    const machine = setup({
      types: { context: {} as { n: number }, events: {} as { type: "go"; to: string } },
      actions: { notify: tell((_, params: { to: string }) => params.to, { type: "named" }) },
    }).createMachine({
      context: { n: 5 },
      on: {
        go: {
          actions: [
            tell("a/1", { type: "plain" }),
            tell(
              ({ event }) => event.to,
              ({ context }) => ({ type: "expression", n: context.n }),
            ),
            { type: "notify", params: { to: "a/3" } },
            reply("first"),
            assign({ n: 6 }),
            enqueueActions(({ enqueue, context }) => {
              enqueue(tell("a/4", { type: "enqueued" }));
              enqueue(reply(({ context: now }) => [context.n, now.n]));
            }),
          ],
        },
      },
    });
    const { effects } = stepped(machine, { type: "go", to: "a/2" } as { type: string });
    expect(effects.tells).toEqual([
      { to: "a/1", event: { type: "plain" } },
      { to: "a/2", event: { type: "expression", n: 5 } },
      { to: "a/3", event: { type: "named" } },
      { to: "a/4", event: { type: "enqueued" } },
    ]);
    expect([effects.replied, effects.reply]).toEqual([true, [6, 6]]);
  });

  it("custom actions and log keep for later, with the context they were asked with", () => {
    const seen: unknown[] = [];
    const machine = doing(
      [
        ({ context }: { context: { n: number } }) => seen.push(context.n),
        assign({ n: 2 }),
        ({ context }: { context: { n: number } }) => seen.push(context.n),
        log("said"),
      ],
      { n: 1 },
    );
    const { effects } = stepped(machine, { type: "go" });
    expect(seen).toEqual([]);
    for (const action of effects.actions.slice(0, 2)) action.run();
    expect(seen).toEqual([1, 2]);
    expect(effects.actions.map(({ name }) => name)).toHaveLength(3);
  });

  it("emitted events are kept, and nothing of a step is left to the next", () => {
    const host = new MachineHost(
      "test",
      doing([emit({ type: "out" }), reply(1), tell("a/b", { type: "x" }), () => 1]),
    );
    const { snapshot } = host.start("k", 1, NOW);
    const { effects } = host.step(snapshot, { type: "go" }, [], 1, NOW);
    expect(effects.emitted).toEqual([{ type: "out" }]);
    const next = host.step(snapshot, { type: "none" }, [], 2, NOW).effects;
    expect([next.emitted, next.tells, next.actions, next.replied, next.reply]).toEqual([
      [],
      [],
      [],
      false,
      undefined,
    ]);
  });

  it("in a plain XState actor tell and reply do nothing", () => {
    const actor = createActor(doing([tell("a/b", { type: "x" }), reply(1), assign({ list: [] })])).start();
    actor.send({ type: "go" });
    expect(actor.getSnapshot().context.list).toEqual([]);
  });

  it("entry actions of the initial state are part of the first step", () => {
    const machine = createMachine({
      entry: [tell("a/b", { type: "born" })],
      on: { go: { actions: tell("a/b", { type: "went" }) } },
    });
    expect(stepped(machine, { type: "go" }).effects.tells.map(({ event }) => event)).toEqual([
      { type: "born" },
      { type: "went" },
    ]);
  });
});

describe("timers of a step", () => {
  const timers = (machine: AnyStateMachine, ...types: string[]): readonly Timer[] =>
    stepped(machine, ...types.map((type) => ({ type }))).effects.timers;

  it("delayed raise, sendTo self and after stand in the state with id, due time and generation", () => {
    const machine = createMachine({
      initial: "a",
      states: { a: { on: { go: "b" } }, b: { after: { 300: "a" } } },
      on: {
        more: {
          actions: [
            raise({ type: "x" }, { delay: 100, id: "mine" }),
            sendTo(({ self }) => self, { type: "y" }, { delay: 200 }),
          ],
        },
      },
    });
    expect(timers(machine, "go", "more")).toEqual([
      {
        id: "xstate.after.300.(machine).b",
        due: NOW + 300,
        generation: 1,
        event: { type: "xstate.after.300.(machine).b" },
      },
      { id: "mine", due: NOW + 100, generation: 2, event: { type: "x" } },
      { id: "~2.0", due: NOW + 200, generation: 2, event: { type: "y" } },
    ]);
  });

  it("unnamed ones get ids from their place: the same in every run, different from each other", () => {
    const machine = doing([1, 2, 3].map((delay) => raise({ type: "x" }, { delay })));
    const ids = timers(machine, "go", "go").map(({ id }) => id);
    expect(ids).toEqual(["~1.0", "~1.1", "~1.2", "~2.0", "~2.1", "~2.2"]);
    expect(timers(machine, "go", "go").map(({ id }) => id)).toEqual(ids);
  });

  it("sendTo self without a delay is the next event of the same turn; raise without one is part of the step", () => {
    const machine = createMachine({
      context: { n: 0 },
      on: {
        go: { actions: [raise({ type: "now" }), sendTo(({ self }) => self, { type: "next" })] },
        now: { actions: assign({ n: 1 }) },
        next: { actions: assign({ n: 2 }) },
      },
    });
    const { snapshot, effects } = stepped(machine, { type: "go" });
    expect(snapshot.context).toEqual({ n: 2 });
    expect(effects.timers).toEqual([]);
  });

  it("cancel takes one away, leaving the state's after, and the same id again replaces it", () => {
    const machine = createMachine({
      on: {
        set: { actions: raise({ type: "x" }, { delay: 100, id: "x" }) },
        unset: { actions: cancel("x") },
      },
    });
    expect(timers(machine, "set", "unset")).toEqual([]);
    expect(timers(machine, "set", "set")).toEqual([expect.objectContaining({ generation: 2 })]);
  });

  it("untouched, they are the same array; done, an actor has none", () => {
    const machine = createMachine({
      initial: "a",
      states: { a: { after: { 100: "b" }, on: { end: "b" } }, b: { type: "final" } },
      on: { set: { actions: raise({ type: "x" }, { delay: 50 }) } },
    });
    const host = new MachineHost("test", machine);
    const start = host.start("k", 1, NOW);
    const before = start.effects.timers;
    expect(host.step(start.snapshot, { type: "other" }, before, 2, NOW).effects.timers).toBe(before);
    expect(timers(machine, "set", "end")).toEqual([]);
  });

  it("a delay that is no time, and an event that is no data, are refused", () => {
    for (const delay of [-1, Number.NaN]) {
      expect(refusal(() => stepped(doing(raise({ type: "x" }, { delay })), { type: "go" })).code).toBe(
        "machine_failed",
      );
    }
    const event = { type: "x", f: () => 1 };
    expect(refusal(() => stepped(doing(raise(event, { delay: 1 })), { type: "go" }))).toBeInstanceOf(
      KeyturnError,
    );
  });
});
