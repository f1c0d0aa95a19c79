/** What anybody may send: refused clearly, in bounded memory, and the node notices nothing. */
import fc from "fast-check";
import { defineActor } from "keyturn";
import { expect, it } from "vitest";
import { assign, setup } from "xstate";
import { counter } from "../actors/index.ts";
import { Rate } from "../runtime/http/rate.ts";
import { ask, expectProblem, Listener, RawConnection, served } from "./support/http.ts";

/** Grows by what it is told. */
const large = defineActor({
  type: "large",
  machine: setup({
    types: { context: {} as { n: number; text: string }, events: {} as { type: "grow"; bytes: number } },
  }).createMachine({
    context: { n: 0, text: "" },
    on: {
      grow: {
        actions: assign(({ context, event }) => ({ n: context.n + 1, text: "x".repeat(event.bytes) })),
      },
    },
  }),
});

it("refuses bodies that are too large before they are read, broken, or no JSON", async () => {
  const { call, server, node } = await served([counter], { limits: { bodyBytes: 1_000, batchBytes: 2_000 } });
  const path = "/actors/counter/a";
  const big = JSON.stringify({ type: "add", by: 1, more: "x".repeat(1_000) });
  expectProblem(await call("POST", path, { body: big }), 413, "event_too_large");
  expectProblem(await call("POST", "/batch", { body: `${big}${big}` }), 413, "event_too_large");
  // In pieces of unknown number, and one that says it will be huge.
  const chunked = new RawConnection(server);
  chunked.write(
    `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`,
  );
  for (let n = 0; n < 10; n++) chunked.write(`200\r\n${"x".repeat(512)}\r\n`);
  expect(await chunked.ended()).toMatch(/^HTTP\/1\.1 413 [\s\S]*connection: close[\s\S]*event_too_large/i);
  const huge = new RawConnection(server);
  huge.write(
    `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000000000\r\n\r\n{`,
  );
  expect(await huge.ended()).toMatch(/^HTTP\/1\.1 413 /);
  for (const body of [
    "{",
    "",
    "{'type':'add'}",
    '{"type":"add",}',
    "[".repeat(900),
    "nul",
    new Uint8Array([0x22, 0xff, 0x22]),
  ])
    expectProblem(
      await call("POST", path, { body }),
      body === "" ? 422 : 400,
      body === "" ? "invalid_event" : "invalid_frame",
    );
  for (const type of [
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/jsonp",
    "application/json; charset=latin1",
    "x",
  ]) {
    const answer = await call("POST", path, { body: '{"type":"on"}', headers: { "content-type": type } });
    expectProblem(answer, 415, "invalid_frame");
  }
  for (const type of ["application/json; charset=UTF-8", "Application/JSON", "application/merge-patch+json"])
    expect(
      (await call("POST", path, { body: '{"type":"on"}', headers: { "content-type": type } })).status,
    ).toBe(200);
  const zipped = { "content-encoding": "gzip" };
  expectProblem(await call("POST", path, { body: "x", headers: zipped }), 415, "invalid_frame");
  expect((await node.client.actor(counter, "a").get()).turn).toBe(3);
});

it("refuses what would change prototypes, nests too deep, or is no value", async () => {
  const { call, node } = await served([counter]);
  const event = (more: string): string => `{"type":"add","by":1,"more":${more}}`;
  for (const more of [
    '{"__proto__":{"by":2}}',
    '{"~map":[["a",{"__proto__":null}]]}',
    `${'{"a":'.repeat(70)}1${"}".repeat(70)}`,
    `${"[".repeat(100_000)}${"]".repeat(100_000)}`,
    `${'{"~set":['.repeat(300)}${"]}".repeat(300)}`,
    '{"~map":[[1,2],[1,3]]}',
    '{"~error":{"stack":"x"}}',
    '{"~error":{"__proto__":{}}}',
    '{"~bigint":"99999999999999999999"}',
    '"\\ud800"',
  ])
    expectProblem(await call("POST", "/actors/counter/a", { body: event(more) }), 422, "invalid_event");
  expectProblem(
    await call("POST", "/actors/counter/a", { body: '{"__proto__":{"type":"add"}}' }),
    422,
    "invalid_event",
  );
  const harmless = await call("POST", "/actors/counter/a", {
    body: event('{"constructor":{"prototype":{"by":9}}}'),
  });
  expect(harmless.body.value).toBe(1);
  expect(({} as { by?: number }).by).toBeUndefined();
  expect((await node.client.actor(counter, "a").get()).turn).toBe(1);
});

it("refuses paths that are tricks, and takes the others literally", async () => {
  const { server, node } = await served([counter]);
  const raw = async (path: string): Promise<string> => {
    const connection = new RawConnection(server);
    connection.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
    return (await connection.ended()).slice(0, 12);
  };
  await node.client.actor("counter/..").ask({ type: "add", by: 1 });
  expect(await raw("/actors/counter/..")).toBe("HTTP/1.1 200");
  expect(await raw("/actors/counter/%2e%2e%2f..%2fetc")).toBe("HTTP/1.1 200");
  expect(await raw("/actors/counter/%00")).toBe("HTTP/1.1 200");
  expect(await raw("/actors/counter/%252e")).toBe("HTTP/1.1 200");
  for (const path of [
    "/actors/counter/%",
    "/actors/counter/%zz",
    "/actors/counter/%c0%ae",
    "/actors/counter/%ed%a0%80",
    "/actors/%2e/a",
    "/actors/../health",
  ])
    expect([path, await raw(path)]).toEqual([path, "HTTP/1.1 400"]);
  for (const path of [
    "/../actors/counter/a",
    "//actors/counter/a",
    "/actors/counter/a/",
    "/actors/counter/a/b",
    "/ACTORS/counter/a",
    "*",
  ])
    expect([path, await raw(path)]).toEqual([path, "HTTP/1.1 404"]);
  expect(await raw(`/actors/counter/${"a".repeat(3_000)}`)).toBe("HTTP/1.1 414");
  expect(await raw(`/actors/counter/${"a".repeat(20_000)}`)).toBe("HTTP/1.1 431");
});

it("closes connections that speak no HTTP, or two at once", async () => {
  const { server, call } = await served([counter]);
  const head = "POST /actors/counter/a HTTP/1.1\r\nHost: localhost\r\n";
  for (const text of [
    "\x16\x03\x01\x02",
    "GET / HTTP/9\r\n\r\n",
    `${head}Content-Length: x\r\n\r\n`,
    `${head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    "GET / HTTP/1.1\r\nA\0: b\r\n\r\n",
    "GET /actors/counter/a HTTP/1.1\r\n\r\n",
    "GET /actors/counter/a HTTP/1.1\r\nHost: localhost\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n",
  ]) {
    const connection = new RawConnection(server);
    connection.write(text);
    expect(await connection.ended()).toMatch(/^HTTP\/1\.1 400 /);
  }
  expect((await call("GET", "/actors/counter/a")).status).toBe(200);
});

it("does not wait for who sends slowly", async () => {
  const { server, call } = await served([counter], { limits: { head_ms: 100, request_ms: 200 } });
  const head = new RawConnection(server);
  head.write("GET /actors/counter/a HTTP/1.1\r\nHost: localhost\r\nX-A: ");
  const body = new RawConnection(server);
  body.write(
    "POST /actors/counter/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
  );
  expect(await head.ended()).toMatch(/^HTTP\/1\.1 408 [\s\S]*"status":408/);
  expect(await body.ended()).toMatch(/^HTTP\/1\.1 408 /);
  expect((await call("GET", "/actors/counter/a")).status).toBe(200);
});

it("opens so many streams and no more, of each caller and in all, and gives their places back", async () => {
  const { server, call, node } = await served([counter], {
    trustProxy: true,
    limits: { streams: 30, streamsPerCaller: 20 },
  });
  const open = (n: number, from: string): Promise<Listener>[] =>
    Array.from({ length: n }, (_, i) =>
      Listener.open(server.url, i % 2 === 0 ? `/actors/counter/${i}/watch` : "/events?type=counter", {
        "x-forwarded-for": from,
      }),
    );
  const mine = await Promise.all(open(25, "10.0.0.1"));
  const refused = mine.filter(({ response }) => response.status === 429);
  expect(refused).toHaveLength(5);
  expect(refused[0]?.response.headers.get("retry-after")).toBe("5");
  const others = await Promise.all(open(15, "10.0.0.2"));
  expect(others.filter(({ response }) => response.status === 503)).toHaveLength(5);
  expect(server.streams).toBe(30);
  // Streams take nothing from those who ask.
  expect((await call("POST", "/actors/counter/0", { body: { type: "add", by: 1 } })).status).toBe(200);
  expect(node.health().ready).toBe(true);
  for (const listener of [...mine, ...others]) listener.leave();
  while (server.streams > 0) await new Promise((resolve) => setImmediate(resolve));
  const again = await Promise.all(open(20, "10.0.0.1"));
  expect(again.every(({ response }) => response.status === 200)).toBe(true);
});

it("has fewer streams of whole types, which cost more", async () => {
  const { server } = await served([counter], { limits: { typeStreams: 2 } });
  const open = (path: string): Promise<Listener> => Listener.open(server.url, path);
  const [first] = [await open("/events?type=counter"), await open("/events?type=counter")];
  expect((await open("/events?type=counter")).response.status).toBe(503);
  // What it asked for is still held where it was asked.
  first.leave();
  while (server.streams > 1) await new Promise((resolve) => setImmediate(resolve));
  expect((await open("/events?type=counter")).response.status).toBe(503);
  expect((await open("/actors/counter/a/watch")).response.status).toBe(200);
});

it("drops states for the newest where a reader is slow, and cuts off who reads nothing", async () => {
  const { server, node } = await served([large], { limits: { slowReader_ms: 1_000 } });
  const ref = node.client.actor(large, "a");
  const slow = new RawConnection(server);
  slow.socket.pause();
  slow.write("GET /actors/large/a/watch HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const fast = await Listener.open(server.url, "/actors/large/a/watch");
  const follow = async (text: string): Promise<void> => {
    for (let next = await fast.next(); next?.data.context.text !== text; next = await fast.next())
      expect(next).toBeDefined();
  };
  const followed = follow("x");
  while (server.streams < 2) await new Promise((resolve) => setImmediate(resolve));
  // More than the connection's buffers take; it is cut off although the actor goes on.
  let sent = 0;
  for (; server.streams > 1; sent++) await ref.send({ type: "grow", bytes: 200_000 });
  // The fast reader is told the last one all the same.
  await ref.send({ type: "grow", bytes: 1 });
  await followed;
  slow.socket.resume();
  const text = await slow.ended();
  expect(text.match(/^event: state$/gm)?.length ?? 0).toBeLessThan(sent);
  expect(sent).toBeGreaterThan(10);
});

it("allows each caller so many requests", async () => {
  const { call } = await served([counter], {
    trustProxy: true,
    limits: { rate: { perSecond: 0.001, burst: 3 } },
  });
  const get = (from: string) => call("GET", "/actors/counter/a", { headers: { "x-forwarded-for": from } });
  for (let n = 0; n < 3; n++) expect((await get("10.0.0.1")).status).toBe(200);
  const refused = await get("10.0.0.1");
  expectProblem(refused, 429, "overloaded");
  expect(refused.body).toMatchObject({ retryable: true, outcome: "notApplied" });
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(900);
  expect((await get("10.0.0.2")).status).toBe(200);
  // Probes are not counted.
  expect((await call("GET", "/livez", { headers: { "x-forwarded-for": "10.0.0.1" } })).status).toBe(200);
  // Each request of a batch counts.
  const requests = new Array(3).fill({ address: "counter/a", event: { type: "on" } });
  expectProblem(
    await call("POST", "/batch", { body: { requests }, headers: { "x-forwarded-for": "10.0.0.2" } }),
    429,
    "overloaded",
  );
});

it("fills the buckets again with time", () => {
  const rate = new Rate({ perSecond: 10, burst: 2 });
  rate.take("a", 2, 0);
  expect(() => rate.take("a", 1, 50)).toThrow(/more/i);
  rate.take("a", 1, 100);
  expect(() => rate.take("a", 1, 100)).toThrow();
  // More than a burst passes when the bucket is full, and is paid for.
  rate.take("b", 10, 0);
  expect(() => rate.take("b", 1, 800)).toThrow();
  rate.take("b", 1, 1_000);
});

it("has so many requests in flight and no more", async () => {
  const { server } = await served([counter], { limits: { inFlight: 2 } });
  const body = '{"type":"add","by":1}';
  const head = `POST /actors/counter/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nExpect: 100-continue\r\n\r\n`;
  const waiting = [new RawConnection(server), new RawConnection(server)];
  for (const one of waiting) one.write(head);
  for (const one of waiting) await one.until(/100 Continue/);
  expectProblem(await ask(server.url, "GET", "/actors/counter/a"), 503, "overloaded");
  for (const one of waiting) one.write(body);
  const answers = await Promise.all(waiting.map((one) => one.ended()));
  for (const answer of answers) expect(answer).toMatch(/HTTP\/1\.1 200 /);
  expect((await ask(server.url, "GET", "/actors/counter/a")).body.turn).toBe(2);
});

it("answers no batch and no page with more than it may take, and says what was done", async () => {
  const { call, node } = await served([large], { limits: { answerBytes: 1_000 } });
  const requests = [1, 2, 3].map((n) => ({ address: `large/${n}`, event: { type: "grow", bytes: 300 } }));
  const { results } = (await call("POST", "/batch", { body: { requests } })).body;
  const refused = results.filter(({ status }: { status: number }) => status !== 200);
  expect(refused).toMatchObject([{ status: 500, problem: { code: "answer_too_large", outcome: "applied" } }]);
  for (const n of [1, 2, 3]) expect((await node.client.actor(large, String(n)).get()).turn).toBe(1);
  const letter = (seq: number) => ({
    position: seq,
    index: 0,
    type: "large",
    key: "a",
    event: { type: "grow", text: "x".repeat(600) },
    time: 1,
    code: "machine_failed",
    reason: "It threw.",
  });
  await node.store.deadLetters.put([1, 2, 3].map(letter));
  const keys: string[] = [];
  let cursor = "";
  for (;;) {
    const { letters, next } = (await call("GET", `/dead-letters?limit=3${cursor}`)).body;
    expect(letters).toHaveLength(1);
    keys.push(letters[0].id);
    if (next === undefined) break;
    cursor = `&cursor=${next}`;
  }
  expect(keys).toEqual(["1.0", "2.0", "3.0"]);
});

it("counts callers of one IPv6 network as one", async () => {
  const { call } = await served([counter], {
    trustProxy: true,
    limits: { rate: { perSecond: 0.001, burst: 1 } },
  });
  const get = async (from: string): Promise<number> =>
    (await call("GET", "/actors/counter/a", { headers: { "x-forwarded-for": from } })).status;
  expect(await get("2001:db8::1")).toBe(200);
  expect(await get("2001:db8:0:0:9::2")).toBe(429);
  expect(await get("2001:db8:0:1::1")).toBe(200);
  expect(await get("10.0.0.1")).toBe(200);
  expect(await get("::ffff:10.0.0.1")).toBe(429);
});

it("answers or closes whatever bytes come, and goes on", async () => {
  const { server, call, node, faults } = await served([counter], {
    limits: { head_ms: 100, request_ms: 200 },
  });
  const body = '{"type":"on"}';
  const right = `POST /actors/counter/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  // Flipped, cut, repeated, and nothing of it at all.
  const changed = fc
    .tuple(fc.nat(right.length - 1), fc.nat(255), fc.nat(40), fc.string({ unit: "binary", maxLength: 40 }))
    .chain(([place, byte, length, text]) =>
      fc.constantFrom(
        right.slice(0, place) + String.fromCharCode(byte) + right.slice(place + 1),
        right.slice(0, place),
        right.slice(0, place) + right.slice(place + length),
        right.slice(0, place) + text + right.slice(place),
        right.slice(0, place) + right.slice(place, place + length).repeat(50) + right.slice(place),
        text,
      ),
    );
  const answers = fc
    .sample(changed, { numRuns: 50, seed: fc.sample(fc.nat(), 1)[0] as number })
    .map(async (text) => {
      const connection = new RawConnection(server);
      connection.write(Buffer.from(text, "latin1"));
      connection.socket.end();
      return [text, await connection.ended()] as const;
    });
  for (const [text, answer] of await Promise.all(answers))
    expect(answer, JSON.stringify(text)).toMatch(/^(HTTP\/1\.1 (100|200|204|4\d\d) |$)/);
  expect(faults).toEqual([]);
  expect(node.health().ready).toBe(true);
  expect((await call("POST", "/actors/counter/b", { body: { type: "on" } })).status).toBe(200);
});
