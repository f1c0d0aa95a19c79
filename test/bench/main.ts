/**
 * npm run bench -- [NAME …] [--store memory|embedded] [--durability fsync|process] [--in-flight N] [--keys N]
 *                  [--seconds S] [--json]
 */
import { parseArgs } from "node:util";
import type { BenchOptions, Row } from "./harness.ts";
import { scenarios } from "./scenarios.ts";

const COLUMNS = [
  "name",
  "store",
  "durability",
  "in_flight",
  "keys",
  "per_s",
  "p50_ms",
  "p99_ms",
  "ratio",
  "ratio_to",
];

function parse(): { names: string[]; options: BenchOptions } {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      store: { type: "string", default: "embedded" },
      durability: { type: "string", default: "fsync" },
      "in-flight": { type: "string" },
      keys: { type: "string" },
      seconds: { type: "string", default: "4" },
      json: { type: "boolean", default: false },
    },
  });
  const { store, durability, json } = values;
  if (store !== "memory" && store !== "embedded")
    throw new Error(`--store is memory or embedded, not ${store}.`);
  if (durability !== "fsync" && durability !== "process")
    throw new Error(`--durability is fsync or process, not ${durability}.`);
  for (const name of positionals) {
    if (!Object.hasOwn(scenarios, name))
      throw new Error(`There is no bench ${name}; there are ${Object.keys(scenarios).join(", ")}.`);
  }
  const number = (name: string, text: string | undefined): number | undefined => {
    if (text === undefined) return undefined;
    const value = Number(text);
    if (!(value > 0)) throw new Error(`--${name} is a number above 0, not ${text}.`);
    return value;
  };
  const options: BenchOptions = {
    store,
    durability,
    inFlight: number("in-flight", values["in-flight"]),
    keys: number("keys", values.keys),
    seconds: number("seconds", values.seconds) ?? 4,
    json,
  };
  return { names: positionals.length > 0 ? positionals : Object.keys(scenarios), options };
}

function print(row: Row, json: boolean): void {
  if (json) {
    process.stdout.write(`${JSON.stringify(row)}\n`);
    return;
  }
  const others = Object.entries(row).filter(([name]) => !COLUMNS.includes(name));
  const known = COLUMNS.slice(1).filter((name) => row[name] !== undefined);
  const cells = [...known.map((name) => [name, row[name]]), ...others].map(
    ([name, value]) => `${name} ${value}`,
  );
  process.stdout.write(`${row.name.padEnd(9)} ${cells.join("  ")}\n`);
}

try {
  const { names, options } = parse();
  for (const name of names) await scenarios[name]?.(options, (row) => print(row, options.json));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
