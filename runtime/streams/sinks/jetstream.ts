/**
 * A JetStream stream as a sink's target: each event exactly once in the stream, whatever fails in between.
 *
 * Owns a connection to the stream's server, made when it is first needed and closed when nothing was published for a
 * while, unless it was given one.
 *
 * A partition publishes to subjects that nobody else publishes to, `<subject>.<partition>` or below, in the order of its
 * items' numbers; each message names its number, and expects that the last message of these subjects is the one before.
 * So two runs of the same batch (the node was lost, or only thought to be) cannot both publish an item, and a run that
 * meets a conflict, or does not know where it stands, reads the last message: everything up to its number is in the
 * stream, everything after it is not. This needs no memory of the server's: `Nats-Msg-Id` is sent as well, for streams
 * whose last message was removed meanwhile, and covers the stream's duplicate window.
 *
 * Where the stream has `allow_atomic`, a batch is one atomic batch of the server's.
 */
import {
  jetstream as clientOf,
  type JetStreamClient,
  JetStreamApiError,
  type JetStreamManager,
  jetstreamManager,
  type StoredMsg,
} from "@nats-io/jetstream";
import { connect, headers as newHeaders, type MsgHdrs, type NatsConnection } from "@nats-io/transport-node";
import { openFault } from "../../stores/nats/faults.ts";
import { checkOptions, connectionOptions, type NatsOptions } from "../../stores/nats/options.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";
import {
  jsonOf,
  type Published,
  type PublishArgs,
  type SinkBatch,
  type SinkItem,
  type SinkTarget,
} from "./target.ts";

export interface JetStreamSinkOptions {
  /** How its server is reached: as a store's, or by a connection that is there and stays the caller's. */
  readonly nats:
    | Omit<
        NatsOptions,
        | "app"
        | "session"
        | "replicas"
        | "snapshotBuckets"
        | "journals"
        | "provision"
        | "durability"
        | "monitor"
      >
    | NatsConnection;
  /** Made by whoever owns it; it must capture the subjects. */
  readonly stream: string;
  /** Messages are published to `<subject>.<partition>`. Nobody else may publish there. */
  readonly subject: string;
  /** Further tokens of a message's subject: `(item) => item.event.type` gives `<subject>.<partition>.order.paid`. */
  readonly suffix?: (item: SinkItem) => string;
  /** A message's payload; the event as JSON by default. If it throws, the item becomes a dead letter. */
  readonly encode?: (item: SinkItem) => Uint8Array | string;
  /** Headers besides `Keyturn-Item` (epoch and number) and `Keyturn-From`. */
  readonly headers?: (item: SinkItem) => Readonly<Record<string, string>>;
  /** Sends `Nats-Msg-Id` as well; true by default. Not within atomic batches, which need none. */
  readonly msgId?: boolean;
}

const SUBJECT = /^[^\s.*>]+(?:\.[^\s.*>]+)*$/;
const ITEM = "Keyturn-Item";
const FROM = "Keyturn-From";
/** Codes of the server. */
const WRONG_SEQUENCE = new Set([10_071, 10_164]);
const TOO_LARGE = 10_054;
const NO_MESSAGE = 10_037;
/** An unused connection is closed after so long. Real time: this is outside of the engine. */
const IDLE_MS = 2_000;
/** Conflicts in one run after which another attempt is made. */
const CONFLICTS_MAX = 8;

/** Where a partition stands: sequence of its last message in the stream. */
type Mark = number;

/**
 * Publishes to a JetStream stream, exactly once.
 * @throws KeyturnError `invalid_options`
 */
export function toJetStream(options: JetStreamSinkOptions): SinkTarget {
  check(options);
  return new JetStreamTarget(options);
}

interface Open {
  readonly nc: NatsConnection;
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
  readonly atomic: boolean;
}

interface Message {
  readonly item: SinkItem;
  readonly subject: string;
  readonly payload: Uint8Array | string;
}

class JetStreamTarget implements SinkTarget {
  readonly description: string;
  readonly #options: JetStreamSinkOptions;
  #opening: Promise<Open> | undefined;
  #users = 0;
  #idle: NodeJS.Timeout | undefined;

  constructor(options: JetStreamSinkOptions) {
    this.#options = options;
    this.description = `JetStream ${options.stream}, ${options.subject}.*`;
  }

  async publish(batch: SinkBatch, { signal }: PublishArgs): Promise<Published> {
    this.#users++;
    clearTimeout(this.#idle);
    try {
      const open = await this.#open();
      return await new Run(this.#options, open, batch, signal).run();
    } finally {
      this.#users--;
      if (this.#users === 0) this.#idle = setTimeout(() => void this.close(), IDLE_MS);
    }
  }

  async close(): Promise<void> {
    clearTimeout(this.#idle);
    const opening = this.#opening;
    this.#opening = undefined;
    const open = await opening?.catch(() => undefined);
    if (open !== undefined && open.nc !== this.#options.nats) await open.nc.close();
  }

  #open(): Promise<Open> {
    this.#opening ??= this.#connect().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  async #connect(): Promise<Open> {
    const { nats, stream } = this.#options;
    const given = isConnection(nats);
    const options = given ? undefined : connectionOptions(nats);
    const nc = given
      ? nats
      : await connect(options as object).catch((cause: unknown) => {
          throw openFault(cause, (nats as NatsOptions).servers as string);
        });
    try {
      const jsm = await jetstreamManager(nc, { checkAPI: false });
      const { config } = await jsm.streams.info(stream);
      return { nc, js: clientOf(nc), jsm, atomic: config.allow_atomic === true };
    } catch (cause) {
      if (!given) await nc.close();
      throw new Error(`The stream ${stream} cannot be published to: ${textOf(cause)}`, { cause });
    }
  }
}

/** One attempt at one batch. */
class Run {
  readonly #options: JetStreamSinkOptions;
  readonly #open: Open;
  readonly #batch: SinkBatch;
  readonly #signal: AbortSignal;
  readonly #subject: string;
  /** What the partition's messages are found by. */
  readonly #filter: string;
  readonly #refused: [number, string][] = [];
  #mark: Mark | undefined;

  constructor(options: JetStreamSinkOptions, open: Open, batch: SinkBatch, signal: AbortSignal) {
    this.#options = options;
    this.#open = open;
    this.#batch = batch;
    this.#signal = signal;
    this.#subject = `${options.subject}.${batch.partition}`;
    this.#filter = options.suffix === undefined ? this.#subject : `${this.#subject}.>`;
    this.#mark = typeof batch.mark === "number" ? batch.mark : undefined;
  }

  async run(): Promise<Published> {
    let left = this.#messages();
    // Whoever does not know where it stands looks first.
    if (this.#mark === undefined) left = await this.#rest(left);
    let { atomic } = this.#open;
    for (let conflicts = 0; left.length > 0; ) {
      if (this.#signal.aborted) throw new Error("Another node publishes this partition.");
      try {
        if (atomic && left.length > 1) await this.#atomically(left);
        else await this.#one(left[0] as Message);
        left = atomic && left.length > 1 ? [] : left.slice(1);
      } catch (error) {
        const code = error instanceof JetStreamApiError ? error.code : undefined;
        if (code === TOO_LARGE && !(atomic && left.length > 1)) {
          this.#refused.push([(left[0] as Message).item.number, textOf(error)]);
          left = left.slice(1);
        } else if (code !== undefined && WRONG_SEQUENCE.has(code)) {
          if (++conflicts > CONFLICTS_MAX) throw error;
          left = await this.#rest(left);
        } else if (code !== undefined && atomic) {
          // One of them does not fit, or the server takes no batch just now.
          atomic = false;
        } else throw error;
      }
    }
    return { mark: this.#mark, refused: this.#refused };
  }

  /** What is to be published, without what never can be. */
  #messages(): Message[] {
    const { encode, suffix } = this.#options;
    const max = this.#open.nc.info?.max_payload ?? Number.POSITIVE_INFINITY;
    return this.#batch.items.flatMap((item): Message[] => {
      try {
        const payload = encode === undefined ? jsonOf(item.event) : encode(item);
        const bytes = typeof payload === "string" ? Buffer.byteLength(payload) : payload.length;
        // Its headers count too.
        if (bytes + 1_024 > max)
          throw new Error(`It takes ${bytes} bytes, the server takes ${max} with headers.`);
        const tail = suffix?.(item);
        if (tail !== undefined && !SUBJECT.test(tail)) throw new Error(`"${tail}" is no part of a subject.`);
        return [{ item, payload, subject: tail === undefined ? this.#subject : `${this.#subject}.${tail}` }];
      } catch (cause) {
        this.#refused.push([item.number, textOf(cause)]);
        return [];
      }
    });
  }

  /** Looks where the partition stands, and leaves out what is in the stream. */
  async #rest(messages: readonly Message[]): Promise<Message[]> {
    const last = await this.#last();
    if (last === undefined) {
      this.#mark = 0;
      return [...messages];
    }
    this.#mark = last.seq;
    const named = last.header.get(ITEM);
    if (named === "")
      throw new Error(
        `Message ${last.seq} on ${last.subject} is not of this sink. Nobody else may publish to ${this.#filter}.`,
      );
    const dot = named.lastIndexOf(".");
    // Of a former life of the partition's actor.
    if (named.slice(0, dot) !== `${this.#batch.sink}.${this.#batch.epoch}`) return [...messages];
    const number = Number(named.slice(dot + 1));
    return messages.filter(({ item }) => item.number > number);
  }

  async #last(): Promise<StoredMsg | undefined> {
    try {
      // Not a direct read: the stream's leader answers, which has all that it acknowledged.
      const found = await this.#open.jsm.streams.getMessage(this.#options.stream, {
        last_by_subj: this.#filter,
      });
      return found ?? undefined;
    } catch (error) {
      if (error instanceof JetStreamApiError && error.code === NO_MESSAGE) return undefined;
      throw error;
    }
  }

  async #one(message: Message): Promise<void> {
    const { js } = this.#open;
    const { subject, payload, item } = message;
    const { stream, msgId = true } = this.#options;
    const ack = await js.publish(subject, payload, {
      headers: this.#headers(item),
      expect: { streamName: stream, ...this.#expected() },
      ...(msgId ? { msgID: item.id } : {}),
    });
    this.#mark = ack.seq;
  }

  async #atomically(messages: readonly Message[]): Promise<void> {
    const [first, ...others] = messages as [Message, ...Message[]];
    const last = others.pop() as Message;
    const batch = await this.#open.js.startBatch(first.subject, first.payload, {
      headers: this.#headers(first.item),
      expect: { streamName: this.#options.stream, ...this.#expected() },
    });
    for (const { subject, payload, item } of others)
      batch.add(subject, payload, { headers: this.#headers(item) });
    const ack = await batch.commit(last.subject, last.payload, {
      headers: this.#headers(last.item),
      timeout: 5_000,
    });
    this.#mark = ack.seq;
  }

  #expected(): { lastSubjectSequence: number; lastSubjectSequenceSubject?: string } {
    const lastSubjectSequence = this.#mark ?? 0;
    return this.#filter === this.#subject
      ? { lastSubjectSequence }
      : { lastSubjectSequence, lastSubjectSequenceSubject: this.#filter };
  }

  #headers(item: SinkItem): MsgHdrs {
    const headers = newHeaders();
    for (const [name, value] of Object.entries(this.#options.headers?.(item) ?? {})) headers.set(name, value);
    headers.set(ITEM, `${this.#batch.sink}.${this.#batch.epoch}.${item.number}`);
    headers.set(FROM, encodeURI(item.from));
    return headers;
  }
}

function isConnection(nats: JetStreamSinkOptions["nats"]): nats is NatsConnection {
  return typeof (nats as Partial<NatsConnection>).publish === "function";
}

function check(options: JetStreamSinkOptions): void {
  const fault = (text: string): never => {
    throw new KeyturnError("invalid_options", text);
  };
  if (typeof options !== "object" || options === null)
    fault('toJetStream takes { nats: { servers: "127.0.0.1:4222" }, stream, subject }.');
  const { nats, stream, subject } = options;
  if (typeof stream !== "string" || stream === "") fault("toJetStream needs the name of a stream.");
  if (typeof subject !== "string" || !SUBJECT.test(subject))
    fault(`toJetStream publishes below a subject without wildcards, not ${JSON.stringify(subject)}.`);
  for (const name of ["suffix", "encode", "headers"] as const)
    if (options[name] !== undefined && typeof options[name] !== "function")
      fault(`${name} is a function of an item.`);
  if (typeof nats !== "object" || nats === null) fault('nats is { servers: "host:port" }, or a connection.');
  if (!isConnection(nats)) checkOptions(nats);
}
