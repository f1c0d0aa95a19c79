/** What only a new version of a machine invokes begins in the actors that stand in its state already. */
import { assign, createActor, fromCallback, fromTransition, sendTo, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { ask, defineActor, fromDurablePromise, reply } from "../runtime/index.ts";
import { failure, type Rig, rig } from "./support/probe.ts";

interface Run {
  readonly input: unknown;
  readonly idempotencyKey: string;
  resolve(value: unknown): void;
}

/** Machines of two versions: the second one's `busy` invokes a promise, a callback, a pure child and a question. */
function versions(
  input: (args: { context: { n: number } }) => unknown = ({ context }) => ({ n: context.n }),
) {
  const runs: Run[] = [];
  const heard: unknown[] = [];
  const types = {
    context: {} as { n: number; got: unknown; price: unknown },
    events: {} as { type: "go" } | { type: "add" } | { type: "say" },
  };
  const context = { n: 0, got: null, price: null };
  const one = defineActor({
    type: "job",
    machine: setup({
      types,
      actors: { kept: fromTransition((state: number) => state + 1, 0) },
    }).createMachine({
      context,
      initial: "idle",
      states: {
        idle: { on: { go: "busy" } },
        busy: { invoke: { src: "kept", id: "kept" }, after: { 60000: {} } },
      },
      on: {
        add: { actions: assign({ n: ({ context }) => context.n + 1 }) },
        say: { actions: sendTo("kept", { type: "x" }) },
      },
    }),
  });
  const two = defineActor({
    type: "job",
    version: 2,
    delays: "drop",
    machine: setup({
      types,
      actors: {
        ask,
        kept: fromTransition((state: number) => state + 1, 0),
        load: fromDurablePromise<unknown, unknown>(
          ({ input, idempotencyKey }) =>
            new Promise((resolve) => runs.push({ input, idempotencyKey, resolve })),
        ),
        ear: fromCallback(({ receive }) => receive((event) => heard.push(event.type))),
      },
    }).createMachine({
      context,
      initial: "idle",
      states: {
        idle: { on: { go: "busy" } },
        busy: {
          invoke: [
            { src: "kept", id: "kept" },
            {
              src: "load",
              id: "load",
              input: input as never,
              onDone: { actions: assign({ got: ({ event }) => event.output }) },
            },
            { src: "ear", id: "ear" },
            {
              src: "ask",
              id: "price",
              input: { to: "shop/s", event: { type: "price" } },
              onDone: { actions: assign({ price: ({ event }) => event.output }) },
            },
          ],
        },
      },
      on: {
        add: { actions: assign({ n: ({ context }) => context.n + 1 }) },
        say: { actions: [sendTo("kept", { type: "x" }), sendTo("ear", { type: "said" })] },
      },
    }),
  });
  const shop = defineActor({
    type: "shop",
    machine: setup({ types: { events: {} as { type: "price" } } }).createMachine({
      on: { price: { actions: reply(7) } },
    }),
  });
  return { one, two, shop, runs, heard };
}

type Versions = ReturnType<typeof versions>;

/** An actor that stands in `busy` of the first version, whose node has stopped or died. */
async function stored({ one, shop }: Versions, how: "stop" | "kill", events = ["go", "say"]): Promise<Rig> {
  const r = await rig({ actors: [one, shop] });
  for (const type of events) await r.world.run(r.node.client.actor(one, "a").send({ type } as never));
  if (how === "kill") r.node.kill();
  else await r.world.run(r.node.stop({ closeStore: false }));
  return r;
}

const later = ({ world, store }: Rig, { two, shop }: Versions, name: string): Promise<Rig> =>
  rig({ world, store, actors: [two, shop], name });

describe("invocations of a new version", () => {
  it.each(["stop", "kill"] as const)(
    "begin when the actor is loaded, without a message (%s)",
    async (how) => {
      const v = versions();
      const r = await later(await stored(v, how), v, "n2");
      const ref = r.node.client.actor(v.two, "a");
      expect(await r.world.run(ref.get())).toMatchObject({ value: "busy", context: { got: null } });
      await r.world.advance(20_000);
      expect(v.runs).toMatchObject([{ input: { n: 0 } }]);
      v.runs[0]?.resolve("loaded");
      await r.world.settle();
      const state = await r.world.run(ref.get());
      expect(state.context).toEqual({ n: 0, got: "loaded", price: 7 });
      // What was there already went on: it had taken one event.
      expect(state.children).toMatchObject({
        kept: { context: 1 },
        ear: { status: "active" },
        load: { status: "done" },
      });
      await r.world.run(r.node.stop());
    },
  );

  it("begin before the first message is taken, and once", async () => {
    const v = versions();
    let r = await later(await stored(v, "stop"), v, "n2");
    const ref = r.node.client.actor(v.two, "a");
    await r.world.run(ref.send({ type: "add" }));
    await r.world.run(ref.send({ type: "say" }));
    await r.world.settle();
    expect(v.heard).toEqual(["said"]);
    expect(v.runs).toMatchObject([{ input: { n: 0 } }]);
    const turns = [];
    for await (const turn of ref.history({ order: "oldest" })) turns.push(turn);
    const types = turns.map(({ event }) => event?.type);
    expect(types[2]).toBe("add");
    expect(types).not.toContain("xstate.keyturn.begin");
    // A later life of the node finds them begun.
    r.node.kill();
    r = await later(r, v, "n3");
    await r.world.advance(20_000);
    expect(v.runs).toHaveLength(2);
    expect(v.runs[1]?.idempotencyKey).toBe(v.runs[0]?.idempotencyKey);
    await r.world.run(r.node.stop());
  });

  it("begin also where the type drops delays that fell due while no node ran", async () => {
    const v = versions();
    const before = await stored(v, "stop");
    // The old version's delay is overdue, and what begins the invocations is due no later.
    await before.world.advance(600_000);
    const r = await later(before, v, "n2");
    await r.world.advance(20_000);
    expect(v.runs).toHaveLength(1);
    await r.world.run(r.node.stop());
  });

  it("are begun by the next node when one dies before that is recorded", async () => {
    const v = versions();
    const before = await stored(v, "stop");
    const r = await later(before, v, "n2");
    const read = r.node.client.actor(v.two, "a").get();
    read.catch(() => undefined);
    for (let step = 0; step < 3; step++) await new Promise<void>((resolve) => setImmediate(resolve));
    r.node.kill();
    const heir = await later(r, v, "n3");
    await r.world.advance(20_000);
    await r.world.run(heir.node.client.actor(v.two, "a").get());
    await r.world.advance(1_000);
    const keys = new Set(v.runs.map(({ idempotencyKey }) => idempotencyKey));
    expect([keys.size, v.runs.length > 0]).toEqual([1, true]);
    await r.world.run(heir.node.stop());
  });

  it("do not begin in a state that does not have them, nor in one that is entered in the new version twice", async () => {
    const v = versions();
    const r = await later(await stored(v, "stop", ["add"]), v, "n2");
    const ref = r.node.client.actor(v.two, "a");
    expect((await r.world.run(ref.get())).value).toBe("idle");
    await r.world.advance(1_000);
    expect(v.runs).toEqual([]);
    await r.world.run(ref.send({ type: "go" }));
    await r.world.settle();
    expect(v.runs).toHaveLength(1);
    await r.world.run(r.node.stop());
  });

  it("whose input cannot be made refuse the migration; the actor stays as it is stored", async () => {
    const bad = versions(() => {
      throw new Error("no input from this");
    });
    const r = await later(await stored(bad, "stop"), bad, "n2");
    const error = await failure(r.world.run(r.node.client.actor(bad.two, "a").get()));
    expect(error).toMatchObject({
      code: "migration_failed",
      message: expect.stringContaining("no input from this"),
    });
    r.node.kill();
    const good = versions();
    const mended = await later(r, good, "n3");
    await r.world.run(mended.node.client.actor(good.two, "a").get());
    await r.world.settle();
    expect(good.runs).toHaveLength(1);
    await r.world.run(mended.node.stop());
  });

  it("are the same as those of a plain actor that enters the state", async () => {
    const v = versions();
    const r = await later(await stored(v, "stop"), v, "n2");
    await r.world.run(r.node.client.actor(v.two, "a").get());
    await r.world.settle();
    const { children = {} } = await r.world.run(r.node.client.actor(v.two, "a").get());
    const plain = createActor(v.two.machine).start();
    plain.send({ type: "go" });
    expect(Object.keys(children).sort()).toEqual(Object.keys(plain.getSnapshot().children).sort());
    plain.stop();
    await r.world.run(r.node.stop());
  });
});
