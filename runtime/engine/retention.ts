/**
 * Retention: how much of the past is kept in the journal.
 *
 * Owns the bounds of what may be trimmed. Talks to the store's reading calls and to its `retention`. Run
 * by nodes that are told to keep less than everything (cluster/keeper.ts), or by hand (`keyturn trim`).
 *
 * Invariants:
 * 1. Nothing is trimmed that a shard's segments name: recovery reads those and nothing else of the journal.
 * 2. A lane's last entry stays, so that every append is compared with what it was compared with before, and the lane of
 *    a node that is gone stays sealed, however late that node wakes up.
 * 3. Nothing younger than an hour is trimmed: sessions end before that, and with them what they may ask for again; and
 *    so do pinned snapshots of stores, whose entries tell what they were before (kv/entry.ts).
 * 4. What is trimmed is told: histories say that they are, and so do rebuilds. A request with an id of the caller's that
 *    is repeated after its turn was trimmed is still not applied again; it is told that its answer is gone.
 * 5. What a type asks to be kept (`defineActor({ keep })`) is kept, whoever trims: nodes note it in the store when they start,
 *    and trimming reads it there. Since all types share the lanes, it holds everything that is as young.
 * 6. Nothing is trimmed while somebody reads the journal from its beginning: see holds.ts.
 */
import type { Journal, JournalEnds, Retention, Store, World } from "../ports/index.ts";
import { KeyturnError } from "../words/errors.ts";
import { journalAt } from "../words/position.ts";
import { forEach } from "./concurrently.ts";
import { trimmingAlone } from "./holds.ts";
import { type Keep, type KeepPolicy, policyOf } from "./keep.ts";
import { decodeBatch } from "./record.ts";

const SHARDS_AT_ONCE = 32;
const LANES_AT_ONCE = 8;

export interface TrimReport {
  /** Lanes of the journal; of these so many were looked at because they have entries that are not to be kept. */
  readonly lanes: number;
  readonly trimmed: number;
  /** Lanes of which more would be trimmed, if the nodes had written what lies there into snapshots. */
  readonly heldBack: number;
  /** Somebody reads the journal from its beginning, or trims it already: nothing was trimmed, or not all. */
  readonly held: boolean;
  /** Types that ask for more to be kept, and for which more was. */
  readonly keptFor: readonly string[];
}

/**
 * Trims the journal of an app to what is to be kept.
 * @param goesOn asked now and then; what is left is left for another time once it says no
 * @throws KeyturnError `invalid_options`, `access_denied` where this user may not, and what the store throws
 */
export async function trimJournal(
  store: Store,
  keep: Keep | KeepPolicy,
  world: World,
  goesOn: () => boolean = () => true,
): Promise<TrimReport> {
  const policy = policyOf(keep);
  const { retention } = store;
  if (retention === undefined)
    throw new KeyturnError("invalid_options", `The journal of ${store.description} cannot be trimmed.`);
  const none = { lanes: 0, trimmed: 0, heldBack: 0, held: false, keptFor: [] };
  if (policy.isForever) return none;
  const now = world.clock.now();
  const cuts = await cutsOf(store, retention, policy, now);
  // Asked before the shard table is read: a lane that is new since then is not touched.
  const lanes = await retention.lanes();
  const limits = await neededOf(store);
  let trimmed = 0;
  let heldBack = 0;
  const todo: [lane: string, upTo: number, journal: number][] = [];
  await forEach(lanes, LANES_AT_ONCE, async (lane) => {
    const last = await store.journal.last(lane);
    const cut = cuts.get(journalAt(last)) ?? 0;
    const limit = (limits.get(lane) ?? Number.POSITIVE_INFINITY) - 1;
    if (limit < Math.min(cut, last - 1)) heldBack++;
    const upTo = Math.min(cut, limit, last - 1);
    if (upTo >= 1) todo.push([lane, upTo, journalAt(last)]);
  });
  if (todo.length === 0) return { ...none, lanes: lanes.length, heldBack };
  const keptFor: string[] = [];
  const alone = await trimmingAlone(store.snapshots, world, async (isAlone, types) => {
    const permitted: ReadonlyMap<number, number>[] = [];
    for (const [type, own] of types) {
      const most = own.isForever ? new Map<number, number>() : await cutsOf(store, retention, own, now);
      if (todo.some(([, upTo, journal]) => (most.get(journal) ?? 0) < upTo)) keptFor.push(type);
      permitted.push(most);
    }
    await forEach(todo, LANES_AT_ONCE, async ([lane, wanted, journal]) => {
      const upTo = Math.min(wanted, ...permitted.map((most) => most.get(journal) ?? 0));
      if (upTo < 1 || !goesOn() || !(await isAlone())) return;
      trimmed++;
      await retention.trim(lane, upTo);
    });
  });
  return { lanes: lanes.length, trimmed, heldBack, held: !alone, keptFor: keptFor.sort() };
}

/** Up to where each journal may go, whatever recovery needs of it. */
async function cutsOf(
  { journal }: Store,
  retention: Retention,
  { age_ms, bytes, youngest_ms }: KeepPolicy,
  now: number,
): Promise<ReadonlyMap<number, number>> {
  const ends = await journal.ends();
  const sizes = bytes === undefined ? [] : await retention.bytes();
  const cuts = new Map<number, number>();
  for (const [number, end] of ends.entries()) {
    if (end.last < end.first) continue;
    const old = age_ms === undefined ? 0 : await lastBefore(journal, end, now - age_ms);
    const excess = bytes === undefined ? 0 : (sizes[number] ?? 0) - bytes / ends.length;
    const many = excess > 0 ? await oldest(journal, end, excess, retention) : 0;
    const cut = Math.max(old, many);
    // The clock decides nothing where nothing is to go.
    const youngest = cut === 0 || youngest_ms === 0 ? cut : await lastBefore(journal, end, now - youngest_ms);
    cuts.set(journalAt(end.last), Math.min(youngest, cut));
  }
  return cuts;
}

/** The first position of each lane that some shard's recovery may read. */
async function neededOf(store: Store): Promise<Map<string, number>> {
  const settings = await store.directory.settings();
  if (settings === undefined)
    throw new KeyturnError("not_provisioned", `There is no app in ${store.description}.`);
  const needed = new Map<string, number>();
  const shards = Array.from({ length: settings.shards }, (_, shard) => shard);
  await forEach(shards, SHARDS_AT_ONCE, async (shard) => {
    const segments = (await store.directory.readShard(shard))?.entry.segments ?? [];
    for (const { lane, from } of segments)
      needed.set(lane, Math.min(from, needed.get(lane) ?? Number.POSITIVE_INFINITY));
  });
  return needed;
}

/** The last position of a journal whose batch was written before a time; 0 if there is none. Clocks are taken to agree. */
async function lastBefore(journal: Journal, { first, last }: JournalEnds, time: number): Promise<number> {
  let low = first - 1;
  let high = last;
  while (low < high) {
    const middle = low + Math.ceil((high - low) / 2);
    const entry = await firstFrom(journal, middle, last);
    if (entry !== undefined && decodeBatch(entry.bytes, entry.seq).header.time < time)
      low = Math.max(middle, entry.seq);
    else high = middle - 1;
    if (low > high) high = low;
  }
  return low < first ? 0 : low;
}

async function firstFrom(journal: Journal, from: number, to: number) {
  for await (const chunk of journal.scan(from, to)) return chunk[0];
  return undefined;
}

/** The last position of the oldest so many bytes of a journal: what is to go, and no more, is read. */
async function oldest(
  journal: Journal,
  { first, last }: JournalEnds,
  bytes: number,
  retention: Retention,
): Promise<number> {
  let sum = 0;
  let at = 0;
  for await (const entries of journal.scan(first, last)) {
    for (const entry of entries) {
      sum += retention.sizeOf(entry.bytes.length);
      if (sum > bytes) return at;
      at = entry.seq;
    }
  }
  return at;
}
