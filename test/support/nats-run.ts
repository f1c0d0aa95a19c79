/** Runs a program to its end, looked for in `path` or else in PATH. Its output is the answer; what it says when it fails is the error. */
import { execFile } from "node:child_process";

export function run(
  program: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly path?: string | undefined; readonly timeout_ms: number },
): Promise<string> {
  const env = options.path === undefined ? process.env : { ...process.env, PATH: options.path };
  return new Promise((resolve, reject) => {
    execFile(
      program,
      args,
      { cwd: options.cwd, env, timeout: options.timeout_ms, maxBuffer: 1 << 24, killSignal: "SIGKILL" },
      (error, stdout, stderr) => {
        if (error === null) {
          resolve(stdout);
          return;
        }
        const last = stderr.trim().split("\n").at(-1) ?? "";
        if (error.code === "ENOENT") reject(new Error(`${program} is not there`));
        else if (error.killed === true) reject(new Error(`${program} took over ${options.timeout_ms} ms`));
        else reject(new Error(`${program} failed: ${last === "" ? error.message : last}`));
      },
    );
  });
}
