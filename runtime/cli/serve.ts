/**
 * One node's life in this process: waiting for its store, serving, stopping.
 *
 * Owns the node and the store. Talks to the console; it is told to stop by a signal.
 *
 *   | from     | to       | when
 *   | waiting  | serving  | the store is there, and the node has joined
 *   | waiting  | over     | told to stop, or it took too long
 *   | serving  | stopping | told to stop
 *   | stopping | over     | the shards are handed over, or that took too long
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { KeyturnNode, NodeOptions } from "../node.ts";
import { startNode } from "../node.ts";
import type { NodeMetrics } from "../engine/metrics.ts";
import type { HttpServer } from "../http/index.ts";
import type { NodeHealth } from "../health.ts";
import type { Store } from "../ports/index.ts";
import { serveStore, type StoreServer } from "../stores/socket/index.ts";
import { sourcesAmong } from "../streams/sources/define.ts";
import { textOf } from "../words/errors.ts";
import type { Console } from "./console.ts";
import type { HealthReport } from "./health-server.ts";
import type { ServeHttp } from "./http.ts";
import { Observing } from "./observing.ts";
import { asReading } from "./reading.ts";
import { DONE, FAILED } from "./shell.ts";
import { withinWait } from "./wait.ts";

export interface ServeOptions {
  /** Opens the store; what goes wrong with it later is told to `troubled`. */
  readonly open: (troubled: (task: string, error: unknown) => void) => Promise<Store>;
  /** Where the store is, for people. */
  readonly where: string;
  readonly node: Omit<NodeOptions, "store" | "observer">;
  /** Folder of an embedded store: there other commands reach this node. */
  readonly folder?: string | undefined;
  /** How long to wait for a store that is not there, in milliseconds. */
  readonly wait_ms: number;
  /** How long stopping may take. */
  readonly grace_ms: number;
  /** Serves the node over HTTP too. */
  readonly http?: ServeHttp | undefined;
  /** Address of the health server, for the line that says that the node is ready. */
  readonly health?: string | undefined;
}

/** What is told to whoever supervises or asks. */
export interface ServeHooks {
  /** What is so now, whenever it was looked: about once a second. */
  onHealth(health: HealthReport): void;
  /** The node is there; its metrics can be read from now on. */
  onMetrics?(read: () => NodeMetrics): void;
  onReady(): void;
}

const LOOK_MS = 1_000;

/**
 * Serves until told to stop.
 * @returns the exit code
 * @throws Failure and KeyturnError if the node cannot be started
 */
export async function serve(
  options: ServeOptions,
  console: Console,
  stop: AbortSignal,
  hooks: ServeHooks,
): Promise<number> {
  hooks.onHealth(waiting(`It waits for ${options.where}.`));
  let node: KeyturnNode | undefined;
  const drained = new AbortController();
  const observing = new Observing(
    console,
    () => node?.shards.length ?? 0,
    () => drained.abort(),
  );
  const { wait_ms, where } = options;
  node = await withinWait({ wait_ms, where, console, stop }, () => startOn(options, observing));
  if (node === undefined) {
    console.say("stopped", { graceful: true }, "Stopped before it had begun.");
    return DONE;
  }
  const serving = node;
  const http = await httpOn(serving, options, console);
  const local =
    options.folder === undefined ? undefined : await serveLocally(serving, options.folder, console);
  ready(serving, options, console, http?.url);
  observing.ready();
  hooks.onMetrics?.(() => serving.metrics());
  hooks.onReady();
  const looking = look(node, console, hooks);
  try {
    await aborted(AbortSignal.any([stop, drained.signal]));
    // What is asked now is asked of others.
    await http?.close();
    // While the folder's lock is held: who has it next finds no socket of this process.
    await local?.close();
    return await stopWithin(node, options.grace_ms, observing, console);
  } finally {
    looking.end();
  }
}

/** Opens the store and starts the node on it. */
async function startOn(options: ServeOptions, observer: Observing): Promise<KeyturnNode> {
  const store = await options.open(observer.troubled);
  try {
    const sources = sourcesAmong(options.node.actors);
    return await startNode({ sources, ...options.node, store, observer });
  } catch (error) {
    await store.close().catch(() => undefined);
    throw error;
  }
}

/** Serves it over HTTP, or stops it if that cannot be. */
async function httpOn(
  node: KeyturnNode,
  { http }: ServeOptions,
  console: Console,
): Promise<HttpServer | undefined> {
  if (http === undefined) return undefined;
  try {
    const server: Promise<HttpServer> = http(node, console);
    // Nobody asked anything of an actor: no outcome is unknown.
    return await asReading(server);
  } catch (error) {
    await node.stop();
    throw error;
  }
}

/** What cannot be served to other commands is no reason not to serve. */
async function serveLocally(
  { store }: KeyturnNode,
  folder: string,
  console: Console,
): Promise<StoreServer | undefined> {
  try {
    return await serveStore(store, folder);
  } catch (error) {
    console.note(`Other commands cannot reach this node: ${textOf(error)}`, "warn");
    return undefined;
  }
}

function ready(
  node: KeyturnNode,
  { health, node: { actors } }: ServeOptions,
  console: Console,
  http: string | undefined,
): void {
  const { store, shards, shardsOfApp } = node;
  const types = actors.map(({ type }) => type);
  console.say(
    "ready",
    {
      incarnation: node.incarnation.name,
      pid: process.pid,
      store: store.description,
      durability: store.durability,
      durabilityNote: noteOf(store),
      shards,
      shardsOfApp,
      types,
      ...(health === undefined ? {} : { health }),
      ...(http === undefined ? {} : { http }),
    },
    `Ready: serves ${shards.length} of ${shardsOfApp} shards, hosts ${types.join(", ")}.`,
  );
  console.note(`The store is ${store.description}.`);
  console.note(noteOf(store));
  if (health !== undefined) console.note(`Health: ${health}/healthz, metrics: ${health}/metrics`);
  if (http !== undefined) {
    console.note(`HTTP: ${http}, described at ${http}/openapi.json`);
    console.note(`Dashboard: ${http}/dashboard/`);
  }
}

function noteOf({ durabilityNote, durability }: Store): string {
  if (durabilityNote !== undefined) return durabilityNote;
  return durability === "fsync"
    ? "Commits are flushed to disk before they are answered (fsync)."
    : "Commits survive a killed process, not a power loss.";
}

function waiting(text: string): HealthReport & { checks: object } {
  return { live: true, ready: false, checks: { start: { ok: false, text } } };
}

/** Looks at the node's health once a second, and says when it turns. */
function look(node: KeyturnNode, console: Console, hooks: ServeHooks): { end(): void } {
  let wasReady = true;
  const once = (): void => {
    const health = node.health();
    hooks.onHealth(health);
    if (health.ready === wasReady) return;
    wasReady = health.ready;
    if (health.ready) console.say("health", health, "Ready again.");
    else console.say("health", health, `Not ready: ${faultsOf(health)}`, "warn");
  };
  once();
  const timer = setInterval(once, LOOK_MS);
  return { end: () => clearInterval(timer) };
}

function faultsOf({ checks }: NodeHealth): string {
  return Object.values(checks)
    .filter(({ ok }) => !ok)
    .map(({ text }) => text)
    .join(" ");
}

async function stopWithin(
  node: KeyturnNode,
  grace_ms: number,
  observing: Observing,
  console: Console,
): Promise<number> {
  console.say(
    "stopping",
    { serving: node.shards.length },
    `Stopping: hands ${node.shards.length} shards over.`,
  );
  const tooLong = new AbortController();
  try {
    const stopped = await Promise.race([
      node.stop().then(() => true),
      sleep(grace_ms, false, { signal: tooLong.signal }),
    ]);
    observing.end();
    if (stopped) {
      console.say("stopped", { graceful: true }, "Stopped.");
      return DONE;
    }
    const text = `Not stopped within ${grace_ms / 1_000} s; given up. What it had is served elsewhere when its lease has run out.`;
    console.say("stopped", { graceful: false }, text, "error");
    return FAILED;
  } catch (error) {
    console.say(
      "stopped",
      { graceful: false, reason: textOf(error) },
      `Stopped with a failure: ${textOf(error)}`,
      "error",
    );
    return FAILED;
  } finally {
    tooLong.abort();
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
