/** CSV logs that are rotated: each file has a header of its own, wherever in it the reading begins. */
import {
  appendFileSync,
  copyFileSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, it, vi } from "vitest";
import { type Client, memory, type Store, startNode } from "../runtime/index.ts";
import {
  csv,
  type CsvOptions,
  defineSource,
  retrySourceDeadLetter,
  runSource,
  sourceDeadLetters,
  type SourceRun,
  toldTo,
} from "../runtime/streams/index.ts";
import { list, listed } from "./support/list.ts";
import { temporaryPath } from "./support/temporary.ts";

function logOf(path: string, options: Partial<CsvOptions> = {}) {
  return defineSource("log", {
    from: csv<Record<string, string> | string[]>({
      path,
      follow: true,
      rotated: true,
      poll_ms: 5,
      ...options,
    }),
    batch: 3,
    to: (row) => toldTo(list, "all", { type: "add", text: JSON.stringify(row) }),
  });
}

/** Runs the source in one life while something is done. */
async function followed(
  store: Store,
  log: ReturnType<typeof logOf>,
  work: (all: (...rows: readonly object[]) => Promise<void>, run: SourceRun, client: Client) => Promise<void>,
): Promise<void> {
  const node = await startNode({ actors: [list, ...log.actors], store });
  const run = runSource(node.client, log, { lease_ms: 300 });
  run.done.catch(() => undefined);
  const seen = async (): Promise<unknown[]> =>
    (await listed(node.client)).map((text) => JSON.parse(text) as unknown);
  const all = async (...rows: readonly object[]): Promise<void> => {
    await vi.waitFor(async () => expect(await seen()).toEqual(rows), { timeout: 20_000, interval: 20 });
  };
  try {
    await work(all, run, node.client);
  } finally {
    await run.stop();
    await node.stop({ closeStore: false });
  }
}

const pathOf = (): string => join(temporaryPath(), "rows.csv");

it("the next file has other columns; a reading that begins within a file knows its header", async () => {
  const path = pathOf();
  const store = memory();
  // With a mark of its encoding, an empty line, and a line break within a name.
  writeFileSync(path, '\ufeff\n"a\nb",c\n1,2\n');
  const first = [
    { "a\nb": "1", c: "2" },
    { "a\nb": "3", c: "4" },
  ];
  await followed(store, logOf(path), async (all) => {
    await all(first[0] as object);
    appendFileSync(path, "3,4\n");
    await all(...first);
  });
  appendFileSync(path, '5,"6\n6"\n');
  const second = [...first, { "a\nb": "5", c: "6\n6" }];
  await followed(store, logOf(path), async (all) => {
    await all(...second);
    renameSync(path, `${path}.1`);
    // The header comes piece by piece.
    writeFileSync(path, "c,");
    await all(...second);
    appendFileSync(path, "d,e\n7,8,9\n");
    await all(...second, { c: "7", d: "8", e: "9" });
  });
});

it("it was rotated and compressed while nobody followed it: in the midst of a file, and in files that were never seen", async () => {
  const path = pathOf();
  const store = memory();
  const names = (file: number): string => `id,of${file}\n`;
  writeFileSync(path, `${names(0)}1,a\n`);
  await followed(store, logOf(path), (all) => all({ id: "1", of0: "a" }));
  appendFileSync(path, "2,b\n");
  const files = [3, 2, 1];
  for (const [at, to] of files.entries()) {
    if (at > 0) writeFileSync(path, `${names(at)}${at * 10},x\n`);
    renameSync(path, `${path}.${to}`);
    const when = new Date(1_700_000_000_000 + at * 60_000);
    utimesSync(`${path}.${to}`, when, when);
  }
  for (const to of [3, 2]) {
    const { atime, mtime } = statSync(`${path}.${to}`);
    writeFileSync(`${path}.${to}.gz`, gzipSync(readFileSync(`${path}.${to}`)));
    utimesSync(`${path}.${to}.gz`, atime, mtime);
    rmSync(`${path}.${to}`);
  }
  writeFileSync(path, `${names(9)}90,z\n`);
  await followed(store, logOf(path), (all) =>
    all(
      { id: "1", of0: "a" },
      { id: "2", of0: "b" },
      { id: "10", of1: "x" },
      { id: "20", of2: "x" },
      { id: "90", of9: "z" },
    ),
  );
});

it("it is cut after it was copied: the copy has the header still", async () => {
  const path = pathOf();
  writeFileSync(path, "id,n\n1,a\n");
  await followed(memory(), logOf(path), async (all) => {
    await all({ id: "1", n: "a" });
    appendFileSync(path, "2,b\n");
    copyFileSync(path, `${path}.1`);
    truncateSync(path, 0);
    appendFileSync(path, "n\nc\n");
    await all({ id: "1", n: "a" }, { id: "2", n: "b" }, { n: "c" });
  });
});

it("without a header in the files, or with names of one's own", async () => {
  for (const [header, rows] of [
    [
      false,
      [
        ["1", "a"],
        ["2", "b"],
      ],
    ],
    [
      ["id", "n"],
      [
        { id: "1", n: "a" },
        { id: "2", n: "b" },
      ],
    ],
  ] as const) {
    const path = pathOf();
    writeFileSync(path, "1,a\n");
    await followed(memory(), logOf(path, { header }), async (all) => {
      await all(rows[0]);
      renameSync(path, `${path}.1`);
      writeFileSync(path, "2,b\n");
      await all(...rows);
    });
  }
});

it("a record is judged by the header of its file, and can be read again there", async () => {
  const path = pathOf();
  const store = memory();
  writeFileSync(path, "a,b\n1,2\n3\n");
  const log = logOf(path);
  await followed(store, log, async (all, run, client) => {
    await all({ a: "1", b: "2" });
    renameSync(path, `${path}.1`);
    writeFileSync(path, "a\n3,4\n5\n");
    await all({ a: "1", b: "2" }, { a: "5" });
    const letters = [];
    for await (const { id, number, reason } of sourceDeadLetters(client, log))
      letters.push([id, number, reason]);
    expect(letters).toEqual([
      ["0.1", 2, "It has 2 fields, not 1."],
      ["0.0", 3, "It has 1 fields, not 2."],
    ]);
    await run.stop();
    await expect(retrySourceDeadLetter(client, log, "0.0")).rejects.toThrow(/It has 1 fields, not 2\./);
  });
});

it("a header that cannot be read ends the source, and says of which file", async () => {
  const path = pathOf();
  writeFileSync(path, "a,b\n1,2\n");
  await followed(memory(), logOf(path), async (all, run) => {
    await all({ a: "1", b: "2" });
    renameSync(path, `${path}.1`);
    writeFileSync(path, "a,a\n1,2\n");
    await expect(run.done).rejects.toMatchObject({
      code: "source_malformed",
      message: expect.stringMatching(/The header of .*rows\.csv has a name twice/),
    });
  });
  expect(() => csv({ path, rotated: true })).toThrow(/followed/);
});
