/** The simulation: seeds without a violation, deterministic. */
import { describe, expect, it, vi } from "vitest";
import { drawScenario, Prng } from "../runtime/testing/simulator/index.ts";
import { commandOf, play } from "./sim/play.ts";
import { nodeDefaults } from "../runtime/words/limits.ts";
import { type Phase, scale } from "./sim/scale.ts";
import { regressions } from "./sim/regressions/index.ts";
import { workloads } from "./sim/workloads/index.ts";

// What a test plays is a matter of minutes where others share the machine. One that went on behind its deadline would be
// played beside the next one, in one process, and neither would be what its seed says.
vi.setConfig({ testTimeout: 600_000 });

const SEEDS = 160;
const CHUNK = 20;

/** What a seed struck with, of those that were played. */
const struckBy = new Map<number, Iterable<string>>();

describe("a seed", () => {
  it("draws the same scenario every time, and another seed another one", () => {
    const names = workloads.map(({ name }) => name);
    expect(drawScenario(7, { workloads: names })).toEqual(drawScenario(7, { workloads: names }));
    expect(drawScenario(7, { workloads: names })).not.toEqual(drawScenario(8, { workloads: names }));
  });

  it("gives streams that do not depend on each other", () => {
    const first = new Prng(1).split("a").word();
    const random = new Prng(1);
    const a = random.split("a");
    random.split("b").word();
    expect(a.word()).toBe(first);
    expect(new Prng(1).split("b").word()).not.toBe(first);
  });
});

describe("seeds with faults", () => {
  for (let from = 1; from <= SEEDS; from += CHUNK) {
    it(`${from} to ${from + CHUNK - 1}: no violation, and the same trace twice`, async () => {
      let idle = 0;
      for (let seed = from; seed < from + CHUNK; seed++) {
        const { violations, hash, records, faults } = await play(seed);
        struckBy.set(seed, [...faults.keys()]);
        expect(violations, commandOf(seed, {})).toEqual([]);
        expect((await play(seed)).hash, commandOf(seed, {})).toBe(hash);
        if (records === 0) idle++;
      }
      // Now and then a store is full whenever the few requests of a seed come.
      expect(idle).toBeLessThan(3);
    });
  }

  it("strikes with every fault there is", async () => {
    const struck = new Set<string>();
    for (let seed = 1; seed <= 20; seed++)
      for (const name of struckBy.get(seed) ?? (await play(seed)).faults.keys()) struck.add(name);
    expect([...struck].sort()).toEqual([
      "answer lost",
      "crash",
      "frame cut off",
      "frame lost",
      "frame repeated",
      "full",
      "join",
      "jump",
      "notice lost",
      "operation refused",
      "partition",
      "pause",
      "powerLoss",
      "rack",
      "read behind",
      "request lost",
      "request repeated",
      "stop",
      "trimmed",
    ]);
  });

  it("leaves the trace alone when somebody listens to it", async () => {
    const lines: string[] = [];
    const heard = await play(3, { trace: (line) => lines.push(line) });
    expect(heard.hash).toBe((await play(3)).hash);
    expect(lines.length).toBeGreaterThan(heard.events / 2);
    expect(heard.tail.length).toBeGreaterThan(0);
  });
});

describe("workloads that no seed draws", () => {
  const named: [name: string, seeds: number, what: string][] = [
    ["finding", 12, "questions about a type are consistent with what was acknowledged"],
    ["ranging", 8, "ranges that begin anywhere, pages, timers and counts too"],
    ["remembering", 12, "a history has no gap, and says where it is not whole"],
    ["storing", 12, "ranges and pinned snapshots of a store show what they have to, while it is written"],
    ["watching", 12, "who watches a type never goes back and ends up with what there is"],
    ["cancelling", 8, "what was cancelled never comes, and what was gone has come"],
    ["emitting", 8, "a view counts each event that was emitted once"],
    ["feeding", 16, "an item of a source counts once, whoever runs it"],
    ["rebuilding", 16, "a rebuild is promoted under traffic, kills and failing appends, and nothing is lost"],
  ];
  for (const [name, seeds, what] of named)
    it(`${what}, under every fault: ${seeds} seeds`, async () => {
      const only = [name];
      for (let seed = 1; seed <= seeds; seed++)
        expect((await play(seed, { only })).violations, commandOf(seed, { only })).toEqual([]);
    });
});

describe("a large cluster", () => {
  it("40 nodes, 512 shards: quiet costs a few small operations a heartbeat, a lost rack a lease and a bit", async () => {
    const { phases, violations } = await scale({ nodes: 40, shards: 512, rack: 10, seed: 1 });
    expect(violations).toEqual([]);
    const [start, quiet, join, leave, lost, rack, back, left] = phases as [Phase, ...Phase[]] & Phase[];
    for (const phase of [start, quiet, join, leave, lost, rack, back, left]) expect(phase).toBeDefined();
    const each = (phase: Phase | undefined, call: string): number =>
      (phase?.calls.get(call)?.items ?? 0) / (phase?.heartbeats ?? 0);
    // What a node does with every heartbeat does not depend on how many there are.
    expect(each(quiet, "beat")).toBe(1);
    expect(each(quiet, "beats")).toBeLessThan(15.2);
    expect(quiet?.calls.get("members")?.count).toBe(quiet?.heartbeats);
    for (const call of ["readShard", "readShards", "writeShard", "fresh beats", "notice", "join", "leave"])
      expect(quiet?.calls.has(call), call).toBe(false);
    // Only what has to move does, and waits only for itself.
    for (const phase of [join, leave]) {
      expect(phase?.moves).toBeLessThan((512 / 40) * 2.5);
      expect(phase?.longestGap_ms).toBeLessThan(100);
    }
    const { lease_ms, heartbeat_ms } = nodeDefaults;
    for (const phase of [lost, rack]) {
      expect(phase?.longestGap_ms).toBeGreaterThan(lease_ms - heartbeat_ms);
      expect(phase?.longestGap_ms).toBeLessThan(lease_ms + heartbeat_ms);
    }
    expect(lost?.seals).toBe(1);
    expect(rack?.seals).toBe(10);
    expect(rack?.calls.get("leave")?.count).toBeLessThan(20);
    for (const phase of [back, left]) expect(phase?.longestGap_ms).toBeLessThan(100);
  });

  it("the same seed gives the same run", async () => {
    const options = { nodes: 8, shards: 64, rack: 2, seed: 3 };
    const { hash, violations } = await scale(options);
    expect(violations).toEqual([]);
    expect((await scale(options)).hash).toBe(hash);
    expect((await scale({ ...options, seed: 4 })).hash).not.toBe(hash);
  });

  it("notices what is lost: with a store that forgets every tenth append, nothing adds up", async () => {
    const { violations } = await scale({ nodes: 4, shards: 16, rack: 2, seed: 5 }, undefined, (disk) => {
      const { journal } = disk.memory;
      const append = journal.append.bind(journal);
      let appends = 0;
      journal.append = (lane, expected, bytes) =>
        ++appends % 10 === 0
          ? Promise.resolve({ kind: "committed", seq: expected + 1 })
          : append(lane, expected, bytes);
    });
    expect(violations).not.toEqual([]);
  });
});

describe("seeds that found a bug once", () => {
  for (const { seed, workloads: only, found } of regressions) {
    it(`${seed}: ${found}`, async () => {
      expect((await play(seed, { only })).violations, commandOf(seed, { only })).toEqual([]);
    });
  }
});
