/**
 * Keys of stores: any bytes, as keys of actors.
 *
 * Owns the form: the store's name, a colon, and each byte of the key as the character of that number. So a text of ASCII
 * stands as it is, no two keys meet, and actors are in the order of their keys' bytes. Talks to nobody.
 */
import { KeyturnError } from "../words/errors.ts";

const NAME = /^[A-Za-z][A-Za-z0-9_-]{0,31}$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: what is not ASCII
const ASCII = /^[\x00-\x7f]*$/;
const utf8 = new TextEncoder();
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A key: a text stands for its bytes in UTF-8. */
export type Key = string | Uint8Array;

/** @throws KeyturnError `invalid_options` */
export function checkStoreName(name: unknown): asserts name is string {
  if (typeof name === "string" && NAME.test(name)) return;
  throw new KeyturnError(
    "invalid_options",
    `${JSON.stringify(name)} is no name of a store: a letter, then up to 31 letters, digits, "_" or "-".`,
  );
}

/**
 * The key of the actor that holds an entry.
 * @throws KeyturnError `invalid_address`
 */
export function actorKey(store: string, key: Key): string {
  return `${store}:${characters(key)}`;
}

function characters(key: Key): string {
  if (typeof key === "string") {
    if (ASCII.test(key)) return key;
    if (/\p{Surrogate}/u.test(key)) throw invalid("it holds half a surrogate pair");
    return Buffer.from(utf8.encode(key)).toString("latin1");
  }
  if (!(key instanceof Uint8Array)) throw invalid("it is neither a text nor bytes");
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

/** The key in an actor's key, as bytes. */
export function bytesIn(store: string, actor: string): Uint8Array {
  return new Uint8Array(Buffer.from(actor.slice(store.length + 1), "latin1"));
}

/**
 * The key in an actor's key, as a text.
 * @throws KeyturnError `invalid_address` if its bytes are none
 */
export function textIn(store: string, actor: string): string {
  const key = actor.slice(store.length + 1);
  if (ASCII.test(key)) return key;
  try {
    return strictUtf8.decode(Buffer.from(key, "latin1"));
  } catch {
    throw new KeyturnError(
      "invalid_address",
      `The store "${store}" has a key that is no text in UTF-8: ${Buffer.from(key, "latin1").toString("hex")}. Open it with { keys: "bytes" }.`,
    );
  }
}

function invalid(why: string): KeyturnError {
  return new KeyturnError("invalid_address", `A key of a store is a text or bytes, but ${why}.`);
}
