/**
 * Patience with a cluster that has just started or is electing a leader.
 *
 * Owns how long a question to JetStream is repeated. Nobody answers while there is no leader, and a question that is on
 * its way when one is elected, or when two servers find each other, is lost; so it is asked again and again, at first
 * after a short while. Only for questions that may be asked twice.
 */
import { JetStreamApiError } from "@nats-io/jetstream";
import { ClosedConnectionError, TimeoutError } from "@nats-io/transport-node";
import { isKeyturnError, KeyturnError, textOf } from "../../words/errors.ts";
import { isElecting } from "./api.ts";

/** How many times as long as one answer may take. An election takes up to nine seconds, an answer by default five. */
const ANSWERS = 3;
/** The first try waits for this part of an answer's time, each further one for twice as long as the one before. */
const FIRST_PART = 0.1;
const PAUSE_MS = 100;
/** Fewer servers than replicas; the last ones may be about to join. */
const NO_PEERS = 10_005;

/**
 * Asks until there is an answer, for three times as long as one answer may take.
 * @param task for people: what NATS is asked to do
 * @param ask one try, and how long it may take
 * @throws KeyturnError `unreachable` when that time is over; what `ask` throws, where waiting does not help
 */
export async function patiently<T>(
  timeout_ms: number,
  task: string,
  ask: (timeout_ms: number) => Promise<T>,
): Promise<T> {
  const began_ms = performance.now();
  const until_ms = began_ms + ANSWERS * timeout_ms;
  for (let try_ms = FIRST_PART * timeout_ms; ; try_ms = Math.min(2 * try_ms, timeout_ms)) {
    try {
      return await ask(try_ms);
    } catch (cause) {
      if (!mayPass(cause)) throw cause;
      const now_ms = performance.now();
      if (now_ms + PAUSE_MS >= until_ms) throw overdue(task, now_ms - began_ms, cause);
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

function mayPass(cause: unknown): boolean {
  if (cause instanceof TimeoutError || cause instanceof ClosedConnectionError) return true;
  if (cause instanceof JetStreamApiError) return isElecting(cause.apiError()) || isShort(cause);
  // A stream that has just been made may not be known yet to the server that is asked.
  return isKeyturnError(cause, "unreachable") || isKeyturnError(cause, "not_provisioned");
}

function isShort(cause: unknown): boolean {
  return cause instanceof JetStreamApiError && cause.apiError().err_code === NO_PEERS;
}

function overdue(task: string, waited_ms: number, cause: unknown): unknown {
  if (isShort(cause) || isKeyturnError(cause, "not_provisioned")) return cause;
  const waited = `${Math.round(waited_ms / 100) / 10} s`;
  return new KeyturnError(
    "unreachable",
    `NATS did not ${task} within ${waited}: ${textOf(cause)}. Look whether JetStream is ready; in a cluster, whether most servers are there and have elected a leader.`,
    { cause },
  );
}
