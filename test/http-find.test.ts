/** Many actors over HTTP: found, counted, changed, and streamed as they change. */
import { expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { ask, expectProblem, Listener, served } from "./support/http.ts";
import { parcel } from "./support/parcels.ts";
import { box } from "./support/boxes.ts";

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
