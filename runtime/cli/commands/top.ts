/**
 * `keyturn top`: what is going on, again and again.
 *
 * Owns the picture. Everything in it is asked of the app like anything else: the list of members, the shard table, and
 * for each type how many actors stand in which state and how many turns they have taken; a rate is the difference of two
 * looks.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Command, InvalidArgumentError, Option } from "commander";
import { isKeyturnError, textOf } from "../../words/errors.ts";
import { duration } from "../input.ts";
import { whole } from "../options.ts";
import { Output } from "../output.ts";
import { DONE, type Shell, stopSignal } from "../shell.ts";
import { addTargetOptions, type Target, type TargetFlags, withTarget } from "../target.ts";
import { ownedBy, shardTable } from "./cluster.ts";
import { typesOf } from "./find.ts";

interface TopFlags extends TargetFlags {
  readonly interval: number;
  readonly limit?: number;
  readonly type?: string;
}

const INTERVAL_MS = 2_000;
const INTERVAL_MIN_MS = 200;
/** States of a type that are shown. */
const STATES = 6;
const CLEAR = "\u001b[H\u001b[2J";

export function addTop(program: Command, shell: Shell): void {
  const top = program
    .command("top")
    .summary("watch nodes, types and rates, live")
    .description(
      "Shows nodes, actor types, their states and turn rates, live, until Ctrl-C. With --json one line each time.",
    );
  addTargetOptions(top)
    .addOption(
      new Option("--interval <duration>", 'how often to look, "2s"')
        .argParser(interval)
        .default(INTERVAL_MS, "2 s"),
    )
    .addOption(
      new Option("--limit <number>", "end after so many looks").argParser(whole(1, Number.MAX_SAFE_INTEGER)),
    )
    .option("--type <type>", "only this actor type")
    .action(async (flags: TopFlags) => shell.exit(await top_(flags, shell)));
}

function interval(text: string): number {
  const ms = duration(text);
  if (ms >= INTERVAL_MIN_MS) return ms;
  throw new InvalidArgumentError(`It is ${INTERVAL_MIN_MS} ms at least.`);
}

interface TypeLook {
  readonly type: string;
  readonly actors: number;
  readonly turns: number;
  readonly states: Readonly<Record<string, number>>;
}

interface Look {
  readonly at_ms: number;
  readonly time: string;
  readonly nodes: readonly {
    readonly node: string;
    readonly shards: number;
    readonly weight: number;
    readonly leaving: boolean;
  }[];
  readonly shards: { readonly owned: number; readonly total: number };
  readonly types: readonly TypeLook[];
  /** Of the newest batch. */
  readonly position: number;
}

async function top_(flags: TopFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  const stop = stopSignal(shell);
  const { limit = Number.POSITIVE_INFINITY } = flags;
  return await withTarget(flags, shell, { actors: true }, async (target) => {
    let before: Look | undefined;
    for (let left = limit; left > 0 && !stop.aborted; left--) {
      try {
        const now = await look(target, flags.type);
        show(output, target, now, before, flags.interval);
        before = now;
      } catch (error) {
        // While nodes come and go some looks fail; the next one may not.
        if (!isKeyturnError(error) || !error.retryable) throw error;
        output.say({ event: "troubled", reason: textOf(error) }, textOf(error));
      }
      if (left > 1) await sleep(flags.interval, undefined, { signal: stop }).catch(() => undefined);
    }
    return DONE;
  });
}

async function look(target: Target, only: string | undefined): Promise<Look> {
  const [members, table, hosted] = await Promise.all([
    target.store.directory.members(),
    shardTable(target),
    only === undefined ? typesOf(target) : new Map([[only, undefined]]),
  ]);
  const owned = ownedBy(table);
  let position = 0;
  const types = await Promise.all(
    [...hosted.keys()].map(async (type) => {
      const found = await target.client.activity(type);
      position = Math.max(position, found.position);
      return { type, actors: found.total, turns: found.turns, states: found.states };
    }),
  );
  return {
    at_ms: performance.now(),
    time: new Date().toISOString(),
    nodes: members.map(({ node, incarnation, weight, leaving }) => ({
      node,
      shards: owned.get(incarnation) ?? 0,
      weight,
      leaving,
    })),
    shards: {
      owned: members.reduce((sum, { incarnation }) => sum + (owned.get(incarnation) ?? 0), 0),
      total: target.settings.shards,
    },
    types: types.filter(({ actors }) => actors > 0),
    position,
  };
}

/** Per second; undefined without an earlier look. Deleted actors take their turns with them: never below 0. */
function rate(now: number, before: number | undefined, seconds: number): number | undefined {
  return before === undefined || seconds <= 0
    ? undefined
    : Math.round((10 * Math.max(0, now - before)) / seconds) / 10;
}

function show(
  output: Output,
  target: Target,
  now: Look,
  before: Look | undefined,
  interval_ms: number,
): void {
  const seconds = (now.at_ms - (before?.at_ms ?? now.at_ms)) / 1_000;
  const earlier = new Map(before?.types.map((type) => [type.type, type]));
  const types = now.types
    .map((type) => ({
      ...type,
      // Of a type that is new all turns are.
      turnsPerSecond: rate(
        type.turns,
        before === undefined ? undefined : (earlier.get(type.type)?.turns ?? 0),
        seconds,
      ),
    }))
    .sort((a, b) => (b.turnsPerSecond ?? 0) - (a.turnsPerSecond ?? 0) || b.actors - a.actors);
  const turnsPerSecond =
    before === undefined
      ? undefined
      : Math.round(10 * types.reduce((sum, one) => sum + (one.turnsPerSecond ?? 0), 0)) / 10;
  const { time, nodes, shards } = now;
  if (output.json) {
    output.row({ event: "top", time, nodes, shards, turnsPerSecond, types });
    return;
  }
  const number = (value: number | undefined): string =>
    value === undefined ? "–" : value.toLocaleString("en");
  const lost = shards.owned < shards.total;
  const actors = types.reduce((sum, one) => sum + one.actors, 0);
  const lines = [
    `${output.paint("bold", target.store.description)}  ${output.paint("dim", `${time.slice(11, 19)} UTC, every ${interval_ms / 1_000} s`)}`,
    [
      `nodes ${nodes.length}`,
      output.paint(lost ? "red" : "green", `shards ${shards.owned}/${shards.total}`),
      `actors ${number(actors)}`,
      `turns/s ${number(turnsPerSecond)}`,
    ].join("   "),
    "",
    output.tableText(
      [{ head: "node" }, { head: "shards", right: true }, { head: "weight", right: true }, { head: "" }],
      nodes.map(({ node, shards: of, weight, leaving }) => [
        node,
        `${of}`,
        `${weight}`,
        leaving ? "leaving" : "",
      ]),
    ),
    "",
    output.tableText(
      [
        { head: "type" },
        { head: "actors", right: true },
        { head: "turns/s", right: true },
        { head: "states" },
      ],
      types.map(({ type, actors: of, turnsPerSecond: turning, states }) => [
        type,
        number(of),
        number(turning),
        output.cell(statesText(states, before === undefined ? undefined : earlier.get(type)?.states), 100),
      ]),
    ),
  ];
  const text = lines.join("\n");
  if (!output.isTerminal) {
    output.text(`${text}\n`);
    return;
  }
  const rows = output.rows - 1;
  output.text(`${CLEAR}${text.split("\n").slice(0, rows).join("\n")}`);
}

/** The fullest states, and by how much they changed. */
function statesText(
  states: Readonly<Record<string, number>>,
  before: Readonly<Record<string, number>> | undefined,
): string {
  const shown = Object.entries(states)
    .filter(([state]) => state !== "")
    .sort(([, a], [, b]) => b - a);
  const parts = shown.slice(0, STATES).map(([state, count]) => {
    const change = before === undefined ? 0 : count - (before[state] ?? 0);
    return `${state} ${count.toLocaleString("en")}${change === 0 ? "" : ` (${change > 0 ? "+" : ""}${change})`}`;
  });
  if (shown.length > STATES) parts.push(`${shown.length - STATES} more`);
  return parts.join(", ");
}
