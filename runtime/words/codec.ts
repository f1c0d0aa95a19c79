/**
 * Bytes: msgpack for values, and a checksummed envelope for whatever is stored.
 *
 * Owns the one configured msgpackr and the envelope `[magic, format version, crc32, body]`. Talks to msgpackr and
 * zlib's crc32. Bytes from outside are not for this file: see foreign.ts.
 *
 * Invariants:
 * 1. Encoded values are self-contained: no shared structures, so any record can be read alone, for ever.
 * 2. `decode` is given only what this runtime wrote and a checksum covers.
 * 3. `openEnvelope` returns the body only if magic, version and checksum fit.
 */
import { crc32 } from "node:zlib";
import { Packr } from "msgpackr";

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
