/** JetStream streams as sources, on a real server. */
import { jetstream as clientOf, jetstreamManager } from "@nats-io/jetstream";
import { connect, headers, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { type Client, isKeyturnError, memory, nats, startNode } from "../runtime/index.ts";
import {
  type AnySource,
  defineSource,
  jetstream,
  type JetStreamOptions,
  retrySourceDeadLetter,
  runSource,
  type SourceRun,
  sourceDeadLetters,
  sourceStatus,
  toldTo,
} from "../runtime/streams/index.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";

let server: NatsServer;
let nc: NatsConnection;

beforeAll(async () => {
  server = await startServer();
  nc = await connect({ servers: server.url });
}, 60_000);
afterAll(async () => {
  await nc.close();
  await server.stop();
});

interface Add {
  readonly key: string;
  readonly by: number;
}

let streams = 0;

/** A stream of its own for a test. */
async function stream(more: object = {}): Promise<string> {
  const name = `S${++streams}`;
  const manager = await jetstreamManager(nc);
  await manager.streams.add({ name, subjects: [`${name}.>`], ...more });
  return name;
}

async function publish(
  name: string,
  from: number,
  to: number,
  subject = (n: number) => `k${n % 5}`,
): Promise<void> {
  const js = clientOf(nc);
  for (let n = from; n < to; ) {
    const data = JSON.stringify({ key: `k${n % 5}`, by: 2 ** Math.floor(n / 5) });
    // Where the server is restarted it is published again, and taken once.
    await js.publish(`${name}.${subject(n)}`, data, { msgID: String(n), timeout: 1_000 }).then(
      () => n++,
      () => nc.rtt().catch(() => undefined),
    );
  }
}

function expected(count: number): number[] {
  const all = [0, 0, 0, 0, 0];
  for (let n = 0; n < count; n++) all[n % 5]! += 2 ** Math.floor(n / 5);
  return all;
}

async function sums(client: Client): Promise<number[]> {
  const states = await Promise.all([0, 1, 2, 3, 4].map((key) => client.actor(counter, `k${key}`).get()));
  return states.map(({ context }) => context.count);
}

function source(name: string, options: Partial<JetStreamOptions<Add>> = {}, batch = 20) {
  return defineSource<Add>("adds", {
    from: jetstream<Add>({ stream: name, nats: { servers: server.url }, ...options }),
    to: ({ key, by }) => toldTo(counter, key, { type: "add", by }),
    batch,
  });
}

async function on(items: AnySource, work: (client: Client) => Promise<void>): Promise<void> {
  const node = await startNode({ actors: [counter, ...items.actors], store: memory() });
  try {
    await work(node.client);
  } finally {
    await node.stop();
  }
}

async function reached(run: SourceRun, delivered: number): Promise<void> {
  for await (const seen of run.progress({ every_ms: 5 })) if (seen.delivered >= delivered) return;
}

async function failure(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "none",
    (error: unknown) => (isKeyturnError(error) ? `${error.code}: ${error.message}` : String(error)),
  );
}

describe("a JetStream stream", () => {
  it("a message that is read again while the stream is followed counts once, and the run goes on", async () => {
    const name = await stream();
    let isMended = false;
    const items = defineSource<Add>("adds", {
      from: jetstream<Add>({ stream: name, nats: { servers: server.url }, partitions: 2 }),
      to: ({ key, by }) => {
        if (key === "k3" && !isMended) throw new Error("not yet");
        return toldTo(counter, key, { type: "add", by });
      },
    });
    await on(items, async (client) => {
      await publish(name, 0, 20);
      const run = runSource(client, items);
      await reached(run, 20);
      const ids: string[] = [];
      for await (const { id } of sourceDeadLetters(client, items)) ids.push(id);
      expect(ids).toHaveLength(4);
      isMended = true;
      for (const id of ids) expect(await retrySourceDeadLetter(client, items, id)).toBe(true);
      await publish(name, 20, 40);
      await reached(run, 40);
      await expect.poll(() => sums(client)).toEqual(expected(40));
      await run.stop();
    });
  });

  it("is followed; a run that comes after another goes on where that one was", async () => {
    const name = await stream();
    const items = source(name);
    await on(items, async (client) => {
      await publish(name, 0, 60);
      const run = runSource(client, items);
      await reached(run, 60);
      await publish(name, 60, 75);
      await reached(run, 75);
      expect(await run.status()).toMatchObject({ items: 75, lag: 0, unit: "messages", total: 75 });
      await run.stop();
      await publish(name, 75, 100);
      expect(await sourceStatus(client, items)).toMatchObject({ items: 75, lag: 25 });
      const next = runSource(client, items);
      await reached(next, 100);
      await next.stop();
      expect(await sums(client)).toEqual(expected(100));
    });
  });

  it("is read on after its server was restarted", async () => {
    const name = await stream();
    const items = source(name);
    await publish(name, 0, 30);
    await on(items, async (client) => {
      const run = runSource(client, items);
      await reached(run, 30);
      await server.restart();
      await publish(name, 30, 60);
      await reached(run, 60);
      await run.stop();
      expect(await sums(client)).toEqual(expected(60));
    });
  });

  it("is read to its end in several parts, each subject in order in one of them", async () => {
    const name = await stream();
    await publish(name, 0, 150);
    const items = source(name, { partitions: 3, follow: false }, 7);
    await on(items, async (client) => {
      const status = await runSource(client, items).done;
      expect(status).toMatchObject({ items: 150, delivered: 150, ended: true });
      expect(status.partitions.filter(({ items: count }) => count > 0).length).toBeGreaterThan(1);
      expect(await sums(client)).toEqual(expected(150));
      expect(await runSource(client, items).done).toMatchObject({ items: 150, ended: true });
    });
  });

  it("gives subjects, times and headers; what is no JSON is a letter with its sequence", async () => {
    const name = await stream();
    const js = clientOf(nc);
    const given = headers();
    given.set("Trace", "t-1");
    await js.publish(`${name}.k0`, "{}", { headers: given });
    await js.publish(`${name}.k0`, "{oops");
    await js.publish(`${name}.k0`, new Uint8Array([34, 255, 34]));
    const seen: unknown[] = [];
    const items = defineSource("adds", {
      from: jetstream({ stream: name, nats: nc, follow: false }),
      to: (_value, { number, message }) => {
        seen.push([number, message?.subject, message?.header("Trace"), message?.header("None")]);
        expect(Math.abs((message?.time_ms ?? 0) - Date.now())).toBeLessThan(60_000);
        return undefined;
      },
    });
    await on(items, async (client) => {
      expect(await runSource(client, items).done).toMatchObject({ items: 3, skipped: 1, malformed: 2 });
      expect(seen).toEqual([[1, `${name}.k0`, "t-1", undefined]]);
      const letters: number[] = [];
      for await (const { number } of sourceDeadLetters(client, items)) letters.push(number);
      expect(letters).toEqual([3, 2]);
    });
    // It stays the caller's.
    expect(nc.isClosed()).toBe(false);
  });

  it("begins where it is told, with the subjects it is told", async () => {
    const name = await stream();
    await publish(name, 0, 20);
    const from = (options: Partial<JetStreamOptions<Add>>) => source(name, { follow: false, ...options });
    for (const [options, count] of [
      [{ start: 6 }, 15],
      [{ subjects: [`${name}.k1`, `${name}.k2`] }, 8],
      [{ start: new Date(Date.now() + 60_000) }, 0],
      [{ start: "new" as const }, 0],
    ] as const) {
      const items = from(options);
      await on(items, async (client) => {
        expect(await runSource(client, items).done, JSON.stringify(options)).toMatchObject({
          items: count,
          ended: true,
        });
      });
    }
  });

  it("whose messages were removed unread says so, or counts them as missed", async () => {
    const name = await stream();
    const manager = await jetstreamManager(nc);
    await publish(name, 0, 10);
    const stopping = source(name, { follow: false });
    await on(stopping, async (client) => {
      expect(await runSource(client, stopping).done).toMatchObject({ items: 10 });
      await publish(name, 10, 30);
      await manager.streams.purge(name, { seq: 21 });
      expect(await failure(runSource(client, stopping).done)).toMatch(
        /^source_changed: .*begins at sequence 21; it was read up to 10, so up to 10 messages are lost/,
      );
      const going = source(name, { follow: false, onMissed: "skip" });
      expect(await runSource(client, going).done).toMatchObject({ items: 20, missed: 10, delivered: 20 });
    });
  });

  it("that was made anew is not taken for the old one", async () => {
    const name = await stream();
    const manager = await jetstreamManager(nc);
    await publish(name, 0, 5);
    const items = source(name, { follow: false });
    await on(items, async (client) => {
      await runSource(client, items).done;
      await manager.streams.delete(name);
      expect(await failure(runSource(client, items).done)).toMatch(/^source_failed: /);
      await manager.streams.add({ name, subjects: [`${name}.>`] });
      await publish(name, 0, 9);
      expect(await failure(runSource(client, items).done)).toMatch(
        /^source_changed: .*not the one that was read before/,
      );
    });
  });
});

it("on the NATS store, with two nodes of which one is killed, each message counts once", async () => {
  const name = await stream();
  await publish(name, 0, 120);
  const items = source(name, { partitions: 2, follow: false }, 6);
  const store = () => nats({ servers: server.url, app: "sources" });
  const settings = { lease_ms: 600, heartbeat_ms: 150 };
  const actors = [counter, ...items.actors];
  const one = await startNode({ actors, store: store(), shards: 8, settings });
  const other = await startNode({ actors, store: store(), shards: 8, settings });
  const lost = runSource(one.client, items, { lease_ms: 300 });
  lost.done.catch(() => undefined);
  const run = runSource(other.client, items, { lease_ms: 300 });
  for await (const { items: count } of run.progress({ every_ms: 1 })) if (count > 0) break;
  one.kill();
  await one.store.close();
  expect(await run.done).toMatchObject({ items: 120, delivered: 120, ended: true });
  expect(await sums(other.client)).toEqual(expected(120));
  await other.stop();
}, 60_000);
