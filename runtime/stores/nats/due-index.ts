/**
 * The index by due time: one key beside each snapshot that has a timer, in the same bucket.
 *
 *   _due.<shard>.<a>.<b>.<c>.<d>.<e>.<type>.<encoded key>
 *
 * The letters are the minute, in five digits of base 64, so that any stretch of time is a few dozen prefixes, and what
 * is due later costs nothing to whoever asks what is due now.
 *
 * Owns the keys, and the search. Talks to the reader of the bucket. A key is only a hint: the entry itself says when it
 * is due. A hint that says otherwise is passed over and cleared away.
 */
import { headers } from "@nats-io/transport-node";
import type { DueEntry } from "../../ports/index.ts";
import type { StoredMessage } from "./api.ts";
import type { Connection } from "./connection.ts";
import type { FreshReader } from "./fresh-reader.ts";

const MINUTE_MS = 60_000;
const BASE = 64;
const DIGITS = 5;
const MINUTES = BASE ** DIGITS;
/** Hints looked up at once. */
const READ_HINTS = 512;

/** A stretch of time that is one prefix of keys. */
interface Span {
  readonly digits: readonly number[];
  readonly first: number;
  readonly minutes: number;
}

const ALL: Span = { digits: [], first: 0, minutes: MINUTES };

export function dueKey(shard: number, due: number, id: string): string {
  let rest = minuteOf(due);
  const digits: number[] = [];
  for (let at = 0; at < DIGITS; at++) {
    digits.unshift(rest % BASE);
    rest = Math.floor(rest / BASE);
  }
  return `_due.${shard}.${digits.join(".")}.${id}`;
}

/** The id in a key that `dueKey` made. */
export function idOfDueKey(key: string): string {
  return key
    .split(".")
    .slice(2 + DIGITS)
    .join(".");
}

/** Patterns of keys that hold everything due from `from` to `before`, and less than a minute around it, in order. */
export function duePatterns(shard: number, from: number, before: number): string[] {
  return spansOf(minuteOf(from), minuteOf(before)).map((span) => patternOf(shard, span));
}

/** What is past either end lies in the first or last minute. */
function minuteOf(due: number): number {
  return Math.min(Math.max(Math.floor(due / MINUTE_MS), 0), MINUTES - 1);
}

function patternOf(shard: number, { digits }: Span): string {
  return ["_due", shard, ...digits, ">"].join(".");
}

/** The fewest spans that hold the minutes from `from` to `to` and no other, in order of time. */
function spansOf(from: number, to: number, within: Span = ALL): Span[] {
  const { first, minutes } = within;
  if (first > to || first + minutes <= from) return [];
  if (first >= from && first + minutes - 1 <= to) return [within];
  return partsOf(within).flatMap((part) => spansOf(from, to, part));
}

function partsOf({ digits, first, minutes }: Span): Span[] {
  const each = minutes / BASE;
  return Array.from({ length: BASE }, (_, n) => ({
    digits: [...digits, n],
    first: first + n * each,
    minutes: each,
  }));
}

export class DueIndex {
  readonly #connection: Connection;
  readonly #reader: FreshReader;
  readonly #dueOf: (
    ids: readonly string[],
  ) => Promise<ReadonlyMap<string, { readonly due: number | undefined }>>;

  /** @param dueOf what the entries themselves say; those without an entry are left out */
  constructor(
    connection: Connection,
    reader: FreshReader,
    dueOf: (ids: readonly string[]) => Promise<ReadonlyMap<string, { readonly due: number | undefined }>>,
  ) {
    this.#connection = connection;
    this.#reader = reader;
    this.#dueOf = dueOf;
  }

  /** See Snapshots in runtime/ports. */
  async find(shard: number, before: number, limit: number, after?: DueEntry): Promise<DueEntry[]> {
    const spans = spansOf(minuteOf(after?.due ?? 0), minuteOf(before));
    const wanted = (entry: DueEntry): boolean =>
      entry.due < before && (after === undefined || compareDue(entry, after) > 0);
    return (await this.#search(shard, spans, limit, wanted)).sort(compareDue).slice(0, limit);
  }

  /** At least the first `limit` true entries of some spans, as long as there are so many. */
  async #search(
    shard: number,
    spans: readonly Span[],
    limit: number,
    wanted: (entry: DueEntry) => boolean,
  ): Promise<DueEntry[]> {
    if (spans.length === 0 || limit <= 0) return [];
    const hints = await this.#reader.last(spans.map((span) => patternOf(shard, span)));
    if (hints !== undefined) return (await this.#trueOf(shard, hints)).filter(wanted);
    // Too many for one answer: the earlier half first, down to single minutes.
    const [only] = spans as [Span];
    if (spans.length === 1 && only.minutes === 1) return (await this.#minute(shard, only)).filter(wanted);
    const parts = spans.length > 1 ? spans : partsOf(only);
    const middle = parts.length >> 1;
    const found = await this.#search(shard, parts.slice(0, middle), limit, wanted);
    found.push(...(await this.#search(shard, parts.slice(middle), limit - found.length, wanted)));
    return found;
  }

  /** A minute in which very much is due: all of it, since the order within is not in the keys. */
  async #minute(shard: number, span: Span): Promise<DueEntry[]> {
    const keys = await this.#reader.keys(patternOf(shard, span));
    const found: DueEntry[] = [];
    for (let at = 0; at < keys.length; at += READ_HINTS) {
      const hints = await this.#reader.last(keys.slice(at, at + READ_HINTS));
      found.push(...(await this.#trueOf(shard, hints ?? [])));
    }
    return found;
  }

  /** The entries that are due when their hints say so. Hints that lie are cleared away. */
  async #trueOf(shard: number, found: readonly StoredMessage[]): Promise<DueEntry[]> {
    const due: DueEntry[] = [];
    const hints = found.filter(({ data }) => data.length === 0);
    for (let at = 0; at < hints.length; at += READ_HINTS) {
      const part = hints.slice(at, at + READ_HINTS).map((hint) => {
        const key = this.#reader.keyOf(hint);
        return { hint, key, id: idOfDueKey(key) };
      });
      const entries = await this.#dueOf(part.map(({ id }) => id));
      for (const { hint, key, id } of part) {
        const time = entries.get(id)?.due;
        if (time !== undefined && dueKey(shard, time, id) === key) due.push({ id, due: time });
        else this.#clear(hint);
      }
    }
    return due;
  }

  /** Replaces a hint by a marker that the server removes, unless somebody has renewed it. Nobody waits for it. */
  #clear({ subject, seq }: StoredMessage): void {
    const set = headers();
    set.set("Nats-Expected-Last-Subject-Sequence", String(seq));
    set.set("Nats-TTL", CLEARED_TTL);
    this.#connection.publish(subject, CLEARED, undefined, set);
  }
}

/** What a hint is replaced by, and for how long. */
export const CLEARED = new Uint8Array([0]);
export const CLEARED_TTL = "1s";

function compareDue(a: DueEntry, b: DueEntry): number {
  return a.due - b.due || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}
