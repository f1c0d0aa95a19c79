/**
 * Questions about the actors of a type, as they travel: what may be asked of a shard, and what it answers.
 *
 * Owns the forms and the checks of what comes from outside. Talks to nobody.
 */
import { compareKeys } from "./address.ts";
import { KeyturnError } from "./errors.ts";
import { isWellFormed } from "./text.ts";

/** A value that conditions compare with. */
export type Scalar = string | number | boolean | null | Date;

/** What a value at an index's path must be: equal to a scalar, or all of these. Texts are compared by their bytes. */
export type Condition =
  | Scalar
  | {
      readonly eq?: Scalar;
      readonly ne?: Scalar;
      readonly gt?: Scalar;
      readonly gte?: Scalar;
      readonly lt?: Scalar;
      readonly lte?: Scalar;
      readonly in?: readonly Scalar[];
      readonly prefix?: string;
    };

/** Which actors of a type. */
export interface Filter {
  /** A path of states: "waiting" or "waiting.payment"; actors in it or below it. */
  readonly state?: string | undefined;
  readonly status?: "active" | "done" | "error" | "stopped" | undefined;
  /** By path of the type's index. */
  readonly where?: Readonly<Record<string, Condition>> | undefined;
  /** Milliseconds since the last turn, at least. */
  readonly olderThan?: number | undefined;
  /** Keys from this one on, before that one, by the bytes of their UTF-8. */
  readonly from?: string | undefined;
  readonly to?: string | undefined;
}

/** What a shard is asked. */
export interface ShardQuery extends Filter {
  /**
   * `delivered`: whether what the shard's actors had told over a lane, when it was asked, is committed by its receivers.
   * `top`: those with the highest numbers.
   */
  readonly ask: "find" | "count" | "timers" | "changes" | "delivered" | "top";
  /** Rows in one answer, at most. */
  readonly limit: number;
  /** Only keys behind this one: the answer before ended there. */
  readonly after?: string | undefined;
  /** For timers: those due before, milliseconds since the epoch. */
  readonly dueBefore?: number | undefined;
  /** For top: a path of the index; actors without a number there are left out. */
  readonly by?: string | undefined;
  /** For top: where the answer before ended. */
  readonly behind?: readonly [value: number, key: string] | undefined;
  /** For changes: where the answer before ended; without it, or if that is not known any more, `reset` is answered. */
  readonly since?: ChangesMark | undefined;
  /** Who asks takes `finding` for an answer, and asks again. */
  readonly waits?: boolean | undefined;
  /** For deliveries: which lane (lanes.ts). */
  readonly lane?: number | undefined;
  /** For changes, how long to wait for the first one, and for deliveries for the last, milliseconds. */
  readonly hold_ms?: number | undefined;
}

/** A place among the changes that one owner of a shard has seen, since it began to look. */
export interface ChangesMark {
  readonly log: string;
  readonly number: number;
}

/** One actor: key, state value, status, turn, position, time of the last turn (0 unknown), values of the index. */
export type FoundRow = readonly [
  key: string,
  value: unknown,
  status: string,
  turn: number,
  position: number,
  time: number,
  fields: readonly unknown[],
  /** Places in `fields` of values that are too large to be kept at hand. */
  omitted?: readonly number[],
];

/** One delay: key, id, child, due, type of its event. */
export type TimerRow = readonly [
  key: string,
  id: string,
  child: string | null,
  due: number,
  eventType: string,
];

/** A page. `next` is the key to go on behind, left out at the end. */
export interface ShardAnswer {
  /** Paths of the index. */
  readonly paths?: readonly string[];
  readonly found?: readonly FoundRow[];
  /** How many actors stand in each state. */
  readonly counts?: Readonly<Record<string, number>>;
  /** And how many turns they have taken together. */
  readonly turns?: number;
  readonly timers?: readonly TimerRow[];
  /** For changes, beside `found`: actors that were deleted. */
  readonly gone?: readonly string[];
  /** Where the changes of this answer end. */
  readonly mark?: ChangesMark;
  /** Not all actors are found yet, but so many. Nothing else is said; ask again. */
  readonly finding?: number;
  /** What changed is not known: read everything, then ask from `mark` on. */
  readonly reset?: true;
  /** Of the newest batch that the shard's owner has committed. */
  readonly position?: number;
  readonly next?: string;
  /** Where nothing was found: the machine has no such state, but these. */
  readonly unknown?: readonly string[];
  readonly delivered?: boolean;
}

const ASKS: ReadonlySet<unknown> = new Set(["find", "count", "timers", "changes", "delivered", "top"]);
const STATUSES: ReadonlySet<unknown> = new Set(["active", "done", "error", "stopped"]);
const OPERATORS: ReadonlySet<string> = new Set(["eq", "ne", "gt", "gte", "lt", "lte", "in", "prefix"]);

/**
 * Checks a question from outside.
 * @throws KeyturnError `invalid_options`, naming what is wrong
 */
export function checkShardQuery(value: unknown): ShardQuery {
  const query = (value ?? {}) as ShardQuery & Record<string, unknown>;
  if (!ASKS.has(query.ask))
    throw fault("A shard is asked to find, to count, for timers, changes, deliveries or the top.");
  if (!Number.isSafeInteger(query.limit) || query.limit < 1) throw fault("A limit is a whole number from 1.");
  for (const name of ["after", "from", "to", "state"] as const) {
    const text = query[name] ?? undefined;
    if (text !== undefined && !isText(text)) throw fault(`"${name}" is a text of well-formed Unicode.`);
  }
  for (const name of ["olderThan", "dueBefore", "hold_ms", "lane"] as const) {
    const time = query[name] ?? undefined;
    if (time !== undefined && (typeof time !== "number" || Number.isNaN(time)))
      throw fault(`"${name}" is a number of milliseconds.`);
  }
  if ((query.status ?? undefined) !== undefined && !STATUSES.has(query.status))
    throw fault('"status" is "active", "done", "error" or "stopped".');
  if (typeof query.from === "string" && typeof query.to === "string" && compareKeys(query.from, query.to) > 0)
    throw fault(`"from" (${clip(query.from)}) comes after "to" (${clip(query.to)}).`);
  checkWhere(query.where ?? undefined);
  if (query.ask === "top") checkTop(query);
  const { since } = query;
  if (since !== undefined && since !== null && (!isText(since.log) || !isNumber(since.number)))
    throw fault("What changed is asked for since the mark of an answer.");
  return query;
}

/** One that can be carried. */
function isText(value: unknown): value is string {
  return typeof value === "string" && isWellFormed(value);
}

function checkTop({ by, behind, ...others }: ShardQuery): void {
  if (!isText(by)) throw fault("The top is asked for by a path of the index.");
  const fits =
    behind === undefined || (Array.isArray(behind) && typeof behind[0] === "number" && isText(behind[1]));
  if (!fits) throw fault("The top goes on behind a number and a key.");
  for (const name of ["state", "status", "where", "olderThan", "from", "to", "after"] as const)
    if ((others[name] ?? undefined) !== undefined) throw fault(`The top is of all: it takes no "${name}".`);
}

function isNumber(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function checkWhere(where: unknown): void {
  if (where === undefined) return;
  if (typeof where !== "object" || where === null || Array.isArray(where))
    throw fault('"where" is an object: { "customer.id": "ada" }.');
  for (const [path, condition] of Object.entries(where)) {
    if (!isText(path)) throw fault("A path of the index is a text of well-formed Unicode.");
    if (isScalar(condition)) {
      checkScalar(path, condition);
      continue;
    }
    if (typeof condition !== "object" || condition === null || Array.isArray(condition))
      throw fault(`The condition for "${clip(path)}" is a value or an object such as { gte: 10 }.`);
    for (const [operator, operand] of Object.entries(condition)) {
      if (!OPERATORS.has(operator))
        throw fault(
          `"${clip(operator)}" is no comparison: there are eq, ne, gt, gte, lt, lte, in and prefix.`,
        );
      const fits =
        operator === "in" ? Array.isArray(operand) && operand.every(isScalar) : isScalar(operand ?? null);
      if (!fits)
        throw fault(`The condition for "${clip(path)}" compares with texts, numbers, booleans, Dates.`);
      for (const scalar of Array.isArray(operand) ? operand : [operand]) checkScalar(path, scalar);
    }
  }
}

function checkScalar(path: string, scalar: Scalar | undefined): void {
  const fits =
    scalar instanceof Date ? !Number.isNaN(scalar.getTime()) : typeof scalar !== "string" || isText(scalar);
  if (!fits)
    throw fault(
      `The condition for "${clip(path)}" compares with texts of well-formed Unicode and valid Dates.`,
    );
}

export function isScalar(value: unknown): value is Scalar {
  return (
    value === null ||
    typeof value === "string" ||
    typeof value === "number" ||
    typeof value === "boolean" ||
    value instanceof Date
  );
}

function clip(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function fault(text: string): KeyturnError {
  return new KeyturnError("invalid_options", text);
}
