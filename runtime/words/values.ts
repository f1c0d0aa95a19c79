/**
 * What may be an event, a context or a reply: plain data that means the same after a year in a journal.
 *
 * Owns the walk that checks a value, estimates its size and freezes it, in one pass. Talks to nobody.
 *
 * Invariants:
 * 1. What `seal` accepted is deeply frozen, so a later mutation throws where it is written and a reference is as
 *    good as a copy.
 * 2. What a new value shares with one that was sealed before is not walked again: with immutable updates a turn pays
 *    for what it changed. That something is frozen proves nothing: a caller may freeze an object that holds a function.
 * 3. Encoded, a value takes no more bytes than `sizeOf` says, and no more than `limits.estimateFactor` times what `seal`
 *    says.
 * 4. Every accepted value survives `encode` and `decode` unchanged, but for -0, which becomes 0, and holes in arrays,
 *    which become undefined.
 */
import { limits } from "./limits.ts";

/** Why a value cannot be kept, and where in it. */
export class ValueFault extends Error {
  readonly path: string;
  constructor(path: string, problem: string) {
    const short = path.length > 120 ? `${path.slice(0, 120)}…` : path;
    super(`${short} ${problem}`);
    this.path = short;
  }
}

/** From here on `seal` counts the bytes of a text. */
const LONG_TEXT = 256;
/** What a text, list or object takes at most besides what is in it, and the scalars. */
const HEAD_BYTES = 5;
const NUMBER_BYTES = 9;
const DATE_BYTES = 15;
const CONSTANT_BYTES = 3;
const OPAQUE_BYTES = 64;
const HALF_SURROGATE = "holds half a surrogate pair, which no encoding can carry. Use well-formed Unicode.";

/** In Node since 20; not yet in the library that the sources are compiled against. */
function isWellFormed(text: string): boolean {
  return (text as unknown as { isWellFormed(): boolean }).isWellFormed();
}

let nodes = 0;

/**
 * Checks and freezes a value, deeply.
 * @param name what to call the value in a fault, for example `event`
 * @param known a value that was sealed before: what the new one shares with it, at the same place or, in a list, next
 *   to it, is not walked again
 * @returns an estimate of its encoded bytes, without what is shared with `known`; see `limits.estimateFactor`
 * @throws ValueFault for functions, symbols, class instances, cycles, and nesting over `limits.valueDepth`
 */
export function seal(value: unknown, name: string, known?: unknown): number {
  nodes = 0;
  try {
    return walk(value, known, undefined, 0);
  } catch (fault) {
    if (!(fault instanceof ValueFault)) throw fault;
    // Paths are built only for the text of a fault: walk once more with them.
    nodes = 0;
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
    if (prototype !== Object.prototype && prototype !== null) {
      if (OPAQUE in value) return OPAQUE_BYTES;
      throw new ValueFault(
        path ?? "",
        `is an instance of ${nameOf(value)}. Keep plain objects, arrays and Dates.`,
      );
    }
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
  Object.freeze(value);
  return bytes;
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
  let bytes = HEAD_BYTES;
  if (Array.isArray(value)) for (const inner of value as readonly unknown[]) bytes += sizeOf(inner);
  else for (const name in value) bytes += sizeOf(name) + sizeOf((value as Record<string, unknown>)[name]);
  return bytes;
}

/** An object with this property is not data: it is kept by reference, neither walked nor frozen. */
export const OPAQUE = Symbol.for("keyturn.opaque");

const nothing: Readonly<Record<string, unknown>> = Object.freeze(Object.create(null));

function propertiesOf(known: unknown): Readonly<Record<string, unknown>> {
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
