/**
 * Lines of text files as a source: logs, and any format that a function of the user's own reads line by line.
 *
 * A line is what ends with a newline, without it and without the carriage return before it; what stands after the last
 * newline is a line too. A large file may be read in several parts at once, as NDJSON is.
 */
import { KeyturnError, textOf } from "../../../words/errors.ts";
import { checkWhole, type Item, type SourceReader } from "../reader.ts";
import { pathsOf } from "./file.ts";
import type { Line, LinePosition } from "./lines.ts";
import {
  faultyLine,
  isBroken,
  LINE_BYTES,
  LINE_BYTES_MAX,
  type NdjsonOptions,
  PARTS_MAX,
  textReader,
} from "./ndjson.ts";
import type { ItemCutter } from "./text.ts";

/** `encoding`: "latin1" takes any bytes; of "utf8", the default, a line that is none is malformed. */
export interface LinesOptions extends NdjsonOptions {
  readonly encoding?: "utf8" | "latin1";
}

export interface ParsedLinesOptions<T> extends LinesOptions {
  /**
   * Makes the item of a line. A line for which it gives undefined is no item, for example a comment; one for which it
   * throws is malformed, and the error's message is why. Must give the same for the same line.
   */
  readonly parse: (line: string) => T | undefined;
}

/**
 * Reads text files line by line. Items are the lines, empty ones too, or what `parse` makes of them, numbered by their
 * lines.
 *
 * ```ts
 * const log = defineSource("log", { from: lines({ path: "access.log", follow: true, parse: parseLine }), to: … });
 * ```
 *
 * A followed file that is rotated away ends the run with `source_changed`, unless `rotated` says that it may be.
 * @throws KeyturnError `invalid_options`
 */
export function lines<T>(options: ParsedLinesOptions<T>): SourceReader<T>;
export function lines(options: LinesOptions): SourceReader<string>;
export function lines(options: LinesOptions | ParsedLinesOptions<unknown>): SourceReader<unknown> {
  const paths = pathsOf(options);
  const { partitions = 1, maxLineBytes = LINE_BYTES, poll_ms = 100 } = options;
  const { encoding = "utf8" } = options;
  const parse = "parse" in options ? options.parse : (line: string) => line;
  checkWhole("partitions", partitions, 1, PARTS_MAX);
  checkWhole("maxLineBytes", maxLineBytes, 1, LINE_BYTES_MAX);
  checkWhole("poll_ms", poll_ms, 1, 60_000);
  if (encoding !== "utf8" && encoding !== "latin1") invalid('encoding is "utf8" or "latin1".');
  if (typeof parse !== "function") invalid("parse is a function that makes an item of a line.");
  return textReader(
    `the lines of ${paths.join(", ")}`,
    { ...options, paths },
    () => new PlainLines(maxLineBytes, encoding, parse),
  );
}

class PlainLines<T> implements ItemCutter<T> {
  items: Item<T>[] = [];
  position: LinePosition | undefined;
  readonly #max: number;
  readonly #encoding: "utf8" | "latin1";
  readonly #parse: (line: string) => T | undefined;

  constructor(max: number, encoding: "utf8" | "latin1", parse: (line: string) => T | undefined) {
    this.#max = max;
    this.#encoding = encoding;
    this.#parse = parse;
  }

  line(line: Line): void {
    this.position = line.after;
    const { bytes, length, after } = line;
    if (length > this.#max) {
      this.items.push(faultyLine(line, `The line has ${length} bytes, more than ${this.#max}.`));
      return;
    }
    let text = bytes.toString(this.#encoding);
    if (this.#encoding === "utf8" && isBroken(text, bytes)) {
      this.items.push(faultyLine(line, "It is not UTF-8."));
      return;
    }
    if (text.endsWith("\r")) text = text.slice(0, -1);
    try {
      const value = this.#parse(text);
      if (value !== undefined) this.items.push({ number: after.line, after, value });
    } catch (error) {
      this.items.push(faultyLine(line, textOf(error)));
    }
  }

  end(): void {
    // A line is complete by itself.
  }
}

function invalid(text: string): never {
  throw new KeyturnError("invalid_options", text);
}
