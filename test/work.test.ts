/** Promises, callbacks, observables and questions of machines, on the engine: across restarts, kills and take-overs. */
import { type AnyStateMachine, assign, fromCallback, fromObservable, sendTo, setup } from "xstate";
import { describe, expect, it } from "vitest";
import {
  type AnyActorDefinition,
  ask,
  defineActor,
  KeyturnError,
  type KeyturnNode,
  memory,
  reply,
  startNode,
} from "../runtime/index.ts";
import { Calls, loader } from "./support/calls.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

async function begin(
  actors: readonly AnyActorDefinition[],
  options: Partial<Parameters<typeof startNode>[0]> = {},
): Promise<{ node: KeyturnNode; world: VirtualWorld; store: ReturnType<typeof memory> }> {
  const world = (options.world as VirtualWorld | undefined) ?? new VirtualWorld();
  const store = (options.store as ReturnType<typeof memory> | undefined) ?? memory();
  const node = await world.run(startNode({ actors, world, name: "n1", ...options, store }));
  return { node, world, store };
}

describe("invoked promises", () => {
  it("run after the commit; their result is a turn; the mailbox goes on meanwhile", async () => {
    const calls = new Calls();
    const actor = loader(calls);
    const { node, world } = await begin([actor]);
    const ref = node.client.actor(actor, "a");
    await world.run(ref.send({ type: "count" }));
    await world.run(ref.send({ type: "go" }));
    await world.settle();
    expect(calls.seen).toMatchObject([{ input: { n: 1 }, attempt: 1 }]);
    await world.run(ref.send({ type: "count" }));
    expect((await world.run(ref.get())).context.n).toBe(2);
    calls.settle(0).resolve({ fine: true });
    await world.settle();
    expect(await world.run(ref.get())).toMatchObject({
      value: "idle",
      context: { got: { fine: true }, n: 2 },
    });
    await world.run(node.stop());
  });

  it("run again after a kill, with the same idempotency key; the result of the killed node is ignored", async () => {
    const calls = new Calls();
    const actor = loader(calls);
    const first = await begin([actor]);
    const { world, store } = first;
    await world.run(first.node.client.actor(actor, "a").send({ type: "go" }));
    await world.settle();
    first.node.kill();
    calls.settle(0).resolve("late");
    const { node } = await begin([actor], { world, store, name: "n2" });
    // Nobody sends it anything: it is found by its work.
    await world.advance(20_000);
    expect(calls.seen).toHaveLength(2);
    expect(calls.seen[1]).toMatchObject({ idempotencyKey: calls.seen[0]?.idempotencyKey, attempt: 2 });
    calls.settle(1).resolve("second");
    await world.settle();
    expect((await world.run(node.client.actor(actor, "a").get())).context.got).toBe("second");
    await world.run(node.stop());
  });

  it("run again after a clean stop, found in the due index of a cold actor", async () => {
    const calls = new Calls();
    const actor = loader(calls);
    const { node, world, store } = await begin([actor]);
    await world.run(node.client.actor(actor, "a").send({ type: "go" }));
    await world.settle();
    await world.run(node.stop({ closeStore: false }));
    expect(calls.seen[0]?.signal.aborted).toBe(true);
    const second = await begin([actor], { world, store, name: "n2" });
    await world.advance(1_000);
    expect(calls.seen).toHaveLength(2);
    await world.run(second.node.stop());
  });

  it("are cancelled when the state is left, and a late result is ignored", async () => {
    const calls = new Calls();
    const actor = loader(calls);
    const { node, world } = await begin([actor]);
    const ref = node.client.actor(actor, "a");
    await world.run(ref.send({ type: "go" }));
    await world.settle();
    await world.run(ref.send({ type: "leave" }));
    expect(calls.seen[0]?.signal.aborted).toBe(true);
    await world.run(ref.send({ type: "go" }));
    await world.settle();
    calls.settle(0).resolve("old");
    await world.settle();
    expect(await world.run(ref.get())).toMatchObject({ value: "loading", context: { got: null } });
    expect(calls.seen[1]?.idempotencyKey).not.toBe(calls.seen[0]?.idempotencyKey);
    await world.run(ref.delete());
    expect(calls.seen[1]?.signal.aborted).toBe(true);
    await world.run(node.stop());
  });

  it("that reject are the machine's onError, or are tried again with growing pauses, also across a kill", async () => {
    const calls = new Calls();
    const actor = loader(calls, { retry: { load: { attempts: 3, first_ms: 1_000, factor: 2 } } });
    let { node, world, store } = await begin([actor]);
    await world.run(node.client.actor(actor, "a").send({ type: "go" }));
    await world.settle();
    calls.settle(0).reject({ code: 1 });
    await world.advance(900);
    expect(calls.seen).toHaveLength(1);
    await world.advance(200);
    expect(calls.seen).toHaveLength(2);
    expect(calls.seen[1]).toMatchObject({ attempt: 2, idempotencyKey: calls.seen[0]?.idempotencyKey });
    calls.settle(1).reject({ code: 2 });
    await world.settle();
    node.kill();
    ({ node, world, store } = await begin([actor], { world, store, name: "n2" }));
    await world.advance(20_000);
    expect(calls.seen).toHaveLength(3);
    calls.settle(2).reject({ code: 3 });
    await world.settle();
    const ref = node.client.actor(actor, "a");
    expect(await world.run(ref.get())).toMatchObject({ value: "failed", context: { why: { code: 3 } } });
    await world.advance(100_000);
    expect(calls.seen).toHaveLength(3);
    await world.run(node.stop());
  });

  it("run no more at once than the type and the node allow", async () => {
    const calls = new Calls();
    const actor = loader(calls, { atOnce: 2 });
    const { node, world } = await begin([actor]);
    for (const key of ["a", "b", "c", "d"])
      await world.run(node.client.actor(actor, key).send({ type: "go" }));
    await world.settle();
    expect(calls.seen).toHaveLength(2);
    await world.run(node.client.actor(actor, "c").send({ type: "leave" }));
    calls.settle(0).resolve(1);
    await world.settle();
    await world.settle();
    expect(calls.seen).toHaveLength(3);
    await world.run(node.stop());
  });

  it("that reject with an Error give the machine that Error, also after a kill, without what cannot be kept", async () => {
    const calls = new Calls();
    const actor = loader(calls);
    const { node, world, store } = await begin([actor]);
    const ref = node.client.actor(actor, "a");
    await world.run(ref.send({ type: "go" }));
    await world.settle();
    const refused = new TypeError("not covered", { cause: new Error("poor") });
    calls
      .settle(0)
      .reject(Object.assign(refused, { code: "E_FUNDS", status: 402, response: () => undefined }));
    await world.settle();
    const { value, context } = await world.run(ref.get());
    expect(value).toBe("failed");
    expect(context.why).toBeInstanceOf(TypeError);
    expect(context.why).toMatchObject({ message: "not covered", code: "E_FUNDS", status: 402 });
    expect(context.why).not.toHaveProperty("response");
    node.kill();
    const { node: heir } = await begin([actor], { world, store, name: "n2" });
    const again = (await world.run(heir.client.actor(actor, "a").get())).context.why;
    expect(again).toBeInstanceOf(TypeError);
    expect(again).toMatchObject({ message: "not covered", code: "E_FUNDS", status: 402 });
    await world.run(heir.stop());
  });

  it("custom actions read and send as the actor that they are of, also later, while others of its type act", async () => {
    const later: (() => void)[] = [];
    const seen: unknown[] = [];
    const actor = defineActor({
      type: "actor",
      machine: setup({
        types: { context: {} as { n: number }, events: {} as { type: "act" } | { type: "back" } },
      }).createMachine({
        context: { n: 0 },
        on: {
          act: {
            actions: ({ self }) => {
              seen.push((self.getSnapshot() as { context: { n: number } }).context.n);
              later.push(() => self.send({ type: "back" }));
            },
          },
          back: { actions: assign({ n: ({ context }) => context.n + 1 }) },
        },
      }),
    });
    const { node, world } = await begin([actor]);
    const [a, b] = [node.client.actor(actor, "a"), node.client.actor(actor, "b")];
    await world.run(b.send({ type: "back" }));
    await world.run(a.send({ type: "act" }));
    await world.run(b.send({ type: "act" }));
    expect(seen).toEqual([0, 1]);
    later[0]?.();
    await world.settle();
    expect((await world.run(a.get())).context.n).toBe(1);
    expect((await world.run(b.get())).context.n).toBe(1);
    await world.run(node.stop());
  });

  it("whose result is no plain data fail with that", async () => {
    const calls = new Calls();
    const actor = loader(calls);
    const { node, world } = await begin([actor]);
    const ref = node.client.actor(actor, "a");
    await world.run(ref.send({ type: "go" }));
    await world.settle();
    calls.settle(0).resolve(() => undefined);
    await world.settle();
    expect(await world.run(ref.get())).toMatchObject({
      value: "failed",
      context: { why: { code: "context_invalid" } },
    });
    await world.run(node.stop());
  });

  it("an error that no state handles ends the actor, as in XState, with the error in its state", async () => {
    const calls = new Calls();
    const actor = defineActor({
      type: "bare",
      machine: setup({ actors: { load: calls.logic } }).createMachine({
        invoke: { src: "load", id: "l" },
        on: { x: {} },
      }),
    });
    const { node, world } = await begin([actor]);
    const ref = node.client.actor(actor, "a");
    await world.run(ref.send({ type: "x" }));
    await world.settle();
    calls.settle(0).reject({ code: "broken" });
    await world.settle();
    expect(await world.run(ref.get())).toMatchObject({ status: "error", error: { code: "broken" } });
    await world.run(node.stop());
  });
});

describe("callbacks and observables", () => {
  it("run after the commit, take events, send back, and begin anew after a kill", async () => {
    const heard: unknown[] = [];
    let sends: ((event: { type: "heard"; n: number }) => void)[] = [];
    let stopped = 0;
    const actor = defineActor({
      type: "ear",
      machine: setup({
        types: {
          context: {} as { list: readonly number[] },
          events: {} as { type: "say"; what: string } | { type: "heard"; n: number } | { type: "off" },
        },
        actors: {
          listen: fromCallback<{ type: string }>(({ sendBack, receive }) => {
            sends.push(sendBack as never);
            receive((event) => heard.push(event));
            return () => {
              stopped++;
            };
          }),
        },
      }).createMachine({
        context: { list: [] },
        initial: "on",
        states: {
          on: {
            invoke: { src: "listen", id: "listen" },
            on: { say: { actions: sendTo("listen", ({ event }) => event) }, off: "off" },
          },
          off: {},
        },
        on: { heard: { actions: assign({ list: ({ context, event }) => [...context.list, event.n] }) } },
      }),
    });
    const first = await begin([actor]);
    const { world, store } = first;
    await world.run(first.node.client.actor(actor, "a").send({ type: "say", what: "hello" }));
    await world.settle();
    // It was begun in that very turn, and was sent the event in it.
    expect(heard).toEqual([{ type: "say", what: "hello" }]);
    sends[0]?.({ type: "heard", n: 1 });
    await world.settle();
    first.node.kill();
    sends = [];
    const { node } = await begin([actor], { world, store, name: "n2" });
    await world.advance(20_000);
    expect(sends).toHaveLength(1);
    sends[0]?.({ type: "heard", n: 2 });
    await world.settle();
    const ref = node.client.actor(actor, "a");
    expect((await world.run(ref.get())).context.list).toEqual([1, 2]);
    const before = stopped;
    await world.run(ref.send({ type: "off" }));
    expect(stopped).toBe(before + 1);
    sends[0]?.({ type: "heard", n: 3 });
    await world.settle();
    expect((await world.run(ref.get())).context.list).toEqual([1, 2]);
    await world.run(node.stop());
  });

  it("an observable's values are turns; it is subscribed to again after a kill; its end is onDone", async () => {
    interface Sink {
      next(value: unknown): void;
      complete(): void;
    }
    let sinks: Sink[] = [];
    const actor = defineActor({
      type: "viewer",
      machine: setup({
        types: { context: {} as { last: unknown } },
        actors: {
          prices: fromObservable<unknown, undefined>(() => ({
            subscribe: ((sink: Sink) => {
              sinks.push(sink);
              return { unsubscribe: () => undefined };
            }) as never,
          })),
        },
      }).createMachine({
        context: { last: null },
        initial: "on",
        states: {
          on: {
            invoke: {
              src: "prices",
              id: "prices",
              onSnapshot: { actions: assign({ last: ({ event }) => event.snapshot.context }) },
              onDone: "over",
            },
            on: { nudge: {} },
          },
          over: {},
        },
      }),
    });
    const first = await begin([actor]);
    const { world, store } = first;
    await world.run(first.node.client.actor(actor, "a").send({ type: "nudge" }));
    await world.settle();
    sinks[0]?.next(5);
    await world.settle();
    expect((await world.run(first.node.client.actor(actor, "a").get())).context.last).toBe(5);
    first.node.kill();
    sinks = [];
    const { node } = await begin([actor], { world, store, name: "n2" });
    await world.advance(20_000);
    sinks[0]?.next(6);
    sinks[0]?.complete();
    await world.settle();
    expect(await world.run(node.client.actor(actor, "a").get())).toMatchObject({
      value: "over",
      context: { last: 6 },
    });
    await world.run(node.stop());
  });
});

describe("questions of machines", () => {
  const account = defineActor({
    type: "account",
    machine: setup({
      types: {
        context: {} as { balance: number },
        events: {} as { type: "take"; amount: number } | { type: "look" },
      },
    }).createMachine({
      context: { balance: 100 },
      on: {
        look: {},
        take: {
          actions: [
            assign({
              balance: ({ context, event }) => {
                if (event.amount > context.balance) throw new Error("not enough");
                return context.balance - event.amount;
              },
            }),
            reply(({ context }) => ({ left: context.balance })),
          ],
        },
      },
    }),
  });
  const asking = (timeout_ms?: number): AnyStateMachine =>
    setup({
      types: {
        context: {} as { answer: unknown; error: unknown },
        events: {} as { type: "pay"; to: string; amount: number },
      },
      actors: { ask },
    }).createMachine({
      context: { answer: null, error: null },
      initial: "idle",
      states: {
        idle: { on: { pay: "paying" } },
        paying: {
          invoke: {
            src: "ask",
            input: ({ event }) => ({
              to: event.to,
              event: { type: "take", amount: event.amount },
              ...(timeout_ms === undefined ? {} : { timeout_ms }),
            }),
            onDone: { target: "idle", actions: assign({ answer: ({ event }) => event.output }) },
            onError: { target: "refused", actions: assign({ error: ({ event }) => event.error }) },
          },
        },
        refused: { on: { pay: "paying" } },
      },
    });
  const payer = defineActor({ type: "payer", machine: asking() });

  it("fail with an Error, as promises do, now and after a kill: one shape, whoever failed", async () => {
    const calls = new Calls();
    const loading = loader(calls);
    const first = await begin([account, payer, loading]);
    const { world, store } = first;
    const { client } = first.node;
    await world.run(client.actor(payer, "p").send({ type: "pay", to: "account/a", amount: 171 }));
    for (const key of ["ours", "theirs", "unkept"]) {
      await world.run(client.actor(loading, key).send({ type: "go" }));
      await world.settle();
    }
    calls.settle(0).reject(new KeyturnError("mailbox_full", "It is full."));
    calls.settle(1).reject(new RangeError("too far"));
    calls.settle(2).resolve(() => undefined);
    await world.advance(100);
    const seen = async ({ client }: KeyturnNode): Promise<unknown[]> => {
      const { error } = (await world.run(client.actor(payer, "p").get())).context as { error: unknown };
      const errors = [error];
      for (const key of ["ours", "theirs", "unkept"])
        errors.push((await world.run(client.actor(loading, key).get())).context.why);
      return errors.map((one) => {
        if (!(one instanceof Error)) return one;
        const { name, message } = one;
        return [name, message.slice(0, 11), { ...one }];
      });
    };
    const rejected = { outcome: "rejected", retryable: false };
    const all = [
      ["KeyturnError", expect.any(String), { code: "machine_failed", ...rejected }],
      ["KeyturnError", "It is full.", { code: "mailbox_full", outcome: "notApplied", retryable: true }],
      ["RangeError", "too far", {}],
      ["KeyturnError", "What came o", { code: "context_invalid", ...rejected }],
    ];
    expect(await seen(first.node)).toEqual(all);
    first.node.kill();
    const second = await begin([account, payer, loading], { world, store, name: "n2" });
    expect(await seen(second.node)).toEqual(all);
    await world.run(second.node.stop());
  });

  it("are answered with the reply, or fail with the error; the asked one has no dead letter then", async () => {
    const { node, world } = await begin([account, payer]);
    const ref = node.client.actor(payer, "p");
    await world.run(ref.send({ type: "pay", to: "account/a", amount: 30 }));
    await world.advance(10);
    expect(await world.run(ref.get())).toMatchObject({ value: "idle", context: { answer: { left: 70 } } });
    await world.run(ref.send({ type: "pay", to: "account/a", amount: 71 }));
    await world.advance(10);
    expect(await world.run(ref.get())).toMatchObject({
      value: "refused",
      context: { error: { code: "machine_failed", outcome: "rejected" } },
    });
    await world.run(ref.send({ type: "pay", to: "nobody/a", amount: 71 }));
    await world.advance(10);
    expect((await world.run(ref.get())).context).toMatchObject({ error: { code: "unknown_type" } });
    expect(await node.deadLetters()).toEqual([]);
    await world.run(node.stop());
  });

  it("are asked once and answered once when the node is killed at any moment", async () => {
    for (let moment = 0; moment < 12; moment++) {
      const first = await begin([account, payer]);
      const { world, store } = first;
      const sent = first.node.client.actor(payer, "p").send({ type: "pay", to: "account/a", amount: 30 });
      sent.catch(() => undefined);
      for (let step = 0; step < moment; step++) await new Promise<void>((resolve) => setImmediate(resolve));
      first.node.kill();
      const { node } = await begin([account, payer], { world, store, name: "n2" });
      await world.advance(20_000);
      const { value, context } = await world.run(node.client.actor(payer, "p").get());
      const { balance } = (await world.run(node.client.actor(account, "a").get())).context;
      expect(value).toBe("idle");
      // Either the first message was never committed, or all of it happened, once.
      expect([context.answer, balance]).toEqual(context.answer === null ? [null, 100] : [{ left: 70 }, 70]);
      await world.run(node.stop());
    }
  });

  it("time out when nobody answers, and an answer that comes later changes nothing", async () => {
    const slow = defineActor({ type: "payer", machine: asking(500) });
    const { node, world } = await begin([account, slow]);
    const ref = node.client.actor(slow, "p");
    await world.run(ref.send({ type: "pay", to: "account/a", amount: 1 }));
    await world.advance(1_000);
    expect(await world.run(ref.get())).toMatchObject({ value: "idle", context: { answer: { left: 99 } } });
    await world.run(node.stop());
  });
});
