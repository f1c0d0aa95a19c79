/**
 * Answers to questions about the actors of a type in one shard.
 *
 * Owns what an actor must be to be found, and the pages. Looks only at a catalog's rows, so all of this is synchronous;
 * a page looks at so many rows at most, so that turns go on in between, and may be empty although more follow.
 */
import { compareKeys } from "../words/address.ts";
import { KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import type { Condition, FoundRow, Scalar, ShardAnswer, ShardQuery, TimerRow } from "../words/queries.ts";
import { isScalar } from "../words/queries.ts";
import { sizeOf } from "../words/values.ts";
import { inRank, numberIn, type Ranked } from "./catalog/best.ts";
import { OMITTED, type Row } from "./catalog/row.ts";
import type { ShardRows, Tally } from "./catalog/rows.ts";
import type { AnyActorDefinition } from "./definition.ts";
import type { StateValue } from "./machine/internals.ts";

/** A page is full when its rows take so much. */
const PAGE_BYTES = limits.frameBytes / 4;
const ROW_BYTES = 64;
/** What sorting a key costs, in looks at a row. */
const SORT_LOOKS = 4;

/**
 * One page of what is asked.
 * @param looks is told how many rows were looked at
 * @throws KeyturnError `invalid_options` for what the type's index does not have
 */
export function answerQuery(
  rows: ShardRows,
  definition: AnyActorDefinition,
  query: ShardQuery,
  now: number,
  looks: Looks,
): ShardAnswer {
  if (query.ask === "top") return findTop(rows, definition, query);
  if (query.ask === "count" && isOfStates(query)) return countStates(rows, query);
  const fits = tester(definition, query, now);
  // Where the counts say that there is none, none is looked for.
  if (rows.complete && !hasAny(rows, query)) return noneFor(definition, query);
  looks.done += SORT_LOOKS * rows.unsorted;
  if (query.ask === "count") return countRows(rows, query, looks, fits);
  return query.ask === "timers"
    ? findTimers(rows, query, looks, fits)
    : findRows(rows, definition, query, looks, fits);
}

/** Rows that were looked at. */
export interface Looks {
  done: number;
}

/** Whether a question can be answered now: a page, if the rows that come first are found; all else if all are. */
export function canAnswer(rows: ShardRows, query: ShardQuery): boolean {
  const { complete, stretch } = rows;
  if (complete) return true;
  if (stretch === undefined || (query.ask !== "find" && query.ask !== "timers")) return false;
  const start = startOf(query);
  if (compareKeys(start, stretch.from) < 0) return false;
  if (stretch.to === undefined || isUpTo(query, stretch.to)) return true;
  // Asked with each stretch that is found: nothing is sorted for it until it is reached.
  if (compareKeys(start, stretch.to) >= 0) return false;
  const keys = rows.keys();
  const first = keys[firstKey(keys, query)];
  return first !== undefined && compareKeys(first, stretch.to) < 0;
}

/** No key before this one is asked for. */
export function startOf({ from, after }: ShardQuery): string {
  const [first, behind] = [from ?? "", after ?? ""];
  return compareKeys(first, behind) > 0 ? first : behind;
}

function isUpTo({ to }: ShardQuery, key: string): boolean {
  return typeof to === "string" && compareKeys(to, key) <= 0;
}

type Test = (row: Row) => boolean;

/**
 * What changed since a mark: as much as fits into a page, each actor once, as it is now.
 * @throws KeyturnError `invalid_options`
 */
export function answerChanges(
  rows: ShardRows,
  definition: AnyActorDefinition,
  query: ShardQuery,
  now: number,
): ShardAnswer {
  const { log, number } = rows;
  const { since } = query;
  const changed = since?.log === log ? rows.changedSince(since.number) : undefined;
  if (since === undefined || since === null || changed === undefined)
    return { reset: true, mark: { log, number } };
  const fits = tester(definition, query, now);
  const found: FoundRow[] = [];
  const gone: string[] = [];
  const seen = new Set<string>();
  let bytes = 0;
  let read = 0;
  for (const key of changed) {
    if (seen.size >= limits.queryPage || bytes >= PAGE_BYTES) break;
    read++;
    if (seen.has(key) || !isWithin(key, query)) continue;
    seen.add(key);
    const row = rows.get(key);
    // One that does not fit (any more) is gone for whoever asks.
    if (row === undefined || !fits(row)) {
      gone.push(key);
      bytes += ROW_BYTES + key.length;
    } else {
      const packed = packRow(row);
      found.push(packed);
      bytes += ROW_BYTES + sizeOf(packed);
    }
  }
  return { paths: definition.index ?? [], found, gone, mark: { log, number: since.number + read } };
}

function isWithin(key: string, { from, to }: ShardQuery): boolean {
  const isBehind = (from ?? undefined) === undefined || compareKeys(key, from as string) >= 0;
  return isBehind && ((to ?? undefined) === undefined || compareKeys(key, to as string) < 0);
}

function findRows(
  rows: ShardRows,
  { index = [] }: AnyActorDefinition,
  query: ShardQuery,
  looks: Looks,
  fits: Test,
): ShardAnswer {
  const found: FoundRow[] = [];
  let bytes = 0;
  const next = walk(rows, query, looks, (row) => {
    if (!fits(row)) return true;
    const packed = packRow(row);
    bytes += ROW_BYTES + sizeOf(packed);
    found.push(packed);
    return found.length < query.limit && found.length < limits.queryPage && bytes < PAGE_BYTES;
  });
  return { paths: index, found, ...(next === undefined ? {} : { next }) };
}

/** The first page from what is kept; what comes behind it, which is seldom asked for, from a look at all. */
function findTop(rows: ShardRows, definition: AnyActorDefinition, query: ShardQuery): ShardAnswer {
  const place = placeIn(definition, query.by as string);
  const limit = Math.min(query.limit, limits.queryPage);
  const { behind } = query;
  const ranked =
    behind === undefined
      ? rows.top(place, limit)
      : rankedBehind(rows, place, { value: behind[0], key: behind[1] });
  const found: FoundRow[] = [];
  let bytes = 0;
  for (const { key } of ranked) {
    if (found.length === limit || bytes >= PAGE_BYTES) break;
    const packed = packRow(rows.get(key) as Row);
    bytes += ROW_BYTES + sizeOf(packed);
    found.push(packed);
  }
  const isFull = found.length === limit || found.length < ranked.length;
  const last = found.at(-1);
  return { paths: definition.index ?? [], found, ...(isFull && last ? { next: last[0] } : {}) };
}

function rankedBehind(rows: ShardRows, place: number, behind: Ranked): readonly Ranked[] {
  const ranked: Ranked[] = [];
  for (const row of rows.all()) {
    const value = numberIn(row, place);
    if (value === undefined) continue;
    const one = { key: row.key, value };
    if (inRank(one, behind) > 0) ranked.push(one);
  }
  return ranked.sort(inRank);
}

function packRow({ key, value, status, turn, position, time, fields }: Row): FoundRow {
  const omitted = fields.flatMap((field, place) => (field === OMITTED ? [place] : []));
  const row = [key, value, status, turn, position, time] as const;
  if (omitted.length === 0) return [...row, fields];
  return [...row, fields.map((field) => (field === OMITTED ? null : field)), omitted];
}

/** Whether nothing but state and status decides who is counted: those counts are kept. */
function isOfStates({ from, to, after, olderThan, where }: ShardQuery): boolean {
  const others = [from, to, after, olderThan].some((other) => other !== undefined && other !== null);
  return !others && Object.keys(where ?? {}).length === 0;
}

/** The counts of those in a state, of a status. */
function* talliesOf(rows: ShardRows, { state, status }: ShardQuery): Generator<Tally> {
  const path = (state ?? undefined)?.split(".");
  for (const tally of rows.tallies()) {
    if ((status ?? tally.status) !== tally.status) continue;
    if (path === undefined || isIn(tally.value, path)) yield tally;
  }
}

function hasAny(rows: ShardRows, query: ShardQuery): boolean {
  for (const _ of talliesOf(rows, query)) return true;
  return false;
}

function noneFor({ index = [] }: AnyActorDefinition, { ask }: ShardQuery): ShardAnswer {
  if (ask === "count") return { counts: {}, turns: 0 };
  return ask === "timers" ? { timers: [] } : { paths: index, found: [] };
}

function countStates(rows: ShardRows, query: ShardQuery): ShardAnswer {
  const counts = new Map<string, number>();
  let turns = 0;
  for (const tally of talliesOf(rows, query)) {
    counts.set(tally.state, (counts.get(tally.state) ?? 0) + tally.count);
    turns += tally.turns;
  }
  return { counts: Object.fromEntries(counts), turns };
}

function countRows(rows: ShardRows, query: ShardQuery, looks: Looks, fits: Test): ShardAnswer {
  const counts = new Map<string, number>();
  let turns = 0;
  const next = walk(rows, query, looks, (row) => {
    if (fits(row)) {
      turns += row.turn;
      counts.set(row.state, (counts.get(row.state) ?? 0) + 1);
    }
    return true;
  });
  return { counts: Object.fromEntries(counts), turns, ...(next === undefined ? {} : { next }) };
}

function findTimers(rows: ShardRows, query: ShardQuery, looks: Looks, fits: Test): ShardAnswer {
  const timers: TimerRow[] = [];
  const before = query.dueBefore ?? Number.POSITIVE_INFINITY;
  const next = walk(rows, query, looks, (row) => {
    if (row.timers.length === 0 || !fits(row)) return true;
    for (const { id, child, due, event } of row.timers)
      if (due < before) timers.push([row.key, id, child ?? null, due, event.type]);
    // All of an actor's timers are in one page.
    return timers.length < query.limit && timers.length < limits.queryPage;
  });
  return { timers, ...(next === undefined ? {} : { next }) };
}

/**
 * Looks at rows in the order of their keys, until `take` answers false or enough were looked at. Returns the key to go on
 * behind, undefined at the end.
 */
function walk(
  rows: ShardRows,
  query: ShardQuery,
  looks: Looks,
  take: (row: Row) => boolean,
): string | undefined {
  const keys = rows.keys();
  // Behind it not all rows are found yet.
  const found = rows.stretch?.to;
  const isAll = found === undefined || isUpTo(query, found);
  const end = isAll ? (query.to ?? undefined) : found;
  let at = firstKey(keys, query);
  const last = looks.done + limits.queryLooks;
  for (; at < keys.length; at++) {
    const key = keys[at] as string;
    if (end !== undefined && compareKeys(key, end) >= 0) break;
    const row = rows.get(key);
    looks.done++;
    if ((row === undefined || take(row)) && looks.done < last) continue;
    return at + 1 < keys.length || !isAll ? key : undefined;
  }
  return isAll ? undefined : keys[at - 1];
}

/** Place of the first key that is asked for. */
function firstKey(keys: readonly string[], { from, after }: ShardQuery): number {
  const behind = after ?? undefined;
  const first = from ?? undefined;
  const isBefore = (key: string): boolean =>
    behind !== undefined && (first === undefined || compareKeys(behind, first) >= 0)
      ? compareKeys(key, behind) <= 0
      : first !== undefined && compareKeys(key, first) < 0;
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBefore(keys[middle] as string)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function tester(definition: AnyActorDefinition, query: ShardQuery, now: number): Test {
  const tests: Test[] = [];
  const { status } = query;
  if (status !== undefined && status !== null) tests.push((row) => row.status === status);
  const state = query.state ?? undefined;
  if (state !== undefined) {
    const path = state.split(".");
    tests.push(({ value }) => isIn(value, path));
  }
  const age = query.olderThan ?? undefined;
  if (age !== undefined) {
    if (definition.index === undefined) {
      const text = `When actors of type "${definition.type}" had their last turn is not kept. Give its definition an index, be it empty: defineActor({ index: [] }).`;
      throw new KeyturnError("invalid_options", text);
    }
    tests.push(({ time }) => time <= now - age);
  }
  for (const [path, condition] of Object.entries(query.where ?? {})) {
    const place = placeIn(definition, path);
    tests.push(({ fields }) => holds(fields[place], condition));
  }
  return (row) => tests.every((test) => test(row));
}

function placeIn({ type, index = [] }: AnyActorDefinition, path: string): number {
  const place = index.indexOf(path);
  if (place >= 0) return place;
  const known = index.length === 0 ? "It has none." : `It has ${index.join(", ")}.`;
  throw new KeyturnError(
    "invalid_options",
    `"${path.slice(0, 80)}" is not in the index of "${type}". ${known} Add it: defineActor({ index: [...] }).`,
  );
}

/** Whether a state value is in a state: at its path, or below it. */
function isIn(value: StateValue, path: readonly string[]): boolean {
  const [name, ...rest] = path;
  if (name === undefined) return true;
  if (typeof value === "string") return value === name && rest.length === 0;
  const inner = value[name];
  return inner !== undefined && isIn(inner, rest);
}

function holds(value: unknown, condition: Condition): boolean {
  if (isScalar(condition)) return isSame(value, condition);
  for (const [operator, operand] of Object.entries(condition))
    if (!compares(value, operator, operand as Scalar | readonly Scalar[])) return false;
  return true;
}

function compares(value: unknown, operator: string, operand: Scalar | readonly Scalar[]): boolean {
  switch (operator) {
    case "eq":
      return isSame(value, operand as Scalar);
    case "ne":
      return value !== OMITTED && !isSame(value, operand as Scalar);
    case "in":
      return (operand as readonly Scalar[]).some((one) => isSame(value, one));
    case "prefix":
      return typeof value === "string" && typeof operand === "string" && value.startsWith(operand);
    default: {
      const order = orderOf(value, operand as Scalar);
      if (order === undefined) return false;
      if (operator === "gt") return order > 0;
      if (operator === "gte") return order >= 0;
      return operator === "lt" ? order < 0 : order <= 0;
    }
  }
}

function isSame(value: unknown, scalar: Scalar): boolean {
  if (scalar instanceof Date) return value instanceof Date && value.getTime() === scalar.getTime();
  // What a context does not have is as good as null.
  return value === scalar || (scalar === null && value === undefined);
}

/** Below 0, 0 or above 0; undefined for values of different kinds. */
function orderOf(value: unknown, scalar: Scalar): number | undefined {
  if (typeof value === "string" && typeof scalar === "string") return compareKeys(value, scalar);
  if (value instanceof Date && scalar instanceof Date) return value.getTime() - scalar.getTime();
  return typeof value === "number" && typeof scalar === "number" ? value - scalar : undefined;
}
