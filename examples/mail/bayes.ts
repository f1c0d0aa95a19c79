/**
 * Naive Bayes, after Graham's "A Plan for Spam": the words that say most decide. Pure functions.
 */

/** A word and in how many mails it stood so far. */
export type WordEvidence = readonly [word: string, spam: number, ham: number];
export type Evidence = readonly WordEvidence[];

/** What a filter has filed so far. */
export interface Filed {
  /** How many mails; also the number of the next one. */
  readonly mails: number;
  readonly spam: number;
  /** Spam that was called spam, and other mail that was called spam. */
  readonly caught: number;
  readonly falseAlarms: number;
  /** Of each `STRETCH` mails in order of arrival, how many were filed right. */
  readonly right: readonly number[];
  /** The last few that were filed wrongly, newest last. */
  readonly mistakes: readonly Mistake[];
}

export interface Mistake {
  readonly number: number;
  readonly subject: string;
  readonly spam: boolean;
  readonly probability: number;
}

export interface Verdict {
  readonly spam: boolean;
  /** That it is spam, from 0 to 1. */
  readonly probability: number;
  /** The words that decided, those that say most first. */
  readonly because: readonly string[];
}

export const STRETCH = 500;
const MISTAKES = 8;
/** So many words decide. */
const TELLING = 30;
/** A word that was never seen says nothing; what one has seen once or twice is not taken for the whole truth. */
const DOUBT = 0.3;

export const nothingFiled: Filed = {
  mails: 0,
  spam: 0,
  caught: 0,
  falseAlarms: 0,
  right: [],
  mistakes: [],
};

/** What a mail with these words is, to a filter that has filed so much. */
export function verdictOf(filed: Filed, evidence: Evidence): Verdict {
  const telling = evidence
    .map((word) => ({ word: word[0], weight: weightOf(filed, word) }))
    .sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight))
    .slice(0, TELLING);
  const prior = Math.log((filed.spam + 1) / (filed.mails - filed.spam + 1));
  const odds = telling.reduce((sum, { weight }) => sum + weight, prior);
  return {
    spam: odds > 0,
    probability: 1 / (1 + Math.exp(-odds)),
    because: telling.map(({ word }) => word),
  };
}

/** How much a word speaks for spam (above 0) or against it (below): the logarithm of the ratio of its shares in both. */
export function weightOf({ mails, spam: allSpam }: Filed, [, spam, ham]: WordEvidence): number {
  const inSpam = (spam + DOUBT) / (allSpam + 2 * DOUBT);
  const inHam = (ham + DOUBT) / (mails - allSpam + 2 * DOUBT);
  return spam + ham === 0 ? 0 : Math.log(inSpam / inHam);
}

/** Adds a mail, what it was called and what it is. */
export function addVerdict(
  filed: Filed,
  mail: { readonly number: number; readonly subject: string; readonly spam: boolean },
  verdict: Verdict,
): Filed {
  const { number, subject, spam } = mail;
  const isRight = verdict.spam === spam;
  const stretch = Math.floor(filed.mails / STRETCH);
  const right = [...filed.right];
  right[stretch] = (right[stretch] ?? 0) + (isRight ? 1 : 0);
  const mistake: Mistake = { number, subject, spam, probability: verdict.probability };
  return {
    mails: filed.mails + 1,
    spam: filed.spam + (spam ? 1 : 0),
    caught: filed.caught + (spam && verdict.spam ? 1 : 0),
    falseAlarms: filed.falseAlarms + (!spam && verdict.spam ? 1 : 0),
    right,
    mistakes: isRight ? filed.mistakes : [...filed.mistakes, mistake].slice(-MISTAKES),
  };
}
