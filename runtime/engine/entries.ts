/**
 * The shards' stored entries in the store: read by recovery, written by checkpoints.
 *
 * Owns the order of the reads and writes that makes an entry of several pieces appear as one. Talks to Snapshots and
 * the owner (owner.ts).
 *
 * The order, for one that does not fit into one value: say in the entry which generation is claimed and of how many
 * pieces (its content stays), write the pieces, then write the entry that names them, then delete what the former one
 * named. Each write of the entry is a compare-and-set. A crash anywhere in between leaves the former entry whole, and
 * lists what was left over, which the next writer deletes.
 *
 * Invariants:
 * 1. A generation is claimed by one node once, so pieces are never overwritten, whoever writes late.
 * 2. Pieces are deleted only after an entry that does not name them was stored in the place of one that did.
 */
import type { SnapshotEntry, Snapshots, SnapshotWrite } from "../ports/index.ts";
import { isKeyturnError, KeyturnError } from "../words/errors.ts";
import type { Observer } from "./observer.ts";
import type { Owner } from "./owner.ts";
import type { Leftover, ShardState, StoredEntry } from "./shard.ts";
import {
  BODY_BYTES,
  checksumsOf,
  decodeEntry,
  encodeEntry,
  type Entry,
  emptyBody,
  entryId,
  fillFrom,
  joinPieces,
  noEntry,
  pieceId,
  piecesOf,
} from "./shard-entry.ts";

/** Rounds in which entries may turn out to have been written by another. */
const CONFLICTS_MAX = 8;
/** How often an entry is read again because its pieces are not there: somebody is writing it anew. */
const READ_TRIES = 8;
/** Pieces in one call of the store. */
const PIECES_AT_ONCE = 8;
/** Over so many leftovers the store has to take deletions before it is given more pieces. */
const LEFTOVERS_MAX = 64;

/** What is to be stored of a shard, as of one moment. */
export interface Captured {
  readonly shard: ShardState;
  readonly body: Uint8Array;
  readonly dueFrom: number;
}

/**
 * Fills empty states from what is stored.
 * @throws KeyturnError `corrupt_snapshot`, `newer_format`, and what the store throws
 */
export async function readEntries(
  snapshots: Snapshots,
  shards: readonly ShardState[],
  now_ms: number,
): Promise<void> {
  const found = await snapshots.read(shards.map(({ shard }) => entryId(shard)));
  for (const [index, shard] of shards.entries()) {
    const { entry, body, revision } = await whole(snapshots, shard.shard, found[index]);
    if (body !== undefined) fillFrom(shard, body, now_ms);
    shard.stored = known(revision, entry);
    shard.horizon_ms = entry.dueFrom;
  }
}

/** An entry with its body, wherever that is. */
async function whole(
  snapshots: Snapshots,
  shard: number,
  stored: SnapshotEntry | undefined,
): Promise<{ entry: Entry; body: Uint8Array | undefined; revision: number }> {
  let found = stored;
  for (let tries = 0; tries < READ_TRIES; tries++) {
    const revision = found?.revision ?? 0;
    if (found?.value === undefined) return { entry: noEntry, body: undefined, revision };
    const entry = decodeEntry(shard, found.value);
    if (entry.body !== undefined) return { entry, body: entry.body, revision };
    const body = joinPieces(shard, entry, await readPieces(snapshots, shard, entry));
    if (body !== undefined) return { entry, body, revision };
    // A former owner may have stored another entry meanwhile, and deleted what this one names.
    [found] = await snapshots.read([entryId(shard)]);
    if (found?.revision === revision) break;
  }
  throw new KeyturnError(
    "corrupt_snapshot",
    `Pieces of the entry of shard ${shard} are missing or damaged. The shard is not served. Restore the store from a copy.`,
  );
}

async function readPieces(
  snapshots: Snapshots,
  shard: number,
  { generation, checksums }: Entry,
): Promise<(Uint8Array | undefined)[]> {
  const ids = checksums.map((_, index) => pieceId(shard, generation, index + 1));
  const pieces: (Uint8Array | undefined)[] = [];
  for (let at = 0; at < ids.length; at += PIECES_AT_ONCE)
    for (const found of await snapshots.read(ids.slice(at, at + PIECES_AT_ONCE))) pieces.push(found?.value);
  return pieces;
}

function known(revision: number, { claimed, generation, checksums, leftovers }: Entry): StoredEntry {
  return { revision, claimed, generation, pieces: checksums.length, leftovers };
}

/** What is left over once an entry without these pieces is stored. */
function leftoversOf({ generation, pieces, leftovers }: StoredEntry): readonly Leftover[] {
  return pieces === 0 ? leftovers : [...leftovers, [generation, pieces]];
}

export class EntryWriter {
  readonly #snapshots: Snapshots;
  readonly #owner: Pick<Owner, "check">;
  readonly #observer: Pick<Observer, "troubled">;
  readonly #bytesEach: number;

  /** @param bytesEach what of a body goes into one value */
  constructor(
    snapshots: Snapshots,
    owner: Pick<Owner, "check">,
    observer: Pick<Observer, "troubled">,
    bytesEach: number = BODY_BYTES,
  ) {
    this.#snapshots = snapshots;
    this.#owner = owner;
    this.#observer = observer;
    this.#bytesEach = bytesEach;
  }

  /** Resolves when all are stored. Throws what the store throws, or if a shard is another node's. */
  async write(captured: readonly Captured[]): Promise<void> {
    await this.#writeAll(
      captured.filter((one) => this.#fitsOne(one)),
      ({ shard: { stored }, body, dueFrom }) => ({
        ...noEntry,
        claimed: stored.claimed,
        leftovers: leftoversOf(stored),
        dueFrom,
        body,
      }),
    );
    for (const one of captured) if (!this.#fitsOne(one)) await this.#writePieces(one);
    for (const { shard } of captured) if (shard.stored.leftovers.length > 0) await this.#sweep(shard);
  }

  #fitsOne({ body }: Captured): boolean {
    return body.length <= this.#bytesEach;
  }

  /** All of them in one call of the store: that is one flush, where it flushes. */
  async #writeAll(captured: readonly Captured[], entryOf: (one: Captured) => Entry): Promise<void> {
    let left = captured;
    for (let conflicts = 0; left.length > 0; conflicts++) {
      if (conflicts > CONFLICTS_MAX) throw new Error("Entries of shards keep changing under this node.");
      const entries = left.map((one) => entryOf(one));
      const revisions = await this.#snapshots.write(
        left.map(({ shard: { shard, stored } }, index) =>
          writeOf(shard, entryId(shard), encodeEntry(shard, entries[index] as Entry), stored.revision),
        ),
      );
      const refused = left.filter(({ shard }, index) => {
        const revision = revisions[index];
        if (revision !== undefined) shard.stored = known(revision, entries[index] as Entry);
        return revision === undefined;
      });
      if (refused.length > 0) await this.#lookAgain(refused.map(({ shard }) => shard));
      left = refused;
    }
  }

  /**
   * A former owner may have written once more after this node had read the entry. The shard table decides: if this node
   * is not the owner any more, the cut at the end is refused, and a newer entry is only older news.
   */
  async #lookAgain(shards: readonly ShardState[]): Promise<void> {
    const stored = await this.#snapshots.read(shards.map(({ shard }) => entryId(shard)));
    for (const [index, shard] of shards.entries()) {
      await this.#owner.check(shard);
      shard.stored = adopted(shard, stored[index]);
    }
  }

  async #writePieces(captured: Captured): Promise<void> {
    const { shard, body, dueFrom } = captured;
    const number = shard.shard;
    const count = Math.ceil(body.length / this.#bytesEach);
    for (let conflicts = 0; ; conflicts++) {
      if (conflicts > CONFLICTS_MAX)
        throw new Error(`The entry of shard ${number} keeps changing under this node.`);
      if (shard.stored.leftovers.length >= LEFTOVERS_MAX)
        throw new Error(`The store does not take deletions; pieces of shard ${number} pile up.`);
      const [before] = await this.#snapshots.read([entryId(number)]);
      const { revision } = shard.stored;
      const entry =
        before?.value === undefined ? { ...noEntry, body: emptyBody() } : decodeEntry(number, before.value);
      if ((before?.revision ?? 0) !== revision) {
        await this.#lookAgain([shard]);
        continue;
      }
      const generation = shard.stored.claimed + 1;
      const claim: Entry = {
        ...entry,
        claimed: generation,
        leftovers: [...shard.stored.leftovers, [generation, count]],
      };
      if (!(await this.#replace(shard, claim))) continue;
      // Nobody can store an entry any more that names what is left over now, but for this generation.
      const old = shard.stored.leftovers.filter(([of]) => of !== generation);
      if (old.length > 0) await this.#sweep(shard, generation);
      const pieces = piecesOf(number, generation, body, this.#bytesEach);
      for (let at = 0; at < pieces.length; at += PIECES_AT_ONCE) {
        const writes = pieces
          .slice(at, at + PIECES_AT_ONCE)
          .map((piece, index) => writeOf(number, pieceId(number, generation, at + index + 1), piece, 0));
        const answers = await this.#snapshots.write(writes);
        if (answers.includes(undefined)) throw new Error(`A piece of shard ${number} is there already.`);
      }
      const left = leftoversOf(shard.stored).filter(([of]) => of !== generation);
      const named: Entry = {
        claimed: generation,
        generation,
        checksums: checksumsOf(pieces),
        leftovers: left,
        dueFrom,
        body: undefined,
      };
      if (await this.#replace(shard, named)) return;
    }
  }

  /** Stores an entry in the place of the one that this node knows. False if there is another, which it knows then. */
  async #replace(shard: ShardState, entry: Entry): Promise<boolean> {
    const number = shard.shard;
    const write = writeOf(number, entryId(number), encodeEntry(number, entry), shard.stored.revision);
    const [revision] = await this.#snapshots.write([write]);
    if (revision === undefined) await this.#lookAgain([shard]);
    else shard.stored = known(revision, entry);
    return revision !== undefined;
  }

  /** Deletes what is left over, but for one generation. What cannot be deleted stays listed, for the next time. */
  async #sweep(shard: ShardState, but = 0): Promise<void> {
    const number = shard.shard;
    const gone = new Set<Leftover>();
    try {
      for (const leftover of shard.stored.leftovers) {
        const [generation, count] = leftover;
        if (generation !== but && (await this.#delete(number, generation, count))) gone.add(leftover);
      }
    } catch (error) {
      this.#observer.troubled(`delete old pieces of shard ${number}`, error);
    }
    shard.stored = { ...shard.stored, leftovers: shard.stored.leftovers.filter((one) => !gone.has(one)) };
  }

  /** Also those that are not there: the marker holds off a write that comes late. */
  async #delete(shard: number, generation: number, count: number): Promise<boolean> {
    let all = true;
    for (let at = 0; at < count; at += PIECES_AT_ONCE) {
      const ids: string[] = [];
      for (let piece = at + 1; piece <= Math.min(count, at + PIECES_AT_ONCE); piece++)
        ids.push(pieceId(shard, generation, piece));
      const found = await this.#snapshots.read(ids);
      const writes: SnapshotWrite[] = [];
      for (const [index, id] of ids.entries()) {
        const { value, revision = 0 } = found[index] ?? {};
        if (value !== undefined || revision === 0) writes.push(writeOf(shard, id, undefined, revision));
      }
      const answers = writes.length === 0 ? [] : await this.#snapshots.write(writes);
      if (answers.includes(undefined)) all = false;
    }
    return all;
  }
}

/** What another's entry says, as far as it can be read: it is about to be replaced. */
function adopted(shard: ShardState, stored: SnapshotEntry | undefined): StoredEntry {
  const revision = stored?.revision ?? 0;
  if (stored?.value === undefined) return { ...shard.stored, revision };
  try {
    return known(revision, decodeEntry(shard.shard, stored.value));
  } catch (error) {
    if (isKeyturnError(error, "newer_format")) throw error;
    return { ...shard.stored, revision };
  }
}

function writeOf(shard: number, id: string, value: Uint8Array | undefined, expected: number): SnapshotWrite {
  return { id, shard, value, expected, due: undefined };
}
