/**
 * Filters in a query string: which actors of a type.
 *
 *   state=waiting.payment  status=active  olderThan=1 hour  prefix=eu:  from=a  to=b
 *   where=total>=10                        conditions as on the command line (words/condition-text.ts), as often as
 *   where=customer.id=ada, name^=A         they are needed, or with commas between
 *
 * Two older forms are understood as well:
 *
 *   where={"total":{"gte":10}}             conditions as JSON, Dates as {"~date": …}
 *   where.customer.id=ada                  for one path: a value, or operator:value
 *   where.total=gte:10                     eq, ne, gt, gte, lt, lte, prefix; in:1,2,3
 *
 * In the last a value that is a number, true, false, null or a text in double quotes is that; everything else is a text.
 * Owns these forms; what may be asked is the client's to check.
 */
import type { FindQuery } from "../client/find.ts";
import { type Conditions, withConditions } from "../words/condition-text.ts";
import { KeyturnError } from "../words/errors.ts";
import type { Condition, Scalar } from "../words/queries.ts";
import { AGAIN, valueIn } from "./context.ts";

/** What a query string has of a type. `where` may be given again. */
export const FILTERS = ["state", "status", "olderThan", "prefix", "from", "to", "where"];
export const WHERE = "where.";

const OPERATOR = /^(eq|ne|gte?|lte?|in|prefix):/;
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

/** @throws KeyturnError `invalid_options` */
export function filterIn(query: ReadonlyMap<string, string>): FindQuery {
  const conditions = new Map<string, Condition>();
  let written: Conditions = {};
  for (const [name, text] of query) {
    if (name !== "where" && !name.startsWith(AGAIN)) continue;
    if (!text.trimStart().startsWith("{")) written = withConditions(text, written);
    else for (const [path, one] of jsonConditions(text)) add(conditions, path, one);
  }
  for (const [path, one] of Object.entries(written)) add(conditions, path, one);
  for (const [name, text] of query) {
    if (!name.startsWith(WHERE)) continue;
    const path = name.slice(WHERE.length);
    add(conditions, path, conditionIn(text));
  }
  const status = query.get("status") as FindQuery["status"];
  return {
    state: query.get("state"),
    status,
    olderThan: ageIn(query.get("olderThan")),
    prefix: query.get("prefix"),
    from: query.get("from"),
    to: query.get("to"),
    ...(conditions.size === 0 ? {} : { where: Object.fromEntries(conditions) }),
  };
}

function add(conditions: Map<string, Condition>, path: string, one: Condition): void {
  if (conditions.has(path)) throw wrongWhere(`"${path.slice(0, 80)}" has two conditions.`);
  conditions.set(path, one);
}

function jsonConditions(text: string): [string, Condition][] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw wrongWhere("It is not JSON.");
  }
  const value = valueIn(json, "where", "invalid_options");
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw wrongWhere("It is no object.");
  return Object.entries(value) as [string, Condition][];
}

function conditionIn(text: string): Condition {
  const [, operator] = OPERATOR.exec(text) ?? [];
  if (operator === undefined) return scalarIn(text);
  const operand = text.slice(operator.length + 1);
  if (operator === "in") return { in: operand.split(",").map(scalarIn) };
  return { [operator]: operator === "prefix" ? operand : scalarIn(operand) };
}

function scalarIn(text: string): Scalar {
  if (text === "true" || text === "false") return text === "true";
  if (text === "null") return null;
  if (NUMBER.test(text)) return Number(text);
  if (!(text.startsWith('"') && text.endsWith('"') && text.length > 1)) return text;
  try {
    return JSON.parse(text) as string;
  } catch {
    throw wrongWhere("A text in quotes is not well formed.");
  }
}

/** Milliseconds, or a text with its unit. */
function ageIn(text: string | undefined): number | string | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : text;
}

function wrongWhere(text: string): KeyturnError {
  return new KeyturnError(
    "invalid_options",
    `${text} Conditions are written where=total>=10, customer.id=ada.`,
  );
}
