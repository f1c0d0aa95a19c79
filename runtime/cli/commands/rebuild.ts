/**
 * `keyturn rebuild`: what a new definition makes of a type's whole past, compared with what runs; and the switch to it.
 *
 * Owns the options, the progress and the exit codes. Talks to `rebuildType`. Without `--promote` nothing is written.
 *
 * It runs beside the nodes: on NATS as a user that a node may be, on a folder through the node that has it open. Where
 * nobody has the folder open, it is the node itself for a while to promote.
 */
import { setFlagsFromString } from "node:v8";
import { type Command, Option } from "commander";
import type { AnyActorDefinition } from "../../engine/definition.ts";
import { type Rebuild, rebuildType } from "../../rebuild/rebuild.ts";
import { loadActors } from "../actors.ts";
import { addAppOptions, type AppFlags, withApp, withClient } from "../app.ts";
import { whole } from "../options.ts";
import { Progress } from "../progress.ts";
import { promotedText, reportText, untoldBy } from "../rebuild-report.ts";
import { KeyturnError } from "../../words/errors.ts";
import { DONE, FAILED, Failure, type Shell } from "../shell.ts";

interface RebuildFlags extends AppFlags {
  readonly actors: readonly string[];
  readonly dryRun?: boolean;
  readonly promote?: boolean;
  readonly tell?: boolean;
  readonly retryRefused?: boolean;
  readonly fromSnapshots?: boolean;
  readonly keysMax?: number;
}

/** The new definition makes something else of the past, and it was not promoted. */
const DIFFERS = 3;

const HELP = `
Replays every event of a type through new actors modules, at full speed, beside the running nodes; says how many actors
differ, in which state and where in their contexts, which events are rejected now, and what they would have told others
otherwise. Nothing outside is run again: the results of promises, and the answers of other actors, are events of the
journal.

With --promote it then switches over, actor by actor, each in one turn that its node takes only if the actor stands where
it was seen; what it took meanwhile is replayed first. The nodes must all host the new version by then. If it is ended in
the middle, run it again: it goes on. Other actors are told nothing by it, unless with --tell what only the new
definition would have told them: each message once, in the turn that switches its actor over, now. Nothing that they were
told is taken back, and what they were told otherwise stands.

Exit codes: 0 if nothing differs, or all is promoted; 3 if something differs, be it only what others are told; 1 if it failed; 2 for a wrong command line.

Examples:
  keyturn rebuild airport --actors ./v2/actors.ts --nats 127.0.0.1:4222 --dry-run
  keyturn rebuild airport --actors ./v2/actors.ts --nats 127.0.0.1:4222 --promote
  keyturn rebuild airport --actors ./v2/actors.ts --data ./data --json`;

export function addRebuild(program: Command, shell: Shell): void {
  const command = program
    .command("rebuild")
    .argument("<type>", "the actor type")
    .summary("replay a type through a new definition, compare, and switch over")
    .description(
      "Replays a type's journal through a new definition, compares with what runs, and switches over.",
    );
  addAppOptions(command, { text: "a module that exports the new actors", mandatory: true })
    .addOption(new Option("--dry-run", "a backtest: only compare, as without --promote").conflicts("promote"))
    .option("--promote", "switch over, if the comparison went through")
    .option("--tell", "with --promote, tell others what only the new definition would have told them")
    .option("--retry-refused", "try messages too that the running definition has refused")
    .option(
      "--from-snapshots",
      "begin actors whose oldest turns were trimmed with the first whole state that is left",
    )
    .addOption(
      new Option("--keys-max <number>", "actors in memory at once; more take further passes").argParser(
        whole(1, 1e9),
      ),
    )
    .addHelpText("after", HELP)
    .action(async (type: string, flags: RebuildFlags) => shell.exit(await run(type, flags, shell)));
}

/**
 * V8 takes states, which live for one or two records, for long-lived ones and makes them in the old generation: a quarter
 * of a replay's time. Of this process alone, which does nothing else.
 */
const V8_FLAGS = "--no-allocation-site-pretenuring";

async function run(type: string, flags: RebuildFlags, shell: Shell): Promise<number> {
  const { tell = false, promote = false } = flags;
  if (tell && !promote)
    throw new KeyturnError("invalid_options", "--tell goes with --promote: without it nothing is written.");
  setFlagsFromString(V8_FLAGS);
  const actors = await loadActors(flags.actors);
  const progress = new Progress(shell.stderr);
  try {
    return await withApp(flags, shell, "keyturn rebuild", async (app) => {
      const { retryRefused = false, fromSnapshots = false, keysMax } = flags;
      const rebuild = await rebuildType({
        store: app.store,
        actors,
        type,
        retryRefused,
        fromSnapshots,
        tell,
        ...(keysMax === undefined ? {} : { keysMax }),
        onProgress: (now) => progress.show(now),
      });
      progress.end();
      const { report, same } = rebuild;
      if (flags.json) say(shell, "rebuilt", { same, ...report });
      else shell.stdout.write(reportText(report, same));
      if (flags.promote !== true) {
        if (!same && !flags.json)
          shell.stdout.write(
            "Nothing was written. Deploy the new version, then switch over with --promote.\n",
          );
        return same ? DONE : DIFFERS;
      }
      const hosted = async (): Promise<readonly AnyActorDefinition[]> => allOf(rebuild, actors);
      const promoted = await withClient(app, "keyturn-rebuild", hosted, (client) => rebuild.promote(client));
      progress.end();
      if (flags.json) say(shell, "promoted", { ...promoted, notTold: untoldBy(report) - promoted.told });
      else shell.stdout.write(promotedText(promoted, report));
      return promoted.failed === 0 ? DONE : FAILED;
    });
  } finally {
    progress.end();
  }
}

function say(shell: Shell, event: string, fields: object): void {
  shell.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}

/** Who is the node for a while hosts all types that the folder has. */
function allOf(
  { otherTypes }: Rebuild,
  actors: readonly AnyActorDefinition[],
): readonly AnyActorDefinition[] {
  const missing = [...otherTypes].filter((type) => !actors.some((one) => one.type === type));
  if (missing.length === 0) return actors;
  throw new Failure(
    `The folder has actors of type ${missing.join(", ")}, which the modules do not define. To promote, give all: --actors ./all.ts.`,
  );
}
