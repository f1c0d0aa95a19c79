/** Clients of NATS that are not ours: one message in, exactly one answer out, always JSON, whatever they send. */
import { jetstreamManager } from "@nats-io/jetstream";
import { connect, headers, type Msg, type NatsConnection } from "@nats-io/transport-node";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { assign, setup } from "xstate";
import { defineActor, type KeyturnNode, nats, type NatsStore, reply, startNode } from "../runtime/index.ts";
import { encodeKey } from "../runtime/words/address.ts";
import { isErrorCode, meanings } from "../runtime/words/errors.ts";
import { limits } from "../runtime/words/limits.ts";
import { eventually } from "./conformance/helpers.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";
import { probeOf } from "./support/probe.ts";

interface Odd {
  readonly bytes: Uint8Array | undefined;
  readonly text: string;
  readonly big: bigint | undefined;
}

/** Holds what JSON has no form for, and texts that become long in it. */
const odd = defineActor({
  type: "odd",
  machine: setup({
    types: {
      context: {} as Odd,
      events: {} as
        | { type: "bytes" }
        | { type: "big" }
        | { type: "held" }
        | { type: "fill"; count: number }
        | { type: "none" }
        | { type: "quiet"; count: number },
    },
  }).createMachine({
    context: { bytes: undefined, text: "", big: undefined },
    on: {
      bytes: { actions: [assign({ bytes: () => Uint8Array.of(1, 2, 250) }), reply(() => Uint8Array.of(9))] },
      big: { actions: [assign({ big: () => 2n ** 60n }), reply(() => new Date(5))] },
      held: {
        actions: reply(() => ({
          map: new Map([["a", new Set([1, 2n])]]),
          error: Object.assign(new TypeError("no", { cause: new Error("why") }), { code: 7 }),
        })),
      },
      fill: {
        actions: [assign({ text: ({ event }) => "\u0001".repeat(event.count) }), reply(() => "filled")],
      },
      none: { actions: reply(() => undefined) },
      quiet: { actions: assign({ text: ({ event }) => "x".repeat(event.count) }) },
    },
  }),
});

const probe = probeOf();
let server: NatsServer;
let raw: NatsConnection;
let node: KeyturnNode;
let store: NatsStore;

beforeAll(async () => {
  server = await startServer({ durability: "process" });
  raw = await connect({ servers: server.url });
  store = await nats({ servers: server.url });
  node = await startNode({ actors: [probe, odd], store });
}, 60_000);

afterAll(async () => {
  await node.stop();
  await raw.close();
  await server.stop();
});

interface Answer {
  readonly value?: unknown;
  readonly state?: {
    readonly value: unknown;
    readonly context: Record<string, unknown>;
    readonly status: string;
  };
  readonly position?: number;
  readonly error?: {
    readonly code: string;
    readonly message: string;
    readonly retryable: boolean;
    readonly outcome: string;
  };
}

type Payload = string | Uint8Array | object | undefined;

const bytesOf = (payload: Payload): string | Uint8Array =>
  payload === undefined || typeof payload === "string" || payload instanceof Uint8Array
    ? (payload ?? "")
    : JSON.stringify(payload);

async function ask(key: string, payload?: Payload, set: Record<string, string> = {}): Promise<Answer> {
  const given = headers();
  for (const [name, value] of Object.entries(set)) given.set(name, value);
  const subject = `keyturn.actor.${key}`;
  const answer = await raw.request(subject, bytesOf(payload), { timeout: 20_000, headers: given });
  return answer.json<Answer>();
}

describe("Answers", () => {
  it("value, state and position, each from the committed turn", async () => {
    const first = await ask("probe.answers", { type: "add", by: 2 });
    expect(first).toMatchObject({
      value: 2,
      state: { value: "on", status: "active", context: { count: 2 } },
    });
    const second = await ask("probe.answers", { type: "add", by: 3 });
    expect(second.value).toBe(5);
    expect(second.position).toBeGreaterThan(first.position as number);
    expect((await node.client.actor("probe/answers").get()).position).toBe(second.position);
  });

  it("no payload reads: no value, the state, also of an actor that nobody has sent anything", async () => {
    expect(await ask("probe.answers")).toMatchObject({ value: null, state: { context: { count: 5 } } });
    expect(await ask("probe.untouched")).toMatchObject({ value: null, state: { context: { count: 0 } } });
  });

  it("a turn without a reply has the value null, and so has one that replies nothing", async () => {
    expect(await ask("probe.answers", { type: "idle" })).toMatchObject({
      value: null,
      state: { value: "on" },
    });
    expect(await ask("odd.none", { type: "none" })).toHaveProperty("value", null);
  });

  it("what JSON has no form for becomes text", async () => {
    const bytes = await ask("odd.forms", { type: "bytes" });
    expect(bytes).toMatchObject({ value: "CQ==", state: { context: { bytes: "AQL6" } } });
    const big = await ask("odd.forms", { type: "big" });
    expect(big.state?.context).toMatchObject({ big: String(2n ** 60n), bytes: "AQL6" });
    expect(big.value).toBe("1970-01-01T00:00:00.005Z");
    // Entries, members, and what an Error says.
    expect((await ask("odd.forms", { type: "held" })).value).toEqual({
      map: [["a", [1, "2"]]],
      error: { name: "TypeError", message: "no", code: 7, cause: { name: "Error", message: "why" } },
    });
  });

  it("keys of any kind, as they are encoded in a subject", async () => {
    const keys = ["a", "A-b_c", "page:home", "ä ö", "a.b", "日本", "=", "%", "*", ">", "x".repeat(100), "\n"];
    for (const key of keys) {
      expect(await ask(`probe.${encodeKey(key)}`, { type: "add", by: 1 })).toMatchObject({ value: 1 });
      expect((await node.client.actor(probe, key).get()).context).toMatchObject({ count: 1 });
    }
  });
});

describe("Errors", () => {
  const cases: readonly (readonly [string, string, Payload, Record<string, string>, string])[] = [
    ["no JSON", "probe.e", "hello", {}, "invalid_event"],
    ["half of it", "probe.e", '{"type":"add"', {}, "invalid_event"],
    ["no UTF-8", "probe.e", Uint8Array.of(0xff, 0xfe), {}, "invalid_event"],
    ["a number", "probe.e", "5", {}, "invalid_event"],
    ["null", "probe.e", "null", {}, "invalid_event"],
    ["a list", "probe.e", "[1]", {}, "invalid_event"],
    ["no type", "probe.e", {}, {}, "invalid_event"],
    ["a type that is no text", "probe.e", { type: 5 }, {}, "invalid_event"],
    ["an event that no state knows", "probe.e", { type: "unknown" }, {}, "invalid_event"],
    ["a reserved one", "probe.e", { type: "xstate.init" }, {}, "reserved_event"],
    ["a prototype", "probe.e", '{"type":"add","by":1,"__proto__":{"x":1}}', {}, "invalid_event"],
    ["too much", "probe.e", `{"type":"add","x":"${"y".repeat(300_000)}"}`, {}, "event_too_large"],
    ["far too much", "probe.e", "x".repeat(800_000), {}, "event_too_large"],
    ["too deep", "probe.e", `{"type":"add","x":${"[".repeat(100)}${"]".repeat(100)}}`, {}, "invalid_event"],
    ["a type that there is not", "nobody.e", { type: "add" }, {}, "unknown_type"],
    ["a key that needs encoding", "probe.page:home", { type: "add" }, {}, "invalid_address"],
    ["a key that is encoded wrong", "probe.=zz", { type: "add" }, {}, "invalid_address"],
    ["a machine that throws", "probe.e", { type: "fail" }, {}, "machine_failed"],
    [
      "a time-out that is no number",
      "probe.e",
      { type: "idle" },
      { "Keyturn-Timeout": "soon" },
      "invalid_options",
    ],
    ["a time-out of years", "probe.e", { type: "idle" }, { "Keyturn-Timeout": "1e12" }, "invalid_options"],
    [
      "a request id that is too long",
      "probe.e",
      { type: "idle" },
      { "Keyturn-Request-Id": "x".repeat(200) },
      "invalid_options",
    ],
  ];
  for (const [what, key, payload, set, code] of cases) {
    it(`${what}: ${code}`, async () => {
      const { error, ...rest } = await ask(key, payload, set);
      expect(rest).toEqual({});
      expect(error).toMatchObject({ code, ...meanings[code as keyof typeof meanings] });
      expect(error?.message.length).toBeGreaterThan(10);
      expect(error?.message.length).toBeLessThan(2_000);
    });
  }

  it("subjects with too few or too many parts, which no mapping moves, are answered too", async () => {
    for (const subject of ["keyturn.actor.probe", "keyturn.actor.probe.a.b", "keyturn.actor.a.b.c.d"]) {
      const answer = await raw.request(subject, '{"type":"add","by":1}', { timeout: 5_000 });
      expect(answer.json<Answer>().error?.code).toBe("invalid_address");
    }
  });

  it("a key that needs encoding is told how it is written", async () => {
    expect((await ask("probe.page:home", { type: "add" })).error?.message).toContain(encodeKey("page:home"));
  });

  it("an answer that becomes too long as JSON is an error that says what became of the turn", async () => {
    const filled = await ask("odd.long", { type: "fill", count: 250_000 });
    expect(filled.error).toMatchObject({ code: "answer_too_large", outcome: "applied", retryable: false });
    const read = await ask("odd.long");
    expect(read.error).toMatchObject({ code: "state_too_large", outcome: "rejected" });
    expect((await node.client.actor("odd/long").get()).context).toMatchObject({
      text: "\u0001".repeat(250_000),
    });
    // Below the limit it is carried.
    expect((await ask("odd.long", { type: "quiet", count: 500_000 })).value).toBeNull();
  });
});

describe("Requests that are repeated", () => {
  it("with an id of the caller's are applied once, by either header, from whichever client", async () => {
    for (const name of ["Keyturn-Request-Id", "Nats-Msg-Id"]) {
      const key = `probe.repeat-${name}`;
      const first = await ask(key, { type: "add", by: 1 }, { [name]: "once" });
      const again = await ask(key, { type: "add", by: 1 }, { [name]: "once" });
      expect(first.value).toBe(1);
      expect(again.value).toBe(1);
      expect((await ask(key)).state?.context.count).toBe(1);
      expect((await ask(key, { type: "add", by: 1 }, { [name]: "twice" })).value).toBe(2);
    }
  });

  it("a hundred at once with one id are one turn, and a hundred answers", async () => {
    const answers = await Promise.all(
      Array.from({ length: 100 }, () =>
        ask("probe.burst", { type: "add", by: 1 }, { "Keyturn-Request-Id": "same" }),
      ),
    );
    expect(new Set(answers.map(({ value }) => value))).toEqual(new Set([1]));
    expect((await ask("probe.burst")).state?.context.count).toBe(1);
  });

  it("without anybody who waits for an answer they are applied all the same", async () => {
    for (let n = 0; n < 10; n++) raw.publish("keyturn.actor.probe.silent", '{"type":"add","by":1}');
    await raw.flush();
    let count: unknown;
    const end = performance.now() + 5_000;
    while (count !== 10 && performance.now() < end) count = (await ask("probe.silent")).state?.context.count;
    expect(count).toBe(10);
  });
});

describe("Anything at all", () => {
  it("gets exactly one answer in JSON, with a known code or a state", { timeout: 60_000 }, async () => {
    const event = fc.oneof(
      fc.record({
        type: fc.constantFrom("add", "note", "fail", "loop", "mutate", "later", "forget"),
        by: fc.anything(),
      }),
      fc.record({ type: fc.string(), by: fc.double() }),
    );
    const payload = fc.oneof(
      fc.uint8Array({ maxLength: 64 }),
      fc.string().map((text) => new TextEncoder().encode(text)),
      fc.json().map((text) => new TextEncoder().encode(text)),
      event.map((value) => new TextEncoder().encode(jsonOf(value))),
    );
    const token = fc.oneof(
      fc.constantFrom("fuzz", "=41", "=", "=4", "a=b", "%41", "€", "x".repeat(250)),
      fc.stringMatching(/^[A-Za-z0-9_=-]{1,20}$/),
    );
    const type = fc.constantFrom("probe", "probe", "odd", "nobody", "Probe", "_", "x".repeat(90));
    const header = fc.record({
      "Keyturn-Request-Id": fc.option(fc.stringMatching(/^[ -~]{0,140}$/), { nil: undefined }),
      "Keyturn-Timeout": fc.option(fc.constantFrom("5000", "0", "-1", "x", "Infinity", ""), {
        nil: undefined,
      }),
      traceparent: fc.option(fc.stringMatching(/^[ -~]{0,600}$/), { nil: undefined }),
    });
    const inbox = `_INBOX.fuzz${Math.random().toString(36).slice(2)}`;
    const answers = new Map<string, Msg[]>();
    raw.subscribe(`${inbox}.*`, {
      callback: (_error, message) => {
        answers.set(message.subject, [...(answers.get(message.subject) ?? []), message]);
      },
    });
    let sent = 0;
    await fc.assert(
      fc.asyncProperty(type, token, payload, header, async (type, token, payload, set) => {
        const reply = `${inbox}.${++sent}`;
        const given = headers();
        for (const [name, value] of Object.entries(set))
          if (value !== undefined) given.set(name, value.trim());
        raw.publish(`keyturn.actor.${type}.${token}`, payload, { reply, headers: given });
        await eventually(() => answers.has(reply), 10_000);
        const answer = answers.get(reply)?.[0]?.json<Answer>() as Answer;
        if (answer.error === undefined) {
          expect(Object.keys(answer).sort()).toEqual(["position", "state", "value"]);
          expect(typeof answer.position).toBe("number");
        } else {
          expect(Object.keys(answer)).toEqual(["error"]);
          expect(isErrorCode(answer.error.code)).toBe(true);
          expect(answer.error.code).not.toBe("store_failed");
        }
      }),
      { numRuns: 400 },
    );
    await raw.flush();
    await ask("probe.last");
    expect([...answers.values()].filter((list) => list.length !== 1)).toEqual([]);
    expect(answers.size).toBe(sent);
    expect(node.health().ready).toBe(true);
  });
});

describe("Too many at once", () => {
  it("are refused at once over the limit; those within it are answered when the store is there again", async () => {
    const app = "crowd";
    const own = await nats({ servers: server.url, app });
    const crowded = await startNode({ actors: [probeOf()], store: own, shards: 1 });
    const manager = await jetstreamManager(raw);
    const { config } = await manager.streams.info(`${app}_journal`);
    await manager.streams.delete(config.name);
    const inbox = "_INBOX.crowd";
    const codes: string[] = [];
    raw.subscribe(`${inbox}.*`, {
      callback: (_error, message) => {
        const { error } = message.json<Answer>();
        codes.push(error?.code ?? "answered");
      },
    });
    const count = limits.plainInFlight + 500;
    for (let n = 0; n < count; n++)
      raw.publish(`${app}.shard.0.probe.k${n % 100}`, '{"type":"add","by":1}', { reply: `${inbox}.${n}` });
    await eventually(() => codes.length >= 500, 20_000);
    expect(new Set(codes)).toEqual(new Set(["overloaded"]));
    expect(codes).toHaveLength(500);
    await manager.streams.add(config);
    await eventually(() => codes.length === count, 20_000);
    expect(codes.slice(500).every((code) => code === "answered")).toBe(true);
    await crowded.stop();
  }, 60_000);
});

/** As JSON, with something in place of what has no form there. */
function jsonOf(value: unknown): string {
  try {
    return (
      JSON.stringify(value, (_name, part: unknown) => (typeof part === "bigint" ? String(part) : part)) ?? "x"
    );
  } catch {
    return "{}";
  }
}
