/**
 * An HTTP endpoint as a sink's target: batches of events, each at least once.
 *
 * Owns nothing between two batches. A batch is one request, its body NDJSON or a JSON array of `{ id, from, at, event }`.
 * It comes again, with the same `Idempotency-Key`, until it was answered with 2xx: so a receiver that remembers keys, or
 * ids, applies it once. 408, 425, 429 and 5xx are tried again (`Retry-After` is honoured), any other answer is a refusal.
 */
import { type Duration, durationOf } from "../../words/duration.ts";
import { KeyturnError } from "../../words/errors.ts";
import {
  lineOf,
  type Published,
  type PublishArgs,
  type SinkBatch,
  type SinkItem,
  SinkRefusal,
  type SinkTarget,
} from "./target.ts";

export interface HttpSinkOptions {
  readonly url: string | URL;
  /** "POST" by default. */
  readonly method?: "POST" | "PUT" | "PATCH";
  /** Sent with each request, or asked for before it: for tokens that expire. */
  readonly headers?:
    | Readonly<Record<string, string>>
    | (() => Readonly<Record<string, string>> | Promise<Readonly<Record<string, string>>>);
  /** "ndjson" by default, "json" for an array, or a function that makes the body. */
  readonly body?: "ndjson" | "json" | ((items: readonly SinkItem[]) => string | Uint8Array);
  readonly contentType?: string;
  /** How long an answer may take; "30 s" by default. */
  readonly timeout?: Duration;
}

const AGAIN: ReadonlySet<number> = new Set([408, 425, 429]);
/** Of an answer's body, what is shown. */
const SHOWN = 200;

/**
 * Publishes to an HTTP endpoint, at least once.
 * @throws KeyturnError `invalid_options`
 */
export function toHttp(options: HttpSinkOptions): SinkTarget {
  const text = String(options?.url);
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol))
    throw new KeyturnError("invalid_options", 'toHttp takes { url: "https://…" }.');
  if (url.username !== "" || url.password !== "")
    throw new KeyturnError("invalid_options", "The url of toHttp holds no user and password: give a header.");
  const timeout_ms = Math.max(1, durationOf(options.timeout ?? "30 s", "The time-out of toHttp"));
  return Object.freeze({
    // A query may hold a secret.
    description: `${options.method ?? "POST"} ${url.origin}${url.pathname}`,
    publish: (batch: SinkBatch, args: PublishArgs) => post(url, options, timeout_ms, batch, args),
  });
}

async function post(
  url: URL,
  options: HttpSinkOptions,
  timeout_ms: number,
  { items }: SinkBatch,
  { idempotencyKey, signal, attempt }: PublishArgs,
): Promise<Published> {
  const { body = "ndjson", method = "POST" } = options;
  const given = typeof options.headers === "function" ? await options.headers() : (options.headers ?? {});
  const type = options.contentType ?? (body === "ndjson" ? "application/x-ndjson" : "application/json");
  const response = await fetch(url, {
    method,
    headers: {
      "content-type": type,
      "idempotency-key": idempotencyKey,
      "keyturn-attempt": String(attempt),
      ...given,
    },
    body: bodyOf(body, items),
    redirect: "manual",
    signal: AbortSignal.any([signal, AbortSignal.timeout(timeout_ms)]),
  }).catch((cause: unknown) => {
    throw new Error(`no answer: ${reasonOf(cause)}`, { cause });
  });
  const answer = await response.text().catch(() => "");
  const { status } = response;
  if (response.ok) return {};
  const what = `it answered ${status}${answer === "" ? "" : `: ${answer.slice(0, SHOWN)}`}`;
  if (status < 500 && !AGAIN.has(status)) throw new SinkRefusal(what);
  const retryAfter_ms = pauseOf(response.headers.get("retry-after"));
  throw Object.assign(new Error(what), retryAfter_ms === undefined ? {} : { retryAfter_ms });
}

function bodyOf(body: NonNullable<HttpSinkOptions["body"]>, items: readonly SinkItem[]): string | Uint8Array {
  if (typeof body === "function") return body(items);
  const lines = items.map(lineOf);
  return body === "json" ? `[${lines.join(",")}]` : `${lines.join("\n")}\n`;
}

/** What fetch failed of; it says so in the cause only. */
function reasonOf(error: unknown): string {
  const { cause, message } = error as { cause?: { code?: string; message?: string }; message?: string };
  return cause?.code ?? cause?.message ?? message ?? String(error);
}

/** Seconds, or a date. */
function pauseOf(value: string | null): number | undefined {
  if (value === null) return undefined;
  const seconds = Number(value);
  if (Number.isFinite(seconds) && seconds >= 0) return seconds * 1_000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now());
}
