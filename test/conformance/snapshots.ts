/** The clauses of Snapshots. */
import { describe, expect, it } from "vitest";
import type { DueEntry, ListedEntry, Snapshots, Store } from "../../runtime/ports/index.ts";
import { readOne, revisionOf, snapshot, textOf, writeOne, writeSure } from "./helpers.ts";
import type { Suite } from "./suite.ts";

const names = (entries: readonly DueEntry[]): string[] => entries.map(({ id }) => id);

/** The whole index of a shard, walked in pages. */
async function walk(snapshots: Snapshots, shard: number, before: number, page: number): Promise<DueEntry[]> {
  const all: DueEntry[] = [];
  while (true) {
    const entries = await snapshots.due(shard, before, page, all.at(-1));
    expect(entries.length).toBeLessThanOrEqual(page);
    all.push(...entries);
    if (entries.length < page) return all;
  }
}

export function snapshotClauses(suite: Suite): void {
  describe("Snapshots", () => {
    compareAndSetClauses(suite);
    revisionClauses(suite);
    markerClauses(suite);
    dueClauses(suite);
    syncClauses(suite);
    listClauses(suite);
  });
}

function compareAndSetClauses({ use }: Suite): void {
  it(
    "1. an entry that does not exist has revision 0",
    use(async (store) => {
      expect(await readOne(store, "counter.a")).toBeUndefined();
      expect(await writeOne(store, snapshot("counter.a", "early", 7))).toBeUndefined();
      const revision = await writeSure(store, snapshot("counter.a", "one", 0));
      expect(revision).toBeGreaterThan(0);
      expect(await readOne(store, "counter.a")).toEqual({ text: "one", revision });
    }),
  );

  it(
    "1. a write replaces the revision that it expects, and no other",
    use(async (store) => {
      const first = await writeSure(store, snapshot("counter.a", "one", 0));
      expect(await writeOne(store, snapshot("counter.a", "again", 0))).toBeUndefined();
      expect(await writeOne(store, snapshot("counter.a", "beyond", first + 1))).toBeUndefined();
      const second = await writeSure(store, snapshot("counter.a", "two", first));
      expect(await writeOne(store, snapshot("counter.a", "stale", first))).toBeUndefined();
      expect(await readOne(store, "counter.a")).toEqual({ text: "two", revision: second });
    }),
  );

  it(
    "1. each entry of a call is decided by itself and answered in order",
    use(async (store) => {
      const a = await writeSure(store, snapshot("counter.a", "a1", 0));
      const b = await writeSure(store, snapshot("counter.b", "b1", 0));
      const answers = await store.snapshots.write([
        snapshot("counter.a", "a2", a),
        snapshot("counter.b", "b2", b + 1_000),
        snapshot("counter.c", "c1", 0),
        snapshot("counter.d", "d1", 5),
      ]);
      expect(answers.map((revision) => revision !== undefined)).toEqual([true, false, true, false]);
      const entries = await store.snapshots.read(["counter.d", "counter.c", "counter.b", "counter.a"]);
      expect(entries.map((entry) => entry?.revision)).toEqual([undefined, answers[2], b, answers[0]]);
    }),
  );

  it(
    "1. of two writes of one entry in one call, with one expectation, one succeeds",
    use(async (store) => {
      const answers = await store.snapshots.write([
        snapshot("counter.a", "one", 0),
        snapshot("counter.a", "two", 0),
      ]);
      const winner = answers.findIndex((revision) => revision !== undefined);
      expect(answers.filter((revision) => revision !== undefined)).toHaveLength(1);
      expect(await readOne(store, "counter.a")).toEqual({
        text: winner === 0 ? "one" : "two",
        revision: answers[winner],
      });
    }),
  );

  it(
    "1. of many writes at once with one expectation exactly one succeeds",
    use(async (store) => {
      let revision = 0;
      for (let round = 0; round < 5; round++) {
        const answers = await Promise.all(
          Array.from({ length: 15 }, (_, n) =>
            writeOne(store, snapshot("counter.a", `${round}.${n}`, revision)),
          ),
        );
        const winner = answers.findIndex((answer) => answer !== undefined);
        expect(answers.filter((answer) => answer !== undefined)).toHaveLength(1);
        revision = answers[winner] as number;
        expect(await readOne(store, "counter.a")).toEqual({ text: `${round}.${winner}`, revision });
      }
    }),
  );

  it(
    "1. entries are apart, whatever their names have in common, and nothing is nothing",
    use(async (store) => {
      const ids = [
        "t.a",
        "t.ab",
        "t.A",
        "t.a=00",
        "t.a-",
        "t.a_",
        "u.a",
        "_shard.1",
        "_shard.10",
        "_shard.0",
      ];
      const answers = await store.snapshots.write(ids.map((id) => snapshot(id, id, 0)));
      expect(new Set(answers).size).toBeGreaterThan(0);
      for (const [n, id] of ids.entries())
        expect(await readOne(store, id)).toEqual({ text: id, revision: answers[n] });
      expect(await store.snapshots.read([])).toEqual([]);
      expect(await store.snapshots.write([])).toEqual([]);
    }),
  );

  it(
    "1. a long call is answered like a short one",
    use(async (store) => {
      await writeSure(store, snapshot("t.k300", "before", 0));
      const writes = Array.from({ length: 600 }, (_, n) => snapshot(`t.k${n % 599}`, `${n}`, 0, { due: n }));
      const answers = await store.snapshots.write(writes);
      const refused = answers.flatMap((revision, n) => (revision === undefined ? [n] : []));
      // The first entry is there twice, and which of the two succeeds is open.
      expect(refused).toHaveLength(2);
      expect(refused).toContain(300);
      expect(refused.some((n) => n === 0 || n === 599)).toBe(true);
      const entries = await store.snapshots.read(writes.map(({ id }) => id));
      for (const [n, revision] of answers.entries()) {
        if (revision !== undefined) expect(entries[n]?.revision).toBe(revision);
      }
      expect(await walk(store.snapshots, 1, 1_000, 250)).toHaveLength(598);
    }),
  );

  it(
    "1. values come back as they went in, from nothing to the largest",
    use(async (store) => {
      const large = new Uint8Array(768 * 1024).map((_, n) => (n * 7) % 253);
      const values = [new Uint8Array(0), Uint8Array.from({ length: 256 }, (_, n) => n), large];
      const writes = values.map((value, n) => ({
        id: `t.v${n}`,
        shard: 1,
        value,
        expected: 0,
        due: undefined,
      }));
      await store.snapshots.write(writes);
      const found = await store.snapshots.read(writes.map(({ id }) => id));
      for (const [n, value] of values.entries()) {
        expect(Buffer.compare(Buffer.from(found[n]?.value as Uint8Array), Buffer.from(value))).toBe(0);
      }
    }),
  );
}

function revisionClauses({ use }: Suite): void {
  it(
    "2. revisions never repeat for an entry, also across a deletion",
    use(async (store) => {
      const seen = new Set<number>();
      let revision = 0;
      for (let n = 0; n < 30; n++) {
        const text = n % 3 === 2 ? undefined : `${n}`;
        revision = await writeSure(store, snapshot("counter.a", text, revision));
        if (text === undefined) expect(await readOne(store, "counter.a")).toBeUndefined();
        else {
          expect(revision).toBeGreaterThan(0);
          expect(seen.has(revision)).toBe(false);
          seen.add(revision);
        }
      }
      expect(seen.size).toBe(20);
    }),
  );

  it(
    "2. the delayed write of a dead node cannot bring an old entry back",
    use(async (store) => {
      const known = await writeSure(store, snapshot("counter.a", "old", 0));
      const gone = await writeSure(store, snapshot("counter.a", undefined, known));
      expect(await writeOne(store, snapshot("counter.a", "zombie", known))).toBeUndefined();
      expect(await readOne(store, "counter.a")).toBeUndefined();
      const revision = await writeSure(store, snapshot("counter.a", "new", gone));
      expect(await writeOne(store, snapshot("counter.a", "zombie", known))).toBeUndefined();
      expect(await writeOne(store, snapshot("counter.a", undefined, known))).toBeUndefined();
      expect(await readOne(store, "counter.a")).toEqual({ text: "new", revision });
    }),
  );
}

function markerClauses({ use, markers }: Suite): void {
  it(
    "3. what a deletion answers is what the next write has to expect",
    use(async (store) => {
      const first = await writeSure(store, snapshot("counter.a", "one", 0, { due: 5 }));
      const gone = await writeSure(store, snapshot("counter.a", undefined, first));
      expect(gone > 0).toBe(markers);
      expect(await revisionOf(store, "counter.a")).toBe(gone);
      const again = await writeSure(store, snapshot("counter.a", undefined, gone));
      expect(await revisionOf(store, "counter.a")).toBe(again);
      const second = await writeSure(store, snapshot("counter.a", "two", again));
      expect(await readOne(store, "counter.a")).toEqual({ text: "two", revision: second });
      // Nothing to delete is no conflict.
      const never = await writeSure(store, snapshot("counter.never", undefined, 0));
      expect(await revisionOf(store, "counter.never")).toBe(never);
      expect(await readOne(store, "counter.never")).toBeUndefined();
    }),
  );

  if (!markers) {
    it(
      "3. where no markers are kept, sync waits for the writes under way",
      use(async (store) => {
        const writes = Array.from({ length: 600 }, (_, n) => snapshot(`t.k${n}`, "x", 0));
        let answered = 0;
        const writing = store.snapshots.write(writes).then(() => answered++);
        await store.snapshots.sync();
        expect(answered).toBe(1);
        await writing;
      }),
    );
    return;
  }

  it(
    "3. a delayed first write cannot bring back what was deleted meanwhile",
    use(async (store) => {
      const known = await writeSure(store, snapshot("counter.a", "one", 0));
      const gone = await writeSure(store, snapshot("counter.a", undefined, known));
      expect(await writeOne(store, snapshot("counter.a", "zombie", 0, { due: 5 }))).toBeUndefined();
      expect(await readOne(store, "counter.a")).toBeUndefined();
      expect(await store.snapshots.due(1, 1_000, 10)).toEqual([]);
      // Also where it was deleted before anything of it was stored.
      const [never] = await store.snapshots.write([snapshot("counter.b", undefined, 0)]);
      expect(never).toBeGreaterThan(0);
      expect(await writeOne(store, snapshot("counter.b", "zombie", 0))).toBeUndefined();
      const [a, b] = await store.snapshots.read(["counter.a", "counter.b"]);
      expect([a, b]).toEqual([
        { value: undefined, revision: gone },
        { value: undefined, revision: never },
      ]);
    }),
  );

  it(
    "3. each deletion has a revision of its own",
    use(async (store) => {
      const seen = new Set<number>();
      let revision = 0;
      for (let n = 0; n < 6; n++) {
        revision = await writeSure(store, snapshot("counter.a", n % 2 === 0 ? "x" : undefined, revision));
        expect(seen.has(revision)).toBe(false);
        seen.add(revision);
      }
      const again = await writeSure(store, snapshot("counter.a", undefined, revision));
      expect(seen.has(again)).toBe(false);
      expect(await writeOne(store, snapshot("counter.a", "zombie", revision))).toBeUndefined();
    }),
  );
}

function syncClauses({ use }: Suite): void {
  it(
    "6. after sync, what was answered before is seen",
    use(async (store) => {
      const { snapshots } = store;
      for (let round = 0; round < 5; round++) {
        const writes = Array.from({ length: 50 }, (_, n) =>
          snapshot(`t.r${round}k${n}`, `${n}`, 0, { shard: round, due: n }),
        );
        await Promise.all(writes.map((write) => snapshots.write([write])));
        const [gone] = await snapshots.read([`t.r${round}k7`]);
        await writeSure(store, snapshot(`t.r${round}k7`, undefined, gone?.revision ?? 0, { shard: round }));
        await snapshots.sync();
        const found = await snapshots.read(writes.map(({ id }) => id));
        expect(found.filter((entry) => entry?.value !== undefined)).toHaveLength(49);
        expect(await walk(snapshots, round, 1_000, 20)).toHaveLength(49);
      }
    }),
  );

  it(
    "6. sync ends also while others go on writing, and leaves their writes alone",
    use(async (store) => {
      const { snapshots } = store;
      const writing = Array.from({ length: 20 }, (_, n) => snapshots.write([snapshot(`t.k${n}`, "x", 0)]));
      await snapshots.sync();
      for (const answer of await Promise.all(writing)) expect(answer[0]).toBeDefined();
    }),
  );
}

/** Every entry of a store, walked in pages; what `between` does happens after each page. */
async function walkAll(
  { snapshots }: Store,
  limit: number,
  between: () => Promise<unknown> = async () => undefined,
  type?: string,
): Promise<ListedEntry[]> {
  const all: ListedEntry[] = [];
  let cursor: string | undefined;
  do {
    const { entries, next } = await snapshots.list(limit, cursor, type);
    expect(entries.length).toBeLessThanOrEqual(limit);
    if (next !== undefined) expect(next).not.toBe(cursor);
    all.push(...entries);
    cursor = next;
    await between();
  } while (cursor !== undefined);
  return all;
}

function listClauses({ use }: Suite): void {
  it(
    "7. list gives every entry of an actor once, of all shards, in pages of any size",
    use(async (store) => {
      expect(await walkAll(store, 10)).toEqual([]);
      const keys = ["a", "B", "k=2F1", "-", "z_9", ...Array.from({ length: 25 }, (_, n) => `n${n}`)];
      const written = new Map<string, string>();
      for (const [n, key] of keys.entries()) {
        const id = `${["counter", "Zebra", "a-b"][n % 3]}.${key}`;
        await writeSure(store, snapshot(id, `v${n}`, 0, n % 2 === 0 ? { shard: n } : { shard: n, due: n }));
        written.set(id, `v${n}`);
      }
      await writeSure(store, snapshot("_shard.7", "own", 0, { shard: 7 }));
      await writeSure(store, snapshot("_shard.7.1.1", "piece", 0, { shard: 7 }));
      const gone = await writeSure(store, snapshot("counter.gone", "x", 0));
      await writeSure(store, snapshot("counter.gone", undefined, gone));
      for (const limit of [1, 7, 30, 1_000]) {
        const all = await walkAll(store, limit);
        expect(new Map(all.map(({ id, value }) => [id, textOf(value)]))).toEqual(written);
        expect(all).toHaveLength(written.size);
        const stored = await store.snapshots.read(all.map(({ id }) => id));
        expect(stored.map((entry) => entry?.revision)).toEqual(all.map(({ revision }) => revision));
      }
    }),
  );

  it(
    "7. list gives what is written anew during the walk, and no page is larger than can be carried",
    use(async (store) => {
      const ids = Array.from({ length: 40 }, (_, n) => `t.k${n}`);
      const revisions = new Map<string, number>();
      const large = "x".repeat(700 * 1024);
      for (const id of ids) revisions.set(id, await writeSure(store, snapshot(id, large, 0)));
      let round = 0;
      const all = await walkAll(store, 9, async () => {
        // Backwards, so that what was given and what was not is written anew; and something begins and ends.
        if (round++ > 3) return;
        for (const id of [...ids].reverse().slice(0, 20))
          revisions.set(
            id,
            await writeSure(store, snapshot(id, `round ${round}`, revisions.get(id) as number)),
          );
        const fresh = await writeSure(store, snapshot(`t.new${round}`, "new", 0));
        await writeSure(store, snapshot(`t.new${round}`, undefined, fresh));
      });
      const given = new Set(all.map(({ id }) => id));
      for (const id of ids) expect(given.has(id)).toBe(true);
      for (const id of ids.slice(0, 20)) expect(all.filter((entry) => entry.id === id)).toHaveLength(1);
    }),
  );

  it(
    "7. list of a type gives its actors only, also those just written",
    use(async (store) => {
      const types = ["ab", "a", "a-b", "abc", "B", "z"];
      const ids = types.flatMap((type) => Array.from({ length: 9 }, (_, n) => `${type}.k${n}`));
      const revisions = await store.snapshots.write(ids.map((id, n) => snapshot(id, id, 0, { shard: n })));
      await writeSure(store, snapshot("a.k3", undefined, revisions[ids.indexOf("a.k3")] as number));
      for (const type of types) {
        for (const limit of [2, 100]) {
          const own = await walkAll(store, limit, undefined, type);
          expect(own.map(({ id }) => id).sort()).toEqual(
            ids.filter((id) => id.startsWith(`${type}.`) && id !== "a.k3"),
          );
        }
      }
      expect(await walkAll(store, 100, undefined, "nobody")).toEqual([]);
      await writeSure(store, snapshot("nobody.k", "x", 0));
      expect(await walkAll(store, 100, undefined, "nobody")).toHaveLength(1);
    }),
  );

  it(
    "7. list changes nothing and sees everything that was answered before",
    use(async (store) => {
      const { snapshots } = store;
      const writes = Array.from({ length: 300 }, (_, n) => snapshot(`t.k${n}`, `${n}`, 0, { due: n }));
      const revisions = await snapshots.write(writes);
      expect(await walkAll(store, 64)).toHaveLength(300);
      const found = await snapshots.read(writes.map(({ id }) => id));
      expect(found.map((entry) => entry?.revision)).toEqual(revisions);
      expect(await walk(snapshots, 1, 1_000, 250)).toHaveLength(300);
    }),
  );
}

function dueClauses({ use }: Suite): void {
  it(
    "4. due entries come earliest first, before the given time, of one shard",
    use(async (store) => {
      const dues = [500, 100, 300, 200, 400];
      await store.snapshots.write(dues.map((due) => snapshot(`t.${due}`, "x", 0, { due })));
      await store.snapshots.write([
        snapshot("t.other", "x", 0, { shard: 2, due: 50 }),
        snapshot("t.more", "x", 0, { shard: 10, due: 50 }),
        snapshot("t.never", "x", 0),
      ]);
      const { snapshots } = store;
      expect(await snapshots.due(1, 1_000, 10)).toEqual(
        [100, 200, 300, 400, 500].map((due) => ({ id: `t.${due}`, due })),
      );
      // Before means before.
      expect(names(await snapshots.due(1, 300, 10))).toEqual(["t.100", "t.200"]);
      expect(names(await snapshots.due(1, 300.5, 10))).toEqual(["t.100", "t.200", "t.300"]);
      expect(names(await snapshots.due(1, 1_000, 2))).toEqual(["t.100", "t.200"]);
      expect(await snapshots.due(1, 100, 10)).toEqual([]);
      expect(await snapshots.due(3, 1_000, 10)).toEqual([]);
      expect(await snapshots.due(1, 200, 10, { id: "t.400", due: 400 })).toEqual([]);
      expect(names(await snapshots.due(2, 1_000, 10))).toEqual(["t.other"]);
    }),
  );

  it(
    "4. pages follow each other without gap or repetition, also where many are due at once",
    use(async (store) => {
      const writes = Array.from({ length: 60 }, (_, n) =>
        snapshot(`t.k${n}`, "x", 0, { due: 1_000 + (n % 4) }),
      );
      await store.snapshots.write(writes);
      for (const page of [1, 7, 60, 100]) {
        const all = await walk(store.snapshots, 1, 2_000, page);
        expect(all.map(({ due }) => due)).toEqual(all.map(({ due }) => due).sort((a, b) => a - b));
        expect(names(all).sort()).toEqual(writes.map(({ id }) => id).sort());
      }
      expect(await walk(store.snapshots, 1, 1_002, 7)).toHaveLength(30);
    }),
  );

  it(
    "4. a page may begin at a time, with what is due just then",
    use(async (store) => {
      const dues = [100, 200, 200, 300];
      await store.snapshots.write(dues.map((due, n) => snapshot(`t.k${n}`, "x", 0, { due })));
      const from = async (due: number): Promise<string[]> =>
        names(await store.snapshots.due(1, 300, 10, { id: "", due })).sort();
      expect(await from(0)).toEqual(["t.k0", "t.k1", "t.k2"]);
      expect(await from(100)).toEqual(["t.k0", "t.k1", "t.k2"]);
      expect(await from(100.5)).toEqual(["t.k1", "t.k2"]);
      expect(await from(200)).toEqual(["t.k1", "t.k2"]);
      expect(await from(201)).toEqual([]);
    }),
  );

  it(
    "4. a page may begin behind an entry that is gone",
    use(async (store) => {
      await store.snapshots.write(
        ["a", "b", "c"].map((key, n) => snapshot(`t.${key}`, "x", 0, { due: 10 + n })),
      );
      const [first] = await store.snapshots.due(1, 100, 1);
      const entry = await readOne(store, "t.a");
      await writeSure(store, snapshot("t.a", undefined, entry?.revision as number));
      expect(names(await store.snapshots.due(1, 100, 10, first))).toEqual(["t.b", "t.c"]);
    }),
  );

  it(
    "4. the index changes together with the entry",
    use(async (store) => {
      const due = async (): Promise<string> =>
        (await store.snapshots.due(1, 10_000, 10)).map(({ id, due: at }) => `${id}@${at}`).join(" ");
      let a = await writeSure(store, snapshot("t.a", "1", 0, { due: 100 }));
      const b = await writeSure(store, snapshot("t.b", "1", 0, { due: 200 }));
      expect(await due()).toBe("t.a@100 t.b@200");
      a = await writeSure(store, snapshot("t.a", "2", a, { due: 300 }));
      expect(await due()).toBe("t.b@200 t.a@300");
      a = await writeSure(store, snapshot("t.a", "3", a, { due: 300 }));
      expect(await due()).toBe("t.b@200 t.a@300");
      // A write that is refused leaves the index alone.
      expect(await writeOne(store, snapshot("t.b", "2", b + 1, { due: 50 }))).toBeUndefined();
      expect(await writeOne(store, snapshot("t.b", undefined, b + 1))).toBeUndefined();
      expect(await due()).toBe("t.b@200 t.a@300");
      a = await writeSure(store, snapshot("t.a", "4", a));
      expect(await due()).toBe("t.b@200");
      await writeSure(store, snapshot("t.a", "5", a, { due: 150 }));
      const gone = await writeSure(store, snapshot("t.b", undefined, b));
      expect(await due()).toBe("t.a@150");
      // A due time of a deletion means nothing.
      await writeSure(store, snapshot("t.b", undefined, gone, { due: 70 }));
      expect(await due()).toBe("t.a@150");
    }),
  );

  it(
    "4. times may be anything that a clock shows",
    use(async (store) => {
      const dues = [Date.UTC(2100, 0, 1), 0, -5, 1.5, 1, 2 ** 40, Date.UTC(2024, 1, 29)];
      await store.snapshots.write(dues.map((due, n) => snapshot(`t.${n}`, "x", 0, { due })));
      const found = await walkDues(store);
      expect(found).toEqual([...dues].sort((a, b) => a - b));
      expect(names(await store.snapshots.due(1, -0, 10))).toEqual(["t.2"]);
    }),
  );
}

async function walkDues({ snapshots }: Store): Promise<number[]> {
  return (await walk(snapshots, 1, Number.MAX_SAFE_INTEGER, 3)).map(({ due }) => due);
}
