/**
 * Records and batches: what one turn leaves in the journal, and how a node's turns lie in one append.
 *
 * Owns both formats. Talks to the codec. Golden files hold them (test/golden).
 *
 * A batch is an envelope (`K`, version, crc32) around
 *   header length (u16) · header · for each record its shard (u16) and length (u32) · the records
 * with the header `[incarnation, number, previous sequence, previous crc32, time, sealed by]` and each record a
 * msgpack array of its own, so that one record can be found by its index, or passed over by its shard, undecoded.
 *
 * Invariants:
 * 1. A batch names the batch before it in its lane, by sequence and checksum: a gap or a foreign batch is found.
 * 2. A record is self-contained but for its links, and links only point back.
 * 3. Applying an actor's records in order of turn, from any keyframe or snapshot on, gives its state. No user code.
 */
import type { AppendResult, Segment } from "../ports/index.ts";
import { decodeKey } from "../words/address.ts";
import { checksumOf, closeEnvelope, decode, encode, envelopeBytes, openEnvelope } from "../words/codec.ts";
import { KeyturnError } from "../words/errors.ts";
import { type AskLink, type PackedLink, packLink, type Told, unpackLink } from "../words/frames.ts";
import type { ChildEmitted, Timer } from "./machine.ts";
import type { FamilyChange } from "./machine/family.ts";

export type { AppendResult, Segment };

const BATCH_MAGIC = 0x4b;
const BATCH_VERSION = 1;
const TABLE_ROW = 6;

/** What kind of record: a turn that lists its changes, a turn with the whole state, a deletion, a refused message. */
export const DeltaTurn = 0;
export const KeyframeTurn = 1;
export const DeleteTurn = 2;
export const Refusal = 3;
export type RecordKind = 0 | 1 | 2 | 3;

/** Where the message came from. */
export const FromNowhere = 0;
export const FromSession = 1;
export const FromShard = 2;
export const FromTimer = 3;
/** What a child's work outside gave; the name is its session. */
export const FromWork = 4;
export type SourceKind = 0 | 1 | 2 | 3 | 4;

/** A link to an earlier record. Of a record not yet in the journal only its place relative to this one is known. */
export type Link = readonly [seq: number, index: number];
export const NoLink: Link = [0, 0];
/** In the lane's batch before this record's own. */
export const InPreviousBatch = -1;
/** In this record's own batch. */
export const InThisBatch = -2;

/** What a turn changed. `null` means unchanged; in a keyframe everything is there. */
export interface Change {
  /** Top-level context keys with their new values; all of them in a keyframe. */
  readonly context: Readonly<Record<string, unknown>> | null;
  readonly removed: readonly string[] | null;
  readonly value: unknown;
  /** Status, output, history and, if there is one, the error, which change rarely. */
  readonly rest: readonly [status: string, output: unknown, history: unknown, error?: unknown] | null;
  readonly timers: readonly Timer[] | null;
  /** What became of the invoked and spawned actors; all of them in a keyframe. */
  readonly children?: FamilyChange | null;
}

/** A message in a record's outbox: which channel, which number there, and the message. */
export interface OutMessage extends Told {
  /** Name of the channel (words/lanes.ts): in lane 0 the receiver's shard. */
  readonly toShard: number;
  readonly number: number;
  /** Of the event, by the estimate of `seal`; not stored. */
  readonly bytes?: number;
}

export interface TurnRecord {
  readonly kind: RecordKind;
  readonly id: string;
  readonly turn: number;
  /** The actor's previous record. */
  readonly previous: Link;
  /** The actor's previous keyframe. */
  readonly keyframe: Link;
  readonly source: SourceKind;
  /** Session name, shard number or timer id. */
  readonly sourceName: string | number;
  readonly sourceNumber: number;
  /** Milliseconds after the batch's time. */
  readonly delay: number;
  readonly version: number;
  readonly event: unknown;
  readonly change: Change | null;
  readonly out: readonly OutMessage[];
  readonly emitted: readonly unknown[];
  /** What its children emitted. */
  readonly childEmitted?: readonly ChildEmitted[];
  /** The machine's own reply, if it gave one. */
  readonly replied: boolean;
  readonly reply: unknown;
  readonly requestId: string | undefined;
  readonly trace: string | undefined;
  /** Who has asked, where the answer is left to a later turn: what the machine keeps of it depends on it. */
  readonly asker?: AskLink | undefined;
  /** For a Refusal: the error's code and text. */
  readonly refusal: readonly [code: string, text: string] | undefined;
}

const none: readonly never[] = [];

/** One record as bytes: what every turn has, and behind it, null for most turns, what few have. */
export function encodeRecord(r: TurnRecord): Uint8Array {
  const c = r.change;
  return encode([
    r.kind,
    r.id,
    r.turn,
    r.previous[0],
    r.previous[1],
    r.keyframe[0],
    r.keyframe[1],
    r.source,
    r.sourceName,
    r.sourceNumber,
    r.delay,
    r.version,
    r.event,
    c === null ? null : c.context,
    c === null ? null : c.value,
    r.replied ? 1 : 0,
    r.replied ? r.reply : null,
    rareParts(r, c),
  ]);
}

function rareParts(r: TurnRecord, c: Change | null): unknown[] | null {
  const timers = c === null ? null : c.timers;
  const children = c?.children ?? null;
  const changes = c !== null && (c.removed !== null || c.rest !== null || children !== null);
  const ofChildren = r.childEmitted !== undefined && r.childEmitted.length > 0;
  const sent = r.out.length > 0 || r.emitted.length > 0 || ofChildren;
  const named = r.requestId !== undefined || r.trace !== undefined || r.refusal !== undefined;
  if (timers === null && !changes && !sent && !named && r.asker === undefined) return null;
  const parts: unknown[] = [
    timers === null ? null : packTimers(timers),
    r.out.map(packOut),
    r.emitted,
    r.requestId ?? null,
    r.trace ?? null,
    r.refusal ?? null,
    c?.removed ?? null,
    c?.rest ?? null,
  ];
  if (children !== null || ofChildren || r.asker !== undefined) parts.push(children);
  if (ofChildren || r.asker !== undefined) parts.push(ofChildren ? r.childEmitted : null);
  if (r.asker !== undefined) parts.push(packLink(r.asker));
  return parts;
}

type RareParts = readonly [
  timers: PackedTimer[] | null,
  out: PackedOut[],
  emitted: unknown[],
  requestId: string | null,
  trace: string | null,
  refusal: NonNullable<TurnRecord["refusal"]> | null,
  removed: string[] | null,
  rest: Change["rest"],
  children?: FamilyChange | null,
  childEmitted?: readonly ChildEmitted[] | null,
  asker?: PackedLink,
];

export function decodeRecord(bytes: Uint8Array): TurnRecord {
  const b = decode(bytes) as unknown[];
  const kind = b[0] as RecordKind;
  const rare = b[17] as RareParts | null;
  const timers = rare === null ? null : rare[0];
  return {
    kind,
    id: b[1] as string,
    turn: b[2] as number,
    previous: [b[3] as number, b[4] as number],
    keyframe: [b[5] as number, b[6] as number],
    source: b[7] as SourceKind,
    sourceName: b[8] as string | number,
    sourceNumber: b[9] as number,
    delay: b[10] as number,
    version: b[11] as number,
    event: b[12],
    change:
      kind === DeleteTurn || kind === Refusal
        ? null
        : {
            context: b[13] as Record<string, unknown> | null,
            removed: rare === null ? null : rare[6],
            value: b[14],
            rest: rare === null ? null : rare[7],
            timers: timers === null ? null : timers.map(unpackTimer),
            ...(rare?.[8] ? { children: rare[8] } : {}),
          },
    out: rare === null ? none : rare[1].map(unpackOut),
    emitted: rare === null ? none : rare[2],
    ...(rare?.[9] ? { childEmitted: rare[9] } : {}),
    ...(rare?.[10] ? { asker: unpackLink(rare[10]) } : {}),
    replied: b[15] === 1,
    reply: b[15] === 1 ? b[16] : undefined,
    requestId: rare === null ? undefined : (rare[3] ?? undefined),
    trace: rare === null ? undefined : (rare[4] ?? undefined),
    refusal: rare === null ? undefined : (rare[5] ?? undefined),
  };
}

export type PackedTimer = readonly [
  id: string,
  due: number,
  generation: number,
  event: unknown,
  source?: string | null,
  target?: string | null,
  delay?: number | null,
  trace?: string,
];
type PackedOut = readonly [number, number, string, string, unknown, string | null, PackedLink?];

export function packTimers(timers: readonly Timer[]): PackedTimer[] {
  return timers.map(({ id, due, generation, event, source, target, delay, trace }) => {
    if (trace !== undefined)
      return [id, due, generation, event, source ?? null, target ?? null, delay ?? null, trace];
    if (delay !== undefined) return [id, due, generation, event, source ?? null, target ?? null, delay];
    if (source === undefined && target === undefined) return [id, due, generation, event];
    return [id, due, generation, event, source ?? null, target ?? null];
  });
}

export function unpackTimer(packed: PackedTimer): Timer {
  const [id, due, generation, event, source, target, delay, trace] = packed;
  const timer = { id, due, generation, event: event as Timer["event"] };
  if (source === undefined) return timer;
  const whose = { ...timer, source: source ?? undefined, target: target ?? undefined };
  const known = delay === undefined || delay === null ? whose : { ...whose, delay };
  return trace === undefined ? known : { ...known, trace };
}

function packOut({ toShard, number, id, key, event, trace, link }: OutMessage): PackedOut {
  if (link === undefined) return [toShard, number, id, key, event, trace ?? null];
  return [toShard, number, id, key, event, trace ?? null, packLink(link)];
}

function unpackOut([toShard, number, id, key, event, trace, link]: PackedOut): OutMessage {
  const message = { toShard, number, id, type: typeOfId(id), key, event, trace: trace ?? undefined };
  return link === undefined ? message : { ...message, link: unpackLink(link) };
}

export function typeOfId(id: string): string {
  return id.slice(0, id.indexOf("."));
}

export function keyOfId(id: string): string {
  return decodeKey(id.slice(id.indexOf(".") + 1));
}

/** What a batch says about itself. */
export interface BatchHeader {
  readonly incarnation: string;
  /** Counts the lane's batches from 1. */
  readonly number: number;
  /** Sequence of the lane's batch before, 0 for the first. */
  readonly previousSeq: number;
  /** Its checksum, 0 for the first. */
  readonly previousCrc: number;
  /** Milliseconds since the epoch. */
  readonly time: number;
  /** For a seal: who sealed the lane. */
  readonly sealedBy: string | undefined;
}

/** A batch with its records still encoded. */
export interface Batch {
  readonly seq: number;
  readonly crc: number;
  readonly header: BatchHeader;
  readonly count: number;
  /** What the records lie in, and where each begins. */
  readonly bytes: Uint8Array;
  offsetAt(index: number): number;
  /** Shard of the record at an index. */
  shardAt(index: number): number;
  recordAt(index: number): Uint8Array;
}

/** Encodes a batch. `parts` holds the encoded records, `shards` the shard of each. */
export function encodeBatch(
  header: BatchHeader,
  parts: readonly Uint8Array[],
  shards: readonly number[],
  partBytes: number,
): Uint8Array {
  const head = encode([
    header.incarnation,
    header.number,
    header.previousSeq,
    header.previousCrc,
    header.time,
    header.sealedBy ?? null,
  ]);
  const tableAt = envelopeBytes + 2 + head.length;
  const buffer = Buffer.allocUnsafeSlow(tableAt + parts.length * TABLE_ROW + partBytes);
  buffer.writeUInt16BE(head.length, envelopeBytes);
  buffer.set(head, envelopeBytes + 2);
  let row = tableAt;
  let at = tableAt + parts.length * TABLE_ROW;
  for (let index = 0; index < parts.length; index++) {
    const part = parts[index] as Uint8Array;
    buffer.writeUInt16BE(shards[index] as number, row);
    buffer.writeUInt32BE(part.length, row + 2);
    buffer.set(part, at);
    row += TABLE_ROW;
    at += part.length;
  }
  closeEnvelope(buffer, BATCH_MAGIC, BATCH_VERSION);
  return buffer;
}

/** Opens a batch. Throws `corrupt_record` or `newer_format`, naming the sequence. */
export function decodeBatch(bytes: Uint8Array, seq: number): Batch {
  const body = openEnvelope(bytes, BATCH_MAGIC, BATCH_VERSION);
  if (typeof body === "string") {
    if (body === "newer") {
      throw new KeyturnError(
        "newer_format",
        `Journal entry ${seq} was written in format ${bytes[1]}, this runtime reads up to ${BATCH_VERSION}. Upgrade this node.`,
      );
    }
    throw corrupt(seq, body === "checksum" ? "its checksum does not fit" : `it is ${body}`);
  }
  try {
    return openBatch(body, seq, checksumOf(bytes));
  } catch (cause) {
    if (cause instanceof KeyturnError) throw cause;
    throw corrupt(seq, "its header cannot be read");
  }
}

function openBatch(body: Uint8Array, seq: number, crc: number): Batch {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const headLength = view.getUint16(0);
  const [incarnation, number, previousSeq, previousCrc, time, sealedBy] = decode(
    body.subarray(2, 2 + headLength),
  ) as [string, number, number, number, number, string | null];
  const tableAt = 2 + headLength;
  const { offsets, count } = indexRecords(view, tableAt, seq);
  return {
    seq,
    crc,
    header: { incarnation, number, previousSeq, previousCrc, time, sealedBy: sealedBy ?? undefined },
    count,
    bytes: body,
    offsetAt: (index) => offsets[index] as number,
    shardAt: (index) => view.getUint16(tableAt + index * TABLE_ROW),
    recordAt: (index) => body.subarray(offsets[index] as number, offsets[index + 1] as number),
  };
}

/** The records' offsets. Their number is not stored: the table ends where the first record begins. */
function indexRecords(
  view: DataView,
  tableAt: number,
  seq: number,
): { offsets: Float64Array; count: number } {
  const room = view.byteLength - tableAt;
  let count = 0;
  let bytes = 0;
  while (count * TABLE_ROW + bytes < room) {
    bytes += view.getUint32(tableAt + count * TABLE_ROW + 2);
    count++;
  }
  if (count * TABLE_ROW + bytes !== room) throw corrupt(seq, "its table of records does not fit its length");
  const offsets = new Float64Array(count + 1);
  let at = tableAt + count * TABLE_ROW;
  for (let index = 0; index < count; index++) {
    offsets[index] = at;
    at += view.getUint32(tableAt + index * TABLE_ROW + 2);
  }
  offsets[count] = at;
  return { offsets, count };
}

export function corrupt(seq: number, problem: string): KeyturnError {
  return new KeyturnError(
    "corrupt_record",
    `Journal entry ${seq} is damaged: ${problem}. The shards in it are stopped, nothing of it is served. Restore the store from a copy.`,
  );
}

/** Makes a relative link absolute, for a record of the batch at `seq`. */
export function resolveLink(link: Link, batch: Pick<Batch, "seq" | "header">): Link {
  const [seq, index] = link;
  if (seq === InThisBatch) return [batch.seq, index];
  if (seq === InPreviousBatch) return [batch.header.previousSeq, index];
  return link;
}
