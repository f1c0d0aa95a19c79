/**
 * What a NATS store is told, and the connection options that follow from it.
 *
 * Owns the checks of what users give. Secrets go to the client library and nowhere else: no text names them.
 */
import { readFileSync } from "node:fs";
import { type Authenticator, type ConnectionOptions, credsAuthenticator } from "@nats-io/transport-node";
import type { Durability } from "../../ports/index.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";
import { checkLayout } from "./layout.ts";

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
  /** Buckets among which the snapshots are spread, if this process creates the app; 1 by default, frozen then. */
  readonly snapshotBuckets?: number | undefined;
  /** Streams among which the journal is spread, if this process creates the app; 1 by default, frozen then. */
  readonly journals?: number | undefined;
  /** Create what is missing on the server; true by default. */
  readonly provision?: boolean | undefined;
  /** The operator's word on what a commit survives. Without it the server is asked, if `monitor` says where. */
  readonly durability?: Durability | undefined;
  /** The server's monitoring address, for example `http://127.0.0.1:8222`. */
  readonly monitor?: string | undefined;
  /**
   * How long an answer of the server may take, in milliseconds; 5,000 by default. While an app is made or opened, a cluster
   * that is electing, or a question that was lost, is waited for three times as long.
   */
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
const ADDRESS = /^(?:(?:nats|tls):\/\/)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?$/;
const TEXTS = ["app", "user", "pass", "token", "creds", "inboxPrefix", "session", "monitor", "name"] as const;
const KNOWN: ReadonlySet<string> = new Set<keyof NatsOptions>([
  ...TEXTS,
  "servers",
  "tls",
  "replicas",
  "provision",
  "durability",
  "timeout_ms",
  "snapshotBuckets",
  "journals",
]);
const TLS_FILES = ["caFile", "certFile", "keyFile"] as const;

/** @throws KeyturnError `invalid_options` */
export function checkOptions(options: NatsOptions): void {
  if (typeof options !== "object" || options === null) {
    bad('nats takes an object, for example nats({ servers: "127.0.0.1:4222" }).');
  }
  for (const name of Object.keys(options)) {
    if (!KNOWN.has(name)) bad(`nats has no option "${name}". It has ${[...KNOWN].sort().join(", ")}.`);
  }
  for (const name of TEXTS) {
    const value: unknown = options[name];
    if (value !== undefined && (typeof value !== "string" || value === ""))
      bad(`The option ${name} is a text that is not empty.`);
  }
  const { servers, session, inboxPrefix, replicas, durability, timeout_ms, provision } = options;
  checkLayout(options);
  checkServers(servers);
  checkCredentials(options);
  if (session !== undefined && !TOKENS.test(session)) {
    bad(`"${session}" cannot begin the names of inboxes: up to 64 letters, digits, "_" or "-".`);
  }
  if (inboxPrefix !== undefined && !SUBJECT.test(inboxPrefix)) bad(`"${inboxPrefix}" is not a subject.`);
  if (replicas !== undefined && ![1, 3, 5].includes(replicas)) bad("A stream has 1, 3 or 5 replicas.");
  if (provision !== undefined && typeof provision !== "boolean") bad("provision is true or false.");
  if (durability !== undefined && durability !== "fsync" && durability !== "process") {
    bad('The durability is "fsync" or "process".');
  }
  if (timeout_ms !== undefined && !(timeout_ms >= 100 && timeout_ms <= 60_000)) {
    bad("timeout_ms is between 100 and 60,000.");
  }
  if (options.monitor !== undefined) checkMonitor(options.monitor);
}

function bad(text: string): never {
  throw new KeyturnError("invalid_options", text);
}

function checkServers(servers: unknown): void {
  const list: readonly unknown[] = Array.isArray(servers) ? servers : [servers];
  if (list.length === 0 || list.some((one) => typeof one !== "string" || one === "")) {
    bad('nats needs { servers }: "host:port", or several in a list.');
  }
  for (const one of list as readonly string[]) {
    // Such an address may hold a password; it is not repeated.
    if (one.includes("@"))
      bad("A server's address holds no user and password: give them as { user, pass }, or as { creds }.");
    if (!ADDRESS.test(one)) bad(`"${one}" is not a server's address: "host:port", one text for each server.`);
  }
}

function checkCredentials({ user, pass, token, creds, tls }: NatsOptions): void {
  if (pass !== undefined && user === undefined) bad("A pass needs a user.");
  const ways = [user, token, creds].filter((way) => way !== undefined);
  if (ways.length > 1) bad("Give one of { user, pass }, { token } and { creds }, not several.");
  if (tls === undefined) return;
  if (typeof tls !== "object" || tls === null)
    bad("tls is { caFile, certFile, keyFile }, paths of PEM files.");
  for (const [name, path] of Object.entries(tls)) {
    if (!(TLS_FILES as readonly string[]).includes(name))
      bad(`tls has ${TLS_FILES.join(", ")}, no "${name}".`);
    if (path !== undefined && (typeof path !== "string" || path === "")) bad(`tls.${name} is a path.`);
  }
  if ((tls.certFile === undefined) !== (tls.keyFile === undefined))
    bad("A certFile needs a keyFile, and a keyFile a certFile.");
}

function checkMonitor(monitor: string): void {
  const url = URL.canParse(monitor) ? new URL(monitor) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== "" || url.password !== "") {
    bad(
      'monitor is the address of the server\'s monitoring page, without user and password: "http://127.0.0.1:8222".',
    );
  }
}

/** What the client library is given. */
export function connectionOptions(options: NatsOptions): ConnectionOptions {
  const { servers, user, pass, token, creds, tls, inboxPrefix, name, timeout_ms } = options;
  const given: ConnectionOptions = {
    servers: typeof servers === "string" ? servers : [...servers],
    name: name ?? "keyturn",
    // A server that takes the connection and says nothing.
    timeout: timeout_ms ?? DEFAULT_TIMEOUT_MS,
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
  for (const path of Object.values(tls ?? {})) if (path !== undefined) readable(path);
  if (creds !== undefined) given.authenticator = authenticatorOf(creds);
  return given;
}

/** Reads the file again with every connection, so that credentials may be renewed. */
function authenticatorOf(path: string): Authenticator {
  let last = readable(path);
  const authenticator = credsAuthenticator(() => {
    try {
      last = readFileSync(path);
    } catch {
      // What was read before may still do. An error here would end the connection for good.
    }
    return last;
  });
  try {
    authenticator("trial");
  } catch (cause) {
    throw new KeyturnError("invalid_options", `${path} is no credentials file: ${textOf(cause)}.`, { cause });
  }
  return authenticator;
}

/** @throws KeyturnError `invalid_options` */
function readable(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new KeyturnError("invalid_options", `A file for the connection cannot be read: ${textOf(cause)}`, {
      cause,
    });
  }
}
