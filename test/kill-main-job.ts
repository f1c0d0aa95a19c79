/**
 * Kills the main job 20 times at random moments, as `kill -9` does, and compares what it comes to in the end with what
 * the data set says. By hand: `npm run kill`.
 *
 * A folder sees several kills in a row before the job may finish in it, so that what one left behind is not tidied up
 * before the next. How far the job was at a kill is read from a copy of the folder: looking would be a clean start.
 */
import { existsSync } from "node:fs";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { fileURLToPath } from "node:url";
import { airport } from "../actors/index.ts";
import { airportsOf, readFlights } from "../examples/flights/flights.ts";
import { type Report, statesOf } from "../examples/flights/report.ts";
import { embedded, startNode } from "../runtime/index.ts";
import { expectedAirports, killJob, runJob, temporaryFolder } from "./support/main-job.ts";

const KILLS = 20;
/** In one folder, before the job may finish. */
const KILLS_IN_A_ROW = 4;
const program = fileURLToPath(new URL("../examples/flights/main.js", import.meta.url));

const flights = await readFlights();
const expected = expectedAirports(flights);
const folder = await temporaryFolder();

/** Messages that are applied in a store that nobody has open. */
async function appliedIn(path: string): Promise<number> {
  if (!existsSync(path)) return 0;
  const copy = join(folder.path, "copy");
  await cp(path, copy, { recursive: true });
  const node = await startNode({ actors: [airport], store: embedded({ path: copy }) });
  const states = await statesOf(node.client, airportsOf(flights));
  await node.stop();
  await rm(copy, { recursive: true });
  return states.reduce((sum, { context }) => sum + context.departures + context.arrivals, 0);
}

/** Lets the job finish, and compares. */
async function finish(path: string): Promise<boolean> {
  const { code, stdout, stderr } = await runJob(program, "--json", "--data", path);
  if (code !== 0) throw new Error(`The job ended with ${code}: ${stderr}`);
  const { airports, applied, alreadyApplied } = JSON.parse(stdout) as Report;
  const same = isDeepStrictEqual(airports, expected) && applied + alreadyApplied === flights.length;
  console.log(
    `  finished: ${applied} flights were left, the airports are ${same ? "the same" : "NOT THE SAME"}`,
  );
  return same;
}

try {
  const started = performance.now();
  let good = await finish(join(folder.path, "undisturbed"));
  const duration_ms = performance.now() - started;
  let kills = 0;
  for (let round = 1; kills < KILLS; round++) {
    const data = join(folder.path, `${round}`);
    for (let row = 0; row < KILLS_IN_A_ROW && kills < KILLS; row++) {
      const after_ms = Math.round(Math.random() * duration_ms);
      if (!(await killJob(program, after_ms, "--json", "--data", data))) {
        console.log(`  not killed: it had ended before ${after_ms} ms`);
        break;
      }
      kills++;
      console.log(
        `kill ${kills} after ${after_ms} ms: ${await appliedIn(data)} of ${2 * flights.length} messages applied`,
      );
    }
    good = (await finish(data)) && good;
  }
  console.log(good ? `${kills} kills, always the same airports.` : "The airports differ.");
  process.exitCode = good ? 0 : 1;
} finally {
  await folder.remove();
}
