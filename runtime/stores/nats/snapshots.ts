/**
 * Snapshots in a KV bucket: one entry per actor, written in atomic batches with compare-and-set.
 *
 * Owns the form of an entry (a byte that says what it is, the due time if there is one, the value) and the newest
 * sequence that this process knows of. Talks to the connection.
 *
 * Invariants:
 * 1. Each message of a batch expects its subject's last sequence. One that does not fit fails the whole batch; then it
 *    is found out which, and the others are sent again.
 * 2. A deleted entry leaves a marker, which the server removes after `limits.markerAge_ms`.
 * 3. Reads may be answered by a replica. One that has not seen what this process knows to be stored is asked again.
 */
import { headers, type MsgHdrs } from "@nats-io/transport-node";
import type { DueEntry, SnapshotEntry, Snapshots, SnapshotWrite } from "../../ports/index.ts";
import { KeyturnError } from "../../words/errors.ts";
import { limits } from "../../words/limits.ts";
import {
  type Ack,
  type ApiError,
  ackOf,
  directGet,
  isConflict,
  isError,
  refusalOf,
  type StoredMessage,
} from "./api.ts";
import type { Connection } from "./connection.ts";
import { dueFilters, dueKey, idOfDueKey } from "./due-index.ts";
import type { Names } from "./names.ts";

/** The server takes at most 1,000 messages in a batch; bytes are held down for the connections between servers. */
const BATCH_MESSAGES = 800;
const BATCH_BYTES = 4 * 1024 * 1024;
/** Ids asked for in one request; the server answers at most 1,024 subjects. */
const READ_IDS = 512;
const BEHIND_MS = 5;
const BEHIND_TRIES = 1_000;
const CONFLICT_ROUNDS = 8;
const DUE_PAGE = 1_000;

const Marker = 0;
const Plain = 1;
const WithDue = 2;

/** An entry that is always there, so that an answer always says how new it is. */
export const SENTINEL = "_app";

interface Entry {
  readonly value: Uint8Array | undefined;
  readonly due: number | undefined;
  readonly revision: number;
}

export class NatsSnapshots implements Snapshots {
  readonly #connection: Connection;
  readonly #stream: string;
  readonly #prefix: string;
  readonly #replicated: () => boolean;
  /** The newest sequence of the bucket that this process knows of. */
  #known = 0;
  #batches = 0;
  readonly #batchName = Math.random().toString(36).slice(2, 10);

  /** @param replicated whether the bucket has more than one replica, so that reads may be behind */
  constructor(connection: Connection, names: Names, replicated: () => boolean) {
    this.#connection = connection;
    this.#stream = names.snapshots;
    this.#prefix = names.key(names.snapshots, "");
    this.#replicated = replicated;
  }

  async read(ids: readonly string[]): Promise<readonly (SnapshotEntry | undefined)[]> {
    const entries = await this.#entries(ids);
    return ids.map((id) => {
      const entry = entries.get(id);
      return entry === undefined ? undefined : { value: entry.value, revision: entry.revision };
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
      for (const batch of batchesOf(writes, now)) await this.#writeBatch(writes, batch, revisions);
      waiting = later;
    }
    return revisions;
  }

  async sync(): Promise<void> {
    if (!this.#replicated()) return;
    // Only a write proves where the stream stands: a leader that was replaced may still answer reads.
    const message = await this.#connection.request(`${this.#prefix}${SENTINEL}.sync`);
    const answer = ackOf(message, "write a snapshot");
    if (isError(answer)) throw refusalOf("write a snapshot", answer);
    this.#saw(answer.seq);
  }

  async due(shard: number, before: number, limit: number, after?: DueEntry): Promise<readonly DueEntry[]> {
    const from = after?.due ?? Number.NEGATIVE_INFINITY;
    const found: DueEntry[] = [];
    for (const filter of dueFilters(shard, from, before)) {
      for (const entry of await this.#dueOf(filter, shard)) {
        if (entry.due < before && (after === undefined || compareDue(entry, after) > 0)) found.push(entry);
      }
      // Filters come in the order of time: what follows is due later than all that was found.
      if (found.length >= limit) break;
    }
    return found.sort(compareDue).slice(0, limit);
  }

  #saw(seq: number): void {
    if (seq > this.#known) this.#known = seq;
  }

  async #entries(ids: readonly string[]): Promise<Map<string, Entry>> {
    const entries = new Map<string, Entry>();
    const parts: (readonly string[])[] = [];
    for (let at = 0; at < ids.length; at += READ_IDS) parts.push(ids.slice(at, at + READ_IDS));
    await Promise.all(parts.map((part) => this.#readPart(part, entries)));
    return entries;
  }

  async #readPart(ids: readonly string[], entries: Map<string, Entry>): Promise<void> {
    const unique = ids.length === 1 ? ids : [...new Set(ids)];
    const wanted = [...unique.map((id) => this.#prefix + id), this.#prefix + SENTINEL];
    const known = this.#known;
    for (let tries = 0; tries < BEHIND_TRIES; tries++) {
      const { messages, upTo } = await directGet(this.#connection, this.#stream, { multi_last: wanted });
      if (upTo === 0) throw missingBucket(this.#stream);
      if (upTo >= known) {
        for (const message of messages)
          entries.set(message.subject.slice(this.#prefix.length), entryOf(message));
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, BEHIND_MS));
    }
    throw new KeyturnError(
      "store_failed",
      `No replica of ${this.#stream} has caught up with sequence ${known}.`,
    );
  }

  /** Writes different entries at once; fills in the revisions of those that succeed. */
  async #writeBatch(
    writes: readonly SnapshotWrite[],
    batch: readonly number[],
    revisions: (number | undefined)[],
  ): Promise<void> {
    let left = batch;
    for (let round = 0; left.length > 0; round++) {
      if (round > CONFLICT_ROUNDS)
        throw new KeyturnError("store_failed", "Snapshots keep changing under this write.");
      const answer = await this.#send(left.map((index) => writes[index] as SnapshotWrite));
      if (!isError(answer.ack)) {
        this.#saw(answer.ack.seq);
        // A batch lies in the stream in one piece.
        const first = answer.ack.seq - answer.count + 1;
        left.forEach((index, at) => {
          revisions[index] = first + (answer.places[at] as number);
        });
        return;
      }
      if (!isConflict(answer.ack)) throw refusalOf("write snapshots", answer.ack);
      if (left.length === 1) return;
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
    const messages: { key: string; payload: Uint8Array; expected: number | undefined; marker: boolean }[] =
      [];
    const places: number[] = [];
    for (const { id, shard, value, expected, due } of writes) {
      places.push(messages.length);
      messages.push({ key: id, payload: payloadOf(value, due), expected, marker: value === undefined });
      if (value === undefined || due === undefined) continue;
      messages.push({ key: dueKey(shard, due, id), payload: EMPTY, expected: undefined, marker: false });
    }
    const batch = messages.length === 1 ? undefined : `${this.#batchName}${(++this.#batches).toString(36)}`;
    const last = messages.length - 1;
    const message = await new Promise<Parameters<typeof ackOf>[0]>((resolve, reject) => {
      const reply = this.#connection.expect(
        this.#prefix + (messages[last] as { key: string }).key,
        (answer) => {
          resolve(answer);
          return true;
        },
        reject,
      );
      if (reply === undefined) return;
      messages.forEach(({ key, payload, expected, marker }, at) => {
        const set = headers();
        if (expected !== undefined) set.set("Nats-Expected-Last-Subject-Sequence", String(expected));
        if (marker) set.set("Nats-TTL", `${limits.markerAge_ms / 1_000}s`);
        if (batch !== undefined) setBatch(set, batch, at + 1, at === last);
        this.#connection.publish(this.#prefix + key, payload, at === last ? reply : undefined, set);
      });
    });
    return { ack: ackOf(message, "write snapshots"), count: messages.length, places };
  }

  /** The true due entries among the hints that match a pattern. Hints that lie are cleared away. */
  async #dueOf(filter: string, shard: number): Promise<DueEntry[]> {
    const hints = await this.#hints(filter);
    const due: DueEntry[] = [];
    for (let at = 0; at < hints.length; at += READ_IDS) {
      const part = hints.slice(at, at + READ_IDS);
      const ids = part.map(({ subject }) => idOfDueKey(subject.slice(this.#prefix.length)));
      const entries = await this.#entries(ids);
      part.forEach((hint, index) => {
        const id = ids[index] as string;
        const entry = entries.get(id);
        if (entry?.due !== undefined && this.#prefix + dueKey(shard, entry.due, id) === hint.subject) {
          due.push({ id, due: entry.due });
        } else this.#clear(hint);
      });
    }
    return due;
  }

  async #hints(filter: string): Promise<StoredMessage[]> {
    const hints: StoredMessage[] = [];
    const known = this.#known;
    for (let seq = 1; ; ) {
      const query = { seq, next_by_subj: this.#prefix + filter, batch: DUE_PAGE };
      const { messages, pending } = await directGet(this.#connection, this.#stream, query);
      for (const message of messages) if (message.data.length === 0) hints.push(message);
      const last = messages.at(-1);
      if (pending === 0 || last === undefined) break;
      seq = last.seq + 1;
    }
    // The answer does not say how new it is; where replicas may be behind, one that does is asked after it.
    if (this.#replicated() && known > 0) await this.#readPart([], new Map());
    return hints;
  }

  /** Replaces a hint by a marker that the server removes, unless somebody has renewed it. Nobody waits for it. */
  #clear({ subject, seq }: StoredMessage): void {
    const set = headers();
    set.set("Nats-Expected-Last-Subject-Sequence", String(seq));
    set.set("Nats-TTL", "1s");
    this.#connection.publish(subject, CLEARED, undefined, set);
  }
}

const EMPTY = new Uint8Array(0);
const CLEARED = new Uint8Array([0]);

function setBatch(set: MsgHdrs, batch: string, sequence: number, last: boolean): void {
  set.set("Nats-Batch-Id", batch);
  set.set("Nats-Batch-Sequence", String(sequence));
  if (last) set.set("Nats-Batch-Commit", "1");
}

/** Cuts writes into batches that the server takes. */
function* batchesOf(writes: readonly SnapshotWrite[], indexes: readonly number[]): Generator<number[]> {
  let batch: number[] = [];
  let messages = 0;
  let bytes = 0;
  for (const index of indexes) {
    const { value, due } = writes[index] as SnapshotWrite;
    const count = due === undefined ? 1 : 2;
    const size = (value?.length ?? 0) + 256;
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

function payloadOf(value: Uint8Array | undefined, due: number | undefined): Uint8Array {
  if (value === undefined) return new Uint8Array([Marker]);
  const head = due === undefined ? 1 : 9;
  const payload = new Uint8Array(head + value.length);
  payload[0] = due === undefined ? Plain : WithDue;
  if (due !== undefined) new DataView(payload.buffer).setFloat64(1, due);
  payload.set(value, head);
  return payload;
}

function entryOf({ data, seq, subject }: StoredMessage): Entry {
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
      throw new KeyturnError(
        "corrupt_snapshot",
        `The entry ${subject} begins with byte ${data[0]}, which is none of this runtime's.`,
      );
  }
}

function compareDue(a: DueEntry, b: DueEntry): number {
  return a.due - b.due || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

function missingBucket(stream: string): KeyturnError {
  return new KeyturnError(
    "not_provisioned",
    `The bucket ${stream} lacks the entry that every provisioned bucket has. Run "keyturn provision".`,
  );
}
