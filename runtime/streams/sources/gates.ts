/**
 * Finds out how far what a partition told is delivered.
 *
 * Talks to the partition's actor. What is asked through the partition goes the way of its items, after them; so once the
 * gates of the shards that it told something have answered, everything before is committed there.
 */
import type { ActorRef, Client } from "../../client/client.ts";
import { type FenceEvent, GATES_AT_ONCE } from "./words.ts";

const FENCE_MAX = 2 ** 47;

/**
 * Asks the gates. The answers come to the partition.
 * @param all also those that were asked before, and may not have answered
 */
export async function askGates(ref: ActorRef, { shards, world }: Client, all = false): Promise<void> {
  const fence = Math.floor(world.random.next() * FENCE_MAX);
  const asked: Promise<void>[] = [];
  for (let part = 0; part * GATES_AT_ONCE < shards; part++) {
    const event: FenceEvent = { type: "fence", fence, shards, all, part };
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
