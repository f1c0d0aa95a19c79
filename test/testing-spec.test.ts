/** Given, when, then: as somebody who writes actors uses them, and what a wrong expectation is told. */
import { defineActor, isKeyturnError, reply } from "keyturn";
import { spec, TestFailure } from "keyturn/testing";
import { assign, raise, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { ledger, order } from "./support/shop.ts";

/** Takes amounts above 0 only; says so by a schema, not by its machine. */
const strict = defineActor({
  type: "strict",
  machine: setup({
    types: { context: {} as { sum: number }, events: {} as { type: "add"; by: number } },
  }).createMachine({
    context: { sum: 0 },
    on: {
      add: {
        actions: [
          assign({
            sum: ({ context, event }) => {
              if (event.by === 13) throw new Error("not that one");
              return context.sum + event.by;
            },
          }),
          reply(({ context }) => ({ sum: context.sum })),
        ],
      },
    },
  }),
  events: {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: (event) =>
        (event as { by: number }).by > 0 ? {} : { issues: [{ message: "must be above 0", path: ["by"] }] },
    },
  },
});

/** What a wrong expectation is told. */
async function failureOf(run: Promise<unknown>): Promise<string> {
  const failure = await run.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(failure).toBeInstanceOf(TestFailure);
  return (failure as TestFailure).message;
}

const placed = { type: "place", cents: 500 } as const;
const paid = { type: "pay", cents: 500 } as const;

describe("what holds", () => {
  it("state, context in part, and what was told", async () => {
    await spec(order, { key: "42" })
      .given(placed)
      .when(paid)
      .then({
        value: "paid",
        context: { paid: 500 },
        status: "active",
        reply: undefined,
        told: [{ to: "ledger/shop", event: { type: "add", cents: 500 } }],
        emitted: [],
        timers: [],
      });
  });

  it("reply, emitted, output and the end", async () => {
    await spec(order, { key: "42" })
      .given(placed, paid)
      .when({ type: "ship" })
      .then({
        value: "shipped",
        status: "done",
        reply: "on its way",
        told: [{ to: "stock/main", event: { type: "take", order: "42" } }],
        emitted: [{ type: "shipped", key: "42" }],
      });
  });

  it("timers, and time that passes", async () => {
    const waiting = spec(order).given(placed);
    await waiting.when({ type: "total" }).then({ reply: 500, timers: [{ in: "3 days" }] });
    await waiting
      .given("1 day")
      .when("1d 23h")
      .then({ value: "placed", timers: [{ in: "1 hour" }] });
    await waiting.when("3 days").then({ value: "cancelled", timers: [], told: [] });
    await waiting.when(paid).then({ timers: [] });
  });

  it("several timers, told apart by event and id", async () => {
    const alarms = defineActor({
      type: "alarms",
      machine: setup({
        types: {
          context: {} as { rung: number },
          events: {} as { type: "set" } | { type: "ring"; n: number },
        },
      }).createMachine({
        context: { rung: 0 },
        on: {
          set: {
            actions: [
              raise({ type: "ring" as const, n: 2 }, { delay: 2_000, id: "late" }),
              raise({ type: "ring" as const, n: 1 }, { delay: 1_000, id: "early" }),
            ],
          },
          ring: { actions: assign({ rung: ({ event }) => event.n }) },
        },
      }),
    });
    await spec(alarms)
      .when({ type: "set" })
      .then({
        timers: [
          { in: "1 s", id: "early", event: { type: "ring", n: 1 } },
          { in: 2_000, id: "late" },
        ],
      });
    await spec(alarms)
      .given({ type: "set" })
      .when("1500 ms")
      .then({ context: { rung: 1 }, timers: [{ in: 500 }] });
  });

  it("a rejection by the schema, by the machine, and of what no machine knows", async () => {
    await spec(strict).when({ type: "add", by: 0 }).thenRejected("invalid_event", "must be above 0");
    await spec(strict)
      .given({ type: "add", by: 1 })
      .when({ type: "add", by: 13 })
      .thenRejected("machine_failed", /not that/);
    await spec(strict)
      .when({ type: "subtract" } as never)
      .thenRejected("invalid_event");
    await spec(strict)
      .when({ type: "xstate.stop" } as never)
      .thenRejected("reserved_event");
    await spec(strict)
      .when(7 as never)
      .thenRejected();
  });

  it("nothing at all", async () => {
    await spec(order).given(placed, paid).when(placed).thenNothing();
    await spec(order).given(placed).when("2 days").thenNothing();
  });

  it("other actors take part", async () => {
    await spec(order, { actors: [ledger] })
      .given(placed)
      .when(paid)
      .then({ value: "paid" });
  });

  it("outcome gives what came of it", async () => {
    const {
      before,
      state,
      rejected,
      reply: said,
      timers,
    } = await spec(strict).when({ type: "add", by: 4 }).outcome();
    expect(before.context.sum).toBe(0);
    expect(state.context.sum).toBe(4);
    expect(rejected).toBeUndefined();
    expect(said).toEqual({ sum: 4 });
    expect(timers).toEqual([]);
    const refused = await spec(strict).when({ type: "add", by: -1 }).outcome();
    expect(refused.rejected?.code).toBe("invalid_event");
  });

  it("a machine sees its key and the time", async () => {
    const at = Date.UTC(2031, 5, 1);
    const { state } = await spec(order, { key: "77", at }).when(placed).outcome();
    expect(state.context.key).toBe("77");
  });
});

describe("what does not hold", () => {
  it("lists every difference, with what was given", async () => {
    const text = await failureOf(
      spec(order)
        .given(placed)
        .when(paid)
        .then({
          value: "shipped",
          context: { paid: 400, cents: 500 },
          told: [{ to: "ledger/shop", event: { type: "add", cents: 400 } }],
          timers: [{ in: "1 day" }],
        }),
    );
    expect(text).toBe(
      [
        'An actor of type "order" does not do what is expected:',
        "  given place { cents: 500 }",
        "  when pay { cents: 500 }",
        "  then value: expected 'shipped', is 'paid'",
        "       context.paid: expected 400, is 500",
        "       told[0].event.cents: expected 400, is 500",
        "       timers: expected 1 d, is no timers",
      ].join("\n"),
    );
  });

  it("a missing or unexpected message", async () => {
    expect(await failureOf(spec(order).given(placed).when(paid).then({ told: [] }))).toMatch(
      /told: expected \[\], is \[ { event: { cents: 500, type: 'add' }, to: 'ledger\/shop' } \]/,
    );
  });

  it("a reply that is another, or was not expected", async () => {
    const when = spec(strict).when({ type: "add", by: 1 });
    expect(await failureOf(when.then({ reply: { sum: 2 } }))).toContain("reply.sum: expected 2, is 1");
    expect(await failureOf(when.then({ reply: undefined }))).toContain(
      "reply: expected undefined, is { sum: 1 }",
    );
  });

  it("a timer at another time", async () => {
    const text = await failureOf(
      spec(order)
        .when(placed)
        .then({ timers: [{ in: "2 days" }] }),
    );
    expect(text).toContain("timers[0].in: expected '2 d', is '3 d'");
  });

  it("an event that was refused although it should not, and the other way round", async () => {
    expect(
      await failureOf(
        spec(strict)
          .when({ type: "add", by: 0 })
          .then({ context: { sum: 0 } }),
      ),
    ).toContain("then it was rejected with invalid_event: event.by: must be above 0");
    expect(
      await failureOf(spec(strict).when({ type: "add", by: 1 }).thenRejected("invalid_event")),
    ).toContain("then it was not rejected; the state is {}, { sum: 1 }");
    expect(
      await failureOf(spec(strict).when({ type: "add", by: 13 }).thenRejected("invalid_event")),
    ).toContain("expected to be rejected with invalid_event, was with machine_failed");
    expect(
      await failureOf(spec(strict).when({ type: "add", by: 0 }).thenRejected("invalid_event", "beyond")),
    ).toContain("expected the error to say 'beyond', it says 'event.by: must be above 0'");
  });

  it("a past that cannot have been", async () => {
    const text = await failureOf(
      spec(strict).given({ type: "add", by: -2 }).when({ type: "add", by: 1 }).then({ reply: 1 }),
    );
    expect(text).toMatch(/^Given add { by: -2 } was rejected with invalid_event: event.by: must be above 0/);
  });

  it("something where nothing should be", async () => {
    expect(await failureOf(spec(order).when(placed).thenNothing())).toContain(
      "value: expected 'new', is 'placed'",
    );
  });
});

describe("types", () => {
  it("flow from the definition", () => {
    const when = spec(order).given(placed).when(paid);
    // @ts-expect-error no such event
    spec(order).when({ type: "plase", cents: 5 });
    // @ts-expect-error an event without what belongs to it
    spec(order).given({ type: "place" });
    // None of these is run.
    const wrong = [
      // @ts-expect-error no such state
      () => when.then({ value: "payed" }),
      // @ts-expect-error no such property
      () => when.then({ context: { euros: 5 } }),
      // @ts-expect-error no such code
      () => when.thenRejected("invalid_evnt"),
      // @ts-expect-error nothing is expected
      async () => await when,
    ];
    expect(wrong).toHaveLength(4);
  });
});

describe("bad input", () => {
  it.each<[string, () => Promise<unknown>]>([
    ["an expectation of nothing", () => spec(order).when(placed).then({})],
    [
      "an expectation that does not exist",
      () =>
        spec(order)
          .when(placed)
          .then({ state: "placed" } as never),
    ],
    ["a duration that is none", () => spec(order).when("some days").outcome()],
    [
      "a timer at no time",
      () =>
        spec(order)
          .when(placed)
          .then({ timers: [{ in: "soon" }] }),
    ],
    [
      "a code that does not exist",
      () =>
        spec(order)
          .when(placed)
          .thenRejected("no_such" as never),
    ],
    ["a key that is none", () => spec(order, { key: "" }).when(placed).outcome()],
    [
      "no definition",
      () =>
        spec({} as never)
          .when({ type: "a" } as never)
          .outcome(),
    ],
    ["no expectation at all", async () => await (spec(order).when(placed) as unknown as Promise<void>)],
    [
      "an undefined expectation",
      () =>
        spec(order)
          .when(placed)
          .then(undefined as never),
    ],
  ])("%s is refused", async (_, run) => {
    const refused = await run().then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(isKeyturnError(refused), String(refused)).toBe(true);
    expect(["invalid_options", "invalid_address"]).toContain((refused as { code: string }).code);
  });
});
