/**
 * One request to the server: with the token, within its time, and whatever goes wrong as a KeyturnError.
 *
 * Owns where the server is, and the token. Talks to `fetch`. Whether something is tried again is for its callers.
 *
 * Invariants:
 * 1. What is thrown is a `Failure`, or the reason of the caller's signal.
 * 2. An outcome is never a guess: a request that may have arrived and was not answered is unknown.
 */
import { isErrorCode, KeyturnError, type Outcome, textOf } from "../words/errors.ts";

/** A bearer token, or what gives one for each request; `undefined` for none. `again` is true if the last was refused. */
export type TokenSource =
  | string
  | ((why: { readonly again: boolean }) => string | undefined | Promise<string | undefined>);

/** Something that did not go through. */
export class Failure extends Error {
  readonly error: KeyturnError;
  /** How long the server wants to be left alone. */
  readonly after_ms: number | undefined;

  constructor(error: KeyturnError, after_ms?: number) {
    super(error.message, { cause: error });
    this.error = error;
    this.after_ms = after_ms;
  }
}

/** What is asked. */
export interface Asked {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
}

const LATER_MAX_MS = 60_000;

/** Asks one server. */
export class Http {
  readonly #base: string;
  readonly #token: TokenSource | undefined;
  readonly #fetch: typeof fetch;

  /** @throws KeyturnError `invalid_options` */
  constructor(url: string | undefined, token: TokenSource | undefined, fetcher: typeof fetch | undefined) {
    this.#base = baseOf(url);
    this.#token = token;
    // A browser's own refuses to be called as somebody else's method.
    this.#fetch = fetcher ?? ((input, init) => fetch(input, init));
  }

  /** The JSON of an answer; undefined if there is none. @throws Failure */
  async json(asked: Asked, signal: AbortSignal): Promise<unknown> {
    const response = await this.open(asked, signal);
    if (response.status === 204) {
      await response.body?.cancel();
      return undefined;
    }
    let text: string;
    try {
      text = await response.text();
    } catch (cause) {
      throw unreachable(cause, signal);
    }
    if (!isJson(response)) throw new Failure(notOurs(response));
    try {
      return JSON.parse(text) as unknown;
    } catch (cause) {
      // Cut off within its body.
      throw unreachable(cause, signal);
    }
  }

  /** An answer whose head has come and says that it is one. @throws Failure */
  async open(asked: Asked, signal: AbortSignal): Promise<Response> {
    const response = await this.#once(asked, signal, false);
    if (response.status !== 401 || typeof this.#token !== "function") return await checked(response, signal);
    await response.body?.cancel();
    return await checked(await this.#once(asked, signal, true), signal);
  }

  async #once(
    { method, path, headers, body }: Asked,
    signal: AbortSignal,
    again: boolean,
  ): Promise<Response> {
    let token: string | undefined;
    try {
      const source = this.#token;
      token = typeof source === "function" ? await abortable(source({ again }), signal) : source;
    } catch (cause) {
      throwIfAborted(signal);
      const text = `The token cannot be had: ${textOf(cause)}`;
      throw new Failure(new KeyturnError("overloaded", text, { cause }));
    }
    try {
      return await this.#fetch(this.#base + path, {
        method,
        signal,
        // Not in the types of Node's own fetch, which takes it too.
        ...({ cache: "no-store" } as RequestInit),
        headers: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (cause) {
      throw unreachable(cause, signal);
    }
  }
}

/** @throws KeyturnError `invalid_options` */
function baseOf(url: string | undefined): string {
  const page = (globalThis as { readonly location?: { readonly href: string } }).location?.href;
  try {
    const { protocol, origin, pathname } = new URL(url ?? "/", page);
    if (protocol === "http:" || protocol === "https:") return origin + pathname.replace(/\/+$/, "");
  } catch {
    // It is said below.
  }
  throw new KeyturnError(
    "invalid_options",
    url === undefined
      ? 'Say where the server is: createClient({ url: "https://actors.example" }). Only a page knows it by itself.'
      : `"${url}" is no address of a server. Outside of a page it is a whole one: "https://actors.example".`,
  );
}

/** @throws Failure */
async function checked(response: Response, signal: AbortSignal): Promise<Response> {
  if (response.ok) return response;
  const after_ms = laterIn(response.headers.get("retry-after"));
  if (!isJson(response)) {
    await response.body?.cancel();
    throw new Failure(notOurs(response), after_ms);
  }
  let problem: unknown;
  try {
    problem = await response.json();
  } catch (cause) {
    throw unreachable(cause, signal);
  }
  throw new Failure(errorOf(problem) ?? notOurs(response), after_ms);
}

/** The error that a problem document stands for; undefined if it is none. */
export function errorOf(problem: unknown, requestId?: string): KeyturnError | undefined {
  const { code, detail, title, retryable, outcome } = (problem ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof code !== "string" || typeof retryable !== "boolean") return undefined;
  const text = typeof detail === "string" ? detail : String(title ?? code);
  const options = requestId === undefined ? {} : { requestId };
  if (isErrorCode(code)) return new KeyturnError(code, text, options);
  // Of a server that is newer than this client: what it says of the code is believed.
  const error = new KeyturnError("store_failed", text, options);
  return Object.assign(error, { code, retryable, outcome: outcome as Outcome });
}

/** Something between, or no Keyturn at all, has answered. */
function notOurs({ status, url }: Response): KeyturnError {
  const text = `${url === "" ? "The server" : url} answers ${status}, and not as Keyturn does.`;
  if (status === 401 || status === 403) return new KeyturnError("access_denied", text);
  if (status === 413) return new KeyturnError("event_too_large", text);
  if (status === 429) return new KeyturnError("overloaded", text);
  // A proxy in front of a server that is away, or was lost in between.
  if (status >= 500 || status === 408) return new KeyturnError("unreachable", text);
  return new KeyturnError("server_unsuitable", `${text} Is the url that of an HTTP server of Keyturn?`);
}

function isJson({ headers }: Response): boolean {
  return /^application\/([a-z0-9.-]+\+)?json\b/i.test(headers.get("content-type") ?? "");
}

/** @throws the signal's reason, if it was that */
function unreachable(cause: unknown, signal: AbortSignal): Failure {
  throwIfAborted(signal);
  return new Failure(
    new KeyturnError("unreachable", `The server does not answer: ${textOf(cause)}`, { cause }),
  );
}

function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw signal.reason;
}

function laterIn(header: string | null): number | undefined {
  if (header === null) return undefined;
  const ms = /^\d+$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), LATER_MAX_MS);
}

function abortable<T>(value: T | Promise<T>, signal: AbortSignal): T | Promise<T> {
  if (!(value instanceof Promise)) return value;
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    value.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}
