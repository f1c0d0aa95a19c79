/** The clauses of Directory. */
import { describe, expect, it } from "vitest";
import type { Member, ShardEntry, StoredShard } from "../../runtime/ports/index.ts";
import { become, eventually } from "./helpers.ts";
import type { Suite } from "./suite.ts";

const owned: ShardEntry = {
  owner: "life1",
  epoch: 1,
  segments: [{ lane: "life1", from: 1, to: undefined }],
};
const moved: ShardEntry = {
  owner: "life2",
  epoch: 2,
  segments: [
    { lane: "life1", from: 1, to: 77 },
    { lane: "life2", from: 78, to: undefined },
  ],
};
const free: ShardEntry = { owner: undefined, epoch: 2, segments: [] };

function member(incarnation: string, more: Partial<Member> = {}): Member {
  const types = ["counter", "timer"];
  return { node: `node-${incarnation}`, incarnation, weight: 1, beat: 1, leaving: false, types, ...more };
}

const byName = (a: Member, b: Member): number => (a.incarnation < b.incarnation ? -1 : 1);

export function directoryClauses({ use }: Suite): void {
  describe("Directory", () => {
    it(
      "app: what the app was created with stays",
      use(async ({ directory }) => {
        expect(await directory.app({ shards: 64, format: 1 })).toEqual({ shards: 64, format: 1 });
        expect(await directory.app({ shards: 128, format: 2 })).toEqual({ shards: 64, format: 1 });
      }),
    );

    it(
      "settings: what the app was created with, and nothing is created by asking",
      use(async ({ directory }) => {
        expect(await directory.settings()).toBeUndefined();
        expect(await directory.app({ shards: 8, format: 1 })).toEqual({ shards: 8, format: 1 });
        expect(await directory.settings()).toEqual({ shards: 8, format: 1 });
      }),
    );

    it(
      "app: those who create it at once agree",
      use(async ({ directory }) => {
        const answers = await Promise.all(
          [1, 2, 4, 8, 16].map((shards) => directory.app({ shards, format: 1 })),
        );
        for (const answer of answers) expect(answer).toEqual(answers[0]);
      }),
    );

    it(
      "1. writeShard is a compare-and-set on the revision",
      use(async ({ directory }) => {
        expect(await directory.readShard(5)).toBeUndefined();
        expect(await directory.writeShard(5, owned, 3)).toBeUndefined();
        const first = (await directory.writeShard(5, owned, 0)) as number;
        expect(first).toBeGreaterThan(0);
        expect(await directory.writeShard(5, moved, 0)).toBeUndefined();
        expect(await directory.writeShard(5, moved, first + 1)).toBeUndefined();
        expect(await directory.readShard(5)).toEqual({ entry: owned, revision: first });
        const second = (await directory.writeShard(5, moved, first)) as number;
        expect(second).not.toBe(first);
        expect(await directory.writeShard(5, owned, first)).toBeUndefined();
        expect(await directory.readShard(5)).toEqual({ entry: moved, revision: second });
        const third = (await directory.writeShard(5, free, second)) as number;
        expect(await directory.readShard(5)).toEqual({ entry: free, revision: third });
      }),
    );

    it(
      "1. an entry has the versions that it was written with, and no others",
      use(async ({ directory }) => {
        let revision = 0;
        const versions = { counter: 2, constructor: 17 };
        for (const entry of [owned, { ...moved, versions }, { ...free, versions }, moved]) {
          revision = (await directory.writeShard(5, entry, revision)) as number;
          const stored = (await directory.readShard(5)) as StoredShard;
          expect(stored).toEqual({ entry, revision });
          expect(Object.hasOwn(stored.entry, "versions")).toBe(Object.hasOwn(entry, "versions"));
          await become(() => directory.readShards([5]), new Map([[5, { entry, revision }]]));
        }
      }),
    );

    it(
      "1. of many at once with one expectation exactly one succeeds",
      use(async ({ directory }) => {
        let revision = 0;
        for (let round = 0; round < 5; round++) {
          const entries = Array.from({ length: 15 }, (_, n) => ({
            ...owned,
            owner: `life${n}`,
            epoch: round,
          }));
          const answers = await Promise.all(entries.map((entry) => directory.writeShard(1, entry, revision)));
          const winner = answers.findIndex((answer) => answer !== undefined);
          expect(answers.filter((answer) => answer !== undefined)).toHaveLength(1);
          revision = answers[winner] as number;
          expect(await directory.readShard(1)).toEqual({ entry: entries[winner], revision });
        }
      }),
    );

    it(
      "2. what was answered is read",
      use(async ({ directory }) => {
        for (const shard of [0, 1, 2, 10, 63, 100, 16_383]) {
          const entry = { ...owned, epoch: shard };
          const revision = await directory.writeShard(shard, entry, 0);
          expect(await directory.readShard(shard)).toEqual({ entry, revision });
        }
        expect(await directory.readShard(3)).toBeUndefined();
      }),
    );

    it(
      "6. some entries are read together, sooner or later as they were written, and no others",
      use(async ({ directory }) => {
        expect(await directory.readShards([])).toEqual(new Map());
        expect(await directory.readShards([5, 0])).toEqual(new Map());
        const written = new Map<number, unknown>();
        for (const shard of [0, 1, 2, 10, 63, 100, 16_383]) {
          const entry = { ...owned, epoch: shard };
          written.set(shard, { entry, revision: await directory.writeShard(shard, entry, 0) });
        }
        await become(() => directory.readShards([...written.keys()]), written);
        const some = [16_383, 3, 2];
        const found = new Map([...written].filter(([shard]) => some.includes(shard)));
        await become(() => directory.readShards(some), found);
      }),
    );

    it(
      "6. a table of thousands of entries is read as well as a few",
      use(async ({ directory }) => {
        const shards = Array.from({ length: 2_000 }, (_, n) => n);
        await Promise.all(shards.map((shard) => directory.writeShard(shard, { ...owned, epoch: shard }, 0)));
        const epochs = async (): Promise<unknown> =>
          [...(await directory.readShards(shards))].map(([, { entry }]) => entry.epoch).sort((a, b) => a - b);
        await become(epochs, shards);
      }),
    );

    it(
      "members are listed as they describe themselves, until they leave",
      use(async ({ directory }) => {
        const listed = async (): Promise<unknown> =>
          [...(await directory.members())].map((m) => ({ ...m, beat: 0 })).sort(byName);
        const list = (...members: Member[]): unknown[] => members.map((m) => ({ ...m, beat: 0 }));
        await become(listed, []);
        expect(await directory.join(member("life1"))).toBe(true);
        expect(await directory.join(member("life2", { weight: 2, versions: { timer: 3 } }))).toBe(true);
        await become(listed, list(member("life1"), member("life2", { weight: 2, versions: { timer: 3 } })));
        const changed = member("life1", { beat: 2, leaving: true, types: [] });
        expect(await directory.join(changed)).toBe(true);
        await become(listed, list(changed, member("life2", { weight: 2, versions: { timer: 3 } })));
        // One that comes late, or once more, does not undo what came after it.
        expect(await directory.join(member("life1"))).toBe(true);
        expect(await directory.beat("life2", 2)).toBe(true);
        await become(listed, list(changed, member("life2", { weight: 2, versions: { timer: 3 } })));
        expect(await directory.leave("life1")).toBe(true);
        expect(await directory.leave("nobody")).toBe(true);
        await become(listed, list(member("life2", { weight: 2, versions: { timer: 3 } })));
      }),
    );

    it(
      "heartbeats: the newest is read, in order, and only of those that are listed",
      use(async ({ directory }) => {
        const names = ["life2", "nobody", "life1"];
        expect(await directory.beats(names, true)).toEqual([undefined, undefined, undefined]);
        await directory.join(member("life1"));
        expect(await directory.beats(names, true)).toEqual([undefined, undefined, 1]);
        await directory.join(member("life2", { beat: 7 }));
        expect(await directory.beat("life1", 2)).toBe(true);
        expect(await directory.beats(names, true)).toEqual([7, undefined, 2]);
        expect(await directory.beat("life1", 5)).toBe(true);
        await directory.join(member("life2", { beat: 8, leaving: true }));
        expect(await directory.beats(names, true)).toEqual([8, undefined, 5]);
        // Late ones.
        expect(await directory.beat("life1", 4)).toBe(true);
        expect(await directory.join(member("life2", { beat: 7 }))).toBe(true);
        expect(await directory.beats(names, true)).toEqual([8, undefined, 5]);
        await become(() => directory.beats(names, false), [8, undefined, 5]);
        expect(await directory.beats([], true)).toEqual([]);
        expect(await directory.beat("nobody", 1)).toBe(false);
        await directory.leave("life2");
        expect(await directory.beats(names, true)).toEqual([undefined, undefined, 5]);
        await become(() => directory.beats(names, false), [undefined, undefined, 5]);
      }),
    );

    it(
      "4. one that was taken off the list is never listed again",
      use(async ({ directory }) => {
        await directory.join(member("life1"));
        await directory.beat("life1", 2);
        await directory.leave("life1");
        expect(await directory.beat("life1", 3)).toBe(false);
        expect(await directory.join(member("life1"))).toBe(false);
        expect(await directory.join(member("life1", { beat: 9 }))).toBe(false);
        expect(await directory.beats(["life1"], true)).toEqual([undefined]);
        expect(await directory.leave("life1")).toBe(true);
        await become(() => directory.members(), []);
        // Its node comes back in another life.
        expect(await directory.join(member("life2", { node: "node-life1" }))).toBe(true);
        expect(await directory.beats(["life1", "life2"], true)).toEqual([undefined, 1]);
      }),
    );

    it(
      "5. whoever is found dead is taken off the list only if there was no heartbeat since",
      use(async ({ directory }) => {
        await directory.join(member("life1"));
        await directory.beat("life1", 2);
        expect(await directory.leave("life1", 1)).toBe(false);
        expect(await directory.leave("life1", 3)).toBe(false);
        expect(await directory.beat("life1", 3)).toBe(true);
        expect(await directory.leave("life1", 2)).toBe(false);
        expect(await directory.leave("life1", 3)).toBe(true);
        expect(await directory.leave("life1", 3)).toBe(true);
        expect(await directory.beat("life1", 4)).toBe(false);
      }),
    );

    it(
      "5. a heartbeat and a finding of death at the same moment: one of them comes first",
      use(async ({ directory }) => {
        const life = (round: number): string => `life${round}`;
        for (let round = 0; round < 20; round++) {
          await directory.join(member(life(round)));
          const beat = (): Promise<boolean> => directory.beat(life(round), 2);
          const leave = (): Promise<boolean> => directory.leave(life(round), 1);
          const [beaten, left] =
            round % 2 === 0
              ? await Promise.all([beat(), leave()])
              : ((await Promise.all([leave(), beat()])).reverse() as [boolean, boolean]);
          expect(left).toBe(!beaten);
          expect(await directory.beats([life(round)], true)).toEqual([beaten ? 2 : undefined]);
        }
      }),
    );

    it(
      "3. watchers are told which shard was given up, and that the list of members changed",
      use(async ({ directory }) => {
        const told: (number | undefined)[] = [];
        const stop = directory.watch((shard) => told.push(shard));
        const toldToo: (number | undefined)[] = [];
        const stopToo = directory.watch((shard) => toldToo.push(shard));
        let revision = (await directory.writeShard(3, owned, 0)) as number;
        const changes: (readonly [number | undefined, () => Promise<unknown>])[] = [
          [undefined, () => directory.join(member("life1"))],
          [
            3,
            async () => {
              revision = (await directory.writeShard(3, free, revision)) as number;
            },
          ],
          [undefined, () => directory.join(member("life1", { beat: 2, leaving: true }))],
          [3, () => directory.writeShard(3, free, revision)],
          [undefined, () => directory.leave("life1")],
        ];
        for (const [shard, change] of changes) {
          told.length = 0;
          toldToo.length = 0;
          await change();
          await eventually(() => told.includes(shard) && toldToo.includes(shard));
        }
        stop();
        told.length = 0;
        toldToo.length = 0;
        await directory.join(member("life3"));
        await eventually(() => toldToo.includes(undefined));
        stopToo();
        stopToo();
        expect(told).toEqual([]);
      }),
    );

    it(
      "3. a watcher sees the change that it is told of",
      use(async ({ directory }) => {
        const owners: (string | undefined)[] = [];
        const stop = directory.watch((shard) => {
          if (shard !== undefined)
            void directory.readShard(1).then((stored) => owners.push(stored?.entry.owner));
        });
        const revision = (await directory.writeShard(1, owned, 0)) as number;
        await directory.writeShard(1, free, revision);
        await eventually(() => owners.length > 0);
        expect(owners).toEqual([undefined]);
        stop();
      }),
    );
  });
}
