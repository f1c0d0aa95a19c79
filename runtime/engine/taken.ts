/**
 * What a message has come to: a turn that is computed and encoded, or a refusal that is to be recorded. Nobody has seen
 * it yet; the engine takes it, or throws it away.
 *
 * Owns what such a result holds, and the results that no machine has a part in: deletions and refusals. Changes nothing.
 * Talks to the record of a turn (turn-record.ts) and, where one who asked gets an error, to outgoing.ts.
 */
import type { KeyturnError } from "../words/errors.ts";
import { type Activation, type Job, NoPlace, Turn } from "./activation.ts";
import type { ActionEffect, ReceiveEffect } from "./machine.ts";
import { Outgoing } from "./outgoing.ts";
import { DeleteTurn, FromNowhere, FromSession, FromShard, type OutMessage, Refusal } from "./record.ts";
import { blank, encoded, type Slot, type Source } from "./turn-record.ts";

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

/** What a result has that does nothing outside. */
export const effectless = {
  out: nothing,
  emitted: nothing,
  actions: nothing,
  receives: nothing,
  replied: false,
  reply: undefined,
};

/** What a message came of, as the record says it. */
export function sourceOf(job: Job): Source {
  if (job.session !== undefined) return [FromSession, job.session.name, job.number];
  if (job.fromShard >= 0) return [FromShard, job.fromShard, job.number];
  return [FromNowhere, 0, 0];
}

/** A deletion. The state is gone with it; a later message begins anew at turn 1. */
export function takeDelete(a: Activation, job: Job, slot: Slot, source = sourceOf(job)): Taken {
  const turn = new Turn(a.id, 0, undefined, nothing, nothing, 0, slot.batch, slot.index, NoPlace, 0);
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
  if (job.message.link?.from === undefined) return refused(a, job, slot, error);
  const outgoing = new Outgoing(a.shard, job.trace, shards);
  outgoing.refuse(job.message, error);
  return refused(a, job, slot, undefined, outgoing.messages);
}

/** The record of an answer whose question is not open any more. */
export function takeLateAnswer(a: Activation, job: Job, slot: Slot): Taken {
  return refused(a, job, slot, undefined);
}

/** The record of a message that changes nothing; with an error it is a dead letter. */
export function refused(
  a: Activation,
  job: Job,
  slot: Slot,
  error: KeyturnError | undefined,
  out: readonly OutMessage[] = nothing,
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
