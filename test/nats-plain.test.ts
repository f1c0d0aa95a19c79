/**
 * A client that is not ours: the old `nats` package as plain request and reply, in JSON, on the `nats.conf` that is
 * shipped, and on a server that knows nothing of shards.
 */
import { fileURLToPath } from "node:url";
import { connect as connectOld, headers, type NatsConnection } from "nats";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { counter } from "../actors/index.ts";
import { type KeyturnNode, nats, startNode } from "../runtime/index.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";

const configFile = fileURLToPath(new URL("../nats.conf", import.meta.url));
const encoder = new TextEncoder();

interface Answer {
  readonly value?: unknown;
  readonly state?: { readonly value: unknown; readonly context: { readonly count: number } };
  readonly position?: number;
  readonly error?: {
    readonly code: string;
    readonly message: string;
    readonly retryable: boolean;
    readonly outcome: string;
  };
}

describe.each([
  ["on the nats.conf that is shipped", { configFile }],
  ["on a server without the mapping", { apps: {} }],
])("a plain client %s", (_name, options) => {
  let server: NatsServer;
  let nodes: KeyturnNode[];
  let nc: NatsConnection;

  beforeAll(async () => {
    server = await startServer(options);
    // Two, so that it matters who owns the shard.
    nodes = [];
    for (const name of ["one", "two"])
      nodes.push(await startNode({ actors: [counter], store: nats({ servers: server.url }), name }));
    nc = await connectOld({ servers: server.url });
  }, 60_000);

  afterAll(async () => {
    await nc.close();
    for (const node of nodes) await node.stop();
    await server.stop();
  });

  async function ask(address: string, payload: string, header: Record<string, string> = {}): Promise<Answer> {
    const given = headers();
    for (const [name, value] of Object.entries(header)) given.set(name, value);
    const message = await nc.request(`keyturn.actor.${address}`, encoder.encode(payload), {
      timeout: 10_000,
      headers: given,
    });
    return message.json<Answer>();
  }

  const codeOf = async (address: string, payload: string, header?: Record<string, string>) =>
    (await ask(address, payload, header)).error?.code;

  test("is answered with value, state and position, whoever owns the shard", async () => {
    const first = await ask("counter.home", '{"type":"add","by":1}');
    expect(first).toEqual({
      value: 1,
      state: expect.objectContaining({ value: "on", context: { count: 1 }, status: "active" }),
      position: expect.any(Number),
    });
    const second = await ask("counter.home", '{"type":"add","by":2}');
    expect(second.value).toBe(3);
    expect(second.position).toBeGreaterThan(first.position as number);
    const keys = Array.from({ length: 40 }, (_, at) => `k${at}`);
    const answers = await Promise.all(keys.map((key) => ask(`counter.${key}`, '{"type":"add","by":5}')));
    expect(answers.map(({ value }) => value)).toEqual(keys.map(() => 5));
  });

  test("reads the state with an empty payload, and changes nothing by that", async () => {
    await ask("counter.read", '{"type":"add","by":4}');
    const read = await ask("counter.read", "");
    expect(read).toMatchObject({ value: null, state: { context: { count: 4 }, turn: 1 } });
    expect(await ask("counter.read", "")).toEqual(read);
    expect((await ask("counter.never", "")).state?.context.count).toBe(0);
  });

  test("a value null for an event that the machine does not reply to", async () => {
    expect(await ask("counter.off", '{"type":"off"}')).toMatchObject({
      value: null,
      state: { value: "off" },
    });
  });

  test("what is wrong with a request is said by a typed error, and nothing is changed", async () => {
    const { error } = await ask("nobody.home", '{"type":"add","by":1}');
    expect(error).toEqual({
      code: "unknown_type",
      message: expect.stringContaining("nobody"),
      retryable: false,
      outcome: "rejected",
    });
    const cases: [string, string, Record<string, string>, string][] = [
      ["counter.bad", '{"type":"fly"}', {}, "invalid_event"],
      ["counter.bad", '{"type":"add","by":"much"}', {}, "invalid_event"],
      ["counter.bad", '{"type":"add","by":1', {}, "invalid_event"],
      ["counter.bad", '"add"', {}, "invalid_event"],
      ["counter.bad", "null", {}, "invalid_event"],
      ["counter.bad", "[]", {}, "invalid_event"],
      ["counter.bad", "{}", {}, "invalid_event"],
      ["counter.bad", "\u0000", {}, "invalid_event"],
      ["counter.bad", `${"[".repeat(20_000)}${"]".repeat(20_000)}`, {}, "invalid_event"],
      [
        "counter.bad",
        `{"type":"add","by":1,"more":${'{"a":'.repeat(500)}1${"}".repeat(500)}}`,
        {},
        "invalid_event",
      ],
      ["counter.bad", `{"type":"add","by":1,"much":"${"x".repeat(400_000)}"}`, {}, "event_too_large"],
      ["counter.bad", '{"type":"xstate.init"}', {}, "reserved_event"],
      ["counter.bad", '{"type":"add","by":1}', { "Keyturn-Timeout": "soon" }, "invalid_options"],
      ["counter.bad", '{"type":"add","by":1}', { "Keyturn-Timeout": "-1" }, "invalid_options"],
      ["counter.bad", '{"type":"add","by":1}', { "Keyturn-Request-Id": "x".repeat(500) }, "invalid_options"],
      ["9.home", '{"type":"add","by":1}', {}, "invalid_address"],
    ];
    for (const [address, payload, header, code] of cases)
      expect([payload.slice(0, 40), await codeOf(address, payload, header)]).toEqual([
        payload.slice(0, 40),
        code,
      ]);
    expect((await ask("counter.bad", "")).state?.context.count).toBe(0);
  });

  test("a key that is not encoded is refused, with the form that it should have", async () => {
    const { error } = await ask("counter.page:home", '{"type":"add","by":1}');
    expect(error).toMatchObject({ code: "invalid_address", outcome: "rejected" });
    expect(error?.message).toContain("page=3Ahome");
    expect((await ask("counter.page=3Ahome", '{"type":"add","by":7}')).value).toBe(7);
    // It is the very actor that our own clients reach by its key.
    expect((await nodes[0]!.client.actor(counter, "page:home").get()).context.count).toBe(7);
    for (const token of ["h\u00f6he", "page=3ahome", "page=41", "=", "=C3"])
      expect([token, await codeOf(`counter.${token}`, '{"type":"add","by":1}')]).toEqual([
        token,
        "invalid_address",
      ]);
    // Too many tokens, and too few.
    expect((await ask("counter.page.home", "")).error?.message).toContain("page=2Ehome");
    expect(await codeOf("counter", "")).toBe("invalid_address");
    expect(await codeOf(`counter.${"k".repeat(200)}`, "")).toBe("invalid_address");
  });

  test("a request with an id is applied once, however often it comes", async () => {
    for (const name of ["Keyturn-Request-Id", "Nats-Msg-Id"]) {
      const address = `counter.once-${name}`;
      const id = { [name]: "payment-1" };
      const answers = await Promise.all([1, 2, 3].map(() => ask(address, '{"type":"add","by":1}', id)));
      expect(answers.map(({ value }) => value)).toEqual([1, 1, 1]);
      expect((await ask(address, '{"type":"add","by":1}', { [name]: "payment-2" })).value).toBe(2);
    }
  });

  test("what wants no answer is applied too, and what is wrong with it harms nobody", async () => {
    nc.publish("keyturn.actor.counter.quiet", encoder.encode("no event"));
    nc.publish("keyturn.actor.counter.quiet", encoder.encode('{"type":"add","by":3}'));
    const seen = nodes[0]!.client.actor(counter, "quiet").watch();
    for await (const { context } of seen) if (context.count > 0) break;
    expect((await ask("counter.quiet", "")).state?.context.count).toBe(3);
  });
});
