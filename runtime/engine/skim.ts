/**
 * Reads of a record only what a recovery needs at once, straight from its bytes.
 *
 * Owns the walk over one record's msgpack (see record.ts for its fields). Talks to nobody. A take-over has to pass over
 * a tail of perhaps a million records before anybody is served; building each of them as objects is most of its time,
 * and most are overtaken by a later keyframe, or are of actors that nobody asks for at once.
 *
 * Invariant: what is skimmed here is what `decodeRecord` would give (test/skim.test.ts compares the two).
 */
import { isMark } from "../words/marks.ts";
import { DeltaTurn, type OutMessage, type RecordKind, type SourceKind } from "./record.ts";

const none: readonly never[] = [];
const FIELDS = 18;
const REPLY = 16;
const utf8 = new TextDecoder();

/** Walks over msgpack that this runtime wrote and whose checksum was verified. */
export class Walker {
  protected bytes: Uint8Array = new Uint8Array(0);
  protected view: DataView = new DataView(new ArrayBuffer(0));
  protected buffer: Buffer = Buffer.alloc(0);
  protected at = 0;

  /** Takes the bytes that records lie in. */
  open(bytes: Uint8Array): void {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  protected byte(): number {
    return this.bytes[this.at++] as number;
  }

  protected number(): number {
    const head = this.byte();
    if (head <= 0x7f) return head;
    if (head >= 0xe0) return head - 0x100;
    const at = this.at;
    switch (head) {
      case 0xcc:
        this.at += 1;
        return this.bytes[at] as number;
      case 0xcd:
        this.at += 2;
        return this.view.getUint16(at);
      case 0xce:
        this.at += 4;
        return this.view.getUint32(at);
      case 0xcf:
        this.at += 8;
        return Number(this.view.getBigUint64(at));
      case 0xcb:
        this.at += 8;
        return this.view.getFloat64(at);
      case 0xd0:
        this.at += 1;
        return this.view.getInt8(at);
      case 0xd1:
        this.at += 2;
        return this.view.getInt16(at);
      case 0xd2:
        this.at += 4;
        return this.view.getInt32(at);
      default:
        throw unexpected(head);
    }
  }

  protected textLength(): number {
    const head = this.byte();
    if (head >= 0xa0 && head <= 0xbf) return head & 0x1f;
    const at = this.at;
    if (head === 0xd9) {
      this.at += 1;
      return this.bytes[at] as number;
    }
    if (head === 0xda) {
      this.at += 2;
      return this.view.getUint16(at);
    }
    throw unexpected(head);
  }

  protected decode(start: number, length: number): string {
    const end = start + length;
    for (let at = start; at < end; at++)
      if ((this.bytes[at] as number) > 0x7f) return utf8.decode(this.bytes.subarray(start, end));
    // Flat at once; a text put together from its characters would be copied when a map is asked for it.
    return this.buffer.toString("latin1", start, end);
  }

  /** Passes over one value, whatever it is. The batch's checksum says that it is as it was written. */
  protected skip(): void {
    let left = 1;
    while (left > 0) {
      left--;
      const head = this.byte();
      if (head <= 0x7f || head >= 0xe0) continue;
      if (head <= 0x8f) left += (head & 0x0f) * 2;
      else if (head <= 0x9f) left += head & 0x0f;
      else if (head <= 0xbf) this.at += head & 0x1f;
      else left += this.skipLong(head);
    }
  }

  /** Passes over a value whose head has more than one byte. Returns how many values lie in it. */
  private skipLong(head: number): number {
    const at = this.at;
    switch (head) {
      case 0xc0:
      case 0xc2:
      case 0xc3:
        return 0;
      case 0xcc:
      case 0xd0:
        this.at += 1;
        return 0;
      case 0xcd:
      case 0xd1:
        this.at += 2;
        return 0;
      case 0xd4:
        this.at += 2;
        return isMark(this.bytes[at] as number) ? 1 : 0;
      case 0xd5:
        this.at += 3;
        return 0;
      case 0xca:
      case 0xce:
      case 0xd2:
        this.at += 4;
        return 0;
      case 0xd6:
        this.at += 5;
        return 0;
      case 0xcb:
      case 0xcf:
      case 0xd3:
        this.at += 8;
        return 0;
      case 0xd7:
        this.at += 9;
        return 0;
      case 0xd8:
        this.at += 17;
        return 0;
      case 0xc4:
      case 0xd9:
        this.at += 1 + (this.bytes[at] as number);
        return 0;
      case 0xc5:
      case 0xda:
        this.at += 2 + this.view.getUint16(at);
        return 0;
      case 0xc6:
      case 0xdb:
        this.at += 4 + this.view.getUint32(at);
        return 0;
      case 0xc7:
        this.at += 2 + (this.bytes[at] as number);
        return 0;
      case 0xc8:
        this.at += 3 + this.view.getUint16(at);
        return 0;
      case 0xc9:
        this.at += 5 + this.view.getUint32(at);
        return 0;
      case 0xdc:
        this.at += 2;
        return this.view.getUint16(at);
      case 0xdd:
        this.at += 4;
        return this.view.getUint32(at);
      case 0xde:
        this.at += 2;
        return this.view.getUint16(at) * 2;
      case 0xdf:
        this.at += 4;
        return this.view.getUint32(at) * 2;
      default:
        throw unexpected(head);
    }
  }
}

/** One is used for all records of a recovery, so that none is made for each. */
export class Skimmer extends Walker {
  kind: RecordKind = DeltaTurn;
  id = "";
  turn = 0;
  source: SourceKind = 0;
  sourceName: string | number = 0;
  sourceNumber = 0;
  /** Nothing is told in a record that could be skimmed. */
  readonly out: readonly OutMessage[] = none;
  /** The text read last of each kind, with its bytes: most records of a batch come from few senders. */
  #lastName = "";
  #lastNameAt = 0;
  #lastNameBytes: Uint8Array = this.bytes;

  override open(bytes: Uint8Array): void {
    super.open(bytes);
    this.#lastName = "";
  }

  /**
   * Reads the record at an offset. True if it is a change like most: one that tells nobody, has no timers, no request id
   * and no error. Otherwise it has to be decoded.
   */
  read(offset: number): boolean {
    this.at = offset;
    if (this.byte() !== 0xdc || this.view.getUint16(this.at) !== FIELDS) return false;
    this.at += 2;
    const kind = this.number();
    if (kind !== DeltaTurn) return false;
    this.kind = kind;
    this.id = this.#text();
    this.turn = this.number();
    // The links before it.
    for (let field = 3; field <= 6; field++) this.skip();
    this.source = this.number() as SourceKind;
    this.sourceName = this.#name();
    this.sourceNumber = this.number();
    for (let field = 10; field <= REPLY; field++) this.skip();
    return this.bytes[this.at] === 0xc0;
  }

  #text(): string {
    const length = this.textLength();
    const start = this.at;
    this.at += length;
    return this.decode(start, length);
  }

  /** A session's name, or a number. */
  #name(): string | number {
    const head = this.bytes[this.at] as number;
    if (head <= 0x7f || (head >= 0xcb && head <= 0xcf)) return this.number();
    const length = this.textLength();
    const start = this.at;
    this.at += length;
    if (length !== this.#lastName.length || !this.#isLastName(start, length)) {
      this.#lastName = this.decode(start, length);
      this.#lastNameAt = start;
      this.#lastNameBytes = this.bytes;
    }
    return this.#lastName;
  }

  #isLastName(start: number, length: number): boolean {
    const before = this.#lastNameBytes;
    for (let n = 0; n < length; n++) if (this.bytes[start + n] !== before[this.#lastNameAt + n]) return false;
    return true;
  }
}

function unexpected(head: number): Error {
  return new Error(`A record holds byte 0x${head.toString(16)} where none may be.`);
}
