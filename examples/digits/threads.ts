/**
 * Threads that do the arithmetic, so that a node stays free for its actors. They share one copy of the digits.
 *
 * Owns the threads, one for each processor, and who waits for one.
 */
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { Worker as Thread } from "node:worker_threads";
import { digits } from "./digits.ts";
import type { Learned, Task } from "./learning.ts";

const free: Thread[] = [];
/** Wakes those who wait for a thread, first come, first served. */
const waiting: (() => void)[] = [];
let started = 0;

/** Works a task out, on the next thread that is free. */
export async function learnOnThread(task: Task): Promise<Learned> {
  try {
    const thread = await take();
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
