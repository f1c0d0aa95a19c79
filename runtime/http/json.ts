/**
 * Values as JSON, both ways, without losing anything.
 *
 * Plain JSON is itself. What JSON has no form for is an object with one property, whose name says what it is:
 *
 *   Date        { "~date": "2026-01-31T12:00:00.000Z" }
 *   Uint8Array  { "~bytes": "<base64>" }
 *   bigint      { "~bigint": "9007199254740993" }
 *   Map         { "~map": [[key, value], …] }
 *   Set         { "~set": [member, …] }
 *   Error       { "~error": { "kind"?, "name"?, "message"?, "cause"?, "errors"?, "properties"? } }
 *   NaN, ±∞     { "~number": "NaN" | "Infinity" | "-Infinity" }
 *   undefined   { "~undefined": true }, in lists, Maps and Sets; a property that is undefined is left out
 *
 * An object of the user's own with one such property gets one more `~` before the name: `{ "~~date": … }`. Any other
 * object is itself, so who uses plain JSON meets none of this. Owns the form; talks to nobody but words/thrown.ts. It runs
 * in browsers too (browser/), so nothing here is of Node.
 *
 * Invariants:
 * 1. `fromJson(JSON.parse(JSON.stringify(toJson(v))))` equals v for every sealed value, but for properties that are
 *    undefined and for -0, which JSON writes as 0.
 * 2. `fromJson` gives a value or throws a ValueFault, whatever the text was: nesting is bounded, `__proto__` is refused.
 * 3. A value that is plain JSON is not copied.
 */
import { limits } from "../words/limits.ts";
import { errorKinds, type ErrorParts, isHidden, partsOf, rebuilt } from "../words/thrown.ts";
import { ValueFault } from "../words/value-fault.ts";

/** What `JSON.stringify` writes and `JSON.parse` reads. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

const TAG = /^~+(date|bytes|bigint|map|set|error|number|undefined)$/;
const TILDE = 0x7e;
/** Tagged forms nest deeper than the values they stand for. */
const DEPTH_MAX = limits.valueDepth * 4;
const ISO = /^[+-]?\d{4,6}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const KINDS = [
  "Error",
  "EvalError",
  "RangeError",
  "ReferenceError",
  "SyntaxError",
  "TypeError",
  "URIError",
  "AggregateError",
] as const;

// ---- To JSON --------------------------------------------------------------------------------------------------------

/** The JSON of a value that was sealed. A property that is undefined stays, for `JSON.stringify` leaves it out. */
export function toJson(value: unknown): Json {
  switch (typeof value) {
    case "number":
      return Number.isFinite(value) ? value : { "~number": String(value) };
    case "bigint":
      return { "~bigint": String(value) };
    case "undefined":
      return { "~undefined": true };
    case "object":
      return value === null ? null : objectToJson(value);
    default:
      return value as Json;
  }
}

function objectToJson(value: object): Json {
  if (Array.isArray(value)) return listToJson(value);
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null)
    return recordToJson(value as Record<string, unknown>);
  if (value instanceof Uint8Array) return { "~bytes": base64Of(value) };
  if (value instanceof Date) return { "~date": value.toISOString() };
  if (value instanceof Map) return { "~map": [...value].map(([key, of]) => [toJson(key), toJson(of)]) };
  if (value instanceof Set) return { "~set": [...value].map(toJson) };
  if (value instanceof Error) return { "~error": errorToJson(value) };
  return recordToJson(value as Record<string, unknown>);
}

/** Characters that are made of bytes at once: they are arguments of one call. */
const CHUNK = 8_192;

function base64Of(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += CHUNK)
    text += String.fromCharCode(...bytes.subarray(at, at + CHUNK));
  return btoa(text);
}

function bytesOf(base64: string): Uint8Array {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return bytes;
}

function listToJson(list: readonly unknown[]): readonly Json[] {
  let made: Json[] | undefined;
  for (let at = 0; at < list.length; at++) {
    const part = list[at];
    const json = toJson(part);
    if (made === undefined && json !== part) made = list.slice(0, at) as Json[];
    made?.push(json);
  }
  return made ?? (list as readonly Json[]);
}

function recordToJson(record: Readonly<Record<string, unknown>>): Json {
  let made: Record<string, Json> | undefined;
  let first: string | undefined;
  let names = 0;
  for (const name in record) {
    const part = record[name];
    if (part === undefined) continue;
    names++;
    first ??= name;
    const json = toJson(part);
    if (made === undefined && json !== part) made = { ...record } as Record<string, Json>;
    if (made !== undefined) made[name] = json;
  }
  if (names === 1 && first !== undefined && first.charCodeAt(0) === TILDE && TAG.test(first))
    return { [`~${first}`]: (made ?? (record as Record<string, Json>))[first] as Json };
  return made ?? (record as Record<string, Json>);
}

function errorToJson(error: Error): Json {
  const [kind, name, message, properties, hidden = {}] = partsOf(error);
  return {
    ...(kind === 0 ? {} : { kind: KINDS[kind] as string }),
    ...(name === null ? {} : { name }),
    ...(message === null ? {} : { message }),
    ...Object.fromEntries(Object.entries(hidden).map(([part, value]) => [part, toJson(value)])),
    ...(properties === undefined || Object.keys(properties).length === 0
      ? {}
      : { properties: recordToJson(properties) }),
  };
}

// ---- From JSON ------------------------------------------------------------------------------------------------------

/**
 * The value that a JSON stands for.
 * @param json what `JSON.parse` gave
 * @param name what to call it in a fault, for example `event`
 * @throws ValueFault
 */
export function fromJson(json: unknown, name: string): unknown {
  return read(json, name, 0);
}

function read(json: unknown, path: string, depth: number): unknown {
  if (typeof json !== "object" || json === null) return json;
  if (depth > DEPTH_MAX) throw new ValueFault(path, `is nested deeper than ${limits.valueDepth} levels.`);
  return Array.isArray(json)
    ? readList(json, path, depth)
    : readRecord(json as Record<string, unknown>, path, depth);
}

function readList(list: readonly unknown[], path: string, depth: number): readonly unknown[] {
  let made: unknown[] | undefined;
  for (let at = 0; at < list.length; at++) {
    const part = list[at];
    // Texts of paths are built where there is something to go into.
    const value = typeof part === "object" && part !== null ? read(part, `${path}[${at}]`, depth + 1) : part;
    if (made === undefined && value !== part) made = list.slice(0, at);
    made?.push(value);
  }
  return made ?? list;
}

function readRecord(record: Readonly<Record<string, unknown>>, path: string, depth: number): unknown {
  let made: Record<string, unknown> | undefined;
  const names = Object.keys(record);
  const [first = ""] = names;
  if (names.length === 1 && first.charCodeAt(0) === TILDE && TAG.test(first)) {
    if (first.charCodeAt(1) !== TILDE) return readTagged(first.slice(1), record[first], path, depth);
    return { [first.slice(1)]: read(record[first], `${path}.${first}`, depth + 1) };
  }
  for (const name of names) {
    if (name === "__proto__") throw new ValueFault(path, "has a property named __proto__.");
    const part = record[name];
    const value = typeof part === "object" && part !== null ? read(part, `${path}.${name}`, depth + 1) : part;
    if (made === undefined && value !== part) made = { ...record };
    if (made !== undefined) made[name] = value;
  }
  return made ?? record;
}

function readTagged(tag: string, json: unknown, path: string, depth: number): unknown {
  const inner = `${path}["~${tag}"]`;
  switch (tag) {
    case "date":
      return readDate(json, inner);
    case "bytes":
      if (typeof json === "string" && BASE64.test(json)) return bytesOf(json);
      throw new ValueFault(inner, "is not base64.");
    case "bigint":
      if (typeof json === "string" && /^-?\d{1,20}$/.test(json)) return BigInt(json);
      throw new ValueFault(inner, "is not a whole number as a text.");
    case "number":
      if (json === "NaN" || json === "Infinity" || json === "-Infinity") return Number(json);
      throw new ValueFault(inner, 'is not "NaN", "Infinity" or "-Infinity".');
    case "undefined":
      if (json === true) return undefined;
      throw new ValueFault(inner, "is not true.");
    case "map":
      return readMap(json, inner, depth);
    case "set":
      return readSet(json, inner, depth);
    default:
      return readError(json, inner, depth);
  }
}

function readDate(json: unknown, path: string): Date {
  const date = new Date(typeof json === "string" && ISO.test(json) ? json : Number.NaN);
  if (Number.isNaN(date.getTime()))
    throw new ValueFault(path, "is not a date and time of ISO 8601 with its offset.");
  return date;
}

function readMap(json: unknown, path: string, depth: number): ReadonlyMap<unknown, unknown> {
  if (!Array.isArray(json) || !json.every((entry) => Array.isArray(entry) && entry.length === 2))
    throw new ValueFault(path, "is not a list of pairs.");
  const map = new Map<unknown, unknown>();
  for (const [at, [key, value]] of (json as [unknown, unknown][]).entries())
    map.set(read(key, `${path}[${at}][0]`, depth + 2), read(value, `${path}[${at}][1]`, depth + 2));
  if (map.size !== json.length) throw new ValueFault(path, "has a key twice.");
  return map;
}

function readSet(json: unknown, path: string, depth: number): ReadonlySet<unknown> {
  if (!Array.isArray(json)) throw new ValueFault(path, "is not a list.");
  const set = new Set(json.map((member, at) => read(member, `${path}[${at}]`, depth + 1)));
  if (set.size !== json.length) throw new ValueFault(path, "has a member twice.");
  return set;
}

function readError(json: unknown, path: string, depth: number): Error {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new ValueFault(path, "is not an object such as { name, message }.");
  const { kind, properties, name = null, message = null, ...others } = json as Record<string, unknown>;
  const number = kind === undefined ? 0 : KINDS.indexOf(kind as (typeof KINDS)[number]);
  if (number < 0 || number >= errorKinds) throw new ValueFault(`${path}.kind`, "is no kind of Error.");
  const shown = properties === undefined ? undefined : read(properties, `${path}.properties`, depth + 1);
  if (shown !== undefined && (typeof shown !== "object" || shown === null || Array.isArray(shown)))
    throw new ValueFault(`${path}.properties`, "is not an object.");
  if (shown !== undefined && Object.hasOwn(shown as object, "stack"))
    throw new ValueFault(`${path}.properties`, "has a stack.");
  const hidden: Record<string, unknown> = {};
  for (const [part, value] of Object.entries({ ...others, name, message })) {
    if (!isHidden(part)) throw new ValueFault(path, `has "${part.slice(0, 80)}", which no Error has.`);
    const isText = typeof value === "string" || value === null;
    if ((part === "name" || part === "message") && isText) continue;
    hidden[part] = read(value, `${path}.${part}`, depth + 1);
  }
  const text = (value: unknown): string | null => (typeof value === "string" ? value : null);
  return rebuilt([number, text(name), text(message), shown, hidden] as ErrorParts);
}
