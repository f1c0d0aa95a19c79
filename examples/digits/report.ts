/** What came out of the trainings: as data, and as tables and drawings for people. */
import { createHash } from "node:crypto";
import Table from "cli-table3";
import { CLASSES, type DataSet, type Digits, pixelsOf, SIDE } from "./digits.ts";
import { classOf, models } from "./models.ts";
import { lessonLength, type Run, shardCount } from "./run.ts";
import type { Trained } from "./training.ts";

export interface Mistake {
  /** Number among the digits that were held out. */
  readonly digit: number;
  readonly is: number;
  readonly readAs: number;
  /** By how much the score of what it was read as is above that of what it is. */
  readonly by: number;
}

export interface ModelReport extends Run {
  readonly title: string;
  readonly parameters: number;
  /** Over how many actors they are spread. */
  readonly shards: number;
  /** Digits that it learned from, each time that it did. */
  readonly steps: number;
  /** Rounds of this training that were over before this program was started. */
  readonly roundsBefore: number;
  /** Mean over the digits of the last round, each before it was learned from. */
  readonly loss: number;
  /** That this program trained, or looked on. */
  readonly seconds: number;
  /** Share of the held-out digits that are read right. */
  readonly accuracy: number;
  /** SHA-256 of the parameters' bytes, in hexadecimal: equal only if every bit is. */
  readonly fingerprint: string;
  /** `confusion[is][readAs]`: how many held-out digits. */
  readonly confusion: readonly (readonly number[])[];
  /** The worst first. */
  readonly mistakes: readonly Mistake[];
}

export interface Report {
  /** How many digits there are. */
  readonly digits: { readonly training: number; readonly heldOut: number };
  readonly models: readonly ModelReport[];
}

/** Lets a model read the digits that it has not seen. */
export function reportOf(
  run: Run,
  { values, begunAt, loss }: Trained,
  seconds: number,
  { training, heldOut }: DataSet,
): ModelReport {
  const model = models[run.model];
  const confusion = Array.from({ length: CLASSES }, () => new Array<number>(CLASSES).fill(0));
  const mistakes: Mistake[] = [];
  for (let digit = 0; digit < heldOut.count; digit++) {
    const is = heldOut.labels[digit] as number;
    const scores = model.scores(values, pixelsOf(heldOut, digit));
    const readAs = classOf(scores);
    const row = confusion[is] as number[];
    row[readAs] = (row[readAs] as number) + 1;
    if (readAs !== is)
      mistakes.push({ digit, is, readAs, by: (scores[readAs] as number) - (scores[is] as number) });
  }
  return {
    ...run,
    title: model.title,
    parameters: model.size,
    shards: shardCount(run),
    steps: run.rounds * run.workers * lessonLength(run, training.count),
    roundsBefore: begunAt,
    loss,
    seconds,
    accuracy: 1 - mistakes.length / heldOut.count,
    fingerprint: createHash("sha256").update(values).digest("hex"),
    confusion,
    mistakes: mistakes.sort((a, b) => b.by - a.by),
  };
}

// No colours: what is shown may be a file.
const style = { head: [], border: [], compact: true };
const number = new Intl.NumberFormat("en-US");
const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;

/** All models, a row each. */
export function tableOf(reports: readonly ModelReport[]): string {
  const table = new Table({
    head: ["model", "parameters", "actors", "rounds", "steps", "loss", "read right", "time", "weights"],
    colAligns: ["left", ...new Array<"right">(7).fill("right"), "left"],
    style,
  });
  for (const one of reports)
    table.push([
      one.title,
      number.format(one.parameters),
      `${one.shards} + ${one.workers}`,
      `${one.rounds}`,
      number.format(one.steps),
      one.loss.toFixed(3),
      percent(one.accuracy),
      one.roundsBefore === one.rounds ? "before" : `${one.seconds.toFixed(1)} s`,
      one.fingerprint.slice(0, 8),
    ]);
  return table.toString();
}

/** How often each digit was read as which. */
export function confusionOf({ confusion }: ModelReport): string {
  const all = confusion.map((_, digit) => `${digit}`);
  const table = new Table({
    head: ["", ...all, "right"],
    colAligns: new Array<"right">(CLASSES + 2).fill("right"),
    style,
  });
  for (const [is, row] of confusion.entries()) {
    const total = row.reduce((sum, count) => sum + count, 0);
    const cells = row.map((count) => (count === 0 ? "·" : `${count}`));
    table.push([`${is}`, ...cells, percent((row[is] as number) / total)]);
  }
  return table.toString();
}

const BESIDE = 3;
/** Digits lie in the middle of their squares. */
const MARGIN = 3;
const SHADES = " ░▒▓█";
const GAP = "   ";

/** The first mistakes, drawn, each under what it is and what it was taken for. */
export function drawingsOf({ mistakes }: ModelReport, heldOut: Digits, count: number): string {
  const shown = mistakes.slice(0, count);
  const blocks: string[] = [];
  for (let at = 0; at < shown.length; at += BESIDE) {
    const drawings = shown.slice(at, at + BESIDE).map((mistake) => drawingOf(mistake, heldOut));
    const lines = drawings[0]?.map((_, line) => drawings.map((drawing) => drawing[line]).join(GAP)) ?? [];
    blocks.push(lines.map((line) => line.trimEnd()).join("\n"));
  }
  return blocks.join("\n\n");
}

function drawingOf({ digit, is, readAs }: Mistake, heldOut: Digits): string[] {
  const pixels = pixelsOf(heldOut, digit);
  const width = SIDE - 2 * MARGIN;
  const lines = [`${is}, read as ${readAs}`.padEnd(width)];
  // A character is twice as high as it is wide.
  for (let row = MARGIN; row < SIDE - MARGIN; row += 2) {
    let line = "";
    for (let column = MARGIN; column < SIDE - MARGIN; column++) {
      const at = row * SIDE + column;
      const ink = ((pixels[at] as number) + (pixels[at + SIDE] as number)) / 2;
      line += SHADES[Math.min(SHADES.length - 1, Math.floor((ink / 256) * SHADES.length))];
    }
    lines.push(line);
  }
  return lines;
}
