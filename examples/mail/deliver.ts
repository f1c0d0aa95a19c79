/**
 * Delivers mails to the filter: many at once, and yet each is judged by those before it and by no other.
 *
 * For each mail its words are asked, then the filter. Nothing waits for the mail before: what one reference asks is
 * applied in that order, so a word that stands in two mails sees them one after the other.
 *
 * Whoever dies here leaves some words that have seen a mail and some that have not. The filter knows which mail it
 * files next, and delivery goes on there: each question has the mail's number as its request id, so a word that has
 * learnt this mail is not taught it again, and answers what it answered the first time.
 *
 * The same happens after a failure that this survives, such as a time-out. Only then a word may learn a later mail before
 * the one that failed; no count is wrong by that.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, isKeyturnError, type RefFor } from "keyturn";
import type { Evidence } from "./bayes.ts";
import type { Mail } from "./corpus.ts";
import { filter, word } from "./filter.ts";

/** Mails on their way at once. Far fewer than an actor remembers request ids (`limits.requestsPerActor`). */
const MAILS_AT_ONCE = 32;
/** Failures in a row without a mail filed between them. */
const TRIES = 5;
/** After the first of them; each doubles it. */
const PAUSE_MS = 50;

/** The one filter that there is. */
export function inboxOf(client: Client): RefFor<typeof filter> {
  return client.actor(filter, "inbox");
}

/**
 * Delivers what the filter has not filed yet.
 * @param onProgress called with how many mails are filed
 * @param signal ends it early; what is on its way is waited for
 */
export async function deliver(
  client: Client,
  mails: readonly Mail[],
  onProgress: (filed: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const inbox = inboxOf(client);
  let tries = 0;
  for (let before = -1; ; ) {
    const { mails: filed } = (await inbox.get()).context;
    if (filed >= mails.length || signal.aborted) return;
    tries = filed > before ? 0 : tries + 1;
    before = filed;
    try {
      await deliverFrom(client, mails.slice(filed), onProgress, signal);
    } catch (error) {
      // A lost answer is like a crash: what came of it is found out by going on from what is filed.
      if (!isKeyturnError(error) || !error.retryable || tries === TRIES) throw error;
      await sleep(PAUSE_MS * 2 ** tries);
    }
  }
}

async function deliverFrom(
  client: Client,
  mails: readonly Mail[],
  onProgress: (filed: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const inbox = inboxOf(client);
  const words = new Map<string, RefFor<typeof word>>();
  const refOf = (name: string): RefFor<typeof word> => {
    let ref = words.get(name);
    if (ref === undefined) words.set(name, (ref = client.actor(word, name)));
    return ref;
  };
  const asked = ahead(mails, async (mail) => ({ mail, evidence: await ask(mail, refOf) }));
  const filed = ahead(asked, async ({ mail: { number, subject, spam }, evidence }) => {
    await inbox.ask({ type: "file", number, subject, spam, evidence }, { requestId: requestIdOf(number) });
    return number + 1;
  });
  for await (const count of filed) {
    onProgress(count);
    if (signal.aborted) return;
  }
}

/** Asks a mail's words what they know, and teaches them what it is. */
function ask({ number, spam, words }: Mail, refOf: (name: string) => RefFor<typeof word>): Promise<Evidence> {
  const options = { requestId: requestIdOf(number) };
  return Promise.all(
    words.map(async (name) => {
      const counts = await refOf(name).ask({ type: "seen", spam }, options);
      return [name, counts.spam, counts.ham] as const;
    }),
  );
}

function requestIdOf(number: number): string {
  return `mail-${number}`;
}

/** Begins work in the order of the items, several at once, and yields what comes of it in the same order. */
async function* ahead<T, R>(
  items: Iterable<T> | AsyncIterable<T>,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const open: Promise<R>[] = [];
  try {
    for await (const item of items) {
      const result = work(item);
      // It is awaited in its turn; should it fail before that, nobody has failed to look.
      result.catch(() => undefined);
      open.push(result);
      if (open.length === MAILS_AT_ONCE) yield await (open.shift() as Promise<R>);
    }
    while (open.length > 0) yield await (open.shift() as Promise<R>);
  } finally {
    await Promise.allSettled(open);
  }
}
