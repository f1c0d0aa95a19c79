/** Work at the edges: a full store, a hand-over, a full mailbox or outbox, an actor that is deleted and begins anew. */
import { assign, fromCallback, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { ask, defineActor, type KeyturnNode } from "../runtime/index.ts";
import { limits } from "../runtime/words/limits.ts";
import { Calls, loader } from "./support/calls.ts";
import { failure, keyIn, rig } from "./support/probe.ts";

type Heard = { type: "heard"; n?: unknown };

/** An actor that lists what its callback sends back; `bad` is an event that its machine throws on. */
function ears() {
  const sends: ((event: Heard | { type: "bad" }) => void)[] = [];
  const later: (() => void)[] = [];
  const ear = defineActor({
    type: "ear",
    machine: setup({
      types: {
        context: {} as { list: readonly unknown[]; why: unknown },
        events: {} as Heard | { type: "bad" } | { type: "nudge" } | { type: "act" },
      },
      actors: {
        listen: fromCallback(({ sendBack }) => {
          sends.push(sendBack as never);
        }),
      },
    }).createMachine({
      context: { list: [], why: null },
      initial: "on",
      states: {
        on: {
          invoke: {
            src: "listen",
            onError: { target: "failed", actions: assign({ why: ({ event }) => event.error }) },
          },
        },
        failed: {},
      },
      on: {
        nudge: {},
        act: { actions: ({ self }) => void later.push(() => self.send({ type: "heard", n: "late" })) },
        heard: { actions: assign({ list: ({ context, event }) => [...context.list, event.n] }) },
        bad: {
          actions: assign(() => {
            throw new Error("no such event");
          }),
        },
      },
    }),
  });
  return { ear, sends, later };
}

const steps = async (count: number): Promise<void> => {
  for (let step = 0; step < count; step++) await new Promise<void>((resolve) => setImmediate(resolve));
};

describe("an actor that is deleted", () => {
  it("its next life in the same millisecond is not given the results of the former one", async () => {
    const calls = new Calls();
    const actor = loader(calls);
    const r = await rig({ actors: [actor] });
    const ref = r.node.client.actor(actor, "a");
    const lives: number[] = [];
    for (let life = 0; life < 3; life++) {
      await r.world.run(ref.send({ type: "go" }));
      await r.world.settle();
      lives.push(r.world.now());
      if (life < 2) await r.world.run(ref.delete());
    }
    // Otherwise this shows nothing.
    expect(new Set(lives).size).toBe(1);
    expect(new Set(calls.seen.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(3);
    calls.settle(0).resolve("first");
    calls.settle(1).resolve("second");
    await r.world.settle();
    expect(await r.world.run(ref.get())).toMatchObject({ value: "loading", context: { got: null } });
    calls.settle(2).resolve("third");
    await r.world.settle();
    expect((await r.world.run(ref.get())).context.got).toBe("third");
    await r.world.run(r.node.stop());
  });

  it.each(["nothing", "a new life"])(
    "what its callback sends, before or behind the deletion, begins no new life and is not in it (%s)",
    async (behind) => {
      for (let moment = 0; moment < 8; moment++) {
        const { ear, sends } = ears();
        const r = await rig({ actors: [ear] });
        const ref = r.node.client.actor(ear, "a");
        await r.world.run(ref.send({ type: "nudge" }));
        await r.world.settle();
        const deleted = ref.delete();
        const born = behind === "nothing" ? undefined : ref.send({ type: "nudge" });
        await steps(moment);
        sends[0]?.({ type: "heard", n: moment });
        await r.world.run(Promise.all([deleted, born]));
        await r.world.settle();
        expect(await r.world.run(ref.get()), `${moment}`).toMatchObject({
          turn: behind === "nothing" ? 0 : 1,
          context: { list: [] },
        });
        await r.world.run(r.node.stop());
      }
    },
  );

  it("what its custom actions send later begins no new life", async () => {
    const { ear, later } = ears();
    const r = await rig({ actors: [ear] });
    const ref = r.node.client.actor(ear, "a");
    await r.world.run(ref.send({ type: "act" }));
    later[0]?.();
    await r.world.settle();
    expect((await r.world.run(ref.get())).context.list).toEqual(["late"]);
    await r.world.run(ref.delete());
    later[0]?.();
    await r.world.settle();
    expect(await r.world.run(ref.get())).toMatchObject({ turn: 0, context: { list: [] } });
    await r.world.run(r.node.stop());
  });
});

describe("work when there is no room", () => {
  it("a retry that came due while a turn was in flight, which a full store undid, is run", async () => {
    const calls = new Calls();
    const actor = loader(calls, { retry: { load: { attempts: 3, first_ms: 1_000 } } });
    const r = await rig({ actors: [actor] });
    const ref = r.node.client.actor(actor, "a");
    await r.world.run(ref.send({ type: "go" }));
    await r.world.settle();
    calls.settle(0).reject({ code: "again" });
    await r.world.settle();
    r.store.appendGate.close();
    const refused = failure(ref.send({ type: "count" }, { timeout_ms: 60_000 }));
    await r.world.settle();
    // The wall clock jumps past it: it is due, and nothing has rung.
    r.world.wall_ms += 5_000;
    r.store.appendFaults.push("full");
    r.store.appendGate.open();
    await r.world.settle();
    expect(calls.seen).toHaveLength(1);
    await r.world.advance(3_000);
    expect(calls.seen).toHaveLength(2);
    expect(calls.seen[1]).toMatchObject({ attempt: 2, idempotencyKey: calls.seen[0]?.idempotencyKey });
    await r.world.run(refused);
    await r.world.run(r.node.stop());
  });

  it("what comes of it while its actor is loaded and the mailbox is full is taken when there is room", async () => {
    const calls = new Calls();
    const actor = loader(calls);
    const r = await rig({ actors: [actor], settings: { activeActors: 1, mailboxMessages: 2 } });
    const ref = r.node.client.actor(actor, "a");
    await r.world.run(ref.send({ type: "go" }));
    await r.world.settle();
    for (const key of ["b", "c", "d"])
      await r.world.run(r.node.client.actor(actor, key).send({ type: "count" }));
    await r.world.settle();
    r.store.snapshotReadGate.close();
    const sent = [ref.send({ type: "count" }), ref.send({ type: "count" })];
    await r.world.settle();
    expect(r.store.snapshotReadGate.waiting).toBe(1);
    expect(await r.world.run(failure(ref.send({ type: "count" })))).toMatchObject({ code: "mailbox_full" });
    calls.settle(0).resolve("whole");
    await r.world.advance(200);
    r.store.snapshotReadGate.open();
    await r.world.run(Promise.all(sent));
    await r.world.advance(200);
    expect(await r.world.run(ref.get())).toMatchObject({ value: "idle", context: { got: "whole", n: 2 } });
    await r.world.run(r.node.stop());
  });

  it("a question that is refused while the outbox is full is answered, once there is room", async () => {
    const asked = defineActor({
      type: "asked",
      machine: setup({ types: { events: {} as { type: "fail" } } }).createMachine({
        context: {},
        on: {
          fail: {
            actions: assign(() => {
              throw new Error("certainly not");
            }),
          },
        },
      }),
    });
    const asker = defineActor({
      type: "asker",
      machine: setup({
        types: { context: {} as { why: unknown }, events: {} as { type: "go"; to: string } },
        actors: { ask },
      }).createMachine({
        context: { why: null },
        initial: "idle",
        states: {
          idle: { on: { go: "asking" } },
          asking: {
            invoke: {
              src: "ask",
              input: ({ event }) => ({ to: event.to, event: { type: "fail" } }),
              onError: { target: "idle", actions: assign({ why: ({ event }) => event.error }) },
            },
          },
        },
      }),
    });
    const r = await rig({ actors: [asked, asker] });
    const [from, to] = [keyIn(r.node, asker, 0), keyIn(r.node, asked, 1)];
    const shard = shardOf(r.node, 1);
    const { bytes } = shard.outbox;
    shard.outbox.bytes = limits.outboxBytes;
    const ref = r.node.client.actor(asker, from);
    await r.world.run(ref.send({ type: "go", to: `asked/${to}` }));
    await r.world.advance(1_000);
    expect((await r.world.run(ref.get())).value).toBe("asking");
    shard.outbox.bytes = bytes;
    await r.world.advance(1_000);
    expect(await r.world.run(ref.get())).toMatchObject({
      value: "idle",
      context: { why: { code: "machine_failed", outcome: "rejected" } },
    });
    expect(await r.node.deadLetters()).toEqual([]);
    await r.world.run(r.node.stop());
  });
});

function shardOf(node: KeyturnNode, number: number) {
  const shard = node.incarnation.engine.shards.get(number);
  if (shard === undefined) throw new Error(`Shard ${number} is not here.`);
  return shard;
}

describe("what comes of work", () => {
  it("a promise that has succeeded is not called off when its state is left", async () => {
    const calls = new Calls();
    const actor = loader(calls);
    const r = await rig({ actors: [actor] });
    const ref = r.node.client.actor(actor, "a");
    await r.world.run(ref.send({ type: "go" }));
    await r.world.settle();
    let aborted = false;
    calls.seen[0]?.signal.addEventListener("abort", () => {
      aborted = true;
    });
    calls.settle(0).resolve("fine");
    await r.world.settle();
    expect((await r.world.run(ref.get())).context.got).toBe("fine");
    await r.world.run(ref.delete());
    await r.world.run(r.node.stop());
    expect([aborted, calls.seen[0]?.signal.aborted]).toEqual([false, false]);
  });

  it("what a callback sends back and cannot be kept is its failure; what the machine throws on is a dead letter", async () => {
    const { ear, sends } = ears();
    const r = await rig({ actors: [ear] });
    const ref = r.node.client.actor(ear, "a");
    await r.world.run(ref.send({ type: "nudge" }));
    await r.world.settle();
    sends[0]?.({ type: "bad" });
    sends[0]?.({ type: "heard", n: 1 });
    await r.world.settle();
    expect(await r.world.run(ref.get())).toMatchObject({ value: "on", context: { list: [1] } });
    expect(await r.node.deadLetters()).toMatchObject([
      { type: "ear", key: "a", event: { type: "bad" }, code: "machine_failed" },
    ]);
    sends[0]?.({ type: "heard", n: () => undefined });
    await r.world.settle();
    expect(await r.world.run(ref.get())).toMatchObject({
      value: "failed",
      context: { list: [1], why: { code: "context_invalid" } },
    });
    sends[0]?.({ type: "heard", n: 2 });
    await r.world.settle();
    expect((await r.world.run(ref.get())).context.list).toEqual([1]);
    await r.world.run(r.node.stop());
  });
});

describe("a hand-over", () => {
  it("ends what runs and begins nothing that waits for its turn; the next owner does, as many at once as it may", async () => {
    const [here, there] = [new Calls(), new Calls()];
    const first = loader(here, { atOnce: 1 });
    const r = await rig({ actors: [first], shards: 1 });
    for (const key of ["a", "b", "c"])
      await r.world.run(r.node.client.actor(first, key).send({ type: "go" }));
    await r.world.settle();
    expect(here.seen).toHaveLength(1);
    const second = loader(there, { atOnce: 1 });
    const heir = await rig({
      world: r.world,
      store: r.store,
      actors: [second],
      name: "n2",
      weight: 1_000_000,
    });
    await r.world.advance(5_000);
    expect(heir.node.incarnation.engine.shards.size).toBe(1);
    expect(here.seen).toHaveLength(1);
    expect(here.seen[0]?.signal.aborted).toBe(true);
    for (let at = 0; at < 3; at++) {
      expect(there.seen).toHaveLength(at + 1);
      there.settle(at).resolve(at);
      await r.world.settle();
      await r.world.settle();
    }
    for (const key of ["a", "b", "c"])
      expect((await r.world.run(heir.node.client.actor(second, key).get())).value).toBe("idle");
    await r.world.run(r.node.stop({ closeStore: false }));
    await r.world.run(heir.node.stop());
  });
});
