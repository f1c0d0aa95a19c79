/**
 * The simulator's command line; `npm run sim -- --help` says what it takes.
 *
 * Exits with 1 if there was a violation (with a bug: if there was none), 2 for what it does not understand.
 */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs, type ParseArgsConfig } from "node:util";
import { describeScenario } from "../../runtime/testing/simulator/index.ts";
import { bugs } from "./bugs/index.ts";
import { scale } from "./scale.ts";
import { commandOf, play, type PlayOptions, scenarioOf } from "./play.ts";
import { namedWorkloads, workloads } from "./workloads/index.ts";

const USAGE = `npm run sim -- --seeds 10000 [--from 1] [--jobs 2]   many seeds
               --seed 203 [--verbose]                one of them, with the tail of its trace or all of it
               --bug NAME | all [--seeds 500]        with a planted bug, until it is caught
               --scale [--nodes 200 --shards 4096 --rack 50 --seed 1]
Also: --workload NAME,NAME · --calm · --keep-going
Workloads that seeds draw: ${workloads.map(({ name }) => name).join(", ")}
Those that run by name only: ${namedWorkloads.map(({ name }) => name).join(", ")}
Bugs: ${bugs.map(({ name }) => name).join(", ")}`;

const { values } = commandLine({
  options: {
    help: { type: "boolean", default: false },
    seeds: { type: "string", default: "100" },
    seed: { type: "string" },
    from: { type: "string", default: "1" },
    workload: { type: "string" },
    bug: { type: "string" },
    jobs: { type: "string", default: "1" },
    calm: { type: "boolean", default: false },
    verbose: { type: "boolean", default: false },
    "keep-going": { type: "boolean", default: false },
    scale: { type: "boolean", default: false },
    nodes: { type: "string", default: "200" },
    shards: { type: "string", default: "4096" },
    rack: { type: "string", default: "50" },
    /** Internal: this process runs every so many seeds for another. */
    worker: { type: "string" },
  },
});

if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
const options: PlayOptions = { only: values.workload?.split(","), bug: values.bug, calm: values.calm };
const from = Number(values.from);
const seeds = Number(values.seeds);
const jobs = Number(values.jobs);
const TAIL_LINES = 60;
const size = { nodes: Number(values.nodes), shards: Number(values.shards), rack: Number(values.rack) };
for (const [name, value] of Object.entries({ from, seeds, jobs, ...size })) {
  if (Number.isSafeInteger(value) && value >= 1) continue;
  console.error(`--${name} is a whole number from 1, not ${values[name as "from" | "seeds" | "nodes"]}.`);
  process.exit(2);
}

function commandLine<T extends ParseArgsConfig>(config: T): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config);
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    process.exit(2);
  }
}

/** What a worker tells after every seed. */
interface Report {
  readonly seed: number;
  readonly events: number;
  readonly records: number;
  readonly virtual_ms: number;
  readonly violations: readonly string[];
  readonly faults: readonly (readonly [string, number])[];
}

class Totals {
  seeds = 0;
  events = 0;
  records = 0;
  virtual_ms = 0;
  readonly faults = new Map<string, number>();
  readonly failed: Report[] = [];

  add(report: Report): void {
    this.seeds++;
    this.events += report.events;
    this.records += report.records;
    this.virtual_ms += report.virtual_ms;
    for (const [name, count] of report.faults) this.faults.set(name, (this.faults.get(name) ?? 0) + count);
    if (report.violations.length > 0) this.failed.push(report);
  }
}

async function run(seed: number, how: PlayOptions): Promise<Report> {
  const { events, records, virtual_ms, violations, faults } = await play(seed, how);
  return { seed, events, records, virtual_ms, violations, faults: [...faults] };
}

/** One seed, with its trace. */
async function one(seed: number): Promise<void> {
  console.log(describeScenario(scenarioOf(seed, options)));
  const trace = (line: string): void => {
    if (values.verbose) console.log(line);
  };
  const first = await play(seed, { ...options, trace });
  if (!values.verbose && first.violations.length > 0)
    for (const line of first.tail.slice(-TAIL_LINES)) console.log(line);
  console.log(
    `seed ${seed}: hash ${first.hash}, ${first.events} events, ${first.records} records, ${first.virtual_ms} ms of virtual time`,
  );
  console.log(`faults: ${describeFaults(first.faults)}`);
  const again = await play(seed, options);
  // The trace adds to its own hash only what it would add without anybody listening.
  if (again.hash !== first.hash) console.log(`NOT DETERMINISTIC: run again its hash is ${again.hash}`);
  for (const violation of first.violations) console.log(`VIOLATION ${violation}`);
  process.exitCode = first.violations.length > 0 || again.hash !== first.hash ? 1 : 0;
}

/** Many seeds, in this process or several. */
async function many(): Promise<void> {
  const begun = performance.now();
  const totals = new Totals();
  const progress = setInterval(() => {
    const rate = totals.seeds / ((performance.now() - begun) / 1_000);
    console.log(`${totals.seeds} of ${seeds} seeds, ${rate.toFixed(1)}/s, ${totals.failed.length} violated`);
  }, 10_000);
  const enough = (): boolean => totals.failed.length > 0 && values["keep-going"] !== true;
  if (jobs <= 1) {
    for (let seed = from; seed < from + seeds && !enough(); seed++) totals.add(await run(seed, options));
  } else await Promise.all(Array.from({ length: jobs }, (_, job) => worker(job, totals, enough)));
  clearInterval(progress);
  if (totals.seeds < seeds && !enough())
    throw new Error(`Only ${totals.seeds} of ${seeds} seeds were played.`);
  const seconds = (performance.now() - begun) / 1_000;
  console.log(
    `${totals.seeds} seeds in ${seconds.toFixed(1)} s (${(totals.seeds / seconds).toFixed(1)}/s): ${totals.records} records, ` +
      `${totals.events} events, ${(totals.virtual_ms / 3_600_000).toFixed(1)} h of virtual time`,
  );
  console.log(`faults: ${describeFaults(totals.faults)}`);
  const failed = totals.failed.sort((a, b) => a.seed - b.seed);
  for (const { seed, violations } of failed.slice(0, 20)) {
    console.log(`VIOLATION in seed ${seed}: ${violations[0]?.slice(0, 600)}\n  ${commandOf(seed, options)}`);
  }
  if (failed[0] !== undefined && values.bug === undefined) await one(failed[0].seed);
  process.exitCode = failed.length > 0 === (values.bug === undefined) ? 1 : 0;
}

function worker(job: number, totals: Totals, enough: () => boolean): Promise<void> {
  const args = [...process.argv.slice(2), "--worker", String(job)];
  const child: ChildProcess = fork(fileURLToPath(import.meta.url), args);
  return new Promise((resolve, reject) => {
    child.on("message", (report: Report) => {
      totals.add(report);
      if (enough()) child.kill();
    });
    child.on("error", reject);
    child.on("exit", (code) => {
      // Ended by us, once there is enough; by anybody else it has not played its seeds.
      if (code === 0 || (code === null && enough())) resolve();
      else reject(new Error(`A worker ended with ${code ?? "a signal"}.`));
    });
  });
}

/** Every seeded bug: how many seeds it takes to catch it. */
async function table(): Promise<void> {
  for (const { name, budget, text } of bugs) {
    const begun = performance.now();
    let caught: Report | undefined;
    let seed = from;
    for (; seed < from + budget && caught === undefined; seed++) {
      const report = await run(seed, { ...options, bug: name });
      if (report.violations.length > 0) caught = report;
    }
    const seconds = ((performance.now() - begun) / 1_000).toFixed(1);
    const verdict = caught === undefined ? `NOT CAUGHT in ${budget}` : `${seed - from} seeds`;
    console.log(
      `| ${name} | ${text} | ${verdict} | ${seconds} s | ${caught?.violations[0]?.slice(0, 140) ?? ""} |`,
    );
    if (caught === undefined) process.exitCode = 1;
  }
}

/** A large cluster: what it costs, phase by phase. */
async function large(): Promise<void> {
  const begun = performance.now();
  const { nodes } = size;
  const seed = Number(values.seed ?? 1);
  const { violations, asks, longestAsk_ms, events, hash } = await scale({ ...size, seed }, (phase) => {
    const { name, took_ms, moves, seals, longestGap_ms, meanGap_ms, heartbeats, calls } = phase;
    console.log(
      `\n${name}: ${(took_ms / 1_000).toFixed(1)} s, ${moves} moves, ${seals} lanes sealed; a shard that moved was ` +
        `unserved for ${meanGap_ms.toFixed(0)} ms on average, ${longestGap_ms.toFixed(0)} ms at most`,
    );
    for (const [call, { count, items }] of [...calls].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const each = heartbeats === 0 ? "" : `, ${(count / heartbeats).toFixed(2)} per heartbeat of a node`;
      console.log(`  ${call.padEnd(18)} ${count}${items === count ? "" : ` (${items} entries)`}${each}`);
    }
  });
  const seconds = ((performance.now() - begun) / 1_000).toFixed(1);
  console.log(
    `\n${nodes} nodes, ${size.shards} shards, seed ${seed}, hash ${hash}: ${events} events in ${seconds} s; ` +
      `${asks} asks, the longest took ${(longestAsk_ms / 1_000).toFixed(1)} s`,
  );
  for (const violation of violations) console.log(`VIOLATION ${violation}`);
  process.exitCode = violations.length > 0 ? 1 : 0;
}

function describeFaults(faults: ReadonlyMap<string, number>): string {
  const list = [...faults].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, count]) => `${name} ${count}`);
  return list.length === 0 ? "none" : list.join(", ");
}

if (values.worker !== undefined) {
  for (let seed = from + Number(values.worker); seed < from + seeds; seed += jobs) {
    const report = await run(seed, options);
    await new Promise((resolve) => process.send?.(report, resolve));
  }
  process.disconnect();
} else if (values.scale) await large();
else if (values.seed !== undefined) await one(Number(values.seed));
else if (values.bug === "all") await table();
else await many();
