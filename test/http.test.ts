/** Actors over HTTP: asked, read, watched, found, removed, on real sockets. */
import fc from "fast-check";
import { defineActor, memory, reply, startNode } from "keyturn";
import { serveHttp } from "keyturn/http";
import { expect, it } from "vitest";
import { assign, setup } from "xstate";
import { z } from "zod";
import { counter } from "../actors/index.ts";
import { createClient } from "../runtime/client/client.ts";
import { realWorld } from "../runtime/world.ts";
import { afterwards, ask, expectProblem, Listener, served } from "./support/http.ts";
import { parcel } from "./support/parcels.ts";

/** Keeps whatever it is given, begins with an input if there is one, and throws if asked to. */
const box = defineActor({
  type: "box",
  machine: setup({
    types: {
      context: {} as { thing: unknown },
      events: {} as { type: "put"; thing: unknown } | { type: "throw" } | { type: "get" },
      input: {} as { thing?: unknown },
    },
  }).createMachine({
    context: ({ input }) => ({ thing: input.thing ?? null }),
    on: {
      put: {
        actions: [assign({ thing: ({ event }) => event.thing }), reply(({ event }) => event.thing)],
      },
      get: { actions: reply(({ context }) => context.thing) },
      throw: {
        actions: assign(() => {
          throw new Error("It was asked to.");
        }),
      },
    },
  }),
  events: z.discriminatedUnion("type", [
    z.object({ type: z.literal("put"), thing: z.any() }),
    z.object({ type: z.literal("throw") }),
    z.object({ type: z.literal("get") }),
  ]),
});

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

it("finds, counts, a page at a time", async () => {
  const { call, node } = await served([parcel]);
  const packed = Array.from({ length: 25 }, (_, n) => {
    const ref = node.client.actor(parcel, `p${String(n).padStart(2, "0")}`);
    return ref.send({ type: "pack", owner: n % 2 === 0 ? "ada" : "bob", weight: n });
  });
  await Promise.all(packed);
  const keys = async (query: string): Promise<string[]> =>
    (await call("GET", `/actors/parcel?${query}`)).body.actors.map(({ key }: { key: string }) => key);
  expect(await keys("limit=3")).toEqual(["p00", "p01", "p02"]);
  expect((await call("GET", "/actors/parcel?limit=3")).body.next).toBe("p02");
  expect(await keys("limit=3&cursor=p02")).toEqual(["p03", "p04", "p05"]);
  expect(await keys("where.owner.id=bob&where.weight=gte:21")).toEqual(["p21", "p23"]);
  expect(await keys(`where=${encodeURIComponent('{"owner.id":"ada","weight":{"in":[2,3,4]}}')}`)).toEqual([
    "p02",
    "p04",
  ]);
  expect(await keys('where.owner.id="ada"&prefix=p2')).toEqual(["p20", "p22", "p24"]);
  expect(await keys("where.weight=in:1,2&status=active&state=open")).toEqual(["p01", "p02"]);
  expect((await call("GET", "/types/parcel/count?where.owner.id=prefix:a")).body).toEqual({
    total: 13,
    states: { open: 13 },
  });
  // As on the command line and in the dashboard, as often as there are conditions, also as an address that is not encoded.
  expect(await keys("where=owner.id=bob&where=weight>=21")).toEqual(["p21", "p23"]);
  expect(await keys("where=weight>2&where=weight<=5")).toEqual(["p03", "p04", "p05"]);
  const several = ' owner.id ^= "a" , weight=[2, 3, 4],weight!=4';
  expect(await keys(`where=${encodeURIComponent(several)}`)).toEqual(["p02"]);
  expect(await keys("where=owner.id=ada&where.weight=gte:22")).toEqual(["p22", "p24"]);
  for (const query of [
    "where=weight>1&where=weight>2",
    "where=weight>1&where.weight=lt:3",
    "where=weight>[1]",
    "where=weight<@never",
    "where=nothing>1",
    "where%260=weight>1",
    "state=open&state=sent",
    "stat=open",
    "where=x",
    "where.weight=~:1&limit=0",
    "status=new",
  ])
    expectProblem(await call("GET", `/actors/parcel?${query}`), 400, "invalid_options");
  expectProblem(await call("GET", "/actors/nobody"), 404, "unknown_type");
});

it("streams the state of an actor, and goes on behind the last id", async () => {
  const { call, server } = await served([counter]);
  const first = await Listener.open(server.url, "/actors/counter/home/watch");
  expect(first.response.headers.get("content-type")).toMatch(/^text\/event-stream/);
  expect(await first.next()).toMatchObject({ id: "0-0", event: "state", data: { turn: 0 } });
  await call("POST", "/actors/counter/home", { body: { type: "add", by: 1 } });
  expect(await first.next()).toMatchObject({ data: { context: { count: 1 }, turn: 1 } });
  first.leave();
  const headers = { "last-event-id": first.lastId as string };
  const second = await Listener.open(server.url, "/actors/counter/home/watch", headers);
  await call("POST", "/actors/counter/home", { body: { type: "add", by: 1 } });
  // What was seen is not told again.
  expect(await second.next()).toMatchObject({ data: { context: { count: 2 }, turn: 2 } });
  const missed = await Listener.open(server.url, "/actors/counter/home/watch", headers);
  expect(await missed.next()).toMatchObject({ data: { turn: 2 } });
  expectProblem(await ask(server.url, "GET", "/actors/nobody/home/watch"), 404, "unknown_type");
});

it("streams the actors of a type as they change, and goes on behind the last id", async () => {
  const { call, node, server } = await served([parcel]);
  const pack = (key: string, weight: number) =>
    node.client.actor(parcel, key).send({ type: "pack", owner: "ada", weight });
  await pack("a", 1);
  const path = "/events?type=parcel&where.owner.id=ada";
  const first = await Listener.open(server.url, path);
  expect(await first.next()).toMatchObject({ event: "changed", data: { key: "a", fields: { weight: 1 } } });
  await pack("b", 2);
  expect(await first.next()).toMatchObject({ event: "changed", data: { key: "b" } });
  await call("DELETE", "/actors/parcel/a");
  expect(await first.next()).toEqual({ event: "gone", data: { key: "a", address: "parcel/a" } });
  first.lastId = undefined;
  const id = await first.id();
  first.leave();
  await pack("c", 3);
  await call("DELETE", "/actors/parcel/b");
  const second = await Listener.open(server.url, path, { "last-event-id": id });
  const seen = [await second.next(), await second.next()].map((event) => [event?.event, event?.data.key]);
  expect(seen.sort()).toEqual([
    ["changed", "c"],
    ["gone", "b"],
  ]);
  // An id that nobody knows: everything comes again, and that is said.
  for (const unknown of ["never", id.replace(/[a-z0-9]+\./g, "x."), "a".repeat(5_000)]) {
    const third = await Listener.open(server.url, path, { "last-event-id": unknown });
    expect(await third.next()).toMatchObject({ event: "reset" });
    let next = await third.next();
    while (next?.event === "reset") next = await third.next();
    expect(next).toMatchObject({ event: "changed", data: { key: "c" } });
    third.leave();
  }
  expectProblem(await ask(server.url, "GET", "/events"), 400, "invalid_options");
  expectProblem(await ask(server.url, "GET", "/events?type=nobody"), 404, "unknown_type");
});

it("takes a batch, in which each request has its own outcome", async () => {
  const { call } = await served([counter, box]);
  const add = (by: unknown, more: object = {}) => ({
    address: "counter/home",
    event: { type: "add", by },
    ...more,
  });
  const { status, body } = await call("POST", "/batch", {
    body: {
      requests: [
        add(1),
        add(2, { requestId: "again" }),
        add(2, { requestId: "again" }),
        add("x"),
        { type: "counter", key: "home", mode: "send", event: { type: "off" } },
        { address: "counter/home", mode: "get" },
        { address: "box/b", mode: "create", input: { thing: { "~bigint": "1" } } },
        { address: "box/b", mode: "create" },
        { address: "nowhere", event: { type: "add" } },
        { address: "nobody/home", event: { type: "add" } },
        { address: "counter/home", mode: "delete" },
        { address: "counter/home", event: { type: "add", by: 5 } },
        { address: "counter/home", what: 1 },
        null,
      ],
    },
  });
  expect(status).toBe(200);
  expect(body.results).toMatchObject([
    { status: 200, value: 1 },
    { status: 200, value: 3 },
    { status: 200, value: 3 },
    { status: 422, problem: { code: "invalid_event" } },
    { status: 204 },
    { status: 200, state: { value: "off", context: { count: 3 } } },
    { status: 201, state: { context: { thing: { "~bigint": "1" } } } },
    { status: 409, problem: { code: "already_exists" } },
    { status: 400, problem: { code: "invalid_address" } },
    { status: 404, problem: { code: "unknown_type" } },
    { status: 204 },
    { status: 200, value: 5, state: { turn: 1 } },
    { status: 400, problem: { code: "invalid_options" } },
    { status: 400, problem: { code: "invalid_options" } },
  ]);
  for (const wrong of [[], {}, { requests: [] }, { requests: new Array(1_001).fill(1) }, null])
    expectProblem(await call("POST", "/batch", { body: wrong }), 400, "invalid_options");
});

it("says how the node is, who serves what, and what was buried", async () => {
  const { call, node } = await served([box]);
  expect((await call("GET", "/livez")).body).toEqual({ live: true });
  expect((await call("GET", "/readyz")).body).toEqual({ ready: true });
  expect((await call("GET", "/health")).body).toMatchObject({
    live: true,
    ready: true,
    checks: { lease: { ok: true } },
  });
  const { nodes, shards } = (await call("GET", "/cluster")).body;
  expect(nodes).toMatchObject([
    { name: node.name, incarnation: node.incarnation.name, shards: 8, leaving: false },
  ]);
  expect(shards).toHaveLength(8);
  expect(shards[3]).toEqual({ shard: 3, owner: node.incarnation.name, epoch: 1 });
  expect((await call("GET", "/types")).body.types).toMatchObject([
    { type: "box", version: 1, events: ["put", "get", "throw"] },
  ]);
  expect((await call("GET", "/dead-letters")).body).toEqual({ letters: [] });
  await node.store.deadLetters.put(
    [1, 2, 3].map((seq) => ({
      position: seq,
      index: 0,
      type: "box",
      key: "a",
      event: { type: "put", thing: new Date(0) },
      time: seq,
      code: "machine_failed",
      reason: "It threw.",
    })),
  );
  const { letters, next } = (await call("GET", "/dead-letters?limit=2")).body;
  expect(letters).toMatchObject([
    { id: "1.0", event: { thing: { "~date": "1970-01-01T00:00:00.000Z" } } },
    { id: "2.0" },
  ]);
  expect((await call("GET", `/dead-letters?limit=2&cursor=${next}`)).body.letters).toMatchObject([
    { id: "3.0" },
  ]);
});

it("refuses by name, and says what became of the request", async () => {
  const { call, node, faults } = await served([box, counter]);
  expectProblem(await call("POST", "/actors/box/a", { body: { type: "throw" } }), 422, "machine_failed");
  expectProblem(await call("POST", "/actors/box/a", { body: { type: "never" } }), 422, "invalid_event");
  expectProblem(await call("POST", "/actors/counter/a", { body: { type: "never" } }), 422, "invalid_event");
  expectProblem(await call("POST", "/actors/counter/a", { body: [] }), 422, "invalid_event");
  expectProblem(await call("POST", "/actors/counter/a"), 422, "invalid_event");
  expectProblem(
    await call("POST", "/actors/counter/a?mode=tell", { body: { type: "on" } }),
    400,
    "invalid_options",
  );
  expectProblem(
    await call("POST", "/actors/counter/a?mod=send", { body: { type: "on" } }),
    400,
    "invalid_options",
  );
  expectProblem(await call("POST", "/actors/nobody/a", { body: { type: "on" } }), 404, "unknown_type");
  expectProblem(await call("GET", "/actors/0/a"), 400, "invalid_address");
  expectProblem(await call("GET", `/actors/box/${"k".repeat(161)}`), 400, "invalid_address");
  expectProblem(await call("GET", "/nothing"), 404, "invalid_address");
  const put = await call("PUT", "/actors/counter/a", { body: {} });
  expectProblem(put, 405, "invalid_options");
  expect(put.headers.get("allow")).toBe("GET, HEAD, POST, DELETE");
  // A condition that would not be kept must not seem to be.
  const headers = { "if-match": '"1-1"' };
  expectProblem(
    await call("POST", "/actors/counter/a", { body: { type: "on" }, headers }),
    400,
    "invalid_options",
  );
  for (const timeout of ["0", "x", "1.5", "600000"])
    expectProblem(
      await call("GET", "/actors/counter/a", { headers: { "keyturn-timeout": timeout } }),
      400,
      "invalid_options",
    );
  expect((await node.client.actor(counter, "a").get()).turn).toBe(0);
  expect(faults).toEqual([]);
});

it("says that an outcome is unknown, and does not show an id that it made itself", async () => {
  const store = memory();
  const node = await startNode({ actors: [counter], store, shards: 8 });
  const client = await createClient(await store, realWorld, 8);
  const server = await serveHttp(client, { listen: "127.0.0.1:0" });
  afterwards(async () => {
    await server.close();
    client.close();
  });
  node.kill();
  const late = { body: { type: "add", by: 1 }, headers: { "keyturn-timeout": "50" } };
  const answer = await ask(server.url, "POST", "/actors/counter/home", late);
  expect(answer.body).toMatchObject({ outcome: "unknown" });
  expectProblem(answer, 504, "timeout");
  expect(answer.body).not.toHaveProperty("requestId");
});

it("serves a client too, and routes of one's own behind the same checks", async () => {
  const { node } = await served([counter]);
  const server = await serveHttp(node.client, {
    listen: "127.0.0.1:0",
    actors: [counter],
    authorize: ({ action }) => action !== "types",
    routes(app, context) {
      app.get("/mine/:name", async (request, reply) => {
        await context.allow(request, "get", "counter", "x");
        return context.json(reply, { hello: (request.params as { name: string }).name });
      });
      app.get("/broken", async () => {
        throw new Error("a secret");
      });
    },
  });
  afterwards(() => server.close());
  expect((await ask(server.url, "GET", "/mine/me")).body).toEqual({ hello: "me" });
  expectProblem(await ask(server.url, "GET", "/types"), 403, "access_denied");
  expectProblem(await ask(server.url, "GET", "/dead-letters"), 404, "invalid_address");
  expect((await ask(server.url, "GET", "/health")).body).toEqual({ live: true, ready: true });
  const broken = await ask(server.url, "GET", "/broken");
  expectProblem(broken, 500, "store_failed");
  expect(JSON.stringify(broken.body)).not.toContain("secret");
});

it("ends its streams when it is closed, and answers what is in flight", async () => {
  const { server, call } = await served([counter]);
  const listener = await Listener.open(server.url, "/actors/counter/home/watch");
  await listener.next();
  const answered = call("POST", "/actors/counter/home", { body: { type: "add", by: 1 } });
  await listener.next();
  await server.close();
  expect(await answered).toMatchObject({ status: 200 });
  for (let next = await listener.next(); next !== undefined; next = await listener.next());
  await expect(fetch(server.url)).rejects.toThrow();
});

it("refuses options that it cannot keep", async () => {
  const { node, server } = await served([counter]);
  for (const options of [
    { listen: "8080" },
    { listen: "127.0.0.1:99999" },
    { limits: { streems: 1 } },
    { limits: { streams: 0 } },
    { limits: { rate: { perSecond: 0 } } },
    { cors: { origins: ["https://shop.example/"] } },
    { auth: {} },
    { auth: { secret: "short" } },
    { auth: { secret: "s".repeat(32), algorithms: ["none"] } },
    { auth: { jwks: "not an address" } },
  ])
    await expect(serveHttp(node, options as never)).rejects.toMatchObject({ code: "invalid_options" });
  await expect(serveHttp({} as never)).rejects.toMatchObject({ code: "invalid_options" });
  await expect(serveHttp(node, { listen: `127.0.0.1:${server.port}` })).rejects.toMatchObject({
    code: "unreachable",
  });
});
