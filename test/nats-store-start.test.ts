/** What a store says when it cannot start: which error, and what the text tells to do. No text holds a secret. */
import { createServer, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "@nats-io/transport-node";
import { jetstreamManager, type StreamConfig } from "@nats-io/jetstream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  connect as connectClient,
  type NatsOptions,
  nats,
  provisionNats,
  startNode,
} from "../runtime/index.ts";
import { natsClient } from "../runtime/stores/nats/index.ts";
import type { KeyturnError } from "../runtime/words/errors.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";
import { failure, probeOf } from "./support/probe.ts";

const SECRET = "s3cr3t-word";
const servers: NatsServer[] = [];
const listeners: Server[] = [];
const folder = mkdtempSync(join(tmpdir(), "keyturn-start-"));

afterAll(async () => {
  for (const listener of listeners) listener.close();
  for (const server of servers) await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function server(options: Parameters<typeof startServer>[0] = {}): Promise<NatsServer> {
  const started = await startServer({ durability: "process", ...options });
  servers.push(started);
  return started;
}

/** Neither the text nor what stands behind it. */
function tellsNoSecret(error: KeyturnError): void {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    expect(`${at.message} ${at.stack}`).not.toContain(SECRET);
    expect(JSON.stringify(at)).not.toContain(SECRET);
  }
}

/** A program that speaks only so much of the protocol as one needs to be taken for a server. */
async function impostor(info: object | undefined): Promise<string> {
  const listener = createServer((socket: Socket) => {
    socket.on("error", () => undefined);
    if (info === undefined) return;
    socket.write(
      `INFO ${JSON.stringify({ server_id: "x", server_name: "x", headers: true, proto: 1, ...info })}\r\n`,
    );
    socket.on("data", (bytes) => {
      if (bytes.includes("PING")) socket.write("PONG\r\n");
    });
  });
  listeners.push(listener);
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  return `127.0.0.1:${(listener.address() as AddressInfo).port}`;
}

describe("No server, or none that will do", () => {
  it("nothing listens there: unreachable, with the address and how to start one", async () => {
    const at = await impostor({});
    const listener = listeners.pop() as Server;
    await new Promise((resolve) => listener.close(resolve));
    const error = await failure(nats({ servers: at }));
    expect(error).toMatchObject({ code: "unreachable", retryable: true });
    expect(error.message).toContain(at);
    expect(error.message).toContain("nats-server -c nats.conf");
  });

  it("one of several is enough", async () => {
    const one = await server();
    const store = await nats({ servers: ["127.0.0.1:1", one.url] });
    expect(store.connection.connected).toBe(true);
    await store.close();
  });

  it("something listens and says nothing: unreachable, within the time that was given", async () => {
    const began = performance.now();
    const error = await failure(nats({ servers: await impostor(undefined), timeout_ms: 300 }));
    expect(error.code).toBe("unreachable");
    expect(performance.now() - began).toBeLessThan(4_000);
  });

  for (const version of ["2.9.10", "2.10.27", "2.11.15", "2.0.0-beta", "1.4.1"]) {
    it(`version "${version}" is refused with both versions`, async () => {
      const at = await impostor({ version, max_payload: 1_048_576 });
      for (const open of [nats, natsClient]) {
        const error = await failure(open({ servers: at }));
        expect(error).toMatchObject({ code: "server_unsuitable", retryable: false });
        expect(error.message).toContain(`version ${version};`);
        expect(error.message).toContain("2.12");
        expect(error.message).toContain(at);
      }
    });
  }

  it("a server that carries only small messages is refused with both sizes", async () => {
    const small = await server({ maxPayload: 65_536 });
    const error = await failure(nats({ servers: small.url }));
    expect(error.code).toBe("server_unsuitable");
    expect(error.message).toContain("65536");
    expect(error.message).toContain("max_payload: 1MB");
  });

  it("JetStream is off", async () => {
    const off = await server({ accounts: "{ A { users = [ { user: a, password: a } ] } }" });
    const error = await failure(nats({ servers: off.url, user: "a", pass: "a" }));
    expect(error.code).toBe("server_unsuitable");
    expect(error.message).toMatch(/JetStream/);
    expect(error.message).toMatch(/jetstream block/);
  });

  it("more replicas than servers", async () => {
    const alone = await server();
    const error = await failure(nats({ servers: alone.url, replicas: 3 }));
    expect(error.code).toBe("server_unsuitable");
    expect(error.message).toMatch(/fewer replicas/);
  });
});

describe("Credentials and permissions", () => {
  let guarded: NatsServer;
  const denying = (user: string, kind: "publish" | "subscribe", subject: string): string =>
    `{ user: ${user}, password: p, permissions: { ${kind}: { deny: [${JSON.stringify(subject)}] } } }`;

  beforeAll(async () => {
    const users = [
      `{ user: all, password: ${JSON.stringify(SECRET)} }`,
      denying("no_inbox", "subscribe", "_INBOX.>"),
      denying("no_js", "publish", "$JS.>"),
      denying("no_info", "publish", "$JS.API.STREAM.INFO.keyturn_journal"),
      denying("no_create", "publish", "$JS.API.STREAM.CREATE.>"),
      denying("no_kv", "publish", "$KV.keyturn_snapshots.>"),
      denying("no_get", "publish", "$JS.API.STREAM.MSG.GET.>"),
      denying("no_direct", "publish", "$JS.API.DIRECT.GET.>"),
      denying("no_append", "publish", "keyturn.journal.*"),
      denying("no_shards", "subscribe", "keyturn.shard.>"),
      '{ user: client, password: p, permissions: { publish: ["keyturn.>"], subscribe: ["_INBOX.>", "keyturn.client.>"] } }',
    ];
    guarded = await server({ extra: `authorization { users = [ ${users.join(", ")} ] }` });
    const store = await nats({ servers: guarded.url, user: "all", pass: SECRET });
    await store.directory.app({ shards: 8, format: 1 });
    await store.close();
  });

  const as = (user: string, more: Partial<NatsOptions> = {}): NatsOptions => ({
    servers: guarded.url,
    user,
    pass: "p",
    ...more,
  });

  it("wrong, missing or unreadable credentials are told apart, and none is repeated", async () => {
    const rubbish = join(folder, "rubbish.creds");
    writeFileSync(rubbish, SECRET);
    const broken = join(folder, "broken.creds");
    const part = (name: string, text: string): string =>
      `-----BEGIN ${name}-----\n${text}\n------END ${name}------\n\n`;
    writeFileSync(broken, part("NATS USER JWT", "x") + part("USER NKEY SEED", `SU${SECRET}`));
    const cases: readonly (readonly [NatsOptions, string])[] = [
      [{ servers: guarded.url, user: "all", pass: `${SECRET}x` }, "access_denied"],
      [{ servers: guarded.url, user: "nobody", pass: SECRET }, "access_denied"],
      [{ servers: guarded.url, token: SECRET }, "access_denied"],
      [{ servers: guarded.url }, "access_denied"],
      [{ servers: guarded.url, creds: rubbish }, "invalid_options"],
      [{ servers: guarded.url, creds: broken }, "invalid_options"],
      [{ servers: guarded.url, creds: join(folder, "none.creds") }, "invalid_options"],
      [{ servers: guarded.url, tls: { caFile: join(folder, "none.pem") } }, "invalid_options"],
      [{ servers: `nats://all:${SECRET}@127.0.0.1:${guarded.port}` }, "invalid_options"],
      [
        { servers: guarded.url, user: "all", pass: SECRET, monitor: `http://u:${SECRET}@127.0.0.1:1` },
        "invalid_options",
      ],
    ];
    for (const [options, code] of cases) {
      const error = await failure(nats(options));
      expect([error.code, error.message]).toEqual([code, error.message]);
      expect(error.retryable).toBe(false);
      tellsNoSecret(error);
    }
  });

  const refusals: readonly (readonly [user: string, verb: string, subject: string])[] = [
    ["no_inbox", "subscribe to", "_INBOX."],
    ["no_js", "publish to", "$JS.API.INFO"],
    ["no_info", "publish to", "$JS.API.STREAM.INFO.keyturn_journal"],
    ["no_kv", "publish to", "$KV.keyturn_snapshots._app"],
  ];
  for (const [user, verb, subject] of refusals) {
    it(`${user}: the error names ${subject}`, async () => {
      const began = performance.now();
      const error = await failure(nats(as(user)));
      expect(error).toMatchObject({ code: "access_denied", retryable: false });
      expect(error.message).toContain(`may not ${verb} "${subject}`);
      expect(error.message).toContain("examples/nats/accounts");
      expect(performance.now() - began).toBeLessThan(3_000);
    });
  }

  it("who may not make streams is told so only where one is missing", async () => {
    const store = await nats(as("no_create"));
    await store.close();
    const error = await failure(nats(as("no_create", { app: "other" })));
    expect(error.code).toBe("access_denied");
    expect(error.message).toContain('"$JS.API.STREAM.CREATE.KV_other_shards"');
  });

  it("no_get, no_direct: every call that needs it names the subject, at once", async () => {
    const get = await failure(nats(as("no_get")));
    expect(get.code).toBe("access_denied");
    expect(get.message).toContain('publish to "$JS.API.STREAM.MSG.GET.KV_keyturn_shards"');
    const noDirect = await nats(as("no_direct"));
    const read = await failure(noDirect.snapshots.read(["t.k"]));
    expect(read.code).toBe("access_denied");
    expect(read.message).toContain('publish to "$JS.API.DIRECT.GET.KV_keyturn_snapshots"');
    await noDirect.close();
  });

  it("no_append: an append is certainly refused with the subject's name", async () => {
    const store = await nats(as("no_append"));
    const result = await store.journal.append("life1", 0, new Uint8Array(3));
    expect(result).toMatchObject({ kind: "unknown", cause: { code: "access_denied" } });
    expect(String((result as { cause: unknown }).cause)).toContain('publish to "keyturn.journal.life1"');
    await store.close();
  });

  it("no_shards: a subscription that is refused is named to whoever listens, and in the state, until it ends", async () => {
    const store = await nats(as("no_shards"));
    const troubles: string[] = [];
    store.onTrouble((task, error) => troubles.push(`${task}: ${String(error)}`));
    const stop = store.transport.subscribe("shard.3", () => undefined);
    await expect.poll(() => troubles.length).toBeGreaterThanOrEqual(2);
    expect(troubles[0]).toContain('may not subscribe to "keyturn.shard.3"');
    expect(store.connection).toMatchObject({ connected: false });
    expect(store.connection.text).toContain('"keyturn.shard.3');
    stop();
    expect(store.connection.connected).toBe(true);
    await store.close();
  });

  it("a client without JetStream that no node answers is told to start a node", async () => {
    const error = await failure(connectClient({ nats: as("client") }));
    expect(error).toMatchObject({ code: "unreachable", retryable: true });
    expect(error.message).toContain("Start a node");
  });
});

describe("What is there already", () => {
  let one: NatsServer;
  beforeAll(async () => {
    one = await server();
  });

  it("nothing, and nothing may be made: not provisioned", async () => {
    const error = await failure(nats({ servers: one.url, app: "none", provision: false }));
    expect(error).toMatchObject({ code: "not_provisioned", retryable: false });
    expect(error.message).toContain("KV_none_shards");
    expect(error.message).toContain("keyturn provision");
  });

  it("no app, for a client: not provisioned", async () => {
    const error = await failure(connectClient({ nats: { servers: one.url, app: "none" } }));
    expect(error).toMatchObject({ code: "not_provisioned" });
  });

  const others: readonly (readonly [string, string, Partial<StreamConfig>])[] = [
    ["journal", "its subjects are something.else", { subjects: ["something.else"] }],
    ["journal", "memory", { storage: "memory" as never }],
    ["journal", "its retention is interest", { retention: "interest" as never }],
    ["journal", "it discards old messages", { discard: "old" as never }],
    ["journal", "forgets messages that are old", { max_age: 3_600_000_000_000 }],
    ["journal", "max_msg_size is 1000", { max_msg_size: 1_000 }],
    ["journal", "max_msgs_per_subject is 1", { max_msgs_per_subject: 1 }],
    ["journal", "acknowledges nothing", { no_ack: true }],
    ["journal", "allow_direct is off", { allow_direct: false }],
    ["journal", "persist_mode is async", { persist_mode: "async" as never, num_replicas: 1 }],
    ["KV_snapshots", "allow_atomic is off", { allow_atomic: false }],
    ["KV_snapshots", "max_msgs_per_subject is 5", { max_msgs_per_subject: 5 }],
    ["KV_shards", "allow_msg_ttl is off", { allow_msg_ttl: false }],
    ["KV_nodes", "allow_rollup_hdrs is off", { allow_rollup_hdrs: false }],
    ["KV_nodes", "discard_new_per_subject is on", { discard_new_per_subject: true }],
    ["dead", "it changes subjects", { subject_transform: { src: "x.*", dest: "y.{{wildcard(1)}}" } }],
  ];
  others.forEach(([stream, fault, change], n) => {
    it(`a stream for ${stream} of another kind is not touched: ${fault}`, async () => {
      const app = `odd${n}`;
      const name = stream.startsWith("KV_") ? `KV_${app}_${stream.slice(3)}` : `${app}_${stream}`;
      const store = await nats({ servers: one.url, app });
      await store.close();
      const nc = await connect({ servers: one.url });
      const manager = await jetstreamManager(nc);
      const { config } = await manager.streams.info(name);
      await manager.streams.delete(name);
      const { metadata: _, ...plain } = config;
      await manager.streams.add({ ...plain, ...change });
      await nc.close();
      for (const provision of [true, false]) {
        const error = await failure(nats({ servers: one.url, app, provision }));
        expect(error).toMatchObject({ code: "app_mismatch", retryable: false });
        expect(error.message).toContain(name);
        expect(error.message).toContain(fault);
      }
    });
  });

  it("a client asks another node where one does not answer", async () => {
    await provisionNats({ servers: one.url, app: "asks" }, { shards: 8, format: 1 });
    const nc = await connect({ servers: one.url });
    // One that takes every question and is silent, as a frozen node does, and one that answers.
    let silent = 0;
    nc.subscribe("asks.info", { queue: "keyturn", callback: () => void silent++ });
    nc.subscribe("asks.info", {
      queue: "keyturn",
      callback: (_error, message) => void message.respond('{"shards":8,"format":1}'),
    });
    await nc.flush();
    for (let n = 0; n < 10 && silent === 0; n++) {
      const client = await connectClient({ nats: { servers: one.url, app: "asks", timeout_ms: 600 } });
      await client.disconnect();
    }
    expect(silent).toBeGreaterThan(0);
    await nc.close();
  });

  it("an operator's limits on bytes are none of our business", async () => {
    const app = "limited";
    await (await nats({ servers: one.url, app })).close();
    const nc = await connect({ servers: one.url });
    const manager = await jetstreamManager(nc);
    await manager.streams.update(`${app}_journal`, {
      max_bytes: 10_000_000,
      max_msgs: 1_000,
      description: "mine",
    });
    await nc.close();
    await (await nats({ servers: one.url, app, provision: false })).close();
  });

  it("an app with another number of shards, or of another format", async () => {
    await provisionNats({ servers: one.url, app: "two" }, { shards: 8, format: 1 });
    const shards = await failure(provisionNats({ servers: one.url, app: "two" }, { shards: 16, format: 1 }));
    expect(shards.code).toBe("app_mismatch");
    expect(shards.message).toContain('"two" exists with 8 shards in format 1, not 16');
    const format = await failure(provisionNats({ servers: one.url, app: "two" }, { shards: 8, format: 2 }));
    expect(format.code).toBe("app_mismatch");
    const node = await failure(
      startNode({ actors: [probeOf()], store: nats({ servers: one.url, app: "two" }), shards: 16 }),
    );
    expect(node).toMatchObject({ code: "app_mismatch" });
    expect(node.message).toContain("8 shards");
    await provisionNats({ servers: one.url, app: "future" }, { shards: 8, format: 99 });
    const store = await nats({ servers: one.url, app: "future" });
    expect(await failure(startNode({ actors: [probeOf()], store }))).toMatchObject({ code: "app_mismatch" });
    await store.close();
    const client = await failure(connectClient({ nats: { servers: one.url, app: "future" } }));
    expect(client).toMatchObject({ code: "app_mismatch" });
    expect(client.message).toContain("format 99");
  });
});

describe("Options", () => {
  const wrong: readonly (readonly [string, unknown])[] = [
    ["nothing", undefined],
    ["no object", "127.0.0.1:4222"],
    ["null", null],
    ["no servers", {}],
    ["an empty address", { servers: "" }],
    ["an empty list", { servers: [] }],
    ["a number among the addresses", { servers: ["a:1", 4222] }],
    ["several addresses in one text", { servers: "a:1,b:2" }],
    ["another protocol", { servers: "http://a:1" }],
    ["a path", { servers: "nats://a:1/x" }],
    ["a line break", { servers: "a:1\r\nPUB x 0" }],
    ["an option that there is not", { servers: "a:1", server: "b:1" }],
    ["an app's name with a dot", { servers: "a:1", app: "a.b" }],
    ["an app's name with a wildcard", { servers: "a:1", app: "a*" }],
    ["an app's name that begins with a digit", { servers: "a:1", app: "1a" }],
    ["an app's name that is too long", { servers: "a:1", app: "a".repeat(33) }],
    ["an empty app's name", { servers: "a:1", app: "" }],
    ["an app's name that is a number", { servers: "a:1", app: 7 }],
    ["a password without a user", { servers: "a:1", pass: "x" }],
    ["a user and a token", { servers: "a:1", user: "x", token: "y" }],
    ["a user and a file", { servers: "a:1", user: "x", creds: "y" }],
    ["an empty user", { servers: "a:1", user: "" }],
    ["a password that is a number", { servers: "a:1", user: "x", pass: 5 }],
    ["tls that is true", { servers: "a:1", tls: true }],
    ["tls with a word that there is not", { servers: "a:1", tls: { ca: "x" } }],
    ["a certificate without its key", { servers: "a:1", tls: { certFile: "x" } }],
    ["an inbox with a wildcard", { servers: "a:1", inboxPrefix: "_INBOX.>" }],
    ["an inbox with a space", { servers: "a:1", inboxPrefix: "a b" }],
    ["a session with a dot", { servers: "a:1", session: "a.b" }],
    ["two replicas", { servers: "a:1", replicas: 2 }],
    ["replicas as a text", { servers: "a:1", replicas: "3" }],
    ["provision as a text", { servers: "a:1", provision: "no" }],
    ["a durability that there is not", { servers: "a:1", durability: "always" }],
    ["a monitor that is no address", { servers: "a:1", monitor: "localhost:8222" }],
    ["a monitor of another protocol", { servers: "a:1", monitor: "file:///etc/passwd" }],
    ["a time-out of nothing", { servers: "a:1", timeout_ms: 0 }],
    ["a time-out that is no number", { servers: "a:1", timeout_ms: Number.NaN }],
    ["a time-out of an hour", { servers: "a:1", timeout_ms: 3_600_000 }],
    ["a name that is no text", { servers: "a:1", name: {} }],
  ];
  for (const [what, options] of wrong) {
    it(`${what} is refused before anything is tried`, async () => {
      for (const open of [
        nats,
        natsClient,
        (given: NatsOptions) => provisionNats(given, { shards: 1, format: 1 }),
      ]) {
        const error = await failure(open(options as NatsOptions));
        expect(error).toMatchObject({ code: "invalid_options", retryable: false, outcome: "rejected" });
        expect(error.message.length).toBeGreaterThan(15);
      }
    });
  }

  it("what is right is taken: addresses of all kinds, and options that are undefined", async () => {
    const one = await server();
    const host = `localhost:${one.port}`;
    for (const address of [one.url, host, `nats://${host}`, [host, "[::1]:1"], [`127.0.0.1:${one.port}`]]) {
      const store = await nats({
        servers: address,
        app: undefined,
        user: undefined,
        tls: undefined,
        replicas: undefined,
        name: "a name",
      });
      await store.close();
    }
  });
});
