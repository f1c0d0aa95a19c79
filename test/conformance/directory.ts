/** The clauses of Directory. */
import { describe, expect, it } from "vitest";
import type { Member, ShardEntry } from "../../runtime/ports/index.ts";
import { eventually } from "./helpers.ts";
import type { Suite } from "./suite.ts";

const owned: ShardEntry = {
  owner: "life1",
  epoch: 1,
  segments: [{ journal: 0, lane: "life1", from: 1, to: undefined }],
};
const moved: ShardEntry = {
  owner: "life2",
  epoch: 2,
  segments: [
    { journal: 0, lane: "life1", from: 1, to: 77 },
    { journal: 3, lane: "life2", from: 78, to: undefined },
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
      "2. what was answered is read, alone and with all",
      use(async ({ directory }) => {
        expect(await directory.readShards()).toEqual(new Map());
        const expected = new Map<number, unknown>();
        for (const shard of [0, 1, 2, 10, 63, 100, 16_383]) {
          const revision = await directory.writeShard(shard, { ...owned, epoch: shard }, 0);
          expected.set(shard, { entry: { ...owned, epoch: shard }, revision });
          expect(await directory.readShard(shard)).toEqual(expected.get(shard));
          expect(await directory.readShards()).toEqual(expected);
        }
        expect(await directory.readShard(3)).toBeUndefined();
      }),
    );

    it(
      "members: each heartbeat replaces the one before, until the member leaves",
      use(async ({ directory }) => {
        const listed = async (): Promise<Member[]> => [...(await directory.members())].sort(byName);
        expect(await listed()).toEqual([]);
        await directory.beat(member("life1"));
        await directory.beat(member("life2", { weight: 2 }));
        expect(await listed()).toEqual([member("life1"), member("life2", { weight: 2 })]);
        await directory.beat(member("life1", { beat: 2, leaving: true, types: [] }));
        expect(await listed()).toEqual([
          member("life1", { beat: 2, leaving: true, types: [] }),
          member("life2", { weight: 2 }),
        ]);
        await directory.leave("life1");
        await directory.leave("nobody");
        expect(await listed()).toEqual([member("life2", { weight: 2 })]);
      }),
    );

    it(
      "3. watchers are told sooner or later of every change",
      use(async ({ directory }) => {
        let told = 0;
        const stop = directory.watch(() => told++);
        let toldToo = 0;
        const stopToo = directory.watch(() => toldToo++);
        const changes: (() => Promise<unknown>)[] = [
          () => directory.beat(member("life1")),
          () => directory.writeShard(1, owned, 0),
          () => directory.beat(member("life1", { beat: 2, leaving: true })),
          () => directory.leave("life1"),
        ];
        for (const change of changes) {
          const before = told;
          const beforeToo = toldToo;
          await change();
          await eventually(() => told > before && toldToo > beforeToo);
        }
        stop();
        const before = told;
        const beforeToo = toldToo;
        await directory.beat(member("life3"));
        await eventually(() => toldToo > beforeToo);
        stopToo();
        stopToo();
        expect(told).toBe(before);
      }),
    );

    it(
      "3. a watcher sees the change that it is told of",
      use(async ({ directory }) => {
        const owners: (string | undefined)[] = [];
        const stop = directory.watch(() => {
          void directory.readShard(1).then((stored) => owners.push(stored?.entry.owner));
        });
        await directory.writeShard(1, owned, 0);
        await eventually(() => owners.includes("life1"));
        stop();
      }),
    );
  });
}
