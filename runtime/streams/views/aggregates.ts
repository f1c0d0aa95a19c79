/**
 * Aggregates: what a view keeps of events, apart from how it groups and windows them.
 *
 * Owns the interface and the simple ones; sketches.ts has those that need more than a few numbers. What an aggregate
 * takes of an event is taken by the emitting turn; only that travels. Its state is plain data within an actor's state.
 *
 * Invariants:
 * 1. `add` and `merge` are pure. `add` gives back the same state if nothing changed.
 * 2. For a mergeable one it makes no difference how events are shared out among states that are merged afterwards, nor
 *    in which order they come (but for the last digits of sums of fractions, and within the errors that a sketch states).
 */
import type { EmittedBy } from "../../engine/routes.ts";
import { KeyturnError } from "../../words/errors.ts";
import { seal } from "../../words/values.ts";
import type { AnyEmitted } from "../routes.ts";

/** Of an event: a path, `"customer.country"`, or a function. */
// biome-ignore lint/suspicious/noExplicitAny: the events of whatever the view is over
export type Of<T, E = any> = string | ((event: E, by: EmittedBy) => T);

/** What a view may keep; made by `count()`, `sum()` and so on. */
export interface Aggregate<R = unknown> {
  readonly kind: string;
  /** Whether it can be split over sub-keys and kept for sessions, which may grow together. */
  readonly mergeable: boolean;
  /** Written by itself, since it is large and does not change with every event. */
  readonly heavy: boolean;
  /** What its state takes at most, about. */
  readonly bytes: number;
  readonly empty: unknown;
  /** What it needs of an event; undefined for nothing. Throws if the event does not fit. */
  take(event: AnyEmitted, by: EmittedBy): unknown;
  add(state: unknown, taken: unknown): unknown;
  merge(state: unknown, other: unknown): unknown;
  result(state: unknown): R;
}

// biome-ignore lint/suspicious/noExplicitAny: aggregates of any result
export type Aggregates = Readonly<Record<string, Aggregate<any>>>;

/** The results of several, by name. */
export type Values<A extends Aggregates> = {
  readonly [K in keyof A]: A[K] extends Aggregate<infer R> ? R : never;
};

/** Reads a path, or calls the function. */
export function reading<T>(of: Of<T>, what: string): (event: AnyEmitted, by: EmittedBy) => unknown {
  if (typeof of === "function") return of;
  if (typeof of !== "string" || of === "")
    throw new KeyturnError(
      "invalid_options",
      `${what} is a path, such as "total", or a function of the event.`,
    );
  const names = of.split(".");
  return (event) => {
    let value: unknown = event;
    for (const name of names) {
      if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return undefined;
      value = (value as Record<string, unknown>)[name];
    }
    return value;
  };
}

/** A finite number of an event; undefined where it has none. Throws for anything else. */
function numberOf(of: Of<number | null | undefined>, kind: string): Aggregate["take"] {
  const read = reading(of, `What ${kind}() is of`);
  const name = typeof of === "string" ? `"${of}"` : `what ${kind}() reads`;
  return (event, by) => {
    const value = read(event, by);
    if (value === undefined || value === null) return undefined;
    if (typeof value !== "number" || !Number.isFinite(value))
      throw new Error(`${name} is ${show(value)}, not a finite number.`);
    return value;
  };
}

export function show(value: unknown): string {
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

const NUMBER_BYTES = 9;

/** How many events; with a path or function, how many for which it is true. */
export function count(of?: Of<unknown>): Aggregate<number> {
  const read = of === undefined ? undefined : reading(of, "What count() is of");
  return {
    kind: "count",
    mergeable: true,
    heavy: false,
    bytes: NUMBER_BYTES,
    empty: 0,
    take: (event, by) => (read === undefined || read(event, by) ? 1 : undefined),
    add: (state) => (state as number) + 1,
    merge: (state, other) => (state as number) + (other as number),
    result: (state) => state as number,
  };
}

/** The sum of a number of the events. Events without it are left out; anything but a finite number is a fault. */
export function sum(of: Of<number | null | undefined>): Aggregate<number> {
  return {
    kind: "sum",
    mergeable: true,
    heavy: false,
    bytes: NUMBER_BYTES,
    empty: 0,
    take: numberOf(of, "sum"),
    add: (state, taken) => (state as number) + (taken as number),
    merge: (state, other) => (state as number) + (other as number),
    result: (state) => state as number,
  };
}

function extreme(
  kind: "min" | "max",
  of: Of<number | null | undefined>,
  pick: (a: number, b: number) => number,
): Aggregate<number | undefined> {
  const merge = (state: unknown, other: unknown): unknown => {
    if (other === null) return state;
    return state === null ? other : pick(state as number, other as number);
  };
  return {
    kind,
    mergeable: true,
    heavy: false,
    bytes: NUMBER_BYTES,
    empty: null,
    take: numberOf(of, kind),
    add: merge,
    merge,
    result: (state) => (state as number | null) ?? undefined,
  };
}

/** The smallest of a number of the events; undefined without one. */
export function min(of: Of<number | null | undefined>): Aggregate<number | undefined> {
  return extreme("min", of, Math.min);
}

/** The largest. */
export function max(of: Of<number | null | undefined>): Aggregate<number | undefined> {
  return extreme("max", of, Math.max);
}

/** The mean of a number of the events; undefined without one. */
export function avg(of: Of<number | null | undefined>): Aggregate<number | undefined> {
  type State = readonly [count: number, sum: number];
  return {
    kind: "avg",
    mergeable: true,
    heavy: false,
    bytes: 2 * NUMBER_BYTES + 5,
    empty: [0, 0],
    take: numberOf(of, "avg"),
    add: (state, taken) => [(state as State)[0] + 1, (state as State)[1] + (taken as number)],
    merge: (state, other) => [
      (state as State)[0] + (other as State)[0],
      (state as State)[1] + (other as State)[1],
    ],
    result: (state) => ((state as State)[0] === 0 ? undefined : (state as State)[1] / (state as State)[0]),
  };
}

const VALUE_BYTES = 256;

function keeping(kind: "first" | "last", of: Of<unknown>): Aggregate<unknown> {
  const read = reading(of, `What ${kind}() is of`);
  return {
    kind,
    mergeable: false,
    heavy: false,
    bytes: VALUE_BYTES,
    empty: [],
    take: (event, by) => {
      const value = read(event, by);
      seal(value, `what ${kind}() reads`);
      return value;
    },
    add: (state, taken) => (kind === "first" && (state as unknown[]).length > 0 ? state : [taken]),
    merge: (state) => state,
    result: (state) => (state as unknown[])[0],
  };
}

/** What the first event, in the order of arrival, has; cannot be split. */
export function first(of: Of<unknown>): Aggregate<unknown> {
  return keeping("first", of);
}

/** What the last event, in the order of arrival, has; cannot be split. */
export function last(of: Of<unknown>): Aggregate<unknown> {
  return keeping("last", of);
}

/**
 * An aggregate of your own.
 * @param options.start the state without events, plain data
 * @param options.step the state after one more; must be pure, and give back the same state if nothing changed. If it
 *   throws, the event is not counted and becomes a dead letter
 * @param options.of what is needed of an event; the whole event by default
 * @param options.merge two states as one. Only with it can the view be split or have sessions: then the order of events
 *   must make no difference
 * @param options.bytes what a state takes at most, about; 256 by default
 */
export function fold<S, I = AnyEmitted>(options: {
  readonly start: S;
  readonly step: (state: S, taken: I) => S;
  readonly of?: Of<I>;
  readonly merge?: (state: S, other: S) => S;
  readonly bytes?: number;
}): Aggregate<S> {
  if (typeof options?.step !== "function")
    throw new KeyturnError("invalid_options", "fold takes { start, step, merge }.");
  const { start, step, merge, bytes = VALUE_BYTES } = options;
  const read =
    options.of === undefined ? (event: AnyEmitted) => event : reading(options.of, "What fold() is of");
  seal(start, "the start of fold()");
  return {
    kind: "fold",
    mergeable: merge !== undefined,
    heavy: bytes > VALUE_BYTES,
    bytes,
    empty: start,
    take: (event, by) => {
      const value = read(event, by);
      seal(value, "what fold() reads");
      return value;
    },
    add: (state, taken) => step(state as S, taken as I),
    merge: (state, other) => (merge === undefined ? state : merge(state as S, other as S)),
    result: (state) => state as S,
  };
}
