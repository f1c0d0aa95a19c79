/**
 * Cuts a file's bytes into lines, with the byte and the line after each.
 *
 * Owns the bytes of a line that is not complete, at most as many as a line may have.
 */
import type { Position } from "../words.ts";
import type { FileBytes } from "./file.ts";

const NEWLINE = 10;

/** Where a reader of lines stands. */
export interface LinePosition {
  readonly [name: string]: number;
  readonly byte: number;
  /** Lines before it. */
  readonly line: number;
}

/** Lines before a position. */
export function lineAt(position: Position): number {
  return (position as LinePosition | null)?.line ?? 0;
}

export interface Line {
  /** Without its newline, and without the byte order mark that a file may begin with; cut if it is too long. */
  readonly bytes: Buffer;
  /** How many bytes it has. */
  readonly length: number;
  readonly after: LinePosition;
}

export class LineCutter {
  readonly #max: number;
  readonly #take: (line: Line) => void;
  #byte: number;
  #line: number;
  #open: Buffer[] = [];
  #openBytes = 0;

  /** @param max bytes of a line; of a longer one `take` gets so many */
  constructor({ byte, line }: LinePosition, max: number, take: (line: Line) => void) {
    this.#byte = byte;
    this.#line = line;
    this.#max = max;
    this.#take = take;
  }

  get position(): LinePosition {
    return { byte: this.#byte, line: this.#line };
  }

  /** @param end lines that begin there or after it are left out. True if that was reached */
  add(block: Buffer, end: number): boolean {
    let from = 0;
    for (let at = block.indexOf(NEWLINE); at >= 0; at = block.indexOf(NEWLINE, from)) {
      if (this.#byte >= end) return true;
      this.#cut(block.subarray(from, at), 1);
      from = at + 1;
    }
    if (this.#byte >= end) return true;
    if (from < block.length) this.#keep(block.subarray(from));
    return false;
  }

  /** Nothing comes any more: what is open is a line. */
  end(): void {
    if (this.#openBytes > 0) this.#cut(Buffer.alloc(0), 0);
  }

  #keep(part: Buffer): void {
    const room = this.#max - this.#openBytes;
    if (room > 0) this.#open.push(part.length > room ? part.subarray(0, room) : part);
    this.#openBytes += part.length;
  }

  #cut(rest: Buffer, newline: number): void {
    let bytes = rest;
    const length = this.#openBytes + rest.length;
    if (this.#openBytes > 0) {
      this.#keep(rest);
      bytes = Buffer.concat(this.#open);
      this.#open = [];
      this.#openBytes = 0;
    } else if (length > this.#max) bytes = rest.subarray(0, this.#max);
    const first = this.#byte === 0;
    this.#byte += length + newline;
    this.#line++;
    if (first && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) bytes = bytes.subarray(3);
    this.#take({ bytes, length, after: { byte: this.#byte, line: this.#line } });
  }
}

/** The first line that begins at a byte or after it: counts the lines before. */
export async function firstLine(bytes: FileBytes, from: number): Promise<LinePosition> {
  if (from === 0) return { byte: 0, line: 0 };
  let byte = 0;
  let line = 0;
  for (let block = await bytes.next(); block !== undefined; block = await bytes.next()) {
    for (let at = block.indexOf(NEWLINE); at >= 0; at = block.indexOf(NEWLINE, at + 1)) {
      line++;
      if (byte + at + 1 >= from) return { byte: byte + at + 1, line };
    }
    byte += block.length;
  }
  return { byte, line };
}
