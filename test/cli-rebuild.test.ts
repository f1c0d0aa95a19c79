/** `keyturn rebuild` and `keyturn fork`, as processes, on a folder and beside running nodes on a real NATS server. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { connect, defineActor, embedded, nats, startNode } from "../runtime/index.ts";
import { assign, setup } from "xstate";
import { type Ended, keyturnEnded, project, withPackage } from "./support/cli.ts";
import { serveStore } from "../runtime/stores/socket/index.ts";
import type { World } from "../runtime/ports/index.ts";
import { realWorld } from "../runtime/world.ts";
import { startServer } from "./support/nats-server.ts";
import { temporaryPath } from "./support/temporary.ts";

withPackage();

/** A till; the second version takes no tips, and counts what it sold. */
function moduleOf(version: number): string {
  return `
import { defineActor } from "keyturn";
import { assign, setup } from "xstate";

export const till = defineActor({
  type: "till",
  version: ${version},
  machine: setup({}).createMachine({
    context: ${version === 1 ? "{ cents: 0 }" : "{ cents: 0, sold: 0 }"},
    initial: "open",
    states: {
      open: {
        after: { 86400000: "forgotten" },
        on: {
          sell: { actions: assign(({ context, event }: any) => (${
            version === 1
              ? "{ cents: context.cents + event.cents }"
              : "{ cents: context.cents + event.cents, sold: context.sold + 1 }"
          })) },
          ${version === 1 ? "tip: { actions: assign({ cents: ({ context }: any) => context.cents + 50 }) }," : ""}
          close: "closed",
        },
      },
      closed: {},
      forgotten: {},
    },
  }),
});
`;
}
const FILES = {
  "v1.ts": moduleOf(1),
  "v2.ts": moduleOf(2),
  "events.ndjson": [
    `{"type":"sell","cents":700}`,
    "",
    `{"after":"2 hours","event":{"type":"tip"}}`,
    `{"after":"1 day"}`,
  ].join("\n"),
  "broken.ndjson": `{"type":"sell","cents":7}\n{"type":`,
};

/** The first version, as it runs. */
const till = defineActor({
  type: "till",
  machine: setup({
    types: {
      context: {} as { cents: number },
      events: {} as { type: "sell"; cents: number } | { type: "tip" } | { type: "close" },
    },
  }).createMachine({
    context: { cents: 0 },
    initial: "open",
    states: {
      open: {
        after: { 86400000: "forgotten" },
        on: {
          sell: { actions: assign({ cents: ({ context, event }) => context.cents + event.cents }) },
          tip: { actions: assign({ cents: ({ context }) => context.cents + 50 }) },
          close: "closed",
        },
      },
      closed: {},
      forgotten: {},
    },
  }),
});

async function populate(client: Awaited<ReturnType<typeof startNode>>["client"]): Promise<void> {
  for (let n = 0; n < 20; n++) {
    const ref = client.actor(till, `t/${n}`);
    for (let sold = 0; sold <= n % 3; sold++) await ref.send({ type: "sell", cents: 100 });
    if (n % 4 === 0) await ref.send({ type: "tip" });
  }
}

function documents({ stdout }: Ended): Record<string, unknown>[] {
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

function digest(path: string): string {
  return createHash("sha256")
    .update(readFileSync(join(path, "data/data.mdb")))
    .digest("hex");
}

describe("on a folder", { timeout: 60_000 }, () => {
  it("compares without a trace, asks what if, promotes once, and forks", async () => {
    const cwd = project(FILES);
    const data = join(temporaryPath(), "data");
    const store = await embedded({ path: data });
    const node = await startNode({ actors: [till], store });
    await populate(node.client);
    node.kill();
    await store.close();
    const before = digest(data);
    const run = (...args: string[]): Promise<Ended> => keyturnEnded([...args, "--data", data], { cwd });

    const same = await run("rebuild", "till", "--actors", "./v1.ts");
    expect(same).toMatchObject({ code: 0, stderr: "" });
    expect(same.stdout).toMatch(
      /^44 records of 20 actors of type "till" replayed through version 1 in .*s \(.*\/s\)\.$/m,
    );
    expect(same.stdout).toMatch(/^equal +20$/m);
    expect(same.stdout).toMatch(/^The new definition makes the same of it all\.$/m);

    const differs = await run("rebuild", "till", "--actors", "./v2.ts", "--dry-run");
    expect(differs).toMatchObject({ code: 3, stderr: "" });
    expect(differs.stdout).toMatch(/^differing +20$/m);
    expect(differs.stdout).toMatch(/^context\.sold +20 +"t\/0" +\(none\) +1$/m);
    expect(differs.stdout).toMatch(/^context\.cents +5 +"t\/0" +150 +100$/m);
    expect(differs.stdout).toMatch(
      /^tip +5 +"t\/0" +invalid_event: .*no transition for events of type "tip"/m,
    );
    expect(differs.stdout).toMatch(/^Nothing was written\./m);

    const asked = await run(
      "fork",
      "till/t/2",
      "--at",
      "1",
      "--what-if",
      "events.ndjson",
      "--actors",
      "./v1.ts",
    );
    expect(asked).toMatchObject({ code: 0, stderr: "" });
    expect(asked.stdout).toMatch(/^till\/t\/2, after turn 1:$/m);
    expect(asked.stdout).toMatch(/^ {2}context\.cents: 100 -> 800$/m);
    expect(asked.stdout).toMatch(/due: \{"type":"xstate\.after\.86400000/);
    expect(asked.stdout).toMatch(/^In the end: "forgotten", active; 3 differences:$/m);
    expect(digest(data)).toBe(before);

    const broken = await run("fork", "till/t/2", "--what-if", "broken.ndjson", "--actors", "./v1.ts");
    expect(broken).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/broken\.ndjson, line 2 is not JSON/),
    });
    const promoted = await run("rebuild", "till", "--actors", "./v2.ts", "--promote", "--json");
    expect(promoted.code).toBe(0);
    expect(documents(promoted)).toEqual([
      expect.objectContaining({ event: "rebuilt", same: false, keys: 20, differing: 20, records: 44 }),
      { event: "promoted", promoted: 20, told: 0, gone: 0, failed: 0, failures: [], notTold: 0 },
    ]);
    const again = await run("rebuild", "till", "--actors", "./v2.ts", "--json");
    // The tips are in the journal, and still rejected.
    expect(again.code).toBe(3);
    expect(documents(again)[0]).toMatchObject({ equal: 20, differing: 0, outdated: 0, keys: 20 });

    // All of it is younger than an hour.
    expect(await run("trim", "--keep", "1 hour")).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^0 of \d lanes of the journal were trimmed\.$/m),
    });
    expect(await run("trim", "--keep", "5 min")).toMatchObject({ code: 2 });

    const forked = await run("fork", "till/t/5", "--to", "till/sandbox", "--actors", "./v2.ts");
    expect(forked).toMatchObject({
      code: 0,
      stdout: 'till/sandbox begins with the state of till/t/5: "open".\n',
    });
    const twice = await run("fork", "till/t/5", "--to", "till/sandbox", "--actors", "./v2.ts");
    expect(twice).toMatchObject({ code: 3, stderr: expect.stringMatching(/till\/sandbox exists already/) });
  });
});

describe("on a folder that a node has open", { timeout: 120_000 }, () => {
  /** Clocks of nodes that ran two hours ago. */
  const earlier: World = {
    ...realWorld,
    clock: { ...realWorld.clock, now: () => realWorld.clock.now() - 2 * 3_600_000 },
  };

  it("compares, asks what if, promotes, forks and trims through the node, under traffic", async () => {
    const cwd = project(FILES);
    const data = join(temporaryPath(), "data");
    const store = await embedded({ path: data });
    const first = await startNode({ actors: [till], store, world: earlier, shards: 8 });
    await populate(first.client);
    await first.stop({ closeStore: false });
    const node = await startNode({ actors: [laterTill], store });
    const server = await serveStore(store, data);
    onTestFinished(async () => {
      await server.close();
      await node.stop();
    });
    const run = (...args: string[]): Promise<Ended> => keyturnEnded([...args, "--data", data], { cwd });
    const differs = await run("rebuild", "till", "--actors", "./v2.ts", "--json");
    expect(differs).toMatchObject({ code: 3, stderr: "" });
    expect(documents(differs)[0]).toMatchObject({ keys: 20, differing: 20, records: 44 });
    const asked = await run(
      "fork",
      "till/t/2",
      "--at",
      "1",
      "--what-if",
      "events.ndjson",
      "--actors",
      "./v2.ts",
    );
    expect(asked).toMatchObject({ code: 0, stderr: "" });
    expect(asked.stdout).toMatch(/^ {2}context\.cents: 100 -> 800$/m);

    // What comes meanwhile counts.
    let sold = 0;
    let selling = true;
    const traffic = (async () => {
      while (selling) {
        await node.client.actor(laterTill, "t/2").send({ type: "sell", cents: 1 });
        sold++;
        // One that takes turns without a pause cannot be replaced.
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    })();
    const promoted = await run("rebuild", "till", "--actors", "./v2.ts", "--promote", "--json");
    selling = false;
    await traffic;
    expect(promoted).toMatchObject({ code: 0, stderr: "" });
    expect(documents(promoted)[1]).toMatchObject({ event: "promoted", promoted: 20, failed: 0 });
    expect((await node.client.actor(laterTill, "t/2").get()).context).toEqual({
      cents: 300 + sold,
      sold: 3 + sold,
    });
    expect((await node.client.actor(laterTill, "t/4").get()).context).toEqual({ cents: 200, sold: 2 });

    // No module is needed: the node makes it.
    const forked = await run("fork", "till/t/4", "--to", "till/sandbox");
    expect(forked).toMatchObject({ code: 0, stderr: "" });
    expect((await node.client.actor("till/sandbox").get()).context).toEqual({ cents: 200, sold: 2 });

    await node.checkpoint();
    const trimmed = await run("trim", "--keep", "1 hour", "--json");
    expect(trimmed).toMatchObject({ code: 0, stderr: "" });
    expect(documents(trimmed)[0]).toMatchObject({ event: "trimmed", trimmed: expect.any(Number) });
    expect(documents(trimmed)[0]?.trimmed).toBeGreaterThan(0);
    const left = await run("rebuild", "till", "--actors", "./v2.ts", "--json");
    const [{ notWhole }] = documents(left) as [{ notWhole: { count: number } }];
    expect(notWhole.count).toBe(20);
    await node.client.actor(laterTill, "t/2").send({ type: "sell", cents: 1 });
  });
});

describe("on NATS", { timeout: 60_000 }, () => {
  it("compares and promotes beside running nodes", async () => {
    const cwd = project(FILES);
    const server = await startServer({ durability: "process" });
    onTestFinished(() => server.stop());
    const where = ["--nats", server.url.replace(/^nats:\/\//, "")];
    const first = await startNode({ actors: [till], store: nats({ servers: server.url }), shards: 8 });
    await populate(first.client);
    const differs = await keyturnEnded(["rebuild", "till", "--actors", "./v2.ts", ...where, "--json"], {
      cwd,
    });
    expect(differs).toMatchObject({ code: 3, stderr: "" });
    expect(documents(differs)[0]).toMatchObject({ keys: 20, differing: 20, unmatched: [] });
    const early = await keyturnEnded(["rebuild", "till", "--actors", "./v2.ts", ...where, "--promote"], {
      cwd,
    });
    expect(early).toMatchObject({ code: 1, stderr: expect.stringMatching(/hosts version 1 of "till"/) });
    await first.stop();
    const node = await startNode({ actors: [laterTill], store: nats({ servers: server.url }) });
    onTestFinished(() => node.stop());
    const promoted = await keyturnEnded(["rebuild", "till", "--actors", "./v2.ts", ...where, "--promote"], {
      cwd,
    });
    expect(promoted).toMatchObject({ code: 0, stderr: "" });
    expect(promoted.stdout).toMatch(/^20 actors have the rebuilt state now\.$/m);
    const client = await connect({ nats: { servers: server.url } });
    onTestFinished(() => client.disconnect());
    expect((await client.actor("till/t/8").get()).context).toEqual({ cents: 300, sold: 3 });
    const forked = await keyturnEnded(["fork", "till/t/8", "--at", "2", "--to", "till/s", ...where], { cwd });
    expect(forked).toMatchObject({ code: 0, stderr: "" });
    expect((await client.actor("till/s").get()).context).toEqual({ cents: 200 });
  });
});

/** The second version, as it runs. */
const laterTill = defineActor({
  type: "till",
  version: 2,
  machine: setup({
    types: { context: {} as { cents: number; sold: number }, events: {} as { type: "sell"; cents: number } },
  }).createMachine({
    context: { cents: 0, sold: 0 },
    initial: "open",
    states: {
      open: {
        after: { 86400000: "forgotten" },
        on: {
          sell: {
            actions: assign(({ context, event }) => ({
              cents: context.cents + event.cents,
              sold: context.sold + 1,
            })),
          },
        },
      },
      closed: {},
      forgotten: {},
    },
  }),
});
