/**
 * How Maps, Sets and Errors stand in msgpack: an extension of one byte, which is 0, marks the array that follows it.
 *
 * Owns the extensions' numbers, which are part of every format. Those up to 100 are free for other users of msgpackr,
 * which has one table for all in a process. Talks to nobody.
 */

/** Before `[key, value, key, value, …]`, in order. */
export const MapMark = 0x6d;
/** Before the members, in order. As msgpackr reads them by itself. */
export const SetMark = 0x73;
/** Before the parts of an Error, see thrown.ts. */
export const ErrorMark = 0x66;

/** Whether an extension of this number is followed by the value that it marks. */
export function isMark(type: number): boolean {
  return type === MapMark || type === SetMark || type === ErrorMark;
}
