/** The command line, as processes: usage, exit codes, and `keyturn start` on the embedded store. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createServer } from "node:net";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { defineActor, embedded, startNode } from "../runtime/index.ts";
import { setup } from "xstate";
import { type Ended, keyturn, keyturnEnded, packageFolder, project, withPackage } from "./support/cli.ts";
import { cli } from "./support/cli-run.ts";
import { freePorts } from "./support/nats-ports.ts";
import { temporaryPath } from "./support/temporary.ts";

withPackage();

/** A refusal says what is wrong on standard error, and no more than that. */
function expectRefusal(
  { code, stdout, stderr }: Omit<Ended, "code"> & { code: unknown },
  wanted: number,
  text: RegExp,
): void {
  expect({ code, stdout }).toEqual({ code: wanted, stdout: "" });
  expect(stderr).toMatch(text);
  expect(stderr).not.toMatch(/^\s+at /m);
}

/** An actor that does something by itself, here and as a module that says so. */
const alarm = defineActor({
  type: "alarm",
  machine: setup({ delays: { soon: 3_000 }, actions: { ring: () => undefined } }).createMachine({
    initial: "quiet",
    states: {
      quiet: { on: { arm: "armed" } },
      armed: { after: { soon: { target: "rung", actions: "ring" } } },
      rung: {},
    },
  }),
});
const ALARM = `
import { defineActor } from "keyturn";
import { setup } from "xstate";
export const alarm = defineActor({
  type: "alarm",
  machine: setup({ delays: { soon: 3_000 }, actions: { ring: () => console.error("It rings.") } }).createMachine({
    initial: "quiet",
    states: {
      quiet: { on: { arm: "armed" } },
      armed: { after: { soon: { target: "rung", actions: "ring" } } },
      rung: {},
    },
  }),
});
`;

/** How a program sets up OpenTelemetry; what is exported is said on standard error. */
const OTEL = `
import { metrics } from "@opentelemetry/api";
import { AggregationTemporality, MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
const exporter = {
  export({ scopeMetrics }, done) {
    for (const { descriptor, dataPoints } of scopeMetrics.flatMap(({ metrics }) => metrics))
      for (const { value } of dataPoints) console.error("exported", descriptor.name, value);
    done({ code: 0 });
  },
  selectAggregationTemporality: () => AggregationTemporality.CUMULATIVE,
  forceFlush: async () => undefined,
  shutdown: async () => undefined,
};
const often = { exportIntervalMillis: 50, exportTimeoutMillis: 50 };
const reader = new PeriodicExportingMetricReader({ exporter, ...often });
metrics.setGlobalMeterProvider(new MeterProvider({ readers: [reader] }));
`;

describe("the command", { timeout: 60_000 }, () => {
  it("says which version it is", async () => {
    expect(await keyturnEnded(["--version"])).toEqual({ code: 0, stdout: "0.1.0\n", stderr: "" });
  });

  it("prints help, and refuses what it does not know, as a process", async () => {
    const { code, stdout, stderr } = await keyturnEnded(["--help"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^Usage: keyturn/);
    expectRefusal(await keyturnEnded(["strat"]), 2, /unknown command 'strat'\n\(Did you mean start\?\)/);
    const start = (...args: string[]): Promise<Ended> =>
      keyturnEnded(["start", "--data", "d", ...args], { cwd: temporaryPath() });
    expectRefusal(await start("--actors", "./nowhere.ts"), 2, /There is no actors module \.\/nowhere\.ts/);
    // It has opened the store before it finds that.
    expectRefusal(await start("--set", "lease_ms=100"), 2, /at least three heartbeats/);
  });

  // What is decided by the command line alone needs no process of its own.
  it.each([[["help"]], [["help", "start"]], [["start", "--help"]], [["provision", "-h"]]])(
    "prints help for %j",
    async (args) => {
      const { code, stdout, stderr } = await cli(args);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(stdout).toMatch(/^Usage: keyturn/);
    },
  );

  it.each<[string[], RegExp]>([
    [[], /^Usage: keyturn/],
    [["start", "--atcors", "x"], /unknown option '--atcors'\n\(Did you mean --actors\?\)/],
    [["start"], /--nats HOST:PORT .* or --data FOLDER/],
    [["start", "here"], /too many arguments/],
    [["start", "--data"], /argument missing/],
    [["start", "--data", "d", "--nats", "127.0.0.1:4222"], /cannot be used with/],
    [["start", "--data", "d", "--processes", "2"], /cannot be used with/],
    [["start", "--nats", "127.0.0.1:4222,"], /A part of it is empty/],
    [["start", "--nats", "127.0.0.1:4222", "--processes", "0"], /whole number from 1 to 256/],
    [["start", "--nats", "127.0.0.1:4222", "--replicas", "2"], /It is 1, 3 or 5/],
    [["start", "--nats", "127.0.0.1:4222", "--durability", "some"], /fsync, process/],
    [["start", "--nats", "127.0.0.1:4222", "--user", "ada"], /password .* as KEYTURN_NATS_PASSWORD/],
    [["start", "--nats", "127.0.0.1:4222", "--app", "my.app"], /not an app's name/],
    [
      ["start", "--nats", "127.0.0.1:4222", "--creds", "/nowhere"],
      /A file for the connection cannot be read/,
    ],
    [["start", "--data", "d", "--shards", "0"], /whole number from 1 to/],
    [["start", "--data", "d", "--weight", "-1"], /a number above 0/],
    [["start", "--data", "d", "--wait", "long"], /a number from 0 on/],
    [["start", "--data", "d", "--name", "a b"], /letters, digits/],
    [["start", "--data", "d", "--health", "8080"], /HOST:PORT/],
    [["start", "--data", "d", "--telemetry", "2"], /a number from 0 to 1/],
    [["start", "--data", "d", "--set", "lease_ms"], /NAME=VALUE/],
    [["start", "--data", "d", "--set", "speed=1"], /The bounds are activeActors/],
    [["start", "--data", "d", "--set", "lease_ms=soon"], /a number above 0/],
    [["provision"], /--nats HOST:PORT/],
  ])("says what is wrong with %j", async (args, text) => {
    const folder = join(temporaryPath(), "d");
    expectRefusal(await cli(args.map((arg) => (arg === "d" ? folder : arg))), 2, text);
    expect(existsSync(folder)).toBe(false);
  });

  it("says it as JSON too", async () => {
    const { code, stdout } = await keyturnEnded(["start", "--data", "d", "--actors", "nowhere", "--json"]);
    expect(code).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({ event: "failed", error: { code: "invalid_options" } });
  });
});

describe("keyturn start on the embedded store", { timeout: 60_000 }, () => {
  it("serves, hosts the ready-made actors, and stops at SIGTERM", async () => {
    const data = temporaryPath();
    const node = keyturn(["start", "--data", data, "--json", "--name", "ada", "--weight", "2"]);
    const ready = await node.event("ready");
    expect(node.events[0]).toEqual(ready);
    expect(ready).toMatchObject({ name: "ada", durability: "fsync", types: ["airport", "cell", "counter"] });
    expect(ready.shards).toHaveLength(64);
    node.kill("SIGTERM");
    expect(await node.ended).toBe(0);
    expect(node.events.at(-1)).toMatchObject({ event: "stopped", graceful: true });
    expect(node.stderr).toMatch(/ada: Ready: serves 64 of 64 shards/);
    expect(node.stderr).toMatch(/ada: Commits are flushed to disk before they are answered/);
  });

  it("goes on with what is due while it runs, and leaves nothing to replay", async () => {
    const folder = project({ "alarm.ts": ALARM });
    const path = join(folder, "data");
    const first = await startNode({ actors: [alarm], store: embedded({ path }) });
    await first.client.actor(alarm, "kitchen").send({ type: "arm" });
    await first.stop();

    const node = keyturn(["start", "--data", "data", "--actors", "alarm.ts", "--json"], { cwd: folder });
    await node.event("ready");
    await node.said(/It rings/);
    node.kill("SIGINT");
    expect(await node.ended).toBe(0);

    const store = await embedded({ path });
    const segments = [
      ...(await store.directory.readShards(Array.from({ length: 64 }, (_, n) => n))).values(),
    ];
    expect(segments.flatMap(({ entry }) => entry.segments)).toEqual([]);
    const again = await startNode({ actors: [alarm], store });
    const kitchen = again.client.actor(alarm, "kitchen");
    expect(await kitchen.get({ stale: true })).toMatchObject({ value: "rung", turn: 2 });
    await again.stop();
  });

  it("waits for a folder that another process has, and takes it when that has ended", async () => {
    const data = temporaryPath();
    const first = keyturn(["start", "--data", data, "--json"]);
    await first.event("ready");
    const impatient = await keyturnEnded(["start", "--data", data, "--wait", "0.3"]);
    expectRefusal(impatient, 1, /could not be used within 0\.3 s: .* is open in process \d+/);

    const second = keyturn(["start", "--data", data, "--json"]);
    await second.said(/is open in process \d+.* It is tried for \d+ s more/);
    first.kill("SIGTERM");
    expect(await first.ended).toBe(0);
    await second.event("ready");
    second.kill("SIGTERM");
    expect(await second.ended).toBe(0);
  });

  it("stops also while it waits", async () => {
    const data = temporaryPath();
    const first = keyturn(["start", "--data", data, "--json"]);
    await first.event("ready");
    const second = keyturn(["start", "--data", data, "--json"]);
    await second.said(/It is tried for/);
    second.kill("SIGTERM");
    expect(await second.ended).toBe(0);
    expect(second.events).toMatchObject([{ event: "stopped", graceful: true }]);
  });

  it("gives its metrics to the OpenTelemetry that the program sets up", async () => {
    const folder = project({ "otel.mjs": OTEL }, ["@opentelemetry"]);
    const node = keyturn(["start", "--data", temporaryPath(), "--telemetry", "0.5"], {
      env: { NODE_OPTIONS: `--import=${pathToFileURL(join(folder, "otel.mjs")).href}` },
    });
    await node.said(/^exported keyturn\.shards\.serving 64$/m);
    node.kill("SIGTERM");
    expect(await node.ended).toBe(0);
  });

  it("tells how it is over HTTP, from the start to the end", async () => {
    const data = temporaryPath();
    const first = keyturn(["start", "--data", data, "--json", "--health", "127.0.0.1:0"]);
    const { health } = (await first.event("ready")) as unknown as { health: string };
    const get = async (path: string, url = health): Promise<[number, unknown]> => {
      const answer = await fetch(`${url}${path}`);
      return [answer.status, await answer.json()];
    };
    expect(await get("/livez")).toEqual([200, { live: true }]);
    expect(await get("/readyz")).toEqual([200, { ready: true }]);
    expect(await get("/healthz?verbose")).toMatchObject([
      200,
      {
        live: true,
        ready: true,
        checks: {
          connection: { ok: true },
          membership: { ok: true },
          lease: { ok: true },
          consumption: { ok: true, text: "Serves 64 of 64 shards; 0 messages wait." },
        },
      },
    ]);
    const metrics = await fetch(`${health}/metrics`);
    expect(metrics.headers.get("content-type")).toContain("text/plain");
    expect(await metrics.text()).toMatch(/^keyturn_shards_serving\{node="[a-z0-9]+"\} 64$/m);
    expect((await get("/"))[0]).toBe(404);
    const post = await fetch(`${health}/readyz`, { method: "POST", body: "{}" });
    expect([post.status, post.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
    expect((await fetch(`${health}/livez`, { method: "HEAD" })).status).toBe(200);

    const [port = 0] = await freePorts(1);
    const second = keyturn(["start", "--data", data, "--json", "--health", `127.0.0.1:${port}`]);
    await second.said(/It is tried for/);
    const waiting = `http://127.0.0.1:${port}`;
    expect(await get("/livez", waiting)).toEqual([200, { live: true }]);
    expect(await get("/readyz", waiting)).toEqual([503, { ready: false }]);
    expect(await get("/healthz", waiting)).toMatchObject([503, { checks: { start: { ok: false } } }]);
    for (const node of [second, first]) {
      node.kill("SIGTERM");
      expect(await node.ended).toBe(0);
    }
    await expect(get("/livez")).rejects.toThrow("fetch failed");
  });

  it("says when the health address is taken", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as { port: number };
    const ended = await keyturnEnded(["start", "--data", temporaryPath(), "--health", `127.0.0.1:${port}`]);
    other.close();
    expectRefusal(ended, 1, /Health cannot be served at 127\.0\.0\.1:\d+: .*EADDRINUSE/);
  });

  it("takes bounds, and words from the environment", async () => {
    const env = { KEYTURN_DATA: temporaryPath(), KEYTURN_NAME: "from-outside" };
    const bounds = ["--set", "lease_ms=3000", "--set", "heartbeat_ms=900"];
    const node = keyturn(["start", "--json", "--shards", "8", "--durability", "process", ...bounds], { env });
    expect(await node.event("ready")).toMatchObject({
      name: "from-outside",
      durability: "process",
      shardsOfApp: 8,
    });
    node.kill("SIGTERM");
    expect(await node.ended).toBe(0);
    const other = await keyturnEnded(["start", "--data", env.KEYTURN_DATA, "--shards", "16"]);
    expectRefusal(other, 1, /created with 8 shards/);
  });
});

// ---- Actors modules -------------------------------------------------------------------------------------------------

/** A definition of another type in each module. */
const definition = (type: string): string => `
import { defineActor } from "keyturn";
import { createMachine } from "xstate";
export const ${type} = defineActor({ type: "${type}", machine: createMachine({}) });
`;

describe("actors modules", { timeout: 60_000 }, () => {
  it("may be several, TypeScript or not, by name or as a default array, also of a package", async () => {
    const folder = project({
      "package.json": '{ "type": "module" }',
      "one.ts": `import { count } from "./helper.ts"; enum E { A = 1 } export const size = count + E.A; ${definition("one")}`,
      "helper.ts": "export const count: number = await Promise.resolve(1);",
      "two.mjs": definition("two"),
      "three.js": `import { defineActor } from "keyturn"; import { createMachine } from "xstate";
        export default ["three", "four"].map((type) => defineActor({ type, machine: createMachine({}) }));`,
      "old/package.json": '{ "type": "commonjs" }',
      "old/five.ts": definition("five"),
      "node_modules/six/package.json": '{ "name": "six", "type": "module", "main": "index.js" }',
      "node_modules/six/index.js": definition("six"),
    });
    const modules = ["one.ts", "./two.mjs,./three.js", join(folder, "old/five.ts"), "six"];
    const args = modules.flatMap((module) => ["--actors", module]);
    const node = keyturn(["start", "--data", "data", "--json", ...args], { cwd: folder });
    expect(await node.event("ready")).toMatchObject({
      types: ["one", "two", "three", "four", "five", "six"],
    });
    node.kill("SIGTERM");
    expect(await node.ended).toBe(0);
  });

  const machine = 'import { createMachine } from "xstate"; export const light = createMachine({});';
  it.each<[string, Record<string, string>, RegExp]>([
    ["nothing is exported", { "a.ts": "export {};" }, /exports no actors.* It exports nothing/],
    ["a machine is exported", { "a.ts": machine }, /light is a machine that defineActor has not been given/],
    [
      "the default array has something else in it",
      { "a.ts": `import { one } from "./one.ts"; export default [one, 7];`, "one.ts": definition("one") },
      /default\[1\] is a number, not an actor's definition/,
    ],
    [
      "two have one type",
      {
        "a.ts": `export { one } from "./one.ts"; export { one as two } from "./two.ts";`,
        "one.ts": definition("one"),
        "two.ts": definition("one"),
      },
      /Two actors are defined with the type "one"/,
    ],
    ["it imports what is not there", { "a.ts": 'import "./b.ts";' }, /a\.ts cannot be loaded: .*b\.ts/],
    ["it does not parse", { "a.ts": "export const = 1;" }, /a\.ts cannot be loaded: /],
    [
      "it throws",
      { "a.ts": 'throw new Error("No luck.");' },
      /a\.ts cannot be loaded: No luck\.\n.*\n\s+at .*a\.ts:1/s,
    ],
    [
      "the definition is refused",
      { "a.ts": definition("one").replace('type: "one"', 'type: "1"') },
      /a\.ts cannot be loaded: .*"1"/,
    ],
    ["it is a folder", { "a.ts/b.ts": "" }, /a\.ts is a folder/],
  ])("say what is wrong if %s", async (_what, files, text) => {
    const ended = await keyturnEnded(["start", "--data", "data", "--actors", "a.ts"], {
      cwd: project(files),
    });
    expect(ended).toMatchObject({ code: 2, stdout: "" });
    expect(ended.stderr).toMatch(text);
  });

  it.each<[string, string[]]>([
    ["keyturn", ["xstate"]],
    ["xstate", ["keyturn"]],
  ])("say what is missing where %s is not installed", async (missing, installed) => {
    for (const name of ["a.ts", "a.mjs"]) {
      const folder = project({ [name]: definition("one") }, installed);
      const ended = await keyturnEnded(["start", "--data", "data", "--actors", name], { cwd: folder });
      expectRefusal(ended, 2, new RegExp(`imports ${missing}, which is not installed there: npm install`));
    }
  });

  it.each(["keyturn", "xstate"])(
    "refuse another copy of %s, whose actions would do nothing here",
    async (name) => {
      const other = {
        [`node_modules/${name}/package.json`]: `{ "name": "${name}", "type": "module", "main": "index.js" }`,
        [`node_modules/${name}/index.js`]: "export {};",
        "a.ts": definition("one"),
      };
      const folder = project(
        other,
        ["keyturn", "xstate"].filter((one) => one !== name),
      );
      const ended = await keyturnEnded(["start", "--data", "data", "--actors", "a.ts"], { cwd: folder });
      expectRefusal(ended, 2, new RegExp(`another copy of ${name} than this command: ${folder}`));
      expect(ended.stderr).toContain(name === "keyturn" ? packageFolder() : "npm dedupe");
      if (name === "xstate") expect(ended.stderr).toContain("install-links true");
    },
  );
});
