/**
 * Taking shards over: from what the shard table says of them to the compare-and-set that makes them this node's.
 *
 * Owns the order of the steps. Talks to the journal (seals), recovery and the Directory; what was won goes to the
 * ownership. Shards whose records lie in the same lanes go together, so that a lane's tail is read once; such groups,
 * and those that were released with nothing left to replay, go side by side.
 *
 * Invariants:
 * 1. An owner's lane is sealed before its shards are claimed, once in a take-over.
 * 2. A claim replaces the entry that the segments came from, so of several that take over at once one wins.
 * 3. A group that fails holds up no other, a damaged shard no other of its group.
 * 4. The claim also says which versions this node has, so that no turn of a version is in a shard before the shard's
 *    entry says so.
 */
import type { Segment, ShardEntry, StoredShard, Versions } from "../ports/index.ts";
import { forEach } from "../engine/concurrently.ts";
import type { Engine } from "../engine/engine.ts";
import { sealLane } from "../engine/lane.ts";
import { recover } from "../engine/recovery.ts";
import type { ShardState } from "../engine/shard.ts";
import { isKeyturnError, type KeyturnError } from "../words/errors.ts";
import { highest } from "./versions.ts";

/** Groups that are recovered at once: each may hold a tail in memory. */
const GROUPS_AT_ONCE = 8;
/** Shards without a tail in one group, so that the first are served while others are still read. */
const GROUP_SHARDS = 128;
/** Claims on their way at once, in each group. */
const CLAIMS_AT_ONCE = 32;

/** A shard that may be taken, with its entry as it was read. */
export interface Found {
  readonly shard: number;
  readonly stored: StoredShard | undefined;
}

/** Hears what became of it. */
export interface Taker {
  /** Of the types that this node hosts. */
  readonly versions: Versions | undefined;
  /** The shard is this node's. */
  claimed(state: ShardState, entry: ShardEntry, revision: number): void;
  /** A claim on an entry at this revision got no answer: it may have its effect now, later or never. */
  unanswered(shard: number, revision: number): void;
  damaged(shard: number, error: KeyturnError): Promise<void>;
}

/** The owners of all of them have released them or are over. Does not throw. */
export async function takeOver(engine: Engine, found: readonly Found[], taker: Taker): Promise<void> {
  const seals = new Map<string, Promise<number>>();
  const take = async (group: readonly Found[]): Promise<void> => {
    try {
      await takeGroup(engine, group, seals, taker);
    } catch (error) {
      if (!isDamage(error)) engine.parts.observer.troubled("acquire shards", error);
      else if (group.length === 1) await taker.damaged((group[0] as Found).shard, error);
      else {
        // Halves of halves, until the damaged ones are alone.
        const half = group.length >> 1;
        await take(group.slice(0, half));
        await take(group.slice(half));
      }
    }
  };
  await forEach(groupsOf(found), GROUPS_AT_ONCE, take);
}

/** Those with the same lanes to read together; those with nothing to read in portions. */
function groupsOf(found: readonly Found[]): Found[][] {
  const groups = new Map<string, Found[]>();
  let portions = 0;
  for (const one of found) {
    const lanes = one.stored?.entry.segments.map(({ lane }) => lane).join() ?? "";
    const name = lanes === "" ? `${Math.floor(portions++ / GROUP_SHARDS)}` : `lane ${lanes}`;
    const group = groups.get(name);
    if (group === undefined) groups.set(name, [one]);
    else group.push(one);
  }
  return [...groups.values()];
}

async function takeGroup(
  engine: Engine,
  group: readonly Found[],
  seals: Map<string, Promise<number>>,
  taker: Taker,
): Promise<void> {
  const { store, world, incarnation } = engine.parts;
  const closed = new Map<number, readonly Segment[]>();
  for (const { shard, stored } of group)
    closed.set(shard, await closeSegments(engine, stored?.entry.segments ?? [], seals));
  if (engine.stopped) return;
  const wanted = [...closed].map(([shard, segments]) => ({ shard, segments }));
  const states = await recover(store, wanted, world.clock.now(), world.clock.monotonic());
  const before = new Map(group.map(({ shard, stored }) => [shard, stored]));
  await forEach(states, CLAIMS_AT_ONCE, async (state) => {
    if (engine.stopped) return;
    const { shard } = state;
    const stored = before.get(shard);
    const tail = closed.get(shard) as readonly Segment[];
    const epoch = (stored?.entry.epoch ?? 0) + 1;
    const expected = stored?.revision ?? 0;
    const versions = highest(taker.versions, stored?.entry.versions);
    const entry = entryOf(incarnation, epoch, [...tail.filter(isFilled), open(engine)], versions);
    const revision = await store.directory.writeShard(shard, entry, expected).catch((error: unknown) => {
      taker.unanswered(shard, expected);
      throw error;
    });
    if (revision === undefined || engine.stopped) return;
    // What was just replayed is to be in snapshots before somebody has to replay it again.
    if (tail.length > 0) engine.tail.add(1, 0);
    taker.claimed(state, entry, revision);
  });
}

/** The segment that begins where this node's lane stands. */
function open(engine: Engine): Segment {
  return { lane: engine.lane.name, from: engine.committedSeq + 1, to: undefined };
}

/** A shard's segments with the open one closed: by sealing its lane, or where this node's own lane stands. */
export async function closeSegments(
  engine: Engine,
  segments: readonly Segment[],
  seals: Map<string, Promise<number>>,
): Promise<readonly Segment[]> {
  const { store, world, incarnation, observer } = engine.parts;
  const closed: Segment[] = [];
  for (const segment of segments) {
    if (segment.to !== undefined) closed.push(segment);
    else if (segment.lane === engine.lane.name) closed.push({ ...segment, to: engine.committedSeq });
    else {
      let seal = seals.get(segment.lane);
      if (seal === undefined) {
        seal = sealLane(store.journal, segment.lane, incarnation, world.clock, (task, cause) =>
          observer.troubled(task, cause),
        );
        seals.set(segment.lane, seal);
      }
      closed.push({ ...segment, to: await seal });
    }
  }
  return closed;
}

export function entryOf(
  owner: string | undefined,
  epoch: number,
  segments: readonly Segment[],
  versions: Versions | undefined,
): ShardEntry {
  return { owner, epoch, segments, ...(versions === undefined ? {} : { versions }) };
}

export function isFilled({ from, to }: Segment): boolean {
  return to !== undefined && to >= from;
}

/** Storage that does not hold together, or that this runtime must not touch. */
function isDamage(error: unknown): error is KeyturnError {
  return (
    isKeyturnError(error, "corrupt_record") ||
    isKeyturnError(error, "corrupt_snapshot") ||
    isKeyturnError(error, "newer_format")
  );
}
