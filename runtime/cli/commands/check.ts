/**
 * `keyturn check`: whether new actors modules can read everything that is stored. A gate before a deployment.
 *
 * Owns the report. Talks to the population (engine/population.ts). It changes nothing, takes no shard, and may run beside
 * the nodes of an app on NATS, as any user that a node may be; a folder belongs to one process, so there it runs while
 * no node does. (Where snapshots are replicated it renews the bucket's mark, as every `sync` does: else nobody knows
 * how far a replica is behind.)
 */
import { type Command, Option } from "commander";
import { registryOf } from "../../engine/definition.ts";
import { ownActors } from "../../own-actors.ts";
import { population, type PopulationRow } from "../../engine/population.ts";
import { realWorld } from "../../world.ts";
import { loadActors } from "../actors.ts";
import { type AppFlags, openApp, shardsIn } from "../app.ts";
import { columns } from "../columns.ts";
import { addStoreOptions, gather, jsonOption, waitOption } from "../options.ts";
import { DONE, FAILED, type Shell } from "../shell.ts";

interface CheckFlags extends AppFlags {
  readonly actors: readonly string[];
}

const HELP = `
Prints how many actors of each type stand in each state and version. Fails, with exit code 1, if the modules lack a type
or a state in which actors stand and no migration covers it, or if a migration fails on one of them. Nothing is written.

Examples:
  keyturn check --actors ./new/actors.ts --nats 127.0.0.1:4222
  keyturn check --actors ./new/actors.ts --data ./data --json`;

export function addCheck(program: Command, shell: Shell): void {
  const command = program
    .command("check")
    .summary("see whether new actors can read all that is stored")
    .description("Tries new actors modules, with their migrations, on every actor that is stored.");
  addStoreOptions(command)
    .addOption(
      new Option("--actors <module>", "a module that exports the new actors; repeat it for more")
        .argParser(gather)
        .makeOptionMandatory(),
    )
    .addOption(waitOption)
    .addOption(jsonOption)
    .addHelpText("after", HELP)
    .action(async (flags: CheckFlags) => shell.exit(await check(flags, shell)));
}

async function check(flags: CheckFlags, shell: Shell): Promise<number> {
  const actors = await loadActors(flags.actors);
  const registry = registryOf([...actors, ...ownActors]);
  const store = await openApp(flags, shell, "keyturn check");
  try {
    const rows = await population(store, await shardsIn(store), registry, realWorld);
    const hosted = actors.map(({ type, version }) => ({ type, version }));
    if (flags.json) shell.stdout.write(`${JSON.stringify(documentOf(store.description, hosted, rows))}\n`);
    else shell.stdout.write(textOf(store.description, rows));
    return rows.every(({ problem }) => problem === undefined) ? DONE : FAILED;
  } finally {
    await store.close();
  }
}

// ---- The report -----------------------------------------------------------------------------------------------------

function documentOf(store: string, hosted: readonly object[], rows: readonly PopulationRow[]): object {
  const refused = rows.filter(({ problem }) => problem !== undefined);
  return {
    event: "checked",
    ok: refused.length === 0,
    store,
    hosted,
    actors: sum(rows),
    population: merged(rows).map(({ type, version, state, actors }) => ({
      type,
      version: version ?? null,
      state,
      actors,
    })),
    refused: refused.map(({ type, version, state, actors, example, problem }) => ({
      type,
      version: version ?? null,
      state,
      actors,
      example,
      ...problem,
    })),
  };
}

function textOf(store: string, rows: readonly PopulationRow[]): string {
  const refused = rows.filter(({ problem }) => problem !== undefined);
  const lines = [`${counted(sum(rows))} in ${store}.`];
  if (rows.length > 0) {
    const head = ["type", "version", "state", "actors"];
    lines.push("", ...columns([head, ...merged(rows).map(cellsOf)], new Set([1, 3])));
  }
  lines.push("");
  if (refused.length === 0) lines.push("The new actors read all of them.");
  else {
    lines.push(`The new actors cannot read ${counted(sum(refused))}:`, "");
    const head = ["type", "version", "state", "actors", "for example", "why"];
    const table = refused.map((row) => [
      ...cellsOf(row),
      JSON.stringify(row.example),
      `${row.problem?.code}: ${row.problem?.reason.replace(/\s+/g, " ")}`,
    ]);
    lines.push(...columns([head, ...table], new Set([1, 3])));
  }
  return `${lines.join("\n")}\n`;
}

/** Without the difference between those that can be read and those that cannot. */
function merged(rows: readonly PopulationRow[]): PopulationRow[] {
  const found: PopulationRow[] = [];
  for (const row of rows) {
    const last = found.at(-1);
    if (last?.type === row.type && last.version === row.version && last.state === row.state)
      found[found.length - 1] = { ...last, actors: last.actors + row.actors };
    else found.push(row);
  }
  return found;
}

function cellsOf({ type, version, state, actors }: PopulationRow): string[] {
  return [
    type,
    version === undefined ? "?" : String(version),
    state === "" ? "(no states)" : state,
    `${actors}`,
  ];
}

function sum(rows: readonly PopulationRow[]): number {
  return rows.reduce((total, { actors }) => total + actors, 0);
}

function counted(actors: number): string {
  return `${actors} actor${actors === 1 ? "" : "s"}`;
}
