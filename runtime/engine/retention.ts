/**
 * Retention: how much of the past is kept in the journal.
 *
 * Owns the policy and the bounds of what may be trimmed. Talks to the store's reading calls and to its `retention`. Run
 * by the keeper of an app, beside its nodes or without them; nodes never trim.
 *
 * Invariants:
 * 1. Nothing is trimmed that a shard's segments name: recovery reads those and nothing else of the journal.
 * 2. A lane's last entry stays, so that every append is compared with what it was compared with before, and the lane of
 *    a node that is gone stays sealed, however late that node wakes up.
 * 3. Nothing younger than an hour is trimmed: sessions end before that, and with them what they may ask for again.
 * 4. What is trimmed is told: histories say that they are, and so do rebuilds. A request with an id of the caller's that
 *    is repeated after its turn was trimmed is still not applied again; it is told that its answer is gone.
 */
import type { Journal, JournalEnds, Store, World } from "../ports/index.ts";
import { type Duration, durationOf } from "../words/duration.ts";
import { KeyturnError } from "../words/errors.ts";
import { journalAt } from "../words/position.ts";
import { forEach } from "./concurrently.ts";
import { decodeBatch } from "./record.ts";

/** How much is kept: all of it; what is not older; or about the newest so many bytes, of all journals together. */
export type Keep = "forever" | { readonly age: Duration } | { readonly bytes: number };

const YOUNGEST_MS = 60 * 60_000;
const SHARDS_AT_ONCE = 32;
const LANES_AT_ONCE = 8;

export interface TrimReport {
  /** Lanes of the journal; of these so many were looked at because they have entries that are not to be kept. */
  readonly lanes: number;
  readonly trimmed: number;
  /** Lanes of which more would be trimmed, if the nodes had written what lies there into snapshots. */
  readonly heldBack: number;
}

/** @throws KeyturnError `invalid_options` */
export function checkKeep(keep: unknown): Keep {
  if (keep === "forever") return keep;
  const { age, bytes } = (typeof keep === "object" && keep !== null ? keep : {}) as {
    readonly age?: Duration;
    readonly bytes?: unknown;
  };
  if (age !== undefined && bytes === undefined) {
    if (durationOf(age, "age") >= YOUNGEST_MS) return { age };
    throw new KeyturnError("invalid_options", "At least the last hour of the journal is kept.");
  }
  if (typeof bytes === "number" && Number.isSafeInteger(bytes) && bytes >= 0 && age === undefined)
    return { bytes };
  throw new KeyturnError(
    "invalid_options",
    'What is kept is "forever", { age: "30 days" } or { bytes: 1e9 }.',
  );
}

/**
 * Trims the journal of an app to what is to be kept.
 * @throws KeyturnError `invalid_options`, `access_denied` where this user may not, and what the store throws
 */
export async function trimJournal(store: Store, keep: Keep, world: World): Promise<TrimReport> {
  const wanted = checkKeep(keep);
  const { retention } = store;
  if (retention === undefined)
    throw new KeyturnError("invalid_options", `The journal of ${store.description} cannot be trimmed.`);
  if (wanted === "forever") return { lanes: 0, trimmed: 0, heldBack: 0 };
  const now = world.clock.now();
  const ends = (await store.journal.ends()).filter(({ first, last }) => last >= first);
  const cuts = new Map<number, number>();
  for (const end of ends) {
    const youngest = await lastBefore(store.journal, end, now - YOUNGEST_MS);
    const cut =
      "age" in wanted
        ? await lastBefore(store.journal, end, now - durationOf(wanted.age, "age"))
        : await beyond(store.journal, end, wanted.bytes / ends.length);
    cuts.set(journalAt(end.last), Math.min(youngest, cut));
  }
  // Asked before the shard table is read: a lane that is new since then is not touched.
  const lanes = await retention.lanes();
  const limits = await neededOf(store);
  let trimmed = 0;
  let heldBack = 0;
  await forEach(lanes, LANES_AT_ONCE, async (lane) => {
    const last = await store.journal.last(lane);
    const cut = cuts.get(journalAt(last)) ?? 0;
    const limit = (limits.get(lane) ?? Number.POSITIVE_INFINITY) - 1;
    if (limit < Math.min(cut, last - 1)) heldBack++;
    const upTo = Math.min(cut, limit, last - 1);
    if (upTo < 1) return;
    trimmed++;
    await retention.trim(lane, upTo);
  });
  return { lanes: lanes.length, trimmed, heldBack };
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

/** The last position of a journal behind which lie so many bytes at least. Reads all of it. */
async function beyond(journal: Journal, { first, last }: JournalEnds, bytes: number): Promise<number> {
  const chunks: [last: number, bytes: number][] = [];
  for await (const entries of journal.scan(first, last)) {
    let sum = 0;
    for (const entry of entries) sum += entry.bytes.length;
    chunks.push([entries.at(-1)?.seq ?? 0, sum]);
  }
  let kept = 0;
  for (let at = chunks.length - 1; at > 0; at--) {
    kept += chunks[at]?.[1] ?? 0;
    if (kept >= bytes) return chunks[at - 1]?.[0] ?? 0;
  }
  return 0;
}
