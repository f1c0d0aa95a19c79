/**
 * The snapshots and their index by due time.
 *
 * Owns the tables `snapshots` and `due`, and the counter of revisions. Talks to the Writer and the Environment.
 *
 * A stored entry begins with a head of 24 bytes, then the value:
 *
 *   crc32 of the head's rest: u32 | shard: u32 | revision: f64 | due, NaN for none: f64
 *
 * Revisions come from one counter for all entries. On disk is a bound that no revision handed out has passed; it is
 * moved ahead by REVISIONS at a time, in the transaction of the write that needs it.
 *
 * No markers are kept of what was deleted. A marker holds off writes that come late, and nothing comes late from another
 * process here: `sync` waits for the writes under way, and who calls one after it has looked at the same clock as the
 * new owner.
 *
 * Invariants: see Snapshots in the ports.
 */
import { crc32 } from "node:zlib";
import type {
  DueEntry,
  ListedEntry,
  ListPage,
  SnapshotEntry,
  Snapshots,
  SnapshotWrite,
} from "../../ports/index.ts";
import { invariant, KeyturnError } from "../../words/errors.ts";
import type { Environment } from "./environment.ts";
import type { Group, Writer } from "./writer.ts";

const HEAD_BYTES = 24;
/** The counter's bound is moved ahead by so many. */
const REVISIONS = 65_536;
/** What one transaction takes of a call. */
const PART_WRITES = 128;
const PART_BYTES = 1024 * 1024;
/** A page of a list is full when its values take so much. */
const LIST_BYTES = 8 * 1024 * 1024;
/** Keys looked at for one page: those of shards are passed over. */
const LIST_KEYS = 4_096;
/** A write may copy a tree page, besides what it stores. */
const PAGE_BYTES = 4_096;
/** An id goes into keys: `<type>.<encoded key>` or `_shard.<n>`. */
const ID = /^[\x21-\x7e]{1,300}$/;

interface Head {
  readonly shard: number;
  readonly revision: number;
  readonly due: number | undefined;
}

interface Staged {
  /** Entries that the group has changed; undefined for one that it deleted. */
  readonly heads: Map<string, Head | undefined>;
  revision: number;
  bound: number;
}

export class EmbeddedSnapshots implements Snapshots {
  readonly #environment: Environment;
  readonly #writer: Writer;
  /** Calls of `write` that are not answered. */
  readonly #underWay = new Set<Promise<unknown>>();
  /** Last revision handed out, and the bound on disk, as committed. */
  #revision: number;
  #bound: number;

  constructor(environment: Environment, writer: Writer) {
    this.#environment = environment;
    this.#writer = writer;
    this.#bound = this.#revision = this.#storedBound();
    writer.afterFailure(() => {
      this.#bound = this.#revision = this.#storedBound();
    });
  }

  async sync(): Promise<void> {
    await Promise.allSettled(this.#underWay);
  }

  async read(ids: readonly string[]): Promise<readonly (SnapshotEntry | undefined)[]> {
    return this.#environment.read(() =>
      ids.map((id) => {
        const bytes = this.#environment.tables.snapshots.get(id);
        if (bytes === undefined) return undefined;
        return { value: bytes.subarray(HEAD_BYTES), revision: headOf(id, bytes).revision };
      }),
    );
  }

  write(writes: readonly SnapshotWrite[]): Promise<readonly (number | undefined)[]> {
    const written = this.#write(writes).finally(() => this.#underWay.delete(written));
    this.#underWay.add(written);
    return written;
  }

  async #write(writes: readonly SnapshotWrite[]): Promise<readonly (number | undefined)[]> {
    for (const { id, due } of writes) {
      invariant(ID.test(id), "a snapshot's id is 1 to 300 printable ASCII characters");
      invariant(due === undefined || Number.isFinite(due), "a due time is a number");
    }
    // Entries are decided each by itself, so a long call may take several transactions, with appends in between: one
    // of 512 scattered entries takes 10 ms, and everybody's turns would wait for it.
    const answers: (number | undefined)[] = [];
    while (answers.length < writes.length) {
      const { count, bytes } = nextPart(writes, answers.length);
      const part = writes.slice(answers.length, answers.length + count);
      const decide = (group: Group) => part.map((write) => this.#decide(group, write));
      answers.push(...(await this.#writer.write({ bytes, decide })));
    }
    return answers;
  }

  async due(shard: number, before: number, limit: number, after?: DueEntry): Promise<readonly DueEntry[]> {
    return this.#environment.read(() => {
      const { due } = this.#environment.tables;
      const start = after === undefined ? [shard] : [shard, keyTime(after.due), after.id];
      // A list that is a prefix of another sorts before it: [shard, before] is behind everything that is due earlier.
      const end = [shard, keyTime(before)];
      const keys = due.getKeys({ start, end, exclusiveStart: after !== undefined, limit });
      return [...keys].map((key) => ({ id: key[2] as string, due: key[1] as number }));
    });
  }

  /** In the order of ids; the cursor is the last one that was looked at. */
  async list(limit: number, cursor?: string, type?: string): Promise<ListPage> {
    return this.#environment.read(() => {
      const { snapshots } = this.#environment.tables;
      const after = rangeOf(cursor, type);
      const entries: ListedEntry[] = [];
      let bytes = 0;
      let looked = cursor;
      let count = 0;
      for (const id of snapshots.getKeys({ ...after, limit: LIST_KEYS }) as Iterable<string>) {
        if (entries.length >= limit || bytes >= LIST_BYTES) return { entries, next: looked };
        looked = id;
        count++;
        if (id.startsWith("_")) continue;
        const stored = snapshots.get(id) as Uint8Array;
        const { revision } = headOf(id, stored);
        const value = stored.subarray(HEAD_BYTES);
        bytes += value.length;
        entries.push({ id, value, revision });
      }
      return { entries, next: count < LIST_KEYS ? undefined : looked };
    });
  }

  #decide(group: Group, { id, shard, value, expected, due }: SnapshotWrite): number | undefined {
    const staged = group.staged<Staged>(this, () => {
      const fresh: Staged = { heads: new Map(), revision: this.#revision, bound: this.#bound };
      group.committed(() => {
        this.#revision = fresh.revision;
        this.#bound = fresh.bound;
      });
      return fresh;
    });
    const before = staged.heads.has(id) ? staged.heads.get(id) : this.#stored(id);
    if ((before?.revision ?? 0) !== expected) return undefined;
    if (before === undefined && value === undefined) return 0;
    const { snapshots, due: index, meta } = this.#environment.tables;
    const revision = ++staged.revision;
    if (revision > staged.bound) {
      staged.bound += REVISIONS;
      group.put(meta, "revision", Buffer.from(String(staged.bound)));
    }
    const time = due === undefined ? undefined : keyTime(due);
    const head = value === undefined ? undefined : { shard, revision, due: time };
    if (before?.due !== undefined && (before.due !== head?.due || before.shard !== shard)) {
      group.remove(index, [before.shard, before.due, id]);
    }
    if (head?.due !== undefined) group.put(index, [shard, head.due, id], NOTHING);
    if (head === undefined) group.remove(snapshots, id);
    else group.put(snapshots, id, packEntry(head, value as Uint8Array));
    staged.heads.set(id, head);
    return head === undefined ? 0 : revision;
  }

  /** What lies below the bound may have been used, before this process or in a transaction whose end is not known. */
  #storedBound(): number {
    return this.#environment.read(() =>
      Number(Buffer.from(this.#environment.tables.meta.get("revision") ?? "0").toString("latin1")),
    );
  }

  #stored(id: string): Head | undefined {
    const bytes = this.#environment.tables.snapshots.get(id);
    return bytes === undefined ? undefined : headOf(id, bytes);
  }
}

const NOTHING = new Uint8Array(0);

/** Keys behind a cursor, of one type or of all. */
function rangeOf(cursor: string | undefined, type: string | undefined): object {
  // Ids are `<type>.<key>`; "/" is the character after ".".
  const end = type === undefined ? {} : { end: `${type}/` };
  if (cursor !== undefined) return { start: cursor, exclusiveStart: true, ...end };
  return type === undefined ? {} : { start: `${type}.`, ...end };
}

/** How many of the writes, from one on, go into one transaction, and what they add. */
function nextPart(writes: readonly SnapshotWrite[], from: number): { count: number; bytes: number } {
  let count = 0;
  let bytes = 0;
  for (let at = from; at < writes.length && count < PART_WRITES && bytes < PART_BYTES; at++, count++) {
    const value = (writes[at] as SnapshotWrite).value;
    if (value !== undefined) bytes += value.length + PAGE_BYTES;
  }
  return { count, bytes };
}

/** Minus zero, which sorts among large numbers in a key, becomes zero. */
function keyTime(time: number): number {
  return time + 0;
}

function packEntry({ shard, revision, due }: Head, value: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(HEAD_BYTES + value.length);
  bytes.writeUInt32BE(shard, 4);
  bytes.writeDoubleBE(revision, 8);
  bytes.writeDoubleBE(due ?? Number.NaN, 16);
  bytes.writeUInt32BE(crc32(bytes.subarray(4, HEAD_BYTES)), 0);
  bytes.set(value, HEAD_BYTES);
  return bytes;
}

function headOf(id: string, bytes: Uint8Array): Head {
  const head = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEAD_BYTES || head.getUint32(0) !== crc32(bytes.subarray(4, HEAD_BYTES))) {
    throw new KeyturnError("corrupt_snapshot", `The stored snapshot of ${id} is damaged. Restore a backup.`);
  }
  const due = head.getFloat64(16);
  return { shard: head.getUint32(4), revision: head.getFloat64(8), due: Number.isNaN(due) ? undefined : due };
}
