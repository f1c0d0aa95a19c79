/**
 * The port for traces: whoever implements it is told of requests and turns that are traced, and names their contexts.
 *
 * `keyturn/telemetry` implements it on OpenTelemetry; without one the runtime pays one comparison a message. Owns the
 * decision what is traced: a message that brings a sampled W3C `traceparent` is; one that brings an unsampled one is
 * not; of those that bring none and begin something (requests, timers, what came of work), the share `sample` is drawn,
 * but never more than `perSecond`, so that what tracing costs is bounded however much there is to do.
 * What an actor is told, and what comes of its work, follows the turn that told or began it. A timer's turn begins a
 * trace of its own, with a link to the turn that set it, and is traced if that one was; only where that one belongs to
 * a trace that a timer began too is it drawn, or a timer that sets itself anew would be traced for ever. Talks to nobody.
 *
 * Invariants:
 * 1. The context of a traced turn replaces the one that came, in the turn's record and in all that it tells.
 * 2. A turn has one context, however often it has to be stepped until it fits into a batch.
 * 3. Nothing rests on a trace: what an implementation throws is reported, and the turn goes on.
 */
import type { World } from "../ports/index.ts";
import type { KeyturnError } from "../words/errors.ts";
import { begunByTimer, isBegunByTimer, isSampled, SAMPLED, traceFlags } from "../words/trace.ts";
import { type Activation, type Job, TimerJob } from "./activation.ts";
import type { OpenBatch } from "./batch.ts";
import type { NodeMetrics } from "./metrics.ts";
import type { Taken } from "./taken.ts";
import { sourceOfJob, type TurnSource } from "./tally.ts";

/** A traced turn, before it is stepped. */
export interface TurnStart {
  /** Trace (words/trace.ts, looked at already) of what caused it; undefined if the turn begins a trace. */
  readonly parent: string | undefined;
  /** For a timer's: the context of the turn that has set it, if that one was traced. */
  readonly setter?: string | undefined;
  readonly type: string;
  readonly key: string;
  readonly event: string;
  readonly source: TurnSource;
  readonly shard: number;
  /** When the message was taken in, milliseconds since the epoch, with fractions. */
  readonly start_ms: number;
  /** When it is stepped. */
  readonly stepped_ms: number;
}

/** What became of a turn, when its batch is committed. Times as above. */
export interface TurnCommit {
  readonly turn: number;
  /** Position of its record in the journal. */
  readonly position: number;
  readonly batchRecords: number;
  readonly batchBytes: number;
  /** When the batch was sent to the journal, and when that had answered. */
  readonly sent_ms: number;
  readonly committed_ms: number;
  /** Why the message was refused, for one that has left a record all the same. */
  readonly refusal: KeyturnError | undefined;
}

export interface TurnSpan {
  /** The turn's own context, as it is carried (words/trace.ts). */
  readonly trace: string;
  committed(commit: TurnCommit): void;
  /**
   * The message left no record: it was refused or, without an error, answered from the journal because it is a
   * repetition.
   */
  ended(error: { readonly code: string } | undefined, end_ms: number): void;
}

/** A client's request, before it is sent. */
export interface RequestStart {
  /** The trace that the caller gave, looked at already; the active context is preferred if it is of the same trace. */
  readonly parent: string | undefined;
  /** `ask`, `send`, `create`, `delete`, … */
  readonly operation: string;
  readonly type: string;
  readonly key: string;
  readonly event: string | undefined;
  readonly shard: number;
  readonly start_ms: number;
}

export interface RequestSpan {
  readonly trace: string;
  ended(error: unknown, end_ms: number): void;
}

/** What is recorded of every batch, by implementations that cannot read it from the node's metrics. */
export interface BatchCommit {
  readonly records: number;
  /** Of the append, seconds. */
  readonly duration_s: number;
  /** From intake to commit, seconds, of a few of its turns. Of this array and the next what they hold counts only now. */
  readonly turns_s: readonly number[];
  /** By how much timers were late that fired since the last one, seconds; of a few of them. */
  readonly lateness_s: readonly number[];
}

/** See above. Methods take little time: they are called while others wait. */
export interface Telemetry {
  /** Share of the traces that are begun here, 0 to 1. */
  readonly sample: number;
  /** How many each node and each client begins a second at most; without it as many as are drawn. */
  readonly perSecond?: number | undefined;
  /** Whether a request may be part of a trace that the caller is in at this moment. */
  active(): boolean;
  /** Undefined if it is not to be recorded after all. */
  turn(start: TurnStart): TurnSpan | undefined;
  request(start: RequestStart): RequestSpan | undefined;
  /** Runs the user's code (a custom action, an invoked promise) in the context of the turn that wanted it. */
  within<T>(trace: string, run: () => T): T;
  /** Undefined if nobody wants to hear of batches. */
  readonly batch?: ((commit: BatchCommit) => void) | undefined;
  /** A node starts. What is returned is called when it has ended. */
  node(name: string, metrics: () => NodeMetrics): () => void;
}

/** Wall-clock times with fractions, made of monotonic ones: the wall clock has whole milliseconds and may jump. */
export class WallTime {
  readonly #clock: World["clock"];
  #offset_ms: number;

  constructor(clock: World["clock"]) {
    this.#clock = clock;
    this.#offset_ms = clock.now() - clock.monotonic();
  }

  at(monotonic_ms: number): number {
    return monotonic_ms + this.#offset_ms;
  }

  now(): number {
    return this.at(this.look());
  }

  /** Looks whether the wall clock has jumped. Returns the monotonic time. */
  look(): number {
    const monotonic_ms = this.#clock.monotonic();
    const now = this.#clock.now();
    if (Math.abs(monotonic_ms + this.#offset_ms - now) > JUMP_MS) this.#offset_ms = now - monotonic_ms;
    return monotonic_ms;
  }
}

const JUMP_MS = 50;
/** Of how many of a batch's turns the durations are told. */
const BATCH_TURNS = 8;

/** Draws which traces begin. */
export class Draw {
  readonly #sample: number;
  readonly #perSecond: number;
  readonly #world: World;
  /** How many may begin, and since when no more were added. A second's worth at most, or one. */
  #left: number;
  #since_ms: number;

  constructor({ sample, perSecond = Number.POSITIVE_INFINITY }: Telemetry, world: World) {
    this.#sample = sample;
    this.#perSecond = perSecond;
    this.#world = world;
    this.#left = Math.max(1, perSecond);
    this.#since_ms = world.clock.monotonic();
  }

  /** Whether one begins. */
  next(): boolean {
    return this.#sample > 0 && this.#world.random.next() < this.#sample && this.#isAllowed();
  }

  #isAllowed(): boolean {
    const perSecond = this.#perSecond;
    if (perSecond === Number.POSITIVE_INFINITY) return true;
    const now_ms = this.#world.clock.monotonic();
    const added = ((now_ms - this.#since_ms) * perSecond) / 1_000;
    this.#left = Math.min(Math.max(1, perSecond), this.#left + added);
    this.#since_ms = now_ms;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}

/** The same; what it throws is told, and nothing else comes of it. */
export function guarded(telemetry: Telemetry, troubled: (error: unknown) => void): Telemetry {
  const safely = <T>(run: () => T): T | undefined => {
    try {
      return run();
    } catch (error) {
      troubled(error);
      return undefined;
    }
  };
  const { batch } = telemetry;
  return {
    sample: telemetry.sample,
    perSecond: telemetry.perSecond,
    // Once for every request: no function is made for it.
    active() {
      try {
        return telemetry.active();
      } catch (error) {
        troubled(error);
        return false;
      }
    },
    turn(start) {
      try {
        const span = telemetry.turn(start);
        return span && new GuardedTurn(span, troubled);
      } catch (error) {
        troubled(error);
        return undefined;
      }
    },
    request(start) {
      try {
        const span = telemetry.request(start);
        return span && new GuardedSpan(span, troubled);
      } catch (error) {
        troubled(error);
        return undefined;
      }
    },
    // What the user's code throws is its own.
    within: (trace, run) => telemetry.within(trace, run),
    batch: batch && ((commit) => safely(() => batch(commit))),
    node: (name, metrics) => safely(() => telemetry.node(name, metrics)) ?? ((): void => undefined),
  };
}

class GuardedSpan implements RequestSpan {
  readonly trace: string;
  readonly #span: RequestSpan;
  readonly #troubled: (error: unknown) => void;

  constructor(span: RequestSpan, troubled: (error: unknown) => void) {
    this.trace = span.trace;
    this.#span = span;
    this.#troubled = troubled;
  }

  ended(error: unknown, end_ms: number): void {
    try {
      this.#span.ended(error, end_ms);
    } catch (thrown) {
      this.#troubled(thrown);
    }
  }
}

class GuardedTurn extends GuardedSpan implements TurnSpan {
  readonly #turn: TurnSpan;
  readonly #failed: (error: unknown) => void;

  constructor(turn: TurnSpan, troubled: (error: unknown) => void) {
    super(turn, troubled);
    this.#turn = turn;
    this.#failed = troubled;
  }

  committed(commit: TurnCommit): void {
    try {
      this.#turn.committed(commit);
    } catch (thrown) {
      this.#failed(thrown);
    }
  }
}

/** The engine's side: which turns are traced. */
export class Tracing {
  readonly #telemetry: Telemetry;
  readonly #world: World;
  readonly #draw: Draw;
  readonly time: WallTime;
  /** Of the batch that is told; given anew with each. */
  readonly #turns: number[] = [];
  readonly #lateness: number[] = [];

  constructor(telemetry: Telemetry, world: World) {
    this.#telemetry = telemetry;
    this.#world = world;
    this.#draw = new Draw(telemetry, world);
    this.time = new WallTime(world.clock);
  }

  /**
   * A message is about to be stepped.
   * @param setter of a timer: the trace of the turn that has set it
   */
  begin(job: Job, a: Activation, event = eventOf(job), setter?: string): void {
    job.traced = true;
    const { trace, fromShard, shard } = job;
    let parent: string | undefined;
    if (trace !== undefined) {
      const flags = traceFlags(trace);
      if (flags !== undefined && (flags & SAMPLED) === 0) return;
      if (flags !== undefined) parent = trace;
    }
    // Whoever told it was not drawn.
    const linked = setter !== undefined && isSampled(setter) ? setter : undefined;
    if (parent === undefined && (fromShard >= 0 || !(follows(linked) || this.#draw.next()))) return;
    const span = this.#telemetry.turn({
      parent,
      setter: linked,
      type: a.id.slice(0, a.id.indexOf(".")),
      key: a.key,
      event,
      source: sourceOfJob(job),
      shard: shard.shard,
      start_ms: this.time.at(job.since_ms),
      stepped_ms: this.time.at(this.#world.clock.monotonic()),
    });
    if (span === undefined) return;
    job.span = span;
    job.trace = job.kind === TimerJob ? begunByTimer(span.trace) : span.trace;
  }

  /** A batch is committed. */
  committed({ entries, traced, ref, sent_ms: sent, committed_ms: now_ms }: OpenBatch, bytes: number): void {
    const sent_ms = this.time.at(sent);
    const committed_ms = this.time.at(now_ms);
    for (const { job, turn, refusal } of traced) {
      job.span?.committed({
        turn: turn.turn,
        position: ref.seq,
        batchRecords: entries.length,
        batchBytes: bytes,
        sent_ms,
        committed_ms,
        refusal,
      });
    }
    // Behind them, so that a span's start and end are told by the same offset.
    if (traced.length > 0) this.time.look();
    const { batch } = this.#telemetry;
    if (batch === undefined) return;
    const turns_s = this.#turns;
    turns_s.length = 0;
    const step = Math.ceil(entries.length / BATCH_TURNS);
    for (let at = 0; at < entries.length; at += step)
      turns_s.push((now_ms - (entries[at] as Taken).job.since_ms) / 1_000);
    const lateness_s = this.#lateness;
    batch({ records: entries.length, duration_s: (now_ms - sent) / 1_000, turns_s, lateness_s });
    lateness_s.length = 0;
  }

  /** A timer has fired, so many seconds late. */
  late(seconds: number): void {
    if (this.#telemetry.batch !== undefined && this.#lateness.length < BATCH_TURNS)
      this.#lateness.push(seconds);
  }
}

/** Whether a timer's turn is traced because the turn that set it was, whose trace is given. */
function follows(setter: string | undefined): boolean {
  return setter !== undefined && !isBegunByTimer(setter);
}

function eventOf({ message: { event } }: Job): string {
  const type = (event as { type?: unknown } | null | undefined)?.type;
  return typeof type === "string" ? type : "";
}
