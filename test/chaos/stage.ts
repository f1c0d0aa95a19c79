/**
 * The stage of a chaos run or an end-to-end test: NATS servers, nodes as processes, clients, and a proxy before each.
 *
 * Owns them all, from `open` to `close`, and the folder with their logs. Talks to processes and sockets. Knows of no
 * fault: whoever throws one asks for the parts.
 *
 * Invariants:
 * 1. A node and a client of the stage reach NATS through their own proxy only. The steady client and whoever takes
 *    `urls` reach it directly, so what they see is not the network's doing.
 * 2. A node that ends although nobody ended it is noted in `deaths`.
 */
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type ConnectedClient, connect } from "../../runtime/index.ts";
import { type NatsCluster, type NatsServer, startCluster, startServer } from "../support/nats-server.ts";
import { NodeProcess } from "./node-process.ts";
import { TcpProxy } from "./proxy.ts";

export interface StageOptions {
  /** Folder of the compiled project. */
  readonly dist: string;
  /** Folder for the logs, which must exist. */
  readonly logs: string;
  /** One server, on the `nats.conf` of the project, or a cluster of three. */
  readonly servers?: 1 | 3;
  /** Clients behind proxies. */
  readonly clients?: number;
  /** Bounds of every node that differ from the defaults. */
  readonly settings?: Readonly<Record<string, number>>;
  /** More options for every node's command. */
  readonly args?: readonly string[];
}

/** A node by its name: one process after another behind one proxy. */
export interface StageNode {
  readonly name: string;
  readonly proxy: TcpProxy;
  /** The process that runs now, or ran last. */
  process: NodeProcess;
  /** It is being ended, so its end is no surprise. */
  ending: boolean;
}

export interface StageClient {
  readonly name: string;
  readonly proxy: TcpProxy;
  readonly client: ConnectedClient;
}

const root = findRoot();

export class Stage {
  readonly servers: readonly NatsServer[];
  readonly clients: StageClient[] = [];
  readonly nodes = new Map<string, StageNode>();
  /** Nodes that ended although nobody had ended them. */
  readonly deaths: string[] = [];
  /** Told of what nodes say. */
  onEvent: (node: StageNode, event: NodeProcess["events"][number]) => void = () => undefined;
  readonly #options: StageOptions;
  readonly #cluster: NatsCluster | undefined;
  #steady: ConnectedClient | undefined;

  private constructor(
    options: StageOptions,
    servers: readonly NatsServer[],
    cluster: NatsCluster | undefined,
  ) {
    this.#options = options;
    this.servers = servers;
    this.#cluster = cluster;
  }

  static async open(options: StageOptions): Promise<Stage> {
    if ((options.servers ?? 1) === 1) {
      return new Stage(options, [await startServer({ configFile: join(root, "nats.conf") })], undefined);
    }
    // Told of the other servers, a node would go there past its proxy.
    const cluster = await startCluster(3, { advertise: false });
    return new Stage(options, cluster.servers, cluster);
  }

  /** Past all proxies. */
  get urls(): string[] {
    return this.servers.map(({ url }) => url);
  }

  get logs(): string {
    return this.#options.logs;
  }

  /** A client that reaches NATS directly. */
  async steady(): Promise<ConnectedClient> {
    this.#steady ??= await connect({ nats: { servers: this.urls, name: "steady" } });
    return this.#steady;
  }

  node(name: string): StageNode {
    const node = this.nodes.get(name);
    if (node === undefined) throw new Error(`There is no node ${name}.`);
    return node;
  }

  /** Starts a node, or one that has ended once more under its old name, and waits until it serves. */
  async start(name: string): Promise<StageNode> {
    const node = await this.launch(name);
    await node.process.until("ready");
    return node;
  }

  /** Starts several at once, and waits until all serve. */
  startAll(names: readonly string[]): Promise<StageNode[]> {
    return Promise.all(names.map((name) => this.start(name)));
  }

  /** Starts a node, and does not wait. */
  async launch(name: string): Promise<StageNode> {
    const before = this.nodes.get(name);
    if (before?.process.alive === true) throw new Error(`The node ${name} runs.`);
    const proxy = before?.proxy ?? (await TcpProxy.start(this.servers.map(({ port }) => port)));
    const { dist, logs, settings, args = [], servers = 1 } = this.#options;
    const process = new NodeProcess({
      dist,
      name,
      logs,
      servers: proxy.addresses,
      args: ["--replicas", `${servers}`, "--health", "127.0.0.1:0", ...args],
      ...(settings === undefined ? {} : { settings }),
    });
    const node: StageNode = before ?? { name, proxy, process, ending: false };
    node.process = process;
    node.ending = false;
    this.nodes.set(name, node);
    process.onEvent = (event) => this.onEvent(node, event);
    void process.ended.then(({ code, signal }) => {
      if (node.process === process && !node.ending)
        this.deaths.push(`${name} ended by itself with ${code ?? signal}`);
    });
    return node;
  }

  async kill(name: string): Promise<void> {
    const node = this.node(name);
    node.ending = true;
    await node.process.kill();
  }

  /** Ends a node with SIGTERM. */
  async end(name: string): Promise<Awaited<NodeProcess["ended"]>> {
    const node = this.node(name);
    node.ending = true;
    return await node.process.stop();
  }

  /** Takes a node that has ended off the stage. */
  async remove(name: string): Promise<void> {
    const node = this.node(name);
    if (node.process.alive) throw new Error(`The node ${name} runs.`);
    this.nodes.delete(name);
    await node.proxy.close();
  }

  /** Adds a client behind a proxy of its own. */
  async addClient(name: string): Promise<StageClient> {
    const proxy = await TcpProxy.start(this.servers.map(({ port }) => port));
    const client = await connect({ nats: { servers: proxy.addresses, name } });
    const added = { name, proxy, client };
    this.clients.push(added);
    return added;
  }

  /** Ends everything. Afterwards the servers' logs lie beside the nodes'. */
  async close(): Promise<void> {
    for (const { client } of this.clients) await client.disconnect();
    await this.#steady?.disconnect();
    const nodes = [...this.nodes.values()];
    for (const node of nodes) {
      node.proxy.heal();
      node.ending = true;
    }
    await Promise.all(nodes.map((node) => node.process.kill()));
    await Promise.all([...nodes, ...this.clients].map(({ proxy }) => proxy.close()));
    this.saveServerLogs();
    if (this.#cluster !== undefined) await this.#cluster.stop();
    else await this.servers[0]?.stop();
  }

  saveServerLogs(): void {
    mkdirSync(this.logs, { recursive: true });
    for (const { name, logPath } of this.servers) {
      if (existsSync(logPath)) copyFileSync(logPath, join(this.logs, `${name}.log`));
    }
  }
}

/** The project's folder, also for the compiled form of this file. */
function findRoot(): string {
  for (let folder = new URL(".", import.meta.url); ; folder = new URL("..", folder)) {
    if (existsSync(new URL("nats.conf", folder))) return fileURLToPath(folder);
    if (folder.pathname === "/") throw new Error("There is no nats.conf above this file.");
  }
}
