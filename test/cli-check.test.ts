/** `keyturn check`, as a process: on a folder, and on a real NATS server beside the nodes of an app. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect as connectNats } from "@nats-io/transport-node";
import { describe, expect, it, onTestFinished } from "vitest";
import { connect, defineActor, embedded, nats, startNode } from "../runtime/index.ts";
import { assign, setup } from "xstate";
import { type Ended, keyturn, keyturnEnded, project, withPackage } from "./support/cli.ts";
import { freePorts } from "./support/nats-ports.ts";
import { startServer } from "./support/nats-server.ts";
import { orderNow, toV3 } from "./support/orders.ts";
import { temporaryPath } from "./support/temporary.ts";

withPackage();

/** The order's states of a version, as a module; it needs no more to be checked. */
function moduleOf(version: number, migrations: string): string {
  return `
import { defineActor } from "keyturn";
import { createMachine } from "xstate";

const v1 = createMachine({
  id: "order",
  initial: "open",
  states: {
    open: { initial: "pending", states: { pending: {}, late: {}, paid: {}, before: { type: "history" } } },
    held: {},
  },
});
const now = createMachine({
  id: "order",
  initial: "active",
  states: {
    active: {
      initial: "waiting",
      states: { waiting: { initial: "payment", states: { payment: {} } }, late: {}, paid: {} },
    },
    held: {},
  },
});
const names: Record<string, string | object> = { pending: { waiting: "payment" } };
export const order = defineActor({
  type: "order",
  version: ${version},
  machine: ${version} === 1 ? v1 : now,
  migrations: ${migrations},
});
`;
}
const MIGRATION = `{
  1: ({ value, ...rest }) => {
    const inner = (value as { open?: string }).open;
    return { ...rest, value: (inner === undefined ? value : { active: names[inner] ?? inner }) as string };
  },
}`;
const FILES = {
  "v1.ts": moduleOf(1, "{}"),
  "bare.ts": moduleOf(2, "{}"),
  "v2.ts": moduleOf(2, MIGRATION),
  "failing.ts": moduleOf(2, `{ 1: (state) => { throw new Error("no way\\nat all"); } }`),
  "other.ts": `
import { defineActor } from "keyturn";
import { createMachine } from "xstate";
export const other = defineActor({ type: "other", machine: createMachine({}) });
`,
};

/** The first version, as it runs: without a delay, so that nothing happens by itself. */
const order = defineActor({
  type: "order",
  machine: setup({
    types: {
      context: {} as { items: readonly string[]; total: number },
      events: {} as { type: "put"; sku: string } | { type: "pay" } | { type: "hold" },
    },
  }).createMachine({
    id: "order",
    context: { items: [], total: 0 },
    initial: "open",
    states: {
      open: {
        initial: "pending",
        states: { pending: { on: { pay: "paid" } }, paid: {} },
        on: {
          put: { actions: assign({ items: ({ context, event }) => [...context.items, event.sku] }) },
          hold: "held",
        },
      },
      held: {},
    },
  }),
});

/** Orders in three states, some of them in the tail only. */
async function populate(node: Awaited<ReturnType<typeof startNode>>): Promise<void> {
  const ref = (n: number) => node.client.actor(order, `o/${n}`);
  await Promise.all(Array.from({ length: 30 }, (_, n) => ref(n).send({ type: "put", sku: "tea" })));
  await Promise.all(Array.from({ length: 10 }, (_, n) => ref(n).send({ type: "pay" })));
  await node.checkpoint();
  await Promise.all(Array.from({ length: 4 }, (_, n) => ref(n).send({ type: "hold" })));
}

const POPULATION = [
  { type: "order", version: 1, state: "held", actors: 4 },
  { type: "order", version: 1, state: "open.paid", actors: 6 },
  { type: "order", version: 1, state: "open.pending", actors: 20 },
];

async function folder(): Promise<string> {
  const path = join(temporaryPath(), "data");
  const store = await embedded({ path });
  const node = await startNode({ actors: [order], store });
  await populate(node);
  // Ended as a killed process ends it: what came after the checkpoint is in the tail only.
  node.kill();
  await store.close();
  return path;
}

function digest(path: string): string {
  return createHash("sha256")
    .update(readFileSync(join(path, "data/data.mdb")))
    .digest("hex");
}

function documentIn({ stdout }: Ended): Record<string, unknown> & { refused: Record<string, unknown>[] } {
  expect(stdout.trimEnd().split("\n")).toHaveLength(1);
  return JSON.parse(stdout) as ReturnType<typeof documentIn>;
}

describe("keyturn check on a folder", { timeout: 60_000 }, () => {
  it("counts what stands where, says what cannot be read, and changes nothing", async () => {
    const cwd = project(FILES);
    const data = await folder();
    const before = digest(data);

    const same = await keyturnEnded(["check", "--data", data, "--actors", "./v1.ts"], { cwd });
    expect(same).toMatchObject({ code: 0, stderr: "" });
    expect(same.stdout).toBe(
      [
        `30 actors in embedded: one process, in ${data}.`,
        "",
        "type   version  state         actors",
        "order        1  held               4",
        "order        1  open.paid          6",
        "order        1  open.pending      20",
        "",
        "The new actors read all of them.",
        "",
      ].join("\n"),
    );

    const bare = await keyturnEnded(["check", "--data", data, "--actors", "./bare.ts"], { cwd });
    expect(bare).toMatchObject({ code: 1, stderr: "" });
    expect(bare.stdout).toMatch(/^The new actors cannot read 26 actors:$/m);
    expect(bare.stdout).toMatch(
      /^order +1 +open\.paid +6 +"o\/\d" +incompatible_snapshot: .*\{"open":"paid"\} of a "order" is not a state/m,
    );

    const covered = await keyturnEnded(
      ["check", "--data", data, "--actors", "./v2.ts,./other.ts", "--json"],
      {
        cwd,
      },
    );
    expect(covered).toMatchObject({ code: 0, stderr: "" });
    expect(documentIn(covered)).toEqual({
      event: "checked",
      ok: true,
      store: `embedded: one process, in ${data}`,
      hosted: [
        { type: "order", version: 2 },
        { type: "other", version: 1 },
      ],
      actors: 30,
      population: POPULATION,
      refused: [],
    });

    const failing = await keyturnEnded(["check", "--data", data, "--actors", "./failing.ts", "--json"], {
      cwd,
    });
    expect(failing.code).toBe(1);
    const { ok, population, refused } = documentIn(failing);
    expect({ ok, population }).toEqual({ ok: false, population: POPULATION });
    expect(refused).toHaveLength(3);
    expect(refused[1]).toEqual({
      ...POPULATION[1],
      example: expect.stringMatching(/^o\/\d$/),
      code: "migration_failed",
      reason: expect.stringMatching(/of "order" from version 1 to 2 failed: it threw: no way\nat all/),
    });

    const missing = await keyturnEnded(["check", "--data", data, "--actors", "./other.ts"], { cwd });
    expect(missing.code).toBe(1);
    expect(missing.stdout.match(/unknown_type: There is no actor type "order" any more/g)).toHaveLength(3);

    expect(digest(data)).toBe(before);
    // And it can still be served.
    const store = await embedded({ path: data });
    const node = await startNode({ actors: [orderNow(3, toV3)], store });
    expect((await node.client.actor(orderNow(3, toV3), "o/9").get()).value).toEqual({ active: "paid" });
    await node.stop();
  });

  it("reads a folder through the node that has it open, and says which process does if that serves nobody", async () => {
    const cwd = project(FILES);
    const data = temporaryPath();
    const node = keyturn(["start", "--data", data, "--actors", "./v1.ts", "--json"], { cwd });
    await node.event("ready");
    const beside = await keyturnEnded(["check", "--data", data, "--actors", "./v1.ts"], { cwd });
    expect(beside).toMatchObject({ code: 0, stderr: "" });
    expect(beside.stdout).toMatch(
      new RegExp(`^0 actors in .*, through process ${node.pid}\\.\n\nThe new actors read all of them\\.\n$`),
    );
    node.kill("SIGTERM");
    expect(await node.ended).toBe(0);
    const store = await embedded({ path: data });
    const locked = await keyturnEnded(["check", "--data", data, "--actors", "./v1.ts", "--json"], { cwd });
    expect(locked.code).toBe(1);
    expect(locked.stderr).toMatch(
      new RegExp(
        `is open in process ${process.pid}.* That process does not serve other commands: .*serveStore`,
      ),
    );
    expect(JSON.parse(locked.stdout)).toMatchObject({ event: "failed", error: { code: "store_locked" } });
    await store.close();
    const free = await keyturnEnded(["check", "--data", data, "--actors", "./v1.ts"], { cwd });
    expect(free).toMatchObject({ code: 0, stderr: "" });
    expect(free.stdout).toMatch(/^0 actors in .*\n\nThe new actors read all of them\.\n$/);
  });

  it("a store on which no node was ever started has no app", async () => {
    const cwd = project(FILES);
    const path = join(temporaryPath(), "data");
    await (await embedded({ path })).close();
    const { code, stderr } = await keyturnEnded(["check", "--data", path, "--actors", "./v1.ts"], { cwd });
    expect(code).toBe(1);
    expect(stderr).toMatch(/There is no app in embedded: .*: no node has been started on it\.\n$/);
  });

  it.each<[string[], RegExp]>([
    [["--data", "d"], /required option '--actors <module>' not specified/],
    [["--actors", "./v1.ts"], /--nats HOST:PORT on a NATS server, or --data FOLDER/],
    [["--actors", "./v1.ts", "--data", "d"], /There is no embedded store in d\./],
    [["--actors", "./v1.ts", "--data", "d", "--nats", "127.0.0.1:4222"], /Say --nats or --data, not both/],
    [["--actors", "./nowhere.ts", "--data", "d"], /There is no actors module/],
    [["--actors", "./v1.ts,./bare.ts", "--data", "d"], /Two actors are defined with the type "order"/],
    [["--actors", "./v1.ts", "--data", "d", "--shards", "4"], /unknown option '--shards'/],
    [["--actors", "./broken.ts", "--data", "d"], /from version "2"; with version 2 they begin with 1 to 1/],
  ])("says what is wrong with %j", async (args, text) => {
    const cwd = project({ ...FILES, "broken.ts": moduleOf(2, "{ 2: (state) => state }") });
    const { code, stdout, stderr } = await keyturnEnded(["check", ...args], { cwd });
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(text);
  });
});

describe("keyturn check on NATS", { timeout: 60_000 }, () => {
  async function statesOf(url: string): Promise<Record<string, unknown>> {
    const nc = await connectNats({ servers: url });
    const states: Record<string, unknown> = {};
    for await (const { config, state } of (await jetstreamManager(nc)).streams.list())
      states[config.name] = [state.messages, state.last_seq, state.bytes];
    await nc.close();
    return states;
  }

  it("reads an app that nobody serves, over several buckets and journals, and changes no stream", async () => {
    const server = await startServer();
    onTestFinished(() => server.stop());
    const cwd = project(FILES);
    const node = await startNode({
      actors: [order],
      store: nats({ servers: server.url, app: "shop", snapshotBuckets: 3, journals: 2 }),
      shards: 8,
    });
    await populate(node);
    node.kill();
    await node.store.close();
    const before = await statesOf(server.url);
    expect(Object.keys(before)).toHaveLength(8);

    const args = ["check", "--nats", server.url, "--app", "shop", "--json"];
    const covered = await keyturnEnded([...args, "--actors", "./v2.ts"], { cwd });
    expect(covered).toMatchObject({ code: 0, stderr: "" });
    expect(documentIn(covered)).toMatchObject({ ok: true, actors: 30, population: POPULATION, refused: [] });
    const bare = await keyturnEnded([...args, "--actors", "./bare.ts"], { cwd });
    expect(bare.code).toBe(1);
    expect(documentIn(bare).refused.map(({ state, actors: count, code }) => [state, count, code])).toEqual([
      ["open.paid", 6, "incompatible_snapshot"],
      ["open.pending", 20, "incompatible_snapshot"],
    ]);
    expect(await statesOf(server.url)).toEqual(before);
  });

  it("runs beside a node that works, and finds no fault where none is", async () => {
    const server = await startServer();
    onTestFinished(() => server.stop());
    const cwd = project(FILES);
    const bounds = ["--set", "checkpoint_ms=200", "--set", "activeActors=20"];
    const node = keyturn(["start", "--nats", server.url, "--json", "--shards", "8", ...bounds], { cwd });
    await node.event("ready");
    const client = await connect({ nats: { servers: server.url } });
    onTestFinished(() => client.disconnect());
    let goOn = true;
    let answered = 0;
    const load = Promise.all(
      Array.from({ length: 8 }, async (_, lane) => {
        for (let n = 0; goOn; n++) {
          await client.actor(`counter/c${lane}-${n % 40}`).ask({ type: "add", by: 1 });
          if (n % 7 === 0) await client.actor(`counter/c${lane}-${(n + 3) % 40}`).delete();
          answered++;
        }
      }),
    );
    try {
      for (let round = 0; round < 3; round++) {
        const found = await keyturnEnded(
          ["check", "--nats", server.url, "--actors", "keyturn/actors", "--json"],
          { cwd },
        );
        expect(found).toMatchObject({ code: 0, stderr: "" });
        const { ok, actors: count } = documentIn(found);
        expect(ok).toBe(true);
        expect(count).toBeGreaterThan(100);
      }
    } finally {
      goOn = false;
      await load;
    }
    expect(answered).toBeGreaterThan(100);
    node.kill("SIGTERM");
    expect(await node.ended).toBe(0);
  });

  it("says when nobody is there, and when there is no app", async () => {
    const cwd = project(FILES);
    const [port] = await freePorts(1);
    const args = ["check", "--actors", "./v1.ts", "--wait", "0.5"];
    const nobody = await keyturnEnded([...args, "--nats", `127.0.0.1:${port}`], { cwd });
    expect(nobody).toMatchObject({ code: 1, stdout: "" });
    expect(nobody.stderr).toMatch(/could not be used within 0\.5 s: NATS cannot be reached/);
    const server = await startServer();
    onTestFinished(() => server.stop());
    const none = await keyturnEnded([...args, "--nats", server.url], { cwd });
    expect(none).toMatchObject({ code: 1, stdout: "" });
    expect(none.stderr).toMatch(/The stream KV_keyturn_shards is missing/);
    expect(await statesOf(server.url)).toEqual({});
  });
});
