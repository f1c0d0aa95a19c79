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
import { Batcher } from "../runtime/functions/batcher.ts";

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

async function listen(
  listener: RequestListener,
  port = 0,
): Promise<{ url: string; port: number; close(): Promise<void> }> {
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
  answer: (
    posted: Posted,
    nth: number,
  ) => { status?: number; body: string; headers?: Record<string, string> },
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

function scoring(
  url: string,
  options: Partial<RemoteOptions<{ seen: typeof seen }, { text: string }, number>> = {},
) {
  return defineRemoteFunction("score", {
    url,
    states: { seen },
    types: {} as { event: { text: string }; result: number },
    retry: { attempts: 20, first_ms: 5, factor: 1.5, last_ms: 50 },
    ...options,
  });
}

async function host<F extends AnyFunction>(
  score: F,
): Promise<{ node: KeyturnNode; app: ReturnType<typeof functions<F>> }> {
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
    const second = await Promise.all(keys.map((key) => app.processEvent({ key, text: key })));
    expect(second).toEqual(keys.map(() => 2));
    expect(await app.getState("k7")).toBe(2);
    expect(posts.length).toBeLessThan(20);
    expect(Math.max(...posts.map(({ invocations }) => invocations.length))).toBe(50);
    expect(posts[0]).toMatchObject({ version: 1, function: "score", type: "score" });
  });

  it("that fails now and then is tried again, with the same ids, until each event counts once", async () => {
    const { url, posts } = await server((posted, nth) => {
      switch (nth) {
        case 1:
          return { status: 500, body: "boom" };
        case 2:
          return { status: 429, body: "slowly", headers: { "retry-after": "0" } };
        case 3:
          return { body: "<html>maintenance</html>" };
        case 4:
          return { body: JSON.stringify({ results: "none" }) };
        case 5:
          return { body: JSON.stringify({ results: [] }) };
        default:
          return counted(posted);
      }
    });
    const { app } = await host(scoring(url, { concurrency: 1 }));
    expect(await app.processEvent({ key: "a", text: "x" })).toBe(1);
    expect(posts.map(({ invocations }) => invocations[0]?.attempt)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(new Set(posts.map(({ invocations }) => invocations[0]?.id)).size).toBe(1);
    expect(await app.getState("a")).toBe(1);
  });

  it("that is down holds up its keys, and goes on when it is there again", async () => {
    let { url, port, close } = await listen(
      serveFunctions({ score: (_e, s) => ({ state: { seen: s.seen + 1 }, result: s.seen + 1 }) }),
    );
    const { app } = await host(
      scoring(url, { retry: { attempts: 500, first_ms: 5, factor: 1, last_ms: 20 } }),
    );
    expect(await app.processEvent({ key: "a", text: "x" })).toBe(1);
    await close();
    let open = true;
    const some = ["a", "b", "a"].map((key) => app.processEvent({ key, text: "x" }));
    const all = Promise.all(some).finally(() => {
      open = false;
    });
    await app.setState("c", 5);
    expect(open).toBe(true);
    ({ close } = await listen(
      serveFunctions({ score: (_e, s) => ({ state: { seen: s.seen + 1 }, result: s.seen + 1 }) }),
      port,
    ));
    expect(await all).toEqual([2, 1, 3]);
  });

  it("that stays away, or refuses, refuses its event with a typed error, and nothing has changed", async () => {
    const refused: Record<string, { status: number; body: string } | undefined> = {
      gone: { status: 503, body: "gone" },
      denied: { status: 403, body: "who are you?" },
      moved: { status: 307, body: "elsewhere" },
    };
    const { url, posts } = await server(({ invocations }) => {
      const { id, key } = invocations[0] as Posted["invocations"][0];
      const one = (result: object) => ({ body: JSON.stringify({ results: [{ id, ...result }] }) });
      switch (key) {
        case "error":
          return one({ error: { message: "no such text" } });
        case "unknown state":
          return one({ state: { other: 1 } });
        case "bad send":
          return one({ send: [{ to: "nowhere", event: { type: "x" } }] });
        case "no list":
          return one({ emit: "x" });
        default:
          return refused[key] ?? one({ state: { seen: 1 } });
      }
    });
    const { app } = await host(scoring(url, { retry: { attempts: 2, first_ms: 1 }, batch: { atMost: 1 } }));
    const expected: readonly (readonly [string, string, RegExp, number])[] = [
      ["gone", "function_unreachable", /503 gone/, 2],
      ["denied", "function_failed", /403 who are you/, 1],
      ["moved", "function_failed", /307 elsewhere/, 1],
      ["error", "function_failed", /no such text/, 1],
      ["unknown state", "function_failed", /"other"/, 1],
      ["bad send", "function_failed", /nowhere/, 1],
      ["no list", "function_failed", /"emit" is no list/, 1],
    ];
    for (const [key, code, message, times] of expected) {
      const before = posts.length;
      await expect(app.processEvent({ key, text: "x" }), key).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
        outcome: "rejected",
      });
      expect(posts.length - before, key).toBe(times);
      expect(await app.getState(key)).toBe(0);
    }
    expect(await app.processEvent({ key: "fine", text: "x" })).toBeUndefined();
    expect(await app.getState("fine")).toBe(1);
  });

  it("that is slow is given up on after its time, and asked again", async () => {
    let first = true;
    const { url } = await listen((request, response) => {
      request.resume();
      request.on("end", () => {
        // Headers, and then nothing more.
        response.writeHead(200);
        response.write("{");
        if (first) first = false;
        else response.end(`"results":[]}`);
      });
    });
    // As often as an answer that is sent at once is not here in time.
    const again = { attempts: 100, first_ms: 1, last_ms: 1 };
    const { app } = await host(scoring(url, { timeout_ms: 50, retry: again }));
    await expect(app.processEvent({ key: "a", text: "x" })).rejects.toMatchObject({
      code: "function_unreachable",
      message: expect.stringMatching(/leaves this invocation out/),
    });
    const { app: patient } = await host(scoring(url, { timeout_ms: 50, retry: { attempts: 1 } }));
    first = true;
    await expect(patient.processEvent({ key: "a", text: "x" })).rejects.toMatchObject({
      code: "function_unreachable",
      message: expect.stringMatching(/no answer within 50 ms/),
    });
  });

  it("is asked no more at once than its concurrency, however many wait; a full mailbox refuses", async () => {
    const held: (() => void)[] = [];
    let most = 0;
    let all = false;
    const { url } = await listen(
      serveFunctions({
        score: async (_event, state) => {
          if (!all)
            await new Promise<void>((resolve) => {
              held.push(resolve);
              most = Math.max(most, held.length);
              more();
            });
          return { state: { seen: state.seen + 1 }, result: state.seen + 1 };
        },
      }),
    );
    let more = (): void => undefined;
    const holds = async (count: number): Promise<void> => {
      while (held.length < count)
        await new Promise<void>((resolve) => {
          more = resolve;
        });
    };
    const score = scoring(url, { concurrency: 3, batch: { atMost: 2, wait_ms: 0 } });
    const group = defineFunctions("held", [score], { mailbox: 2 });
    const node = await startNode({ actors: [group], store: memory() });
    open.push(() => node.stop());
    const app = functions(node.client, group);
    const calls = keys.map((key) => app.processEvent({ key, text: "x" }));
    await holds(4);
    const waiting = [1, 2].map(() => app.processEvent({ key: "k0", text: "x" }));
    await expect(app.processEvent({ key: "k0", text: "x" })).rejects.toMatchObject({ code: "mailbox_full" });
    expect(most).toBeLessThanOrEqual(6);
    all = true;
    for (const release of held) release();
    expect(await Promise.all(calls)).toEqual(keys.map(() => 1));
    expect(await Promise.all(waiting)).toEqual([2, 3]);
    expect(most).toBeLessThanOrEqual(6);
  });

  it("whose node is killed after it was asked is asked again by the next, and counts once", async () => {
    const answers: (() => void)[] = [];
    let asked = (): void => undefined;
    const { url } = await listen(
      serveFunctions({
        score: async (_event, state, { idempotencyKey, attempt, send }) => {
          ids.push([idempotencyKey, attempt]);
          await new Promise<void>((resolve) => {
            answers.push(resolve);
            asked();
          });
          send("mark", "m", {});
          return { state: { seen: state.seen + 1 }, result: state.seen + 1 };
        },
      }),
    );
    const ids: [string, number][] = [];
    const until = async (count: number): Promise<void> => {
      while (answers.length < count)
        await new Promise<void>((resolve) => {
          asked = resolve;
        });
    };
    const marks = defineState("marks", 0);
    const mark = defineFunction("mark", { marks }, (_event: object, state) => ({
      state: { marks: state.marks + 1 },
    }));
    const group = defineFunctions("killed", [scoring(url), mark]);
    const store = memory();
    const settings = { lease_ms: 200, heartbeat_ms: 60 };
    const first = await startNode({ actors: [group], store, settings, name: "first" });
    await functions(first.client, group).sendEvent(
      { key: "a", type: "score", text: "x" },
      { requestId: "once" },
    );
    await until(1);
    first.kill();
    const second = await startNode({ actors: [group], store, settings, name: "second" });
    open.push(() => second.stop());
    await until(2);
    for (const answer of answers) answer();
    const app = functions(second.client, group);
    for await (const { context } of app.actor("m").watch())
      if ((context as { marks?: number }).marks !== undefined) break;
    expect(await app.getState("a", seen)).toBe(1);
    expect(await app.getState("m", marks)).toBe(1);
    expect(new Set(ids.map(([id]) => id)).size).toBe(1);
    expect(ids.map(([, attempt]) => attempt > 1)).toEqual([false, true]);
  });

  it("is not sent what JSON would change", async () => {
    const { url, posts } = await server(counted);
    const { app } = await host(scoring(url));
    for (const text of [new Date(0), new Map(), Number.NaN, 1n, new Uint8Array(1)])
      await expect(app.processEvent({ key: "a", text: text as never })).rejects.toMatchObject({
        code: "function_failed",
        message: expect.stringMatching(/event\.text is .*JSON cannot carry/),
      });
    expect(posts).toEqual([]);
  });

  it.each([
    ["no url", { url: "score" }],
    ["another protocol", { url: "ftp://127.0.0.1/" }],
    ["batches of nothing", { batch: { atMost: 0 } }],
    ["half a post at once", { concurrency: 0.5 }],
    ["no time", { timeout_ms: 0 }],
    ["no attempts", { retry: { attempts: 0 } }],
  ])("is not declared with %s", (_what, options) => {
    expect(() => scoring("http://127.0.0.1/", options)).toThrow(
      expect.objectContaining({ code: "invalid_options" }),
    );
  });
});

it("no more than a bound wait in a process for a server; the next is refused, to be tried again", async () => {
  const options = {
    name: "far",
    atMost: 1,
    wait_ms: 0,
    concurrency: 1,
    timeout_ms: 60_000,
    headers: () => ({}),
  };
  const { url, posts } = await server(counted);
  const batcher = new Batcher({ ...options, url });
  const controller = new AbortController();
  const invoke = (n: number) => batcher.invoke(String(n), "t", `{"id":"${n}","state":{}}`, controller.signal);
  const posted = invoke(0);
  const waiting = Promise.allSettled(Array.from({ length: 10_000 }, (_, n) => invoke(n + 1)));
  await expect(invoke(-1)).rejects.toMatchObject({ code: "overloaded", retryable: true });
  // Those that were called off are not posted any more.
  controller.abort();
  const last = batcher.invoke("last", "t", `{"id":"last","state":{}}`, new AbortController().signal);
  await expect(posted).resolves.toMatchObject({ id: "0", result: 1 });
  await expect(last).resolves.toMatchObject({ id: "last", result: 1 });
  expect((await waiting).filter(({ status }) => status === "fulfilled")).toEqual([]);
  expect(posts.map(({ invocations }) => invocations.map(({ id }) => id))).toEqual([["0"], ["last"]]);
});

describe("a server of functions", () => {
  it("gives a function what it would be given anywhere: states, sends, delays, emits, who asks", async () => {
    const total = defineState("total", 0);
    const bill = defineRemoteFunction("bill", {
      url: "http://127.0.0.1:1/",
      states: { sum: total },
      types: {} as { event: { cents: number }; result: string },
    });
    const handler: HandlerOf<typeof bill> = (
      { cents },
      { sum },
      { key, now, send, sendAfter, cancel, tell, emit },
    ) => {
      send("add", "house", { by: cents });
      sendAfter(5, "add", "later", { by: cents });
      sendAfter("1 day", "add", "never", { by: 1 }, { id: "x" });
      cancel("x");
      tell(`shop/${key}-told`, { type: "add", by: 3 });
      emit({ type: "billed", cents, at: now });
      return { state: { sum: cents > 5 ? undefined : sum + cents }, result: `${key} ${sum}` };
    };
    const listener = serveFunctions({ bill: handler });
    let authorization: unknown;
    const { url } = await listen((request, response) => {
      ({ authorization } = request.headers);
      listener(request, response);
    });
    const real = defineRemoteFunction("bill", {
      url,
      states: { sum: total },
      headers: () => ({ authorization: "Bearer t" }),
      types: {} as { event: { cents: number }; result: string },
    });
    const add = defineFunction("add", { total }, (event: { by: number }, state) => ({
      state: { total: state.total + event.by },
    }));
    const shop = defineFunctions("shop", [real, add]);
    const node = await startNode({ actors: [shop], store: memory() });
    open.push(() => node.stop());
    const app = functions(node.client, shop);
    expect(await app.processEvent({ key: "a", type: "bill", cents: 4 })).toBe("a 0");
    expect(await app.processEvent({ key: "a", type: "bill", cents: 6 })).toBe("a 4");
    expect(authorization).toBe("Bearer t");
    expect(await app.getState("a")).toBe(0);
    const reaches = async (key: string, value: number): Promise<void> => {
      for await (const { context } of app.actor(key).watch())
        if ((context as { total?: number }).total === value) break;
    };
    await reaches("house", 10);
    await reaches("a-told", 6);
    await reaches("later", 10);
    expect(await app.getState("never")).toBe(0);
    const emitted: unknown[] = [];
    for await (const turn of app.actor("a").history({ order: "oldest" }))
      emitted.push(...(turn.emitted ?? []));
    expect(emitted).toMatchObject([
      { type: "billed", cents: 4 },
      { type: "billed", cents: 6 },
    ]);
  });

  it("refuses what is no request, and tells functions apart that are not there or throw", async () => {
    const { url } = await listen(
      serveFunctions({
        fine: () => undefined,
        throws: () => {
          throw new Error("no glue");
        },
        bad: () => ({ result: new Map() }),
      }),
    );
    const post = async (body: string, method = "POST") => {
      const response = await fetch(url, { method, ...(method === "POST" ? { body } : {}) });
      return [response.status, await response.text()] as const;
    };
    const invocation = { id: "i", attempt: 1, key: "k", now: 1, event: { type: "x" }, state: {} };
    const ask = (name: string, ...invocations: unknown[]) =>
      post(JSON.stringify({ version: 1, function: name, type: "t", invocations }));
    expect((await post("", "GET"))[0]).toBe(405);
    expect((await post("{"))[0]).toBe(400);
    expect((await post("null"))[0]).toBe(400);
    expect((await post(JSON.stringify({ version: 2 })))[0]).toBe(400);
    expect((await ask("fine", { ...invocation, key: 5 }))[0]).toBe(400);
    expect((await ask("toString", invocation))[0]).toBe(404);
    const results = async (name: string) =>
      (JSON.parse((await ask(name, invocation))[1]) as { results: unknown }).results;
    expect(await results("fine")).toMatchObject([{ id: "i", state: {} }]);
    expect(await results("throws")).toEqual([{ id: "i", error: { message: "no glue" } }]);
    expect(await results("bad")).toMatchObject([
      { id: "i", error: { message: expect.stringMatching(/Map/) } },
    ]);
  });

  it("calls its functions off when whoever asked is gone", async () => {
    let begun = (): void => undefined;
    let ended = (): void => undefined;
    const [started, aborted] = [
      new Promise<void>((resolve) => {
        begun = resolve;
      }),
      new Promise<void>((resolve) => {
        ended = resolve;
      }),
    ];
    const { url } = await listen(
      serveFunctions({
        slow: async (_event, _state, { signal }) => {
          begun();
          await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
          ended();
        },
      }),
    );
    const slow = defineRemoteFunction("slow", { url, retry: { attempts: 1 }, timeout_ms: 1_000 });
    const { app } = await host(slow);
    const refused = expect(app.processEvent({ key: "a" })).rejects.toMatchObject({
      code: "function_unreachable",
    });
    await started;
    await refused;
    await aborted;
  });
});
