/**
 * How long actors of a type live: `expireAfter`, `idleAfter` and `keepFor`.
 *
 * Owns the life timer, one in the state of each actor of a type that has a policy. It is a timer like any other, so it
 * survives whatever the state survives, and a cold actor is found by it in the due index; but it is never given to the
 * machine. Talks to nobody; step.ts calls it.
 *
 * Invariants:
 * 1. A turn of an active actor does not write the timer anew. When it fires and the actor was used since it was set, a
 *    turn that changes only timers sets it anew.
 * 2. An actor is never deleted earlier than its policy says. The time of its last turn is known exactly while it is in
 *    memory. Of one that was loaded since, only whether it was used after the timer was set is known (by the turn's
 *    number); if so, the time of the load counts as its last turn. So it may live longer, by less than `idleAfter`.
 * 3. The policy is the one that is deployed when the timer fires; what it counts from stands in the timer.
 */
import { durationOf } from "../words/duration.ts";
import { KeyturnError } from "../words/errors.ts";
import type { Activation, Turn } from "./activation.ts";
import type { MachineSnapshot, Timer } from "./machine.ts";
import type { EventObject } from "./machine/internals.ts";

/** Id of the life timer, and type of its event. */
export const LIFE = "xstate.keyturn.expire";
/** Its source: none that a machine or a child has. */
const NOBODY = "";

/** Milliseconds; see `defineActor`. */
export interface LifePolicy {
  readonly expireAfter: number | undefined;
  readonly idleAfter: number | undefined;
  readonly keepFor: number | undefined;
}

/** What a life timer counts from, milliseconds since the epoch. */
interface LifeEvent extends EventObject {
  readonly type: typeof LIFE;
  /** The first turn. */
  readonly begun: number;
  /** The last turn that was known when the timer was set. */
  readonly used: number;
  /** When the machine came to its end; left out before. */
  readonly ended?: number;
}

export interface LifeOptions {
  readonly expireAfter?: number | string | undefined;
  readonly idleAfter?: number | string | undefined;
  readonly keepFor?: number | string | undefined;
}

/** @throws KeyturnError `invalid_options` */
export function lifePolicyOf(type: string, options: LifeOptions): LifePolicy | undefined {
  const read = (name: keyof LifeOptions, least: number): number | undefined => {
    const value = options[name];
    if (value === undefined) return undefined;
    const ms = durationOf(value, `${name} of "${type}"`);
    if (ms < least)
      throw new KeyturnError("invalid_options", `${name} of "${type}" is ${ms} ms; it is ${least} at least.`);
    return ms;
  };
  const policy = {
    expireAfter: read("expireAfter", 1),
    idleAfter: read("idleAfter", 1),
    keepFor: read("keepFor", 0),
  };
  return Object.values(policy).every((ms) => ms === undefined) ? undefined : policy;
}

export function isLifeTimer(timer: Timer): boolean {
  return timer.id === LIFE && timer.source === NOBODY;
}

/** The timers after a turn: the machine's, with the life timer as it should be. */
export function withLife(
  a: Pick<Activation, "hosted"> & { readonly latest: Pick<Turn, "snapshot" | "timers"> },
  snapshot: MachineSnapshot,
  timers: readonly Timer[],
  generation: number,
  now: number,
): readonly Timer[] {
  const { life } = a.hosted.definition;
  if (life === undefined) return timers;
  const before = a.latest;
  const known = before.timers.find(isLifeTimer);
  const over = snapshot.status !== "active";
  const ends = over && (before.snapshot === undefined || before.snapshot.status === "active");
  // The machine drops all timers when it ends; this one stays.
  if (known !== undefined && !(ends && life.keepFor !== undefined))
    return timers.includes(known) ? timers : [...timers, known];
  const begun = known === undefined ? now : (known.event as LifeEvent).begun;
  const event: LifeEvent = { type: LIFE, begun, used: now, ...(over ? { ended: now } : {}) };
  const next = timerOf(life, event, generation);
  const others = known === undefined ? timers : timers.filter((timer) => timer !== known);
  return next === undefined ? others : [...others, next];
}

/**
 * What is to become of an actor whose life timer fires: undefined if it is over, or else its timers.
 */
export function lifeAfter(a: Activation, timer: Timer, now: number): readonly Timer[] | undefined {
  const { life } = a.hosted.definition;
  const { turn } = a.latest;
  const others = a.latest.timers.filter((other) => other !== timer);
  if (life === undefined) return others;
  const event = lastUse(a.latest, timer, a.used_ms);
  const next = timerOf(life, event, turn + 1);
  if (next === undefined) return others;
  return next.due <= now ? undefined : [...others, next];
}

function lastUse({ turn }: Turn, timer: Timer, used_ms: number): LifeEvent {
  const event = timer.event as LifeEvent;
  return turn === timer.generation ? event : { ...event, used: Math.max(event.used, used_ms) };
}

function timerOf(life: LifePolicy, event: LifeEvent, generation: number): Timer | undefined {
  const { expireAfter, idleAfter, keepFor } = life;
  const { begun, used, ended } = event;
  let due = Number.POSITIVE_INFINITY;
  if (expireAfter !== undefined) due = begun + expireAfter;
  if (ended !== undefined && keepFor !== undefined) due = Math.min(due, ended + keepFor);
  else if (idleAfter !== undefined) due = Math.min(due, used + idleAfter);
  if (due === Number.POSITIVE_INFINITY) return undefined;
  return { id: LIFE, due, generation, event, source: NOBODY, target: undefined };
}
