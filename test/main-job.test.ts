/** The main job, as a process of its own on the embedded store, and on a NATS server. */
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { airport } from "../actors/index.ts";
import { readFlights } from "../examples/flights/flights.ts";
import { program as job } from "../examples/flights/job.ts";
import type { AirportRow, Report } from "../examples/flights/report.ts";
import { connect, embedded } from "../runtime/index.ts";
import {
  type Ended,
  expectedAirports,
  killJob,
  runJob,
  startJob,
  temporaryFolder,
} from "./support/main-job.ts";
import { builtPackage } from "./support/build.ts";
import { freePorts } from "./support/nats-ports.ts";
import { startServer } from "./support/nats-server.ts";
import { runHere } from "./support/program-run.ts";

let program: string;
let expected: AirportRow[];
let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let data: string;
/** How long it plays when nobody disturbs it, once that is known. */
let undisturbed_ms: number | undefined;

beforeAll(async () => {
  program = join(await builtPackage(), "dist/examples/flights/main.js");
  expected = expectedAirports(await readFlights());
}, 120_000);

beforeEach(async () => {
  folder = await temporaryFolder();
  data = join(folder.path, "data");
});

afterEach(() => folder.remove());

/** The report of a run that ended well and printed nothing else. */
function reportOf({ code, stdout, stderr }: Ended): Report {
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout) as Report;
}

function expectRefusal(ended: Ended, code: number, text: RegExp): void {
  expect(ended.code).toBe(code);
  expect(ended.stdout).toBe("");
  expect(ended.stderr).toMatch(text);
  expect(ended.stderr).not.toMatch(/^\s+at /m);
}

/** Sends the job a signal while it plays. */
async function signalJob(signal: NodeJS.Signals): Promise<Ended> {
  for (let tries = 0; ; tries++) {
    const running = startJob(program, "--data", data);
    await running.playing;
    running.process.kill(signal);
    const ended = await running.ended;
    // On a machine that is busy with other things the job may be at its end before the signal is there.
    if (ended.code !== 0 || tries === 5) return ended;
    await rm(data, { recursive: true });
  }
}

// Each is several processes of a second or so on an idle machine.
describe("the main job", { timeout: 120_000 }, () => {
  it("plays every flight, and finds all of them already applied the next time", async () => {
    const started = performance.now();
    const first = reportOf(await runJob(program, "--json", "--data", data));
    undisturbed_ms = performance.now() - started;
    expect(first).toEqual({
      flights: 20_000,
      applied: 20_000,
      alreadyApplied: 0,
      perSecond: expect.any(Number),
      airports: expected,
    });
    expect(first.perSecond).toBeGreaterThan(0);
    const names = first.airports.map(({ airport }) => airport);
    expect(names).toEqual([...names].sort());

    const second = reportOf(await runJob(program, "--json", "--data", data));
    expect(second).toMatchObject({ flights: 20_000, applied: 0, alreadyApplied: 20_000 });
    expect(second.airports).toEqual(first.airports);
  });

  it("comes to the same airports when it is killed at any moment and run again", async () => {
    if (undisturbed_ms === undefined) {
      const started = performance.now();
      reportOf(await runJob(program, "--json", "--data", join(folder.path, "undisturbed")));
      undisturbed_ms = performance.now() - started;
    }
    let killed = 0;
    for (let run = 0; killed < 3 && run < 20; run++) {
      if (await killJob(program, Math.random() * undisturbed_ms, "--json", "--data", data)) killed++;
    }
    expect(killed).toBe(3);
    const report = reportOf(await runJob(program, "--json", "--data", data));
    expect(report.airports).toEqual(expected);
    expect(report.applied + report.alreadyApplied).toBe(20_000);
  });

  it("shows people a progress bar, a table, the throughput and where the data lies", async () => {
    const { code, stdout, stderr } = await runJob(program, "--data", data);
    expect(code).toBe(0);
    expect(stderr).toContain("100% | 20000 of 20000 flights");
    const worst = expected
      .filter(({ departures }) => departures >= 100)
      .sort((a, b) => b.meanDelayMinutes - a.meanDelayMinutes)
      .slice(0, 10);
    const rows = stdout.split("\n").filter((line) => / min │$/.test(line));
    expect(rows.map((row) => row.split("│").map((text) => text.trim()))).toEqual(
      worst.map(({ airport, state, departures, arrivals, meanDelayMinutes }) => [
        "",
        airport,
        state,
        `${departures}`,
        `${arrivals}`,
        `${meanDelayMinutes.toFixed(2)} min`,
        "",
      ]),
    );
    expect(stdout).toMatch(/20,000 flights in [\d.]+ s, [\d,]+ flights\/s/);
    expect(stdout).toContain(data);
  });

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("stops at %s, and goes on from there", async (signal, code) => {
    const ended = await signalJob(signal);
    expect(ended).toMatchObject({ code, stdout: "" });
    expect(ended.stderr).toContain("Stopped. Run it again");
    const report = reportOf(await runJob(program, "--json", "--data", data));
    expect(report.applied).toBeGreaterThan(0);
    expect(report.airports).toEqual(expected);
  });

  it("says what is wrong, and what its options are, as a process", async () => {
    expectRefusal(await runJob(program, "--quick"), 2, /--quick/);
    const { code, stdout, stderr } = await runJob(program, "--help");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain("--data DIR");
  });

  it.each([
    [["--quick"], /--quick/],
    [["somewhere"], /somewhere/],
    [["--data"], /--data/],
    [["--data", ""], /--data needs/],
    [["--nats", ""], /--nats needs/],
    [["--nats", "127.0.0.1:4222", "--data", "somewhere"], /not both/],
    [["--json=yes"], /--json/],
  ])("says what is wrong with %j", async (args, text) => {
    const ended = await runHere(job, ...args);
    expectRefusal(ended, 2, text);
    expect(ended.stderr).toContain("npm start -- [--data DIR | --nats HOST:PORT] [--json]");
  });

  it("says when another process has the folder", async () => {
    const store = await embedded({ path: data });
    try {
      expectRefusal(await runJob(program, "--json", "--data", data), 1, /is open in process \d+/);
    } finally {
      await store.close();
    }
  });

  it("says when the folder cannot be one", async () => {
    const file = join(folder.path, "file");
    await writeFile(file, "");
    expectRefusal(await runJob(program, "--json", "--data", join(file, "data")), 1, /cannot be played into/);
    expectRefusal(await runJob(program, "--json", "--data", file), 1, /cannot be played into/);
  });
});

describe("the main job on NATS", { timeout: 120_000 }, () => {
  it("comes to the same airports when it is killed and run again, finds all of them applied then, and says where", async () => {
    // What dies is the job; the server goes on.
    const server = await startServer({ durability: "process" });
    onTestFinished(() => server.stop());
    const args = ["--json", "--nats", server.url];
    const running = startJob(program, "--nats", server.url);
    await running.playing;
    const client = await connect({ nats: { servers: server.url, app: "flights" } });
    for await (const { context } of client.actor(airport, "ORD").watch()) if (context.departures > 50) break;
    running.process.kill("SIGKILL");
    await client.disconnect();
    expect((await running.ended).code).toBe("SIGKILL");

    const first = reportOf(await runJob(program, ...args));
    expect(first.applied + first.alreadyApplied).toBe(20_000);
    expect(first.airports).toEqual(expected);

    const second = reportOf(await runJob(program, ...args));
    expect(second).toMatchObject({ flights: 20_000, applied: 0, alreadyApplied: 20_000 });
    expect(second.airports).toEqual(expected);

    const { code, stdout } = await runJob(program, "--nats", server.url);
    expect(code).toBe(0);
    expect(stdout).toContain(`The actors live in NATS at ${server.url}, app "flights".`);
  });

  it("says when there is no server", async () => {
    const [port] = await freePorts(1);
    const ended = await runJob(program, "--json", "--nats", `127.0.0.1:${port}`);
    expectRefusal(ended, 1, /cannot be played into NATS at .* cannot be reached .* connection refused/);
  });
});
