/** Placement: where shards belong, and what a change of the members costs. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { place, Placement } from "../runtime/cluster/placement.ts";

describe("placement", () => {
  const candidate = fc.record({
    node: fc.string({ minLength: 1, maxLength: 12 }),
    weight: fc.double({ min: 0.1, max: 10, noNaN: true }),
  });
  const nodes = fc
    .uniqueArray(candidate, { selector: ({ node }) => node, minLength: 1, maxLength: 6 })
    .map((list) => list.map((c) => ({ ...c, incarnation: `${c.node}-1` })));

  it("does not depend on the order in which nodes are seen, nor on their lives", () => {
    fc.assert(
      fc.property(nodes, (list) => {
        for (let shard = 0; shard < 64; shard++) {
          const other = [...list].reverse().map((c) => ({ ...c, incarnation: `${c.node}-2` }));
          expect(place(shard, other)?.node).toBe(place(shard, list)?.node);
        }
      }),
    );
  });

  it("a node that joins takes shards from others and moves none between them; one that leaves gives its own only", () => {
    fc.assert(
      fc.property(nodes, candidate, (list, more) => {
        fc.pre(list.every(({ node }) => node !== more.node));
        for (let shard = 0; shard < 64; shard++) {
          const before = place(shard, list)?.node;
          const after = place(shard, [...list, { ...more, incarnation: "new" }])?.node;
          expect([before, more.node]).toContain(after);
        }
      }),
    );
  });

  it("a node gets a share of the shards in proportion to its weight, give or take a sixth", () => {
    const list = [1, 1, 2, 4].map((weight, n) => ({ node: `node-${n}`, incarnation: `i${n}`, weight }));
    const shards = 16_384;
    const got = new Map<string, number>();
    for (let shard = 0; shard < shards; shard++) {
      const { node } = place(shard, list) as (typeof list)[number];
      got.set(node, (got.get(node) ?? 0) + 1);
    }
    for (const { node, weight } of list) {
      const share = ((got.get(node) ?? 0) / shards) * (8 / weight);
      expect(share).toBeGreaterThan(5 / 6);
      expect(share).toBeLessThan(7 / 6);
    }
  });

  it("golden: where shards of three nodes lie never changes by itself", () => {
    const list = ["a", "b", "c"].map((node) => ({ node, incarnation: node, weight: 1 }));
    const line = Array.from({ length: 32 }, (_, shard) => place(shard, list)?.node).join("");
    expect(line).toMatchInlineSnapshot(`"abbbbcababbbbcccbcacbbccaacbaacb"`);
  });

  it("without candidates there is no owner", () => {
    expect(place(1, [])).toBeUndefined();
    const placement = new Placement(4);
    placement.update([{ node: "a", incarnation: "a1", weight: 1 }]);
    placement.update([]);
    expect(placement.of(1)).toBeUndefined();
    expect(placement.ofNode({ node: "a", incarnation: "a1", weight: 1 })).toEqual([]);
  });

  it("kept over any changes of the members it is what it would be from the start", () => {
    const life = fc.record({
      node: fc.constantFrom("a", "b", "c", "d", "e", "f"),
      incarnation: fc.constantFrom("1", "2", "3"),
      weight: fc.constantFrom(1, 1, 1, 2, 0.5),
    });
    const list = fc
      .uniqueArray(life, { selector: (l) => `${l.node}-${l.incarnation}`, maxLength: 12 })
      .map((lives) => lives.map((l) => ({ ...l, incarnation: `${l.node}-${l.incarnation}` })));
    fc.assert(
      fc.property(fc.array(list, { minLength: 1, maxLength: 8 }), (changes) => {
        const shards = 40;
        const placement = new Placement(shards);
        for (const members of changes) {
          placement.update(members);
          for (let shard = 0; shard < shards; shard++)
            expect(placement.of(shard)).toEqual(place(shard, members));
          const all = members.flatMap((member) => placement.ofNode(member));
          expect(all.sort((a, b) => a - b)).toEqual(
            members.length === 0 ? [] : Array.from({ length: shards }, (_, shard) => shard),
          );
        }
      }),
    );
  });

  it("costs a look per shard when one of a thousand nodes comes, and one per node for each of its shards when it goes", () => {
    const shards = 4_096;
    let hashed = 0;
    // Every hash of a name and a shard begins by asking how long the name is.
    class Counted {
      readonly node: string;
      readonly incarnation: string;
      readonly weight = 1;
      constructor(n: number) {
        this.node = `node-${n}`;
        this.incarnation = `node-${n}-1`;
      }
    }
    const list = Array.from({ length: 300 }, (_, n) => new Counted(n));
    const placement = new Placement<Counted>(shards);
    const imul = Math.imul;
    const counting = (a: number, b: number): number => {
      // The constant with which each hash of a shard begins.
      if (b === 0x9e3779b1) hashed++;
      return imul(a, b);
    };
    Math.imul = counting;
    try {
      placement.update(list.slice(1));
      expect(hashed).toBe(shards * 299);
      hashed = 0;
      placement.update(list);
      expect(hashed).toBe(shards);
      const own = placement.ofNode(list[7] as Counted).length;
      hashed = 0;
      placement.update(list.filter((_, n) => n !== 7));
      expect(hashed).toBe(own * 299);
      hashed = 0;
      placement.update(list.filter((_, n) => n !== 7).reverse());
      expect(hashed).toBe(0);
    } finally {
      Math.imul = imul;
    }
  });

  it("lives of one name share what the name gets, whatever their weights, and move nothing of other names", () => {
    const one = { node: "a", incarnation: "a-1", weight: 1 };
    const two = { node: "a", incarnation: "a-2", weight: 3 };
    const three = { node: "a", incarnation: "a-3", weight: 3 };
    const other = { node: "b", incarnation: "b-1", weight: 3 };
    const shards = 2_048;
    const of = (members: (typeof one)[], member: typeof one): number[] => {
      const placement = new Placement<typeof one>(shards);
      placement.update(members);
      return placement.ofNode(member);
    };
    const before = of([two, other], two);
    const after = [one, two, three].map((life) => of([one, two, three, other], life));
    expect(after.flat().sort((a, b) => a - b)).toEqual(before);
    for (const [index, weight] of [1, 3, 3].entries()) {
      const share = (after[index] as number[]).length / before.length;
      expect(share).toBeGreaterThan((weight / 7) * 0.8);
      expect(share).toBeLessThan((weight / 7) * 1.2);
    }
  });
});
