/** What is refused before any of our code has seen it: by the framework, or by Node's own reading of a request. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { KeyturnError, textOf } from "../words/errors.ts";
import { problemStatuses, Refusal, refusedBy } from "./problem.ts";

/** What Fastify itself refuses, in our words. */
export function known(error: unknown): unknown {
  const { code, statusCode } = error as { code?: unknown; statusCode?: unknown };
  switch (code) {
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return new Refusal(
        413,
        "event_too_large",
        "The body is larger than what is taken here. Send less, or several.",
      );
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
      return new Refusal(415, "invalid_frame", "A body is JSON: Content-Type: application/json.", {
        accept: "application/json",
      });
    case "FST_ERR_CTP_INVALID_CONTENT_LENGTH":
      return new KeyturnError("invalid_frame", "The body is not as long as its head says.");
    case "FST_ERR_BAD_URL":
      return new KeyturnError("invalid_address", "The path is not well percent-encoded UTF-8.");
    case "FST_ERR_MAX_PARAM_LENGTH":
      return new Refusal(414, "invalid_address", "A part of the path is longer than any key.");
    default:
  }
  // Without a status of ours it is a fault.
  if (error instanceof Refusal || error instanceof KeyturnError || typeof statusCode !== "number")
    return error;
  if (statusCode < 400 || statusCode >= 500) return error;
  const status = problemStatuses.includes(statusCode) ? statusCode : 400;
  return new Refusal(status, "invalid_frame", textOf(error));
}

/** A request that expects what nobody here does (RFC 9110, 10.1.1): Node would answer it without saying why. */
export function refuseExpectation(_request: IncomingMessage, response: ServerResponse): void {
  const text = "Nothing is expected of this server but 100-continue.";
  const { problem } = refusedBy(new Refusal(417, "invalid_options", text));
  response.writeHead(problem.status, {
    "content-type": "application/problem+json; charset=utf-8",
    "cache-control": "no-store",
    connection: "close",
  });
  response.end(JSON.stringify(problem));
}

/** A request that Node could not even read. */
export function refuseRaw(error: Error & { code?: string }, socket: Socket): void {
  if (socket.destroyed || !socket.writable || error.code === "ECONNRESET") {
    socket.destroy();
    return;
  }
  const [status, reason, code] =
    error.code === "HPE_HEADER_OVERFLOW"
      ? [431, "Request Header Fields Too Large", "event_too_large" as const]
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? [408, "Request Timeout", "invalid_frame" as const]
        : [400, "Bad Request", "invalid_frame" as const];
  const { problem } = refusedBy(new Refusal(status as number, code as "invalid_frame", `${reason}.`));
  const body = JSON.stringify(problem);
  socket.end(
    `HTTP/1.1 ${status} ${reason}\r\nContent-Type: application/problem+json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}
