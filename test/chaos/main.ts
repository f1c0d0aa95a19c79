/**
 * The chaos run's command line: real nodes, a real NATS server, faults from outside, histories checked.
 *
 *   npm run chaos -- --minutes 10                   one server on nats.conf, three nodes
 *   npm run chaos -- --minutes 10 --servers 3       three servers, every stream with three replicas
 *
 * Also: --nodes N · --seed N (the schedule of the faults) · --only "SIGKILL of a node,…" · --json · --keep (the logs).
 * Exits with 1 if anything did not hold; then the logs of all processes and the histories lie in a folder that it names.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { faults } from "./faults.ts";
import { reportOf, textOf } from "./report.ts";
import { chaos } from "./run.ts";
import type { Broken } from "./workloads/workload.ts";

const KEYS_SHOWN = 5;
const HISTORY_LINES = 150;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "2" },
    nodes: { type: "string", default: "3" },
    servers: { type: "string", default: "1" },
    seed: { type: "string", default: `${1 + Math.floor(Math.random() * 1_000_000)}` },
    only: { type: "string" },
    json: { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
  },
});

const minutes = number("minutes", values.minutes, 0, 24 * 60);
const nodes = whole("nodes", values.nodes, 2, 16);
const servers = whole("servers", values.servers, 1, 3);
const seed = whole("seed", values.seed, 1, Number.MAX_SAFE_INTEGER);
if (servers === 2) wrong("--servers is 1 or 3.");
const only = values.only?.split(",").map((kind) => kind.trim());
for (const kind of only ?? []) {
  if (!faults.some((fault) => fault.kind === kind))
    wrong(`There is no fault "${kind}". There are: ${faults.map((fault) => fault.kind).join(", ")}.`);
}

const logs = mkdtempSync(join(tmpdir(), "keyturn-chaos-"));
const from_ms = performance.now();
const lines: string[] = [];

function say(text: string): void {
  const line = `${((performance.now() - from_ms) / 1_000).toFixed(1).padStart(6)} s  ${text}`;
  lines.push(line);
  process.stderr.write(`${line}\n`);
}

let held = false;
try {
  const result = await chaos({
    seed,
    minutes,
    nodes,
    servers: servers === 3 ? 3 : 1,
    dist: fileURLToPath(new URL("../..", import.meta.url)),
    logs,
    only,
    say,
  });
  const report = reportOf(result, seed);
  held = report.held;
  process.stdout.write(values.json ? `${JSON.stringify(report)}\n` : `\n${textOf(report)}`);
  show(result.checks.flatMap(({ violations }) => violations));
} catch (error) {
  say(`The run failed: ${error instanceof Error ? error.stack : String(error)}`);
}
writeFileSync(join(logs, "run.log"), `${lines.join("\n")}\n`);
if (held && !values.keep) rmSync(logs, { recursive: true, force: true });
else process.stderr.write(`The logs are in ${logs}\n`);
process.stderr.write(held ? "Everything held.\n" : `NOT everything held. The schedule: --seed ${seed}\n`);
process.exit(held ? 0 : 1);

/** For each key what is wrong with it, and what clients saw of it. */
function show(broken: readonly Broken[]): void {
  const keys = new Map<string, Broken[]>();
  for (const one of broken) keys.set(one.key, [...(keys.get(one.key) ?? []), one]);
  for (const [at, [key, found]] of [...keys].entries()) {
    const { history } = found[0] as Broken;
    const file = join(logs, `violation-${at + 1}.log`);
    writeFileSync(file, `${[...found.map(({ message }) => message), "", ...history].join("\n")}\n`);
    if (at === KEYS_SHOWN)
      process.stderr.write(`\n${keys.size - at} more keys are broken; they are in ${logs}.\n`);
    if (at >= KEYS_SHOWN) continue;
    process.stderr.write(`\nVIOLATION of "${key}" (${found.length} in all): ${found[0]?.message}\n`);
    for (const line of history.slice(-HISTORY_LINES)) process.stderr.write(`  ${line}\n`);
    process.stderr.write(`  (all ${history.length} lines: ${file})\n`);
  }
}

function number(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  return text.trim() !== "" && value > min && value <= max
    ? value
    : wrong(`--${name} is a number above ${min} and up to ${max}, not ${text}.`);
}

function whole(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  return Number.isSafeInteger(value) && value >= min && value <= max
    ? value
    : wrong(`--${name} is a whole number from ${min} to ${max}, not ${text}.`);
}

function wrong(text: string): never {
  process.stderr.write(`${text}\n`);
  process.exit(2);
}
