/**
 * A source's dead letters: the items that could not be used. Listed, dropped, read again.
 *
 * Owns the form of their ids, `<partition>.<letter>`, and of cursors. Talks to the source's pages; to read an item again, to
 * its reader, or takes it from its letter where items come by requests. Listing and dropping need the source's name only, so
 * they work where its definition is not.
 *
 * Invariant: an item that is tried again counts once, whoever tries it and how often: its page drops the letter and tells
 * the messages in one turn, and does neither if the letter is not there any more.
 */
import type { Client } from "../../client/client.ts";
import { isKeyturnError, KeyturnError } from "../../words/errors.ts";
import { limits } from "../../words/limits.ts";
import { lettersType, PLAN_KEY, partitionType, planType } from "../../words/sources.ts";
import type { AnySource } from "./define.ts";
import { CONTENT } from "./feed.ts";
import { held } from "./held.ts";
import { isCut, keptItem, Mapper } from "./mapping.ts";
import { changed, checkWhole, type Item, unreadable } from "./reader.ts";
import {
  PAGE_LETTERS,
  type PackedLetter,
  type PageContext,
  type PageEvent,
  pageKey,
  pagesFor,
  type PartitionContext,
  type PlanContext,
  type PlannedPartition,
} from "./words.ts";

/** An item that could not be used. */
export interface SourceDeadLetter {
  /** Of the letter, within its source. */
  readonly id: string;
  readonly partition: string;
  /** What it is of: a file's path, a stream, a producer. */
  readonly of: string;
  /** Line, row or sequence; counts from 1. */
  readonly number: number;
  readonly reason: string;
  /** How it begins; of one that came by a request all of it, up to 4 KiB. */
  readonly text: string;
  readonly time: Date;
}

/** How long an item may be tried again. */
export interface LetterRetryOptions {
  /** How long it may take to read the item and to send what comes of it, milliseconds; 30,000 by default. */
  readonly timeout_ms?: number | undefined;
}

export interface LetterOptions {
  /** At most so many of each partition; all that are kept by default. */
  readonly limit?: number;
}

/** A source, or its name. */
type Named = AnySource | string;

const ID = /^(\d{1,4})\.(\d{1,15})$/;
/** Kept where neither the partition nor the definition says it. */
const KEPT = 10_000;
const PAGES_AT_ONCE = 16;
const PARTITIONS_AT_ONCE = 32;
/** Partitions and pages of letters that are looked at for a page of the list, at most. */
const LOOKS_PER_PAGE = 256;
const BEGINNING = { partition: 0, at: Number.MAX_SAFE_INTEGER };
/** An item that is there is read again within that time. */
const READ_MS = 30_000;

/** The items that could not be used, newest first in each partition; as many as the source keeps. */
export async function* sourceDeadLetters(
  client: Client,
  source: Named,
  { limit = Number.MAX_SAFE_INTEGER }: LetterOptions = {},
): AsyncGenerator<SourceDeadLetter> {
  checkWhole("limit", limit, 0, Number.MAX_SAFE_INTEGER);
  for (const [index, { group: of }] of (await partitionsOf(client, source)).entries()) {
    const partition = String(index);
    let left = limit;
    for await (const [at, letter] of lettersOf(client, source, partition)) {
      if (left-- <= 0) break;
      yield shown(partition, of, at, letter);
    }
  }
}

/** Some of a source's dead letters, for whoever shows them a page at a time. */
export interface SourceDeadLetterPage {
  readonly letters: readonly SourceDeadLetter[];
  /** The cursor of the next page; undefined at the end. A page may be short, or empty, and not the last. */
  readonly next: string | undefined;
}

/**
 * A page of the items that could not be used, in the order of `sourceDeadLetters`. Its cost is bounded: where many were
 * dropped between two letters, or many partitions have none, the page ends before its limit.
 * @param cursor `next` of the page before
 * @throws KeyturnError `invalid_options`
 */
export async function sourceDeadLettersPage(
  client: Client,
  source: Named,
  limit: number,
  cursor?: string,
): Promise<SourceDeadLetterPage> {
  checkWhole("limit", limit, 1, Number.MAX_SAFE_INTEGER);
  let { partition, at: below } = cursor === undefined ? BEGINNING : parseCursor(cursor);
  const planned = await partitionsOf(client, source);
  const letters: SourceDeadLetter[] = [];
  let looks = 0;
  for (; partition < planned.length; partition += PARTITIONS_AT_ONCE) {
    const group = planned.slice(partition, partition + PARTITIONS_AT_ONCE);
    const standings = await Promise.all(
      group.map((_, at) => standingOf(client, source, String(partition + at))),
    );
    for (const [at, standing] of standings.entries()) {
      const key = String(partition + at);
      const { group: of } = group[at] as PlannedPartition;
      const atOnce = Math.min(PAGES_AT_ONCE, 1 + Math.ceil((limit - letters.length) / PAGE_LETTERS));
      for await (const { start, found } of pagesOf(client, source, key, standing, below, atOnce)) {
        for (const [number, letter] of found) {
          const last = letters.at(-1);
          // There is one more.
          if (last !== undefined && letters.length === limit) return { letters, next: last.id };
          letters.push(shown(key, of, number, letter));
        }
        if (++looks >= LOOKS_PER_PAGE) return { letters, next: `${key}.${start}` };
      }
      below = Number.MAX_SAFE_INTEGER;
      if (++looks >= LOOKS_PER_PAGE) return { letters, next: `${key}.0` };
    }
  }
  return { letters, next: undefined };
}

/** How many there are, of all partitions. */
export async function countSourceDeadLetters(client: Client, source: Named): Promise<number> {
  let count = 0;
  for (const index of (await partitionsOf(client, source)).keys())
    for await (const _ of lettersOf(client, source, String(index))) count++;
  return count;
}

/** One of them; undefined if it is not there (any more). */
export async function sourceDeadLetter(
  client: Client,
  source: Named,
  id: string,
): Promise<SourceDeadLetter | undefined> {
  const found = await letterOf(client, source, id);
  if (found === undefined) return undefined;
  const { partition, at, planned, letter } = found;
  return shown(partition, planned.group, at, letter);
}

function shown(
  partition: string,
  of: string,
  at: number,
  [number, reason, text, time]: PackedLetter,
): SourceDeadLetter {
  return { id: `${partition}.${at}`, partition, of, number, reason, text, time: new Date(time) };
}

/**
 * Drops dead letters for good. Ids of letters that are not there (any more) are passed over.
 * @returns how many were dropped
 * @throws KeyturnError `invalid_options` for what is no id
 */
export async function dropSourceDeadLetters(
  client: Client,
  source: AnySource | string,
  ids: readonly string[],
): Promise<number> {
  const byPage = new Map<string, number[]>();
  const keeps = new Map<string, number>();
  for (const { partition, at } of ids.map(parseSourceLetterId)) {
    let keep = keeps.get(partition);
    if (keep === undefined) {
      ({ keep } = await standingOf(client, source, partition));
      keeps.set(partition, keep);
    }
    const page = pageKey(partition, at, pagesFor(keep));
    byPage.set(page, [...(byPage.get(page) ?? []), at]);
  }
  let dropped = 0;
  for (const [page, letters] of byPage)
    dropped += (await askPage(client, source, page, { type: "drop", letters })) as number;
  return dropped;
}

/**
 * Reads the item of a dead letter again and, if its source can use it now, sends its messages and drops the letter, in one
 * turn: however often it is repeated, the item counts once. What the source reads from has to be in reach; an item that came
 * by a request is read from its letter.
 * @returns false if the letter is not there (any more)
 * @throws KeyturnError `source_malformed` if it still cannot be used: the letter stays; `source_changed` if the item is gone,
 *   or is not kept whole with its letter; `source_failed` if it cannot be read; `invalid_options` for what is no id
 */
export async function retrySourceDeadLetter(
  client: Client,
  source: AnySource,
  id: string,
  { timeout_ms = READ_MS }: LetterRetryOptions = {},
): Promise<boolean> {
  checkWhole("timeout_ms", timeout_ms, 1, limits.deadline_ms);
  const { clock } = client.world;
  const until_ms = clock.monotonic() + timeout_ms;
  const found = await letterOf(client, source, id);
  if (found === undefined) return false;
  const { page, at, planned } = found;
  const item = await held(source.from, () => itemOf(client, source, found, timeout_ms));
  const mapper = new Mapper(source, planned.group, () => clock.now());
  const [batch] = mapper.batches([item]);
  const [fault] = batch?.letters ?? [];
  if (batch === undefined || fault !== undefined)
    throw useless(item.number, planned.group, fault?.[1] ?? "nothing came of it.");
  const { tells } = batch;
  const event = { type: "retry", letter: at, number: item.number, tells } as const;
  const left_ms = Math.max(1, until_ms - clock.monotonic());
  try {
    return (await askPage(client, source, page, event, left_ms)) as boolean;
  } catch (error) {
    if (!isKeyturnError(error) || !CONTENT.has(error.code)) throw error;
    throw useless(item.number, planned.group, error.message, error);
  }
}

/** @throws KeyturnError `invalid_options` */
export function parseSourceLetterId(text: string): { readonly partition: string; readonly at: number } {
  const [, partition, at] = ID.exec(text) ?? [];
  if (partition === undefined || !Number.isSafeInteger(Number(at)))
    throw new KeyturnError(
      "invalid_options",
      `"${text.slice(0, 80)}" is not the id of a source's dead letter: the list of them shows ids such as 0.17.`,
    );
  return { partition: String(Number(partition)), at: Number(at) };
}

/** Where a page of the list goes on: below that letter of that partition. @throws KeyturnError `invalid_options` */
function parseCursor(cursor: string): typeof BEGINNING {
  const [, partition, at] = ID.exec(cursor) ?? [];
  if (partition !== undefined) return { partition: Number(partition), at: Number(at) };
  throw new KeyturnError("invalid_options", "The cursor is none that a page of dead letters has given.");
}

/** The item of a letter, read again. */
async function itemOf(
  client: Client,
  { from }: AnySource,
  { planned, letter: [number, reason, text, , before] }: Found,
  timeout_ms: number,
): Promise<Item<unknown>> {
  if (from.passive === true) {
    const kept = keptItem(text);
    if (kept !== undefined) return { number, after: before ?? null, ...kept };
    // What is no JSON never becomes any.
    if (!isCut(text)) throw useless(number, planned.group, reason);
    throw changed(
      `Item ${number} of ${planned.group} cannot be read again: it came by a request and is not kept whole, since it, or what came with it, was too large (up to 4 KiB are; send smaller requests). Send it once more, and drop its letter.`,
    );
  }
  if (before === undefined)
    throw new KeyturnError(
      "invalid_options",
      `Item ${number} of ${planned.group} cannot be read again: its letter is of an earlier version, which did not note where it stands. Drop it.`,
    );
  const over = new AbortController();
  let isLate = false;
  const cancel = client.world.clock.after(timeout_ms, () => {
    isLate = true;
    over.abort();
  });
  try {
    for await (const { items } of from.read(planned, before, { signal: over.signal })) {
      const [item] = items;
      if (item === undefined) continue;
      if (item.number === number) return item;
      break;
    }
  } catch (cause) {
    throw unreadable(from.description, cause);
  } finally {
    cancel();
    over.abort();
  }
  if (isLate) throw unreadable(from.description, `it gave nothing for ${timeout_ms} ms.`);
  throw changed(`Item ${number} of ${planned.group} is not there any more. Drop its letter.`);
}

function useless(number: number, of: string, why: string, cause?: unknown): KeyturnError {
  return new KeyturnError(
    "source_malformed",
    `Item ${number} of ${of} still cannot be used: ${/[.!?…]$/.test(why) ? why : `${why}.`} Its letter stays.`,
    { cause },
  );
}

/** Letters of a partition with their numbers, newest first. */
async function* lettersOf(
  client: Client,
  source: Named,
  partition: string,
): AsyncGenerator<readonly [at: number, PackedLetter]> {
  const standing = await standingOf(client, source, partition);
  for await (const { found } of pagesOf(client, source, partition, standing)) yield* found;
}

interface LetterPart {
  /** Number of the first letter that lies, or lay, there. */
  readonly start: number;
  readonly found: readonly (readonly [at: number, PackedLetter])[];
}

/**
 * Letters of a partition with their numbers, page by page, newest first; a page may have none left.
 * @param below only letters with lower numbers
 */
async function* pagesOf(
  client: Client,
  source: Named,
  partition: string,
  { malformed, keep }: Standing,
  below = malformed,
  atOnce = PAGES_AT_ONCE,
): AsyncGenerator<LetterPart> {
  const oldest = Math.max(0, malformed - (typeof source === "string" ? keep : source.keepLetters));
  const end = Math.min(malformed, below);
  if (end <= oldest) return;
  const open: { readonly start: number; readonly page: Promise<PageContext> }[] = [];
  let start = end - 1 - ((end - 1) % PAGE_LETTERS);
  while (true) {
    for (; open.length < atOnce && start >= 0 && start + PAGE_LETTERS > oldest; start -= PAGE_LETTERS) {
      const page = readPage(client, source, pageKey(partition, start, pagesFor(keep)));
      // It may fail while others are waited for; whoever takes it learns it.
      page.catch(() => undefined);
      open.push({ start, page });
    }
    const next = open.shift();
    if (next === undefined) return;
    const { first, letters } = await next.page;
    const found: (readonly [number, PackedLetter])[] = [];
    // Letters that are told may be on their way, and older ones be overwritten while this is read.
    if (first === next.start)
      for (let at = Math.min(end - first, letters.length) - 1; at >= 0 && first + at >= oldest; at--) {
        const letter = letters[at] ?? undefined;
        if (letter !== undefined) found.push([first + at, letter]);
      }
    yield { start: next.start, found };
  }
}

async function letterOf(client: Client, source: Named, id: string): Promise<Found | undefined> {
  const { partition, at } = parseSourceLetterId(id);
  const planned = (await partitionsOf(client, source))[Number(partition)];
  if (planned === undefined) return undefined;
  const { keep } = await standingOf(client, source, partition);
  const page = pageKey(partition, at, pagesFor(keep));
  const { first, letters } = await readPage(client, source, page);
  const letter = letters[at - first] ?? undefined;
  return letter === undefined ? undefined : { partition, at, page, planned, letter };
}

interface Found {
  readonly partition: string;
  /** Number of the letter in it. */
  readonly at: number;
  readonly page: string;
  readonly planned: PlannedPartition;
  readonly letter: PackedLetter;
}

interface Standing {
  /** How many letters were written, and so the number of the next. */
  readonly malformed: number;
  readonly keep: number;
}

async function standingOf(client: Client, source: Named, partition: string): Promise<Standing> {
  const address = `${partitionType(nameOf(source))}/${partition}`;
  const { malformed, keep } = (await client.actor(address).get()).context as unknown as PartitionContext;
  return { malformed, keep: keep ?? (typeof source === "string" ? KEPT : source.keepLetters) };
}

async function partitionsOf(client: Client, source: Named): Promise<readonly PlannedPartition[]> {
  const plan = await client.actor(`${planType(nameOf(source))}/${PLAN_KEY}`).get();
  return (plan.context as unknown as PlanContext).partitions;
}

async function readPage(client: Client, source: Named, page: string): Promise<PageContext> {
  const { context } = await client.actor(`${lettersType(nameOf(source))}/${page}`).get();
  return context as unknown as PageContext;
}

function askPage(
  client: Client,
  source: Named,
  page: string,
  event: PageEvent,
  timeout_ms?: number,
): Promise<unknown> {
  return client.actor(`${lettersType(nameOf(source))}/${page}`).ask(event as never, { timeout_ms });
}

function nameOf(source: Named): string {
  return typeof source === "string" ? source : source.name;
}
