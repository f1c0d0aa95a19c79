/**
 * Teaches two models to read handwritten digits, and shows how well they do it on digits that they have not seen.
 *
 * However often it is killed on the way: run again, it goes on, and comes to the same weights, bit by bit.
 */
import { numberOf, type OwnOptions, type Program, type Progress } from "../program.ts";
import { digits } from "./digits.ts";
import { type ModelName, models } from "./models.ts";
import { confusionOf, drawingsOf, type ModelReport, type Report, reportOf, tableOf } from "./report.ts";
import { type Run, ROUNDS_MAX, SEED_MAX, WORKERS_MAX } from "./run.ts";
import { type DigitsNode, startDigits, train } from "./training.ts";

const HELP = `Trains a linear SVM and a small neural network to read handwritten digits, by parameter servers and workers
that are actors. Kill it and run it again: it goes on, and comes to the same weights, bit by bit.

  node dist/examples/digits/main.js [--data DIR | --nats HOST:PORT] [--workers N] [--rounds N] [--seed N] [--json]

  --data DIR         where the actors live; data/digits by default, made if it is not there
  --nats HOST:PORT   they live on a NATS server, in the app "digits"; run it in several terminals to share the work
  --workers N        into how many parts each round is split, 1 to ${WORKERS_MAX}; 4 by default
  --rounds N         how long to train; 60 by default
  --seed N           other first weights, and another order of the digits; 1 by default
  --json             print one JSON document on standard output and nothing else there
  --help             print this`;

const DRAWN = 6;

export const program: Program = {
  app: "digits",
  help: HELP,
  options: ["workers", "rounds", "seed"],
  cannot: "The digits cannot be learned in",
  check: runOf,
  async run({ store, options, signal, progress }) {
    const { training, heldOut } = await digits();
    const host = await startDigits(store);
    try {
      const reports: ModelReport[] = [];
      for (const model of Object.keys(models) as ModelName[]) {
        const report = await runOne(host, { model, ...runOf(options) }, progress, signal);
        if (report === undefined) return undefined;
        reports.push(report);
      }
      const report: Report = {
        digits: { training: training.count, heldOut: heldOut.count },
        models: reports,
      };
      return { json: report, text: await textOf(report) };
    } finally {
      await host.node.stop({ closeStore: false });
    }
  },
};

function runOf(options: OwnOptions): Omit<Run, "model"> {
  return {
    workers: numberOf(options, "workers", 1, WORKERS_MAX) ?? 4,
    rounds: numberOf(options, "rounds", 1, ROUNDS_MAX) ?? 60,
    seed: numberOf(options, "seed", 0, SEED_MAX) ?? 1,
  };
}

async function runOne(
  host: DigitsNode,
  run: Run,
  progress: Progress,
  signal: AbortSignal,
): Promise<ModelReport | undefined> {
  progress.start(run.rounds, 0, `rounds of the ${models[run.model].title}`);
  const started = performance.now();
  const onRound = (round: number, loss: number): void => progress.update(round, `loss ${loss.toFixed(3)}`);
  try {
    const trained = await train(host, run, { signal, onRound });
    if (trained === undefined) return undefined;
    const seconds = (performance.now() - started) / 1_000;
    onRound(run.rounds, trained.loss);
    return reportOf(run, trained, seconds, await digits());
  } finally {
    progress.stop();
  }
}

async function textOf({ digits: { training, heldOut }, models: reports }: Report): Promise<string> {
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
  return lines.join("\n");
}
