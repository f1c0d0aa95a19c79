/**
 * Small rows: values of the shard table and the dead letters, checksummed, as msgpack.
 *
 * Owns their magic byte and version. Talks to the codec.
 *
 * Invariant: a row whose bytes changed on disk is never returned; it throws `corrupt_record`.
 */
import { decode, encode, envelope, openEnvelope } from "../../words/codec.ts";
import { KeyturnError } from "../../words/errors.ts";

const MAGIC = 0x45;
const VERSION = 1;

export function packRow(fields: readonly unknown[]): Uint8Array {
  return envelope(encode(fields), MAGIC, VERSION);
}

/** The fields of a row. `name` says which row, for the text of an error. */
export function openRow(name: string, bytes: Uint8Array): readonly unknown[] {
  const body = openEnvelope(bytes, MAGIC, VERSION);
  if (body === "newer") {
    throw new KeyturnError("newer_format", `The ${name} was written by a newer version of the runtime.`);
  }
  if (typeof body === "string") {
    throw new KeyturnError("corrupt_record", `The ${name} is damaged on disk (${body}). Restore a backup.`);
  }
  return decode(body) as readonly unknown[];
}
