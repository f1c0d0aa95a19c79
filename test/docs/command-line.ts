/**
 * The reference of the command line, from the commands as they are declared.
 *
 * Owns the page's form; every word is the command's own.
 */
import { PassThrough } from "node:stream";
import type { Command } from "commander";
import { programOf } from "../../runtime/cli/program.ts";
import { EXIT_CODES } from "../../runtime/cli/shell.ts";

/** All commands, declared and never run. */
export async function declaredProgram(): Promise<Command> {
  const nowhere = new PassThrough();
  return await programOf({
    args: [],
    env: {},
    stdin: nowhere,
    stdout: nowhere,
    stderr: nowhere,
    exit: () => undefined,
  });
}

/** The page, as Markdown. */
export function commandLinePage(program: Command): string {
  const codes = EXIT_CODES.map(([code, text]) => `| ${code} | ${cell(text)} |`);
  const commands = program.commands.filter((one) => one.name() !== "help");
  const index = commands.map(
    (one) => `| [\`${one.name()}\`](#keyturn-${one.name()}) | ${cell(one.summary())} |`,
  );
  return `${[
    "# keyturn, the command",
    "",
    program.description(),
    "",
    ...table("| command | does |", index),
    "",
    "## Exit codes",
    "",
    ...table("| code | means |", codes),
    ...commands.flatMap((one) => sectionOf(one, `keyturn ${one.name()}`)),
  ].join("\n")}\n`;
}

/** A command and those below it. */
function sectionOf(command: Command, path: string): string[] {
  const help = command.createHelp();
  const takes = [
    ...help.visibleArguments(command).map((one) => [one.name(), help.argumentDescription(one)] as const),
    ...help.visibleOptions(command).map((one) => [one.flags, help.optionDescription(one)] as const),
  ];
  return [
    "",
    `## ${path}`,
    "",
    command.description() || command.summary(),
    "",
    "```text",
    help.commandUsage(command),
    "```",
    "",
    ...table(
      "| takes | |",
      takes.map(([name, text]) => `| \`${name.replaceAll("|", "\\|")}\` | ${cell(text)} |`),
    ),
    ...moreOf(command),
    ...command.commands.flatMap((one) => sectionOf(one, `${path} ${one.name()}`)),
  ];
}

/** What stands below the options: examples, mostly. */
function moreOf(command: Command): string[] {
  const texts: string[] = [];
  (command as unknown as NodeJS.EventEmitter).emit("afterHelp", {
    error: false,
    command,
    write: (text: string) => texts.push(text),
  });
  const text = texts.join("").trim();
  return text === "" ? [] : ["", "```text", text, "```"];
}

function table(head: string, rows: readonly string[]): string[] {
  return rows.length === 0 ? [] : [head, "| --- | --- |", ...rows];
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("\n", " ");
}
