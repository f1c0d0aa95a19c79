/** `keyturn list`, `find` and `count`: which actors there are. */
import { type Command, Option } from "commander";
import type { FindQuery, FoundActor } from "../../client/find.ts";
import { ownActors } from "../../own-actors.ts";
import { decodeKey } from "../../words/address.ts";
import type { Condition, Filter } from "../../words/queries.ts";
import { condition, duration } from "../input.ts";
import { whole } from "../options.ts";
import { type Column, fromNow, Output, stateText } from "../output.ts";
import { asReading } from "../reading.ts";
import { DONE, type Shell } from "../shell.ts";
import { addTargetOptions, type Target, type TargetFlags, withTarget } from "../target.ts";

export interface FilterFlags extends TargetFlags {
  readonly state?: string;
  readonly status?: Filter["status"];
  readonly where?: Readonly<Record<string, Condition>>;
  readonly olderThan?: number;
  readonly prefix?: string;
  readonly from?: string;
  readonly to?: string;
  readonly after?: string;
  readonly limit?: number;
  readonly all?: boolean;
  readonly stale?: boolean;
}

const LIMIT = 100;
/** Rows of one table; the widths of its columns are their own. */
const PAGE = 1_000;

const HELP = `
Conditions compare values of the type's index (defineActor({ index: ["total", "customer.id"] })):
  --where 'total>=10' --where customer.id=ada --where 'name^=A' --where 'sku=["tea","milk"]' --where 'placed<@2026-01-31'
A value is JSON if it can be read so, @DATE a date, and anything else a text. ^= is "begins with", a list is "one of".

Example:
  keyturn find order --state waiting.payment --older-than 1h`;

/** Options that choose among actors of a type. */
export function addFilterOptions(command: Command): Command {
  return command
    .option("--state <path>", 'only actors in this state or below it: "waiting.payment"')
    .addOption(
      new Option("--status <word>", "only with this status").choices(["active", "done", "error", "stopped"]),
    )
    .addOption(
      new Option("--where <condition>", "only where this holds; repeat it for more").argParser(condition),
    )
    .addOption(
      new Option("--older-than <duration>", 'only those whose last turn was so long ago: "1h"').argParser(
        duration,
      ),
    )
    .option("--prefix <text>", "only keys that begin so")
    .option("--from <key>", "only keys from this one on")
    .option("--to <key>", "only keys before this one");
}

export function queryOf({
  state,
  status,
  where,
  olderThan,
  prefix,
  from,
  to,
  after,
}: FilterFlags): FindQuery {
  return { state, status, where, olderThan, prefix, from, to, after };
}

export function addFind(program: Command, shell: Shell): void {
  const list = program
    .command("list")
    .summary("list the actor types, or the actors of one")
    .description("Lists the actor types and how many actors there are; with a type, its actors.")
    .argument("[type]", "an actor type");
  addTargetOptions(list)
    .option("--stale", "read the stored snapshots past the nodes: they may be behind, and no node is needed")
    .addOption(limitOption())
    .option("--after <key>", "go on behind this key")
    .option("--all", "all of them")
    .action(async (type: string | undefined, flags: FilterFlags) =>
      shell.exit(
        type === undefined || flags.stale
          ? await listTypes(type, flags, shell)
          : await find(type, flags, shell),
      ),
    );

  const finding = program
    .command("find")
    .summary("find actors of a type by state, age and what they hold")
    .description(
      "Finds actors of a type, in the order of their keys; consistent with all that was answered before.",
    )
    .argument("<type>", "an actor type");
  addFilterOptions(addTargetOptions(finding))
    .addOption(limitOption())
    .option("--after <key>", "go on behind this key")
    .option("--all", "all of them")
    .addHelpText("after", HELP)
    .action(async (type: string, flags: FilterFlags) => shell.exit(await find(type, flags, shell)));

  const counting = program
    .command("count")
    .summary("count actors of a type, in all and in each state")
    .description("Counts actors of a type, in all and in each state.")
    .argument("<type>", "an actor type");
  addFilterOptions(addTargetOptions(counting))
    .addHelpText("after", HELP.replace("keyturn find", "keyturn count"))
    .action(async (type: string, flags: FilterFlags) => shell.exit(await count(type, flags, shell)));
}

function limitOption(): Option {
  return new Option("--limit <number>", `so many; ${LIMIT} by default`)
    .argParser(whole(1, Number.MAX_SAFE_INTEGER))
    .conflicts("all");
}

async function find(type: string, flags: FilterFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  const { limit = LIMIT, all } = flags;
  return await withTarget(flags, shell, { actors: true }, async ({ client }) => {
    const most = all ? Number.POSITIVE_INFINITY : limit;
    let page: FoundActor[] = [];
    let shown = 0;
    let more = false;
    let last = "";
    const flush = (): void => {
      if (page.length > 0) printActors(output, page);
      page = [];
    };
    await asReading(
      (async () => {
        for await (const actor of client.find(type, { ...queryOf(flags), limit: most + 1 })) {
          more = shown === most;
          if (more) break;
          shown++;
          last = actor.key;
          if (output.json) output.row(actor);
          else if (page.push(actor) === PAGE) flush();
        }
      })(),
    );
    flush();
    if (shown === 0) output.note(`No actor of the type ${type} fits.`);
    else if (more) output.note(`There are more: --after ${quoted(last)}, --limit N, or --all.`);
    return DONE;
  });
}

export function printActors(output: Output, actors: readonly FoundActor[]): void {
  const paths = [...new Set(actors.flatMap(({ fields }) => Object.keys(fields)))];
  const now = Date.now();
  const timed = actors.some(({ time }) => time !== undefined);
  const ended = actors.some(({ status }) => status !== "active");
  const columns: Column[] = [
    { head: "key" },
    { head: "state" },
    ...(ended ? [{ head: "status" }] : []),
    { head: "turn", right: true },
    ...(timed ? [{ head: "last turn" }] : []),
    ...paths.map((head) => ({ head })),
  ];
  const rows = actors.map(({ key, value, status, turn, time, fields }) => [
    output.cell(key, 200),
    stateText(value),
    ...(ended ? [status] : []),
    String(turn),
    ...(timed ? [time === undefined ? "" : fromNow(time, now)] : []),
    ...paths.map((path) => (fields[path] === undefined ? "" : output.cell(fields[path], 40))),
  ]);
  output.table(columns, rows);
}

async function count(type: string, flags: FilterFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  return await withTarget(flags, shell, { actors: true }, async ({ client }) => {
    const { total, states } = await asReading(client.count(type, queryOf(flags)));
    if (output.json) {
      output.row({ type, total, states });
      return DONE;
    }
    const rows = Object.entries(states).map(([state, actors]) => [
      state === "" ? "(no states)" : state,
      `${actors}`,
    ]);
    output.table(
      [{ head: "state" }, { head: "actors", right: true }],
      [...rows, [output.paint("bold", "all"), `${total}`]],
    );
    return DONE;
  });
}

interface TypeRow {
  readonly type: string;
  readonly version: number | undefined;
  /** Names of the nodes that host it; undefined where that is not known. */
  readonly nodes: readonly string[] | undefined;
  readonly actors: number;
  readonly states: Readonly<Record<string, number>> | undefined;
}

async function listTypes(only: string | undefined, flags: FilterFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  return await withTarget(flags, shell, { actors: true }, async (target) => {
    const runs = target.isServed && (await target.store.directory.members()).length > 0;
    const stale = flags.stale === true || !runs;
    if (only !== undefined) return await listStale(only, flags, target, output);
    const rows = stale ? await storedTypes(target) : await hostedTypes(target);
    if (output.json) {
      for (const { type, version, nodes, actors, states } of rows)
        output.row({ type, version, nodes, actors, states });
      return DONE;
    }
    if (rows.length === 0) output.note("There are no actors yet.");
    const columns = [
      { head: "type" },
      ...(stale ? [] : [{ head: "version", right: true }]),
      { head: "actors", right: true },
      ...(stale ? [] : [{ head: "nodes", right: true }, { head: "states" }]),
    ];
    output.table(
      columns,
      rows.map(({ type, version, nodes, actors, states }) =>
        stale
          ? [type, `${actors}`]
          : [
              type,
              `${version ?? 1}`,
              `${actors}`,
              `${nodes?.length ?? 0}`,
              output.cell(statesText(states ?? {}), 80),
            ],
      ),
    );
    if (stale) {
      const why = runs ? "" : "No node runs. ";
      output.note(
        `${why}Counted in the stored snapshots: what came since the last checkpoint is not in them.`,
      );
    }
    return DONE;
  });
}

function statesText(states: Readonly<Record<string, number>>): string {
  return Object.entries(states)
    .filter(([state]) => state !== "")
    .sort(([, a], [, b]) => b - a)
    .map(([state, actors]) => `${state} ${actors}`)
    .join(", ");
}

/** The runtime's own types are shown only where there is something of them. */
const OWN: ReadonlySet<string> = new Set(ownActors.map(({ type }) => type));

export async function typesOf({ store }: Target): Promise<Map<string, { version: number; nodes: string[] }>> {
  const types = new Map<string, { version: number; nodes: string[] }>();
  for (const { node, types: hosted, versions } of await store.directory.members()) {
    for (const type of hosted) {
      const known = types.get(type) ?? { version: 1, nodes: [] };
      known.version = Math.max(known.version, versions?.[type] ?? 1);
      known.nodes.push(node);
      types.set(type, known);
    }
  }
  return new Map([...types].sort(([a], [b]) => (a < b ? -1 : 1)));
}

async function hostedTypes(target: Target): Promise<TypeRow[]> {
  const rows: TypeRow[] = [];
  for (const [type, { version, nodes }] of await typesOf(target)) {
    const { total, states } = await asReading(target.client.count(type));
    if (total > 0 || !OWN.has(type)) rows.push({ type, version, nodes, actors: total, states });
  }
  return rows;
}

async function storedTypes({ store }: Target): Promise<TypeRow[]> {
  const counts = new Map<string, number>();
  await eachStored(store, undefined, (type) => {
    counts.set(type, (counts.get(type) ?? 0) + 1);
    return true;
  });
  return [...counts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([type, actors]) => ({ type, version: undefined, nodes: undefined, actors, states: undefined }));
}

async function listStale(
  type: string,
  { limit = LIMIT, all }: FilterFlags,
  target: Target,
  output: Output,
): Promise<number> {
  let left = all ? Number.POSITIVE_INFINITY : limit;
  await eachStored(target.store, type, (_, key) => {
    if (left-- <= 0) {
      output.note("There are more: --limit N, or --all.");
      return false;
    }
    output.say({ type, key, address: `${type}/${key}` }, output.cell(key, 1_000));
    return true;
  });
  return DONE;
}

async function eachStored(
  store: Target["store"],
  wanted: string | undefined,
  take: (type: string, key: string) => boolean,
): Promise<void> {
  let cursor: string | undefined;
  do {
    const page = await store.snapshots.list(PAGE, cursor, wanted);
    for (const { id } of page.entries) {
      const dot = id.indexOf(".");
      if (!take(id.slice(0, dot), decodeKey(id.slice(dot + 1)))) return;
    }
    cursor = page.next;
  } while (cursor !== undefined);
}

function quoted(text: string): string {
  return /^[\w./:@-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
