/**
 * `keyturn nodes`, `shards` and `drain`: who is there, who has what, and asking a node to go.
 *
 * A node is asked to leave by a mark in the list of members, which only those may write who may be nodes; clients can
 * not. The node sees it, hands its shards over as when it is stopped, and `keyturn start` then ends.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Command, Option } from "commander";
import type { Member, StoredShard } from "../../ports/index.ts";
import { parseAddress, shardOf } from "../../words/address.ts";
import { durationText } from "../../words/duration.ts";
import { KeyturnError } from "../../words/errors.ts";
import { sourceOfPlan } from "../../words/sources.ts";
import { duration } from "../input.ts";
import { whole } from "../options.ts";
import { Output } from "../output.ts";
import { asReading } from "../reading.ts";
import { DONE, FAILED, Failure, NotFound, type Shell } from "../shell.ts";
import { addTargetOptions, type Target, type TargetFlags, withTarget } from "../target.ts";

interface ClusterFlags extends TargetFlags {
  readonly node?: string;
  readonly unowned?: boolean;
  readonly of?: string;
  readonly shard?: number;
  readonly force?: boolean;
  readonly follow: boolean;
  readonly timeout?: number;
}

const LOOKING = { actors: false };
const DRAIN_MS = 60_000;
const LOOK_MS = 100;
const MARK_TRIES = 20;

export function addCluster(program: Command, shell: Shell): void {
  const nodes = program
    .command("nodes")
    .summary("list the nodes")
    .description(
      "Lists the nodes of the app, with what they host, how many shards they have, and how far behind the sources are that they read.",
    );
  addTargetOptions(nodes, LOOKING).action(async (flags: ClusterFlags) =>
    shell.exit(await listNodes(flags, shell)),
  );

  const shards = program
    .command("shards")
    .summary("list the shards and their owners")
    .description(
      "Lists the shards, who owns them, and how many stretches of journal a take-over would read.",
    );
  addTargetOptions(shards, LOOKING)
    .option("--node <name>", "only those of this node")
    .option("--unowned", "only those that nobody owns")
    .addOption(new Option("--shard <number>", "only this one").argParser(whole(0, 16_383)))
    .option("--of <address>", "only the one in which this actor lives")
    .action(async (flags: ClusterFlags) => shell.exit(await listShards(flags, shell)));

  const drain = program
    .command("drain")
    .summary("ask a node to hand its shards over and end")
    .description(
      "Asks a node to hand its shards to the others. Nodes of keyturn start end then, with exit code 0; a program that runs a node of its own goes on without shards, and its observer hears of it.",
    )
    .argument("<node>", "name of the node, or of its incarnation");
  addTargetOptions(drain, LOOKING)
    .option("--force", "also the only node: nobody serves its actors then")
    .option("--no-follow", "do not wait until it has no shards any more")
    .addOption(
      new Option("--timeout <duration>", 'how long to wait, "30s"; 60 s by default').argParser(duration),
    )
    .action(async (node: string, flags: ClusterFlags) => shell.exit(await drainNode(node, flags, shell)));
}

/** All entries of the shard table. */
export async function shardTable({ store, settings }: Target): Promise<Map<number, StoredShard["entry"]>> {
  const all = Array.from({ length: settings.shards }, (_, shard) => shard);
  const table = new Map<number, StoredShard["entry"]>();
  for (const [shard, { entry }] of await store.directory.readShards(all)) table.set(shard, entry);
  return table;
}

/** How many shards each incarnation owns. */
export function ownedBy(table: ReadonlyMap<number, StoredShard["entry"]>): Map<string, number> {
  const owned = new Map<string, number>();
  for (const { owner } of table.values()) if (owner) owned.set(owner, (owned.get(owner) ?? 0) + 1);
  return owned;
}

async function listNodes(flags: ClusterFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  return await withTarget(flags, shell, LOOKING, async (target) => {
    const members = await asReading(membersOf(target));
    const owned = ownedBy(await asReading(shardTable(target)));
    const rows = members.map((member) => ({ ...member, shards: owned.get(member.incarnation) ?? 0 }));
    const hosted = rows.some(({ types }) => types.some((type) => sourceOfPlan(type) !== undefined));
    const sources = hosted && target.isServed ? (await target.client.cluster()).sources : [];
    if (output.json) {
      for (const { beat: _, ...row } of rows) {
        const own = sources.filter(({ node }) => node === row.node);
        output.row(own.length === 0 ? row : { ...row, sources: own });
      }
      return DONE;
    }
    const serving = rows.reduce((sum, { shards }) => sum + shards, 0);
    if (rows.length === 0) output.note("No node runs.");
    else {
      const columns = [
        { head: "node" },
        { head: "incarnation" },
        { head: "shards", right: true },
        { head: "weight", right: true },
        { head: "" },
        { head: "hosts" },
      ];
      output.table(
        columns,
        rows.map(({ node, incarnation, shards, weight, leaving, types, versions }) => [
          node,
          output.paint("dim", incarnation),
          `${shards}`,
          `${weight}`,
          leaving ? output.paint("yellow", "leaving") : output.paint("green", "active"),
          types
            .map((type) => (versions?.[type] === undefined ? type : `${type} v${versions[type]}`))
            .join(", "),
        ]),
      );
    }
    if (sources.length > 0)
      output.table(
        [
          { head: "source" },
          { head: "read by" },
          { head: "parts", right: true },
          { head: "behind", right: true },
        ],
        sources.map(({ source, runner, node, partitions, lag, unit }) => [
          source,
          node ?? runner,
          `${partitions}`,
          lag === undefined ? "?" : `${lag} ${unit}`,
        ]),
      );
    const { shards } = target.settings;
    if (serving < shards)
      output.note(
        `${shards - serving} of ${shards} shards are owned by none of them: keyturn shards --unowned.`,
      );
    return DONE;
  });
}

async function membersOf({ store }: Target): Promise<readonly Member[]> {
  const members = await store.directory.members();
  return [...members].sort((a, b) => (a.incarnation < b.incarnation ? -1 : 1));
}

async function listShards(flags: ClusterFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  return await withTarget(flags, shell, LOOKING, async (target) => {
    const members = new Map((await asReading(membersOf(target))).map((m) => [m.incarnation, m.node]));
    const table = await asReading(shardTable(target));
    const only = flags.of === undefined ? flags.shard : shardOfAddress(flags.of, target.settings.shards);
    const rows = [];
    for (let shard = 0; shard < target.settings.shards; shard++) {
      if (only !== undefined && shard !== only) continue;
      const { owner, epoch = 0, segments = [], versions } = table.get(shard) ?? {};
      const node = owner ? (members.get(owner) ?? null) : null;
      if (flags.node !== undefined && node !== flags.node && owner !== flags.node) continue;
      if (flags.unowned && node !== null) continue;
      rows.push({ shard, node, incarnation: owner ?? null, epoch, tails: segments.length, versions });
    }
    if (output.json) for (const row of rows) output.row(row);
    else {
      const columns = [
        { head: "shard", right: true },
        { head: "node" },
        { head: "incarnation" },
        { head: "epoch", right: true },
        { head: "tails", right: true },
        { head: "versions" },
      ];
      output.table(
        columns,
        rows.map(({ shard, node, incarnation, epoch, tails, versions }) => [
          `${shard}`,
          node ?? output.paint("red", incarnation === null ? "nobody" : "lost"),
          output.paint("dim", incarnation ?? ""),
          `${epoch}`,
          `${tails}`,
          Object.entries(versions ?? {})
            .map(([type, version]) => `${type} v${version}`)
            .join(", "),
        ]),
      );
    }
    return DONE;
  });
}

function shardOfAddress(address: string, shards: number): number {
  const { type, key } = parseAddress(address);
  return shardOf(type, key, shards);
}

async function drainNode(name: string, flags: ClusterFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  return await withTarget(flags, shell, LOOKING, async (target) => {
    const members = await asReading(membersOf(target));
    const wanted = members.filter(({ node, incarnation }) => node === name || incarnation === name);
    if (wanted.length === 0) {
      const names = members.map(({ node }) => node).join(", ");
      throw new NotFound(`There is no node ${name}. ${names === "" ? "None runs." : `There are ${names}.`}`);
    }
    const others = members.filter((member) => !wanted.includes(member) && !member.leaving);
    if (others.length === 0 && !flags.force) {
      throw new KeyturnError(
        "invalid_options",
        `${name} is the only node: nobody would serve its actors. Start another one first, or say --force.`,
      );
    }
    for (const member of wanted) await mark(member, target);
    const incarnations = wanted.map(({ incarnation }) => incarnation);
    output.say({ event: "asked", node: name, incarnations }, `${name} is asked to leave.`);
    if (!flags.follow) return DONE;
    const timeout_ms = flags.timeout ?? DRAIN_MS;
    const left = await until(timeout_ms, async () => {
      const owned = ownedBy(await shardTable(target));
      return incarnations.every((incarnation) => (owned.get(incarnation) ?? 0) === 0);
    });
    if (!left) {
      output.note(
        `It still has shards after ${durationText(timeout_ms)}: see keyturn shards --node ${name}.`,
      );
      return FAILED;
    }
    output.say({ event: "drained", node: name, incarnations }, `${name} has no shards any more.`);
    return DONE;
  });
}

/** Marks a member as leaving. Its heartbeats go on meanwhile, and a mark that is older than one changes nothing. */
async function mark({ incarnation }: Member, { store }: Target): Promise<void> {
  for (let tries = 0; tries < MARK_TRIES; tries++) {
    const found = (await store.directory.members()).find((member) => member.incarnation === incarnation);
    const [beat] = await store.directory.beats([incarnation], true);
    if (found === undefined || beat === undefined || found.leaving) return;
    if (!(await store.directory.join({ ...found, leaving: true, beat }))) return;
  }
  throw new Failure(`${incarnation} could not be marked as leaving: try again.`);
}

async function until(ms: number, holds: () => Promise<boolean>): Promise<boolean> {
  const until_ms = performance.now() + ms;
  for (;;) {
    // A node on an embedded store ends with its store: then nobody answers any more.
    if (await holds().catch(() => true)) return true;
    if (performance.now() > until_ms) return false;
    await sleep(LOOK_MS);
  }
}
