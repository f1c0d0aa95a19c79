/**
 * A source's dead letters: the items that could not be used. Listed, dropped, read again.
 *
 * Owns the form of their ids, `<partition>.<letter>`. Talks to the source's pages; to read an item again, to its reader.
 * Listing and dropping need the source's name only, so they work where its definition is not.
 *
 * Invariant: an item that is tried again counts once, whoever tries it and how often: its page drops the letter and tells
 * the messages in one turn, and does neither if the letter is not there any more.
 */
import type { Client } from "../../client/client.ts";
import { KeyturnError } from "../../words/errors.ts";
import { lettersType, PLAN_KEY, partitionType, planType } from "../../words/sources.ts";
import type { AnySource } from "./define.ts";
import { held } from "./held.ts";
import { Mapper } from "./mapping.ts";
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
  /** How it begins. */
  readonly text: string;
  readonly time: Date;
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
    for await (const [at, [number, reason, text, time]] of lettersOf(client, source, partition)) {
      if (left-- <= 0) break;
      yield { id: `${partition}.${at}`, partition, of, number, reason, text, time: new Date(time) };
    }
  }
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
  const { partition, planned, letter } = found;
  const [number, reason, text, time] = letter;
  return { id, partition, of: planned.group, number, reason, text, time: new Date(time) };
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
 * turn: however often it is repeated, the item counts once. What the source reads from has to be in reach.
 * @returns false if the letter is not there (any more)
 * @throws KeyturnError `source_malformed` if it still cannot be used: the letter stays; `source_changed` if the item is gone;
 *   `source_failed` if it cannot be read; `invalid_options` for what is no id, and for a source whose items come by requests
 */
export async function retrySourceDeadLetter(client: Client, source: AnySource, id: string): Promise<boolean> {
  const found = await letterOf(client, source, id);
  if (found === undefined) return false;
  const { page, at, planned, letter } = found;
  const item = await held(source.from, () => itemOf(client, source, planned, letter));
  const mapper = new Mapper(source, planned.group, () => client.world.clock.now());
  const [batch] = mapper.batches([item]);
  const [fault] = batch?.letters ?? [];
  if (batch === undefined || fault !== undefined)
    throw new KeyturnError(
      "source_malformed",
      `Item ${item.number} of ${planned.group} still cannot be used: ${fault?.[1] ?? "nothing came of it."} Its letter stays.`,
    );
  const { tells } = batch;
  return (await askPage(client, source, page, {
    type: "retry",
    letter: at,
    number: item.number,
    tells,
  })) as boolean;
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

/** The item of a letter, read again. */
async function itemOf(
  client: Client,
  source: AnySource,
  planned: PlannedPartition,
  [number, , , , before]: PackedLetter,
): Promise<Item<unknown>> {
  const { from } = source;
  const cannot = (why: string): KeyturnError =>
    new KeyturnError("invalid_options", `Item ${number} of ${planned.group} cannot be read again: ${why}`);
  if (from.passive === true)
    throw cannot("it came by a request and is not kept. Send it once more, and drop its letter.");
  if (before === undefined)
    throw cannot("its letter is of an earlier version, which did not note where it stands. Drop it.");
  const over = new AbortController();
  const cancel = client.world.clock.after(READ_MS, () => over.abort());
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
  throw changed(`Item ${number} of ${planned.group} is not there any more. Drop its letter.`);
}

/** Letters of a partition with their numbers, newest first. */
async function* lettersOf(
  client: Client,
  source: Named,
  partition: string,
): AsyncGenerator<readonly [at: number, PackedLetter]> {
  const { malformed, keep } = await standingOf(client, source, partition);
  if (malformed === 0) return;
  const oldest = Math.max(0, malformed - (typeof source === "string" ? keep : source.keepLetters));
  const open: { readonly start: number; readonly page: Promise<PageContext> }[] = [];
  let start = malformed - 1 - ((malformed - 1) % PAGE_LETTERS);
  while (true) {
    for (
      ;
      open.length < PAGES_AT_ONCE && start >= 0 && start + PAGE_LETTERS > oldest;
      start -= PAGE_LETTERS
    ) {
      const page = readPage(client, source, pageKey(partition, start, pagesFor(keep)));
      // It may fail while others are waited for; whoever takes it learns it.
      page.catch(() => undefined);
      open.push({ start, page });
    }
    const next = open.shift();
    if (next === undefined) return;
    const { first, letters } = await next.page;
    // Letters that are told may be on their way, and older ones be overwritten while this is read.
    if (first !== next.start) continue;
    for (let at = Math.min(malformed - first, letters.length) - 1; at >= 0 && first + at >= oldest; at--) {
      const letter = letters[at] ?? undefined;
      if (letter !== undefined) yield [first + at, letter];
    }
  }
}

async function letterOf(client: Client, source: Named, id: string) {
  const { partition, at } = parseSourceLetterId(id);
  const planned = (await partitionsOf(client, source))[Number(partition)];
  if (planned === undefined) return undefined;
  const { keep } = await standingOf(client, source, partition);
  const page = pageKey(partition, at, pagesFor(keep));
  const { first, letters } = await readPage(client, source, page);
  const letter = letters[at - first] ?? undefined;
  return letter === undefined ? undefined : { partition, at, page, planned, letter };
}

async function standingOf(client: Client, source: Named, partition: string) {
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

function askPage(client: Client, source: Named, page: string, event: PageEvent): Promise<unknown> {
  return client.actor(`${lettersType(nameOf(source))}/${page}`).ask(event as never);
}

function nameOf(source: Named): string {
  return typeof source === "string" ? source : source.name;
}
