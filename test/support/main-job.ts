/** The main job as a process of its own: run, killed; and what it must come to, computed without the runtime. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createActor } from "xstate";
import { airport } from "../../actors/index.ts";
import { airportsOf, type Flight, messagesOf } from "../../examples/flights/flights.ts";
import type { AirportRow } from "../../examples/flights/report.ts";

/** A folder that is gone after `remove`. */
export async function temporaryFolder(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), "keyturn-main-job-"));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

export interface Ended {
  /** Exit code, or the signal that ended the process. */
  readonly code: number | NodeJS.Signals;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly process: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves when the job has written something to standard error: it then plays. */
  readonly playing: Promise<void>;
}

/** Starts a program of the build. */
export function startJob(program: string, ...args: string[]): Running {
  const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) =>
      resolve({ code: code ?? (signal as NodeJS.Signals), stdout, stderr }),
    );
  });
  const playing = new Promise<void>((resolve) => {
    child.stderr.once("data", () => resolve());
    child.once("close", () => resolve());
  });
  return { process: child, ended, playing };
}

/** Runs the job to its end. */
export function runJob(program: string, ...args: string[]): Promise<Ended> {
  return startJob(program, ...args).ended;
}

/** Runs the job and kills it, as `kill -9` does, after so long. Says whether it was still running. */
export async function killJob(program: string, after_ms: number, ...args: string[]): Promise<boolean> {
  const { process: child, ended } = startJob(program, ...args);
  const timer = setTimeout(() => child.kill("SIGKILL"), after_ms);
  const { code, stderr } = await ended;
  clearTimeout(timer);
  if (code !== "SIGKILL" && code !== 0) throw new Error(`The job ended with ${code}: ${stderr}`);
  return code === "SIGKILL";
}

/** What the airports must be in the end: counted from the data set, and their states from the bare machine. */
export function expectedAirports(flights: readonly Flight[]): AirportRow[] {
  const machines = new Map(
    airportsOf(flights).map((name) => [name, createActor(airport.machine).start()] as const),
  );
  for (const { airport: name, event } of messagesOf(flights)) machines.get(name)?.send(event);
  return [...machines].map(([name, machine]) => {
    const state = String(machine.getSnapshot().value);
    machine.stop();
    const delays = flights.filter(({ origin }) => origin === name).map(({ delay }) => delay);
    return {
      airport: name,
      state,
      departures: delays.length,
      arrivals: flights.filter(({ destination }) => destination === name).length,
      meanDelayMinutes: meanOf(delays),
    };
  });
}

/** Rounded to hundredths, halves up, in whole numbers: the division is of the form floor(x + 1/2). */
function meanOf(delays: readonly number[]): number {
  if (delays.length === 0) return 0;
  const sum = delays.reduce((total, delay) => total + delay, 0);
  return Math.floor((200 * sum + delays.length) / (2 * delays.length)) / 100;
}
