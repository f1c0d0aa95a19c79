/**
 * Pages of an actor's past, with a cursor that can be kept as a text: in a link, in a header.
 *
 * Owns the cursor's form: `<order>.<skip>.<behind>.<seq>-<index>…` in base 36. A shard's cursor may list thousands of
 * blocks; of those a text keeps the next ones, and says behind which turn the others are found again. Talks to whoever
 * asks the actor.
 */
import type { HistoryPage, HistoryQuery, HistoryTurn } from "../engine/history.ts";
import type { HistoryCursor } from "../engine/history-query.ts";
import type { Machine } from "../engine/machine.ts";
import { KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";

export interface HistoryPageOptions {
  /** Newest turn first by default. A cursor keeps the order of its first page. */
  readonly order?: "newest" | "oldest" | undefined;
  /** Turns, at most; 64 by default, at most `limits.historyPage`. */
  readonly limit?: number | undefined;
  /** Turns up to this one, newest first: a place in a long past. With a cursor it counts no more. */
  readonly upTo?: number | undefined;
  /** `next` of the page before. */
  readonly cursor?: string | undefined;
  readonly timeout_ms?: number | undefined;
}

/** A page of turns. */
export interface TurnsPage<M extends Machine = Machine> {
  readonly turns: readonly HistoryTurn<M>[];
  /** For `cursor`; undefined at the end. */
  readonly next: string | undefined;
}

export type AskHistory = (query: HistoryQuery) => Promise<HistoryPage>;

const PAGE = 64;
/** Blocks that a text lists: some thousand characters. */
const LINKS_KEPT = 128;
const ORDERS = { n: "newest", o: "oldest" } as const;

/** Asks for the page that the options name. @throws KeyturnError `invalid_options` */
export async function pageFrom(
  ask: AskHistory,
  { order = "newest", limit = PAGE, cursor, upTo }: HistoryPageOptions,
): Promise<{ readonly query: HistoryQuery; readonly page: HistoryPage }> {
  if (!(Number.isSafeInteger(limit) && limit >= 1 && limit <= limits.historyPage))
    throw new KeyturnError(
      "invalid_options",
      `A page of history has 1 to ${limits.historyPage} turns, not ${limit}.`,
    );
  if (order !== "newest" && order !== "oldest")
    throw new KeyturnError("invalid_options", 'The order of history is "newest" or "oldest".');
  if (upTo !== undefined && !(Number.isSafeInteger(upTo) && upTo >= 1 && order === "newest"))
    throw new KeyturnError("invalid_options", "`upTo` is a turn, from 1, of a history that is newest first.");
  const begin = { order, limit, cursor: undefined, ...(upTo === undefined ? {} : { upTo }) };
  const query = cursor === undefined ? begin : { ...cursorIn(cursor), limit };
  return { query, page: await ask(query) };
}

/** The cursor behind a page, as a text; undefined at the end. */
export async function cursorText(
  ask: AskHistory,
  order: HistoryQuery["order"],
  { next }: HistoryPage,
): Promise<string | undefined> {
  if (next === undefined) return undefined;
  let { links, behind } = next;
  if (links.length > LINKS_KEPT) {
    links = links.slice(-LINKS_KEPT);
    const at: HistoryCursor = { links: links.slice(0, 1), skip: 0, behind: undefined };
    behind = (await ask({ order: "newest", limit: 1, cursor: at })).turns[0]?.turn;
  }
  const numbers = [next.skip.toString(36), behind?.toString(36) ?? ""];
  const places = links.map(([seq, index]) => `${seq.toString(36)}-${index.toString(36)}`);
  return [order[0], ...numbers, ...places].join(".");
}

function cursorIn(text: string): { readonly order: HistoryQuery["order"]; readonly cursor: HistoryCursor } {
  const parts = typeof text === "string" ? text.split(".", LINKS_KEPT + 4) : [];
  const [letter = "", skip = "", behind = "", ...places] = parts;
  if (!Object.hasOwn(ORDERS, letter) || parts.length < 3 || places.length > LINKS_KEPT) throw noCursor();
  const order = ORDERS[letter as keyof typeof ORDERS];
  const links = places.map((place) => {
    const [seq = "", index = "", more] = place.split("-", 3);
    if (more !== undefined) throw noCursor();
    return [numberIn(seq, 1), numberIn(index)] as const;
  });
  const named = { skip: numberIn(skip), behind: behind === "" ? undefined : numberIn(behind) };
  if (links.length === 0 && named.behind === undefined) throw noCursor();
  return { order, cursor: { links, ...named } };
}

function numberIn(text: string, least = 0): number {
  const number = /^[0-9a-z]{1,11}$/.test(text) ? Number.parseInt(text, 36) : Number.NaN;
  if (!Number.isSafeInteger(number) || number < least) throw noCursor();
  return number;
}

function noCursor(): KeyturnError {
  return new KeyturnError(
    "invalid_options",
    "The cursor is none that a page of this actor's history has given.",
  );
}
