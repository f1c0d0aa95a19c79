/** The NATS store where one of three replicas lags behind, and this process is connected to just that server. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type NatsStore, nats } from "../runtime/index.ts";
import { TcpProxy } from "./chaos/proxy.ts";
import { appendAll, readAll, snapshot, textOf } from "./conformance/helpers.ts";
import { freePorts } from "./support/nats-ports.ts";
import { clusterOf, type NatsCluster, type NatsServer, startServer } from "./support/nats-server.ts";

const STREAMS = ["keyturn_journal", "KV_keyturn_snapshots", "KV_keyturn_shards", "KV_keyturn_nodes"];
/** How long whatever the third server hears and says is under way. */
const LAG_MS = 60;

function open(server: NatsServer | undefined): Promise<NatsStore> {
  return nats({ servers: server?.url as string, replicas: 3 });
}

describe("a replica that lags", () => {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-lag-"));
  let cluster: NatsCluster;
  let routes: TcpProxy;
  let raw: NatsConnection;
  let near: NatsStore;
  let far: NatsStore;

  beforeAll(async () => {
    const ports = await freePorts(9);
    const routePorts = ports.slice(6);
    routes = await TcpProxy.start(routePorts);
    // The first two know each other directly. The way to the third, and from it, is the slow one.
    const slow = routes.addresses.map((address) => `nats://${address}`);
    const direct = routePorts.map((port) => `nats://127.0.0.1:${port}`);
    const known = [
      [direct[1], slow[2]],
      [direct[0], slow[2]],
      [slow[0], slow[1]],
    ];
    const servers = await Promise.all(
      known.map((others, at) => {
        const name = `lag-${at}`;
        const [port, monitorPort, routePort] = [ports[at], ports[3 + at], ports[6 + at]] as [
          number,
          number,
          number,
        ];
        const configFile = join(folder, `${at}.conf`);
        writeFileSync(
          configFile,
          `server_name: ${name}
listen: "127.0.0.1:${port}"
http: "127.0.0.1:${monitorPort}"
jetstream { store_dir: ${JSON.stringify(join(folder, `store-${at}`))} }
cluster {
  name: lag, listen: "127.0.0.1:${routePort}", advertise: ${JSON.stringify(routes.addresses[at])}
  no_advertise: true, pool_size: -1, routes: ${JSON.stringify(others)}
}
`,
        );
        return startServer({ configFile, name, port, monitorPort });
      }),
    );
    cluster = clusterOf("lag", servers);
    await cluster.ready(3);
    raw = await connect({ servers: servers[0]?.url as string });
    near = await open(servers[0]);
    far = await open(servers[2]);
    for (const stream of STREAMS) await leadElsewhere(stream);
    // A replica begins to answer reads some seconds after it has caught up.
    while (!(await answersReads(servers[2]))) await new Promise((resolve) => setTimeout(resolve, 50));
    routes.delay(LAG_MS);
  }, 90_000);

  afterAll(async () => {
    routes?.heal();
    await near?.close();
    await far?.close();
    await raw?.close();
    await cluster?.stop();
    await routes?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function answersReads(server: NatsServer | undefined): Promise<boolean> {
    const reads = "$JS.API.DIRECT.GET.KV_keyturn_snapshots";
    const page = `subsz?subs=1&acc=$G&test=${encodeURIComponent(reads)}`;
    const found = (await server?.monitor(page)) as { subscriptions_list?: readonly { subject: string }[] };
    return found.subscriptions_list?.some(({ subject }) => subject === reads) === true;
  }

  async function leadElsewhere(stream: string): Promise<void> {
    const manager = await jetstreamManager(raw);
    for (let tries = 0; tries < 50; tries++) {
      // While nobody leads it, nobody answers either.
      const info = await manager.streams.info(stream).catch(() => undefined);
      if (["lag-0", "lag-1"].includes(info?.cluster?.leader ?? "")) return;
      await raw.request(`$JS.API.STREAM.LEADER.STEPDOWN.${stream}`).catch(() => undefined);
      // An election takes its time.
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`${stream} is led by the server that lags`);
  }

  it("lists all that was written before, in the form that it has, however far behind the replica is", async () => {
    const ids = Array.from({ length: 60 }, (_, n) => `list.k${n}`);
    let revisions: readonly (number | undefined)[] = ids.map(() => 0);
    // Which replica answers is not ours to say; often enough it is the one that lags.
    for (let round = 1; round <= 10; round++) {
      revisions = await near.snapshots.write(
        ids.map((id, n) => snapshot(id, `${round}`, revisions[n] as number)),
      );
      const newest = new Map<string, number>();
      let cursor: string | undefined;
      do {
        const { entries, next } = await far.snapshots.list(round % 2 === 0 ? 25 : 1_000, cursor);
        for (const { id, revision } of entries) {
          if (!id.startsWith("list.")) continue;
          if ((newest.get(id) ?? 0) < revision) newest.set(id, revision);
        }
        cursor = next;
      } while (cursor !== undefined);
      expect(ids.map((id) => newest.get(id))).toEqual(revisions);
    }
  });

  it("shows what was written before sync, in snapshots and in the due index, and nothing older after something newer", async () => {
    let stale = 0;
    // Which replica answers is not ours to say: until it was the one that lags, this would show nothing.
    for (let round = 1; round <= 5 || (stale === 0 && round <= 30); round++) {
      const ids = Array.from({ length: 20 }, (_, n) => `t.r${round}k${n}`);
      const made = await near.snapshots.write(
        ids.map((id) => snapshot(id, id, 0, { shard: round, due: 60_000 * round })),
      );
      expect(made.every((revision) => revision !== undefined)).toBe(true);
      const early = await far.snapshots.read(ids);
      if (early.some((entry) => entry === undefined)) stale++;
      await far.snapshots.sync();
      const found = await far.snapshots.read(ids);
      expect(found.map((entry) => textOf(entry?.value))).toEqual(ids);
      expect(await far.snapshots.due(round, 10 ** 9, 100)).toHaveLength(ids.length);
      // What one process has seen, it does not see undone.
      const [moved] = await near.snapshots.write([
        snapshot(ids[0] as string, "moved", made[0] as number, { shard: round, due: 3_600_000 }),
      ]);
      await near.directory.writeShard(round, { owner: undefined, epoch: 1, segments: [] }, 0);
      await far.directory.readShard(round);
      const [entry] = await far.snapshots.read([ids[0] as string]);
      expect(entry?.revision).toBe(moved);
    }
    expect(stale).toBeGreaterThan(0);
  });

  it("does not take true hints for lies", async () => {
    const shard = 9;
    let [revision] = await near.snapshots.write([snapshot("t.timer", "0", 0, { shard, due: 60_000 })]);
    for (let n = 2; n <= 12; n++) {
      const writing = near.snapshots.write([
        snapshot("t.timer", `${n}`, revision as number, { shard, due: n * 60_000 }),
      ]);
      await far.snapshots.due(shard, 10 ** 9, 10);
      [revision] = await writing;
    }
    await far.snapshots.sync();
    expect(await far.snapshots.due(shard, 10 ** 9, 10)).toEqual([{ id: "t.timer", due: 12 * 60_000 }]);
    expect(await near.snapshots.due(shard, 10 ** 9, 10)).toEqual([{ id: "t.timer", due: 12 * 60_000 }]);
  });

  it("does not shorten a lane: what was answered is read, by whichever server", async () => {
    let last = 0;
    const texts: string[] = [];
    for (let round = 0; round < 4; round++) {
      const more = Array.from({ length: 25 }, (_, n) => `${round}/${n}`);
      texts.push(...more);
      last = (await appendAll(near.journal, "life1", more, last)).at(-1) as number;
      expect(await far.journal.last("life1")).toBe(last);
      expect((await readAll(far.journal, "life1")).map(([, text]) => text)).toEqual(texts);
      expect(textOf(await far.journal.get(last))).toBe(texts.at(-1));
    }
  });

  it("does not hide members, shards and heartbeats that decide", async () => {
    const member = { node: "n", incarnation: "life1", weight: 1, beat: 1, leaving: false, types: [] };
    expect(await near.directory.join(member)).toBe(true);
    expect(await far.directory.beats(["life1"], true)).toEqual([1]);
    expect(await near.directory.beat("life1", 2)).toBe(true);
    expect(await far.directory.leave("life1", 1)).toBe(false);
    expect(await far.directory.leave("life1", 2)).toBe(true);
    expect(await near.directory.beat("life1", 3)).toBe(false);
    const revision = await near.directory.writeShard(50, { owner: "life1", epoch: 1, segments: [] }, 0);
    expect((await far.directory.readShard(50))?.revision).toBe(revision);
  });
});
