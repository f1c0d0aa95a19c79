/**
 * What every route has at hand: the client, who calls, what he may do, and how answers are written.
 *
 * Owns nothing but the answers' form. Talks to the client and to the operator's `authorize`. Routes of the user's own,
 * and the dashboard's, are given the same.
 */
import { createHash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { CallOptions, Client } from "../client/client.ts";
import type { AnyActorDefinition } from "../engine/definition.ts";
import type { KeyturnNode } from "../node.ts";
import { KeyturnError } from "../words/errors.ts";
import { limits as runtimeLimits } from "../words/limits.ts";
import { ValueFault } from "../words/values.ts";
import { type Caller, TOKEN_PARAMETER } from "./auth.ts";
import { fromJson, type Json } from "./json.ts";
import type { Action, HttpLimits, HttpOptions, Wish } from "./options.ts";
import { Refusal, refusedBy, type Problem } from "./problem.ts";
import type { Socket, SocketStream } from "./sockets.ts";
import type { EventStream, Streams } from "./streams.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Who calls; set before any route is entered. */
    caller: Caller;
    /** Gives the place among the requests in flight back; a stream has one among the streams instead. */
    release: () => void;
  }
  interface FastifyContextConfig {
    /** Needs no token. */
    open?: boolean;
    /** A stream of events: its token may be in its address, since browsers' `EventSource` sends no headers. */
    stream?: boolean;
    /** Can be asked as a WebSocket. */
    socket?: boolean;
  }
}

const TRACE = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[\x20-\x7e]{0,400})?$/;
/** Of a subject's fingerprint, before a request id of his. */
const SCOPE_LENGTH = 16;

export interface Parts {
  readonly client: Client;
  readonly node: KeyturnNode | undefined;
  readonly actors: readonly AnyActorDefinition[];
  readonly limits: HttpLimits;
  readonly streams: Streams;
  readonly options: HttpOptions;
  readonly fault: (fault: unknown) => void;
}

/** Whether somebody may do something with the actor of a key. */
export type Among = (key: string) => Promise<boolean>;

/** Those of a list that its reader may see. */
export async function visibleAmong<T extends { readonly key: string }>(
  rows: readonly T[],
  among: Among | undefined,
): Promise<readonly T[]> {
  if (among === undefined) return rows;
  const may = await Promise.all(rows.map(({ key }) => among(key)));
  return rows.filter((_, at) => may[at]);
}

/** What the routes of one HTTP server share: the client, the limits, who may ask, and what is open. */
export class HttpContext {
  readonly client: Client;
  /** Undefined if it is a client that is served. */
  readonly node: KeyturnNode | undefined;
  /** Known definitions, for what describes them. */
  readonly actors: readonly AnyActorDefinition[];
  readonly limits: HttpLimits;
  readonly #parts: Parts;

  /** @internal */
  constructor(parts: Parts) {
    this.#parts = parts;
    this.client = parts.client;
    this.node = parts.node;
    this.actors = parts.actors;
    this.limits = parts.limits;
  }

  /**
   * Refuses who may not do it.
   * @throws Refusal 403
   */
  async allow(
    request: FastifyRequest,
    action: Action,
    type?: string,
    key?: string,
    event?: unknown,
  ): Promise<void> {
    if ((await this.#answer(request, { action, type, key, event })) === true) return;
    const what = type === undefined ? "" : key === undefined ? ` with "${type}"` : " with this actor";
    throw new Refusal(403, "access_denied", `You may not do that (${action})${what}.`);
  }

  /**
   * Refuses who may not do it with any actor of a type. The result says of each key whether he may with that one;
   * undefined if he may with all.
   * @throws Refusal 403
   */
  async allowAmong(request: FastifyRequest, action: Action, type: string): Promise<Among | undefined> {
    const answer = await this.#answer(request, { action, type, key: undefined, event: undefined });
    if (answer === true) return undefined;
    if (answer !== "each")
      throw new Refusal(403, "access_denied", `You may not do that (${action}) with "${type}".`);
    return async (key) => (await this.#answer(request, { action, type, key, event: undefined })) === true;
  }

  /** What the operator's hook answers; true without one. */
  async #answer({ caller }: FastifyRequest, wish: Omit<Wish, "subject" | "claims">): Promise<unknown> {
    const { authorize } = this.#parts.options;
    if (authorize === undefined) return true;
    const { subject, claims } = caller;
    try {
      return await authorize({ subject, claims, ...wish });
    } catch (fault) {
      this.#parts.fault(fault);
      return false;
    }
  }

  /**
   * What a call of the client is told.
   * @param given the caller's id for this request
   * @throws KeyturnError `invalid_options`
   */
  callOptions(request: FastifyRequest, given = idempotencyKey(request)): CallOptions {
    const { traceparent, tracestate, "keyturn-timeout": text } = request.headers;
    const timeout_ms = text === undefined ? this.limits.timeout_ms : Number(text);
    if (!(Number.isInteger(timeout_ms) && timeout_ms >= 1 && timeout_ms <= this.limits.timeoutMax_ms))
      throw new KeyturnError(
        "invalid_options",
        `Keyturn-Timeout is a whole number of milliseconds from 1 to ${this.limits.timeoutMax_ms}.`,
      );
    return {
      timeout_ms,
      ...(typeof traceparent === "string" && TRACE.test(traceparent) ? { trace: traceparent } : {}),
      ...(typeof tracestate === "string" ? { traceState: tracestate } : {}),
      ...(given === undefined ? {} : { requestId: scoped(given, request.caller) }),
    };
  }

  /** Answers with a JSON. */
  json(reply: FastifyReply, value: Json | object, status = 200): FastifyReply {
    return this.text(reply, JSON.stringify(value), status);
  }

  /** Answers with the text of a JSON. */
  text(reply: FastifyReply, json: string, status = 200): FastifyReply {
    return reply
      .code(status)
      .header("content-type", "application/json; charset=utf-8")
      .header("cache-control", reply.getHeader("cache-control") ?? "no-store")
      .send(json);
  }

  /** The problem that stands for whatever was thrown; a fault of this program is told to its operator. */
  problem(thrown: unknown, requestId?: string): Problem {
    const { problem, fault } = refusedBy(thrown, requestId);
    if (fault !== undefined) this.#parts.fault(fault);
    return problem;
  }

  /**
   * What an actor is to begin with; undefined for what its address gives. An empty object, or null, says nothing where no
   * schema takes it for an input: many clients send one as the body of a POST that has none.
   * @throws KeyturnError `invalid_input`
   */
  inputIn(type: string, json: unknown): unknown {
    if (json === undefined) return undefined;
    const input = valueIn(json, "input", "invalid_input");
    const definition = this.actors.find((one) => one.type === type);
    if (definition === undefined || definition.inputSchema !== undefined) return input;
    return input === null || isEmpty(input) ? undefined : input;
  }

  /** Takes a place for a stream; `open` it, or give the place back. @throws Refusal 429, 503 */
  reserveStream(request: FastifyRequest): () => void {
    return this.#parts.streams.reserve(request.caller.name);
  }

  /** Begins a stream of server-sent events in the place that was taken. */
  openStream(request: FastifyRequest, reply: FastifyReply, giveBack: () => void): EventStream {
    reply.hijack();
    request.release();
    const stream = this.#parts.streams.open(reply.raw, reply.getHeaders(), request.caller.until_ms);
    if (stream.signal.aborted) giveBack();
    else stream.signal.addEventListener("abort", giveBack);
    return stream;
  }

  /** Begins to tell on a WebSocket in the place that was taken. @internal */
  openSocket(request: FastifyRequest, socket: Socket, giveBack: () => void): SocketStream {
    request.release();
    const stream = this.#parts.streams.openSocket(socket, request.caller.until_ms);
    if (stream.signal.aborted) giveBack();
    else stream.signal.addEventListener("abort", giveBack);
    return stream;
  }
}

/**
 * The caller's id for a request. By the draft of RFC it is a text in quotes; most write it without.
 * @throws KeyturnError `invalid_options`
 */
export function idempotencyKey({ headers }: FastifyRequest): string | undefined {
  const given = headers["idempotency-key"];
  if (given === undefined) return undefined;
  return checkedId(typeof given === "string" ? given.replace(/^"(.*)"$/, "$1") : "");
}

/** @throws KeyturnError `invalid_options` */
export function checkedId(given: unknown): string {
  const longest = runtimeLimits.requestIdBytes - SCOPE_LENGTH - 1;
  if (typeof given === "string" && /^[\x21-\x7e]+$/.test(given) && given.length <= longest) return given;
  throw new KeyturnError(
    "invalid_options",
    `A request's id (Idempotency-Key) has 1 to ${longest} visible ASCII characters.`,
  );
}

function isEmpty(value: unknown): boolean {
  const isPlain =
    typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
  return isPlain && Object.keys(value).length === 0;
}

/** Whoever learns another one's id must not be given his answers: an id counts within its subject. */
function scoped(id: string, { subject }: Caller): string {
  if (subject === undefined) return id;
  const scope = createHash("sha256").update(subject).digest("base64url").slice(0, SCOPE_LENGTH);
  return `${scope}:${id}`;
}

/** A value from a body. @throws KeyturnError of that code */
export function valueIn(
  json: unknown,
  name: string,
  code: "invalid_event" | "invalid_input" | "invalid_options",
): unknown {
  try {
    return fromJson(json, name);
  } catch (fault) {
    if (fault instanceof ValueFault) throw new KeyturnError(code, fault.message, { cause: fault });
    throw fault;
  }
}

/** Under such names `queryOf` keeps what comes again under `where`. */
export const AGAIN = "where&";

/** The texts of a query, each name once, but for `where`. @throws KeyturnError `invalid_options` for names that are not expected */
export function queryOf(
  request: FastifyRequest,
  expected: readonly string[],
  alsoPrefix?: string,
): ReadonlyMap<string, string> {
  const at = request.raw.url?.indexOf("?") ?? -1;
  const texts = new Map<string, string>();
  if (at < 0) return texts;
  for (const [name, value] of new URLSearchParams((request.raw.url as string).slice(at + 1))) {
    if (name === TOKEN_PARAMETER && request.routeOptions.config.stream === true) continue;
    const isKnown = expected.includes(name) || (alsoPrefix !== undefined && name.startsWith(alsoPrefix));
    if (!isKnown) {
      const known = alsoPrefix === undefined ? expected : [...expected, `${alsoPrefix}<path>`];
      const there = known.length === 0 ? "There are none here." : `There are ${known.join(", ")}.`;
      throw new KeyturnError("invalid_options", `"${name.slice(0, 80)}" is no parameter here. ${there}`);
    }
    if (name === "where" && texts.has(name)) {
      // Two of one name are two conditions. Nobody else gives such a name: it is not expected.
      texts.set(`${AGAIN}${texts.size}`, value);
      continue;
    }
    if (texts.has(name)) throw new KeyturnError("invalid_options", `"${name.slice(0, 80)}" is given twice.`);
    texts.set(name, value);
  }
  return texts;
}

/** A whole number of a query. @throws KeyturnError `invalid_options` */
export function wholeIn(
  query: ReadonlyMap<string, string>,
  name: string,
  most: number,
  otherwise: number,
): number {
  const text = query.get(name);
  if (text === undefined) return otherwise;
  const number = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (number >= 1 && number <= most) return number;
  throw new KeyturnError("invalid_options", `"${name}" is a whole number from 1 to ${most}.`);
}

/** A yes or no of a query. @throws KeyturnError `invalid_options` */
export function flagIn(query: ReadonlyMap<string, string>, name: string, otherwise: boolean): boolean {
  const text = query.get(name);
  if (text === undefined) return otherwise;
  if (text === "true" || text === "false") return text === "true";
  throw new KeyturnError("invalid_options", `"${name}" is true or false.`);
}
