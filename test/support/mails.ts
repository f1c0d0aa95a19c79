/** What the actors of examples/mail must come to, by the same rule applied without the runtime. */
import { addVerdict, type Evidence, type Filed, nothingFiled, verdictOf } from "../../examples/mail/bayes.ts";
import type { Mail } from "../../examples/mail/corpus.ts";
import type { WordCounts } from "../../examples/mail/filter.ts";

export interface Without {
  readonly filed: Filed;
  readonly words: ReadonlyMap<string, WordCounts>;
}

export function learntWithout(mails: readonly Mail[]): Without {
  const words = new Map<string, WordCounts>();
  let filed = nothingFiled;
  for (const mail of mails) {
    const evidence: Evidence = mail.words.map((name) => {
      const { spam, ham } = words.get(name) ?? { spam: 0, ham: 0 };
      return [name, spam, ham];
    });
    filed = addVerdict(filed, mail, verdictOf(filed, evidence));
    for (const [name, spam, ham] of evidence) {
      words.set(name, mail.spam ? { spam: spam + 1, ham } : { spam, ham: ham + 1 });
    }
  }
  return { filed, words };
}
