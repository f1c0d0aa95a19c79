/** Traces: one message is one trace, from the client over the turn and its commit to all that it told. */
import { context, ROOT_CONTEXT, SpanKind, trace } from "@opentelemetry/api";
import type { ReadableSpan } from "@opentelemetry/sdk-trace-base";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { connect, type KeyturnNode, nats, type Observer, type Telemetry } from "../runtime/index.ts";
import { memory, startNode } from "../runtime/index.ts";
import { serveHttp } from "../runtime/http/index.ts";
import {
  begunByTimer,
  isBegunByTimer,
  traceFlags,
  traceOf,
  traceparentIn,
  tracestateIn,
} from "../runtime/words/trace.ts";
import { FaultStore } from "./support/fault-store.ts";
import { startServer } from "./support/nats-server.ts";
import { failure, keyIn, rig } from "./support/probe.ts";
import { activeContexts, inPromise, pacer, relay, Spans } from "./support/traced.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

beforeAll(activeContexts);

const given = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;

/** The turns of timers. */
function firedIn(spans: Spans): ReadableSpan[] {
  return spans.all.filter(({ attributes }) => attributes["keyturn.source"] === "timer");
}

function linksOf(span: ReadableSpan | undefined): (readonly [trace: string, span: string])[] | undefined {
  return span?.links.map(({ context: { traceId, spanId } }) => [traceId, spanId]);
}

/** Keys in shards of their own, so that every message goes over a channel. */
function keysOf(node: KeyturnNode): string[] {
  return [0, 1, 2].map((shard) => keyIn(node, relay, shard));
}

const chain = [
  "CLIENT ask relay pass",
  "  SERVER relay pass",
  "    CONSUMER relay pass",
  "      CONSUMER relay pass",
];

async function oneNode(telemetry: Telemetry, observer: Partial<Observer> = {}): Promise<KeyturnNode> {
  return startNode({ actors: [relay, pacer], store: memory(), shards: 4, telemetry, observer, name: "n" });
}

/** Waits until an actor has been passed by. */
async function passed(node: KeyturnNode, key: string, times = 1): Promise<void> {
  for await (const state of node.client.actor(relay, key).watch()) if (state.context.passed >= times) return;
}

describe("a trace", () => {
  it("follows a message from the client through the turn, the commit and to those that were told", async () => {
    const spans = new Spans();
    const node = await oneNode(spans.telemetry());
    const [a = "", b = "", c = ""] = keysOf(node);
    await node.client.actor(relay, a).ask({ type: "pass", via: [b, c] });
    await passed(node, c);
    expect(spans.tree()).toEqual(chain);
    expect(spans.traces.size).toBe(1);
    const turn = spans.all.find(({ name, kind }) => name === "relay pass" && kind === 1);
    expect(turn?.attributes).toEqual({
      "keyturn.actor.type": "relay",
      "keyturn.event": "pass",
      "keyturn.source": "request",
      "keyturn.shard": 0,
      "keyturn.turn": 1,
      "keyturn.position": expect.any(Number),
      "keyturn.outcome": "applied",
      "keyturn.waited_ms": expect.any(Number),
    });
    expect(turn?.events).toMatchObject([
      {
        name: "commit",
        attributes: {
          "keyturn.batch.records": 1,
          "keyturn.batch.bytes": expect.any(Number),
          "keyturn.commit_ms": expect.any(Number),
        },
      },
    ]);
    // It begins within the turn, and ends with it.
    const [commit] = turn?.events ?? [];
    expect(ms(commit?.time)).toBeGreaterThanOrEqual(ms(turn?.startTime));
    const end_ms = ms(commit?.time) + Number(commit?.attributes?.["keyturn.commit_ms"]);
    expect(end_ms).toBeCloseTo(ms(turn?.endTime), 2);
    // Each begins no earlier and ends no later than what it is part of, but for those that were told.
    const client = spans.one("ask relay pass");
    expect(ms(turn?.startTime)).toBeGreaterThanOrEqual(ms(client.startTime) - 2);
    expect(ms(turn?.endTime)).toBeLessThanOrEqual(ms(client.endTime) + 2);
    await node.stop();
  });

  it("is continued from a traceparent and from the active span, and the record has the turn's own context", async () => {
    const spans = new Spans();
    const store = memory();
    const node = await startNode({
      actors: [relay],
      store,
      shards: 4,
      telemetry: spans.telemetry({ sample: 0, keys: true }),
    });
    await node.client.actor(relay, "x").ask({ type: "pass", via: [] }, { trace: given });
    const client = spans.one("ask relay pass");
    expect(client.parentSpanContext).toMatchObject({ traceId: "a".repeat(32), spanId: "b".repeat(16) });
    expect(client.attributes["keyturn.actor.key"]).toBe("x");
    expect(spans.one("relay pass").parentSpanContext?.spanId).toBe(client.spanContext().spanId);
    spans.reset();
    const own = spans.tracer.startSpan("own");
    await context.with(trace.setSpan(ROOT_CONTEXT, own), () =>
      node.client.actor(relay, "x").send({ type: "pass", via: [] }),
    );
    own.end();
    expect(spans.tree()).toEqual(["INTERNAL own", "  CLIENT send relay pass", "    SERVER relay pass"]);
    spans.reset();
    // Within a server's span of the same trace, the header that it came with adds nothing.
    const server = spans.tracer.startSpan("server");
    const { traceId } = server.spanContext();
    await context.with(trace.setSpan(ROOT_CONTEXT, server), () =>
      node.client
        .actor(relay, "x")
        .send({ type: "pass", via: [] }, { trace: `00-${traceId}-${"c".repeat(16)}-01` }),
    );
    expect(spans.one("send relay pass").parentSpanContext?.spanId).toBe(server.spanContext().spanId);
    await node.stop();
  });

  it("is not begun, and is carried on, where its sender did not sample it or the share is 0", async () => {
    const spans = new Spans();
    const node = await oneNode(spans.telemetry());
    const unsampled = `00-${"a".repeat(32)}-${"b".repeat(16)}-00`;
    const told: (string | undefined)[] = [];
    const unlisten = node.store.transport.subscribe("shard.1", (frame) => {
      if (frame.kind === "told") told.push(...frame.messages.map((message) => message.trace));
    });
    const [a = "", b = ""] = keysOf(node);
    await node.client.actor(relay, a).ask({ type: "pass", via: [b] }, { trace: unsampled });
    await passed(node, b);
    unlisten();
    expect(told).toEqual([unsampled]);
    // Reading and watching has spans of the client alone.
    expect(spans.all.filter(({ name }) => name.includes("pass"))).toEqual([]);
    await node.stop();
    const rare = new Spans();
    const quiet = await oneNode(rare.telemetry({ sample: 0 }));
    await quiet.client.actor(relay, a).ask({ type: "pass", via: [b] });
    await passed(quiet, b);
    expect(rare.all).toEqual([]);
    await quiet.stop();
  });

  it("is drawn once a message: what its client left out nobody draws again, and of others the share is kept", async () => {
    const spans = new Spans();
    const node = await oneNode(spans.telemetry({ sample: 0.5 }));
    const [a = "", b = ""] = keysOf(node);
    const asks = 400;
    await Promise.all(
      Array.from({ length: asks }, () => node.client.actor(relay, a).send({ type: "pass", via: [b] })),
    );
    await passed(node, b, asks);
    const clients = spans.all.filter(({ name }) => name === "send relay pass").length;
    const turns = spans.all.filter(({ name }) => name === "relay pass");
    // Ten standard deviations.
    expect(Math.abs(clients - asks / 2)).toBeLessThan(100);
    expect(turns.length).toBe(clients * 2);
    expect(turns.every(({ parentSpanContext }) => parentSpanContext !== undefined)).toBe(true);
    await node.stop();
  });

  it("is begun so many times a second at most, by each node and each client", async () => {
    const spans = new Spans();
    const world = new VirtualWorld();
    const r = await rig({ world, actors: [relay], telemetry: spans.telemetry({ perSecond: 5 }) });
    const asked = async (count: number): Promise<number> => {
      const before = spans.all.filter(({ name }) => name === "ask relay pass").length;
      const asks = Array.from({ length: count }, () =>
        r.node.client.actor(relay, "a").ask({ type: "pass", via: [] }),
      );
      await world.run(Promise.all(asks));
      return spans.all.filter(({ name }) => name === "ask relay pass").length - before;
    };
    const begun = world.clock.monotonic();
    expect(await asked(50)).toBe(5);
    // What these have taken of the second is worth less than one more.
    expect(world.clock.monotonic() - begun).toBeLessThan(200);
    await world.advance(400);
    expect(await asked(50)).toBe(2);
    await world.advance(60_000);
    expect(await asked(50)).toBe(5);
    for (const perSecond of [0, -1, Number.NaN, "5"])
      expect(() => spans.telemetry({ perSecond: perSecond as number })).toThrow(
        /perSecond is a number above 0/,
      );
    await r.world.run(r.node.stop());
  });

  it("has the refusal of a turn, of a told message, and a repetition's answer", async () => {
    const spans = new Spans();
    const node = await oneNode(spans.telemetry());
    const ref = node.client.actor(relay, "a");
    expect(await failure(ref.send({ type: "break" }))).toMatchObject({ code: "machine_failed" });
    for (const name of ["send relay break", "relay break"]) {
      expect(spans.one(name).status).toEqual({ code: 2, message: "machine_failed" });
      expect(spans.one(name).attributes["error.type"]).toBe("machine_failed");
    }
    expect(spans.one("relay break").attributes["keyturn.outcome"]).toBe("refused");
    spans.reset();
    await ref.send({ type: "pass", via: [] }, { requestId: "once" });
    await ref.send({ type: "pass", via: [] }, { requestId: "once" });
    const outcomes = spans.all
      .filter(({ name }) => name === "relay pass")
      .map(({ attributes }) => attributes["keyturn.outcome"]);
    expect(outcomes).toEqual(["applied", "repeated"]);
    await node.stop();
  });

  it("has invoked promises: their code runs in it, is given it, and their result is part of it", async () => {
    const spans = new Spans();
    const node = await oneNode(spans.telemetry());
    inPromise.run = () => spans.tracer.startSpan("outside").end();
    const ref = node.client.actor(relay, "a");
    await ref.send({ type: "work" });
    let given: string | null = null;
    for await (const state of ref.watch()) if ((given = state.context.trace) !== null) break;
    inPromise.run = () => undefined;
    const turn = spans.one("relay work").spanContext();
    expect(given).toBe(`00-${turn.traceId}-${turn.spanId}-01`);
    expect(spans.tree()).toEqual([
      "CLIENT send relay work",
      "  SERVER relay work",
      "    INTERNAL outside",
      "    INTERNAL relay xstate.promise.resolve",
    ]);
    await node.stop();
  });

  it("begins anew with a timer, which links to the turn that set it and is recorded because that one was", async () => {
    const spans = new Spans();
    // Nothing is drawn: only what belongs to the caller's trace is recorded.
    const node = await oneNode(spans.telemetry({ sample: 0 }));
    const ref = node.client.actor(relay, "a");
    await ref.send({ type: "later", after_ms: 1 });
    for await (const state of ref.watch()) if (state.value === "idle") break;
    expect(spans.all).toEqual([]);
    await ref.send({ type: "later", after_ms: 1 }, { trace: given });
    for await (const state of ref.watch()) if (state.value === "idle") break;
    const fired = firedIn(spans);
    expect(fired).toHaveLength(1);
    expect(fired[0]?.name).toMatch(/^relay xstate\.after\./);
    expect(fired[0]?.parentSpanContext).toBeUndefined();
    const setter = spans.one("relay later").spanContext();
    expect(setter.traceId).toBe("a".repeat(32));
    expect(linksOf(fired[0])).toEqual([[setter.traceId, setter.spanId]]);
    await node.stop();
  });

  it("is not begun for ever by a timer that sets itself anew: what a timer's trace sets is drawn, and links", async () => {
    const world = new VirtualWorld();
    const spans = new Spans();
    const r = await rig({ world, actors: [pacer], telemetry: spans.telemetry({ sample: 0 }) });
    await world.run(r.node.client.actor(pacer, "a").send({ type: "go" }, { trace: given }));
    await world.advance(10_000);
    expect(firedIn(spans)).toHaveLength(1);
    r.node.kill();
    const all = new Spans();
    const drawn = await rig({ world: new VirtualWorld(), actors: [pacer], telemetry: all.telemetry() });
    await drawn.world.run(drawn.node.client.actor(pacer, "a").send({ type: "go" }));
    await drawn.world.advance(3_500);
    const turns = all.all.filter(({ name, kind }) => name.startsWith("pacer") && kind !== SpanKind.CLIENT);
    expect(turns).toHaveLength(4);
    // Each is a trace of its own, and links to the one before.
    expect(new Set(turns.map((span) => span.spanContext().traceId)).size).toBe(4);
    expect(turns.slice(1).map(linksOf)).toEqual(
      turns.slice(0, -1).map((span) => [[span.spanContext().traceId, span.spanContext().spanId]]),
    );
    drawn.node.kill();
  });

  it("has what a custom action sends", async () => {
    const spans = new Spans();
    const node = await oneNode(spans.telemetry({ sample: 0 }));
    const ref = node.client.actor(pacer, "a");
    await ref.send({ type: "echo" }, { trace: given });
    for await (const state of ref.watch()) if (state.context.echoes === 1) break;
    const sent = spans.one("pacer echoed");
    expect(sent.parentSpanContext?.spanId).toBe(spans.one("pacer echo").spanContext().spanId);
    await node.stop();
  });

  it("takes its tracestate along: over HTTP, to who is told, to promises and to what comes of them", async () => {
    const spans = new Spans();
    const node = await oneNode(spans.telemetry({ sample: 0 }));
    const [a = "", b = ""] = keysOf(node);
    const server = await serveHttp(node, { listen: "127.0.0.1:0" });
    const send = async (body: object): Promise<void> => {
      const answer = await fetch(`${server.url}/actors/relay/${a}?mode=send`, {
        method: "POST",
        headers: { "content-type": "application/json", traceparent: given, tracestate: "shop=1, other=x" },
        body: JSON.stringify(body),
      });
      expect(answer.status).toBe(204);
    };
    await send({ type: "pass", via: [b] });
    await passed(node, b);
    await send({ type: "work" });
    const ref = node.client.actor(relay, a);
    for await (const state of ref.watch()) {
      if (state.context.trace === null) continue;
      expect(state.context.trace).toMatch(/^00-a{32}-[0-9a-f]{16}-01$/);
      expect(state.context.traceState).toBe("shop=1,other=x");
      break;
    }
    const turns = spans.all.filter(({ name }) => name.startsWith("relay "));
    expect(turns).toHaveLength(4);
    expect(new Set(turns.map((span) => span.spanContext().traceState?.serialize()))).toEqual(
      new Set(["shop=1,other=x"]),
    );
    await server.close();
    await node.stop();
  });

  it("goes on after a crash with a promise that is run again", async () => {
    const world = new VirtualWorld();
    const store = new FaultStore();
    const before = new Spans();
    const one = await rig({ world, store, actors: [relay], telemetry: before.telemetry({ sample: 0 }) });
    let end = (): void => undefined;
    inPromise.until = new Promise((resolve) => (end = resolve));
    await world.run(
      one.node.client.actor(relay, "a").send({ type: "work" }, { trace: given, traceState: "x=1" }),
    );
    one.node.kill();
    const after = new Spans();
    const two = await rig({
      world,
      store,
      actors: [relay],
      telemetry: after.telemetry({ sample: 0 }),
      name: "n2",
    });
    await world.advance(30_000);
    inPromise.until = undefined;
    end();
    await world.advance(1_000);
    const began = before.one("relay work").spanContext();
    const result = after.one("relay xstate.promise.resolve");
    expect(result.parentSpanContext).toMatchObject({ traceId: began.traceId, spanId: began.spanId });
    const state = await world.run(two.node.client.actor(relay, "a").get());
    expect([state.context.trace, state.context.traceState]).toEqual([
      `00-${began.traceId}-${began.spanId}-01`,
      "x=1",
    ]);
    two.node.kill();
  });

  it("is the same after a crash: what is told again has the turn before the crash as its parent", async () => {
    const world = new VirtualWorld();
    const store = new FaultStore();
    const before = new Spans();
    const one = await rig({ world, store, actors: [relay], telemetry: before.telemetry() });
    const [a = "", b = ""] = keysOf(one.node);
    store.loses = (_subject, frame) => frame.kind === "told";
    await world.run(one.node.client.actor(relay, a).send({ type: "pass", via: [b] }));
    await world.advance(1_000);
    one.node.kill();
    store.loses = () => false;
    const after = new Spans();
    const two = await rig({ world, store, actors: [relay], telemetry: after.telemetry(), name: "n2" });
    await world.advance(30_000);
    const teller = before.one("relay pass").spanContext();
    const told = after.one("relay pass");
    expect(told.parentSpanContext).toMatchObject({ traceId: teller.traceId, spanId: teller.spanId });
    expect(told.attributes["keyturn.source"]).toBe("told");
    two.node.kill();
  });

  it("begins with a header over HTTP", async () => {
    const spans = new Spans();
    const node = await oneNode(spans.telemetry({ sample: 0 }));
    const [a = "", b = ""] = keysOf(node);
    const server = await serveHttp(node, { listen: "127.0.0.1:0" });
    const answer = await fetch(`${server.url}/actors/relay/${a}`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        traceparent: given,
      },
      body: JSON.stringify({ type: "pass", via: [b] }),
    });
    expect(answer.status).toBe(200);
    await passed(node, b);
    expect(spans.tree()).toEqual(chain.slice(0, 3));
    expect(spans.traces).toEqual(new Set(["a".repeat(32)]));
    expect(spans.one("ask relay pass").parentSpanContext?.spanId).toBe("b".repeat(16));
    await server.close();
    await node.stop();
  });

  it("spans two nodes and a client of their own on a real server", { timeout: 60_000 }, async () => {
    const server = await startServer({ durability: "process" });
    const spans = new Spans();
    const start = async (name: string): Promise<KeyturnNode> =>
      startNode({
        actors: [relay],
        store: await nats({ servers: server.url }),
        name,
        shards: 8,
        settings: { lease_ms: 1_500, heartbeat_ms: 400 },
        telemetry: spans.telemetry(),
      });
    const one = await start("one");
    const two = await start("two");
    while (two.shards.length === 0 || one.shards.length + two.shards.length < 8)
      await new Promise((resolve) => setTimeout(resolve, 10));
    const [x = 0] = one.shards;
    const [y = 0] = two.shards;
    const a = keyIn(one, relay, x);
    const b = keyIn(one, relay, y);
    const c = keyIn(one, relay, x, "c");
    const client = await connect({ nats: { servers: server.url }, telemetry: spans.telemetry() });
    await client.actor(relay, a).ask({ type: "pass", via: [b, c] });
    await passed(one, c);
    expect(spans.tree()).toEqual(chain);
    const shards = spans.all.flatMap(({ name, attributes }) =>
      name === "relay pass" ? [attributes["keyturn.shard"]] : [],
    );
    expect(shards).toEqual([x, y, x]);
    await client.disconnect();
    await one.stop();
    await two.stop();
    await server.stop();
  });
});

describe("telemetry", () => {
  it("that throws is reported, and the turns go on", async () => {
    const troubles: string[] = [];
    const fail = (): never => {
      throw new Error("no telemetry today");
    };
    const broken: Telemetry = {
      sample: 1,
      active: fail,
      turn: fail,
      request: fail,
      within: (_trace, run) => run(),
      batch: fail,
      node: fail,
    };
    const node = await oneNode(broken, {
      troubled: (task, error) => troubles.push(`${task}: ${String(error)}`),
    });
    expect(await node.client.actor(relay, "a").ask({ type: "pass", via: [] })).toBe("arrived");
    expect(new Set(troubles)).toEqual(new Set(["telemetry: Error: no telemetry today"]));
    await node.stop();
  });

  it("is asked for nothing without a trace, and a trace that is none is carried on as it is", async () => {
    const calls: string[] = [];
    const counting: Telemetry = {
      sample: 0,
      active: () => false,
      turn: ({ source }) => void calls.push(`turn ${source}`),
      request: ({ operation }) => void calls.push(operation),
      within: (_trace, run) => run(),
      node: () => () => calls.push("ended"),
    };
    const node = await oneNode(counting);
    const [a = "", b = ""] = keysOf(node);
    await node.client.actor(relay, a).ask({ type: "pass", via: [b] });
    await node.client.actor(relay, a).ask({ type: "pass", via: [b] }, { trace: "nonsense" });
    await passed(node, b, 2);
    expect(calls).toEqual([]);
    await node.stop();
    expect(calls).toEqual(["ended"]);
  });

  it("takes no trace that is no text", async () => {
    const node = await oneNode(new Spans().telemetry());
    const ref = node.client.actor(relay, "a");
    for (const options of [{ trace: 1 }, { traceState: {} }, { trace: "x".repeat(641) }])
      expect(await failure(ref.send({ type: "work" }, options as object))).toMatchObject({
        code: "invalid_options",
      });
    await node.stop();
  });
});

describe("what is carried", () => {
  const members = (state: string | undefined): string[] => state?.split(",") ?? [];

  it("is a traceparent with its tracestate, and each is found again", () => {
    expect(traceOf(given, "a=1,b=2")).toBe(`${given} a=1,b=2`);
    expect(traceparentIn(`${given} a=1,b=2`)).toBe(given);
    expect(tracestateIn(`${given} a=1,b=2`)).toBe("a=1,b=2");
    expect(traceFlags(`${given} a=1,b=2`)).toBe(1);
    expect([
      traceOf(given, undefined),
      traceOf(given, " "),
      traceOf(given, "a=ö"),
      traceOf("x", "a=1"),
    ]).toEqual([given, given, given, "x"]);
    expect(tracestateIn(given)).toBeUndefined();
  });

  it("loses of a long tracestate the long members first, then the last, and never more than it has to", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.stringMatching(/^[a-z]{1,8}$/), fc.stringMatching(/^[a-z0-9]{1,300}$/)), {
          maxLength: 32,
        }),
        (pairs) => {
          const given_ = pairs.map(([name, value]) => `${name}=${value}`);
          const kept = members(tracestateIn(traceOf(given, given_.join(","))));
          expect(kept.join(",").length).toBeLessThanOrEqual(512);
          const short = given_.filter((member) => member.length <= 128);
          if (given_.join(",").length <= 512) expect(kept).toEqual(given_);
          else if (short.join(",").length > 512) expect(kept).toEqual(short.slice(0, kept.length));
          // All that are short, in order, and those that are long from the left.
          else expect(kept.filter((member) => member.length <= 128)).toEqual(short);
        },
      ),
    );
  });

  it("is marked as begun by a timer once, however often", () => {
    const marked = begunByTimer(`${given} a=1`);
    expect(marked).toBe(`${given} keyturn=timer,a=1`);
    expect([
      isBegunByTimer(marked),
      isBegunByTimer(given),
      isBegunByTimer(`${given} a=keyturn=timer`),
    ]).toEqual([true, false, false]);
    expect(isBegunByTimer(begunByTimer(`${given} ${"b".repeat(250)}=1,${"c".repeat(250)}=1`))).toBe(true);
  });

  it.each([
    ["00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01", 1],
    ["00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-00", 0],
    // A later version may have more behind it.
    ["01-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-03-more", 3],
    ["00-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA-bbbbbbbbbbbbbbbb-01", undefined],
    ["00-aaaa-bbbb-01", undefined],
    ["00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01-more", undefined],
    ["ff-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01", undefined],
    ["", undefined],
  ])("reads the flags of %j as %s", (text, flags) => {
    expect(traceFlags(text)).toBe(flags);
  });

  it("is read as the standard's grammar has it, whatever character is another one", () => {
    const grammar =
      /^(?:00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}|(?!00|ff)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?)$/;
    const seen = new Set<boolean>();
    for (const whole of [given, given.replace("00-", "0f-"), `${given.replace("00-", "cc-")}-x`])
      for (let at = 0; at < whole.length; at++)
        for (const other of ["", "-", " ", "/", "0", "9", ":", "`", "a", "f", "g", "F", "00"]) {
          const text = whole.slice(0, at) + other + whole.slice(at + 1);
          const isOne = grammar.test(traceparentIn(text));
          seen.add(isOne);
          expect([text, traceFlags(text)]).toEqual([
            text,
            isOne ? Number.parseInt(text.slice(53, 55), 16) : undefined,
          ]);
        }
    expect(seen.size).toBe(2);
  });
});

function ms(time: readonly [number, number] | undefined): number {
  return time === undefined ? Number.NaN : time[0] * 1_000 + time[1] / 1e6;
}
