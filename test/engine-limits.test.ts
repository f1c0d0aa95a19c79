/** Contract 11 (bounded, by typed refusals) and bad input: nothing of it changes an actor or hurts another. */
import { assign, raise, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { defineActor, startNode } from "../runtime/index.ts";
import { memory } from "../runtime/stores/memory/index.ts";
import { limits } from "../runtime/words/limits.ts";
import { failure, keyIn, probeOf, type Rig, rig } from "./support/probe.ts";

const add = { type: "add", by: 1 } as const;

async function counted(r: Rig, key = "a"): Promise<number> {
  return (await r.world.run(r.node.client.actor(r.probe, key).get())).context.count;
}

describe("contract 11: what is over a limit is refused by name", () => {
  it("mailbox_full: too many messages wait for an actor that is being loaded", async () => {
    const r = await rig({ settings: { mailboxMessages: 10, intakeMessages: 1_000 } });
    r.store.snapshotReadGate.close();
    const sends = Array.from({ length: 15 }, () => r.node.client.actor(r.probe, "a").send(add));
    const other = r.node.client.actor(r.probe, "b").send(add);
    const results = Promise.allSettled(sends);
    await r.world.settle();
    r.store.snapshotReadGate.open();
    const codes = (await r.world.run(results)).map((x) => (x.status === "fulfilled" ? "ok" : x.reason));
    expect(codes.filter((code) => code === "ok")).toHaveLength(10);
    for (const error of codes.slice(10))
      expect(error).toMatchObject({ code: "mailbox_full", outcome: "notApplied", retryable: true });
    await r.world.run(other);
    expect(await counted(r)).toBe(10);
  });

  it("overloaded: the node has too many messages waiting; when they are done it takes new ones", async () => {
    const r = await rig({ settings: { mailboxMessages: 5, intakeMessages: 20 } });
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send(add));
    const results = await r.world.run(Promise.allSettled(Array.from({ length: 50 }, () => ref.send(add))));
    const refused = results.filter((x) => x.status === "rejected");
    expect(refused).toHaveLength(30);
    for (const { reason } of refused)
      expect(reason).toMatchObject({ code: "overloaded", outcome: "notApplied", retryable: true });
    expect(await counted(r)).toBe(21);
  });

  it("timers_full: an actor has its most timers; the turn that asks for one more changes nothing", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "laterMany", count: limits.timersPerActor, ms: 1_000 }));
    expect((await r.world.run(failure(ref.send({ type: "later", ms: 1 })))).code).toBe("timers_full");
    await r.world.advance(5_000);
    expect((await r.world.run(ref.get())).context.ticks).toBe(limits.timersPerActor);
    await r.world.run(ref.send({ type: "later", ms: 1 }));
  });

  it("tell_invalid: a turn tells more than it may, or to nowhere, or no event, or a reserved or too large one", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    const many = { type: "tellMany", to: ["probe/b"], from: "", count: limits.tellsPerTurn + 1 } as const;
    expect((await r.world.run(failure(ref.send(many)))).code).toBe("tell_invalid");
    const bad: [string, unknown][] = [
      ["nowhere", { type: "x" }],
      ["probe/", { type: "x" }],
      ["9/a", { type: "x" }],
      [7 as never, { type: "x" }],
      ["probe/b", { type: "" }],
      ["probe/b", "x"],
      ["probe/b", { type: "xstate.stop" }],
      ["probe/b", { type: "x", blob: "y".repeat(limits.eventBytes) }],
    ];
    for (const [to, event] of bad) {
      const error = await r.world.run(
        failure(ref.send({ type: "tell", to, event: event as { type: string } })),
      );
      expect(["tell_invalid", "event_too_large"]).toContain(error.code);
    }
    expect((await r.world.run(ref.get())).turn).toBe(0);
  });

  it("outbox_full: a shard that takes no messages; the teller is refused, others go on", async () => {
    const r = await rig();
    const [from, to] = [keyIn(r.node, r.probe, 0), keyIn(r.node, r.probe, 1)];
    r.store.loses = (_subject, frame) => frame.kind === "told" && frame.fromShard === 0;
    const ref = r.node.client.actor(r.probe, from);
    const event = { type: "tellMany", to: [`probe/${to}`], from: "", count: limits.tellsPerTurn } as const;
    for (let n = 0; n < limits.outboxPerChannel / limits.tellsPerTurn; n++)
      await r.world.run(ref.send(event));
    expect(await r.world.run(failure(ref.send({ ...event, count: 1 })))).toMatchObject({
      code: "outbox_full",
      outcome: "notApplied",
      retryable: true,
    });
    await r.world.run(ref.send({ ...event, to: [`probe/${keyIn(r.node, r.probe, 2)}`], count: 1 }));
    await r.world.run(r.node.client.actor(r.probe, to).send(add));
  });

  it("event_too_large", async () => {
    const r = await rig();
    const ref = r.node.client.actor("probe/a");
    const event = (bytes: number) => ({ type: "add", by: 1, blob: "x".repeat(bytes) });
    expect((await failure(ref.send(event(limits.eventBytes) as never))).code).toBe("event_too_large");
    await r.world.run(ref.send(event(limits.eventBytes - 100) as never));
  });

  it("state_too_large: the actor keeps the state it had, and takes smaller events", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "grow", bytes: 700_000 }));
    for (const bytes of [800_000, 2_000_000]) {
      expect(await r.world.run(failure(ref.send({ type: "grow", bytes })))).toMatchObject({
        code: "state_too_large",
        outcome: "rejected",
      });
    }
    for (let n = 0; n < 130; n++) await r.world.run(ref.send(add));
    expect((await r.world.run(ref.get())).context).toMatchObject({ count: 130, blob: "x".repeat(700_000) });
  });

  it("state_too_large counts timers: no actor grows beyond what a keyframe and a snapshot may hold", async () => {
    type Heavy = { type: "grow" } | { type: "plan" } | { type: "idle" } | { type: "late"; blob: string };
    const heavy = defineActor({
      type: "heavy",
      machine: setup({ types: { context: {} as { blob: string }, events: {} as Heavy } }).createMachine({
        context: { blob: "" },
        on: {
          grow: { actions: assign({ blob: "x".repeat(500_000) }) },
          idle: {},
          plan: {
            actions: raise({ type: "late", blob: "y".repeat(200_000) }, { delay: 60_000 }),
          },
        },
      }),
    });
    const r = await rig({ actors: [heavy] });
    const ref = r.node.client.actor(heavy, "a");
    await r.world.run(ref.send({ type: "grow" }));
    await r.world.run(ref.send({ type: "plan" }));
    expect((await r.world.run(failure(ref.send({ type: "plan" })))).code).toBe("state_too_large");
    for (let n = 0; n < limits.keyframeTurns; n++) await r.world.run(ref.send({ type: "idle" }));
    await r.world.run(r.node.checkpoint());
    const [entry] = await r.store.inner.snapshots.read(["heavy.a"]);
    expect(entry?.value?.length).toBeLessThan(limits.stateBytes + 1_000);
    await r.world.advance(60_000);
    expect((await r.world.run(ref.get())).turn).toBe(3 + limits.keyframeTurns);
  });

  it("a reply that is too large or not plain data is the machine's failure", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    expect((await r.world.run(failure(ref.ask({ type: "answerBig", bytes: 1_000_000 })))).code).toBe(
      "state_too_large",
    );
    expect((await r.world.run(failure(ref.ask({ type: "answerBadly" })))).code).toBe("reply_invalid");
    expect((await r.world.run(ref.get())).turn).toBe(0);
  });
});

describe("bad input", () => {
  it("security 3: reserved events come from nobody outside", async () => {
    const r = await rig();
    const ref = r.node.client.actor("probe/a");
    for (const type of [
      "xstate.init",
      "xstate.stop",
      "xstate.done.actor.x",
      "xstate.after.10.probe.on",
      "*",
    ]) {
      expect((await failure(ref.send({ type }))).code).toBe("reserved_event");
    }
    expect((await r.world.run(ref.get())).turn).toBe(0);
  });

  it("an event is an object with a type", async () => {
    const r = await rig();
    const ref = r.node.client.actor("probe/a");
    const bad = [
      undefined,
      null,
      "add",
      7,
      {},
      { type: "" },
      { type: 7 },
      [],
      Object.assign([], { type: "add" }),
    ];
    for (const event of bad) expect((await failure(ref.ask(event as never))).code).toBe("invalid_event");
  });

  it("an event is plain data; the fault names its place, and the event is not sent", async () => {
    const r = await rig();
    const ref = r.node.client.actor("probe/a");
    const circle: Record<string, unknown> = { type: "add" };
    circle.self = circle;
    const bad: [unknown, string][] = [
      [{ type: "add", f: () => 1 }, "event.f"],
      [{ type: "add", deep: { list: [1, new WeakMap()] } }, "event.deep.list[1]"],
      [{ type: "add", s: Symbol("s") }, "event.s"],
      [{ type: "add", d: new Date(Number.NaN) }, "event.d"],
      [{ type: "add", n: 2n ** 64n }, "event.n"],
      [{ type: "add", s: "\ud800" }, "event.s"],
      [circle, "event.self.self"],
      [JSON.parse('{"type":"add","__proto__":{"by":1}}'), "event"],
    ];
    for (const [event, path] of bad) {
      const error = await failure(ref.ask(event as never));
      expect(error.code).toBe("invalid_event");
      expect(error.message.startsWith(path)).toBe(true);
    }
    expect(r.node.client.inFlight).toBe(0);
  });

  it("an address that is none", async () => {
    const r = await rig();
    for (const address of [
      "",
      "probe",
      "/a",
      "9x/a",
      "pro be/a",
      "probe/",
      `probe/${"x".repeat(10_000)}`,
      "probe/\ud800",
    ]) {
      await expect(async () => r.node.client.actor(address).get()).rejects.toMatchObject({
        code: "invalid_address",
        outcome: "rejected",
      });
    }
    await expect(async () => r.node.client.actor(r.probe, undefined as never).get()).rejects.toMatchObject({
      code: "invalid_address",
    });
  });

  it("a type that is not hosted", async () => {
    const r = await rig();
    expect((await r.world.run(failure(r.node.client.actor("nothing/a").ask({ type: "x" })))).code).toBe(
      "unknown_type",
    );
  });

  it("a caller's event is frozen, as documented, and nothing else of the caller's", async () => {
    const r = await rig();
    const event = { type: "add" as const, by: 1, more: { list: [1] } };
    const options = { requestId: "x" };
    await r.world.run(r.node.client.actor(r.probe, "a").send(event, options));
    expect([Object.isFrozen(event), Object.isFrozen(event.more.list), Object.isFrozen(options)]).toEqual([
      true,
      true,
      false,
    ]);
  });

  it("startNode refuses options that cannot be", async () => {
    const store = memory();
    const probe = probeOf();
    const bad = [
      { actors: undefined as never, store },
      { actors: [probe], store: undefined as never },
      { actors: [probe, probe], store },
      { actors: [probe], store, weight: 0 },
      { actors: [probe], store, weight: Number.POSITIVE_INFINITY },
      { actors: [probe], store, shards: 0 },
      { actors: [probe], store, shards: 1.5 },
      { actors: [probe], store, shards: limits.shards + 1 },
      { actors: [probe], store, name: "a.b" },
      { actors: [probe], store, settings: { lease_ms: 100, heartbeat_ms: 50 } },
      { actors: [probe], store, settings: { activeActors: 0 } },
      { actors: [probe], store, settings: { activeActors: Number.NaN } },
      { actors: [probe], store, settings: { unheardOf: 1 } as never },
      { actors: [probe], store, settings: { toString: 1 } as never },
      { actors: [probe], store, settings: { activeActors: Number.POSITIVE_INFINITY } },
      { actors: [probe], store, settings: null as never },
      { actors: [probe.machine as never], store },
      { actors: [undefined as never], store },
      { actors: [probe], store: null as never },
      { actors: [probe], store: "./data" as never },
      { actors: [probe], store: memory as never },
      undefined as never,
    ];
    for (const options of bad) expect((await failure(startNode(options))).code).toBe("invalid_options");
  });

  it("an app keeps the number of shards it was created with", async () => {
    const r = await rig({ shards: 4 });
    const more = startNode({ actors: [r.probe], store: r.store, world: r.world, shards: 8 });
    expect((await r.world.run(failure(more))).code).toBe("app_mismatch");
  });
});
