/**
 * What came of an actor's child, as a turn: a result, an error, an event, or the answer to a question.
 *
 * Owns the decision which turn it is. Synchronous; changes nothing, as step.ts, which computes the turns.
 */
import type { KeyturnError } from "../words/errors.ts";
import type { Activation, Job } from "./activation.ts";
import { retryAfter } from "./definition.ts";
import { isWorkTimer, plainError, WORK, type WorkEvent } from "./machine.ts";
import { type EventObject, PROMISE_REJECT, PROMISE_RESOLVE } from "./machine/internals.ts";
import { isFull } from "./outgoing.ts";
import { asError } from "./faults.ts";
import { memberOf, takeChildEvent } from "./step.ts";
import { type Taken, takeLateAnswer, takeRefusal } from "./taken.ts";
import { takeFailedWork, takeRetry } from "./timer-turns.ts";
import type { Slot } from "./turn-record.ts";

/**
 * The turn that it is; undefined if the child has ended meanwhile and nothing is to be recorded.
 * @param session of the child; undefined for something that is for the machine itself
 * @throws KeyturnError if what the turn tells does not fit into the outbox: it may be taken later
 */
export function takeChild(
  a: Activation,
  job: Job,
  session: string | undefined,
  slot: Slot,
  now: number,
  shards: number,
): Taken | undefined {
  const event = job.message.event as EventObject;
  let taken: Taken | undefined;
  try {
    taken = session === undefined ? undefined : takeAnother(a, job, session, event, slot, now);
    taken ??= takeChildEvent(a, job, session, event, slot, now, shards);
  } catch (error) {
    return takeFailure(a, job, session, event, asError(error), slot, now, shards);
  }
  // The child has ended. Of an answer the number is taken all the same.
  return taken === undefined && job.fromShard >= 0 ? takeLateAnswer(a, job, slot) : taken;
}

/** A promise that rejected, and is to be tried again. */
function takeAnother(
  a: Activation,
  job: Job,
  session: string,
  event: EventObject,
  slot: Slot,
  now: number,
): Taken | undefined {
  if (event.type !== PROMISE_REJECT) return undefined;
  const { timers } = a.latest;
  const work = timers.find((timer) => timer.source === session && isWorkTimer(timer));
  const member = memberOf(a, session);
  if (work === undefined || member === undefined) return undefined;
  const { begun, attempt } = work.event as WorkEvent;
  const pause = retryAfter(a.hosted.definition.invoke, member.src, attempt);
  if (pause === undefined) return undefined;
  const next: WorkEvent = { type: WORK, begun, attempt: attempt + 1 };
  const again = { ...work, due: now + Math.max(1, pause), event: next };
  const left = timers.map((timer) => (timer === work ? again : timer));
  return takeRetry(a, job, left, event, slot);
}

/** The machine threw on what came of a child: the child failed with that or, if it throws again, is a dead letter. */
function takeFailure(
  a: Activation,
  job: Job,
  session: string | undefined,
  event: EventObject,
  error: KeyturnError,
  slot: Slot,
  now: number,
  shards: number,
): Taken {
  if (isFull(error)) throw error;
  if (session !== undefined && event.type === PROMISE_RESOLVE) {
    const failed = { type: PROMISE_REJECT, data: plainError(error) } as EventObject;
    try {
      const taken = takeChildEvent(a, job, session, failed, slot, now, shards);
      if (taken !== undefined) return taken;
    } catch {
      // Told below, with what came first.
    }
  }
  if (job.fromShard >= 0) return takeRefusal(a, job, slot, error, shards);
  return takeFailedWork(a, job, session, event, slot, error);
}
