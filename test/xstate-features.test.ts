/** Features of XState's machines mean the same in a durable actor, restored, recovered and handed over between any two events. */
import {
  and,
  assign,
  cancel,
  emit,
  enqueueActions,
  log,
  not,
  or,
  raise,
  sendTo,
  setup,
  stateIn,
} from "xstate";
import { describe, expect, it } from "vitest";
import { Durable, expectSame, type Make } from "./support/beside-plain.ts";

// biome-ignore lint/suspicious/noExplicitAny: the events of these machines are many
type AnyEvent = any;
const types = { context: {} as { n: number; seen: readonly string[] }, events: {} as AnyEvent };
const context = { n: 0, seen: [] as readonly string[] };

describe("states", () => {
  it("nested and parallel states, reentry and transitions to a state's own children", async () => {
    await expectSame(
      () =>
        setup({ types }).createMachine({
          context,
          type: "parallel",
          states: {
            light: {
              initial: "red",
              on: { reset: { target: ".red" }, again: { target: "light", reenter: true } },
              entry: assign({ n: ({ context }) => context.n + 1 }),
              states: {
                red: { on: { turn: "green" } },
                green: { on: { turn: "walk" } },
                walk: { initial: "slow", states: { slow: { on: { turn: "fast" } }, fast: {} } },
              },
            },
            door: {
              initial: "shut",
              states: { shut: { on: { turn: "open" } }, open: { on: { shut: "shut" } } },
            },
          },
        }),
      ["turn", "turn", "turn", "shut", "reset", "turn", "again", "nothing"],
    );
  });

  it("history states, shallow and deep, with and without a past", async () => {
    await expectSame(
      () =>
        setup({ types }).createMachine({
          context,
          initial: "off",
          states: {
            off: { on: { shallow: "on.last", deep: "on.deepest", on: "on" } },
            on: {
              initial: "a",
              on: { off: "off" },
              states: {
                last: { type: "history", target: "b" },
                deepest: { type: "history", history: "deep" },
                a: { on: { next: "b" } },
                b: {
                  initial: "one",
                  states: { one: { on: { next: "two" } }, two: { on: { next: "three" } }, three: {} },
                },
              },
            },
          },
        }),
      [
        "shallow",
        "next",
        "off",
        "deep",
        "off",
        "shallow",
        "next",
        "next",
        "off",
        "deep",
        "off",
        "on",
        "off",
        "deep",
      ],
    );
  });

  it("final states, onDone with output, the machine's own output, input, tags and meta", async () => {
    const make: Make = () =>
      setup({
        types: {
          context: {} as { key: string },
          input: {} as { key: string },
          output: {} as string,
          tags: {} as string,
        },
      }).createMachine({
        id: "order",
        context: ({ input }) => ({ key: input.key }),
        initial: "working",
        states: {
          working: {
            initial: "first",
            tags: ["busy"],
            meta: { note: "at work" },
            onDone: { target: "asking", actions: assign({ key: ({ event }) => `from ${event.output}` }) },
            states: {
              first: { tags: ["early", "new"], on: { next: "last" } },
              last: { type: "final", output: ({ context }) => context.key },
            },
          },
          asking: { tags: ["busy"], meta: { note: "asks" }, on: { yes: "over" } },
          over: { type: "final" },
        },
        output: ({ context }) => context.key.toUpperCase(),
      });
    const seen = await expectSame(make, ["look", "next", "look", "yes", "next"]);
    expect(seen.map(({ tags }) => tags)).toEqual([["busy", "early", "new"], ["busy"], ["busy"], [], []]);
    expect(seen.at(-1)).toMatchObject({ status: "done", output: "FROM ONE" });
    // Meta is the machine's, not the state's: it is read from the state's value.
    const durable = new Durable(make);
    await durable.play("next");
    const { value, context } = await durable.get();
    const resolved = make(durable.outside).resolveState({ value, context } as never);
    expect(resolved.getMeta()).toEqual({ "order.asking": { note: "asks" } });
    durable.end();
  });

  it("always, guards with and, or, not and stateIn, in parallel regions", async () => {
    await expectSame(
      () =>
        setup({
          types,
          guards: {
            many: ({ context }) => context.n >= 2,
            least: ({ context }, params: { n: number }) => context.n >= params.n,
          },
        }).createMachine({
          context,
          type: "parallel",
          on: { add: { actions: assign({ n: ({ context }) => context.n + 1 }) } },
          states: {
            counted: {
              initial: "few",
              states: {
                few: { always: { guard: "many", target: "some" } },
                some: {
                  always: { guard: and(["many", { type: "least", params: { n: 4 } }]), target: "lots" },
                },
                lots: {},
              },
            },
            gate: {
              initial: "shut",
              states: {
                shut: {
                  on: {
                    open: { guard: and([stateIn({ counted: "some" }), not("many")]), target: "wrong" },
                    push: { guard: or([stateIn({ counted: "lots" }), not("many")]), target: "open" },
                  },
                },
                open: { on: { push: { guard: stateIn({ counted: "lots" }), target: "shut" } } },
                wrong: {},
              },
            },
          },
        }),
      ["open", "push", "push", "add", "add", "open", "push", "add", "add", "push", "push"],
    );
  });

  it("wildcard events and partial event descriptors: the most exact one is taken", async () => {
    const see = (name: string): AnyEvent => ({
      actions: assign({ seen: ({ context }) => [...context.seen, name] }),
    });
    await expectSame(
      () =>
        setup({ types }).createMachine({
          context,
          initial: "on",
          states: {
            on: { on: { "mouse.click.*": see("click"), "mouse.click.left": see("left"), stop: "deaf" } },
            deaf: { on: { "*": { target: "on" } } },
          },
          on: { "mouse.*": see("mouse"), "*": see("any") },
        }),
      [
        "mouse.click.left",
        "mouse.click.right.twice",
        "mouse.click",
        "mouse.move",
        "mouse",
        "key",
        "stop",
        "mouse.x",
        "key",
      ],
    );
  });
});

describe("actions", () => {
  it("assign, raise, emit, log, enqueueActions and custom actions with dynamic params, in order", async () => {
    await expectSame(
      (outside) =>
        setup({
          types: { ...types, emitted: {} as { type: "count"; n: number } },
          actions: { note: outside.note as (args: unknown, params: unknown) => void },
          guards: { even: ({ context }) => context.n % 2 === 0 },
        }).createMachine({
          context,
          initial: "a",
          states: {
            a: {
              on: {
                go: {
                  target: "b",
                  actions: [
                    assign({ n: ({ context }) => context.n + 1 }),
                    {
                      type: "note",
                      params: ({ context, event }: AnyEvent) => ({ n: context.n, type: event.type }),
                    },
                    raise({ type: "raised" }),
                    emit(({ context }) => ({ type: "count" as const, n: context.n })),
                    log(({ context }) => `n is ${context.n}`, "label"),
                  ],
                },
              },
            },
            b: {
              entry: { type: "note", params: "entry of b" },
              exit: { type: "note", params: "exit of b" },
              on: {
                raised: {
                  actions: enqueueActions(({ enqueue, check, context }) => {
                    enqueue.assign({ seen: [...context.seen, "raised"] });
                    if (check("even")) enqueue({ type: "note", params: "even" });
                    else enqueue.raise({ type: "odd" } as AnyEvent);
                    enqueue.emit({ type: "count", n: -1 });
                    enqueue(log("enqueued"));
                  }),
                },
                odd: { actions: { type: "note", params: "odd" } },
                back: "a",
              },
            },
          },
        }),
      ["go", "back", "go", "go", "back", "go"],
    );
  });

  it("after, with named and with dynamic delays; delayed raise and sendTo self; cancel", async () => {
    await expectSame(
      () =>
        setup({
          types,
          delays: { short: 30, byCount: ({ context }) => 100 * (context.n + 1) },
        }).createMachine({
          context,
          initial: "idle",
          states: {
            idle: { on: { go: "first" } },
            first: {
              after: { short: { target: "second", actions: assign({ n: ({ context }) => context.n + 1 }) } },
            },
            second: { after: { byCount: "third", 500: "never" } },
            third: {
              entry: [
                raise({ type: "tick" }, { delay: "short", id: "tick" }),
                sendTo(({ self }) => self, { type: "tock" }, { delay: 60, id: "tock" }),
              ],
              on: {
                tick: { actions: assign({ seen: ({ context }) => [...context.seen, "tick"] }) },
                tock: { actions: assign({ seen: ({ context }) => [...context.seen, "tock"] }) },
                stop: { actions: [cancel("tick"), cancel("tock")] },
                again: { target: "third", reenter: true },
                go: "first",
              },
            },
            never: {},
          },
        }),
      [
        "go",
        20,
        "x",
        10,
        150,
        50,
        10,
        "stop",
        100,
        "again",
        30,
        "x",
        30,
        "again",
        40,
        "stop",
        50,
        "go",
        29,
        1,
        299,
        1,
      ],
    );
  });
});
