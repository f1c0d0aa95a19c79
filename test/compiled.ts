/**
 * Programs that tests run as processes of their own. Node 20 does not run TypeScript, and a real process is what has to
 * be killed: so they are started as they are built.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { beforeAll } from "vitest";
import { builtPackage } from "./support/build.ts";

let folder: string | undefined;

// Of every test file that starts some.
beforeAll(async () => {
  folder = join(await builtPackage(), "dist");
}, 120_000);

/** The compiled form of a source file, which is named by its path from the root of the project. */
export function compiled(source: string): string {
  if (folder === undefined) throw new Error("Programs are started in tests only.");
  return join(folder, source.replace(/\.ts$/, ".js"));
}

/** A running program and the lines that it has printed. */
export interface Program {
  readonly lines: readonly string[];
  readonly errors: readonly string[];
  /** Resolves when a line satisfies the condition, or when the program has ended. */
  until(holds: (line: string) => boolean): Promise<void>;
  kill(signal?: NodeJS.Signals): void;
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;
}

/** Starts a compiled program. `limits` is put before it in a shell, for example `ulimit -f 100`. */
export function start(source: string, args: readonly string[], limits?: string): Program {
  const file = compiled(source);
  const child =
    limits === undefined
      ? spawn(process.execPath, [file, ...args], { stdio: ["ignore", "pipe", "pipe"] })
      : spawn("/bin/sh", ["-c", `${limits}; exec "$0" "$@"`, process.execPath, file, ...args], {
          stdio: ["ignore", "pipe", "pipe"],
        });
  const lines: string[] = [];
  const errors: string[] = [];
  const waiting = new Set<() => void>();
  let open = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const parts = (open + text).split("\n");
    // A line that was cut off by the end of the process was not printed.
    open = parts.pop() as string;
    lines.push(...parts);
    for (const look of [...waiting]) look();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => errors.push(text));
  let over = false;
  const ended = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      over = true;
      for (const look of [...waiting]) look();
      resolve(code ?? (signal as NodeJS.Signals));
    });
  });
  return {
    lines,
    errors,
    ended,
    until(holds) {
      return new Promise((resolve) => {
        const look = (): void => {
          if (!over && !lines.some(holds)) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      });
    },
    kill(signal = "SIGKILL") {
      child.kill(signal);
    },
  };
}
