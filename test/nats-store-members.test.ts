/** The list of members on NATS in several processes' eyes: changes get through whatever is lost in between. */
import { jetstreamManager } from "@nats-io/jetstream";
import { connect, headers, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Member } from "../runtime/ports/index.ts";
import { type NatsStore, nats } from "../runtime/stores/nats/index.ts";
import { TcpProxy } from "./chaos/proxy.ts";
import { become, eventually } from "./conformance/helpers.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";

let server: NatsServer;
let raw: NatsConnection;
let apps = 0;
const open: NatsStore[] = [];

beforeAll(async () => {
  server = await startServer({ durability: "process" });
  raw = await connect({ servers: server.url, maxReconnectAttempts: -1, reconnectTimeWait: 50 });
}, 60_000);

afterAll(async () => {
  for (const store of open) await store.close();
  await raw.close();
  await server.stop();
});

async function store(app = `app${++apps}`, servers = server.url): Promise<NatsStore> {
  const opened = await nats({ servers, app });
  open.push(opened);
  return opened;
}

function member(incarnation: string, more: Partial<Member> = {}): Member {
  return { node: `n-${incarnation}`, incarnation, weight: 1, beat: 1, leaving: false, types: ["t"], ...more };
}

async function names({ directory }: NatsStore): Promise<string[]> {
  return (await directory.members()).map(({ incarnation }) => incarnation).sort();
}

describe("The list of members", () => {
  it("reaches every other process, with watchers called, and is the same array until it changes", async () => {
    const one = await store();
    const two = await store(one.app);
    let calls = 0;
    two.directory.watch((shard) => {
      if (shard === undefined) calls++;
    });
    expect(await names(two)).toEqual([]);
    await one.directory.join(member("life1"));
    await eventually(() => calls > 0);
    await become(() => names(two), ["life1"]);
    const list = await two.directory.members();
    expect(await two.directory.members()).toBe(list);
    calls = 0;
    await one.directory.join(member("life1", { beat: 2, leaving: true }));
    await eventually(() => calls > 0);
    await become(async () => (await two.directory.members())[0]?.leaving, true);
    calls = 0;
    await one.directory.leave("life1");
    await eventually(() => calls > 0);
    await become(() => names(two), []);
  });

  it("comes also where a hint was lost, and from a process that died before it gave one", async () => {
    const one = await store();
    const two = await store(one.app);
    expect(await names(two)).toEqual([]);
    // What a process leaves that dies between its write and the hint.
    const put = (key: string, value: unknown): Promise<unknown> =>
      raw.request(`$KV.${one.app}_nodes.${key}`, JSON.stringify(value));
    await put("beat.life1", 1);
    await put("member.life1", member("life1"));
    await become(() => names(two), ["life1"]);
  });

  it("is found again after the server was away, also when it was changed meanwhile", async () => {
    const one = await store();
    const proxy = await TcpProxy.start([server.port]);
    const two = await store(one.app, proxy.addresses[0] as string);
    await one.directory.join(member("life1"));
    await one.directory.join(member("life2"));
    await become(() => names(two), ["life1", "life2"]);
    let told = 0;
    two.directory.watch(() => told++);
    proxy.cut();
    await one.directory.leave("life1");
    await one.directory.join(member("life3"));
    proxy.reset();
    await eventually(() => !two.connection.connected);
    // A copy that may be behind is better than none.
    expect(await names(two)).toContain("life2");
    proxy.heal("reset");
    await eventually(() => two.connection.connected);
    await become(() => names(two), ["life2", "life3"]);
    expect(told).toBeGreaterThan(0);
    await two.close();
    await proxy.close();
  });

  it("survives a restart of the server", async () => {
    const own = await startServer({ durability: "process" });
    const one = await nats({ servers: own.url });
    const two = await nats({ servers: own.url });
    await one.directory.join(member("life1"));
    await become(() => names(two), ["life1"]);
    await own.kill("SIGKILL");
    await own.restart();
    await eventually(() => one.connection.connected && two.connection.connected);
    await one.directory.join(member("life2"));
    await become(() => names(two), ["life1", "life2"], 2_000);
    await one.close();
    await two.close();
    await own.stop();
  });

  it("survives that its bucket is deleted and made again", async () => {
    const one = await store();
    const two = await store(one.app);
    await one.directory.join(member("life1"));
    await one.directory.join(member("life2"));
    await become(() => names(two), ["life1", "life2"]);
    const manager = await jetstreamManager(raw);
    await manager.streams.delete(`KV_${one.app}_nodes`);
    await expect(one.directory.beat("life1", 2)).rejects.toMatchObject({ code: "not_provisioned" });
    expect(one.connection).toMatchObject({ connected: false });
    expect(one.connection.text).toContain(`KV_${one.app}_nodes`);
    await become(async () => (await names(two)).length > 0 && two.connection.connected, false);
    const again = await store(one.app);
    await again.directory.join(member("life3"));
    await become(() => names(two), ["life3"], 10_000);
    expect(await one.directory.beat("life1", 3)).toBe(false);
    await become(async () => one.connection.connected, true);
  });

  it("one whose leaving was begun and not ended is taken off by whoever finds its heartbeat gone", async () => {
    const one = await store();
    const two = await store(one.app);
    await one.directory.join(member("life1"));
    await one.directory.join(member("life2"));
    await become(() => names(two), ["life1", "life2"]);
    const set = headers();
    set.set("KV-Operation", "PURGE");
    set.set("Nats-Rollup", "sub");
    await raw.request(`$KV.${one.app}_nodes.beat.life1`, undefined, { headers: set, timeout: 2_000 });
    expect(await two.directory.beats(["life1", "life2"], true)).toEqual([undefined, 1]);
    await become(() => names(two), ["life2"]);
    await become(() => names(one), ["life2"]);
    expect(await one.directory.beat("life1", 5)).toBe(false);
    expect(await one.directory.join(member("life1", { beat: 6 }))).toBe(false);
  });

  it("holds hundreds, some of which come and go at once, in every process alike", async () => {
    const stores = [await store()];
    stores.push(await store(stores[0]?.app), await store(stores[0]?.app));
    const lives = Array.from({ length: 240 }, (_, n) => `life${n}`);
    await Promise.all(lives.map((life, n) => (stores[n % 3] as NatsStore).directory.join(member(life))));
    await Promise.all(
      lives
        .filter((_, n) => n % 2 === 0)
        .map((life, n) => (stores[n % 3] as NatsStore).directory.leave(life)),
    );
    const left = lives.filter((_, n) => n % 2 === 1).sort();
    for (const one of stores) await become(() => names(one), left);
  });

  it("nonsense on the hints' subject does no harm", async () => {
    const one = await store();
    const told: (number | undefined)[] = [];
    one.directory.watch((shard) => told.push(shard));
    await one.directory.join(member("life1"));
    await become(() => names(one), ["life1"]);
    const troubles: unknown[] = [];
    one.onTrouble((_task, error) => troubles.push(error));
    for (const text of [
      "",
      "x",
      "{}",
      "null",
      '{"shard":"1"}',
      '{"shard":-1}',
      '{"member":{}}',
      '{"member":1e300}',
      "[]",
    ])
      raw.publish(`${one.app}.changed`, text);
    raw.publish(`${one.app}.changed`, '{"shard":7}');
    await eventually(() => told.includes(7));
    raw.publish(`${one.app}.changed`, '{"member":999999}');
    expect(await names(one)).toEqual(["life1"]);
    expect(troubles).toEqual([]);
  });
});

describe("The shard table", () => {
  it("an entry that makes no sense is an error of that shard, and left out where many are read", async () => {
    const one = await store();
    await one.directory.writeShard(3, { owner: "life1", epoch: 2, segments: [] }, 0);
    for (const [shard, text] of [
      [4, "x"],
      [5, ""],
      [6, "null"],
      [7, '{"epoch":"x","segments":[]}'],
      [8, '{"epoch":1}'],
    ])
      await raw.request(`$KV.${one.app}_shards.${shard}`, String(text));
    const read = await one.directory.readShards([3, 4, 5, 6, 7, 8, 9]);
    expect([...read.keys()]).toEqual([3]);
    for (const shard of [4, 5, 6, 7, 8]) {
      await expect(one.directory.readShard(shard)).rejects.toMatchObject({ code: "corrupt_record" });
      await expect(one.directory.readShard(shard)).rejects.toThrow(`shard ${shard}`);
    }
    expect(await one.directory.readShard(9)).toBeUndefined();
  });

  it("settings of another kind under this name are an app of somebody else", async () => {
    const one = await store();
    for (const text of [
      "x",
      "{}",
      '{"shards":0,"format":1}',
      '{"shards":1e9,"format":1}',
      '{"shards":"64","format":1}',
    ]) {
      await raw.request(`$KV.${one.app}_shards.app`, text);
      const code = text === "x" ? "store_failed" : "app_mismatch";
      await expect(one.directory.app({ shards: 4, format: 1 })).rejects.toMatchObject({ code });
      await expect(one.settings()).rejects.toMatchObject({ code });
    }
  });
});
