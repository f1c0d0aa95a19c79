/** Health: what makes a node red, and when only a restart would help. */
import { describe, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { HealthWatch, LIVE_MS, STALL_MS, type Vitals } from "../runtime/health.ts";
import { KeyturnError, memory, startNode } from "../runtime/index.ts";

const fine: Vitals = {
  connection: { connected: true, text: "connected" },
  phase: "active",
  stopped: false,
  leaseHeld: true,
  incarnation: "a-1",
  serving: 32,
  shards: 64,
  oldest: undefined,
  queued: 0,
  overdue: 0,
  committed: 7,
};

/** Names of the checks that fail. */
function failing(watch: HealthWatch, vitals: Partial<Vitals>, now_ms = 0): string[] {
  const { checks, ready } = watch.look({ ...fine, ...vitals }, now_ms);
  const names = Object.entries(checks).flatMap(([name, { ok }]) => (ok ? [] : [name]));
  expect(ready).toBe(names.length === 0);
  return names;
}

describe("the health of a node", () => {
  it.each<[Partial<Vitals>, string[]]>([
    [{}, []],
    [{ connection: { connected: false, text: "lost" } }, ["connection"]],
    [{ leaseHeld: false }, ["lease"]],
    [{ phase: "joining" }, ["membership"]],
    [{ phase: "leaving" }, ["membership"]],
    [{ phase: "over", leaseHeld: false }, ["membership", "lease"]],
    [{ stopped: true }, ["membership"]],
    [{ unserved: new KeyturnError("newer_version", "too old") }, ["versions"]],
    // Without shards a node may still be as it should be: the others have them.
    [{ serving: 0 }, []],
  ])("at %j fails %j", (vitals, names) => {
    expect(failing(new HealthWatch(), vitals)).toEqual(names);
  });

  it("is red when one batch or message stays the oldest and nothing is committed", () => {
    const watch = new HealthWatch();
    const oldest = {};
    expect(failing(watch, { oldest }, 0)).toEqual([]);
    expect(failing(watch, { oldest }, STALL_MS - 1)).toEqual([]);
    expect(failing(watch, { oldest }, STALL_MS)).toEqual(["consumption"]);
    expect(failing(watch, { oldest, committed: 8 }, STALL_MS + 1)).toEqual([]);
    expect(failing(watch, { oldest, committed: 8 }, 2 * STALL_MS + 1)).toEqual(["consumption"]);
    // Another one waits: something has moved, though only reads may have been answered.
    expect(failing(watch, { oldest: {}, committed: 8 }, 2 * STALL_MS + 2)).toEqual([]);
    expect(failing(watch, { committed: 8 }, 9 * STALL_MS)).toEqual([]);
    expect(failing(watch, { committed: 8 }, 99 * STALL_MS)).toEqual([]);
  });

  it("wants a restart only if something else than the connection stays wrong", () => {
    const watch = new HealthWatch();
    const live = (vitals: Partial<Vitals>, now_ms: number): boolean =>
      watch.look({ ...fine, ...vitals }, now_ms).live;
    const away = { connection: { connected: false, text: "lost" } };
    expect(live({ leaseHeld: false, ...away }, 0)).toBe(true);
    expect(live({ leaseHeld: false, ...away }, 10 * LIVE_MS)).toBe(true);
    // It is back: from here on the lease has its time to come back too.
    expect(live({ leaseHeld: false }, 11 * LIVE_MS - 1)).toBe(true);
    expect(live({ leaseHeld: false }, 11 * LIVE_MS)).toBe(false);
    expect(live({}, 11 * LIVE_MS + 1)).toBe(true);
    expect(live({ leaseHeld: false }, 12 * LIVE_MS)).toBe(true);
    // One that is too old would be as old again.
    const unserved = new KeyturnError("newer_version", "too old");
    expect(live({ unserved }, 13 * LIVE_MS)).toBe(true);
    expect(live({ unserved }, 15 * LIVE_MS)).toBe(true);
  });

  it("is asked of a node", async () => {
    const node = await startNode({ actors: [counter], store: memory() });
    expect(node.health()).toMatchObject({ live: true, ready: true });
    expect(node.health().checks.consumption.text).toBe("Serves 64 of 64 shards; 0 messages wait.");
    await node.stop();
    expect(node.health()).toMatchObject({ ready: false, checks: { membership: { ok: false } } });
  });
});
