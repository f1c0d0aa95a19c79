/**
 * A turn: from an actor's latest state and a message to its next state and the record of it.
 *
 * Owns the decision what a turn does. Synchronous; changes nothing: the engine takes the result or throws it away.
 * Talks to the machine, the record of a turn (turn-record.ts) and address parsing.
 */
import { KeyturnError, textOf } from "../words/errors.ts";
import { Create } from "../words/frames.ts";
import { limits } from "../words/limits.ts";
import { isSampled } from "../words/trace.ts";
import { seal, ValueFault } from "../words/values.ts";
import { type Activation, type Job, linkTo, NoPlace, type RequestPlace, Turn } from "./activation.ts";
import {
  type EventObject,
  FAILED,
  OBSERVABLE_COMPLETE,
  OBSERVABLE_ERROR,
  PROMISE_REJECT,
  PROMISE_RESOLVE,
} from "./machine/internals.ts";
import { begin, checkInput, checkOutput } from "./beginning.ts";
import { checkFits, type HostedType } from "./definition.ts";
import { isWake, withoutWake } from "./delays.ts";
import { invoked, isBeginning } from "./invocations.ts";
import {
  type ActionEffect,
  BEGIN,
  familyOf,
  isWorkTimer,
  type MachineSnapshot,
  moment,
  type ReceiveEffect,
  type Timer,
} from "./machine.ts";
import type { Member } from "./machine/family.ts";
import { timeOfSession } from "./machine/system.ts";
import { LIFE, lifeAfter, withLife } from "./life.ts";
import { checkEvent, isFull, Outgoing, shownState } from "./outgoing.ts";
import { decideLapsed } from "./resume.ts";
import {
  DeleteTurn,
  DeltaTurn,
  FromNowhere,
  FromSession,
  FromShard,
  FromTimer,
  FromWork,
  KeyframeTurn,
  NoLink,
  type OutMessage,
  Refusal,
} from "./record.ts";
import {
  blank,
  changeOf,
  checkSize,
  encoded,
  isWhole,
  type Slot,
  type Source,
  wholeOf,
} from "./turn-record.ts";

/** A turn that has been computed and encoded, not yet taken. */
export interface Taken {
  readonly a: Activation;
  readonly job: Job;
  readonly turn: Turn;
  /** Its record's index in the batch. */
  readonly index: number;
  readonly record: Uint8Array;
  readonly out: readonly OutMessage[];
  readonly emitted: readonly unknown[];
  readonly actions: readonly ActionEffect[];
  /** Events for its callbacks. */
  readonly receives: readonly ReceiveEffect[];
  readonly replied: boolean;
  readonly reply: unknown;
  /** Why the message was refused, if it was: the turn then changes nothing, or only takes a timer away. */
  readonly refusal: KeyturnError | undefined;
}

const nothing: readonly never[] = [];
const noTimers: readonly Timer[] = [];

/** Type of the event of a turn that only begins an actor, as XState calls it. */
const INIT = "xstate.init";

/** Type of the event of a turn that only cancels a timer. */
const CANCELLED = "xstate.keyturn.cancelled";

/** One message through the machine. Throws a KeyturnError if the message is refused; the actor is as it was. */
export function takeTurn(a: Activation, job: Job, slot: Slot, now: number, shards: number): Taken {
  checkMessage(a.hosted, job);
  if (job.kind === Create) return takeCreate(a, job, slot, now, shards);
  const event = job.message.event as EventObject;
  return transit(a, job, event, restingTimers(a), slot, now, shards, sourceOf(job), undefined);
}

/** The actor's timers; without the one that has a migration recorded, since the turn itself does. */
function restingTimers({ latest: { timers, unmigrated } }: Activation): readonly Timer[] {
  return unmigrated === undefined ? timers : withoutWake(timers);
}

/** Throws a KeyturnError if what a message brings fits neither its type's machine nor its schemas, whatever the state. */
export function checkMessage(hosted: HostedType, { kind, message: { event } }: Job): void {
  if (kind === Create) {
    checkInput(hosted.definition, event);
    return;
  }
  checkEvent(event);
  checkFits(hosted, event);
}

/** The event under which a message's turn stands in the journal. */
export function recorded({ kind, message: { event } }: Job): EventObject {
  if (kind !== Create) return event as EventObject;
  return event === undefined ? { type: INIT } : ({ type: INIT, input: event } as EventObject);
}

/** Begins an actor with the input that somebody gave it. */
function takeCreate(a: Activation, job: Job, slot: Slot, now: number, shards: number): Taken {
  const { turn } = a.latest;
  if (turn > 0) {
    const turns = turn === 1 ? "a turn" : `${turn} turns`;
    const text = `${addressOf(a)} exists already, it has taken ${turns}. Read its state, or delete it first.`;
    throw new KeyturnError("already_exists", text);
  }
  return transit(a, job, recorded(job), noTimers, slot, now, shards, sourceOf(job), undefined);
}

/**
 * What came of a child: the result of its work, the answer to its question, or an event that user code sent it outside
 * of a turn. Undefined if the child is gone, or the actor that it was for has been deleted.
 */
export function takeChildEvent(
  a: Activation,
  job: Job,
  session: string | undefined,
  event: EventObject,
  slot: Slot,
  now: number,
  shards: number,
): Taken | undefined {
  if (session !== undefined && memberOf(a, session) === undefined) return undefined;
  if (session === undefined && isOfFormerLife(a, job.message.sender, now)) return undefined;
  const source: Source = job.fromShard >= 0 ? sourceOf(job) : [FromWork, session ?? "", 0];
  return transit(a, job, event, restingTimers(a), slot, now, shards, source, session);
}

/** What a deleted actor sent itself begins no new life, and is not for one that has begun. */
function isOfFormerLife(a: Activation, sender: string | undefined, now: number): boolean {
  return a.latest.snapshot === undefined || (sender !== undefined && a.isFormer(timeOfSession(sender), now));
}

/** A failed attempt of a child's work, which is to be tried again: only its timer changes. */
export function takeRetry(
  a: Activation,
  job: Job,
  timers: readonly Timer[],
  event: EventObject,
  slot: Slot,
): Taken {
  return takeTimers(
    a,
    job,
    withoutWake(timers),
    event,
    slot,
    [FromWork, job.message.session ?? "", 0],
    undefined,
  );
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
    return refused(a, job, slot, nothing, error);
  const rest = timers.filter((timer) => timer.source !== session || !isWorkTimer(timer));
  return takeTimers(a, job, rest, event, slot, [FromWork, session, 0], error);
}

/** A child that is active; undefined if there is none of that session. */
export function memberOf(a: Activation, session: string): Member | undefined {
  const member = familyOf(a.latest.snapshot)?.bySession(session);
  return member?.snapshot.status === "active" ? member : undefined;
}

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
  const source: Source = [FromTimer, timer.id, timer.generation];
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
  const source: Source = [FromTimer, timer.id, timer.generation];
  const rest = lifeAfter(a, timer, now);
  if (rest === undefined) return takeDelete(a, job, slot, source);
  return takeTimers(a, job, rest, { type: LIFE }, slot, source, undefined);
}

/** A delay that lapsed while no node ran: it begins anew or goes, and the machine does not see it. */
export function takeLapsed(a: Activation, job: Job, timer: Timer, slot: Slot, now: number): Taken {
  const { timers, event } = decideLapsed(a, timer, now);
  const source: Source = [FromTimer, timer.id, timer.generation];
  return takeTimers(a, job, withoutWake(timers), event, slot, source, undefined);
}

export function sourceOf(job: Job): Source {
  if (job.session !== undefined) return [FromSession, job.session.name, job.number];
  if (job.fromShard >= 0) return [FromShard, job.fromShard, job.number];
  return [FromNowhere, 0, 0];
}

function transit(
  a: Activation,
  job: Job,
  event: { type: string },
  timers: readonly Timer[],
  slot: Slot,
  now: number,
  shards: number,
  source: Source,
  session: string | undefined,
): Taken {
  const before = a.latest;
  const number = before.turn + 1;
  const { host } = a.hosted;
  host.bornAfter = a.timeOf(now);
  const fresh = before.snapshot === undefined;
  const creating = job.kind === Create;
  const input = creating ? job.message.event : undefined;
  const { link } = job.message;
  const asked = link?.from;
  moment.asker =
    link === undefined || asked === undefined ? undefined : { session: link.session, from: asked };
  const begun = fresh
    ? begin(a.hosted, a.key, number, now, input)
    : invoked(host, before.snapshot as MachineSnapshot, timers, number, now);
  const start = begun?.snapshot ?? (before.snapshot as MachineSnapshot);
  const { snapshot, effects } =
    begun !== undefined && (creating || event.type === BEGIN)
      ? begun
      : host.step(start, event, timers, number, now, begun !== undefined, session);
  if (snapshot.status === "done" && before.snapshot?.status !== "done")
    checkOutput(a.hosted.definition, snapshot);
  const left = traced(withLife(a, snapshot, effects.timers, number, now), before.timers, job.trace);
  const { replied, reply } = effects;
  // The effects' own empty arrays are filled by later steps.
  const actions = effects.actions.length === 0 ? nothing : effects.actions;
  const receives = effects.receives.length === 0 ? nothing : effects.receives;
  const emitted = effects.emitted.length === 0 ? nothing : effects.emitted;
  if (replied) sealReply(reply);
  let out: readonly OutMessage[] = nothing;
  const routes = emitted.length === 0 ? undefined : a.hosted.routes;
  const answers = effects.answers.length > 0 || asked !== undefined;
  if (effects.tells.length > 0 || answers || routes !== undefined) {
    const outgoing = new Outgoing(a.shard, job.trace, shards);
    for (const effect of effects.tells) outgoing.tell(effect, a.id);
    if (routes !== undefined) {
      const by = { type: a.hosted.definition.type, key: a.key, address: addressOf(a), at: now };
      for (const one of emitted) outgoing.route(routes, one as EventObject, by);
    }
    for (const { to, value, error } of effects.answers)
      if (error === undefined) outgoing.answer({ id: a.id, link: to }, value);
      else outgoing.refuse({ link: to }, error);
    if (asked !== undefined && !effects.deferred)
      outgoing.answer(job.message, replied ? reply : shownState(snapshot, number, 0));
    out = outgoing.messages;
  }
  const version = a.hosted.definition.version;
  const whole = isWhole(number, before, a.hosted.definition);
  const requests =
    job.message.requestId === undefined ? before.requests : remember(before, job.message.requestId, slot);
  const keyframe = whole ? { batch: slot.batch, index: slot.index } : before.keyframe;
  const change = whole ? wholeOf(snapshot, left) : changeOf(before, snapshot, left);
  const record = encoded({
    kind: whole ? KeyframeTurn : DeltaTurn,
    id: a.id,
    turn: number,
    previous: linkTo(number === 1 ? NoPlace : before, slot.batch),
    keyframe: whole ? linkTo(before.keyframe, slot.batch) : NoLink,
    source: source[0],
    sourceName: source[1],
    sourceNumber: source[2],
    delay: slot.delay,
    version,
    event,
    change,
    out,
    emitted,
    childEmitted: effects.childEmitted,
    replied,
    reply,
    requestId: job.message.requestId,
    trace: job.trace,
    asker: asked !== undefined && effects.deferred ? link : undefined,
    refusal: undefined,
  });
  const bytes = checkSize(snapshot, left, requests, (whole ? 0 : before.bytes) + record.length, a.id);
  const turn = new Turn(
    a.id,
    number,
    snapshot,
    left,
    requests,
    version,
    slot.batch,
    slot.index,
    keyframe,
    bytes,
  );
  if (a.hosted.definition.index !== undefined) turn.time = slot.time;
  return {
    a,
    job,
    turn,
    index: slot.index,
    record,
    out,
    emitted,
    actions,
    receives,
    replied,
    reply,
    refusal: undefined,
  };
}

/** The timers that a turn sets know its trace, if it is recorded. */
function traced(
  timers: readonly Timer[],
  before: readonly Timer[],
  trace: string | undefined,
): readonly Timer[] {
  if (trace === undefined || timers === before || !isSampled(trace)) return timers;
  return timers.map((timer) => (before.includes(timer) ? timer : { ...timer, trace }));
}

/** A deletion. The state is gone with it; a later message begins anew at turn 1. */
export function takeDelete(a: Activation, job: Job, slot: Slot, source = sourceOf(job)): Taken {
  const turn = new Turn(a.id, 0, undefined, noTimers, nothing, 0, slot.batch, slot.index, NoPlace, 0);
  const record = encoded({
    ...blank(a.id, slot, source),
    kind: DeleteTurn,
    turn: a.latest.turn + 1,
    event: null,
  });
  return { ...effectless, a, job, turn, index: slot.index, record, refusal: undefined };
}

/**
 * The record of a told message that was refused: it must not come again. Who asked gets the error as the answer; else
 * nobody waits for it, and it becomes a dead letter.
 */
export function takeRefusal(a: Activation, job: Job, slot: Slot, error: KeyturnError, shards: number): Taken {
  if (job.message.link?.from === undefined) return refused(a, job, slot, nothing, error);
  const outgoing = new Outgoing(a.shard, job.trace, shards);
  outgoing.refuse(job.message, error);
  return refused(a, job, slot, outgoing.messages, undefined);
}

/** The record of an answer whose question is not open any more. */
export function takeLateAnswer(a: Activation, job: Job, slot: Slot): Taken {
  return refused(a, job, slot, nothing, undefined);
}

function refused(
  a: Activation,
  job: Job,
  slot: Slot,
  out: readonly OutMessage[],
  error: KeyturnError | undefined,
): Taken {
  const refusal: [string, string] | undefined = error && [error.code, error.message];
  const record = encoded({
    ...blank(a.id, slot, sourceOf(job)),
    kind: Refusal,
    turn: a.latest.turn,
    event: job.message.event,
    out,
    refusal,
  });
  return { ...effectless, a, job, turn: a.latest, index: slot.index, record, out, refusal: error };
}

function addressOf({ hosted, key }: Activation): string {
  return `${hosted.definition.type}/${key}`;
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

export const effectless = {
  out: nothing,
  emitted: nothing,
  actions: nothing,
  receives: nothing,
  replied: false,
  reply: undefined,
};

function remember(before: Turn, requestId: string, slot: Slot): readonly RequestPlace[] {
  const requests = [...before.requests, { requestId, place: { batch: slot.batch, index: slot.index } }];
  if (requests.length > limits.requestsPerActor) requests.shift();
  return requests;
}

function sealReply(value: unknown): void {
  try {
    seal(value, "the reply");
  } catch (cause) {
    throw new KeyturnError("reply_invalid", textOf(cause), { cause });
  }
}

/** Whatever a step threw, as one of our errors. */
export function asError(error: unknown): KeyturnError {
  if (error instanceof KeyturnError) return error;
  if (error instanceof ValueFault) return new KeyturnError("invalid_event", error.message, { cause: error });
  return new KeyturnError("machine_failed", textOf(error), { cause: error });
}

export function unknownType(type: string): KeyturnError {
  const text = `No actor of type "${type.slice(0, 80)}" is defined here. Give its definition to startNode({ actors }).`;
  return new KeyturnError("unknown_type", text);
}
