/**
 * Inspection: looks into the engines of a cluster at rest.
 *
 * Owns nothing. Reads what is public of engines and shards, and compares it with what the journal tells.
 */
import type { Client } from "../../client/client.ts";
import { dataOf } from "../../engine/activation.ts";
import type { Engine } from "../../engine/engine.ts";
import type { ActorData } from "../../engine/state.ts";
import { decodeKey, placeOfId } from "../../words/address.ts";
import { isKeyturnError } from "../../words/errors.ts";
import { nodeDefaults } from "../../words/limits.ts";
import type { Audit } from "./audit.ts";
import type { Cluster } from "./cluster.ts";
import type { Scenario } from "./scenario.ts";

/** What is not at rest, or undefined. */
export function unrest(cluster: Cluster, { shards, settings }: Scenario): string | undefined {
  const served = new Set<number>();
  for (const { name, state, node } of cluster.sites) {
    if (state === "down") continue;
    if (state !== "up" || node === undefined) return `${name} is ${state}`;
    const { engine } = node.incarnation;
    if (engine.queued > 0) return `${engine.queued} messages are queued at ${name}`;
    for (const shard of engine.shards.values()) {
      const at = `shard ${shard.shard} at ${name}`;
      if (served.has(shard.shard)) return `${at} is served twice`;
      if (shard.phase !== "serving") return `${at} is ${shard.phase}`;
      served.add(shard.shard);
      if (shard.busy !== 0) return `${at} is busy with ${shard.busy} messages`;
      if (shard.due.overdue > 0) return `${at} has a backlog of ${shard.due.overdue} actors`;
      if (shard.letters.size > 0) return `${at} has ${shard.letters.size} dead letters that are not stored`;
      for (const [from, channel] of shard.ins)
        if (channel.parked.length > 0)
          return `${at} parks ${channel.parked.length} messages of shard ${from}`;
      for (const [to, channel] of shard.outs)
        if (channel.waiting.length > 0)
          return `${at} has ${channel.waiting.length} messages for shard ${to} without acknowledgement`;
    }
    const most = settings.activeActors ?? nodeDefaults.activeActors;
    if (engine.actors.size > most)
      return `${engine.actors.size} actors are in memory at ${name}, over ${most}`;
    for (const a of engine.actors.values()) {
      if (a.loading) return `${a.id} is being loaded at ${name}`;
      if (a.inFlight) return `${a.id} has turns in flight at ${name}`;
    }
  }
  return served.size < shards ? `${shards - served.size} of ${shards} shards are not served` : undefined;
}

/** What the engines hold against what the journal tells. */
export function compareLive(cluster: Cluster, { actors }: Audit): string[] {
  const differences: string[] = [];
  for (const { name, node } of cluster.sites) {
    if (node === undefined) continue;
    differences.push(...compareEngine(node.incarnation.engine, name, actors));
  }
  return differences;
}

function compareEngine(engine: Engine, name: string, actors: Audit["actors"]): string[] {
  const differences: string[] = [];
  for (const a of engine.actors.values()) {
    if (a.failed !== undefined) {
      if (a.failed.code !== "unknown_type")
        differences.push(`${a.id} is ${a.failed.code} at ${name}, for ever`);
      continue;
    }
    const live = textOfData(dataOf(a.committed));
    const told = textOfData(actors.get(a.id));
    if (live !== told) differences.push(`${a.id} at ${name} is ${live}, its journal says ${told}`);
  }
  return differences;
}

function textOfData(data: ActorData | undefined): string {
  if (data === undefined) return "nothing";
  const { value, context, status, children = [] } = data.machine;
  const timers = data.timers.map((t) => [t.id, t.due, t.generation]);
  const requests = data.requests.map((r) => r.requestId);
  return stable({ value, context, status, children, turn: data.turn, timers, requests });
}

/** Every actor as a freshly recovered node sees it against what the journal tells. */
export async function compareRecovered(client: Client, { actors }: Audit): Promise<string[]> {
  const differences: string[] = [];
  const all = [...actors].map(async ([id, data]) => {
    const [type, token] = [id.slice(0, id.indexOf(".")), id.slice(id.indexOf(".") + 1)];
    const ref = client.actor(`${type}/${decodeKey(token)}`);
    while (true) {
      try {
        const { value, context, status, turn } = await ref.get({ timeout_ms: 60_000 });
        const told = data?.machine;
        const is = data === undefined ? turn : stable({ value, context, status, turn });
        const should =
          told === undefined
            ? 0
            : stable({ value: told.value, context: told.context, status: told.status, turn: data?.turn });
        if (is !== should) differences.push(`${id} is recovered as ${is}, its journal says ${should}`);
        return;
      } catch (error) {
        if (!isKeyturnError(error)) throw error;
        if (!error.retryable) {
          // A machine that refuses to begin has nothing to compare.
          if (data !== undefined) differences.push(`${id} cannot be read after recovery: ${error.message}`);
          return;
        }
      }
    }
  });
  await Promise.all(all);
  return differences;
}

/** What a question about all actors of a type finds, against what the journal tells. */
export async function compareFound(client: Client, { actors }: Audit): Promise<string[]> {
  const told = new Map<string, Map<string, string>>();
  for (const [id, data] of actors) {
    const place = placeOfId(id, 1);
    let ofType = told.get(place.type);
    if (ofType === undefined) told.set(place.type, (ofType = new Map()));
    if (data !== undefined)
      ofType.set(place.key, stable([data.machine.value, data.machine.status, data.turn]));
  }
  const differences: string[] = [];
  const foundOf = async (type: string): Promise<Map<string, string>> => {
    while (true) {
      try {
        const found = new Map<string, string>();
        for await (const { key, value, status, turn } of client.find(type))
          found.set(key, stable([value, status, turn]));
        return found;
      } catch (error) {
        // A node that may have few messages waiting refuses some of so many questions.
        if (!isKeyturnError(error) || !error.retryable) throw error;
        await client.pause(20);
      }
    }
  };
  const compare = async (type: string, should: ReadonlyMap<string, string>): Promise<void> => {
    const found = await foundOf(type);
    for (const key of new Set([...should.keys(), ...found.keys()])) {
      const [is, wanted] = [found.get(key) ?? "nothing", should.get(key) ?? "nothing"];
      if (is !== wanted) differences.push(`${type}/${key} is found as ${is}, its journal says ${wanted}`);
    }
  };
  const all = [...told].map(([type, should]) =>
    compare(type, should).catch((error: unknown) => {
      // Messages to a type that nobody hosts are refused; of those the journal tells, and nothing lives.
      if (!isKeyturnError(error, "unknown_type") || should.size > 0) throw error;
    }),
  );
  await Promise.all(all);
  return differences;
}

/** JSON with sorted names, so that equal values have equal texts. */
function stable(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
