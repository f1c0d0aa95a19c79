/**
 * Strangers: bytes that no node and no client of ours sends, on the subjects where nodes listen. They are counted, they
 * change nothing, and the node lives and goes on answering.
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect as dial } from "node:net";
import { connect as connectPlain, headers, type MsgHdrs, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { counter } from "../actors/index.ts";
import {
  type ActorRef,
  connect,
  type ConnectedClient,
  type KeyturnNode,
  type NatsStore,
  nats,
  shardOf,
  startNode,
} from "../runtime/index.ts";
import { encode } from "../runtime/words/codec.ts";
import { Ask, encodeFrames, type Frame, type Request } from "../runtime/words/frames.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";

const SHARDS = 64;
const SHARD = 5;
const PAYLOAD_MAX = 1_048_576;
const VERSION = 1;
/** An actor in the shard that the strangers write to. */
const KEY = keyIn(SHARD);
const SUBJECTS = [`keyturn.shard.${SHARD}`, `keyturn.peer.${SHARD}`] as const;

let server: NatsServer;
let store: NatsStore;
let node: KeyturnNode;
let stranger: NatsConnection;
let client: ConnectedClient;
let ref: ActorRef;
let count: number;

beforeAll(async () => {
  server = await startServer();
  store = await nats({ servers: server.url });
  node = await startNode({ actors: [counter], store, name: "host" });
  stranger = await connectPlain({ servers: server.url });
  client = await connect({ nats: { servers: server.url } });
  ref = client.actor(`counter/${KEY}`);
}, 60_000);

afterAll(async () => {
  await client.disconnect();
  await stranger.close();
  await node.stop();
  await server.stop();
});

beforeEach(async () => {
  count = (await ref.ask({ type: "add", by: 1 })) as unknown as number;
});

afterEach(async () => {
  // Whatever came: nothing was applied, and the node that was there goes on.
  expect(await ref.ask({ type: "add", by: 1 })).toBe(count + 1);
  expect(node.health().ready).toBe(true);
});

/** How many messages the node counted as foreign while these were sent to it. */
async function counted(send: () => void): Promise<number> {
  const before = store.transport.foreign;
  send();
  await stranger.flush();
  // The server hands the node this one after all of the others.
  await ref.get();
  return store.transport.foreign - before;
}

function payloadOf(body: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(VERSION), body]);
}

describe.each(SUBJECTS)("on %s", (subject) => {
  test("random bytes of any length, also behind the right version", async () => {
    const messages = [1, 2, 3, 10, 100, 1_000, 10_000, 300_000].flatMap((length) =>
      Array.from({ length: 20 }, () => [randomBytes(length), payloadOf(randomBytes(length))]).flat(),
    );
    const found = await counted(() => {
      for (const bytes of messages) stranger.publish(subject, bytes);
    });
    // Chance makes no frame out of bytes: a frame is an array whose parts all fit.
    expect(found).toBe(messages.length);
  });

  test("a version that is not spoken here, an empty message, and one without end", async () => {
    const whole = encodeFrames([request(1)])[0] as Uint8Array;
    const messages = [
      Buffer.from([0, ...whole.subarray(1)]),
      Buffer.from([VERSION + 1, ...whole.subarray(1)]),
      Buffer.from([255, ...whole.subarray(1)]),
      Uint8Array.of(VERSION),
      new Uint8Array(0),
      ...Array.from({ length: whole.length - 2 }, (_, at) => whole.subarray(0, at + 1)),
      Buffer.concat([whole, Uint8Array.of(0xc1)]),
    ];
    const found = await counted(() => {
      for (const bytes of messages) stranger.publish(subject, bytes);
    });
    expect(found).toBe(messages.length);
  });

  test("the largest message that the server carries, and counts that promise more than there is", async () => {
    const messages = [
      randomBytes(PAYLOAD_MAX),
      payloadOf(Buffer.alloc(PAYLOAD_MAX - 1)),
      // An array of four billion parts, a text and bytes of as many.
      payloadOf(Uint8Array.of(0xdd, 0xff, 0xff, 0xff, 0xff)),
      payloadOf(Uint8Array.of(0x96, 0x00, 0x05, 0xdb, 0xff, 0xff, 0xff, 0xff)),
      payloadOf(Uint8Array.of(0x96, 0x00, 0x05, 0xc6, 0xff, 0xff, 0xff, 0xff)),
    ];
    const memory = process.memoryUsage().rss;
    const found = await counted(() => {
      for (const bytes of messages) stranger.publish(subject, bytes);
    });
    expect(found).toBe(messages.length);
    expect(process.memoryUsage().rss - memory).toBeLessThan(200 * 1024 * 1024);
  });

  test("nesting that would end a careless decoder", async () => {
    const deep = Buffer.alloc(500_000, 0x91);
    const maps = Buffer.concat(Array.from({ length: 100_000 }, () => Uint8Array.of(0x81, 0xa1, 0x61)));
    // As the event of a request that is right otherwise.
    const head = encode([0, SHARD, "stranger", 1, 1, 0]);
    const event = (body: Uint8Array): Uint8Array =>
      Buffer.concat([Uint8Array.of(0x9b), head.subarray(1), encode(Ask), encode(`counter.${KEY}`), body]);
    const messages = [deep, maps, event(deep), event(maps)].map(payloadOf);
    const from_ms = performance.now();
    const found = await counted(() => {
      for (const bytes of messages) stranger.publish(subject, bytes);
    });
    expect(found).toBe(messages.length);
    expect(performance.now() - from_ms).toBeLessThan(5_000);
  });

  test("frames of another kind, for another shard, and for actors that are elsewhere", async () => {
    const other = SHARD + 1;
    const told = [
      { type: "counter", key: KEY, id: `counter.${KEY}`, event: { type: "add", by: 99 }, trace: undefined },
    ];
    const elsewhere = keyIn(other);
    const foreign: Frame[] = [
      { kind: "reply", from: "stranger", replies: [[SHARD, 1, undefined, 99]] },
      { kind: "watch", watch: "stranger:1", state: {} },
      { kind: "refusal", shard: SHARD, from: "stranger", reason: "moved", epoch: 0, expected: 0 },
      { ...request(1), shard: other },
      { kind: "told", shard: other, fromShard: 1, first: 1, messages: told },
      { kind: "ack", shard: other, fromShard: SHARD, upTo: 1_000 },
      // On one of the two subjects these belong, so there they must be wrong in themselves.
      subject === SUBJECTS[0]
        ? { kind: "told", shard: SHARD, fromShard: 1, first: 1, messages: told }
        : request(1),
      subject === SUBJECTS[0]
        ? { ...request(1), requests: [requestOf(elsewhere)] }
        : {
            kind: "told",
            shard: SHARD,
            fromShard: 1,
            first: 1,
            messages: [{ ...told[0]!, key: elsewhere, id: `counter.${elsewhere}` }],
          },
      ...(subject === SUBJECTS[0] ? [{ kind: "ack", shard: SHARD, fromShard: 1, upTo: 1_000 } as const] : []),
    ];
    const found = await counted(() => {
      for (const frame of foreign)
        for (const bytes of encodeFrames([frame])) stranger.publish(subject, bytes);
    });
    expect(found).toBe(foreign.length);
  });

  test("what the server would say when nobody listens, said by a stranger", async () => {
    const said: MsgHdrs = headers(503, "No Responders");
    said.set("Nats-Subject", `keyturn.shard.${SHARD}`);
    stranger.publish(subject, new Uint8Array(0), { headers: said });
    const strange = headers(503, "No Responders");
    stranger.publish(subject, new Uint8Array(0), { headers: strange });
    const other = headers();
    other.set("Nats-Subject", "x");
    expect(
      await counted(() => stranger.publish(subject, new Uint8Array(0), { headers: other })),
    ).toBeGreaterThanOrEqual(1);
  });
});

test("whoever asks where frames are expected is told why it was refused", async () => {
  const answer = await stranger.request(`keyturn.shard.${SHARD}`, '{"type":"add","by":1}', {
    timeout: 5_000,
  });
  expect(answer.json()).toMatchObject({
    error: { code: "invalid_frame", retryable: false, outcome: "rejected" },
  });
});

test("a message over the server's limit does not come through: the server ends the stranger", async () => {
  const socket = dial({ port: server.port, host: "127.0.0.1" });
  const said: Buffer[] = [];
  socket.on("data", (bytes: Buffer) => said.push(bytes));
  socket.on("error", () => undefined);
  await once(socket, "connect");
  socket.write('CONNECT {"verbose":false}\r\n');
  socket.write(`PUB keyturn.shard.${SHARD} ${2 * PAYLOAD_MAX}\r\n`);
  await new Promise<void>((resolve) => socket.once("close", () => resolve()));
  expect(Buffer.concat(said).toString()).toMatch(/Maximum Payload Violation/i);
});

function keyIn(shard: number): string {
  for (let at = 0; ; at++) if (shardOf("counter", `s${at}`, SHARDS) === shard) return `s${at}`;
}

function requestOf(key: string): Request {
  return {
    kind: Ask,
    type: "counter",
    key,
    id: `counter.${key}`,
    event: { type: "add", by: 99 },
    requestId: undefined,
    trace: undefined,
  };
}

/** A request frame that only a client should make. Its epoch fits no owner. */
function request(first: number): Frame & { kind: "request" } {
  const requests = [requestOf(KEY)];
  return { kind: "request", shard: SHARD, session: "stranger", base: first, first, epoch: 0, requests };
}
