/**
 * The faults that a chaos run throws.
 *
 * Owns the catalogue. A fault begins, lasts, and is healed by itself; what its victim must do afterwards, it waits for,
 * and says if that does not come. Talks to the stage.
 *
 * Invariants:
 * 1. A victim is the victim of one fault at a time, and of the nodes one is always left alone.
 * 2. When `run` has resolved, its fault is healed: the node serves again, or has gone as it should.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Prng } from "../../runtime/testing/simulator/index.ts";
import type { NatsServer } from "../support/nats-server.ts";
import type { AfterCut, Direction, TcpProxy } from "./proxy.ts";
import type { Stage, StageNode } from "./stage.ts";

export interface FaultContext {
  readonly stage: Stage;
  readonly random: Prng;
  readonly lease_ms: number;
  /** Nodes that no fault has at the moment. */
  readonly freeNodes: readonly StageNode[];
  /** Says what is done, for people. */
  say(text: string): void;
  /** Something that must not be. */
  violated(text: string): void;
  /**
   * Watches from now on whether anything else is thrown that may excuse what a node does not do: a fault of the servers,
   * or of the only node that could have done its part.
   */
  excuses(victim: string): () => boolean;
  /** Bytes that a node does not read fast enough. */
  flood(node: StageNode): Promise<void>;
}

export interface Thrown {
  /** Nodes, clients and servers that this fault has. */
  readonly victims: readonly string[];
  run(): Promise<void>;
}

export interface Fault {
  readonly kind: string;
  /** How often it is drawn, beside the others. */
  readonly weight: number;
  /** Prepares one; undefined if there is no victim left for it. */
  prepare(context: FaultContext): Thrown | undefined;
}

/** How long a node may take to be fenced and to join again, once it could. */
const REJOIN_MS = 20_000;
const MINUTES_2 = 120_000;

/** Until then the lease of who was killed has run out, and the shards are served elsewhere. */
function takeOver(lease_ms: number): number {
  return lease_ms + 2_000;
}

/** A fault of one node that no other fault has. */
function ofNode(
  kind: string,
  weight: number,
  run: (node: StageNode, context: FaultContext) => Promise<void>,
): Fault {
  return {
    kind,
    weight,
    prepare(context) {
      // One is always left alone.
      if (context.freeNodes.length < 2) return undefined;
      const node = context.random.pick(context.freeNodes);
      return { victims: [node.name], run: () => run(node, context) };
    },
  };
}

function ofServer(
  kind: string,
  weight: number,
  run: (server: NatsServer, context: FaultContext) => Promise<void>,
): Fault {
  return {
    kind,
    weight,
    prepare(context) {
      // "servers" is one victim: of a cluster of three only one may be away.
      const server = context.random.pick(context.stage.servers);
      return { victims: ["servers"], run: () => run(server, context) };
    },
  };
}

const killNode = ofNode("SIGKILL of a node", 4, async (node, { stage, random, say, lease_ms }) => {
  // Sometimes it is back before anybody has missed it.
  const away_ms = random.chance(0.4) ? random.whole(0, 500) : random.whole(lease_ms, lease_ms * 2);
  say(`SIGKILL ${node.name}, started again after ${seconds(away_ms)}`);
  await stage.kill(node.name);
  const taken = sleep(takeOver(lease_ms));
  await sleep(away_ms);
  await stage.start(node.name);
  await taken;
});

const endNode = ofNode("SIGTERM of a node", 3, async (node, context) => {
  const away_ms = context.random.whole(0, 6_000);
  context.say(`SIGTERM ${node.name}, started again after ${seconds(away_ms)}`);
  await end(node.name, context);
  await sleep(away_ms);
  await context.stage.start(node.name);
});

/** Ends a node with SIGTERM, which it must do by handing over and with the exit code 0. */
async function end(name: string, { stage, violated, excuses }: FaultContext): Promise<void> {
  const isExcused = excuses(name);
  const { process } = stage.node(name);
  const { code, signal } = await stage.end(name);
  if (code !== 0 && !isExcused())
    violated(`${name} ended with ${code ?? signal} after SIGTERM\n${process.tail()}`);
}

const pauseShort = ofNode("SIGSTOP within the lease", 2, async (node, { random, say, lease_ms }) => {
  const paused_ms = random.whole(100, Math.round(lease_ms * 0.6));
  say(`SIGSTOP ${node.name} for ${seconds(paused_ms)}`);
  node.process.signal("SIGSTOP");
  await sleep(paused_ms);
  node.process.signal("SIGCONT");
});

const pauseLong = ofNode("SIGSTOP past the lease", 4, async (node, context) => {
  const { random, say, violated, lease_ms } = context;
  const paused_ms = random.whole(lease_ms * 2, lease_ms * 4);
  say(`SIGSTOP ${node.name} for ${seconds(paused_ms)}, past its lease`);
  const from = node.process.events.length;
  const isExcused = context.excuses(node.name);
  node.process.signal("SIGSTOP");
  await sleep(paused_ms);
  const must = !isExcused();
  node.process.signal("SIGCONT");
  const wait = { from, patience_ms: REJOIN_MS };
  try {
    await node.process.until("fenced", must ? wait : { from, patience_ms: 1_000 });
    say(`${node.name} was fenced and says so`);
  } catch (error) {
    if (must) violated(`${node.name} slept past its lease and was not fenced: ${textOf(error)}`);
    return;
  }
  try {
    await node.process.until("rejoined", { from, patience_ms: MINUTES_2 });
  } catch (error) {
    violated(`${node.name} did not join again: ${textOf(error)}`);
  }
});

const joinNode: Fault = {
  kind: "one more node for a while",
  weight: 2,
  prepare(context) {
    const { stage, random, say } = context;
    const name = "guest";
    if (stage.nodes.has(name)) return undefined;
    return {
      victims: [name],
      async run() {
        const stays_ms = random.whole(4_000, 15_000);
        say(`${name} joins for ${seconds(stays_ms)}`);
        await stage.start(name);
        await sleep(stays_ms);
        await end(name, context);
        await stage.remove(name);
      },
    };
  },
};

const killAll: Fault = {
  kind: "SIGKILL of all nodes",
  weight: 1,
  prepare({ stage, freeNodes, say, lease_ms }) {
    if (freeNodes.length < stage.nodes.size) return undefined;
    const names = freeNodes.map(({ name }) => name);
    return {
      victims: names,
      async run() {
        say("SIGKILL of all nodes, started again at once");
        await Promise.all(names.map((name) => stage.kill(name)));
        const taken = sleep(takeOver(lease_ms));
        await stage.startAll(names);
        await taken;
      },
    };
  },
};

const killServer = ofServer("SIGKILL of nats-server", 2, async (server, { stage, random, say }) => {
  const away_ms = awayOf(stage, random);
  say(`SIGKILL nats-server ${server.name}, started again after ${seconds(away_ms)}`);
  await server.kill("SIGKILL");
  await sleep(away_ms);
  await server.restart();
});

const restartServer = ofServer("restart of nats-server", 2, async (server, { stage, random, say }) => {
  const away_ms = awayOf(stage, random);
  say(`SIGTERM nats-server ${server.name}, started again after ${seconds(away_ms)}`);
  await server.kill("SIGTERM");
  await sleep(away_ms);
  await server.restart();
});

const pauseServer = ofServer("SIGSTOP of nats-server", 1, async (server, { random, say }) => {
  const paused_ms = random.whole(500, 12_000);
  say(`SIGSTOP nats-server ${server.name} for ${seconds(paused_ms)}`);
  await server.kill("SIGSTOP");
  await sleep(paused_ms);
  await server.kill("SIGCONT");
  await server.ready();
});

/** Without a cluster nothing goes on meanwhile, so it is not made long. */
function awayOf(stage: Stage, random: Prng): number {
  return stage.servers.length > 1 ? random.whole(500, 10_000) : random.whole(0, 3_000);
}

const cutNode = ofNode("partition of a node", 5, async (node, { random, say, lease_ms }) => {
  const long = random.chance(0.6);
  const cut_ms = long ? random.whole(lease_ms * 1.5, lease_ms * 3) : random.whole(200, lease_ms);
  await cut(node.name, node.proxy, cut_ms, random, say);
});

const cutClient: Fault = {
  kind: "partition of a client",
  weight: 2,
  prepare({ stage, random, say }) {
    const { name, proxy } = random.pick(stage.clients);
    return { victims: [name], run: () => cut(name, proxy, random.whole(300, 12_000), random, say) };
  },
};

async function cut(
  name: string,
  proxy: TcpProxy,
  cut_ms: number,
  random: Prng,
  say: FaultContext["say"],
): Promise<void> {
  const directions = random.pick<readonly Direction[]>([["up", "down"], ["up"], ["down"]]);
  const after: AfterCut = random.chance(0.5) ? "late" : "reset";
  const way =
    directions.length === 2 ? "both ways" : directions[0] === "up" ? "towards the server" : "from the server";
  const end = after === "late" ? "what was held comes late" : "what was held is lost";
  say(`cut off ${name} ${way} for ${seconds(cut_ms)}; ${end}`);
  proxy.cut(directions);
  await sleep(cut_ms);
  proxy.heal(after);
}

const resetNode = ofNode("connections reset", 1, async (node, { say }) => {
  say(`reset the connection of ${node.name}`);
  node.proxy.reset();
});

const slowNode = ofNode("slow network of a node", 2, async (node, { random, say }) => {
  const [delay_ms, jitter_ms, slow_ms] = [
    random.whole(5, 150),
    random.whole(0, 50),
    random.whole(3_000, 9_000),
  ];
  say(`${node.name} is ${delay_ms} to ${delay_ms + jitter_ms} ms away, each way, for ${seconds(slow_ms)}`);
  node.proxy.delay(delay_ms, jitter_ms);
  await sleep(slow_ms);
  node.proxy.heal();
});

const slowConsumer = ofNode("slow consumer", 1, async (node, { random, say, flood }) => {
  const slow_ms = random.whole(5_000, 12_000);
  say(`${node.name} reads 100 KB/s for ${seconds(slow_ms)}, and more than the server holds for it is sent`);
  node.proxy.throttle("down", 100_000);
  await flood(node);
  await sleep(slow_ms);
  node.proxy.heal("reset");
});

export const faults: readonly Fault[] = [
  killNode,
  endNode,
  pauseShort,
  pauseLong,
  joinNode,
  killAll,
  killServer,
  restartServer,
  pauseServer,
  cutNode,
  cutClient,
  resetNode,
  slowNode,
  slowConsumer,
];

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
