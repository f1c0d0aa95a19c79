/** The client of pages, over a real server, through a network that fails. It needs only `fetch`, which Node has too. */
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { SignJWT } from "jose";
import { defineActor, type KeyturnNode, memory, reply, startNode, type Store } from "keyturn";
import {
  type ActorState,
  type BrowserClient,
  type ChangedActor,
  type ClientOptions,
  createClient,
  isKeyturnError,
  type Watched,
} from "keyturn/browser";
import { type HttpServer, type HttpOptions, serveHttp } from "keyturn/http";
import { describe, expect, it } from "vitest";
import { assign, setup } from "xstate";
import { counter } from "../actors/index.ts";
import { isNewer } from "../runtime/words/newer.ts";
import { positionOf } from "../runtime/words/position.ts";
import { TcpProxy } from "./chaos/proxy.ts";
import { afterwards, served } from "./support/http.ts";
import { parcel } from "./support/parcels.ts";

/** Keeps the order in which it was told something, and answers oddly. */
const diary = defineActor({
  type: "diary",
  machine: setup({
    types: {
      context: {} as { notes: readonly unknown[]; same: { readonly deep: readonly number[] } },
      events: {} as { type: "note"; note: unknown } | { type: "nothing" } | { type: "fail" },
    },
  }).createMachine({
    context: { notes: [], same: { deep: [1, 2] } },
    on: {
      note: {
        actions: [
          assign({ notes: ({ context, event }) => [...context.notes, event.note] }),
          reply(({ context }) => context.notes.length),
        ],
      },
      nothing: { actions: reply(null) },
      fail: {
        actions: () => undefined,
        guard: () => {
          throw new Error("It was asked to.");
        },
      },
    },
  }),
  types: {} as { replies: { note: number; nothing: null } },
});
const actors = [counter, diary, parcel];

const SOON = { timeout: 10_000 };

function clientOf(options: ClientOptions): BrowserClient {
  const client = createClient(options);
  afterwards(async () => client.close());
  return client;
}

/** A server, a proxy before it, and a client that knows only the proxy. */
async function behindProxy(options: HttpOptions = {}) {
  const { node, server } = await served(actors, options);
  const proxy = await TcpProxy.start([server.port]);
  afterwards(() => proxy.close());
  return { node, server, proxy, client: clientOf({ url: `http://${proxy.addresses[0]}` }) };
}

/** What a server answers that is none, or not this one. */
interface Scripted {
  readonly status?: number;
  readonly type?: string;
  readonly body: string;
  /** The connection ends within the body. */
  readonly cut?: boolean;
  /** More may come. */
  readonly open?: boolean;
  /** Seconds for which the server wants to be left alone; whoever comes earlier is refused for good. */
  readonly later?: number;
}

/** A server that answers what it is told to, and a client of it. */
async function scripted() {
  const answers: Scripted[] = [];
  let from_ms = 0;
  const requests: { url: string | undefined; headers: IncomingHttpHeaders; body: unknown }[] = [];
  const server = createServer(async (request, response) => {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const text = Buffer.concat(pieces).toString();
    requests.push({
      url: request.url,
      headers: request.headers,
      body: text === "" ? undefined : JSON.parse(text),
    });
    if (performance.now() < from_ms) return response.writeHead(400, { "content-type": "text/html" }).end();
    const { status = 200, type = "application/json", body, ...how } = answers.shift() as Scripted;
    if (how.later !== undefined) {
      response.setHeader("retry-after", String(how.later));
      from_ms = performance.now() + how.later * 1_000 - 10;
    }
    if (how.open === true) return response.writeHead(status, { "content-type": type }).write(body);
    if (how.cut !== true) return response.writeHead(status, { "content-type": type }).end(body);
    response.writeHead(status, { "content-type": type, "content-length": "1000" });
    response.write(body, () => response.socket?.resetAndDestroy());
    return undefined;
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  afterwards(async () => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  return { answers, requests, client: clientOf({ url: `http://127.0.0.1:${port}/` }) };
}

/** A stream that tells states of counter/a, by their turns, with line ends of all kinds. */
function eventsOf(...turns: number[]): string {
  const state = (turn: number) => ({
    value: "on",
    context: { count: turn },
    status: "active",
    turn,
    position: turn,
  });
  const told = turns.map((turn) => JSON.stringify({ address: "counter/a", state: state(turn) }));
  const open = 'event: open\r\ndata: {"heartbeat_ms":15000}\r\n\r\n';
  return `:\n\n${open}${told.map((data) => `event: state\rdata: ${data}\r\r`).join("")}\n`;
}

/** Resolves when what is watched fits. */
function until<S>(
  ref: { subscribe(listener: (watched: Watched<S>) => void): () => void; watched(): Watched<S> },
  fits: (watched: Watched<S>) => boolean,
): Promise<Watched<S>> {
  return new Promise((resolve) => {
    let leave: () => void = () => undefined;
    const look = (watched: Watched<S>): void => {
      if (!fits(watched)) return;
      queueMicrotask(() => leave());
      resolve(watched);
    };
    leave = ref.subscribe(look);
    look(ref.watched());
  });
}

describe("calls", () => {
  it("ask, send, create, read, delete, as in Node", async () => {
    const { server, node } = await served(actors);
    const client = clientOf({ url: `${server.url}/` });
    const home = client.actor(counter, "home");
    expect(await home.ask({ type: "add", by: 2 })).toBe(2);
    await home.send({ type: "off" });
    const state = await home.get();
    expect(state).toMatchObject({ value: "off", context: { count: 2 }, turn: 2, status: "active" });
    // Without a reply it is the state, with one that is null it is null.
    expect(await home.ask({ type: "on" })).toMatchObject({ value: "on", turn: 3 });
    expect(await client.actor(diary, "a").ask({ type: "nothing" })).toBeNull();
    expect(await client.actor(diary, "a").call({ type: "nothing" })).toMatchObject({
      replied: true,
      value: null,
    });
    const turns = [];
    for await (const turn of home.history({ order: "oldest" })) turns.push(turn.event.type);
    expect(turns).toEqual(["add", "off", "on"]);
    expect((await home.historyPage({ limit: 1 })).turns).toMatchObject([{ turn: 3 }]);
    await home.delete();
    expect((await node.client.actor(counter, "home").get()).turn).toBe(0);
    expect(await client.actor("parcel/new").create()).toMatchObject({ turn: 1 });
    await expect(client.actor("parcel/new").create()).rejects.toMatchObject({ code: "already_exists" });
    for (const key of ["a/b c", "..", ".", "ä€😀", "%2F"]) {
      expect(await client.actor(counter, key).ask({ type: "add", by: 1 })).toBe(1);
      expect((await client.actor(counter, key).get()).turn).toBe(1);
    }
  });

  it("carry what JSON has no form for, both ways", async () => {
    const { server } = await served(actors);
    const note = {
      at: new Date(5),
      bytes: new Uint8Array([0, 255]),
      big: 2n ** 60n,
      map: new Map([["a", new Set([1])]]),
      not: Number.NaN,
    };
    const a = clientOf({ url: server.url }).actor(diary, "a");
    await a.send({ type: "note", note });
    expect((await a.get()).context.notes).toEqual([note]);
  });

  it("are refused with the error that the server has, or here, before anything is sent", async () => {
    const { server } = await served(actors);
    const client = clientOf({ url: server.url });
    const wrong = client.actor(counter, "a").ask({ type: "add", by: "x" as never });
    await expect(wrong).rejects.toMatchObject({
      name: "KeyturnError",
      code: "invalid_event",
      outcome: "rejected",
      retryable: false,
    });
    await expect(wrong.catch((error: unknown) => isKeyturnError(error, "invalid_event"))).resolves.toBe(true);
    await expect(client.actor(diary, "a").send({ type: "fail" })).rejects.toMatchObject({
      code: "machine_failed",
    });
    await expect(client.actor("nobody/a").get()).rejects.toMatchObject({ code: "unknown_type" });
    for (const bad of [{ timeout_ms: 0 }, { requestId: "with space" }, { requestId: "x".repeat(200) }])
      await expect(client.actor(counter, "a").send({ type: "on" }, bad)).rejects.toMatchObject({
        code: "invalid_options",
      });
    for (const address of ["a", "", "1/a", "counter/", `counter/${"x".repeat(200)}`, "counter/\ud800"])
      expect(() => client.actor(address)).toThrow(expect.objectContaining({ code: "invalid_address" }));
    const self: Record<string, unknown> = {};
    self.self = self;
    await expect(client.actor(diary, "a").send({ type: "note", note: self })).rejects.toMatchObject({
      code: "invalid_event",
    });
    for (const options of [{}, { url: "x" }, { url: "ftp://x" }, { url: server.url, token: 5 as never }])
      expect(() => createClient(options)).toThrow(expect.objectContaining({ code: "invalid_options" }));
  });

  it("of one actor stay in their order, however many there are at once", async () => {
    const { server, client } = await behindProxy();
    const a = client.actor(diary, "a");
    const notes = Array.from({ length: 200 }, (_, n) => n);
    const answers = await Promise.all(notes.map((note) => a.ask({ type: "note", note })));
    expect(answers).toEqual(notes.map((note) => note + 1));
    const read = a.get();
    const last = a.ask({ type: "note", note: "last" });
    expect((await read).context.notes).toEqual(notes);
    expect(await last).toBe(201);
    expect((await a.get()).turn).toBe(201);
    expect(server.streams).toBe(0);
  });

  it("happen once and in order, whatever becomes of their answers", async () => {
    const { proxy, client, node } = await behindProxy();
    const a = client.actor(diary, "a");
    const notes: number[] = [];
    // One goes by itself, several go as a batch.
    for (const together of [1, 6, 1, 40]) {
      // What is asked arrives, and what is answered is lost.
      proxy.cut(["down"]);
      const asked = Array.from({ length: together }, () => {
        notes.push(notes.length);
        return a.ask({ type: "note", note: notes.length - 1 }, { timeout_ms: 60_000 });
      });
      const applied = notes.length - together + Math.min(together, 16);
      await expect.poll(async () => (await node.client.actor(diary, "a").get()).turn).toBe(applied);
      proxy.heal("reset");
      expect(await Promise.all(asked)).toEqual(notes.slice(-together).map((note) => note + 1));
    }
    expect((await node.client.actor(diary, "a").get()).context.notes).toEqual(notes);
  });

  it("end with a time-out, an abort or the client, and say what is known of them", async () => {
    const { proxy } = await behindProxy();
    let sent = 0;
    const counted: typeof fetch = (input, init) => {
      sent++;
      return fetch(input, init);
    };
    const client = clientOf({ url: `http://${proxy.addresses[0]}`, fetch: counted });
    const a = client.actor(diary, "a");
    await a.send({ type: "note", note: 0 });
    proxy.cut();
    const late = a.send({ type: "note", note: 1 }, { timeout_ms: 300 });
    const behind = a.send({ type: "note", note: 2 }, { timeout_ms: 100 });
    await expect(behind).rejects.toMatchObject({ outcome: "unknown" });
    await expect(late).rejects.toMatchObject({ outcome: "unknown", requestId: expect.any(String) });
    const stop = new AbortController();
    const reason = new Error("The view is gone.");
    const aborted = a.ask({ type: "note", note: 3 }, { signal: stop.signal });
    stop.abort(reason);
    await expect(aborted).rejects.toBe(reason);
    await expect(a.get({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    sent = 0;
    const open = a.send({ type: "note", note: 4 });
    const reading = a.historyPage();
    const watching = a.watch().next();
    await expect.poll(() => sent).toBe(3);
    const behindIt = a.send({ type: "note", note: 5 });
    client.close();
    await expect(behindIt).rejects.toMatchObject({ code: "client_ended", outcome: "notApplied" });
    await expect(open).rejects.toMatchObject({ code: "client_closed", outcome: "unknown" });
    await expect(reading).rejects.toMatchObject({ code: "client_closed" });
    await expect(watching).rejects.toMatchObject({ code: "client_closed" });
    await expect(a.get()).rejects.toMatchObject({ code: "client_ended", outcome: "notApplied" });
    expect(a.watched().state).toBeUndefined();
  });

  it("wait for their turn, and say that they were not sent", async () => {
    const { proxy, client } = await behindProxy();
    const a = client.actor(diary, "a");
    proxy.cut();
    const first = a.send({ type: "note", note: 1 }, { timeout_ms: 5_000 });
    await expect.poll(() => proxy.connections).toBe(1);
    const second = a.send({ type: "note", note: 2 }, { timeout_ms: 100 });
    await expect(second).rejects.toMatchObject({ code: "overloaded", outcome: "notApplied" });
    proxy.heal("reset");
    await first;
    expect((await a.get()).context.notes).toEqual([1]);
  });

  it("are answered again under an id of one's own", async () => {
    const { server } = await served(actors);
    const [one, other] = [clientOf({ url: server.url }), clientOf({ url: server.url })];
    const requestId = "order-1";
    expect(await one.actor(diary, "a").ask({ type: "note", note: 1 }, { requestId })).toBe(1);
    expect(await other.actor(diary, "a").ask({ type: "note", note: 1 }, { requestId })).toBe(1);
  });

  it("find and count", async () => {
    const { server, node } = await served(actors);
    const client = clientOf({ url: server.url });
    for (let n = 0; n < 130; n++)
      await node.client
        .actor(parcel, `p${String(n).padStart(3, "0")}`)
        .send({ type: "pack", owner: n % 2 ? "ada" : "bob", weight: n });
    const keys: string[] = [];
    for await (const { key } of client.find(parcel, { where: { "owner.id": "ada", weight: { gte: 10 } } }))
      keys.push(key);
    expect(keys).toHaveLength(60);
    expect(keys[0]).toBe("p011");
    const page = await client.findPage("parcel", { prefix: "p1", limit: 3 });
    expect(page).toMatchObject({ actors: [{ key: "p100" }, { key: "p101" }, { key: "p102" }], next: "p102" });
    const limited = [];
    for await (const { key } of client.find(parcel, { limit: 105 })) limited.push(key);
    expect(limited).toHaveLength(105);
    expect(await client.count(parcel, { state: "open" })).toEqual({ total: 130, states: { open: 130 } });
    await expect(client.count(parcel, { where: { nothing: 1 } })).rejects.toMatchObject({
      code: "invalid_options",
    });
  });
});

describe("changes", () => {
  it("are told as they come, behind a break too, and end with their signal or the client", async () => {
    const { client, proxy, node, server } = await behindProxy();
    const pack = (key: string, weight: number) =>
      node.client.actor(parcel, key).send({ type: "pack", owner: "ada", weight });
    await pack("old", 9);
    let resets = 0;
    const stop = new AbortController();
    const query = { where: { "owner.id": "ada" }, signal: stop.signal, onReset: () => resets++ };
    const changes = client.changes(parcel, query);
    const all: string[] = [];
    const weightOf = async (): Promise<string> => {
      const { value } = (await changes.next()) as { value: ChangedActor };
      all.push(`${value.key} ${value.actor?.fields.weight}`);
      return all.at(-1) as string;
    };
    /** What was told just before a break may be told again. */
    const next = async (wanted: string): Promise<void> => {
      const told = [await weightOf()];
      while (told.at(-1) !== wanted) told.push(await weightOf());
      expect(told.length).toBeLessThanOrEqual(3);
    };
    await next("old 9");
    await pack("a", 1);
    await next("a 1");
    await pack("b", 2);
    await next("b 2");
    for (let weight = 3; weight < 6; weight++) {
      proxy.reset();
      await pack("a", weight);
      await next(`a ${weight}`);
    }
    await node.client.actor(parcel, "b").delete();
    await next("b undefined");

    // What was known is not told with every break.
    expect(all.filter((one) => one === "old 9")).toHaveLength(1);
    expect(resets).toBe(0);
    const last = changes.next();
    stop.abort();
    expect(await last).toMatchObject({ done: true });
    await expect.poll(() => server.streams, SOON).toBe(0);
    const other = client.changes("parcel", { initial: false }).next();
    await expect.poll(() => server.streams, SOON).toBe(1);
    client.close();
    await expect(other).rejects.toMatchObject({ code: "client_closed" });
    await expect(client.changes("parcel").next()).rejects.toMatchObject({ code: "client_closed" });
  });

  it("are refused by name", async () => {
    const { client } = await behindProxy();
    await expect(client.changes("nobody").next()).rejects.toMatchObject({ code: "unknown_type" });
    await expect(client.changes(parcel, { where: { nothing: 1 } }).next()).rejects.toMatchObject({
      code: "invalid_options",
    });
  });
});

describe("what stands between", () => {
  it("asks to be left alone, and is", async () => {
    const { server, node } = await served(actors, { limits: { rate: { perSecond: 4, burst: 2 } } });
    const client = clientOf({ url: server.url });
    const keys = Array.from({ length: 6 }, (_, n) => `n${n}`);
    const asked = keys.map((key) =>
      client.actor(counter, key).ask({ type: "add", by: 1 }, { timeout_ms: 60_000 }),
    );
    expect(await Promise.all(asked)).toEqual(keys.map(() => 1));
    expect(await node.client.count(counter)).toMatchObject({ total: 6 });
  });

  it("answers in its own way, and that is told apart from what will pass", async () => {
    const { client, answers, requests } = await scripted();
    const a = client.actor(counter, "a");
    const html = { type: "text/html", body: "<h1>Bad gateway</h1>" };
    const state = { value: "on", context: { count: 7 }, status: "active", turn: 7 };
    const good = { body: JSON.stringify({ value: 7, replied: true, state, position: 3 }) };
    answers.push({ ...html, status: 502 }, { ...html, status: 504 }, { body: '{"value":7', cut: true }, good);
    expect(await a.ask({ type: "add", by: 1 })).toBe(7);
    expect(requests).toHaveLength(4);
    const ids = requests.map(({ headers }) => headers["idempotency-key"]);
    expect(new Set(ids).size).toBe(1);
    expect(ids[0]).toMatch(/^[\w-]{22}$/);
    for (const [answer, code] of [
      [{ ...html, status: 404 }, "server_unsuitable"],
      [{ ...html, status: 200 }, "server_unsuitable"],
      [{ body: "[]" }, "server_unsuitable"],
      [{ ...html, status: 403 }, "access_denied"],
      [{ ...html, status: 413 }, "event_too_large"],
    ] as const) {
      answers.push(answer);
      await expect(a.ask({ type: "add", by: 1 })).rejects.toMatchObject({ code, retryable: false });
    }
    // A server that is newer than this client has codes of its own, and says what they mean.
    const problem = { code: "moon_is_full", detail: "Wait.", retryable: false, outcome: "applied" };
    answers.push({ status: 500, type: "application/problem+json", body: JSON.stringify(problem) });
    await expect(a.ask({ type: "add", by: 1 })).rejects.toMatchObject({
      code: "moon_is_full",
      retryable: false,
      outcome: "applied",
      message: "Wait.",
    });
    answers.push({ status: 200, body: "{}" });
    await until(a, ({ status }) => status === "failed");
    expect(a.watched().error).toMatchObject({ code: "server_unsuitable" });
  });

  it("is not asked again before it wants to be", async () => {
    const { client, answers } = await scripted();
    const html = { status: 503, type: "text/html", body: "" };
    answers.push({ ...html, later: 1 }, { status: 204, body: "" });
    await client.actor(counter, "a").send({ type: "add", by: 1 });
    answers.push({ ...html, later: 1 }, { body: JSON.stringify({ turns: [] }) });
    expect(await client.actor(counter, "a").historyPage()).toEqual({ turns: [], next: undefined });
    answers.push({ ...html, later: 1 }, { type: "text/event-stream", body: eventsOf(5), open: true });
    await until(client.actor(counter, "a"), ({ status }) => status === "live");
  });

  it("may tell an older state behind a newer one, which is not shown", async () => {
    const { client, answers, requests } = await scripted();
    const type = "text/event-stream";
    // A proxy may answer for a server that is being replaced.
    const html = { status: 404, type: "text/html", body: "<h1>Nobody</h1>" };
    answers.push({ type, body: eventsOf(5, 4, 6) }, html, { type, body: eventsOf(6, 5, 7), open: true });
    const a = client.actor(counter, "a");
    const seen: (number | undefined)[] = [];
    const leave = a.subscribe(({ state }) => seen.push(state?.turn));
    await until(a, ({ state }) => state?.turn === 7);
    expect([...new Set(seen)]).toEqual([5, 6, 7]);
    expect(seen).toEqual([...seen].sort());
    expect(requests.map(({ body }) => body)).toEqual([
      { actors: [{ address: "counter/a" }] },
      { actors: [{ address: "counter/a", since: "6-6" }] },
      { actors: [{ address: "counter/a", since: "6-6" }] },
    ]);
    leave();
  });

  it("may have applied what it then refuses to repeat: that is unknown", async () => {
    const { client, answers } = await scripted();
    const a = client.actor(counter, "a");
    answers.push({ cut: true, body: "{" }, { status: 403, type: "text/html", body: "" });
    await expect(a.ask({ type: "add", by: 1 }, { requestId: "mine" })).rejects.toMatchObject({
      outcome: "unknown",
      requestId: "mine",
      cause: { code: "access_denied" },
    });
    // A deletion could hit what came after it, so it is not repeated.
    answers.push({ cut: true, body: "" });
    await expect(a.delete()).rejects.toMatchObject({ code: "unreachable", outcome: "unknown" });
  });

  it("turns no order round: what was not applied is not repeated behind what was", async () => {
    const { client, answers, requests } = await scripted();
    const a = client.actor(counter, "a");
    const refused = {
      status: 503,
      problem: { code: "overloaded", detail: "Full.", retryable: true, outcome: "notApplied" },
    };
    const done = { status: 204 };
    answers.push({ body: JSON.stringify({ results: [refused, done, refused] }) }, { status: 204, body: "" });
    const sent = [1, 2, 3].map((by) => a.send({ type: "add", by }));
    expect(await Promise.allSettled(sent)).toMatchObject([
      { status: "rejected", reason: { code: "overloaded", outcome: "notApplied" } },
      { status: "fulfilled" },
      { status: "fulfilled" },
    ]);
    expect(requests.map(({ url }) => url)).toEqual(["/batch", "/actors/counter/a?mode=send"]);
    expect(requests[1]?.body).toEqual({ type: "add", by: 3 });
  });
});

describe("tokens", () => {
  const secret = "0123456789abcdef0123456789abcdef";
  const tokenFor = (sub: string): Promise<string> =>
    new SignJWT({ sub })
      .setProtectedHeader({ alg: "HS256" })
      .setExpirationTime("1 minute")
      .sign(new TextEncoder().encode(secret));
  const options: HttpOptions = {
    auth: { secret },
    authorize: ({ key, subject }) => key === subject,
  };

  it("are asked for again when one was refused, once", async () => {
    const { server } = await served(actors, options);
    const asked: boolean[] = [];
    const good = await tokenFor("ada");
    const client = clientOf({
      url: server.url,
      token: async ({ again }) => {
        asked.push(again);
        return again ? good : "stale";
      },
    });
    expect(await client.actor(counter, "ada").ask({ type: "add", by: 1 })).toBe(1);
    expect(asked).toEqual([false, true]);
    for await (const { turn } of client.actor(counter, "ada").watch()) {
      expect(turn).toBe(1);
      break;
    }
    await expect(client.actor(counter, "bob").get()).rejects.toMatchObject({ code: "access_denied" });
    const stranger = clientOf({ url: server.url, token: "wrong" });
    await expect(stranger.actor(counter, "ada").get()).rejects.toMatchObject({ code: "access_denied" });
  });

  it("that are refused fail the watches, which go on after signing in", async () => {
    const { server } = await served(actors, options);
    let token: string | undefined;
    const client = clientOf({ url: server.url, token: () => token });
    const [ada, bob] = [client.actor(counter, "ada"), client.actor(counter, "bob")];
    const leave = [ada, bob].map((ref) => ref.subscribe(() => undefined));
    await until(ada, ({ status }) => status === "failed");
    expect(bob.watched()).toMatchObject({ status: "failed", error: { code: "access_denied" } });
    await expect(bob.watch().next()).rejects.toMatchObject({ code: "access_denied" });
    token = await tokenFor("ada");
    client.reconnect();
    expect(await until(ada, ({ status }) => status === "live")).toMatchObject({
      error: undefined,
      state: { turn: 0 },
    });
    // One that may not be watched does not disturb the others.
    expect(await until(bob, ({ status }) => status === "failed")).toMatchObject({
      error: { code: "access_denied" },
    });
    expect(ada.watched().status).toBe("live");
    for (const end of leave) end();
  });
});

describe("watching", () => {
  it("gives each state, in one stream for all actors", async () => {
    const { server, node } = await served(actors);
    const client = clientOf({ url: server.url });
    const keys = Array.from({ length: 12 }, (_, n) => `n${n}`);
    const counts = new Map<string, number>();
    const leave = keys.map((key) =>
      client.actor(counter, key).subscribe(({ state }) => counts.set(key, state?.context.count ?? -1)),
    );
    await expect.poll(() => counts.size).toBe(12);
    expect(server.streams).toBe(1);
    await node.client.actor(counter, "n3").send({ type: "add", by: 3 });
    await expect.poll(() => counts.get("n3")).toBe(3);
    // Further ones come into the same stream.
    const late = client.actor(counter, "late").watch();
    expect((await late.next()).value).toMatchObject({ turn: 0 });
    await expect.poll(() => server.streams).toBe(1);
    await node.client.actor(counter, "n4").send({ type: "add", by: 4 });
    await expect.poll(() => counts.get("n4")).toBe(4);
    await late.return(undefined);
    for (const end of leave) end();
    for (const end of leave) end();
    await expect.poll(() => server.streams, SOON).toBe(0);
  });

  it("shows what one's own calls have committed, and shares what has not changed", async () => {
    const { client } = await behindProxy();
    const a = client.actor(diary, "a");
    const leave = a.subscribe(() => undefined);
    const { state: first } = await until(a, ({ status }) => status === "live");
    await a.ask({ type: "note", note: { x: 1 } });
    const { state: second } = a.watched();
    expect(second).toMatchObject({ turn: 1, context: { notes: [{ x: 1 }] } });
    expect(second).not.toBe(first);
    expect(second?.context.same).toBe(first?.context.same);
    expect(() => (second!.context.notes as unknown[]).push(2)).toThrow(TypeError);
    leave();
  });

  it("goes on after a break, and never shows an older state", async () => {
    const { client, proxy, node } = await behindProxy();
    const a = client.actor(counter, "a");
    const b = client.actor(counter, "b");
    const seen: number[] = [];
    const statuses = new Set<string>();
    const leave = [
      a.subscribe(({ state, status }) => {
        statuses.add(status);
        if (state !== undefined) seen.push(state.turn);
      }),
      b.subscribe(() => undefined),
    ];
    await until(a, ({ status }) => status === "live");
    for (let n = 1; n <= 20; n++) {
      await node.client.actor(counter, "a").send({ type: "add", by: 1 });
      if (n % 5 !== 0) continue;
      proxy.reset();
      await until(a, ({ status }) => status === "reconnecting");
      await node.client.actor(counter, "a").send({ type: "add", by: 1 });
      await until(a, ({ status, state }) => status === "live" && state?.turn === n + n / 5);
    }
    expect(seen).toEqual([...seen].sort((x, y) => x - y));
    expect([...statuses].sort()).toEqual(["live", "reconnecting"]);
    // Nothing happened to it, and that it is as it was is known.
    expect(await until(b, ({ status }) => status === "live")).toMatchObject({ state: { turn: 0 } });
    for (const end of leave) end();
  });

  it("notices that a connection is dead though nobody says so", async () => {
    const { client, proxy, node } = await behindProxy({ limits: { heartbeat_ms: 50 } });
    const a = client.actor(counter, "a");
    const leave = a.subscribe(() => undefined);
    await until(a, ({ status }) => status === "live");
    proxy.cut();
    await node.client.actor(counter, "a").send({ type: "add", by: 1 });
    await until(a, ({ status }) => status === "reconnecting");
    expect(a.watched().state?.turn).toBe(0);
    proxy.heal("reset");
    await until(a, ({ status, state }) => status === "live" && state?.turn === 1);
    leave();
  });

  it("survives servers that go and come back, also one that has lost everything", async () => {
    let store: Store = memory();
    let node: KeyturnNode | undefined;
    let server: HttpServer | undefined;
    let port = 0;
    const start = async (): Promise<void> => {
      node = await startNode({ actors, store, shards: 8, observer: { troubled: () => undefined } });
      server = await serveHttp(node, { listen: `127.0.0.1:${port}` });
      port = server.port;
    };
    const stop = async (): Promise<void> => {
      await server?.close();
      await node?.stop();
    };
    await start();
    afterwards(stop);
    const client = clientOf({ url: (server as unknown as HttpServer).url });
    const a = client.actor(counter, "a");
    const seen: ActorState<typeof counter.machine>[] = [];
    const leave = a.subscribe(({ state }) => {
      if (state !== undefined && state !== seen.at(-1)) seen.push(state);
    });
    for (let n = 1; n <= 5; n++) await a.send({ type: "add", by: 1 });
    await until(a, ({ state, status }) => state?.turn === 5 && status === "live");
    await stop();
    await until(a, ({ status }) => status === "reconnecting");
    // What is asked meanwhile waits for the server.
    const asked = a.ask({ type: "add", by: 10 }, { timeout_ms: 60_000 });
    await start();
    expect(await asked).toBe(15);
    await until(a, ({ state, status }) => state?.turn === 6 && status === "live");
    await stop();
    store = memory();
    await until(a, ({ status }) => status === "reconnecting");
    await start();
    expect(await until(a, ({ status }) => status === "live")).toMatchObject({
      state: { turn: 0, context: { count: 0 } },
    });
    expect(seen.map(({ turn }) => turn)).toEqual([
      ...seen
        .map(({ turn }) => turn)
        .slice(0, -1)
        .sort(),
      0,
    ]);
    leave();
  });

  it("ends quietly with its signal, and with the last reader", async () => {
    const { server, client } = await behindProxy();
    const stop = new AbortController();
    const turns: number[] = [];
    for await (const { turn } of client.actor(counter, "a").watch({ signal: stop.signal })) {
      turns.push(turn);
      stop.abort();
    }
    expect(turns).toEqual([0]);
    await expect.poll(() => server.streams, SOON).toBe(0);
    const waiting = client.actor(counter, "b").watch({ signal: AbortSignal.timeout(50) });
    while ((await waiting.next()).done !== true);
    await expect.poll(() => server.streams, SOON).toBe(0);
  });

  it("knows the newer of two states", () => {
    const at = (position: number, turn: number) => ({ position, turn });
    expect(isNewer(at(5, 1), at(5, 0))).toBe(true);
    expect(isNewer(at(6, 1), at(5, 9))).toBe(true);
    // Of an actor that was deleted meanwhile.
    expect(isNewer(at(5, 9), at(6, 0))).toBe(false);
    expect(isNewer(at(5, 1), at(5, 1))).toBe(false);
    // Of other journals nothing but the turns can be compared.
    expect(isNewer(at(positionOf(1, 2), 3), at(900, 2))).toBe(true);
    expect(isNewer(at(positionOf(1, 2), 2), at(900, 3))).toBe(false);
  });
});
