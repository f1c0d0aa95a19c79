/** What fails in a machine, after a commit or under the engine, hurts one message or one actor and nothing else. */
import { setup } from "xstate";
import { describe, expect, it } from "vitest";
import { defineActor } from "../runtime/index.ts";
import type { DeadLetter } from "../runtime/ports/index.ts";
import { failure, keyIn, probeOf, type Rig, rig } from "./support/probe.ts";

const add = { type: "add", by: 1 } as const;

async function letters(r: Rig): Promise<readonly DeadLetter[]> {
  await r.world.settle();
  return r.store.inner.deadLetters.list(100);
}

describe("poison", () => {
  it.each([
    ["fail", "machine_failed"],
    ["mutate", "context_mutated"],
    ["loop", "machine_looped"],
  ] as const)(
    "an event that makes the machine %s is rejected; the actor stays as it was and goes on",
    async (type, code) => {
      const r = await rig();
      const ref = r.node.client.actor(r.probe, "a");
      await r.world.run(ref.send(add));
      const before = await r.world.run(ref.get());
      expect(await r.world.run(failure(ref.ask({ type })))).toMatchObject({
        code,
        outcome: "rejected",
        retryable: false,
      });
      expect(await r.world.run(ref.get())).toEqual(before);
      expect(await r.world.run(ref.ask(add))).toBe(2);
    },
  );

  it("the messages before and behind it in one batch are applied", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    const results = await r.world.run(
      Promise.allSettled([
        ref.ask(add),
        ref.ask({ type: "fail" }),
        ref.ask(add),
        ref.ask({ type: "mutate" }),
        ref.ask(add),
      ]),
    );
    expect(results.map((x) => (x.status === "fulfilled" ? x.value : x.reason.code))).toEqual([
      1,
      "machine_failed",
      2,
      "context_mutated",
      3,
    ]);
  });

  it("an actor whose initial state throws is rejected for every request; the node lives on", async () => {
    const broken = defineActor({
      type: "broken",
      machine: setup({ types: { context: {} as { n: number }, input: {} as { key: string } } }).createMachine(
        {
          context: ({ input }) => {
            if (input.key.startsWith("bad")) throw new Error("no such key");
            return { n: 1 };
          },
          on: { x: {} },
        },
      ),
    });
    const probe = probeOf();
    const r = await rig({ actors: [broken, probe], probe });
    const ref = r.node.client.actor("broken/bad");
    expect((await r.world.run(failure(ref.get()))).code).toBe("machine_failed");
    expect((await r.world.run(failure(ref.ask({ type: "x" })))).code).toBe("machine_failed");
    expect((await r.world.run(failure(ref.watch().next()))).code).toBe("machine_failed");
    expect(await r.world.run(r.node.client.actor(probe, "a").ask(add))).toBe(1);
    expect((await r.world.run(r.node.client.actor("broken/good").get())).context).toEqual({ n: 1 });
  });
});

describe("dead letters", () => {
  it("a told message that the machine refuses is buried with its reason, once, and not sent again", async () => {
    const r = await rig();
    const [from, to] = [keyIn(r.node, r.probe, 0), keyIn(r.node, r.probe, 1)];
    const ref = r.node.client.actor(r.probe, from);
    await r.world.run(ref.send({ type: "tell", to: `probe/${to}`, event: { type: "fail" } }));
    await r.world.run(ref.send({ type: "tell", to: `probe/${to}`, event: add }));
    await r.world.advance(10_000);
    expect(await letters(r)).toEqual([
      expect.objectContaining({
        type: "probe",
        key: to,
        event: { type: "fail" },
        code: "machine_failed",
        reason: expect.stringContaining("no such luck"),
      }),
    ]);
    expect((await r.world.run(r.node.client.actor(r.probe, to).get())).context.count).toBe(1);
  });

  it("a message told to a type that nobody hosts is buried", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "tell", to: "nothing/b", event: { type: "x" } }));
    await r.world.advance(1_000);
    expect(await letters(r)).toMatchObject([{ type: "nothing", key: "b", code: "unknown_type" }]);
  });

  it("a timer whose event the machine refuses is taken away and buried", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "failLater", ms: 100 }));
    await r.world.run(ref.send(add));
    await r.world.advance(10_000);
    expect(await letters(r)).toMatchObject([{ type: "probe", key: "a", code: "machine_failed" }]);
    expect(await r.world.run(ref.ask(add))).toBe(2);
  });

  it("a request's error goes to the asker, not to the dead letters", async () => {
    const r = await rig();
    await r.world.run(failure(r.node.client.actor(r.probe, "a").ask({ type: "fail" })));
    expect(await letters(r)).toEqual([]);
  });
});

describe("contract 4: custom actions", () => {
  it("run once, after the commit, in the order of the turns, and none for turns without one", async () => {
    const done: string[] = [];
    const r = await rig({ probe: probeOf((what) => done.push(what)) });
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(
      Promise.all([
        ref.send(add),
        ref.send({ type: "act", what: "1" }),
        ref.send(add),
        ref.send({ type: "idle" }),
        ref.send({ type: "act", what: "2" }),
      ]),
    );
    expect(done).toEqual(["1", "2"]);
  });

  it("contract 10: never run again by a restart", async () => {
    const done: string[] = [];
    const first = await rig({ probe: probeOf((what) => done.push(what)) });
    const { store, world, probe } = first;
    await world.run(first.node.client.actor(probe, "a").send({ type: "act", what: "mail" }));
    first.node.kill();
    const second = await rig({ store, world, probe, name: "n2" });
    await world.advance(20_000);
    expect(await world.run(second.node.client.actor(probe, "a").ask(add))).toBe(1);
    expect(done).toEqual(["mail"]);
  });

  it("one that throws, or whose promise fails, is reported; its turn stands", async () => {
    const r = await rig({
      probe: probeOf((what) => {
        if (what === "throw") throw new Error("thrown");
        return Promise.reject(new Error("rejected"));
      }),
    });
    const ref = r.node.client.actor(r.probe, "a");
    expect(await r.world.run(ref.ask({ type: "act", what: "throw" }))).toBe("done");
    expect(await r.world.run(ref.ask({ type: "act", what: "reject" }))).toBe("done");
    await r.world.settle();
    expect(r.told).toEqual(["action probe.a effect Error: thrown", "action probe.a effect Error: rejected"]);
    expect((await r.world.run(ref.get())).turn).toBe(2);
  });

  it("one that is named and has no implementation is the machine's failure", async () => {
    const bare = defineActor({
      type: "bare",
      machine: setup({ actions: { known: () => undefined } }).createMachine({
        on: { go: { actions: "unknown" as "known" } },
      }),
    });
    const r = await rig({ actors: [bare] });
    const error = await r.world.run(failure(r.node.client.actor("bare/a").ask({ type: "go" })));
    expect(error.code).toBe("machine_failed");
    expect(error.message).toContain('"unknown"');
  });
});

describe("snapshots that cannot be read for a moment", () => {
  it("loader 3: refuse what waits as unknown and retryable; the next message finds the actor again", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    r.store.failsToRead = (id) => id === "probe.a";
    const error = await r.world.run(failure(ref.ask(add)));
    expect(error).toMatchObject({ code: "store_failed", retryable: true });
    r.store.failsToRead = () => false;
    expect(await r.world.run(ref.ask(add))).toBe(1);
  });

  it("contract 3: hold up told messages; none is lost or buried", async () => {
    const r = await rig();
    const [from, to] = [keyIn(r.node, r.probe, 0), keyIn(r.node, r.probe, 1)];
    r.store.failsToRead = (id) => id === `probe.${to}`;
    const ref = r.node.client.actor(r.probe, from);
    await r.world.run(ref.send({ type: "tellMany", to: [`probe/${to}`], from: "x", count: 5 }));
    await r.world.advance(10_000);
    r.store.failsToRead = () => false;
    await r.world.advance(10_000);
    const { seen } = (await r.world.run(r.node.client.actor(r.probe, to).get())).context;
    expect(seen).toEqual(["x1", "x2", "x3", "x4", "x5"]);
    expect(await letters(r)).toEqual([]);
  });

  it("contract 9: hold up timers; they fire when it can be read", async () => {
    const r = await rig({ settings: { activeActors: 1 } });
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "later", ms: 5_000 }));
    for (let n = 0; n < 5; n++) await r.world.run(r.node.client.actor(r.probe, `k${n}`).send(add));
    expect(r.node.incarnation.engine.actors.has("probe.a")).toBe(false);
    r.store.failsToRead = (id) => id === "probe.a";
    await r.world.advance(20_000);
    r.store.failsToRead = () => false;
    await r.world.advance(2_000);
    expect((await r.world.run(ref.get())).context.ticks).toBe(1);
  });
});
