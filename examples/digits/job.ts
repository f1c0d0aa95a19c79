/**
 * Teaches two models to read handwritten digits, and shows how well they do it on digits that they have not seen.
 *
 * However often it is killed on the way: run again, it goes on, and comes to the same weights, bit by bit.
 */
import { constants } from "node:os";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { SingleBar } from "cli-progress";
import { embedded, isKeyturnError } from "keyturn";
import { natsOn, type OpenStore } from "../run.ts";
import { digits } from "./digits.ts";
import { type ModelName, models } from "./models.ts";
import { confusionOf, drawingsOf, type ModelReport, type Report, reportOf, tableOf } from "./report.ts";
import { type Run, ROUNDS_MAX, SEED_MAX, WORKERS_MAX } from "./run.ts";
import { type DigitsNode, startDigits, train, TrainingError } from "./training.ts";

const DATA = "data/digits";
/** Name of the app on a server. */
const APP = "digits";

const HELP = `Trains a linear SVM and a small neural network to read handwritten digits, by parameter servers and workers
that are actors. Kill it and run it again: it goes on, and comes to the same weights, bit by bit.

  node dist/examples/digits/main.js [--data DIR | --nats HOST:PORT] [--workers N] [--rounds N] [--seed N] [--json]

  --data DIR         where the actors live; ${DATA} by default, made if it is not there
  --nats HOST:PORT   they live on a NATS server, in the app "${APP}"; run it in several terminals to share the work
  --workers N        into how many parts each round is split, 1 to ${WORKERS_MAX}; 4 by default
  --rounds N         how long to train; 60 by default
  --seed N           other first weights, and another order of the digits; 1 by default
  --json             print one JSON document on standard output and nothing else there
  --help             print this`;

/** Without a terminal to redraw, the progress is a line this often. */
const PROGRESS_LINE_MS = 1_000;
const DRAWN = 6;

/**
 * Runs the job.
 * @param args of the command line, without node and the program
 * @param signal stops it early, its reason being the name of a process signal; what was learned stays
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
    const report = await runAll(place, options, signal);
    if (report === undefined) {
      process.stderr.write("Stopped. Run it again, and it goes on from here.\n");
      return 128 + constants.signals[signal.reason as NodeJS.Signals];
    }
    process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : await textOf(report, place));
    return 0;
  } catch (error) {
    if (!isExpected(error)) throw error;
    process.stderr.write(`The digits cannot be learned in ${place.text}: ${error.message}\n`);
    return 1;
  }
}

interface Options {
  readonly data: string | undefined;
  readonly nats: readonly string[] | undefined;
  readonly workers: number;
  readonly rounds: number;
  readonly seed: number;
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
        workers: { type: "string", default: "4" },
        rounds: { type: "string", default: "60" },
        seed: { type: "string", default: "1" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    const { data, nats, json, help } = values;
    if (data === "") throw new Error("--data needs the name of a folder.");
    if (nats?.includes("")) throw new Error("--nats needs HOST:PORT.");
    if (data !== undefined && nats !== undefined) throw new Error("It is --data or --nats, not both.");
    const workers = numberOf("workers", values.workers, 1, WORKERS_MAX);
    const rounds = numberOf("rounds", values.rounds, 1, ROUNDS_MAX);
    const seed = numberOf("seed", values.seed, 0, SEED_MAX);
    return { data, nats, workers, rounds, seed, json, help };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${HELP}\n`);
    return undefined;
  }
}

function numberOf(name: string, text: string, least: number, most: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(number >= least && number <= most))
    throw new Error(`--${name} is a whole number from ${least} to ${most}.`);
  return number;
}

/** Where the actors live. */
interface Place {
  /** For people. */
  readonly text: string;
  readonly open: OpenStore;
}

function placeOf({ data = DATA, nats }: Options): Place {
  if (nats !== undefined)
    return { text: `NATS at ${nats.join(", ")}, app "${APP}"`, open: natsOn(nats, APP) };
  const path = resolve(data);
  return { text: path, open: () => embedded({ path }) };
}

/** Undefined if it was stopped. */
async function runAll(place: Place, options: Options, signal: AbortSignal): Promise<Report | undefined> {
  const { training, heldOut } = await digits();
  const store = await place.open();
  try {
    const host = await startDigits(store);
    try {
      const reports: ModelReport[] = [];
      for (const model of Object.keys(models) as ModelName[]) {
        const { workers, rounds, seed } = options;
        const report = await runOne(host, { model, workers, rounds, seed }, options.json, signal);
        if (report === undefined) return undefined;
        reports.push(report);
      }
      return { digits: { training: training.count, heldOut: heldOut.count }, models: reports };
    } finally {
      await host.node.stop({ closeStore: false });
    }
  } finally {
    await store.close();
  }
}

async function runOne(
  host: DigitsNode,
  run: Run,
  json: boolean,
  signal: AbortSignal,
): Promise<ModelReport | undefined> {
  const bar = progressBar(json);
  const { title } = models[run.model];
  bar?.start(run.rounds, 0, { title, loss: "–" });
  const started = performance.now();
  const onRound = (round: number, loss: number): void => bar?.update(round, { title, loss: loss.toFixed(3) });
  try {
    const trained = await train(host, run, { signal, onRound });
    if (trained === undefined) return undefined;
    const seconds = (performance.now() - started) / 1_000;
    onRound(run.rounds, trained.loss);
    return reportOf(run, trained, seconds, await digits());
  } finally {
    bar?.stop();
  }
}

/** None if standard error is not looked at by anybody. */
function progressBar(json: boolean): SingleBar | undefined {
  if (json && !process.stderr.isTTY) return undefined;
  return new SingleBar({
    stream: process.stderr,
    format: "{bar} {percentage}% | {title} | round {value} of {total} | loss {loss} | {duration_formatted}",
    barCompleteChar: "█",
    barIncompleteChar: "░",
    barsize: 24,
    noTTYOutput: true,
    notTTYSchedule: PROGRESS_LINE_MS,
    gracefulExit: false,
    hideCursor: true,
  });
}

async function textOf(
  { digits: { training, heldOut }, models: reports }: Report,
  place: Place,
): Promise<string> {
  const number = new Intl.NumberFormat("en-US");
  const best = reports.reduce((a, b) => (b.accuracy > a.accuracy ? b : a));
  const lines = [
    tableOf(reports),
    `Learned from ${number.format(training)} digits, tried on ${number.format(heldOut)} others. Actors are parameter servers + workers.`,
    "",
    `What the ${best.title} read each digit as (a row is what it is):`,
    confusionOf(best),
  ];
  if (best.mistakes.length > 0)
    lines.push(
      "",
      `Its worst ${Math.min(DRAWN, best.mistakes.length)} of ${best.mistakes.length} mistakes:`,
      drawingsOf(best, (await digits()).heldOut, DRAWN),
    );
  for (const { title, roundsBefore, rounds } of reports)
    if (roundsBefore > 0)
      lines.push(
        "",
        roundsBefore === rounds
          ? `The ${title} had been trained before.`
          : `The ${title} had come to round ${roundsBefore} of ${rounds} before this program was started.`,
      );
  lines.push("", `The data lies in ${place.text}.`);
  return `${lines.join("\n")}\n`;
}

/** What can go wrong outside of this program, and says itself what it is. */
function isExpected(error: unknown): error is Error {
  return (
    isKeyturnError(error) || error instanceof TrainingError || (error instanceof Error && "syscall" in error)
  );
}
