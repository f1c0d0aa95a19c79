/** Sources of HTTP: real requests to a real server. */
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect as connectTcp } from "node:net";
import { onTestFinished, describe, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { type Client, type KeyturnNode, memory, startNode } from "../runtime/index.ts";
import {
  type AnySource,
  defineSource,
  dropSourceDeadLetters,
  type EndpointOptions,
  http,
  ndjson,
  retrySourceDeadLetter,
  runSource,
  sourceDeadLetters,
  sourceEndpoint,
  sourceStatus,
  toldTo,
} from "../runtime/streams/index.ts";
import { testRuntime } from "../runtime/testing/index.ts";

interface Add {
  readonly key: string;
  readonly by: number;
}

const adds = defineSource<Add>("adds", {
  from: http<Add>(),
  to: ({ key, by }) => toldTo(counter, key, { type: "add", by }),
  batch: 7,
});

const rows = (from: number, to: number): Add[] =>
  Array.from({ length: to - from }, (_, n) => ({ key: "k", by: 2 ** (from + n) }));
const lines = (items: readonly unknown[]): string => items.map((item) => JSON.stringify(item)).join("\n");

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  readonly headers: Headers;
}

async function listen(client: Client, options?: EndpointOptions, source: AnySource = adds): Promise<string> {
  const server: Server = createServer(sourceEndpoint(client, source, options));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/sources/adds`;
}

async function started(): Promise<KeyturnNode> {
  const node = await startNode({ actors: [counter, ...adds.actors], store: memory() });
  onTestFinished(() => node.stop());
  return node;
}

async function ask(
  url: string,
  headers: Record<string, string>,
  body?: string | Uint8Array,
): Promise<Answer> {
  const init = body === undefined ? { headers } : { method: "POST", headers, body };
  const answer = await fetch(url, init as RequestInit);
  return { status: answer.status, body: (await answer.json()) as Answer["body"], headers: answer.headers };
}

const NDJSON = { "content-type": "application/x-ndjson" };
const from = (producer: string, sequence: number) => ({
  ...NDJSON,
  "keyturn-producer": producer,
  "keyturn-sequence": String(sequence),
});

async function count(client: Client): Promise<number> {
  // What is told may still be on its way when the request is answered.
  for await (const { context } of client.actor(counter, "k").watch()) return context.count;
  return -1;
}

/** Waits until everything told is delivered. */
async function delivered(client: Client, items: number): Promise<void> {
  while ((await sourceStatus(client, adds)).delivered < items)
    await new Promise((done) => setImmediate(done));
}

describe("a producer that numbers its items", () => {
  it("may repeat what it likes, and goes on where it is told", async () => {
    const { client } = await started();
    const url = await listen(client);
    expect((await ask(url, { "keyturn-producer": "p" })).body).toEqual({ next: 1 });
    expect((await ask(url, from("p", 1), lines(rows(0, 20)))).body).toEqual({
      next: 21,
      accepted: 20,
      repeated: 0,
      malformed: 0,
    });
    expect((await ask(url, from("p", 1), lines(rows(0, 20)))).body).toEqual({
      next: 21,
      accepted: 0,
      repeated: 20,
      malformed: 0,
    });
    expect((await ask(url, from("p", 16), lines(rows(15, 30)))).body).toEqual({
      next: 31,
      accepted: 10,
      repeated: 5,
      malformed: 0,
    });
    const gap = await ask(url, from("p", 40), lines(rows(0, 1)));
    expect(gap).toMatchObject({
      status: 409,
      body: { next: 31, detail: expect.stringMatching(/^Item 31 is expected, not 40/) },
    });
    expect(gap.headers.get("content-type")).toBe("application/problem+json");
    expect((await ask(url, { "keyturn-producer": "p" })).body).toEqual({ next: 31 });
    await delivered(client, 30);
    expect(await count(client)).toBe(2 ** 30 - 1);
    expect(await sourceStatus(client, adds)).toMatchObject({ items: 30, told: 30, unit: "items", lag: 0 });
  });

  it("is served by several processes at once: each item counts once", async () => {
    const node = await started();
    const urls = [await listen(node.client), await listen(node.client)];
    const body = lines(rows(0, 30));
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, n) => ask(urls[n % 2]!, from("p", 1), body)),
    );
    expect(new Set(answers.map(({ status, body: { next } }) => `${status} ${next}`))).toEqual(
      new Set(["200 31"]),
    );
    await delivered(node.client, 30);
    expect(await count(node.client)).toBe(2 ** 30 - 1);
  });

  it("items of a list, and malformed lines with their numbers", async () => {
    const { client } = await started();
    const url = await listen(client);
    const json = { ...from("p", 1), "content-type": "application/json; charset=utf-8" };
    expect((await ask(url, json, JSON.stringify(rows(0, 3)))).body).toMatchObject({ next: 4, accepted: 3 });
    const body = `${lines(rows(3, 5))}\n{oops\n\n${lines(rows(5, 6))}\n7`;
    expect((await ask(url, from("p", 4), body)).body).toEqual({
      next: 9,
      accepted: 5,
      repeated: 0,
      malformed: 2,
    });
    const letters: unknown[] = [];
    for await (const { of, number, text } of sourceDeadLetters(client, adds))
      letters.push([of, number, text]);
    expect(letters).toEqual([
      ["p", 8, "7"],
      ["p", 6, "{oops"],
    ]);
    await delivered(client, 8);
    expect(await count(client)).toBe(63);
  });

  it("power losses between requests lose and repeat nothing", async () => {
    const t = await testRuntime({ actors: [counter, ...adds.actors], seed: 5 });
    const url = await listen(t.client);
    for (let at = 0; at < 24; at += 8) {
      const asked = ask(url, from("p", at + 1), lines(rows(at, at + 8)));
      await t.pass(20 + at);
      await t.crash();
      const { status } = await asked;
      expect(status).toBe(200);
      expect((await ask(url, from("p", at + 1), lines(rows(at, at + 8)))).body).toMatchObject({
        next: at + 9,
      });
    }
    await t.settle();
    expect((await t.client.actor(counter, "k").get()).context.count).toBe(2 ** 24 - 1);
    await t.stop();
  });
});

describe("a request with an Idempotency-Key", () => {
  it("counts once, whoever repeats it", async () => {
    const { client } = await started();
    const urls = [await listen(client), await listen(client)];
    const keyed = (key: string) => ({ ...NDJSON, "idempotency-key": key });
    const answers = await Promise.all(
      Array.from({ length: 6 }, (_, n) => ask(urls[n % 2]!, keyed("one"), lines(rows(0, 20)))),
    );
    for (const { status, body } of answers)
      expect([status, body]).toEqual([200, { accepted: 20, malformed: 0 }]);
    await ask(urls[0]!, keyed("two"), lines(rows(20, 21)));
    await delivered(client, 21);
    expect(await count(client)).toBe(2 ** 21 - 1);
    expect(await sourceStatus(client, adds)).toMatchObject({ items: 21, told: 21 });
  });

  it("used again with another body is refused, and nothing of that counts", async () => {
    const { client } = await started();
    const url = await listen(client);
    const headers = { ...NDJSON, "idempotency-key": "one" };
    expect((await ask(url, headers, lines(rows(0, 3)))).status).toBe(200);
    expect(await ask(url, headers, lines(rows(3, 6)))).toMatchObject({
      status: 422,
      body: { code: "request_id_reused", outcome: "rejected", retryable: false },
    });
    expect((await ask(url, headers, lines(rows(0, 3)))).status).toBe(200);
    expect(await sourceStatus(client, adds)).toMatchObject({ items: 3 });
  });

  it("with items that cannot be sent they are letters, once", async () => {
    const { client } = await started();
    const url = await listen(client);
    const body = lines([...rows(0, 9), { key: "k".repeat(400), by: 1 }, ...rows(9, 12)]);
    const headers = { ...NDJSON, "idempotency-key": "bad" };
    for (let n = 0; n < 2; n++)
      expect((await ask(url, headers, body)).body).toEqual({ accepted: 13, malformed: 1 });
    await delivered(client, 13);
    expect(await sourceStatus(client, adds)).toMatchObject({ items: 13, malformed: 1, told: 12 });
    expect(await count(client)).toBe(2 ** 12 - 1);
  });
});

describe("items that could not be used", () => {
  /** Refuses what is not mended; its types are those of `adds`. */
  const source = (mended: boolean, batch = 7) =>
    defineSource<Add>("adds", {
      from: http<Add>(),
      to: ({ key, by }) => {
        if (!mended && by >= 1_000) throw new Error("too much");
        return toldTo(counter, key, { type: "add", by });
      },
      batch,
    });
  const posting = async (client: Client, batch?: number): Promise<string> =>
    listen(client, {}, source(false, batch));
  const letters = async (client: Client) => {
    const found: { id: string; number: number; text: string }[] = [];
    for await (const { id, number, text } of sourceDeadLetters(client, "adds"))
      found.push({ id, number, text });
    return found;
  };
  const keyed = { ...NDJSON, "idempotency-key": "one" };

  it.each([
    ["of a producer that numbers them", from("p", 1)],
    ["of a request with a key", keyed],
  ])("%s are kept with their letters, and count once when they are tried again", async (_, headers) => {
    const { client } = await started();
    const url = await posting(client);
    const items = [...rows(0, 3), { key: "k", by: 1_000, note: "é".repeat(1_500) }, { key: "k", by: 4_000 }];
    expect((await ask(url, headers, lines(items))).body).toMatchObject({ accepted: 5, malformed: 2 });
    const [second, first] = await letters(client);
    expect([first?.number, JSON.parse(first?.text ?? "")]).toEqual([4, items[3]]);
    await expect(retrySourceDeadLetter(client, source(false), first?.id ?? "")).rejects.toMatchObject({
      code: "source_malformed",
      message: expect.stringMatching(/^Item 4 of .* still cannot be used: The mapping failed: too much/),
    });
    const mended = source(true);
    const tried = await Promise.all(
      [1, 2, 3].map(() => retrySourceDeadLetter(client, mended, first?.id ?? "")),
    );
    expect(tried.sort()).toEqual([false, false, true]);
    expect(await retrySourceDeadLetter(client, mended, second?.id ?? "")).toBe(true);
    expect(await letters(client)).toEqual([]);
    // The request that brought them is repeated: they are known.
    expect((await ask(url, headers, lines(items))).status).toBe(200);
    await expect.poll(() => count(client)).toBe(5_007);
    expect(await letters(client)).toEqual([]);
  });

  it("that are too large, or no JSON, or more than JSON says cannot be tried again, and say why", async () => {
    const { client } = await started();
    const url = await posting(client);
    const body = [
      JSON.stringify({ key: "k", by: 1_000, note: "x".repeat(4_096) }),
      `{oops${"!".repeat(300)}`,
      `{"key":"k","by":1e400}`,
    ].join("\n");
    expect((await ask(url, from("p", 1), body)).body).toMatchObject({ malformed: 3 });
    const [infinite, broken, large] = await letters(client);
    expect(large?.text).toHaveLength(501);
    const mended = source(true);
    const trying = (id = "") => retrySourceDeadLetter(client, mended, id);
    await expect(trying(large?.id)).rejects.toMatchObject({
      code: "source_changed",
      message: expect.stringContaining("is not kept whole"),
    });
    await expect(trying(broken?.id)).rejects.toMatchObject({
      code: "source_malformed",
      message: expect.stringContaining("It is not JSON"),
    });
    await expect(trying(infinite?.id)).rejects.toMatchObject({ code: "source_changed" });
    expect(await letters(client)).toHaveLength(3);
    expect(await dropSourceDeadLetters(client, "adds", ["0.0", "0.1", "0.2"])).toBe(3);
    await delivered(client, 3);
    expect(await count(client)).toBe(0);
  });

  it("of a mapping that fails for all: a producer's are all kept, in as many batches as it takes", async () => {
    const { client } = await started();
    const url = await posting(client, 500);
    const items = Array.from({ length: 500 }, () => ({ key: "k", by: 1_000, note: "x".repeat(4_000) }));
    expect((await ask(url, from("p", 1), lines(items))).body).toMatchObject({ next: 501, malformed: 500 });
    const found = await letters(client);
    expect(found.map(({ number }) => number)).toEqual(items.map((_, at) => 500 - at));
    for (const { text } of found) expect(JSON.parse(text)).toEqual(items[0]);
    expect(await retrySourceDeadLetter(client, source(true), found[499]?.id ?? "")).toBe(true);
    await expect.poll(() => count(client)).toBe(1_000);
  });

  it("of a request with a key are as many as one batch has room for; the request stays what it was", async () => {
    const { client } = await started();
    const url = await posting(client, 500);
    const itemsOf = (length: number) =>
      Array.from({ length }, (_, at) => ({ key: "k", by: 1_000 + at, note: "x".repeat(1_500) }));
    for (const [key, length, partition] of [
      ["one", 150, "0"],
      // Too many for one batch however short their letters are.
      ["two", 500, "1"],
    ] as const) {
      const headers = { ...NDJSON, "idempotency-key": key };
      for (let n = 0; n < 2; n++)
        expect((await ask(url, headers, lines(itemsOf(length)))).body).toEqual({
          accepted: length,
          malformed: length,
        });
      const { items, malformed } = (await client.actor(`source-adds/${partition}`).get()).context as never;
      expect([items, malformed]).toEqual([length, length]);
    }
    expect((await client.actor("source-adds/0").get()).context).toMatchObject({ revision: 1 });
    const found = (await letters(client)).filter(({ id }) => id.startsWith("0."));
    const kept = found.filter(({ text }) => text.endsWith("}"));
    expect(kept.length).toBeGreaterThan(50);
    expect(kept.map(({ number }) => number)).toEqual(kept.map((_, at) => kept.length - at));
    expect(found.filter(({ text }) => text.endsWith("…"))).toHaveLength(150 - kept.length);
    await expect(retrySourceDeadLetter(client, source(true), "0.149")).rejects.toThrow(/smaller requests/);
    expect(await retrySourceDeadLetter(client, source(true), "0.0")).toBe(true);
    await expect.poll(() => count(client)).toBe(1_000);
  });

  it("of a request with a key keep nothing where its messages leave no room; it is one batch still", async () => {
    const { client } = await started();
    const wide = defineSource<Add & { readonly note: string }>("adds", {
      from: http(),
      to: ({ key, by, note }) => {
        if (by >= 1_000) throw new Error("too much");
        return { to: `counter/${key}`, event: { type: "add", by, note } };
      },
    });
    const url = await listen(client, {}, wide);
    const items = Array.from({ length: 130 }, (_, at) =>
      at < 30
        ? { key: "k", by: 1_000, note: "x".repeat(4_000) }
        : { key: "k", by: 1, note: "y".repeat(2_000) },
    );
    for (let n = 0; n < 2; n++)
      expect((await ask(url, keyed, lines(items))).body).toEqual({ accepted: 130, malformed: 30 });
    expect((await client.actor("source-adds/0").get()).context).toMatchObject({ revision: 1, items: 130 });
    const found = await letters(client);
    expect(found).toHaveLength(30);
    for (const { text } of found) expect(text).toHaveLength(501);
    await expect.poll(() => count(client)).toBe(100);
  });

  it("power losses while they are tried again: each counts once", async () => {
    const t = await testRuntime({ actors: [counter, ...adds.actors], nodes: 2, seed: 23 });
    const url = await posting(t.client);
    const items = Array.from({ length: 30 }, (_, at) => ({ key: "k", by: 1_000 + at }));
    const asked = ask(url, keyed, lines(items));
    while ((await Promise.race([asked, t.pass(5)])) === undefined);
    expect((await asked).body).toMatchObject({ malformed: 30 });
    t.deliveredTwice();
    const mended = source(true);
    for (const [at, { id }] of (await letters(t.client)).entries()) {
      const settled = retrySourceDeadLetter(t.client, mended, id).then(
        () => true,
        () => true,
      );
      if (at % 3 === 0) {
        await t.pass(at % 7);
        await t.crash();
      }
      while (!(await Promise.race([settled, t.pass(5).then(() => false)])));
    }
    for (const { id } of await letters(t.client)) await retrySourceDeadLetter(t.client, mended, id);
    await t.settle();
    expect(await letters(t.client)).toEqual([]);
    expect((await t.client.actor(counter, "k").get()).context.count).toBe(30_000 + (29 * 30) / 2);
    await t.stop();
  });
});

describe("requests that make no sense, or are too much", () => {
  it("are refused, each with its status", async () => {
    const { client } = await started();
    const url = await listen(client, { maxBodyBytes: 2_000, maxInFlightBytes: 2_000 });
    const producer = from("p", 1);
    const cases: readonly [number, Record<string, string>, (string | Uint8Array)?][] = [
      [400, NDJSON, "1"],
      [400, { ...producer, "idempotency-key": "both" }, "1"],
      [400, { ...producer, "keyturn-sequence": "0" }, "1"],
      [400, { ...producer, "keyturn-sequence": "x" }, "1"],
      [400, { ...NDJSON, "keyturn-producer": "p" }, "1"],
      [400, { ...NDJSON, "idempotency-key": "k".repeat(101) }, "1"],
      [400, { ...producer, "content-type": "application/json" }, "{"],
      [400, producer, new Uint8Array([34, 255, 34])],
      [413, producer, "x".repeat(3_000)],
      [415, { ...producer, "content-type": "text/plain" }, "1"],
      [415, { ...producer, "content-encoding": "gzip" }, "1"],
      [400, {}],
    ];
    for (const [status, headers, body] of cases) {
      const answer = await ask(url, headers, body);
      expect([answer.status, answer.body.status], JSON.stringify(headers)).toEqual([status, status]);
    }
    expect((await fetch(url, { method: "DELETE" })).status).toBe(405);
    expect(await sourceStatus(client, adds)).toMatchObject({ items: 0 });
  });

  it("bytes in flight are bounded over all requests", async () => {
    const { client } = await started();
    const url = await listen(client, { maxBodyBytes: 1_000, maxInFlightBytes: 1_000 });
    const { port } = new URL(url);
    // A slow one holds most of the room.
    const slow = connectTcp(Number(port), "127.0.0.1");
    onTestFinished(() => void slow.destroy());
    const head =
      "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\nkeyturn-producer: slow\r\nkeyturn-sequence: 1\r\ncontent-length: 900\r\n\r\n";
    slow.write(head + " ".repeat(800));
    let refused: Answer;
    do refused = await ask(url, from("p", 1), lines(rows(0, 30)));
    while (refused.status === 200);
    expect(refused).toMatchObject({ status: 429 });
    expect(refused.headers.get("retry-after")).toBe("1");
    slow.destroy();
    let answer: Answer;
    do answer = await ask(url, from("p", 1), lines(rows(0, 30)));
    while (answer.status === 429);
    expect(answer).toMatchObject({ status: 200, body: { next: 31 } });
    await delivered(client, 30);
    expect(await count(client)).toBe(2 ** 30 - 1);
  });

  it("where the store is full they are answered 503, and count when they are repeated", async () => {
    const store = memory();
    const node = await startNode({ actors: [counter, ...adds.actors], store });
    onTestFinished(() => node.stop());
    expect((await ask(await listen(node.client), from("p", 1), lines(rows(0, 1)))).status).toBe(200);
    const append = store.journal.append.bind(store.journal);
    store.journal.append = () => Promise.resolve({ kind: "full", cause: new Error("full") });
    const url = await listen(node.client, { timeout_ms: 100 });
    let busy: Answer;
    do busy = await ask(url, from("p", 2), lines(rows(1, 10)));
    while (busy.body.code === "timeout");
    expect(busy).toMatchObject({ status: 503, body: { code: "store_full", retryable: true } });
    expect(busy.headers.get("retry-after")).toBe("1");
    store.journal.append = append;
    let answer: Answer;
    do answer = await ask(url, from("p", 2), lines(rows(1, 10)));
    while (answer.status === 503);
    expect(answer.body).toMatchObject({ next: 11 });
    await delivered(node.client, 10);
    expect(await count(node.client)).toBe(2 ** 10 - 1);
  });

  it("a source of HTTP is not run, one of files takes no requests", async () => {
    const { client } = await started();
    await expect(runSource(client, adds).done).rejects.toMatchObject({ code: "invalid_options" });
    const files = defineSource("files", { from: ndjson({ path: "x" }), to: () => undefined });
    expect(() => sourceEndpoint(client, files)).toThrow(/is not of HTTP/);
    expect(() => sourceEndpoint(client, adds, { maxBodyBytes: 0 })).toThrow(/whole number/);
  });
});
