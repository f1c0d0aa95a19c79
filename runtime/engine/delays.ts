/**
 * The delays of a migrated actor: a new version may wait otherwise than the one that set the stored timers.
 *
 * Owns which `after` timers of an older version stay, go or begin anew, and the timer that has this recorded. Talks to
 * XState's state nodes, as the machine does: the timer of an `after` has the id and event `xstate.after.<delay>.<node>`.
 *
 * Invariants:
 * 1. A migrated actor has exactly one timer for each `after` of its active states, and all other timers that it had.
 * 2. A delay that begins anew is durable soon after the actor was loaded, without any message to it: it brings a timer
 *    that is due at once, whose turn changes nothing and records the whole state (`wake`).
 * 3. That timer is due no later than what is stored: until its turn is committed, recovery finds the actor at the time
 *    that the store knows, and all of this happens again.
 */
import { KeyturnError, textOf } from "../words/errors.ts";
import type { MachineSnapshot, Timer } from "./machine.ts";
import { earliestDue } from "./state.ts";

const AFTER = "xstate.after.";
/** Id and event type of the timer that records a migration. `xstate.` is reserved: nobody can send it. */
const WAKE = "xstate.keyturn.migrated";

/** One kind of `after` of a state node, as XState keeps it. */
interface Delayed {
  readonly eventType: string;
  readonly delay: number | string | ((args: unknown, params: unknown) => unknown);
}

/**
 * The timers of a restored snapshot whose state an older version wrote.
 * @param timers as they are stored
 * @param now when delays begin that the older version did not have
 * @param turn last turn of the actor
 * @param keepsDelays whether timers say how long they were set for
 * @throws KeyturnError `migration_failed` if a delay of the machine is no time
 */
export function reconcileDelays(
  snapshot: MachineSnapshot,
  timers: readonly Timer[],
  now: number,
  turn: number,
  keepsDelays: boolean,
): readonly Timer[] {
  // Nothing can happen to an actor that is done.
  if (snapshot.status !== "active") return [];
  const waited = new Map<string, Delayed>();
  for (const node of snapshot._nodes)
    for (const one of node.after as unknown as readonly Delayed[]) waited.set(one.eventType, one);
  // Those of children are their own machines'.
  const kept = timers.filter(
    ({ id, source }) => source !== undefined || !id.startsWith(AFTER) || waited.has(id),
  );
  for (const { id, source } of kept) if (source === undefined) waited.delete(id);
  if (waited.size === 0) return kept.length === timers.length ? timers : kept;
  const begun = [...waited].map(([id, waiting]): Timer => {
    const delay = millisecondsOf(snapshot, id, waiting.delay);
    const timer = { id, due: now + delay, generation: turn, event: { type: id } };
    return keepsDelays ? { ...timer, delay } : timer;
  });
  const wake: Timer = {
    id: WAKE,
    due: Math.min(now, earliestDue(timers) ?? now),
    generation: turn,
    event: { type: WAKE },
  };
  return [...kept, ...begun, wake];
}

/** Whether a timer only has a migration recorded. */
export function isWake({ id }: Timer): boolean {
  return id === WAKE;
}

/** Timers as they are recorded. */
export function withoutWake(timers: readonly Timer[]): readonly Timer[] {
  return timers.some(isWake) ? timers.filter((timer) => !isWake(timer)) : timers;
}

function millisecondsOf(snapshot: MachineSnapshot, id: string, delay: Delayed["delay"]): number {
  const { machine, context } = snapshot;
  const named: unknown = typeof delay === "string" ? machine.implementations.delays[delay] : delay;
  let found: unknown;
  try {
    found = typeof named === "function" ? named({ context, event: { type: WAKE } }, undefined) : named;
  } catch (cause) {
    throw failed(id, `it threw: ${textOf(cause)}`, cause);
  }
  // As XState has it: what has no delay happens at once.
  if (found === undefined) return 0;
  if (typeof found === "number" && found >= 0) return found;
  throw failed(id, `${String(found)} ms is not a time`);
}

function failed(id: string, problem: string, cause?: unknown): KeyturnError {
  return new KeyturnError(
    "migration_failed",
    `The delay ${id} of a migrated actor cannot begin: ${problem}. Its function is given the context, and an event of type "${WAKE}".`,
    cause === undefined ? {} : { cause },
  );
}
