/**
 * W3C Trace Context as one text: a `traceparent` and, behind a space, the `tracestate` that belongs to it.
 *
 * Owns the form in which requests, told messages, records and timers carry a trace. What is no traceparent is carried on
 * as it came, and means nothing here. Source: https://www.w3.org/TR/trace-context-2/. Talks to nobody.
 */

/** Stands for "whoever sent it has drawn that it is not traced": takes no room, and nobody draws again. */
export const NOT_DRAWN = "";

export const SAMPLED = 0x01;
const PARENT_LENGTH = 55;
/** Versions after the first may have more behind it. Source: 2.2.3 and 2.2.4. */
const LATER_VERSION = /^(?!00|ff)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?$/;
/** What a tracestate may consist of; its members are read by whoever understands them. Source: 3.3.1. */
const TRACESTATE = /^[\x20-\x7e\t]*$/;
/** Of a tracestate so many characters are carried, as everybody should. Source: 3.3.1.5. */
const STATE_LENGTH = 512;
const LONG_MEMBER = 128;
const ZERO = 0x30;
const NINE = 0x39;
const LETTER_A = 0x61;
const LETTER_F = 0x66;
const DASH = 0x2d;

/** The member of a tracestate by which Keyturn knows traces that a timer has begun. */
const OWN = "keyturn=timer";

/**
 * A traceparent with its tracestate. One that is malformed is left out, of one that is too long what is not to be kept:
 * the long members first, then the last ones.
 */
export function traceOf(traceparent: string, tracestate: string | undefined): string {
  if (tracestate === undefined || !TRACESTATE.test(tracestate) || traceFlags(traceparent) === undefined)
    return traceparent;
  let state = tracestate.trim();
  if (state.length > STATE_LENGTH) state = shortened(state);
  return state === "" ? traceparent : `${traceparent} ${state}`;
}

function shortened(state: string): string {
  const members = state.split(",").map((member) => member.trim());
  let length = members.reduce((sum, member) => sum + member.length + 1, -1);
  const isOver = (): boolean => length > STATE_LENGTH;
  for (let at = members.length - 1; at >= 0 && isOver(); at--) {
    const { length: of } = members[at] as string;
    if (of > LONG_MEMBER) length -= (members.splice(at, 1)[0] as string).length + 1;
  }
  while (isOver()) length -= (members.pop() as string).length + 1;
  return members.join(",");
}

export function traceparentIn(trace: string): string {
  // Most have no tracestate.
  if (trace.length === PARENT_LENGTH) return trace;
  const space = trace.indexOf(" ");
  return space < 0 ? trace : trace.slice(0, space);
}

export function tracestateIn(trace: string): string | undefined {
  if (trace.length === PARENT_LENGTH) return undefined;
  const space = trace.indexOf(" ");
  return space < 0 ? undefined : trace.slice(space + 1);
}

/** The flags of a trace; undefined if it is none. */
export function traceFlags(trace: string): number | undefined {
  const traceparent = traceparentIn(trace);
  const isOne = isFirstVersion(traceparent) || LATER_VERSION.test(traceparent);
  return isOne ? flagsIn(traceparent) : undefined;
}

/** Nearly all are; a regular expression takes several times as long for them. */
function isFirstVersion(text: string): boolean {
  if (text.length !== PARENT_LENGTH) return false;
  for (let at = 0; at < PARENT_LENGTH; at++) {
    const code = text.charCodeAt(at);
    if (at < 2) {
      if (code !== ZERO) return false;
    } else if (at === 2 || at === 35 || at === 52) {
      if (code !== DASH) return false;
    } else if (code < ZERO || (code > NINE && code < LETTER_A) || code > LETTER_F) return false;
  }
  return true;
}

/** The flags of what is known to be a trace. */
export function flagsIn(trace: string): number {
  return (hexAt(trace, PARENT_LENGTH - 2) << 4) | hexAt(trace, PARENT_LENGTH - 1);
}

function hexAt(text: string, at: number): number {
  const code = text.charCodeAt(at);
  return code <= NINE ? code - ZERO : code - LETTER_A + 10;
}

export function isSampled(trace: string): boolean {
  return ((traceFlags(trace) ?? 0) & SAMPLED) !== 0;
}

/** The same trace, marked as one that a timer has begun. */
export function begunByTimer(trace: string): string {
  const state = tracestateIn(trace);
  return traceOf(traceparentIn(trace), state === undefined ? OWN : `${OWN},${state}`);
}

export function isBegunByTimer(trace: string): boolean {
  return (
    tracestateIn(trace)
      ?.split(",")
      .some((member) => member.trim() === OWN) === true
  );
}
