/**
 * What the server may be told, with the defaults and the checks.
 *
 * Owns the bounds of the HTTP side; those of events, states and pages are the runtime's own (words/limits.ts).
 */
import type { FastifyInstance } from "fastify";
import type { JSONWebKeySet, JWTPayload } from "jose";
import type { AnyActorDefinition } from "../engine/definition.ts";
import { KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import type { HttpContext } from "./context.ts";

/** What somebody wants to do. */
export type Action =
  | "ask"
  | "send"
  | "create"
  | "get"
  | "watch"
  | "history"
  | "timers"
  | "cancelTimer"
  | "mailbox"
  | "fork"
  | "whatIf"
  | "delete"
  | "find"
  | "count"
  | "events"
  | "types"
  | "cluster"
  | "deadLetters"
  | "retryDeadLetter"
  | "dropDeadLetter"
  | "health"
  | "openapi";

/** Who wants to do what to whom. */
export interface Wish {
  /** `sub` of the token; undefined without one. */
  readonly subject: string | undefined;
  readonly claims: JWTPayload;
  readonly action: Action;
  /** Of the actor or actors; `source-<name>` for dead letters of a source; undefined for what concerns the server. */
  readonly type: string | undefined;
  /** The partition, for one dead letter of a source. Undefined for what concerns a whole type. */
  readonly key: string | undefined;
  /** Of an ask, a send or a dead letter's retry; the input of a create; the body of a fork or a what-if. Not checked yet, not frozen: do not keep it. */
  readonly event: unknown;
}

export interface AuthOptions {
  /** Where the issuer publishes its keys, or the keys themselves. */
  readonly jwks?: string | URL | JSONWebKeySet | undefined;
  /** A shared secret instead, of 32 bytes or more: HS256, HS384, HS512. */
  readonly secret?: string | Uint8Array | undefined;
  /** What `iss` and `aud` of every token must be, or be among. */
  readonly issuer?: string | readonly string[] | undefined;
  readonly audience?: string | readonly string[] | undefined;
  /** Algorithms that are accepted; those that fit the keys by default, never `none`. */
  readonly algorithms?: readonly string[] | undefined;
  /** How far clocks may differ, seconds; 5 by default. */
  readonly clockTolerance_s?: number | undefined;
}

export interface CorsOptions {
  /** Origins of pages that may use this server, such as "https://shop.example", or "*". */
  readonly origins: "*" | readonly string[];
}

/** A token bucket for each caller: by subject, or else by address. */
export interface RateLimit {
  readonly perSecond: number;
  /** What a caller who was silent may do at once; `perSecond` by default. */
  readonly burst?: number | undefined;
}

/** Bounds of the server. */
export interface HttpLimits {
  /** A request's body, bytes. */
  readonly bodyBytes: number;
  /** A batch's body, and how many requests are in it. */
  readonly batchBytes: number;
  readonly batchRequests: number;
  /** What the answers of one batch may take together, and a page of dead letters: bytes. */
  readonly answerBytes: number;
  /** Requests that wait for their answers, over all callers; and the bytes of their bodies. */
  readonly inFlight: number;
  readonly inFlightBytes: number;
  readonly connections: number;
  /** Open streams of events, in all and of one caller. */
  readonly streams: number;
  readonly streamsPerCaller: number;
  /** Of them, streams of a whole type (`/events`), which hold a question at each shard, and for a moment longer. */
  readonly typeStreams: number;
  /** Actors that one stream of `/watch` tells of, and those of all such streams together. */
  readonly watchedPerStream: number;
  readonly watched: number;
  /** A stream whose reader takes nothing for so long is cut off, milliseconds. */
  readonly slowReader_ms: number;
  /** A silent stream says so that often that it lives. */
  readonly heartbeat_ms: number;
  /** How long a request's head, and all of it, may take to come in. */
  readonly head_ms: number;
  readonly request_ms: number;
  /** How long an answer is waited for, if the caller does not say; and at most. */
  readonly timeout_ms: number;
  readonly timeoutMax_ms: number;
  /** How long `close` waits for requests in flight. */
  readonly grace_ms: number;
  /** Actors or turns on one page. */
  readonly page: number;
  /** Events of one what-if, and delays that fall due in it. */
  readonly whatIfSteps: number;
  /** None by default. */
  readonly rate: RateLimit | undefined;
}

const KiB = 1024;

/** What a server allows unless it is told otherwise. */
export const httpDefaults: HttpLimits = {
  bodyBytes: 2 * limits.eventBytes,
  batchBytes: 4 * KiB * KiB,
  batchRequests: 1_000,
  answerBytes: 16 * KiB * KiB,
  inFlight: 2_048,
  inFlightBytes: 256 * KiB * KiB,
  connections: 20_000,
  streams: 10_000,
  streamsPerCaller: 1_000,
  typeStreams: 512,
  watchedPerStream: 1_000,
  watched: 50_000,
  slowReader_ms: 30_000,
  heartbeat_ms: 15_000,
  head_ms: 10_000,
  request_ms: 30_000,
  timeout_ms: 10_000,
  timeoutMax_ms: 60_000,
  grace_ms: 5_000,
  page: 1_000,
  whatIfSteps: 256,
  rate: undefined,
};

export interface HttpOptions {
  /** `host:port`; port 0 is any that is free. "127.0.0.1:8080" by default. */
  readonly listen?: string | undefined;
  /** PEM texts: serves HTTPS. */
  readonly tls?: { readonly key: string | Buffer; readonly cert: string | Buffer } | undefined;
  /** Who may come in: every request but `/livez` and `/readyz` needs a token. Anybody, without it. */
  readonly auth?: AuthOptions | undefined;
  /**
   * What those who are in may do. Whoever it does not answer true to is refused; so is everybody if it throws. Asked
   * about a whole type (`find`, `timers`, `events` without a key) it may answer "each": then it is asked the same for
   * each actor, by its key, and those that it does not answer true to are left out.
   */
  readonly authorize?: ((wish: Wish) => boolean | "each" | Promise<boolean | "each">) | undefined;
  readonly cors?: CorsOptions | undefined;
  readonly limits?: Partial<HttpLimits> | undefined;
  /**
   * Names by which the server is called, with or without a port. On a loopback address without tokens only the
   * loopback's own by default, so that no web page reaches it under a name of its own; otherwise any.
   */
  readonly hosts?: readonly string[] | undefined;
  /** Believe what a proxy says of the caller's address: true, or the proxies' addresses. */
  readonly trustProxy?: boolean | readonly string[] | undefined;
  /**
   * Whether the dashboard is served, at `/dashboard/`, with `/` leading there; true by default. Its files need no token,
   * what it shows does.
   */
  readonly dashboard?: boolean | undefined;
  /** For the OpenAPI document, if it is a client that is served; a node knows its own. */
  readonly actors?: readonly AnyActorDefinition[] | undefined;
  /** How this process is, if it is a client that is served. */
  readonly health?: (() => { readonly live: boolean; readonly ready: boolean }) | undefined;
  /** Further routes of your own, behind the same checks. See HttpContext. */
  readonly routes?: ((app: FastifyInstance, context: HttpContext) => void | Promise<void>) | undefined;
  /** Hears of faults that callers are not told about. */
  readonly onFault?: ((fault: unknown) => void) | undefined;
}

export interface ListenAt {
  readonly host: string;
  readonly port: number;
}

/** @throws KeyturnError `invalid_options` */
export function listenAt(text = "127.0.0.1:8080"): ListenAt {
  const [, host, digits] = (typeof text === "string" && /^(.*):(\d{1,5})$/.exec(text)) || [];
  const port = Number(digits);
  if (host === undefined || port > 65_535)
    throw wrong(`"${text}" is no place to listen at: it is HOST:PORT.`);
  return { host: host.replace(/^\[(.*)\]$/, "$1"), port };
}

/** @throws KeyturnError `invalid_options` */
export function limitsOf(given: Partial<HttpLimits> = {}): HttpLimits {
  if (typeof given !== "object" || given === null) throw wrong("Limits are an object.");
  const chosen = Object.entries(given).filter(([, value]) => value !== undefined);
  for (const [name, value] of chosen) {
    if (!Object.hasOwn(httpDefaults, name)) throw wrong(`There is no limit "${name}" of the HTTP server.`);
    if (name === "rate") checkRate(value as RateLimit);
    else if (!(typeof value === "number" && Number.isSafeInteger(value) && value > 0))
      throw wrong(`The limit ${name} is ${String(value)}; it is a whole number above 0.`);
  }
  const all = { ...httpDefaults, ...Object.fromEntries(chosen) };
  if (all.timeoutMax_ms > limits.deadline_ms)
    throw wrong(`timeoutMax_ms is at most ${limits.deadline_ms}, as for every call.`);
  return { ...all, timeout_ms: Math.min(all.timeout_ms, all.timeoutMax_ms) };
}

function checkRate({ perSecond, burst = perSecond }: RateLimit): void {
  if (!(perSecond > 0 && burst >= 1 && Number.isFinite(perSecond) && Number.isFinite(burst)))
    throw wrong("A rate is { perSecond, burst }: numbers above 0, and bursts from 1.");
}

export function wrong(text: string): KeyturnError {
  return new KeyturnError("invalid_options", text);
}
