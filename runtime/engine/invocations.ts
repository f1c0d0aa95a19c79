/**
 * The invocations of a migrated actor: the new version of its machine may invoke what the old one did not.
 *
 * Owns the timer by which they are begun. Talks to the machine's host. What a state invokes is begun when it is entered,
 * and nobody enters a state that an actor stands in already; so the first turn of a migrated actor begins them, before
 * anything else that it does, and one that comes by itself is due at once.
 *
 * Invariants:
 * 1. The timer stands in the actor's state until a turn has begun them: a turn that only changes timers keeps it.
 * 2. An input that cannot be made is found when the actor is loaded, and refuses the migration.
 */
import { KeyturnError, textOf } from "../words/errors.ts";
import type { HostedType } from "./definition.ts";
import { BEGIN, type Effects, type MachineHost, type MachineSnapshot, type Timer } from "./machine.ts";
import { earliestDue } from "./state.ts";

export function isBeginning({ id, source }: Timer): boolean {
  return id === BEGIN && source === undefined;
}

/**
 * The timers of a migrated actor, with the one that begins what it lacks.
 * @param stored its timers as they are stored: found by them, the actor is to begin no later
 * @throws KeyturnError `migration_failed`
 */
export function withBeginning(
  { definition, host }: HostedType,
  snapshot: MachineSnapshot,
  timers: readonly Timer[],
  stored: readonly Timer[],
  now: number,
  turn: number,
): readonly Timer[] {
  try {
    if (!host.lacksInvoked(snapshot)) return timers;
  } catch (cause) {
    throw new KeyturnError(
      "migration_failed",
      `What "${definition.type}" invokes in version ${definition.version} cannot begin in a migrated actor: ${textOf(cause)}. Its input is given the context, and an event of type "${BEGIN}".`,
      { cause },
    );
  }
  const due = Math.min(now, earliestDue(stored) ?? now);
  return [...timers, { id: BEGIN, due, generation: turn, event: { type: BEGIN } }];
}

/**
 * What only a new version of its machine invokes begins before anything else that a migrated actor does.
 * @returns undefined if nothing is to begin
 */
export function invoked(
  host: MachineHost,
  snapshot: MachineSnapshot,
  timers: readonly Timer[],
  turn: number,
  now: number,
): { snapshot: MachineSnapshot; effects: Effects } | undefined {
  if (!timers.some(isBeginning)) return undefined;
  return host.invoke(
    snapshot,
    timers.filter((timer) => !isBeginning(timer)),
    turn,
    now,
  );
}
