/**
 * Frames: what travels between clients and nodes, and between shards.
 *
 * Owns their shapes and their encoding. Talks to the codec. In one process frames travel by reference (their
 * payloads are frozen); over a network as msgpack.
 *
 * Two kinds of numbered channel carry all messages, with the same rules. Towards a shard, a client session numbers
 * its requests 1, 2, 3 …, and another shard numbers the messages that its actors told. The receiver takes number
 * `last + 1` and nothing else: below is a repetition, above is a gap. That makes order and exactly-once one
 * mechanism, in bounded space.
 */
import { decodeForeign, encode } from "./codec.ts";
import { KeyturnError, textOf } from "./errors.ts";
import { seal } from "./values.ts";

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
export type RequestKind = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7;

/** One request. Numbered by its place in the frame. */
export interface Request {
  readonly kind: RequestKind;
  readonly type: string;
  readonly key: string;
  /** `<type>.<encoded key>`, which the client had to derive for the shard. */
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
}

/** Messages from one shard to another, over the channel between them. */
export interface ToldFrame {
  readonly kind: "told";
  readonly shard: number;
  readonly fromShard: number;
  readonly first: number;
  readonly messages: readonly Told[];
}

/** All messages of the channel up to `upTo` are committed by the receiver. Sent to the sender's shard subject. */
export interface AckFrame {
  readonly kind: "ack";
  /** The shard that told. */
  readonly shard: number;
  /** The shard that was told. */
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

const kinds = ["request", "reply", "refusal", "told", "ack", "watch"] as const;

/** A frame as bytes: msgpack of a flat array, the kind first. */
export function encodeFrame(frame: Frame): Uint8Array {
  switch (frame.kind) {
    case "request": {
      const body: unknown[] = [0, frame.shard, frame.session, frame.base, frame.first, frame.epoch];
      for (const r of frame.requests)
        body.push(r.kind, r.id, r.event, r.requestId ?? null, r.trace ?? null, r.key);
      return encode(body);
    }
    case "reply":
      return encode([1, frame.from, frame.replies]);
    case "refusal":
      return encode([2, frame.shard, frame.from, frame.reason, frame.expected, frame.epoch]);
    case "told": {
      const body: unknown[] = [3, frame.shard, frame.fromShard, frame.first];
      for (const m of frame.messages) body.push(m.id, m.event, m.trace ?? null, m.key);
      return encode(body);
    }
    case "ack":
      return encode([4, frame.shard, frame.fromShard, frame.upTo]);
    case "watch":
      return encode([5, frame.watch, frame.state]);
  }
}

/** The frame in bytes from outside. Throws `invalid_frame` for anything that is not one. */
export function decodeFrame(bytes: Uint8Array, bytesMax: number): Frame {
  const body = decodeForeign(bytes, bytesMax);
  if (!Array.isArray(body)) throw bad();
  const list: unknown[] = body;
  const kind = kinds[whole(list[0])];
  switch (kind) {
    case "request": {
      const requests: Request[] = [];
      for (let at = 6; at < list.length; at += 6) {
        const id = text(list[at + 1]);
        requests.push({
          kind: requestKind(list[at]),
          type: id.slice(0, id.indexOf(".")),
          key: text(list[at + 5]),
          id,
          event: sealed(list[at + 2]),
          requestId: optionalText(list[at + 3]),
          trace: optionalText(list[at + 4]),
        });
      }
      const [, shard, session, base, first, epoch] = list;
      return {
        kind,
        shard: whole(shard),
        session: text(session),
        base: whole(base),
        first: whole(first),
        epoch: whole(epoch),
        requests,
      };
    }
    case "reply":
      return { kind, from: text(list[1]), replies: replies(list[2]) };
    case "refusal": {
      const reason = list[3];
      if (reason !== "gap" && reason !== "moved") throw bad();
      const [, shard, from, , expected, epoch] = list;
      return {
        kind,
        shard: whole(shard),
        from: text(from),
        reason,
        expected: whole(expected),
        epoch: whole(epoch),
      };
    }
    case "told": {
      const messages: Told[] = [];
      for (let at = 4; at < list.length; at += 4) {
        const id = text(list[at]);
        messages.push({
          type: id.slice(0, id.indexOf(".")),
          key: text(list[at + 3]),
          id,
          event: sealed(list[at + 1]),
          trace: optionalText(list[at + 2]),
        });
      }
      return { kind, shard: whole(list[1]), fromShard: whole(list[2]), first: whole(list[3]), messages };
    }
    case "ack":
      return { kind, shard: whole(list[1]), fromShard: whole(list[2]), upTo: whole(list[3]) };
    case "watch":
      return { kind, watch: text(list[1]), state: list[2] };
    default:
      throw bad();
  }
}

function replies(value: unknown): Reply[] {
  if (!Array.isArray(value)) throw bad();
  return value.map((reply: unknown): Reply => {
    if (!Array.isArray(reply)) throw bad();
    const [shard, number, error, result] = reply as unknown[];
    if (error === undefined || error === null) return [whole(shard), whole(number), undefined, result];
    if (!Array.isArray(error)) throw bad();
    return [whole(shard), whole(number), [text(error[0]), text(error[1]), whole(error[2])], undefined];
  });
}

/** What came over a network is frozen as what came by reference is. */
function sealed(value: unknown): unknown {
  try {
    seal(value, "event");
  } catch (cause) {
    throw new KeyturnError("invalid_frame", textOf(cause), { cause });
  }
  return value;
}

function requestKind(value: unknown): RequestKind {
  const kind = whole(value);
  if (kind > AskBoth) throw bad();
  return kind as RequestKind;
}

function whole(value: unknown): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw bad();
  return value;
}

function text(value: unknown): string {
  if (typeof value !== "string") throw bad();
  return value;
}

function optionalText(value: unknown): string | undefined {
  return value === null || value === undefined ? undefined : text(value);
}

function bad(): KeyturnError {
  return new KeyturnError("invalid_frame", "The bytes are msgpack, but not a frame of this protocol.");
}
