/** Many watches of one type: who has heard the same asks once. */
import { setMaxListeners } from "node:events";
import { expect, it } from "vitest";
import { rig } from "./support/probe.ts";
import { Query } from "../runtime/words/frames.ts";
import type { ShardQuery } from "../runtime/words/queries.ts";
import { parcel } from "./support/parcels.ts";

const SHARDS = 4;

it("holds one question a shard however many follow, and each hears everything", async () => {
  const r = await rig({ actors: [parcel], shards: SHARDS });
  const { world, store, node } = r;
  const pack = (key: string, weight: number): Promise<void> =>
    world.run(node.client.actor(parcel, key).send({ type: "pack", owner: "ada", weight }));
  await pack("a", 1);
  /** Questions that were sent to be held since it was asked last. */
  let looked = store.frames.length;
  const asked = (): number => {
    const fresh = store.frames.slice(looked);
    looked = store.frames.length;
    return fresh
      .flatMap(({ frame }) => (frame.kind === "request" ? frame.requests : []))
      .filter(({ kind, event }) => kind === Query && (event as ShardQuery).since !== undefined).length;
  };
  const seen: string[][] = [];
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  const follow = async (where?: { weight: { gte: number } }): Promise<void> => {
    const mine: string[] = [];
    seen.push(mine);
    for await (const { key, actor } of node.client.changes(parcel, { where, signal: stop.signal }))
      mine.push(`${key}${String(actor?.fields.weight ?? "-")}`);
  };
  const following = Array.from({ length: 20 }, () => follow());
  await world.settle();
  asked();
  for (let n = 2; n <= 5; n++) {
    await pack("a", n);
    await world.settle();
    // The shard in which it happened is asked again, by all of them together.
    expect(asked()).toBe(1);
  }
  // Another question is another one.
  following.push(follow({ weight: { gte: 7 } }));
  await world.settle();
  expect(asked()).toBe(SHARDS);
  // A late one asks for what came while it read everything, and joins those who wait already.
  following.push(follow());
  await world.settle();
  expect(asked()).toBe(SHARDS);
  expect(node.client.inFlight).toBe(0);
  await pack("b", 7);
  await world.run(node.client.actor(parcel, "a").delete());
  await world.settle();
  expect(seen.slice(0, 20)).toEqual(new Array(20).fill(["a1", "a2", "a3", "a4", "a5", "b7", "a-"]));
  expect(seen.slice(20)).toEqual([["b7"], ["a5", "b7", "a-"]]);
  stop.abort();
  await Promise.all(following);
  node.kill();
});
