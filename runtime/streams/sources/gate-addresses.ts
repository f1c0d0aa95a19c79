/**
 * Gates: an actor of a source in each shard, which answers a partition that its messages to that shard are through.
 *
 * Owns their addresses and which of them a question is for.
 */
import { parseAddress, shardOf } from "../../words/address.ts";
import type { FenceEvent, PartitionContext } from "./words.ts";

/** The gates that a question is for. Further parts of one come when `since` is empty, so they name all. */
export function gatesAsked(
  type: string,
  since: PartitionContext["since"],
  { all, part, shards }: FenceEvent,
) {
  const gates = gatesOf(type, shards);
  if (all || part > 0 || since === "many") return gates;
  const told = since.map((to) => {
    const { type: of, key } = parseAddress(to);
    return gates[shardOf(of, key, shards)] as string;
  });
  return [...new Set(told)];
}

const known = new Map<string, readonly string[]>();

/** An address of a type in each shard, by shard. */
function gatesOf(type: string, shards: number): readonly string[] {
  const name = `${type}/${shards}`;
  let gates = known.get(name);
  if (gates === undefined) known.set(name, (gates = findGates(type, shards)));
  return gates;
}

function findGates(type: string, shards: number): readonly string[] {
  const gates: string[] = [];
  for (let key = 0, found = 0; found < shards; key++) {
    const shard = shardOf(type, String(key), shards);
    if (gates[shard] !== undefined) continue;
    gates[shard] = `${type}/${key}`;
    found++;
  }
  return gates;
}
