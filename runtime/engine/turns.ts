/**
 * Messages become turns: each is stepped on top of its actor's latest state, and goes into the open batch.
 *
 * Owns an activation's `latest`, but for its undoing (gate.ts). Calls step.ts, which computes a turn and changes nothing;
 * what is computed is taken here, or else refused, answered, or left for later.
 *
 * Invariant: every message that is given to it ends in exactly one of these: it is in the open batch; its answer waits for
 * a commit; it waits to be brought again; or the batch had no room, nothing was changed, and it is given once more.
 */
import type { KeyturnError } from "../words/errors.ts";
import { CancelTimer, Delete } from "../words/frames.ts";
import { type Activation, ChildJob, type Job, linkOf, type Place, TimerJob } from "./activation.ts";
import type { Alarm } from "./alarm.ts";
import { type Answers, isTurn, isWrite } from "./answers.ts";
import { takeChild } from "./child-turns.ts";
import type { Commits } from "./commits.ts";
import { isLifeTimer } from "./life.ts";
import type { LocalIntake } from "./local-intake.ts";
import { isWorkTimer, type Timer } from "./machine.ts";
import { isFull } from "./outgoing.ts";
import type { Parking } from "./parking.ts";
import type { EngineParts } from "./parts.ts";
import { checkTimerName, timerNamed } from "./pending.ts";
import { pathIn, type Reads } from "./reads.ts";
import { checkRepeated } from "./repeated.ts";
import { checkReplacement, standing, standsAt, takeReplace } from "./replace.ts";
import { isLapsed } from "./resume.ts";
import { nextDue } from "./state.ts";
import { asError } from "./faults.ts";
import { takeTurn } from "./step.ts";
import { type Taken, takeDelete, takeRefusal } from "./taken.ts";
import { takeCancel, takeLapsed, takeLife, takeTimer } from "./timer-turns.ts";
import type { Slot } from "./turn-record.ts";
import type { Tracing } from "./telemetry.ts";
import type { Works } from "./works.ts";

/** Whom turns are given to, and what is not one. */
export interface TurnsParts {
  readonly commits: Commits;
  readonly reads: Reads;
  readonly answers: Answers;
  readonly parking: Parking;
  readonly local: LocalIntake;
  readonly works: Works;
  readonly alarm: Alarm;
  readonly tracing: Tracing | undefined;
}

export class Turns {
  readonly #parts: EngineParts;
  readonly #commits: Commits;
  readonly #reads: Reads;
  readonly #answers: Answers;
  readonly #parking: Parking;
  readonly #local: LocalIntake;
  readonly #works: Works;
  readonly #alarm: Alarm;
  readonly #tracing: Tracing | undefined;

  constructor(parts: EngineParts, around: TurnsParts) {
    this.#parts = parts;
    this.#commits = around.commits;
    this.#reads = around.reads;
    this.#answers = around.answers;
    this.#parking = around.parking;
    this.#local = around.local;
    this.#works = around.works;
    this.#alarm = around.alarm;
    this.#tracing = around.tracing;
  }

  /** A message for an actor that is in memory. False if the open batch has no room for it. */
  step(a: Activation, job: Job, now: number): boolean {
    const { link } = job.message;
    if (this.#tracing !== undefined && !job.traced && job.kind !== TimerJob && isTraced(job))
      this.#tracing.begin(job, a);
    if (link !== undefined && link.from === undefined) return this.#child(a, job, link.session, now);
    if (isTurn(job.kind)) return this.#message(a, job, now);
    switch (job.kind) {
      case TimerJob:
        return this.#fire(a, job, now);
      case ChildJob:
        return this.#child(a, job, job.message.session, now);
      case Delete:
        return this.#delete(a, job, now);
      case CancelTimer:
        return this.#cancelTimer(a, job, now);
      default:
        this.#reads.take(a, job, now);
        return true;
    }
  }

  /** A whole state in an actor's place. Also of one that could not be loaded. */
  replace(a: Activation, job: Job, now: number): boolean {
    try {
      if (a.failed !== undefined && (a.stored === undefined || a.failed.code === "newer_version"))
        throw a.failed;
      const given = checkReplacement(job.message.event);
      const before = standing(a);
      if (standsAt(before, given)) {
        const slot = this.#commits.slot(now);
        return this.#take(a, job, takeReplace(a, before, given, job, slot, now, this.#parts.shards));
      }
      this.#reads.whenCommitted(a, job, () => this.#answers.settle(job, undefined, false));
      return true;
    } catch (error) {
      return this.refuse(a, job, asError(error), now);
    }
  }

  /** A message that the machine refused, or whose actor cannot be loaded. Nothing of the actor has changed. */
  refuse(a: Activation, job: Job, error: KeyturnError, now: number): boolean {
    if (job.kind === TimerJob) {
      // Its timers stay in its snapshot and are found again by the next owner.
      job.shard.busy--;
      return true;
    }
    if (job.fromShard < 0) {
      this.#reads.whenCommitted(a, job, () => this.#answers.reject(job, error));
      return true;
    }
    try {
      if (!isFull(error)) {
        const slot = this.#commits.slot(now);
        return this.#take(a, job, takeRefusal(a, job, slot, error, this.#parts.shards));
      }
    } catch (cause) {
      // Who asked is told why, and that needs room too.
      if (!isFull(asError(cause))) throw cause;
    }
    this.#parking.parkFull(job, a, error);
    return true;
  }

  #message(a: Activation, job: Job, now: number): boolean {
    const { requestId } = job.message;
    const known = requestId === undefined ? undefined : placeOfRequest(a, requestId);
    if (known !== undefined) {
      this.#parts.tally.repeatedIds++;
      const check = (event: unknown): void => checkRepeated(a.hosted.definition, job, event);
      this.#reads.whenCommitted(a, job, () => this.#answers.fromJournal(job, a.id, linkOf(known), check));
      return true;
    }
    try {
      return this.#take(a, job, takeTurn(a, job, this.#commits.slot(now), now, this.#parts.shards));
    } catch (error) {
      return this.refuse(a, job, asError(error), now);
    }
  }

  #delete(a: Activation, job: Job, now: number): boolean {
    if (a.latest.turn > 0) return this.#take(a, job, takeDelete(a, job, this.#commits.slot(now)));
    this.#reads.whenCommitted(a, job, () => this.#answers.settle(job, undefined, undefined));
    return true;
  }

  #cancelTimer(a: Activation, job: Job, now: number): boolean {
    try {
      const { latest } = a;
      const timer = timerNamed(latest.timers, checkTimerName(job.message.event), pathIn(latest));
      if (timer !== undefined) return this.#take(a, job, takeCancel(a, job, timer, this.#commits.slot(now)));
      this.#reads.whenCommitted(a, job, () => this.#answers.settle(job, undefined, false));
      return true;
    } catch (error) {
      return this.refuse(a, job, asError(error), now);
    }
  }

  /** What came of a child. */
  #child(a: Activation, job: Job, session: string | undefined, now: number): boolean {
    let taken: Taken | undefined;
    try {
      taken = takeChild(a, job, session, this.#commits.slot(now), now, this.#parts.shards);
    } catch (cause) {
      const error = asError(cause);
      if (!isFull(error)) throw cause;
      if (job.fromShard >= 0) this.#parking.parkFull(job, a, error);
      else this.#local.bringLater(job);
      return true;
    }
    if (taken !== undefined) return this.#take(a, job, taken);
    job.shard.busy--;
    return true;
  }

  /** Fires the timers that the actor has now and that are due, one turn each, earliest first. */
  #fire(a: Activation, job: Job, now: number): boolean {
    const { shard } = job;
    for (const timer of this.dueTimers(a, now)) {
      // An earlier one may have cancelled it. What they set anew waits for the next look, however short its delay.
      if (!a.latest.timers.includes(timer)) continue;
      const one = this.#timerJob(a, job, timer);
      let taken: Taken;
      try {
        taken = this.#takeDue(a, one, timer, this.#commits.slot(now), now);
      } catch (error) {
        if (!isFull(asError(error))) throw error;
        // No room for what it tells. It stands in the actor's state still.
        this.#local.ringLater(a);
        return true;
      }
      if (!this.#take(a, one, taken)) return false;
      this.#parts.tally.timerLateness.add((now - timer.due) / 1_000);
      this.#tracing?.late((now - timer.due) / 1_000);
      shard.busy++;
    }
    shard.busy--;
    shard.due.set(a.id, nextDue(a.latest.timers, now));
    // Also with turns in flight: they need not change timers, and nobody would look again.
    this.#works.sync(a, false);
    shard.settleDue(a);
    this.#alarm.lookAt(shard.due.next());
    return true;
  }

  #takeDue(a: Activation, job: Job, timer: Timer, slot: Slot, now: number): Taken {
    if (isLifeTimer(timer)) return takeLife(a, job, timer, slot, now);
    if (isLapsed(a, timer, now)) return takeLapsed(a, job, timer, slot, now);
    return takeTimer(a, job, timer, slot, now, this.#parts.shards);
  }

  /** Each timer is a turn of its own, and so has a span of its own. */
  #timerJob(a: Activation, job: Job, { event, trace }: Timer): Job {
    if (this.#tracing === undefined) return job;
    const one = { ...job };
    this.#tracing.begin(one, a, event.type, trace);
    return one;
  }

  /** The actor's timers that are due, earliest first. */
  dueTimers(a: Activation, now: number): Timer[] {
    return a.latest.timers
      .filter((timer) => timer.due <= now && !isWorkTimer(timer))
      .sort((x, y) => x.due - y.due);
  }

  /** Takes a computed turn into the open batch. */
  #take(a: Activation, job: Job, taken: Taken): boolean {
    if (!this.#commits.add(taken)) return false;
    const { turn } = taken;
    if (turn !== a.latest) {
      const { clock } = this.#parts.world;
      if (turn.snapshot === undefined) a.bornAfter = Math.max(clock.now(), a.bornAfter) + 1;
      // A refusal is no use of it, and its type may not be hosted.
      if (a.hosted.definition.life !== undefined) a.used_ms = clock.now();
      a.latest = turn;
    }
    this.#parking.taken(a, job);
    for (const message of taken.out) job.shard.out(message.toShard).numbered = message.number;
    if (job.session !== undefined && taken.refusal === undefined) job.session.step(job.number, turn);
    return true;
  }
}

/** Whether a message may be a turn, and not only read. */
function isTraced({ kind, session }: Job): boolean {
  return session === undefined || isWrite(kind);
}

/** Where the turn lies that a request with this id has made, if the actor remembers it. */
function placeOfRequest({ latest }: Activation, requestId: string): Place | undefined {
  return latest.requests.find((request) => request.requestId === requestId)?.place;
}
