/**
 * What actors wait for, as people see it: the delays of their machines.
 *
 * Owns which timers are shown, and how one of them is named. Work that is under way, the end of a life
 * and the time-out of a question stand among an actor's timers too; they are not delays, and nobody cancels them. Talks to nobody.
 */
import { KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import { isWellFormed } from "../words/text.ts";
import { isWake } from "./delays.ts";
import { isBeginning } from "./invocations.ts";
import { isLifeTimer } from "./life.ts";
import { isAskTimeout, isWorkTimer, type Timer } from "./machine.ts";

/** Which of an actor's delays: an id is given once by each machine. */
export interface TimerName {
  /** As XState has it: the one given by the machine, or `xstate.after.<delay>.<state>`. */
  readonly id: string;
  /** Path of the child whose machine has set it; left out for the actor's own. */
  readonly child?: string;
}

/** An `after`, or a delayed `raise` or `sendTo`, that an actor waits for. */
export interface PendingTimer extends TimerName {
  /** Milliseconds since the epoch. */
  readonly due: number;
  readonly event: { readonly type: string };
}

/** The path of the child that has a session; undefined for one that is gone. */
export type PathOf = (session: string) => string | undefined;

/** An actor's delays, earliest first. */
export function pendingTimers(timers: readonly Timer[], pathOf: PathOf): PendingTimer[] {
  const shown: PendingTimer[] = [];
  for (const timer of timers) {
    if (!isDelay(timer)) continue;
    const { id, due, event, source } = timer;
    const child = source === undefined ? undefined : pathOf(source);
    shown.push(child === undefined ? { id, due, event } : { id, child, due, event });
  }
  return shown.length > 1 ? shown.sort((a, b) => a.due - b.due) : shown;
}

/** The timer of that name, undefined if the actor does not wait for it (any more). */
export function timerNamed(
  timers: readonly Timer[],
  { id, child }: TimerName,
  pathOf: PathOf,
): Timer | undefined {
  return timers.find((timer) => {
    if (timer.id !== id || !isDelay(timer)) return false;
    return (timer.source === undefined ? undefined : pathOf(timer.source)) === child;
  });
}

/**
 * Checks a name that came from outside.
 * @throws KeyturnError `invalid_options`
 */
export function checkTimerName(value: unknown): TimerName {
  const { id, child } = (value ?? {}) as Partial<Record<keyof TimerName, unknown>>;
  if (!isName(id) || (child !== undefined && child !== null && !isName(child))) {
    throw new KeyturnError(
      "invalid_options",
      "A timer is named by its id, or by { id, child }, as ref.timers() shows it.",
    );
  }
  return typeof child === "string" ? { id, child } : { id };
}

/** Whether it can be carried. */
function isName(value: unknown): value is string {
  return typeof value === "string" && isWellFormed(value) && value.length <= limits.eventBytes;
}

/** Whether a timer is a delay of a machine: none of those that the runtime keeps for itself. */
export function isDelay(timer: Timer): boolean {
  const ofMachine = !isWorkTimer(timer) && !isLifeTimer(timer) && !isAskTimeout(timer);
  return ofMachine && !isWake(timer) && !isBeginning(timer);
}
