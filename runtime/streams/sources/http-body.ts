/** Bodies of requests that bring items: read within bounds, and made items. */
import type { IncomingMessage } from "node:http";
import { textOf } from "../../words/errors.ts";
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
