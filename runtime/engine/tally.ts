/**
 * What a node counts while it works: plain numbers, always on, read when somebody asks for metrics (`metrics.ts`).
 *
 * Owns the counts. Engine, cluster and node add to them; nobody decides anything by them. They outlive an incarnation,
 * so that no counter goes back when a node was fenced.
 *
 * Invariants:
 * 1. Counting allocates nothing per turn and reads no clock: times are handed in, one reading a batch.
 * 2. Counters only grow. Turns are counted when they are committed, so a turn that was undone was never one.
 */
import { type Activation, type Job, TimerJob } from "./activation.ts";
import type { OpenBatch } from "./batch.ts";
import type { HostedType } from "./definition.ts";
import type { Observer } from "./observer.ts";
import type { Taken } from "./taken.ts";

/** What turns come from. */
export const SOURCES = ["request", "told", "timer", "work"] as const;
export type TurnSource = (typeof SOURCES)[number];

/** In seconds. */
const DURATIONS: readonly number[] = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];
const SIZES: readonly number[] = [1, 4, 16, 64, 256, 1_024, 4_096];
/** Timers may be late by a downtime. In seconds. */
const LATENESS: readonly number[] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 3_600];

/** Counts by size. */
export class Tallied {
  /** Upper bounds, inclusive; what is larger than all of them is counted last. */
  readonly bounds: readonly number[];
  readonly counts: Float64Array;
  sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  add(value: number): void {
    const { bounds } = this;
    let at = 0;
    while (at < bounds.length && value > (bounds[at] as number)) at++;
    (this.counts[at] as number)++;
    this.sum += value;
  }
}

/** Of one actor type. */
export interface TypeTally {
  /** By source, in the order of `SOURCES`. */
  readonly turns: Float64Array;
}

export class Tally {
  readonly types = new Map<string, TypeTally>();
  /** From a message's intake to its turn's commit, seconds. */
  readonly turnDuration = new Tallied(DURATIONS);
  readonly batchRecords = new Tallied(SIZES);
  /** Of one append, seconds. */
  readonly commitDuration = new Tallied(DURATIONS);
  /** By how much timers were late when they fired, seconds. */
  readonly timerLateness = new Tallied(LATENESS);
  journalBytes = 0;
  /** Actors that were brought into memory. */
  activations = 0;
  /** Messages that found their actor in memory, and those that had to wait for it. */
  hits = 0;
  misses = 0;
  /** Requests that came again over their channel, by their id, and told messages that did. */
  repeatedRequests = 0;
  repeatedIds = 0;
  repeatedTold = 0;
  deadLetters = 0;
  checkpoints = 0;
  /** Lanes of the journal that this node has trimmed, each time. */
  trimmedLanes = 0;
  shardsTaken = 0;
  shardsReleased = 0;
  shardsFailed = 0;
  fenced = 0;
  storeFull = 0;
  actionsFailed = 0;
  troubles = 0;
  /** Requests that were refused, by the error's code. */
  readonly refused = new Map<string, number>();
  #lastHosted: HostedType | undefined;
  #last: TypeTally | undefined;

  refuse(code: string): void {
    this.refused.set(code, (this.refused.get(code) ?? 0) + 1);
  }

  /** A message is handled for the first time: its actor is in memory, or has to be loaded. */
  look(job: Job, { loading }: Activation): void {
    if (job.looked) return;
    job.looked = true;
    if (loading) this.misses++;
    else this.hits++;
  }

  /** A batch is committed; its turns follow. */
  committed({ entries, sent_ms, committed_ms }: OpenBatch, bytes: number): void {
    this.batchRecords.add(entries.length);
    this.commitDuration.add((committed_ms - sent_ms) / 1_000);
    this.journalBytes += bytes;
  }

  /** What has left a record in a committed batch. Called where its outputs are released: a pass of its own would cost more. */
  released(taken: Taken, batch: OpenBatch): void {
    const { a, job, turn } = taken;
    if (taken.refusal !== undefined) this.deadLetters++;
    // A record that only says that a message was refused is no turn.
    if (turn.batch !== batch.ref || turn.index !== taken.index) return;
    const row = a.hosted === this.#lastHosted ? (this.#last as TypeTally) : this.#rowOf(a.hosted);
    (row.turns[sourceIndex(job)] as number)++;
    this.turnDuration.add((batch.committed_ms - job.since_ms) / 1_000);
  }

  #rowOf(hosted: HostedType): TypeTally {
    const { type } = hosted.definition;
    let row = this.types.get(type);
    if (row === undefined) this.types.set(type, (row = { turns: new Float64Array(SOURCES.length) }));
    this.#lastHosted = hosted;
    this.#last = row;
    return row;
  }

  /** The same observer; what it is told is counted too. */
  over(observer: Observer): Observer {
    return {
      ...observer,
      actionFailed: (id, action, error) => {
        this.actionsFailed++;
        observer.actionFailed(id, action, error);
      },
      shardFailed: (shard, error) => {
        this.shardsFailed++;
        observer.shardFailed(shard, error);
      },
      fenced: (incarnation) => {
        this.fenced++;
        observer.fenced(incarnation);
      },
      shardServing: (shard, incarnation, epoch) => {
        this.shardsTaken++;
        observer.shardServing(shard, incarnation, epoch);
      },
      shardReleased: (shard, incarnation) => {
        this.shardsReleased++;
        observer.shardReleased(shard, incarnation);
      },
      storeFull: (cause) => {
        this.storeFull++;
        observer.storeFull(cause);
      },
      troubled: (task, error) => {
        this.troubles++;
        observer.troubled(task, error);
      },
    };
  }
}

function sourceIndex({ session, fromShard, kind }: Job): number {
  if (session !== undefined) return 0;
  if (fromShard >= 0) return 1;
  return kind === TimerJob ? 2 : 3;
}

export function sourceOfJob(job: Job): TurnSource {
  return SOURCES[sourceIndex(job)] as TurnSource;
}
