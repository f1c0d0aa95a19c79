/**
 * Work that runs at once, with a bound; and work of which only one run is under way at a time.
 *
 * Owns nothing else. Talks to nobody.
 */

/**
 * Runs a task for every item, at most so many at once. Waits for all that were begun, then throws the first error:
 * nothing is under way any more when this returns. After an error no other is begun.
 */
export async function forEach<T>(
  items: readonly T[],
  atOnce: number,
  run: (item: T) => Promise<void>,
): Promise<void> {
  const failures: unknown[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length && failures.length === 0) {
      try {
        await run(items[next++] as T);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  if (failures.length > 0) throw failures[0];
}

/** A task that runs again as long as it is asked for, one run at a time. */
export class Repeated {
  readonly #task: () => Promise<void>;
  #running: Promise<void> | undefined;
  #again = false;

  constructor(task: () => Promise<void>) {
    this.#task = task;
  }

  /** Resolves when a run that began after this call has ended and no other is asked for; rejects if one fails. */
  run(): Promise<void> {
    this.#again = true;
    this.#running ??= this.#run();
    return this.#running;
  }

  async #run(): Promise<void> {
    try {
      while (this.#again) {
        this.#again = false;
        await this.#task();
      }
    } finally {
      // In the same moment in which `again` was found false: a call in between would be lost.
      this.#running = undefined;
    }
  }
}
