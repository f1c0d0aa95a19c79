/** The key-value store, finding and watching on a real server: two nodes, one of them killed. */
import { connect, type KeyturnNode, nats, startNode } from "keyturn";
import { expect, test } from "vitest";
import { startServer } from "./support/nats-server.ts";
import { parcel } from "./support/parcels.ts";

const settings = { lease_ms: 1_500, heartbeat_ms: 400 };

test("ranges, pinned snapshots, finding and watching go on when a node dies", async () => {
  const server = await startServer();
  const start = (name: string): Promise<KeyturnNode> =>
    startNode({ actors: [parcel], store: nats({ servers: server.url }), name, shards: 8, settings });
  const first = await start("first");
  const second = await start("second");
  const client = await connect({ nats: { servers: server.url } });
  const numbers = client.store<number>("numbers");
  const model = new Map(Array.from({ length: 2_000 }, (_, n): [string, number] => [`k${n}`, n]));
  await numbers.putAll(model);
  const collected = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
    const list: T[] = [];
    for await (const item of items) list.push(item);
    return list;
  };
  const sorted = (): [string, number][] => [...model].sort(([a], [b]) => (a < b ? -1 : 1));
  expect(await collected(numbers.all())).toEqual(sorted());
  const before = sorted();
  const pinned = await numbers.snapshot();
  await first.checkpoint();
  const seen = new Map<string, number | undefined>();
  const stop = new AbortController();
  const watching = (async () => {
    for await (const { key, value } of numbers.watchPrefix("k1", { signal: stop.signal }))
      seen.set(key, value);
  })();
  for (let n = 0; n < 300; n++) model.set(`k${n}`, -1 - n);
  const writing = numbers.putAll(model);
  await client.actor(parcel, "p").send({ type: "pack", owner: "ada", weight: 3 });
  first.kill();
  await writing;
  await numbers.delete("k1999");
  model.delete("k1999");
  expect(await collected(numbers.all())).toEqual(sorted());
  expect(await collected(pinned)).toEqual(before);
  expect(await client.count(parcel, { where: { "owner.id": "ada" } })).toEqual({
    total: 1,
    states: { open: 1 },
  });
  await numbers.put("k1-last", 7);
  model.set("k1-last", 7);
  const wanted = sorted().filter(([key]) => key.startsWith("k1"));
  await expect
    .poll(() => [...seen].filter(([, value]) => value !== undefined).sort(([a], [b]) => (a < b ? -1 : 1)), {
      timeout: 20_000,
    })
    .toEqual(wanted);
  stop.abort();
  await watching;
  await client.disconnect();
  await second.stop();
  await server.stop();
}, 60_000);

test("the first range after a start reads the stored index, in one bucket or in several", async () => {
  for (const snapshotBuckets of [1, 3]) {
    const server = await startServer();
    const start = (name: string): Promise<KeyturnNode> =>
      startNode({
        actors: [parcel],
        store: nats({ servers: server.url, snapshotBuckets }),
        name,
        shards: 8,
        settings,
      });
    const first = await start("first");
    const model = Array.from({ length: 3_000 }, (_, n): [string, number] => [`k${n + 10_000}`, n]);
    await first.client.store<number>("numbers").putAll(model);
    await first.checkpoint();
    await first.client.store<number>("numbers").putAll(model.map(([key, n]): [string, number] => [key, -n]));
    await first.client.store("numbers").delete("k10007");
    await first.stop();
    const second = await start("second");
    second.store.snapshots.list = () => Promise.reject(new Error("No snapshot is to be listed."));
    const found: [string, number][] = [];
    for await (const one of second.client.store<number>("numbers").all()) found.push(one);
    expect(found).toEqual(model.map(([key, n]) => [key, 0 - n]).filter(([key]) => key !== "k10007"));
    await second.stop();
    await server.stop();
  }
}, 60_000);
