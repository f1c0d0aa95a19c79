/** Many actors watched in one stream. */
import { SignJWT } from "jose";
import { httpDefaults } from "keyturn/http";
import { expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { afterwards, type Answer, ask, expectProblem, Listener, type Sse, served } from "./support/http.ts";

const address = (n: number): string => `counter/n${n}`;

async function watchAll(
  url: string,
  actors: readonly object[],
  headers: Record<string, string> = {},
): Promise<Listener> {
  const reader = await Listener.open(url, "/watch", headers, { actors });
  expect(await reader.next()).toEqual({
    event: "open",
    data: { heartbeat_ms: httpDefaults.heartbeat_ms },
  });
  return reader;
}

async function nextOf(reader: Listener, count: number): Promise<Sse[]> {
  const events: Sse[] = [];
  while (events.length < count) {
    const event = await reader.next();
    if (event === undefined) break;
    events.push(event);
  }
  return events;
}

it("tells the state of each, and then every change, in one stream", async () => {
  const { server, node } = await served([counter]);
  const add = (n: number): Promise<void> => node.client.actor(address(n)).send({ type: "add", by: n });
  for (let n = 1; n <= 20; n++) await add(n);
  const actors = Array.from({ length: 21 }, (_, n) => ({ address: address(n) }));
  const reader = await watchAll(server.url, actors);
  const first = await nextOf(reader, 21);
  expect(new Set(first.map(({ data }) => data.address)).size).toBe(21);
  for (const { event, data } of first) {
    expect(event).toBe("state");
    const n = Number(data.address.slice("counter/n".length));
    expect(data.state).toMatchObject({ context: { count: n }, turn: n === 0 ? 0 : 1 });
  }
  expect(server.streams).toBe(1);
  await add(7);
  expect(await reader.next()).toMatchObject({
    event: "state",
    data: { address: address(7), state: { context: { count: 14 }, turn: 2 } },
  });
  await node.client.actor(address(7)).delete();
  expect(await reader.next()).toMatchObject({ data: { address: address(7), state: { turn: 0 } } });
  reader.leave();
  await expect.poll(() => server.streams).toBe(0);
});

it("tells nothing twice: what is known is unchanged, what is not is told", async () => {
  const { server, node } = await served([counter]);
  await node.client.actor("counter/a").send({ type: "add", by: 1 });
  await node.client.actor("counter/b").send({ type: "add", by: 1 });
  const actors = [{ address: "counter/a" }, { address: "counter/b" }];
  const before = await nextOf(await watchAll(server.url, actors), 2);
  const since = (name: string): object => {
    const { state } = before.find(({ data }) => data.address === name)!.data;
    return { address: name, since: `${state.position}-${state.turn}` };
  };
  await node.client.actor("counter/b").send({ type: "add", by: 1 });
  const reader = await watchAll(server.url, [since("counter/a"), since("counter/b")]);
  const events = await nextOf(reader, 2);
  expect(events).toContainEqual({ event: "unchanged", data: { address: "counter/a" } });
  expect(events).toContainEqual({
    event: "state",
    data: { address: "counter/b", state: expect.objectContaining({ turn: 2 }) },
  });
  await node.client.actor("counter/a").send({ type: "add", by: 1 });
  expect(await reader.next()).toMatchObject({ event: "state", data: { state: { turn: 2 } } });
});

it("ends the watching of one that cannot be, and the stream when none is left", async () => {
  const { server } = await served([counter]);
  const reader = await watchAll(server.url, [
    { address: "counter/a" },
    { address: "nobody/a" },
    { address: "no address" },
  ]);
  const events = await nextOf(reader, 3);
  const codes = events.filter(({ event }) => event === "problem").map(({ data }) => data);
  expect(codes).toEqual(
    expect.arrayContaining([
      { address: "nobody/a", problem: expect.objectContaining({ code: "unknown_type", status: 404 }) },
      { address: "no address", problem: expect.objectContaining({ code: "invalid_address" }) },
    ]),
  );
  expect(events.find(({ event }) => event === "state")?.data.address).toBe("counter/a");
  const lost = await watchAll(server.url, [{ address: "nobody/a" }]);
  expect(await lost.next()).toMatchObject({ event: "problem" });
  expect(await lost.next()).toBeUndefined();
});

it("asks the hook for each, and tells nothing of an actor that may not be watched", async () => {
  const secret = "0123456789abcdef0123456789abcdef";
  const { server, node } = await served([counter], {
    auth: { secret },
    authorize: ({ action, key, subject }) => action === "watch" && key === subject,
  });
  await node.client.actor("counter/bob").send({ type: "add", by: 42 });
  const body = { actors: [{ address: "counter/ada" }, { address: "counter/bob" }] };
  expectProblem(await ask(server.url, "POST", "/watch", { body }), 401, "access_denied");
  const token = await new SignJWT({ sub: "ada" })
    .setProtectedHeader({ alg: "HS256" })
    .setExpirationTime("1 minute")
    .sign(new TextEncoder().encode(secret));
  const reader = await watchAll(server.url, body.actors, { authorization: `Bearer ${token}` });
  const events = await nextOf(reader, 2);
  expect(events).toContainEqual({
    event: "problem",
    data: {
      address: "counter/bob",
      problem: expect.objectContaining({ code: "access_denied", status: 403 }),
    },
  });
  expect(events).toContainEqual({
    event: "state",
    data: { address: "counter/ada", state: expect.objectContaining({ turn: 0 }) },
  });
  expect(JSON.stringify(events)).not.toContain("42");
  await node.client.actor("counter/bob").send({ type: "add", by: 1 });
  await node.client.actor("counter/ada").send({ type: "add", by: 1 });
  expect(await reader.next()).toMatchObject({ data: { address: "counter/ada", state: { turn: 1 } } });
});

it("refuses bodies of another form before a stream is begun", async () => {
  const { call, server } = await served([counter]);
  for (const body of [
    undefined,
    [],
    {},
    { actors: [] },
    { actors: {} },
    { actors: ["counter/a"] },
    { actors: [null] },
    { actors: [{ address: 1 }] },
    { actors: [{ address: "counter/a", since: 1 }] },
    { actors: [{ address: "counter/a", key: "b" }] },
    { actors: [{ address: "counter/a" }], more: 1 },
    { actors: [{ address: "counter/a" }, { address: "counter/a" }] },
  ])
    expectProblem(await call("POST", "/watch", { body }), 400, "invalid_options");
  expectProblem(
    await call("POST", "/watch?x=1", { body: { actors: [{ address: "counter/a" }] } }),
    400,
    "invalid_options",
  );
  expectProblem(await call("GET", "/watch"), 405, "invalid_options");
  expect(server.streams).toBe(0);
});

it("bounds how many are watched in all, and how often anybody asks", async () => {
  const { server, call } = await served([counter], {
    limits: { watched: 3, rate: { perSecond: 1, burst: 6 } },
  });
  const actors = [{ address: "counter/a" }, { address: "counter/b" }];
  const reader = await watchAll(server.url, actors);
  await nextOf(reader, 2);
  const full: Answer = await call("POST", "/watch", { body: { actors } });
  expectProblem(full, 503, "overloaded");
  expect(full.headers.get("retry-after")).toBe("5");
  reader.leave();
  await expect.poll(() => server.streams).toBe(0);
  const again = await watchAll(server.url, actors);
  expect((await nextOf(again, 2)).length).toBe(2);
  again.leave();
  // Each actor of a stream counts as a request.
  expectProblem(await call("POST", "/watch", { body: { actors } }), 429, "overloaded");
});

it("tells of no more actors in one stream than it may, and says so of the others", async () => {
  const { server } = await served([counter], { limits: { watchedPerStream: 2, watched: 2 } });
  const actors = [1, 2, 3].map((n) => ({ address: address(n) }));
  const events = await nextOf(await watchAll(server.url, actors), 3);
  expect(events).toContainEqual({
    event: "problem",
    data: { address: address(3), problem: expect.objectContaining({ code: "overloaded", retryable: true }) },
  });
  expect(events.filter(({ event }) => event === "state")).toHaveLength(2);
});

it("holds one state of each for a reader who takes nothing, and tells the newest of each", async () => {
  const { server, node } = await served([counter]);
  const actors = [{ address: "counter/a" }, { address: "counter/b" }];
  const reader = await watchAll(server.url, actors);
  for (let n = 0; n < 200; n++) {
    await node.client.actor("counter/a").send({ type: "add", by: 1 });
    if (n % 50 === 0) await node.client.actor("counter/b").send({ type: "add", by: 1 });
  }
  const last = new Map<string, number>();
  while (last.get("counter/a") !== 200 || last.get("counter/b") !== 4) {
    const { data } = (await reader.next()) as Sse;
    const { turn } = data.state;
    expect(turn).toBeGreaterThanOrEqual(last.get(data.address) ?? 0);
    last.set(data.address, turn);
  }
});

it("ends with the server, and lets its places go", async () => {
  const { server } = await served([counter]);
  const reader = await watchAll(server.url, [{ address: "counter/a" }]);
  await reader.next();
  afterwards(async () => expect(server.streams).toBe(0));
  await server.close();
  expect(await reader.next()).toBeUndefined();
});
