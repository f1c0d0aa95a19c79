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

/** Keeps the answers of a turn, which were sealed. */
export function keepAnswers(next: Patch, answers: readonly Answer[]): void {
  if (answers.length === 0) return;
  let bytes = 0;
  const list = answers.filter((answer) => {
    const size = sizeOf(answer);
    if (bytes + size > ANSWER_BYTES) return false;
    bytes += size;
    return true;
  });
  const count = (next[ANSWERED] as number | undefined) ?? 0;
  next[ANSWERED] = count + 1;
  next[slotOf(count)] = { bytes, list } satisfies Answers;
  let kept = bytes;
  for (let n = count - 1; n >= 0 && n > count - ANSWERS_MAX; n--) {
    kept += (next[slotOf(n)] as Answers | undefined)?.bytes ?? 0;
    if (kept > ANSWER_BYTES) next[slotOf(n)] = undefined;
  }
}

export function answerOf(context: Context, ticket: number): Answer | undefined {
  for (let n = 0; n < ANSWERS_MAX; n++) {
    const answers = context[slotOf(n)] as Answers | undefined;
    const found = answers?.list.find((answer) => answer.ticket === ticket);
    if (found !== undefined) return found;
  }
  return undefined;
}

function slotOf(n: number): string {
  return `~${n % ANSWERS_MAX}`;
}
