/**
 * A turn: from an actor's latest state and a message to its next state and the record of it.
 *
 * Owns the decision what a turn changes and what its record says. Synchronous; changes nothing: the engine takes the
 * result or throws it away. Talks to the machine, the record format and address parsing.
 *
 * Invariants:
 * 1. A turn that cannot be recorded (too large, not plain data) fails here, before anybody sees it.
 * 2. Every `limits.keyframeTurns` turns the record holds the whole state, and so does the first of a new version.
 */
import { parseAddress, placeOf } from "../words/address.ts";
import { encode } from "../words/codec.ts";
import { KeyturnError, textOf } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import { seal, ValueFault } from "../words/values.ts";
import {
  type Activation,
  type BatchRef,
  type Job,
  linkTo,
  NoPlace,
  type RequestPlace,
  Turn,
} from "./activation.ts";
import { checkFits } from "./definition.ts";
import { isWake, withoutWake } from "./delays.ts";
import {
  type ActionEffect,
  type Effects,
  historyOf,
  type MachineSnapshot,
  persist,
  sameStates,
  type Timer,
} from "./machine.ts";
import {
  type Change,
  DeleteTurn,
  DeltaTurn,
  encodeRecord,
  FromNowhere,
  FromSession,
  FromShard,
  FromTimer,
  KeyframeTurn,
  NoLink,
  type OutMessage,
  packTimers,
  Refusal,
  type SourceKind,
  type TurnRecord,
} from "./record.ts";

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
  readonly replied: boolean;
  readonly reply: unknown;
  /** Why the message was refused, if it was: the turn then changes nothing, or only takes a timer away. */
  readonly refusal: KeyturnError | undefined;
}

/** Where the record will lie. */
export interface Slot {
  readonly batch: BatchRef;
  readonly index: number;
  /** Milliseconds between the batch's time and now. */
  readonly delay: number;
}

const nothing: readonly never[] = [];
const noTimers: readonly Timer[] = [];

/** Checks an event that came from outside. */
export function checkEvent(event: unknown): asserts event is { type: string } {
  const type: unknown =
    typeof event === "object" && event !== null && !Array.isArray(event)
      ? (event as { type?: unknown }).type
      : undefined;
  if (typeof type !== "string" || type === "") {
    throw new KeyturnError(
      "invalid_event",
      `An event is an object with a non-empty string "type", for example { type: "add" }.`,
    );
  }
  if (type.startsWith("xstate.") || type === "*") {
    throw new KeyturnError(
      "reserved_event",
      `Events of type "${type.slice(0, 80)}" come from the runtime only. Use another name.`,
    );
  }
}

/** One message through the machine. Throws a KeyturnError if the message is refused; the actor is as it was. */
export function takeTurn(a: Activation, job: Job, slot: Slot, now: number, shards: number): Taken {
  const { event } = job.message;
  checkEvent(event);
  checkFits(a.hosted, event);
  const { timers, unmigrated } = a.latest;
  // The turn itself records the migration.
  const rest = unmigrated === undefined ? timers : withoutWake(timers);
  return transit(a, job, event, rest, slot, now, shards, sourceOf(job));
}

/** One due timer through the machine. */
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
  if (isWake(timer)) return dropTimer(a, job, timer, rest, slot, source, undefined);
  try {
    return transit(a, job, timer.event, rest, slot, now, shards, source);
  } catch (error) {
    // The timer is taken away all the same: it would fail again for ever.
    return dropTimer(a, job, timer, rest, slot, source, asError(error));
  }
}

type Source = readonly [kind: SourceKind, name: string | number, number: number];

function sourceOf(job: Job): Source {
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
): Taken {
  const before = a.latest;
  const number = before.turn + 1;
  const { host } = a.hosted;
  const fresh = before.snapshot === undefined;
  const start = before.snapshot ?? host.start(a.key, number, now).snapshot;
  const { snapshot, effects } = host.step(start, event, timers, number, now, fresh);
  const { replied, reply } = effects;
  // The effects' own empty arrays are filled by later steps.
  const actions = effects.actions.length === 0 ? nothing : effects.actions;
  const emitted = effects.emitted.length === 0 ? nothing : effects.emitted;
  if (replied) sealReply(reply);
  const out = effects.tells.length === 0 ? nothing : addressed(effects, a, job.message.trace, shards);
  const version = a.hosted.definition.version;
  const whole = isWhole(number, before, version);
  const requests =
    job.message.requestId === undefined ? before.requests : remember(before, job.message.requestId, slot);
  const keyframe = whole ? { batch: slot.batch, index: slot.index } : before.keyframe;
  const change = whole ? wholeOf(snapshot, effects.timers) : changeOf(before, snapshot, effects.timers);
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
    replied,
    reply,
    requestId: job.message.requestId,
    trace: job.message.trace,
    refusal: undefined,
  });
  const bytes = checkSize(
    snapshot,
    effects.timers,
    requests,
    (whole ? 0 : before.bytes) + record.length,
    a.id,
  );
  const turn = new Turn(
    a.id,
    number,
    snapshot,
    effects.timers,
    requests,
    version,
    slot.batch,
    slot.index,
    keyframe,
    bytes,
  );
  return {
    a,
    job,
    turn,
    index: slot.index,
    record,
    out,
    emitted,
    actions,
    replied,
    reply,
    refusal: undefined,
  };
}

/** A deletion. The state is gone with it; a later message begins anew at turn 1. */
export function takeDelete(a: Activation, job: Job, slot: Slot): Taken {
  const turn = new Turn(a.id, 0, undefined, noTimers, nothing, 0, slot.batch, slot.index, NoPlace, 0);
  const source = sourceOf(job);
  const record = encoded({
    ...blank(a.id, slot, source),
    kind: DeleteTurn,
    turn: a.latest.turn + 1,
    event: null,
  });
  return { ...effectless, a, job, turn, index: slot.index, record, refusal: undefined };
}

/** The record of a told message that was refused: it has nobody who waits for the error, and must not come again. */
export function takeRefusal(a: Activation, job: Job, slot: Slot, error: KeyturnError): Taken {
  const refusal: [string, string] = [error.code, error.message];
  const record = encoded({
    ...blank(a.id, slot, sourceOf(job)),
    kind: Refusal,
    turn: a.latest.turn,
    event: job.message.event,
    refusal,
  });
  return { ...effectless, a, job, turn: a.latest, index: slot.index, record, refusal: error };
}

/** Whether a turn's record holds the whole state. A change cannot be added to a state of another version. */
function isWhole(number: number, before: Turn, version: number): boolean {
  return (number - 1) % limits.keyframeTurns === 0 || before.version !== version;
}

/** A turn that only takes a timer away: one that was refused, or that has a migration recorded. */
function dropTimer(
  a: Activation,
  job: Job,
  timer: Timer,
  rest: readonly Timer[],
  slot: Slot,
  source: Source,
  error: KeyturnError | undefined,
): Taken {
  const { snapshot, requests, keyframe, turn: last, bytes } = a.latest;
  const { version } = a.hosted.definition;
  const number = last + 1;
  const whole = isWhole(number, a.latest, version);
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
    event: timer.event,
    change,
    refusal,
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
  return { ...effectless, a, job, turn, index: slot.index, record, refusal: error };
}

const effectless = { out: nothing, emitted: nothing, actions: nothing, replied: false, reply: undefined };

function blank(id: string, slot: Slot, [source, sourceName, sourceNumber]: Source): TurnRecord {
  return {
    kind: DeltaTurn,
    id,
    turn: 0,
    previous: NoLink,
    keyframe: NoLink,
    source,
    sourceName,
    sourceNumber,
    delay: slot.delay,
    version: 0,
    event: null,
    change: null,
    out: nothing,
    emitted: nothing,
    replied: false,
    reply: undefined,
    requestId: undefined,
    trace: undefined,
    refusal: undefined,
  };
}

function changeOf(before: Turn, next: MachineSnapshot, timers: readonly Timer[]): Change | null {
  const last = before.snapshot as MachineSnapshot;
  let context: Record<string, unknown> | null = null;
  let removed: string[] | null = null;
  if (next.context !== last.context) {
    for (const name in next.context) {
      const value: unknown = next.context[name];
      if (value !== last.context[name] || !(name in last.context)) {
        context ??= {};
        context[name] = value;
      }
    }
    for (const name in last.context) {
      if (!(name in next.context)) {
        removed ??= [];
        removed.push(name);
      }
    }
  }
  const rest: Change["rest"] =
    next.status !== last.status || next.output !== last.output || next.historyValue !== last.historyValue
      ? [next.status, next.output, historyOf(next) ?? null]
      : null;
  return {
    context,
    removed,
    value: sameStates(next, last) ? null : next.value,
    rest,
    timers: timers === before.timers ? null : timers,
  };
}

function wholeOf(next: MachineSnapshot, timers: readonly Timer[]): Change {
  return {
    context: next.context,
    removed: null,
    value: next.value,
    rest:
      next.status === "active" && Object.keys(next.historyValue).length === 0
        ? null
        : [next.status, next.output, historyOf(next) ?? null],
    timers: timers.length === 0 ? null : timers,
  };
}

function remember(before: Turn, requestId: string, slot: Slot): readonly RequestPlace[] {
  const requests = [...before.requests, { requestId, place: { batch: slot.batch, index: slot.index } }];
  if (requests.length > limits.requestsPerActor) requests.shift();
  return requests;
}

/** Gives tells their channels and numbers. The numbers are taken only when the turn is. */
function addressed(effects: Effects, a: Activation, trace: string | undefined, shards: number): OutMessage[] {
  const numbers = new Map<number, number>();
  let told = a.shard.outbox.bytes;
  return effects.tells.map(({ to, event }) => {
    try {
      if (typeof to !== "string")
        throw new KeyturnError("invalid_address", "An address is a text, type/key.");
      const address = parseAddress(to);
      const { type, key, id, shard: toShard } = placeOf(address.type, address.key, shards);
      checkEvent(event);
      const bytes = seal(event, "the told event");
      if (bytes > limits.eventBytes) throw tooLarge(bytes);
      const channel = a.shard.out(toShard);
      const number = (numbers.get(toShard) ?? channel.numbered) + 1;
      if (number - channel.acknowledged > limits.outboxPerChannel) {
        throw new KeyturnError(
          "outbox_full",
          `${limits.outboxPerChannel} messages wait for shard ${toShard}, which does not take them. Try again later.`,
        );
      }
      told += bytes;
      if (told > limits.outboxBytes) {
        throw new KeyturnError(
          "outbox_full",
          `Messages of ${limits.outboxBytes} bytes wait for shards that do not take them. Try again later.`,
        );
      }
      numbers.set(toShard, number);
      return { type, key, id, toShard, number, event, trace, bytes };
    } catch (cause) {
      if (cause instanceof KeyturnError && cause.code === "outbox_full") throw cause;
      throw new KeyturnError(
        "tell_invalid",
        `A message to ${JSON.stringify(to)} cannot be sent: ${textOf(cause)}`,
        { cause },
      );
    }
  });
}

/** The refusal of an event over the limit. */
export function tooLarge(bytes: number): KeyturnError {
  return new KeyturnError(
    "event_too_large",
    `The event takes about ${bytes} bytes, at most ${limits.eventBytes} are allowed. Send a reference to the data instead.`,
  );
}

function sealReply(value: unknown): void {
  try {
    seal(value, "the reply");
  } catch (cause) {
    throw new KeyturnError("reply_invalid", textOf(cause), { cause });
  }
}

function encoded(record: TurnRecord): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = encodeRecord(record);
  } catch (cause) {
    throw new KeyturnError("context_invalid", `The turn of ${record.id} cannot be stored: ${textOf(cause)}`, {
      cause,
    });
  }
  if (bytes.length > limits.recordBytes) {
    throw new KeyturnError(
      "state_too_large",
      `The turn of ${record.id} takes ${bytes.length} bytes, at most ${limits.recordBytes} fit into one record. Keep less in one actor.`,
    );
  }
  return bytes;
}

/** The new estimate of an actor's size. Only an estimate over the limit costs an exact count. */
function checkSize(
  snapshot: MachineSnapshot,
  timers: readonly Timer[],
  requests: readonly RequestPlace[],
  estimate: number,
  id: string,
): number {
  if (estimate <= limits.stateBytes) return estimate;
  // Everything that a snapshot holds; see encodeSnapshot.
  const exact = encode([
    persist(snapshot),
    packTimers(timers),
    requests.map((r) => [r.requestId, 0, 0]),
  ]).length;
  if (exact <= limits.stateBytes) return exact;
  throw new KeyturnError(
    "state_too_large",
    `The state of ${id} would take ${exact} bytes, at most ${limits.stateBytes} are allowed. Spread it over several actors.`,
  );
}

/** Whatever a step threw, as one of our errors. */
export function asError(error: unknown): KeyturnError {
  if (error instanceof KeyturnError) return error;
  if (error instanceof ValueFault) return new KeyturnError("invalid_event", error.message, { cause: error });
  return new KeyturnError("machine_failed", textOf(error), { cause: error });
}
