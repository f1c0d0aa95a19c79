/**
 * What the kit throws when an expectation does not hold, and how it shows what differs.
 *
 * Owns the error class and the comparison of values. Needs no assertion library: any test runner reports what is thrown.
 */
import { inspect, isDeepStrictEqual } from "node:util";

/** An expectation that does not hold, or a run that violated what the runtime promises. Wrong use of the kit is a KeyturnError. */
export class TestFailure extends Error {
  override readonly name = "TestFailure";
  /** Give it to the same call again, and the same happens. Undefined where nothing was drawn. */
  readonly seed: number | undefined;

  constructor(message: string, options: { cause?: unknown; seed?: number } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.seed = options.seed;
  }
}

const SHOWN_MAX = 1_000;
const LINES_MAX = 40;
const oneLine = { depth: 12, breakLength: Number.POSITIVE_INFINITY, compact: true, sorted: true } as const;

/** A value on one line, with sorted names, cut where nobody would read on. */
export function show(value: unknown): string {
  const text = inspect(value, { ...oneLine, maxArrayLength: 50, maxStringLength: 500 });
  return text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text;
}

/** A value as a text that no other value has. */
export function textOfValue(value: unknown): string {
  const most = Number.POSITIVE_INFINITY;
  return inspect(value, { ...oneLine, depth: most, maxArrayLength: most, maxStringLength: most });
}

/** An event on one line. */
export function showEvent(event: unknown): string {
  const { type, ...rest } = event as { type: string };
  return Object.keys(rest).length === 0 ? type : `${type} ${show(rest)}`;
}

/** Whether two values are equal as far as a journal can tell: it keeps no difference between 0 and -0. */
export function equal(a: unknown, b: unknown): boolean {
  return a === b || isDeepStrictEqual(a, b);
}

/**
 * Where a value differs from what was expected, a line each. With `partial`, names that were not expected are not looked
 * at, at any depth; arrays have the expected length in any case.
 */
export function differences(path: string, expected: unknown, actual: unknown, partial: boolean): string[] {
  const found: string[] = [];
  compare(path, expected, actual, partial, found);
  if (found.length <= LINES_MAX) return found;
  return [...found.slice(0, LINES_MAX), `… and ${found.length - LINES_MAX} more differences`];
}

function compare(path: string, expected: unknown, actual: unknown, partial: boolean, found: string[]): void {
  if (equal(expected, actual)) return;
  if (Array.isArray(expected) && Array.isArray(actual)) {
    if (expected.length === actual.length) {
      for (const [at, item] of expected.entries())
        compare(`${path}[${at}]`, item, actual[at], partial, found);
      return;
    }
  } else if (isPlain(expected) && isPlain(actual)) {
    for (const name of Object.keys(expected).sort())
      compare(`${path}.${name}`, expected[name], actual[name], partial, found);
    if (partial) return;
    for (const name of Object.keys(actual).sort())
      if (!Object.hasOwn(expected, name))
        found.push(`${path}.${name}: expected nothing, is ${show(actual[name])}`);
    return;
  }
  found.push(`${path}: expected ${show(expected)}, is ${show(actual)}`);
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
