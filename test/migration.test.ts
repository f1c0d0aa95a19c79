/** Migrations: what older versions stored, as the new machine has it; or refused by name. */
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { setup } from "xstate";
import { MachineHost } from "../runtime/engine/machine.ts";
import { migrate, type Migration, type Migrations } from "../runtime/engine/migration.ts";
import { type ActorData, decodeSnapshot, encodeSnapshot } from "../runtime/engine/state.ts";
import { defineActor } from "../runtime/index.ts";
import { codeOf } from "./support/formats.ts";
import { orderNow, orderV1 } from "./support/orders.ts";
import { failure, rig } from "./support/probe.ts";
import { orderV3, put, next, storedOf } from "./support/migrated.ts";

describe("defineActor", () => {
  const machine = setup({}).createMachine({});
  it.each<[unknown, RegExp]>([
    [[], /an object with a function for each version/],
    ["1", /an object with a function/],
    [null, /an object with a function/],
    [{ 0: () => undefined }, /from version "0"; with version 3 they begin with 1 to 2/],
    [{ 3: () => undefined }, /from version "3"; with version 3 they begin with 1 to 2/],
    [{ "1.5": () => undefined }, /from version "1.5"/],
    [{ "01": () => undefined }, /from version "01"/],
    [{ first: () => undefined }, /from version "first"/],
    [{ 1: { value: "a" } }, /from version 1 is no function/],
  ])("refuses migrations that are %j", (migrations, text) => {
    const define = () =>
      defineActor({ type: "t", version: 3, machine, migrations: migrations as Migrations });
    expect(codeOf(define)).toBe("invalid_options");
    expect(define).toThrow(text);
  });

  it("says that a version has to be raised", () => {
    expect(() => defineActor({ type: "t", machine, migrations: { 1: (state) => state } })).toThrow(
      /with version 1 they begin with none: raise the version/,
    );
  });
});

/** What older versions stored, as files that are never written anew by a change of the program. */
describe("fixtures", () => {
  const at = { requests: [], turn: 3, last: [7, 0], keyframe: [5, 1] } as const;
  const timer = { id: "xstate.after.1000.order.open.pending", due: 1_900_000_001_000, generation: 1 };
  const cases: Record<string, { stored: ActorData; becomes: ActorData["machine"] }> = {
    "migration-order-1-pending": {
      stored: {
        ...at,
        version: 1,
        timers: [{ ...timer, event: { type: timer.id } }],
        machine: {
          value: { open: "pending" },
          context: { items: ["tea", "milk"], total: 7 },
          status: "active",
          output: undefined,
          history: undefined,
        },
      },
      becomes: {
        value: { active: { waiting: "payment" } },
        context: { lines: [{ sku: "tea" }, { sku: "milk" }], cents: 700, note: "" },
        status: "active",
        output: undefined,
        history: undefined,
      },
    },
    "migration-order-1-held": {
      stored: {
        ...at,
        version: 1,
        timers: [],
        machine: {
          value: "held",
          context: { items: [], total: 0 },
          status: "active",
          output: undefined,
          history: { "order.open.before": ["order.open.pending"] },
        },
      },
      becomes: {
        value: "held",
        context: { lines: [], cents: 0, note: "" },
        status: "active",
        output: undefined,
        history: { "order.active.before": ["order.active.waiting.payment"] },
      },
    },
    "migration-order-2-paid": {
      stored: {
        ...at,
        version: 2,
        timers: [],
        machine: {
          value: { active: "paid" },
          context: { lines: [{ sku: "jam" }], cents: 350 },
          status: "active",
          output: undefined,
          history: { "order.gone": ["order.active.paid"], "order.active.before": ["order.held"] },
        },
      },
      becomes: {
        value: { active: "paid" },
        context: { lines: [{ sku: "jam" }], cents: 350, note: "" },
        status: "active",
        output: undefined,
        history: undefined,
      },
    },
  };

  it.each(Object.keys(cases))("golden: %s is read, migrated and restored", (name) => {
    const path = new URL(`golden/${name}.hex`, import.meta.url);
    const { stored, becomes } = cases[name] as (typeof cases)[string];
    if (process.env.UPDATE_GOLDEN === "1") {
      const hex = Buffer.from(encodeSnapshot("order.a", stored)).toString("hex");
      writeFileSync(path, `${(hex.match(/.{1,64}/g) ?? []).join("\n")}\n`);
    }
    const bytes = new Uint8Array(Buffer.from(readFileSync(path, "utf8").replace(/\s/g, ""), "hex"));
    const data = decodeSnapshot("order.a", bytes);
    expect(data).toStrictEqual(stored);
    const now = migrate(orderV3, data);
    expect(now).toStrictEqual({ ...stored, version: 3, machine: becomes });
    expect(new MachineHost("order", orderV3.machine).restore(now.machine).value).toEqual(becomes.value);
    // What is new already is left alone.
    expect(migrate(orderV3, now)).toBe(now);
  });
});

describe("a migration that goes wrong", () => {
  const state = { value: "on", context: { n: 1, list: [1] }, status: "active" as const, output: undefined };
  const data: ActorData = {
    machine: { ...state, history: undefined },
    timers: [],
    requests: [],
    turn: 1,
    version: 1,
    last: [1, 0],
    keyframe: [1, 0],
  };
  const machine = setup({ types: { context: {} as { n: number; list: number[] } } }).createMachine({
    context: { n: 0, list: [] },
    initial: "on",
    states: { on: {}, off: {} },
  });
  const circle: Record<string, unknown> = {};
  circle.self = circle;
  const bad: Record<string, [migration: (state: never) => unknown, text: RegExp]> = {
    throws: [
      () => {
        throw new Error("no idea what this was");
      },
      /"t" from version 1 to 2 failed: it threw: no idea what this was/,
    ],
    "throws no error": [
      () => {
        // biome-ignore lint/style/useThrowOnlyError: a user's code may throw anything
        throw "x";
      },
      /it threw: x/,
    ],
    "changes its state in place": [
      ((s: { context: { list: number[] } }) => {
        s.context.list.push(2);
        return s;
      }) as never,
      /it threw: .*The state is frozen: return a new one/,
    ],
    "is asynchronous": [async (s) => s, /it is asynchronous/],
    "is asynchronous and fails": [
      async () => {
        throw new Error("later");
      },
      /it is asynchronous/,
    ],
    "returns nothing": [() => undefined, /it returned undefined, not \{ value, context/],
    "returns a text": [() => "on", /it returned "on", not/],
    "returns a list": [() => [], /it returned an array, not/],
    "returns an instance": [() => new Map(), /it returned an instance of Map, not/],
    "forgets the value": [
      () => ({ ...state, value: undefined }),
      /the value undefined, which names no state/,
    ],
    "gives a value that is none": [
      () => ({ ...state, value: { on: 1 } }),
      /the value an object, which names/,
    ],
    "gives an empty value": [() => ({ ...state, value: "" }), /the value "", which names no state/],
    "gives a value in a circle": [() => ({ ...state, value: circle }), /the value an object, which names/],
    "forgets the context": [() => ({ ...state, context: undefined }), /returned undefined as context/],
    "gives a list as context": [() => ({ ...state, context: [] }), /returned an array as context/],
    "gives no status": [
      () => ({ value: "on", context: {} }),
      /the status undefined, not "active", "done" or "error"/,
    ],
    "gives another status": [() => ({ ...state, status: "stopped" }), /the status "stopped", not/],
    "gives a bad history": [() => ({ ...state, history: { a: "b" } }), /a history that is not lists/],
    "gives too much": [() => ({ ...state, contxt: {} }), /a state with "contxt", which no state has/],
    "keeps a function": [
      () => ({ ...state, context: { n: () => 1 } }),
      /state\.context\.n is a function, which cannot be stored/,
    ],
    "keeps an instance": [
      () => ({ ...state, context: { n: new WeakSet() } }),
      /state\.context\.n is an instance of WeakSet/,
    ],
    "gives an output that cannot be kept": [
      () => ({ ...state, status: "done", output: Symbol("x") }),
      /state\.output is a symbol/,
    ],
    "gives more than an actor may hold": [
      () => ({ ...state, context: { n: "x".repeat(800 * 1024) } }),
      /the state would take \d+ bytes, at most 786432 are allowed/,
    ],
  };

  it.each(Object.keys(bad))("refuses by name one that %s", (name) => {
    const [migration, text] = bad[name] as (typeof bad)[string];
    const definition = defineActor({
      type: "t",
      version: 2,
      machine,
      migrations: { 1: migration as unknown as Migration },
    });
    expect(codeOf(() => migrate(definition, data))).toBe("migration_failed");
    expect(() => migrate(definition, data)).toThrow(text);
  });

  it("refuses the actor and no other, applies nothing, and is mended by the next deployment", async () => {
    const r = await rig({ actors: [orderV1] });
    for (const key of ["a", "b"]) await r.world.run(r.node.client.actor(orderV1, key).send(put("tea", 1)));
    await r.world.run(r.node.checkpoint());
    r.node.kill();
    const picky: Migrations = {
      1: (state) => {
        if (state.context.items.includes("tea")) throw new Error("tea is out of stock");
        return state;
      },
    };
    const second = await next(r, [orderNow(2, picky)], "n2");
    const ref = second.node.client.actor(orderV3, "a");
    const error = await second.world.run(failure(ref.send(put("jam", 2))));
    expect(error).toMatchObject({ code: "migration_failed", outcome: "notApplied", retryable: false });
    expect(error.message).toMatch(/tea is out of stock/);
    expect((await second.world.run(failure(ref.get()))).code).toBe("migration_failed");
    // An actor that is new has nothing to migrate.
    expect(await second.world.run(second.node.client.actor(orderV3, "new").ask(put("tea", 1)))).toBe(100);
    expect((await storedOf(r.store, "order.a"))?.version).toBe(1);
    second.node.kill();
    const third = await next(r, [orderV3], "n3");
    expect(await third.world.run(third.node.client.actor(orderV3, "a").ask(put("jam", 2)))).toBe(300);
  });

  it("xstate #3091: a snapshot that the changed machine lacks is refused by name, and loaded with a migration", async () => {
    const r = await rig({ actors: [orderV1] });
    await r.world.run(r.node.client.actor(orderV1, "a").send(put("tea", 1)));
    r.node.kill();
    const second = await next(r, [orderNow(3, {})], "n2");
    const error = await second.world.run(failure(second.node.client.actor(orderV3, "a").get()));
    expect(error).toMatchObject({ code: "incompatible_snapshot", outcome: "notApplied" });
    expect(error.message).toMatch(/\{"open":"pending"\} of a "order" is not a state of its machine/);
    second.node.kill();
    const third = await next(r, [orderV3], "n3");
    const state = await third.world.run(third.node.client.actor(orderV3, "a").get());
    expect(state).toMatchObject({
      value: { active: { waiting: "payment" } },
      context: { lines: [{ sku: "tea" }], cents: 100, note: "" },
      // The hour that the new machine waits has begun: that is a turn by itself.
      turn: 2,
    });
  });
});
