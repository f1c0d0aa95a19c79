/**
 * What every benchmark needs: options, a temporary store, closed loops, percentiles and the printing of results.
 *
 * Invariants: every operation of a loop is checked to have completed, with the value it must have; a wrong one ends
 * the run with an error, never with a figure. In `--json` mode standard output carries one JSON object a line.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { counter } from "../../actors/counter.ts";
import {
  type Client,
  type Durability,
  embedded,
  type KeyturnNode,
  memory,
  type NodeSettings,
  type Store,
  startNode,
  type Telemetry,
} from "../../runtime/index.ts";

export interface BenchOptions {
  readonly store: "memory" | "embedded" | "nats";
  readonly durability: Durability;
  readonly inFlight: number | undefined;
  readonly keys: number | undefined;
  readonly seconds: number;
  /** Node processes; NATS only. */
  readonly nodes: number;
  /** Whether the floor is run beside; NATS only. */
  readonly floor: boolean;
  readonly json: boolean;
}

/** One line of the results. */
export interface Row {
  readonly name: string;
  readonly store?: string;
  readonly durability?: string;
  readonly in_flight?: number;
  readonly keys?: number;
  readonly per_s?: number;
  readonly p50_ms?: number;
  readonly p99_ms?: number;
  readonly ratio?: number;
  readonly ratio_to?: string;
  readonly [figure: string]: string | number | undefined;
}

export type Print = (row: Row) => void;

/** A node on a fresh store, and the way to get rid of both. */
export interface Bench {
  readonly node: KeyturnNode;
  readonly store: Store;
  readonly path: string;
  end(): Promise<void>;
}

export async function openStore(options: BenchOptions, path: string): Promise<Store> {
  return options.store === "memory" ? memory() : embedded({ path, durability: options.durability });
}

export async function openBench(
  options: BenchOptions,
  settings: Partial<NodeSettings> = {},
  telemetry?: Telemetry,
): Promise<Bench> {
  const path = mkdtempSync(join(tmpdir(), "keyturn-bench-"));
  const store = await openStore(options, path);
  const node = await startNode({
    actors: [counter],
    store,
    settings,
    telemetry,
    observer: { troubled: fail, shardFailed: fail },
  });
  return {
    node,
    store,
    path,
    async end() {
      await node.stop();
      rmSync(path, { recursive: true, force: true });
    },
  };
}

function fail(what: unknown, error: unknown): void {
  console.error("trouble:", what, error);
  process.exitCode = 1;
}

export interface Loop {
  readonly count: number;
  readonly per_s: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
}

/** One operation: what it answers, and what it must. */
export interface Operation {
  readonly answer: Promise<number>;
  readonly expected: number;
}

/** A closed loop: `inFlight` callers, each with one operation open at a time, for so many seconds. */
export async function closedLoop(inFlight: number, seconds: number, next: () => Operation): Promise<Loop> {
  let latencies = new Float64Array(1 << 16);
  let count = 0;
  const start = performance.now();
  const end = start + seconds * 1000;
  const caller = async (): Promise<void> => {
    for (let now = performance.now(); now < end; ) {
      const { answer, expected } = next();
      const value = await answer;
      if (value !== expected) throw new Error(`An answer was ${value}, it must be ${expected}.`);
      const done = performance.now();
      if (count === latencies.length) {
        const larger = new Float64Array(latencies.length * 2);
        larger.set(latencies);
        latencies = larger;
      }
      latencies[count++] = done - now;
      now = done;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
  const elapsed = (performance.now() - start) / 1000;
  const sorted = latencies.subarray(0, count).sort();
  const at = (share: number): number => round(sorted[Math.min(count - 1, Math.floor(count * share))] ?? 0, 3);
  return { count, per_s: Math.round(count / elapsed), p50_ms: at(0.5), p99_ms: at(0.99) };
}

/** A node, or whatever else has a client. */
export interface HasClient {
  readonly client: Client;
}

/** Adds one to random keys and checks every answer: a key's answers count up without gap or repetition. */
export class CountingLoad {
  readonly #node: HasClient;
  readonly #expected: Int32Array;
  readonly #refs: ReturnType<typeof refOf>[] = [];
  readonly #event = { type: "add", by: 1 } as const;
  #seed = 1;
  #sent = 0;
  #turn = 0;

  constructor(node: HasClient, keys: number) {
    this.#node = node;
    this.#expected = new Int32Array(keys);
    // References of many keys would fill the memory that is measured; they are cheap to make.
    if (keys <= 100_000) for (let key = 0; key < keys; key++) this.#refs.push(refOf(node, key));
  }

  /** One ask of a random key. Asks of one key are answered in their order. */
  readonly next = (): Operation => this.#begin(this.#draw());

  /** One ask of the key after the one before, round and round. */
  readonly nextInTurn = (): Operation => this.#begin(this.#turn++ % this.#expected.length);

  async ask(key = this.#draw()): Promise<void> {
    const { answer, expected } = this.#begin(key);
    const value = await answer;
    if (value !== expected) throw new Error(`counter/k${key} answered ${value}, it must be ${expected}.`);
  }

  #begin(key: number): Operation {
    const expected = (this.#expected[key] as number) + 1;
    this.#expected[key] = expected;
    this.#sent++;
    const ref = this.#refs[key] ?? refOf(this.#node, key);
    return { answer: ref.ask(this.#event), expected };
  }

  /** Reads a sample of the keys back, and all of them if there are few. */
  async verify(node: HasClient = this.#node, sample = 10_000): Promise<void> {
    const keys = this.#expected.length;
    const step = Math.max(1, Math.floor(keys / sample));
    let sum = 0;
    for (const expected of this.#expected) sum += expected;
    if (sum !== this.#sent) throw new Error(`${this.#sent} asks were sent, ${sum} were counted.`);
    for (let key = 0; key < keys; key += step * 64) {
      const some = Array.from({ length: 64 }, (_, n) => key + n * step).filter((k) => k < keys);
      const states = await Promise.all(some.map((k) => refOf(node, k).get()));
      states.forEach((state, n) => {
        const expected = this.#expected[some[n] as number];
        if (state.context.count !== expected) {
          throw new Error(`counter/k${some[n]} holds ${state.context.count}, it must be ${expected}.`);
        }
      });
    }
  }

  #draw(): number {
    // A linear congruential generator: cheap, the same in every run. Source: Numerical Recipes.
    this.#seed = (Math.imul(this.#seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.#seed / 0x1_0000_0000) * this.#expected.length);
  }
}

function refOf(
  node: HasClient,
  key: number,
): ReturnType<typeof node.client.actor<"counter", typeof counter.machine, { add: number }>> {
  return node.client.actor(counter, `k${key}`);
}

export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  if (Number.isInteger(middle)) return ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
  return sorted[Math.floor(middle)] as number;
}
