/**
 * One nats-server as a process: started, killed, and waited for.
 *
 * Owns the children of this process and their folders, so that neither outlives it. Talks to the operating system only.
 *
 * Invariants:
 * 1. A server ends with this process: by an exit handler, by handlers for the signals that end a process, and on Linux
 *    by the kernel where `setpriv` is there, which also covers a SIGKILL of this process.
 * 2. The server writes its log into a file and never into a pipe, so it does not wait for this process to read.
 */
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface ServerProcess {
  readonly pid: number;
  /** Whether it has not ended yet. */
  readonly alive: boolean;
  /** How it ended, in words. */
  readonly ended: Promise<string>;
  signal(signal: NodeJS.Signals): void;
}

const children = new Set<ChildProcess>();
const folders = new Set<string>();
const endings = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Starts a program that ends with this process. Of what it is told, nothing else changes.
 * @param program an absolute path
 */
export function spawnTied(program: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  watchOverChildren();
  const child = hasGuard()
    ? spawn("setpriv", ["--pdeathsig", "KILL", "--", program, ...args], options)
    : spawn(program, args, options);
  children.add(child);
  for (const event of ["error", "exit"]) child.once(event, () => children.delete(child));
  return child;
}

export function spawnServer(
  binary: string,
  args: readonly string[],
  options: { readonly cwd: string; readonly env: NodeJS.ProcessEnv; readonly log: string },
): ServerProcess {
  const log = openSync(options.log, "a");
  let child: ChildProcess;
  try {
    child = spawnTied(binary, args, { cwd: options.cwd, env: options.env, stdio: ["ignore", log, log] });
  } finally {
    closeSync(log);
  }
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(`could not be started: ${error.message}`));
    child.once("exit", (code, signal) =>
      resolve(signal === null ? `ended with code ${code}` : `ended by ${signal}`),
    );
  });
  return {
    pid: child.pid ?? 0,
    get alive() {
      return children.has(child);
    },
    ended,
    signal: (signal) => void child.kill(signal),
  };
}

/** Creates a folder in the system's temporary one, which goes at the latest when this process ends. */
export function temporaryFolder(): string {
  watchOverChildren();
  const folder = mkdtempSync(join(tmpdir(), "keyturn-nats-"));
  folders.add(folder);
  return folder;
}

export function removeFolder(folder: string): void {
  folders.delete(folder);
  // A server that has just been killed may still be there for a moment.
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 });
}

/** The end of a server's log. */
export function tailOf(log: string, lines = 20): string {
  if (!existsSync(log)) return "";
  return readFileSync(log, "utf8").trim().split("\n").slice(-lines).join("\n");
}

let watching = false;

function watchOverChildren(): void {
  if (watching) return;
  watching = true;
  process.on("exit", killChildren);
  for (const signal of endings) {
    const handler = (): void => {
      // Whoever else listens decides when this process ends; the exit handler does the rest.
      if (process.listenerCount(signal) > 1) return;
      killChildren();
      process.off(signal, handler);
      process.kill(process.pid, signal);
    };
    process.on(signal, handler);
  }
}

function killChildren(): void {
  for (const child of children) child.kill("SIGKILL");
  for (const folder of folders) removeFolder(folder);
}

let guarded: boolean | undefined;

/** Whether the kernel can be told to kill the server when this process dies. */
function hasGuard(): boolean {
  guarded ??=
    process.platform === "linux" && spawnSync("setpriv", ["--pdeathsig", "KILL", "--", "true"]).status === 0;
  return guarded;
}
