/**
 * One connection to NATS: requests and answers, and what becomes of them when the connection is lost.
 *
 * Owns the client library's connection, an inbox of its own for all answers, and one timer for all time-outs: the
 * library's own request takes a timer and two promises each. Talks to the server.
 *
 * Invariants:
 * 1. Every request is settled once: by its answer, at its time-out, or, with an unknown outcome, at the moment when the
 *    connection is lost. (The library drops what it had not written then, and says nothing.)
 * 2. A request that a permission forbids is settled with the name of the subject, as soon as the server says so.
 * 3. Handlers run inside the library's parser; they are short and never throw.
 */
import {
  connect,
  errors,
  type Msg,
  type MsgHdrs,
  type NatsConnection,
  type Subscription,
} from "@nats-io/transport-node";
import { KeyturnError, textOf } from "../../words/errors.ts";
import { checkOptions, connectionOptions, DEFAULT_TIMEOUT_MS, type NatsOptions } from "./options.ts";
import { versionFault } from "./server.ts";

/** How often time-outs are looked at. */
const LOOK_MS = 50;
/** The least that a server must carry in one message: a batch with its headers. */
const PAYLOAD_MIN = 1_048_576;

interface Pending {
  readonly subject: string;
  readonly until_ms: number;
  /** More than one answer: true when this one was the last. */
  readonly onMessage: (message: Msg) => boolean;
  readonly onFailure: (error: KeyturnError) => void;
}

export interface RequestOptions {
  readonly headers?: MsgHdrs | undefined;
  readonly timeout_ms?: number | undefined;
}

export interface ConnectionState {
  readonly connected: boolean;
  /** For people. */
  readonly text: string;
}

const EMPTY = new Uint8Array(0);

export class Connection {
  readonly nc: NatsConnection;
  readonly timeout_ms: number;
  /** Problems that nobody waits for: denied subscriptions, servers that do not fit. Set by the store's owner. */
  onTrouble: (task: string, error: unknown) => void = () => undefined;
  readonly #inbox: string;
  readonly #pending = new Map<string, Pending>();
  readonly #reconnected = new Set<() => void>();
  #count = 0;
  #timer: NodeJS.Timeout | undefined;
  #connected = true;
  #text: string;
  #closing = false;
  #onSettled: (() => void) | undefined;

  private constructor(nc: NatsConnection, timeout_ms: number, inboxPrefix: string) {
    this.nc = nc;
    this.timeout_ms = timeout_ms;
    this.#inbox = `${inboxPrefix}.${Math.random().toString(36).slice(2)}${process.pid.toString(36)}`;
    this.#text = `connected to ${nc.getServer()}`;
    this.subscribe(`${this.#inbox}.*`, (message) => this.#answered(message));
    void this.#followStatus();
  }

  /** @throws KeyturnError `unreachable`, `access_denied`, `server_unsuitable`, `invalid_options` */
  static async open(options: NatsOptions): Promise<Connection> {
    checkOptions(options);
    const given = await connectionOptions(options);
    const at = typeof options.servers === "string" ? options.servers : options.servers.join(", ");
    let nc: NatsConnection;
    try {
      nc = await connect(given);
    } catch (cause) {
      throw openFault(cause, at);
    }
    const fault = serverFault(nc, at);
    if (fault !== undefined) {
      await nc.close();
      throw fault;
    }
    return new Connection(nc, options.timeout_ms ?? DEFAULT_TIMEOUT_MS, options.inboxPrefix ?? "_INBOX");
  }

  get state(): ConnectionState {
    return { connected: this.#connected, text: this.#text };
  }

  /** Sends a message that nobody confirms. False while there is no connection. */
  publish(subject: string, payload: Uint8Array, reply?: string, headers?: MsgHdrs): boolean {
    if (!this.#connected || this.nc.isClosed()) return false;
    this.nc.publish(subject, payload, {
      ...(reply === undefined ? {} : { reply }),
      ...(headers === undefined ? {} : { headers }),
    });
    return true;
  }

  /** Receives messages. The handler gets every message of the subject until the function that is returned is called. */
  subscribe(subject: string, handler: (message: Msg) => void, queue?: string): () => void {
    const subscription: Subscription = this.nc.subscribe(subject, {
      ...(queue === undefined ? {} : { queue }),
      callback: (error, message) => {
        if (error !== null) this.onTrouble(`subscription to ${subject}`, error);
        else handler(message);
      },
    });
    return () => {
      if (!this.nc.isClosed() && !subscription.isClosed()) subscription.unsubscribe();
    };
  }

  /** Calls back whenever a lost connection is there again. */
  onReconnect(callback: () => void): () => void {
    this.#reconnected.add(callback);
    return () => this.#reconnected.delete(callback);
  }

  /**
   * Sends a request and waits for its one answer.
   * @throws KeyturnError `unreachable` without an answer: the outcome is unknown; `access_denied`
   */
  request(subject: string, payload: Uint8Array = EMPTY, options: RequestOptions = {}): Promise<Msg> {
    return new Promise((resolve, reject) => {
      const reply = this.expect(
        subject,
        (message) => {
          resolve(message);
          return true;
        },
        reject,
        options.timeout_ms,
      );
      if (reply !== undefined) this.nc.publish(subject, payload, withHeaders(reply, options.headers));
    });
  }

  /**
   * Notes that answers will come, and returns the subject to which. The caller publishes.
   * @param onMessage gets each answer; returns true for the last one
   */
  expect(
    subject: string,
    onMessage: (message: Msg) => boolean,
    onFailure: (error: KeyturnError) => void,
    timeout_ms = this.timeout_ms,
  ): string | undefined {
    if (!this.#connected || this.nc.isClosed()) {
      onFailure(lost(subject, this.#text));
      return undefined;
    }
    const token = (++this.#count).toString(36);
    const until_ms = performance.now() + timeout_ms;
    this.#pending.set(token, { subject, until_ms, onMessage, onFailure });
    this.#timer ??= setTimeout(() => this.#look(), LOOK_MS);
    return `${this.#inbox}.${token}`;
  }

  /** Everything published before is with the server when this resolves. */
  flush(): Promise<void> {
    return this.nc.flush();
  }

  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    await this.#settled();
    this.#fail(
      () => true,
      (subject) => lost(subject, "the connection is closed"),
    );
    clearTimeout(this.#timer);
    if (this.nc.isClosed()) return;
    // Draining waits for the server; without one it would wait for ever.
    if (this.#connected) await this.nc.flush().catch(() => undefined);
    await this.nc.close();
  }

  /** Waits for what was asked before, as long as the server is there to answer it. */
  async #settled(): Promise<void> {
    while (this.#pending.size > 0 && this.#connected) {
      await new Promise<void>((resolve) => {
        this.#onSettled = resolve;
      });
    }
  }

  #answered(message: Msg): void {
    const { subject } = message;
    const token = subject.slice(subject.lastIndexOf(".") + 1);
    const pending = this.#pending.get(token);
    if (pending?.onMessage(message) === true) this.#forget(token);
  }

  #forget(token: string): void {
    this.#pending.delete(token);
    if (this.#pending.size === 0) this.#onSettled?.();
  }

  #look(): void {
    this.#timer = undefined;
    const now = performance.now();
    for (const [token, pending] of this.#pending) {
      if (pending.until_ms > now) continue;
      this.#forget(token);
      pending.onFailure(lost(pending.subject, "no answer in time"));
    }
    if (this.#pending.size > 0) this.#timer = setTimeout(() => this.#look(), LOOK_MS);
  }

  #fail(which: (pending: Pending) => boolean, errorOf: (subject: string) => KeyturnError): void {
    for (const [token, pending] of [...this.#pending]) {
      if (!which(pending)) continue;
      this.#forget(token);
      pending.onFailure(errorOf(pending.subject));
    }
  }

  async #followStatus(): Promise<void> {
    for await (const status of this.nc.status()) {
      switch (status.type) {
        case "disconnect":
        case "staleConnection":
          this.#lose(`the connection to ${this.nc.getServer()} is lost`);
          break;
        case "reconnect":
          this.#find();
          break;
        case "error":
          this.#denied(status.error);
          break;
        case "close":
          this.#lose("the connection is closed");
          break;
        case "ldm":
          this.#text = `${this.nc.getServer()} is about to shut down`;
          break;
      }
    }
  }

  #lose(text: string): void {
    this.#connected = false;
    this.#text = text;
    this.#fail(
      () => true,
      (subject) => lost(subject, text),
    );
  }

  #find(): void {
    const fault = serverFault(this.nc, this.nc.getServer());
    if (fault !== undefined) {
      // Not used: what this server cannot do, it must not be asked.
      this.#text = fault.message;
      this.onTrouble("reconnect", fault);
      return;
    }
    this.#connected = true;
    this.#text = `connected to ${this.nc.getServer()}`;
    for (const callback of this.#reconnected) callback();
  }

  #denied(error: unknown): void {
    if (!(error instanceof errors.PermissionViolationError)) {
      this.onTrouble("connection", error);
      return;
    }
    const { subject, operation } = error;
    const fault = denied(operation, subject, error);
    let waiting = false;
    this.#fail(
      (pending) => {
        const hit = pending.subject === subject;
        waiting ||= hit;
        return hit;
      },
      () => fault,
    );
    if (!waiting) this.onTrouble("permissions", fault);
  }
}

function withHeaders(reply: string, headers: MsgHdrs | undefined): { reply: string; headers?: MsgHdrs } {
  return headers === undefined ? { reply } : { reply, headers };
}

function lost(subject: string, text: string): KeyturnError {
  return new KeyturnError(
    "unreachable",
    `No answer from NATS on ${subject}: ${text}. It is tried again where that is safe.`,
  );
}

function denied(operation: string, subject: string, cause: unknown): KeyturnError {
  return new KeyturnError(
    "access_denied",
    `This NATS user may not ${operation} "${subject}". Allow it in the server's permissions; examples/nats/accounts shows what each kind of user needs.`,
    { cause },
  );
}

function openFault(cause: unknown, at: string): KeyturnError {
  if (cause instanceof KeyturnError) return cause;
  if (cause instanceof errors.AuthorizationError || cause instanceof errors.UserAuthenticationExpiredError) {
    return new KeyturnError("access_denied", `NATS at ${at} refused the credentials: ${textOf(cause)}`, {
      cause,
    });
  }
  return new KeyturnError(
    "unreachable",
    `NATS cannot be reached at ${at}: ${textOf(cause)}. Start it with "nats-server -c nats.conf", or name another address.`,
    { cause },
  );
}

function serverFault(nc: NatsConnection, at: string): KeyturnError | undefined {
  const info = nc.info;
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
