/** The shipped nats.conf: starts as it is, syncs before it acknowledges, and routes plain requests to their shards. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import fc from "fast-check";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { encodeKey, shardOf } from "../runtime/words/address.ts";
import { limits } from "../runtime/words/limits.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";

const file = fileURLToPath(new URL("../nats.conf", import.meta.url));
const text = readFileSync(file, "utf8");
const SHARDS = 64;

let server: NatsServer;
let nc: NatsConnection;

beforeAll(async () => {
  server = await startServer({ configFile: file });
  nc = await connect({ servers: server.url });
});

afterAll(async () => {
  await nc?.close();
  await server?.stop();
});

interface Statistics {
  readonly host: string;
  readonly http_host: string;
  readonly max_payload: number;
  readonly jetstream: { readonly config: { readonly store_dir: string; readonly sync_always?: boolean } };
}

test("starts as it is shipped, without a warning, and listens on this machine only", async () => {
  expect(text).toMatch(/^listen: 127\.0\.0\.1:4222$/m);
  expect(text).toMatch(/^http: 127\.0\.0\.1:8222$/m);
  const { host, http_host, jetstream } = (await server.monitor("varz")) as Statistics;
  expect([host, http_host]).toEqual(["127.0.0.1", "127.0.0.1"]);
  expect(jetstream.config.store_dir).toBe("data/nats/jetstream");
  expect(
    server
      .log()
      .split("\n")
      .filter((line) => /\[(WRN|ERR|FTL)\]/.test(line)),
  ).toEqual([]);
});

test("syncs to disk before it acknowledges, and says so where the runtime looks", async () => {
  expect(await server.monitor("jsz")).toMatchObject({ config: { sync_always: true } });
});

test("takes what the runtime's limits allow in one message", async () => {
  const { max_payload } = (await server.monitor("varz")) as Statistics;
  expect(max_payload).toBe(nc.info?.max_payload);
  expect(max_payload).toBeGreaterThan(limits.batchBytes);
});

test("says at once that nobody listens where no node is", async () => {
  await expect(nc.request("keyturn.actor.counter.home", "{}")).rejects.toThrow(/no responders/i);
});

test("routes a plain request to the shard that the runtime computes, for any key", async () => {
  const subscription = nc.subscribe("keyturn.shard.>", {
    callback: (error, message) => {
      if (error === null) message.respond(message.subject);
    },
  });
  onTestFinished(() => subscription.unsubscribe());
  const plain = Array.from({ length: 200 }, (_, at): [string, string] => ["counter", `page-${at}`]);
  const type = fc.stringMatching(/^[A-Za-z][A-Za-z0-9_-]{0,20}$/);
  const key = fc.string({ unit: "binary", minLength: 1, maxLength: 12 });
  const odd: [string, string][] = [
    ["counter", "home"],
    ["counter", "page:home"],
    ["counter", "a.b.c"],
    ["counter", "*"],
    ["counter", ">"],
    ["counter", "$1 {{wildcard(1)}}"],
    ["order", "Überweisung 42/ä€😀"],
    ...fc.sample(fc.tuple(type, key), { numRuns: 300, seed: 1 }),
  ];
  const addresses = [...plain, ...odd];
  const arrived = await Promise.all(
    addresses.map(async ([type, key]) =>
      (await nc.request(`keyturn.actor.${type}.${encodeKey(key)}`)).string(),
    ),
  );
  expect(arrived).toEqual(
    addresses.map(([type, key]) => `keyturn.shard.${shardOf(type, key, SHARDS)}.${type}.${encodeKey(key)}`),
  );
  expect(new Set(addresses.map(([type, key]) => shardOf(type, key, SHARDS))).size).toBe(SHARDS);
});
