/**
 * Frames on NATS subjects, and plain messages of clients that are not ours.
 *
 *   <app>.shard.<n>                 requests to whoever owns the shard
 *   <app>.shard.<n>.<type>.<key>    a plain client's message, brought here by the server's `mappings`
 *   <app>.node.<incarnation>        requests to a node by name: frames for several of its shards in one message
 *   <app>.peer.<n>                  from shard to shard; only nodes may publish there
 *   <app>.client.<session>          to a client
 *   <app>.actor.<type>.<key>        a plain client's message that no mapping has moved
 *
 * Owns the subscriptions, and what is to leave at the end of the running tick. Talks to the connection.
 *
 * Invariants:
 * 1. What somebody in this process subscribes to is delivered here, by reference, and does not leave the process.
 * 2. Frames to one subject published in one tick leave in one message, as far as they fit, in order.
 * 3. Bytes from outside are decoded as frames of the kind that belongs on their subject, or counted and dropped.
 * 4. Whoever sends chooses where the answer goes, and it goes there with this node's permissions: so only inboxes are
 *    answered, never a stream's subject, another node or this process itself.
 * 5. A plain message is given to one node: it carries nothing by which two that took it could tell that it was applied.
 *    So all plain subscriptions are in a queue group. A node that gave a shard away passes on what still comes to it.
 * 6. What the server has not confirmed to have read is bounded; over the bound nothing more is taken.
 */
import type { Msg } from "@nats-io/transport-node";
import type { Gateway, Transport } from "../../ports/index.ts";
import { KeyturnError } from "../../words/errors.ts";
import { decodeFrames, encodeFrames, type Frame, type RefusalFrame } from "../../words/frames.ts";
import { limits } from "../../words/limits.ts";
import { fromJson, json } from "./api.ts";
import type { Connection } from "./connection.ts";
import { type Layout, layoutOut, UNSPREAD } from "./layout.ts";
import type { Names } from "./names.ts";
import type { NatsOptions } from "./options.ts";

type Handler = (frame: Frame) => void;

/** Unconfirmed bytes at which nothing more is taken; half the server's own bound for a slow consumer. */
const UNCONFIRMED_MAX = 32 * 1024 * 1024;
/** After so many bytes the server is asked to confirm. */
const CONFIRM_BYTES = 1024 * 1024;
const QUEUE = "keyturn";
const SHARD = /^\d{1,5}$/;
/** For so long plain messages still come to whoever gave a shard away: by then its next owner has subscribed. */
const LINGER_MS = 2_000;
/** Where clients of NATS wait for answers, unless told otherwise. */
const INBOX = /^_INBOX[A-Za-z0-9_-]*\./;

interface Outgoing {
  readonly frames: Frame[];
  /** Where the server says that nobody listens. */
  readonly reply: string | undefined;
}

export class NatsTransport implements Transport {
  readonly sessionPrefix: string;
  /** How the app is spread; told to clients with what else the app is. */
  layout: () => Layout = () => UNSPREAD;
  /** Shards of the app, once they are known: then frames are checked against them. */
  shards: number | undefined;
  /** Messages that were no frames, or not of the kind that belongs where they came. */
  foreign = 0;
  /** Frames that did not leave because the server takes nothing. */
  dropped = 0;
  readonly #connection: Connection;
  readonly #names: Names;
  /** The prefix of the inboxes of nodes, if they have one of their own. */
  readonly #ownInbox: string | undefined;
  /** Lists are replaced, never changed, so that a handler may subscribe or stop while it is called. */
  readonly #handlers = new Map<string, readonly Handler[]>();
  readonly #stops = new Map<string, () => void>();
  readonly #outgoing = new Map<string, Outgoing>();
  #flushing = false;
  #unconfirmed = 0;
  #sinceConfirm = 0;
  #gateway: Gateway | undefined;
  /** Ends the plain subscriptions of shards that were given away. */
  readonly #lingering = new Set<() => Promise<void>>();

  constructor(connection: Connection, names: Names, { session, inboxPrefix }: NatsOptions) {
    this.#connection = connection;
    // The usual one is everybody's.
    this.#ownInbox = inboxPrefix === "_INBOX" ? undefined : inboxPrefix;
    this.#names = names;
    this.sessionPrefix = session === undefined ? "" : `${session}.`;
    connection.onReconnect(() => {
      this.#unconfirmed = 0;
      this.#sinceConfirm = 0;
    });
  }

  publish(subject: string, frame: Frame, via?: string): boolean {
    const handlers = this.#handlers.get(subject);
    if (handlers !== undefined) {
      for (const handler of handlers) handler(frame);
      return true;
    }
    if (!this.#connection.connected || this.#unconfirmed > UNCONFIRMED_MAX) {
      this.dropped++;
      return false;
    }
    const target = this.#targetOf(subject, frame, via);
    const reply = frame.kind === "request" ? `${this.#names.app}.client.${frame.session}` : undefined;
    let outgoing = this.#outgoing.get(target);
    if (outgoing !== undefined && outgoing.reply !== reply) {
      // Of another session in this process: whoever is not heard must be told himself.
      this.#emit(target, outgoing);
      this.#outgoing.delete(target);
      outgoing = undefined;
    }
    if (outgoing !== undefined) outgoing.frames.push(frame);
    else this.#outgoing.set(target, { frames: [frame], reply });
    if (!this.#flushing) {
      this.#flushing = true;
      queueMicrotask(() => this.#flush());
    }
    return true;
  }

  subscribe(subject: string, handler: Handler): () => void {
    const own: Handler = (frame) => handler(frame);
    const before = this.#handlers.get(subject);
    this.#handlers.set(subject, [...(before ?? []), own]);
    if (before === undefined) this.#stops.set(subject, this.#listen(subject));
    return () => {
      const left = (this.#handlers.get(subject) ?? []).filter((other) => other !== own);
      if (left.length > 0) this.#handlers.set(subject, left);
      else if (this.#handlers.delete(subject)) {
        this.#stops.get(subject)?.();
        this.#stops.delete(subject);
      }
    };
  }

  serve(gateway: Gateway): () => Promise<void> {
    this.#gateway = gateway;
    const { app, info } = this.#names;
    const stopPlain = this.#plain(`${app}.actor.>`, 2);
    const stopInfo = this.#connection.subscribe(
      info,
      (message) => this.#answer(message, this.#info(gateway)),
      QUEUE,
    );
    return async () => {
      stopInfo();
      await Promise.all([stopPlain(), ...[...this.#lingering].map((end) => end())]);
      if (this.#gateway === gateway) this.#gateway = undefined;
    };
  }

  #targetOf(subject: string, frame: Frame, via: string | undefined): string {
    const { app } = this.#names;
    if (subject.startsWith("shard.")) {
      if (frame.kind !== "request") return `${app}.peer.${subject.slice(6)}`;
      if (via !== undefined) return `${app}.node.${via}`;
    }
    return `${app}.${subject}`;
  }

  #flush(): void {
    this.#flushing = false;
    for (const [target, outgoing] of this.#outgoing) this.#emit(target, outgoing);
    this.#outgoing.clear();
    if (this.#sinceConfirm >= CONFIRM_BYTES) this.#confirm();
  }

  #emit(target: string, { frames, reply }: Outgoing): void {
    for (const payload of this.#encoded(frames)) {
      if (!this.#connection.publish(target, payload, reply)) {
        this.dropped++;
        continue;
      }
      this.#unconfirmed += payload.length;
      this.#sinceConfirm += payload.length;
    }
  }

  #encoded(frames: readonly Frame[]): readonly Uint8Array[] {
    try {
      return encodeFrames(frames);
    } catch (error) {
      // Nobody can be told here; whoever makes frames keeps them below the limit.
      this.dropped += frames.length;
      this.#connection.onTrouble("encode frames", error);
      return [];
    }
  }

  /** The server answers in order: when it answers this, it has read everything before. */
  #confirm(): void {
    const bytes = this.#sinceConfirm;
    this.#sinceConfirm = 0;
    this.#connection.flush().then(
      () => {
        this.#unconfirmed = Math.max(0, this.#unconfirmed - bytes);
      },
      () => undefined,
    );
  }

  // ---- Receiving --------------------------------------------------------------------------------------------------

  #listen(subject: string): () => void {
    const { app } = this.#names;
    const [head, rest = ""] = [
      subject.slice(0, subject.indexOf(".")),
      subject.slice(subject.indexOf(".") + 1),
    ];
    if (head === "shard") {
      const shard = Number(rest);
      const isRequest = (frame: Frame): boolean => frame.kind === "request" && frame.shard === shard;
      const isPeer = (frame: Frame): boolean =>
        (frame.kind === "told" || frame.kind === "ack") && frame.shard === shard;
      const stops = [
        this.#frames(`${app}.shard.${rest}`, subject, isRequest),
        this.#frames(`${app}.peer.${rest}`, subject, isPeer),
      ];
      const stopPlain = this.#plain(`${app}.shard.${rest}.*.*`, 3);
      return () => {
        for (const stop of stops) stop();
        this.#linger(stopPlain);
      };
    }
    if (head === "node") return this.#frames(`${app}.${subject}`, subject, ({ kind }) => kind === "request");
    if (head === "client") {
      const isAnswer = ({ kind }: Frame): boolean =>
        kind === "reply" || kind === "refusal" || kind === "watch";
      return this.#frames(`${app}.${subject}`, subject, isAnswer);
    }
    return this.#frames(`${app}.${subject}`, subject, () => true);
  }

  #frames(natsSubject: string, subject: string, belongs: (frame: Frame) => boolean): () => void {
    return this.#connection.subscribe(natsSubject, (message) => {
      const { data } = message;
      if (data.length === 0) {
        this.#unheard(message, subject);
        return;
      }
      let frames: readonly Frame[];
      try {
        frames = decodeFrames(data, limits.frameBytes, this.shards);
      } catch (error) {
        this.#refuse(message, error);
        return;
      }
      for (const frame of frames) {
        if (!belongs(frame)) {
          this.foreign++;
          continue;
        }
        for (const handler of this.#handlers.get(subject) ?? []) handler(frame);
      }
    });
  }

  /** The server says that nobody listens where this process had published. */
  #unheard(message: Msg, subject: string): void {
    const set = message.headers;
    if (set?.code !== 503) {
      this.foreign++;
      return;
    }
    const [app, head, name = ""] = set.get("Nats-Subject").split(".");
    const refusal = { kind: "refusal", reason: "moved", epoch: 0, expected: 0 } as const;
    let frame: RefusalFrame;
    if (app === this.#names.app && head === "node") frame = { ...refusal, shard: undefined, from: name };
    else if (app === this.#names.app && head === "shard" && SHARD.test(name))
      frame = { ...refusal, shard: Number(name), from: "" };
    else {
      this.foreign++;
      return;
    }
    for (const handler of this.#handlers.get(subject) ?? []) handler(frame);
  }

  /** Bytes that are no frames. Whoever asked as a plain client learns why. */
  #refuse(message: Msg, error: unknown): void {
    this.foreign++;
    // A client of ours does not read JSON.
    if (message.reply?.startsWith(`${this.#names.app}.`)) return;
    if (error instanceof KeyturnError) this.#answer(message, json({ error: error.toJSON() }));
  }

  /** Answers a plain client, if it waits for an answer where answers may go. */
  #answer({ reply }: Msg, bytes: Uint8Array): void {
    if (!reply) return;
    if (this.#isInbox(reply)) this.#connection.publish(reply, bytes);
    else this.foreign++;
  }

  #info(gateway: Gateway): Uint8Array {
    const layout = layoutOut(this.layout());
    const info = gateway.info();
    return Object.keys(layout).length === 0 ? info : json({ ...(fromJson(info) as object), ...layout });
  }

  #isInbox(subject: string): boolean {
    if (this.#ownInbox !== undefined && subject.startsWith(`${this.#ownInbox}.`)) return false;
    return INBOX.test(subject) || subject.startsWith(`${this.#names.app}.client.`);
  }

  // ---- Plain messages ---------------------------------------------------------------------------------------------

  /**
   * Receives plain messages of a subject.
   * @param skip tokens of it before the type
   * @returns ends it; resolves when all that the server had sent before has been received
   */
  #plain(subject: string, skip: number): () => Promise<void> {
    return this.#connection.listen(subject, (message) => this.#takePlain(message, skip), QUEUE).drain;
  }

  #linger(stop: () => Promise<void>): void {
    if (this.#gateway === undefined) {
      void stop();
      return;
    }
    const end = (): Promise<void> => {
      clearTimeout(timer);
      this.#lingering.delete(end);
      return stop();
    };
    const timer = setTimeout(() => void end(), LINGER_MS).unref();
    this.#lingering.add(end);
  }

  #takePlain(message: Msg, skip: number): void {
    const { subject, reply } = message;
    if (reply && !this.#isInbox(reply)) {
      this.foreign++;
      return;
    }
    const tokens = subject.split(".").slice(skip);
    this.#gateway?.plain({
      type: tokens[0] ?? "",
      token: tokens.slice(1).join("."),
      payload: message.data,
      header: (name) => message.headers?.get(name) || undefined,
      respond: reply ? (bytes) => this.#answer(message, bytes) : undefined,
    });
  }
}
