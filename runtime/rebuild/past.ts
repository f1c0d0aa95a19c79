/**
 * A past state read from the store itself, for who may read it and has no node to ask.
 *
 * Talks to the store's reading calls; nothing is claimed or written.
 */
import { HistoryReader, type PastQuery, type PastState } from "../engine/history.ts";
import { closed } from "../engine/population.ts";
import { NoLink } from "../engine/record.ts";
import { rebuild } from "../engine/recovery.ts";
import { decodeSnapshot } from "../engine/state.ts";
import type { Store, World } from "../ports/index.ts";
import { placeOf } from "../words/address.ts";
import { limits } from "../words/limits.ts";

/**
 * @throws KeyturnError `invalid_options` if there was no such turn, `history_trimmed`
 */
export async function pastInStore(
  store: Store,
  world: World,
  address: { readonly type: string; readonly key: string },
  query: PastQuery,
): Promise<PastState> {
  const shards = (await store.directory.settings())?.shards ?? 1;
  const { id, shard } = placeOf(address.type, address.key, shards);
  const segments = (await store.directory.readShard(shard))?.entry.segments ?? [];
  const ended = await closed(store, { shard, segments }, new Map());
  const [state] = await rebuild(store, [ended], world.clock.monotonic());
  const [entry] = await store.snapshots.read([id]);
  const stored = entry?.value === undefined ? undefined : decodeSnapshot(id, entry.value);
  const patch = state?.patches.get(id);
  const data = patch === undefined ? stored : patch.applyTo(id, stored, limits.requestsPerActor);
  return new HistoryReader(store.journal).past(id, data?.last ?? NoLink, data?.keyframe ?? NoLink, query);
}
