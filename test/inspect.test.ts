/**
 * Stately's inspector attached by WebSocket: the receiver of its own package hears of an actor, of what that has invoked
 * and spawned, and of every turn; and the socket is bounded as every stream is.
 */
import { request as ask } from "node:http";
import { createInspector, createWebSocketReceiver, type StatelyInspectionEvent } from "@statelyai/inspect";
import { SignJWT } from "jose";
import { defineActor, fromDurablePromise } from "keyturn";
import type { HttpOptions, HttpServer } from "keyturn/http";
import { describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { assign, createActor, createMachine, sendTo, setup } from "xstate";
import { counter } from "../actors/index.ts";
import { afterwards, RawConnection, type Served, served } from "./support/http.ts";

const grain = setup({}).createMachine({
  id: "grain",
  initial: "dry",
  states: { dry: { on: { rain: "wet" } }, wet: {} },
});
const field = setup({ actors: { grain } }).createMachine({
  id: "field",
  initial: "bare",
  context: { sown: 0 },
  states: {
    bare: { on: { sow: "sown" } },
    sown: { entry: assign({ sown: 1 }), invoke: { id: "first", src: "grain" } },
  },
});
const farmMachine = setup({
  types: { events: {} as { type: "begin" } | { type: "sow" } | { type: "rest" } },
  actors: { field, weather: fromDurablePromise(async () => "fair") },
}).createMachine({
  id: "farm",
  initial: "idle",
  states: {
    idle: { on: { begin: "working" } },
    working: {
      invoke: [
        { id: "south", src: "field" },
        { id: "forecast", src: "weather" },
      ],
      on: {
        sow: { actions: sendTo("south", { type: "sow" }) },
        rest: "idle",
      },
    },
  },
});
const farm = defineActor({ type: "farm", machine: farmMachine });
const padMachine = setup({
  types: { context: {} as { text: string }, events: {} as { type: "write"; text: string } },
}).createMachine({
  context: { text: "" },
  on: { write: { actions: assign({ text: ({ event }) => event.text }) } },
});
const pad = defineActor({ type: "pad", machine: padMachine });

// biome-ignore lint/suspicious/noExplicitAny: JSON of the protocol
type Told = any;

/** What a receiver of Stately's own hears, in order. */
class Heard {
  readonly all: Told[] = [];
  #wake: () => void = () => undefined;

  constructor(url: string) {
    createWebSocketReceiver({ server: url.replace("http", "ws") }).subscribe(
      (event: StatelyInspectionEvent) => {
        this.all.push(event);
        this.#wake();
      },
    );
  }

  async until(fits: (told: Told) => boolean): Promise<Told> {
    for (;;) {
      const found = this.all.find(fits);
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** Resolves with the code and text of the end. */
const ended = (socket: WebSocket): Promise<[number, string]> =>
  new Promise((resolve) => socket.once("close", (code, why) => resolve([code, String(why)])));

const opened = (socket: WebSocket): Promise<void> => new Promise((resolve) => socket.once("open", resolve));

/** The status that an upgrade is refused with, and the code of the problem. */
function refused(url: string, headers: Record<string, string> = {}): Promise<[number, string]> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url.replace("http", "ws"), { headers });
    socket.once("open", () => reject(new Error("It was let in.")));
    socket.on("error", () => undefined);
    socket.once("unexpected-response", (_, response) => {
      let text = "";
      response.on("data", (part) => {
        text += part;
      });
      response.on("end", () => resolve([response.statusCode as number, JSON.parse(text).code as string]));
    });
  });
}

function socketTo({ url }: HttpServer, path: string, options = {}): WebSocket {
  const socket = new WebSocket(url.replace("http", "ws") + path, options);
  socket.on("error", () => undefined);
  afterwards(async () => socket.terminate());
  return socket;
}

async function withCounter(options: HttpOptions = {}): Promise<Served> {
  const all = await served([counter], options);
  await all.node.client.actor(counter, "a").send({ type: "add", by: 1 });
  return all;
}

describe("Stately's own receiver", () => {
  it("is told of the machine, of some of the past, and of every turn that comes", async () => {
    const { server, node } = await withCounter();
    const ref = node.client.actor(counter, "a");
    await ref.send({ type: "add", by: 2 });
    const heard = new Heard(`${server.url}/actors/counter/a/inspect?turns=1`);
    await heard.until(({ type, snapshot }) => type === "@xstate.snapshot" && snapshot.context.count === 3);
    await ref.send({ type: "add", by: 4 });
    await heard.until(({ type, snapshot }) => type === "@xstate.snapshot" && snapshot.context.count === 7);
    expect(heard.all.map(({ type, event }) => [type, event?.by])).toEqual([
      ["@xstate.actor", undefined],
      ["@xstate.event", 2],
      ["@xstate.snapshot", 2],
      ["@xstate.event", 4],
      ["@xstate.snapshot", 4],
    ]);
    for (const one of heard.all)
      expect(one).toMatchObject({ sessionId: "counter/a", rootId: "counter/a", _version: "0.7.2" });
    expect(new Set(heard.all.map(({ id }) => id)).size).toBe(5);
  });

  it("is told of children and theirs, with whose they are and the machines they are", async () => {
    const { server, node } = await served([farm]);
    const ref = node.client.actor(farm, "f");
    const heard = new Heard(`${server.url}/actors/farm/f/inspect`);
    await heard.until(({ type }) => type === "@xstate.actor");
    await ref.send({ type: "begin" });
    const south = await heard.until(({ type, name }) => type === "@xstate.actor" && name === "south");
    expect(south).toMatchObject({
      sessionId: "farm/f#south",
      parentId: "farm/f",
      rootId: "farm/f",
      snapshot: { status: "active", value: "bare", context: { sown: 0 } },
    });
    const forecast = await heard.until(({ type, name }) => type === "@xstate.actor" && name === "forecast");
    expect(forecast).toMatchObject({ parentId: "farm/f", definition: '{"id":"forecast"}' });
    expect(heard.all.map(({ event }) => event?.type)).toContain("begin");
    const done = await heard.until(({ event }) => event?.type === "xstate.promise.resolve");
    expect(done).toMatchObject({
      type: "@xstate.event",
      sessionId: "farm/f#forecast",
      event: { data: "fair" },
    });
    await heard.until(
      ({ sessionId, snapshot }) => sessionId === "farm/f#forecast" && snapshot?.status === "done",
    );
    await ref.send({ type: "sow" });
    const first = await heard.until(({ type, name }) => type === "@xstate.actor" && name === "first");
    expect(first).toMatchObject({
      sessionId: "farm/f#south/first",
      parentId: "farm/f#south",
      snapshot: { value: "dry" },
    });
    const sown = await heard.until(
      ({ type, sessionId, snapshot }) =>
        type === "@xstate.snapshot" && sessionId === "farm/f#south" && snapshot.value === "sown",
    );
    expect(sown.snapshot.children).toEqual({ first: { xstate$$type: 1, id: "farm/f#south/first" } });
    await ref.send({ type: "rest" });
    for (const path of ["south", "south/first"])
      await heard.until(
        ({ sessionId, snapshot }) => sessionId === `farm/f#${path}` && snapshot?.status === "stopped",
      );
  });

  it("can draw the machines: their definitions are those that XState's inspector gives, and make machines", async () => {
    const plain: Told[] = [];
    const { inspect } = createInspector({ send: (event) => plain.push(event) });
    const actor = createActor(farmMachine, { inspect });
    actor.start();
    actor.send({ type: "begin" });
    const { server, node } = await served([farm]);
    const heard = new Heard(`${server.url}/actors/farm/f/inspect`);
    await node.client.actor(farm, "f").send({ type: "begin" });
    const definitions = async (of: Told[], name: RegExp): Promise<Told> => {
      const named = ({ type, name: own }: Told): boolean => type === "@xstate.actor" && name.test(own);
      await expect.poll(() => of.some(named)).toBe(true);
      return JSON.parse(of.find(named).definition);
    };
    for (const name of [/^farm/, /^south$/]) {
      const ours = await definitions(heard.all, name);
      expect(ours).toEqual(await definitions(plain, name));
      expect(createMachine(ours).root.key).toBe(ours.id);
    }
    actor.stop();
  });

  it("hears what XState's own inspector tells of the same machine, field by field", async () => {
    const plain: Told[] = [];
    const { inspect } = createInspector({ send: (event) => plain.push(JSON.parse(JSON.stringify(event))) });
    const actor = createActor(padMachine, { inspect }).start();
    const { server, node } = await served([pad]);
    const heard = new Heard(`${server.url}/actors/pad/p/inspect`);
    await heard.until(({ type }) => type === "@xstate.actor");
    for (const text of ["one", "two"]) {
      actor.send({ type: "write", text });
      await node.client.actor(pad, "p").send({ type: "write", text });
    }
    const isLast = ({ type, snapshot }: Told): boolean =>
      type === "@xstate.snapshot" && snapshot.context.text === "two";
    await heard.until(isLast);
    // It tells one event with each turn of the event loop, and may be the later one.
    await expect.poll(() => plain.some(isLast)).toBe(true);
    // XState's begins with the machine's own first step.
    const isTurn = ({ type, event }: Told): boolean => type === "@xstate.actor" || event?.type === "write";
    const content = ({ type, event, snapshot }: Told): object => ({
      type,
      event,
      value: snapshot?.value,
      context: snapshot?.context,
      status: snapshot?.status,
    });
    const theirs = plain.filter(isTurn);
    expect(heard.all.map(content)).toEqual(theirs.map(content));
    for (const [at, one] of heard.all.entries())
      expect(Object.keys(one)).toEqual(expect.arrayContaining(Object.keys(theirs[at])));
    actor.stop();
  });

  it("hears of a later life as of a new actor", async () => {
    const { server, node } = await withCounter();
    const heard = new Heard(`${server.url}/actors/counter/a/inspect`);
    await heard.until(({ type }) => type === "@xstate.snapshot");
    const ref = node.client.actor(counter, "a");
    await ref.send({ type: "add", by: 1 });
    await heard.until(({ snapshot }) => snapshot?.context?.count === 2);
    await ref.delete();
    await ref.send({ type: "add", by: 9 });
    await heard.until(({ type, snapshot }) => type === "@xstate.snapshot" && snapshot.context.count === 9);
    expect(heard.all.filter(({ type }) => type === "@xstate.actor")).toHaveLength(2);
  });
});

describe("who may attach", () => {
  const secret = "a secret of thirty-two bytes, or more";
  const sign = (exp: number | string = "1h"): Promise<string> =>
    new SignJWT({})
      .setProtectedHeader({ alg: "HS256" })
      .setSubject("ada")
      .setExpirationTime(exp)
      .sign(new TextEncoder().encode(secret));

  it("whoever has a token, in the address or in a header; others are refused before the upgrade", async () => {
    const { server } = await served([counter], {
      auth: { secret },
      authorize: ({ key, action }) => key === "a" && (action === "watch" || action === "history"),
    });
    const at = `${server.url}/actors/counter/a/inspect`;
    const token = await sign();
    const heard = new Heard(`${at}?access_token=${token}`);
    await heard.until(({ type }) => type === "@xstate.actor");
    await opened(
      socketTo(server, "/actors/counter/a/inspect", { headers: { authorization: `Bearer ${token}` } }),
    );
    expect(await refused(at)).toEqual([401, "access_denied"]);
    expect(await refused(`${at}?access_token=${token}x`)).toEqual([401, "access_denied"]);
    expect(await refused(`${server.url}/actors/counter/b/inspect?access_token=${token}`)).toEqual([
      403,
      "access_denied",
    ]);
    // In an address it counts for WebSockets and streams only.
    expect((await fetch(`${at.replace(/\/inspect$/, "")}?access_token=${token}`)).status).toBe(401);
  });

  it("no page of another origin, unless it is allowed", async () => {
    const { server } = await withCounter({ cors: { origins: ["https://friend.example"] } });
    const path = "/actors/counter/a/inspect";
    expect(await refused(server.url + path, { origin: "https://evil.example" })).toEqual([
      403,
      "access_denied",
    ]);
    for (const origin of ["https://friend.example", server.url])
      await opened(socketTo(server, path, { headers: { origin } }));
  });

  it("a question that is wrong is refused as over plain HTTP", async () => {
    const { server } = await withCounter();
    expect(await refused(`${server.url}/actors/counter/a/inspect?turns=0`)).toEqual([400, "invalid_options"]);
    expect(await refused(`${server.url}/actors/none/a/inspect`)).toEqual([404, "unknown_type"]);
    expect(await refused(`${server.url}/actors/counter/a`)).toEqual([400, "invalid_options"]);
    expect(await refused(`${server.url}/dashboard/`)).toEqual([400, "invalid_options"]);
    expect(await refused(`${server.url}/nowhere`)).toEqual([404, "invalid_address"]);
    expect(server.streams).toBe(0);
  });

  it("it ends with its token", async () => {
    const { server } = await served([counter], {
      auth: { secret, clockTolerance_s: 1 },
      limits: { heartbeat_ms: 50 },
    });
    const token = await sign(Math.floor(Date.now() / 1_000) + 1);
    const socket = socketTo(server, `/actors/counter/a/inspect?access_token=${token}`);
    expect(await ended(socket)).toEqual([1_008, "The token has expired."]);
    await expect.poll(() => server.streams).toBe(0);
  });
});

describe("bounds", () => {
  it("sockets count among the streams of their caller, and their places come back", async () => {
    const { server } = await withCounter({ limits: { streamsPerCaller: 2 } });
    const path = "/actors/counter/a/inspect";
    const sockets = [socketTo(server, path), socketTo(server, path)];
    await Promise.all(sockets.map(opened));
    expect(await refused(server.url + path)).toEqual([429, "overloaded"]);
    sockets[0]?.close();
    await expect.poll(() => server.streams).toBe(1);
    await opened(socketTo(server, path));
  });

  it("requests in flight are none once the socket is open, or refused, or gone", async () => {
    const { server, call } = await withCounter({ limits: { inFlight: 2 } });
    const path = "/actors/counter/a/inspect";
    for (let n = 0; n < 5; n++) await opened(socketTo(server, path));
    for (let n = 0; n < 5; n++) await refused(`${server.url}${path}?turns=0`);
    for (let n = 0; n < 5; n++) {
      const raw = new RawConnection(server);
      // No key: the handshake itself is wrong.
      raw.write(
        `GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n`,
      );
      expect(await raw.ended()).toMatch(/^HTTP\/1\.1 400/);
    }
    expect((await call("GET", "/actors/counter/a")).status).toBe(200);
    await expect.poll(() => server.streams).toBe(5);
  });

  it("a reader who takes nothing is cut off", async () => {
    const { server, node } = await served([pad], { limits: { slowReader_ms: 100 } });
    const socket = socketTo(server, "/actors/pad/a/inspect");
    await opened(socket);
    socket.pause();
    const gone = ended(socket);
    const ref = node.client.actor(pad, "a");
    for (let n = 0; server.streams > 0; n++)
      await ref.send({ type: "write", text: String(n % 10).repeat(100_000) });
    socket.resume();
    expect((await gone)[0]).toBe(1_006);
  });

  it("whoever sends something is cut off: nothing is taken", async () => {
    const { server } = await withCounter();
    for (const [text, code] of [
      ["hello", 1_008],
      ["x".repeat(5_000), 1_009],
    ] as const) {
      const socket = socketTo(server, "/actors/counter/a/inspect");
      await opened(socket);
      socket.send(text);
      expect((await ended(socket))[0]).toBe(code);
    }
    await expect.poll(() => server.streams).toBe(0);
  });

  it("all are told when the server ends", async () => {
    const { server } = await withCounter();
    const socket = socketTo(server, "/actors/counter/a/inspect");
    await opened(socket);
    const end = ended(socket);
    await server.close();
    expect((await end)[0]).toBe(1_001);
  });
});

it.each(["h2c", "websocket2", "TLS/1.0"])("who asks for an upgrade to %s is answered as ever", async (to) => {
  const { server } = await withCounter();
  const asked = (method: string, body?: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const headers = { connection: "upgrade", upgrade: to, "content-type": "application/json" };
      const request = ask(`${server.url}/actors/counter/a`, { method, headers }, (response) => {
        let text = "";
        response.on("data", (part) => {
          text += part;
        });
        response.on("end", () => resolve(text));
      });
      request.on("error", reject);
      request.end(body);
    });
  expect(JSON.parse(await asked("GET")).context).toMatchObject({ count: 1 });
  expect(JSON.parse(await asked("POST", '{"type":"add","by":5}')).value).toBe(6);
});
