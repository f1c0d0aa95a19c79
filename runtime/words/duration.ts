/**
 * Durations as people write them: milliseconds, or texts such as "30 days".
 *
 * Owns the one parser of them. Talks to errors only.
 */
import { KeyturnError } from "./errors.ts";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  millisecond: 1,
  s: SECOND,
  second: SECOND,
  m: MINUTE,
  min: MINUTE,
  minute: MINUTE,
  h: HOUR,
  hour: HOUR,
  d: DAY,
  day: DAY,
  w: 7 * DAY,
  week: 7 * DAY,
};

/**
 * Milliseconds from a number of them or a text: a number and a unit, "250 ms", "30s", "1.5 hours", "30 days", "2 weeks".
 * @param name what the duration is of, for the error
 * @throws KeyturnError `invalid_options` for anything else, and for what is negative or no whole number of milliseconds
 */
export function durationOf(value: number | string, name: string): number {
  const ms = typeof value === "string" ? parsed(value) : value;
  if (typeof ms === "number" && Number.isSafeInteger(ms) && ms >= 0) return ms;
  throw new KeyturnError(
    "invalid_options",
    `${name} is ${JSON.stringify(value) ?? String(value)}; it is whole milliseconds from 0 on, or a text such as "90 s" or "30 days".`,
  );
}

function parsed(text: string): number | undefined {
  const [, count, unit = ""] = /^\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*$/i.exec(text) ?? [];
  const name = unit.toLowerCase();
  const each = UNITS[name] ?? (name.endsWith("s") ? UNITS[name.slice(0, -1)] : undefined);
  if (count === undefined || each === undefined) return undefined;
  return Math.round(Number(count) * each);
}
