/**
 * The command line: which commands there are, and what becomes of their errors.
 *
 * Owns which exit code (shell.ts) an error has. Each command is a file in commands/ that declares its own options; talks
 * to those and to the argument parser.
 */
import { readFile } from "node:fs/promises";
import { Command, CommanderError } from "commander";
import { isKeyturnError, textOf } from "../words/errors.ts";
import { addCommands } from "./commands/index.ts";
import { packageFolder } from "./packages.ts";
import {
  DONE,
  EXIT_CODES,
  FAILED,
  Failure,
  MISSING,
  NotFound,
  REJECTED,
  type Shell,
  UNKNOWN,
  WRONG,
} from "./shell.ts";

const HELP = `
Where the actors live is said by --nats HOST:PORT (or KEYTURN_NATS) or --data FOLDER (or KEYTURN_DATA); without either
it is ./.keyturn, the folder of "keyturn dev", if it is there. A node may go on in that folder meanwhile: commands ask
it. Every command but "completion" takes --json.

Exit codes:
${EXIT_CODES.map(([code, text]) => `  ${code.padEnd(6)} ${text}`).join("\n")}

Examples:
  keyturn new my-app                     a project that runs
  keyturn dev --actors ./actors.ts       a node here, its actors loaded again when they change
  keyturn ask counter/home add by=1
  keyturn find order --state waiting.payment --older-than 1h
  keyturn help find                      all about a command`;

/**
 * Runs one command line.
 * @param args without node and the program
 * @param given what is not the process's own: streams, environment, what ends it
 * @returns the exit code
 */
export async function run(
  args: readonly string[],
  given: Partial<Omit<Shell, "args" | "exit">> = {},
): Promise<number> {
  let code = DONE;
  const { env, stdout, stderr, stdin } = process;
  // A node does not end because nobody reads its lines any more.
  for (const stream of [stdout, stderr])
    if (!stream.listeners("error").includes(ignoreClosed)) stream.on("error", ignoreClosed);
  const shell: Shell = { env, stdout, stderr, stdin, ...given, args, exit: (wanted) => (code = wanted) };
  const program = await programOf(shell);
  try {
    await program.parseAsync(commandLine(program, args), { from: "user" });
  } catch (error) {
    return report(error, shell, args.includes("--json"));
  }
  return code;
}

/** The commands that a command line may be about; all of them for one that names none. */
export async function programOf(shell: Shell): Promise<Command> {
  const program = new Command("keyturn")
    .description(
      "Durable virtual actors: every key an actor, every actor a state machine, every answered turn kept.",
    )
    .version(await version(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print this")
    .showHelpAfterError("(add --help to see what there is)")
    .showSuggestionAfterError()
    .addHelpText("after", HELP)
    .configureOutput({
      writeOut: (text) => void shell.stdout.write(text),
      writeErr: (text) => void shell.stderr.write(text),
    })
    .exitOverride();
  await addCommands(program, shell);
  inherit(program);
  return program;
}

/** Help on a command that is not there is a slip of the pen like any other. */
function commandLine(program: Command, args: readonly string[]): string[] {
  const [first, asked] = args;
  const isKnown = asked === undefined || program.commands.some((one) => one.name() === asked);
  return first === "help" && !isKnown && !asked.startsWith("-") && asked !== "help" ? [asked] : [...args];
}

function inherit(parent: Command): void {
  for (const command of parent.commands) {
    command.copyInheritedSettings(parent);
    inherit(command);
  }
}

function report(error: unknown, { stdout, stderr }: Shell, json: boolean): number {
  if (error instanceof CommanderError) {
    // It has printed what is to be said. Help that was asked for is no error; help in place of a command is.
    return error.exitCode === 0 ? DONE : WRONG;
  }
  const expected = isKeyturnError(error) || error instanceof Failure;
  stderr.write(`keyturn: ${expected || !(error instanceof Error) ? textOf(error) : error.stack}\n`);
  const advice = adviceOn(error);
  if (advice !== undefined) stderr.write(`${advice}\n`);
  if (json) {
    const known = [error, (error as { cause?: unknown } | undefined)?.cause].find((one) =>
      isKeyturnError(one),
    );
    const told = { code: "failed", ...known?.toJSON(), message: textOf(error) };
    stdout.write(`${JSON.stringify({ event: "failed", error: told })}\n`);
  }
  // What a user's own module threw is found by its stack. An error with a code, of Node or the system, says it all.
  if (isKeyturnError(error, "invalid_options") && error.cause instanceof Error && !("code" in error.cause))
    stderr.write(`${error.cause.stack}\n`);
  return codeOf(error);
}

/** The exit code that an error has: what a script may decide by. */
function codeOf(error: unknown): number {
  if (error instanceof NotFound) return MISSING;
  if (!isKeyturnError(error)) return FAILED;
  switch (error.code) {
    case "invalid_options":
    case "invalid_address":
      return WRONG;
    case "unknown_type":
      return MISSING;
    case "app_mismatch":
    case "history_trimmed":
      return FAILED;
    default:
      if (error.outcome === "rejected") return REJECTED;
      return error.outcome === "unknown" ? UNKNOWN : FAILED;
  }
}

function adviceOn(error: unknown): string | undefined {
  if (!isKeyturnError(error) || error.outcome !== "unknown" || error.requestId === undefined)
    return undefined;
  return `Whether it was applied is not known. The same command with --request-id ${error.requestId} tells, and applies it once.`;
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
