/**
 * Conditions as people write them, on a command line, in an address and in the dashboard's field.
 *
 *   total>=10   customer.id=ada   name^=A   sku=["tea","milk"]   placed<@2026-01-31   paid!=true
 *
 * A path of the type's index, one of = != < <= > >= ^= (begins with), and a value: JSON if it can be read so, @DATE a
 * date, and anything else a text. A list is "one of". Several stand behind one another, with commas between.
 *
 * Owns this form, and nothing of what conditions mean (queries.ts). Runs in browsers too.
 */
import { KeyturnError } from "./errors.ts";
import type { Condition, Scalar } from "./queries.ts";

/** Conditions by path, those of one path together. */
export type Conditions = Readonly<Record<string, Condition>>;

const OPERATORS = {
  "=": "eq",
  "==": "eq",
  "!=": "ne",
  ">": "gt",
  ">=": "gte",
  "<": "lt",
  "<=": "lte",
  "^=": "prefix",
} as const;

const CONDITION = /^\s*([^=<>!^,]+?)\s*(==|!=|>=|<=|\^=|=|<|>)\s*(.*?)\s*$/s;
const BEGINS = /^\s*[^=<>!^,"[\]{}]+(==|!=|>=|<=|\^=|=|<|>)/;

/** How conditions are written, for whoever is told that one is wrong. */
export const CONDITION_FORM = "PATH=VALUE, or with !=, <, <=, >, >= or ^= (begins with)";

/**
 * One condition, together with those before it.
 * @throws KeyturnError `invalid_options`
 */
export function withCondition(text: string, before: Conditions = {}): Conditions {
  const [, path, sign, operand = ""] = CONDITION.exec(text) ?? [];
  if (path === undefined || sign === undefined)
    throw wrong(`"${clip(text)}" is no condition: it is ${CONDITION_FORM}.`);
  const operator = OPERATORS[sign as keyof typeof OPERATORS];
  const value = operator === "prefix" ? textOf(operand) : operandOf(operand);
  const isList = Array.isArray(value);
  if (isList && operator !== "eq") throw wrong(`"${clip(text)}": a list of values goes with =.`);
  const named = isList ? "in" : operator;
  const known = Object.hasOwn(before, path) ? (before[path] as Readonly<Record<string, unknown>>) : {};
  if (Object.hasOwn(known, named)) throw wrong(`"${clip(path)}" is compared twice by ${sign}.`);
  return { ...before, [path]: { ...known, [named]: value } as Condition };
}

/**
 * Several conditions, with commas between.
 * @throws KeyturnError `invalid_options`
 */
export function withConditions(text: string, before: Conditions = {}): Conditions {
  return splitConditions(text).reduce((all, one) => withCondition(one, all), before);
}

/** Cuts at the commas behind which a condition begins: not those within lists, texts in quotes, or other texts. */
export function splitConditions(text: string): string[] {
  const parts: string[] = [];
  let isQuoted = false;
  let from = 0;
  for (let at = 0; at < text.length; at++) {
    if (isQuoted && text[at] === "\\") at++;
    else if (text[at] === '"') isQuoted = !isQuoted;
    else if (text[at] === "," && !isQuoted && BEGINS.test(text.slice(at + 1))) {
      parts.push(text.slice(from, at));
      from = at + 1;
    }
  }
  return [...parts, text.slice(from)];
}

function operandOf(text: string): Scalar | readonly Scalar[] {
  if (!text.startsWith("@")) return jsonOr(text) as Scalar;
  const at = new Date(text.slice(1));
  if (Number.isNaN(at.getTime())) throw wrong(`"${clip(text.slice(1))}" is no date.`);
  return at;
}

/** What a text begins with is a text, also where it could be read as a number. */
function textOf(text: string): string {
  const value = jsonOr(text);
  return typeof value === "string" ? value : text;
}

function jsonOr(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function clip(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function wrong(text: string): KeyturnError {
  return new KeyturnError("invalid_options", text);
}
