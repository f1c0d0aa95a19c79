/** What waits for an actor at one moment: messages without a turn, and what it has invoked. */
import { ask, connect, defineActor, nats, startNode } from "keyturn";
import { assign, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { failure, keyIn, probeOf, type Rig, rig } from "./support/probe.ts";
import { expectProblem, served } from "./support/http.ts";
import { startServer } from "./support/nats-server.ts";
import { Outside } from "./support/outside.ts";

const add = { type: "add", by: 1 } as const;
const empty = { depth: 0, waiting: [], invocations: [] };

const refOf = (r: Rig, key = "a") => r.node.client.actor(r.probe, key);

describe("messages that wait", () => {
  it("nothing waits for an actor that is not there, and looking does not bring it into memory", async () => {
    const r = await rig();
    expect(await r.world.run(refOf(r).mailbox())).toEqual({ ...empty, memory: "absent" });
    expect(r.store.read.filter((id) => id.startsWith("probe."))).toEqual([]);
    await r.world.run(refOf(r).send(add));
    expect(await r.world.run(refOf(r).mailbox())).toEqual({ ...empty, memory: "loaded" });
    await r.world.run(r.node.stop());
  });

  it("they wait until the actor is read, and it is told since when", async () => {
    const r = await rig();
    r.store.snapshotReadGate.close();
    const began = r.world.clock.now();
    const sent = [refOf(r).send(add), refOf(r).send({ type: "note", from: "x", n: 1 })];
    await r.world.settle();
    await r.world.advance(5_000);
    const { oldest, waiting, ...rest } = await r.world.run(refOf(r).mailbox());
    expect(rest).toEqual({ depth: 2, memory: "loading", invocations: [] });
    expect(waiting.map(({ event, from, phase }) => [event, from, phase])).toEqual([
      ["add", "client", "loading"],
      ["note", "client", "loading"],
    ]);
    expect(oldest).toBe(waiting[0]?.since);
    expect(oldest).toBeGreaterThanOrEqual(began);
    expect(oldest).toBeLessThan(began + 1_000);
    r.store.snapshotReadGate.open();
    await r.world.run(Promise.all(sent));
    expect(await r.world.run(refOf(r).mailbox())).toEqual({ ...empty, memory: "loaded" });
    await r.world.run(r.node.stop());
  });

  it("they wait for their commit; questions that only read are left out, and another actor's too", async () => {
    const r = await rig();
    await r.world.run(Promise.all([refOf(r).send(add), refOf(r, "b").send(add)]));
    r.store.appendGate.close();
    const others = [refOf(r).send(add), refOf(r, "b").send(add), refOf(r).delete(), refOf(r).get()];
    await r.world.settle();
    const { waiting, depth } = await r.world.run(refOf(r).mailbox());
    expect(waiting.map(({ event, phase }) => `${event} ${phase}`)).toEqual([
      "add committing",
      "(delete) committing",
    ]);
    expect(depth).toBe(2);
    r.store.appendGate.open();
    await r.world.run(Promise.all(others));
    await r.world.run(r.node.stop());
  });

  it("what actors told waits too, and so does a delay that is due", async () => {
    const r = await rig();
    const [near, far] = [keyIn(r.node, r.probe, 0), keyIn(r.node, r.probe, 1)];
    await r.world.run(refOf(r, far).send({ type: "later", ms: 1_000 }));
    r.store.failsToRead = (id) => id.endsWith(`.${far}x`);
    await r.world.run(refOf(r, near).send({ type: "tell", to: `probe/${far}x`, event: add }));
    await r.world.settle();
    const told = await r.world.run(refOf(r, `${far}x`).mailbox());
    expect(told.waiting).toMatchObject([{ event: "add", from: "actor" }]);
    expect(["loading", "deferred"]).toContain(told.waiting[0]?.phase);
    r.store.failsToRead = () => false;
    await r.world.advance(1_000);
    expect((await r.world.run(refOf(r, `${far}x`).get())).context.count).toBe(1);
    await r.world.run(refOf(r, far).send({ type: "later", ms: 1_000 }));
    r.store.appendGate.close();
    await r.world.advance(1_100);
    const due = await r.world.run(refOf(r, far).mailbox());
    expect(due.waiting).toMatchObject([{ event: "tick", from: "timer", phase: "committing" }]);
    r.store.appendGate.open();
    await r.world.run(r.node.stop());
  });

  it("is answered past a queue that is full, with the first of many", async () => {
    const r = await rig({ settings: { intakeMessages: 2_000 } });
    await r.world.run(refOf(r).send(add));
    r.store.appendGate.close();
    const sent = Array.from({ length: 1_500 }, () => refOf(r).send(add));
    const { depth, waiting } = await r.world.run(refOf(r).mailbox());
    expect(depth).toBeGreaterThan(256);
    expect(waiting).toHaveLength(256);
    r.store.appendGate.open();
    await r.world.run(Promise.all(sent));
    await r.world.run(r.node.stop());
  });

  it("an actor that cannot be loaded says why; an unknown type is refused", async () => {
    const machine = setup({}).createMachine({ on: { go: {} } });
    const first = await rig({ actors: [defineActor({ type: "probe", machine })] });
    await first.world.run(first.node.client.actor("probe/a").send({ type: "go" } as never));
    await first.world.run(first.node.stop({ closeStore: false }));
    const fails = (): never => {
      throw new Error("no way");
    };
    const later = defineActor({ type: "probe", machine, version: 2, migrations: { 1: fails } });
    const { world, node } = await rig({ actors: [later], store: first.store, world: first.world });
    await world.run(failure(node.client.actor("probe/a").get()));
    expect(await world.run(node.client.actor("probe/a").mailbox())).toMatchObject({
      memory: "failed",
      failure: { code: "migration_failed", reason: expect.stringContaining("no way") },
    });
    expect((await world.run(failure(node.client.actor("none/a").mailbox()))).code).toBe("unknown_type");
    await world.run(node.stop());
  });
});

it("what was invoked and is not done is told: running, behind others, to be tried again", async () => {
  const outside = new Outside();
  const machine = setup({
    types: { events: {} as { type: "go" } },
    actors: { slow: outside.promise("slow") },
  }).createMachine({
    initial: "idle",
    states: {
      idle: { on: { go: "going" } },
      going: { invoke: { id: "job", src: "slow", onDone: "idle", onError: "idle" } },
    },
  });
  const clerk = defineActor({
    type: "clerk",
    machine,
    invoke: { atOnce: 1, retry: { attempts: 2, first_ms: 10_000 } },
  });
  const r = await rig({ actors: [clerk] });
  const at = (key: string) => r.node.client.actor(clerk, key);
  await r.world.run(at("a").send({ type: "go" }));
  await r.world.run(at("b").send({ type: "go" }));
  const since = expect.any(Number);
  const job = { path: "job", src: "slow", kind: "promise", since, attempt: 1 };
  const invocations = async (key: string) => (await r.world.run(at(key).mailbox())).invocations;
  expect(await invocations("a")).toEqual([{ ...job, phase: "running" }]);
  expect(await invocations("b")).toEqual([{ ...job, phase: "queued" }]);
  outside.reject("slow", new Error("no"));
  await r.world.settle();
  expect(await invocations("a")).toEqual([{ ...job, attempt: 2, phase: "retrying", due: since }]);
  expect(await invocations("b")).toEqual([{ ...job, phase: "running" }]);
  outside.resolve("slow", 1);
  await r.world.advance(30_000);
  expect(await invocations("b")).toEqual([]);
  await r.world.run(r.node.stop());
});

it("a question waits for its answer, and says of whom and until when", async () => {
  const machine = setup({
    types: { context: {} as { answer: unknown }, events: {} as { type: "wonder" } },
    actors: { ask },
  }).createMachine({
    context: { answer: null },
    initial: "idle",
    states: {
      idle: { on: { wonder: "wondering" } },
      wondering: {
        invoke: {
          src: "ask",
          id: "question",
          input: { to: "probe/far", event: add, timeout_ms: 60_000 },
          onDone: { target: "idle", actions: assign({ answer: ({ event }) => event.output }) },
        },
      },
    },
  });
  const probe = probeOf();
  const r = await rig({ actors: [defineActor({ type: "asker", machine }), probe], probe });
  const asker = r.node.client.actor("asker/a");
  r.store.failsToRead = (id) => id === "probe.far";
  const now = r.world.clock.now();
  await r.world.run(asker.send({ type: "wonder" }));
  const { invocations } = await r.world.run(asker.mailbox());
  expect(invocations).toEqual([
    { path: "question", src: "ask", kind: "ask", phase: "asked", to: "probe/far", due: expect.any(Number) },
  ]);
  expect(invocations[0]?.due).toBeGreaterThanOrEqual(now + 60_000);
  r.store.failsToRead = () => false;
  await r.world.advance(1_000);
  expect((await r.world.run(asker.mailbox())).invocations).toEqual([]);
  await r.world.run(r.node.stop());
});

it("is told over HTTP to who may know", async () => {
  let may = false;
  const { call, node } = await served([counter], {
    authorize: ({ action, type, key }) => may && action === "mailbox" && type === "counter" && key === "a",
  });
  await node.client.actor(counter, "a").send({ type: "add", by: 1 });
  expectProblem(await call("GET", "/actors/counter/a/mailbox"), 403, "access_denied");
  may = true;
  expect((await call("GET", "/actors/counter/a/mailbox")).body).toEqual({ ...empty, memory: "loaded" });
  expectProblem(await call("GET", "/actors/counter/a/mailbox?x=1"), 400, "invalid_options");
});

it("is told over a real server, by the node that has the actor, wherever who asks is", async () => {
  const outside = new Outside();
  const machine = setup({
    types: { events: {} as { type: "go" } },
    actors: { slow: outside.promise("slow"), ask },
  }).createMachine({
    initial: "idle",
    states: {
      idle: { on: { go: "going" } },
      going: {
        invoke: [
          { id: "job", src: "slow" },
          { id: "question", src: "ask", input: { to: "clerk/other/1", event: { type: "go" } } },
        ],
      },
    },
  });
  const clerk = defineActor({ type: "clerk", machine });
  const server = await startServer({ durability: "process" });
  const node = await startNode({ actors: [clerk], store: await nats({ servers: server.url }), shards: 4 });
  const client = await connect({ nats: { servers: server.url } });
  try {
    const ref = client.actor(clerk, "a/b ü");
    expect(await ref.mailbox()).toEqual({ ...empty, memory: "absent" });
    await ref.send({ type: "go" });
    await expect.poll(async () => (await ref.mailbox()).invocations.length).toBe(1);
    expect(await ref.mailbox()).toMatchObject({
      depth: 0,
      memory: "loaded",
      invocations: [{ path: "job", src: "slow", kind: "promise", phase: "running", attempt: 1 }],
    });
  } finally {
    await client.disconnect();
    await node.stop();
    await server.stop();
  }
});
