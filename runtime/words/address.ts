/**
 * Addresses: which actor a message is for, and which shard that actor lives in.
 *
 * Owns the textual form `type/key`, the injective encoding of keys into one NATS subject token, and the frozen
 * shard hash. Talks to nobody.
 *
 * Invariants:
 * 1. `decodeKey(encodeKey(k)) === k` and two different keys never encode alike; the encoded key is one legal
 *    subject token and one legal KV key token (`[A-Za-z0-9_=-]`).
 * 2. `shardOf` equals the NATS server's own `partition(shards, 1, 2)` over the tokens `<type>.<encoded key>`:
 *    FNV-1a, 32 bit, over the concatenated tokens. It is written into stores; it never changes.
 */
import { KeyturnError } from "./errors.ts";
import { limits } from "./limits.ts";

/** Where a message goes: an actor type and a key of that type. */
export interface Address {
  readonly type: string;
  /** Any non-empty text of well-formed Unicode; at most `limits.keyBytes` bytes once encoded. */
  readonly key: string;
}

/** An address with what the runtime derives from it once: its identity in stores and maps, and its shard. */
export interface Place extends Address {
  /** `<type>.<encoded key>`: the actor's name in every store and the tail of its NATS subject. */
  readonly id: string;
  readonly shard: number;
}

const TYPE = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;
const PLAIN_KEY = /^[A-Za-z0-9_-]+$/;
const ESCAPE = 0x3d;
const LONE_SURROGATE = /\p{Surrogate}/u;
const utf8 = new TextEncoder();
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Encodes a key into one subject token: letters, digits, `_` and `-` stay, every other UTF-8 byte becomes `=XX`. */
export function encodeKey(key: string): string {
  if (PLAIN_KEY.test(key) && key.length <= limits.keyBytes) return key;
  if (key.length === 0) throw invalid("The key is empty. Give every actor a key of at least one character.");
  if (key.length > limits.keyBytes) throw tooLong(key.length);
  if (LONE_SURROGATE.test(key)) {
    throw invalid(
      "The key holds half a surrogate pair, which no encoding can carry. Use well-formed Unicode.",
    );
  }
  let encoded = "";
  for (const byte of utf8.encode(key)) {
    encoded += isPlain(byte)
      ? String.fromCharCode(byte)
      : `=${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  if (encoded.length > limits.keyBytes) throw tooLong(encoded.length);
  return encoded;
}

/** The key that `encodeKey` made this token from. Throws `invalid_address` for a token it never makes. */
export function decodeKey(token: string): string {
  if (PLAIN_KEY.test(token)) return token;
  const bytes: number[] = [];
  let ascii = true;
  for (let at = 0; at < token.length; at++) {
    let byte = token.charCodeAt(at);
    if (byte === ESCAPE) {
      byte = hexDigit(token.charCodeAt(at + 1)) * 16 + hexDigit(token.charCodeAt(at + 2));
      if (Number.isNaN(byte)) throw invalid(`"${clip(token)}" is not an encoded key.`);
      if (isPlain(byte)) throw invalid(`"${clip(token)}" encodes a character that needs no encoding.`);
      if (byte > 0x7f) ascii = false;
      at += 2;
    } else if (!isPlain(byte)) throw invalid(`"${clip(token)}" is not an encoded key.`);
    bytes.push(byte);
  }
  if (bytes.length === 0)
    throw invalid("The key is empty. Give every actor a key of at least one character.");
  // Short enough to be arguments: a token has at most as many characters as its key may take bytes.
  if (ascii && bytes.length <= limits.keyBytes) return String.fromCharCode.apply(String, bytes);
  try {
    return strictUtf8.decode(new Uint8Array(bytes));
  } catch {
    throw invalid(`"${clip(token)}" does not encode well-formed UTF-8.`);
  }
}

/** The value of an upper-case hexadecimal digit, given as a character; NaN for any other. */
function hexDigit(character: number): number {
  if (character >= 48 && character <= 57) return character - 48;
  return character >= 65 && character <= 70 ? character - 55 : Number.NaN;
}

/** Takes `type/key` apart at the first slash; the key may hold further ones. */
export function parseAddress(text: string): Address {
  const slash = text.indexOf("/");
  if (slash < 0) {
    throw invalid(`"${clip(text)}" is not an address. Write it as type/key, for example counter/page:home.`);
  }
  const type = text.slice(0, slash);
  checkType(type);
  return { type, key: text.slice(slash + 1) };
}

export function isType(type: string): boolean {
  return TYPE.test(type);
}

export function checkType(type: string): void {
  if (!isType(type)) {
    throw invalid(
      `"${clip(type)}" is not an actor type. A type starts with a letter and has up to 64 letters, digits, "_" or "-".`,
    );
  }
}

/** Checks an address and derives its identity and shard. */
export function placeOf(type: string, key: string, shards: number): Place {
  checkType(type);
  if (typeof key !== "string") throw invalid("The key is not a string.");
  const token = encodeKey(key);
  return { type, key, id: `${type}.${token}`, shard: hashTokens(type, token) % shards };
}

/** The place that an id (`<type>.<encoded key>`) names. */
export function placeOfId(id: string, shards: number): Place {
  const dot = id.indexOf(".");
  const type = id.slice(0, dot);
  const token = id.slice(dot + 1);
  return { type, key: decodeKey(token), id, shard: hashTokens(type, token) % shards };
}

/** The shard of an actor, of `shards` in all. Source: FNV-1a (Fowler, Noll, Vo), as in nats-server's `partition`. */
export function shardOf(type: string, key: string, shards: number): number {
  return hashTokens(type, encodeKey(key)) % shards;
}

/** Compares two keys by the bytes of their UTF-8: below 0, 0 or above 0. */
export function compareKeys(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at++) {
    const x = a.charCodeAt(at);
    const y = b.charCodeAt(at);
    if (x === y) continue;
    // UTF-16 puts what needs two units below U+E000 and up; UTF-8 above all.
    const high = isSurrogate(x) !== isSurrogate(y);
    return high ? (isSurrogate(x) ? 1 : -1) : x - y;
  }
  return a.length - b.length;
}

/**
 * Whether a key may be compared natively with any other, which is much faster: it has no unit from U+D800 on, so the first
 * units that differ are in the order of their bytes.
 */
export function comparesNatively(key: string): boolean {
  for (let at = 0; at < key.length; at++) if (key.charCodeAt(at) >= 0xd800) return false;
  return true;
}

function isSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdfff;
}

/** The first text behind all that begin so; undefined if there is none. */
export function behindPrefix(prefix: string): string | undefined {
  const points = Array.from(prefix);
  while (points.length > 0) {
    let point = (points.pop() as string).codePointAt(0) as number;
    // Halves of pairs are no characters.
    point = point === 0xd7ff ? 0xe000 : point + 1;
    if (point <= 0x10ffff) return points.join("") + String.fromCodePoint(point);
  }
  return undefined;
}

/** FNV-1a, 32 bit, of one text of ASCII characters after another. */
export function hashTokens(type: string, token: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < type.length; at++) hash = Math.imul(hash ^ type.charCodeAt(at), 0x01000193);
  for (let at = 0; at < token.length; at++) hash = Math.imul(hash ^ token.charCodeAt(at), 0x01000193);
  return hash >>> 0;
}

function isPlain(byte: number): boolean {
  return (
    (byte >= 48 && byte <= 57) ||
    (byte >= 65 && byte <= 90) ||
    (byte >= 97 && byte <= 122) ||
    byte === 95 ||
    byte === 45
  );
}

function invalid(text: string): KeyturnError {
  return new KeyturnError("invalid_address", text);
}

function tooLong(bytes: number): KeyturnError {
  return invalid(
    `The key takes ${bytes} bytes or more once encoded; at most ${limits.keyBytes} fit into a subject. Use a shorter key, or a hash of it.`,
  );
}

function clip(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
