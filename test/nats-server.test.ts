/** The servers that tests start: ready when they say so, the same after a restart, and gone when they should be. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect as connectSocket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { start } from "./compiled.ts";
import { type NatsServer, type ServerOptions, startCluster, startServer } from "./support/nats-server.ts";

const cleanups: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function server(options?: ServerOptions): Promise<NatsServer> {
  const started = await startServer(options);
  cleanups.push(() => started.stop());
  return started;
}

async function client(...servers: string[]): Promise<NatsConnection> {
  const connection = await connect({ servers, reconnectTimeWait: 50, maxReconnectAttempts: -1 });
  cleanups.push(() => connection.close());
  return connection;
}

interface JetStreamPage {
  readonly config: {
    readonly sync_always?: boolean;
    readonly sync_interval: number;
    readonly max_storage: number;
  };
}

async function syncOf(server: NatsServer): Promise<boolean | undefined> {
  return ((await server.monitor("jsz")) as JetStreamPage).config.sync_always;
}

describe("one server", () => {
  test("takes connections and stores messages as soon as it is there", async () => {
    const { url, port, version, pid } = await server();
    expect(url).toBe(`nats://127.0.0.1:${port}`);
    expect(() => process.kill(pid, 0)).not.toThrow();
    const nc = await client(url);
    expect(nc.info?.version).toBe(version);
    await (await jetstreamManager(nc)).streams.add({ name: "s", subjects: ["s"] });
    expect((await jetstream(nc).publish("s", "one")).seq).toBe(1);
  });

  test("syncs before it acknowledges unless told otherwise", async () => {
    expect(await syncOf(await server())).toBe(true);
    expect(await syncOf(await server({ durability: "process" }))).toBeUndefined();
  });

  test("has the limits that it is given", async () => {
    const given = await server({ maxPayload: 4096, maxFileStore: 1 << 20, extra: "max_connections: 7" });
    expect(((await given.monitor("jsz")) as JetStreamPage).config.max_storage).toBe(1 << 20);
    expect(await given.monitor("varz")).toMatchObject({ max_payload: 4096, max_connections: 7 });
  });

  test.each(["SIGKILL", "SIGTERM"] as const)("is the same after %s and a restart", async (signal) => {
    const one = await server();
    const { url, port, pid } = one;
    const nc = await client(url);
    await (await jetstreamManager(nc)).streams.add({ name: "s", subjects: ["s"] });
    await jetstream(nc).publish("s", "one");
    await one.kill(signal);
    expect(one.alive).toBe(false);
    await one.restart();
    expect([one.alive, one.port, one.url]).toEqual([true, port, url]);
    expect(one.pid).not.toBe(pid);
    const again = await client(url);
    expect((await (await jetstreamManager(again)).streams.getMessage("s", { seq: 1 }))?.string()).toBe("one");
  });

  test("answers nothing while it is stopped, and goes on afterwards", async () => {
    const one = await server();
    await one.kill("SIGSTOP");
    await expect(connect({ servers: one.url, timeout: 300, reconnect: false })).rejects.toThrow(/timeout/i);
    await one.kill("SIGCONT");
    await one.ready();
    await (await client(one.url)).flush();
  });

  test("can be stopped and restarted out of a SIGSTOP", async () => {
    const one = await server();
    await one.kill("SIGSTOP");
    await one.restart();
    await one.kill("SIGSTOP");
    await one.stop();
    expect(one.alive).toBe(false);
  });

  test("leaves nothing behind when it is stopped, but a store that was handed in", async () => {
    const storeDir = mkdtempSync(join(tmpdir(), "keyturn-store-"));
    onTestFinished(() => rmSync(storeDir, { recursive: true }));
    const one = await server({ storeDir });
    const other = await server();
    await Promise.all([one.stop(), other.stop()]);
    expect([one.configPath, other.configPath, other.storeDir].map(existsSync)).toEqual([false, false, false]);
    expect(existsSync(join(storeDir, "jetstream"))).toBe(true);
  });

  test("that cannot start says why", async () => {
    await expect(startServer({ extra: "pedantic_whatever: 1" })).rejects.toThrow(
      /nats-server ended with code 1\.\n.*unknown field "pedantic_whatever"/,
    );
  });

  test("on a port that is taken says so", async () => {
    const { port } = await server();
    await expect(startServer({ port, monitorPort: port + 1 })).rejects.toThrow(/address already in use/);
  });

  // Where the kernel cannot be asked to end a child with its parent, nothing can be done about a SIGKILL.
  const endings = ["exit", "SIGTERM", "SIGINT", ...(process.platform === "linux" ? ["SIGKILL"] : [])];
  test.each(endings)("ends with the process that started it: %s", { timeout: 90_000 }, async (ending) => {
    const holder = start("test/support/nats-holder.ts", [ending === "exit" ? "500" : "60000"]);
    await holder.until((line) => /^\d+ /.test(line));
    const socket = connectSocket({ host: "127.0.0.1", port: Number(holder.lines[0]?.split(" ")[0]) });
    const store = holder.lines[0]?.split(" ")[1] ?? "";
    // nats-server speaks first.
    await new Promise((resolve, reject) => socket.once("data", resolve).once("error", reject));
    const closed = new Promise((resolve) => socket.once("close", resolve).on("error", () => undefined));
    if (ending !== "exit") holder.kill(ending as NodeJS.Signals);
    expect(await holder.ended).toBe(ending === "exit" ? 0 : ending);
    await closed;
    // Nobody is left to tidy up after a SIGKILL.
    expect(existsSync(store)).toBe(ending === "SIGKILL");
    rmSync(dirname(store), { recursive: true, force: true });
  });
});

describe("a cluster", () => {
  test("keeps three copies, and goes on without its leader", { timeout: 60_000 }, async () => {
    const cluster = await startCluster(3, { durability: "process" });
    cleanups.push(() => cluster.stop());
    const nc = await client(...cluster.urls);
    const manager = await jetstreamManager(nc);
    const info = await manager.streams.add({ name: "s", subjects: ["s"], num_replicas: 3 });
    expect(info.cluster?.replicas).toHaveLength(2);
    // Which subjects a new stream takes in is told from server to server: this one may not have heard of it yet.
    await vi.waitUntil(
      () =>
        jetstream(nc)
          .publish("s", "one")
          .catch(() => undefined),
      { timeout: 20_000, interval: 50 },
    );

    const leader = await cluster.leader();
    expect(cluster.servers).toContain(leader);
    await leader?.kill();
    await cluster.ready(2);
    const next = await cluster.leader();
    expect(next).toBeDefined();
    expect(next).not.toBe(leader);

    await leader?.restart();
    await cluster.ready(3);
    const left = await client(next?.url ?? "");
    const stored = await vi.waitUntil(
      () => left.request("$JS.API.STREAM.MSG.GET.s", '{"seq":1}', { timeout: 1_000 }).catch(() => undefined),
      { timeout: 20_000, interval: 50 },
    );
    expect(stored.json()).toMatchObject({ message: { seq: 1, data: btoa("one") } });
  });
});
