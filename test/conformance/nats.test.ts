/** The conformance suite on NATS, on a real server. A crash is a server that is killed while it is written to. */
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { afterAll, beforeAll } from "vitest";
import { type NatsStore, nats } from "../../runtime/stores/nats/index.ts";
import { type NatsServer, startServer } from "../support/nats-server.ts";
import { bytesOf, eventually, snapshot } from "./helpers.ts";
import { type Crash, type KnownAppend, type KnownSnapshot, storeConformance } from "./suite.ts";

let server: NatsServer;
let apps = 0;

beforeAll(async () => {
  server = await startServer({ durability: "fsync" });
}, 60_000);

afterAll(async () => {
  await server.stop();
});

storeConformance(
  "NATS",
  async () => {
    const app = `app${++apps}`;
    const open = (): Promise<NatsStore> => nats({ servers: server.url, app });
    let store = await open();
    let life = 0;
    return {
      store,
      async reopen() {
        await store.close();
        store = await open();
        return store;
      },
      async crash() {
        const known = await killServer(store, `life${life++}`);
        await store.close();
        store = await open();
        return { ...known, store };
      },
      async dispose() {
        await store.close();
        await drop(app);
      },
    };
  },
  { local: false, runs: 5 },
);

/** Takes an app's streams away, so that the server does not carry all of them to the end. */
async function drop(app: string): Promise<void> {
  const nc = await connect({ servers: server.url });
  const manager = await jetstreamManager(nc);
  for await (const { config } of manager.streams.list()) {
    if (config.name.startsWith(`${app}_`) || config.name.startsWith(`KV_${app}_`)) {
      await manager.streams.delete(config.name);
    }
  }
  await nc.close();
}

async function killServer(store: NatsStore, life: string): Promise<Omit<Crash, "store">> {
  const appends: KnownAppend[] = [];
  const snapshots = new Map<string, KnownSnapshot>();
  let stopped = false;
  const append = async (lane: string): Promise<void> => {
    let last = await store.journal.last(lane);
    for (let n = 0; !stopped; n++) {
      const text = `${lane}/${n}/${"x".repeat((n * 997) % 20_000)}`;
      const result = await store.journal.append(lane, last, bytesOf(text));
      if (result.kind !== "committed") return;
      last = result.seq;
      appends.push({ lane, seq: last, text });
    }
  };
  const write = async (id: string): Promise<void> => {
    const [entry] = await store.snapshots.read([id]);
    let revision = entry?.revision ?? 0;
    for (let n = 0; !stopped; n++) {
      const answer = await store.snapshots
        .write([snapshot(id, `${id}/${n}`, revision, { due: n })])
        .catch(() => [undefined]);
      if (answer[0] === undefined) return;
      revision = answer[0];
      snapshots.set(id, { id, revision, text: `${id}/${n}` });
    }
  };
  const writers = [append(`${life}a`), append(`${life}b`), write("t.one"), write(`t.${life}`)];
  await eventually(() => appends.length > 100 && snapshots.size === 2);
  await server.kill("SIGKILL");
  stopped = true;
  await Promise.all(writers);
  await server.restart();
  return { appends, snapshots: [...snapshots.values()] };
}
