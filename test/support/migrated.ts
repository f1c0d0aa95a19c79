/** Orders of several versions, and what a store has of them. */
import { decodeBatch, decodeRecord, type TurnRecord } from "../../runtime/engine/record.ts";
import { type ActorData, decodeSnapshot } from "../../runtime/engine/state.ts";
import type { ActorDefinition, AnyActorDefinition, HistoryTurn } from "../../runtime/index.ts";
import type { FaultStore } from "./fault-store.ts";
import { orderNow, toV3 } from "./orders.ts";
import { type Rig, rig } from "./probe.ts";

export const orderV3 = orderNow(3, toV3);

export const put = (sku: string, price: number) => ({ type: "put", sku, price }) as const;

/** A node that hosts one definition, on the store and in the time of one that was killed. */
export function next(
  before: Pick<Rig, "store" | "world">,
  actors: readonly AnyActorDefinition[],
  name: string,
): Promise<Rig> {
  return rig({ world: before.world, store: before.store, actors, name });
}

/** Every record of an actor in the journal, in order. */
export async function recordsOf(store: FaultStore, id: string): Promise<TurnRecord[]> {
  const records: TurnRecord[] = [];
  for (let seq = 1; ; seq++) {
    const bytes = await store.inner.journal.get(seq);
    if (bytes === undefined) return records;
    const batch = decodeBatch(bytes, seq);
    for (let index = 0; index < batch.count; index++) {
      const record = decodeRecord(batch.recordAt(index));
      if (record.id === id) records.push(record);
    }
  }
}

export async function storedOf(store: FaultStore, id: string): Promise<ActorData | undefined> {
  const [entry] = await store.inner.snapshots.read([id]);
  return entry?.value === undefined ? undefined : decodeSnapshot(id, entry.value);
}

export async function historyOf(
  r: Rig,
  definition: ActorDefinition,
  key: string,
  order: "oldest" | "newest",
) {
  const read = async (): Promise<HistoryTurn[]> => {
    const turns: HistoryTurn[] = [];
    for await (const turn of r.node.client.actor(definition, key).history({ order })) turns.push(turn);
    return turns;
  };
  return await r.world.run(read());
}
