/**
 * A shard's stored entry: what `ShardState` holds beside its actors, as bytes.
 *
 * Owns the format. Talks to the codec; entries.ts reads and writes it. Golden files hold it (test/golden).
 *
 * The channels are one body of msgpack. A body that fits stands in the entry `_shard.<n>` itself; a larger one is cut
 * into pieces, `_shard.<n>.<generation>.<piece>`, and the entry says of which generation they are, how many, and the
 * checksum of each. Version 1 had no pieces: everything in one value.
 *
 * Invariants:
 * 1. Whatever a shard holds, no stored value is larger than `limits.stateBytes`.
 * 2. Pieces are read as a whole or not at all: each must be of the entry's shard and generation, with its checksum.
 */
import { checksumOf, decode, encode, envelope, openEnvelope } from "../words/codec.ts";
import { KeyturnError } from "../words/errors.ts";
import { messageBytes, type PackedLink, packLink, type Told, unpackLink } from "../words/frames.ts";
import { limits } from "../words/limits.ts";
import { sizeOf } from "../words/values.ts";
import type { Link } from "./record.ts";
import { InChannel, type Leftover, Session, type ShardState } from "./shard.ts";

const ENTRY_MAGIC = 0x48;
const ENTRY_VERSION = 2;
const PIECE_MAGIC = 0x50;
const PIECE_VERSION = 1;

/** What an entry may need beside its body: generations, checksums. */
const ENTRY_ROOM = 16 * 1024;
/** What of a body goes into one value. */
export const BODY_BYTES = limits.stateBytes - ENTRY_ROOM;

export interface Entry {
  /** Generations up to here were claimed by somebody, and are never used again. */
  readonly claimed: number;
  /** Of the pieces; 0 if there are none. */
  readonly generation: number;
  /** Of each piece, in order. */
  readonly checksums: readonly number[];
  readonly leftovers: readonly Leftover[];
  /** The due index holds nothing of this shard below this time. */
  readonly dueFrom: number;
  /** Undefined if it is in pieces. */
  readonly body: Uint8Array | undefined;
}

export const noEntry: Entry = {
  claimed: 0,
  generation: 0,
  checksums: [],
  leftovers: [],
  dueFrom: 0,
  body: undefined,
};

/** Name of a shard's entry among the snapshots. */
export function entryId(shard: number): string {
  return `_shard.${shard}`;
}

/** Name of a piece of it, counted from 1. */
export function pieceId(shard: number, generation: number, piece: number): string {
  return `_shard.${shard}.${generation}.${piece}`;
}

export function encodeEntry(shard: number, entry: Entry): Uint8Array {
  const { claimed, generation, checksums, leftovers, dueFrom, body } = entry;
  return envelope(
    encode([shard, claimed, generation, checksums, leftovers, dueFrom, body ?? null]),
    ENTRY_MAGIC,
    ENTRY_VERSION,
  );
}

/** Throws `corrupt_snapshot` or `newer_format`, naming the shard. */
export function decodeEntry(shard: number, bytes: Uint8Array): Entry {
  const opened = openEnvelope(bytes, ENTRY_MAGIC, ENTRY_VERSION);
  if (typeof opened === "string") {
    throw new KeyturnError(
      opened === "newer" ? "newer_format" : "corrupt_snapshot",
      `The entry of shard ${shard} cannot be read (${opened}). The shard is not served. Restore the store from a copy, or upgrade this node.`,
    );
  }
  const [named, ...rest] = decode(opened) as [number, ...unknown[]];
  if (named !== shard)
    throw new KeyturnError("corrupt_snapshot", `The entry of shard ${shard} names shard ${named}.`);
  if (bytes[1] === 1) return { ...noEntry, body: encode(rest) };
  const [claimed, generation, checksums, leftovers, dueFrom, body] = rest as [
    number,
    number,
    number[],
    Leftover[],
    number,
    Uint8Array | null,
  ];
  return { claimed, generation, checksums, leftovers, dueFrom, body: body ?? undefined };
}

/** A body as the pieces of a generation. */
export function piecesOf(
  shard: number,
  generation: number,
  body: Uint8Array,
  bytesEach: number,
): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < body.length; at += bytesEach) {
    const part = body.subarray(at, at + bytesEach);
    const piece = encode([shard, generation, pieces.length + 1, part]);
    pieces.push(envelope(piece, PIECE_MAGIC, PIECE_VERSION));
  }
  return pieces;
}

export function checksumsOf(pieces: readonly Uint8Array[]): number[] {
  return pieces.map(checksumOf);
}

/** The body that an entry's pieces make up; undefined if they are not the ones that it names. */
export function joinPieces(
  shard: number,
  { generation, checksums }: Entry,
  pieces: readonly (Uint8Array | undefined)[],
): Uint8Array | undefined {
  const parts: Uint8Array[] = [];
  for (const [index, checksum] of checksums.entries()) {
    const piece = pieces[index];
    const opened = piece === undefined ? "truncated" : openEnvelope(piece, PIECE_MAGIC, PIECE_VERSION);
    if (typeof opened === "string" || checksumOf(piece as Uint8Array) !== checksum) return undefined;
    const [ofShard, ofGeneration, number, part] = decode(opened) as [number, number, number, Uint8Array];
    if (ofShard !== shard || ofGeneration !== generation || number !== index + 1) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts);
}

type StoredSession = [name: string, last: number, base: number, places: [number, string, Link][]];
type StoredOut = [shard: number, committed: number, waiting: StoredTold[]];
type StoredTold = [id: string, key: string, event: unknown, trace: string | null, link?: PackedLink];

/** The committed state of a shard's channels. */
export function bodyOf(shard: ShardState): Uint8Array {
  const sessions: StoredSession[] = [];
  for (const s of shard.sessions.values()) {
    const places: StoredSession[3] = [];
    for (const [number, { id, at }] of s.remembered()) if (at !== undefined) places.push([number, id, at]);
    sessions.push([s.name, s.last, s.base, places]);
  }
  const ins = [...shard.ins].map(([from, channel]) => [from, channel.committed]);
  const outs: StoredOut[] = [];
  for (const [to, channel] of shard.outs) {
    const waiting = channel.waiting.map(storedTold);
    outs.push([to, channel.committed, waiting]);
  }
  // As it was before there were indexes, and as nodes of that time read it.
  return encode(shard.indexed.size === 0 ? [sessions, ins, outs] : [sessions, ins, outs, [...shard.indexed]]);
}

function storedTold({ id, key, event, trace, link }: Told): StoredTold {
  return link === undefined
    ? [id, key, event, trace ?? null]
    : [id, key, event, trace ?? null, packLink(link)];
}

/** The body of a shard that nothing has reached. */
export function emptyBody(): Uint8Array {
  return encode([[], [], []]);
}

/** Fills an empty state from a body. */
export function fillFrom(shard: ShardState, body: Uint8Array, now_ms: number): void {
  const [sessions, ins, outs, indexed = []] = decode(body) as [
    StoredSession[],
    [number, number][],
    StoredOut[],
    string[]?,
  ];
  for (const type of indexed) shard.indexed.add(type);
  for (const [name, last, base, places] of sessions) {
    const session = new Session(name, base, now_ms, shard.open);
    session.last = last;
    session.inherited = last;
    for (const [number, id, at] of places) session.step(number, { id, at });
    shard.sessions.set(name, session);
  }
  for (const [from, committed] of ins) shard.ins.set(from, new InChannel(committed));
  for (const [to, committed, waiting] of outs) {
    const channel = shard.out(to);
    channel.acknowledged = committed - waiting.length;
    channel.committed = channel.acknowledged;
    channel.numbered = committed;
    channel.sent = channel.acknowledged;
    for (const [id, key, event, trace, link] of waiting) {
      const message = { id, key, type: id.slice(0, id.indexOf(".")), event, trace: trace ?? undefined };
      if (link !== undefined) Object.assign(message, { link: unpackLink(link) });
      channel.push(message, messageBytes(message, sizeOf(event)));
    }
  }
}
