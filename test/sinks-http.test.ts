/** Sinks to HTTP, on real sockets. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import type { KeyturnNode } from "../runtime/index.ts";
import { defineSink, toHttp } from "../runtime/streams/index.ts";
import { emitter } from "./support/emitter.ts";
import { cleanups, numbered, started, until } from "./support/sinks.ts";

interface Received {
  readonly key: string;
  readonly type: string;
  readonly lines: { id: string; from: string; event: { n: number } }[];
}

async function httpServer(
  answer: (request: Received, response: ServerResponse) => void,
  port = 0,
): Promise<{ server: Server; url: string; port: number }> {
  const server = createServer((request: IncomingMessage, response) => {
    let body = "";
    request.setEncoding("utf8");
    request.on("data", (part: string) => {
      body += part;
    });
    request.on("end", () => {
      const type = String(request.headers["content-type"]);
      const lines = type.includes("ndjson")
        ? body
            .trimEnd()
            .split("\n")
            .map((line) => JSON.parse(line))
        : JSON.parse(body);
      answer({ key: String(request.headers["idempotency-key"]), type, lines }, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const taken = (server.address() as AddressInfo).port;
  return { server, url: `http://127.0.0.1:${taken}/in?secret=1`, port: taken };
}

function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => {
    server.close(() => resolve());
  });
}

describe("a sink to HTTP", () => {
  it("posts batches with a key that stays the same, through a server that is down, slow to take it, and comes back", async () => {
    const seen: Received[] = [];
    let mode: "take" | "hang up" | "503" = "take";
    const answer = (request: Received, response: ServerResponse): void => {
      seen.push(request);
      if (mode === "hang up") response.destroy();
      else response.writeHead(mode === "503" ? 503 : 204, { "retry-after": "0" }).end();
    };
    let { server, url, port } = await httpServer(answer);
    cleanups.push(() => closed(server));
    const out = defineSink("out", {
      over: emitter,
      to: toHttp({ url, headers: () => ({ authorization: "Bearer x" }) }),
      partitions: 1,
      retry: { first: 5, last: 20 },
    });
    const node = await started(out);
    const till = node.client.actor(emitter, "a");
    await till.ask({ type: "burst", events: [1, 2, 3].map(numbered) });
    await until(out, node, ({ published }) => published === 3);
    expect(seen[0]?.type).toBe("application/x-ndjson");
    expect((await out.status(node.client)).target).toBe(`POST http://127.0.0.1:${port}/in`);
    for (const wrong of ["hang up", "503"] as const) {
      mode = wrong;
      const before = seen.length;
      await till.ask({ type: "emit", event: numbered(4) });
      await until(out, node, ({ partitions }) => (partitions[0]?.failures ?? 0) >= 2);
      mode = "take";
      await until(out, node, ({ waiting }) => waiting === 0);
      expect(new Set(seen.slice(before).map(({ key }) => key)).size).toBe(1);
    }
    await closed(server);
    await till.ask({ type: "emit", event: numbered(5) });
    const { error } = await until(out, node, ({ failing }) => failing === 1);
    expect(error).toMatch(/no answer: ECONNREFUSED/);
    ({ server } = await httpServer(answer, port));
    await until(out, node, ({ published }) => published === 6);
    const ids = new Map(seen.flatMap(({ lines }) => lines).map((line) => [line.id, line.event.n]));
    expect([...ids.values()]).toEqual([1, 2, 3, 4, 4, 5]);
  });

  it("takes 4xx for a refusal, and sends JSON if asked", async () => {
    const seen: Received[] = [];
    const { server, url } = await httpServer((request, response) => {
      seen.push(request);
      response.writeHead(request.lines.some(({ event }) => event.n === 13) ? 422 : 200).end("so it is");
    });
    cleanups.push(() => closed(server));
    const out = defineSink("out", {
      over: emitter,
      to: toHttp({ url, body: "json" }),
      partitions: 1,
      batch: 1,
    });
    const node = await started(out);
    await node.client.actor(emitter, "a").ask({ type: "burst", events: [12, 13, 14].map(numbered) });
    await until(out, node, ({ published, refused }) => published + refused === 3);
    expect(seen.map(({ type, lines }) => [type, lines.length])).toEqual(
      [1, 1, 1].map((n) => ["application/json", n]),
    );
    const [letter] = await lettersOf(node, 1);
    expect(letter?.reason).toContain("it answered 422: so it is");
  });
});

/** Dead letters are stored after the turn. */
async function lettersOf(node: KeyturnNode, many: number) {
  for (;;) {
    const letters = await node.deadLetters();
    if (letters.length >= many) return letters;
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
  }
}
