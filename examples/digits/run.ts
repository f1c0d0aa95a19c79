/**
 * A training: what is trained, by how many, how long, and what of it is whose work.
 *
 * A run's name says all of it, and is in the keys of its actors. So the same settings find the same actors again, an
 * actor needs nothing but its key to begin, and every number that comes out follows from the name.
 */
import { orderOf } from "./digits.ts";
import { type ModelName, models } from "./models.ts";

export interface Run {
  readonly model: ModelName;
  /** 1 to `WORKERS_MAX`. */
  readonly workers: number;
  /** 1 to `ROUNDS_MAX`. */
  readonly rounds: number;
  /** Of the first parameters and of the order of the digits, 0 to `SEED_MAX`. */
  readonly seed: number;
}

export const WORKERS_MAX = 16;
export const ROUNDS_MAX = 10_000;
export const SEED_MAX = 1_000_000;

/**
 * Parameters in one shard: 16 KiB of them. A shard holds up to `WORKERS_MAX` steps of that size besides, and all of it
 * has to fit into one actor (`limits.stateBytes`), however large the model is.
 */
const SHARD_SIZE = 4_096;
const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;

/** Digits that all workers together look at in one round. */
const DIGITS_PER_ROUND = 2_000;
/** In the course of a run the steps become smaller, down to this part of what they were. */
const LAST_RATE = 0.02;

/** For example `network.4x60.1`. */
export function nameOf({ model, workers, rounds, seed }: Run): string {
  return `${model}.${workers}x${rounds}.${seed}`;
}

/** Key of the actor that is number `part` of a run's shards or workers. */
export function keyOf(run: Run, part: number): string {
  return `${nameOf(run)}:${part}`;
}

/** What a key says. */
export function partOf(key: string): { run: Run; part: number } {
  const [, model, workers, rounds, seed, part] = /^(\w+)\.(\d+)x(\d+)\.(\d+):(\d+)$/.exec(key) ?? [];
  if (model === undefined || !Object.hasOwn(models, model))
    throw new Error(`"${key}" does not name a part of a training, as "network.4x60.1:0" does.`);
  const run = {
    model: model as ModelName,
    workers: Number(workers),
    rounds: Number(rounds),
    seed: Number(seed),
  };
  return { run, part: Number(part) };
}

export function shardCount(run: Run): number {
  return Math.ceil(models[run.model].size / SHARD_SIZE);
}

/** All numbers of a model as its shards hold them: in bytes, little endian as on every machine that Node runs on. */
export function bytesOf(values: Float32Array, shard: number): Uint8Array {
  return new Uint8Array(values.slice(shard * SHARD_SIZE, (shard + 1) * SHARD_SIZE).buffer);
}

/** The numbers of shards, in their order. */
export function valuesOf(...shards: readonly Uint8Array[]): Float32Array {
  // Copied, since bytes that were decoded may begin at any address.
  const bytes = new Uint8Array(shards.reduce((length, shard) => length + shard.byteLength, 0));
  let at = 0;
  for (const shard of shards) {
    bytes.set(shard, at);
    at += shard.byteLength;
  }
  return new Float32Array(bytes.buffer, 0, bytes.byteLength / FLOAT_BYTES);
}

/** How many of `count` digits a worker looks at in each round. */
export function lessonLength({ workers }: Run, count: number): number {
  return Math.max(1, Math.floor(Math.min(DIGITS_PER_ROUND, count) / workers));
}

/** Which of `count` digits a worker looks at in a round, in order, and how large its steps are then. */
export function lessonOf(
  run: Run,
  worker: number,
  round: number,
  count: number,
): { digits: Uint32Array; rate: number } {
  const each = lessonLength(run, count);
  const roundsPerPass = Math.floor(count / (each * run.workers));
  const order = orderOf(count, run.seed, Math.floor(round / roundsPerPass));
  const start = ((round % roundsPerPass) * run.workers + worker) * each;
  const rate = models[run.model].rate * (1 - (1 - LAST_RATE) * (round / run.rounds));
  return { digits: order.subarray(start, start + each), rate };
}
