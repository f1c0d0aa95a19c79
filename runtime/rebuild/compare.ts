/**
 * Compares two states: a rebuilt one with the running one, or one after an event with the one before.
 *
 * Owns what counts as a difference and where it lies: states as a whole, contexts by path, what few actors have (output,
 * error, children, timers) by name. Pure; talks to the codec for values that have no paths of their own.
 */
import { isWake } from "../engine/delays.ts";
import { isLifeTimer } from "../engine/life.ts";
import type { MachineState, Timer } from "../engine/machine.ts";
import { pathOf } from "../engine/population.ts";
import { encode } from "../words/codec.ts";

/** A state to be compared: plain data. */
export interface Compared {
  readonly machine: MachineState;
  readonly timers: readonly Timer[];
}

/** One difference: its path, and both values. */
export interface Difference {
  /** `state`, `context.delay.total`, `timers.<id>`, `children.<path>`, `output`, `error`, `status`; lists are `[]`. */
  readonly path: string;
  readonly before: unknown;
  readonly after: unknown;
}

/** Deeper than this a difference is one of the whole value. */
const DEPTH = 8;
/** Differences that are listed of one actor. */
const LISTED = 64;

/** What is different; empty if nothing is. */
export function differences(before: Compared, after: Compared): Difference[] {
  const found: Difference[] = [];
  const add = (path: string, a: unknown, b: unknown): void => {
    if (found.length < LISTED && !found.some((known) => known.path === path))
      found.push({ path, before: a, after: b });
  };
  const [a, b] = [before.machine, after.machine];
  const [was, is] = [pathOf(a.value), pathOf(b.value)];
  if (was !== is) add("state", was, is);
  if (a.status !== b.status) add("status", a.status, b.status);
  walk(a.context, b.context, "context", 0, add);
  walk(a.output, b.output, "output", 0, add);
  walk(a.error, b.error, "error", 0, add);
  walk(childrenOf(a), childrenOf(b), "children", 0, add);
  walk(timersOf(before.timers), timersOf(after.timers), "timers", 0, add);
  walk(a.history ?? {}, b.history ?? {}, "history", 0, add);
  return found;
}

type Add = (path: string, a: unknown, b: unknown) => void;

function walk(a: unknown, b: unknown, path: string, depth: number, add: Add): void {
  if (Object.is(a, b) || (a === 0 && b === 0)) return;
  if (typeof a === "object" && typeof b === "object" && a !== null && b !== null && depth < DEPTH) {
    if (Array.isArray(a) && Array.isArray(b)) {
      if (a.length !== b.length) add(`${path}.length`, a.length, b.length);
      for (let at = 0; at < a.length && at < b.length; at++) walk(a[at], b[at], `${path}[]`, depth + 1, add);
      return;
    }
    if (isPlain(a) && isPlain(b)) {
      for (const name in a) walk(a[name], b[name], `${path}.${name}`, depth + 1, add);
      for (const name in b) if (!(name in a)) walk(undefined, b[name], `${path}.${name}`, depth + 1, add);
      return;
    }
  }
  if (!sameBytes(a, b)) add(path, a, b);
}

function isPlain(value: object): value is Record<string, unknown> {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function sameBytes(a: unknown, b: unknown): boolean {
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  // What is encoded is overwritten by the next.
  return Buffer.compare(Buffer.from(encode(a)), encode(b)) === 0;
}

function childrenOf({ children = [] }: MachineState): Record<string, unknown> {
  return Object.fromEntries(children.map(([path, , src, , , state]) => [path, { src, state }]));
}

/** By name, without what is the runtime's own. When it is due is what counts, not which turn set it. */
function timersOf(timers: readonly Timer[]): Record<string, unknown> {
  const own = timers.filter((timer) => !isLifeTimer(timer) && !isWake(timer));
  return Object.fromEntries(
    own.map(({ id, source, due }) => [source === undefined ? id : `${source}:${id}`, due]),
  );
}
