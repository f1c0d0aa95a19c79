/** Functions elsewhere, over real HTTP: servers that are slow, fail, answer garbage, are down and come back. */
import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type KeyturnNode, memory, startNode } from "keyturn";
import {
  type AnyFunction,
  defineFunction,
  defineFunctions,
  defineRemoteFunction,
  defineState,
  functions,
  type HandlerOf,
  type RemoteOptions,
  serveFunctions,
} from "keyturn/functions";
import { afterEach, describe, expect, it } from "vitest";

interface Posted {
  readonly function: string;
  readonly type: string;
  readonly invocations: readonly {
    readonly id: string;
    readonly attempt: number;
    readonly key: string;
    readonly event: { readonly text?: string };
    readonly state: { readonly seen?: number };
  }[];
}

const open: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function listen(listener: RequestListener, port = 0): Promise<{ url: string; port: number; close(): Promise<void> }> {
  const server: Server = createServer(listener);
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const address = server.address() as AddressInfo;
  let closed = false;
  const close = async (): Promise<void> => {
    if (closed) return;
    closed = true;
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  };
  open.push(close);
  return { url: `http://127.0.0.1:${address.port}/`, port: address.port, close };
}

/** A server that answers what it is told to, and remembers what it was sent. */
async function server(
  answer: (posted: Posted, nth: number) => { status?: number; body: string; headers?: Record<string, string> },
): Promise<{ url: string; posts: Posted[] }> {
  const posts: Posted[] = [];
  const { url } = await listen((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      const posted = JSON.parse(Buffer.concat(parts).toString("utf8")) as Posted;
      posts.push(posted);
      const { status = 200, body, headers = {} } = answer(posted, posts.length);
      response.writeHead(status, headers);
      response.end(body);
    });
  });
  return { url, posts };
}

function counted({ invocations }: Posted): { body: string } {
  const results = invocations.map(({ id, state }) => ({
    id,
    state: { seen: (state.seen ?? 0) + 1 },
    result: (state.seen ?? 0) + 1,
  }));
  return { body: JSON.stringify({ results }) };
}

const seen = defineState("seen", 0);

function scoring(url: string, options: Partial<RemoteOptions<{ seen: typeof seen }, { text: string }, number>> = {}) {
  return defineRemoteFunction("score", {
    url,
    states: { seen },
    types: {} as { event: { text: string }; result: number },
    retry: { attempts: 20, first_ms: 5, factor: 1.5, last_ms: 50 },
    ...options,
  });
}

async function host<F extends AnyFunction>(score: F): Promise<{ node: KeyturnNode; app: ReturnType<typeof functions<F>> }> {
  const node = await startNode({ actors: [score], store: memory() });
  open.push(() => node.stop());
  return { node, app: functions(node.client, score) };
}

const keys = Array.from({ length: 60 }, (_, n) => `k${n}`);

describe("a remote function", () => {
  it("runs elsewhere with its state; invocations of many keys go out together", async () => {
    const { url, posts } = await server(counted);
    const { app } = await host(scoring(url, { batch: { atMost: 50, wait_ms: 20 }, concurrency: 1 }));
    const first = await Promise.all(keys.map((key) => app.processEvent({ key, text: key })));
    expect(first).toEqual(keys.map(() => 1));
    expect(await Promise.all(keys.map((key) => app.processEvent({ key, text: key })))).toEqual(keys.map(() => 2));
    expect(await app.getState("k7")).toBe(2);
    expect(posts.length).toBeLessThan(20);
    expect(Math.max(...posts.map(({ invocations }) => invocations.length))).toBe(50);
    expect(posts[0]).toMatchObject({ version: 1, function: "score", type: "score" });
  });
});
