/** A sink that is down: what it holds up, and what becomes of what waits. */
import { emit, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { defineActor, isKeyturnError, memory, startNode } from "../runtime/index.ts";
import { defineSink } from "../runtime/streams/index.ts";
import { emitter } from "./support/emitter.ts";
import { cleanups, Kept, lost, numbered, started, until } from "./support/sinks.ts";

describe("a sink that is down", () => {
  it("loses nothing and holds up nothing but itself: its events wait, then turns that emit to it are refused by name", async () => {
    const kept = new Kept();
    const other = new Kept();
    kept.fails = () => new Error("down");
    const big = { type: "big", text: "x".repeat(200_000) };
    // Emits when its time has come, whether there is room or not.
    const alarm = defineActor({
      type: "alarm",
      machine: setup({}).createMachine({
        initial: "idle",
        states: {
          idle: { on: { set: "set" } },
          set: { after: { 5: "rung" } },
          rung: { entry: emit({ ...big, n: "alarm" } as never) },
        },
      }),
    });
    const broken = defineSink("broken", {
      over: [emitter, alarm],
      on: ["big", "small"],
      to: kept.target,
      partitions: 1,
      batch: 5,
      buffer: { events: 5 },
      retry: { first: "1 hour", last: "1 hour" },
    });
    const fine = defineSink("fine", { over: emitter, on: "other", to: other.target, partitions: 1 });
    const node = await startNode({
      actors: [emitter, alarm, ...broken.actors, ...fine.actors],
      store: memory(),
      shards: 1,
    });
    cleanups.push(() => node.stop());
    const till = node.client.actor(emitter, "a");
    let taken = 0;
    let refusal: unknown;
    // 8 MiB for all sinks of a shard.
    while (refusal === undefined && taken < 100) {
      await till.ask({ type: "emit", event: big }).then(
        () => taken++,
        (error: unknown) => {
          refusal = error;
        },
      );
    }
    expect(taken).toBeGreaterThan(35);
    expect(taken).toBeLessThan(60);
    expect(isKeyturnError(refusal, "sink_full")).toBe(true);
    expect(String(refusal)).toContain('The sink "broken" does not take');
    expect(refusal).toMatchObject({ retryable: true, outcome: "notApplied" });
    await node.client.actor(alarm, "a").send({ type: "set" });
    // What emits nothing to it goes on, and so do other sinks in the same shards.
    for (let n = 1; n <= 20; n++) await till.ask({ type: "emit", event: numbered(n) });
    await until(fine, node, ({ published }) => published === 20);
    expect(other.of("emitter/a")).toHaveLength(20);
    expect(await broken.status(node.client)).toMatchObject({ failing: 1, published: 0, error: "down" });
    expect((await broken.status(node.client)).waiting).toBeGreaterThan(0);
    // It comes back: everything arrives, in order, and turns are taken again.
    kept.fails = undefined;
    await broken.retryNow(node.client);
    await until(broken, node, ({ published }) => published === taken + 1);
    await till.ask({ type: "emit", event: { type: "small", n: "last" } });
    await until(broken, node, ({ published }) => published === taken + 2);
    expect(kept.of("emitter/a")).toHaveLength(taken + 1);
    expect(kept.of("alarm/a")).toEqual(["alarm"]);
    expect(kept.of("emitter/a").at(-1)).toBe("last");
    expect(await node.deadLetters()).toEqual([]);
  });

  it("contract 6: and comes back publishes what waited in the order of each actor", async () => {
    const kept = new Kept();
    kept.fails = () => new Error("down");
    const retry = { first: "1 hour", last: "1 hour" } as const;
    const out = defineSink("out", { over: emitter, to: kept.target, partitions: 1, retry });
    const node = await started(out);
    const keys = Array.from({ length: 200 }, (_, n) => `k${n}`);
    const rounds = 20;
    for (let n = 1; n <= rounds; n++)
      await Promise.all(
        keys.map((key) => node.client.actor(emitter, key).ask({ type: "emit", event: numbered(n) })),
      );
    await until(out, node, ({ full }) => full === 1);
    kept.fails = undefined;
    await out.retryNow(node.client);
    await until(out, node, ({ published }) => published === keys.length * rounds);
    for (const key of keys)
      expect(kept.of(`emitter/${key}`)).toEqual(Array.from({ length: rounds }, (_, at) => at + 1));
  });

  it("keeps what waits over a crash of the node, in the actors and in the channels", async () => {
    const kept = new Kept();
    kept.fails = () => new Error("down");
    const out = defineSink("out", {
      over: emitter,
      to: kept.target,
      partitions: 2,
      batch: 3,
      buffer: { events: 4 },
      retry: { first: "1 hour", last: "1 hour" },
    });
    const store = memory();
    const first = await startNode({ actors: [emitter, ...out.actors], store, name: "n1", shards: 4 });
    for (let n = 1; n <= 40; n++) {
      // Half of it comes from the shards' entries, the other half from the tail.
      if (n === 20) await first.checkpoint();
      await Promise.all(
        ["a", "b", "c"].map((key) =>
          first.client.actor(emitter, key).ask({ type: "emit", event: numbered(n) }),
        ),
      );
    }
    await until(out, first, ({ full }) => full === 2);
    await lost(first);
    kept.fails = undefined;
    const node = await started(out, store);
    await out.retryNow(node.client);
    await until(out, node, ({ published }) => published === 120);
    for (const key of ["a", "b", "c"])
      expect(kept.of(`emitter/${key}`)).toEqual(Array.from({ length: 40 }, (_, at) => at + 1));
  });
});
