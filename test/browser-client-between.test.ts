/** The client of a page, and what stands between it and the actors: proxies, servers of other versions, tokens. */
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { SignJWT } from "jose";
import type { HttpOptions } from "keyturn/http";
import { describe, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { afterwards, served } from "./support/http.ts";
import { actors, clientOf, until } from "./support/browser-client.ts";

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
