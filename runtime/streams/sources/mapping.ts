/**
 * From items to batches: runs the user's function, and makes letters of what cannot be used.
 *
 * Owns the bounds of a batch. Changes nothing anywhere.
 *
 * Invariants:
 * 1. Every item is in exactly one batch, in order: as messages, skipped, or as a letter.
 * 2. A batch that the partition refuses for what is in it is taken apart until the item at fault is alone, and becomes a
 *    letter. Nothing else is held up.
 */
import { isDeepStrictEqual } from "node:util";
import { checkEvent } from "../../engine/outgoing.ts";
import type { AddressedEvent } from "../../engine/machine.ts";
import { parseAddress, placeOf } from "../../words/address.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";
import { limits } from "../../words/limits.ts";
import { seal } from "../../words/values.ts";
import { PAGE_LETTERS, type PackedLetter, type Position } from "./words.ts";
import type { AnySource, ItemInfo, Mapped, Told } from "./define.ts";
import type { Item } from "./reader.ts";

/** Messages of one batch. The rest of what a turn may tell is for the pages of letters. */
export const TELLS_MAX = 960;
/** Letters of one batch, so that their pages fit too. */
const LETTERS_MAX = (limits.tellsPerTurn - TELLS_MAX - 2) * PAGE_LETTERS;
const REASON_MAX = 300;
const TEXT_MAX = 500;
/** Of an item that nothing else keeps, bytes of JSON: a page of such letters is well within what an actor may hold. */
const KEPT_BYTES = 4_096;

/** At the end of a text that goes on. */
const CUT = "…";

/** Items in a row and what becomes of them. */
export interface Batch {
  /** Kept for taking it apart. */
  readonly source: readonly Item<unknown>[];
  readonly position: Position;
  readonly items: number;
  readonly skipped: number;
  readonly missed: number;
  readonly letters: readonly PackedLetter[];
  readonly tells: readonly AddressedEvent[];
  ended: boolean;
}

export class Mapper {
  readonly #source: AnySource;
  readonly #of: string;
  readonly #draft: (missed: number) => Draft;

  /**
   * @param of what the items are of: a file, a stream, a producer
   * @param now milliseconds since the epoch, for letters
   */
  constructor(source: AnySource, of: string, now: () => number) {
    this.#source = source;
    this.#of = of;
    const textOfItem = source.from.passive === true ? keptOf : shownOf;
    this.#draft = (missed) => new Draft(missed, now, textOfItem);
  }

  /**
   * @param missed items that were gone before the first of these
   * @throws KeyturnError `source_malformed` if the first item that is not in a batch is malformed and the source stops then
   */
  *batches(items: readonly Item<unknown>[], missed = 0): Generator<Batch> {
    const { to, batch } = this.#source;
    if (to !== undefined) yield* this.#each(items, missed);
    else
      for (let at = 0; at < items.length; at += batch)
        yield* this.#combined(items.slice(at, at + batch), at === 0 ? missed : 0);
  }

  /** The same items in smaller batches, after the partition, or the check of its event, refused them so. */
  *apart(batch: Batch, refusal: KeyturnError): Generator<Batch> {
    const { source, missed } = batch;
    if (source.length === 1) {
      yield* this.#map([faulty(source[0] as Item<unknown>, textOf(refusal))], missed);
    } else if (refusal.code !== "event_too_large" && this.#source.to !== undefined) {
      // One look at each finds them all.
      const checked = source.map((item) => this.#checked(item));
      if (checked.some((item, at) => item !== source[at])) yield* this.#map(checked, missed);
      else yield* this.#halves(source, missed);
    } else yield* this.#halves(source, missed);
  }

  *#halves(items: readonly Item<unknown>[], missed: number): Generator<Batch> {
    const half = items.length >> 1;
    yield* this.#map(items.slice(0, half), missed);
    yield* this.#map(items.slice(half), 0);
  }

  #map(items: readonly Item<unknown>[], missed: number): Iterable<Batch> {
    return this.#source.to === undefined ? this.#combined(items, missed) : this.#each(items, missed);
  }

  *#each(items: readonly Item<unknown>[], missed: number): Generator<Batch> {
    let draft = this.#draft(missed);
    for (let item of items) {
      let told: readonly Told[] = [];
      if (item.fault === undefined) {
        try {
          told = this.#told(item);
        } catch (error) {
          item = faulty(item, `The mapping failed: ${textOf(error)}`);
        }
      }
      const full = draft.items >= this.#source.batch || !draft.hasRoom(told.length, item.fault !== undefined);
      if (full && draft.items > 0) {
        yield draft;
        draft = this.#draft(0);
      }
      if (item.fault !== undefined) {
        if (this.#source.onMalformed === "stop") {
          if (draft.source.length > 0) yield draft;
          throw this.#stopped(item);
        }
        draft.addLetter(item);
      } else draft.add(item, told);
    }
    if (draft.source.length > 0) yield draft;
  }

  /** The messages of an item. Throws what the mapping throws, and if it gives something else. */
  #told(item: Item<unknown>): readonly Told[] {
    const mapped = this.#source.to?.(item.value, this.#info(item)) as Mapped;
    if (mapped === undefined || mapped === null) return [];
    const told = Array.isArray(mapped) ? (mapped as readonly Told[]) : [mapped as Told];
    for (const one of told) checkShape(one);
    if (told.length > TELLS_MAX)
      throw new Error(`one item may be at most ${TELLS_MAX} messages, not ${told.length}.`);
    return told;
  }

  *#combined(items: readonly Item<unknown>[], missed: number): Generator<Batch> {
    const draft = this.#draft(missed);
    const good: Item<unknown>[] = [];
    let left = LETTERS_MAX;
    let at = 0;
    for (; at < items.length && left > 0; at++) {
      const item = items[at] as Item<unknown>;
      if (item.fault === undefined) good.push(item);
      else if (this.#source.onMalformed === "stop") break;
      else left--;
    }
    const taken = at === items.length ? items : items.slice(0, at);
    try {
      const told = good.length === 0 ? [] : this.#together(good);
      if (told.length > TELLS_MAX) throw new Error(`${told.length} messages do not fit into one turn.`);
      draft.addAll(taken, told);
    } catch (error) {
      if (good.length > 1) yield* this.#halves(taken, missed);
      else {
        const marked = faulty(good[0] as Item<unknown>, `The mapping failed: ${textOf(error)}`);
        yield* this.#combined(
          taken.map((item) => (item === good[0] ? marked : item)),
          missed,
        );
      }
      if (at < items.length) yield* this.#combined(items.slice(at), 0);
      return;
    }
    if (taken.length > 0) yield draft;
    if (at === items.length) return;
    if (left > 0) throw this.#stopped(items[at] as Item<unknown>);
    yield* this.#combined(items.slice(at), 0);
  }

  #together(items: readonly Item<unknown>[]): readonly Told[] {
    const told: unknown = this.#source.toBatch?.(
      items.map((item) => item.value),
      items.map((item) => this.#info(item)),
    );
    if (!Array.isArray(told)) throw new Error("toBatch returns a list of { to, event }.");
    for (const one of told as readonly Told[]) checkShape(one);
    return told as readonly Told[];
  }

  #info({ number, info }: Item<unknown>): ItemInfo {
    return { source: this.#source.name, of: this.#of, number, message: info };
  }

  /** The item, or a letter if its messages cannot be sent. */
  #checked(item: Item<unknown>): Item<unknown> {
    if (item.fault !== undefined) return item;
    try {
      for (const { to, event } of this.#told(item)) {
        const { type, key } = parseAddress(to);
        placeOf(type, key, 1);
        checkEvent(event);
        seal(event, "event");
      }
      return item;
    } catch (error) {
      return faulty(item, textOf(error));
    }
  }

  #stopped(item: Item<unknown>): KeyturnError {
    return new KeyturnError(
      "source_malformed",
      `Item ${item.number} of ${this.#of}, in the source "${this.#source.name}", cannot be used: ${item.fault} It begins with: ${clip(beginningOf(item), 200)}`,
    );
  }
}

/** A batch in the making. */
class Draft implements Batch {
  source: Item<unknown>[] = [];
  position: Position = null;
  items = 0;
  skipped = 0;
  readonly missed: number;
  readonly letters: PackedLetter[] = [];
  readonly tells: AddressedEvent[] = [];
  ended = false;

  readonly #now: () => number;
  readonly #text: (item: Item<unknown>) => string;

  /** @param text what a letter says of its item */
  constructor(missed: number, now: () => number, text: (item: Item<unknown>) => string) {
    this.missed = missed;
    this.#now = now;
    this.#text = text;
  }

  hasRoom(tells: number, letter: boolean): boolean {
    return this.tells.length + tells <= TELLS_MAX && (!letter || this.letters.length < LETTERS_MAX);
  }

  add(item: Item<unknown>, told: readonly Told[]): void {
    this.#took(item);
    if (told.length === 0) this.skipped++;
    for (const { to, event } of told) this.tells.push([to, event]);
  }

  addLetter(item: Item<unknown>): void {
    const before = this.source.at(-1);
    this.#took(item);
    this.#letter(item, before);
  }

  addAll(items: readonly Item<unknown>[], told: readonly Told[]): void {
    for (const [at, item] of items.entries()) if (item.fault !== undefined) this.#letter(item, items[at - 1]);
    this.source = items as Item<unknown>[];
    this.items = items.length;
    this.position = items.at(-1)?.after ?? null;
    for (const { to, event } of told) this.tells.push([to, event]);
  }

  #took(item: Item<unknown>): void {
    this.source.push(item);
    this.items++;
    this.position = item.after;
  }

  #letter(item: Item<unknown>, before: Item<unknown> | undefined): void {
    const reason = clip(item.fault as string, REASON_MAX);
    const letter = [item.number, reason, this.#text(item), this.#now()] as const;
    this.letters.push(before === undefined ? letter : [...letter, before.after]);
  }
}

function faulty(item: Item<unknown>, fault: string): Item<unknown> {
  return { ...item, fault };
}

/** How an item begins, for a letter whose item can be read again where it stands. */
function shownOf(item: Item<unknown>): string {
  return clip(beginningOf(item), TEXT_MAX);
}

/**
 * The item of a letter that is all that is left of it: whole, as JSON, if it is not too large and JSON has all of it.
 * Otherwise how it begins, with a mark at the end that no JSON has; `keptItem` reads it.
 */
function keptOf(item: Item<unknown>): string {
  const text = beginningOf(item);
  if (item.text !== undefined || Buffer.byteLength(text) > KEPT_BYTES) return clip(text, TEXT_MAX);
  return comesBack(text, item.value) ? text : marked(text.slice(0, TEXT_MAX));
}

/** A number may be too large for JSON, or a zero less than none. */
function comesBack(text: string, value: unknown): boolean {
  try {
    return isDeepStrictEqual(JSON.parse(text), value);
  } catch {
    return false;
  }
}

/** The value that a letter keeps, within an object; undefined if it has only its beginning, or what was none. */
export function keptItem(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch {
    return undefined;
  }
}

/** Whether a letter's text is cut. */
export function isCut(text: string): boolean {
  return text.endsWith(CUT);
}

/**
 * The batch, with as many whole items in its letters as so many characters have room for; the other letters say how their
 * items begin, as those of other sources do. The same batch if that changes nothing.
 */
export function shortened(batch: Batch, characters: number): Batch {
  const short = batch.letters.map(([, , text]) => clip(text, TEXT_MAX));
  let left = characters - short.reduce((sum, { length }) => sum + length, 0);
  const letters = batch.letters.map((letter, at): PackedLetter => {
    const [number, reason, text, time, ...before] = letter;
    const beginning = short[at] as string;
    left -= text.length - beginning.length;
    return text === beginning || left >= 0 ? letter : [number, reason, beginning, time, ...before];
  });
  return letters.every((letter, at) => letter === batch.letters[at]) ? batch : { ...batch, letters };
}

/** How an item begins, for people. */
function beginningOf({ text, value }: Item<unknown>): string {
  if (text !== undefined) return text;
  try {
    return (
      JSON.stringify(value, (_name, inner: unknown) => (typeof inner === "bigint" ? `${inner}` : inner)) ?? ""
    );
  } catch {
    return String(value);
  }
}

function clip(text: string, most: number): string {
  return text.length <= most ? wellFormed(text) : marked(text.slice(0, most));
}

function marked(text: string): string {
  return wellFormed(`${text}${CUT}`);
}

/** A record takes no half of a surrogate pair, and neither does a cut leave one. */
function wellFormed(text: string): string {
  return (text as unknown as { toWellFormed(): string }).toWellFormed();
}

function checkShape(one: unknown): void {
  const { to, event } = (one ?? {}) as Partial<Told>;
  if (typeof to !== "string" || typeof event !== "object" || event === null)
    throw new Error('an item becomes { to: "type/key", event: { type } }, a list of such, or undefined.');
}
