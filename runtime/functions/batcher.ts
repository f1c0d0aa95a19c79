/**
 * The batcher: collects invocations of one function and posts them together.
 *
 * One a function and process. Owns what waits to be posted and what is on its way; nothing of it has to survive, since
 * every invocation stands in its key's state and is begun again by whoever takes that over. Talks to the server by
 * Node's own `fetch`.
 *
 * Invariants:
 * 1. At most `concurrency` posts are on their way, each with at most `atMost` invocations and `BATCH_BYTES`; at most
 *    `WAITING_MAX` wait, and more are refused as `overloaded`.
 * 2. Every invocation is settled: with its own result, or by a rejection, upon which the engine tries it again.
 */
import { KeyturnError, textOf } from "../words/errors.ts";
import type { Outcome } from "./invocation.ts";
import { BODY_BYTES, failed, requestOf, resultsIn, type WireResult } from "./wire.ts";

export interface BatcherOptions {
  readonly name: string;
  readonly url: string;
  readonly headers: () => Readonly<Record<string, string>>;
  readonly atMost: number;
  readonly wait_ms: number;
  readonly concurrency: number;
  readonly timeout_ms: number;
}

/** What became of an invocation: its result, or that it is refused without one. */
export type Posted = WireResult | { readonly refused: Outcome };

interface Entry {
  readonly id: string;
  readonly type: string;
  readonly text: string;
  readonly signal: AbortSignal;
  readonly resolve: (posted: Posted) => void;
  readonly reject: (error: unknown) => void;
}

const WAITING_MAX = 10_000;
const BATCH_BYTES = 8 * 1024 * 1024;
/** No server makes us wait longer than this before it is tried again. */
const PAUSE_MAX_MS = 60_000;
const AGAIN: ReadonlySet<number> = new Set([408, 425, 429]);

export class Batcher {
  readonly #options: BatcherOptions;
  #waiting: Entry[] = [];
  #posting = 0;
  #timer: NodeJS.Timeout | undefined;
  /** Until then the server wants to be left alone; of `performance.now()`. */
  #paused_until = 0;

  constructor(options: BatcherOptions) {
    this.#options = options;
  }

  /** Rejects with `function_unreachable` or `overloaded`: then it is to be tried again. */
  invoke(id: string, type: string, text: string, signal: AbortSignal): Promise<Posted> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.length >= WAITING_MAX) this.#dropCalledOff();
      if (this.#waiting.length >= WAITING_MAX) {
        const text = `${WAITING_MAX} invocations of "${this.#options.name}" wait for their server.`;
        reject(new KeyturnError("overloaded", text));
        return;
      }
      this.#waiting.push({ id, type, text, signal, resolve, reject });
      this.#arrange();
    });
  }

  #arrange(): void {
    const { atMost, wait_ms, concurrency } = this.#options;
    if (this.#waiting.length === 0 || this.#posting >= concurrency) return;
    const pause_ms = this.#paused_until - performance.now();
    if (pause_ms <= 0 && this.#waiting.length >= atMost) {
      this.#post();
      return;
    }
    this.#timer ??= setTimeout(
      () => {
        this.#timer = undefined;
        if (this.#paused_until > performance.now()) this.#arrange();
        else this.#post();
      },
      Math.max(wait_ms, pause_ms),
    );
  }

  #post(): void {
    const { atMost, concurrency } = this.#options;
    if (this.#posting >= concurrency) return;
    this.#dropCalledOff();
    const first = this.#waiting[0];
    if (first === undefined) return;
    let bytes = 0;
    const batch: Entry[] = [];
    const left: Entry[] = [];
    for (const entry of this.#waiting) {
      bytes += entry.text.length;
      // One group a batch: the addresses within are of its type.
      const fits = batch.length < atMost && (batch.length === 0 || bytes <= BATCH_BYTES);
      (fits && entry.type === first.type ? batch : left).push(entry);
    }
    this.#waiting = left;
    this.#posting++;
    void this.#send(first.type, batch).finally(() => {
      this.#posting--;
      this.#arrange();
    });
    this.#arrange();
  }

  #dropCalledOff(): void {
    this.#waiting = this.#waiting.filter(({ signal, reject }) => {
      if (signal.aborted) reject(this.#unreachable("it was called off before it was sent"));
      return !signal.aborted;
    });
  }

  /** Settles all of a batch; never rejects. */
  async #send(type: string, batch: readonly Entry[]): Promise<void> {
    const { name } = this.#options;
    try {
      const answer = await this.#fetch(
        requestOf(
          name,
          type,
          batch.map(({ text }) => text),
        ),
      );
      for (const entry of batch) {
        const posted = answer instanceof Map ? answer.get(entry.id) : { refused: answer as Outcome };
        if (posted !== undefined) entry.resolve(posted);
        else entry.reject(this.#unreachable("its answer leaves this invocation out"));
      }
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  /** The results by id, or that all are refused. Throws if it is to be tried again. */
  async #fetch(body: string): Promise<ReadonlyMap<string, WireResult> | Outcome> {
    const { name, url, headers, timeout_ms } = this.#options;
    let response: Response;
    let text: string;
    try {
      response = await fetch(url, {
        method: "POST",
        headers: { ...headers(), "content-type": "application/json", accept: "application/json" },
        body,
        // A redirect is refused as what it is: it would be the same again.
        redirect: "manual",
        signal: AbortSignal.timeout(timeout_ms),
      });
      text = await bodyOf(response);
    } catch (error) {
      const { cause } = error as { readonly cause?: { readonly code?: unknown } };
      const why =
        (error as Error).name === "TimeoutError" ? `no answer within ${timeout_ms} ms` : textOf(error);
      throw this.#unreachable(cause?.code === undefined ? why : `${why} (${String(cause.code)})`);
    }
    const { status } = response;
    if (status >= 500 || AGAIN.has(status)) {
      this.#pause(response.headers.get("retry-after"));
      throw this.#unreachable(`status ${status} ${text.slice(0, 200)}`);
    }
    if (status !== 200)
      return failed(`"${name}" was refused by ${url}: status ${status} ${text.slice(0, 500)}`);
    try {
      return resultsIn(text);
    } catch (error) {
      throw this.#unreachable(
        `it answered something else than results (${textOf(error)}): ${text.slice(0, 200)}`,
      );
    }
  }

  #pause(retryAfter: string | null): void {
    if (retryAfter === null) return;
    // Seconds, or a date.
    const seconds = /^\d+$/.test(retryAfter)
      ? Number(retryAfter) * 1_000
      : Date.parse(retryAfter) - Date.now();
    if (seconds > 0) this.#paused_until = performance.now() + Math.min(seconds, PAUSE_MAX_MS);
  }

  #unreachable(why: string): KeyturnError {
    const { name, url } = this.#options;
    return new KeyturnError("function_unreachable", `"${name}" at ${url} did not do its work: ${why}.`);
  }
}

/** The body of an answer, up to a bound. */
async function bodyOf({ body }: Response): Promise<string> {
  if (body === null) return "";
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of body as unknown as AsyncIterable<Uint8Array>) {
    bytes += part.byteLength;
    if (bytes > BODY_BYTES) throw new Error(`its answer takes more than ${BODY_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}
