/** Embedded stores that are newer or damaged: what can be found is found, and nothing of it is served. */
import { cp, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { open as openLmdb } from "lmdb";
import { describe, expect, it } from "vitest";
import { embedded } from "../runtime/stores/embedded/index.ts";
import { appendAll, readAll, readOne, snapshot, writeSure } from "./conformance/helpers.ts";
import { refused, useHome } from "./embedded-home.ts";

const home = useHome();

describe("formats", () => {
  it("a newer one is refused and left alone", async () => {
    await (await home.open()).close();
    const data = join(home.path, "data");
    const lmdb = openLmdb({ path: data, noSubdir: false, encoding: "binary", overlappingSync: false });
    await lmdb.openDB("meta", { encoding: "binary" }).put("format", Buffer.from("2"));
    await lmdb.close();
    const before = await readFile(join(data, "data.mdb"));
    await refused("newer_format", embedded({ path: home.path }));
    expect(before.equals(await readFile(join(data, "data.mdb")))).toBe(true);
  });
});

describe("damage", () => {
  const data = (): string => join(home.path, "data", "data.mdb");

  /** Changes a byte behind every occurrence of a text in the data file, of which old pages may hold more than one. */
  async function damage(marker: string, offset: number): Promise<void> {
    const bytes = await readFile(data());
    let count = 0;
    for (let at = bytes.indexOf(marker); at >= 0; at = bytes.indexOf(marker, at + 1), count++) {
      bytes[at + offset] = (bytes[at + offset] as number) ^ 0x10;
    }
    expect(count).toBeGreaterThan(0);
    await writeFile(data(), bytes);
  }

  async function destroySecondRoot(): Promise<void> {
    const bytes = await readFile(data());
    const pageSize = new Uint32Array(bytes.buffer, bytes.byteOffset + 48, 1)[0] as number;
    bytes.fill(0, pageSize, pageSize * 2);
    await writeFile(data(), bytes);
  }

  it("in a batch is handed on to who has its checksum", async () => {
    const store = await home.open();
    const seqs = await appendAll(store.journal, "lane", ["before", "the-marker-0", "after"]);
    await store.close();
    await damage("the-marker-", 11);
    const again = await home.open();
    expect(await readAll(again.journal, "lane")).toEqual([
      [seqs[0], "before"],
      [seqs[1], "the-marker- "],
      [seqs[2], "after"],
    ]);
  });

  it("in the head of a snapshot is found, and of that one only", async () => {
    const store = await home.open();
    await writeSure(store, snapshot("t.bad", "the-marker", 0, { due: 5 }));
    await writeSure(store, snapshot("t.good", "fine", 0));
    await store.close();
    // The revision stands 16 bytes before the value.
    await damage("the-marker", -10);
    const again = await home.open();
    await refused("corrupt_snapshot", again.snapshots.read(["t.bad"]));
    await refused("corrupt_snapshot", again.snapshots.write([snapshot("t.bad", "x", 1)]));
    expect(await readOne(again, "t.good")).toMatchObject({ text: "fine" });
    await writeSure(again, snapshot("t.new", "x", 0));
  });

  it("in the shard table and in dead letters is found", async () => {
    const store = await home.open();
    await store.directory.writeShard(1, { owner: "the-marker", epoch: 1, segments: [] }, 0);
    await store.directory.writeShard(2, { owner: "other", epoch: 1, segments: [] }, 0);
    const letter = { position: 1, index: 0, type: "t", time: 1, code: "c", reason: "r" };
    await store.deadLetters.put([{ ...letter, key: "the-marker", event: 1 }]);
    await store.close();
    await damage("the-marker", 3);
    const again = await home.open();
    await refused("corrupt_record", again.directory.readShard(1));
    await refused("corrupt_record", again.directory.readShards([2, 1]));
    await refused("corrupt_record", again.directory.writeShard(1, { owner: "a", epoch: 2, segments: [] }, 1));
    await refused("corrupt_record", again.deadLetters.list(10));
    expect(await again.directory.readShard(2)).toMatchObject({ entry: { owner: "other" } });
  });

  it("to the files as such is found before LMDB sees them", async () => {
    const store = await home.open();
    await appendAll(store.journal, "lane", ["a", "b"]);
    await store.close();
    await cp(home.path, `${home.path}.good`, { recursive: true });
    const damages: (() => Promise<void>)[] = [
      () => truncate(data(), 0),
      () => truncate(data(), 100),
      () => truncate(data(), 5_000),
      () => rm(data()),
      () => rm(join(home.path, "data"), { recursive: true }),
      () => writeFile(data(), Buffer.alloc(50_000, 0xff)),
      () => destroySecondRoot(),
      () =>
        writeFile(join(home.path, "lock", "data.mdb"), "not a database, but longer than its header would be"),
    ];
    for (const apply of damages) {
      await apply();
      await refused("store_failed", embedded({ path: home.path }));
      await rm(home.path, { recursive: true });
      await cp(`${home.path}.good`, home.path, { recursive: true });
      const restored = await home.open();
      expect(await readAll(restored.journal, "lane")).toHaveLength(2);
      await restored.close();
    }
  });

  it("by a lost end does not end the process", async () => {
    const store = await home.open();
    const seqs = await appendAll(store.journal, "lane", ["a", "x".repeat(30_000)]);
    await store.close();
    // The last batch's own pages are the last of the file.
    const { size } = await stat(data());
    const bytes = await readFile(data());
    const tail = bytes.lastIndexOf("xxxxxxxx");
    await truncate(data(), Math.min(size, tail) - 8_192);
    const again = await home.open();
    expect((await again.journal.get(seqs[1] as number))?.length).toBe(30_000);
    expect((await stat(data())).size).toBe(size);
  });
});
