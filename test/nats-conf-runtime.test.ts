/**
 * The runtime under the users of examples/nats/accounts: provisioner, two nodes, a client and a plain client do all
 * that they are there for, and the server refuses nothing of it.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectPlain } from "@nats-io/transport-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { counter } from "../actors/index.ts";
import { registryOf } from "../runtime/engine/definition.ts";
import { population } from "../runtime/engine/population.ts";
import { connect, type KeyturnNode, startNode } from "../runtime/index.ts";
import { FORMAT } from "../runtime/node.ts";
import { nats, type NatsOptions, provisionNats } from "../runtime/stores/nats/index.ts";
import { realWorld } from "../runtime/world.ts";
import { cli, type Ran } from "./support/cli-run.ts";
import { writeCertificates } from "./support/nats-certificates.ts";
import { freePorts } from "./support/nats-ports.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";
import { copyVariants, passwords, secrets, type User } from "./support/nats-variants.ts";

let folder: string;
let server: NatsServer;
let caFile: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "keyturn-users-"));
  const certificates = writeCertificates(folder);
  caFile = certificates.ca;
  const [webPort] = await freePorts(1);
  copyVariants(folder, { "accounts/server.conf": { "127.0.0.1:8443": `127.0.0.1:${webPort}` } });
  const env = { ...passwords, KEYTURN_TLS_CERT: certificates.cert, KEYTURN_TLS_KEY: certificates.key };
  server = await startServer({ configFile: join(folder, "accounts/server.conf"), env });
});

afterAll(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

function as(user: User, inboxPrefix: string, more: Partial<NatsOptions> = {}): NatsOptions {
  return {
    servers: `127.0.0.1:${server.port}`,
    user,
    pass: secrets[user],
    inboxPrefix,
    tls: { caFile },
    monitor: server.monitorUrl,
    ...more,
  };
}

/** The command line as a user. */
async function may(user: User, inbox: string, ...args: string[]): Promise<Ran> {
  const where = ["--nats", `127.0.0.1:${server.port}`, "--user", user, "--tls-ca", caFile, "--inbox", inbox];
  return await cli([...args, ...where], { env: { KEYTURN_NATS_PASSWORD: secrets[user] } });
}

const session = "keyturn_client";
const asClient = async (...args: string[]): Promise<Ran> =>
  await may("keyturn_client", "_INBOX.keyturn_client", ...args, "--session", session);

test("all that users need is allowed, and nothing is refused on the way", { timeout: 60_000 }, async () => {
  const provisioner = as("keyturn_provisioner", "_INBOX_keyturn_provisioner");
  const app = { shards: 64, format: FORMAT };
  expect((await provisionNats(provisioner, app)).made).toBe(true);
  expect((await provisionNats(provisioner, app)).made).toBe(false);

  const nodes: KeyturnNode[] = [];
  for (const name of ["one", "two"]) {
    const store = await nats(as("keyturn_node", "_INBOX_keyturn_node", { provision: false }));
    expect(store.durability).toBe("fsync");
    nodes.push(await startNode({ actors: [counter], store, name }));
  }
  const client = await connect({ nats: as("keyturn_client", "_INBOX.keyturn_client", { session }) });
  const keys = Array.from({ length: 100 }, (_, at) => `page-${at}`);
  await Promise.all(keys.map((key) => client.actor(counter, key).ask({ type: "add", by: 2 })));

  const plain = await connectPlain({
    servers: `127.0.0.1:${server.port}`,
    user: "keyturn_client",
    pass: secrets.keyturn_client,
    inboxPrefix: "_INBOX.keyturn_client",
    tls: { caFile },
  });
  for (const key of keys.slice(0, 10)) {
    await plain.request(`keyturn.actor.counter.${key}`, '{"type":"add","by":1}', { timeout: 5_000 });
  }
  await plain.close();

  // The command line, as a client who may do nothing else, and as an operator who may do what nodes may.
  expect((await asClient("get", "counter/page-99", "--json")).rows).toMatchObject([
    { context: { count: 2 } },
  ]);
  expect((await asClient("count", "counter", "--json")).rows).toMatchObject([{ total: 100 }]);
  const examined = await may(
    "keyturn_node",
    "_INBOX_keyturn_node",
    "doctor",
    "--json",
    "--monitor",
    server.monitorUrl,
  );
  expect(examined.rows.filter(({ level }) => level === "failure")).toEqual([]);
  expect(examined.rows).toContainEqual(expect.objectContaining({ check: "durability", level: "ok" }));
  expect(examined.rows).toContainEqual(expect.objectContaining({ check: "permissions", level: "ok" }));
  const here = await may("keyturn_node", "_INBOX_keyturn_node", "nodes", "--json");
  expect(here.rows.map(({ node }) => node).sort()).toEqual(["one", "two"]);
  const { deadLetters } = (nodes[0] as KeyturnNode).store;
  const letter = {
    type: "counter",
    key: "a",
    event: { type: "x" },
    time: 1,
    code: "timeout",
    reason: "none",
  };
  await deadLetters.put([{ ...letter, position: 1, index: 0 }]);
  expect(await may("keyturn_node", "_INBOX_keyturn_node", "dead", "drop", "1.0")).toMatchObject({ code: 0 });
  expect(await deadLetters.list(1)).toEqual([]);

  // One node hands over everything, and what it had is there.
  await nodes[0]?.stop();
  const states = await Promise.all(keys.map((key) => client.actor(counter, key).get()));
  expect(states.map(({ context }) => context.count)).toEqual(keys.map((_, at) => (at < 10 ? 3 : 2)));
  await client.disconnect();
  // What "keyturn check" does, beside a node and as such a user.
  const looking = await nats(as("keyturn_node", "_INBOX_keyturn_node", { provision: false }));
  expect(await looking.directory.settings()).toEqual(app);
  const rows = await population(looking, app.shards, registryOf([counter]), realWorld);
  expect(rows).toMatchObject([{ type: "counter", actors: 100, problem: undefined }]);
  await looking.close();
  await nodes[1]?.stop();
  expect(
    server
      .log()
      .split("\n")
      .filter((line) => /Violation|\[ERR\]/.test(line)),
  ).toEqual([]);
});

test("a node that is to keep less and may not purge says so, trims nothing, and goes on", {
  timeout: 60_000,
}, async () => {
  await provisionNats(as("keyturn_provisioner", "_INBOX_keyturn_provisioner"), {
    shards: 64,
    format: FORMAT,
  });
  const store = await nats(as("keyturn_node", "_INBOX_keyturn_node", { provision: false }));
  let hours = 0;
  const clock = { ...realWorld.clock, now: () => realWorld.clock.now() + hours * 3_600_000 };
  let hear: (error: unknown) => void = () => undefined;
  const denied = new Promise<unknown>((resolve) => {
    hear = resolve;
  });
  const node = await startNode({
    actors: [counter],
    store,
    name: "keeper",
    world: { ...realWorld, clock },
    keep: { age: "1 hour" },
    settings: { trim_ms: 100, checkpoint_ms: 100, heartbeat_ms: 100, lease_ms: 3_000 },
    observer: {
      troubled: (task, error) => task === "trim the journal" && hear(error),
    },
  });
  const ref = node.client.actor(counter, "kept");
  for (let n = 0; n < 5; n++) await ref.ask({ type: "add", by: 1 });
  await node.checkpoint();
  const { first } = (await store.journal.ends())[0] as { first: number };
  hours = 3;
  await ref.ask({ type: "add", by: 1 });
  expect(await denied).toMatchObject({ code: "access_denied" });
  expect((await ref.get()).context.count).toBe(6);
  expect((await store.journal.ends())[0]).toMatchObject({ first });
  await node.stop();
});

test("a client is told by the command line what it may not do, and who may", {
  timeout: 60_000,
}, async () => {
  const store = await nats(as("keyturn_node", "_INBOX_keyturn_node", { provision: false }));
  const node = await startNode({ actors: [counter], store, name: "three" });
  const examined = await asClient("doctor", "--json");
  expect(examined.code).toBe(0);
  expect(examined.rows.filter(({ level }) => level !== "ok")).toEqual([
    expect.objectContaining({
      check: "permissions",
      remedy: expect.stringMatching(/For a client that is as it should be/),
    }),
  ]);
  expect(examined.rows).toContainEqual(
    expect.objectContaining({ check: "app", text: "A node answers this user: the app has 64 shards." }),
  );
  for (const args of [
    ["nodes"],
    ["shards"],
    ["dead", "list"],
    ["drain", "three"],
    ["top", "--limit", "1"],
    ["get", "counter/a", "--stale"],
  ]) {
    const { code, stderr } = await asClient(...args);
    expect({ args, code }).toEqual({ args, code: 1 });
    expect(stderr).toMatch(
      /^keyturn: This NATS user may not [^\n]*examples\/nats\/accounts shows what each kind of user needs\.\n$/,
    );
  }
  await node.stop();
});
