/** What runs on each of the threads: see threads.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { type Digits, pixelsOf } from "./digits.ts";
import { models } from "./models.ts";
import { lessonOf } from "./run.ts";
import type { Learned, Task } from "./threads.ts";

const training = workerData as Digits;

parentPort?.on("message", (task: Task) => parentPort?.postMessage(learn(task)));

/** Goes through the worker's digits one by one, and says how far that led. */
function learn({ run, worker, round, values }: Task): Learned {
  const model = models[run.model];
  const { digits, rate } = lessonOf(run, worker, round, training.count);
  const learned = values.slice();
  let loss = 0;
  for (const digit of digits)
    loss += model.learn(learned, pixelsOf(training, digit), training.labels[digit] as number, rate);
  return { change: learned.map((value, at) => value - (values[at] as number)), loss: loss / digits.length };
}
