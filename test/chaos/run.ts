/**
 * One chaos run: a stage, workloads, a nemesis; then healed, read, killed as a whole, read again, and checked.
 *
 * Owns the order of these and the list of what did not hold. Talks to all the parts; prints nothing by itself.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectPlain, errors, headers, type NatsConnection } from "@nats-io/transport-node";
import { type ErrorCode, KeyturnError, nodeDefaults } from "../../runtime/index.ts";
import { Prng } from "../../runtime/testing/simulator/index.ts";
import { Meter } from "./meter.ts";
import { Nemesis } from "./nemesis.ts";
import { Stage, type StageNode } from "./stage.ts";
import { alarms } from "./workloads/alarm.ts";
import { bank } from "./workloads/bank.ts";
import { counters } from "./workloads/counter.ts";
import { lists } from "./workloads/list.ts";
import { registers } from "./workloads/register.ts";
import { type ChaosContext, type ChaosWorkload, type Check, SERVED_WITHIN_MS } from "./workloads/workload.ts";

export interface ChaosOptions {
  readonly seed: number;
  readonly minutes: number;
  readonly nodes: number;
  readonly servers: 1 | 3;
  readonly dist: string;
  readonly logs: string;
  /** Kinds of faults to throw; all by default. */
  readonly only?: readonly string[] | undefined;
  /** What happens, for people, as it happens. */
  readonly say: (text: string) => void;
}

export interface ChaosResult {
  readonly meter: Meter;
  readonly checks: readonly Check[];
  /** What is no promise of one workload: nodes that died, were not fenced, or did not come back. */
  readonly violations: readonly string[];
  readonly lease_ms: number;
  readonly duration_ms: number;
}

const CLIENTS = 3;
const PLAIN_TIMEOUT_MS = 2_000;
/** A stranger's message comes so often. */
const NOISE_MS = 700;
/** What the server holds for one connection (`max_pending`) and what the proxy and the sockets take. */
const FLOOD_BYTES = 96 * 1024 * 1024;
const FLOOD_MESSAGE = 900 * 1024;

const makers = [registers, counters, lists, bank, alarms];

export async function chaos(options: ChaosOptions): Promise<ChaosResult> {
  const { say } = options;
  const from_ms = performance.now();
  const violations: string[] = [];
  const violated = (text: string): void => {
    violations.push(text);
    say(`VIOLATION ${text}`);
  };
  const stage = await Stage.open(options);
  try {
    const meter = new Meter();
    const checks = await play(stage, meter, options, violated);
    violations.push(...stage.deaths);
    return {
      meter,
      checks,
      violations,
      lease_ms: nodeDefaults.lease_ms,
      duration_ms: performance.now() - from_ms,
    };
  } finally {
    await stage.close();
  }
}

async function play(
  stage: Stage,
  meter: Meter,
  options: ChaosOptions,
  violated: (text: string) => void,
): Promise<readonly Check[]> {
  const { seed, minutes, nodes, say, only } = options;
  const random = new Prng(seed);
  const names = Array.from({ length: nodes }, (_, at) => `n${at + 1}`);
  stage.onEvent = ({ name }, event) => {
    if (event.event === "fenced" || event.event === "rejoined") say(`${name}: ${event.event}`);
    if (event.event === "shard_failed") violated(`${name}: ${JSON.stringify(event)}`);
  };
  await stage.startAll(names);
  for (let at = 1; at <= CLIENTS; at++) await stage.addClient(`client ${at}`);
  const steady = await stage.steady();
  const stranger = await connectPlain({
    servers: stage.urls,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 200,
  });
  say(`${nodes} nodes, ${stage.servers.length} nats-server, seed ${seed}: ${minutes} minutes`);

  let ending = false;
  const context: ChaosContext = {
    random: random.split("workloads"),
    clients: stage.clients.map(({ client }) => client),
    steady,
    meter,
    plain: (subject, payload, requestId) => askPlain(stranger, subject, payload, requestId),
    get ending() {
      return ending;
    },
  };
  const workloads = makers.map((make) => make(context));
  const running = workloads.flatMap(({ processes }) => processes.map((run) => run()));
  running.push(noise(stranger, context));
  const nemesis = new Nemesis({
    stage,
    random: random.split("nemesis"),
    meter,
    lease_ms: nodeDefaults.lease_ms,
    say,
    violated,
    flood: (node) => flood(stranger, node),
    only,
  });
  // A workload that throws would otherwise be noticed at the end only.
  const failed = Promise.all(running).then(() => undefined);
  failed.catch(() => nemesis.stop());
  await nemesis.run(minutes * 60_000);
  for (const { proxy } of [...stage.nodes.values(), ...stage.clients]) proxy.heal();
  say("all is healed; the clients finish what they have begun");
  ending = true;
  await failed;
  await settled(stage);
  await healthy(stage, violated);
  const checks = await finish(stage, names, workloads, say, violated);
  await stranger.close();
  return checks;
}

/** Reads what is left, checks it, and compares it with what is left after everything was killed at once. */
async function finish(
  stage: Stage,
  names: readonly string[],
  workloads: readonly ChaosWorkload[],
  say: (text: string) => void,
  violated: (text: string) => void,
): Promise<readonly Check[]> {
  say("reading what is left");
  const before = await Promise.all(workloads.map((workload) => workload.finals()));
  const checks = workloads.flatMap((workload) => workload.check());
  say("SIGKILL of everything; started again, and read once more");
  await Promise.all([
    ...names.map((name) => stage.kill(name)),
    ...stage.servers.map((server) => server.kill()),
  ]);
  await Promise.all(stage.servers.map((server) => server.restart()));
  await stage.startAll(names);
  const after = await Promise.all(workloads.map((workload) => workload.finals()));
  for (const [at, { name }] of workloads.entries()) {
    for (const [key, value] of before[at] ?? []) {
      const now = after[at]?.get(key);
      if (now !== value)
        violated(`${name} ${key} was ${value}, and after everything was killed it is ${now}`);
    }
  }
  for (const name of names) {
    const { code, signal } = await stage.end(name);
    if (code !== 0)
      violated(`${name} ended with ${code ?? signal} in the end\n${stage.node(name).process.tail()}`);
  }
  return checks;
}

/** Waits until nothing that was begun is on its way any more. */
async function settled(stage: Stage): Promise<void> {
  const until_ms = performance.now() + SERVED_WITHIN_MS * 2;
  const clients = [...stage.clients.map(({ client }) => client), await stage.steady()];
  while (clients.some(({ inFlight }) => inFlight > 0)) {
    if (performance.now() > until_ms) {
      const left = clients.map(({ inFlight }) => inFlight).join(", ");
      throw new Error(`Healed two minutes ago, and requests of the clients are still not settled: ${left}.`);
    }
    await sleep(50);
  }
}

/** Every node must say that it is ready. */
async function healthy(stage: Stage, violated: (text: string) => void): Promise<void> {
  const until_ms = performance.now() + SERVED_WITHIN_MS;
  for (const { name, process } of stage.nodes.values()) {
    while (true) {
      const answer = await fetch(`${process.health}/healthz`).catch(() => undefined);
      const text = (await answer?.text()) ?? "no answer";
      if (answer?.ok === true) break;
      if (performance.now() > until_ms) {
        violated(`${name} is not healthy again: ${text}`);
        break;
      }
      await sleep(100);
    }
  }
}

/** Asks as a client that is not ours. */
async function askPlain(
  nc: NatsConnection,
  subject: string,
  payload: string,
  requestId: string | undefined,
): Promise<string> {
  const given = headers();
  if (requestId !== undefined) given.set("Keyturn-Request-Id", requestId);
  let text: string;
  try {
    text = (await nc.request(subject, payload, { timeout: PLAIN_TIMEOUT_MS, headers: given })).string();
  } catch (cause) {
    // With nobody there nothing was asked; without an answer it may be on its way.
    const nobody = cause instanceof errors.RequestError && cause.isNoResponders();
    throw new KeyturnError(nobody ? "overloaded" : "unreachable", String(cause), { cause });
  }
  const { error } = JSON.parse(text) as { error?: { code: ErrorCode; message: string } };
  if (error !== undefined) throw new KeyturnError(error.code, error.message);
  return text;
}

/** Strangers: bytes that mean nothing, on subjects of the nodes. */
async function noise(nc: NatsConnection, context: ChaosContext): Promise<void> {
  const { random } = context;
  while (!context.ending) {
    const bytes = randomBytes(random.whole(1, 2_000));
    // Some begin as frames of the version that is spoken.
    if (random.chance(0.5)) bytes[0] = 1;
    nc.publish(`keyturn.${random.pick(["shard", "peer"])}.${random.below(64)}`, bytes);
    await sleep(NOISE_MS);
  }
}

async function flood(nc: NatsConnection, { process }: StageNode): Promise<void> {
  const lives = process.events.filter(({ event }) => event === "ready" || event === "rejoined");
  const incarnation = lives.at(-1)?.incarnation as string;
  const bytes = randomBytes(FLOOD_MESSAGE);
  for (let sent = 0; sent < FLOOD_BYTES; sent += bytes.length) {
    nc.publish(`keyturn.node.${incarnation}`, bytes);
    // Without the server, which may be another fault's, there is nothing to flood.
    await nc.flush().catch(() => undefined);
  }
}
