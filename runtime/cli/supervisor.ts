/**
 * Several node processes on one machine: `--processes N`.
 *
 * Owns the child processes, their names and their restarts. Talks to them over Node's channel between processes, so
 * that a terminal's Ctrl-C, which reaches parent and children alike, is one request to stop and not two.
 *
 *   | from     | to       | when
 *   | starting | ready    | the child says so
 *   | starting | over     | it ends with a failure before any child was ever ready: the command has failed
 *   | starting | paused   | it ends otherwise
 *   | ready    | paused   | it ends, however it ends; it is killed if it says that only a restart helps, or nothing at all
 *   | paused   | starting | its pause is over; pauses double, and begin anew after a life of `STEADY_MS`
 *   | ready    | over     | it says that it was asked to leave, and has ended
 *   | any      | over     | told to stop, and it has ended
 *
 * Invariant: when `supervise` resolves, no child runs.
 */
import type { ChildProcess } from "node:child_process";
import type { NodeMetrics } from "../engine/metrics.ts";
import type { Console } from "./console.ts";
import type { HealthReport } from "./health-server.ts";
import { DONE, FAILED, WRONG } from "./shell.ts";

const PAUSE_FIRST_MS = 500;
const PAUSE_LAST_MS = 30_000;
const STEADY_MS = 60_000;
const LOOK_MS = 5_000;
/** A child that says nothing for so long is stuck. Longer than a pause that it may come back from by itself. */
const SILENT_MS = 120_000;
/** How much longer than its own grace a child may take before it is killed. */
const KILL_MS = 5_000;

/** From a child. */
export type ChildMessage =
  | { readonly kind: "ready" }
  /** It was asked to leave, has handed its shards over, and ends. */
  | { readonly kind: "left" }
  | { readonly kind: "health"; readonly health: HealthReport; readonly metrics?: NodeMetrics | undefined };

/** To a child. */
export type ParentMessage = { readonly kind: "stop" };

export interface SupervisorOptions {
  readonly names: readonly string[];
  readonly grace_ms: number;
  start(name: string): ChildProcess;
}

interface Child {
  readonly name: string;
  state: "starting" | "ready" | "paused" | "over";
  process: ChildProcess | undefined;
  health: HealthReport | undefined;
  /** As of its last word, up to a second old. */
  metrics: NodeMetrics | undefined;
  timer: NodeJS.Timeout | undefined;
  pause_ms: number;
  left: boolean;
  ready_ms: number;
  heard_ms: number;
}

const starting: HealthReport = { live: true, ready: false };

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #console: Console;
  readonly #children: readonly Child[];
  readonly #done: () => void;
  readonly #over: Promise<void>;
  #anyReady = false;
  #allReady = false;
  #stopping = false;
  #code = DONE;

  constructor(options: SupervisorOptions, console: Console) {
    this.#options = options;
    this.#console = console;
    let done = (): void => undefined;
    this.#over = new Promise((resolve) => (done = resolve));
    this.#done = done;
    this.#children = options.names.map((name) => ({
      name,
      state: "starting",
      process: undefined,
      health: undefined,
      metrics: undefined,
      timer: undefined,
      pause_ms: PAUSE_FIRST_MS,
      left: false,
      ready_ms: 0,
      heard_ms: 0,
    }));
  }

  /** Ready when every process is. */
  get health(): HealthReport & { readonly processes: Readonly<Record<string, HealthReport>> } {
    const processes = Object.fromEntries(
      this.#children.map(({ name, health }) => [name, health ?? starting]),
    );
    return {
      live: true,
      ready: !this.#stopping && Object.values(processes).every(({ ready }) => ready),
      processes,
    };
  }

  /** Of those processes that run. */
  get metrics(): readonly NodeMetrics[] {
    return this.#children.flatMap(({ metrics }) => (metrics === undefined ? [] : [metrics]));
  }

  /** Runs the children until told to stop, or until they have failed. Resolves with the exit code. */
  async run(stop: AbortSignal): Promise<number> {
    for (const child of this.#children) this.#start(child);
    if (stop.aborted) this.#stop();
    stop.addEventListener("abort", () => this.#stop());
    const looking = setInterval(() => this.#look(), LOOK_MS);
    await this.#over;
    clearInterval(looking);
    return this.#code;
  }

  /** Ends every child at once. */
  kill(): void {
    this.#stopping = true;
    for (const child of this.#children) child.process?.kill("SIGKILL");
  }

  #start(child: Child): void {
    child.state = "starting";
    child.health = undefined;
    const process = this.#options.start(child.name);
    child.process = process;
    process.on("message", (message: ChildMessage) => this.#hear(child, message));
    // "close" of a child that could not even be started comes too, after "error".
    process.on("error", (error) =>
      this.#console.note(`The process ${child.name}: ${error.message}`, "error"),
    );
    process.once("close", (code, signal) => this.#ended(child, code, signal));
  }

  #hear(child: Child, message: ChildMessage): void {
    child.heard_ms = performance.now();
    if (message.kind === "health") {
      child.health = message.health;
      child.metrics = message.metrics;
      return;
    }
    if (message.kind === "left") {
      child.left = true;
      return;
    }
    child.state = "ready";
    child.ready_ms = performance.now();
    this.#anyReady = true;
    if (this.#allReady || this.#children.some(({ state }) => state !== "ready")) return;
    this.#allReady = true;
    const processes = this.#children.map(({ name }) => name);
    this.#console.say("all_ready", { processes }, `All ${processes.length} processes are ready.`);
  }

  /** Ends those that cannot get right by themselves; they are then started again. */
  #look(): void {
    for (const { name, state, process, health, heard_ms } of this.#children) {
      if (this.#stopping || state !== "ready") continue;
      const silent_ms = performance.now() - heard_ms;
      if (health?.live !== false && silent_ms < SILENT_MS) continue;
      const why = health?.live === false ? "does not get right by itself" : "says nothing any more";
      this.#console.say(
        "process_stuck",
        { process: name },
        `The process ${name} ${why}; it is killed.`,
        "error",
      );
      process?.kill("SIGKILL");
    }
  }

  #ended(child: Child, code: number | null, signal: NodeJS.Signals | null): void {
    const wasReady = child.state === "ready";
    child.process = undefined;
    child.health = undefined;
    child.metrics = undefined;
    clearTimeout(child.timer);
    if (this.#stopping) {
      if (code !== DONE) this.#code = Math.max(this.#code, FAILED);
      this.#leave(child);
      return;
    }
    if (child.left) {
      this.#console.say("process_left", { process: child.name }, `The process ${child.name} has left.`);
      this.#leave(child);
      return;
    }
    if (!wasReady && (code === WRONG || (code === FAILED && !this.#anyReady))) {
      this.#code = code;
      this.#leave(child);
      this.#stop();
      return;
    }
    if (wasReady && performance.now() - child.ready_ms >= STEADY_MS) child.pause_ms = PAUSE_FIRST_MS;
    const { name, pause_ms } = child;
    child.pause_ms = Math.min(pause_ms * 2, PAUSE_LAST_MS);
    child.state = "paused";
    child.timer = setTimeout(() => this.#start(child), pause_ms);
    const how = signal ?? `code ${code}`;
    this.#console.say(
      "process_ended",
      { process: name, code, signal, pause_ms },
      `The process ${name} has ended (${how}); it is started again in ${pause_ms / 1_000} s.`,
      "warn",
    );
  }

  #stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    for (const child of this.#children) {
      clearTimeout(child.timer);
      const { process } = child;
      if (process === undefined) {
        this.#leave(child);
        continue;
      }
      // A child that has just ended has no channel any more.
      if (process.connected) process.send({ kind: "stop" } satisfies ParentMessage, () => undefined);
      child.timer = setTimeout(() => {
        this.#console.note(`The process ${child.name} does not end; it is killed.`, "warn");
        process.kill("SIGKILL");
      }, this.#options.grace_ms + KILL_MS);
    }
  }

  #leave(child: Child): void {
    child.state = "over";
    if (this.#children.every(({ state }) => state === "over")) this.#done();
  }
}
