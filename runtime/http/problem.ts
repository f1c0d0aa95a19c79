/**
 * Refusals as HTTP has them: a status, and a problem document (RFC 9457) that says what became of the request.
 *
 * Owns the status of every code. Talks to nobody.
 *
 * Invariants:
 * 1. Whatever is thrown becomes a problem with `code`, `retryable` and `outcome`; what is no KeyturnError is a fault of
 *    this program, and its text stays here.
 * 2. A `requestId` is shown only if the caller gave it: an id that this server made says nothing to another one.
 */
import { type ErrorCode, KeyturnError, type Outcome } from "../words/errors.ts";

/** The body of every answer that is a refusal, `application/problem+json`. */
export interface Problem {
  /** `urn:keyturn:error:<code>` */
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  /** The same request may succeed later, unchanged. */
  readonly retryable: boolean;
  readonly outcome: Outcome;
  /** The caller's `Idempotency-Key`: with it a repetition tells an unknown outcome. */
  readonly requestId?: string;
}

const statuses: Readonly<Record<ErrorCode, number>> = {
  invalid_address: 400,
  invalid_event: 422,
  invalid_input: 422,
  already_exists: 409,
  reserved_event: 422,
  // As the IETF's draft on the Idempotency-Key header says.
  request_id_reused: 422,
  event_too_large: 413,
  unknown_type: 404,
  invalid_options: 400,
  unsupported_machine: 500,
  version_conflict: 409,
  invalid_operand: 422,
  snapshot_expired: 410,
  // The event was refused by the machine, and the actor is as it was.
  machine_failed: 422,
  // A fault of the machine's author, whatever the event.
  machine_looped: 500,
  context_mutated: 500,
  context_invalid: 500,
  reply_invalid: 500,
  output_invalid: 500,
  tell_invalid: 500,
  route_failed: 422,
  sink_refused: 422,
  function_failed: 422,
  function_timed_out: 504,
  function_unreachable: 502,
  // As full as it is now.
  state_too_large: 409,
  timers_full: 409,
  mailbox_full: 503,
  overloaded: 503,
  outbox_full: 503,
  sink_full: 503,
  superseded: 503,
  timeout: 504,
  client_closed: 503,
  client_ended: 503,
  request_forgotten: 409,
  store_locked: 503,
  store_full: 507,
  store_failed: 503,
  unreachable: 503,
  access_denied: 502,
  server_unsuitable: 502,
  not_provisioned: 503,
  app_mismatch: 502,
  corrupt_record: 500,
  corrupt_snapshot: 500,
  newer_format: 503,
  incompatible_snapshot: 500,
  newer_version: 503,
  migration_failed: 500,
  history_trimmed: 410,
  answer_too_large: 500,
  source_failed: 503,
  source_changed: 409,
  source_malformed: 422,
  invalid_frame: 400,
};

/** Statuses that refusals have, for the document that describes them. */
export const problemStatuses: readonly number[] = [
  ...new Set([...Object.values(statuses), 401, 403, 404, 405, 408, 413, 414, 415, 417, 421, 429, 431]),
].sort((a, b) => a - b);

/** Seconds after which a retry makes sense. */
const RETRY_S = 1;

/** A refusal whose status is not that of its code. It does not leave the server but as a problem. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly status: number;
  readonly error: KeyturnError;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: ErrorCode, text: string, headers: Readonly<Record<string, string>> = {}) {
    super(text);
    this.status = status;
    this.error = new KeyturnError(code, text);
    this.headers = headers;
  }
}

/** What is answered to whatever was thrown. */
export interface Refused {
  readonly problem: Problem;
  readonly headers: Readonly<Record<string, string>>;
  /** A fault of this program, for its operator. */
  readonly fault?: unknown;
}

/** @param requestId the caller's own */
export function refusedBy(thrown: unknown, requestId?: string): Refused {
  if (thrown instanceof Refusal) {
    return { problem: problemOf(thrown.error, thrown.status, requestId), headers: thrown.headers };
  }
  if (thrown instanceof KeyturnError) {
    const status = statuses[thrown.code];
    const headers: Record<string, string> = {};
    if (thrown.retryable && (status === 503 || status === 507)) headers["retry-after"] = String(RETRY_S);
    return { problem: problemOf(thrown, status, requestId), headers };
  }
  const error = new KeyturnError("store_failed", "This server has failed in a way that it does not know.");
  return { problem: problemOf(error, 500, requestId), headers: {}, fault: thrown };
}

function problemOf(error: KeyturnError, status: number, requestId: string | undefined): Problem {
  const { code, message, retryable, outcome } = error;
  return {
    type: `urn:keyturn:error:${code}`,
    title: code.replaceAll("_", " "),
    status,
    detail: message,
    code,
    retryable,
    outcome,
    ...(requestId === undefined ? {} : { requestId }),
  };
}
