/**
 * One connection to NATS: requests and answers, and what becomes of them when the connection is lost.
 *
 * Owns the client library's connection and an inbox of its own for all answers: the library's own request takes a timer
 * and two promises each. Talks to the server.
 *
 * Invariants:
 * 1. Every request is settled once: by its answer, at its time-out, or, with an unknown outcome, at the moment when the
 *    connection is lost. (The library drops what it had not written then, and says nothing.)
 * 2. A request that a permission forbids is settled with the name of the subject, as soon as the server says so. A
 *    subscription that is forbidden is asked for again and again; until it is allowed, `state` names it.
 * 3. Handlers run inside the library's parser, which stops for good at an exception; so none gets out of them.
 */
import { randomUUID } from "node:crypto";
import {
  connect,
  type Msg,
  type MsgHdrs,
  type NatsConnection,
  type PermissionViolationError,
  type Subscription,
} from "@nats-io/transport-node";
import { KeyturnError } from "../../words/errors.ts";
import { deniedBy, lost, openFault, serverFault, unsent } from "./faults.ts";
import { PendingRequests } from "./pending.ts";
import { connectionOptions, DEFAULT_TIMEOUT_MS, type NatsOptions } from "./options.ts";

/** When a forbidden subscription is asked for again, and an unsuitable server left for another. */
const AGAIN_MS = 2_000;
/** How long a problem of the store is shown after it was met last. */
const PROBLEM_MS = 60_000;

export interface RequestOptions {
  readonly headers?: MsgHdrs | undefined;
  readonly timeout_ms?: number | undefined;
}

export interface ConnectionState {
  readonly connected: boolean;
  /** For people. */
  readonly text: string;
}

export interface Listening {
  /** Ends it: nothing is received any more. */
  stop(): void;
  /** Ends it; resolves when all that the server had sent before has been received. */
  drain(): Promise<void>;
}

const EMPTY = new Uint8Array(0);

export class Connection {
  readonly nc: NatsConnection;
  readonly timeout_ms: number;
  /** Problems that nobody waits for: denied subscriptions, servers that do not fit. Set by the store's owner. */
  onTrouble: (task: string, error: unknown) => void = () => undefined;
  readonly #inbox: string;
  readonly #pending = new PendingRequests();
  readonly #reconnected = new Set<() => void>();
  /** What is wrong although the server is reached, by what it is about. */
  readonly #problems = new Map<string, { readonly text: string; readonly until_ms: number }>();
  #connected = true;
  #text: string;
  #closed: Promise<void> | undefined;

  private constructor(nc: NatsConnection, timeout_ms: number, inboxPrefix: string) {
    this.nc = nc;
    this.timeout_ms = timeout_ms;
    this.#inbox = `${inboxPrefix}.${randomUUID().replaceAll("-", "")}`;
    this.#text = `connected to ${nc.getServer()}`;
    this.subscribe(`${this.#inbox}.*`, (message) =>
      this.#pending.answer(message.subject.slice(this.#inbox.length + 1), message),
    );
    void this.#followStatus();
  }

  /**
   * @param options checked before
   * @throws KeyturnError `unreachable`, `access_denied`, `server_unsuitable`, `invalid_options` for files
   */
  static async open(options: NatsOptions): Promise<Connection> {
    const given = connectionOptions(options);
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
    const connection = new Connection(
      nc,
      options.timeout_ms ?? DEFAULT_TIMEOUT_MS,
      options.inboxPrefix ?? "_INBOX",
    );
    try {
      await connection.#checkInbox(at);
    } catch (error) {
      await connection.close();
      throw error;
    }
    return connection;
  }

  /** Whether the server is reached. */
  get connected(): boolean {
    return this.#connected;
  }

  /** Whether the server is reached and nothing is known to be wrong with what is on it. */
  get state(): ConnectionState {
    if (!this.#connected) return { connected: false, text: this.#text };
    const now = performance.now();
    for (const [about, { text, until_ms }] of this.#problems) {
      if (until_ms > now) return { connected: false, text };
      this.#problems.delete(about);
    }
    return { connected: true, text: this.#text };
  }

  /** Notes what is wrong with something on the server; it is shown for a while, or until it is found well. */
  problem(about: string, text: string, shown_ms = PROBLEM_MS): void {
    this.#problems.set(about, { text, until_ms: performance.now() + shown_ms });
  }

  /** Notes that something on the server is well. */
  well(about: string): void {
    if (this.#problems.size > 0) this.#problems.delete(about);
  }

  /** Sends a message that nobody confirms. False if it was not sent, for example while there is no connection. */
  publish(subject: string, payload: Uint8Array, reply?: string, headers?: MsgHdrs): boolean {
    if (!this.#connected || this.nc.isClosed()) return false;
    const error = this.#send(subject, payload, reply, headers);
    if (error !== undefined) this.onTrouble("publish", error);
    return error === undefined;
  }

  /** Receives messages. The handler gets every message of the subject until the function that is returned is called. */
  subscribe(subject: string, handler: (message: Msg) => void, queue?: string): () => void {
    return this.listen(subject, handler, queue).stop;
  }

  /** As `subscribe`, with a choice of ends. */
  listen(subject: string, handler: (message: Msg) => void, queue?: string): Listening {
    let subscription: Subscription | undefined;
    let again: NodeJS.Timeout | undefined;
    let stopped = false;
    const listen = (): void => {
      if (stopped || this.nc.isClosed() || this.#closed !== undefined) return;
      let denied = false;
      subscription = this.nc.subscribe(subject, {
        ...(queue === undefined ? {} : { queue }),
        callback: (error, message) => {
          if (error === null) {
            this.#handle(subject, handler, message);
            return;
          }
          // The library forgets a subscription that the server has refused.
          denied = true;
          const fault = deniedBy(error) ?? error;
          this.problem(subject, fault.message, Number.POSITIVE_INFINITY);
          this.onTrouble(`subscription to ${subject}`, fault);
          again = setTimeout(listen, AGAIN_MS);
          again.unref();
        },
      });
      if (again !== undefined) confirm(() => denied);
    };
    // The server answers in order: a refusal comes before the answer to this.
    const confirm = (denied: () => boolean): void => {
      if (stopped || this.nc.isClosed()) return;
      this.nc.flush().then(
        () => {
          if (!denied()) this.well(subject);
        },
        () => setTimeout(() => confirm(denied), AGAIN_MS).unref(),
      );
    };
    const end = (): Subscription | undefined => {
      stopped = true;
      clearTimeout(again);
      this.well(subject);
      return this.nc.isClosed() || subscription?.isClosed() !== false ? undefined : subscription;
    };
    listen();
    return {
      stop: () => end()?.unsubscribe(),
      // Without a connection nothing comes any more, and a frozen server must not hold whoever ends.
      drain: async () => {
        const drained = end()?.drain();
        if (drained !== undefined)
          await Promise.race([drained.catch(() => undefined), pause(this.timeout_ms)]);
      },
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
      const onMessage = (message: Msg): true => {
        resolve(message);
        return true;
      };
      const reply = this.expect(subject, onMessage, reject, options.timeout_ms);
      if (reply !== undefined) this.ask(subject, payload, reply, options.headers);
    });
  }

  /**
   * Notes that answers will come, and returns the subject to which. The caller publishes with `ask`.
   * @param onMessage gets each answer; returns true for the last one
   */
  expect(
    subject: string,
    onMessage: (message: Msg) => boolean,
    onFailure: (error: KeyturnError) => void,
    timeout_ms = this.timeout_ms,
  ): string | undefined {
    if (!this.#connected || this.#closed !== undefined || this.nc.isClosed()) {
      onFailure(lost(subject, this.#closed === undefined ? this.#text : "the connection is closed"));
      return undefined;
    }
    return `${this.#inbox}.${this.#pending.add(subject, timeout_ms, onMessage, onFailure)}`;
  }

  /** Publishes what is to be answered on `reply`, which `expect` gave. What cannot be sent is settled at once. */
  ask(subject: string, payload: Uint8Array, reply: string, headers?: MsgHdrs): void {
    const error = this.#send(subject, payload, reply, headers);
    if (error !== undefined) this.#pending.fail(reply.slice(this.#inbox.length + 1), error);
  }

  /** Everything published before is with the server when this resolves. */
  flush(): Promise<void> {
    return this.nc.flush();
  }

  /** Waits for what was asked before, as long as the server may answer it, and ends. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    // Time-outs and the loss of the connection settle them too.
    await this.#pending.settled();
    if (this.nc.isClosed()) return;
    if (this.#connected) await Promise.race([this.nc.flush().catch(() => undefined), pause(this.timeout_ms)]);
    await this.nc.close();
  }

  /** Undefined if the library took it. */
  #send(subject: string, payload: Uint8Array, reply?: string, headers?: MsgHdrs): KeyturnError | undefined {
    try {
      this.nc.publish(subject, payload, {
        ...(reply === undefined ? {} : { reply }),
        ...(headers === undefined ? {} : { headers }),
      });
      return undefined;
    } catch (error) {
      return unsent(subject, error);
    }
  }

  #handle(subject: string, handler: (message: Msg) => void, message: Msg): void {
    try {
      handler(message);
    } catch (error) {
      this.onTrouble(`message on ${subject}`, error);
    }
  }

  /** Without an inbox nothing is ever answered. */
  async #checkInbox(at: string): Promise<void> {
    try {
      await Promise.race([this.nc.flush(), pause(this.timeout_ms)]);
    } catch (cause) {
      throw openFault(cause, at);
    }
    const problem = this.#problems.get(`${this.#inbox}.*`);
    if (problem !== undefined) throw new KeyturnError("access_denied", problem.text);
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
          this.#refused(status.error);
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
    this.#pending.failAll((subject) => lost(subject, text));
  }

  #find(): void {
    const fault = serverFault(this.nc, this.nc.getServer());
    if (fault !== undefined) {
      // Not used: what this server cannot do, it must not be asked. Another one may do, or this one be replaced.
      this.#text = fault.message;
      this.onTrouble("reconnect", fault);
      setTimeout(() => {
        if (!this.#connected && !this.nc.isClosed()) void this.nc.reconnect();
      }, AGAIN_MS).unref();
      return;
    }
    this.#connected = true;
    this.#text = `connected to ${this.nc.getServer()}`;
    for (const callback of this.#reconnected) callback();
  }

  /** The server has refused something. Denied subscriptions are told to their callbacks. */
  #refused(error: Error): void {
    const fault = deniedBy(error);
    if (fault === undefined) {
      this.onTrouble("connection", error);
      return;
    }
    const { operation, subject } = error as PermissionViolationError;
    if (operation !== "publish") return;
    const waiting = this.#pending.failAll(() => fault, subject);
    if (!waiting) this.onTrouble("permissions", fault);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });
}
