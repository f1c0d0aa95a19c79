/**
 * Workloads of the chaos run: what clients do meanwhile, and what must be true of it.
 *
 * Owns the interface and what all of them need. It is the simulator's (`runtime/testing/simulator/workload.ts`) with real
 * time, without an end that is known before, and with every operation counted.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, isKeyturnError, KeyturnError } from "../../../runtime/index.ts";
import { describeOperation, type Operation } from "../../../runtime/testing/checkers/index.ts";
import { type Prng, type Result, resultOf } from "../../../runtime/testing/simulator/index.ts";
import type { Meter } from "../meter.ts";

export interface ChaosContext {
  readonly random: Prng;
  /** Clients that are partitioned now and then. */
  readonly clients: readonly Client[];
  /** A client that no fault of the network reaches. */
  readonly steady: Client;
  readonly meter: Meter;
  /** Asks the app in JSON, as a client that is not ours; the answer's payload. */
  readonly plain: (subject: string, payload: string, requestId: string | undefined) => Promise<string>;
  /** True when the faults are over: begin nothing new. */
  readonly ending: boolean;
}

export interface ChaosWorkload {
  readonly name: string;
  /** What clients do; all run at once, and return soon after `context.ending`. */
  readonly processes: readonly (() => Promise<void>)[];
  /** Reads what is left once everything is served again, by key, as JSON texts. Called again after a restart of everything. */
  finals(): Promise<ReadonlyMap<string, string>>;
  /** Called once, after the first `finals`. */
  check(): readonly Check[];
}

/** One promise, and what of it did not hold. */
export interface Check {
  readonly promise: string;
  /** What was looked at. */
  readonly scope: string;
  readonly violations: readonly Broken[];
}

export interface Broken {
  readonly key: string;
  readonly message: string;
  /** What clients saw of the key, in order. */
  readonly history: readonly string[];
}

/** For one workload: what a run of some hours makes. */
export const OPERATIONS_MAX = 5_000_000;

export function now(): number {
  return performance.now();
}

/** Waits, but not past the end. */
export async function pause(context: ChaosContext, ms: number): Promise<void> {
  if (!context.ending) await sleep(ms);
}

/** An operation of a workload: its outcome, counted. */
export async function operate<T>(
  context: ChaosContext,
  workload: string,
  call: Promise<T>,
): Promise<Result<T>> {
  const result = await resultOf(call);
  if (result.outcome === "ok") context.meter.count(workload, "ok");
  else context.meter.count(workload, result.outcome, result.error.code);
  return result;
}

/** A final read may take so long, once everything is healed. */
export const SERVED_WITHIN_MS = 60_000;
const AT_ONCE = 64;

/** Reads all keys. Throws if one is not served again in time. */
export async function readAll<T>(
  keys: readonly string[],
  read: (key: string, timeout_ms: number) => Promise<T>,
): Promise<Map<string, T>> {
  const found = new Map<string, T>();
  const until_ms = now() + SERVED_WITHIN_MS;
  const queue = [...keys];
  const reader = async (): Promise<void> => {
    for (let key = queue.shift(); key !== undefined; key = queue.shift())
      found.set(key, await insist(key, until_ms, read));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, reader));
  return found;
}

async function insist<T>(
  key: string,
  until_ms: number,
  read: (key: string, timeout_ms: number) => Promise<T>,
): Promise<T> {
  while (true) {
    try {
      return await read(key, 2_000);
    } catch (error) {
      if (!isKeyturnError(error) || !error.retryable) throw error;
      if (now() > until_ms)
        throw new KeyturnError("timeout", `${key} is not served again: ${error.message}`, { cause: error });
      await sleep(100);
    }
  }
}

/** A history as lines. Long ones are cut in the middle. */
export function linesOf(operations: readonly Operation[]): string[] {
  return operations.map((operation) => {
    const detail = operation.detail === undefined ? "" : ` (${String(operation.detail)})`;
    return `${describeOperation(operation)}${detail}`;
  });
}

/** Keys that are used for a while and then replaced, so that each has a history that can be checked. */
export class KeyRing {
  /** All keys so far. */
  readonly keys: string[] = [];
  readonly #active: { key: string; uses: number; unknown: number }[] = [];
  readonly #prefix: string;
  readonly #size: number;
  readonly #usesMax: number;
  readonly #unknownMax: number;

  constructor(prefix: string, size: number, usesMax: number, unknownMax = Number.POSITIVE_INFINITY) {
    this.#prefix = prefix;
    this.#size = size;
    this.#usesMax = usesMax;
    this.#unknownMax = unknownMax;
  }

  /** A key for one more operation. */
  pick(random: Prng): string {
    while (this.#active.length < this.#size) {
      const key = `${this.#prefix}${this.keys.length}`;
      this.keys.push(key);
      this.#active.push({ key, uses: 0, unknown: 0 });
    }
    const entry = random.pick(this.#active);
    if (++entry.uses >= this.#usesMax) this.#retire(entry.key);
    return entry.key;
  }

  /** The outcome of an operation on it is unknown: too many of them, and nothing can be concluded any more. */
  unknown(key: string): void {
    const entry = this.#active.find((active) => active.key === key);
    if (entry !== undefined && ++entry.unknown >= this.#unknownMax) this.#retire(key);
  }

  #retire(key: string): void {
    const at = this.#active.findIndex((active) => active.key === key);
    if (at >= 0) this.#active.splice(at, 1);
  }
}
