/**
 * The command line: which commands there are, and what becomes of their errors.
 *
 * Owns the exit codes. Each command is a file in commands/ that declares its own options; talks to those and to the
 * argument parser.
 *
 * Exit codes: 0 done; 1 it failed; 2 the command line, or a file that it names, is wrong, and repeating it cannot
 * help; 3 (rebuild): something differs; 128 and more: ended at once by a second signal.
 */
import { readFile } from "node:fs/promises";
import { Command, CommanderError } from "commander";
import { isKeyturnError, textOf } from "../words/errors.ts";
import { addCheck } from "./commands/check.ts";
import { addProvision } from "./commands/provision.ts";
import { addFork } from "./commands/fork.ts";
import { addRebuild } from "./commands/rebuild.ts";
import { addTrim } from "./commands/trim.ts";
import { addStart } from "./commands/start.ts";
import { packageFolder } from "./packages.ts";
import { DONE, FAILED, Failure, type Shell, WRONG } from "./shell.ts";

/**
 * Runs one command line.
 * @param args without node and the program
 * @returns the exit code
 */
export async function run(args: readonly string[]): Promise<number> {
  let code = DONE;
  const { env, stdout, stderr } = process;
  // A node does not end because nobody reads its lines any more.
  for (const stream of [stdout, stderr]) stream.on("error", ignoreClosed);
  const shell: Shell = { args, env, stdout, stderr, exit: (wanted) => (code = wanted) };
  const program = new Command("keyturn")
    .description(
      "Durable virtual actors: every key an actor, every actor a state machine, every answered turn kept.",
    )
    .version(await version(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print this")
    .showHelpAfterError("(add --help to see what there is)")
    .showSuggestionAfterError()
    .exitOverride();
  addStart(program, shell);
  addProvision(program, shell);
  addCheck(program, shell);
  addRebuild(program, shell);
  addFork(program, shell);
  addTrim(program, shell);
  for (const command of program.commands) command.copyInheritedSettings(program);
  try {
    await program.parseAsync([...args], { from: "user" });
  } catch (error) {
    return report(error, shell, args.includes("--json"));
  }
  return code;
}

function report(error: unknown, { stdout, stderr }: Shell, json: boolean): number {
  if (error instanceof CommanderError) {
    // It has printed what is to be said. Help that was asked for is no error; help in place of a command is.
    return error.exitCode === 0 ? DONE : WRONG;
  }
  const expected = isKeyturnError(error) || error instanceof Failure;
  stderr.write(`keyturn: ${expected || !(error instanceof Error) ? textOf(error) : error.stack}\n`);
  if (json) {
    const known = [error, (error as { cause?: unknown } | undefined)?.cause].find((one) =>
      isKeyturnError(one),
    );
    const told = { code: "failed", ...known?.toJSON(), message: textOf(error) };
    stdout.write(`${JSON.stringify({ event: "failed", error: told })}\n`);
  }
  if (!isKeyturnError(error, "invalid_options")) return FAILED;
  // What a user's own module threw is found by its stack. An error with a code, of Node or the system, says it all.
  if (error.cause instanceof Error && !("code" in error.cause)) stderr.write(`${error.cause.stack}\n`);
  return WRONG;
}

function ignoreClosed(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE") throw error;
}

async function version(): Promise<string> {
  const folder = packageFolder("keyturn", import.meta.url);
  if (folder === undefined) return "unknown";
  const { version: found } = JSON.parse(await readFile(new URL("package.json", folder), "utf8")) as {
    version: string;
  };
  return found;
}
