/**
 * The names that the facade itself uses: types of events, and properties of an actor's context beside its states.
 *
 * Neither can be a user's: names of functions and states hold neither `.` nor `~`.
 */
import type { Asker } from "../engine/machine.ts";

/** All of ours. A wildcard: who looks for the events of a machine to try them out finds the user's. */
export const OWN = "functions.*";

/** Calls a function of a group that has async ones: the answer says whether there is a result yet. */
export const CALL = "functions.call";
/** `{ state, operand, operation }`: arithmetic on a state. */
export const UPDATE = "functions.update";
/** `{ state, value }`; undefined for the initial value. */
export const SET = "functions.set";
/** Of a timer: `{ to, event }` is told now. */
export const LATER = "functions.later";
/** Of a timer: something may have expired. */
export const EXPIRE = "functions.expire";
/** Of a timer: what waits can be gone on with. */
export const DRAIN = "functions.drain";
/** `{ event, code, message }`: an event that had waited and was refused; it is told to become a dead letter. */
export const REFUSED = "functions.refused";

export const KEY = "~key";
/** When which state expires, milliseconds since the epoch. */
export const EXPIRES = "~expires";
/** For when the timer is set that looks at them. */
export const WAKE = "~wake";
/** The invocation that runs outside. */
export const RUNNING = "~running";
/** What waits for it, oldest first. */
export const QUEUE = "~queue";
/** Tickets given out, and the last one that is done. */
export const TAKEN = "~taken";
export const DONE = "~done";
/** How many turns have had answers to keep: the last ones stand in `~0`, `~1`, … in a ring. */
export const ANSWERED = "~answered";
/**
 * Length of that ring. Short, since all of it is looked at in every turn: whoever waits looks at each state that is
 * published, and so misses an answer only if that many publications in a row are lost.
 */
export const ANSWERS_MAX = 8;

/** An event that waits, or runs. */
export interface Pending {
  readonly ticket: number;
  readonly event: { readonly type: string };
  /** When it was begun; of what waits, when it was taken. */
  readonly now: number;
  /** Whether a client waits for its answer. */
  readonly called: boolean;
  /** The actor that waits for its answer. */
  readonly asker?: Asker;
}

/** What became of an event that a client waits for. */
export interface Answer {
  readonly ticket: number;
  readonly value?: unknown;
  readonly error?: { readonly code: string; readonly message: string };
}

/** The answers of one turn, without those that are too large. */
export interface Answers {
  readonly bytes: number;
  readonly list: readonly Answer[];
}

/** What a call is answered with at once. */
export type CallReply = { readonly result: unknown } | Waits;

/** An event was taken, its answer will follow. */
export interface Waits {
  readonly waits: number;
}
