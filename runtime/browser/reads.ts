/**
 * Questions that change nothing: repeated until they are answered, or their time is over.
 *
 * Owns those repetitions. Talks to http.ts.
 */
import { KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import { Failure, type Http } from "./http.ts";
import { pause, pauseAfter } from "./pause.ts";

/** How long a read may take, and what ends it. */
export interface ReadOptions {
  readonly timeout_ms?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export const DEFAULT_TIMEOUT_MS = 10_000;
const FIRST_PAUSE_MS = 150;
const LAST_PAUSE_MS = 3_000;

/** @throws KeyturnError `invalid_options` */
export function checkTimeout(timeout_ms: unknown): void {
  if (typeof timeout_ms === "number" && timeout_ms >= 1 && timeout_ms <= limits.deadline_ms) return;
  const text = `A time-out is between 1 and ${limits.deadline_ms} ms, not ${String(timeout_ms)}.`;
  throw new KeyturnError("invalid_options", text);
}

export class Reads {
  readonly #http: Http;
  readonly #open = new Set<AbortController>();
  #isClosed = false;

  constructor(http: Http) {
    this.#http = http;
  }

  /** The JSON of an answer. @throws KeyturnError, or the signal's reason */
  async get(path: string, { timeout_ms = DEFAULT_TIMEOUT_MS, signal }: ReadOptions): Promise<unknown> {
    checkTimeout(timeout_ms);
    if (this.#isClosed) throw ended();
    let last: KeyturnError | undefined;
    const stop = new AbortController();
    const abort = (): void => stop.abort(signal?.reason);
    const late = setTimeout(() => {
      const text = `There was no answer within ${timeout_ms} ms.`;
      stop.abort(last ?? new KeyturnError("timeout", text));
    }, timeout_ms);
    signal?.addEventListener("abort", abort);
    if (signal?.aborted === true) abort();
    this.#open.add(stop);
    try {
      for (let tries = 1; ; tries++) {
        stop.signal.throwIfAborted();
        try {
          return await this.#http.json({ method: "GET", path }, stop.signal);
        } catch (thrown) {
          if (!(thrown instanceof Failure)) throw thrown;
          const { error, after_ms } = thrown;
          if (!error.retryable) throw error;
          last = error;
          await pause(Math.max(pauseAfter(tries, FIRST_PAUSE_MS, LAST_PAUSE_MS), after_ms ?? 0), stop.signal);
        }
      }
    } finally {
      clearTimeout(late);
      signal?.removeEventListener("abort", abort);
      this.#open.delete(stop);
    }
  }

  close(): void {
    this.#isClosed = true;
    for (const stop of this.#open) stop.abort(ended());
  }
}

function ended(): KeyturnError {
  return new KeyturnError("client_closed", "The client is closed.");
}
