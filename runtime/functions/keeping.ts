/**
 * Keeping: where a key's states stand in its context, and when they expire.
 *
 * Owns reading and writing of states. Talks to nobody; times are handed in.
 *
 * Invariants:
 * 1. A state that is missing, or has expired, has its initial value, whether or not its timer has fired.
 * 2. While anything is to expire, a timer is set that is not later. It is not set anew with every write: when it fires too
 *    early, it is set for what is next.
 */
import type { Wish } from "../engine/machine.ts";
import { EXPIRE, EXPIRES, WAKE } from "./events.ts";
import type { Compiled } from "./run.ts";
import type { State } from "./state.ts";

export type Context = Readonly<Record<string, unknown>>;
/** What changes in a context. */
export type Patch = Record<string, unknown>;

type Expires = Readonly<Record<string, number>>;

export class Keeping {
  /** All states of a type, by name. */
  readonly states: ReadonlyMap<string, State>;

  constructor(states: ReadonlyMap<string, State>) {
    this.states = states;
  }

  /** Writes what a function returned, and when it expires, into `next`. */
  write(
    next: Patch,
    compiled: Compiled,
    state: Readonly<Record<string, unknown>> | undefined,
    now: number,
    wishes: Wish[],
  ): Patch {
    if (!compiled.expires) return Object.assign(next, state);
    for (const [, one] of compiled.states)
      if (one.after === "use" && isKept(one, next, now)) put(next, one, next[one.name], now);
    for (const name in state) put(next, this.states.get(name) as State, state[name], now);
    wake(next, now, wishes);
    return next;
  }
}

/** What a function sees of the states. */
export function valuesOf({ states }: Compiled, context: Context, now: number): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [alias, state] of states) values[alias] = standing(state, context, now);
  return values;
}

/** A state's value. */
export function standing(state: State, context: Context, now: number): unknown {
  return isKept(state, context, now) ? context[state.name] : state.initial;
}

/** Whether a state holds a value of its own that has not expired. */
function isKept({ name, expire_ms }: State, context: Context, now: number): boolean {
  // A state may have the name of what every object inherits.
  if (context[name] === undefined || !Object.hasOwn(context, name)) return false;
  if (expire_ms === undefined) return true;
  const due = (context[EXPIRES] as Expires | undefined)?.[name];
  return due === undefined || due > now;
}

/** Writes one state; undefined sets it back. */
export function put(next: Patch, { name, expire_ms }: State, value: unknown, now: number): void {
  next[name] = value;
  if (expire_ms === undefined) return;
  const { [name]: _, ...others } = (next[EXPIRES] as Expires | undefined) ?? {};
  next[EXPIRES] = value === undefined ? others : { ...others, [name]: now + expire_ms };
}

/** Sees to it that a timer is set that is not later than the next expiry. */
export function wake(next: Patch, now: number, wishes: Wish[]): void {
  const dues = Object.values((next[EXPIRES] as Expires | undefined) ?? {});
  if (dues.length === 0) return;
  const due = Math.min(...dues);
  const set = next[WAKE] as number | undefined;
  if (set !== undefined && set <= due) return;
  next[WAKE] = due;
  wishes.push({ kind: "later", id: "~expire", delay_ms: Math.max(0, due - now), event: { type: EXPIRE } });
}

/** The timer has fired: what has expired goes. */
export function expired(context: Context, now: number, wishes: Wish[]): Patch {
  const next: Patch = { ...context };
  const expires = { ...(context[EXPIRES] as Expires | undefined) };
  for (const [name, due] of Object.entries(expires)) {
    if (due > now) continue;
    next[name] = undefined;
    delete expires[name];
  }
  next[EXPIRES] = expires;
  next[WAKE] = undefined;
  wake(next, now, wishes);
  return next;
}
