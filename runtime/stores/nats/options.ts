/**
 * What a NATS store is told, and the connection options that follow from it.
 *
 * Owns the checks of what users give. Secrets go to the client library and nowhere else: no text names them.
 */
import { readFile } from "node:fs/promises";
import { type ConnectionOptions, credsAuthenticator } from "@nats-io/transport-node";
import type { Durability } from "../../ports/index.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";

export interface NatsOptions {
  /** `host:port`, or several of one cluster. */
  readonly servers: string | readonly string[];
  /** Name of the app: prefix of every subject, stream and bucket. "keyturn" by default. */
  readonly app?: string | undefined;
  readonly user?: string | undefined;
  readonly pass?: string | undefined;
  readonly token?: string | undefined;
  /** Path of a credentials file. */
  readonly creds?: string | undefined;
  readonly tls?: TlsFiles | undefined;
  /**
   * Prefix of the subjects on which the server answers this process; `_INBOX` by default. A user whose permissions name
   * an inbox of its own needs it here.
   */
  readonly inboxPrefix?: string | undefined;
  /**
   * First token of the inbox names of clients made from this connection: replies go to `<app>.client.<session>.<id>`.
   * For users who may subscribe only there.
   */
  readonly session?: string | undefined;
  /** Copies of each stream, when this process creates them; 1 by default. */
  readonly replicas?: 1 | 3 | 5 | undefined;
  /** Create what is missing on the server; true by default. */
  readonly provision?: boolean | undefined;
  /** The operator's word on what a commit survives. Without it the server is asked, if `monitor` says where. */
  readonly durability?: Durability | undefined;
  /** The server's monitoring address, for example `http://127.0.0.1:8222`. */
  readonly monitor?: string | undefined;
  /** How long an answer of the server may take, in milliseconds; 5,000 by default. */
  readonly timeout_ms?: number | undefined;
  /** Shown in the server's list of connections. */
  readonly name?: string | undefined;
}

/** Paths of PEM files. */
export interface TlsFiles {
  readonly caFile?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
}

export const DEFAULT_TIMEOUT_MS = 5_000;
const PING_MS = 5_000;
const RECONNECT_MS = 200;
const TOKENS = /^[A-Za-z0-9_-]{1,64}$/;
const SUBJECT = /^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$/;

/** @throws KeyturnError `invalid_options` */
export function checkOptions(options: NatsOptions): void {
  const bad = (text: string): never => {
    throw new KeyturnError("invalid_options", text);
  };
  if (typeof options !== "object" || options === null) {
    bad('nats takes an object, for example nats({ servers: "127.0.0.1:4222" }).');
  }
  const { servers, session, inboxPrefix, replicas, durability, timeout_ms } = options;
  const list: readonly unknown[] = Array.isArray(servers) ? servers : [servers];
  if (list.length === 0 || list.some((one) => typeof one !== "string" || one === "")) {
    bad('nats needs { servers }: "host:port", or several in a list.');
  }
  if (session !== undefined && !TOKENS.test(session)) {
    bad(`"${session}" cannot begin the names of inboxes: up to 64 letters, digits, "_" or "-".`);
  }
  if (inboxPrefix !== undefined && !SUBJECT.test(inboxPrefix)) bad(`"${inboxPrefix}" is not a subject.`);
  if (replicas !== undefined && ![1, 3, 5].includes(replicas)) bad("A stream has 1, 3 or 5 replicas.");
  if (durability !== undefined && durability !== "fsync" && durability !== "process") {
    bad('The durability is "fsync" or "process".');
  }
  if (timeout_ms !== undefined && !(timeout_ms >= 100 && timeout_ms <= 60_000)) {
    bad("timeout_ms is between 100 and 60,000.");
  }
}

/** What the client library is given. */
export async function connectionOptions(options: NatsOptions): Promise<ConnectionOptions> {
  const { servers, user, pass, token, creds, tls, inboxPrefix, name } = options;
  const given: ConnectionOptions = {
    servers: typeof servers === "string" ? servers : [...servers],
    name: name ?? "keyturn",
    // A node never gives up: whoever runs it decides.
    maxReconnectAttempts: -1,
    reconnectTimeWait: RECONNECT_MS,
    reconnectJitter: RECONNECT_MS / 2,
    reconnectJitterTLS: RECONNECT_MS,
    pingInterval: PING_MS,
    maxPingOut: 2,
    // An authentication that fails after a restart of the server may work again later.
    ignoreAuthErrorAbort: true,
    noAsyncTraces: true,
    ...(user === undefined ? {} : { user }),
    ...(pass === undefined ? {} : { pass }),
    ...(token === undefined ? {} : { token }),
    ...(inboxPrefix === undefined ? {} : { inboxPrefix }),
    ...(tls === undefined
      ? {}
      : { tls: Object.fromEntries(Object.entries(tls).filter(([, v]) => v !== undefined)) }),
  };
  if (creds !== undefined) {
    const text = await readFile(creds).catch((cause: unknown) => {
      throw new KeyturnError("invalid_options", `The credentials cannot be read: ${textOf(cause)}`, {
        cause,
      });
    });
    given.authenticator = credsAuthenticator(text);
  }
  return given;
}
