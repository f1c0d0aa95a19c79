/** Machine 4: a machine that is stored and restored between any two events behaves like one that never was. */
import fc from "fast-check";
import { type AnyStateMachine, assign, createActor, createMachine, raise, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { MachineHost, persist, type Timer } from "../runtime/engine/machine.ts";
import { decode, encode } from "../runtime/words/codec.ts";
import type { MachineState } from "../runtime/engine/machine.ts";

type Log = { context: { log: string[] } };

const note = (what: string) =>
  assign({ log: ({ context }: Log) => [...context.log, what].slice(-40) }) as never;

const nested = createMachine({
  id: "nested",
  context: { log: [] as string[] },
  initial: "a",
  states: {
    a: {
      initial: "x",
      entry: note("+a"),
      exit: note("-a"),
      states: {
        x: { entry: note("+x"), exit: note("-x"), on: { E0: "y", E1: "#nested.b" } },
        y: { entry: note("+y"), exit: note("-y"), on: { E0: "x", E2: { target: "y", reenter: true } } },
        h: { type: "history" },
      },
      on: { E3: "b", E4: { target: "a", reenter: true } },
    },
    b: {
      initial: "p",
      entry: note("+b"),
      exit: note("-b"),
      states: {
        p: { on: { E0: "q" } },
        q: { initial: "deep", states: { deep: { on: { E0: "deeper" } }, deeper: {} } },
        h: { type: "history", history: "deep", target: "q" },
      },
      on: { E1: "a.h", E2: "a", E3: "c" },
    },
    c: { entry: note("+c"), on: { E0: "b.h", E1: "a.h", E5: "end" } },
    end: { type: "final" },
  },
});

const parallel = setup({
  types: { context: {} as { log: string[]; n: number } },
  guards: { even: ({ context }) => context.n % 2 === 0, many: ({ context }) => context.n > 4 },
}).createMachine({
  id: "parallel",
  context: { log: [], n: 0 },
  type: "parallel",
  states: {
    left: {
      initial: "off",
      states: {
        off: {
          entry: note("+off"),
          on: { E0: "on", E1: { actions: assign({ n: ({ context }) => context.n + 1 }) } },
        },
        on: {
          type: "parallel",
          exit: note("-on"),
          states: {
            up: {
              initial: "u1",
              states: { u1: { on: { E1: "u2" } }, u2: { entry: note("+u2"), on: { E2: "u1" } } },
            },
            down: {
              initial: "d1",
              states: { d1: { on: { E1: "d2" } }, d2: { always: { guard: "many", target: "d1" } } },
            },
          },
          on: { E3: "off", E4: "kept" },
        },
        kept: { on: { E4: "memory" } },
        memory: { type: "history", history: "deep" },
      },
    },
    right: {
      initial: "r1",
      states: {
        r1: { entry: note("+r1"), always: { guard: "many", target: "r3" }, on: { E1: "r2" } },
        r2: {
          entry: [note("+r2"), raise({ type: "E5" })],
          on: { E1: "r1", E2: { guard: "even", target: "r3" } },
        },
        r3: { on: { E3: { target: "r1", actions: assign({ n: 0 }) } } },
      },
      on: { E5: { actions: assign({ n: ({ context }) => context.n + 1 }) } },
    },
  },
});

const collecting = createMachine({
  id: "collecting",
  context: { log: [] as string[] },
  initial: "open",
  states: {
    open: {
      initial: "work",
      states: {
        work: {
          type: "parallel",
          states: {
            a: { initial: "todo", states: { todo: { on: { E0: "done" } }, done: { type: "final" } } },
            b: {
              initial: "todo",
              states: { todo: { on: { E1: "half" } }, half: { on: { E2: "done" } }, done: { type: "final" } },
            },
          },
          onDone: { target: "#collecting.closed", actions: note("done") },
        },
        kept: { type: "history", history: "deep" },
      },
      on: { E3: "shelved" },
    },
    shelved: { on: { E4: "open.kept", E5: "open" } },
    closed: { entry: note("+closed"), on: { E5: "open" } },
  },
});

/** Names and ids that look like paths. */
const dotted = createMachine({
  id: "dotted.machine",
  context: { log: [] as string[] },
  initial: "a.b",
  states: {
    "a.b": {
      initial: "1.0",
      states: {
        "1.0": { on: { E1: "1\\.1" } },
        "1.1": { id: "an.id.of.its.own", on: { E1: "1\\.0" } },
        "h.h": { type: "history" },
      },
      on: { E2: "a" },
    },
    a: { entry: note("+a"), on: { E3: "a\\.b.h\\.h" } },
  },
});

const wildcard = createMachine({
  id: "wildcard",
  context: { log: [] as string[] },
  initial: "a",
  states: {
    a: { on: { "*": { target: "b", actions: note("any") }, E0: {} } },
    b: { tags: "busy", on: { E1: "a", "E2.*": "c" } },
    c: { always: "a", entry: note("+c") },
  },
});

const machines: [string, AnyStateMachine][] = [
  ["nested states with shallow and deep history", nested],
  ["parallel states with raised events, guards and eventless transitions", parallel],
  ["parallel final states, shelved and resumed", collecting],
  ["history of states with dots in their names and ids", dotted],
  ["wildcards and partial wildcards", wildcard],
];

const events = fc.array(
  fc.constantFrom("E0", "E1", "E2", "E3", "E4", "E5", "E2.x").map((type) => ({ type })),
  { maxLength: 40 },
);

/** What can be seen of a snapshot. */
function visible(snapshot: {
  value: unknown;
  context: unknown;
  status: string;
  output: unknown;
  tags: Set<string>;
}): unknown {
  const { value, context, status, output, tags } = snapshot;
  return { value, context, status, output, tags: [...tags].sort() };
}

describe.each(machines)("%s", (_what, machine) => {
  it("takes the same way as in a plain XState actor, restored from bytes before every event", () => {
    fc.assert(
      fc.property(events, (list) => {
        const actor = createActor(machine).start();
        const host = new MachineHost("test", machine);
        let snapshot = host.start("k", 1, 0).snapshot;
        for (const event of list) {
          actor.send(event);
          const bytes = encode(persist(snapshot));
          snapshot = host.step(host.restore(decode(bytes) as MachineState), event, [], 1, 0).snapshot;
          expect(visible(snapshot)).toEqual(visible(actor.getSnapshot()));
        }
      }),
      { numRuns: 150 },
    );
  });

  it("what is stored after restoring is what was stored before", () => {
    fc.assert(
      fc.property(events, (list) => {
        const host = new MachineHost("test", machine);
        let snapshot = host.start("k", 1, 0).snapshot;
        for (const event of list) snapshot = host.step(snapshot, event, [], 1, 0).snapshot;
        const stored = persist(snapshot);
        expect(persist(host.restore(decode(encode(stored)) as MachineState))).toEqual(stored);
        expect(host.restore(stored).tags).toEqual(snapshot.tags);
      }),
    );
  });
});

describe("restore", () => {
  it("XState takes eventless transitions of several regions in the order of entry; here it is that of the document", () => {
    const region = (name: string, first: Record<string, unknown>) => ({
      initial: "first",
      states: {
        first,
        ready: {
          always: {
            guard: ({ context }: Log) => context.log.includes("go"),
            target: "over",
            actions: note(name),
          },
        },
        over: {},
      },
    });
    const machine = createMachine({
      context: { log: [] as string[] },
      type: "parallel",
      on: { GO: { actions: note("go") } },
      states: { a: region("a", { on: { E: "ready" } }), b: region("b", { always: "ready" }) },
    } as never) as AnyStateMachine;
    const host = new MachineHost("test", machine);
    const late = host.step(host.start("k", 1, 0).snapshot, { type: "E" }, [], 1, 0).snapshot;
    const logOf = (from: typeof late): unknown =>
      host.step(from, { type: "GO" }, [], 2, 0).snapshot.context.log;
    expect(logOf(late)).toEqual(["go", "a", "b"]);
    expect(logOf(host.restore(persist(late)))).toEqual(["go", "a", "b"]);
  });

  const host = new MachineHost("test", nested);
  const stored = persist(host.start("k", 1, 0).snapshot);

  it.each([
    ["a state that is not there", { value: "gone" }],
    ["a child that is not there", { value: { a: "gone" } }],
    ["a state whose children are missing", { value: "a" }],
    ["children of a state that has none", { value: { c: "x" } }],
    ["a history of a state that is not there", { history: { "nested.a.h": ["nested.a.gone"] } }],
    ["a context that is no plain data", { context: { log: new WeakMap() } }],
  ] as [string, Partial<MachineState>][])("refuses %s with incompatible_snapshot", (_what, change) => {
    expect(() => host.restore({ ...stored, ...change })).toThrow(
      expect.objectContaining({ code: "incompatible_snapshot" }),
    );
  });

  it("freezes the context it is given, so that a restored actor is as safe as a stepped one", () => {
    const { context } = host.restore(decode(encode(stored)) as MachineState);
    expect([Object.isFrozen(context), Object.isFrozen(context.log)]).toEqual([true, true]);
  });

  it("a machine in its final state stays in it, with its output", () => {
    const machine = createMachine({
      context: { n: 3 },
      initial: "a",
      output: ({ context }) => ({ n: (context as { n: number }).n }),
      states: { a: { on: { end: "b" } }, b: { type: "final" } },
    });
    const own = new MachineHost("test", machine);
    const { snapshot } = own.step(own.start("k", 1, 0).snapshot, { type: "end" }, [], 1, 0, true);
    const restored = own.restore(decode(encode(persist(snapshot))) as MachineState);
    expect(visible(restored)).toEqual(visible(snapshot));
    expect(restored.output).toEqual({ n: 3 });
    expect(own.step(restored, { type: "end" }, [], 2, 0).snapshot).toBe(restored);
  });

  it("timers of a restored actor are cancelled and replaced as those of one that stayed", () => {
    const machine = createMachine({
      initial: "a",
      states: { a: { after: { 100: "b" }, on: { go: "b", again: { target: "a", reenter: true } } }, b: {} },
    });
    const own = new MachineHost("test", machine);
    const start = own.start("k", 1, 1_000);
    const timers: readonly Timer[] = start.effects.timers;
    const restored = own.restore(decode(encode(persist(start.snapshot))) as MachineState);
    expect(own.step(restored, { type: "go" }, timers, 2, 1_050).effects.timers).toEqual([]);
    expect(own.step(restored, { type: "again" }, timers, 2, 1_050).effects.timers).toEqual([
      { ...timers[0], due: 1_150, generation: 2 },
    ]);
  });
});
