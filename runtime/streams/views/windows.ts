/**
 * Windows by event time: which stretches of time an event belongs to, and until when they take events.
 *
 * Owns `tumbling`, `hopping` and `session`. Pure; talks to nobody.
 *
 * A view key's *watermark* is the latest event time that it has seen, less the allowed lateness. A window takes events
 * until the watermark has reached its end; then it is closed, for ever. An event all of whose windows are closed is late.
 */
import type { EmittedBy } from "../../engine/routes.ts";
import { type Duration, durationOf } from "../../words/duration.ts";
import { KeyturnError } from "../../words/errors.ts";
import type { AnyEmitted } from "../routes.ts";
import { type Of, reading, show } from "./aggregates.ts";

/** A time: milliseconds since the epoch, a Date, or a text that Date understands. */
export type Time = number | Date | string;

export interface WindowOptions<E> {
  /** When an event happened: a path such as `"at"`, or a function. By default when it was emitted. */
  readonly time?: Of<Time, E>;
  /** How much older than the latest event one may be and still be counted; 0 by default. */
  readonly lateness?: Duration;
  /**
   * How far before the clock of its node an event's time may be; "1 day" by default, `Infinity` for any. One event from
   * the year 9999 would close all windows: what is over this is a dead letter.
   */
  readonly ahead?: Duration | typeof Infinity;
  /** So many closed windows are kept of each key, the newest; 100 by default. */
  readonly keep?: number;
  /**
   * If no event comes for so long (of the clock, not of event time; up to twice as long), all windows are closed. Without
   * it the last windows of a key stay open until its next events.
   */
  readonly idle?: Duration;
}

export interface WindowSpec<E = AnyEmitted> {
  readonly kind: "tumbling" | "hopping" | "session";
  /** Length, or for a session the pause that ends it. */
  readonly size_ms: number;
  /** From the beginning of one to the beginning of the next. */
  readonly every_ms: number;
  readonly offset_ms: number;
  readonly lateness_ms: number;
  readonly ahead_ms: number;
  readonly keep: number;
  readonly idle_ms: number | undefined;
  readonly timeOf: (event: E, by: EmittedBy) => number;
}

const KEEP_DEFAULT = 100;
/** Windows of one key, open and closed. */
export const WINDOWS_MAX = 4_096;
/** Sessions of one key that are open at once. */
export const SESSIONS_MAX = 256;

/**
 * Windows of one length, one after the other.
 * @param size "1 hour"
 * @param options.offset moves where they begin; at whole multiples of the size since 1970, UTC, by default
 */
// biome-ignore lint/suspicious/noExplicitAny: the events of whatever the view is over
export function tumbling<E = any>(
  size: Duration,
  options: WindowOptions<E> & { readonly offset?: Duration } = {},
): WindowSpec<E> {
  return spec("tumbling", size, size, options);
}

/** Windows of one length that begin every so often, so that an event is in several: `hopping("1 hour", "5 minutes")`. */
// biome-ignore lint/suspicious/noExplicitAny: the events of whatever the view is over
export function hopping<E = any>(
  size: Duration,
  every: Duration,
  options: WindowOptions<E> & { readonly offset?: Duration } = {},
): WindowSpec<E> {
  return spec("hopping", size, every, options);
}

/** The same as `hopping`: what others call sliding windows. */
export const sliding = hopping;

/** Windows that last as long as events come with pauses shorter than `gap`. A session ends `gap` after its last event. */
// biome-ignore lint/suspicious/noExplicitAny: the events of whatever the view is over
export function session<E = any>(gap: Duration, options: WindowOptions<E> = {}): WindowSpec<E> {
  return spec("session", gap, gap, options);
}

function spec<E>(
  kind: WindowSpec["kind"],
  size: Duration,
  every: Duration,
  options: WindowOptions<E> & { readonly offset?: Duration },
): WindowSpec<E> {
  const size_ms = positive(size, kind === "session" ? "The gap of a session" : "The size of a window");
  const every_ms = positive(every, "The hop of a window");
  const lateness_ms = durationOf(options.lateness ?? 0, "The lateness");
  const { keep = KEEP_DEFAULT, ahead = "1 day" } = options;
  if (!Number.isSafeInteger(keep) || keep < 0)
    throw invalid(`A view keeps a whole number of closed windows from 0, not ${keep}.`);
  if (every_ms > size_ms)
    throw invalid("Windows begin at least once in their size, or events fall between them.");
  const open = kind === "session" ? SESSIONS_MAX : Math.ceil((size_ms + lateness_ms) / every_ms) + 1;
  if (open + keep > WINDOWS_MAX)
    throw invalid(
      `A key of this view may have ${open} open windows and keeps ${keep} closed ones; ${WINDOWS_MAX} are allowed. Use larger windows, less lateness, or keep fewer.`,
    );
  return Object.freeze({
    kind,
    size_ms,
    every_ms,
    offset_ms: durationOf(options.offset ?? 0, "The offset") % every_ms,
    lateness_ms,
    ahead_ms: ahead === Number.POSITIVE_INFINITY ? ahead : durationOf(ahead, "What events may be ahead"),
    keep,
    idle_ms: options.idle === undefined ? undefined : positive(options.idle, "The idle time"),
    timeOf: timing(options.time as Of<Time> | undefined) as (event: E, by: EmittedBy) => number,
  });
}

function positive(value: Duration, name: string): number {
  const ms = durationOf(value, name);
  if (ms < 1) throw invalid(`${name} is ${ms} ms; it is 1 at least.`);
  return ms;
}

function timing(of: Of<Time> | undefined): (event: AnyEmitted, by: EmittedBy) => number {
  if (of === undefined) return (_event, by) => by.at;
  const read = reading(of, "The time of an event");
  return (event, by) => {
    const value = read(event, by);
    const ms = timeFrom(value);
    if (ms === undefined) throw new Error(`its time is ${show(value)}, which is none.`);
    return ms;
  };
}

/** A time in whole milliseconds; undefined if it is none. */
export function timeFrom(value: unknown): number | undefined {
  const ms =
    typeof value === "number"
      ? value
      : value instanceof Date
        ? value.getTime()
        : typeof value === "string"
          ? Date.parse(value)
          : Number.NaN;
  // As far as a Date goes.
  return Number.isFinite(ms) && Math.abs(ms) <= 8.64e15 ? Math.floor(ms) : undefined;
}

/** How many windows of a key may be open at once, at most. */
export function openMax({ kind, size_ms, every_ms, lateness_ms }: WindowSpec): number {
  return kind === "session" ? SESSIONS_MAX : Math.ceil((size_ms + lateness_ms) / every_ms) + 1;
}

/** Where the windows begin that an event of a time is in, earliest first. Not for sessions. */
export function startsOf({ size_ms, every_ms, offset_ms }: WindowSpec, time: number): number[] {
  const last = Math.floor((time - offset_ms) / every_ms) * every_ms + offset_ms;
  const starts: number[] = [];
  for (let start = last; start + size_ms > time; start -= every_ms) starts.unshift(start);
  return starts;
}

function invalid(text: string): KeyturnError {
  return new KeyturnError("invalid_options", text);
}
