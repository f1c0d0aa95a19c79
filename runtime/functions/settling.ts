/**
 * What a turn that must not fail has to know before: whether what comes of an event can be kept and sent.
 *
 * A turn that ends an invocation, or goes on with what waited, would leave its key stuck if the engine refused it. So what
 * the engine would refuse is refused here, with the same codes, for the one event that is to blame.
 */
import type { Wish } from "../engine/machine.ts";
import { KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import { seal, sizeOf } from "../words/values.ts";
import { REFUSED } from "./events.ts";
import type { Patch } from "./keeping.ts";

/**
 * What a key keeps and one event sends, together. With kept answers, what else the turn sends and the turn's own event it
 * still fits into a record.
 */
const SETTLED_BYTES = 384 * 1024;
/** A refusal without its event: a text, a code, names. */
const REFUSAL_BYTES = 16 * 1024;
/** Timers that are left for what the facade itself needs. */
const SPARE_TIMERS = 8;

/**
 * @param sent messages that the turn sends already
 * @throws KeyturnError, ValueFault
 */
export function checkKept(
  address: string,
  draft: Patch,
  result: unknown,
  out: readonly Wish[],
  sent: number,
): void {
  seal(draft, "state");
  seal([result, out], "outcome");
  for (const wish of out) if (wish.kind === "tell" || wish.kind === "later") checkEventSize(wish.event);
  if (out.length + sent > limits.tellsPerTurn)
    throw new KeyturnError("tell_invalid", `One turn may send at most ${limits.tellsPerTurn} messages.`);
  if (!areKept(draft, out)) throw tooLarge(address);
}

/** Whether two values that were sealed fit into what may be kept. */
export function areKept(one: unknown, other: unknown): boolean {
  return sizeOf(one) + sizeOf(other) <= SETTLED_BYTES;
}

export function tooLarge(address: string): KeyturnError {
  return new KeyturnError(
    "state_too_large",
    `What ${address} would keep and send takes more than ${SETTLED_BYTES} bytes. Spread it over several keys.`,
  );
}

/** What is sent later becomes a dead letter if there is no timer left for it: there is nobody to tell any more. */
export function spared(address: string, wish: Wish): Wish {
  if (wish.kind !== "later") return wish;
  const message = `Something that was to be sent later found no timer: an actor has at most ${limits.timersPerActor}.`;
  const instead = deadLetter(address, wish.event, { code: "timers_full", message });
  return { ...wish, spare: { timers: SPARE_TIMERS, instead } };
}

/** Tells a key an event that it then refuses. */
export function deadLetter(
  address: string,
  event: { readonly type: string },
  error: { readonly code: string; readonly message: string },
): Wish {
  const kept = sizeOf(event) < limits.eventBytes - REFUSAL_BYTES ? event : { type: event.type };
  return { kind: "tell", to: address, event: { type: REFUSED, event: kept, ...error } };
}

function checkEventSize(event: unknown): void {
  const bytes = sizeOf(event);
  if (bytes > limits.eventBytes)
    throw new KeyturnError(
      "event_too_large",
      `An event that is sent takes about ${bytes} bytes, at most ${limits.eventBytes} are allowed.`,
    );
}
