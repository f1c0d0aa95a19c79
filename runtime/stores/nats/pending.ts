/**
 * Requests that wait for answers.
 *
 * Owns their time-outs, with one timer for all: the client library takes one for each. Talks to whoever waits.
 *
 * Invariant: every request is settled once: by its last answer, by `fail`, or at its time-out.
 */
import type { KeyturnError } from "../../words/errors.ts";
import type { Msg } from "@nats-io/transport-node";
import { lost } from "./faults.ts";

/** How often time-outs are looked at. */
const LOOK_MS = 50;

interface Pending {
  readonly subject: string;
  readonly until_ms: number;
  /** Takes one answer; returns true if it was the last. */
  readonly onMessage: (message: Msg) => boolean;
  readonly onFailure: (error: KeyturnError) => void;
}

export class PendingRequests {
  readonly #pending = new Map<string, Pending>();
  #count = 0;
  #timer: NodeJS.Timeout | undefined;
  #onSettled: (() => void) | undefined;

  get size(): number {
    return this.#pending.size;
  }

  /** Returns the token by which its answers are known. */
  add(
    subject: string,
    timeout_ms: number,
    onMessage: Pending["onMessage"],
    onFailure: Pending["onFailure"],
  ): string {
    const token = (++this.#count).toString(36);
    this.#pending.set(token, { subject, until_ms: performance.now() + timeout_ms, onMessage, onFailure });
    this.#timer ??= setTimeout(() => this.#look(), LOOK_MS);
    return token;
  }

  /** Answers to what has been settled are passed over. */
  answer(token: string, message: Msg): void {
    const pending = this.#pending.get(token);
    if (pending?.onMessage(message) === true) this.#forget(token);
  }

  fail(token: string, error: KeyturnError): void {
    const pending = this.#pending.get(token);
    this.#forget(token);
    pending?.onFailure(error);
  }

  /** Settles those to some subjects. True if there were any. */
  failAll(errorOf: (subject: string) => KeyturnError, only?: string): boolean {
    const tokens = [...this.#pending].filter(([, { subject }]) => only === undefined || subject === only);
    for (const [token, { subject }] of tokens) this.fail(token, errorOf(subject));
    return tokens.length > 0;
  }

  /** Resolves when nothing waits. */
  async settled(): Promise<void> {
    while (this.#pending.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onSettled = resolve;
      });
    }
  }

  #forget(token: string): void {
    this.#pending.delete(token);
    if (this.#pending.size === 0) this.#onSettled?.();
  }

  #look(): void {
    this.#timer = undefined;
    const now = performance.now();
    for (const [token, { subject, until_ms }] of [...this.#pending])
      if (until_ms <= now) this.fail(token, lost(subject, "no answer in time"));
    if (this.#pending.size > 0) this.#timer ??= setTimeout(() => this.#look(), LOOK_MS);
  }
}
