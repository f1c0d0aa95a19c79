/**
 * Snapshots in a KV bucket: one entry per actor, written in atomic batches with compare-and-set.
 *
 * Owns the form of an entry: a byte that says what it is, the due time if there is one, the value. Talks to the
 * connection, to the reader of the bucket and to the index by due time.
 *
 * Invariants:
 * 1. Each message of a batch expects its subject's last sequence. One that does not fit fails the whole batch; then it
 *    is found out which, and the others are sent again.
 * 2. A deleted entry leaves a marker, which the server removes after `limits.markerAge_ms`.
 * 3. Reads may be answered by a replica, but not by one that has not seen what this process knows to be stored.
 * 4. A hint of the due index is written in one batch with its entry, and the one that it replaces is removed in that
 *    batch, as far as this process remembers it: a timer that is set anew with every turn leaves no trail of hints.
 */
import { headers, type Msg, type MsgHdrs } from "@nats-io/transport-node";
import type { DueEntry, ListPage, SnapshotEntry, Snapshots, SnapshotWrite } from "../../ports/index.ts";
import { KeyturnError } from "../../words/errors.ts";
import { limits } from "../../words/limits.ts";
import {
  type Ack,
  type ApiError,
  ackOf,
  isBatchDropped,
  isConflict,
  isError,
  isInFlight,
  noteSilence,
  publishTo,
  refusalOf,
  type StoredMessage,
} from "./api.ts";
import type { Connection } from "./connection.ts";
import { CLEARED, CLEARED_TTL, DueIndex, dueKey } from "./due-index.ts";
import { FreshReader } from "./fresh-reader.ts";
import { listBucket } from "./listing.ts";
import type { Names } from "./names.ts";

/** The server takes at most 1,000 messages in a batch; bytes are held down for the connections between servers. */
const BATCH_MESSAGES = 800;
const BATCH_BYTES = 4 * 1024 * 1024;
/** Ids asked for in one request; the server answers at most 1,024 subjects. */
const READ_IDS = 512;
const CONFLICT_ROUNDS = 8;
const CONFLICT_MS = 2;
const TASK = "write snapshots";
/** Entries with timers of which it is remembered when they are due; as many again from before. */
const DUES_MAX = 32_768;

const Marker = 0;
const Plain = 1;
const WithDue = 2;

/** What is given for a message that the server cannot read: an entry without a value, which is damage. */
const UNREADABLE = new Uint8Array([Plain]);

/** An entry that is always there, so that an answer always says how new it is. */
export const SENTINEL = "_app";

interface Entry {
  readonly value: Uint8Array | undefined;
  readonly due: number | undefined;
  readonly revision: number;
}

interface DueAt {
  readonly revision: number;
  readonly due: number;
}

export class NatsSnapshots implements Snapshots {
  readonly #connection: Connection;
  readonly #stream: string;
  readonly #prefix: string;
  readonly #replicated: () => boolean;
  readonly #reader: FreshReader;
  readonly #index: DueIndex;
  /** When entries are due at a revision of theirs. */
  #dues = new Map<string, DueAt>();
  #duesBefore = new Map<string, DueAt>();
  #batches = 0;
  readonly #batchName = Math.random().toString(36).slice(2, 10);

  /** @param replicated whether the bucket has more than one replica, so that reads may be behind */
  constructor(connection: Connection, names: Names, bucket: number, replicated: () => boolean) {
    this.#connection = connection;
    this.#stream = names.bucketStream(bucket);
    this.#prefix = names.key(this.#stream, "");
    this.#replicated = replicated;
    this.#reader = new FreshReader(connection, this.#stream, this.#prefix, SENTINEL, UNREADABLE);
    this.#index = new DueIndex(connection, this.#reader, (ids) => this.#entries(ids));
  }

  /** The newest sequence of the bucket that this process knows of. */
  get known(): number {
    return this.#reader.known;
  }

  /** The bucket was at this sequence: from now on no read is older. */
  saw(seq: number): void {
    this.#reader.saw(seq);
  }

  async read(ids: readonly string[]): Promise<readonly (SnapshotEntry | undefined)[]> {
    const entries = await this.#entries(ids);
    return ids.map((id) => {
      const entry = entries.get(id);
      if (entry === undefined) return undefined;
      const { value, revision, due } = entry;
      this.#remember(id, revision, due);
      return { value, revision };
    });
  }

  async write(writes: readonly SnapshotWrite[]): Promise<readonly (number | undefined)[]> {
    const revisions: (number | undefined)[] = new Array(writes.length).fill(undefined);
    let waiting = writes.map((_write, index) => index);
    while (waiting.length > 0) {
      const now: number[] = [];
      const later: number[] = [];
      const taken = new Set<string>();
      for (const index of waiting) {
        const { id } = writes[index] as SnapshotWrite;
        // Two writes of one entry cannot stand in one batch.
        if (taken.has(id)) later.push(index);
        else {
          taken.add(id);
          now.push(index);
        }
      }
      for (const batch of this.#batchesOf(writes, now)) await this.#writeBatch(writes, batch, revisions);
      waiting = later;
    }
    return revisions;
  }

  async sync(): Promise<void> {
    await this.#mark();
  }

  /** The sequence of a write that comes behind all others; 0 where there is one replica, which is always current. */
  async #mark(key = `${SENTINEL}.sync`): Promise<number> {
    if (!this.#replicated()) return 0;
    // Only a write proves where the stream stands: a leader that was replaced may still answer reads.
    const answer = await publishTo(
      this.#connection,
      this.#stream,
      this.#prefix + key,
      undefined,
      undefined,
      TASK,
    );
    if (isError(answer)) throw refusalOf(TASK, answer);
    this.#reader.saw(answer.seq);
    return answer.seq;
  }

  list(limit: number, cursor?: string, type?: string): Promise<ListPage> {
    const bucket = {
      type: type ?? "*",
      connection: this.#connection,
      stream: this.#stream,
      prefix: this.#prefix,
      // No actor has that id: what is no escape does not stand behind an equals sign.
      mark: () => (type === undefined ? this.#mark() : this.#mark(`${type}.=`)),
      entryOf,
    };
    return listBucket(bucket, limit, cursor);
  }

  due(shard: number, before: number, limit: number, after?: DueEntry): Promise<readonly DueEntry[]> {
    return this.#index.find(shard, before, limit, after);
  }

  async #entries(ids: readonly string[]): Promise<Map<string, Entry>> {
    const entries = new Map<string, Entry>();
    const parts: (readonly string[])[] = [];
    for (let at = 0; at < ids.length; at += READ_IDS) parts.push(ids.slice(at, at + READ_IDS));
    await Promise.all(parts.map((part) => this.#readPart(part, entries)));
    return entries;
  }

  async #readPart(ids: readonly string[], entries: Map<string, Entry>): Promise<void> {
    const found = await this.#reader.last(ids.length === 1 ? ids : [...new Set(ids)]);
    for (const message of found ?? []) entries.set(this.#reader.keyOf(message), entryOf(message));
  }

  #remember(id: string, revision: number, due: number | undefined): void {
    this.#duesBefore.delete(id);
    if (due === undefined) this.#dues.delete(id);
    else this.#dues.set(id, { revision, due });
    if (this.#dues.size < DUES_MAX) return;
    // In two generations: to look for the oldest of one would take long.
    this.#duesBefore = this.#dues;
    this.#dues = new Map();
  }

  /** The hint that a write makes a lie, if this process remembers it. */
  #oldHint({ id, shard, expected }: SnapshotWrite): string | undefined {
    const before = this.#dues.get(id) ?? this.#duesBefore.get(id);
    return before?.revision === expected ? dueKey(shard, before.due, id) : undefined;
  }

  /** Cuts writes into batches that the server takes. */
  *#batchesOf(writes: readonly SnapshotWrite[], indexes: readonly number[]): Generator<number[]> {
    let batch: number[] = [];
    let messages = 0;
    let bytes = 0;
    for (const index of indexes) {
      const write = writes[index] as SnapshotWrite;
      const count = 1 + (write.due === undefined ? 0 : 1) + (this.#oldHint(write) === undefined ? 0 : 1);
      const size = (write.value?.length ?? 0) + 256 * count;
      if (batch.length > 0 && (messages + count > BATCH_MESSAGES || bytes + size > BATCH_BYTES)) {
        yield batch;
        batch = [];
        messages = 0;
        bytes = 0;
      }
      batch.push(index);
      messages += count;
      bytes += size;
    }
    if (batch.length > 0) yield batch;
  }

  /** Writes different entries at once; fills in the revisions of those that succeed. */
  async #writeBatch(
    writes: readonly SnapshotWrite[],
    batch: readonly number[],
    revisions: (number | undefined)[],
  ): Promise<void> {
    let left = batch;
    let dropped = false;
    for (let round = 0; left.length > 0; round++) {
      if (round > CONFLICT_ROUNDS) {
        throw new KeyturnError(
          "store_failed",
          dropped
            ? `The server keeps dropping batches for ${this.#stream}: too many are open at once. Try again later.`
            : "Snapshots keep changing under this write.",
        );
      }
      if (round > 0) await new Promise((resolve) => setTimeout(resolve, CONFLICT_MS << round));
      const { ack, count, places } = await this.#send(left.map((index) => writes[index] as SnapshotWrite));
      if (!isError(ack)) {
        this.#reader.saw(ack.seq);
        // A batch lies in the stream in one piece.
        const first = ack.seq - count + 1;
        left.forEach((index, at) => {
          const revision = first + (places[at] as number);
          revisions[index] = revision;
          const { id, value, due } = writes[index] as SnapshotWrite;
          this.#remember(id, revision, value === undefined ? undefined : due);
        });
        return;
      }
      dropped = isBatchDropped(ack);
      if (dropped) continue;
      if (!isConflict(ack)) throw refusalOf(TASK, ack);
      if (left.length === 1 && !isInFlight(ack)) return;
      const conflicts = await this.#conflictsIn(writes, left);
      left = left.filter((index) => !conflicts.has(index));
    }
  }

  async #conflictsIn(writes: readonly SnapshotWrite[], batch: readonly number[]): Promise<Set<number>> {
    await this.sync();
    const entries = await this.#entries(batch.map((index) => (writes[index] as SnapshotWrite).id));
    return new Set(
      batch.filter((index) => {
        const { id, expected } = writes[index] as SnapshotWrite;
        return (entries.get(id)?.revision ?? 0) !== expected;
      }),
    );
  }

  /** Sends writes, with the hints of the due index, as one batch. `places` says where in it each write stands. */
  async #send(
    writes: readonly SnapshotWrite[],
  ): Promise<{ ack: Ack | ApiError; count: number; places: number[] }> {
    const messages: Outgoing[] = [];
    const places: number[] = [];
    for (const write of writes) {
      const { id, shard, value, expected, due } = write;
      places.push(messages.length);
      const ttl = value === undefined ? MARKER_TTL : undefined;
      messages.push({ key: id, payload: payloadOf(value, due), expected, ttl });
      const hint = value === undefined || due === undefined ? undefined : dueKey(shard, due, id);
      if (hint !== undefined)
        messages.push({ key: hint, payload: EMPTY, expected: undefined, ttl: undefined });
      // If the entry is not at this revision any more, none of this is stored.
      const old = this.#oldHint(write);
      if (old !== undefined && old !== hint)
        messages.push({ key: old, payload: CLEARED, expected: undefined, ttl: CLEARED_TTL });
    }
    const batch = messages.length === 1 ? undefined : `${this.#batchName}${(++this.#batches).toString(36)}`;
    const last = messages.length - 1;
    const message = await new Promise<Msg>((resolve, reject) => {
      const reply = this.#connection.expect(
        this.#prefix + (messages[last] as Outgoing).key,
        (answer) => {
          resolve(answer);
          return true;
        },
        (error) => {
          noteSilence(this.#connection, this.#stream, error);
          reject(error);
        },
      );
      if (reply === undefined) return;
      messages.forEach(({ key, payload, expected, ttl }, at) => {
        const set = headers();
        if (expected !== undefined) set.set("Nats-Expected-Last-Subject-Sequence", String(expected));
        if (ttl !== undefined) set.set("Nats-TTL", ttl);
        if (batch !== undefined) setBatch(set, batch, at + 1, at === last);
        const subject = this.#prefix + key;
        if (at === last) this.#connection.ask(subject, payload, reply, set);
        else this.#connection.publish(subject, payload, undefined, set);
      });
    });
    return { ack: ackOf(this.#connection, this.#stream, message, TASK), count: messages.length, places };
  }
}

/** One message of a batch. */
interface Outgoing {
  readonly key: string;
  readonly payload: Uint8Array;
  readonly expected: number | undefined;
  readonly ttl: string | undefined;
}

const MARKER_TTL = `${limits.markerAge_ms / 1_000}s`;

const EMPTY = new Uint8Array(0);

function setBatch(set: MsgHdrs, batch: string, sequence: number, last: boolean): void {
  set.set("Nats-Batch-Id", batch);
  set.set("Nats-Batch-Sequence", String(sequence));
  if (last) set.set("Nats-Batch-Commit", "1");
}

function payloadOf(value: Uint8Array | undefined, due: number | undefined): Uint8Array {
  if (value === undefined) return new Uint8Array([Marker]);
  const head = due === undefined ? 1 : 9;
  const payload = new Uint8Array(head + value.length);
  payload[0] = due === undefined ? Plain : WithDue;
  if (due !== undefined) new DataView(payload.buffer).setFloat64(1, due);
  payload.set(value, head);
  return payload;
}

function entryOf({ data, seq }: StoredMessage): Entry {
  switch (data[0]) {
    case Plain:
      return { value: data.subarray(1), due: undefined, revision: seq };
    case WithDue:
      return {
        value: data.subarray(9),
        due: new DataView(data.buffer, data.byteOffset).getFloat64(1),
        revision: seq,
      };
    case Marker:
    case undefined:
      return { value: undefined, due: undefined, revision: seq };
    default:
      // In no form of this runtime's: an entry that nobody can decode. Those read together with it are not its fault.
      return { value: EMPTY, due: undefined, revision: seq };
  }
}
