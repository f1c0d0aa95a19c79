/** Model-based paths, as somebody who writes actors uses them; and that they bite. */
import { ask, defineActor, isKeyturnError } from "keyturn";
import { checkModel, TestFailure } from "keyturn/testing";
import { type AnyStateMachine, assign, createMachine, fromPromise, raise, setup } from "xstate";
import { afterEach, describe, expect, it } from "vitest";
import { ledger, order } from "./support/shop.ts";
import { bugs, Patcher } from "./sim/bugs/index.ts";

const patcher = new Patcher();
afterEach(() => patcher.undo());

const events = [
  { type: "place", cents: 500 },
  { type: "pay", cents: 500 },
] as const;

/** Two regions, history, eventless transitions, two timers, one of which is cancelled on the way. */
const machine = setup({
  types: {
    context: {} as { log: string[]; count: number },
    events: {} as { type: "go" } | { type: "back" } | { type: "count"; by: number } | { type: "ring" },
  },
}).createMachine({
  context: { log: [], count: 0 },
  type: "parallel",
  states: {
    walk: {
      initial: "home",
      states: {
        home: { on: { go: "away" } },
        away: {
          entry: assign({ log: ({ context }) => [...context.log, "away"] }),
          initial: "near",
          states: { near: { after: { 5000: "far" } }, far: {}, again: { type: "history" } },
          on: { back: "home" },
          after: { 60000: "home" },
        },
      },
    },
    watch: {
      initial: "low",
      states: {
        low: { always: { guard: ({ context }) => context.count > 2, target: "high" } },
        high: { tags: "loud", on: { ring: { actions: raise({ type: "back" }) } } },
      },
      on: { count: { actions: assign({ count: ({ context, event }) => context.count + event.by }) } },
    },
  },
});
const walker = defineActor({ type: "walker", machine });

describe("a durable actor is like its plain machine", () => {
  it("over the shortest paths, whatever goes wrong", async () => {
    const { paths, steps, skipped, faults } = await checkModel(order, {
      events,
      actors: [ledger],
      seed: 1,
      crashes: 0.6,
    });
    expect(paths).toBe(5);
    expect(steps).toBe(13);
    expect(skipped).toBe(0);
    expect(Object.values(faults).reduce((sum, count) => sum + count, 0)).toBeGreaterThan(5);
  });

  it.each([1, 2, 3])("over simple paths of a larger machine, seed %i", async (seed) => {
    const { paths, steps } = await checkModel(walker, {
      events: [
        { type: "count", by: 1 },
        { type: "count", by: 2 },
      ],
      paths: "simple",
      seed,
      crashes: 0.2,
      limit: 12,
    });
    expect(paths).toBe(12);
    expect(steps).toBeGreaterThan(30);
  });

  it("meets each kind of fault", async () => {
    const { faults } = await checkModel(walker, {
      events: [{ type: "count", by: 2 }],
      crashes: 1,
      limit: 15,
      seed: 4,
    });
    for (const [name, count] of Object.entries(faults)) expect(count, name).toBeGreaterThan(0);
  });

  it("plays the same again under the same seed", async () => {
    const run = (seed: number) => checkModel(walker, { events: [{ type: "count", by: 1 }], seed, limit: 10 });
    expect(await run(9)).toEqual(await run(9));
    expect(await run(9)).not.toEqual(await run(10));
  });

  it("a step at which the machine throws is refused by both", async () => {
    const moody = defineActor({
      type: "moody",
      machine: setup({
        types: { context: {} as { n: number }, events: {} as { type: "up" } | { type: "fail" } },
      }).createMachine({
        context: { n: 0 },
        on: {
          up: {
            guard: ({ context }) => context.n < 3,
            actions: assign({ n: ({ context }) => context.n + 1 }),
          },
          fail: {
            guard: ({ context }) => context.n === 2,
            actions: assign(({ context }) => {
              // The graph is made with a key of its own, and must not break.
              if (poisoned) throw new Error("no more");
              return context;
            }),
          },
        },
      }),
    });
    let poisoned = false;
    const calm = await checkModel(moody, { crashes: 0.5 });
    expect(calm.steps).toBeGreaterThan(5);
    poisoned = true;
    await expect(checkModel(moody, { crashes: 0.5 })).rejects.toMatchObject({ code: "invalid_options" });
  });
});

describe("it bites", () => {
  /** What is thrown. */
  async function failureOf(run: Promise<unknown>): Promise<TestFailure> {
    const failure = await run.then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(TestFailure);
    return failure as TestFailure;
  }

  it("a machine that remembers something outside of its context", async () => {
    let outside = 0;
    const forgetful = defineActor({
      type: "forgetful",
      machine: setup({
        types: { context: {} as { n: number }, events: {} as { type: "count" } },
      }).createMachine({
        context: { n: 0 },
        on: {
          count: {
            guard: ({ context }) => context.n < 1_000,
            actions: assign({ n: () => ++outside }),
          },
        },
      }),
    });
    const failure = await failureOf(checkModel(forgetful, { seed: 3, limit: 4 }));
    expect(failure.seed).toBe(3);
    expect(failure.message).toMatch(
      /^The durable actor "forgetful\/path-1" differs from its plain machine after step 1 of \d+, seed 3:\n {2}1\. count.*\n {2}state\.context\.n: expected \d+, is \d+\n {2}plain machine: .*\n {2}durable actor: /,
    );
  });

  it("a machine that changes its context in place, before anything is played", async () => {
    const careless = defineActor({
      type: "careless",
      machine: setup({
        types: { context: {} as { list: { n: number }[] }, events: {} as { type: "push" } },
      }).createMachine({
        context: () => ({ list: [] }),
        on: {
          push: {
            actions: assign({
              list: ({ context }) => {
                context.list.push({ n: 1 });
                return context.list;
              },
            }),
          },
        },
      }),
    });
    await expect(checkModel(careless)).rejects.toThrow(
      /it threw "Cannot add property 0, object is not extensible"/,
    );
  });

  it("a machine that makes a context which no journal can hold", async () => {
    const lazy = defineActor({
      type: "lazy",
      machine: setup({
        types: { context: {} as { since: unknown }, events: {} as { type: "begin" } },
      }).createMachine({
        context: { since: null },
        initial: "a",
        states: { a: { on: { begin: "b" } }, b: { type: "final", entry: assign({ since: () => () => 1 }) } },
      }),
    });
    const failure = await failureOf(checkModel(lazy, { crashes: 0, limit: 1 }));
    expect(failure.message).toMatch(
      /the durable actor refused it with context_invalid: .*\n {2}the plain machine took it/,
    );
  });

  it("a runtime that takes repeated requests for new ones", async () => {
    const bug = bugs.find(({ name }) => name === "no-request-dedupe");
    bug?.install(undefined as never, patcher);
    let caught: TestFailure | undefined;
    for (let seed = 1; seed <= 10 && caught === undefined; seed++)
      caught = await checkModel(walker, {
        events: [{ type: "count", by: 1 }],
        seed,
        crashes: 0.7,
        limit: 10,
      }).then(
        () => undefined,
        (error: unknown) => error as TestFailure,
      );
    expect(caught).toBeInstanceOf(TestFailure);
    expect(caught?.message).toMatch(/differs from its plain machine/);
  });
});

describe("bad input", () => {
  const wild = defineActor({
    type: "wild",
    machine: setup({ types: { events: {} as { type: "a.b" } } }).createMachine({ on: { "a.*": {} } }),
  });
  const strict = defineActor({
    type: "strict",
    machine: setup({ types: { events: {} as { type: "add"; by: number } } }).createMachine({
      on: { add: {} },
    }),
    events: {
      "~standard": {
        version: 1,
        vendor: "test",
        validate: (event) =>
          Number((event as { by?: number }).by) > 0 ? {} : { issues: [{ message: "no amount" }] },
      },
    },
  });

  it.each<[string, () => Promise<unknown>, RegExp]>([
    ["no definition", () => checkModel({} as never), /Actors are what defineActor returns/],
    ["options that are none", () => checkModel(order, null as never), /takes a definition/],
    ["a seed that is none", () => checkModel(order, { seed: 0.5 }), /The seed is 0.5/],
    ["a probability above 1", () => checkModel(order, { crashes: 2 }), /from 0 to 1/],
    ["paths of another kind", () => checkModel(order, { paths: "long" as never }), /"shortest" or "simple"/],
    ["a limit of 0", () => checkModel(order, { limit: 0 }), /The limit is 0/],
    [
      "a machine of wildcards without examples",
      () => checkModel(wild),
      /Give examples of those that its wildcards take/,
    ],
    ["events that do not fit the schema", () => checkModel(strict), /no amount Give an example that does/],
  ])("%s is refused", async (_, run, text) => {
    const refused = await run().catch((error: unknown) => error);
    expect(isKeyturnError(refused, "invalid_options"), String(refused)).toBe(true);
    expect((refused as Error).message).toMatch(text);
  });

  it("examples are enough for wildcards and schemas", async () => {
    expect((await checkModel(wild, { events: [{ type: "a.b" }] })).steps).toBe(1);
    expect((await checkModel(strict, { events: [{ type: "add", by: 2 }] })).steps).toBe(1);
  });
});

describe("a machine that asks other actors", () => {
  const asking = setup({
    types: { context: {} as { left: unknown }, events: {} as { type: "buy" } },
    actors: { ask },
  }).createMachine({
    context: { left: null },
    initial: "idle",
    states: {
      idle: { on: { buy: "asking" } },
      asking: {
        invoke: {
          src: "ask",
          input: { to: "stock/tea", event: { type: "take" } },
          onDone: { target: "idle", actions: assign({ left: ({ event }) => event.output }) },
          onError: "refused",
        },
      },
      refused: {},
    },
  });

  it.each([
    ["by name", asking, /asks other actors \(by its actor "ask"\).*machine\.provide/],
    [
      "inline",
      createMachine({
        initial: "a",
        states: {
          a: {
            initial: "b",
            states: { b: { invoke: { src: ask, input: { to: "stock/tea", event: { type: "take" } } } } },
          },
        },
      }),
      /\(in the state a\.b\)/,
    ],
    ["within a child", createMachine({ on: { go: {} }, invoke: { src: asking } }), /by its actor "ask"/],
  ])("is refused, with what to do (%s)", async (_how, machine, says) => {
    const refused = checkModel(defineActor({ type: "buyer", machine: machine as AnyStateMachine }));
    await expect(refused).rejects.toMatchObject({
      code: "invalid_options",
      message: expect.stringMatching(says),
    });
  });

  it("is checked with a stand-in that answers, and with one that refuses", async () => {
    for (const answer of [async () => 3, () => Promise.reject(new Error("none left"))]) {
      const machine = asking.provide({ actors: { ask: fromPromise(answer) as typeof ask } });
      const { steps } = await checkModel(defineActor({ type: "buyer", machine }), { seed: 3, crashes: 0.5 });
      expect(steps).toBeGreaterThan(0);
    }
  });
});
