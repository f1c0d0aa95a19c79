/**
 * Hostile requests, made from the OpenAPI document: each operation with each of its parameters set to what nobody should
 * send, each path bent, each body broken, mislabelled or far too large. Sent as they are: `fetch` would mend some of them.
 *
 * Whatever comes is answered, with a problem document that the OpenAPI document describes, or the connection is closed;
 * the server tells its operator of no fault, and the node goes on.
 */
import { Agent, createServer, request, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { Ajv2020 } from "ajv/dist/2020.js";
import { type Client, defineActor } from "keyturn";
import { defineSource, http, sourceEndpoint } from "keyturn/streams";
import { expect, it } from "vitest";
import { assign, setup } from "xstate";
import { z } from "zod";
import { counter } from "../actors/index.ts";
import { afterwards, type Served, served } from "./support/http.ts";

const strict = defineActor({
  type: "strict",
  machine: setup({
    types: { context: {} as { n: number }, events: {} as { type: "set"; n: number } },
  }).createMachine({ context: { n: 0 }, on: { set: { actions: assign({ n: ({ event }) => event.n }) } } }),
  events: z.object({ type: z.literal("set"), n: z.number() }),
  index: ["n"],
});

// biome-ignore lint/suspicious/noExplicitAny: a document of any form
type Schema = any;

interface Sent {
  readonly method: string;
  /** As it goes over the wire. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: string | Buffer;
}

interface Got {
  /** Undefined if the connection was closed without an answer. */
  readonly status: number | undefined;
  readonly type: string;
  readonly text: string;
}

const agent = new Agent({ keepAlive: true, maxSockets: 16 });

/** Sends it and reads the answer; of a stream only its head. */
function send({ port }: Served["server"], { method, path, headers = {}, body }: Sent): Promise<Got> {
  return new Promise((resolve) => {
    const closed = (): void => resolve({ status: undefined, type: "", text: "" });
    const all = {
      ...headers,
      ...(body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) }),
    };
    const sent = request(
      { host: "127.0.0.1", port, method, path, headers: all, agent },
      (answer: IncomingMessage) => {
        const type = answer.headers["content-type"]?.split(";")[0] ?? "";
        const got = (text: string): void => resolve({ status: answer.statusCode, type, text });
        if (type === "text/event-stream") {
          sent.destroy();
          got("");
          return;
        }
        let text = "";
        answer.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        answer.once("end", () => got(text));
        answer.once("error", () => got(text));
      },
    );
    sent.once("error", closed);
    sent.end(body);
  });
}

/** For a parameter in the query, a path or a header: already percent-encoded. */
const TEXTS = [
  "",
  "%00",
  "%ff%fe",
  "..",
  "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
  "%252e%252e",
  "a%2fb%2f..",
  "%F0%9F%92%A5",
  "-1",
  "1e309",
  "NaN",
  "99999999999999999999",
  "__proto__",
  "constructor",
  "%7B%22__proto__%22%3A%7B%22x%22%3A1%7D%7D",
  "%5B%5B%5B%5B%5B%5B%5B%5B",
  "null",
  "'%20OR%201=1--",
  "%0d%0aset-cookie:%20x=1",
  "a".repeat(3_000),
];

/** Behind a path. */
const TRICKS = [
  "/",
  "//",
  "/..",
  "/%2e%2e",
  "/.",
  "?",
  "?=",
  "?&&&",
  "?x",
  "?limit=1&limit=2",
  "#x",
  "%",
  "%zz",
  ";a=b",
  "\\",
];

const DEEP = `${'{"a":'.repeat(20_000)}1${"}".repeat(20_000)}`;

/** Bodies, with what they say they are. */
const BODIES: readonly (readonly [type: string | undefined, body: string | Buffer])[] = [
  ["application/json", ""],
  ["application/json", "{"],
  ["application/json", "[]"],
  ["application/json", "null"],
  ["application/json", '"text"'],
  ["application/json", '{"type":"set","n":1e400}'],
  ["application/json", '{"type":"set","type":"xstate.stop","n":1}'],
  ["application/json", '{"__proto__":{"type":"set"},"n":1}'],
  ["application/json", '{"type":{"~bytes":"!!"}}'],
  ["application/json", DEEP],
  ["application/json", Buffer.from([0xff, 0xfe, 0x7b, 0x7d])],
  ["application/json; charset=utf-16", "{}"],
  ["application/x-www-form-urlencoded", "type=set&n=1"],
  [
    "multipart/form-data; boundary=x",
    '--x\r\ncontent-disposition: form-data; name="type"\r\n\r\nset\r\n--x--',
  ],
  ["text/plain", '{"type":"set","n":1}'],
  ["application/msgpack", Buffer.from([0x81, 0xa4])],
  [undefined, '{"type":"set","n":1}'],
  ["nonsense", "{}"],
];

interface Target {
  readonly method: string;
  readonly template: string;
  readonly parameters: readonly Schema[];
  readonly hasBody: boolean;
}

function targetsOf(document: Schema): Target[] {
  const deref = (one: Schema): Schema =>
    one.$ref === undefined ? one : document.components.parameters[one.$ref.split("/").at(-1)];
  return Object.entries<Record<string, Schema>>(document.paths).flatMap(([template, methods]) =>
    Object.entries(methods).map(([method, { parameters, requestBody }]) => ({
      method: method.toUpperCase(),
      template,
      parameters: parameters.map(deref),
      hasBody: requestBody !== undefined,
    })),
  );
}

/** Something of which there may be one; what is dropped is another one than what is looked at. */
function placeOf({ method, template }: Target, name: string): string {
  if (!template.startsWith("/sources") || name !== "id") return "a";
  return method === "DELETE" ? "0.1" : "0.0";
}

/** The target with something in each place of its path, and one parameter as given. */
function bent(target: Target, of: Schema | undefined, text: string): Sent {
  const { method, template, parameters, hasBody } = target;
  let path = template;
  const headers: Record<string, string> = hasBody ? { "content-type": "application/json" } : {};
  const query: string[] = [];
  for (const { name, in: where, required } of parameters) {
    if (where === "path") path = path.replace(`{${name}}`, of?.name === name ? text : placeOf(target, name));
    else if (of?.name === name && where === "query") query.push(`${name}=${text}`);
    else if (of?.name === name)
      headers[name] = decodeURIComponent(text.replace(/%(?![\da-f]{2})|%f[ef]/gi, "")).replace(
        /[^\x20-\x7e]/g,
        "",
      );
    else if (required === true) query.push(`${name}=counter`);
  }
  const sent = { method, path: query.length === 0 ? path : `${path}?${query.join("&")}`, headers };
  return hasBody ? { ...sent, body: '{"type":"add","by":1}' } : sent;
}

/** A source whose name stands in every path, with letters in which each operation finds what it wants. */
const source = defineSource("a", {
  from: http(),
  to: () => {
    throw new Error("It is never well.");
  },
});

it.each([
  { of: "each operation", actors: [counter, strict], among: /^/ },
  { of: "those on dead letters of sources", actors: [counter, ...source.actors], among: /^\/sources/ },
])(
  "is answered or cut off, whatever is asked of $of, and nothing breaks",
  {
    timeout: 120_000,
  },
  async ({ actors, among }) => {
    const { server, node, faults, call } = await served(actors, {
      limits: { heartbeat_ms: 1_000, typeStreams: 10_000 },
    });
    afterwards(async () => agent.destroy());
    if (actors.length > 2) await withLetters(node.client);
    const document = (await call("GET", "/openapi.json")).body;
    const ajv = new Ajv2020({ strict: false, validateSchema: false, validateFormats: false });
    ajv.addSchema(document, "root");
    const problem = ajv.compile({ $ref: "root#/components/schemas/Problem" });
    const outcomes = new Map<string, number>();
    const check = async (sent: Sent): Promise<void> => {
      const { status, type, text } = await send(server, sent);
      const what = `${sent.method} ${sent.path.slice(0, 200)} ${JSON.stringify(sent.headers)}: ${status} ${text.slice(0, 300)}`;
      const kind = status === undefined ? "closed" : `${Math.floor(status / 100)}xx`;
      outcomes.set(kind, (outcomes.get(kind) ?? 0) + 1);
      if (status === undefined) return;
      // Too much at once is an answer; a fault of the server is none.
      expect([500, 501, 502].includes(status), what).toBe(false);
      if (status < 400 || sent.method === "HEAD") return;
      expect(type, what).toBe("application/problem+json");
      const body = JSON.parse(text) as { status: number };
      expect(problem(body), `${what} ${JSON.stringify(problem.errors)}`).toBe(true);
      expect(body.status).toBe(status);
    };
    const tries: Sent[] = [];
    const targets = targetsOf(document).filter(({ template }) => among.test(template));
    expect(targets.length).toBeGreaterThan(4);
    for (const target of targets) {
      for (const parameter of target.parameters)
        for (const text of TEXTS) tries.push(bent(target, parameter, text));
      const plain = bent(target, undefined, "");
      for (const trick of TRICKS) tries.push({ ...plain, path: plain.path + trick });
      for (const method of ["PUT", "PATCH", "OPTIONS", "HEAD", "TRACE", "PROPFIND"])
        tries.push({ method, path: plain.path });
      for (const [name, value] of [
        ["accept", "application/xml"],
        ["content-encoding", "gzip"],
        ["expect", "200-ok"],
        ["range", "bytes=0-1"],
        ["x-http-method-override", "DELETE"],
        ["transfer-encoding", "gzip, chunked"],
        ["host", "evil.example"],
        ["origin", "https://evil.example"],
        ["last-event-id", "x".repeat(7_000)],
        ["traceparent", "00-zz"],
        ["cookie", "a=".repeat(2_000)],
      ] as const)
        tries.push({ ...plain, headers: { ...plain.headers, [name]: value } });
      for (const [type, body] of BODIES)
        tries.push({ ...plain, body, headers: type === undefined ? {} : { "content-type": type } });
    }
    // In their order, some at a time.
    let at = 0;
    const worker = async (): Promise<void> => {
      while (at < tries.length) await check(tries[at++] as Sent);
    };
    await Promise.all(Array.from({ length: 16 }, worker));
    expect(tries.length).toBeGreaterThan(targets.length * 50);
    expect(faults).toEqual([]);
    expect(node.health().ready).toBe(true);
    // It was not only refused, and not only answered.
    expect(outcomes.get("2xx")).toBeGreaterThan(targets.length);
    expect(outcomes.get("4xx")).toBeGreaterThan(targets.length * 20);
    // What broke off in the middle left nothing behind.
    agent.destroy();
    while (server.streams > 0) await new Promise((resolve) => setImmediate(resolve));
    expect((await call("POST", "/actors/counter/last", { body: { type: "add", by: 1 } })).body.value).toBe(1);
  },
);

/** Posts items that become letters. */
async function withLetters(client: Client): Promise<void> {
  const endpoint = createServer(sourceEndpoint(client, source));
  await new Promise<void>((resolve) => endpoint.listen(0, "127.0.0.1", resolve));
  const { port } = endpoint.address() as AddressInfo;
  const headers = { "keyturn-producer": "p", "keyturn-sequence": "1", "content-type": "application/json" };
  const { status } = await fetch(`http://127.0.0.1:${port}`, { method: "POST", headers, body: "[1,2]" });
  expect(status).toBe(200);
  endpoint.closeAllConnections();
  endpoint.close();
}

it("takes no body that is too large, whatever it says of itself", async () => {
  const { server, faults, call } = await served([counter, strict], {
    limits: { bodyBytes: 100_000, batchBytes: 200_000 },
  });
  afterwards(async () => agent.destroy());
  const document = (await call("GET", "/openapi.json")).body;
  const huge = Buffer.alloc(4 * 1024 * 1024, 0x20);
  for (const target of targetsOf(document).filter(({ hasBody }) => hasBody)) {
    const plain = bent(target, undefined, "");
    for (const headers of [
      { "content-type": "application/json" },
      { "content-type": "text/plain" },
      { "content-type": "application/json", "transfer-encoding": "chunked" },
      { "content-type": "application/json", expect: "100-continue" },
    ]) {
      const { status, type } = await send(server, { ...plain, headers, body: huge });
      // Who goes on writing may find the connection closed before he has read why.
      if (status === undefined) continue;
      expect([400, 413, 415]).toContain(status);
      expect(type).toBe("application/problem+json");
    }
  }
  expect(faults).toEqual([]);
  expect((await call("POST", "/actors/counter/a", { body: { type: "add", by: 1 } })).body.value).toBe(1);
});
