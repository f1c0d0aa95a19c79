/**
 * A mail filter that learns as mail arrives, on 6,046 real mails. Each is first judged by the mails before it, and then
 * learnt from; so the accuracy is that on mail not yet seen.
 *
 * However often it is started and wherever it is killed: the same words, the same verdicts, the same figures.
 */
import { type Client, type Store, startNode } from "keyturn";
import { countOf, type Program, type Progress } from "../program.ts";
import { type Verdict, verdictOf } from "./bayes.ts";
import { readMails, wordsOf } from "./corpus.ts";
import { deliver, inboxOf } from "./deliver.ts";
import { filter, word } from "./filter.ts";
import { evidenceOf, type Report, reportOf, textOf, verdictText } from "./report.ts";

const HELP = `A mail filter that learns: every word is an actor, and 6,046 real mails arrive. Each is judged by the mails
before it, then learnt from. Run it again, or kill it and run it again: no mail counts twice.

  node dist/examples/mail/main.js [--data DIR | --nats HOST:PORT] [--take N] [--classify TEXT] [--json]

  --take N           only the first N mails
  --classify TEXT    say what this text is; it learns the mails first, if it has seen none
  --data DIR         where the actors live; data/mail by default, made if it is not there
  --nats HOST:PORT   they live on a NATS server, in the app "mail", shared with every node there:
                     keyturn start --nats HOST:PORT --app mail --actors examples/mail/filter.ts
  --json             print one JSON document on standard output and nothing else there
  --help             print this`;

export interface Learning {
  readonly take?: number | undefined;
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

export interface Learnt {
  readonly report: Report;
  /** Mails that were filed now and before, words that were asked now, and how long that took. */
  readonly work: {
    readonly now: number;
    readonly before: number;
    readonly words: number;
    readonly seconds: number;
  };
}

/** Files the mails that are not filed yet, and says what it came to; undefined if it was stopped before. */
export async function learn(
  client: Client,
  { take, signal, progress }: Learning,
): Promise<Learnt | undefined> {
  const mails = await readMails(take);
  const filed = async (): Promise<number> => (await inboxOf(client).get()).context.mails;
  const before = await filed();
  const begun = performance.now();
  progress.start(mails.length, Math.min(before, mails.length), "mails");
  try {
    await deliver(client, mails, (count) => progress.update(count), signal);
  } finally {
    progress.stop();
  }
  if ((await filed()) < mails.length) return undefined;
  const seconds = (performance.now() - begun) / 1_000;
  const words = mails.slice(before).reduce((sum, mail) => sum + mail.words.length, 0);
  const work = { now: Math.max(0, mails.length - before), before, words, seconds };
  return { report: await reportOf(client, mails), work };
}

/** What the filter takes a text for. The text is not learnt from. */
export async function classify(client: Client, text: string): Promise<Verdict> {
  const evidence = await evidenceOf(client, wordsOf(text));
  return verdictOf((await inboxOf(client).get()).context, evidence);
}

/** Runs something beside a node that hosts the filter and its words. */
export async function withNode<T>(store: Store, work: (client: Client) => Promise<T>): Promise<T> {
  const node = await startNode({ actors: [word, filter], store });
  try {
    return await work(node.client);
  } finally {
    await node.stop({ closeStore: false });
  }
}

function workText({ work: { now, before, words, seconds } }: Learnt): string {
  if (now === 0) return `All ${before} mails had been filed before.`;
  const rate = Math.round(words / seconds).toLocaleString("en-US");
  return `${now} mails in ${seconds.toFixed(1)} s, ${rate} words asked a second; ${before} had been filed before.`;
}

export const program: Program = {
  app: "mail",
  help: HELP,
  options: ["take", "classify"],
  check: (options) => void countOf(options, "take"),
  run: ({ store, options, signal, progress }) =>
    withNode(store, async (client) => {
      const learning = { take: countOf(options, "take"), signal, progress };
      const { classify: text } = options;
      if (text === undefined) {
        const learnt = await learn(client, learning);
        return learnt && { json: learnt, text: `${textOf(learnt.report)}\n${workText(learnt)}` };
      }
      const isNew = (await inboxOf(client).get()).context.mails === 0;
      if (isNew && (await learn(client, learning)) === undefined) return undefined;
      const verdict = await classify(client, text);
      return { json: verdict, text: verdictText(verdict) };
    }),
};
