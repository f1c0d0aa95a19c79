/**
 * Turns of timers: those that fall due, and those that are taken away or set anew without the machine.
 *
 * Owns the decision what such a turn does, and the record of one that changes nothing but timers. Synchronous; changes
 * nothing, as step.ts, which computes the turns that the machine has a part in.
 *
 * Invariant: a timer that was due is gone after its turn or is due later, whatever the machine made of it.
 */
import { KeyturnError } from "../words/errors.ts";
import { type Activation, type Job, linkTo, Turn } from "./activation.ts";
import { isWake, withoutWake } from "./delays.ts";
import { asError } from "./faults.ts";
import { isBeginning } from "./invocations.ts";
import { LIFE, lifeAfter } from "./life.ts";
import { isWorkTimer, type MachineSnapshot, type Timer } from "./machine.ts";
import {
  type EventObject,
  FAILED,
  OBSERVABLE_COMPLETE,
  OBSERVABLE_ERROR,
  PROMISE_REJECT,
  PROMISE_RESOLVE,
} from "./machine/internals.ts";
import { isFull } from "./outgoing.ts";
import { DeltaTurn, FromTimer, FromWork, KeyframeTurn, NoLink } from "./record.ts";
import { decideLapsed } from "./resume.ts";
import { memberOf, transit } from "./step.ts";
import { effectless, refused, sourceOf, type Taken, takeDelete } from "./taken.ts";
import { blank, encoded, isWhole, type Slot, type Source, wholeOf } from "./turn-record.ts";

/** Type of the event of a turn that only cancels a timer. */
const CANCELLED = "xstate.keyturn.cancelled";

/** One due timer through the machine. Throws only where there is no room for what it tells: `outbox_full`, `sink_full`. */
export function takeTimer(
  a: Activation,
  job: Job,
  timer: Timer,
  slot: Slot,
  now: number,
  shards: number,
): Taken {
  const rest = withoutWake(a.latest.timers.filter((other) => other !== timer));
  const source = ofTimer(timer);
  if (isBeginning(timer)) {
    const { timers } = a.latest;
    try {
      return transit(a, job, timer.event, withoutWake(timers), slot, now, shards, source, undefined);
    } catch (error) {
      return takeTimers(a, job, rest, timer.event, slot, source, asError(error));
    }
  }
  if (isWake(timer)) return takeTimers(a, job, rest, timer.event, slot, source, undefined);
  try {
    const { target } = timer;
    // Whom it was for may be gone; its own turn then only takes it away.
    if (target !== undefined && memberOf(a, target) === undefined)
      return takeTimers(a, job, rest, timer.event, slot, source, undefined);
    return transit(a, job, timer.event, rest, slot, now, shards, source, target);
  } catch (error) {
    // It is looked at again when there is room.
    if (error instanceof KeyturnError && isFull(error)) throw error;
    // The timer is taken away all the same: it would fail again for ever.
    return takeTimers(a, job, rest, timer.event, slot, source, asError(error));
  }
}

/** A delay that somebody takes away; the machine is not told. */
export function takeCancel(a: Activation, job: Job, timer: Timer, slot: Slot): Taken {
  const rest = withoutWake(a.latest.timers.filter((other) => other !== timer));
  const event = { type: CANCELLED, id: timer.id } as EventObject;
  return takeTimers(a, job, rest, event, slot, sourceOf(job), undefined, true);
}

/** The actor's life timer: its end, or a later time to look again. */
export function takeLife(a: Activation, job: Job, timer: Timer, slot: Slot, now: number): Taken {
  const source = ofTimer(timer);
  const rest = lifeAfter(a, timer, now);
  if (rest === undefined) return takeDelete(a, job, slot, source);
  return takeTimers(a, job, rest, { type: LIFE }, slot, source, undefined);
}

/** A delay that lapsed while no node ran: it begins anew or goes, and the machine does not see it. */
export function takeLapsed(a: Activation, job: Job, timer: Timer, slot: Slot, now: number): Taken {
  const { timers, event } = decideLapsed(a, timer, now);
  const source = ofTimer(timer);
  return takeTimers(a, job, withoutWake(timers), event, slot, source, undefined);
}

function ofTimer({ id, generation }: Timer): Source {
  return [FromTimer, id, generation];
}

/** A failed attempt of a child's work, which is to be tried again: only its timer changes. */
export function takeRetry(
  a: Activation,
  job: Job,
  timers: readonly Timer[],
  event: EventObject,
  slot: Slot,
): Taken {
  const source: Source = [FromWork, job.message.session ?? "", 0];
  return takeTimers(a, job, withoutWake(timers), event, slot, source, undefined);
}

/** Events with which work comes to its end. */
const ENDS: ReadonlySet<string> = new Set([
  PROMISE_RESOLVE,
  PROMISE_REJECT,
  OBSERVABLE_ERROR,
  OBSERVABLE_COMPLETE,
  FAILED,
]);

/**
 * What came of a child's work and cannot be taken: the work is over, nobody will bring it again. A dead letter says so.
 */
export function takeFailedWork(
  a: Activation,
  job: Job,
  session: string | undefined,
  event: EventObject,
  slot: Slot,
  error: KeyturnError,
): Taken {
  const { timers, snapshot } = a.latest;
  if (snapshot === undefined || session === undefined || !ENDS.has(event.type))
    return refused(a, job, slot, error);
  const rest = timers.filter((timer) => timer.source !== session || !isWorkTimer(timer));
  return takeTimers(a, job, rest, event, slot, [FromWork, session, 0], error);
}

/** A turn that changes nothing but the timers. */
function takeTimers(
  a: Activation,
  job: Job,
  rest: readonly Timer[],
  event: EventObject,
  slot: Slot,
  source: Source,
  error: KeyturnError | undefined,
  reply?: boolean,
): Taken {
  const answer = { replied: reply !== undefined, reply };
  const { snapshot, requests, keyframe, turn: last, bytes } = a.latest;
  const { version } = a.hosted.definition;
  const number = last + 1;
  const whole = isWhole(number, a.latest, a.hosted.definition);
  const change = whole
    ? wholeOf(snapshot as MachineSnapshot, rest)
    : { context: null, removed: null, value: null, rest: null, timers: rest };
  const refusal: [string, string] | undefined = error && [error.code, error.message];
  const record = encoded({
    ...blank(a.id, slot, source),
    kind: whole ? KeyframeTurn : DeltaTurn,
    turn: number,
    previous: linkTo(a.latest, slot.batch),
    keyframe: whole ? linkTo(keyframe, slot.batch) : NoLink,
    version,
    event,
    change,
    refusal,
    ...answer,
  });
  const turn = new Turn(
    a.id,
    number,
    snapshot,
    rest,
    requests,
    version,
    slot.batch,
    slot.index,
    whole ? { batch: slot.batch, index: slot.index } : keyframe,
    whole ? record.length : bytes,
  );
  if (a.hosted.definition.index !== undefined) turn.time = slot.time;
  return { ...effectless, ...answer, a, job, turn, index: slot.index, record, refusal: error };
}
