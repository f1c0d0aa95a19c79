/**
 * Which pages of a browser may reach the server: its own names, and other origins (CORS).
 *
 * Owns both checks. A browser adds nothing by itself that would prove who calls, since tokens are in a header; but
 * without tokens a server on a developer's machine must not be open to every page that he visits. So a request that
 * changes something and comes from a foreign page is refused, and on a loopback address without tokens one that calls
 * the server by a name that is not the loopback's (a page whose name was made to lead here).
 */
import { BlockList, isIP } from "node:net";
import type { FastifyReply, FastifyRequest } from "fastify";
import { type CorsOptions, wrong } from "./options.ts";
import { Refusal } from "./problem.ts";

const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];
const METHODS = "GET, HEAD, POST, DELETE";
const HEADERS =
  "authorization, content-type, idempotency-key, if-none-match, last-event-id, keyturn-timeout, traceparent, tracestate";
const EXPOSED = "etag, location, retry-after, www-authenticate";
const PREFLIGHT_S = "600";

/** A target that is a whole address: it counts, and not the Host beside it. */
const ABSOLUTE = /^https?:\/\/([^/?#]*)/i;

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

function isLoopback(host: string): boolean {
  const family = isIP(host);
  return host === "localhost" || (family !== 0 && loopback.check(host, family === 4 ? "ipv4" : "ipv6"));
}

export class Guard {
  readonly #hosts: ReadonlySet<string> | undefined;
  readonly #origins: "*" | ReadonlySet<string>;

  /**
   * @param host where the server listens
   * @throws KeyturnError `invalid_options`
   */
  constructor(
    host: string,
    isOpen: boolean,
    hosts: readonly string[] | undefined,
    cors: CorsOptions | undefined,
  ) {
    const names = hosts ?? (isOpen && isLoopback(host) ? [...LOOPBACK, host] : undefined);
    this.#hosts = names && new Set(names.map((name) => name.toLowerCase()));
    const origins = cors?.origins ?? [];
    if (origins !== "*" && !(Array.isArray(origins) && origins.every(isOrigin)))
      throw wrong('Origins are "*" or a list such as ["https://shop.example"], without a path.');
    this.#origins = origins === "*" ? origins : new Set(origins);
  }

  /**
   * Checks where a request comes from, and answers a preflight.
   * @returns true if it is answered
   * @throws Refusal 400, 403, 421
   */
  check({ method, headers, ws, raw, originalUrl }: FastifyRequest, reply: FastifyReply): boolean {
    const { host = "", origin } = headers;
    // Of two, a proxy before this server may have believed the other one (RFC 9112, 3.2).
    if (raw.rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === "host").length > 1)
      throw new Refusal(400, "invalid_frame", "A request has one Host.");
    const named = (ABSOLUTE.exec(originalUrl)?.[1] ?? host).toLowerCase();
    if (this.#hosts !== undefined && !this.#hosts.has(named) && !this.#hosts.has(named.replace(/:\d+$/, "")))
      throw new Refusal(421, "access_denied", "This server is not called by that name.");
    if (origin === undefined) return false;
    const allowed = this.#origins === "*" || this.#origins.has(origin);
    reply.header("vary", "origin");
    if (allowed) {
      reply.header("access-control-allow-origin", this.#origins === "*" ? "*" : origin);
      reply.header("access-control-expose-headers", EXPOSED);
    }
    if (method === "OPTIONS" && headers["access-control-request-method"] !== undefined) {
      if (!allowed) throw new Refusal(403, "access_denied", "Pages of this origin may not use this server.");
      reply
        .code(204)
        .header("access-control-allow-methods", METHODS)
        .header("access-control-allow-headers", HEADERS)
        .header("access-control-max-age", PREFLIGHT_S);
      return true;
    }
    // A browser asks nobody whether a page may read what a WebSocket of another origin tells.
    const isSafe = (method === "GET" || method === "HEAD") && !ws;
    if (!isSafe && !allowed && hostOf(origin) !== named)
      throw new Refusal(403, "access_denied", "Pages of this origin may not do that here.");
    return false;
  }
}

function isOrigin(text: unknown): boolean {
  try {
    return typeof text === "string" && new URL(text).origin === text;
  } catch {
    return false;
  }
}

function hostOf(origin: string): string | undefined {
  try {
    return new URL(origin).host;
  } catch {
    return undefined;
  }
}
