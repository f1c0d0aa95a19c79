/** examples/nats/cluster and examples/nats/production: three servers that keep three copies, also with TLS and users. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { type ConnectionOptions, connect, type NatsConnection } from "@nats-io/transport-node";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { writeCertificates } from "./support/nats-certificates.ts";
import { freePorts } from "./support/nats-ports.ts";
import { startProduction } from "./support/nats-production.ts";
import { clusterOf, type NatsCluster, type NatsServer, startServer } from "./support/nats-server.ts";
import { copyVariants, secrets } from "./support/nats-variants.ts";

let folder: string;
const cleanups: (() => Promise<unknown>)[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "keyturn-cluster-"));
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  rmSync(folder, { recursive: true, force: true });
});

interface Start {
  readonly file: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts three servers, which know each other only from their files. */
async function started(starts: readonly Start[]): Promise<NatsCluster> {
  const servers = await Promise.all(
    starts.map(async ({ file, env = {} }, at) => {
      const options = { configFile: join(folder, file), env, name: `keyturn-${at + 1}`, ready_ms: 30_000 };
      const server = await startServer(options);
      cleanups.push(() => server.stop());
      return server;
    }),
  );
  const cluster = clusterOf("keyturn", servers);
  await cluster.ready(servers.length);
  return cluster;
}

async function client(options: ConnectionOptions): Promise<NatsConnection> {
  const nc = await connect({ reconnectTimeWait: 50, maxReconnectAttempts: -1, ...options });
  cleanups.push(() => nc.close());
  return nc;
}

/** Publishes until the stream has a leader again. */
async function commit(nc: NatsConnection, subject: string, text: string): Promise<number> {
  return await vi.waitUntil(
    () =>
      jetstream(nc, { timeout: 1_000 })
        .publish(subject, text)
        .then(({ seq }) => seq)
        .catch(() => 0),
    { timeout: 20_000, interval: 50 },
  );
}

describe("cluster", () => {
  test("keeps what is committed in three places, and goes on with any two", { timeout: 90_000 }, async () => {
    const ports = await freePorts(3);
    const listed = ["127.0.0.1:6222", "127.0.0.1:6223", "127.0.0.1:6224"];
    const moved = Object.fromEntries(listed.map((from, at) => [from, `127.0.0.1:${ports[at]}`]));
    const own = (at: number): Record<string, string> => ({
      [listed[at] ?? ""]: moved[listed[at] ?? ""] ?? "",
    });
    copyVariants(folder, {
      "cluster/routes.conf": moved,
      "cluster/server-1.conf": own(0),
      "cluster/server-2.conf": own(1),
      "cluster/server-3.conf": own(2),
    });
    const cluster = await started([1, 2, 3].map((n) => ({ file: `cluster/server-${n}.conf` })));
    for (const server of cluster.servers) {
      expect(await server.monitor("jsz")).toMatchObject({ config: { sync_always: true } });
      expect(await server.monitor("varz")).toMatchObject({ host: "127.0.0.1", server_name: server.name });
    }

    const nc = await client({ servers: [...cluster.urls] });
    const manager = await jetstreamManager(nc);
    await manager.streams.add({ name: "keyturn_journal", subjects: ["keyturn.journal.*"], num_replicas: 3 });
    await commit(nc, "keyturn.journal.lane", "one");

    const connected = cluster.servers.find(({ port }) => nc.getServer().endsWith(`:${port}`));
    await connected?.kill();
    await cluster.ready(2);
    const seq = await commit(nc, "keyturn.journal.lane", "two");
    expect(seq).toBeGreaterThan(1);
    // The mapping works whichever server takes the request.
    nc.subscribe("keyturn.shard.*.*.*", {
      callback: (_error, message) => void message.respond(message.subject),
    });
    const answer = await nc.request("keyturn.actor.counter.home", "{}");
    expect(answer.string()).toBe("keyturn.shard.16.counter.home");
  });
});

describe("production", () => {
  async function secured(): Promise<{
    servers: readonly NatsServer[];
    cluster: NatsCluster;
    ca: string;
    port: number;
  }> {
    const { cluster, ca, routePort } = await startProduction(folder);
    cleanups.push(...cluster.servers.map((server) => () => server.stop()));
    return { cluster, servers: cluster.servers, ca, port: routePort };
  }

  test("three servers with TLS and users keep three copies", { timeout: 90_000 }, async () => {
    const { cluster, servers, ca } = await secured();
    const as = (user: "keyturn_provisioner" | "keyturn_node", inboxPrefix: string): Promise<NatsConnection> =>
      client({
        servers: servers.map(({ port }) => `127.0.0.1:${port}`),
        user,
        pass: secrets[user],
        inboxPrefix,
        tls: { caFile: ca },
      });
    const manager = await jetstreamManager(await as("keyturn_provisioner", "_INBOX_keyturn_provisioner"));
    const { cluster: placed } = await manager.streams.add({
      name: "keyturn_journal",
      subjects: ["keyturn.journal.*"],
      num_replicas: 3,
    });
    expect(placed?.replicas).toHaveLength(2);
    const node = await as("keyturn_node", "_INBOX_keyturn_node");
    await commit(node, "keyturn.journal.lane", "one");
    await (await cluster.leader())?.kill();
    await cluster.ready(2);
    expect(await commit(node, "keyturn.journal.lane", "two")).toBeGreaterThan(1);
  });

  test("a server without a certificate of the authority does not get in", { timeout: 90_000 }, async () => {
    const { servers, port } = await secured();
    const other = writeCertificates(folder, "stranger");
    const stranger = (tls: string): Promise<NatsServer> =>
      startServer({
        extra: `cluster { name: keyturn, listen: "127.0.0.1:-1", routes: ["nats://127.0.0.1:${port}"]\n${tls} }`,
        accounts: "{ KEYTURN { jetstream: enabled, users = [{ user: a, password: a }] } }",
        // Alone it has no leader for its streams, and is never ready.
        ready_ms: 3_000,
      });
    const outcomes = await Promise.allSettled([
      stranger(""),
      stranger(`tls { cert_file: "${other.cert}", key_file: "${other.key}", ca_file: "${other.ca}" }`),
    ]);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({
        status: "rejected",
        reason: { message: expect.stringContaining("not ready in time") },
      });
    }
    const { routes } = (await servers[0]!.monitor("routez")) as { routes: { remote_name: string }[] };
    expect(new Set(routes.map(({ remote_name }) => remote_name))).toEqual(
      new Set(["keyturn-2", "keyturn-3"]),
    );
    expect(servers[0]?.log()).toMatch(/TLS route handshake error/);
  });
});
