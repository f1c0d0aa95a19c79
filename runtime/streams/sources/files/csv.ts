/**
 * CSV files (RFC 4180) as a source: one record an item.
 *
 * Records are found in bytes, so that a position is exact and a file is read on where it was left; and a record that is
 * malformed costs its first line only: what was taken for more of it is looked at again. (The packages that parse CSV do
 * neither: after a quote that is not closed they give the rest of the file away.)
 */
import { KeyturnError } from "../../../words/errors.ts";
import type { PlannedPartition } from "../words.ts";
import { checkWhole, type Chunk, type Item, type ReadOptions, type SourceReader } from "../reader.ts";
import {
  checkRotated,
  FileBytes,
  type FileOptions,
  type FollowOptions,
  type LineOptions,
  opened,
  pathsOf,
  type RotationOptions,
} from "./file.ts";
import { type Line, lineAt, LineCutter, type LinePosition } from "./lines.ts";
import { extent, faultyLine, isBroken, LINE_BYTES, LINE_BYTES_MAX, partsOf } from "./ndjson.ts";
import { logReader } from "./rotated.ts";
import { type ItemCutter, readText } from "./text.ts";

export interface CsvOptions extends FileOptions, FollowOptions, LineOptions, RotationOptions {
  /**
   * What the fields are called: by default the first record says so, of each file of a log that is rotated. With a list of names the first record is an item;
   * with false there are no names, and items are lists.
   */
  readonly header?: boolean | readonly string[];
  /** One ASCII character; "," by default. */
  readonly delimiter?: string;
  /** One ASCII character; '"' by default. */
  readonly quote?: string;
  /** A longer record is malformed; 1 MiB by default. */
  readonly maxRecordBytes?: number;
}

interface Format {
  readonly delimiter: string;
  readonly quote: string;
  readonly max: number;
}

/**
 * Reads CSV. Items are objects of texts by the header's names (or lists of texts), numbered by the line on which they
 * begin; the function of the source makes numbers and dates of them. A record with more or fewer fields than the header
 * is malformed. Empty lines are no items.
 * @throws KeyturnError `invalid_options`
 */
export function csv(options: CsvOptions & { readonly header: false }): SourceReader<readonly string[]>;
export function csv<T = Readonly<Record<string, string>>>(options: CsvOptions): SourceReader<T>;
export function csv(options: CsvOptions): SourceReader<unknown> {
  const paths = pathsOf(options);
  const { header = true, delimiter = ",", quote = '"', maxRecordBytes = LINE_BYTES } = options;
  const { follow = false, poll_ms = 100, wholeLines = false, rotated = false } = options;
  checkWhole("maxRecordBytes", maxRecordBytes, 1, LINE_BYTES_MAX);
  checkWhole("poll_ms", poll_ms, 1, 60_000);
  for (const [name, one] of Object.entries({ delimiter, quote }))
    if (typeof one !== "string" || one.length !== 1 || one > "\x7f" || one === "\n" || one === "\r")
      throw new KeyturnError("invalid_options", `The ${name} of a CSV file is one ASCII character.`);
  if (typeof header === "object" && (header.length === 0 || new Set(header).size !== header.length))
    throw new KeyturnError("invalid_options", "A header is a list of names, each one once.");
  checkRotated(rotated, follow, 1);
  const format: Format = { delimiter, quote, max: maxRecordBytes };
  const description = `CSV of ${paths.join(", ")}`;
  if (rotated)
    return logReader(description, paths, { maxLineBytes: maxRecordBytes, poll_ms }, (path, begin) =>
      recordsOfLog(path, begin, header, format),
    );
  return {
    description,
    unit: "bytes",
    follow,
    numberAt: lineAt,
    ...(wholeLines ? { isPartial: true } : {}),
    plan: async () => (await Promise.all(paths.map((path) => partsOf(path, 1)))).flat(),
    read: (partition, position, { signal }) =>
      read(partition, position as LinePosition | null, header, format, {
        follow,
        poll_ms,
        wholeLines,
        signal,
      }),
    extent,
  };
}

async function* read(
  partition: PlannedPartition,
  position: LinePosition | null,
  header: boolean | readonly string[],
  format: Format,
  options: FollowOptions & LineOptions & ReadOptions,
): AsyncGenerator<Chunk<unknown>> {
  let start = position;
  let names = typeof header === "object" ? header : undefined;
  if (header === true) {
    const found = await headerOf(partition.spec.path as string, format, options);
    // Stopped, or empty.
    if (found === undefined) return;
    names = found.names;
    start ??= found.after;
  }
  yield* readText<unknown>(
    partition,
    start,
    { ...options, maxLineBytes: format.max },
    () => new Records(names, format),
  );
}

interface Header {
  readonly names: readonly string[];
  readonly after: LinePosition;
}

/** The first record; undefined if there is none. */
async function headerOf(
  path: string,
  format: Format,
  { signal, wholeLines, ...follow }: FollowOptions & LineOptions & ReadOptions,
): Promise<Header | undefined> {
  const file = await opened(path);
  try {
    const bytes = new FileBytes(file, path, 0, follow, signal);
    const records = new Records(undefined, format);
    const lines = new LineCutter({ byte: 0, line: 0 }, format.max, (line) => records.line(line));
    while (records.items.length === 0) {
      const block = await bytes.next();
      if (signal.aborted) return undefined;
      if (block !== undefined) lines.add(block, Number.POSITIVE_INFINITY);
      else {
        if (wholeLines) return undefined;
        lines.end();
        records.end();
        if (records.items.length === 0) return undefined;
      }
    }
    const [first] = records.items;
    return { names: namesIn(first as Item<unknown>, path), after: first?.after as LinePosition };
  } finally {
    await file.close();
  }
}

/** @throws KeyturnError `source_malformed` */
function namesIn({ fault, value }: Item<unknown>, path: string): readonly string[] {
  if (fault !== undefined)
    throw new KeyturnError("source_malformed", `The header of ${path} cannot be read: ${fault}`);
  const names = value as readonly string[];
  if (new Set(names).size !== names.length)
    throw new KeyturnError(
      "source_malformed",
      `The header of ${path} has a name twice. Give the names as { header: [ … ] }, and skip its first record.`,
    );
  return names;
}

/** Of a log's file: where its reading does not begin with the header, that is read before. */
async function recordsOfLog(
  path: string,
  begin: (() => AsyncIterable<Buffer>) | undefined,
  header: boolean | readonly string[],
  format: Format,
): Promise<Records> {
  if (header !== true) return new Records(header === false ? undefined : header, format);
  if (begin === undefined) return new Records(undefined, format, path);
  const records = new Records(undefined, format);
  const lines = new LineCutter({ byte: 0, line: 0 }, format.max, (line) => records.line(line));
  for await (const block of begin()) {
    lines.add(block, Number.POSITIVE_INFINITY);
    if (records.items.length > 0) break;
  }
  if (records.items.length === 0) {
    lines.end();
    records.end();
  }
  const [first = { fault: "there is none.", number: 1, after: null }] = records.items;
  return new Records(namesIn(first, path), format);
}

/** Makes records of lines. */
class Records implements ItemCutter<unknown> {
  items: Item<unknown>[] = [];
  position: LinePosition | undefined;
  #names: readonly string[] | undefined;
  /** The file of which the first record, which did not come yet, is the header. */
  #headerOf: string | undefined;
  readonly #format: Format;
  /** Lines of a record that goes on. */
  #held: Line[] = [];
  #heldBytes = 0;
  #record: OpenRecord | undefined;

  /** @param headerOf a file whose first record says the names; no position is before it but the beginning */
  constructor(names: readonly string[] | undefined, format: Format, headerOf?: string) {
    this.#names = names;
    this.#format = format;
    this.#headerOf = headerOf;
  }

  line(line: Line): void {
    // Lines that were taken for more of a record that turned out malformed are looked at again, in their order.
    for (let again: Line[] = [line]; again.length > 0; )
      again = [...this.#take(again[0] as Line), ...again.slice(1)];
  }

  end(): void {
    while (this.#held.length > 0)
      for (const line of this.#giveUp("A quote is opened in it and not closed.")) this.line(line);
  }

  /** Gives the lines that are to be looked at again. */
  #take(line: Line): readonly Line[] {
    const text = line.bytes.toString("utf8");
    this.#held.push(line);
    this.#heldBytes += line.length + 1;
    if (isBroken(text, line.bytes)) return this.#giveUp("It is not UTF-8.");
    if (this.#heldBytes > this.#format.max + 1)
      return this.#giveUp(
        this.#held.length === 1
          ? `The record has ${line.length} bytes, more than ${this.#format.max}.`
          : `A quote is opened in it and not closed within ${this.#format.max} bytes.`,
      );
    if (this.#record === undefined && (text === "" || text === "\r")) {
      this.#settle();
      return [];
    }
    this.#record ??= new OpenRecord(this.#format);
    const fault = this.#record.add(text);
    if (fault !== undefined) return this.#giveUp(fault);
    if (!this.#record.complete) return [];
    const { fields } = this.#record;
    const number = (this.#held[0] as Line).after.line;
    if (this.#headerOf !== undefined) {
      this.#names = namesIn({ number, after: line.after, value: fields }, this.#headerOf);
      this.#headerOf = undefined;
      this.#settle();
      return [];
    }
    const names = this.#names;
    if (names !== undefined && names.length !== fields.length)
      return this.#giveUp(`It has ${fields.length} fields, not ${names.length}.`, true);
    const value = names === undefined ? fields : objectOf(names, fields);
    this.items.push({ number, after: line.after, value });
    this.#settle();
    return [];
  }

  #settle(): void {
    if (this.#headerOf === undefined) this.position = this.#held.at(-1)?.after ?? this.position;
    this.#held = [];
    this.#heldBytes = 0;
    this.#record = undefined;
  }

  /** The record is malformed: its first line (or all of it) is a letter. */
  #giveUp(fault: string, whole = false): readonly Line[] {
    const first = this.#held[0] as Line;
    if (this.#headerOf !== undefined) namesIn(faultyLine(first, fault), this.#headerOf);
    const after = whole ? (this.#held.at(-1) as Line).after : first.after;
    this.items.push({ ...faultyLine(first, fault), after });
    const rest = whole ? [] : this.#held.slice(1);
    this.#settle();
    this.position = after;
    return rest;
  }
}

/** One record, line by line. */
class OpenRecord {
  readonly fields: string[] = [];
  complete = false;
  readonly #format: Format;
  /** What a quoted field has before this line; undefined outside of one. */
  #quoted: string | undefined;

  constructor(format: Format) {
    this.#format = format;
  }

  /** Gives what is wrong with it, if something is. */
  add(line: string): string | undefined {
    const { delimiter, quote } = this.#format;
    const end = line.endsWith("\r") ? line.length - 1 : line.length;
    for (let at = 0; ; ) {
      if (this.#quoted === undefined && line[at] !== quote) {
        const found = line.indexOf(delimiter, at);
        const field = line.slice(at, found < 0 ? end : found);
        if (field.includes(quote))
          return `Field ${this.fields.length + 1} has a quote within, but is not quoted.`;
        this.fields.push(field);
        if (found < 0) break;
        at = found + 1;
        continue;
      }
      const close = this.#quote(line, this.#quoted === undefined ? at + 1 : at);
      if (close === undefined) return undefined;
      if (close >= end) break;
      if (line[close] !== delimiter) return `Field ${this.fields.length} goes on after its closing quote.`;
      at = close + 1;
    }
    this.complete = true;
    return undefined;
  }

  /** Reads on in a quoted field. Gives where it is closed; undefined if it goes on in the next line. */
  #quote(line: string, from: number): number | undefined {
    const { quote } = this.#format;
    let text = this.#quoted ?? "";
    for (let at = from; ; ) {
      const found = line.indexOf(quote, at);
      if (found < 0) {
        this.#quoted = `${text}${line.slice(at)}\n`;
        return undefined;
      }
      text += line.slice(at, found);
      if (line[found + 1] !== quote) {
        this.fields.push(text);
        this.#quoted = undefined;
        return found + 1;
      }
      text += quote;
      at = found + 2;
    }
  }
}

function objectOf(names: readonly string[], fields: readonly string[]): Record<string, string> {
  const value: Record<string, string> = {};
  for (let at = 0; at < names.length; at++) value[names[at] as string] = fields[at] as string;
  return value;
}
