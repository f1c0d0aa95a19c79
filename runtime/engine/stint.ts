/**
 * Long work in parts: after so much of it everybody else gets a turn.
 *
 * Owns how much that is. Talks to the clock's deferral only.
 */
import { limits } from "../words/limits.ts";

/** Looks at an item in memory that are done at once: a few milliseconds. */
const LOOKS = limits.queryLooks;
/** Looks that are done before they are counted. */
const PART = 1_024;
/** What making a row costs, in looks. */
export const ROW_LOOKS = 16;
/** What comparing a key costs. */
export const KEY_LOOKS = 1 / 2;

export class Stint {
  readonly #breathe: () => Promise<void>;
  #left = LOOKS;

  /** @param breathe resolves when what else there is to do was done */
  constructor(breathe: () => Promise<void>) {
    this.#breathe = breathe;
  }

  /** So many looks were done. Returns what is to be awaited before more, if that is enough for now. */
  spend(looks: number): Promise<void> | undefined {
    this.#left -= looks;
    return this.#left > 0 ? undefined : this.rest();
  }

  /** Does something with each item; one look each. */
  async each<T>(items: Iterable<T>, task: (item: T) => void): Promise<void> {
    let looks = 0;
    for (const item of items) {
      task(item);
      if (++looks < PART) continue;
      const pause = this.spend(looks);
      if (pause !== undefined) await pause;
      looks = 0;
    }
    const pause = this.spend(looks);
    if (pause !== undefined) await pause;
  }

  rest(): Promise<void> {
    this.#left = LOOKS;
    return this.#breathe();
  }
}
