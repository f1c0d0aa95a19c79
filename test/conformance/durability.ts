/** What was answered is there after the store was closed, and after it was ended without warning. */
import { describe, expect, it } from "vitest";
import type { DeadLetter, ShardEntry } from "../../runtime/ports/index.ts";
import {
  appendAll,
  bytesOf,
  committed,
  readAll,
  readOne,
  snapshot,
  textOf,
  writeOne,
  writeSure,
} from "./helpers.ts";
import type { Suite } from "./suite.ts";

const entry: ShardEntry = {
  owner: "life1",
  epoch: 3,
  segments: [{ lane: "life1", from: 1, to: undefined }],
};
const letter: DeadLetter = {
  position: 1,
  index: 0,
  type: "counter",
  key: "a",
  event: { type: "add" },
  time: 1,
  code: "machine_failed",
  reason: "it threw",
};

export function durabilityClauses({ use, outlives }: Suite): void {
  describe("durability", () => {
    if (outlives) reopening(use);

    it("what was answered before a crash is there after it", { timeout: 60_000 }, async () => {
      await use(async ({ directory }, subject) => {
        await directory.app({ shards: 64, format: 1 });
        for (let round = 0; round < 3; round++) {
          const { store, appends, snapshots } = await subject.crash();
          expect(appends.length).toBeGreaterThan(0);
          const lanes = new Map<string, Map<number, string>>();
          for (const { lane } of appends) {
            if (!lanes.has(lane)) lanes.set(lane, new Map(await readAll(store.journal, lane)));
          }
          for (const { lane, seq, text } of appends) {
            expect(lanes.get(lane)?.get(seq)).toBe(text);
            expect(textOf(await store.journal.get(seq))).toBe(text);
          }
          for (const { id, revision, text } of snapshots) {
            const found = await readOne(store, id);
            // Another write may have been stored whose answer was lost.
            expect(found?.revision).toBeGreaterThanOrEqual(revision);
            if (found?.revision === revision) expect(found.text).toBe(text);
          }
          // The store works, and nothing that is in it is handed out again.
          for (const lane of lanes.keys()) {
            const last = await store.journal.last(lane);
            const seq = committed(await store.journal.append(lane, last, bytesOf("after")));
            expect(seq).toBeGreaterThan(Math.max(...appends.map((known) => known.seq)));
          }
        }
      })();
    });
  });
}

/** For stores whose data outlives them. */
function reopening(use: Suite["use"]): void {
  it("a store that is closed and opened again is the same", async () => {
    await use(async (store, subject) => {
      const a = await appendAll(store.journal, "life1", ["a", "b"]);
      const c = await appendAll(store.journal, "life2", ["c"]);
      const kept = await writeSure(store, snapshot("t.kept", "one", 0, { due: 100 }));
      const gone = await writeSure(store, snapshot("t.gone", "two", 0, { due: 50 }));
      const marker = await writeSure(store, snapshot("t.gone", undefined, gone));
      await store.directory.app({ shards: 64, format: 1 });
      const revision = await store.directory.writeShard(7, entry, 0);
      await store.deadLetters.put([letter]);

      const again = await subject.reopen();
      expect(await readAll(again.journal, "life1")).toEqual([
        [a[0], "a"],
        [a[1], "b"],
      ]);
      expect(await again.journal.last("life2")).toBe(c[0]);
      expect(textOf(await again.journal.get(c[0] as number))).toBe("c");
      expect(await readOne(again, "t.kept")).toEqual({ text: "one", revision: kept });
      expect(await readOne(again, "t.gone")).toBeUndefined();
      expect(await again.snapshots.due(1, 1_000, 10)).toEqual([{ id: "t.kept", due: 100 }]);
      expect(await again.directory.app({ shards: 1, format: 9 })).toEqual({ shards: 64, format: 1 });
      expect(await again.directory.readShard(7)).toEqual({ entry, revision });
      expect(await again.deadLetters.list(10)).toEqual([letter]);

      // And it goes on where it was: fences hold, sequences grow, revisions do not repeat.
      expect(await again.journal.append("life1", a[0] as number, bytesOf("stale"))).toEqual({
        kind: "conflict",
      });
      expect(committed(await again.journal.append("life1", a[1] as number, bytesOf("d")))).toBeGreaterThan(
        c[0] as number,
      );
      expect(await writeOne(again, snapshot("t.gone", "zombie", gone))).toBeUndefined();
      let expected = marker;
      for (let n = 0; n < 5; n++) {
        const reborn = await writeSure(again, snapshot("t.gone", "new", expected));
        expect(reborn).not.toBe(gone);
        expected = await writeSure(again, snapshot("t.gone", undefined, reborn));
      }
      expect(await again.directory.writeShard(7, entry, (revision as number) + 1)).toBeUndefined();
    })();
  });

  it("what was asked for before the close is done by then", async () => {
    await use(async (store, subject) => {
      await store.directory.app({ shards: 64, format: 1 });
      const answers = Promise.all(
        Array.from({ length: 20 }, (_, n) => store.journal.append(`lane${n}`, 0, bytesOf(`${n}`))),
      );
      const again = await subject.reopen();
      for (const [n, result] of (await answers).entries()) {
        expect(await readAll(again.journal, `lane${n}`)).toEqual([[committed(result), `${n}`]]);
      }
    })();
  });
}
