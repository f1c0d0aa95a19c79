/**
 * How bad the world is: rates of what can go wrong with one message or one operation, and who can reach whom.
 *
 * Owns the current rates and the partitions. The nemesis changes them, network and disk obey. Ranges as in
 * TigerBeetle's VOPR (src/vopr.zig): loss up to 30 %, repetition up to 50 %.
 */
import type { Prng } from "./prng.ts";

export interface FaultRates {
  /** Frames. */
  readonly loss: number;
  readonly repetition: number;
  /** Share of frames that are much later than others. */
  readonly straggling: number;
  readonly delayMin_ms: number;
  readonly delayMean_ms: number;
  /** A straggler is up to so late. */
  readonly delayMax_ms: number;
  /** Frames of one sender on one subject stay in order. */
  readonly ordered: boolean;
  /** Store operations: lost before they take effect, answered by an error after they did, repeated by the network. */
  readonly requestLoss: number;
  readonly answerLoss: number;
  readonly requestRepetition: number;
  /** Store operations that are refused at once, without effect. */
  readonly refusal: number;
  readonly storeMean_ms: number;
  readonly storeTimeout_ms: number;
  readonly flush_ms: number;
  /** Mean time by which the directory's copies are behind; every other read that may be behind is of a copy. */
  readonly lag_ms: number;
}

/** Nothing goes wrong: every rate is 0. */
export const noFaults: FaultRates = {
  loss: 0,
  repetition: 0,
  straggling: 0,
  delayMin_ms: 0.05,
  delayMean_ms: 0.3,
  delayMax_ms: 1,
  ordered: true,
  requestLoss: 0,
  answerLoss: 0,
  requestRepetition: 0,
  refusal: 0,
  storeMean_ms: 0.3,
  storeTimeout_ms: 200,
  flush_ms: 0.5,
  lag_ms: 0,
};

export class Faults {
  rates: FaultRates;
  /** The store has no room. */
  full = false;
  /** The store is down. */
  down = false;
  /** Grows with every crash of the store: what was under way then is never answered. */
  storeLife = 0;
  /** How often each kind of fault has struck. */
  readonly counts = new Map<string, number>();
  readonly random: Prng;
  #partition: ((from: string, to: string) => boolean) | undefined;

  constructor(rates: FaultRates, random: Prng) {
    this.rates = rates;
    this.random = random;
  }

  count(fault: string): void {
    this.counts.set(fault, (this.counts.get(fault) ?? 0) + 1);
  }

  strikes(fault: string, probability: number): boolean {
    if (!this.random.chance(probability)) return false;
    this.count(fault);
    return true;
  }

  /** Sets who cannot reach whom. Names of hosts; the store is called `store`. */
  cut(blocked: ((from: string, to: string) => boolean) | undefined): void {
    this.#partition = blocked;
  }

  reaches(from: string, to: string): boolean {
    return this.#partition === undefined || from === to || !this.#partition(from, to);
  }

  /** How long a frame takes. */
  delay_ms(): number {
    const { delayMin_ms, delayMean_ms, delayMax_ms, straggling } = this.rates;
    const usual = delayMin_ms - Math.log(1 - this.random.next()) * delayMean_ms;
    return this.random.chance(straggling) ? this.random.between(usual, Math.max(usual, delayMax_ms)) : usual;
  }

  /** How long one way to the store takes. */
  storeDelay_ms(): number {
    return 0.02 - Math.log(1 - this.random.next()) * this.rates.storeMean_ms;
  }
}
