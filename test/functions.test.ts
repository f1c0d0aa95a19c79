/** Stateful functions, as somebody who thinks in functions uses them. */
import { type Client, defineActor, embedded, nats, startNode } from "keyturn";
import {
  defineFunction,
  defineFunctions,
  defineState,
  type Functions,
  functions,
  type StatefulFunction,
} from "keyturn/functions";
import {
  checkModel,
  simulateActor,
  spec,
  testRuntime,
  type TestRuntime,
  type TestRuntimeOptions,
} from "keyturn/testing";
import { assign, setup } from "xstate";
import { afterEach, describe, expect, expectTypeOf, it } from "vitest";
import { z } from "zod";
import { startServer } from "./support/nats-server.ts";
import { temporaryPath } from "./support/temporary.ts";
import { collected } from "./support/collected.ts";

const running: TestRuntime[] = [];

async function start(
  actors: TestRuntimeOptions["actors"],
  options: Partial<TestRuntimeOptions> = {},
): Promise<TestRuntime> {
  const t = await testRuntime({ actors, ...options });
  running.push(t);
  return t;
}

afterEach(async () => {
  for (const t of running.splice(0)) {
    expect(t.reports).toEqual([]);
    await t.stop();
  }
});

const counter = defineState("counter", 0);

const process = defineFunction("process", { counter }, (event: { value: number }, { counter: n }) => ({
  state: { counter: n + event.value },
  result: n + event.value,
}));

describe("the document's example: one event of 1, one update by 1", () => {
  it("gives 2 on the embedded store, also after a restart", async () => {
    const path = temporaryPath();
    let node = await startNode({ actors: [process], store: embedded({ path }) });
    let app = functions(node.client, process);
    expect(await app.getState("a")).toBe(0);
    expect(await app.processEvent({ key: "a", value: 1 })).toBe(1);
    expect(await app.updateState("a", 1, "add")).toBe(2);
    expect(await app.getState("a")).toBe(2);
    await node.stop();
    node = await startNode({ actors: [process], store: embedded({ path }) });
    app = functions(node.client, process);
    expect(await app.getState("a")).toBe(2);
    expect(await app.updateState("a", 5, "multiply")).toBe(10);
    expect(await app.updateState("a", 4, "divide")).toBe(2.5);
    expect(await app.updateState("a", 0.5, "subtract")).toBe(2);
    expect(await app.getState("b")).toBe(0);
    await node.stop();
  });

  it("gives 2 on a NATS server, from a client of another key space, with two nodes and one lost between", async () => {
    const server = await startServer({});
    const settings = { lease_ms: 300, heartbeat_ms: 100 };
    const open = (name: string) =>
      startNode({ actors: [process], store: nats({ servers: server.url }), name, settings });
    const [east, west] = [await open("east"), await open("west")];
    try {
      const app = functions(west.client, process);
      const keys = ["a", "b", "c", "d", "a key with any bytes: \u0000/\u{1f600}."];
      for (const key of keys) expect(await app.processEvent({ key, value: 1 })).toBe(1);
      east.kill();
      for (const key of keys) {
        expect(await app.updateState(key, 1, "add")).toBe(2);
        expect(await app.getState(key)).toBe(2);
      }
    } finally {
      await west.stop();
      await server.stop();
    }
  });
});

describe("functions within their turn", () => {
  it("are processed in order and exactly once, while frames come several times and nodes die", async () => {
    const t = await start([process], { nodes: 2 });
    const app = functions(t.client, process);
    t.deliveredTwice();
    const results: number[] = [];
    for (let n = 0; n < 3; n++) {
      const some = Array.from({ length: 10 }, () => app.processEvent({ key: "a", value: 1 }));
      if (n === 1) await t.crash();
      if (n === 2) await t.failover(app.actor("a"));
      results.push(...(await Promise.all(some)));
    }
    expect(results).toEqual(Array.from({ length: 30 }, (_, n) => n + 1));
    expect(await app.getState("a")).toBe(30);
  });

  it("in a group share the states of a key, by the names that each calls them", async () => {
    const spent = defineState("spent", 0);
    const items = defineState("items", [] as readonly string[]);
    const add = defineFunction("add", { items, spent }, (event: { item: string; cents: number }, state) => ({
      state: { items: [...state.items, event.item], spent: state.spent + event.cents },
      result: state.items.length + 1,
    }));
    const bill = defineFunction("bill", { total: spent }, (_event: object, { total }) => ({
      state: { total: undefined },
      result: `${total} cents`,
    }));
    const shop = defineFunctions("shop", [add, bill]);
    const t = await start([shop]);
    const app = functions(t.client, shop);
    expect(await app.processEvent({ key: "ada", type: "add", item: "tea", cents: 300 })).toBe(1);
    expect(await app.processEvent({ key: "ada", type: "add", item: "milk", cents: 120 })).toBe(2);
    expect(await app.getState("ada", spent)).toBe(420);
    expect(await app.processEvent({ key: "ada", type: "bill" })).toBe("420 cents");
    expect(await app.getStates("ada")).toEqual({ items: ["tea", "milk"], spent: 0 });
    expect(await app.setState("ada", ["tea"], items)).toEqual(["tea"]);
    expect(await app.updateState("ada", 7, "add", spent)).toBe(7);
    expect(await app.setState("ada", undefined, items)).toEqual([]);
    await app.delete("ada");
    expect(await app.getStates("ada")).toEqual({ items: [], spent: 0 });
    // An event is an ordinary one of the actor, so whoever knows actors only can send it.
    expect(await t.client.actor("shop/ada").ask({ type: "add", item: "salt", cents: 1 })).toBe(1);
  });

  it("send to each other, later too, tell actors, and emit, exactly once", async () => {
    const account = defineActor({
      type: "account",
      machine: setup({
        types: { context: {} as { cents: number }, events: {} as { type: "deposit"; cents: number } },
      }).createMachine({
        context: { cents: 0 },
        on: { deposit: { actions: assign({ cents: ({ context, event }) => context.cents + event.cents }) } },
      }),
    });
    const received = defineFunction("received", { counter }, (event: { by: number }, { counter: n }) => ({
      state: { counter: n + event.by },
    }));
    const reminder = defineFunction(
      "remind",
      { counter },
      (_event: object, { counter: n }, { now, emit }) => {
        emit({ type: "reminded", now });
        return { state: { counter: n + 100 } };
      },
    );
    const order = defineFunction(
      "order",
      (event: { at: string }, _state, { key, send, sendAfter, cancel, tell, emit }) => {
        send(received, event.at, { by: 1 });
        send("note", key, { text: event.at });
        tell("account/house", { type: "deposit", cents: 5 });
        sendAfter("2 days", received, event.at, { by: 10 });
        sendAfter("1 day", "remind", event.at, {}, { id: "remind" });
        // The later of the same id counts.
        sendAfter("3 days", "remind", event.at, {}, { id: "remind" });
        sendAfter("1 day", "remind", event.at, {}, { id: "not at all" });
        cancel("not at all");
        emit({ type: "ordered", at: event.at });
        return { result: "thanks" };
      },
    );
    const notes = defineState("notes", [] as readonly string[]);
    const note = defineFunction("note", { notes }, (event: { text: string }, state) => ({
      state: { notes: [...state.notes, event.text] },
    }));
    const orders = defineFunctions("orders", [order, note, reminder]);
    const t = await start([orders, received, account], { nodes: 2 });
    const app = functions(t.client, orders);
    const others = functions(t.client, received);
    expect(await app.processEvent({ key: "o", type: "order", at: "shelf" })).toBe("thanks");
    await t.crash();
    await t.settle();
    expect(await app.getState("o", notes)).toEqual(["shelf"]);
    expect(await others.getState("shelf")).toBe(1);
    expect((await t.client.actor(account, "house").get()).context.cents).toBe(5);
    const emitted = (await collected(app.actor("o").history())).flatMap((turn) => turn.emitted ?? []);
    expect(emitted).toEqual([{ type: "ordered", at: "shelf" }]);
    const placed = t.now();
    await t.advance("1 day");
    expect(await app.getState("shelf", counter)).toBe(0);
    await t.failover(app.actor("o"));
    await t.advance("1 day");
    expect(await others.getState("shelf")).toBe(11);
    await t.advance("3 days");
    expect(await app.getState("shelf", counter)).toBe(100);
    expect(await others.getState("shelf")).toBe(11);
    const reminded = (await collected(app.actor("shelf").history())).flatMap((turn) => turn.emitted ?? []);
    expect(reminded).toEqual([{ type: "reminded", now: placed + 3 * 86_400_000 }]);
    expect(await t.deadLetters()).toEqual([]);
  });

  it("keep states that expire after their last write, or their last use", async () => {
    const written = defineState("written", "none", { expire: "1 hour" });
    const used = defineState("used", "none", { expire: "1 hour", after: "use" });
    const lasting = defineState("lasting", 0);
    const visit = defineFunction("visit", { written, used, lasting }, (event: { name?: string }, state) => ({
      state: {
        lasting: state.lasting + 1,
        ...(event.name === undefined ? {} : { written: event.name, used: event.name }),
      },
      result: `${state.written} ${state.used} ${state.lasting}`,
    }));
    const t = await start([visit]);
    const app = functions(t.client, visit);
    const see = (name?: string) => app.processEvent({ key: "a", ...(name === undefined ? {} : { name }) });
    await see("ada");
    await t.advance("40 min");
    expect(await see()).toBe("ada ada 1");
    await t.advance("40 min");
    expect(await app.getStates("a")).toEqual({ written: "none", used: "ada", lasting: 2 });
    expect(await see()).toBe("none ada 2");
    await t.crash();
    await t.advance("59 min");
    expect(await app.getState("a", used)).toBe("ada");
    await t.advance("2 min");
    expect(await app.getStates("a")).toEqual({ written: "none", used: "none", lasting: 3 });
    expect(await t.timers(app.actor("a"))).toEqual([]);
    await app.setState("a", "eve", written);
    expect(await see()).toBe("eve none 3");
    await t.advance("1 hour");
    expect(await see()).toBe("none none 4");
  });

  it("and states may have the names that every object has", async () => {
    const inherited = defineState("constructor", 1);
    const textual = defineFunction("toString", { constructor: inherited }, (_event: object, state) => ({
      state: { constructor: state.constructor + 1 },
      result: state.constructor,
    }));
    const group = defineFunctions("valueOf", [textual]);
    const t = await start([group]);
    const app = functions(t.client, group);
    expect(await app.getState("hasOwnProperty")).toBe(1);
    expect(await app.processEvent({ key: "hasOwnProperty" })).toBe(1);
    expect(await app.updateState("hasOwnProperty", 2, "multiply")).toBe(4);
    expect(await app.setState("hasOwnProperty", undefined)).toBe(1);
  });

  it("that throw refuse their event, and nothing has changed", async () => {
    const fragile = defineFunction(
      "fragile",
      { counter },
      (event: { what: string }, { counter: n }, { send }): object => {
        send("fragile", "other", { what: "fine" });
        switch (event.what) {
          case "throw":
            throw new TypeError("no glue");
          case "promise":
            return Promise.reject(new Error("late"));
          case "state":
            return { state: { total: 1 } };
          case "bare":
            return { counter: 5 };
          case "text":
            return "five" as never;
          case "list":
            return [];
          case "states":
            return { state: [1] };
          case "class":
            return { state: { counter: new (class Money {})() as never } };
          case "mutate":
            (event as { what: string }).what = "x";
            return {};
          default:
            return { state: { counter: n + 1 }, result: n + 1 };
        }
      },
    );
    const t = await start([fragile]);
    const app = functions(t.client, fragile);
    const cases: readonly (readonly [string, string, RegExp])[] = [
      ["throw", "function_failed", /"fragile" threw: no glue/],
      ["promise", "function_failed", /async/],
      ["state", "function_failed", /"total"/],
      ["bare", "function_failed", /property "counter"/],
      ["text", "function_failed", /returned five/],
      ["list", "function_failed", /returned a list/],
      ["states", "function_failed", /no object of states/],
      ["class", "context_invalid", /Money/],
      ["mutate", "function_failed", /in place/],
    ];
    for (const [what, code, message] of cases)
      await expect(app.processEvent({ key: "a", what }), what).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
        outcome: "rejected",
      });
    await t.settle();
    expect(await app.getState("other")).toBe(0);
    expect(await app.processEvent({ key: "a", what: "fine" })).toBe(1);
  });
});

describe("updates", () => {
  const name = defineState("name", "ada");
  const both = defineFunction("both", { counter, name }, () => undefined);

  it("refuse division by zero and what is not a finite number, and leave the state as it was", async () => {
    const t = await start([both]);
    const app = functions(t.client, both);
    await app.updateState("a", 6, "add", counter);
    const refused = async (code: string, ...args: readonly unknown[]): Promise<void> => {
      const update = app.updateState as unknown as (...all: readonly unknown[]) => Promise<number>;
      await expect(update.apply(app, ["a", ...args]), String(args)).rejects.toMatchObject({
        code,
        outcome: "rejected",
      });
    };
    await refused("invalid_operand", 0, "divide", counter);
    await refused("invalid_operand", -0, "divide", counter);
    for (const operand of [Number.NaN, Number.POSITIVE_INFINITY, "1", null, undefined, 1n, {}])
      await refused("invalid_operand", operand, "add", counter);
    await refused("invalid_operand", Number.MAX_VALUE, "multiply", counter);
    await refused("invalid_operand", 1, "add", name);
    await refused("invalid_event", 1, "power", counter);
    await refused("invalid_event", 1, "toString", counter);
    await refused("invalid_options", 1, "add");
    await refused("invalid_options", 1, "add", defineState("other", 0));
    await expect(app.updateState("a\ud800", 1, "add", counter)).rejects.toMatchObject({
      code: "invalid_address",
    });
    expect(await app.getState("a", counter)).toBe(6);
    expect(await app.getState("a", name)).toBe("ada");
  });

  it("with an id of the caller's are applied once, however often they are asked for", async () => {
    const t = await start([process]);
    const app = functions(t.client, process);
    const update = () => app.updateState("a", 3, "add", counter, { requestId: "u1" });
    expect(await update()).toBe(3);
    await t.crash();
    expect(await update()).toBe(3);
    expect(await app.getState("a")).toBe(3);
  });
});

describe("events", () => {
  const priced = defineFunction(
    "priced",
    { counter },
    (event: { cents: number }, { counter: n }) => ({ state: { counter: n + event.cents } }),
    {
      event: z.object({ cents: z.number().int().positive() }),
    },
  );
  const shop = defineFunctions("schemas", [priced, defineFunction("free", () => ({ result: "free" }))]);

  it("that do not fit their function's schema are refused with the path of the fault", async () => {
    const t = await start([shop]);
    const app = functions(t.client, shop);
    await expect(app.processEvent({ key: "a", type: "priced", cents: -5 })).rejects.toMatchObject({
      code: "invalid_event",
      message: expect.stringMatching(/event\.cents/),
    });
    await app.processEvent({ key: "a", type: "priced", cents: 5 });
    expect(await app.processEvent({ key: "a", type: "free" })).toBe("free");
    expect(await app.getState("a")).toBe(5);
  });

  it("for a function that there is not are refused, by whatever way they come", async () => {
    const t = await start([shop]);
    const app = functions(t.client, shop);
    const other = { key: "a", type: "other" } as never;
    await expect(app.processEvent(other)).rejects.toMatchObject({
      code: "invalid_event",
      message: expect.stringMatching(/priced, free/),
    });
    await expect(app.sendEvent(other)).rejects.toMatchObject({ code: "invalid_event" });
    for (const event of [
      { type: "functions.call" },
      { type: "functions.call", event: { type: "other" } },
      { type: "functions.call", event: { type: "functions.call", event: { type: "free" } } },
      { type: "functions.update", state: "nothing", operand: 1, operation: "add" },
      { type: "functions.set" },
    ])
      await expect(t.client.actor("schemas/a").ask(event), JSON.stringify(event)).rejects.toMatchObject({
        code: "invalid_event",
      });
    await expect(t.client.actor(shop, "a").create({ key: 5 } as never)).rejects.toMatchObject({
      code: "invalid_input",
    });
    for (const message of [undefined, null, "process", 5] as never[]) {
      await expect(app.processEvent(message)).rejects.toMatchObject({ code: "invalid_event" });
      await expect(app.sendEvent(message)).rejects.toMatchObject({ code: "invalid_event" });
    }
  });
});

it("a function is an actor to the test kit: given/when/then, models under crashes, the simulator", async () => {
  const wheel = defineFunction("wheel", { counter }, (event: { by: number }, { counter: n }) => {
    if (event.by > 3) throw new Error("too far");
    return { state: { counter: (n + event.by) % 4 }, result: n };
  });
  const turn = (by: number) => ({ type: "wheel", by }) as never;
  await spec(wheel)
    .given(turn(1))
    .when(turn(2))
    .then({ context: { counter: 3 } as never });
  const { steps } = await checkModel(wheel, { events: [turn(1), turn(2)], limit: 12 });
  expect(steps).toBeGreaterThan(10);
  await simulateActor(wheel, { events: (random) => turn(random.whole(1, 4)), seeds: 3 });
});

describe("definitions", () => {
  const twice = defineState("counter", 1);
  const inner = defineFunction("inner", { counter }, () => undefined);
  defineFunctions("home", [inner]);

  it.each<[string, () => unknown, string]>([
    ["a state with a name that is none", () => defineState("a.b", 0), "invalid_address"],
    ["an initial value that cannot be kept", () => defineState("a", () => 1), "invalid_options"],
    ["an expiry of nothing", () => defineState("a", 0, { expire: 0 }), "invalid_options"],
    [
      "an expiry after something else",
      () => defineState("a", 0, { after: "read" as never }),
      "invalid_options",
    ],
    ["no function", () => defineFunction("a", { counter }, undefined as never), "invalid_options"],
    [
      "states that are none",
      () => defineFunction("a", { counter: 0 } as never, () => undefined),
      "invalid_options",
    ],
    [
      "a timeout of a function within its turn",
      () => defineFunction("a", () => undefined, { timeout: 5 }),
      "invalid_options",
    ],
    [
      "a schema that is none",
      () => defineFunction("a", () => undefined, { event: {} as never }),
      "invalid_options",
    ],
    ["an empty group", () => defineFunctions("a", []), "invalid_options"],
    ["a group of something else", () => defineFunctions("a", [{} as never]), "invalid_options"],
    ["two functions of one name", () => defineFunctions("a", [process, process]), "invalid_options"],
    [
      "two states of one name",
      () => defineFunctions("a", [process, defineFunction("b", { twice }, () => undefined)]),
      "invalid_options",
    ],
    ["a function of two groups", () => defineFunctions("elsewhere", [inner]), "invalid_options"],
    ["a mailbox of nothing", () => defineFunctions("a", [process], { mailbox: 0 }), "invalid_options"],
    ["no definition", () => functions({} as Client, {} as never), "invalid_options"],
  ])("refuse %s", (_what, define, code) => {
    expect(define).toThrow(expect.objectContaining({ code }));
  });
});

/** Never called: only its types are of interest; `npm run types` is the test. */
async function compiled(client: Client): Promise<void> {
  const label = defineState("label", "none");
  const rename = defineFunction("rename", { label }, async (event: { to: string }) => ({
    state: { label: event.to },
    result: true,
  }));
  const nothing = defineFunction("nothing", { counter }, (_event: { a: 1 }) => undefined);
  const group = defineFunctions("typed", [process, rename, nothing]);
  expectTypeOf(process).toExtend<StatefulFunction<"process", { value: number }>>();

  const one = functions(client, process);
  expectTypeOf(await one.processEvent({ key: "a", value: 1 })).toEqualTypeOf<number>();
  expectTypeOf(await one.getState("a")).toEqualTypeOf<number>();
  expectTypeOf(await one.updateState("a", 1, "add")).toEqualTypeOf<number>();
  // @ts-expect-error the value is a number
  await one.processEvent({ key: "a", value: "1" });
  // @ts-expect-error an event has its value
  await one.processEvent({ key: "a" });
  // @ts-expect-error an event has a key
  await one.processEvent({ value: 1 });
  // @ts-expect-error there is no such function
  await one.processEvent({ key: "a", type: "other", value: 1 });
  // @ts-expect-error there is no such operation
  await one.updateState("a", 1, "power");
  // @ts-expect-error operands are numbers
  await one.updateState("a", "1", "add");
  // @ts-expect-error there is no such state
  await one.getState("a", label);
  // @ts-expect-error it holds numbers
  await one.setState("a", "x");

  const several = functions(client, group);
  expectTypeOf(several).toExtend<Functions<typeof process | typeof rename | typeof nothing>>();
  expectTypeOf(await several.processEvent({ key: "a", type: "process", value: 1 })).toEqualTypeOf<number>();
  expectTypeOf(await several.processEvent({ key: "a", type: "rename", to: "x" })).toEqualTypeOf<boolean>();
  expectTypeOf(await several.processEvent({ key: "a", type: "nothing", a: 1 })).toEqualTypeOf<undefined>();
  expectTypeOf(await several.getState("a", label)).toEqualTypeOf<string>();
  // @ts-expect-error of several functions one is named
  await several.processEvent({ key: "a", value: 1 });
  // @ts-expect-error what is for one function is not for another
  await several.processEvent({ key: "a", type: "rename", value: 1 });
  // @ts-expect-error of several states one is named
  await several.getState("a");

  // @ts-expect-error a state holds what it was declared with
  defineFunction("wrong", { counter }, () => ({ state: { counter: "x" } }));
  defineFunction("sends", { counter }, (event: { n: number }, state, { send, key }) => {
    expectTypeOf(state.counter).toEqualTypeOf<number>();
    expectTypeOf(event.n).toEqualTypeOf<number>();
    expectTypeOf(key).toEqualTypeOf<string>();
    send(process, "b", { value: 1 });
    // @ts-expect-error the other function takes a number
    send(process, "b", { value: "1" });
    // @ts-expect-error there is no such state
    return { result: state.label };
  });
  const name = defineState("name", "ada");
  const both = functions(
    client,
    defineFunction("both", { counter, name }, () => undefined),
  );
  const named = functions(
    client,
    defineFunction("named", { name }, () => undefined),
  );
  void both.updateState("a", 1, "add", counter);
  // @ts-expect-error it is a text
  void both.updateState("a", 1, "add", name);
  // @ts-expect-error which one
  void both.updateState("a", 1, "add");
  // @ts-expect-error its only state is a text
  void named.updateState("a", 1, "add");
}

it("types are what comes at run time", () => {
  expect(compiled).toBeTypeOf("function");
  expect(process.type).toBe("process");
  expect(Object.isFrozen(process)).toBe(true);
});
