/** The command line on a real NATS server: provisioning, several nodes that die, freeze and come back. */
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { counter } from "../actors/index.ts";
import { connect, type ConnectedClient, isKeyturnError } from "../runtime/index.ts";
import { type Cli, keyturn, keyturnEnded, project, withPackage } from "./support/cli.ts";
import { freePorts } from "./support/nats-ports.ts";
import { type NatsServer, type ServerOptions, startServer } from "./support/nats-server.ts";

withPackage();

/** A short lease, so that a dead node is missed soon. */
const BOUNDS = ["--set", "lease_ms=1500", "--set", "heartbeat_ms=400"];

let server: NatsServer;

beforeEach(async () => {
  server = await startServer();
});

afterEach(() => server.stop());

async function another(options: ServerOptions): Promise<NatsServer> {
  const started = await startServer(options);
  onTestFinished(() => started.stop());
  return started;
}

/** Starts a node on the server, and waits until it is ready. */
async function node(name: string, ...args: string[]): Promise<Cli> {
  const started = keyturn(["start", "--nats", server.url, "--name", name, "--json", ...BOUNDS, ...args]);
  await started.event("ready");
  return started;
}

async function client(): Promise<ConnectedClient> {
  const connected = await connect({ nats: { servers: server.url } });
  onTestFinished(() => connected.disconnect());
  return connected;
}

/** Stops nodes as an operator does, all at once. */
async function stopAll(...nodes: Cli[]): Promise<void> {
  for (const one of nodes) one.kill("SIGTERM");
  expect(await Promise.all(nodes.map(({ ended }) => ended))).toEqual(nodes.map(() => 0));
}

/** Resolves when the nodes serve all shards, and each some. */
async function shared(...nodes: Cli[]): Promise<void> {
  const servingOf = ({ events }: Cli): number => {
    const [last] = events.filter(({ event }) => event === "shards" || event === "ready").slice(-1);
    if (last === undefined) return 0;
    return last.event === "shards" ? (last.serving as number) : (last.shards as number[]).length;
  };
  while (true) {
    const serving = nodes.map(servingOf);
    if (Math.min(...serving) > 0 && serving.reduce((sum, count) => sum + count, 0) === 64) return;
    await Promise.race(nodes.map((one) => one.more()));
  }
}

const COUNTERS = 40;

/** Adds to counters without a break. Each add is one request, however often it is tried. */
class Adding {
  answered = 0;
  readonly #client: ConnectedClient;
  readonly #run: Promise<unknown>;
  #goOn = true;

  constructor(client: ConnectedClient) {
    this.#client = client;
    this.#run = Promise.all(Array.from({ length: COUNTERS }, (_, n) => this.#add(`c${n}`)));
  }

  /** Resolves when every counter was answered once more. */
  async onwards(): Promise<void> {
    const keys = Array.from({ length: COUNTERS }, (_, n) => `c${n}`);
    await Promise.all(keys.map((key) => this.#once(key)));
  }

  /** Ends it. What was counted must be what was answered. */
  async end(): Promise<void> {
    this.#goOn = false;
    await this.#run;
    const states = await Promise.all(
      Array.from({ length: COUNTERS }, (_, n) => this.#client.actor(counter, `c${n}`).get()),
    );
    expect(states.reduce((sum, { context }) => sum + context.count, 0)).toBe(this.answered);
  }

  async #add(key: string): Promise<void> {
    while (this.#goOn) await this.#once(key);
  }

  async #once(key: string): Promise<void> {
    const requestId = randomUUID();
    while (true) {
      try {
        await this.#client.actor(counter, key).ask({ type: "add", by: 1 }, { requestId });
        this.answered++;
        return;
      } catch (error) {
        if (!isKeyturnError(error) || !error.retryable) throw error;
      }
    }
  }
}

describe("keyturn provision", { timeout: 60_000 }, () => {
  it("makes what is missing, and says what was there", async () => {
    const first = await keyturnEnded(["provision", "--nats", server.url, "--shards", "32"]);
    expect(first).toMatchObject({ code: 0, stderr: "" });
    expect(first.stdout).toMatch(/The app "keyturn" is made: 32 shards, format 1/);
    expect(first.stdout.match(/1 replica, made/g)).toHaveLength(5);

    const second = await keyturnEnded(["provision", "--nats", server.url, "--json"]);
    expect(second).toMatchObject({ code: 0, stderr: "" });
    const report = JSON.parse(second.stdout) as { streams: { made: boolean }[] };
    expect(report).toMatchObject({
      event: "provisioned",
      app: "keyturn",
      made: false,
      settings: { shards: 32 },
    });
    expect(report.streams.map(({ made }) => made)).toEqual([false, false, false, false, false]);

    const other = await keyturnEnded(["provision", "--nats", server.url, "--shards", "64", "--json"]);
    expect(other.code).toBe(1);
    expect(JSON.parse(other.stdout)).toMatchObject({ event: "failed", error: { code: "app_mismatch" } });
    expect(other.stderr).toMatch(/exists with 32 shards in format 1, not 64/);
  });

  it("says when nobody is there, and when it may not", async () => {
    const [port] = await freePorts(1);
    const nobody = await keyturnEnded(["provision", "--nats", `127.0.0.1:${port}`, "--wait", "0.5"]);
    expect(nobody).toMatchObject({ code: 1, stdout: "" });
    expect(nobody.stderr).toMatch(
      /could not be used within 0\.5 s: NATS cannot be reached .* connection refused/,
    );

    const closed = await another({ extra: "authorization { user: ada, password: swordfish }" });
    const args = ["provision", "--nats", closed.url, "--user", "ada"];
    const wrong = await keyturnEnded(args, { env: { KEYTURN_NATS_PASSWORD: "sesame" } });
    expect(wrong).toMatchObject({ code: 1, stdout: "" });
    expect(wrong.stderr).toMatch(/^keyturn: /m);
    expect(wrong.stderr).not.toMatch(/sesame|^\s+at /m);
    const right = await keyturnEnded(args, { env: { KEYTURN_NATS_PASSWORD: "swordfish" } });
    expect(right).toMatchObject({ code: 0, stderr: "" });
  });
});

describe("keyturn start on a NATS server", { timeout: 120_000 }, () => {
  it("says what commits survive, and how that is known", async () => {
    const asked = await node("asked", "--monitor", server.monitorUrl);
    expect(await asked.event("ready")).toMatchObject({ durability: "fsync" });
    await asked.said(/monitoring page says sync_always/);
    await stopAll(asked);
    const unknown = await node("unknown");
    expect(await unknown.event("ready")).toMatchObject({ durability: "process" });
    await unknown.said(/not known whether commits are flushed/);
    await stopAll(unknown);
  });

  it("waits for a server that is not there, and for streams that it must not make", async () => {
    const [port = 0, monitorPort = 0] = await freePorts(2);
    const early = keyturn(["start", "--nats", `127.0.0.1:${port}`, "--json", "--no-provision", ...BOUNDS]);
    await early.said(/cannot be reached .* connection refused.* It is tried for \d+ s more/);
    const late = await another({ port, monitorPort });
    await early.said(/keyturn provision/);
    expect((await keyturnEnded(["provision", "--nats", late.url])).code).toBe(0);
    expect((await early.event("ready")).shards).toHaveLength(64);
    await stopAll(early);
  });

  it("hosts a user's TypeScript actors, whose replies arrive", async () => {
    const folder = project({
      "tally.ts": `
        import { defineActor, reply } from "keyturn";
        import { assign, setup } from "xstate";
        interface Tally { readonly count: number }
        export const tally = defineActor({
          type: "tally",
          machine: setup({ types: { context: {} as Tally, events: {} as { type: "count" } } }).createMachine({
            context: { count: 0 },
            on: {
              count: {
                actions: [
                  assign({ count: ({ context }) => context.count + 1 }),
                  reply(({ context }) => \`\${context.count} so far\`),
                ],
              },
            },
          }),
        });`,
    });
    const args = ["start", "--nats", server.url, "--actors", "./tally.ts", "--json", ...BOUNDS];
    const running = keyturn(args, { cwd: folder });
    expect((await running.event("ready")).types).toEqual(["tally"]);
    const home = (await client()).actor("tally/home");
    expect(await home.ask({ type: "count" })).toBe("1 so far");
    expect(await home.ask({ type: "count" })).toBe("2 so far");
    await stopAll(running);
  });

  it("goes on answering while one of three is killed and one is added, and counts every add once", async () => {
    const nodes = [await node("a"), await node("b"), await node("c")] as const;
    await shared(...nodes);
    const adding = new Adding(await client());
    await adding.onwards();

    nodes[1].kill("SIGKILL");
    expect(await nodes[1].ended).toBe("SIGKILL");
    await adding.onwards();
    await shared(nodes[0], nodes[2]);

    const added = await node("d");
    await shared(nodes[0], nodes[2], added);
    await adding.onwards();
    // Handed over: nobody has to wait for a lease.
    await stopAll(nodes[0]);
    await adding.onwards();
    await adding.end();
    await stopAll(nodes[2], added);
  });

  it("is fenced when it was frozen for longer than its lease, says so, and joins again", async () => {
    const frozen = await node("frozen", "--health", "127.0.0.1:0");
    const other = await node("other");
    await shared(frozen, other);
    const adding = new Adding(await client());
    await adding.onwards();
    frozen.kill("SIGSTOP");
    await adding.onwards();
    frozen.kill("SIGCONT");
    const first = (await frozen.event("ready")).incarnation;
    expect((await frozen.event("fenced")).incarnation).toBe(first);
    expect((await frozen.event("rejoined")).incarnation).not.toBe(first);
    await frozen.said(/Fenced: another node has taken over/);
    await shared(frozen, other);
    await adding.onwards();
    await adding.end();
    await stopAll(frozen, other);
  });

  it("turns red when the server freezes and green when it goes on; a second signal ends it at once", async () => {
    const running = await node("one", "--health", "127.0.0.1:0", "--grace", "2");
    const { health } = (await running.event("ready")) as unknown as { health: string };
    const statusOf = async (path: string): Promise<number> => (await fetch(`${health}${path}`)).status;
    expect([await statusOf("/readyz"), await statusOf("/livez")]).toEqual([200, 200]);

    await server.kill("SIGSTOP");
    const red = await running.event("health", ({ ready }) => ready === false);
    expect(red).toMatchObject({ live: true, checks: { lease: { ok: false } } });
    expect([await statusOf("/readyz"), await statusOf("/livez")]).toEqual([503, 200]);
    await server.kill("SIGCONT");
    await running.event("health", ({ ready }) => ready === true);
    expect(await statusOf("/readyz")).toBe(200);

    await server.kill("SIGSTOP");
    running.kill("SIGTERM");
    await running.event("stopping");
    running.kill("SIGTERM");
    expect(await running.ended).toBe(143);
    expect(running.stderr).toMatch(/Ended at once/);
    await server.kill("SIGCONT");

    const patient = await node("two", "--grace", "0.5");
    await server.kill("SIGSTOP");
    patient.kill("SIGTERM");
    expect(await patient.ended).toBe(1);
    expect(patient.events.at(-1)).toMatchObject({ event: "stopped", graceful: false });
    await server.kill("SIGCONT");
  });
});

describe("keyturn start --processes", { timeout: 120_000 }, () => {
  const start = (...args: string[]): Cli =>
    keyturn(
      ["start", "--nats", server.url, "--name", "n", "--processes", "3", "--json", ...BOUNDS, ...args],
      {
        group: true,
      },
    );

  function isAlive(pid: unknown): boolean {
    try {
      return process.kill(pid as number, 0);
    } catch {
      return false;
    }
  }

  it("runs nodes, starts one that dies again, and ends when all have ended", async () => {
    const all = start("--health", "127.0.0.1:0");
    expect((await all.event("all_ready")).processes).toEqual(["n-1", "n-2", "n-3"]);
    const pids = all.events.filter(({ event }) => event === "ready").map(({ pid }) => pid);
    expect(new Set([...pids, all.pid]).size).toBe(4);
    const adding = new Adding(await client());
    await adding.onwards();

    const victim = await all.event("ready", ({ name }) => name === "n-2");
    process.kill(victim.pid as number, "SIGKILL");
    expect(await all.event("process_ended")).toMatchObject({ process: "n-2", signal: "SIGKILL" });
    const again = await all.event("ready", ({ name, pid }) => name === "n-2" && pid !== victim.pid);
    await adding.onwards();
    await adding.end();

    const [, url] = /Health of all processes: (\S+)/.exec(all.stderr) ?? [];
    const health = (await (await fetch(url as string)).json()) as { processes: object };
    expect(Object.keys(health.processes)).toEqual(["n-1", "n-2", "n-3"]);
    const metrics = await (await fetch((url as string).replace("healthz", "metrics"))).text();
    for (const name of ["n-1", "n-3"])
      expect(metrics).toMatch(new RegExp(`^keyturn_shards_serving\\{node="${name}"\\} \\d+$`, "m"));

    process.kill(all.pid, "SIGTERM");
    expect(await all.ended).toBe(0);
    expect([...pids, again.pid].filter(isAlive)).toEqual([]);
    expect(all.events.filter(({ event }) => event === "stopped")).toHaveLength(3);
  });

  it("takes a terminal's Ctrl-C, which everybody gets, as one request to stop", async () => {
    const all = start();
    await all.event("all_ready");
    all.kill("SIGINT");
    expect(await all.ended).toBe(0);
    expect(all.events.filter(({ event, graceful }) => event === "stopped" && graceful)).toHaveLength(3);
  });

  it("stops its nodes when it is killed itself", async () => {
    const all = start();
    await all.event("all_ready");
    process.kill(all.pid, "SIGKILL");
    // Its output is open as long as one of them has it.
    expect(await all.ended).toBe("SIGKILL");
    expect(all.events.filter(({ event, graceful }) => event === "stopped" && graceful)).toHaveLength(3);
  });

  it("fails when no node can be started", async () => {
    const wrong = start("--actors", "nowhere.ts");
    expect(await wrong.ended).toBe(2);
    expect(wrong.stderr).toMatch(/There is no actors module nowhere\.ts/);
    expect((await keyturnEnded(["provision", "--nats", server.url, "--shards", "8"])).code).toBe(0);
    const mismatched = start("--shards", "16");
    expect(await mismatched.ended).toBe(1);
    expect(mismatched.stderr).toMatch(/created with 8 shards/);
  });
});
