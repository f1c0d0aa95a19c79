/**
 * A source of Parquet: the flights of `flights-3m.parquet`, two messages each, into their airports, checked against a
 * direct count. "together" combines what goes to one airport into one event, "each" tells every message by itself.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { assign, setup } from "xstate";
import { type Client, defineActor, startNode } from "../../runtime/index.ts";
import {
  defineSource,
  parquet,
  runSource,
  type Source,
  type SourceReader,
  toldTo,
} from "../../runtime/streams/index.ts";
import { bareSendsPerSecond } from "./bare.ts";
import { type BenchOptions, openStore, type Print, round } from "./harness.ts";

interface Flight {
  readonly origin: string;
  readonly destination: string;
  readonly delay: number;
}

interface Counts {
  readonly departures: number;
  readonly arrivals: number;
  readonly delay: number;
}

const FLIGHTS = 3_000_000;
/** Of the flights, how many are told one by one if nothing else is asked for. */
const FLIGHTS_EACH = 300_000;
const PARTS = 2;

const airport = defineActor({
  type: "airport",
  machine: setup({
    types: { context: {} as Counts, events: {} as { type: "seen" } & Counts },
    actions: {
      count: assign(({ context, event }) => ({
        departures: context.departures + event.departures,
        arrivals: context.arrivals + event.arrivals,
        delay: context.delay + event.delay,
      })),
    },
  }).createMachine({
    context: { departures: 0, arrivals: 0, delay: 0 },
    on: { seen: { actions: "count" } },
  }),
});

/** The first flights of the data set. */
function flightsOf(count: number): SourceReader<Flight> {
  const entry = createRequire(import.meta.url).resolve("vega-datasets");
  const path = fileURLToPath(new URL("../data/flights-3m.parquet", pathToFileURL(entry)));
  const reader = parquet<Flight>({ path, columns: ["origin", "destination", "delay"], partitions: PARTS });
  const plan = async () => {
    let left = count;
    return (await reader.plan()).map((part) => {
      const from = part.spec.from as number;
      const to = Math.min(part.spec.to as number, from + left);
      left -= to - from;
      return { ...part, spec: { ...part.spec, to } };
    });
  };
  return { ...reader, plan };
}

function countOf(flights: readonly Flight[]): Map<string, Counts> {
  const all = new Map<string, { departures: number; arrivals: number; delay: number }>();
  const at = (name: string) => {
    let counts = all.get(name);
    if (counts === undefined) all.set(name, (counts = { departures: 0, arrivals: 0, delay: 0 }));
    return counts;
  };
  for (const { origin, destination, delay } of flights) {
    const from = at(origin);
    from.departures++;
    from.delay += delay;
    at(destination).arrivals++;
  }
  return all;
}

const together = (from: SourceReader<Flight>): Source<Flight> =>
  defineSource("together", {
    from,
    toBatch: (flights) =>
      [...countOf(flights)].map(([name, counts]) => toldTo(airport, name, { type: "seen", ...counts })),
  });

const each = (from: SourceReader<Flight>): Source<Flight> =>
  defineSource("each", {
    from,
    to: ({ origin, destination, delay }) => [
      toldTo(airport, origin, { type: "seen", departures: 1, arrivals: 0, delay }),
      toldTo(airport, destination, { type: "seen", departures: 0, arrivals: 1, delay: 0 }),
    ],
  });

export async function sources(options: BenchOptions, print: Print): Promise<void> {
  await measure(options, print, options.keys ?? FLIGHTS, together);
  await measure(options, print, options.keys ?? FLIGHTS_EACH, each);
}

async function measure(
  options: BenchOptions,
  print: Print,
  flights: number,
  sourceOf: (from: SourceReader<Flight>) => Source<Flight>,
): Promise<void> {
  const from = flightsOf(flights);
  const source = sourceOf(from);
  const path = mkdtempSync(join(tmpdir(), "keyturn-bench-"));
  const store = await openStore(options, path);
  const node = await startNode({ actors: [airport, ...source.actors], store });
  try {
    const bare = bareSendsPerSecond();
    const begun = performance.now();
    const cpu = process.cpuUsage();
    const { delivered, malformed } = await runSource(node.client, source).done;
    const seconds = (performance.now() - begun) / 1_000;
    const { user, system } = process.cpuUsage(cpu);
    if (delivered !== flights || malformed !== 0)
      throw new Error(`${delivered} of ${flights} flights were delivered.`);
    await check(node.client, from);
    print({
      name: `sources ${source.name}`,
      store: options.store,
      durability: options.durability,
      flights,
      seconds: round(seconds, 2),
      per_s: Math.round(flights / seconds),
      // Of all threads, the store's too: where other programs run beside it, the seconds tell of those.
      cpu_us_per_flight: round((user + system) / flights, 2),
      ratio: round((2 * flights) / seconds / bare, 3),
      ratio_to: "bare actor.send, two a flight",
    });
  } finally {
    await node.stop();
    rmSync(path, { recursive: true, force: true });
  }
}

/** Every airport is what a direct count says. */
async function check(client: Client, from: SourceReader<Flight>): Promise<void> {
  const flights: Flight[] = [];
  const { signal } = new AbortController();
  for (const part of await from.plan())
    for await (const { items } of from.read(part, null, { signal }))
      for (const { value } of items) flights.push(value as Flight);
  for (const [name, { departures, arrivals, delay }] of countOf(flights)) {
    const { context } = await client.actor(airport, name).get();
    if (context.departures !== departures || context.arrivals !== arrivals || context.delay !== delay)
      throw new Error(`${name} is ${JSON.stringify(context)}.`);
  }
}
