/** What a worker does in a round: plain arithmetic on its part of the digits. */
import { type Digits, pixelsOf } from "./digits.ts";
import { models } from "./models.ts";
import { lessonOf, type Run } from "./run.ts";

export interface Task {
  readonly run: Run;
  readonly worker: number;
  readonly round: number;
  /** The model's parameters at the beginning of the round. */
  readonly values: Float32Array;
}

export interface Learned {
  /** For each parameter, how far the worker would move it. */
  readonly change: Float32Array;
  /** Mean over the worker's digits. */
  readonly loss: number;
}

/**
 * Goes through the worker's digits one by one, each a small step of its own, and says how far that led. With one digit it
 * would be the gradient; with many, far less has to be said than is learned. The same task gives the same answer, bit by
 * bit.
 */
export function learn({ run, worker, round, values }: Task, training: Digits): Learned {
  const model = models[run.model];
  const { digits, rate } = lessonOf(run, worker, round, training.count);
  const learned = values.slice();
  let loss = 0;
  for (const digit of digits)
    loss += model.learn(learned, pixelsOf(training, digit), training.labels[digit] as number, rate);
  return { change: learned.map((value, at) => value - (values[at] as number)), loss: loss / digits.length };
}
