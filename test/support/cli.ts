/**
 * The command `keyturn` as users have it: the package, built, and started as a process.
 *
 * Owns every process that a test starts: none outlives its test.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, onTestFinished } from "vitest";
import { builtPackage } from "./build.ts";

const modules = fileURLToPath(new URL("../../node_modules", import.meta.url));
let built: string | undefined;

/** Sees to it that the package is built before the tests of a file. */
export function withPackage(): void {
  beforeAll(async () => {
    built = await builtPackage();
  }, 120_000);
}

/** Folder of the built package. */
export function packageFolder(): string {
  if (built === undefined) throw new Error("withPackage() is missing.");
  return built;
}

/** A folder of a user, in which these packages are installed, with these files in it. */
export function project(files: Readonly<Record<string, string>>, installed = ["keyturn", "xstate"]): string {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-project-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, "node_modules"));
  for (const name of installed) {
    const from = name === "keyturn" ? packageFolder() : join(modules, name);
    symlinkSync(from, join(folder, "node_modules", name), "junction");
  }
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

/** A line of `--json`. */
export interface CliEvent {
  readonly event: string;
  readonly name?: string;
  readonly [field: string]: unknown;
}

export interface CliOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** In a group of its own, so that a signal can be sent to all of it as a terminal does. */
  readonly group?: boolean;
}

export interface Cli {
  readonly pid: number;
  readonly stdout: string;
  readonly stderr: string;
  /** What was printed with `--json`, so far. */
  readonly events: readonly CliEvent[];
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;
  /** The first event of that name, and for which the condition holds. Rejects if the process ends before. */
  event(name: string, holds?: (event: CliEvent) => boolean): Promise<CliEvent>;
  /** Resolves when something more is printed, or when it has ended. */
  more(): Promise<void>;
  /** Waits for a text on standard error. Rejects if the process ends before. */
  said(text: RegExp): Promise<void>;
  kill(signal: NodeJS.Signals): void;
}

/** Starts the command. */
export function keyturn(args: readonly string[], { cwd, env, group = false }: CliOptions = {}): Cli {
  const clean = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith("KEYTURN_")),
  );
  const child = spawn(process.execPath, [join(packageFolder(), "dist/runtime/cli/main.js"), ...args], {
    cwd: cwd ?? packageFolder(),
    env: { ...clean, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    detached: group,
  });
  let stdout = "";
  let stderr = "";
  let over = false;
  const waiting = new Set<() => void>();
  const wake = (): void => {
    for (const look of [...waiting]) look();
  };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    wake();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    wake();
  });
  const ended = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      over = true;
      wake();
      resolve(code ?? (signal as NodeJS.Signals));
    });
  });
  onTestFinished(async () => {
    if (!over) child.kill("SIGKILL");
    await ended;
  });
  const events = (): CliEvent[] =>
    stdout
      .split("\n")
      .slice(0, -1)
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as CliEvent);
  const until = <T>(what: string, find: () => T | undefined): Promise<T> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const found = find();
        if (found === undefined && !over) return;
        waiting.delete(look);
        if (found !== undefined) resolve(found);
        else reject(new Error(`It ended before ${what}.\n${stdout}\n${stderr}`));
      };
      waiting.add(look);
      look();
    });
  return {
    pid: child.pid as number,
    get stdout() {
      return stdout;
    },
    get stderr() {
      return stderr;
    },
    get events() {
      return events();
    },
    ended,
    event: (name, holds = () => true) =>
      until(`the event ${name}`, () => events().find((one) => one.event === name && holds(one))),
    said: async (text) => {
      await until(`it said ${text}`, () => (text.test(stderr) ? true : undefined));
    },
    more: () =>
      new Promise((resolve) => {
        const look = (): void => {
          waiting.delete(look);
          resolve();
        };
        if (over) resolve();
        else waiting.add(look);
      }),
    kill: (signal) => {
      if (group) process.kill(-(child.pid as number), signal);
      else child.kill(signal);
    },
  };
}

export interface Ended {
  readonly code: number | NodeJS.Signals;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command to its end. */
export async function keyturnEnded(args: readonly string[], options?: CliOptions): Promise<Ended> {
  const running = keyturn(args, options);
  const code = await running.ended;
  return { code, stdout: running.stdout, stderr: running.stderr };
}
