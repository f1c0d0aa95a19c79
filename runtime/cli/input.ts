/**
 * What is given to commands: events, durations, conditions.
 *
 * Owns how they are written on a command line. Talks to nobody but files and standard input.
 */
import { readFile } from "node:fs/promises";
import { InvalidArgumentError } from "commander";
import { type Conditions, withCondition } from "../words/condition-text.ts";
import { durationOf } from "../words/duration.ts";
import { KeyturnError, textOf } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import type { Shell } from "./shell.ts";

/** More text than any event or input has. */
const TEXT_MAX = 8 * limits.eventBytes;
const WORD = /^[A-Za-z_][\w.:/-]*$/;

/** How events are written, for the help of commands. */
export const EVENT_HELP = `
An event is JSON ('{"type":"add","by":1}'), a file with JSON (@event.json), standard input (-), or its type and fields:
add by=1 note=hello tags='["a"]'. A field's value is JSON if it can be read so, and else a text.`;

/**
 * An event, as its words stand on the command line.
 * @throws KeyturnError `invalid_options`
 */
export async function eventOf(words: readonly string[], shell: Shell): Promise<{ type: string }> {
  const [first = "", ...fields] = words;
  if (WORD.test(first)) return { type: first, ...fieldsOf(fields) };
  const event = await jsonOf(first, "The event", shell);
  if (fields.length > 0) {
    const text = `Fields (${fields[0]}) belong to an event that is named by its type: add by=1.`;
    throw new KeyturnError("invalid_options", text);
  }
  if (typeof (event as { type?: unknown } | null)?.type === "string") return event as { type: string };
  throw new KeyturnError("invalid_options", 'An event is an object with a type: {"type":"add","by":1}.');
}

/**
 * What an actor begins with: JSON, a file, standard input, or fields.
 * @throws KeyturnError `invalid_options`
 */
export async function inputOf(words: readonly string[], shell: Shell): Promise<unknown> {
  const [first] = words;
  if (first === undefined) return undefined;
  if (/^[A-Za-z_][\w.-]*=/.test(first)) return fieldsOf(words);
  if (words.length > 1)
    throw new KeyturnError("invalid_options", "An input is one JSON value, or fields name=value.");
  return await jsonOf(first, "The input", shell);
}

async function jsonOf(word: string, what: string, shell: Shell): Promise<unknown> {
  let text = word;
  if (word === "-") text = await readAll(shell.stdin);
  else if (word.startsWith("@")) text = await readText(word.slice(1));
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new KeyturnError("invalid_options", `${what} is not JSON: ${textOf(cause)}.`, {
      // Without the stack of whoever parses.
      cause: Object.assign(new Error(textOf(cause)), { code: "json" }),
    });
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new KeyturnError("invalid_options", `${path} cannot be read: ${textOf(cause)}`, { cause });
  }
}

async function readAll(stream: NodeJS.ReadableStream): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream) {
    const part = Buffer.from(chunk as string | Uint8Array);
    bytes += part.length;
    if (bytes > TEXT_MAX)
      throw new KeyturnError("invalid_options", `Standard input has more than ${TEXT_MAX} bytes.`);
    chunks.push(part);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function fieldsOf(words: readonly string[]): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const word of words) {
    const [, name, text = ""] = /^([^=]+)=(.*)$/s.exec(word) ?? [];
    if (name === undefined || name === "__proto__")
      throw new KeyturnError(
        "invalid_options",
        `"${word}" is no field: name=value. An event in JSON is one word: {"type":"…", …}.`,
      );
    fields[name] = fieldValue(text);
  }
  return fields;
}

function fieldValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Reads a stretch of time: seconds, or a text such as "90s" or "1h 30m". In milliseconds. */
export function duration(text: string): number {
  try {
    return /^\d+(\.\d+)?$/.test(text.trim()) ? Math.round(Number(text) * 1_000) : durationOf(text);
  } catch {
    throw new InvalidArgumentError(
      'It is a number of seconds, or a text such as "500 ms", "90 s", "1h 30m", "3 days".',
    );
  }
}

/** Reads a moment: an ISO date, or how far it is from now: "1h", "-1h". In milliseconds since the epoch. */
export function moment(text: string): number {
  const away = /^-?\s*\d+(\.\d+)?\s*[a-z]/i.test(text.trim());
  if (away) {
    const back = text.trim().startsWith("-");
    return Date.now() + (back ? -1 : 1) * duration(text.trim().replace(/^-/, ""));
  }
  const at = Date.parse(text);
  if (!Number.isNaN(at)) return at;
  throw new InvalidArgumentError('It is a date, "2026-01-31T12:00:00Z", or a time from now, "1h".');
}

/** Gathers conditions (words/condition-text.ts). */
export function condition(text: string, before: Conditions | undefined): Conditions {
  try {
    return withCondition(text, before);
  } catch (error) {
    throw new InvalidArgumentError(textOf(error));
  }
}
