/**
 * What telemetry costs: the same asks on nodes that differ in nothing else.
 *
 * A node of a mode is compared with one that is off, in one process (telemetry-side.ts), in short slices in turns: so
 * whatever else the machine does meets both, and so does how well the process happens to be compiled, which differs from
 * one process to the next by more than telemetry costs. Nodes that are made first, or last, can be faster for as long as
 * the process lives; so there are two of each, `off, on, on, off`, and in the next process the other way around. What
 * is printed is the median of these processes' ratios, and the least and the greatest of them, between which the true one
 * is with 97 % (1 - 2/2^6, for six of them). `again` compares off with off: what differs there is chance, and what differs
 * less elsewhere cannot be told from it.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { type BenchOptions, median, type Print, round } from "./harness.ts";
import { COMPARED, type Compared, type Found, type GenerationOptions } from "./telemetry-side.ts";

const GENERATIONS = 6;

export async function telemetryCost(options: BenchOptions, print: Print): Promise<void> {
  const { inFlight = 1_024, keys = 1_000 } = options;
  const seconds = options.seconds / GENERATIONS;
  for (const mode of Object.keys(COMPARED) as Compared[]) {
    const found: Found[] = [];
    for (let generation = 0; generation < GENERATIONS; generation++)
      found.push(await run({ mode, first: generation % 2 === 1, bench: options, seconds, inFlight, keys }));
    print({
      name: "telemetry",
      store: options.store,
      ...(options.store === "memory" ? {} : { durability: options.durability }),
      in_flight: inFlight,
      keys,
      mode,
      per_s: Math.round(median(found.map(({ per_s }) => per_s))),
      spans: median(found.map(({ spans }) => spans)),
      ...named(
        "ratio",
        found.map(({ ratio }) => ratio),
      ),
      ...named(
        "cpu_ratio",
        found.map(({ cpu_ratio }) => cpu_ratio),
      ),
      ratio_to: "off",
    });
  }
}

function named(name: string, ratios: readonly number[]): Record<string, number | string> {
  const range = `${Math.min(...ratios).toFixed(3)}-${Math.max(...ratios).toFixed(3)}`;
  return { [name]: round(median(ratios), 3), [`${name}_range`]: range };
}

async function run(options: GenerationOptions): Promise<Found> {
  const file = fileURLToPath(new URL("telemetry-side.js", import.meta.url));
  const child = fork(file, [JSON.stringify(options)], { execArgv: ["--max-semi-space-size=64"] });
  try {
    return await next(child);
  } finally {
    child.kill("SIGKILL");
  }
}

async function next(child: ChildProcess): Promise<Found> {
  const failed = new AbortController();
  const { signal } = failed;
  try {
    return await Promise.race([
      once(child, "message", { signal }).then(([message]) => message as Found),
      once(child, "exit", { signal }).then(([code]) => {
        throw new Error(`A process ended with code ${code}.`);
      }),
    ]);
  } finally {
    failed.abort();
  }
}
