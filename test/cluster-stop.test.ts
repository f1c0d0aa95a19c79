/** A node that is told to stop ends in bounded time, also when its store answers nothing any more. */
import { describe, expect, it } from "vitest";
import { failure, rig } from "./support/probe.ts";

describe("stopping a node", () => {
  it("whose journal does not answer: what is asked is unknown, and the node ends within a minute or so", async () => {
    const { world, store, node, probe, told } = await rig({ shards: 4 });
    const ref = node.client.actor(probe, "k");
    expect(await world.run(ref.ask({ type: "add", by: 1 }))).toBe(1);
    for (let n = 0; n < 10_000; n++) store.appendFaults.push("unknown-lost");
    const asking = failure(ref.ask({ type: "add", by: 1 }, { timeout_ms: 200_000 }));
    await world.settle();
    const began_ms = world.clock.monotonic();
    await world.run(node.stop({ closeStore: false }), 1_000_000);
    expect(world.clock.monotonic() - began_ms).toBeLessThan(90_000);
    expect(await asking).toMatchObject({ code: "client_closed", outcome: "unknown" });
    expect(told.some((text) => text.includes("did not come to rest"))).toBe(true);
  });
});
