/** What calls of a reference are told, and whom a request is for. */
import { KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import { traceOf } from "../words/trace.ts";
import { isWellFormed } from "../words/text.ts";
import type { Sender } from "./session.ts";

export interface CallOptions {
  /** How long to wait for the outcome, in milliseconds; 10,000 by default, at most `limits.deadline_ms`. */
  readonly timeout_ms?: number | undefined;
  /**
   * An id of the caller's own for this request. A repetition with the same id, from any client and also after a
   * crash, is answered from the first one's stored reply; each actor remembers its last `limits.requestsPerActor` ids.
   */
  readonly requestId?: string | undefined;
  /** W3C `traceparent`, carried into the record and to the actors that are told. */
  readonly trace?: string | undefined;
  /** W3C `tracestate` that came with it. What is malformed or beyond 512 characters is left out, as W3C has it. */
  readonly traceState?: string | undefined;
}

export interface GetOptions extends CallOptions {
  /** Reads the last snapshot from the store, past the actor: it may be behind by the length of the tail. */
  readonly stale?: boolean;
}

export interface HistoryOptions {
  /** Newest turn first by default. */
  readonly order?: "newest" | "oldest";
  /** Stop after so many turns. */
  readonly limit?: number | undefined;
  readonly timeout_ms?: number | undefined;
}

export interface WatchOptions {
  /** Ends the watch. */
  readonly signal?: AbortSignal | undefined;
}

/** Whom a request is for: an actor, or for a Query a shard. */
export interface Recipient extends Sender {
  readonly type: string;
  readonly key: string;
  readonly id: string;
  readonly shard: number;
}

const DEFAULT_TIMEOUT_MS = 10_000;

/**
 * How long a request may take, in milliseconds.
 * @throws KeyturnError `invalid_options` if the options of a request make no sense
 */
export function checkCall({ timeout_ms = DEFAULT_TIMEOUT_MS, requestId }: CallOptions): number {
  if (typeof timeout_ms !== "number" || !(timeout_ms >= 1 && timeout_ms <= limits.deadline_ms)) {
    throw new KeyturnError(
      "invalid_options",
      `A time-out is between 1 and ${limits.deadline_ms} ms, not ${timeout_ms}.`,
    );
  }
  if (requestId !== undefined) checkRequestId(requestId);
  return timeout_ms;
}

/**
 * A request's trace in the form in which it is carried; undefined without one.
 * @throws KeyturnError `invalid_options`
 */
export function carriedTrace({ trace, traceState }: CallOptions): string | undefined {
  if (traceState !== undefined && typeof traceState !== "string")
    throw new KeyturnError("invalid_options", "A traceState is a text.");
  if (trace === undefined) return undefined;
  if (typeof trace !== "string" || !isWellFormed(trace) || Buffer.byteLength(trace) > limits.traceBytes)
    throw new KeyturnError("invalid_options", `A trace is a text of at most ${limits.traceBytes} bytes.`);
  const carried = traceOf(trace, traceState);
  return carried.length > limits.traceBytes ? trace : carried;
}

function checkRequestId(requestId: string): void {
  if (
    typeof requestId !== "string" ||
    requestId === "" ||
    !isWellFormed(requestId) ||
    Buffer.byteLength(requestId) > limits.requestIdBytes
  ) {
    throw new KeyturnError(
      "invalid_options",
      `A request id is a text of well-formed Unicode, of 1 to ${limits.requestIdBytes} bytes.`,
    );
  }
}
