/**
 * `keyturn trim`: trims an app's journal to what is to be kept. For a timer of the operator's.
 *
 * Talks to `trimJournal`. On NATS it takes a user who may purge the journal's streams, which nodes may not.
 */
import { type Command, InvalidArgumentError, Option } from "commander";
import { checkKeep, type Keep, trimJournal } from "../../engine/retention.ts";
import { textOf } from "../../words/errors.ts";
import { realWorld } from "../../world.ts";
import { type AppFlags, openApp, shardsIn } from "../app.ts";
import { addStoreOptions, jsonOption, waitOption } from "../options.ts";
import { DONE, type Shell } from "../shell.ts";

interface TrimFlags extends AppFlags {
  readonly keep: Keep;
}

const UNITS: Readonly<Record<string, number>> = { B: 1, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 };

const HELP = `
What recovery needs is never trimmed, and neither is the last hour. Histories and rebuilds say where the past has been
trimmed. Nodes may go on beside it; on NATS it takes a user who may purge the journal's streams.

Examples:
  keyturn trim --keep "30 days" --nats 127.0.0.1:4222
  keyturn trim --keep 10GB --data ./data`;

export function addTrim(program: Command, shell: Shell): void {
  const command = program
    .command("trim")
    .summary("trim the journal to what is to be kept")
    .description("Removes from an app's journal what is older, or more, than is to be kept.");
  addStoreOptions(command)
    .addOption(
      new Option("--keep <age|bytes|forever>", 'how much is kept: "30 days", 10GB or forever')
        .argParser(keepOf)
        .makeOptionMandatory(),
    )
    .addOption(waitOption)
    .addOption(jsonOption)
    .addHelpText("after", HELP)
    .action(async (flags: TrimFlags) => shell.exit(await trim(flags, shell)));
}

function keepOf(text: string): Keep {
  const [, digits, unit] = /^([\d.]+)\s*([KMGT]?B)$/.exec(text.trim()) ?? [];
  try {
    if (text === "forever") return "forever";
    return checkKeep(
      unit === undefined ? { age: text } : { bytes: Math.round(Number(digits) * (UNITS[unit] ?? 1)) },
    );
  } catch (error) {
    throw new InvalidArgumentError(textOf(error));
  }
}

async function trim(flags: TrimFlags, shell: Shell): Promise<number> {
  const store = await openApp(flags, shell, "keyturn trim");
  try {
    await shardsIn(store);
    const report = await trimJournal(store, flags.keep, realWorld);
    if (flags.json) shell.stdout.write(`${JSON.stringify({ event: "trimmed", ...report })}\n`);
    else {
      const held =
        report.heldBack > 0
          ? `; ${report.heldBack} hold more that nodes have not written into snapshots yet`
          : "";
      shell.stdout.write(`${report.trimmed} of ${report.lanes} lanes of the journal were trimmed${held}.\n`);
    }
    return DONE;
  } finally {
    await store.close();
  }
}
