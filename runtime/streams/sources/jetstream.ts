/**
 * A JetStream stream as a source: one message an item, numbered by its sequence.
 *
 * Owns a connection to the stream's server, made when it is first needed, unless it was given one. A position is the
 * sequence of the last message that was looked at; reading is done by ordered consumers that leave nothing on the server.
 *
 * A stream is known by when it was created. Messages that were removed before they could be read (limits, a purge) are
 * noticed where reading begins and, without filters, wherever a sequence is missing; messages that somebody deleted from
 * the middle of a stream are no items.
 */
import {
  type Consumer,
  type ConsumerMessages,
  type JetStreamClient,
  jetstream as clientOf,
  type JsMsg,
  type StreamInfo,
} from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { isBroken } from "./files/ndjson.ts";
import { openFault } from "../../stores/nats/faults.ts";
import { checkOptions, connectionOptions, type NatsOptions } from "../../stores/nats/options.ts";
import { hashTokens } from "../../words/address.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";
import type { PlannedPartition, Position } from "./words.ts";
import {
  changed,
  type Chunk,
  checkWhole,
  type Extent,
  type Item,
  type MessageInfo,
  type SourceReader,
  unreadable,
} from "./reader.ts";

/** How the stream's server is reached: as a store's, or by a connection that is there and stays the caller's. */
export type StreamServer = Omit<
  NatsOptions,
  "app" | "session" | "replicas" | "snapshotBuckets" | "journals" | "provision" | "durability" | "monitor"
>;

export interface JetStreamOptions<T> {
  readonly stream: string;
  readonly nats: StreamServer | NatsConnection;
  /** Only messages of these subjects, wildcards allowed; all by default. */
  readonly subjects?: readonly string[];
  /**
   * Parts that are read at once, over all nodes; 1 by default. A message goes to one by its subject: so the order within a
   * subject is kept. Each part reads all messages and leaves out the others'. Fixed when the stream is first read.
   */
  readonly partitions?: number;
  /** Where the first run begins: with the first message there is (default), a sequence, a time, or only "new" ones. */
  readonly start?: "first" | "new" | number | Date;
  /** Goes on with what comes later, until the run is stopped; true by default. */
  readonly follow?: boolean;
  /**
   * If messages were removed before they could be read: "stop" (default) ends the run with `source_changed`, "skip" counts
   * them as missed and goes on with the first there is.
   */
  readonly onMissed?: "stop" | "skip";
  /** Makes the value of a message; by default it is JSON in UTF-8. What it throws makes the message malformed. */
  readonly decode?: (data: Uint8Array, info: MessageInfo) => T;
}

const PARTS_MAX = 256;
const CHUNK_ITEMS = 512;
/** Messages of other parts after which the position is noted all the same. */
const PASSED_MAX = 5_000;
const SHOWN_BYTES = 2_000;

/**
 * Reads a JetStream stream. Subjects, times and headers are in `info.message` of the source's function.
 * @throws KeyturnError `invalid_options`
 */
export function jetstream<T = unknown>(options: JetStreamOptions<T>): SourceReader<T> {
  check(options);
  return new StreamReader<T>(options);
}

class StreamReader<T> implements SourceReader<T> {
  readonly description: string;
  readonly unit = "messages";
  readonly follow: boolean;
  readonly #options: JetStreamOptions<T>;
  #connection: Promise<NatsConnection> | undefined;

  constructor(options: JetStreamOptions<T>) {
    this.#options = options;
    this.description = `the JetStream stream ${options.stream}`;
    this.follow = options.follow ?? true;
  }

  async plan(): Promise<readonly PlannedPartition[]> {
    const { stream, partitions = 1, start = "first" } = this.#options;
    const { created, state } = await this.#info();
    const from = start === "new" ? state.last_seq + 1 : start === "first" ? 0 : start;
    const begin = from instanceof Date ? from.toISOString() : from;
    return Array.from({ length: partitions }, (_, part) => ({
      group: stream,
      spec: { part, of: partitions, from: begin },
      identity: { created: String(created) },
    }));
  }

  async *read(
    { spec, identity }: PlannedPartition,
    position: Position,
    { signal }: { readonly signal: AbortSignal },
  ): AsyncGenerator<Chunk<T>> {
    const { stream } = this.#options;
    const { state, created } = await this.#info();
    const last = (position as number | null) ?? 0;
    if (String(created) !== identity.created || state.last_seq < last)
      throw changed(
        `The stream ${stream} is not the one that was read before: it was made on ${created}, and its last sequence is ${state.last_seq}. Begin anew with resetSource().`,
      );
    let missed = position === null ? 0 : this.#missed(state, last);
    const start = Math.max(last, position === null ? 0 : state.first_seq - 1);
    const messages = await this.#consume(spec.from as number | string, position as number | null, signal);
    if (messages === undefined) return;
    let ended = false;
    try {
      for await (const passed of this.#passed(messages, spec, start, state.last_seq)) {
        if (signal.aborted) return;
        const { trimmed, over, ...chunk } = passed;
        ended = over;
        missed += trimmed;
        // They are counted with the item after them.
        if (missed === 0 || chunk.items.length === 0) yield chunk;
        else {
          yield { ...chunk, missed };
          missed = 0;
        }
      }
      if (!signal.aborted && !ended) throw new Error("the reading was ended by the server");
    } finally {
      messages.stop();
    }
  }

  /** What comes, some at a time: what is there already, at most a chunk. */
  async *#passed(
    messages: ConsumerMessages,
    spec: PlannedPartition["spec"],
    last: number,
    end: number,
  ): AsyncGenerator<Chunk<T> & { readonly trimmed: number; readonly over: boolean }> {
    const whole = this.#options.subjects === undefined;
    let items: Item<T>[] = [];
    let at = last;
    let passed = 0;
    let trimmed = 0;
    for await (const message of messages) {
      const { seq } = message;
      if (whole && at > 0 && seq > at + 1) trimmed += this.#missed((await this.#info()).state, at);
      at = seq;
      const over = !this.follow && (seq >= end || message.info.pending === 0);
      if (hashTokens(message.subject, "") % (spec.of as number) === spec.part)
        items.push(this.#item(message));
      else passed++;
      if (
        over ||
        items.length >= CHUNK_ITEMS ||
        passed >= PASSED_MAX ||
        (items.length > 0 && messages.getPending() === 0)
      ) {
        yield { items, position: at, trimmed, over };
        items = [];
        passed = 0;
        trimmed = 0;
      }
      if (over) return;
    }
  }

  async extent({ spec }: PlannedPartition, position: Position): Promise<Extent> {
    const { state } = await this.#info();
    const first = typeof spec.from === "number" ? Math.max(spec.from, state.first_seq) : state.first_seq;
    const total = Math.max(0, state.last_seq - first + 1);
    const done = Math.min(total, Math.max(0, ((position as number | null) ?? 0) - first + 1));
    // Of the others' messages it is not known which they are.
    const parts = spec.of as number;
    return { done: Math.floor(done / parts), total: Math.floor(total / parts) };
  }

  async close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = undefined;
    if (connection === undefined || isConnection(this.#options.nats)) return;
    await (await connection.catch(() => undefined))?.close();
  }

  /** How many messages after a sequence are gone. */
  #missed(state: StreamInfo["state"], last: number): number {
    const missed = Math.max(0, state.first_seq - last - 1);
    if (missed > 0 && (this.#options.onMissed ?? "stop") === "stop")
      throw changed(
        `The stream ${this.#options.stream} begins at sequence ${state.first_seq}; it was read up to ${last}, so up to ${missed} messages are lost. Let it go on with { onMissed: "skip" }, which counts them.`,
      );
    return missed;
  }

  #item({ seq, data, subject, headers, info }: JsMsg): Item<T> {
    const message: MessageInfo = {
      subject,
      time_ms: Math.floor(info.timestampNanos / 1e6),
      header: (name) => {
        const value = headers?.get(name);
        return value === "" ? undefined : value;
      },
    };
    try {
      const { decode = parse } = this.#options;
      return { number: seq, after: seq, value: decode(data, message) as T, info: message };
    } catch (error) {
      const text = Buffer.from(data.subarray(0, SHOWN_BYTES)).toString("utf8");
      return { number: seq, after: seq, fault: textOf(error), text };
    }
  }

  /** Undefined if there is nothing to read, and what comes later is not read. */
  async #consume(
    from: number | string,
    position: number | null,
    signal: AbortSignal,
  ): Promise<ConsumerMessages | undefined> {
    const { stream, subjects } = this.#options;
    const start =
      position !== null
        ? { opt_start_seq: position + 1 }
        : typeof from === "string"
          ? { opt_start_time: from }
          : { opt_start_seq: Math.max(1, from) };
    const filter = subjects === undefined ? {} : { filter_subjects: [...subjects] };
    return this.#guarded(async () => {
      const consumer: Consumer = await (await this.#client()).consumers.get(stream, { ...start, ...filter });
      if (!this.follow && (await consumer.info(true)).num_pending === 0) return undefined;
      const messages = await consumer.consume({
        max_messages: 2 * CHUNK_ITEMS,
        abort_on_missing_resource: true,
      });
      signal.addEventListener("abort", () => messages.stop(), { once: true });
      if (signal.aborted) messages.stop();
      return messages;
    });
  }

  #info(): Promise<StreamInfo> {
    return this.#guarded(async () => {
      const manager = await (await this.#client()).jetstreamManager(false);
      return manager.streams.info(this.#options.stream);
    });
  }

  async #guarded<R>(ask: () => Promise<R>): Promise<R> {
    try {
      return await ask();
    } catch (cause) {
      throw unreadable(this.description, cause);
    }
  }

  async #client(): Promise<JetStreamClient> {
    const { nats } = this.#options;
    if (isConnection(nats)) return clientOf(nats);
    this.#connection ??= open(nats).catch((error: unknown) => {
      this.#connection = undefined;
      throw error;
    });
    return clientOf(await this.#connection);
  }
}

async function open(options: StreamServer): Promise<NatsConnection> {
  try {
    return await connect({ ...connectionOptions(options), name: options.name ?? "keyturn source" });
  } catch (cause) {
    const { servers } = options;
    throw openFault(cause, typeof servers === "string" ? servers : servers.join(", "));
  }
}

function parse(data: Uint8Array): unknown {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const text = bytes.toString("utf8");
  if (isBroken(text, bytes)) throw new Error("It is not UTF-8.");
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new Error(`It is not JSON: ${textOf(error)}.`, { cause: error });
  }
}

function isConnection(nats: StreamServer | NatsConnection): nats is NatsConnection {
  return typeof (nats as Partial<NatsConnection>).getServer === "function";
}

function check<T>(options: JetStreamOptions<T>): void {
  if (
    typeof options !== "object" ||
    options === null ||
    typeof options.stream !== "string" ||
    options.stream === ""
  )
    bad("jetstream takes { nats: { servers }, stream }.");
  const { nats, partitions = 1, start, subjects, onMissed, decode } = options;
  if (typeof nats !== "object" || nats === null)
    bad("jetstream needs { nats: { servers } }, or a connection.");
  if (!isConnection(nats)) checkOptions(nats);
  checkWhole("partitions", partitions, 1, PARTS_MAX);
  if (typeof start === "number") checkWhole("start", start, 1, Number.MAX_SAFE_INTEGER);
  else if (
    start instanceof Date ? Number.isNaN(start.getTime()) : ![undefined, "first", "new"].includes(start)
  )
    bad('start is "first", "new", a sequence or a Date.');
  if (subjects !== undefined && (!Array.isArray(subjects) || subjects.length === 0))
    bad("subjects is a list of at least one subject.");
  if (onMissed !== undefined && onMissed !== "stop" && onMissed !== "skip")
    bad('onMissed is "stop" or "skip".');
  if (decode !== undefined && typeof decode !== "function") bad("decode is a function of a message's bytes.");
}

function bad(text: string): never {
  throw new KeyturnError("invalid_options", text);
}
