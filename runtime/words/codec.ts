/**
 * Bytes: msgpack for values, and a checksummed envelope for whatever is stored.
 *
 * Owns the one configured msgpackr, the form of Maps, Sets and Errors (marks.ts) and the envelope `[magic, format
 * version, crc32, body]`. Talks to msgpackr and zlib's crc32. Bytes from outside are not for this file: see foreign.ts.
 *
 * Invariants:
 * 1. Encoded values are self-contained: no shared structures, so any record can be read alone, for ever.
 * 2. `decode` is given only what this runtime wrote and a checksum covers.
 * 3. Other users of msgpackr in this process read and write what they did before.
 * 4. `openEnvelope` returns the body only if magic, version and checksum fit.
 */
import { crc32 } from "node:zlib";
import { addExtension, Packr } from "msgpackr";
import { ErrorMark, MapMark, SetMark } from "./marks.ts";
import { type ErrorParts, partsOf, rebuilt } from "./thrown.ts";

const packr = new Packr({ useRecords: false, variableMapSize: true, copyBuffers: true });

/** Thrown by msgpackr's hooks where it meets a Map, Set or Error, of which it would not keep everything. */
const met = new Error("A Map, Set or Error was met.");
const meets = {
  get: (): never => {
    throw met;
  },
};
// Options that are read for a Map and for a Set alone: other values cost what they did.
Object.defineProperties(packr, { mapAsEmptyObject: meets, setAsEmptyObject: meets });

/** What msgpackr is given in place of a Map, Set or Error. */
class Marked {
  readonly mark: number;
  readonly list: readonly unknown[];
  constructor(mark: number, list: readonly unknown[]) {
    this.mark = mark;
    this.list = list;
  }
}

type Place = { target: Uint8Array; position: number };
type Pack = (
  this: { moreTypes?: boolean },
  value: never,
  make: (bytes: number) => Place,
  pack: (value: unknown) => void,
) => void;

// msgpackr's types do not show how its own extensions pack: into its buffer, without one of their own.
const extend = addExtension as unknown as (extension: {
  Class?: unknown;
  type: number;
  pack?: Pack;
  read(list: never): unknown;
}) => void;

function mark(made: Place, type: number): void {
  made.target.set([0xd4, type, 0], made.position);
}

extend({
  Class: Marked,
  type: MapMark,
  pack(value: Marked, make, pack) {
    mark(make(3), value.mark);
    pack(value.list);
  },
  read: (list: readonly unknown[]) => {
    const map = new Map<unknown, unknown>();
    for (let at = 0; at < list.length; at += 2) map.set(list[at], list[at + 1]);
    return map;
  },
});
extend({ type: SetMark, read: (list: readonly unknown[]) => new Set(list) });
extend({
  Class: Error,
  type: ErrorMark,
  // There is one list of extensions for all who use msgpackr: for the others, what it does by itself.
  pack(error: Error, make, pack) {
    if ((this as unknown) === packr) throw met;
    const made = make(this.moreTypes ? 3 : 0);
    if (this.moreTypes) mark(made, 0x65);
    pack([error.name, error.message, error.cause]);
  },
  read: (parts: ErrorParts) => rebuilt(parts),
});

/** Encodes a value that `seal` accepted. The bytes are valid until they are written elsewhere; never mutate them. */
export function encode(value: unknown): Uint8Array {
  try {
    return packr.pack(value);
  } catch (error) {
    if (error !== met) throw error;
    return packr.pack(marked(value));
  }
}

/** A copy in which Maps, Sets and Errors are `Marked`. */
function marked(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(marked);
  if (value instanceof Map) return new Marked(MapMark, flat(value).map(marked));
  if (value instanceof Set) return new Marked(SetMark, Array.from(value, marked));
  if (value instanceof Error) return new Marked(ErrorMark, partsOf(value).map(marked));
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  const copy: Record<string, unknown> = {};
  for (const name in value) copy[name] = marked((value as Record<string, unknown>)[name]);
  return copy;
}

function flat(map: ReadonlyMap<unknown, unknown>): unknown[] {
  const list: unknown[] = [];
  for (const [key, value] of map) list.push(key, value);
  return list;
}

/** Decodes bytes that this runtime wrote and whose checksum was verified. */
export function decode(bytes: Uint8Array): unknown {
  return packr.unpack(plain(bytes));
}

/** Where `decodeAt` reads; one is used again and again. */
const range = { start: 0, end: 0 };

/**
 * Decodes the value that lies between two offsets: views of the bytes cost more than most values.
 * @param bytes a Uint8Array, no Buffer
 */
export function decodeAt(bytes: Uint8Array, start: number, end: number): unknown {
  range.start = start;
  range.end = end;
  return packr.unpack(bytes, range);
}

/** Bytes within a value take after the bytes that they are decoded from: always Uint8Array here, never Buffer. */
function plain(bytes: Uint8Array): Uint8Array {
  return bytes.constructor === Uint8Array
    ? bytes
    : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** What is stored begins with `magic`, a format version and the checksum of everything behind it. */
export const envelopeBytes = 6;

/** Writes the envelope's head into the first `envelopeBytes` of a buffer whose body is complete. */
export function closeEnvelope(buffer: Uint8Array, magic: number, version: number): void {
  buffer[0] = magic;
  buffer[1] = version;
  const crc = crc32(buffer.subarray(envelopeBytes));
  new DataView(buffer.buffer, buffer.byteOffset).setUint32(2, crc);
}

/** Wraps encoded bytes into a stored envelope. */
export function envelope(body: Uint8Array, magic: number, version: number): Uint8Array {
  const buffer = new Uint8Array(envelopeBytes + body.length);
  buffer.set(body, envelopeBytes);
  closeEnvelope(buffer, magic, version);
  return buffer;
}

export type EnvelopeFault = "truncated" | "foreign" | "newer" | "checksum";

/** The body of a stored envelope, or what is wrong with it. */
export function openEnvelope(buffer: Uint8Array, magic: number, version: number): Uint8Array | EnvelopeFault {
  if (buffer.length < envelopeBytes) return "truncated";
  if (buffer[0] !== magic || buffer[1] === 0) return "foreign";
  if ((buffer[1] as number) > version) return "newer";
  const body = buffer.subarray(envelopeBytes);
  const stored = new DataView(buffer.buffer, buffer.byteOffset).getUint32(2);
  return crc32(body) === stored ? body : "checksum";
}

/** The checksum in an envelope's head; what chains one batch to the next. */
export function checksumOf(buffer: Uint8Array): number {
  return new DataView(buffer.buffer, buffer.byteOffset).getUint32(2);
}
