/**
 * Reads of a record what a replay needs, straight from its bytes.
 *
 * Owns the walk over one record (see engine/record.ts for its fields). Of the records of other types only the first
 * bytes are looked at; of most others the change, which is most of a record, is passed over.
 */
import { decodeAt } from "../words/codec.ts";
import { decodeRecord, type RecordKind, type SourceKind, type TurnRecord } from "../engine/record.ts";
import { Walker } from "../engine/skim.ts";

const DOT = 0x2e;
const NIL = 0xc0;

/** One is used for all records of a replay. */
export class ReplayReader extends Walker {
  kind: RecordKind = 0;
  id = "";
  turn = 0;
  /** Links as they are stored, which may be relative. */
  previousSeq = 0;
  previousIndex = 0;
  source: SourceKind = 0;
  sourceName: string | number = 0;
  sourceNumber = 0;
  delay = 0;
  version = 0;
  /** Set if the record has what few have: timers, children, what was told, a refusal. */
  isRare = false;
  /** Types that were met and are not the wanted one. */
  readonly others = new Set<string>();
  readonly #prefix: Uint8Array;
  #from = 0;
  #end = 0;
  #eventAt = 0;
  #eventEnd = 0;
  #idAt = 0;
  #idLength = 0;
  #plain: Uint8Array = new Uint8Array(0);

  constructor(type: string) {
    super();
    this.#prefix = Buffer.from(`${type}.`, "latin1");
  }

  override open(bytes: Uint8Array): void {
    super.open(bytes);
    this.#plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Looks at the record between two offsets. False if it is of another type. */
  find(from: number, end: number): boolean {
    this.at = from + 3;
    this.#from = from;
    this.#end = end;
    this.kind = this.number() as RecordKind;
    const length = this.textLength();
    const start = this.at;
    this.#idAt = start;
    this.#idLength = length;
    const prefix = this.#prefix;
    for (let n = 0; n < prefix.length; n++) {
      if (this.bytes[start + n] !== prefix[n]) {
        this.#note(start, length);
        return false;
      }
    }
    return true;
  }

  /** A number between 0 and 2^32 that depends on the id alone. Of the record that was found. */
  get hash(): number {
    let hash = 0x811c9dc5;
    const end = this.#idAt + this.#idLength;
    // Backwards: the shard's own hash goes the other way, and all of a shard have that in common.
    for (let at = end - 1; at >= this.#idAt; at--)
      hash = Math.imul(hash ^ (this.bytes[at] as number), 0x01000193);
    return hash >>> 0;
  }

  /** Reads the record that was found, up to its event. */
  read(): void {
    this.at = this.#idAt + this.#idLength;
    this.id = this.decode(this.#idAt, this.#idLength);
    this.turn = this.number();
    this.previousSeq = this.number();
    this.previousIndex = this.number();
    this.number();
    this.number();
    this.source = this.number() as SourceKind;
    const head = this.bytes[this.at] as number;
    // Sessions are told apart by recovery only; the names of timers and work are read with the rest of the record.
    if (head >= 0xa0 && head !== 0xcb && !(head >= 0xcc && head <= 0xd3)) {
      this.sourceName = "";
      this.skip();
    } else this.sourceName = this.number();
    this.sourceNumber = this.number();
    this.delay = this.number();
    this.version = this.number();
    this.#eventAt = this.at;
    this.skip();
    this.#eventEnd = this.at;
    this.skip();
    this.skip();
    this.skip();
    this.skip();
    this.isRare = this.bytes[this.at] !== NIL;
  }

  /** The event of the record that was read. */
  event(): unknown {
    return decodeAt(this.#plain, this.#eventAt, this.#eventEnd);
  }

  /** All of the record that was read. */
  whole(): TurnRecord {
    return decodeRecord(this.bytes.subarray(this.#from, this.#end));
  }

  #note(start: number, length: number): void {
    let end = start;
    while (end < start + length && this.bytes[end] !== DOT) end++;
    this.others.add(this.decode(start, end - start));
  }
}
