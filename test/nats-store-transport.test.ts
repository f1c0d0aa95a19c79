/** Frames between two connections to one NATS server: what arrives, what is let in, and what is said where nobody listens. */
import { connect, headers, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Store, Transport } from "../runtime/ports/index.ts";
import { type NatsOptions, type NatsStore, nats, natsClient } from "../runtime/stores/nats/index.ts";
import { shardOf } from "../runtime/words/address.ts";
import { encodeFrames, type Frame, type RequestFrame } from "../runtime/words/frames.ts";
import { limits } from "../runtime/words/limits.ts";
import { eventually } from "./conformance/helpers.ts";
import { transportClauses } from "./conformance/transport.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";

let server: NatsServer;
let raw: NatsConnection;
let apps = 0;
const open: { close(): Promise<void> }[] = [];

beforeAll(async () => {
  server = await startServer({ durability: "process" });
  raw = await connect({ servers: server.url });
}, 60_000);

afterAll(async () => {
  for (const one of open) await one.close();
  await raw.close();
  await server.stop();
});

/** Two clients' stores of one app, which share no memory. */
async function pair(
  more: Partial<NatsOptions> = {},
): Promise<{ app: string; here: NatsStore; there: NatsStore }> {
  const app = `app${++apps}`;
  const here = await natsClient({ servers: server.url, app, ...more });
  const there = await natsClient({ servers: server.url, app });
  open.push(here, there);
  return { app, here, there };
}

/** Resolves when the server knows what this store has subscribed to, and has had what it has sent. */
async function settled(...stores: readonly NatsStore[]): Promise<void> {
  for (const store of stores) await store.settings().catch(() => undefined);
}

const SHARDS = 64;
const keyOf = (shard: number): string => {
  for (let n = 0; ; n++) if (shardOf("t", `k${n}`, SHARDS) === shard) return `k${n}`;
};

function request(shard: number, first: number, session = "s1"): RequestFrame {
  const key = keyOf(shard);
  const one = {
    kind: 0,
    type: "t",
    key,
    id: `t.${key}`,
    event: { type: "e" },
    requestId: undefined,
    trace: undefined,
  };
  return { kind: "request", shard, session, base: 1, first, epoch: 0, requests: [one] } as RequestFrame;
}

const told = (shard: number): Frame => {
  const key = keyOf(shard);
  return {
    kind: "told",
    shard,
    fromShard: 1,
    first: 1,
    messages: [{ type: "t", key, id: `t.${key}`, event: { type: "e" }, trace: undefined }],
  };
};
const ack = (shard: number): Frame => ({ kind: "ack", shard, fromShard: 2, upTo: 1 });
const reply: Frame = { kind: "reply", from: "life", replies: [[1, 1, undefined, 1]] };
const refusal: Frame = { kind: "refusal", shard: 1, from: "life", reason: "gap", epoch: 3, expected: 7 };
const watched: Frame = { kind: "watch", watch: "w", state: {} };

describe("The clauses of Transport, from one connection to another", () => {
  const use = (body: (store: Store, subject: never) => Promise<void>) => async (): Promise<void> => {
    const { here, there } = await pair();
    // A subscription is at the server after what is asked next is answered: what is sent waits for it.
    let sent: Promise<unknown> = Promise.resolve();
    const transport: Transport = {
      publish(subject, frame, via) {
        sent = sent.then(() => settled(there)).then(() => here.transport.publish(subject, frame, via));
        return true;
      },
      subscribe: (subject, handler) => there.transport.subscribe(subject, handler),
    };
    await body({ ...there, transport } as unknown as Store, undefined as never);
    await sent;
  };
  transportClauses({ use, runs: 1, local: false, outlives: false, markers: true });
});

describe("Frames between connections", () => {
  it("of one tick to one owner's shards leave in one message and reach the shards in order", async () => {
    const { app, here, there } = await pair();
    const got: Frame[] = [];
    there.transport.subscribe("node.life1", (frame) => got.push(frame));
    let messages = 0;
    const counting = raw.subscribe(`${app}.node.life1`, { callback: () => void messages++ });
    await settled(there);
    await raw.flush();
    const frames = [request(3, 1), request(5, 1), request(3, 2), request(7, 1)];
    for (const frame of frames)
      expect(here.transport.publish(`shard.${frame.shard}`, frame, "life1")).toBe(true);
    await eventually(() => got.length === frames.length);
    expect(got).toEqual(frames);
    await raw.flush();
    expect(messages).toBe(1);
    counting.unsubscribe();
  });

  it("without a known owner go to their shards, from shard to shard on subjects that only nodes may use", async () => {
    const { here, there } = await pair();
    const three: Frame[] = [];
    const five: Frame[] = [];
    there.transport.subscribe("shard.3", (frame) => three.push(frame));
    there.transport.subscribe("shard.5", (frame) => five.push(frame));
    await settled(there);
    const sent = [request(3, 1), told(3), ack(3)];
    for (const frame of sent) here.transport.publish("shard.3", frame);
    here.transport.publish("shard.5", request(5, 1));
    await eventually(() => three.length === 3 && five.length === 1);
    expect(new Set(three.map(({ kind }) => kind))).toEqual(new Set(["request", "told", "ack"]));
    expect(five).toEqual([request(5, 1)]);
  });

  it("that fill more than one message arrive whole and in order", async () => {
    const { here, there } = await pair();
    const got: Frame[] = [];
    there.transport.subscribe("client.c", (frame) => got.push(frame));
    await settled(there);
    const big = "x".repeat(700 * 1024);
    for (let n = 1; n <= 4; n++) {
      const frame: Frame = { kind: "reply", from: "life", replies: [[1, n, undefined, big]] };
      expect(here.transport.publish("client.c", frame)).toBe(true);
    }
    await eventually(() => got.length === 4);
    expect(got.map((frame) => (frame.kind === "reply" ? frame.replies[0]?.[1] : 0))).toEqual([1, 2, 3, 4]);
  });
});

describe("What is let in", () => {
  const all: readonly Frame[] = [request(3, 1), told(3), ack(3), reply, refusal, watched];
  const cases: readonly (readonly [natsSubject: string, subject: string, kinds: readonly string[]])[] = [
    ["shard.3", "shard.3", ["request"]],
    ["peer.3", "shard.3", ["told", "ack"]],
    ["node.life1", "node.life1", ["request"]],
    ["client.s1", "client.s1", ["reply", "refusal", "watch"]],
  ];
  for (const [natsSubject, subject, kinds] of cases) {
    it(`on ${natsSubject}: ${kinds.join(", ")}; the rest is counted`, async () => {
      const { app, there } = await pair();
      const got: Frame[] = [];
      there.transport.subscribe(subject, (frame) => got.push(frame));
      await settled(there);
      for (const payload of encodeFrames(all)) raw.publish(`${app}.${natsSubject}`, payload);
      await eventually(
        () => there.transport.foreign === all.length - kinds.length && got.length === kinds.length,
      );
      expect(got.map(({ kind }) => kind)).toEqual(kinds);
    });
  }

  it("frames for other shards, and of ids that live elsewhere, are not", async () => {
    const app = `app${++apps}`;
    const there = await nats({ servers: server.url, app });
    open.push(there);
    await there.directory.app({ shards: SHARDS, format: 1 });
    const got: Frame[] = [];
    there.transport.subscribe("shard.3", (frame) => got.push(frame));
    await settled(there);
    const before = there.transport.foreign;
    raw.publish(`${app}.shard.3`, encodeFrames([request(5, 1)])[0]);
    raw.publish(`${app}.shard.3`, encodeFrames([{ ...request(5, 1), shard: 3 }])[0]);
    raw.publish(`${app}.shard.3`, encodeFrames([{ ...request(5, 1), shard: 99 }])[0]);
    raw.publish(`${app}.shard.3`, encodeFrames([request(3, 9)])[0]);
    await eventually(() => got.length === 1);
    expect(got).toEqual([request(3, 9)]);
    expect(there.transport.foreign - before).toBe(3);
  });

  it("bytes that are no frames are counted; who waits for an answer learns it in JSON, and nobody else", async () => {
    const { app, there } = await pair();
    const got: Frame[] = [];
    for (const subject of ["shard.3", "node.life1", "client.s1"])
      there.transport.subscribe(subject, (frame) => got.push(frame));
    await settled(there);
    const subjects = ["shard.3", "peer.3", "node.life1", "client.s1"];
    const payloads = [
      Uint8Array.of(0),
      Uint8Array.of(1),
      Uint8Array.of(2, 0x90),
      Uint8Array.of(1, 0xc1),
      Uint8Array.of(1, 0xdd, 0xff, 0xff, 0xff, 0xff),
      new TextEncoder().encode('{"type":"add"}'),
      new Uint8Array(limits.frameBytes + 1).fill(1),
      new Uint8Array(100_000).fill(0x91),
    ];
    for (const subject of subjects) {
      for (const payload of payloads) {
        const answer = await raw.request(`${app}.${subject}`, payload, { timeout: 2_000 });
        const { error } = answer.json<{ error: { code: string; outcome: string; message: string } }>();
        expect(error).toMatchObject({ code: "invalid_frame", outcome: "rejected" });
        expect(error.message).not.toBe("");
      }
    }
    const count = subjects.length * payloads.length;
    expect(there.transport.foreign).toBe(count);
    for (const payload of payloads) raw.publish(`${app}.shard.3`, payload);
    await eventually(() => there.transport.foreign === count + payloads.length);
    expect(got).toEqual([]);
  });

  it("an answer to garbage goes to no subject of the app and to no stream", async () => {
    const { app, there } = await pair();
    there.transport.subscribe("shard.3", () => undefined);
    await settled(there);
    const heard: string[] = [];
    const spies = [`${app}.>`, "$KV.>", "$JS.API.>"].map((subject) =>
      raw.subscribe(subject, { callback: (_error, message) => void heard.push(message.subject) }),
    );
    const replies = [`${app}.journal.life1`, `$KV.${app}_shards.app`, "$JS.API.STREAM.LIST", `${app}.peer.1`];
    for (const reply of replies) raw.publish(`${app}.shard.3`, Uint8Array.of(7), { reply });
    const { data } = await raw.request(`${app}.shard.3`, Uint8Array.of(7), { timeout: 2_000 });
    expect(data.length).toBeGreaterThan(0);
    expect(new Set(heard)).toEqual(new Set([`${app}.shard.3`]));
    for (const spy of spies) spy.unsubscribe();
  });

  it("a message whose handler throws does not end the connection", async () => {
    const { here, there } = await pair();
    const troubles: string[] = [];
    there.onTrouble((task) => troubles.push(task));
    const got: number[] = [];
    there.transport.subscribe("shard.3", (frame) => {
      if (frame.kind !== "request") return;
      got.push(frame.first);
      if (frame.first === 1) throw new Error("no such luck");
    });
    await settled(there);
    here.transport.publish("shard.3", request(3, 1));
    await eventually(() => troubles.length === 1);
    here.transport.publish("shard.3", request(3, 2));
    await eventually(() => got.length === 2);
    expect(got).toEqual([1, 2]);
    expect(troubles[0]).toContain("shard.3");
  });
});

describe("Where nobody listens", () => {
  it("the client is told which shard, or which node", async () => {
    const { here } = await pair();
    const got: Frame[] = [];
    here.transport.subscribe("client.s1", (frame) => got.push(frame));
    await settled(here);
    here.transport.publish("shard.9", request(9, 1));
    await eventually(() => got.length === 1);
    expect(got[0]).toMatchObject({ kind: "refusal", reason: "moved", shard: 9 });
    here.transport.publish("shard.9", request(9, 1), "dead-life");
    here.transport.publish("shard.11", request(11, 1), "dead-life");
    await eventually(() => got.length === 2);
    expect(got[1]).toMatchObject({ kind: "refusal", reason: "moved", shard: undefined, from: "dead-life" });
  });

  it("each of several clients of one process is told", async () => {
    const { here } = await pair();
    const heard = new Map<string, number>();
    for (const session of ["one", "two", "three"]) {
      here.transport.subscribe(`client.${session}`, (frame) => {
        if (frame.kind === "refusal") heard.set(session, (heard.get(session) ?? 0) + 1);
      });
    }
    await settled(here);
    for (const session of ["one", "two", "three"]) here.transport.publish("shard.9", request(9, 1, session));
    await eventually(() => heard.size === 3);
    expect([...heard.values()]).toEqual([1, 1, 1]);
  });

  it("an empty message that does not come from the server is counted and moves nothing", async () => {
    const { app, here } = await pair();
    const got: Frame[] = [];
    here.transport.subscribe("client.s1", (frame) => got.push(frame));
    await settled(here);
    raw.publish(`${app}.client.s1`);
    for (const subject of [
      "",
      "x",
      `${app}.shard.x`,
      "other.shard.3",
      `${app}.shard.-1`,
      `${app}.shard.123456`,
    ]) {
      const forged = headers(503, "No Responders");
      forged.set("Nats-Subject", subject);
      raw.publish(`${app}.client.s1`, undefined, { headers: forged });
    }
    await eventually(() => here.transport.foreign === 7);
    expect(got).toEqual([]);
  });
});

describe("What the transport takes", () => {
  it("nothing while there is no connection; it says so and counts", async () => {
    const { here } = await pair();
    await here.close();
    expect(here.transport.publish("shard.3", request(3, 1))).toBe(false);
    expect(here.transport.dropped).toBe(1);
  });

  it("a frame that is too large for any message is counted, and those behind it leave", async () => {
    const { here, there } = await pair();
    const troubles: unknown[] = [];
    here.onTrouble((_task, error) => troubles.push(error));
    const got: Frame[] = [];
    there.transport.subscribe("client.c", (frame) => got.push(frame));
    await settled(there);
    here.transport.publish("client.c", { kind: "watch", watch: "w", state: "x".repeat(limits.frameBytes) });
    await eventually(() => here.transport.dropped === 1);
    expect(troubles).toHaveLength(1);
    here.transport.publish("client.c", watched);
    await eventually(() => got.length === 1);
    expect(got).toEqual([watched]);
  });
});
