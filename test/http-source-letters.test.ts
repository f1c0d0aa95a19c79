/** Dead letters of sources over HTTP: listed, shown, read again and dropped, by real requests. */
import { appendFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { memory, startNode } from "keyturn";
import { type HttpOptions, serveHttp, type Wish } from "keyturn/http";
import {
  type AnySource,
  defineSource,
  dropSourceDeadLetters,
  http,
  lines,
  runSource,
  sourceEndpoint,
  toldTo,
} from "keyturn/streams";
import { expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import type { Member } from "../runtime/ports/index.ts";
import { afterwards, type Answer, ask, expectProblem, type Served, served } from "./support/http.ts";
import { temporaryPath } from "./support/temporary.ts";

/** A source of numbers, one a line. What is none is a letter, until `mended.is` is set. */
function numbers(
  name: string,
  text: string | readonly string[],
  options: { batch?: number; keepLetters?: number } = {},
) {
  const mended = { is: false };
  const paths = [text].flat().map((one) => {
    const path = join(temporaryPath(), "items.txt");
    writeFileSync(path, one);
    return path;
  });
  const source = defineSource(name, {
    from: lines({ path: paths }),
    to: (line) => {
      const by = Number(mended.is ? line.replace("x", "") : line);
      if (Number.isNaN(by)) throw new Error(`"${line}" is no number`);
      return toldTo(counter, "k", { type: "add", by });
    },
    ...options,
  });
  return { source, mended, paths };
}

/** A server of a node that hosts these sources and has read them. */
async function withRead(sources: readonly AnySource[], options: HttpOptions = {}): Promise<Served> {
  const all = await served([counter, ...sources.flatMap(({ actors }) => actors)], options);
  for (const source of sources)
    if (source.from.passive !== true) await runSource(all.node.client, source).done;
  return all;
}

const at = (source: string, id: string): string => `/sources/${source}/dead-letters/${id}`;
const countOf = async ({ node }: Served): Promise<number> =>
  (await node.client.actor(counter, "k").get()).context.count;

/** All letters of a source, by pages of so many; how many pages it took. */
async function paged(
  { call }: Served,
  source: string,
  limit: number,
): Promise<[ids: string[], pages: number]> {
  const ids: string[] = [];
  let cursor = "";
  for (let pages = 1; ; pages++) {
    const { status, body }: Answer = await call(
      "GET",
      `/sources/${source}/dead-letters?limit=${limit}${cursor === "" ? "" : `&cursor=${cursor}`}`,
    );
    expect(status).toBe(200);
    expect(body.letters.length).toBeLessThanOrEqual(limit);
    for (const { id } of body.letters) ids.push(id);
    if (body.next === undefined) return [ids, pages];
    cursor = body.next;
  }
}

/** Expects of each path that what it answers is what the OpenAPI document says. */
async function expectDescribed(call: Served["call"], templates: readonly string[]): Promise<void> {
  const document = (await call("GET", "/openapi.json")).body;
  const ajv = new Ajv2020({ strict: false, validateSchema: false, validateFormats: false });
  ajv.addSchema(document, "root");
  for (const template of templates) {
    const { schema } = document.paths[template].get.responses["200"].content["application/json"];
    const validate = ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"root#/')));
    const { body } = await call("GET", template.replace("{source}", "numbers").replace("{id}", "0.0"));
    validate(body);
    expect(validate.errors ?? [], template).toEqual([]);
  }
}

it("they are listed with what they are of, shown, read again and dropped", async () => {
  const { source, mended, paths } = numbers("numbers", "1\n2x\n3\nx\n");
  const other = numbers("others", "0\n");
  const all = await withRead([source, other.source]);
  const { call } = all;
  expect((await call("GET", "/sources")).body).toEqual({
    sources: [
      { source: "numbers", deadLetters: 2, more: false, retries: true },
      { source: "others", deadLetters: 0, more: false, retries: true },
    ],
  });
  const { status, body } = await call("GET", "/sources/numbers/dead-letters");
  const first = {
    source: "numbers",
    id: "0.0",
    partition: "0",
    of: paths[0],
    number: 2,
    reason: 'The mapping failed: "2x" is no number',
    text: '"2x"',
    time: expect.any(Number),
  };
  expect([status, body]).toEqual([
    200,
    { letters: [expect.objectContaining({ id: "0.1", number: 4, text: '"x"' }), first] },
  ]);
  expect((await call("GET", at("numbers", "0.0"))).body).toEqual(first);
  await expectDescribed(call, ["/sources", "/sources/{source}/dead-letters", at("{source}", "{id}")]);
  expect((await call("GET", "/sources/others/dead-letters")).body).toEqual({ letters: [] });

  const refused = await call("POST", `${at("numbers", "0.0")}/retry`);
  expectProblem(refused, 422, "source_malformed");
  expect(refused.body).toMatchObject({
    detail: expect.stringContaining('"2x" is no number'),
    retryable: false,
  });
  mended.is = true;
  const taken = await call("POST", `${at("numbers", "0.0")}/retry`);
  expect([taken.status, taken.body]).toEqual([204, ""]);
  await expect.poll(() => countOf(all)).toBe(1 + 3 + 2);
  expectProblem(await call("POST", `${at("numbers", "0.0")}/retry`), 404, "invalid_options");
  expectProblem(await call("GET", at("numbers", "0.0")), 404, "invalid_options");
  expect((await call("DELETE", at("numbers", "0.1"))).status).toBe(204);
  expectProblem(await call("DELETE", at("numbers", "0.1")), 404, "invalid_options");
  expect((await call("GET", "/sources/numbers/dead-letters")).body).toEqual({ letters: [] });
  expect(await countOf(all)).toBe(6);
  expect(all.faults).toEqual([]);
});

it("however many read one letter again at once, its item counts once", async () => {
  const { source, mended } = numbers("numbers", "5x\n");
  const all = await withRead([source]);
  mended.is = true;
  const answers = await Promise.all(
    Array.from({ length: 12 }, () => all.call("POST", `${at("numbers", "0.0")}/retry`)),
  );
  expect(answers.filter(({ status }) => status === 204)).toHaveLength(1);
  for (const { status } of answers) expect([204, 404]).toContain(status);
  await expect.poll(() => countOf(all)).toBe(5);
});

it("pages give each letter once, whatever was dropped and comes between them", async () => {
  const bad = (count: number) => Array.from({ length: count }, (_, n) => `${n}x`).join("\n");
  const { source } = numbers("numbers", [bad(150), "1\n2\n", bad(70)], { batch: 11 });
  const all = await withRead([source]);
  const { call, node } = all;
  const ids = [
    ...Array.from({ length: 150 }, (_, n) => `0.${149 - n}`),
    ...Array.from({ length: 70 }, (_, n) => `2.${69 - n}`),
  ];
  for (const limit of [7, 64, 75, 150, 1_000]) expect((await paged(all, "numbers", limit))[0]).toEqual(ids);
  expect(await paged(all, "numbers", 110)).toEqual([ids, 2]);
  expect((await call("GET", "/sources")).body.sources).toEqual([
    { source: "numbers", deadLetters: 100, more: true, retries: true },
  ]);
  await dropSourceDeadLetters(node.client, "numbers", ids.slice(10, 140));
  expect((await paged(all, "numbers", 9))[0]).toEqual([...ids.slice(0, 10), ...ids.slice(140)]);
  // What a cursor points at may be gone meanwhile.
  const { next } = (await call("GET", "/sources/numbers/dead-letters?limit=3")).body;
  expect((await call("DELETE", at("numbers", next))).status).toBe(204);
  const behind = (await call("GET", `/sources/numbers/dead-letters?limit=2&cursor=${next}`)).body;
  expect(behind.letters.map(({ id }: { id: string }) => id)).toEqual(ids.slice(3, 5));
});

it("an answer is bounded: in bytes, and in what is looked at for it", async () => {
  const text = Array.from({ length: 60 }, () => `x${"y".repeat(400)}`).join("\n");
  const wide = numbers("wide", text);
  // More pages of letters than one answer looks at, of which few are left; and one letter in a part behind them.
  const bad = Array.from({ length: 20_000 }, () => "x").join("\n");
  const long = numbers("long", [bad, "last"], { batch: 3_000, keepLetters: 20_000 });
  const all = await withRead([wide.source, long.source], { limits: { answerBytes: 10_000 } });
  const { call, node } = all;
  const page = (await call("GET", "/sources/wide/dead-letters")).body;
  expect(JSON.stringify(page).length).toBeLessThan(11_000);
  expect(page.letters.length).toBeGreaterThan(5);
  expect((await paged(all, "wide", 100))[0]).toEqual(Array.from({ length: 60 }, (_, n) => `0.${59 - n}`));
  const left = ["0.19999", "0.3700", "0.3000", "0.5", "0.0"];
  const dropped = Array.from({ length: 20_000 }, (_, n) => `0.${n}`).filter((id) => !left.includes(id));
  expect(await dropSourceDeadLetters(node.client, "long", dropped)).toBe(20_000 - left.length);
  const first = (await call("GET", "/sources/long/dead-letters?limit=50")).body;
  // 256 of 313 pages.
  expect(first.letters.map(({ id }: { id: string }) => id)).toEqual(["0.19999", "0.3700"]);
  expect(await paged(all, "long", 50)).toEqual([[...left, "1.0"], 2]);
});

it("many parts without letters are looked through some at a time", async () => {
  const names = Array.from({ length: 300 }, (_, n) => `p${n}`);
  const source = defineSource<number>("posted", {
    from: http<number>(),
    to: (by) => {
      if (by < 0) throw new Error("below zero");
      return toldTo(counter, "k", { type: "add", by });
    },
  });
  const all = await withRead([source]);
  const endpoint = createServer(sourceEndpoint(all.node.client, source));
  await new Promise<void>((resolve) => endpoint.listen(0, "127.0.0.1", resolve));
  afterwards(async () => {
    endpoint.closeAllConnections();
    endpoint.close();
  });
  const url = `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}`;
  for (const [n, name] of names.entries())
    await ask(url, "POST", "/", {
      body: n === 299 ? "-7" : "1",
      headers: { "keyturn-producer": name, "keyturn-sequence": "1" },
    });
  const first = (await all.call("GET", "/sources/posted/dead-letters")).body;
  expect(first).toEqual({ letters: [], next: "255.0" });
  expect(await paged(all, "posted", 100)).toEqual([["299.0"], 2]);
  expect((await all.call("GET", "/sources")).body.sources).toMatchObject([{ deadLetters: 0, more: true }]);
  // What came by a request is read from its letter.
  expectProblem(await all.call("POST", `${at("posted", "299.0")}/retry`), 422, "source_malformed");
});

it("what is no source, no letter, no cursor or no parameter is refused", async () => {
  const { source } = numbers("numbers", "x\n");
  const { call, faults } = await withRead([source]);
  for (const name of ["none", "__proto__", "%2e%2e%2f", "a%2fb", "x".repeat(500), "%F0%9F%92%A5"])
    for (const [method, path] of [
      ["GET", `/sources/${name}/dead-letters`],
      ["GET", at(name, "0.0")],
      ["POST", `${at(name, "0.0")}/retry`],
      ["DELETE", at(name, "0.0")],
    ] as const)
      expectProblem(await call(method, path), 404, "invalid_options");
  for (const id of ["1", "1-0", "x", "0.0.0", "99999.0", "0.9999999999999999", "%2e%2e%2f"])
    for (const [method, path] of [
      ["GET", at("numbers", id)],
      ["POST", `${at("numbers", id)}/retry`],
      ["DELETE", at("numbers", id)],
      ["GET", `/sources/numbers/dead-letters?cursor=${id}`],
    ] as const)
      expectProblem(await call(method, path), 400, "invalid_options");
  for (const query of ["?limit=0", "?limit=1001", "?limit=x", "?all=true", "?limit=1&limit=2"])
    expectProblem(await call("GET", `/sources/numbers/dead-letters${query}`), 400, "invalid_options");
  expectProblem(await call("GET", "/sources?limit=1"), 400, "invalid_options");
  expectProblem(await call("DELETE", `${at("numbers", "0.0")}?all=true`), 400, "invalid_options");
  expectProblem(await call("GET", `${at("numbers", "0.0")}/retry`), 405, "invalid_options");
  const timeout = { headers: { "keyturn-timeout": "none" } };
  expectProblem(await call("POST", `${at("numbers", "0.0")}/retry`, timeout), 400, "invalid_options");
  expect((await call("GET", "/sources/numbers/dead-letters?cursor=9999.0")).body).toEqual({ letters: [] });
  expectProblem(await call("GET", at("numbers", "9.0")), 404, "invalid_options");
  expect(faults).toEqual([]);
});

it("it is asked who may, with the source and the part; nobody else learns what there is", async () => {
  const { source, mended } = numbers("numbers", "4x\n");
  const other = numbers("others", "x\n");
  const wishes: Partial<Wish>[] = [];
  const may = new Set(["deadLetters source-numbers"]);
  const all = await withRead([source, other.source], {
    authorize: ({ action, type, key, event }) => {
      wishes.push({ action, type, key, event });
      return may.has(`${action} ${type}`);
    },
  });
  const { call } = all;
  const last = () => wishes.at(-1);
  expect((await call("GET", "/sources")).body.sources).toMatchObject([{ source: "numbers" }]);
  for (const name of ["others", "none"])
    for (const [method, path] of [
      ["GET", `/sources/${name}/dead-letters`],
      ["GET", at(name, "0.0")],
      ["POST", `${at(name, "0.0")}/retry`],
      ["DELETE", at(name, "0.0")],
    ] as const) {
      expectProblem(await call(method, path), 403, "access_denied");
      expect(last()).toEqual({
        action: "deadLetters",
        type: `source-${name}`,
        key: undefined,
        event: undefined,
      });
    }
  mended.is = true;
  expect((await call("GET", at("numbers", "0.0"))).status).toBe(200);
  expectProblem(await call("POST", `${at("numbers", "0.0")}/retry`), 403, "access_denied");
  expect(last()).toEqual({ action: "retryDeadLetter", type: "source-numbers", key: "0", event: undefined });
  expectProblem(await call("DELETE", at("numbers", "0.0")), 403, "access_denied");
  expect(last()).toEqual({ action: "dropDeadLetter", type: "source-numbers", key: "0", event: undefined });
  expect((await call("GET", "/sources/numbers/dead-letters")).body.letters).toHaveLength(1);
  expect(await countOf(all)).toBe(0);
  may.clear();
  expectProblem(await call("GET", "/sources"), 403, "access_denied");
});

it("a node that does not host the source lists and drops, and says who can read again", async () => {
  const { source } = numbers("numbers", "1x\n2x\n");
  const store = memory();
  const members = store.directory.members.bind(store.directory);
  const hosting = await startNode({ actors: [counter, ...source.actors], store, name: "hosting", shards: 8 });
  afterwards(() => hosting.stop());
  await runSource(hosting.client, source).done;
  // So light that it serves no shard.
  const beside = await startNode({ actors: [counter], store, name: "beside", shards: 8, weight: 1e-9 });
  afterwards(() => beside.stop({ closeStore: false }));
  const server = await serveHttp(beside, { listen: "127.0.0.1:0" });
  afterwards(() => server.close());
  expect((await ask(server.url, "GET", "/sources")).body.sources).toEqual([
    { source: "numbers", deadLetters: 2, more: false, retries: false },
  ]);
  const refused = await ask(server.url, "POST", `${at("numbers", "0.0")}/retry`);
  expectProblem(refused, 409, "invalid_options");
  expect(refused.body.detail).toMatch(/does not host the source numbers/);
  expect((await ask(server.url, "DELETE", at("numbers", "0.0"))).status).toBe(204);
  // Where nobody serves them just now they are not known, and the list is there all the same.
  store.directory.members = async () => [
    ...(await members()),
    { ...((await members())[0] as Member), types: ["source-away-plan"] },
  ];
  expect((await ask(server.url, "GET", "/sources")).body.sources).toEqual([
    { source: "away", more: false, retries: false },
    { source: "numbers", deadLetters: 1, more: false, retries: false },
  ]);
  // A client that is served has no store: there it is as with other dead letters.
  const bare = await serveHttp(beside.client, { listen: "127.0.0.1:0" });
  afterwards(() => bare.close());
  expectProblem(await ask(bare.url, "GET", "/sources"), 404, "invalid_address");
});

it("an item whose file is gone says so, and the letter stays", async () => {
  const { source, mended, paths } = numbers("numbers", "1\n2x\n");
  const all = await withRead([source]);
  mended.is = true;
  writeFileSync(paths[0] as string, "other\nlines\n");
  expectProblem(await all.call("POST", `${at("numbers", "0.0")}/retry`), 409, "source_changed");
  expect((await all.call("GET", at("numbers", "0.0"))).status).toBe(200);
});

it("while the node reads the source: what is read again does not get in its way", async () => {
  const path = join(temporaryPath(), "items.log");
  writeFileSync(path, "1\n2x\n");
  const mended = { is: false };
  const source = defineSource("log", {
    from: lines({ path, follow: true, poll_ms: 5 }),
    to: (line) => {
      if (line.endsWith("x") && !mended.is) throw new Error("no number");
      return toldTo(counter, "k", { type: "add", by: Number.parseInt(line, 10) });
    },
  });
  const node = await startNode({ actors: [counter], sources: [source], store: memory(), shards: 8 });
  afterwards(() => node.stop());
  const server = await serveHttp(node, { listen: "127.0.0.1:0" });
  afterwards(() => server.close());
  const count = async (): Promise<number> => (await node.client.actor(counter, "k").get()).context.count;
  const listed = async () => (await ask(server.url, "GET", "/sources/log/dead-letters")).body.letters.length;
  await expect.poll(listed).toBe(1);
  mended.is = true;
  const retried = ask(server.url, "POST", `${at("log", "0.0")}/retry`);
  appendFileSync(path, "10\n20\n");
  expect((await retried).status).toBe(204);
  appendFileSync(path, "30\n");
  await expect.poll(count).toBe(1 + 2 + 10 + 20 + 30);
  const [status] = await node.sources();
  expect(status).toMatchObject({ items: 5, malformed: 1, lag: 0, runners: [expect.any(String)] });
});
