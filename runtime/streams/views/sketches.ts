/**
 * Aggregates over values of which there may be any number: how many different ones, and which are the most frequent.
 *
 * Owns both summaries. Each has a bound on its size, is exact below it, and says so in its result.
 *
 * - `distinct`: up to a bound the hashes themselves, above it HyperLogLog (Flajolet, Fusy, Gandouet, Meunier 2007; small
 *   numbers by linear counting, as there). Of 2^p registers the standard error is 1.04 / sqrt(2^p).
 * - `topK`: Space-Saving (Metwally, Agrawal, El Abbadi 2005): a counter for each of `capacity` values; one more takes the
 *   place of the lightest and inherits its weight as a possible error. Merged as in Agarwal et al., Mergeable Summaries
 *   (2012). No value heavier than total / capacity is missed.
 */
import { KeyturnError } from "../../words/errors.ts";
import { type Aggregate, type Of, reading, show } from "./aggregates.ts";
import { hash53 } from "./hash.ts";

/** How many different values there were. */
export interface DistinctCount {
  readonly count: number;
  /** False for an estimate. */
  readonly exact: boolean;
}

const EXACT_DEFAULT = 256;
const EXACT_MAX = 4_096;
const PRECISION_DEFAULT = 11;
const NUMBER_BYTES = 9;
const HASH_BITS = 53;
/** 2^32. */
const WORD = 0x1_0000_0000;

type DistinctState = readonly number[] | Uint8Array;

/**
 * How many different values a path or function gives. Exact up to `exact` values (256 by default, at most 4,096), then an
 * estimate with a standard error of 2.3 % (`precision` 11, so 2^11 bytes; 4 to 14 may be chosen).
 */
export function distinct(
  of: Of<string | number | boolean | null | undefined>,
  { exact = EXACT_DEFAULT, precision = PRECISION_DEFAULT }: { exact?: number; precision?: number } = {},
): Aggregate<DistinctCount> {
  const whole = (value: number, low: number, high: number): boolean =>
    Number.isSafeInteger(value) && value >= low && value <= high;
  if (!whole(exact, 0, EXACT_MAX) || !whole(precision, 4, 14))
    throw new KeyturnError(
      "invalid_options",
      `distinct() is exact up to 0 to ${EXACT_MAX} values and has a precision of 4 to 14, not ${exact} and ${precision}.`,
    );
  const read = reading(of, "What distinct() is of");
  const merge = (state: unknown, other: unknown): unknown => {
    const [mine, theirs] = [state as DistinctState, other as DistinctState];
    if (theirs instanceof Uint8Array) {
      const base = mine instanceof Uint8Array ? mine : withAll(new Uint8Array(theirs.length), mine);
      return base.map((rank, at) => Math.max(rank, theirs[at] as number));
    }
    return theirs.reduce<DistinctState>((sum, hash) => added(sum, hash, exact, precision), mine);
  };
  return {
    kind: "distinct",
    mergeable: true,
    heavy: true,
    bytes: Math.max(exact * NUMBER_BYTES, 2 ** precision) + 5,
    empty: [],
    take: (event, by) => {
      const value = read(event, by);
      if (value === undefined || value === null) return undefined;
      if (typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean")
        throw new Error(`what distinct() reads is ${show(value)}, not a text, number or truth.`);
      return hash53(value);
    },
    add: (state, taken) => added(state as DistinctState, taken as number, exact, precision),
    merge,
    result: (state) => {
      const kept = state as DistinctState;
      return kept instanceof Uint8Array
        ? { count: estimate(kept), exact: false }
        : { count: kept.length, exact: true };
    },
  };
}

function added(state: DistinctState, hash: number, exact: number, precision: number): DistinctState {
  if (state instanceof Uint8Array) return withHash(state, hash);
  if (state.includes(hash)) return state;
  if (state.length < exact) return [...state, hash];
  return withAll(new Uint8Array(2 ** precision), [...state, hash]);
}

/** Registers with one more hash; the same ones if it changes none. */
function withHash(registers: Uint8Array, hash: number): Uint8Array {
  const [at, rank] = placeOf(hash, registers.length);
  if ((registers[at] as number) >= rank) return registers;
  const next = registers.slice();
  next[at] = rank;
  return next;
}

function withAll(registers: Uint8Array, hashes: readonly number[]): Uint8Array {
  for (const hash of hashes) {
    const [at, rank] = placeOf(hash, registers.length);
    if ((registers[at] as number) < rank) registers[at] = rank;
  }
  return registers;
}

/** A hash's register, and one more than the zeros that its other bits begin with. */
function placeOf(hash: number, size: number): [at: number, rank: number] {
  const rest = Math.floor(hash / size);
  const high = Math.floor(rest / WORD);
  // Whole numbers only: logarithms are not the same everywhere.
  const length = high > 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(rest);
  return [hash % size, HASH_BITS - (31 - Math.clz32(size)) - length + 1];
}

function estimate(registers: Uint8Array): number {
  const m = registers.length;
  let sum = 0;
  let zeros = 0;
  for (const rank of registers) {
    sum += 2 ** -rank;
    if (rank === 0) zeros++;
  }
  const alpha = m === 16 ? 0.673 : m === 32 ? 0.697 : m === 64 ? 0.709 : 0.7213 / (1 + 1.079 / m);
  const raw = (alpha * m * m) / sum;
  return Math.round(raw <= 2.5 * m && zeros > 0 ? m * Math.log(m / zeros) : raw);
}

/** One of the heaviest values. */
export interface TopEntry<T = string | number> {
  readonly value: T;
  readonly weight: number;
  /** The weight may be too high by so much; 0 means that it is exact. */
  readonly error: number;
}

type Counter = readonly [value: string | number, weight: number, error: number];
/** `floor`: what a value that has no counter may weigh. */
interface TopState {
  readonly floor: number;
  readonly counters: readonly Counter[];
}

const TEXT_MAX = 256;
const CAPACITY_MAX = 4_096;

/**
 * The `k` values with the greatest weight, heaviest first. Exact as long as there are no more different values than
 * `capacity` (ten times `k` by default, at least 100, at most 4,096); above it each entry says by how much its weight may
 * be too high.
 * @param options.by the value: a path or function; a text of up to 256 characters or a number
 * @param options.weight of an event, from 0; 1 by default
 */
export function topK<T extends string | number = string | number>(
  k: number,
  options: {
    readonly by: Of<T | null | undefined>;
    readonly weight?: Of<number | null | undefined>;
    readonly capacity?: number;
  },
): Aggregate<readonly TopEntry<T>[]> {
  const capacity = options?.capacity ?? Math.min(CAPACITY_MAX, Math.max(100, 10 * k));
  const fits = Number.isSafeInteger(k) && k > 0 && Number.isSafeInteger(capacity) && capacity >= k;
  if (!fits || capacity > CAPACITY_MAX)
    throw new KeyturnError(
      "invalid_options",
      `topK takes how many, from 1, and a capacity of at least as many and at most ${CAPACITY_MAX}; not ${k} and ${capacity}.`,
    );
  const read = reading(options.by, "What topK() is by");
  const weigh = options.weight === undefined ? undefined : reading(options.weight, "The weight of topK()");
  return {
    kind: "topK",
    mergeable: true,
    heavy: true,
    bytes: capacity * 32,
    empty: { floor: 0, counters: [] } satisfies TopState,
    take: (event, by) => {
      const value = read(event, by);
      if (value === undefined || value === null) return undefined;
      const fine = typeof value === "string" ? value.length <= TEXT_MAX : Number.isFinite(value);
      if (!fine || typeof value === "boolean")
        throw new Error(
          `what topK() reads is ${show(value)}, not a text of up to ${TEXT_MAX} characters or a finite number.`,
        );
      const weight = weigh === undefined ? 1 : (weigh(event, by) ?? 0);
      if (typeof weight !== "number" || !(weight >= 0 && Number.isFinite(weight)))
        throw new Error(`the weight of topK() is ${show(weight)}, not a finite number from 0.`);
      return [value, weight];
    },
    add: (state, taken) => {
      const [value, weight] = taken as [string | number, number];
      return weight === 0 ? state : heavier(state as TopState, value, weight, capacity);
    },
    merge: (state, other) => merged(state as TopState, other as TopState, capacity),
    result: (state) =>
      [...(state as TopState).counters]
        .sort(byWeight)
        .slice(0, k)
        .map(([value, weight, error]) => ({ value: value as T, weight, error })),
  };
}

function heavier(
  { floor, counters }: TopState,
  value: string | number,
  weight: number,
  capacity: number,
): TopState {
  const at = counters.findIndex(([known]) => known === value);
  if (at >= 0) {
    const [, before, error] = counters[at] as Counter;
    return { floor, counters: counters.with(at, [value, before + weight, error]) };
  }
  if (counters.length < capacity) return { floor, counters: [...counters, [value, floor + weight, floor]] };
  let lightest = 0;
  for (let one = 1; one < counters.length; one++)
    if (byWeight(counters[one] as Counter, counters[lightest] as Counter) > 0) lightest = one;
  const least = (counters[lightest] as Counter)[1];
  return { floor: Math.max(floor, least), counters: counters.with(lightest, [value, least + weight, least]) };
}

function merged(a: TopState, b: TopState, capacity: number): TopState {
  const all = new Map<string | number, Counter>();
  for (const [value, weight, error] of a.counters) all.set(value, [value, weight + b.floor, error + b.floor]);
  for (const [value, weight, error] of b.counters) {
    const known = all.get(value);
    // What it had of b's floor is known exactly now.
    if (known === undefined) all.set(value, [value, weight + a.floor, error + a.floor]);
    else all.set(value, [value, known[1] - b.floor + weight, known[2] - b.floor + error]);
  }
  const counters = [...all.values()].sort(byWeight);
  const dropped = counters[capacity];
  const floor = Math.max(a.floor + b.floor, dropped === undefined ? 0 : dropped[1]);
  return { floor, counters: counters.slice(0, capacity) };
}

/** Heaviest first; values in their order where weights are the same, so that the result is one. */
function byWeight([a, weight]: Counter, [b, other]: Counter): number {
  if (weight !== other) return other - weight;
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
  return typeof a === "number" ? -1 : 1;
}
