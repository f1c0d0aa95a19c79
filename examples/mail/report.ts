/** What the filter has come to: as data, and as short tables for people. */
import type { Client } from "keyturn";
import Table from "cli-table3";
import { type Evidence, type Mistake, STRETCH, type Verdict, weightOf } from "./bayes.ts";
import type { Mail } from "./corpus.ts";
import { inboxOf } from "./deliver.ts";
import { word } from "./filter.ts";

/** A word, and in how many mails of each kind it stood. */
export interface WordRow {
  readonly word: string;
  readonly spam: number;
  readonly ham: number;
}

export interface Report {
  /** How many were filed, each before it was learnt from, and how many of them are spam. */
  readonly mails: number;
  readonly spam: number;
  /** Shares from 0 to 1: of all mails, filed right; and right if everything went where most belongs. */
  readonly accuracy: number;
  readonly baseline: number;
  /** Of what was called spam, what is; of what is spam, what was called so. */
  readonly precision: number;
  readonly recall: number;
  /** The accuracy of each `STRETCH` mails, in order of arrival. */
  readonly overTime: readonly number[];
  /** The words that say most, those that say more first. */
  readonly spammy: readonly WordRow[];
  readonly hammy: readonly WordRow[];
  /** The last few that were filed wrongly. */
  readonly mistakes: readonly Mistake[];
}

/** Words of each kind that are shown. */
const SHOWN = 8;
/** A word in fewer mails than this share of all says little about mail. */
const COMMON = 1 / 60;
const MISTAKES_SHOWN = 5;

/** Asks the actors. @param mails those whose words are looked at */
export async function reportOf(client: Client, mails: readonly Mail[]): Promise<Report> {
  const { context: filed } = await inboxOf(client).get();
  const words = commonWords(mails, COMMON * filed.mails);
  const known = (await evidenceOf(client, words))
    .map((evidence) => ({ evidence, weight: weightOf(filed, evidence) }))
    .sort((a, b) => b.weight - a.weight || (a.evidence[0] < b.evidence[0] ? -1 : 1));
  const row = ({ evidence: [name, spam, ham] }: { evidence: Evidence[number] }): WordRow => ({
    word: name,
    spam,
    ham,
  });
  const { caught, falseAlarms, spam } = filed;
  const right = filed.right.reduce((sum, count) => sum + count, 0);
  return {
    mails: filed.mails,
    spam,
    accuracy: share(right, filed.mails),
    baseline: share(Math.max(spam, filed.mails - spam), filed.mails),
    precision: share(caught, caught + falseAlarms),
    recall: share(caught, spam),
    overTime: filed.right.map((count, stretch) =>
      share(count, Math.min(STRETCH, filed.mails - stretch * STRETCH)),
    ),
    spammy: known
      .filter(({ weight }) => weight > 0)
      .slice(0, SHOWN)
      .map(row),
    hammy: known
      .filter(({ weight }) => weight < 0)
      .slice(-SHOWN)
      .reverse()
      .map(row),
    mistakes: filed.mistakes,
  };
}

/** What words know. Looking teaches them nothing. */
export async function evidenceOf(client: Client, words: readonly string[]): Promise<Evidence> {
  return await Promise.all(
    words.map(async (name) => {
      const { spam, ham } = (await client.actor(word, name).get()).context;
      return [name, spam, ham] as const;
    }),
  );
}

function commonWords(mails: readonly Mail[], least: number): string[] {
  const counts = new Map<string, number>();
  for (const { words } of mails) for (const name of words) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].filter(([, count]) => count >= least).map(([name]) => name);
}

export function textOf(report: Report): string {
  const { mails, spam, accuracy, baseline, precision, recall } = report;
  return [
    `${count(mails)} mails, ${count(spam)} of them spam, each filed before it was learnt from:`,
    tableOf(
      ["filed right", "if all were filed alike", "called spam and is", "spam that was found"],
      [[percent(accuracy), percent(baseline), percent(precision), percent(recall)]],
    ),
    "As it learns:",
    tableOf(
      ["mails", "filed right", ""],
      report.overTime.map((right, stretch) => [
        `${count(stretch * STRETCH + 1)} to ${count(Math.min(mails, (stretch + 1) * STRETCH))}`,
        percent(right),
        // What is common to all would hide the difference.
        "█".repeat(Math.max(0, Math.round((right - 0.8) * 100))),
      ]),
    ),
    "The words that say most, and in how many mails they stood:",
    tableOf(
      ["spam", "in spam", "in other", "not spam", "in spam", "in other"],
      Array.from({ length: Math.max(report.spammy.length, report.hammy.length) }, (_, place) => [
        ...cellsOf(report.spammy[place]),
        ...cellsOf(report.hammy[place]),
      ]),
    ),
    "The last that were filed wrongly:",
    tableOf(
      ["is", "spam, says the filter", "subject"],
      report.mistakes
        .slice(-MISTAKES_SHOWN)
        .map(({ spam: isSpam, probability, subject }) => [
          isSpam ? "spam" : "not spam",
          percent(probability),
          shortened(subject),
        ]),
    ),
  ].join("\n");
}

export function verdictText({ spam, probability, because }: Verdict): string {
  const reasons = because.slice(0, SHOWN).join(", ");
  return `${spam ? "Spam" : "Not spam"}: taken for spam by ${percent(probability)}. What said most: ${reasons || "none of its words is known"}.`;
}

function tableOf(head: string[], rows: readonly (readonly string[])[]): string {
  // No colours: what is shown may be a file.
  const table = new Table({ head, style: { head: [], border: [], compact: true } });
  table.push(...rows.map((row) => [...row]));
  return table.toString();
}

function cellsOf(row: WordRow | undefined): string[] {
  return row === undefined ? ["", "", ""] : [row.word, count(row.spam), count(row.ham)];
}

/** One line, without what a terminal would take for a command. */
function shortened(subject: string): string {
  const plain = subject.replace(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, "?");
  return plain.length > 50 ? `${plain.slice(0, 49)}…` : plain;
}

function share(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}

function percent(part: number): string {
  return `${(100 * part).toFixed(1)} %`;
}

function count(number: number): string {
  return number.toLocaleString("en-US");
}
