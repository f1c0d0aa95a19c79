/**
 * The main job: plays 20,000 real flights into `airport` actors, on the embedded store or on NATS, and shows what they
 * became.
 *
 * However often it is started and wherever it is killed, every flight is applied once.
 */
import { constants } from "node:os";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { SingleBar } from "cli-progress";
import { type Client, embedded, isKeyturnError, type Store, startNode } from "keyturn";
import { airport } from "keyturn/actors";
import { natsOn } from "../run.ts";
import { airportsOf, type Flight, messagesOf, readFlights } from "./flights.ts";
import { play } from "./player.ts";
import { type Report, rowOf, statesOf, tableOf } from "./report.ts";

const DATA = "data/flights";
/** Name of the app on a server. */
const APP = "flights";

const HELP = `Plays 20,000 real flights into durable airport actors. Run it again, or kill it and run it again:
every flight is applied once.

  npm start -- [--data DIR | --nats HOST:PORT] [--json]

  --data DIR         where the actors live; ${DATA} by default, made if it is not there
  --nats HOST:PORT   they live on a NATS server, in the app "${APP}", shared with every node there:
                     keyturn start --nats HOST:PORT --app ${APP}
  --json             print one JSON document on standard output and nothing else there
  --help             print this`;

/** Without a terminal to redraw, the progress is a line this often. */
const PROGRESS_LINE_MS = 1_000;
/** How long to wait for another process to leave the folder, and how often to look. */
const LOCK_WAIT_MS = 3_000;
const LOCK_LOOK_MS = 50;

interface Outcome {
  readonly report: Report;
  readonly seconds: number;
}

/**
 * Runs the job.
 * @param args of the command line, without node and the program
 * @param signal stops it early, its reason being the name of a process signal; what was applied stays
 * @returns the exit code: 0, 1 for a failure, 2 for a command line that makes no sense, 128 and more for a signal
 */
export async function main(args: readonly string[], signal: AbortSignal): Promise<number> {
  const options = optionsOf(args);
  if (options === undefined) return 2;
  if (options.help) {
    process.stdout.write(`${HELP}\n`);
    return 0;
  }
  const place = placeOf(options);
  try {
    const outcome = await run(place, options.json, signal);
    if (outcome === undefined) {
      process.stderr.write("Stopped. Run it again, and it goes on from here.\n");
      return 128 + constants.signals[signal.reason as NodeJS.Signals];
    }
    process.stdout.write(options.json ? `${JSON.stringify(outcome.report)}\n` : textOf(outcome, place));
    return 0;
  } catch (error) {
    if (!isExpected(error)) throw error;
    process.stderr.write(`The flights cannot be played into ${place.text}: ${error.message}\n`);
    return 1;
  }
}

interface Options {
  readonly data: string | undefined;
  readonly nats: readonly string[] | undefined;
  readonly json: boolean;
  readonly help: boolean;
}

function optionsOf(args: readonly string[]): Options | undefined {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        data: { type: "string" },
        nats: { type: "string", multiple: true },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    const { data, nats, json, help } = values;
    if (data === "") throw new Error("--data needs the name of a folder.");
    if (nats?.includes("")) throw new Error("--nats needs HOST:PORT.");
    if (data !== undefined && nats !== undefined) throw new Error("It is --data or --nats, not both.");
    return { data, nats, json, help };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${HELP}\n`);
    return undefined;
  }
}

/** Where the actors live. */
interface Place {
  /** For people. */
  readonly text: string;
  open(signal: AbortSignal): Promise<Store>;
}

function placeOf({ data = DATA, nats }: Options): Place {
  if (nats !== undefined) {
    return { text: `NATS at ${nats.join(", ")}, app "${APP}"`, open: async () => natsOn(nats, APP)() };
  }
  const path = resolve(data);
  return { text: path, open: (signal) => openFolder(path, signal) };
}

/** Undefined if it was stopped. */
async function run(place: Place, json: boolean, signal: AbortSignal): Promise<Outcome | undefined> {
  const flights = await readFlights();
  const store = await place.open(signal);
  try {
    const node = await startNode({ actors: [airport], store });
    try {
      return await playAll(node.client, flights, json, signal);
    } finally {
      await node.stop({ closeStore: false });
    }
  } finally {
    await store.close();
  }
}

/** Opens the store. Whoever has it may be about to end: the job of an `npm start` that was killed outlives npm. */
async function openFolder(path: string, signal: AbortSignal): Promise<Store> {
  const end_ms = performance.now() + LOCK_WAIT_MS;
  while (true) {
    try {
      return await embedded({ path });
    } catch (error) {
      if (!isKeyturnError(error, "store_locked") || performance.now() > end_ms || signal.aborted) throw error;
      await sleep(LOCK_LOOK_MS);
    }
  }
}

async function playAll(
  client: Client,
  flights: readonly Flight[],
  json: boolean,
  signal: AbortSignal,
): Promise<Outcome | undefined> {
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

  const bar = progressBar(json);
  bar?.start(flights.length, 0);
  const started = performance.now();
  let confirmed = 0;
  try {
    // A flight is two messages.
    const onProgress = (messages: number): void => bar?.update(Math.floor(messages / 2));
    confirmed = await play((name) => client.actor(airport, name), messagesOf(flights), {
      signal,
      onProgress,
    });
  } finally {
    bar?.stop();
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
  return { report, seconds };
}

/** None if standard error is not looked at by anybody. */
function progressBar(json: boolean): SingleBar | undefined {
  if (json && !process.stderr.isTTY) return undefined;
  return new SingleBar({
    stream: process.stderr,
    format: "{bar} {percentage}% | {value} of {total} flights | {duration_formatted}",
    barCompleteChar: "█",
    barIncompleteChar: "░",
    noTTYOutput: true,
    notTTYSchedule: PROGRESS_LINE_MS,
    gracefulExit: false,
    hideCursor: true,
  });
}

function textOf({ report, seconds }: Outcome, { text }: Place): string {
  const { flights, applied, alreadyApplied, perSecond, airports } = report;
  const number = new Intl.NumberFormat("en-US");
  return `${[
    tableOf(airports),
    "",
    `${number.format(flights)} flights in ${seconds.toFixed(2)} s, ${number.format(perSecond)} flights/s of two messages each: ${number.format(applied)} applied, ${number.format(alreadyApplied)} already applied.`,
    `The data lies in ${text}.`,
  ].join("\n")}\n`;
}

/** What can go wrong outside of this program, and says itself what it is. */
function isExpected(error: unknown): error is Error {
  return isKeyturnError(error) || (error instanceof Error && "syscall" in error);
}
