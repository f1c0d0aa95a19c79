/** The commands for whoever begins, runs and looks: new, dev, doctor, top, drain; some as processes. */
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { counter } from "../actors/index.ts";
import { embedded, nats, startNode } from "../runtime/index.ts";
import { serveStore } from "../runtime/stores/socket/index.ts";
import { whereFrom } from "../runtime/cli/commands/new.ts";
import { keyturn, keyturnEnded, project, withPackage } from "./support/cli.ts";
import { cli } from "./support/cli-run.ts";
import { startServer } from "./support/nats-server.ts";
import { temporaryPath } from "./support/temporary.ts";

withPackage();
const root = fileURLToPath(new URL("..", import.meta.url));

const door = (events: string): string => `
import { defineActor } from "keyturn";
import { createMachine } from "xstate";
export const door = defineActor({
  type: "door",
  machine: createMachine({ initial: "shut", states: { shut: { on: { ${events} } }, open: {} } }),
});
`;

describe("keyturn new", { timeout: 60_000 }, () => {
  it("makes a project whose tests pass", async () => {
    const folder = join(project({}, ["keyturn", "xstate", "vitest", "zod"]), "my-app");
    const made = await cli(["new", folder, "--json"]);
    expect(made).toMatchObject({ code: 0, stderr: "" });
    const { files } = made.rows[0] as { files: string[] };
    for (const file of [
      "package.json",
      "src/order.ts",
      "test/order.test.ts",
      "nats.conf",
      "README.md",
      "tsconfig.json",
    ])
      expect(files).toContain(file);
    expect(JSON.parse(readFileSync(join(folder, "package.json"), "utf8"))).toMatchObject({
      name: "my-app",
      dependencies: { keyturn: `file:${relative(folder, root)}` },
      scripts: { test: "vitest run" },
      // npm warns of install scripts that nobody has decided about. Both packages bring what theirs would build.
      allowScripts: { lmdb: false, "msgpackr-extract": false },
    });
    expect(readFileSync(join(folder, ".npmrc"), "utf8")).toMatch(/^install-links=true$/m);
    const bin = (name: string): string => join(root, "node_modules", name);
    const tests = spawnSync(process.execPath, [bin("vitest/vitest.mjs"), "run"], {
      cwd: folder,
      encoding: "utf8",
    });
    expect(tests.stdout + tests.stderr).toMatch(/4 passed/);
    expect(tests.status).toBe(0);

    expect(await cli(["new", folder])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/is not empty/),
    });
    expect(await cli(["new", "-x-"])).toMatchObject({ code: 2 });
    expect(await cli(["new", join(folder, "Ä b")])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/package's name/),
    });
  });

  it("takes itself from the registry when it was installed, from its folder when it is a checkout", async () => {
    expect(whereFrom("/a/my-app", "/a/tools/node_modules/keyturn/", "1.2.3")).toBe("^1.2.3");
    expect(whereFrom("/a/my-app", "/a/keyturn/", "1.2.3")).toBe("file:../keyturn");
    const folder = join(project({}), "my-app");
    await cli(["new", folder, "--keyturn", "1.2.3"]);
    expect(JSON.parse(readFileSync(join(folder, "package.json"), "utf8"))).toMatchObject({
      dependencies: { keyturn: "1.2.3" },
    });
    expect(existsSync(join(folder, ".npmrc"))).toBe(false);
  });

  it("makes a project whose types hold, also where it prints", async () => {
    const home = project({}, ["xstate", "vitest", "zod", "@types"]);
    symlinkSync(root, join(home, "node_modules", "keyturn"), "junction");
    const folder = join(home, "my-app");
    await cli(["new", folder]);
    writeFileSync(
      join(folder, "src/print.ts"),
      'console.log(setTimeout(() => {}, 1), fetch("x"), process.pid);\n',
    );
    const types = spawnSync(
      process.execPath,
      [join(root, "node_modules/typescript/bin/tsc"), "--noEmit", "--customConditions", "keyturn-source"],
      {
        cwd: folder,
        encoding: "utf8",
      },
    );
    expect(types).toMatchObject({ stdout: "", status: 0 });
  });
});

describe("keyturn dev", { timeout: 60_000 }, () => {
  it("serves, loads actors again when a file changes, and keeps what they hold", async () => {
    const cwd = project({
      "src/door.ts": door('open: "open"'),
      "src/lib/other.ts": "export const one = 1;\n",
    });
    const ask = (...args: string[]) => keyturnEnded([...args], { cwd });
    const dev = keyturn(["dev", "--actors", "./src/door.ts", "--http", "127.0.0.1:0", "--json"], { cwd });
    const ready = await dev.event("ready");
    expect(ready).toMatchObject({ types: [{ type: "door", version: 1, events: ["open"] }] });
    // Other commands find it without being told where.
    await dev.said(/Ready/);
    expect(await ask("send", "door/front", "open")).toMatchObject({ code: 0, stderr: "" });
    const seen = await fetch(`${String(ready.http)}/actors/door/front`);
    expect(await seen.json()).toMatchObject({ value: "open", turn: 1 });

    writeFileSync(join(cwd, "src/door.ts"), "export const = ;");
    const faulty = await dev.event("faulty");
    expect(faulty.reason).toMatch(/door\.ts cannot be loaded/);
    // As editors do: another file takes its place.
    writeFileSync(join(cwd, "src/new.tmp"), door('open: "open", kick: "open"'));
    renameSync(join(cwd, "src/new.tmp"), join(cwd, "src/door.ts"));
    await dev.event(
      "ready",
      ({ types }) => (types as { events: string[] }[])[0]?.events.includes("kick") === true,
    );
    const kept = await ask("get", "door/front", "--json");
    expect(JSON.parse(kept.stdout)).toMatchObject({ value: "open", turn: 1 });

    dev.kill("SIGTERM");
    expect(await dev.ended).toBe(0);
    expect(existsSync(join(cwd, ".keyturn/socket"))).toBe(false);
    // Nobody serves: what was stored can be read, and with actors this command is a node for a moment.
    const nobody = await ask("get", "door/front");
    expect(nobody).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/No node runs on .* add --actors MODULE/),
    });
    expect(await ask("get", "door/front", "--stale")).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/door\/front {2}open/),
    });
    const own = await ask("count", "door", "--actors", "./src/door.ts", "--json");
    expect(JSON.parse(own.stdout)).toEqual({ type: "door", total: 1, states: { open: 1 } });
  });

  it("says who has the folder, if that is no node of a command", async () => {
    const path = join(temporaryPath(), "data");
    const store = await embedded({ path });
    onTestFinished(() => store.close());
    const refused = await keyturnEnded(["nodes", "--data", path, "--wait", "0.1"]);
    expect(refused).toMatchObject({ code: 1, stdout: "" });
    expect(refused.stderr).toMatch(/is open in process \d+\. .* does not serve other commands/s);
  });
});

describe("keyturn doctor and top", { timeout: 60_000 }, () => {
  it("finds a folder well, or says what to do", async () => {
    const path = join(temporaryPath(), "data");
    expect(await cli(["doctor", "--data", path])).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/failure +store +There is no embedded store/),
    });
    const node = await startNode({ actors: [counter], store: embedded({ path }), name: "ada", shards: 4 });
    const server = await serveStore(node.store, path);
    const well = await cli(["doctor", "--data", path, "--json"]);
    expect(well.rows.filter(({ level }) => level !== "ok" && level !== "warning")).toEqual([]);
    expect(well).toMatchObject({ code: 0 });
    expect(well.rows.map(({ check }) => check)).toEqual(
      expect.arrayContaining(["node", "store", "access", "space", "nodes", "dead letters"]),
    );
    chmodSync(path, 0o755);
    const open = await cli(["doctor", "--data", path, "--strict"]);
    expect(open).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/warning {2}privacy .*\n +→ chmod 700/),
    });

    await node.client.actor(counter, "a").send({ type: "add", by: 1 });
    let asked = false;
    const top = await cli(["top", "--data", path, "--interval", "200ms", "--limit", "2", "--json"], {
      onOut: () => {
        if (!asked) void node.client.actor(counter, "b").send({ type: "add", by: 1 });
        asked = true;
      },
    });
    expect(top.code).toBe(0);
    expect(top.rows).toMatchObject([
      {
        event: "top",
        nodes: [{ node: "ada", shards: 4 }],
        shards: { owned: 4, total: 4 },
        types: [{ type: "counter", actors: 1, turns: 1 }],
      },
      { event: "top", types: [{ type: "counter", actors: 2, turns: 2 }] },
    ]);
    expect(top.rows[1].turnsPerSecond).toBeGreaterThan(0);
    const shown = await cli(["top", "--data", path, "--limit", "1"], { isTTY: true });
    expect(shown.stdout.startsWith("\u001b[H\u001b[2J")).toBe(true);
    expect(shown.stdout).toMatch(/shards 4\/4/);
    expect(shown.stdout).toContain("\u001b[1m");
    const plain = await cli(["top", "--data", path, "--limit", "1"], { isTTY: true, env: { NO_COLOR: "1" } });
    expect(plain.stdout).not.toContain("\u001b[1m");
    await server.close();
    await node.stop();
    expect((await cli(["doctor", "--data", path])).stdout).toMatch(/warning {2}nodes +No node runs/);
  });
});

describe("on a real NATS server", { timeout: 60_000 }, () => {
  it("does not say that there are no actors where only nobody serves them", async () => {
    const server = await startServer();
    onTestFinished(() => server.stop());
    const node = await startNode({ actors: [counter], store: nats({ servers: server.url }), shards: 8 });
    await node.client.actor(counter, "left").send({ type: "add", by: 1 });
    await node.stop();
    const { stdout, stderr } = await cli(["list", "--nats", server.url]);
    expect(stdout).toMatch(/counter +1/);
    expect(stderr).toMatch(/No node runs\. Counted in the stored snapshots/);
  });

  it("asks, looks, examines, and drains a node, which ends", async () => {
    const server = await startServer();
    onTestFinished(() => server.stop());
    const on = (...args: string[]) => cli([...args, "--nats", server.url]);
    expect(await on("nodes", "--wait", "0.1")).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/keyturn provision/),
    });
    expect((await on("doctor")).stdout).toMatch(/failure +streams .*\n +→ keyturn provision/);

    const one = await startNode({
      actors: [counter],
      store: nats({ servers: server.url }),
      name: "one",
      shards: 8,
    });
    onTestFinished(() => one.stop());
    const two = keyturn([
      "start",
      "--nats",
      server.url,
      "--name",
      "two",
      "--json",
      "--actors",
      "keyturn/actors",
    ]);
    await two.event("ready");
    expect(await on("ask", "counter/a", "add", "by=2", "--json")).toMatchObject({
      code: 0,
      rows: [{ event: "answered" }],
    });
    expect((await on("get", "counter/a", "--json")).rows).toMatchObject([{ turn: 1 }]);
    expect((await on("history", "counter/a", "--json")).rows).toMatchObject([
      { event: { type: "add", by: 2 } },
    ]);
    await one.checkpoint();
    const names = (await on("nodes", "--json")).rows.map(({ node }) => node);
    expect(names.sort()).toEqual(["one", "two"]);

    const well = await on("doctor", "--monitor", server.monitorUrl, "--json");
    expect(well.rows.filter(({ level }) => level === "failure")).toEqual([]);
    const checks = Object.fromEntries(well.rows.map(({ check, level }) => [check, level]));
    expect(checks).toMatchObject({
      server: expect.any(String),
      max_payload: "ok",
      storage: "ok",
      streams: "ok",
      clock: "ok",
      permissions: "ok",
      durability: expect.any(String),
    });

    const drained = await on("drain", "two", "--json");
    expect(drained).toMatchObject({
      code: 0,
      rows: [
        { event: "asked", node: "two" },
        { event: "drained", node: "two" },
      ],
    });
    expect(await two.ended).toBe(0);
    expect(two.events.map(({ event }) => event)).toEqual(
      expect.arrayContaining(["asked_to_leave", "stopped"]),
    );
    expect((await on("shards", "--json")).rows.map(({ node }) => node)).toEqual(new Array(8).fill("one"));
    expect(await on("ask", "counter/a", "add", "by=2", "--json")).toMatchObject({ code: 0 });
    // One of several processes goes; the others stay.
    const many = keyturn(["start", "--nats", server.url, "--name", "m", "--processes", "2", "--json"]);
    await many.event("all_ready");
    expect(await on("drain", "m-1")).toMatchObject({ code: 0 });
    await many.event("process_left", ({ process: left }) => left === "m-1");
    expect((await on("nodes", "--json")).rows.map(({ node }) => node)).toContain("m-2");
    many.kill("SIGTERM");
    expect(await many.ended).toBe(0);
    // Forced, also the last one; as a program of its own it stays, without shards.
    expect(await on("drain", "one")).toMatchObject({ code: 2 });
    expect(await on("drain", "one", "--force")).toMatchObject({ code: 0 });
    expect(one.shards).toEqual([]);
    expect(one.health()).toMatchObject({ ready: false });
    const late = await on("ask", "counter/a", "add", "by=1", "--timeout", "300ms", "--request-id", "mine");
    expect(late).toMatchObject({ code: 4, stderr: expect.stringMatching(/--request-id mine tells/) });
  });
});
