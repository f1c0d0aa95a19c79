/** Logs that are rotated while they are followed, and while nobody follows them; files read in part, and to their last whole line. */
import {
  appendFileSync,
  copyFileSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { type Client, memory, type Store, startNode } from "../runtime/index.ts";
import {
  csv,
  defineSource,
  http,
  lines,
  ndjson,
  parquet,
  runSource,
  type SourceReader,
  take,
  toldTo,
} from "../runtime/streams/index.ts";
import { list, listed } from "./support/list.ts";
import { temporaryPath } from "./support/temporary.ts";

function logOf(from: SourceReader<string>) {
  return defineSource<string>("log", {
    from,
    batch: 3,
    to: (text) => toldTo(list, "all", { type: "add", text }),
  });
}

const WAIT = { timeout: 20_000, interval: 20 };

/** A log, what was written to it, and a source that follows it in one life after another. */
class Log {
  readonly path = join(temporaryPath(), "access.log");
  readonly written: string[] = [];
  readonly store: Store = memory();
  #count = 0;

  write(times: number, end = "\n"): void {
    for (let n = 0; n < times; n++) {
      const line = `${++this.#count} ${"x".repeat(this.#count % 40)}`;
      this.written.push(line);
      appendFileSync(this.path, line + (n === times - 1 ? end : "\n"));
    }
  }

  finish(): void {
    appendFileSync(this.path, "\n");
  }

  /** Renames what there is, as logrotate does, and begins a new one. */
  async rotate(keep = 9): Promise<void> {
    for (let n = keep; n >= 1; n--)
      for (const zip of ["", ".gz"])
        if (await exists(`${this.path}.${n}${zip}`))
          if (n === keep) rmSync(`${this.path}.${n}${zip}`);
          else renameSync(`${this.path}.${n}${zip}`, `${this.path}.${n + 1}${zip}`);
    renameSync(this.path, `${this.path}.1`);
    writeFileSync(this.path, "");
  }

  async zip(n: number): Promise<void> {
    const path = `${this.path}.${n}`;
    const { atime, mtime } = await stat(path);
    writeFileSync(`${path}.gz`, gzipSync(readFileSync(path)));
    utimesSync(`${path}.gz`, atime, mtime);
    rmSync(path);
  }

  /** Runs the source while something is done; then it is stopped, or killed. */
  async followed(
    work: (client: Client, all: () => Promise<void>) => Promise<void>,
    kill = false,
  ): Promise<void> {
    const log = logOf(lines({ path: this.path, follow: true, rotated: true, poll_ms: 5 }));
    const settings = { lease_ms: 1_000, heartbeat_ms: 300 };
    const node = await startNode({ actors: [list, ...log.actors], store: this.store, settings });
    const run = runSource(node.client, log, { lease_ms: 300 });
    run.done.catch(() => undefined);
    const all = (): Promise<void> =>
      vi.waitFor(async () => expect(await listed(node.client)).toEqual(this.written), WAIT);
    try {
      await work(node.client, all);
    } finally {
      if (kill) node.kill();
      await run.stop();
      if (!kill) await node.stop({ closeStore: false });
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

describe("a log that is rotated", () => {
  it("goes on in the next file while it is followed, with the lines that its writer was late with", async () => {
    const log = new Log();
    log.write(10);
    await log.followed(async (_client, all) => {
      await all();
      for (let turn = 0; turn < 2; turn++) {
        await log.rotate();
        // The writer has the old one open still.
        const late = `late ${turn}`;
        log.written.push(late);
        appendFileSync(`${log.path}.1`, `${late}\n`);
        log.write(7);
        await all();
      }
    });
  });

  it("was rotated several times and compressed while nobody followed it: each line counts once", {
    timeout: 60_000,
  }, async () => {
    const log = new Log();
    log.write(5);
    // In the middle of a line, which is written to its end later.
    log.write(1, "");
    await log.followed(async (client) => {
      await vi.waitFor(async () => expect(await listed(client)).toHaveLength(5), WAIT);
    });
    log.finish();
    log.write(4);
    for (let turn = 0; turn < 3; turn++) {
      await log.rotate();
      log.write(6);
    }
    await log.zip(3);
    await log.followed(async (_client, all) => all(), true);
    // Killed in a file that is compressed then; the next life goes on in it.
    await log.rotate();
    log.write(200);
    await log.rotate();
    log.write(3);
    await log.zip(1);
    await log.followed(async (client) => {
      await vi.waitFor(async () => expect((await listed(client)).length).toBeGreaterThan(40), WAIT);
    }, true);
    await log.followed(async (_client, all) => all());
  });

  it("is cut after it was copied: the rest is read from the copy, then the log from its beginning", async () => {
    const log = new Log();
    log.write(20);
    await log.followed(async (_client, all) => {
      await all();
      log.write(3);
      copyFileSync(log.path, `${log.path}.1`);
      truncateSync(log.path, 0);
      log.write(4);
      await all();
    });
    // And while nobody looks, written beyond where the reading stood.
    log.write(2);
    copyFileSync(log.path, `${log.path}-20300101`);
    truncateSync(log.path, 0);
    log.write(60);
    await log.followed(async (_client, all) => all());
  });

  it("a last line without a newline counts when another file has followed", async () => {
    const log = new Log();
    log.write(3, "");
    await log.followed(async (client, all) => {
      await vi.waitFor(async () => expect(await listed(client)).toHaveLength(2), WAIT);
      await log.rotate();
      log.write(1);
      await all();
    });
  });

  it("says so if what it had not read is gone", async () => {
    const log = new Log();
    log.write(5);
    await log.followed(async (_client, all) => all());
    log.write(5);
    await log.rotate();
    log.write(1);
    rmSync(`${log.path}.1`);
    const source = logOf(lines({ path: log.path, follow: true, rotated: true, poll_ms: 5 }));
    const node = await startNode({ actors: [list, ...source.actors], store: log.store });
    onTestFinished(() => node.kill());
    await expect(runSource(node.client, source).done).rejects.toMatchObject({
      code: "source_changed",
      message: expect.stringContaining("before it was read to its end"),
    });
    expect(await listed(node.client)).toHaveLength(5);
  });

  it("files that begin alike are told apart, or it is said that they cannot be", async () => {
    const log = new Log();
    const head = (): void => {
      log.written.push("# begins");
      appendFileSync(log.path, "# begins\n");
    };
    head();
    await log.followed(async (_client, all) => {
      await all();
      // Nothing but the first line, twice.
      await log.rotate();
      head();
      await all();
      await log.rotate();
      head();
      log.write(3);
      await all();
    });
    await log.rotate();
    head();
    // Its inode is gone, and two others are as good as what was read of it.
    await log.followed(async (_client, all) => all());
    for (const n of [1, 2, 3]) copyFileSync(`${log.path}.${n}`, `${log.path}.${n}.copy`);
    for (const n of [1, 2, 3]) renameSync(`${log.path}.${n}.copy`, `${log.path}.${n}`);
    copyFileSync(log.path, `${log.path}.0`);
    rmSync(log.path);
    log.write(1);
    const source = logOf(lines({ path: log.path, follow: true, rotated: true, poll_ms: 5 }));
    const node = await startNode({ actors: [list, ...source.actors], store: log.store });
    onTestFinished(() => node.kill());
    await expect(runSource(node.client, source).done).rejects.toThrow(/begin alike/);
  });

  it("its lag counts what lies in all files", async () => {
    const log = new Log();
    log.write(4);
    const reader = lines({ path: log.path, follow: true, rotated: true });
    const [part] = await reader.plan();
    const sizeOf = async (path: string): Promise<number> => (await stat(path)).size;
    const first = await sizeOf(log.path);
    expect(await reader.extent(part as never, null)).toEqual({ done: 0, total: first });
    const stop = new AbortController();
    const reading = reader.read(part as never, null, { signal: stop.signal })[Symbol.asyncIterator]();
    const { value } = await reading.next();
    stop.abort();
    await reading.return?.();
    await log.rotate();
    log.write(6);
    const second = await sizeOf(log.path);
    expect(await reader.extent(part as never, value.position)).toEqual({
      done: first,
      total: first + second,
    });
  });

  it.each([
    ["is not followed", { rotated: true }],
    ["in several parts", { rotated: true, follow: true, partitions: 2 }],
    ["maybe", { rotated: "yes", follow: true }],
  ])("is refused if it %s", (_name, options) => {
    expect(() => lines({ path: "x", ...(options as object) })).toThrow(/rotated/);
    expect(() => ndjson({ path: "x", ...(options as object) })).toThrow(/rotated/);
  });
});

async function runTo(store: Store, from: SourceReader<string>) {
  const source = logOf(from);
  const node = await startNode({ actors: [list, ...source.actors], store });
  try {
    const status = await runSource(node.client, source).done;
    return { status, all: await listed(node.client) };
  } finally {
    await node.stop({ closeStore: false });
  }
}

describe("a file that is still written", () => {
  it("is read to its last whole line; the rest counts when it is whole", async () => {
    const path = join(temporaryPath(), "items.ndjson");
    const store = memory();
    const from = (): SourceReader<string> => ndjson<string>({ path, wholeLines: true });
    writeFileSync(path, '"a"\n"b"\n"c');
    expect(await runTo(store, from())).toMatchObject({
      all: ["a", "b"],
      status: { ended: true, lag: 2, malformed: 0 },
    });
    appendFileSync(path, 'd"\n"e"');
    expect((await runTo(store, from())).all).toEqual(["a", "b", "cd"]);
    // Without the option what stands there is a line.
    expect((await runTo(store, ndjson<string>({ path }))).all).toEqual(["a", "b", "cd", "e"]);
  });

  it("of CSV a record whose quote is open is not whole either, nor is a header", async () => {
    const path = join(temporaryPath(), "items.csv");
    const store = memory();
    const from = (): SourceReader<string> => {
      const reader = csv<{ name: string }>({ path, wholeLines: true });
      return {
        ...reader,
        async *read(part, position, options) {
          for await (const { items, ...chunk } of reader.read(part, position, options))
            yield {
              ...chunk,
              items: items.map(({ value, ...item }) => ({ ...item, value: value?.name as string })),
            };
        },
      };
    };
    writeFileSync(path, "na");
    expect((await runTo(store, from())).all).toEqual([]);
    appendFileSync(path, 'me\none\n"two\n');
    expect((await runTo(store, from())).all).toEqual(["one"]);
    appendFileSync(path, 'lines"\nthree');
    expect((await runTo(store, from())).all).toEqual(["one", "two\nlines"]);
  });
});

describe("take", () => {
  it("reads the beginning of each part, and more of it later, each item once", async () => {
    const path = join(temporaryPath(), "items.txt");
    const all = Array.from({ length: 40 }, (_, n) => `line ${n + 1}`);
    writeFileSync(path, all.map((line) => `${line}\n`).join(""));
    for (const partitions of [1, 4]) {
      const store = memory();
      const from = (): SourceReader<string> => lines({ path, partitions });
      const first = await runTo(store, take(from(), 15));
      expect([...first.all].sort()).toEqual(all.slice(0, 15).sort());
      expect(first.status.ended).toBe(true);
      expect((await runTo(store, take(from(), 15))).all).toHaveLength(15);
      expect([...(await runTo(store, take(from(), 22))).all].sort()).toEqual(all.slice(0, 22).sort());
      expect([...(await runTo(store, from())).all].sort()).toEqual([...all].sort());
    }
  });

  it("takes nothing less than one, and of no stream", () => {
    const file = lines({ path: "x" });
    expect(() => take(file, 0)).toThrow(/whole number/);
    expect(() => take(file, 1.5)).toThrow(/whole number/);
    expect(() => take(http(), 3)).toThrow(/Only files/);
    expect(() => take(lines({ path: "x", follow: true }), 3)).toThrow(/without follow/);
    expect(take(parquet({ path: "x" }), 3).unit).toBe("rows");
  });
});
