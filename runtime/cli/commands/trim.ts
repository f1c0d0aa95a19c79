/**
 * `keyturn trim`: trims an app's journal to what is to be kept. For a timer of the operator's, where nodes may not.
 *
 * Talks to `trimJournal`. On NATS it takes a user who may purge the journal's streams, which nodes may not.
 */
import { type Command, Option } from "commander";
import type { Keep } from "../../engine/keep.ts";
import { trimJournal } from "../../retention.ts";
import { addAppOptions, type AppFlags, withApp } from "../app.ts";
import { gather, keepOf } from "../options.ts";
import { DONE, type Shell } from "../shell.ts";

interface TrimFlags extends AppFlags {
  readonly keep: Keep;
  readonly lift?: readonly string[];
}

const HELP = `
What recovery needs is never trimmed, and neither is the last hour. Histories and rebuilds say where the past has been
trimmed. Nodes may go on beside it; on NATS it takes a user who may purge the journal's streams. Nodes do it by
themselves if they are started with --keep.

Examples:
  keyturn trim --keep "30 days" --nats 127.0.0.1:4222
  keyturn trim --keep 10GB --data ./data`;

export function addTrim(program: Command, shell: Shell): void {
  const command = program
    .command("trim")
    .summary("trim the journal to what is to be kept")
    .description("Removes from an app's journal what is older, or more, than is to be kept.");
  addAppOptions(command)
    .addOption(
      new Option("--keep <age|bytes|forever>", 'how much is kept: "30 days", 10GB, "30 days,10GB" or forever')
        .argParser(keepOf)
        .makeOptionMandatory(),
    )
    .addOption(
      new Option(
        "--lift <type>",
        "a type whose definition asked for more to be kept, and asks no more: forget that; may be repeated",
      ).argParser(gather),
    )
    .addHelpText("after", HELP)
    .action(async (flags: TrimFlags) => shell.exit(await trim(flags, shell)));
}

async function trim(flags: TrimFlags, shell: Shell): Promise<number> {
  const report = await withApp(flags, shell, "keyturn trim", ({ store }) =>
    trimJournal({ store, keep: flags.keep, lift: flags.lift }),
  );
  if (flags.json) shell.stdout.write(`${JSON.stringify({ event: "trimmed", ...report })}\n`);
  else {
    const held =
      report.heldBack > 0
        ? `; ${report.heldBack} hold more that nodes have not written into snapshots yet`
        : "";
    const busy = report.held ? "; somebody reads the journal from its beginning, so not all was trimmed" : "";
    const asked =
      report.keptFor.length > 0 ? `; more was kept, as asked by the types ${report.keptFor.join(", ")}` : "";
    shell.stdout.write(
      `${report.trimmed} of ${report.lanes} lanes of the journal were trimmed${held}${busy}${asked}.\n`,
    );
  }
  return DONE;
}
