/**
 * Real NATS servers for tests, benches and the chaos run.
 *
 * Owns one server's folder, ports and process, from its start until `stop`. Talks to the process through signals, and
 * to the server through its monitoring port. Knows nothing of Keyturn and of no test framework.
 *
 * Invariants:
 * 1. What `startServer`, `restart` and `startCluster` have answered with takes connections and has JetStream ready.
 * 2. No server outlives this process, and `stop` leaves nothing behind that it has created.
 * 3. A restarted server has the ports and the store that it had.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { serverBinary } from "./nats-binary.ts";
import { configText, type ServerPlace, type ServerSettings } from "./nats-config.ts";
import { freePorts } from "./nats-ports.ts";
import { removeFolder, type ServerProcess, spawnServer, tailOf, temporaryFolder } from "./nats-process.ts";

export type { ServerSettings, TlsFiles } from "./nats-config.ts";

export interface ServerOptions extends ServerSettings {
  /**
   * A store to use again. It is left where it is; without it the store lies in the system's temporary folder, which
   * may be kept in memory, and goes when the server is stopped.
   */
  readonly storeDir?: string;
  /** As other servers and statistics show it. With a configuration file it must be the name in there. */
  readonly name?: string;
  /** Where clients connect. Default: a free one. */
  readonly port?: number;
  readonly monitorPort?: number;
  readonly cluster?: ServerPlace["cluster"];
  /**
   * A configuration file to start as it is; only the two ports are set from outside. The settings above are not used.
   * The server runs in a folder of its own, so a `store_dir` in it that is relative lies there.
   */
  readonly configFile?: string;
  /** Variables that the configuration names. */
  readonly env?: Readonly<Record<string, string>>;
  /** How long it may take until it is ready. */
  readonly ready_ms?: number;
}

export interface NatsServer {
  readonly name: string;
  /** For a client's `servers`. */
  readonly url: string;
  readonly port: number;
  readonly monitorUrl: string;
  readonly monitorPort: number;
  /** Of the process that runs now, or ran last. */
  readonly pid: number;
  readonly alive: boolean;
  readonly version: string;
  readonly storeDir: string;
  readonly configPath: string;
  readonly logPath: string;
  /** Everything that it has logged, over all of its lives. */
  log(): string;
  /** A page of the monitoring port, for example `monitor("jsz")`. */
  monitor(page: string): Promise<unknown>;
  /**
   * Sends a signal, SIGKILL unless told. Resolves when the process has ended, or at once after a signal that ends
   * nothing (SIGSTOP, SIGCONT, SIGUSR1, SIGHUP).
   */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Ends it if it runs (SIGTERM), and starts it again with the same ports and store. */
  restart(): Promise<void>;
  /** Waits until it takes connections and JetStream is ready, for example after SIGCONT. */
  ready(): Promise<void>;
  /** Ends it, and removes what was created for it. */
  stop(): Promise<void>;
}

/** Signals after which nats-server goes on. */
const passing: readonly NodeJS.Signals[] = ["SIGSTOP", "SIGCONT", "SIGUSR1", "SIGHUP"];
/** How long a server may take to end by itself. */
const ending_ms = 10_000;
/** Somebody may take a port between its choice and its use. */
const starts = 5;

export async function startServer(options: ServerOptions = {}): Promise<NatsServer> {
  const { path, version } = await serverBinary();
  const portsGiven = options.port !== undefined && options.monitorPort !== undefined;
  for (let start = 1; ; start++) {
    const server = await prepare(options, path, version);
    try {
      await server.launch();
      return server;
    } catch (error) {
      const taken = /address already in use/.test(server.log());
      await server.stop();
      if (!taken || portsGiven || options.cluster !== undefined || start === starts) throw error;
    }
  }
}

export interface NatsCluster {
  readonly name: string;
  readonly servers: readonly NatsServer[];
  /** Of all servers. */
  readonly urls: readonly string[];
  /** The server that leads JetStream's own group, as the others see it; undefined while there is none. */
  leader(): Promise<NatsServer | undefined>;
  /**
   * Waits until every server that runs is healthy and knows the leader, and so many servers are there. A stream whose
   * own leader was lost may still take a second or two to have another.
   */
  ready(count?: number): Promise<void>;
  stop(): Promise<void>;
}

/** Starts so many servers with routes among them and JetStream clustered. */
export async function startCluster(
  count = 3,
  options: Omit<ServerOptions, "name" | "port" | "monitorPort" | "cluster" | "configFile"> = {},
): Promise<NatsCluster> {
  for (let start = 1; ; start++) {
    const cluster = await prepareCluster(count, options);
    try {
      await cluster.launch();
      await cluster.ready(count);
      return cluster;
    } catch (error) {
      const taken = cluster.servers.some((server) => /address already in use/.test(server.log()));
      await cluster.stop();
      if (!taken || start === starts) throw error;
    }
  }
}

type Launchable<T> = T & { launch(): Promise<void> };

async function prepare(
  options: ServerOptions,
  binary: string,
  version: string,
): Promise<Launchable<NatsServer>> {
  const [freePort = 0, freeMonitorPort = 0] = await freePorts(2);
  const { port = freePort, monitorPort = freeMonitorPort, name = `keyturn-${port}` } = options;
  const folder = temporaryFolder();
  const storeDir = options.storeDir === undefined ? join(folder, "store") : resolve(options.storeDir);
  const logPath = join(folder, "server.log");
  mkdirSync(storeDir, { recursive: true });

  let configPath = join(folder, "nats.conf");
  const args: string[] = [];
  if (options.configFile === undefined) {
    const place = { name, port, monitorPort, storeDir };
    const { cluster } = options;
    writeFileSync(configPath, configText(options, cluster === undefined ? place : { ...place, cluster }));
  } else {
    configPath = resolve(options.configFile);
    args.push("--port", `${port}`, "--http_port", `${monitorPort}`);
  }
  args.push("--config", configPath);

  const monitorUrl = `http://127.0.0.1:${monitorPort}`;
  let child: ServerProcess | undefined;

  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child === undefined) return;
    const { ended } = child;
    child.signal(signal);
    // A stopped process takes no other signal.
    if (signal !== "SIGKILL") child.signal("SIGCONT");
    const impatience = new AbortController();
    const late = wait(ending_ms, "late" as const, { signal: impatience.signal }).catch(() => undefined);
    if ((await Promise.race([ended, late])) === "late") child.signal("SIGKILL");
    impatience.abort();
    await ended;
  };

  const ready = async (): Promise<void> => {
    if (child === undefined) throw new Error(`${name} is not running.`);
    const deadline = performance.now() + (options.ready_ms ?? 20_000);
    let how = "";
    void child.ended.then((text) => {
      how = text;
    });
    for (;;) {
      if (await isHealthy(monitorUrl)) return;
      if (!child.alive) throw new Error(`nats-server ${how}.\n${tailOf(logPath)}`);
      if (performance.now() > deadline)
        throw new Error(`nats-server is not ready in time.\n${tailOf(logPath)}`);
      await wait(20);
    }
  };

  const launch = async (): Promise<void> => {
    // Its working folder is its own, so nothing that it writes with a relative name lands elsewhere.
    child = spawnServer(binary, args, { cwd: folder, env: { ...process.env, ...options.env }, log: logPath });
    await ready();
  };

  return {
    name,
    url: `${options.tls === undefined ? "nats" : "tls"}://127.0.0.1:${port}`,
    port,
    monitorUrl,
    monitorPort,
    version,
    storeDir,
    configPath,
    logPath,
    get pid() {
      return child?.pid ?? 0;
    },
    get alive() {
      return child?.alive ?? false;
    },
    log: () => tailOf(logPath, Number.POSITIVE_INFINITY),
    monitor: (page) => getJson(`${monitorUrl}/${page}`),
    kill: async (signal = "SIGKILL") => {
      if (passing.includes(signal)) child?.signal(signal);
      else await end(signal);
    },
    restart: async () => {
      await end("SIGTERM");
      await launch();
    },
    ready,
    stop: async () => {
      await end("SIGTERM");
      removeFolder(folder);
    },
    launch,
  };
}

async function prepareCluster(
  count: number,
  options: Parameters<typeof startCluster>[1] = {},
): Promise<Launchable<NatsCluster>> {
  const { path, version } = await serverBinary();
  const ports = await freePorts(3 * count);
  const routePorts = ports.slice(2 * count);
  const routes = routePorts.map((port) => `nats://127.0.0.1:${port}`);
  const name = "keyturn";
  const servers: Launchable<NatsServer>[] = [];
  for (let at = 0; at < count; at++) {
    const { storeDir } = options;
    const mine = {
      ...options,
      name: `keyturn-${at + 1}`,
      port: ports[at] ?? 0,
      monitorPort: ports[count + at] ?? 0,
      cluster: { name, port: routePorts[at] ?? 0, routes },
      ...(storeDir === undefined ? {} : { storeDir: join(storeDir, `${at + 1}`) }),
    };
    servers.push(await prepare(mine, path, version));
  }

  return {
    ...clusterOf(name, servers, options.ready_ms),
    launch: async () => {
      await Promise.all(servers.map((server) => server.launch()));
    },
  };
}

/** Servers that were started one by one, and know of each other, as a cluster. */
export function clusterOf(name: string, servers: readonly NatsServer[], ready_ms = 30_000): NatsCluster {
  const leader = async (): Promise<NatsServer | undefined> => {
    const alive = servers.filter((server) => server.alive);
    const seen = (await Promise.all(alive.map(metaLeader))).map((view) => view?.leader);
    // One that has just died may still be named by somebody.
    return alive.find(({ name }) => seen.includes(name));
  };

  const ready = async (expected = servers.filter(({ alive }) => alive).length): Promise<void> => {
    const deadline = performance.now() + ready_ms;
    for (;;) {
      const alive = servers.filter((server) => server.alive);
      const [seen, health] = await Promise.all([
        Promise.all(alive.map(metaLeader)),
        Promise.all(alive.map(({ monitorUrl }) => isHealthy(monitorUrl))),
      ]);
      const names = new Set(alive.map((server) => server.name));
      const agreed = seen.every((view) => view !== undefined && view.leader === seen[0]?.leader);
      if (
        agreed &&
        health.every(Boolean) &&
        names.has(seen[0]?.leader ?? "") &&
        seen.some((view) => (view?.online ?? 0) >= expected)
      ) {
        return;
      }
      if (performance.now() > deadline) {
        throw new Error(
          `The cluster has no leader in time.\n${alive.map((server) => tailOf(server.logPath)).join("\n")}`,
        );
      }
      await wait(50);
    }
  };

  return {
    name,
    servers,
    urls: servers.map(({ url }) => url),
    leader,
    ready,
    stop: async () => {
      await Promise.all(servers.map((server) => server.stop()));
    },
  };
}

interface MetaView {
  readonly leader: string;
  /** Servers that the leader sees, itself included; only the leader knows. */
  readonly online: number;
}

interface JetStreamPage {
  readonly meta_cluster?: {
    readonly leader?: string;
    readonly replicas?: readonly { readonly current: boolean; readonly offline?: boolean }[];
  };
}

/** Who leads JetStream's own group, as this server sees it. */
async function metaLeader(server: NatsServer): Promise<MetaView | undefined> {
  try {
    const { meta_cluster } = (await server.monitor("jsz")) as JetStreamPage;
    if (meta_cluster?.leader === undefined || meta_cluster.leader === "") return undefined;
    const online = (meta_cluster.replicas ?? []).filter(
      ({ current, offline }) => current && offline !== true,
    );
    return { leader: meta_cluster.leader, online: online.length + 1 };
  } catch {
    return undefined;
  }
}

async function isHealthy(monitorUrl: string): Promise<boolean> {
  try {
    const answer = await fetch(`${monitorUrl}/healthz`, { signal: AbortSignal.timeout(2_000) });
    await answer.body?.cancel();
    return answer.ok;
  } catch {
    return false;
  }
}

async function getJson(url: string): Promise<unknown> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(5_000) });
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}: ${await answer.text()}`);
  return answer.json();
}
