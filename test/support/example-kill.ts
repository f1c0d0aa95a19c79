/** Examples as processes of their own, killed in the middle. They are built with test/support/main-job.ts. */
import { runJob, startJob } from "./main-job.ts";

/**
 * Runs a program until its standard error says something, and kills it then, as `kill -9` does.
 * @param said for example "50%"
 * @throws Error if it ended by itself
 */
export async function killedAt(said: string, program: string, args: readonly string[]): Promise<void> {
  const { process: child, ended } = startJob(program, ...args);
  let errors = "";
  child.stderr?.on("data", (text: string) => {
    errors += text;
    if (errors.includes(said)) child.kill("SIGKILL");
  });
  const { code, stderr } = await ended;
  if (code !== "SIGKILL") throw new Error(`It ended by itself, with ${code}: ${stderr}`);
}

/** Runs a program to its end and returns what it printed, which is one JSON document. */
export async function printed(program: string, args: readonly string[]): Promise<unknown> {
  const { code, stdout, stderr } = await runJob(program, ...args, "--json");
  if (code !== 0 || stderr !== "") throw new Error(`It ended with ${code}: ${stderr}`);
  return JSON.parse(stdout);
}
