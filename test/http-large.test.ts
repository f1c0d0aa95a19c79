/** Large answers are sent compressed to who takes that, and a stream of states as slowly as its reader wants. */
import { defineActor } from "keyturn";
import { assign, setup } from "xstate";
import { expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { Listener, served } from "./support/http.ts";

const page = defineActor({
  type: "page",
  machine: setup({
    types: { context: {} as { text: string }, events: {} as { type: "write"; text: string } },
  }).createMachine({
    context: { text: "" },
    on: { write: { actions: assign({ text: ({ event }) => event.text }) } },
  }),
});

const path = "/actors/page/a";

it("a large answer is compressed for who takes that, a small one is not", async () => {
  const { node, call } = await served([page]);
  const text = "all work and no play ".repeat(5_000);
  await node.client.actor(page, "a").send({ type: "write", text });
  const taken = await call("GET", path, { headers: { "accept-encoding": "br, gzip;q=0.5" } });
  expect(taken.headers.get("content-encoding")).toBe("gzip");
  expect(Number(taken.headers.get("content-length"))).toBeLessThan(text.length / 10);
  expect(taken.body.context).toEqual({ text });
  for (const accepted of ["identity", "br", "gzip;q=0", "gzip;q=0.0", "gzipped"]) {
    const plain = await call("GET", path, { headers: { "accept-encoding": accepted } });
    expect(plain.headers.get("content-encoding"), accepted).toBeNull();
    expect(plain.headers.get("vary")).toMatch(/accept-encoding/i);
    expect(plain.body).toEqual(taken.body);
  }
  const etag = taken.headers.get("etag") as string;
  expect((await call("GET", path, { headers: { "if-none-match": etag } })).status).toBe(304);
  await node.client.actor(page, "a").send({ type: "write", text: "short" });
  const small = await call("GET", path, { headers: { "accept-encoding": "gzip" } });
  expect(small.headers.get("content-encoding")).toBeNull();
});

it("a watch that wants to rest is told the newest after each pause, and the last in any case", async () => {
  const { node, server, call } = await served([counter]);
  const ref = node.client.actor(counter, "a");
  const began = performance.now();
  const listener = await Listener.open(server.url, "/actors/counter/a/watch?pause=200");
  expect((await listener.next())?.data.turn).toBe(0);
  for (let n = 0; n < 300; n++) await ref.send({ type: "add", by: 1 });
  let told = 1;
  for (let turn = 0; turn < 300; told++) {
    const data = (await listener.next())?.data;
    expect(data.turn).toBeGreaterThan(turn);
    turn = data.turn;
  }
  expect(told).toBeLessThanOrEqual((performance.now() - began) / 200 + 2);
  for (const pause of ["0", "60001", "x", "-1"])
    expect((await call("GET", `/actors/counter/a/watch?pause=${pause}`)).status, pause).toBe(400);
});
