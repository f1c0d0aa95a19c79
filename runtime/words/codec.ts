/**
 * Bytes: msgpack for values, and a checksummed envelope for whatever is stored.
 *
 * Owns the one configured msgpackr, the scan that bounds what is decoded, and the envelope
 * `[magic, format version, crc32, body]`. Talks to msgpackr and zlib's crc32.
 *
 * Invariants:
 * 1. Encoded values are self-contained: no shared structures, so any record can be read alone, for ever.
 * 2. Bytes from outside are scanned (`decodeForeign`) before msgpackr sees them: declared lengths must be there,
 *    nesting is bounded, and only the extension types that `encode` writes are let through. In-band record
 *    definitions, which msgpackr compiles, are refused. See msgpackr #199 and #200.
 * 3. `open` returns the body only if magic, version and checksum fit.
 */
import { crc32 } from "node:zlib";
import { Packr } from "msgpackr";
import { KeyturnError } from "./errors.ts";
import { limits } from "./limits.ts";

const packr = new Packr({ useRecords: false, variableMapSize: true, copyBuffers: true });

/** Encodes a value that `seal` accepted. The bytes are valid until they are written elsewhere; never mutate them. */
export function encode(value: unknown): Uint8Array {
  return packr.pack(value);
}

/** Decodes bytes that this runtime wrote and whose checksum was verified. */
export function decode(bytes: Uint8Array): unknown {
  return packr.unpack(plain(bytes));
}

/** Bytes within a value take after the bytes that they are decoded from: always Uint8Array here, never Buffer. */
function plain(bytes: Uint8Array): Uint8Array {
  return bytes.constructor === Uint8Array
    ? bytes
    : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Decodes bytes from outside. Throws `invalid_frame` for anything malformed, too deep, too long, or of a foreign type. */
export function decodeForeign(bytes: Uint8Array, bytesMax: number): unknown {
  if (bytes.length > bytesMax) throw bad(`it has ${bytes.length} bytes, over the limit of ${bytesMax}`);
  const end = scan(bytes);
  if (end !== bytes.length) throw bad(`${bytes.length - end} bytes follow the value`);
  try {
    return packr.unpack(plain(bytes));
  } catch (cause) {
    throw new KeyturnError("invalid_frame", "The bytes are not msgpack that this runtime reads.", { cause });
  }
}

/**
 * Walks one msgpack value without building it and returns the offset behind it.
 * Iterative: 72 KB of nested headers must not end the process.
 */
function scan(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const open: number[] = [];
  let at = 0;
  let left = 1;
  let nodes = 0;
  const need = (count: number): void => {
    if (count > bytes.length - at) throw bad("a length points past its end");
  };
  const skip = (count: number): void => {
    need(count);
    at += count;
  };
  const length = (width: 1 | 2 | 4): number => {
    need(width);
    const value = width === 1 ? view.getUint8(at) : width === 2 ? view.getUint16(at) : view.getUint32(at);
    at += width;
    return value;
  };
  const enter = (children: number): void => {
    // Every child takes a byte at least, so a declared count beyond the bytes left is a lie.
    need(children);
    if (open.length >= limits.valueDepth + 8) throw bad(`it nests deeper than ${limits.valueDepth} levels`);
    open.push(left);
    left = children;
  };
  while (true) {
    while (left === 0) {
      const outer = open.pop();
      if (outer === undefined) return at;
      left = outer;
    }
    left--;
    if (++nodes > limits.valueNodes) throw bad(`it holds more than ${limits.valueNodes} values`);
    need(1);
    const head = bytes[at++] as number;
    if (head <= 0x7f || head >= 0xe0) {
      // 0x40–0x7f are plain integers, but are where msgpackr would put record definitions; without records they are not.
    } else if (head <= 0x8f) enter((head & 0x0f) * 2);
    else if (head <= 0x9f) enter(head & 0x0f);
    else if (head <= 0xbf) skip(head & 0x1f);
    else if (head === 0xc0 || head === 0xc2 || head === 0xc3) continue;
    else if (head === 0xc4 || head === 0xd9) skip(length(1));
    else if (head === 0xc5 || head === 0xda) skip(length(2));
    else if (head === 0xc6 || head === 0xdb) skip(length(4));
    else if (head === 0xca || head === 0xce || head === 0xd2) skip(4);
    else if (head === 0xcb || head === 0xcf || head === 0xd3) skip(8);
    else if (head === 0xcc || head === 0xd0) skip(1);
    else if (head === 0xcd || head === 0xd1) skip(2);
    else if (head === 0xdc) enter(length(2));
    else if (head === 0xdd) enter(length(4));
    else if (head === 0xde) enter(length(2) * 2);
    else if (head === 0xdf) enter(length(4) * 2);
    else if (head === 0xd4) extension(1);
    else if (head === 0xd6) extension(4);
    else if (head === 0xd7) extension(8);
    else if (head === 0xc7) extension(length(1));
    else throw bad(`byte 0x${head.toString(16)} starts a type that is not used here`);
  }

  /** Only `undefined` (type 0) and timestamps (type -1) are let through. */
  function extension(size: number): void {
    need(1);
    const type = bytes[at++];
    const timestamp = type === 0xff && (size === 4 || size === 8 || size === 12);
    const undef = type === 0 && size === 1;
    if (!timestamp && !undef) throw bad(`extension type ${type} is not used here`);
    skip(size);
  }
}

function bad(problem: string): KeyturnError {
  return new KeyturnError("invalid_frame", `The bytes cannot be decoded: ${problem}.`);
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
