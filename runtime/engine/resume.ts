/**
 * What becomes of delays that nobody was there for: a type's `delays` policy.
 *
 * Owns the decision whether a delay has lapsed, and what its timers are then. Talks to nobody; step.ts records it.
 *
 * A delay is a timer that a machine or a child of it has set for itself or another of the same actor: `after`, and
 * `raise` and `sendTo` with a delay. Work, the actor's life, the time-out of a question and the record of a migration are
 * none, and are never held to the policy.
 *
 * A delay has lapsed if it was overdue by more than `limits.delayGrace_ms` when this node began to look after it: when
 * it took the shard over, or when it woke after having been suspended (ShardState.watched_ms). What only comes late,
 * because a node is busy, the store slow or a backlog long, has not: it was watched all the while. Two cases cannot be
 * told apart from a downtime, since no node records how long it watches: a wall clock that is set ahead by more than
 * that, and a backlog so long that it is handed over before it is worked off.
 *
 * Invariants:
 * 1. A lapsed delay is decided by one turn, whose record says which it was; the machine does not see it. So it is as
 *    durable as its firing would be, and recovery decides nothing anew.
 * 2. What lapses is due anew after the turn or is gone: never lapsed twice by the same downtime.
 * 3. To begin anew a delay has to say how long it is. One that was set before its type had the policy does not, and
 *    fires from its old deadline.
 */
import { KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import type { Activation } from "./activation.ts";
import type { Timer } from "./machine.ts";
import type { EventObject } from "./machine/internals.ts";
import { isDelay } from "./pending.ts";

/** What becomes of a delay that fell due while no node ran; see `defineActor`. */
export type DelayPolicy = "resume" | "restart" | "drop";

const POLICIES: readonly unknown[] = ["resume", "restart", "drop"] satisfies DelayPolicy[];

/** Types of the events of turns that only decide a delay. `xstate.` is reserved: nobody can send them. */
const RESTARTED = "xstate.keyturn.restarted";
const DROPPED = "xstate.keyturn.dropped";

/** What such a turn records: which timer, and when it was due. */
interface LapsedEvent extends EventObject {
  readonly type: typeof RESTARTED | typeof DROPPED;
  readonly id: string;
  readonly due: number;
}

/** @throws KeyturnError `invalid_options` */
export function delayPolicyOf(type: string, given: unknown): DelayPolicy {
  if (given === undefined) return "resume";
  if (POLICIES.includes(given)) return given as DelayPolicy;
  const shown = typeof given === "string" ? `"${given.slice(0, 40)}"` : typeof given;
  throw new KeyturnError(
    "invalid_options",
    `delays of "${type}" is ${shown}; what becomes of those that fell due while no node ran is "resume", "restart" or "drop".`,
  );
}

/** Whether a delay has lapsed, and its type wants something else than that it fires. */
export function isLapsed({ hosted, shard }: Activation, timer: Timer, now: number): boolean {
  const { delays } = hosted.definition;
  const wanted = delays === "drop" || (delays === "restart" && timer.delay !== undefined);
  if (!wanted) return false;
  if (!isDelay(timer)) return false;
  // By a clock that was set back meanwhile it may be later than now.
  return Math.min(shard.watched_ms, now) - timer.due > limits.delayGrace_ms;
}

/** The actor's timers after a lapsed one was decided, and the event that says so. */
export function decideLapsed(
  { hosted, latest: { timers, turn } }: Activation,
  timer: Timer,
  now: number,
): { readonly timers: readonly Timer[]; readonly event: LapsedEvent } {
  const { id, due, delay } = timer;
  if (hosted.definition.delays === "drop")
    return { timers: timers.filter((other) => other !== timer), event: { type: DROPPED, id, due } };
  const anew: Timer = { ...timer, due: now + (delay as number), generation: turn + 1 };
  return {
    timers: timers.map((other) => (other === timer ? anew : other)),
    event: { type: RESTARTED, id, due },
  };
}
