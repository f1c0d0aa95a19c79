/**
 * What can be wrong with a server or a connection, as errors for people.
 *
 * Owns the texts. Talks to nobody. No text names a secret: addresses are checked to hold none (options.ts).
 */
import { errors, type NatsConnection, PermissionViolationError } from "@nats-io/transport-node";
import { KeyturnError, textOf } from "../../words/errors.ts";
import { versionFault } from "./server.ts";

/** The least that a server must carry in one message: a batch with its headers. */
const PAYLOAD_MIN = 1_048_576;

/** No answer: what was asked may have happened, or may happen yet. */
export function lost(subject: string, text: string): KeyturnError {
  return new KeyturnError(
    "unreachable",
    `No answer from NATS on ${subject}: ${text}. It is tried again where that is safe.`,
  );
}

export function unsent(subject: string, cause: unknown): KeyturnError {
  return new KeyturnError("store_failed", `NATS was not asked on ${subject}: ${textOf(cause)}.`, { cause });
}

/** A permission that is missing; undefined for other errors. */
export function deniedBy(cause: unknown): KeyturnError | undefined {
  const error = violationIn(cause);
  if (error === undefined) return undefined;
  const verb = error.operation === "publish" ? "publish to" : "subscribe to";
  return new KeyturnError(
    "access_denied",
    `This NATS user may not ${verb} "${error.subject}". Allow it in the server's permissions; examples/nats/accounts shows what each kind of user needs.`,
    { cause },
  );
}

/** The library's own requests wrap what the server said. */
function violationIn(error: unknown): PermissionViolationError | undefined {
  if (error instanceof PermissionViolationError) return error;
  return error instanceof Error && error.cause !== undefined ? violationIn(error.cause) : undefined;
}

/** Why a connection could not be opened. */
export function openFault(cause: unknown, at: string): KeyturnError {
  if (cause instanceof KeyturnError) return cause;
  if (cause instanceof errors.AuthorizationError || cause instanceof errors.UserAuthenticationExpiredError) {
    return new KeyturnError(
      "access_denied",
      `NATS at ${at} refused the credentials: ${textOf(cause)}. Check user and pass, token or creds.`,
      { cause },
    );
  }
  return new KeyturnError(
    "unreachable",
    `NATS cannot be reached at ${at}: ${textOf(cause)}. Start it with "nats-server -c nats.conf", or name another address.`,
    { cause },
  );
}

/** Why the server that is connected to will not do. */
export function serverFault(nc: NatsConnection, at: string): KeyturnError | undefined {
  const { info } = nc;
  if (info === undefined) return undefined;
  const old = versionFault(info.version, at);
  if (old !== undefined) return old;
  if (info.max_payload < PAYLOAD_MIN) {
    return new KeyturnError(
      "server_unsuitable",
      `NATS at ${at} carries messages of at most ${info.max_payload} bytes; Keyturn needs ${PAYLOAD_MIN}. Set max_payload: 1MB.`,
    );
  }
  return undefined;
}
