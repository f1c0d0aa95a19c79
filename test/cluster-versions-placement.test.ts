/** Placement among nodes with different versions: one owner for whatever a shard needs, the same on every node. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { place } from "../runtime/cluster/placement.ts";
import { type VersionedCandidate, VersionedPlacement } from "../runtime/cluster/versioned-placement.ts";
import { covers, highest, tooOld, versionIn, versionsOf } from "../runtime/cluster/versions.ts";
import { registryOf } from "../runtime/engine/definition.ts";
import type { Versions } from "../runtime/ports/index.ts";
import { defineActor } from "../runtime/index.ts";
import { probeOf } from "./support/probe.ts";

const SHARDS = 24;
const TYPES = ["a", "b", "constructor"];

const versions: fc.Arbitrary<Versions | undefined> = fc
  .array(fc.tuple(fc.constantFrom(...TYPES), fc.integer({ min: 2, max: 4 })), { maxLength: 3 })
  .map((entries) => (entries.length === 0 ? undefined : Object.fromEntries(entries)));

function life(
  node: string,
  incarnation: string,
  weight: number,
  has: Versions | undefined,
): VersionedCandidate {
  const named = has === undefined ? {} : { versions: has };
  return { node, incarnation: `${node}-${incarnation}`, weight, types: TYPES, ...named };
}

/** Lives of few names, so that some have one name, and versions and weights of their own. */
const members = fc
  .uniqueArray(
    fc.tuple(
      fc.constantFrom("n1", "n2", "n3", "n4", "n5"),
      fc.constantFrom("1", "2"),
      fc.constantFrom(1, 1, 2, 0.5),
      versions,
    ),
    { selector: ([node, incarnation]) => `${node}-${incarnation}`, minLength: 1, maxLength: 8 },
  )
  .map((list) => list.map((one) => life(...one)));

/** The rule itself, computed at length. */
function ruled(
  shard: number,
  candidates: readonly VersionedCandidate[],
  needed: Versions | undefined,
): VersionedCandidate | undefined {
  const hosted = Object.entries(needed ?? {}).filter(([type]) =>
    candidates.some(({ types }) => types.includes(type)),
  );
  return place(shard, candidates, (c) =>
    hosted.every(([type, version]) => versionIn(c.versions, type) >= version),
  );
}

function placed(candidates: readonly VersionedCandidate[]): VersionedPlacement<VersionedCandidate>[] {
  return candidates.map((self) => {
    const placement = new VersionedPlacement<VersionedCandidate>(SHARDS, self);
    placement.update(candidates);
    return placement;
  });
}

describe("placement with versions", () => {
  it("every node computes the same owner, which has what the shard needs, and which alone takes it for its own", () => {
    fc.assert(
      fc.property(members, versions, (candidates, needed) => {
        const placements = placed(candidates);
        for (let shard = 0; shard < SHARDS; shard++) {
          const owner = ruled(shard, candidates, needed);
          if (owner !== undefined) expect(covers(owner.versions, needed)).toBe(true);
          for (const placement of placements) expect(placement.of(shard, needed)).toEqual(owner);
          const takers = candidates.filter((_, at) => placements[at]?.isMine(shard, needed));
          expect(takers).toEqual(owner === undefined ? [] : [owner]);
        }
      }),
    );
  });

  it("the owner contends for the shard whatever it needs, and somebody does for one that nobody can read", () => {
    fc.assert(
      fc.property(members, versions, (candidates, needed) => {
        const placements = placed(candidates);
        for (let shard = 0; shard < SHARDS; shard++) {
          const contending = candidates.filter((_, at) => placements[at]?.contended.has(shard));
          expect(contending.length).toBeGreaterThan(0);
          const owner = ruled(shard, candidates, needed);
          if (owner !== undefined) expect(contending).toContainEqual(owner);
        }
      }),
    );
  });

  it("with equal versions it is what it is without any, and each contends for its own only", () => {
    fc.assert(
      fc.property(members, versions, versions, (mixed, has, needed) => {
        const candidates = mixed.map(({ node, incarnation, weight }) => ({
          ...life(node, "", weight, has),
          incarnation,
        }));
        fc.pre(covers(has, needed));
        for (const [at, placement] of placed(candidates).entries()) {
          expect(placement.mixed).toBe(false);
          for (let shard = 0; shard < SHARDS; shard++) {
            const owner = place(shard, candidates);
            expect(placement.of(shard, needed)).toEqual(owner);
            expect(placement.contended.has(shard)).toBe(owner === candidates[at]);
            expect(placement.isMine(shard, needed)).toBe(owner === candidates[at]);
          }
        }
      }),
    );
  });

  it("kept over any changes of the members it is what it would be from the start", () => {
    fc.assert(
      fc.property(fc.array(members, { minLength: 1, maxLength: 6 }), versions, (changes, needed) => {
        const self = life("n1", "self", 1, { a: 3 });
        const placement = new VersionedPlacement<VersionedCandidate>(SHARDS, self);
        for (const others of changes) {
          placement.update([...others, self]);
          for (let shard = 0; shard < SHARDS; shard++)
            expect(placement.of(shard, needed)).toEqual(ruled(shard, [...others, self], needed));
        }
      }),
    );
  });

  it("a node that joins takes shards from others and moves none between them, whatever it has and they need", () => {
    fc.assert(
      fc.property(members, versions, versions, (candidates, has, needed) => {
        const more = life("n9", "1", 1, has);
        for (let shard = 0; shard < SHARDS; shard++) {
          const after = ruled(shard, [...candidates, more], needed);
          expect([ruled(shard, candidates, needed), more]).toContainEqual(after);
        }
      }),
    );
  });

  it("a type that nobody hosts any more asks for nothing; one that is hosted again does", () => {
    const without = { ...life("n1", "1", 1, undefined), types: ["b"] };
    const old = life("n2", "1", 1, undefined);
    const placement = new VersionedPlacement<VersionedCandidate>(SHARDS, without);
    placement.update([without]);
    expect(placement.isMine(3, { a: 4 })).toBe(true);
    expect(placement.isMine(3, { a: 4, b: 2 })).toBe(false);
    placement.update([without, old]);
    expect(placement.of(3, { a: 4 })).toBeUndefined();
    expect(placement.isMine(3, { a: 4 })).toBe(false);
  });
});

describe("versions", () => {
  it("the highest of each are at least both, and one's own where the other adds nothing", () => {
    fc.assert(
      fc.property(versions, versions, (own, other) => {
        const both = highest(own, other);
        expect(covers(both, own)).toBe(true);
        expect(covers(both, other)).toBe(true);
        if (covers(own, other)) expect(both).toBe(own);
        for (const type of TYPES)
          expect(versionIn(both, type)).toBe(Math.max(versionIn(own, type), versionIn(other, type)));
      }),
    );
  });

  it("of a node are those above 1", () => {
    expect(versionsOf(registryOf([probeOf()]))).toBeUndefined();
    const { machine } = probeOf();
    const later = defineActor({ type: "later", machine, version: 3 });
    expect(versionsOf(registryOf([probeOf(), later]))).toEqual({ later: 3 });
  });

  it("golden: the text about shards that nobody can read", () => {
    const shards = new Map<number, Versions>(Array.from({ length: 11 }, (_, shard) => [shard, { cart: 3 }]));
    shards.set(40, { cart: 4, order: 2 });
    const error = tooOld({ types: ["cart"], versions: { cart: 2 } }, shards, () => true);
    expect(error.code).toBe("newer_version");
    expect(error.message).toMatchInlineSnapshot(
      `"12 shards are served by nobody, because every node is too old: Shards 0, 1, 2, 3, 4, 5, 6, 7 and 3 more may hold "cart" of version 3, and this node has version 2. Shard 40 may hold "cart" of version 4, and this node has version 2. Shard 40 may hold "order" of version 2, and this node does not host it. Nothing is lost or changed: start a node with the later version to have them served again."`,
    );
    expect(
      tooOld({ types: ["cart"] }, new Map([[7, { cart: 2 }]]), () => true).message,
    ).toMatchInlineSnapshot(
      `"1 shard is served by nobody, because every node is too old: Shard 7 may hold "cart" of version 2, and this node has version 1. Nothing is lost or changed: start a node with the later version to have it served again."`,
    );
  });
});
