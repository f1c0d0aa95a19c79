/**
 * The main job: plays 20,000 real flights into `airport` actors, on the embedded store or on NATS, and shows what they
 * became.
 *
 * However often it is started and wherever it is killed, every flight is applied once.
 */
import { type Client, startNode } from "keyturn";
import { airport } from "keyturn/actors";
import type { Program, Progress, Result } from "../program.ts";
import { airportsOf, type Flight, messagesOf, readFlights } from "./flights.ts";
import { play } from "./player.ts";
import { type Report, rowOf, statesOf, tableOf } from "./report.ts";

const HELP = `Plays 20,000 real flights into durable airport actors. Run it again, or kill it and run it again:
every flight is applied once.

  npm start -- [--data DIR | --nats HOST:PORT] [--json]

  --data DIR         where the actors live; data/flights by default, made if it is not there
  --nats HOST:PORT   they live on a NATS server, in the app "flights", shared with every node there:
                     keyturn start --nats HOST:PORT --app flights
  --json             print one JSON document on standard output and nothing else there
  --help             print this`;

export const program: Program = {
  app: "flights",
  help: HELP,
  options: [],
  cannot: "The flights cannot be played into",
  async run({ store, signal, progress }) {
    const flights = await readFlights();
    const node = await startNode({ actors: [airport], store });
    try {
      return await playAll(node.client, flights, progress, signal);
    } finally {
      await node.stop({ closeStore: false });
    }
  },
};

async function playAll(
  client: Client,
  flights: readonly Flight[],
  progress: Progress,
  signal: AbortSignal,
): Promise<Result | undefined> {
  const airports = airportsOf(flights);
  // What earlier runs did is asked before: an answer "alreadyApplied" may also be the second one to a message of
  // this run whose first answer was lost.
  const before = new Map<string, number>();
  for (const [index, state] of (await statesOf(client, airports)).entries()) {
    before.set(airports[index] as string, state.context.position);
  }
  const has = (name: string, position: number): boolean => position <= (before.get(name) as number);
  const alreadyApplied = flights.filter(
    ({ origin, destination }, number) => has(origin, 2 * number) && has(destination, 2 * number + 1),
  ).length;

  progress.start(flights.length, 0, "flights");
  const started = performance.now();
  let confirmed = 0;
  try {
    // A flight is two messages.
    const onProgress = (messages: number): void => progress.update(Math.floor(messages / 2));
    confirmed = await play((name) => client.actor(airport, name), messagesOf(flights), {
      signal,
      onProgress,
    });
  } finally {
    progress.stop();
  }
  if (confirmed < 2 * flights.length) return undefined;
  const seconds = (performance.now() - started) / 1_000;

  const rows = (await statesOf(client, airports)).map((state, index) =>
    rowOf(airports[index] as string, state),
  );
  const report: Report = {
    flights: flights.length,
    applied: flights.length - alreadyApplied,
    alreadyApplied,
    perSecond: Math.round(flights.length / seconds),
    airports: rows,
  };
  return { json: report, text: textOf(report, seconds) };
}

function textOf({ flights, applied, alreadyApplied, perSecond, airports }: Report, seconds: number): string {
  const number = new Intl.NumberFormat("en-US");
  return [
    tableOf(airports),
    "",
    `${number.format(flights)} flights in ${seconds.toFixed(2)} s, ${number.format(perSecond)} flights/s of two messages each: ${number.format(applied)} applied, ${number.format(alreadyApplied)} already applied.`,
  ].join("\n");
}
