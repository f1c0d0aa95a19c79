/** The server itself: how its node is, what it refuses and how, routes of one's own, and its end. */
import { memory, startNode } from "keyturn";
import { serveHttp } from "keyturn/http";
import { expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { createClient } from "../runtime/client/client.ts";
import { realWorld } from "../runtime/world.ts";
import { afterwards, ask, expectProblem, Listener, served } from "./support/http.ts";
import { box } from "./support/boxes.ts";

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
