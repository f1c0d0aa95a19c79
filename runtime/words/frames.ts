/**
 * Frames: what travels between clients and nodes, and between shards.
 *
 * Owns their shapes and their encoding. Talks to the codec and, for bytes from outside, to the ForeignReader. In one
 * process frames travel by reference (their payloads are frozen); over a network as msgpack, each a flat array, one or
 * more of them behind a byte that is the format's version.
 *
 * Two kinds of numbered channel carry all messages, with the same rules. Towards a shard, a client session numbers
 * its requests 1, 2, 3 …, and another shard numbers the messages that its actors told. The receiver takes number
 * `last + 1` and nothing else: below is a repetition, above is a gap. That makes order and exactly-once one
 * mechanism, in bounded space.
 */
import { isType } from "./address.ts";
import { encode } from "./codec.ts";
import { KeyturnError } from "./errors.ts";
import { ForeignReader, foreign } from "./foreign.ts";
import { LANES, laneOfChannel, shardOfChannel } from "./lanes.ts";
import { limits } from "./limits.ts";

/** What a request asks of an actor. */
export const Ask = 0;
/** Like Ask, but nobody wants the answer's value. */
export const Send = 1;
/** The current state, linearizable. */
export const Get = 2;
export const Delete = 3;
/** The past of an actor, a page of it. `event` is a HistoryQuery. */
export const History = 4;
/** Subscribe the session's inbox to an actor's states. `event` is the watch's id; see WatchFrame. */
export const Watch = 5;
export const Unwatch = 6;
/** Like Ask, but the answer is `{ value, state }`: the machine's reply or null, and the new state. */
export const AskBoth = 7;
/** Begins an actor. `event` is its machine's input; the answer is the state. */
export const Create = 8;
/** The delays that an actor waits for. */
export const Timers = 9;
/** Takes one of them away. `event` says which; the answer is whether it was there. */
export const CancelTimer = 10;
/**
 * Asks a shard about its actors of one type, whoever they are: `id` is the type, the key is empty, and `event` is a
 * ShardQuery (runtime/engine/queries.ts).
 */
export const Query = 11;
/** Puts a whole state in an actor's place, if it stands where it is said to. `event` is a Replacement; the answer, whether. */
export const Replace = 12;
/** What waits for an actor just now, and for what it waits; answered at once, past all that waits. */
export const Mailbox = 13;
export type RequestKind = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13;

/** One request. Numbered by its place in the frame. */
export interface Request {
  readonly kind: RequestKind;
  readonly type: string;
  readonly key: string;
  /** `<type>.<encoded key>`, which the client had to derive for the shard; for a Query only the type. */
  readonly id: string;
  readonly event: unknown;
  /** Given by the caller, to recognise a repetition from any client. */
  readonly requestId: string | undefined;
  /** W3C trace context, carried on. */
  readonly trace: string | undefined;
}

/** Requests of one client session to one shard. */
export interface RequestFrame {
  readonly kind: "request";
  readonly shard: number;
  /** The session's name; replies go to `client.<session>`. */
  readonly session: string;
  /** Every number below this one is settled at the client: its stored reply may be forgotten. */
  readonly base: number;
  /** Number of the first request; the others follow without gap. */
  readonly first: number;
  /**
   * Epoch of the owner that this is meant for, 0 if the client does not know it yet. No other owner takes it in: what
   * one owner has refused must not be applied by the next, out of a frame that was late.
   */
  readonly epoch: number;
  readonly requests: readonly Request[];
}

/** A request's result: an error as code and text, or else a value. */
export type Reply = readonly [
  shard: number,
  number: number,
  error: readonly [code: string, text: string, epoch: number] | undefined,
  value: unknown,
];

/** Results for one client, of all the shards that one commit touched. */
export interface ReplyFrame {
  readonly kind: "reply";
  /** Incarnation that answers: where the client may send next time. */
  readonly from: string;
  readonly replies: readonly Reply[];
}

/** Requests were not taken in: send everything from `expected` again, in order, or look for another owner. */
export interface RefusalFrame {
  readonly kind: "refusal";
  /** Undefined for all shards that were believed to be at `from`; only made by a transport, never sent. */
  readonly shard: number | undefined;
  readonly from: string;
  readonly reason: "gap" | "moved";
  /** For a gap: the owner's epoch. */
  readonly epoch: number;
  /** For a gap: the number that must come next. */
  readonly expected: number;
}

/** A message that an actor told another. */
export interface Told {
  readonly type: string;
  readonly key: string;
  readonly id: string;
  readonly event: unknown;
  readonly trace: string | undefined;
  /** Set if it is a question that an actor's machine asks, or the answer to one. */
  readonly link?: AskLink;
}

/** Connects a question with its answer: the session of the child that asks and, in the question, whose child it is. */
export interface AskLink {
  readonly session: string;
  /** Id of the actor that asks; undefined in an answer. */
  readonly from: string | undefined;
}

/** `[session, id of who asked]` for a question, `[session]` for its answer. */
export type PackedLink = readonly [session: string, from?: string];

export function packLink({ session, from }: AskLink): PackedLink {
  return from === undefined ? [session] : [session, from];
}

export function unpackLink([session, from]: PackedLink): AskLink {
  return { session, from };
}

/** Messages from one shard to another, over the channel between them. */
export interface ToldFrame {
  readonly kind: "told";
  readonly shard: number;
  /** Name of the channel (lanes.ts): in lane 0 the shard that tells. */
  readonly fromShard: number;
  readonly first: number;
  readonly messages: readonly Told[];
}

/** All messages of the channel up to `upTo` are committed by the receiver. Sent to the sender's shard subject. */
export interface AckFrame {
  readonly kind: "ack";
  /** The shard that told. */
  readonly shard: number;
  /** Name of the channel: in lane 0 the shard that was told. */
  readonly fromShard: number;
  readonly upTo: number;
}

/** A watched actor's state after a commit. */
export interface WatchFrame {
  readonly kind: "watch";
  readonly watch: string;
  readonly state: unknown;
}

export type Frame = RequestFrame | ReplyFrame | RefusalFrame | ToldFrame | AckFrame | WatchFrame;

const REQUEST = 0;
const REPLY = 1;
const REFUSAL = 2;
const TOLD = 3;
const ACK = 4;
const WATCH = 5;
/** Like TOLD, where some of the messages are questions or answers. */
const LINKED = 6;

/** Items of a frame's array: those before the list that it carries, and those of each element. */
const REQUEST_HEAD = 6;
const REQUEST_ITEMS = 5;
const REPLY_HEAD = 2;
const REPLY_ITEMS = 4;
const TOLD_HEAD = 4;
const TOLD_ITEMS = 3;
const LINKED_ITEMS = 4;

const LAST_KIND: RequestKind = Mailbox;

/** A message's kind, and the heads of its texts. */
const MESSAGE_BYTES = 16;

/** First byte of what a network carries. */
const FRAMES_VERSION = 1;

/**
 * What a request or a told message takes in a frame, about: an estimate like that of `seal`, which its event's is.
 * See `limits.frameFill`.
 */
export function messageBytes(
  {
    id,
    requestId,
    trace,
  }: { readonly id: string; readonly requestId?: string | undefined; readonly trace: string | undefined },
  eventBytes: number,
): number {
  return MESSAGE_BYTES + id.length + (requestId?.length ?? 0) + (trace?.length ?? 0) + eventBytes;
}

/** A frame as bytes: msgpack of a flat array. */
export function encodeFrame(frame: Frame): Uint8Array {
  switch (frame.kind) {
    case "request": {
      const body: unknown[] = [REQUEST, frame.shard, frame.session, frame.base, frame.first, frame.epoch];
      for (const r of frame.requests) body.push(r.kind, r.id, r.event, r.requestId ?? null, r.trace ?? null);
      return encode(body);
    }
    case "reply": {
      const body: unknown[] = [REPLY, frame.from];
      for (const [shard, number, error, value] of frame.replies)
        body.push(shard, number, error ?? null, value);
      return encode(body);
    }
    case "refusal": {
      const moved = frame.reason === "moved" ? 1 : 0;
      return encode([REFUSAL, frame.shard, frame.from, moved, frame.expected, frame.epoch]);
    }
    case "told": {
      const linked = frame.messages.some((m) => m.link !== undefined);
      const body: unknown[] = [linked ? LINKED : TOLD, frame.shard, frame.fromShard, frame.first];
      for (const m of frame.messages) {
        body.push(m.id, m.event, m.trace ?? null);
        if (linked) body.push(m.link === undefined ? null : packLink(m.link));
      }
      return encode(body);
    }
    case "ack":
      return encode([ACK, frame.shard, frame.fromShard, frame.upTo]);
    case "watch":
      return encode([WATCH, frame.watch, frame.state]);
  }
}

/**
 * Frames as a network carries them, in order, in as few payloads of at most `limits.frameBytes` as they fit in.
 * Throws `invalid_frame` for a frame that fits into none. Who makes frames keeps them smaller.
 */
export function encodeFrames(frames: readonly Frame[]): Uint8Array[] {
  const payloads: Uint8Array[] = [];
  let parts: Uint8Array[] = [];
  let bytes = 1;
  for (const frame of frames) {
    const part = encodeFrame(frame);
    if (part.length >= limits.frameBytes) {
      const text = `A ${frame.kind} frame takes ${part.length} bytes, at most ${limits.frameBytes - 1} can be carried.`;
      throw new KeyturnError("invalid_frame", text);
    }
    if (bytes + part.length > limits.frameBytes) {
      payloads.push(payloadOf(parts, bytes));
      parts = [];
      bytes = 1;
    }
    parts.push(part);
    bytes += part.length;
  }
  if (parts.length > 0) payloads.push(payloadOf(parts, bytes));
  return payloads;
}

function payloadOf(parts: readonly Uint8Array[], bytes: number): Uint8Array {
  const payload = Buffer.allocUnsafe(bytes);
  payload[0] = FRAMES_VERSION;
  let at = 1;
  for (const part of parts) {
    payload.set(part, at);
    at += part.length;
  }
  return payload;
}

/**
 * The frames in a payload from outside.
 * @param shards how many shards the app has; undefined where that is not known: then who takes the frames in has to
 *   compare ids with shards
 * @throws KeyturnError `invalid_frame` for anything that is not what `encodeFrames` makes of legal frames
 */
export function decodeFrames(bytes: Uint8Array, bytesMax: number, shards?: number): Frame[] {
  checkLength(bytes, bytesMax);
  if (bytes.length === 0) throw foreign("there are none");
  if (bytes[0] !== FRAMES_VERSION) {
    throw new KeyturnError(
      "invalid_frame",
      `The message begins with version ${bytes[0]}, this runtime reads version ${FRAMES_VERSION}. Use one version of Keyturn on both sides.`,
    );
  }
  const reader = new ForeignReader(bytes, 1);
  const frames: Frame[] = [];
  do frames.push(readFrame(reader, shards));
  while (!reader.ended);
  return frames;
}

/** The one frame in bytes from outside. See `decodeFrames`. */
export function decodeFrame(bytes: Uint8Array, bytesMax: number, shards?: number): Frame {
  checkLength(bytes, bytesMax);
  const reader = new ForeignReader(bytes);
  const frame = readFrame(reader, shards);
  if (!reader.ended) throw foreign(`${reader.left} bytes follow the frame`);
  return frame;
}

function checkLength(bytes: Uint8Array, bytesMax: number): void {
  if (bytes.length > bytesMax)
    throw foreign(`there are ${bytes.length} bytes, over the limit of ${bytesMax}`);
}

function readFrame(reader: ForeignReader, shards: number | undefined): Frame {
  const items = reader.list();
  if (items === 0) throw foreign("a frame is empty");
  switch (reader.whole()) {
    case REQUEST:
      return readRequests(reader, countOf(items, REQUEST_HEAD, REQUEST_ITEMS, limits.frameRequests), shards);
    case REPLY:
      return readReplies(reader, countOf(items, REPLY_HEAD, REPLY_ITEMS, Number.POSITIVE_INFINITY), shards);
    case REFUSAL: {
      countOf(items, 6, 0, 0);
      const shard = readShard(reader, shards);
      const from = readName(reader);
      const reason = reader.whole();
      if (reason > 1) throw foreign("a refusal has no reason");
      const expected = reader.whole();
      return {
        kind: "refusal",
        shard,
        from,
        reason: reason === 1 ? "moved" : "gap",
        expected,
        epoch: reader.whole(),
      };
    }
    case TOLD:
      return readTold(reader, countOf(items, TOLD_HEAD, TOLD_ITEMS, limits.frameRequests), shards, false);
    case LINKED:
      return readTold(reader, countOf(items, TOLD_HEAD, LINKED_ITEMS, limits.frameRequests), shards, true);
    case ACK: {
      countOf(items, 4, 0, 0);
      const shard = readShard(reader, shards);
      return { kind: "ack", shard, fromShard: readChannel(reader, shards), upTo: reader.whole() };
    }
    case WATCH:
      countOf(items, 3, 0, 0);
      return { kind: "watch", watch: reader.text(limits.nameBytes), state: reader.value(ANSWER_DEPTH) };
    default:
      throw foreign("it is no frame of this protocol");
  }
}

/** What answers nest around values that are as deep as values may be. */
const ANSWER_DEPTH = limits.valueDepth + 8;

/** How many elements a frame of so many items carries: one at least, if it carries any. */
function countOf(items: number, head: number, each: number, countMax: number): number {
  const count = each === 0 ? 0 : (items - head) / each;
  if (each === 0 ? items !== head : !Number.isInteger(count) || count < 1)
    throw foreign(`a frame has ${items} parts`);
  if (count > countMax) throw foreign(`a frame holds ${count} messages, over the limit of ${countMax}`);
  return count;
}

function readRequests(reader: ForeignReader, count: number, shards: number | undefined): RequestFrame {
  const shard = readShard(reader, shards);
  const session = reader.text(limits.nameBytes);
  if (!SESSION.test(session)) throw foreign("a session has a name that none has");
  const base = readNumber(reader);
  const first = readNumber(reader);
  const epoch = reader.whole();
  const requests: Request[] = [];
  for (let at = 0; at < count; at++) {
    const kind = reader.whole();
    if (kind > LAST_KIND) throw foreign(`a request of kind ${kind} is not known here`);
    const isQuery = kind === Query;
    const id = isQuery ? readType(reader) : readId(reader, shard, shards);
    const type = isQuery ? id : reader.type;
    const key = isQuery ? "" : reader.key;
    requests.push({
      kind: kind as RequestKind,
      type,
      key,
      id,
      // A state is bounded as answers are.
      event:
        kind === Replace ? reader.value(ANSWER_DEPTH) : reader.value(limits.valueDepth, limits.valueNodes),
      requestId: reader.optionalText(limits.requestIdBytes),
      trace: reader.optionalText(limits.traceBytes),
    });
  }
  return { kind: "request", shard, session, base, first, epoch, requests };
}

function readTold(
  reader: ForeignReader,
  count: number,
  shards: number | undefined,
  linked: boolean,
): ToldFrame {
  const shard = readShard(reader, shards);
  const fromShard = readChannel(reader, shards);
  const first = readNumber(reader);
  const messages: Told[] = [];
  for (let at = 0; at < count; at++) {
    const id = readId(reader, shard, shards);
    const { type, key } = reader;
    const event = reader.value(limits.valueDepth, limits.valueNodes);
    const message = { type, key, id, event, trace: reader.optionalText(limits.traceBytes) };
    const link = linked ? readLink(reader) : undefined;
    messages.push(link === undefined ? message : { ...message, link });
  }
  return { kind: "told", shard, fromShard, first, messages };
}

function readLink(reader: ForeignReader): AskLink | undefined {
  if (reader.isNull()) return undefined;
  const items = reader.list();
  if (items !== 1 && items !== 2) throw foreign("a question is linked to nobody");
  const session = reader.text(limits.nameBytes);
  return { session, from: items === 2 ? reader.text(limits.idBytes) : undefined };
}

function readReplies(reader: ForeignReader, count: number, shards: number | undefined): ReplyFrame {
  const from = readName(reader);
  const replies: Reply[] = [];
  for (let at = 0; at < count; at++) {
    const shard = readShard(reader, shards);
    const number = readNumber(reader);
    const error = readError(reader);
    replies.push([shard, number, error, reader.value(ANSWER_DEPTH)]);
  }
  return { kind: "reply", from, replies };
}

function readError(reader: ForeignReader): Reply[2] {
  if (reader.isNull()) return undefined;
  if (reader.list() !== 3) throw foreign("an error is not code, text and epoch");
  return [reader.text(limits.nameBytes), reader.text(limits.frameBytes), reader.whole()];
}

function readShard(reader: ForeignReader, shards: number | undefined): number {
  const shard = reader.whole();
  if (shard >= (shards ?? limits.shards)) throw foreign(`there is no shard ${shard}`);
  return shard;
}

/** Name of a channel. */
function readChannel(reader: ForeignReader, shards: number | undefined): number {
  const channel = reader.whole();
  if (laneOfChannel(channel) >= LANES) throw foreign(`there is no channel ${channel}`);
  if (shardOfChannel(channel) >= (shards ?? limits.shards)) throw foreign(`there is no channel ${channel}`);
  return channel;
}

/** A number in a channel. */
function readNumber(reader: ForeignReader): number {
  const number = reader.whole();
  if (number === 0) throw foreign("a channel counts from 1");
  return number;
}

/** The type that a Query is about. */
function readType(reader: ForeignReader): string {
  const type = reader.text(limits.nameBytes);
  if (!isType(type)) throw foreign("a query is about no type");
  return type;
}

function readId(reader: ForeignReader, shard: number, shards: number | undefined): string {
  const id = reader.id();
  if (shards !== undefined && reader.hash % shards !== shard)
    throw foreign(`${id} does not live in shard ${shard}`);
  return id;
}

/** Subjects are made of names: they are legal tokens of one. */
const NAME = /^[A-Za-z0-9_-]+$/;
/** A session's name may have several. */
const SESSION = /^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$/;

function readName(reader: ForeignReader): string {
  const name = reader.text(limits.nameBytes);
  if (!NAME.test(name)) throw foreign("a node has a name that none has");
  return name;
}
