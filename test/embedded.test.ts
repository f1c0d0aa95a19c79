/** The embedded store's own promises: its options, its lock, its limits, and how it ends. */
import { stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { type EmbeddedOptions, embedded } from "../runtime/stores/embedded/index.ts";
import { compiled, start } from "./compiled.ts";
import {
  appendAll,
  bytesOf,
  committed,
  readAll,
  readOne,
  snapshot,
  writeSure,
} from "./conformance/helpers.ts";
import { refused, useHome } from "./embedded-home.ts";

const MiB = 1024 * 1024;
const home = useHome();

describe("options", () => {
  it("are checked", async () => {
    const wrong: unknown[] = [
      undefined,
      null,
      {},
      { path: "" },
      { path: 7 },
      { path: "a\0b" },
      { path: home.path, durability: "always" },
      { path: home.path, mapSize_bytes: 1.5 },
      { path: home.path, mapSize_bytes: 1_000 },
      { path: home.path, mapSize_bytes: 2 ** 50 },
    ];
    for (const options of wrong) await refused("invalid_options", embedded(options as EmbeddedOptions));
  });

  it("say what the store is", async () => {
    const store = await home.open();
    expect(store.durability).toBe("fsync");
    expect(store.description).toContain(home.path);
    await store.close();
    expect((await home.open({ durability: "process" })).durability).toBe("process");
  });

  it("may name a folder that has to be made, with any name", async () => {
    const store = await home.open({ path: join(home.folder, "deep", "er", "with.dot and ä") });
    await appendAll(store.journal, "lane", ["a"]);
  });

  it("may not name a file", async () => {
    await writeFile(home.path, "a file");
    await refused("store_failed", embedded({ path: home.path }));
  });

  it.runIf(process.platform === "linux")("may not name a folder where none can be made", async () => {
    await expect(embedded({ path: "/proc/keyturn/data" })).rejects.toThrow(/\/proc\/keyturn/);
  });
});

describe.runIf(process.platform === "linux")("address space", () => {
  it("that cannot be had is an error, and a smaller map a way out", async () => {
    const holder = start("test/embedded-holder.ts", [home.path, "0"], "ulimit -v 100000000");
    await holder.ended;
    expect(holder.lines).toMatchObject([expect.stringMatching(/^store_failed: .*mapSize_bytes/)]);
  });
});

describe("the folder lock", () => {
  it("refuses a second store in this process, under any name of the folder", async () => {
    const store = await home.open();
    await refused("store_locked", embedded({ path: home.path }));
    await symlink(home.path, join(home.folder, "alias"));
    await refused("store_locked", embedded({ path: join(home.folder, "alias") }));
    // And the first is none the worse for it.
    await appendAll(store.journal, "lane", ["a"]);
    const [other] = await outcomes(1, 0);
    expect(other).toMatch(/^store_locked: .*process \d+/);
    await store.close();
    await home.open();
  });

  it("lets one of several in this process win", async () => {
    const results = await Promise.allSettled(Array.from({ length: 5 }, () => home.open()));
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });

  it("refuses another thread, and stays", async () => {
    const store = await home.open();
    const word = await new Promise((resolve, reject) => {
      const thread = new Worker(compiled("test/embedded-holder.ts"), { workerData: [home.path, "0"] });
      thread.once("message", resolve);
      thread.once("error", reject);
    });
    expect(word).toMatch(/^store_locked: .*this process/);
    expect((await outcomes(1, 0))[0]).toMatch(/^store_locked/);
    await appendAll(store.journal, "lane", ["a"]);
  });

  it("is held by one of several processes that open at once", async () => {
    for (let round = 0; round < 3; round++) {
      const words = await outcomes(5, 10_000);
      expect(words.filter((word) => word === "open")).toHaveLength(1);
      expect(words.filter((word) => word.startsWith("store_locked"))).toHaveLength(4);
    }
  });

  it("dies with its process, at once", async () => {
    for (let round = 0; round < 3; round++) {
      const holder = start("test/embedded-holder.ts", [home.path, "60000"]);
      await holder.until((line) => line === "open");
      await refused("store_locked", embedded({ path: home.path }));
      holder.kill("SIGKILL");
      expect(await holder.ended).toBe("SIGKILL");
      const store = await home.open();
      await store.close();
    }
  });

  it("is given back by close", async () => {
    const holder = start("test/embedded-holder.ts", [home.path, "1"]);
    await holder.until((line) => line === "closed");
    expect(holder.lines).toEqual(["open", "closed"]);
    await (await home.open()).close();
    await (await home.open()).close();
  });

  /** Starts processes that open the store at the same time, and returns the first word of each. */
  async function outcomes(count: number, hold_ms: number): Promise<string[]> {
    const holders = Array.from({ length: count }, () =>
      start("test/embedded-holder.ts", [home.path, `${hold_ms}`]),
    );
    await Promise.all(holders.map((holder) => holder.until(() => true)));
    for (const holder of holders) holder.kill("SIGKILL");
    await Promise.all(holders.map((holder) => holder.ended));
    return holders.map((holder) => holder.lines[0] ?? holder.errors.join(""));
  }
});

describe("a full store", () => {
  const large = "x".repeat(50_000);

  it("refuses what adds to it, and works again when there is room", async () => {
    const store = await home.open({ mapSize_bytes: MiB });
    const first = await writeSure(store, snapshot("t.a", "a".repeat(300_000), 0));
    let last = 0;
    let result = await store.journal.append("lane", last, bytesOf(large));
    while (result.kind === "committed") {
      last = result.seq;
      result = await store.journal.append("lane", last, bytesOf(large));
    }
    expect(result).toMatchObject({ kind: "full", cause: { code: "store_full" } });
    await refused("store_full", store.snapshots.write([snapshot("t.b", large, 0)]));
    expect(await store.journal.last("lane")).toBe(last);
    expect(await readAll(store.journal, "lane")).toHaveLength(last);

    // Shards can change hands, and what takes away is never refused.
    expect(await store.directory.writeShard(1, { owner: "a", epoch: 1, segments: [] }, 0)).toBe(1);
    await writeSure(store, snapshot("t.a", undefined, first));
    last = committed(await store.journal.append("lane", last, bytesOf(large)));
    expect(await readAll(store.journal, "lane")).toHaveLength(last);
    expect((await stat(join(home.path, "data", "data.mdb"))).size).toBeLessThan(2.5 * MiB);

    await store.close();
    const roomier = await home.open({ mapSize_bytes: 4 * MiB });
    for (let n = 0; n < 20; n++) last = committed(await roomier.journal.append("lane", last, bytesOf(large)));
    expect(await readAll(roomier.journal, "lane")).toHaveLength(last);
  });

  it("refuses the one that does not fit, not those that were asked for with it", async () => {
    const store = await home.open({ mapSize_bytes: MiB });
    const answers = await Promise.allSettled([
      store.journal.append("a", 0, bytesOf("small")),
      store.snapshots.write([snapshot("t.a", "x".repeat(2 * MiB), 0)]),
      store.journal.append("b", 0, bytesOf("small")),
    ]);
    expect(answers).toMatchObject([
      { value: { kind: "committed", seq: 1 } },
      { reason: { code: "store_full" } },
      { value: { kind: "committed", seq: 2 } },
    ]);
    expect(await readOne(store, "t.a")).toBeUndefined();
  });

  it("keeps what it answered when the operating system refuses to let the file grow", async () => {
    // 512 or 1,024 bytes each, by the shell.
    const filler = start("test/embedded-filler.ts", [home.path], "ulimit -f 2000");
    expect(await filler.ended).toBe(0);
    const said = JSON.parse(filler.lines[0] as string);
    expect(said.committed).toBeGreaterThan(10);
    // A write that is cut short shows as an I/O error.
    expect(["full", "unknown"]).toContain(said.kind);
    expect(["full", "unknown"]).toContain(said.again);
    expect(said.found).toBe(said.committed);
    const store = await home.open();
    expect(await store.journal.last("lane")).toBe(said.last);
    expect(await readAll(store.journal, "lane")).toHaveLength(said.committed);
    committed(await store.journal.append("lane", said.last, bytesOf(large)));
  });
});

describe("reading and closing", () => {
  it("chunks hold 4 MB at most", async () => {
    const store = await home.open({ durability: "process" });
    await appendAll(
      store.journal,
      "lane",
      Array.from({ length: 15 }, () => "x".repeat(900_000)),
    );
    const sizes: number[] = [];
    for await (const chunk of store.journal.read("lane", 1, 100)) {
      sizes.push(chunk.reduce((sum, { bytes }) => sum + bytes.length, 0));
    }
    expect(sizes).toEqual([3_600_000, 3_600_000, 3_600_000, 2_700_000]);
  });

  it("a closed store refuses everything and closes again", async () => {
    const store = await home.open();
    await appendAll(store.journal, "lane", ["a"]);
    const reading = store.journal.read("lane", 1, 10);
    await Promise.all([store.close(), store.close()]);
    await store.close();
    expect(await store.journal.append("lane", 1, bytesOf("b"))).toMatchObject({ kind: "unknown" });
    await refused("store_failed", store.journal.last("lane"));
    await refused("store_failed", store.journal.get(1));
    await refused(
      "store_failed",
      (async () => {
        for await (const _ of reading);
      })(),
    );
    await refused("store_failed", store.snapshots.read(["t.a"]));
    await refused("store_failed", store.snapshots.write([snapshot("t.a", "x", 0)]));
    await refused("store_failed", store.snapshots.due(1, 1, 1));
    await refused("store_failed", store.directory.readShards([1]));
    await refused("store_failed", store.directory.app({ shards: 1, format: 1 }));
    await refused("store_failed", store.deadLetters.list(1));
  });

  it("members do not outlive the store", async () => {
    const store = await home.open();
    const types: string[] = [];
    await store.directory.join({ node: "n", incarnation: "life", weight: 1, beat: 1, leaving: false, types });
    await store.close();
    expect(await (await home.open()).directory.members()).toEqual([]);
  });

  it("readers do not keep pages from being used again", async () => {
    const store = await home.open({ durability: "process" });
    let revision = 0;
    for (let n = 0; n < 300; n++) {
      revision = await writeSure(store, snapshot("t.a", "x".repeat(100_000), revision, { due: n }));
      await readOne(store, "t.a");
      for await (const _ of store.journal.read("lane", 1, 10)) break;
      await store.snapshots.due(1, 1_000, 1);
    }
    expect((await stat(join(home.path, "data", "data.mdb"))).size).toBeLessThan(3 * MiB);
  });
});
