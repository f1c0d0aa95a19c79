/** What runs on each of the threads: see threads.ts. */
import { parentPort, workerData } from "node:worker_threads";
import type { Digits } from "./digits.ts";
import { learn, type Task } from "./learning.ts";

parentPort?.on("message", (task: Task) => parentPort?.postMessage(learn(task, workerData as Digits)));
