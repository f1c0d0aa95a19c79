/**
 * Threads that do the arithmetic, so that a node stays free for its actors. They share one copy of the digits.
 *
 * Owns the threads, one for each processor, and who waits for one.
 */
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { Worker as Thread } from "node:worker_threads";
import { digits } from "./digits.ts";
import type { Run } from "./run.ts";

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

const free: Thread[] = [];
/** Wakes those who wait for a thread, first come, first served. */
const waiting: (() => void)[] = [];
let started = 0;

/** Works out what a worker learns in a round. The same task gives the same answer, bit by bit. */
export async function learn(task: Task): Promise<Learned> {
  const thread = await take();
  try {
    const learned = await ask(thread, task);
    free.push(thread);
    return learned;
  } catch (error) {
    started--;
    throw error;
  } finally {
    waiting.shift()?.();
  }
}

async function take(): Promise<Thread> {
  while (true) {
    const thread = free.pop();
    if (thread !== undefined) return thread;
    if (started < availableParallelism()) {
      started++;
      return start();
    }
    await new Promise<void>((resolve) => waiting.push(resolve));
  }
}

async function start(): Promise<Thread> {
  const { training } = await digits();
  // Compiled or, where Node runs it as it is, not.
  const file = new URL(import.meta.url.endsWith(".ts") ? "./thread.ts" : "./thread.js", import.meta.url);
  return new Thread(file, { workerData: training });
}

function ask(thread: Thread, task: Task): Promise<Learned> {
  // One that waits for work keeps nobody's process alive.
  thread.ref();
  const asked = new AbortController();
  const { signal } = asked;
  const ended = once(thread, "exit", { signal }).then(([code]) => {
    throw new Error(`A thread has ended with ${code}.`);
  });
  const answered = once(thread, "message", { signal }).then(([learned]) => learned as Learned);
  thread.postMessage(task);
  return Promise.race([answered, ended]).finally(() => {
    asked.abort();
    thread.unref();
  });
}
