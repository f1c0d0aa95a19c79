/** The NATS store on three servers with three replicas: the clauses of the ports, conflicts, servers that die. */
import { jetstreamManager } from "@nats-io/jetstream";
import { connect, headers, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isKeyturnError, type NatsStore, nats, startNode } from "../runtime/index.ts";
import { deadLetterClauses } from "./conformance/dead-letters.ts";
import { directoryClauses } from "./conformance/directory.ts";
import { durabilityClauses } from "./conformance/durability.ts";
import { bytesOf, eventually, snapshot } from "./conformance/helpers.ts";
import { journalClauses } from "./conformance/journal.ts";
import { journalProperties } from "./conformance/journal-properties.ts";
import { snapshotProperties } from "./conformance/snapshots-properties.ts";
import { snapshotClauses } from "./conformance/snapshots.ts";
import type { Crash, KnownAppend, KnownSnapshot, StoreUnderTest, Suite } from "./conformance/suite.ts";
import { type NatsCluster, type NatsServer, startCluster } from "./support/nats-server.ts";
import { probeOf } from "./support/probe.ts";

const JOURNAL = "keyturn_journal";

function open(servers: readonly string[], timeout_ms = 5_000): Promise<NatsStore> {
  return nats({ servers, replicas: 3, timeout_ms });
}

/** While a stream elects its leader, a store cannot open; it says so, and whoever starts it tries again. */
async function openAgain(servers: readonly string[]): Promise<NatsStore> {
  for (;;) {
    try {
      return await open(servers, 1_000);
    } catch (error) {
      if (!isKeyturnError(error, "unreachable")) throw error;
    }
  }
}

/** Replicas begin to answer reads some seconds after their stream was made. */
async function readable(store: NatsStore): Promise<void> {
  const reads = [
    () => store.journal.last("nobody"),
    () => store.snapshots.read(["t.nobody"]),
    () => store.directory.readShard(0),
    () => store.deadLetters.list(1),
  ];
  const isRead = (read: () => Promise<unknown>): Promise<boolean> =>
    read().then(
      () => true,
      (error) => {
        if (!isKeyturnError(error, "not_provisioned")) throw error;
        return false;
      },
    );
  for (const read of reads)
    while (!(await isRead(read))) await new Promise((resolve) => setTimeout(resolve, 50));
}

async function leaderOf(
  raw: NatsConnection,
  cluster: NatsCluster,
  stream: string,
): Promise<NatsServer | undefined> {
  const { cluster: group } = await (await jetstreamManager(raw)).streams.info(stream);
  return cluster.servers.find(({ name }) => name === group?.leader);
}

describe("three servers, three replicas", () => {
  let cluster: NatsCluster;
  let raw: NatsConnection;

  beforeAll(async () => {
    cluster = await startCluster(3, { durability: "process" });
    raw = await connect({ servers: [...cluster.urls], maxReconnectAttempts: -1, reconnectTimeWait: 50 });
    const store = await open(cluster.urls);
    await readable(store);
    await store.close();
  }, 60_000);

  afterAll(async () => {
    await raw.close();
    await cluster.stop();
  });

  /** Making replicated streams takes long; so they are emptied instead. */
  async function empty(): Promise<void> {
    const manager = await jetstreamManager(raw);
    for await (const { config } of manager.streams.list()) await manager.streams.purge(config.name);
  }

  async function openForTest(): Promise<StoreUnderTest> {
    await empty();
    let store = await open(cluster.urls);
    let life = 0;
    return {
      store,
      reopen: async () => {
        await store.close();
        store = await open(cluster.urls);
        return store;
      },
      crash: async () => {
        await store.close();
        // What the killed server takes with it is not answered: that is waited for no longer than it must be.
        store = await open(cluster.urls, 1_000);
        const known = await killOne(store, `life${life}`, cluster.servers[life++ % 3] as NatsServer);
        await store.close();
        store = await openAgain(cluster.urls);
        return { ...known, store };
      },
      dispose: () => store.close(),
    };
  }

  /** Lets writers write, and kills one of the servers meanwhile. */
  async function killOne(store: NatsStore, life: string, server: NatsServer): Promise<Omit<Crash, "store">> {
    const appends: KnownAppend[] = [];
    const snapshots: KnownSnapshot[] = [];
    let stopped = false;
    const append = async (lane: string): Promise<void> => {
      let last = await store.journal.last(lane);
      for (let n = 0; !stopped; n++) {
        const result = await store.journal.append(lane, last, bytesOf(`${lane}/${n}`));
        if (result.kind !== "committed") return;
        last = result.seq;
        appends.push({ lane, seq: last, text: `${lane}/${n}` });
      }
    };
    const write = async (): Promise<void> => {
      for (let n = 0; !stopped; n++) {
        const id = `t.${life}${n}`;
        const [revision] = await store.snapshots.write([snapshot(id, id, 0)]).catch(() => [undefined]);
        if (revision === undefined) return;
        snapshots.push({ id, revision, text: id });
      }
    };
    const writers = [append(`${life}a`), append(`${life}b`), write()];
    await eventually(() => appends.length > 50 && snapshots.length > 10);
    await server.kill("SIGKILL");
    stopped = true;
    await Promise.all(writers);
    await server.restart();
    await cluster.ready(3);
    return { appends, snapshots };
  }

  const use: Suite["use"] = (body) => async () => {
    const subject = await openForTest();
    try {
      await body(subject.store, subject);
    } finally {
      await subject.dispose();
    }
  };
  const suite: Suite = { use, runs: 3, local: false, outlives: true, markers: true };
  journalClauses(suite);
  journalProperties(suite);
  snapshotClauses(suite);
  snapshotProperties(suite);
  directoryClauses(suite);
  deadLetterClauses(suite);
  durabilityClauses(suite);

  it("says how many copies there are, and of how many servers it is known how durable they are", async () => {
    await empty();
    const monitor = cluster.servers[0]?.monitorUrl;
    const store = await nats({ servers: cluster.urls, monitor, durability: "fsync" });
    expect(store.replicas).toBe(3);
    expect(store.description).toContain("3 replicas");
    expect(store.durability).toBe("process");
    await store.close();
    const word = await nats({ servers: cluster.urls, durability: "fsync" });
    expect(word.durabilityNote).toContain("on 3 servers");
    await word.close();
  });

  it("two appends of a lane at the same moment: one is committed, the other is a conflict, whichever way it is said", async () => {
    await empty();
    const one = await open(cluster.urls);
    const two = await open(cluster.urls);
    const codes = new Set<number>();
    let last = 0;
    for (let round = 0; round < 60; round++) {
      const results = await Promise.all(
        [one, two, one].map((store, n) => store.journal.append("life1", last, bytesOf(`${round}/${n}`))),
      );
      const committed = results.filter(({ kind }) => kind === "committed") as { seq: number }[];
      expect(results.map(({ kind }) => kind).sort()).toEqual(["committed", "conflict", "conflict"]);
      last = committed[0]?.seq as number;
      // What the server says in so many words.
      const set = headers();
      set.set("Nats-Expected-Last-Subject-Sequence", "0");
      const lane = `keyturn.journal.round${round}`;
      const answers = await Promise.all(
        [0, 1, 2].map(() => raw.request(lane, "x", { headers: set, timeout: 5_000 })),
      );
      for (const answer of answers) {
        const { error } = answer.json<{ error?: { err_code: number } }>();
        if (error !== undefined) codes.add(error.err_code);
      }
    }
    expect(codes).toContain(10_164);
    expect([...codes].every((code) => code === 10_071 || code === 10_164)).toBe(true);
    await one.close();
    await two.close();
  });

  it("a server dies that leads: asks of warm and of cold actors go on, and every answer is the next one", async () => {
    await empty();
    const store = await open(cluster.urls, 2_000);
    const probe = probeOf();
    const node = await startNode({ actors: [probe], store, shards: 8 });
    const life = node.incarnation.name;
    let going = true;
    let answered = 0;
    let cold = 0;
    const warm = [0, 1, 2, 3].map(async (n) => {
      const ref = node.client.actor(probe, `warm${n}`);
      for (let count = 1; going; count++) {
        expect(await ref.ask({ type: "add", by: 1 }, { timeout_ms: 60_000 })).toBe(count);
        answered++;
      }
    });
    const colds = (async () => {
      while (going) {
        expect(
          await node.client.actor(probe, `cold${cold++}`).ask({ type: "add", by: 1 }, { timeout_ms: 60_000 }),
        ).toBe(1);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    })();
    await eventually(() => answered > 100 && cold > 10);
    const leader = (await leaderOf(raw, cluster, JOURNAL)) as NatsServer;
    await leader.kill("SIGKILL");
    const [before, coldBefore] = [answered, cold];
    await eventually(() => answered > before + 200 && cold > coldBefore + 20, 60_000);
    expect(node.incarnation.name).toBe(life);
    going = false;
    await Promise.all([...warm, colds]);
    await node.stop();
    await leader.restart();
  }, 120_000);
});
