/** The messages that were taken in and not stepped yet, in order. An array with a moving head: no shifting. */
import type { Job } from "./activation.ts";

/** Taken messages are cut off the front when there are this many. */
const CUT = 8_192;

export class Queue {
  #jobs: Job[] = [];
  #head = 0;

  get length(): number {
    return this.#jobs.length - this.#head;
  }

  push(job: Job): void {
    this.#jobs.push(job);
  }

  /** The oldest message; it stays. */
  peek(): Job | undefined {
    return this.#jobs[this.#head];
  }

  /** Takes the oldest message away. */
  drop(): void {
    this.#head++;
    if (this.#head === this.#jobs.length) {
      this.#jobs.length = 0;
      this.#head = 0;
    } else if (this.#head > CUT) {
      this.#jobs.splice(0, this.#head);
      this.#head = 0;
    }
  }

  /** Shows each message, the oldest first. */
  each(look: (job: Job) => void): void {
    for (let at = this.#head; at < this.#jobs.length; at++) look(this.#jobs[at] as Job);
  }

  /** Puts messages before all others. */
  unshift(jobs: readonly Job[]): void {
    this.#jobs = [...jobs, ...this.#jobs.slice(this.#head)];
    this.#head = 0;
  }

  /** Keeps only some messages. */
  keep(wanted: (job: Job) => boolean): void {
    this.#jobs = this.#jobs.slice(this.#head).filter(wanted);
    this.#head = 0;
  }

  clear(): void {
    this.#jobs = [];
    this.#head = 0;
  }
}
