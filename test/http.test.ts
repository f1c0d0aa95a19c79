/** One actor over HTTP: begun, asked, read, its past, what it waits for, on real sockets. */
import fc from "fast-check";
import { defineActor } from "keyturn";
import { expect, it } from "vitest";
import { setup } from "xstate";
import { z } from "zod";
import { counter } from "../actors/index.ts";
import { ask, expectProblem, served } from "./support/http.ts";
import { parcel } from "./support/parcels.ts";
import { box } from "./support/boxes.ts";

it("asks, sends and reads, with the actor's version as ETag", async () => {
  const { call } = await served([counter]);
  const asked = await call("POST", "/actors/counter/home", { body: { type: "add", by: 2 } });
  expect(asked).toMatchObject({
    status: 200,
    body: { value: 2, state: { value: "on", context: { count: 2 }, status: "active", turn: 1 } },
  });
  const etag = `"${asked.body.position}-1"`;
  expect(asked.headers.get("etag")).toBe(etag);
  const got = await call("GET", "/actors/counter/home");
  expect(got).toMatchObject({
    status: 200,
    body: { context: { count: 2 }, turn: 1, position: asked.body.position },
  });
  expect(got.headers.get("etag")).toBe(etag);
  const same = await call("GET", "/actors/counter/home", { headers: { "if-none-match": `"x", W/${etag}` } });
  expect(same).toMatchObject({ status: 304, body: "" });
  expect(await call("POST", "/actors/counter/home?mode=send", { body: { type: "off" } })).toMatchObject({
    status: 204,
    body: "",
  });
  const changed = await call("GET", "/actors/counter/home", { headers: { "if-none-match": etag } });
  expect(changed).toMatchObject({ status: 200, body: { value: "off", turn: 2 } });
  // A machine that gives no reply, and an actor that no message has reached.
  expect((await call("POST", "/actors/counter/home", { body: { type: "on" } })).body.value).toBeNull();
  expect((await call("GET", "/actors/counter/other")).body).toMatchObject({
    value: "on",
    turn: 0,
    position: 0,
  });
  const head = await fetch(`${(await served([counter])).server.url}/actors/counter/home`, { method: "HEAD" });
  expect([head.status, head.headers.get("etag"), await head.text()]).toEqual([200, '"0-0"', ""]);
});

it("reads what was last written out, where that is enough", async () => {
  const { node, call } = await served([counter]);
  const path = "/actors/counter/a";
  await call("POST", path, { body: { type: "add", by: 1 } });
  expect((await call("GET", `${path}?stale=true`)).status).toBe(204);
  await node.checkpoint();
  await call("POST", path, { body: { type: "add", by: 1 } });
  const [stale, now] = [await call("GET", `${path}?stale=true`), await call("GET", `${path}?stale=false`)];
  expect([stale.body.context, now.body.context]).toEqual([{ count: 1 }, { count: 2 }]);
  expect(stale.body.position).toBeLessThan(now.body.position);
  expect(stale.headers.get("etag")).toBe(`"${stale.body.position}-1"`);
  const known = { headers: { "if-none-match": stale.headers.get("etag") as string } };
  expect((await call("GET", `${path}?stale=true`, known)).status).toBe(304);
  expectProblem(await call("GET", `${path}?stale=1`), 400, "invalid_options");
});

it("applies what is repeated with an Idempotency-Key once", async () => {
  const { call } = await served([counter]);
  const add = (key: string) =>
    call("POST", "/actors/counter/home", {
      body: { type: "add", by: 1 },
      headers: { "idempotency-key": key },
    });
  expect((await add("one")).body.value).toBe(1);
  // By the draft it stands in quotes.
  expect((await add('"one"')).body.value).toBe(1);
  expect((await add("two")).body.value).toBe(2);
  const refused = await call("POST", "/actors/counter/home", {
    body: { type: "add", by: "much" },
    headers: { "idempotency-key": "three" },
  });
  expectProblem(refused, 422, "invalid_event");
  expect(refused.body).toMatchObject({ requestId: "three", outcome: "rejected", retryable: false });
  expectProblem(
    await call("POST", "/actors/counter/home", {
      body: { type: "on" },
      headers: { "idempotency-key": "a b" },
    }),
    400,
    "invalid_options",
  );
});

it("refuses an Idempotency-Key that comes again with another body, as the IETF's draft has it", async () => {
  const { call } = await served([counter, box]);
  const post = (path: string, body: unknown) =>
    call("POST", `/actors/${path}`, { body, headers: { "idempotency-key": "one" } });
  expect((await post("counter/home", { type: "add", by: 1 })).body.value).toBe(1);
  const other = await post("counter/home", { type: "add", by: 2 });
  expectProblem(other, 422, "request_id_reused");
  expect(other.body).toMatchObject({ requestId: "one", outcome: "rejected", retryable: false });
  expectProblem(await post("counter/home?mode=send", { type: "off" }), 422, "request_id_reused");
  expect((await post("counter/home", { by: 1, type: "add" })).body.value).toBe(1);
  expect((await post("box/b?mode=create", { thing: 7 })).status).toBe(201);
  expectProblem(await post("box/b?mode=create", { thing: 8 }), 422, "request_id_reused");
  expect((await post("box/b?mode=create", { thing: 7 })).status).toBe(201);
  // Each actor has ids of its own.
  expect((await post("counter/other", { type: "add", by: 2 })).body.value).toBe(2);
});

it("begins an actor with an input, once", async () => {
  const { call } = await served([box, counter]);
  const created = await call("POST", "/actors/box/a%20b?mode=create", { body: { thing: 7 } });
  expect(created).toMatchObject({ status: 201, body: { context: { thing: 7 }, turn: 1 } });
  expect(created.headers.get("location")).toBe("/actors/box/a%20b");
  expectProblem(
    await call("POST", "/actors/box/a%20b?mode=create", { body: { thing: 8 } }),
    409,
    "already_exists",
  );
  expect((await call("POST", "/actors/counter/c?mode=create")).body).toMatchObject({ turn: 1 });
  expect(await call("DELETE", "/actors/box/a%20b")).toMatchObject({ status: 204 });
  expect((await call("GET", "/actors/box/a%20b")).body).toMatchObject({ context: { thing: null }, turn: 0 });
});

it("begins an actor as its address says where nothing is given: no body, an empty one, {} or null", async () => {
  const machine = setup({
    types: { context: {} as { from: unknown }, input: {} as { key: string } },
  }).createMachine({ context: ({ input }) => ({ from: input }), on: { go: {} } });
  const bare = defineActor({ type: "bare", machine });
  const strict = defineActor({
    type: "strict",
    machine,
    inputSchema: z.object({ key: z.string().optional() }),
  });
  const { call, server } = await served([bare, strict]);
  const json = { "content-type": "application/json" };
  const cases: readonly [RequestInit, unknown][] = [
    [{}, { type: "bare", key: "0" }],
    [{ headers: json }, { type: "bare", key: "1" }],
    [
      { headers: json, body: "{}" },
      { type: "bare", key: "2" },
    ],
    [
      { headers: json, body: "null" },
      { type: "bare", key: "3" },
    ],
    [{ headers: json, body: "[]" }, []],
    [{ headers: json, body: '{"key":"own"}' }, { key: "own" }],
  ];
  for (const [at, [init, from]] of cases.entries()) {
    const response = await fetch(`${server.url}/actors/bare/${at}?mode=create`, { method: "POST", ...init });
    expect([response.status, await response.json()]).toMatchObject([201, { context: { from } }]);
  }
  const request = { address: "bare/many", mode: "create", input: {} };
  const { results } = (await call("POST", "/batch", { body: { requests: [request] } })).body;
  expect(results[0].state.context.from).toEqual({ type: "bare", key: "many" });
  // A schema says what it means.
  expect((await call("POST", "/actors/strict/a?mode=create", { body: {} })).body.context.from).toEqual({});
  expectProblem(await call("POST", "/actors/bare/x"), 422, "invalid_event");
});

it("takes any key, percent-encoded", async () => {
  const { call, node, server } = await served([box]);
  const text = fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 });
  const key = fc.oneof(
    text,
    fc.constantFrom("a/b", "%2F", "%252f", "..%2f", "?#&=+", "count", "\0", " ", "ä/ö", "…"),
  );
  await fc.assert(
    fc.asyncProperty(key, async (name) => {
      // No client leaves these in a path.
      fc.pre(name !== "." && name !== "..");
      const path = `/actors/box/${encodeURIComponent(name)}`;
      const put = await call("POST", path, { body: { type: "put", thing: name } });
      if (put.status !== 200) return expectProblem(put, 400, "invalid_address");
      expect((await node.client.actor(`box/${name}`).get()).context).toEqual({ thing: name });
      expect((await call("GET", path)).body.context).toEqual({ thing: name });
    }),
    { numRuns: 60 },
  );
  const batch = { requests: [{ address: "box/..", event: { type: "put", thing: 1 } }] };
  expect((await ask(server.url, "POST", "/batch", { body: batch })).body.results[0]).toMatchObject({
    status: 200,
  });
});

it("carries what JSON has no form for, both ways", async () => {
  const { call, node } = await served([box]);
  const thing = {
    at: { "~date": "2026-01-31T12:00:00.000Z" },
    bytes: { "~bytes": "AQID" },
    large: { "~bigint": "9007199254740993" },
    map: { "~map": [["a", { "~set": [1, "x"] }]] },
    error: { "~error": { kind: "TypeError", message: "wrong", cause: "why" } },
    plain: { $set: { a: 1 }, "~date": "no", both: true },
    escaped: { "~~date": "my own" },
  };
  expect((await call("POST", "/actors/box/a", { body: { type: "put", thing } })).body.value).toEqual(thing);
  const { context } = await node.client.actor("box/a").get();
  const kept = (context as { thing: Record<string, unknown> }).thing;
  expect(kept.at).toEqual(new Date("2026-01-31T12:00:00.000Z"));
  expect(kept.bytes).toEqual(new Uint8Array([1, 2, 3]));
  expect(kept.map).toEqual(new Map([["a", new Set([1, "x"])]]));
  expect(kept.large).toBe(9007199254740993n);
  expect(kept.error).toBeInstanceOf(TypeError);
  expect(kept.escaped).toEqual({ "~date": "my own" });
  const wrong = await call("POST", "/actors/box/a", { body: { type: "put", thing: { "~date": "soon" } } });
  expectProblem(wrong, 422, "invalid_event");
  expect(wrong.body.detail).toMatch(/^event\.thing\["~date"\] is not a date/);
});

it("shows the past a page at a time, from either end", async () => {
  const { call, node } = await served([counter]);
  const ref = node.client.actor(counter, "home");
  for (let by = 1; by <= 150; by++) void ref.send({ type: "add", by }).catch(() => undefined);
  await ref.get();
  for (const [order, first] of [
    ["newest", 150],
    ["oldest", 1],
  ] as const) {
    const turns: number[] = [];
    let path = `/actors/counter/home/history?limit=40&order=${order}`;
    for (;;) {
      const { body, status } = await call("GET", path);
      expect(status).toBe(200);
      turns.push(...body.turns.map(({ turn }: { turn: number }) => turn));
      if (body.next === undefined) break;
      path = `/actors/counter/home/history?limit=40&cursor=${body.next}`;
    }
    expect(turns).toHaveLength(150);
    expect(turns[0]).toBe(first);
    expect(new Set(turns).size).toBe(150);
  }
  const { body } = await call("GET", "/actors/counter/home/history?limit=1");
  expect(body.turns[0]).toMatchObject({
    turn: 150,
    event: { type: "add", by: 150 },
    replied: true,
    reply: 11325,
  });
  // A cursor of another actor shows nothing of it.
  await call("POST", "/actors/counter/other", { body: { type: "add", by: 1 } });
  expectProblem(
    await call("GET", `/actors/counter/other/history?cursor=${body.next}`),
    400,
    "invalid_options",
  );
  for (const cursor of ["x", "n.0", "n.0..zz-z-z", "o.0.", `n.0..${"1-0.".repeat(500)}`])
    expectProblem(await call("GET", `/actors/counter/home/history?cursor=${cursor}`), 400, "invalid_options");
});

it("says what an actor waits for, and takes it away", async () => {
  const { call } = await served([parcel]);
  await call("POST", "/actors/parcel/a", { body: { type: "send" } });
  await call("POST", "/actors/parcel/a", { body: { type: "remind", in_ms: 90_000 } });
  const { timers } = (await call("GET", "/actors/parcel/a/timers")).body;
  expect(timers).toMatchObject([
    { due: expect.any(Number) },
    { id: "reminder", event: { type: "reminder" } },
  ]);
  const after = `/actors/parcel/a/timers/${encodeURIComponent(timers[0].id)}`;
  expect((await call("GET", "/types/parcel/timers")).body.timers).toHaveLength(2);
  expect((await call("GET", "/types/parcel/timers?id=reminder")).body.timers).toMatchObject([{ key: "a" }]);
  expect((await call("DELETE", after)).body).toEqual({ cancelled: true });
  expect((await call("DELETE", after)).body).toEqual({ cancelled: false });
});
