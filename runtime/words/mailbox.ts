/**
 * The form in which an actor's mailbox is told to those who show it. JSON, so other programs may read it; types only.
 */

/**
 * What an invoked or spawned actor is made of. `pure` is a logic without a `start`, as `fromTransition` makes; `events` is
 * `fromEventObservable`; `custom` is a logic of the user's own with a `start`.
 */
export type LogicKind =
  | "machine"
  | "pure"
  | "ask"
  | "promise"
  | "callback"
  | "observable"
  | "events"
  | "custom";

/** A message that has no committed turn yet. */
export interface WaitingMessage {
  /** The event's type; of what brings none, what it asks for: "(create)", "(delete)", "(cancel timer)", "(fork)", "(due)". */
  readonly event: string;
  readonly from: "client" | "actor" | "timer" | "work";
  /**
   * `committing`: it was stepped, and its record is on its way; `deferred`: there is no room for what it tells, or its
   * actor cannot be read just now, and it is tried again; `loading`: until the actor is read; `queued`: for its turn.
   */
  readonly phase: "committing" | "deferred" | "loading" | "queued";
  /** Since when, milliseconds since the epoch, about. */
  readonly since: number;
}

/** Something that the actor's machine has invoked or spawned, works outside, and is not done. */
export interface Invocation {
  /** The child's path. */
  readonly path: string;
  /** The name of its logic. */
  readonly src: string;
  readonly kind: LogicKind;
  /** `asked`: another actor is to answer; `queued`: others of its type run first; `retrying`: it failed, until `due`. */
  readonly phase: "running" | "queued" | "retrying" | "asked";
  /** When it began, milliseconds since the epoch; left out for a question. */
  readonly since?: number;
  /** Counts from 1. */
  readonly attempt?: number;
  /** When it is tried again, or when it is too late for the answer. */
  readonly due?: number;
  /** Address of the actor that is asked. */
  readonly to?: string;
}

/** What waits for an actor at one moment. */
export interface MailboxState {
  /** Messages that wait. */
  readonly depth: number;
  /** Since when the first of them does, milliseconds since the epoch. */
  readonly oldest?: number;
  /** The first `limits.mailboxShown` of them. */
  readonly waiting: readonly WaitingMessage[];
  /** Whether the actor is in memory; what an actor that is not has asked others is not known here. */
  readonly memory: "absent" | "loading" | "loaded" | "failed";
  /** Why it could not be loaded. */
  readonly failure?: { readonly code: string; readonly reason: string };
  /** At most `limits.mailboxShown`. */
  readonly invocations: readonly Invocation[];
}
