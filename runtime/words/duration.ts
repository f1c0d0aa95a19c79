/**
 * Durations: what people write for a stretch of time, and what it is in milliseconds.
 *
 * Owns the units and the only parser of them. Talks to nobody.
 *
 * Invariants:
 * 1. What is accepted is a whole number of milliseconds, from 0 to `DURATION_MAX_MS`.
 * 2. A unit has one length. Months and years have none, and are refused.
 */
import { KeyturnError } from "./errors.ts";

/** Milliseconds, or a text such as `"250 ms"`, `"1h 30m"`, `"3 days"`, `"1.5 hours"`, `"2 weeks"`. */
export type Duration = number | string;

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const WEEK = 7 * DAY;

/** A hundred years: more is a mistake in the unit. */
export const DURATION_MAX_MS = 36_525 * DAY;

const units: Readonly<Record<string, number>> = {
  ms: 1,
  millisecond: 1,
  milliseconds: 1,
  s: SECOND,
  sec: SECOND,
  secs: SECOND,
  second: SECOND,
  seconds: SECOND,
  m: MINUTE,
  min: MINUTE,
  mins: MINUTE,
  minute: MINUTE,
  minutes: MINUTE,
  h: HOUR,
  hr: HOUR,
  hrs: HOUR,
  hour: HOUR,
  hours: HOUR,
  d: DAY,
  day: DAY,
  days: DAY,
  w: WEEK,
  week: WEEK,
  weeks: WEEK,
};

/** Longer texts are no durations. */
const TEXT_MAX = 100;
const PART = /^(\d{1,15}(?:\.\d{1,9})?)\s*([a-z]+)(?:(?:\s*,)?\s*(?=\d)|$)/;
/** Fractions of a unit are exact to a nanosecond or so; what is closer than this to a millisecond is one. */
const NEARLY = 1e-6;

/**
 * A duration in milliseconds.
 * @param name what it is the duration of, for the text of an error
 * @throws KeyturnError `invalid_options`
 */
export function durationOf(value: unknown, name = "A duration"): number {
  const ms = typeof value === "string" ? parsed(value, name) : value;
  if (typeof ms !== "number") throw invalid(name, value);
  const whole = Math.round(ms);
  if (!(Math.abs(ms - whole) < NEARLY && whole >= 0 && whole <= DURATION_MAX_MS)) throw invalid(name, value);
  return whole;
}

function parsed(text: string, name: string): number {
  if (text.length > TEXT_MAX) throw invalid(name, text);
  let rest = text.trim().toLowerCase();
  if (rest === "") throw invalid(name, text);
  let ms = 0;
  const seen = new Set<number>();
  while (rest !== "") {
    const found = PART.exec(rest);
    const unit = Object.hasOwn(units, found?.[2] ?? "") ? units[found?.[2] as string] : undefined;
    // The same unit twice is a slip of the pen, such as "1h 30h".
    if (found === null || unit === undefined || seen.has(unit)) throw invalid(name, text);
    seen.add(unit);
    ms += Number(found[1]) * unit;
    rest = rest.slice(found[0].length);
  }
  return ms;
}

/** A duration for people: `3 d 2 h`. The parser takes it back. */
export function durationText(ms: number): string {
  const parts: string[] = [];
  let rest = ms;
  for (const [unit, length] of [
    ["d", DAY],
    ["h", HOUR],
    ["m", MINUTE],
    ["s", SECOND],
    ["ms", 1],
  ] as const) {
    const count = Math.floor(rest / length);
    if (count > 0) parts.push(`${count} ${unit}`);
    rest -= count * length;
  }
  return parts.length === 0 ? "0 ms" : parts.join(" ");
}

function invalid(name: string, value: unknown): KeyturnError {
  const shown = typeof value === "string" ? JSON.stringify(value.slice(0, TEXT_MAX)) : String(value);
  return new KeyturnError(
    "invalid_options",
    `${name} is ${shown}. It is a whole number of milliseconds or a text such as "250 ms", "90 s", "1h 30m", ` +
      `"3 days" or "2 weeks", each unit once, at most 100 years. Months and years have no fixed length: say days.`,
  );
}
