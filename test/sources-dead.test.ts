/** A source's dead letters: listed, shown, read again and dropped, in a program and by `keyturn dead --source`. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { counter } from "../actors/index.ts";
import { type Client, embedded, memory, startNode } from "../runtime/index.ts";
import { serveStore } from "../runtime/stores/socket/index.ts";
import {
  type AnySource,
  csv,
  defineSource,
  dropSourceDeadLetters,
  lines,
  ndjson,
  resetSource,
  retrySourceDeadLetter,
  runSource,
  sourceDeadLetters,
  type SourceReader,
  toldTo,
} from "../runtime/streams/index.ts";
import { testRuntime } from "../runtime/testing/index.ts";
import { cli } from "./support/cli-run.ts";
import { keyturnEnded, project, withPackage } from "./support/cli.ts";
import { temporaryPath } from "./support/temporary.ts";

withPackage();

function written(text: string): string {
  const path = join(temporaryPath(), "items.txt");
  writeFileSync(path, text);
  return path;
}

/** Of each line a number; lines that are none are malformed until the mapping is mended. */
function numbers(path: string, mended: boolean, options: { batch?: number; keepLetters?: number } = {}) {
  return defineSource("numbers", {
    from: lines({ path }),
    to: (line) => {
      const by = mended ? Number(line.replace("one", "1").replace(/[^0-9]/g, "")) : Number(line);
      return toldTo(counter, "k", { type: "add", by });
    },
    ...options,
  });
}

/** Tells what cannot be told by that function: the event does not fit. */
const isNumber = (line: string): boolean => /^\d+$/.test(line);

function strict(path: string, mended: boolean, options: { batch?: number; keepLetters?: number } = {}) {
  const { to } = numbers(path, mended);
  return defineSource("numbers", {
    from: lines({ path }),
    to: (line, info) => {
      if (!mended && !isNumber(line)) throw new Error(`"${line}" is no number`);
      return to?.(line, info);
    },
    ...options,
  });
}

async function idsOf(client: Client, source: AnySource | string): Promise<string[]> {
  const ids: string[] = [];
  for await (const { id } of sourceDeadLetters(client, source)) ids.push(id);
  return ids;
}

const countOf = async (client: Client): Promise<number> =>
  (await client.actor(counter, "k").get()).context.count;

async function hosting(source: { readonly actors: AnySource["actors"] }) {
  const node = await startNode({ actors: [counter, ...source.actors], store: memory() });
  onTestFinished(() => node.stop());
  return node.client;
}

it("an item that the source can use now counts once, and its letter goes; others stay", async () => {
  // A letter first in a batch, one within, and one first in the file.
  const path = written("1x\n2\n3\n4x\n5\n6x\n");
  const client = await hosting(strict(path, false, { batch: 3 }));
  await runSource(client, strict(path, false, { batch: 3 })).done;
  expect(await countOf(client)).toBe(2 + 3 + 5);
  expect(await idsOf(client, "numbers")).toEqual(["0.2", "0.1", "0.0"]);
  const mended = strict(path, true);
  await expect(retrySourceDeadLetter(client, strict(path, false), "0.1")).rejects.toMatchObject({
    code: "source_malformed",
    message: expect.stringContaining('"4x" is no number'),
  });
  expect(await retrySourceDeadLetter(client, mended, "0.1")).toBe(true);
  expect(await retrySourceDeadLetter(client, mended, "0.1")).toBe(false);
  // Two at once.
  const both = await Promise.all([0, 1].map(() => retrySourceDeadLetter(client, mended, "0.0")));
  expect(both.sort()).toEqual([false, true]);
  expect(await retrySourceDeadLetter(client, mended, "0.2")).toBe(true);
  await expect.poll(() => countOf(client)).toBe(2 + 3 + 5 + 4 + 1 + 6);
  expect(await idsOf(client, "numbers")).toEqual([]);
  expect(await retrySourceDeadLetter(client, mended, "7.0")).toBe(false);
  await expect(retrySourceDeadLetter(client, mended, "0-1")).rejects.toMatchObject({
    code: "invalid_options",
  });
});

it("power losses while they are tried again: each counts once", async () => {
  const bad = Array.from({ length: 40 }, (_, at) => `${at + 1}x`);
  const path = written(`${bad.join("\n")}\n`);
  const t = await testRuntime({ actors: [counter, ...strict(path, false).actors], nodes: 2, seed: 11 });
  t.deliveredTwice();
  await runSource(t.client, strict(path, false)).done;
  const mended = strict(path, true);
  let crashes = 0;
  for (const id of await idsOf(t.client, "numbers")) {
    const tried = retrySourceDeadLetter(t.client, mended, id);
    const settled = tried.then(
      () => true,
      () => true,
    );
    if (crashes++ % 3 === 0) {
      await t.pass(crashes % 7);
      await t.crash();
    }
    while (!(await Promise.race([settled, t.pass(5).then(() => false)])));
  }
  for (const id of await idsOf(t.client, "numbers")) await retrySourceDeadLetter(t.client, mended, id);
  await t.settle();
  expect(await idsOf(t.client, "numbers")).toEqual([]);
  expect(await countOf(t.client)).toBe((40 * 41) / 2);
});

it("letters are dropped by their ids, over pages and parts, and stay dropped", async () => {
  const bad = Array.from({ length: 150 }, (_, at) => `${at}x`).join("\n");
  const paths = [written(bad), written(bad)];
  const source = defineSource("numbers", {
    from: lines({ path: paths }),
    to: () => {
      throw new Error("none");
    },
    batch: 7,
  });
  const client = await hosting(source);
  await runSource(client, source).done;
  const ids = await idsOf(client, source);
  expect(ids).toHaveLength(300);
  const dropped = ids.filter((_, at) => at % 3 === 0);
  expect(await dropSourceDeadLetters(client, "numbers", [...dropped, "0.777", "9.1"])).toBe(100);
  expect(await dropSourceDeadLetters(client, "numbers", dropped)).toBe(0);
  expect(await idsOf(client, source)).toEqual(ids.filter((_, at) => at % 3 !== 0));
  await resetSource(client, source);
  expect(await idsOf(client, source)).toEqual([]);
});

it("by name as many are shown as by the definition, also where few are kept", async () => {
  const path = written(Array.from({ length: 400 }, (_, at) => `${at}x`).join("\n"));
  const source = strict(path, false, { keepLetters: 70 });
  const client = await hosting(source);
  await runSource(client, source).done;
  const ids = await idsOf(client, source);
  expect(ids).toHaveLength(70);
  expect(ids[0]).toBe("0.399");
  expect(await idsOf(client, "numbers")).toEqual(ids);
});

it("what cannot be read again says why, and its letter stays", async () => {
  const path = written('{"by":1}\noops\n{"by":2}\n');
  const source = defineSource<{ by: number }>("items", { from: ndjson({ path }), to: () => undefined });
  const client = await hosting(source);
  await runSource(client, source).done;
  await expect(retrySourceDeadLetter(client, source, "0.0")).rejects.toMatchObject({
    code: "source_malformed",
  });
  // The line is mended where it stands: the beginning of the file is what it is known by.
  writeFileSync(path, '{"by":1}\n{"":0}\n{"by":2}\n');
  await expect(retrySourceDeadLetter(client, source, "0.0")).rejects.toMatchObject({
    code: "source_changed",
  });
  const gone: SourceReader<{ by: number }> = {
    ...source.from,
    async *read(partition, position, options) {
      for await (const { items } of source.from.read(partition, position, options))
        yield { items: items.slice(1) };
    },
  };
  writeFileSync(path, '{"by":1}\noops\n{"by":2}\n');
  const moved = defineSource<{ by: number }>("items", { from: gone, to: () => undefined });
  await expect(retrySourceDeadLetter(client, moved, "0.0")).rejects.toMatchObject({ code: "source_changed" });
  expect(await idsOf(client, "items")).toEqual(["0.0"]);
});

it("a CSV record is read again with its header, combined items one by one", async () => {
  const path = written("key,by\na,1\nb\nk,x\nk,3\n");
  const source = (mended: boolean) =>
    defineSource("rows", {
      from: csv({ path }),
      toBatch: (rows: readonly Readonly<Record<string, string>>[]) =>
        rows.map(({ key = "", by = "" }) => {
          if (!mended && !isNumber(by)) throw new Error("no number");
          return toldTo(counter, key, { type: "add", by: isNumber(by) ? Number(by) : 10 });
        }),
    });
  const client = await hosting(source(false));
  await runSource(client, source(false)).done;
  expect(await idsOf(client, "rows")).toEqual(["0.1", "0.0"]);
  expect(await retrySourceDeadLetter(client, source(true), "0.1")).toBe(true);
  await expect.poll(() => countOf(client)).toBe(13);
  await expect(retrySourceDeadLetter(client, source(true), "0.0")).rejects.toMatchObject({
    message: expect.stringContaining("It has 1 fields, not 2."),
  });
});

it("keyturn dead --source lists, shows, reads again and drops them; dead list says how many there are", async () => {
  const data = join(temporaryPath(), "data");
  const path = written("1\none\n2\nx\n");
  const source = strict(path, false);
  const node = await startNode({
    actors: [counter],
    sources: [source],
    store: await embedded({ path: data, durability: "process" }),
  });
  const server = await serveStore(node.store, data);
  onTestFinished(async () => {
    await server.close();
    await node.stop();
  });
  const run = (...args: string[]) => cli([...args, "--data", data]);
  await expect.poll(() => idsOf(node.client, "numbers")).toEqual(["0.1", "0.0"]);
  const said = await run("dead");
  expect(said).toMatchObject({ code: 0, stdout: "" });
  expect(said.stderr).toMatch(
    /The source numbers could not use 2 items: keyturn dead list --source numbers\./,
  );
  expect((await run("dead", "--json")).rows).toEqual([{ source: "numbers", deadLetters: 2 }]);
  expect((await run("dead", "list", "--source", "numbers")).stdout).toMatch(
    /^id +time +of +number +error +begins\n0\.1 .* 4 +.*"x" is no number +"x"\n0\.0 .* 2 .*"one"\n$/,
  );
  const listed = await run("dead", "list", "--source", "numbers", "--limit", "1", "--json");
  expect(listed.rows).toMatchObject([{ source: "numbers", id: "0.1", of: path, number: 4, text: '"x"' }]);
  expect(listed.stderr).toMatch(/There are more/);
  expect((await run("dead", "show", "0.0", "--source", "numbers")).stdout).toMatch(
    /, 2 .*\n.*is no number\n"one"\n/,
  );
  expect(await run("dead", "show", "0.9", "--source", "numbers")).toMatchObject({ code: 5 });
  expect(await run("dead", "--source", "others")).toMatchObject({
    code: 5,
    stderr: expect.stringContaining("There are numbers."),
  });
  expect(await run("dead", "--source", "numbers", "--type", "counter")).toMatchObject({ code: 2 });
  expect(await run("dead", "retry", "0.0", "--source", "numbers")).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("--actors MODULE"),
  });
  const cwd = project({
    "feed.ts": `import { counter } from "keyturn/actors";
    import { defineSource, lines, toldTo } from "keyturn/streams";
    export const numbers = defineSource("numbers", {
      from: lines({ path: ${JSON.stringify(path)} }),
      to: (line) => {
        const by = line === "one" ? 1 : Number(line);
        if (Number.isNaN(by)) throw new Error("no number still");
        return toldTo(counter, "k", { type: "add", by });
      },
    });`,
  });
  const words = ["retry", "--all", "--source", "numbers", "--actors", "./feed.ts", "--json"];
  const retried = await keyturnEnded(["dead", ...words, "--data", data], { cwd });
  expect(retried.code, retried.stderr).toBe(3);
  expect(
    retried.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as object),
  ).toMatchObject([
    { event: "retried", id: "0.0" },
    { event: "refused", id: "0.1", error: { code: "source_malformed" } },
  ]);
  await expect.poll(() => countOf(node.client)).toBe(4);
  expect(await run("dead", "drop", "0.1", "--source", "numbers")).toMatchObject({
    code: 0,
    stdout: "Dropped 1 dead letter.\n",
  });
  expect(await run("dead", "drop", "0.1", "--source", "numbers")).toMatchObject({ code: 5 });
  expect(await run("dead", "drop", "--all", "--source", "numbers")).toMatchObject({ code: 5 });
  expect(await run("dead", "--source", "numbers")).toMatchObject({
    code: 0,
    stderr: "The source numbers has no dead letters.\n",
  });
  expect(await run("dead")).toMatchObject({ code: 0, stderr: "There are no dead letters.\n" });
});
