/**
 * The SCXML conformance table.
 *
 *   npm run conformance                        every case: plain XState, and a durable actor that is evicted and
 *                                              restored between every two events
 *   npm run conformance -- --only history      the cases whose name matches a pattern
 *   npm run conformance -- --store embedded    on a disk; in memory by default
 *   npm run conformance -- --json              one JSON object a line, the totals last
 *
 * Exits with 1 if a case that plain XState passes is not the same on the durable actor.
 */
import { parseArgs } from "node:util";
import { loadCases } from "./cases.ts";
import { type Row, rowOf, totalsOf } from "./table.ts";

function commandLine() {
  const { values } = parseArgs({
    options: {
      json: { type: "boolean", default: false },
      store: { type: "string", default: "memory" },
      only: { type: "string", default: "" },
    },
  });
  const { store } = values;
  if (store !== "memory" && store !== "embedded")
    throw new Error(`--store is memory or embedded, not ${store}.`);
  const cases = loadCases().filter(({ id }) => new RegExp(values.only).test(id));
  if (cases.length === 0) throw new Error(`No case matches --only ${values.only}.`);
  return { json: values.json, store, cases } as const;
}

function write(line: string): void {
  process.stdout.write(`${line}\n`);
}

let options: ReturnType<typeof commandLine>;
try {
  options = commandLine();
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(2);
}
const { json, store, cases } = options;
const width = Math.max(4, ...cases.map(({ id }) => id.length));

function lineOf(id: string, plain: string, durable: string, reason: string): string {
  return `${id.padEnd(width)}  ${plain.padEnd(13)}  ${durable.padEnd(9)}  ${reason}`.trimEnd();
}

if (!json) write(lineOf("case", "plain", "durable", ""));
const rows: Row[] = [];
for (const one of cases) {
  const row = await rowOf(one, { store });
  rows.push(row);
  write(json ? JSON.stringify(row) : lineOf(row.id, row.plain, row.durable, row.reason));
}
const totals = totalsOf(rows);
if (json) write(JSON.stringify(totals));
else
  write(
    `\n${totals.cases} cases. Plain XState passes ${totals.passes}; the durable actor is the same in ${totals.same} of them.`,
  );
process.exitCode = totals.same === totals.passes ? 0 : 1;
