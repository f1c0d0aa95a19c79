/**
 * Bytes from outside: one pass over msgpack that bounds, checks, builds and freezes.
 *
 * Owns what is let through of msgpack: what `encode` writes of sealed values, and no more. msgpackr never sees foreign
 * bytes: a header of five bytes made it allocate 153 MB (its #199), nested headers ended the process (#200), and
 * in-band record definitions are compiled. Talks to nobody.
 *
 * Invariants:
 * 1. Whatever the bytes are, the outcome is a value or `invalid_frame`, in time and memory linear in their length: a
 *    declared count is believed only as far as there are bytes for it, and nesting is bounded.
 * 2. Values are deeply frozen and such as `seal` accepts.
 */
import { decodeKey } from "./address.ts";
import { guard } from "./collections.ts";
import { KeyturnError, textOf } from "./errors.ts";
import { limits } from "./limits.ts";
import { ErrorMark, isMark, MapMark } from "./marks.ts";
import { errorKinds, isHidden, rebuilt } from "./thrown.ts";

/** Texts up to here are put together from single characters, which is faster than asking a decoder. */
const SHORT_TEXT = 32;
/** Property names and other texts that repeat are kept, by hash, so that they are made once. */
const KEPT_TEXTS = 2_048;
const KEPT_LENGTH = 24;
const DOT = 0x2e;
const ESCAPE = 0x3d;
const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

const kept: (string | undefined)[] = new Array<string | undefined>(KEPT_TEXTS).fill(undefined);
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const eight = new Uint8Array(8);
const number = new DataView(eight.buffer);

/** Characters of a type or of a key's token, but for the escape: letters, digits, `_` and `-`. Letters are 2. */
const tokenCharacters = new Uint8Array(256);
for (const c of "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") tokenCharacters[c.charCodeAt(0)] = 2;
for (const c of "0123456789_-") tokenCharacters[c.charCodeAt(0)] = 1;

/** Reads one value after another. */
export class ForeignReader {
  readonly #bytes: Uint8Array;
  #at: number;
  /** Values and properties that the value being read may still hold. */
  #nodes = 0;
  /** What the id that was read last names. */
  type = "";
  key = "";
  /** Its hash: modulo the number of shards, its shard. */
  hash = 0;

  constructor(bytes: Uint8Array, from = 0) {
    this.#bytes = bytes;
    this.#at = from;
  }

  get ended(): boolean {
    return this.#at >= this.#bytes.length;
  }

  /** Bytes not read yet. */
  get left(): number {
    return this.#bytes.length - this.#at;
  }

  /** The length of an array, which must begin here. */
  list(): number {
    const head = this.#byte();
    const length =
      (head & 0xf0) === 0x90
        ? head & 0x0f
        : head === 0xdc
          ? this.#unsigned(2)
          : head === 0xdd
            ? this.#unsigned(4)
            : -1;
    if (length < 0) throw foreign("an array is missing");
    if (length > this.left) throw pastEnd();
    return length;
  }

  /** A whole number from 0 on. */
  whole(): number {
    const head = this.#byte();
    if (head < 0x80) return head;
    if (head === 0xcc) return this.#byte();
    if (head === 0xcd) return this.#unsigned(2);
    if (head === 0xce) return this.#unsigned(4);
    if (head === 0xcb) {
      const value = this.#float(8);
      if (Number.isSafeInteger(value) && value >= 0) return value;
    }
    throw foreign("a whole number is missing");
  }

  /** A text of at most so many bytes. */
  text(bytesMax: number): string {
    const length = this.#textLength(this.#byte());
    if (length < 0) throw foreign("a text is missing");
    if (length > bytesMax) throw foreign(`a text of ${length} bytes stands where ${bytesMax} are allowed`);
    return this.#text(length);
  }

  /** The same, or null for none. */
  optionalText(bytesMax: number): string | undefined {
    if (this.#bytes[this.#at] !== 0xc0) return this.text(bytesMax);
    this.#at++;
    return undefined;
  }

  /** Whether null stands here, which is passed over. */
  isNull(): boolean {
    if (this.#bytes[this.#at] !== 0xc0) return false;
    this.#at++;
    return true;
  }

  /** An actor's id, in the one form that it has. Afterwards `type`, `key` and `hash` are of it. */
  id(): string {
    const length = this.#textLength(this.#byte());
    const start = this.#at;
    const end = start + length;
    if (length < 0 || end > this.#bytes.length) throw foreign("an id is missing");
    let hash = FNV_OFFSET;
    let dot = -1;
    let plain = true;
    for (let at = start; at < end; at++) {
      const byte = this.#bytes[at] as number;
      if (byte === DOT && dot < 0) {
        dot = at - start;
        continue;
      }
      if (tokenCharacters[byte] === 0) {
        if (byte !== ESCAPE || dot < 0) throw foreign("an id has characters that no id has");
        plain = false;
      }
      hash = Math.imul(hash ^ byte, FNV_PRIME);
    }
    const begins = tokenCharacters[this.#bytes[start] as number] === 2;
    if (!begins || dot < 1 || dot > 64 || length <= dot + 1 || length - dot - 1 > limits.keyBytes)
      throw foreign("an id is not <type>.<encoded key>");
    this.#at = end;
    // Ids are many: not worth keeping.
    const id = textIn(this.#bytes, start, end);
    const token = id.slice(dot + 1);
    this.type = id.slice(0, dot);
    this.key = plain ? token : keyOf(token);
    this.hash = hash >>> 0;
    return id;
  }

  /**
   * A value, deeply frozen.
   * @param depthMax how deep its arrays and objects may nest
   * @param nodesMax how many values and properties it may hold; what there are bytes for, if it is not given
   */
  value(depthMax: number, nodesMax = Number.POSITIVE_INFINITY): unknown {
    this.#nodes = nodesMax;
    return this.#value(depthMax);
  }

  #value(depth: number): unknown {
    const head = this.#byte();
    // 0x40–0x7f are plain integers, but are where msgpackr puts record definitions elsewhere.
    if (head < 0x80) return head;
    if (head >= 0xe0) return head - 0x100;
    if (head < 0x90) return this.#object(head & 0x0f, depth);
    if (head < 0xa0) return this.#array(head & 0x0f, depth);
    if (head < 0xc0) return this.#text(head & 0x1f);
    switch (head) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return this.#binary(this.#byte());
      case 0xc5:
        return this.#binary(this.#unsigned(2));
      case 0xc6:
        return this.#binary(this.#unsigned(4));
      case 0xc7:
        return this.#extension(this.#byte());
      case 0xca:
        return this.#float(4);
      case 0xcb:
        return this.#float(8);
      case 0xcc:
        return this.#byte();
      case 0xcd:
        return this.#unsigned(2);
      case 0xce:
        return this.#unsigned(4);
      case 0xcf:
      case 0xd3:
        return this.#bigint(head === 0xd3);
      case 0xd0:
        return (this.#byte() << 24) >> 24;
      case 0xd1:
        return (this.#unsigned(2) << 16) >> 16;
      case 0xd2:
        return this.#unsigned(4) | 0;
      case 0xd4:
        return this.#marked(depth);
      case 0xd6:
        return this.#extension(4);
      case 0xd7:
        return this.#extension(8);
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.#text(this.#textLength(head));
      case 0xdc:
        return this.#array(this.#unsigned(2), depth);
      case 0xdd:
        return this.#array(this.#unsigned(4), depth);
      case 0xde:
        return this.#object(this.#unsigned(2), depth);
      case 0xdf:
        return this.#object(this.#unsigned(4), depth);
      default:
        throw foreign(`byte 0x${head.toString(16)} starts a type that is not used here`);
    }
  }

  #array(length: number, depth: number): readonly unknown[] {
    this.#enter(length, length, depth);
    const list: unknown[] = [];
    for (let at = 0; at < length; at++) list.push(this.#value(depth - 1));
    return Object.freeze(list);
  }

  #object(size: number, depth: number): object {
    this.#enter(size, 2 * size, depth);
    const made: Record<string, unknown> = {};
    for (let at = 0; at < size; at++) {
      const length = this.#textLength(this.#byte());
      if (length < 0) throw foreign("a property's name is not a text");
      const name = this.#text(length);
      if (name === "__proto__") throw foreign("an object has a property named __proto__");
      made[name] = this.#value(depth - 1);
    }
    return Object.freeze(made);
  }

  /** An extension of one byte: what marks a Map, Set or Error, or `undefined`. */
  #marked(depth: number): unknown {
    const type = this.#bytes[this.#at] as number;
    if (!isMark(type)) return this.#extension(1);
    this.#at++;
    if (this.#byte() !== 0) throw foreign("what marks a Map, Set or Error is malformed");
    const length = this.list();
    if (type === ErrorMark) return this.#error(length, depth);
    this.#enter(length, length, depth);
    return type === MapMark ? this.#map(length, depth - 1) : this.#set(length, depth - 1);
  }

  #map(length: number, depth: number): ReadonlyMap<unknown, unknown> {
    if (length % 2 !== 0) throw foreign("a Map has a key without a value");
    const map = new Map<unknown, unknown>();
    for (let at = 0; at < length; at += 2) {
      const key = this.#value(depth);
      map.set(key, this.#value(depth));
    }
    if (map.size !== length / 2) throw foreign("a Map has a key twice");
    guard(map);
    return Object.freeze(map);
  }

  #set(length: number, depth: number): ReadonlySet<unknown> {
    const set = new Set<unknown>();
    for (let at = 0; at < length; at++) set.add(this.#value(depth));
    if (set.size !== length) throw foreign("a Set has a member twice");
    guard(set);
    return Object.freeze(set);
  }

  #error(length: number, depth: number): Error {
    this.#enter(0, length, depth);
    if (length < 3 || length > 5) throw foreign("an Error has parts that none has");
    const kind = this.#byte();
    if (kind >= errorKinds) throw foreign("an Error is of a kind that none has");
    const name = this.optionalText(limits.frameBytes) ?? null;
    const message = this.optionalText(limits.frameBytes) ?? null;
    const shown = length > 3 ? this.#properties(depth) : undefined;
    const hidden = length > 4 ? this.#properties(depth) : undefined;
    if (shown !== undefined && Object.hasOwn(shown, "stack")) throw foreign("an Error has a stack");
    if (hidden !== undefined && !Object.keys(hidden).every(isHidden))
      throw foreign("an Error hides properties that none hides");
    return Object.freeze(rebuilt([kind, name, message, shown, hidden]));
  }

  #properties(depth: number): Readonly<Record<string, unknown>> {
    const head = this.#byte();
    const size =
      (head & 0xf0) === 0x80
        ? head & 0x0f
        : head === 0xde
          ? this.#unsigned(2)
          : head === 0xdf
            ? this.#unsigned(4)
            : -1;
    if (size < 0) throw foreign("an Error's properties are missing");
    return this.#object(size, depth) as Record<string, unknown>;
  }

  /** Before the values of an array or object are made: every one takes a byte at least. */
  #enter(nodes: number, bytes: number, depth: number): void {
    if (bytes > this.left) throw pastEnd();
    if (depth <= 0) throw foreign(`it nests deeper than ${limits.valueDepth} levels`);
    this.#nodes -= nodes;
    if (this.#nodes < 0) throw foreign(`an event holds more than ${limits.valueNodes} values`);
  }

  /** Length of the text that begins with `head`, -1 if none does. */
  #textLength(head: number): number {
    if ((head & 0xe0) === 0xa0) return head & 0x1f;
    if (head === 0xd9) return this.#byte();
    if (head === 0xda) return this.#unsigned(2);
    if (head === 0xdb) return this.#unsigned(4);
    return -1;
  }

  #text(length: number): string {
    const bytes = this.#bytes;
    const start = this.#at;
    const end = start + length;
    if (end > bytes.length) throw pastEnd();
    this.#at = end;
    if (length > KEPT_LENGTH) return textIn(bytes, start, end);
    let hash = length;
    for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + (bytes[at] as number)) | 0;
    const slot = hash & (KEPT_TEXTS - 1);
    const known = kept[slot];
    if (known !== undefined && known.length === length) {
      let at = 0;
      while (at < length && known.charCodeAt(at) === bytes[start + at]) at++;
      if (at === length) return known;
    }
    const text = textIn(bytes, start, end);
    // Only of ASCII characters, one for each byte; the comparison above rests on it.
    if (text.length === length) kept[slot] = text;
    return text;
  }

  #binary(length: number): Uint8Array {
    if (length > this.left) throw pastEnd();
    this.#at += length;
    // A copy of its own: the bytes around it belong to the network.
    return Uint8Array.prototype.slice.call(this.#bytes, this.#at - length, this.#at);
  }

  /** `undefined` (type 0) and timestamps (type -1); nothing else is let through. */
  #extension(size: number): Date | undefined {
    const type = this.#byte();
    if (size > this.left) throw pastEnd();
    if (type === 0 && size === 1) {
      this.#at++;
      return undefined;
    }
    if (type !== 0xff) throw foreign(`extension type ${type} is not used here`);
    let seconds: number;
    let nanoseconds = 0;
    if (size === 4) seconds = this.#unsigned(4);
    else if (size === 8) {
      const high = this.#unsigned(4);
      nanoseconds = high >>> 2;
      seconds = (high & 3) * 0x1_0000_0000 + this.#unsigned(4);
    } else if (size === 12) {
      nanoseconds = this.#unsigned(4);
      seconds = Number(this.#bigint(true));
    } else throw foreign("a timestamp has a size that none has");
    const date = new Date(seconds * 1_000 + Math.trunc(nanoseconds / 1_000_000));
    if (Number.isNaN(date.getTime())) throw foreign("it holds an invalid Date");
    return date;
  }

  #byte(): number {
    const at = this.#at++;
    if (at >= this.#bytes.length) throw pastEnd();
    return this.#bytes[at] as number;
  }

  #unsigned(width: 2 | 4): number {
    const bytes = this.#bytes;
    const at = this.#at;
    this.#at += width;
    if (this.#at > bytes.length) throw pastEnd();
    const low = ((bytes[at + width - 2] as number) << 8) | (bytes[at + width - 1] as number);
    if (width === 2) return low;
    return (bytes[at] as number) * 0x100_0000 + (((bytes[at + 1] as number) << 16) | low);
  }

  #float(width: 4 | 8): number {
    this.#scratch(width);
    return width === 4 ? number.getFloat32(0) : number.getFloat64(0);
  }

  #bigint(signed: boolean): bigint {
    this.#scratch(8);
    const value = signed ? number.getBigInt64(0) : number.getBigUint64(0);
    if (value > 0x7fffffffffffffffn) throw foreign("it holds a bigint beyond 64 bits");
    return value;
  }

  #scratch(width: 4 | 8): void {
    if (width > this.left) throw pastEnd();
    for (let at = 0; at < width; at++) eight[at] = this.#bytes[this.#at++] as number;
  }
}

function textIn(bytes: Uint8Array, start: number, end: number): string {
  if (end - start > SHORT_TEXT) return decodeText(bytes.subarray(start, end));
  const codes: number[] = [];
  for (let at = start; at < end; at++) {
    const byte = bytes[at] as number;
    if (byte > 0x7f) return decodeText(bytes.subarray(start, end));
    codes.push(byte);
  }
  return String.fromCharCode.apply(String, codes);
}

function decodeText(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw new KeyturnError("invalid_frame", "The bytes cannot be decoded: a text is not UTF-8.", { cause });
  }
}

function keyOf(token: string): string {
  try {
    return decodeKey(token);
  } catch (cause) {
    throw new KeyturnError("invalid_frame", textOf(cause), { cause });
  }
}

function pastEnd(): KeyturnError {
  return foreign("a length points past its end");
}

/** The refusal of bytes that are not what this runtime writes. */
export function foreign(problem: string): KeyturnError {
  return new KeyturnError("invalid_frame", `The bytes cannot be decoded: ${problem}.`);
}

/** Decodes one value from outside. Throws `invalid_frame` for anything malformed, too deep, too long, or of a foreign type. */
export function decodeForeign(bytes: Uint8Array, bytesMax: number): unknown {
  if (bytes.length > bytesMax) throw foreign(`it has ${bytes.length} bytes, over the limit of ${bytesMax}`);
  const reader = new ForeignReader(bytes);
  const value = reader.value(limits.valueDepth + 8);
  if (!reader.ended) throw foreign(`${reader.left} bytes follow the value`);
  return value;
}
