/**
 * npm run bench -- [NAME …] [--store memory|embedded|nats] [--durability fsync|process] [--in-flight N] [--keys N]
 *                  [--seconds S] [--json] [--nodes N] [--no-floor]
 */
import { parseArgs } from "node:util";
import type { BenchOptions, Row } from "./harness.ts";
import { natsScenarios, scenarios } from "./scenarios.ts";

function parse(): { names: string[]; benches: typeof scenarios; options: BenchOptions } {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      store: { type: "string", default: "embedded" },
      durability: { type: "string", default: "fsync" },
      "in-flight": { type: "string" },
      keys: { type: "string" },
      seconds: { type: "string", default: "4" },
      nodes: { type: "string", default: "1" },
      "no-floor": { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  const { store, durability, json } = values;
  if (store !== "memory" && store !== "embedded" && store !== "nats")
    throw new Error(`--store is memory, embedded or nats, not ${store}.`);
  if (durability !== "fsync" && durability !== "process")
    throw new Error(`--durability is fsync or process, not ${durability}.`);
  const benches = store === "nats" ? natsScenarios : scenarios;
  for (const name of positionals) {
    if (!Object.hasOwn(benches, name))
      throw new Error(`There is no bench ${name} on ${store}; there are ${Object.keys(benches).join(", ")}.`);
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
    nodes: number("nodes", values.nodes) ?? 1,
    floor: !values["no-floor"],
    json,
  };
  return { names: positionals.length > 0 ? positionals : Object.keys(benches), benches, options };
}

let header = "";

/** One line as it comes, under a header whenever the columns change. */
function print(row: Row, json: boolean): void {
  if (json) {
    process.stdout.write(`${JSON.stringify(row)}\n`);
    return;
  }
  const cells = Object.entries(row).map(([name, value]) => [name, String(value)] as const);
  const widthOf = (name: string): number =>
    Math.max(name.length, name === "store" || name === "durability" ? 10 : 9);
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, column) => text.padStart(widthOf((cells[column] as readonly [string, string])[0])))
      .join("  ");
  const names = line(cells.map(([name]) => name));
  if (names !== header) process.stdout.write(`${header === "" ? "" : "\n"}${names}\n`);
  header = names;
  process.stdout.write(`${line(cells.map(([, value]) => value))}\n`);
}

try {
  const { names, benches, options } = parse();
  for (const name of names) await benches[name]?.(options, (row) => print(row, options.json));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
