/**
 * Finds out how far what a partition told is delivered.
 *
 * Owns the addresses of a source's gates, one in each shard. Talks to the partition's actor. What is asked through the
 * partition goes the way of its items, after them; so once the gate of every shard has answered, everything before is
 * committed there.
 */
import { randomInt } from "node:crypto";
import type { ActorRef, Client } from "../../client/client.ts";
import { shardOf } from "../../words/address.ts";
import { limits } from "../../words/limits.ts";
import type { PartitionEvent } from "./actors.ts";

/** Gates in one turn. */
const GATES_MAX = limits.tellsPerTurn - 24;

/** Of an earlier life of the partition no answer must fit. */
const FENCE_MAX = 2 ** 47;

/** An address in each shard. */
export function gatesOf(type: string, shards: number): readonly string[] {
  const gates = new Map<number, string>();
  for (let key = 0; gates.size < shards; key++) {
    const shard = shardOf(type, String(key), shards);
    if (!gates.has(shard)) gates.set(shard, `${type}/${key}`);
  }
  return [...gates.values()];
}

/** Asks all gates. The answers come to the partition. */
export async function askGates(ref: ActorRef, gates: readonly string[]): Promise<void> {
  const asked: Promise<void>[] = [];
  const fence = randomInt(FENCE_MAX);
  for (let at = 0; at < gates.length; at += GATES_MAX) {
    const some = gates.slice(at, at + GATES_MAX);
    const event: PartitionEvent = { type: "fence", fence, gates: some, total: gates.length };
    asked.push(ref.send(event as never));
  }
  await Promise.all(asked);
}

/** Resolves when everything up to a revision is delivered. */
export async function delivered(client: Client, ref: ActorRef, revision: number, signal: AbortSignal) {
  for await (const state of client.actor(ref.address).watch({ signal })) {
    if ((state.context as { delivered: number }).delivered >= revision) return;
  }
}
