/**
 * Rebuilds shards from what a dead or former owner left: their stored entries and the tail of the journal.
 *
 * Owns the reading of segments. Talks to Journal and Snapshots. Changes nothing: only the compare-and-set on the
 * shard table, which comes after, makes this node the owner.
 *
 * Invariants:
 * 1. Every sequence of a segment's lane is accounted for, by the chain of batches: a gap stops the recovery.
 * 2. Records are added in the order of the segments, so each actor's in the order of its turns.
 * 3. The work depends on the length of the tail and on the timers due soon, not on how many keys exist.
 */
import type { DueEntry, JournalEntry, Segment, Store } from "../ports/index.ts";
import { limits } from "../words/limits.ts";
import { forEach } from "./concurrently.ts";
import { readEntries } from "./entries.ts";
import { type Batch, corrupt, decodeBatch, decodeRecord, Refusal } from "./record.ts";
import { ShardState } from "./shard.ts";
import { Skimmer } from "./skim.ts";
import { earliestDue, Patch } from "./state.ts";

/** Timers due within this time of a recovery are held in memory; later ones are looked up when their time nears. */
export const HORIZON_MS = 10 * 60_000;
const DUE_PAGE = 1_024;
/** Shards whose timers are looked up at once. */
const TIMERS_AT_ONCE = 32;

/** A shard to rebuild: all its segments are closed. */
export interface Wanted {
  readonly shard: number;
  readonly segments: readonly Segment[];
}

export async function recover(
  store: Store,
  wanted: readonly Wanted[],
  now: number,
  monotonic_ms: number,
): Promise<ShardState[]> {
  const shards = await rebuild(store, wanted, monotonic_ms);
  await forEach(shards, TIMERS_AT_ONCE, (shard) => loadTimers(store, shard, now + HORIZON_MS));
  return shards;
}

/** The shards without their timers: all that who only reads wants to know. */
export async function rebuild(
  store: Store,
  wanted: readonly Wanted[],
  monotonic_ms: number,
): Promise<ShardState[]> {
  const shards = new Map<number, ShardState>();
  await store.snapshots.sync();
  for (const { shard } of wanted) shards.set(shard, new ShardState(shard));
  await readEntries(store.snapshots, [...shards.values()], monotonic_ms);
  const rounds = Math.max(0, ...wanted.map(({ segments }) => segments.length));
  for (let round = 0; round < rounds; round++) await replayRound(store, wanted, round, shards, monotonic_ms);
  return [...shards.values()];
}

/** The n-th segment of every shard; those in one lane are read together. */
async function replayRound(
  store: Store,
  wanted: readonly Wanted[],
  round: number,
  shards: ReadonlyMap<number, ShardState>,
  monotonic_ms: number,
): Promise<void> {
  const lanes = new Map<string, Map<number, Segment>>();
  for (const { shard, segments } of wanted) {
    const segment = segments[round];
    if (segment === undefined || segment.to === undefined || segment.to < segment.from) continue;
    let byShard = lanes.get(segment.lane);
    if (byShard === undefined) lanes.set(segment.lane, (byShard = new Map()));
    byShard.set(shard, segment);
  }
  for (const [lane, byShard] of lanes) {
    const segments = [...byShard.values()];
    const from = Math.min(...segments.map((s) => s.from));
    const to = Math.max(...segments.map((s) => s.to as number));
    const chain = new Chain(from);
    for await (const entries of store.journal.read(lane, from, to)) {
      for (const entry of entries) replayBatch(chain.open(entry), byShard, shards, monotonic_ms);
    }
    chain.end(to);
  }
}

/** Follows a lane's batches and notices any that is missing. */
class Chain {
  readonly #from: number;
  #last: Batch | undefined;

  constructor(from: number) {
    this.#from = from;
  }

  open({ seq, bytes }: JournalEntry): Batch {
    const batch = decodeBatch(bytes, seq);
    const { previousSeq, previousCrc, number } = batch.header;
    const last = this.#last;
    if (last === undefined) {
      if (previousSeq >= this.#from) throw corrupt(seq, `the batch before it, ${previousSeq}, is missing`);
    } else if (previousSeq !== last.seq || previousCrc !== last.crc || number !== last.header.number + 1) {
      throw corrupt(seq, `it does not continue journal entry ${last.seq}`);
    }
    this.#last = batch;
    return batch;
  }

  end(to: number): void {
    // A segment may begin behind the lane's end; then nothing was to be read.
    if (this.#last !== undefined && this.#last.seq !== to) throw corrupt(to, "it is missing");
    if (this.#last === undefined && to >= this.#from) throw corrupt(to, "it is missing");
  }
}

/** Recovery is synchronous between two batches: one is enough. */
const skimmer = new Skimmer();

function replayBatch(
  batch: Batch,
  segments: ReadonlyMap<number, Segment>,
  shards: ReadonlyMap<number, ShardState>,
  monotonic_ms: number,
): void {
  skimmer.open(batch.bytes);
  for (let index = 0; index < batch.count; index++) {
    const number = batch.shardAt(index);
    const segment = segments.get(number);
    if (segment === undefined || batch.seq < segment.from || batch.seq > (segment.to as number)) continue;
    const shard = shards.get(number) as ShardState;
    const at = [batch.seq, index] as const;
    // A record older than the shard's entry only repeats what the entry knows; `replay` tells by the numbers.
    if (skimmer.read(batch.offsetAt(index))) {
      const { id, turn } = skimmer;
      shard.replay(skimmer, at, monotonic_ms);
      let patch = shard.patches.get(id);
      if (patch === undefined) shard.patches.set(id, (patch = new Patch(turn - 1)));
      patch.defer(id, turn, batch, at);
      patch.time = batch.header.time;
      continue;
    }
    const bytes = batch.recordAt(index);
    const record = decodeRecord(bytes);
    shard.replay(record, at, monotonic_ms);
    shard.letters.add(record, at, batch.header.time);
    if (record.kind === Refusal) continue;
    let patch = shard.patches.get(record.id);
    if (patch === undefined) shard.patches.set(record.id, (patch = new Patch(record.turn - 1)));
    patch.add(record, at, limits.requestsPerActor, bytes.length);
    patch.time = batch.header.time;
  }
}

/** Fills the due heap: what the store's index knows up to the horizon, corrected by the tail. */
async function loadTimers(store: Store, shard: ShardState, horizon: number): Promise<void> {
  await extendTimers(store, shard, horizon);
  for (const [id, patch] of shard.patches) {
    if (patch.timers !== null) shard.due.set(id, earliestDue(patch.timers));
  }
}

/** Moves a shard's horizon on, and reads what of the index lies in between. Actors with timers in memory keep theirs. */
export async function extendTimers(store: Store, shard: ShardState, horizon: number): Promise<void> {
  const from = shard.horizon_ms;
  // Moved first: a timer that is stored while the pages are read must not be left to the index any more.
  shard.horizon_ms = horizon;
  let after: DueEntry | undefined = from > 0 ? { id: "", due: from } : undefined;
  try {
    while (true) {
      const page = await store.snapshots.due(shard.shard, horizon, DUE_PAGE, after);
      for (const { id, due } of page) {
        if (due >= from && !shard.due.has(id)) shard.due.set(id, due);
      }
      if (page.length < DUE_PAGE) break;
      after = page[page.length - 1];
    }
  } catch (error) {
    shard.horizon_ms = from;
    throw error;
  }
  shard.indexed_ms = horizon;
}
