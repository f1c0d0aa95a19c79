/**
 * A turn: from an actor's latest state and a message to its next state and the record of it.
 *
 * Owns the decision what a turn does that the machine has a part in. Synchronous; changes nothing: the engine takes the
 * result (taken.ts) or throws it away. Turns of timers are in timer-turns.ts; which turn a child's event is, is decided in
 * child-turns.ts. Talks to the machine, what goes out (outgoing.ts) and the record of a turn (turn-record.ts).
 */
import { KeyturnError, textOf } from "../words/errors.ts";
import { Create } from "../words/frames.ts";
import { limits } from "../words/limits.ts";
import { isSampled } from "../words/trace.ts";
import { seal } from "../words/values.ts";
import { type Activation, type Job, linkTo, NoPlace, type RequestPlace, Turn } from "./activation.ts";
import type { EventObject } from "./machine/internals.ts";
import { begin, checkInput, checkOutput } from "./beginning.ts";
import { checkFits, type HostedType } from "./definition.ts";
import { withoutWake } from "./delays.ts";
import { invoked } from "./invocations.ts";
import { BEGIN, type Effects, familyOf, type MachineSnapshot, moment, type Timer } from "./machine.ts";
import type { Member } from "./machine/family.ts";
import { timeOfSession } from "./machine/system.ts";
import { withLife } from "./life.ts";
import { checkEvent, Outgoing, shownState } from "./outgoing.ts";
import { DeltaTurn, FromWork, KeyframeTurn, NoLink, type OutMessage } from "./record.ts";
import { sourceOf, type Taken } from "./taken.ts";
import { changeOf, checkSize, encoded, isWhole, type Slot, type Source, wholeOf } from "./turn-record.ts";

const nothing: readonly never[] = [];
const noTimers: readonly Timer[] = [];

/** Type of the event of a turn that only begins an actor, as XState calls it. */
const INIT = "xstate.init";

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

/** A child that is active; undefined if there is none of that session. */
export function memberOf(a: Activation, session: string): Member | undefined {
  const member = familyOf(a.latest.snapshot)?.bySession(session);
  return member?.snapshot.status === "active" ? member : undefined;
}

/** A turn that the machine has a part in: an event on top of the latest state, or the beginning of an actor. */
export function transit(
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
  const out = outgoingOf(a, job, snapshot, effects, emitted, now, shards);
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

/** What a turn tells others, by itself and by its routes, and answers. */
function outgoingOf(
  a: Activation,
  job: Job,
  snapshot: MachineSnapshot,
  effects: Effects,
  emitted: readonly unknown[],
  now: number,
  shards: number,
): readonly OutMessage[] {
  const routes = emitted.length === 0 ? undefined : a.hosted.routes;
  const asked = job.message.link?.from !== undefined;
  if (effects.tells.length === 0 && effects.answers.length === 0 && !asked && routes === undefined)
    return nothing;
  const outgoing = new Outgoing(a.shard, job.trace, shards);
  for (const effect of effects.tells) outgoing.tell(effect, a.id);
  if (routes !== undefined) {
    const by = { type: a.hosted.definition.type, key: a.key, address: addressOf(a), at: now };
    for (const one of emitted) outgoing.route(routes, one as EventObject, by);
  }
  for (const { to, value, error } of effects.answers)
    if (error === undefined) outgoing.answer({ id: a.id, link: to }, value);
    else outgoing.refuse({ link: to }, error);
  if (asked && !effects.deferred)
    outgoing.answer(
      job.message,
      effects.replied ? effects.reply : shownState(snapshot, a.latest.turn + 1, 0),
    );
  return outgoing.messages;
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

function addressOf({ hosted, key }: Activation): string {
  return `${hosted.definition.type}/${key}`;
}

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
