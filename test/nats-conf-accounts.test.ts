/** examples/nats/accounts: every user can do its part, and is refused everything else; TLS or nothing. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { connect, type NatsConnection, wsconnect } from "@nats-io/transport-node";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { shardOf } from "../runtime/words/address.ts";
import { type Certificates, writeCertificates } from "./support/nats-certificates.ts";
import { forbidden, streams } from "./support/nats-permissions.ts";
import { freePorts } from "./support/nats-ports.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";
import { copyVariants, passwords, secrets, type User } from "./support/nats-variants.ts";

const inboxes: Record<User, string> = {
  keyturn_provisioner: "_INBOX_keyturn_provisioner",
  keyturn_node: "_INBOX_keyturn_node",
  keyturn_client: "_INBOX.keyturn_client",
  keyturn_browser: "_INBOX.keyturn_browser",
};

let folder: string;
let certificates: Certificates;
let webPort: number;
let server: NatsServer;
let open: NatsConnection[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "keyturn-accounts-"));
  certificates = writeCertificates(folder);
  [webPort = 0] = await freePorts(1);
  copyVariants(folder, { "accounts/server.conf": { "127.0.0.1:8443": `127.0.0.1:${webPort}` } });
  server = await startServer({ configFile: join(folder, "accounts/server.conf"), env: environment() });
  const nc = await connectAs("keyturn_provisioner");
  const manager = await jetstreamManager(nc);
  for (const [name, subject] of Object.entries(streams)) {
    await manager.streams.add({
      name,
      subjects: [subject],
      allow_direct: true,
      allow_atomic: true,
      max_msgs_per_subject: name.startsWith("KV_") ? 1 : -1,
    });
  }
  await nc.close();
});

afterAll(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

afterEach(async () => {
  await Promise.all(open.map((nc) => nc.close()));
  open = [];
});

function environment(): Record<string, string> {
  return { ...passwords, KEYTURN_TLS_CERT: certificates.cert, KEYTURN_TLS_KEY: certificates.key };
}

async function connectAs(user: User, password: string = secrets[user]): Promise<NatsConnection> {
  const nc = await connect({
    servers: `127.0.0.1:${server.port}`,
    user,
    pass: password,
    inboxPrefix: inboxes[user],
    tls: { caFile: certificates.ca },
    reconnect: false,
    timeout: 2_000,
  });
  return opened(nc);
}

/** As a browser does, and with the header that it sends. */
async function connectWeb(user: User): Promise<NatsConnection> {
  const nc = await wsconnect({
    servers: `wss://127.0.0.1:${webPort}`,
    user,
    pass: secrets[user],
    inboxPrefix: inboxes[user],
    reconnect: false,
    timeout: 2_000,
    wsFactory: async (url) => {
      const options = { ca: readFileSync(certificates.ca), origin: "https://app.example.com" };
      return { socket: new WebSocket(url, options) as unknown as globalThis.WebSocket, encrypted: true };
    },
  });
  return opened(nc);
}

function connectUser(user: User): Promise<NatsConnection> {
  return user === "keyturn_browser" ? connectWeb(user) : connectAs(user);
}

/** What the server has refused, by connection. */
const refused = new WeakMap<NatsConnection, string[]>();

function opened(nc: NatsConnection): NatsConnection {
  const texts: string[] = [];
  refused.set(nc, texts);
  open.push(nc);
  const follow = async (): Promise<void> => {
    for await (const event of nc.status()) if (event.type === "error") texts.push(event.error.message);
  };
  void follow();
  return nc;
}

/** What the server refuses of what is done: it says so before it answers the ping of `flush`. */
async function refusals(nc: NatsConnection, act: () => void): Promise<string[]> {
  const texts = refused.get(nc) ?? [];
  texts.length = 0;
  act();
  await nc.flush();
  // The texts come through an iterator, a few steps after the answer.
  await nc.flush();
  return [...texts];
}

describe("what a user may not do", () => {
  const users = Object.keys(forbidden) as User[];

  test.each(users)("%s cannot publish elsewhere", async (user) => {
    const nc = await connectUser(user);
    const denied: string[] = [];
    for (const subject of forbidden[user].publish) {
      const texts = await refusals(nc, () => nc.publish(subject, "{}"));
      if (texts.join() === `Permissions Violation for Publish to "${subject}"`) denied.push(subject);
    }
    expect(denied).toEqual(forbidden[user].publish);
  });

  test.each(users)("%s cannot listen elsewhere, and not in a queue group either", async (user) => {
    const nc = await connectUser(user);
    const denied: string[] = [];
    for (const subject of forbidden[user].subscribe) {
      for (const queue of [undefined, "keyturn"]) {
        const options = { callback: () => undefined, ...(queue === undefined ? {} : { queue }) };
        const texts = await refusals(nc, () => void nc.subscribe(subject, options));
        if (texts.join().startsWith(`Permissions Violation for Subscription to "${subject}"`))
          denied.push(subject);
      }
    }
    expect(denied).toEqual(forbidden[user].subscribe.flatMap((subject) => [subject, subject]));
  });

  test("a request to an actor of another type is refused by what it is mapped to", async () => {
    const browser = await connectWeb("keyturn_browser");
    const shard = shardOf("account", "alice", 64);
    expect(await refusals(browser, () => browser.publish("keyturn.actor.account.alice", "{}"))).toEqual([
      `Permissions Violation for Publish to "keyturn.shard.${shard}.account.alice"`,
    ]);
  });

  test("nothing of all that has reached a stream", async () => {
    const manager = await jetstreamManager(await connectAs("keyturn_node"));
    for (const stream of Object.keys(streams)) {
      expect((await manager.streams.info(stream)).state.messages, stream).toBe(0);
    }
  });
});

describe("what a user is there for", () => {
  /** Answers plain requests as a node does, with the subject that they came on. */
  async function answering(): Promise<NatsConnection> {
    const node = await connectAs("keyturn_node");
    node.subscribe("keyturn.shard.*.*.*", {
      callback: (_error, message) => void message.respond(message.subject),
    });
    await node.flush();
    return node;
  }

  test("a client and a browser reach an actor by its name, and get the answer", async () => {
    await answering();
    const subject = `keyturn.shard.${shardOf("counter", "home", 64)}.counter.home`;
    for (const user of ["keyturn_client", "keyturn_browser"] as const) {
      const nc = await connectUser(user);
      expect((await nc.request("keyturn.actor.counter.home", "{}")).string(), user).toBe(subject);
    }
  });

  test("a client exchanges frames with shards and nodes", async () => {
    const node = await connectAs("keyturn_node");
    const client = await connectAs("keyturn_client");
    const heard: string[] = [];
    const answered = new Promise<void>((resolve) => {
      client.subscribe("keyturn.client.keyturn_client.*", {
        callback: (_error, message) => {
          heard.push(message.string());
          if (heard.length === 3) resolve();
        },
      });
    });
    for (const subject of ["keyturn.shard.3", "keyturn.node.a", "keyturn.info"]) {
      node.subscribe(subject, {
        callback: (_error, message) => node.publish("keyturn.client.keyturn_client.session", message.subject),
      });
    }
    await Promise.all([node.flush(), client.flush()]);
    for (const subject of ["keyturn.shard.3", "keyturn.node.a", "keyturn.info"])
      client.publish(subject, "frame");
    await answered;
    expect(heard).toEqual(["keyturn.shard.3", "keyturn.node.a", "keyturn.info"]);
  });

  test("nodes talk to each other", async () => {
    const [one, other] = [await connectAs("keyturn_node"), await connectAs("keyturn_node")];
    const subjects = [
      "keyturn.shard.3",
      "keyturn.peer.3",
      "keyturn.node.a",
      "keyturn.info",
      "keyturn.changed",
    ];
    const heard: string[] = [];
    const all = new Promise<void>((resolve) => {
      for (const subject of subjects) {
        const callback = (): void => {
          if (heard.push(subject) === subjects.length) resolve();
        };
        other.subscribe(subject, { callback });
      }
    });
    await other.flush();
    for (const subject of subjects) one.publish(subject, "x");
    await all;
    expect(heard).toEqual(subjects);
  });

  test("a node commits with an expectation, reads back from the leader and directly", async () => {
    const nc = await connectAs("keyturn_node");
    const js = jetstream(nc);
    const manager = await jetstreamManager(nc);
    const expect0 = { expect: { lastSubjectSequence: 0 } };
    const { seq } = await js.publish("keyturn.journal.lane", "batch", expect0);
    await expect(js.publish("keyturn.journal.lane", "batch", expect0)).rejects.toThrow(/wrong last sequence/);
    expect((await manager.streams.getMessage("keyturn_journal", { seq }))?.string()).toBe("batch");
    expect((await manager.direct.getMessage("keyturn_journal", { seq }))?.string()).toBe("batch");
    expect((await js.publish("keyturn.dead.0_1_0", "letter")).stream).toBe("keyturn_dead");
  });

  test("a node writes snapshots in a batch, members and shards with expectations, and reads them", async () => {
    const nc = await connectAs("keyturn_node");
    const js = jetstream(nc);
    const batch = await js.startBatch("$KV.keyturn_snapshots.counter.home", "one");
    const ack = await batch.commit("$KV.keyturn_snapshots.counter.away", "two");
    expect(ack.stream).toBe("KV_keyturn_snapshots");
    const members = await new Kvm(js).open("keyturn_nodes");
    await members.put("member.a", "beat 1");
    await members.put("member.a", "beat 2");
    expect((await members.get("member.a"))?.string()).toBe("beat 2");
    const shards = await new Kvm(js).open("keyturn_shards");
    const revision = await shards.create("3", "entry");
    await expect(shards.update("3", "other", revision + 1)).rejects.toThrow(/wrong last sequence/);
    expect((await shards.get("3"))?.string()).toBe("entry");
  });

  test("the provisioner makes streams again and changes them, and writes the settings", async () => {
    const nc = await connectAs("keyturn_provisioner");
    const manager = await jetstreamManager(nc);
    const { config } = await manager.streams.info("keyturn_dead");
    const changed = await manager.streams.update("keyturn_dead", { ...config, description: "changed" });
    expect(changed.config.description).toBe("changed");
    const ack = await nc.request("$KV.keyturn_shards.app", "settings");
    expect(ack.json()).toMatchObject({ stream: "KV_keyturn_shards" });
    const stored = await manager.streams.getMessage("KV_keyturn_shards", {
      last_by_subj: "$KV.keyturn_shards.app",
    });
    expect(stored?.string()).toBe("settings");
  });
});

describe("who may connect", () => {
  const violation = /authorization violation|authentication/i;

  test("nobody without a user, and nobody with a wrong password", async () => {
    const tls = { caFile: certificates.ca };
    const servers = `127.0.0.1:${server.port}`;
    await expect(connect({ servers, tls, reconnect: false })).rejects.toThrow(violation);
    for (const user of ["keyturn_provisioner", "keyturn_node", "keyturn_client"] as const) {
      await expect(connectAs(user, "wrong")).rejects.toThrow(violation);
    }
    // What stands in the server's environment is a hash, and opens nothing.
    await expect(connectAs("keyturn_client", passwords.KEYTURN_CLIENT_PASSWORD)).rejects.toThrow(violation);
  });

  test("browsers over websockets only, everybody else not over websockets", async () => {
    await expect(connectAs("keyturn_browser")).rejects.toThrow(violation);
    for (const user of ["keyturn_provisioner", "keyturn_node", "keyturn_client"] as const) {
      await expect(connectWeb(user)).rejects.toThrow(violation);
    }
  });

  test("no page from elsewhere", async () => {
    const options = { ca: readFileSync(certificates.ca), origin: "https://evil.example.com" };
    const socket = new WebSocket(`wss://127.0.0.1:${webPort}`, options);
    const failure = await new Promise<Error>((resolve) => socket.once("error", resolve));
    expect(failure.message).toBe("Unexpected server response: 403");
  });

  test("nobody without TLS, and a client that trusts another authority does not", async () => {
    const options = { user: "keyturn_client", pass: secrets.keyturn_client, reconnect: false } as const;
    const servers = `127.0.0.1:${server.port}`;
    await expect(connect({ servers, ...options, tls: null })).rejects.toThrow(/tls/i);
    await expect(connect({ servers, ...options })).rejects.toThrow(/certificate/i);
    const other = writeCertificates(folder, "other");
    await expect(connect({ servers, ...options, tls: { caFile: other.ca } })).rejects.toThrow(/certificate/i);
  });

  test.each(["KEYTURN_NODE_PASSWORD", "KEYTURN_TLS_KEY"])(
    "the server does not start without %s",
    async (name) => {
      const { [name]: _, ...env } = environment();
      await expect(startServer({ configFile: join(folder, "accounts/server.conf"), env })).rejects.toThrow(
        new RegExp(`'${name}'.*can not be found`),
      );
    },
  );
});
