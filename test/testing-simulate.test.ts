/** Machines of one's own in the simulator, in one line; and that it bites. */
import { defineActor, isKeyturnError, tell } from "keyturn";
import { type Disk, simulateActor, TestFailure } from "keyturn/testing";
import { assign, raise, setup } from "xstate";
import { afterEach, describe, expect, it } from "vitest";
import { ledger, order } from "./support/shop.ts";
import { type Bug, bugs, Patcher } from "./sim/bugs/index.ts";

const patcher = new Patcher();
afterEach(() => patcher.undo());

/** Counts, tells itself to count once more, and takes one back after a while. */
const echoing = defineActor({
  type: "echoing",
  machine: setup({
    types: {
      context: {} as { key: string; sum: number; echoes: number; taken: number },
      events: {} as
        | { type: "add"; by: number }
        | { type: "echo"; by: number }
        | { type: "take" }
        | { type: "fail"; by: number },
      input: {} as { type: string; key: string },
    },
  }).createMachine({
    context: ({ input }) => ({ key: input.key, sum: 0, echoes: 0, taken: 0 }),
    on: {
      add: {
        actions: [
          assign({ sum: ({ context, event }) => context.sum + event.by }),
          tell(
            ({ context }) => `echoing/${context.key}`,
            ({ event }) => ({ type: "echo", by: event.by }),
          ),
          raise({ type: "take" as const }, { delay: 700 }),
        ],
      },
      echo: { actions: assign({ echoes: ({ context, event }) => context.echoes + event.by }) },
      take: { actions: assign({ taken: ({ context }) => context.taken + 1 }) },
      fail: {
        actions: assign(() => {
          throw new Error("as told");
        }),
      },
    },
  }),
});

const counter = defineActor({
  type: "counting",
  machine: setup({
    types: { context: {} as { sum: number }, events: {} as { type: "add"; by: number } },
  }).createMachine({
    context: { sum: 0 },
    on: { add: { actions: assign({ sum: ({ context, event }) => context.sum + event.by }) } },
  }),
});

const add = (random: { whole(low: number, high: number): number }) =>
  ({ type: "add", by: random.whole(1, 1_000_000) }) as const;

async function failureOf(run: Promise<unknown>): Promise<TestFailure | undefined> {
  return run.then(
    () => undefined,
    (error: unknown) => {
      expect(error).toBeInstanceOf(TestFailure);
      return error as TestFailure;
    },
  );
}

describe("one line", () => {
  it("an order, its timer and its messages", async () => {
    const { seeds, turns, faults } = await simulateActor(order, {
      events: (random) =>
        random.pick([{ type: "place", cents: 500 }, { type: "pay", cents: 500 }, { type: "ship" }] as const),
      actors: [ledger],
      seeds: 15,
    });
    expect(seeds).toBe(15);
    expect(turns).toBeGreaterThan(300);
    expect(Object.keys(faults).length).toBeGreaterThan(5);
  });

  it("messages to itself, delayed events, events that fail", async () => {
    const { turns } = await simulateActor(echoing, {
      events: (random) => (random.chance(0.1) ? ({ type: "fail", by: 0 } as const) : add(random)),
      keys: 4,
      seeds: 15,
    });
    expect(turns).toBeGreaterThan(500);
  });

  it("without faults nothing strikes", async () => {
    const { faults } = await simulateActor(counter, { events: add, seeds: 5, calm: true });
    expect(faults).toEqual({});
  });

  it("the same seed is the same run", async () => {
    const run = async (): Promise<string[]> => {
      const lines: string[] = [];
      await simulateActor(counter, { events: add, from: 12, seeds: 1, trace: (line) => lines.push(line) });
      return lines;
    };
    const first = await run();
    expect(first.length).toBeGreaterThan(100);
    expect(await run()).toEqual(first);
  });
});

describe("it bites", () => {
  it.each(["no-request-dedupe", "requests-forgotten", "tail-cut-early", "answer-before-commit"])(
    "%s",
    async (name) => {
      const bug = bugs.find((other) => other.name === name) as Bug;
      const caught = await failureOf(
        simulateActor(counter, {
          events: add,
          seeds: 150,
          ...(bug.focus === undefined ? {} : { scenario: bug.focus }),
          prepare: (disk) => {
            patcher.undo();
            bug.install(disk, patcher);
          },
        }),
      );
      expect(caught?.message).toMatch(/^Seed \d+ of "counting" violates what is promised:\n {2}/);
      expect(caught?.message).toContain(`from: ${caught?.seed}, seeds: 1`);
      // The seed that is named shows it again, and without the bug it does not.
      const again = { events: add, from: caught?.seed as number, seeds: 1 };
      const scenario = bug.focus === undefined ? {} : { scenario: bug.focus };
      const prepare = { prepare: (disk: Disk) => bug.install(disk, patcher) };
      patcher.undo();
      const repeated = await failureOf(simulateActor(counter, { ...again, ...scenario, ...prepare }));
      expect(repeated?.message).toBe(caught?.message);
      patcher.undo();
      await simulateActor(counter, { ...again, ...scenario });
    },
  );

  it("a repeated request that is applied twice is named as such", async () => {
    const bug = bugs.find(({ name }) => name === "no-request-dedupe") as Bug;
    const caught = await failureOf(
      simulateActor(counter, {
        events: add,
        seeds: 60,
        prepare: (disk) => {
          patcher.undo();
          bug.install(disk, patcher);
        },
      }),
    );
    expect(caught?.message).toMatch(/counting\/k\d: /);
  });

  it("a machine that remembers something outside of its context", async () => {
    let outside = 0;
    const forgetful = defineActor({
      type: "forgetful",
      machine: setup({
        types: { context: {} as { n: number }, events: {} as { type: "count" } },
      }).createMachine({
        context: { n: 0 },
        on: { count: { actions: assign({ n: () => ++outside }) } },
      }),
    });
    const caught = await failureOf(
      simulateActor(forgetful, { events: () => ({ type: "count" }) as const, calm: true, seeds: 1 }),
    );
    expect(caught?.message).toMatch(
      /differs from the plain machine after turn 1 \(count\): state\.context\.n: expected \d+, is \d+/,
    );
  });
});

describe("bad input", () => {
  it.each<[string, () => Promise<unknown>]>([
    ["no options", () => simulateActor(counter, undefined as never)],
    ["no events", () => simulateActor(counter, {} as never)],
    ["no definition", () => simulateActor({} as never, { events: add as never })],
    ["no seeds", () => simulateActor(counter, { events: add, seeds: 0 })],
    ["a first seed that is none", () => simulateActor(counter, { events: add, from: -1 })],
    ["no keys", () => simulateActor(counter, { events: add, keys: 0 })],
    ["too many processes", () => simulateActor(counter, { events: add, processes: 1_000 })],
    ["one type twice", () => simulateActor(counter, { events: add, actors: [counter] })],
  ])("%s is refused", async (_, run) => {
    const refused = await run().catch((error: unknown) => error);
    expect(isKeyturnError(refused, "invalid_options"), String(refused)).toBe(true);
  });
});
