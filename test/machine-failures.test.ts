/** Machine 2 and 3: steps that fail, contexts that cannot be kept, and what is not supported. */
import {
  type AnyStateMachine,
  assign,
  createActor,
  createMachine,
  enqueueActions,
  fromPromise,
  raise,
  sendParent,
  sendTo,
} from "xstate";
import { describe, expect, it } from "vitest";
import { defineActor, KeyturnError, reply, tell } from "../runtime/index.ts";
import { MachineHost } from "../runtime/engine/machine.ts";
import { doing, NOW, refusal, stepped } from "./support/machines.ts";

describe("machine 2: a step that fails", () => {
  it.each([
    [
      "an action",
      doing(
        assign(() => {
          throw new Error("thrown");
        }),
      ),
    ],
    [
      "a guard",
      createMachine({
        on: {
          go: {
            guard: () => {
              throw new Error("thrown");
            },
            actions: [],
          },
        },
      }),
    ],
    [
      "a delay",
      doing(
        raise(
          { type: "x" },
          {
            delay: () => {
              throw new Error("thrown");
            },
          },
        ),
      ),
    ],
    [
      "a tell",
      doing(
        tell(
          () => {
            throw new Error("thrown");
          },
          { type: "x" },
        ),
      ),
    ],
    [
      "a reply",
      doing(
        reply(() => {
          throw new Error("thrown");
        }),
      ),
    ],
  ] as [string, AnyStateMachine][])(
    "by %s that throws is machine_failed, with the text",
    (_what, machine) => {
      const error = refusal(() => stepped(machine, { type: "go" }));
      expect(error.code).toBe("machine_failed");
      expect(error.message).toContain("thrown");
    },
  );

  it("the host serves the next step as if nothing had been", () => {
    const host = new MachineHost(
      "test",
      createMachine({
        context: { n: 0 },
        on: {
          bad: {
            actions: [
              tell("a/b", { type: "x" }),
              reply(1),
              assign(() => {
                throw new Error("no");
              }),
            ],
          },
          good: { actions: assign({ n: ({ context }) => context.n + 1 }) },
        },
      }),
    );
    const { snapshot } = host.start("k", 1, NOW);
    expect(() => host.step(snapshot, { type: "bad" }, [], 2, NOW)).toThrow(KeyturnError);
    const next = host.step(snapshot, { type: "good" }, [], 2, NOW);
    expect([next.snapshot.context, next.effects.tells, next.effects.replied]).toEqual([{ n: 1 }, [], false]);
  });

  it.each([
    ["push", (c: Ctx) => c.list.push(3)],
    ["pop", (c: Ctx) => c.list.pop()],
    ["shift", (c: Ctx) => c.list.shift()],
    ["unshift", (c: Ctx) => c.list.unshift(0)],
    ["splice", (c: Ctx) => c.list.splice(0, 1)],
    ["sort", (c: Ctx) => c.list.sort()],
    ["set", (c: Ctx) => Object.assign(c, { n: 2 })],
    ["set deep", (c: Ctx) => Object.assign(c.deep.a, { n: 2 })],
    ["add", (c: Ctx) => Object.assign(c.deep, { b: 1 })],
    ["Map.set", (c: Ctx) => c.map.set("b", 2)],
    ["Map.delete", (c: Ctx) => c.map.delete("a")],
    ["Map.clear", (c: Ctx) => c.map.clear()],
    ["Set.add", (c: Ctx) => c.map.get("set")?.add(2)],
    ["Set.delete", (c: Ctx) => c.map.get("set")?.delete(1)],
    ["Set.clear", (c: Ctx) => c.map.get("set")?.clear()],
    ["an Error's property", (c: Ctx) => Object.assign(c.error, { code: 2 })],
    ["an Error's message", (c: Ctx) => Object.assign(c.error, { message: "other" })],
    ["delete", (c: Ctx) => Reflect.deleteProperty(c, "list") || deleteStrictly(c)],
  ] as [string, (c: Ctx) => unknown][])(
    "machine 3: changing the context in place (%s) is context_mutated",
    (_how, mutate) => {
      const change = doing(
        assign(({ context }: { context: unknown }) => {
          mutate(context as Ctx);
          return {};
        }),
        {
          list: [2, 1],
          deep: { a: { n: 1 } },
          n: 1,
          map: new Map<string, unknown>([
            ["a", 1],
            ["set", new Set([1])],
          ]),
          error: new Error("kept"),
        },
      );
      expect(refusal(() => stepped(change, { type: "go" })).code).toBe("context_mutated");
      const event = doing(({ event: e }: { event: { deep: { n: number } } }) => e);
      expect(stepped(event, { type: "go" }).snapshot.status).toBe("active");
    },
  );

  it("machine 3: every context that comes out is deeply frozen, function contexts and new parts included", () => {
    const machine = createMachine({
      context: () => ({ list: [{ a: 1 }] as unknown[], other: {} }),
      on: { go: { actions: assign({ list: ({ context }) => [...context.list, { b: { c: 2 } }] }) } },
    });
    const { snapshot } = stepped(machine, { type: "go" });
    const { list, other } = snapshot.context as { list: { b: { c: number } }[]; other: object };
    for (const part of [snapshot.context, list, list[0], list[1], list[1]?.b, other])
      expect(Object.isFrozen(part)).toBe(true);
  });

  it.each([
    ["a function", () => 1],
    ["a symbol", Symbol("s")],
    ["a Map with a function", new Map([["f", () => 1]])],
    ["a Set of functions", new Set([() => 1])],
    ["a class instance", new (class Thing {})()],
    ["a huge bigint", 2n ** 70n],
    ["an invalid Date", new Date(Number.NaN)],
  ])(
    "context_invalid: %s in the context, at first or later, at any depth, or in an output",
    (_what, value) => {
      const machines = [
        doing(assign(() => ({ list: value }))),
        doing(assign(() => ({ list: [{ x: value }] }))),
        createMachine({ context: () => ({ deep: [value] }) }),
        createMachine({
          initial: "a",
          output: () => ({ value }),
          states: { a: { on: { go: "b" } }, b: { type: "final" } },
        }),
      ];
      for (const machine of machines) {
        const error = refusal(() => stepped(machine, { type: "go" }));
        expect(error.code).toBe("context_invalid");
      }
      expect(
        refusal(() => defineActor({ type: "x", machine: createMachine({ context: { deep: [value] } }) }))
          .code,
      ).toBe("context_invalid");
    },
  );

  it("machine_looped: eventless, raised and initial loops end", () => {
    const loops = [
      createMachine({
        initial: "r",
        states: { r: { on: { go: "a" } }, a: { always: "b" }, b: { always: "a" } },
      }),
      createMachine({ on: { go: { actions: raise({ type: "go" }) } } }),
      createMachine({ initial: "a", states: { a: { always: "b" }, b: { always: "a" } } }),
    ];
    for (const machine of loops)
      expect(refusal(() => stepped(machine, { type: "go" })).code).toBe("machine_looped");
  });
});

describe("what is not supported", () => {
  const child = fromPromise(async () => 1);
  it.each([
    [
      "spawn in assign",
      doing(
        assign(({ spawn }: { spawn: (src: unknown) => unknown }) => {
          spawn(child);
          return {};
        }),
      ),
    ],
    [
      "spawnChild in enqueueActions",
      doing(enqueueActions(({ enqueue }) => enqueue.spawnChild(child as never))),
    ],
    ["sendTo another actor", doing(sendTo(createActor(createMachine({})) as never, { type: "x" } as never))],
  ] as [string, AnyStateMachine][])("%s is refused when it happens", (_what, machine) => {
    expect(refusal(() => stepped(machine, { type: "go" })).code).toBe("unsupported_machine");
  });

  it("sendParent has no parent", () => {
    expect(refusal(() => stepped(doing(sendParent({ type: "x" })), { type: "go" })).code).toBe(
      "machine_failed",
    );
  });
});

interface Ctx {
  map: Map<string, unknown> & { get(name: "set"): Set<unknown> | undefined };
  error: Error;
  list: number[];
  deep: { a: { n: number } };
  n: number;
}

function deleteStrictly(context: Ctx): void {
  delete (context as Partial<Ctx>).list;
}

describe("machine 3: a frozen object in a context proves nothing", () => {
  it("what it holds is checked and frozen all the same", () => {
    const list: number[] = [];
    const kept = doing(assign(() => ({ kept: Object.freeze({ list }) })));
    stepped(kept, { type: "go" });
    expect(Object.isFrozen(list)).toBe(true);
    const hidden = doing(assign(() => ({ hidden: Object.freeze({ f: () => 1 }) })));
    expect(refusal(() => stepped(hidden, { type: "go" })).code).toBe("context_invalid");
  });
});
