/**
 * Every error that leaves the runtime: one closed union of codes.
 *
 * Owns the codes, and for each what a caller may conclude from it. Talks to nobody.
 *
 * Invariants:
 * 1. `outcome` is never a guess: `rejected` and `notApplied` mean that the message changed nothing and never will,
 *    `applied` that it is committed, `unknown` that it may be either, now or later.
 * 2. `retryable` means that the same call may succeed later without the caller changing it.
 * 3. Nobody parses a text. The text says what to do.
 */

/** What became of the message that an error is about. */
export type Outcome = "applied" | "rejected" | "notApplied" | "unknown";

interface Meaning {
  readonly retryable: boolean;
  readonly outcome: Outcome;
}

const no = (outcome: Outcome): Meaning => ({ retryable: false, outcome });
const again = (outcome: Outcome): Meaning => ({ retryable: true, outcome });

/** Every code with its meaning. A code's meaning never changes; a new case gets a new code. */
export const meanings = {
  // The caller's input.
  invalid_address: no("rejected"),
  invalid_event: no("rejected"),
  invalid_input: no("rejected"),
  already_exists: no("rejected"),
  reserved_event: no("rejected"),
  // The id is that of another request, which was applied; this one was not.
  request_id_reused: no("rejected"),
  event_too_large: no("rejected"),
  unknown_type: no("rejected"),
  invalid_options: no("rejected"),
  unsupported_machine: no("rejected"),
  // A key-value store: the entry has changed, what it holds cannot be computed with, a pinned snapshot is too old.
  version_conflict: no("rejected"),
  invalid_operand: no("rejected"),
  snapshot_expired: no("rejected"),
  // The user's machine: the turn is undone, the actor stays as it was.
  machine_failed: no("rejected"),
  machine_looped: no("rejected"),
  context_mutated: no("rejected"),
  context_invalid: no("rejected"),
  state_too_large: no("rejected"),
  reply_invalid: no("rejected"),
  output_invalid: no("rejected"),
  tell_invalid: no("rejected"),
  route_failed: no("rejected"),
  sink_refused: no("rejected"),
  timers_full: no("rejected"),
  // A function of the user's: the states stay as they were.
  function_failed: no("rejected"),
  function_timed_out: no("rejected"),
  function_unreachable: no("rejected"),
  // Load and placement: try again.
  mailbox_full: again("notApplied"),
  overloaded: again("notApplied"),
  outbox_full: again("notApplied"),
  sink_full: again("notApplied"),
  superseded: again("notApplied"),
  timeout: again("unknown"),
  client_closed: no("unknown"),
  client_ended: no("notApplied"),
  request_forgotten: no("unknown"),
  // The store and what lies in it.
  store_locked: no("notApplied"),
  store_full: again("notApplied"),
  store_failed: again("unknown"),
  // The server that a store or client reaches over the network.
  unreachable: again("unknown"),
  access_denied: no("notApplied"),
  server_unsuitable: no("notApplied"),
  not_provisioned: no("notApplied"),
  app_mismatch: no("rejected"),
  corrupt_record: no("notApplied"),
  corrupt_snapshot: no("notApplied"),
  newer_format: no("notApplied"),
  incompatible_snapshot: no("notApplied"),
  newer_version: no("notApplied"),
  migration_failed: no("notApplied"),
  history_trimmed: no("rejected"),
  // The turn is committed, but what it answers does not fit into a frame.
  answer_too_large: no("applied"),
  // Sources of events: files, streams, producers.
  source_failed: again("notApplied"),
  source_changed: no("notApplied"),
  source_malformed: no("rejected"),
  // A frame or value from outside that could not be decoded.
  invalid_frame: no("rejected"),
} as const satisfies Record<string, Meaning>;

/** Texts travel in frames and are kept in records; what a machine throws may be of any length. */
const TEXT_MAX = 4_096;

export type ErrorCode = keyof typeof meanings;

/** The one error class of the runtime. Tell cases apart by `code`, decide by `retryable` and `outcome`. */
export class KeyturnError extends Error {
  override readonly name = "KeyturnError";
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly outcome: Outcome;
  /** Set when the outcome is unknown: ask or send again with this id to learn it. */
  readonly requestId: string | undefined;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; requestId?: string } = {}) {
    super(
      message.length > TEXT_MAX ? `${message.slice(0, TEXT_MAX)}…` : message,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.code = code;
    this.retryable = meanings[code].retryable;
    this.outcome = meanings[code].outcome;
    this.requestId = options.requestId;
  }

  toJSON(): { code: ErrorCode; message: string; retryable: boolean; outcome: Outcome; requestId?: string } {
    return {
      code: this.code,
      message: this.message,
      retryable: this.retryable,
      outcome: this.outcome,
      ...(this.requestId === undefined ? {} : { requestId: this.requestId }),
    };
  }
}

/** Whether a value is one of the runtime's errors, optionally of one code. */
export function isKeyturnError(value: unknown, code?: ErrorCode): value is KeyturnError {
  return value instanceof KeyturnError && (code === undefined || value.code === code);
}

export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === "string" && Object.hasOwn(meanings, code);
}

/** A broken invariant: a bug in the runtime, or storage that lied. It stops the shard; nobody handles it. */
export function invariant(holds: boolean, text: string): asserts holds {
  if (!holds) throw new Error(`Broken invariant: ${text}`);
}

/** The message of whatever was thrown. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
