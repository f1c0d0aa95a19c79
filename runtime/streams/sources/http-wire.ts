/** What requests bring and are answered: headers, bodies within bounds made items, errors. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { isKeyturnError, textOf } from "../../words/errors.ts";
import { isBroken } from "./files/ndjson.ts";
import type { Item } from "./reader.ts";

/** What the requests in flight may hold. */
export interface BodyLimits {
  readonly maxBodyBytes: number;
  readonly maxInFlightBytes: number;
  /** Bytes of requests that are not answered. Whoever was given a body takes its length off again. */
  inFlight: number;
}

/** A request that is answered with an error. */
export class Refused extends Error {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly more: object;

  constructor(status: number, text: string, headers: Record<string, string> = {}, more: object = {}) {
    super(text);
    this.status = status;
    this.headers = headers;
    this.more = more;
  }
}

const SHOWN = 2_000;
const NAME_MAX = 100;
const RETRY_AFTER_S = "1";

/** @throws Refused 413, 415, 429 */
export async function readBody(request: IncomingMessage, limits: BodyLimits): Promise<Buffer> {
  if (request.headers["content-encoding"] !== undefined)
    throw new Refused(415, "A body is sent without Content-Encoding.");
  const { maxBodyBytes, maxInFlightBytes } = limits;
  const parts: Buffer[] = [];
  let bytes = 0;
  try {
    if (Number(request.headers["content-length"] ?? 0) > maxBodyBytes) throw tooLarge(maxBodyBytes);
    for await (const part of request as AsyncIterable<Buffer>) {
      bytes += part.length;
      limits.inFlight += part.length;
      if (bytes > maxBodyBytes) throw tooLarge(maxBodyBytes);
      if (limits.inFlight > maxInFlightBytes)
        throw new Refused(429, "Too many requests are in flight. Repeat the request as it was.", {
          "retry-after": "1",
          connection: "close",
        });
      parts.push(part);
    }
    return Buffer.concat(parts);
  } catch (error) {
    limits.inFlight -= bytes;
    throw error;
  }
}

function tooLarge(most: number): Refused {
  // What is left of it is not read.
  return new Refused(413, `A request has at most ${most} bytes. Send the items in several.`, {
    connection: "close",
  });
}

/** @param first number of the first item. @throws Refused 400, 415 */
export function itemsOf(
  contentType: string | undefined,
  body: Buffer,
  first: number,
): readonly Item<unknown>[] {
  const type = (contentType ?? "").split(";")[0]?.trim().toLowerCase();
  const text = body.toString("utf8");
  if (type === "application/json") {
    if (isBroken(text, body)) throw new Refused(400, "The body is not UTF-8.");
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw new Refused(400, `The body is not JSON: ${textOf(error)}.`);
    }
    const values: readonly unknown[] = Array.isArray(value) ? value : [value];
    return values.map((one, at) => ({ number: first + at, after: first + at, value: one }));
  }
  if (type !== "application/x-ndjson" && type !== "application/jsonl" && type !== "application/ndjson")
    throw new Refused(415, "Items are application/x-ndjson, an item a line, or application/json.");
  if (isBroken(text, body)) throw new Refused(400, "The body is not UTF-8.");
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return lines.map((line, at) => itemOf(line, first + at));
}

function itemOf(line: string, number: number): Item<unknown> {
  try {
    return { number, after: number, value: JSON.parse(line) as unknown };
  } catch (error) {
    return { number, after: number, fault: `It is not JSON: ${textOf(error)}.`, text: line.slice(0, SHOWN) };
  }
}

export function header({ headers }: IncomingMessage, name: string): string | undefined {
  const value = headers[name];
  if (value === undefined) return undefined;
  if (typeof value !== "string" || !/^[\x21-\x7e]+$/.test(value) || value.length > NAME_MAX)
    throw new Refused(400, `${name} is 1 to ${NAME_MAX} visible ASCII characters.`);
  return value;
}

export function sequenceOf(text: string | undefined): number {
  const number = text !== undefined && /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(number) || number < 1)
    throw new Refused(400, "Keyturn-Sequence is the number of the first item, counting from 1.");
  return number;
}

export function busy(cause: unknown): Refused {
  const why = isKeyturnError(cause) ? cause.message : textOf(cause ?? "It takes too long.");
  return new Refused(
    503,
    `${why} Repeat the request as it was.`,
    { "retry-after": RETRY_AFTER_S },
    {
      code: isKeyturnError(cause) ? cause.code : "timeout",
      retryable: true,
      outcome: "unknown",
    },
  );
}

export function send(
  response: ServerResponse,
  status: number,
  body: object,
  headers: Record<string, string> = {},
): void {
  if (response.headersSent || response.destroyed) return;
  const text = JSON.stringify(body);
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    ...headers,
  });
  response.end(text);
}

export function refuse(response: ServerResponse, error: unknown): void {
  const refused = error instanceof Refused ? error : refusalOf(error);
  const { status, message, headers, more } = refused;
  const body = { type: "about:blank", status, detail: message, ...more };
  send(response, status, body, { "content-type": "application/problem+json", ...headers });
}

/** What an error of the runtime is to a producer. */
function refusalOf(error: unknown): Refused {
  if (!isKeyturnError(error)) return new Refused(500, textOf(error));
  const { code, retryable, outcome } = error;
  if (retryable) return busy(error);
  const status = code === "source_malformed" || code === "request_id_reused" ? 422 : 500;
  return new Refused(status, error.message, {}, { code, retryable, outcome });
}
