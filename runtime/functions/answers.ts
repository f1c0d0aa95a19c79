/**
 * Answers that come later than the turn that took the event: how they are kept until whoever waits has read them.
 *
 * The answers of the last turns that had any stand in the context, in a ring. Clients watch the key and read them there
 * (waiting.ts). Bounded: what is too large is not kept, and what is kept goes, the oldest first.
 */
import { sizeOf } from "../words/values.ts";
import { type Answer, ANSWERED, type Answers, ANSWERS_MAX } from "./events.ts";
import type { Context, Patch } from "./keeping.ts";

/** All kept answers of a key. */
const ANSWER_BYTES = 128 * 1024;

/** Keeps the answers of a turn, which were sealed, in what changes in a context. */
export function keepAnswers(context: Context, next: Patch, answers: readonly Answer[]): void {
  if (answers.length === 0) return;
  let bytes = 0;
  const list = answers.filter((answer) => {
    const size = sizeOf(answer);
    if (bytes + size > ANSWER_BYTES) return false;
    bytes += size;
    return true;
  });
  const count = (context[ANSWERED] as number | undefined) ?? 0;
  next[ANSWERED] = count + 1;
  next[slotOf(count)] = { bytes, list } satisfies Answers;
  let kept = bytes;
  for (let n = count - 1; n >= 0 && n > count - ANSWERS_MAX; n--) {
    kept += (context[slotOf(n)] as Answers | undefined)?.bytes ?? 0;
    if (kept > ANSWER_BYTES) next[slotOf(n)] = undefined;
  }
}

export function answerOf(context: Context, ticket: number): Answer | undefined {
  // The newest first: it is mostly there.
  const count = (context[ANSWERED] as number | undefined) ?? 0;
  for (let n = count - 1; n >= 0 && n >= count - ANSWERS_MAX; n--)
    for (const answer of (context[slotOf(n)] as Answers | undefined)?.list ?? [])
      if (answer.ticket === ticket) return answer;
  return undefined;
}

function slotOf(n: number): string {
  return `~${n % ANSWERS_MAX}`;
}
