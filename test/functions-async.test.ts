/** Async functions: the key's other events wait, time runs out, nodes die, and nothing is dropped in silence. */
import { type AnyActorDefinition, ask, defineActor, memory, startNode } from "keyturn";
import {
  defineFunction,
  defineFunctions,
  defineState,
  type FunctionContext,
  functions,
} from "keyturn/functions";
import { testRuntime, type TestRuntime, type TestRuntimeOptions } from "keyturn/testing";
import { assign, setup } from "xstate";
import { afterEach, describe, expect, it } from "vitest";
import { VirtualWorld } from "./support/virtual-world.ts";

const running: TestRuntime[] = [];

async function start(
  actors: readonly AnyActorDefinition[],
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

type Seen = Pick<FunctionContext, "idempotencyKey" | "attempt" | "signal" | "key" | "now"> & {
  readonly n: number;
};

const counter = defineState("counter", 0);
const log = defineState("log", [] as readonly string[]);

/** A group with a function whose runs are ended by hand, and two that run within their turn. */
function bench(
  options: Parameters<typeof defineFunctions>[2] = {},
  async: { timeout?: string; attempts?: number } = {},
) {
  const seen: Seen[] = [];
  const ends: { resolve: (by: number) => void; reject: (error: unknown) => void }[] = [];
  let begun = (): void => undefined;
  const slow = defineFunction(
    "slow",
    { counter, log },
    async (event: { name: string }, state, { idempotencyKey, attempt, signal, key, now, send, emit }) => {
      seen.push({ idempotencyKey, attempt, signal, key, now, n: state.counter });
      const by = await new Promise<number>((resolve, reject) => {
        ends.push({ resolve, reject });
        begun();
      });
      send("quick", `${key}-told`, { name: event.name });
      emit({ type: "slow", name: event.name });
      return {
        state: { counter: state.counter + by, log: [...state.log, event.name] },
        result: state.counter + by,
      };
    },
    {
      ...(async.timeout === undefined ? {} : { timeout: async.timeout }),
      ...(async.attempts === undefined ? {} : { retry: { attempts: async.attempts, first_ms: 1_000 } }),
    },
  );
  const quick = defineFunction("quick", { log }, (event: { name: string }, state) => {
    if (event.name === "throw") throw new Error("no glue");
    return { state: { log: [...state.log, event.name] }, result: state.log.length + 1 };
  });
  const group = defineFunctions("bench", [slow, quick], options);
  /** The nth run, counted from 0, once it has begun. */
  const run = async (n: number): Promise<(typeof ends)[0]> => {
    while (ends[n] === undefined)
      await new Promise<void>((resolve) => {
        begun = resolve;
      });
    return ends[n];
  };
  return { group, seen, run };
}

describe("an async function", () => {
  it("runs after its turn; the key's other events wait in order, other keys do not", async () => {
    const { group, seen, run } = bench();
    const t = await start([group]);
    const app = functions(t.client, group);
    const order: string[] = [];
    const done = <T>(name: string, work: Promise<T>): Promise<T> =>
      work.finally(() => {
        order.push(name);
      });
    const all = [
      done("a", app.processEvent({ key: "k", type: "slow", name: "a" })),
      done("b", app.processEvent({ key: "k", type: "quick", name: "b" })),
      done("c", app.updateState("k", 5, "add", counter)),
      done("d", app.processEvent({ key: "k", type: "slow", name: "d" })),
      done("e", app.processEvent({ key: "k", type: "quick", name: "e" })),
    ];
    const first = await run(0);
    expect(await app.processEvent({ key: "other", type: "quick", name: "x" })).toBe(1);
    expect(await app.getStates("k")).toEqual({ counter: 0, log: [] });
    expect(order).toEqual([]);
    first.resolve(1);
    (await run(1)).resolve(100);
    expect(await Promise.all(all)).toEqual([1, 2, 6, 106, 4]);
    expect(order).toEqual(["a", "b", "c", "d", "e"]);
    expect(seen.map(({ n, key, now }) => [n, key, now])).toEqual([
      [0, "k", t.now()],
      [6, "k", t.now()],
    ]);
    expect(seen[0]?.idempotencyKey).not.toBe(seen[1]?.idempotencyKey);
    await t.settle();
    expect(await app.getState("k-told", log)).toEqual(["a", "d"]);
    expect(await app.getState("k", log)).toEqual(["a", "b", "d", "e"]);
  });

  it("that is interrupted, by a kill and by a clean stop, runs again under the same key, and counts once", async () => {
    const { group, seen, run } = bench();
    const world = new VirtualWorld();
    const store = memory();
    let node = await world.run(startNode({ actors: [group], store, world, name: "n1" }));
    let app = functions(node.client, group);
    const call = (type: "slow" | "quick", name: string) =>
      app.processEvent({ key: "k", type, name }, { requestId: `${type} ${name}` });
    // Whoever waits does not survive, what they asked for does.
    const [slow, quick] = [call("slow", "a"), call("quick", "b")];
    const lost = Promise.all(
      [slow, quick].map((one) => expect(one).rejects.toMatchObject({ code: "client_closed" })),
    );
    await world.settle();
    expect(seen).toHaveLength(1);
    node.kill();
    await lost;
    node = await world.run(startNode({ actors: [group], store, world, name: "n2" }));
    await world.advance(20_000);
    expect(seen).toHaveLength(2);
    await world.run(node.stop({ closeStore: false }));
    expect(seen[1]?.signal.aborted).toBe(true);
    node = await world.run(startNode({ actors: [group], store, world, name: "n3" }));
    app = functions(node.client, group);
    await world.advance(1_000);
    expect(seen).toHaveLength(3);
    // What the killed node began comes too late.
    (await run(0)).resolve(1_000);
    (await run(2)).resolve(1);
    await world.settle();
    expect(await world.run(call("slow", "a"))).toBe(1);
    expect(await world.run(call("quick", "b"))).toBe(2);
    expect(new Set(seen.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(1);
    expect(seen.map(({ attempt }) => attempt > 1)).toEqual([false, true, true]);
    expect(await world.run(app.getStates("k"))).toEqual({ counter: 1, log: ["a", "b"] });
    await world.settle();
    expect(await world.run(app.getState("k-told", log))).toEqual(["a"]);
    await world.run(node.stop());
  });

  it("that throws refuses its event with the error, and what waits goes on", async () => {
    const { group, run } = bench();
    const t = await start([group]);
    const app = functions(t.client, group);
    const slow = app.processEvent({ key: "k", type: "slow", name: "a" });
    const bad = app.processEvent({ key: "k", type: "quick", name: "throw" });
    const zero = app.updateState("k", 0, "divide", counter);
    const good = app.processEvent({ key: "k", type: "quick", name: "b" });
    (await run(0)).reject(new Error("no paper"));
    const refused = (code: string, text: string) =>
      expect.objectContaining({ code, message: expect.stringContaining(text), outcome: "rejected" });
    await expect(slow).rejects.toEqual(refused("function_failed", '"slow" threw: no paper'));
    await expect(bad).rejects.toEqual(refused("function_failed", '"quick" threw: no glue'));
    await expect(zero).rejects.toEqual(refused("invalid_operand", "zero"));
    expect(await good).toBe(1);
    expect(await app.getStates("k")).toEqual({ counter: 0, log: ["b"] });
    expect(await t.deadLetters()).toEqual([]);
  });

  it("is tried again as its policy says, with the same key", async () => {
    const { group, seen, run } = bench({}, { attempts: 3 });
    const world = new VirtualWorld();
    const node = await world.run(startNode({ actors: [group], store: memory(), world, name: "n1" }));
    const app = functions(node.client, group);
    const slow = app.processEvent({ key: "k", type: "slow", name: "a" });
    await world.settle();
    (await run(0)).reject(new Error("no paper"));
    await world.advance(1_100);
    (await run(1)).reject(new Error("no ink"));
    await world.advance(1_100);
    expect(seen).toHaveLength(2);
    await world.advance(1_100);
    (await run(2)).resolve(7);
    expect(await world.run(slow)).toBe(7);
    expect(seen.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    expect(new Set(seen.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(1);
    await world.run(node.stop());
  });

  it("whose time is over has failed, also across a kill; what it brings later is ignored", async () => {
    const { group, seen, run } = bench({}, { timeout: "1 min" });
    const world = new VirtualWorld();
    const store = memory();
    let node = await world.run(startNode({ actors: [group], store, world, name: "n1" }));
    await world.run(functions(node.client, group).sendEvent({ key: "k", type: "slow", name: "lost" }));
    await world.settle();
    node.kill();
    node = await world.run(startNode({ actors: [group], store, world, name: "n2" }));
    const app = functions(node.client, group);
    await world.advance(30_000);
    expect(seen).toHaveLength(2);
    const quick = app.processEvent({ key: "k", type: "quick", name: "b" }, { timeout_ms: 60_000 });
    const slow = app.processEvent({ key: "k", type: "slow", name: "a" }, { timeout_ms: 200_000 });
    const timedOut = expect(slow).rejects.toMatchObject({ code: "function_timed_out", outcome: "rejected" });
    await world.advance(31_000);
    expect(await quick).toBe(1);
    expect(seen[1]?.signal.aborted).toBe(true);
    (await run(1)).resolve(1);
    await world.advance(61_000);
    await timedOut;
    expect(await world.run(app.getStates("k"))).toEqual({ counter: 0, log: ["b"] });
    expect((await store.deadLetters.list(10)).map(({ code }) => code)).toEqual(["function_timed_out"]);
    await world.run(node.stop());
  });

  it("holds no more events up than the mailbox takes; more are refused and may come again", async () => {
    const { group, run } = bench({ mailbox: 3 });
    const t = await start([group]);
    const app = functions(t.client, group);
    const slow = app.processEvent({ key: "k", type: "slow", name: "a" });
    await run(0);
    const waiting = ["b", "c", "d"].map((name) => app.processEvent({ key: "k", type: "quick", name }));
    const full = app.processEvent({ key: "k", type: "quick", name: "e" });
    await expect(full).rejects.toMatchObject({
      code: "mailbox_full",
      retryable: true,
      outcome: "notApplied",
    });
    (await run(0)).resolve(1);
    expect(await slow).toBe(1);
    expect(await Promise.all(waiting)).toEqual([2, 3, 4]);
    expect(await app.processEvent({ key: "k", type: "quick", name: "e" })).toBe(5);
  });

  it("makes dead letters of events that waited, are refused, and nobody waits for", async () => {
    const { group, run } = bench();
    const t = await start([group]);
    const app = functions(t.client, group);
    await app.sendEvent({ key: "k", type: "slow", name: "a" });
    await app.sendEvent({ key: "k", type: "quick", name: "throw" });
    await app.sendEvent({ key: "k", type: "quick", name: "b" });
    (await run(0)).reject(new Error("no paper"));
    await t.settle();
    const letters = await t.deadLetters();
    expect(letters.map(({ code, reason }) => [code, reason])).toEqual([
      ["function_failed", '"slow" threw: no paper'],
      ["function_failed", '"quick" threw: no glue'],
    ]);
    expect(letters.map(({ event }) => event)).toMatchObject([
      { event: { type: "slow", name: "a" } },
      { event: { type: "quick", name: "throw" } },
    ]);
    expect(await app.getState("k", log)).toEqual(["b"]);
  });

  it("is answered to an actor that asks once it has ended, also what waited for it", async () => {
    const { group, run } = bench();
    const asking = defineActor({
      type: "asking",
      machine: setup({
        types: {
          context: {} as { got: unknown[] },
          events: {} as { type: "go"; name: string; what: string },
        },
        actors: { ask },
      }).createMachine({
        context: { got: [] },
        initial: "idle",
        states: {
          idle: { on: { go: "waiting" } },
          waiting: {
            invoke: {
              src: "ask",
              input: ({ event }) => ({ to: "bench/k", event: { type: event.what, name: event.name } }),
              onDone: {
                target: "idle",
                actions: assign({ got: ({ context, event }) => [...context.got, event.output] }),
              },
              onError: {
                target: "idle",
                actions: assign({
                  got: ({ context, event }) => [...context.got, (event.error as { code: string }).code],
                }),
              },
            },
          },
        },
      }),
    });
    const t = await start([group, asking], { nodes: 2 });
    const app = functions(t.client, group);
    t.deliveredTwice();
    const go = (key: string, what: string, name: string) =>
      t.client.actor(asking, key).send({ type: "go", what, name });
    await go("a", "slow", "a");
    await go("b", "quick", "b");
    await go("c", "quick", "throw");
    await go("d", "slow", "d");
    expect((await t.client.actor(asking, "a").get()).value).toBe("waiting");
    (await run(0)).resolve(7);
    (await run(1)).reject(new Error("no ink"));
    await t.settle();
    const got = async (key: string) => (await t.client.actor(asking, key).get()).context.got;
    expect(await Promise.all(["a", "b", "c", "d"].map(got))).toEqual([
      [7],
      [2],
      ["function_failed"],
      ["function_failed"],
    ]);
    // While nothing runs outside the answer is there at once.
    await go("b", "quick", "e");
    await t.settle();
    expect(await got("b")).toEqual([2, 3]);
    expect(await app.getState("k", log)).toEqual(["a", "b", "e"]);
    expect(await t.deadLetters()).toEqual([]);
  });

  it("of a key that is deleted is called off, and whoever waits learns of it", async () => {
    const { group, seen, run } = bench();
    const t = await start([group]);
    const app = functions(t.client, group);
    const slow = app.processEvent({ key: "k", type: "slow", name: "a" });
    await run(0);
    const forgotten = expect(slow).rejects.toMatchObject({ code: "request_forgotten" });
    await app.delete("k");
    await forgotten;
    expect(seen[0]?.signal.aborted).toBe(true);
    expect(await app.processEvent({ key: "k", type: "quick", name: "b" })).toBe(1);
  });

  it("that does not end in time for its caller may be asked for again by the same id", async () => {
    const { group, run } = bench();
    const world = new VirtualWorld();
    const node = await world.run(startNode({ actors: [group], store: memory(), world, name: "n1" }));
    const app = functions(node.client, group);
    const ask = () =>
      app.processEvent({ key: "k", type: "slow", name: "a" }, { requestId: "r", timeout_ms: 5_000 });
    const late = expect(ask()).rejects.toMatchObject({ code: "timeout", outcome: "unknown", requestId: "r" });
    await world.advance(5_100);
    await late;
    (await run(0)).resolve(4);
    await world.settle();
    expect(await world.run(ask())).toBe(4);
    expect(await world.run(app.getState("k", counter))).toBe(4);
    await world.run(node.stop());
  });

  it("contract 8: and by the error's own, where its caller gave it none", async () => {
    const { group, run, seen } = bench();
    const world = new VirtualWorld();
    const node = await world.run(startNode({ actors: [group], store: memory(), world, name: "n1" }));
    const app = functions(node.client, group);
    const ask = (requestId?: string) =>
      app.processEvent({ key: "k", type: "slow", name: "a" }, { requestId, timeout_ms: 5_000 });
    const late = ask().catch((error: unknown) => error as { code: string; requestId?: string });
    await world.advance(5_100);
    const { code, requestId } = (await late) as { code: string; requestId?: string };
    expect(code).toBe("timeout");
    (await run(0)).resolve(4);
    await world.settle();
    expect(await world.run(ask(requestId))).toBe(4);
    expect(await world.run(app.getState("k", counter))).toBe(4);
    expect(seen).toHaveLength(1);
    await world.run(node.stop());
  });

  it("takes its real time in the test runtime, whose clocks stand still meanwhile; a crash is no end of it", async () => {
    const begun: (() => void)[] = [];
    const real = defineFunction("real", { counter }, async (event: { by: number }, { counter: n }) => {
      begun.shift()?.();
      await new Promise((resolve) => setTimeout(resolve, 20));
      return { state: { counter: n + event.by }, result: n + event.by };
    });
    const t = await start([real], { nodes: 2 });
    const app = functions(t.client, real);
    const runs = new Promise<void>((resolve) => begun.push(resolve));
    const all = [1, 2, 3].map((by) => app.processEvent({ key: "k", by }));
    await runs;
    await t.crash();
    await t.settle();
    expect(await app.getState("k")).toBe(6);
    // Who watched through a crash renews that within seconds.
    await t.advance("6s");
    expect(await Promise.all(all)).toEqual([1, 3, 6]);
    await app.sendEvent({ key: "k", by: 4 });
    await t.settle();
    expect(await app.getState("k")).toBe(10);
  });
});

it("every event counts once and in the order of its answers, at whatever moment the node is killed", async () => {
  const put = defineFunction("put", { log }, async (event: { name: string }, state, { send }) => {
    await Promise.resolve();
    send("copy", "copies", { name: event.name });
    return { state: { log: [...state.log, event.name] }, result: state.log.length };
  });
  const copy = defineFunction("copy", { log }, (event: { name: string }, state) => ({
    state: { log: [...state.log, event.name] },
    result: state.log.length,
  }));
  const group = defineFunctions("killed", [put, copy]);
  const names = ["a", "b", "c", "d", "e"];
  for (let round = 0; round < 24; round++) {
    const world = new VirtualWorld();
    const store = memory();
    let node = await world.run(startNode({ actors: [group], store, world, name: "n1" }));
    const all = (): Promise<number>[] => {
      const app = functions(node.client, group);
      return names.map((name, n) =>
        app.processEvent({ key: "k", type: n === 3 ? "copy" : "put", name }, { requestId: name }),
      );
    };
    const lost = Promise.allSettled(all());
    for (let n = 0; n < round; n++) await new Promise((resolve) => setImmediate(resolve));
    node.kill();
    await lost;
    node = await world.run(startNode({ actors: [group], store, world, name: "n2" }));
    await world.advance(20_000);
    const answers = await world.run(Promise.all(all()));
    await world.settle();
    const app = functions(node.client, group);
    const kept = await world.run(app.getState("k", log));
    expect([...kept].sort(), `round ${round}`).toEqual(names);
    expect(
      names.map((name) => kept.indexOf(name)),
      `round ${round}`,
    ).toEqual(answers);
    const copies = await world.run(app.getState("copies", log));
    expect(copies, `round ${round}`).toEqual(kept.filter((name) => name !== "d"));
    await world.run(node.stop());
  }
});

describe("what waited", () => {
  const many = defineState("many", 0);
  const blob = defineState("blob", "");
  let open: (() => void)[] = [];
  const gate = defineFunction("gate", { many }, async () => {
    await new Promise<void>((resolve) => open.push(resolve));
    return { result: "open" };
  });
  const fan = defineFunction("fan", { many }, (event: { to: number }, state, { send }) => {
    for (let n = 0; n < event.to; n++) send("mark", `m${n}`, {});
    return { state: { many: state.many + 1 }, result: state.many + 1 };
  });
  const mark = defineFunction("mark", { many }, (_event: object, state) => ({
    state: { many: state.many + 1 },
  }));
  const fill = defineFunction("fill", { blob }, (event: { bytes: number }) => ({
    state: { blob: "x".repeat(event.bytes) },
    result: "y".repeat(event.bytes),
  }));
  const remind = defineFunction("remind", { many }, (event: { times: number }, _state, { sendAfter }) => {
    for (let n = 0; n < event.times; n++) sendAfter("1 hour", "mark", "r", {});
    return { result: event.times };
  });
  const group = defineFunctions("waiting", [gate, fan, mark, fill, remind]);
  const opened = async (): Promise<() => void> => {
    while (open.length === 0) await new Promise((resolve) => setImmediate(resolve));
    return open.shift() as () => void;
  };

  afterEach(() => {
    open = [];
  });

  it("and sends more than one turn may send goes on in the next, in order", async () => {
    const t = await start([group], { nodes: 2 });
    const app = functions(t.client, group);
    const first = app.processEvent({ key: "k", type: "gate" });
    const fans = Array.from({ length: 40 }, () => app.processEvent({ key: "k", type: "fan", to: 100 }));
    const last = app.processEvent({ key: "k", type: "gate" });
    const after = app.processEvent({ key: "k", type: "fan", to: 1 });
    (await opened())();
    expect(await first).toBe("open");
    expect(await Promise.all(fans)).toEqual(Array.from({ length: 40 }, (_, n) => n + 1));
    (await opened())();
    expect(await last).toBe("open");
    expect(await after).toBe(41);
    await t.settle();
    expect(await app.getState("m0", many)).toBe(41);
    expect(await app.getState("m99", many)).toBe(40);
  });

  it("and cannot be kept refuses the one event that is to blame; too large an answer is said to be lost", async () => {
    const t = await start([group]);
    const app = functions(t.client, group);
    const first = app.processEvent({ key: "k", type: "gate" });
    const huge = app.processEvent({ key: "k", type: "fill", bytes: 600_000 });
    const fanned = app.processEvent({ key: "k", type: "fan", to: 1_100 });
    const large = app.processEvent({ key: "k", type: "fill", bytes: 200_000 });
    const small = app.processEvent({ key: "k", type: "fan", to: 0 });
    const refused = Promise.all([
      expect(huge).rejects.toMatchObject({ code: "state_too_large" }),
      expect(fanned).rejects.toMatchObject({ code: "tell_invalid" }),
      expect(large).rejects.toMatchObject({ code: "request_forgotten" }),
    ]);
    (await opened())();
    await refused;
    expect(await first).toBe("open");
    expect(await small).toBe(1);
    expect((await app.getState("k", blob)).length).toBe(200_000);
  });

  it("and finds no timer left for something it sends later makes a dead letter of that", async () => {
    const t = await start([group]);
    const app = functions(t.client, group);
    const first = app.processEvent({ key: "k", type: "gate" });
    const reminded = app.processEvent({ key: "k", type: "remind", times: 300 });
    (await opened())();
    expect(await first).toBe("open");
    expect(await reminded).toBe(300);
    const letters = await t.deadLetters();
    expect(letters.length).toBeGreaterThan(40);
    expect(new Set(letters.map(({ code }) => code))).toEqual(new Set(["timers_full"]));
    // Within its turn there is somebody to tell.
    await expect(app.processEvent({ key: "l", type: "remind", times: 300 })).rejects.toMatchObject({
      code: "timers_full",
    });
    await t.advance("1 hour");
    expect(await app.getState("r", many)).toBe(300 - letters.length);
    expect(await app.processEvent({ key: "k", type: "fan", to: 0 })).toBe(1);
  });
});
