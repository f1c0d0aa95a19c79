/**
 * Seeded randomness.
 *
 * Owns one small generator (sfc32) that can be split into independent streams by name, so that one more draw in one
 * place does not change what happens everywhere else. Talks to nobody.
 *
 * Invariant: the same seed and the same calls give the same numbers, on every machine.
 */
import type { Random } from "../../ports/index.ts";

const LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz";

/** Random numbers that are the same for the same seed. */
export class Prng implements Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number, stream = "") {
    let hash = 0x811c9dc5 ^ seed;
    for (let at = 0; at < stream.length; at++) hash = Math.imul(hash ^ stream.charCodeAt(at), 0x01000193);
    this.#a = hash | 0;
    this.#b = seed | 0;
    this.#c = Math.floor(seed / 0x1_0000_0000) ^ 0x9e3779b9;
    for (let round = 0; round < 12; round++) this.word();
  }

  /** A stream of its own. Splitting the same state by the same name gives the same stream. */
  split(name: string): Prng {
    return new Prng(this.word() >>> 0, name);
  }

  /** 32 random bits, as a signed integer. Source: sfc32 (Doty-Humphrey, PractRand). */
  word(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    this.#c |= 0;
    return sum;
  }

  /** In [0, 1). */
  next(): number {
    return (this.word() >>> 0) / 0x1_0000_0000;
  }

  id(): string {
    let id = "";
    for (let at = 0; at < 8; at++) id += LETTERS[this.below(LETTERS.length)];
    return id;
  }

  /** A whole number in [0, count). */
  below(count: number): number {
    return Math.floor(this.next() * count);
  }

  /** A whole number in [low, high]. */
  whole(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  between(low: number, high: number): number {
    return low + this.next() * (high - low);
  }

  /** Between low and high, small ones as likely as large ones. */
  logarithmic(low: number, high: number): number {
    return low * (high / low) ** this.next();
  }

  chance(probability: number): boolean {
    return probability > 0 && this.next() < probability;
  }

  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new RangeError("nothing to pick from");
    return items[this.below(items.length)] as T;
  }

  shuffle<T>(items: readonly T[]): T[] {
    const mixed = [...items];
    for (let at = mixed.length - 1; at > 0; at--) {
      const other = this.below(at + 1);
      [mixed[at], mixed[other]] = [mixed[other] as T, mixed[at] as T];
    }
    return mixed;
  }
}
