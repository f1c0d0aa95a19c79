/**
 * What may be an event, a context or a reply: plain data, with Maps, Sets and Errors, that means the same after a year
 * in a journal.
 *
 * Owns the walk that checks a value, estimates its size and freezes it, in one pass. Talks to nobody but collections.ts,
 * for what keeps Maps and Sets from changing, and thrown.ts, for what is kept of an Error.
 *
 * Invariants:
 * 1. What `seal` accepted is deeply frozen, so a later mutation throws where it is written and a reference is as
 *    good as a copy.
 * 2. What a new value shares with one that was sealed before is not walked again: with immutable updates a turn pays
 *    for what it changed. That something is frozen proves nothing: a caller may freeze an object that holds a function.
 * 3. Encoded, a value takes no more bytes than `sizeOf` says, and no more than `limits.estimateFactor` times what `seal`
 *    says.
 * 4. Every accepted value survives `encode` and `decode` unchanged, but for -0, which becomes 0, holes in arrays,
 *    which become undefined, and an Error's stack and class: one of the user's own comes back as a plain Error with its
 *    name.
 */
import { types } from "node:util";
import { type Collection, collectionProblem, guard } from "./collections.ts";
import { limits } from "./limits.ts";
import { isWellFormed } from "./text.ts";
import { namesOf, partsOf } from "./thrown.ts";
import { ValueFault } from "./value-fault.ts";

export { ValueFault } from "./value-fault.ts";

/**
 * What has this property stands in a value for something that is stored elsewhere: it is not looked into, not frozen,
 * and taken for 64 bytes. Whoever puts it there replaces it before the value is encoded.
 */
export const OPAQUE = Symbol.for("keyturn.opaque");

/** From here on `seal` counts the bytes of a text. */
const LONG_TEXT = 256;
/** What a text, list or object takes at most besides what is in it, and the scalars. */
const HEAD_BYTES = 5;
const NUMBER_BYTES = 9;
const DATE_BYTES = 15;
const CONSTANT_BYTES = 3;
/** A Map or Set: what marks it, and the list of what is in it. */
const COLLECTION_BYTES = 3 + HEAD_BYTES;
/** An Error: what marks it, the list of its parts, its kind, and its two groups of properties. */
const ERROR_BYTES = 3 + 1 + 1 + 2 * HEAD_BYTES;
const OPAQUE_BYTES = 64;
const HALF_SURROGATE = "holds half a surrogate pair, which no encoding can carry. Use well-formed Unicode.";

let nodes = 0;
let opaqueSeen = false;
/** What is done to the parts of an Error once all of it is looked at; undefined outside of one, where it is done at once. */
let pending: (object | Removal)[] | undefined;

/** The Errors that are being looked at, each within the one before. */
const open: Error[] = [];

/** A property that an Error cannot keep. */
class Removal {
  readonly from: Error;
  readonly name: string;
  constructor(from: Error, name: string) {
    this.from = from;
    this.name = name;
  }
}

/** Whether the last call of `seal` met something opaque. */
export function sawOpaque(): boolean {
  return opaqueSeen;
}

/**
 * Checks and freezes a value, deeply.
 *
 * Besides plain objects, arrays, Dates and Uint8Arrays it may hold Maps, Sets and Errors. Maps and Sets keep their order;
 * afterwards `set`, `add`, `delete` and `clear` throw. Of an Error are kept its name, message, `cause`, `errors` and
 * enumerable properties, as far as they are such values; **other properties are taken off it**, so that it is the same
 * now and after it was stored. Its stack stays where it is, and is not stored.
 * @param name what to call the value in a fault, for example `event`
 * @param known a value that was sealed before: what the new one shares with it, at the same place or, in a list, next
 *   to it, is not walked again
 * @returns an estimate of its encoded bytes, without what is shared with `known`; see `limits.estimateFactor`
 * @throws ValueFault for functions, symbols, instances of other classes, cycles, and nesting over `limits.valueDepth`
 */
export function seal(value: unknown, name: string, known?: unknown): number {
  nodes = 0;
  opaqueSeen = false;
  pending = undefined;
  open.length = 0;
  try {
    return walk(value, known, undefined, 0);
  } catch (fault) {
    if (!(fault instanceof ValueFault)) throw fault;
    // Paths are built only for the text of a fault: walk once more with them.
    nodes = 0;
    pending = undefined;
    open.length = 0;
    walk(value, undefined, name, 0);
    throw fault;
  }
}

/** The path is undefined on the first, fast walk. */
type Path = string | undefined;

function walk(value: unknown, known: unknown, path: Path, depth: number): number {
  switch (typeof value) {
    case "number":
      return NUMBER_BYTES;
    case "string":
      if (!isWellFormed(value)) throw new ValueFault(path ?? "", HALF_SURROGATE);
      return (value.length < LONG_TEXT ? value.length : Buffer.byteLength(value)) + HEAD_BYTES;
    case "boolean":
    case "undefined":
      return CONSTANT_BYTES;
    case "bigint":
      if (value > 0x7fffffffffffffffn || value < -0x8000000000000000n) {
        throw new ValueFault(path ?? "", "is a bigint beyond 64 bits. Keep it as a string.");
      }
      return NUMBER_BYTES;
    case "object":
      return value === null ? 1 : value === known ? 16 : walkObject(value, known, path, depth);
    default:
      throw new ValueFault(path ?? "", `is a ${typeof value}, which cannot be stored. Keep plain data only.`);
  }
}

function walkObject(value: object, known: unknown, path: Path, depth: number): number {
  if (depth >= limits.valueDepth) {
    throw new ValueFault(
      path ?? "",
      `is nested deeper than ${limits.valueDepth} levels, or refers to itself.`,
    );
  }
  let bytes = HEAD_BYTES;
  if (Array.isArray(value)) {
    count(value.length, path);
    const before: readonly unknown[] = Array.isArray(known) ? known : [];
    for (let at = 0; at < value.length; at++) {
      const inner: unknown = value[at];
      // Most lists grow or shrink at one of their ends: an element is where it was, or one place on.
      const same = inner === before[at + 1] || inner === before[at - 1] ? inner : before[at];
      bytes += walk(inner, same, path === undefined ? undefined : `${path}[${at}]`, depth + 1);
    }
  } else if (value instanceof Uint8Array) {
    // Bytes cannot be frozen. Records are encoded within the turn, so the journal holds what the turn saw.
    return value.byteLength + HEAD_BYTES;
  } else if (value instanceof Date) {
    if (Number.isNaN(value.getTime())) throw new ValueFault(path ?? "", "is an invalid Date.");
    return DATE_BYTES;
  } else {
    const prototype = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null)
      return walkInstance(value, prototype, known, path, depth);
    const before = propertiesOf(known);
    for (const name in value) {
      if (name === "__proto__") throw new ValueFault(path ?? "", "has a property named __proto__.");
      if (!isWellFormed(name))
        throw new ValueFault(path ?? "", `has a property whose name ${HALF_SURROGATE}`);
      count(1, path);
      const inner = (value as Record<string, unknown>)[name];
      bytes += name.length + HEAD_BYTES;
      bytes += walk(inner, before[name], path === undefined ? undefined : `${path}.${name}`, depth + 1);
    }
  }
  if (pending === undefined) Object.freeze(value);
  else pending.push(value);
  return bytes;
}

function walkInstance(value: object, prototype: unknown, known: unknown, path: Path, depth: number): number {
  if (OPAQUE in value) {
    opaqueSeen = true;
    return OPAQUE_BYTES;
  }
  if (prototype === Map.prototype && types.isMap(value)) return walkMap(value, known, path, depth);
  if (prototype === Set.prototype && types.isSet(value)) return walkSet(value, known, path, depth);
  if (value instanceof Error) return walkError(value, known, path, depth);
  throw new ValueFault(
    path ?? "",
    `is an instance of ${nameOf(value)}. Keep plain objects, arrays, Maps, Sets, Dates and Errors.`,
  );
}

function walkMap(map: ReadonlyMap<unknown, unknown>, known: unknown, path: Path, depth: number): number {
  checkCollection(map, path);
  count(2 * map.size, path);
  const before: ReadonlyMap<unknown, unknown> = types.isMap(known) ? known : noEntries;
  let bytes = COLLECTION_BYTES;
  let at = 0;
  for (const [key, value] of map) {
    const place = path === undefined ? undefined : `${path}.get(${placeOf(key, at)})`;
    bytes += walk(key, before.has(key) ? key : undefined, place, depth + 1);
    bytes += walk(value, before.get(key), place, depth + 1);
    at++;
  }
  keep(map);
  return bytes;
}

function walkSet(set: ReadonlySet<unknown>, known: unknown, path: Path, depth: number): number {
  checkCollection(set, path);
  count(set.size, path);
  const before: ReadonlySet<unknown> = types.isSet(known) ? known : noMembers;
  let bytes = COLLECTION_BYTES;
  let at = 0;
  for (const member of set) {
    const place = path === undefined ? undefined : `${path}.member(${at++})`;
    bytes += walk(member, before.has(member) ? member : undefined, place, depth + 1);
  }
  keep(set);
  return bytes;
}

function checkCollection(value: Collection, path: Path): void {
  const problem = collectionProblem(value);
  if (problem !== undefined) throw new ValueFault(path ?? "", problem);
}

/**
 * Nothing of an Error is frozen before all of it was looked at: what turns out not to be a value, a response with its
 * socket perhaps, belongs to somebody else and must stay as it is.
 */
function walkError(error: Error, known: unknown, path: Path, depth: number): number {
  // Found here rather than by its depth: an Error goes on after a fault, so several circles in one would multiply.
  if (open.includes(error)) throw new ValueFault(path ?? "", "refers to itself.");
  const outermost = pending === undefined;
  pending ??= [];
  const todo = pending;
  open.push(error);
  let bytes = ERROR_BYTES;
  try {
    for (const name of ["name", "message"] as const) {
      const text: unknown = error[name];
      if (typeof text === "string")
        bytes += walk(text, undefined, path === undefined ? undefined : `${path}.${name}`, depth);
    }
    const before = propertiesOf(known);
    const { shown, hidden } = namesOf(error);
    for (const names of [shown, hidden])
      for (const name of names)
        bytes += walkProperty(
          error,
          name,
          before,
          path === undefined ? undefined : `${path}.${name}`,
          depth + 1,
        );
    todo.push(error);
  } finally {
    open.pop();
    if (outermost) pending = undefined;
  }
  if (outermost) for (const one of todo) settle(one);
  return bytes;
}

/** A property that is no value is taken off its Error; if it cannot be, the Error is refused. */
function walkProperty(error: Error, name: string, before: Properties, path: Path, depth: number): number {
  const todo = pending ?? [];
  const done = todo.length;
  const property = Object.getOwnPropertyDescriptor(error, name);
  count(1, path);
  try {
    if (property === undefined || !("value" in property))
      throw new ValueFault(path ?? "", "is an accessor of an Error. Keep plain properties.");
    if (name === "__proto__" || !isWellFormed(name))
      throw new ValueFault(path ?? "", "has a name that cannot be stored.");
    return Buffer.byteLength(name) + HEAD_BYTES + walk(property.value, before[name], path, depth);
  } catch (fault) {
    // The bound holds for all that was looked at.
    if (!(fault instanceof ValueFault) || nodes > limits.valueNodes) throw fault;
    if (property?.configurable !== true) throw fault;
    todo.length = done;
    todo.push(new Removal(error, name));
    return 0;
  }
}

/** Freezes at once, or when the Error that it is in has been looked at. */
function keep(value: Collection): void {
  if (pending === undefined) settle(value);
  else pending.push(value);
}

function settle(one: object): void {
  if (one instanceof Removal) {
    Reflect.deleteProperty(one.from, one.name);
    return;
  }
  if (types.isMap(one) || types.isSet(one)) guard(one);
  Object.freeze(one);
}

/** For the path of a fault: a key that says something, or which one it is. */
function placeOf(key: unknown, at: number): string {
  return typeof key === "string" || typeof key === "number" ? String(key) : `#${at}`;
}

/** How many bytes a value that was sealed before, all of it, takes at most when it is encoded. */
export function sizeOf(value: unknown): number {
  switch (typeof value) {
    case "string":
      return Buffer.byteLength(value) + HEAD_BYTES;
    case "object":
      return value === null ? 1 : sizeOfObject(value);
    default:
      return NUMBER_BYTES;
  }
}

function sizeOfObject(value: object): number {
  if (value instanceof Uint8Array) return value.byteLength + HEAD_BYTES;
  if (value instanceof Date) return DATE_BYTES;
  if (!isPlain(value)) return sizeOfInstance(value);
  let bytes = HEAD_BYTES;
  if (Array.isArray(value)) for (const inner of value as readonly unknown[]) bytes += sizeOf(inner);
  else for (const name in value) bytes += sizeOf(name) + sizeOf((value as Record<string, unknown>)[name]);
  return bytes;
}

function isPlain(value: object): boolean {
  // Most are; no function is in a sealed value, so it is no property of their own.
  if (value.constructor === Object || Array.isArray(value)) return true;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function sizeOfInstance(value: object): number {
  if (OPAQUE in value) return OPAQUE_BYTES;
  let bytes = COLLECTION_BYTES;
  if (types.isMap(value)) for (const [key, inner] of value) bytes += sizeOf(key) + sizeOf(inner);
  else if (types.isSet(value)) for (const member of value) bytes += sizeOf(member);
  // Nulls in place of objects are counted too.
  else if (value instanceof Error) return ERROR_BYTES + sizeOf(partsOf(value));
  return bytes;
}

type Properties = Readonly<Record<string, unknown>>;
const nothing: Properties = Object.freeze(Object.create(null));
const noEntries: ReadonlyMap<unknown, unknown> = new Map();
const noMembers: ReadonlySet<unknown> = new Set();

function propertiesOf(known: unknown): Properties {
  return typeof known === "object" && known !== null ? (known as Record<string, unknown>) : nothing;
}

function count(more: number, path: Path): void {
  nodes += more;
  if (nodes > limits.valueNodes)
    throw new ValueFault(path ?? "", `holds more than ${limits.valueNodes} values.`);
}

function nameOf(value: object): string {
  const name: unknown = value.constructor?.name;
  return typeof name === "string" && name !== "" ? name : "a class";
}
