/**
 * The gate: what follows from a turn leaves when the turn is committed, or the turn is undone.
 *
 * Owns nothing but the order. Reads committed batches; hands replies to the answers, told messages to the outbox, states
 * to watches and catalogs, timers to the shards' heaps and the alarm, work to the works, dead letters to the store.
 *
 * Invariants:
 * 1. Nothing leaves before the record it follows from is committed: replies, tells, watches, timers, work, custom
 *    actions, and also answers that only read, if the actor has turns in flight.
 * 2. Custom actions come last: a turn stands, whatever becomes of them.
 * 3. After `shut` nothing uncommitted is left anywhere: actors, heaps and channels are where the journal is. Whoever waits
 *    for an answer is told that nothing was applied; all else comes again.
 */
import { KeyturnError } from "../words/errors.ts";
import { Ask, AskBoth, CancelTimer, Create, Replace, type Reply } from "../words/frames.ts";
import { type Activation, ChildJob, type Job, type Turn } from "./activation.ts";
import type { Alarm } from "./alarm.ts";
import { type Answers, stateBytes, stateOf } from "./answers.ts";
import type { OpenBatch } from "./batch.ts";
import type { Catalogs } from "./catalog/catalogs.ts";
import type { ActorState } from "./definition.ts";
import type { Intake } from "./intake.ts";
import type { LocalIntake } from "./local-intake.ts";
import { type ActionEffect, isWorkTimer } from "./machine.ts";
import type { Outbox } from "./outbox.ts";
import type { EngineParts } from "./parts.ts";
import type { Queue } from "./queue.ts";
import { decodeRecord } from "./record.ts";
import type { ShardState } from "./shard.ts";
import { earliestDue, nextDue } from "./state.ts";
import type { Taken } from "./taken.ts";
import type { Watches } from "./watches.ts";
import type { Works } from "./works.ts";

/** After the store had no room: how long new messages are refused before it is tried again. */
const FULL_PAUSE_MS = 1_000;

/** Where a turn's outputs go. */
export interface Exits {
  readonly answers: Answers;
  readonly outbox: Outbox;
  readonly watches: Watches;
  readonly catalogs: Catalogs;
  readonly works: Works;
  readonly alarm: Alarm;
}

/** Where messages come from, and what undoing gives back to them. */
export interface Entrances {
  readonly shards: ReadonlyMap<number, ShardState>;
  readonly queue: Queue;
  readonly intake: Intake;
  readonly local: LocalIntake;
}

export class Gate {
  readonly #parts: EngineParts;
  readonly #exits: Exits;
  readonly #entrances: Entrances;

  constructor(parts: EngineParts, exits: Exits, entrances: Entrances) {
    this.#parts = parts;
    this.#exits = exits;
    this.#entrances = entrances;
  }

  /** A batch is committed. */
  open(batch: OpenBatch): void {
    const { answers, outbox, works } = this.#exits;
    const now = this.#parts.world.clock.now();
    for (const entry of batch.entries) this.#release(entry, batch, now);
    for (const read of batch.reads) read(undefined);
    answers.flush();
    outbox.flush();
    for (const { a, job, actions, receives } of batch.entries) {
      for (const action of actions) this.#run(a, action, job);
      for (const { session, event } of receives) works.receive(a.id, session, event);
    }
  }

  /** What was stepped is not in the journal, for lack of room: it is undone, and writes are refused for a while. */
  shut(batches: readonly OpenBatch[], cause: unknown): void {
    const { shards, queue, intake } = this.#entrances;
    this.#parts.observer.storeFull(cause);
    const error = storeFull();
    intake.close(error, FULL_PAUSE_MS);
    for (const { entries } of batches) {
      for (const { a, job } of entries) {
        a.latest = a.committed;
        // Also for a message: a timer that it cancelled may have been rung meanwhile, and found cancelled. Work too: a
        // retry that was due and not rung yet is not running.
        job.shard.due.set(a.id, earliestDue(a.committed.timers));
      }
    }
    // Every channel goes back to what is, and told messages come again.
    for (const shard of shards.values()) {
      for (const channel of shard.outs.values()) channel.rollback();
      for (const channel of shard.ins.values()) shard.busy -= channel.rollback();
    }
    queue.keep((job) => {
      if (job.fromShard >= 0) job.shard.busy--;
      return job.fromShard < 0;
    });
    for (const batch of batches) this.#tellUndone(batch, error);
    const { alarm } = this.#exits;
    this.#parts.world.clock.after(FULL_PAUSE_MS, () => alarm.look());
  }

  #tellUndone({ entries, reads }: OpenBatch, error: KeyturnError): void {
    for (const { job } of entries) {
      if (job.kind === ChildJob) this.#entrances.local.bringLater(job);
      else if (job.session === undefined) job.shard.busy--;
      else this.#exits.answers.reject(job, error);
    }
    for (const read of reads) read(error);
  }

  /** Stores a shard's dead letters. What fails is stored by the next checkpoint. */
  bury(shard: ShardState): void {
    const { store, observer } = this.#parts;
    shard.letters.put(store.deadLetters).catch((error: unknown) => observer.troubled("dead letters", error));
  }

  /** One committed turn's outputs. */
  #release(taken: Taken, batch: OpenBatch, now: number): void {
    const { answers, outbox, alarm } = this.#exits;
    const { a, job, turn } = taken;
    const { shard } = job;
    this.#parts.tally.released(taken, batch);
    shard.busy--;
    if (shard.phase === "gone") return;
    if (turn !== a.committed) this.#advance(a, turn, job, now);
    if (job.session !== undefined) {
      const value = answerTo(job.kind, taken, a, now);
      const reply: Reply = [shard.shard, job.number, undefined, value];
      job.session.settle(job.number, reply);
      answers.add(shard, job.session.name, reply, answerBytes(job.kind, taken));
    } else if (job.fromShard >= 0) {
      shard.in(job.fromShard).commit(job.number);
      outbox.acknowledge(shard, job.fromShard, job.number);
    }
    if (taken.out.length > 0) outbox.add(shard, taken.out);
    if (turn.timers.length > 0) alarm.lookAt(shard.due.next());
    if (taken.refusal !== undefined) {
      const at = [batch.ref.seq, taken.index] as const;
      shard.letters.add(decodeRecord(taken.record), at, batch.time);
      this.bury(shard);
    }
  }

  /** A turn is what its actor's committed state is from now on. */
  #advance(a: Activation, turn: Turn, job: Job, now: number): void {
    const { catalogs, works, watches } = this.#exits;
    const { shard } = job;
    if (a.failed !== undefined && job.kind === Replace) a.mend();
    if (turn.snapshot === undefined) {
      a.life++;
      a.saved = a.revision === 0 && !a.written ? 0 : -1;
    }
    const timersChanged = turn.timers !== a.committed.timers;
    if (timersChanged) shard.due.set(a.id, nextDue(turn.timers, now));
    a.committed = turn;
    catalogs.note(a, turn);
    if (timersChanged && (works.has(a.id) || turn.timers.some(isWorkTimer))) works.sync(a, false, job.trace);
    shard.settleDue(a);
    if (watches.watched(a.id)) this.#notify(a, turn, now);
  }

  #notify(a: Activation, turn: Turn, now: number): void {
    let state: ActorState | null = null;
    try {
      state = stateOf(a, turn, now);
    } catch (error) {
      // The machine cannot begin anew. Whoever watches asks again, and is told so.
      this.#parts.observer.troubled(`watch of ${a.id}`, error);
    }
    this.#exits.watches.notify(a.id, state);
  }

  #run(a: Activation, action: ActionEffect, { span, trace }: Job): void {
    const { observer, telemetry } = this.#parts;
    const { local } = this.#entrances;
    const failed = (error: unknown): void => observer.actionFailed(a.id, action.name, error);
    local.acting = trace;
    try {
      const run = (): unknown => a.hosted.host.outside.run(a.id, a.committed.snapshot, action);
      const result = span === undefined ? run() : telemetry?.within(span.trace, run);
      if (result instanceof Promise) result.catch(failed);
    } catch (error) {
      failed(error);
    } finally {
      local.acting = undefined;
    }
  }
}

/** What a committed turn answers. */
function answerTo(kind: number, { replied, reply, turn }: Taken, a: Activation, now: number): unknown {
  if (kind === Create) return stateOf(a, turn, now);
  if (kind === CancelTimer) return reply;
  if (kind === Replace) return true;
  if (kind === Ask) return replied ? reply : stateOf(a, turn, now);
  if (kind === AskBoth) return { value: replied ? reply : null, replied, state: stateOf(a, turn, now) };
  return undefined;
}

/** What that takes at most when it is encoded: a record holds its reply. */
function answerBytes(kind: number, { replied, record, turn }: Taken): number | undefined {
  if (kind === Create) return stateBytes(turn);
  if (kind === Ask) return replied ? record.length : stateBytes(turn);
  return kind === AskBoth ? record.length + (stateBytes(turn) ?? 0) : 0;
}

function storeFull(): KeyturnError {
  return new KeyturnError(
    "store_full",
    "The store has no room left. Nothing was applied. Free some space, then try again.",
  );
}
