/**
 * What a step wants done: messages, answers, actions and timers, before anybody does them.
 *
 * Owns these words. Filled by the collector (collector.ts), read by the engine's step. Talks to nobody.
 */
import type { EventObject } from "xstate";
import type { KeyturnError } from "../../words/errors.ts";
import type { Asker } from "./actions.ts";
import { PROMISE_REJECT } from "./internals.ts";

/** A timer that stands in an actor's state. */
export interface Timer {
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly due: number;
  /** Turn that set it: a firing meant for an older setting of the same id is told apart by it. */
  readonly generation: number;
  readonly event: EventObject;
  /** Sessions of the child that set it and of the child that it is for; undefined for the actor's own machine. */
  readonly source?: string | undefined;
  readonly target?: string | undefined;
  /** How long it was set for, milliseconds; only of delays, and of types that may have to begin them anew. */
  readonly delay?: number | undefined;
  /** The trace of the turn that set it, if that one is recorded. */
  readonly trace?: string | undefined;
}

/** Type of the event of a timer that stands for work: what a promise, callback or observable does outside. */
export const WORK = "xstate.keyturn.work";

/** Id of the timer, and type of its event, with which a migrated actor begins what only its new machine invokes. */
export const BEGIN = "xstate.keyturn.begin";

/** The event of a timer that stands for work. */
export interface WorkEvent extends EventObject {
  readonly type: typeof WORK;
  /** When it began first, milliseconds since the epoch. */
  readonly begun: number;
  /** Counts from 1; grows with each failed attempt that is tried again. */
  readonly attempt: number;
}

/** Whether a timer stands for work. */
export function isWorkTimer(timer: Timer): boolean {
  return timer.event.type === WORK;
}

/** Id of the timer of a question that is not to wait for its answer for ever. */
export const ASK_TIMEOUT = "timeout";

/** Whether a timer is the time-out of a question that an actor has asked. */
export function isAskTimeout({ id, source, target, event }: Timer): boolean {
  return id === ASK_TIMEOUT && source !== undefined && source === target && event.type === PROMISE_REJECT;
}

/** A message that a step told another actor, not yet checked. */
export interface TellEffect {
  readonly to: unknown;
  readonly event: unknown;
  /** Set if an answer is waited for: the session of the child that asks. */
  readonly asker: string | undefined;
}

/** An answer to a question of an earlier turn. */
export interface AnswerEffect {
  readonly to: Asker;
  readonly value: unknown;
  readonly error: KeyturnError | undefined;
}

/** A custom action, to be run after the commit, at most once. */
export interface ActionEffect {
  readonly name: string;
  /** What the action returns; a promise may still fail. */
  run(): unknown;
}

/** An event that a callback was sent, to be given to it after the commit. */
export interface ReceiveEffect {
  readonly session: string;
  readonly event: EventObject;
}

/** An event that a child emitted, and the child's path. */
export type ChildEmitted = readonly [path: string, event: unknown];

/** What one step wants done, in the order in which the machine asked for it. Reused: read it before the next step. */
export class Effects {
  tells: TellEffect[] = [];
  actions: ActionEffect[] = [];
  receives: ReceiveEffect[] = [];
  emitted: unknown[] = [];
  /** What its children emitted, by path. Whoever listens to the actor does not hear it, as in XState. */
  childEmitted: ChildEmitted[] = [];
  /** The actor's timers after the step; the same array as before if untouched. */
  timers: readonly Timer[] = [];
  replied = false;
  reply: unknown = undefined;
  /** Who asks now is answered by a later turn, and `answers` are for who asked before. */
  deferred = false;
  answers: AnswerEffect[] = [];
}
