/**
 * Large answers are sent compressed to whoever takes that: a state, or a page of the past, of some hundred KB is mostly
 * names that repeat.
 *
 * Owns from what size on. Small ones are sent as they are, for that costs them more than it saves; streams too, and what
 * is compressed already. It is done beside the event loop.
 */
import { promisify } from "node:util";
import { constants, gzip } from "node:zlib";
import type { FastifyInstance } from "fastify";

/** Characters from which on it is worth it. */
const LEAST = 32 * 1024;

const compressed = promisify(gzip);

export function compressAnswers(app: FastifyInstance): void {
  app.addHook("onSend", async (request, reply, payload) => {
    if (typeof payload !== "string" || payload.length < LEAST || reply.hasHeader("content-encoding"))
      return payload;
    reply.header("vary", [reply.getHeader("vary"), "accept-encoding"].filter(Boolean).join(", "));
    if (!takesGzip(request.headers["accept-encoding"])) return payload;
    const body = await compressed(payload, { level: constants.Z_BEST_SPEED });
    reply.header("content-encoding", "gzip").removeHeader("content-length");
    return body;
  });
}

/** Whether a client takes it, by the header that says so. */
function takesGzip(header: string | string[] | undefined): boolean {
  const names = String(header ?? "").split(",");
  return names.some((one) => /^\s*gzip\s*(;\s*q\s*=\s*(1|0?\.\d*[1-9]\d*)[\d.]*)?\s*$/i.test(one));
}
