/** The digits: the same weights whatever is killed, repeated or late; what they read; and what a person is shown. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { digits } from "../../examples/digits/digits.ts";
import { program } from "../../examples/digits/job.ts";
import { learn } from "../../examples/digits/learning.ts";
import { models } from "../../examples/digits/models.ts";
import { parameters, serversOf } from "../../examples/digits/parameters.ts";
import {
  confusionOf,
  drawingsOf,
  type ModelReport,
  type Report,
  reportOf,
  tableOf,
} from "../../examples/digits/report.ts";
import { execute } from "../../examples/program.ts";
import { bytesOf, keyOf, type Run, shardCount, valuesOf } from "../../examples/digits/run.ts";
import { type DigitsNode, startDigits, train } from "../../examples/digits/training.ts";
import { workerOf } from "../../examples/digits/worker.ts";
import { type Client, isKeyturnError, memory } from "../../runtime/index.ts";
import { testRuntime } from "../../runtime/testing/index.ts";
import { runJob, startJob, temporaryFolder } from "../support/main-job.ts";
import { builtPackage } from "../support/build.ts";
import { type NatsServer, startServer } from "../support/nats-server.ts";

const ROUNDS = 6;
const svm: Run = { model: "svm", workers: 3, rounds: ROUNDS, seed: 7 };
const network: Run = { ...svm, model: "network" };

/** What comes out if nothing happens on the way. */
const undisturbed: ModelReport[] = [];

beforeAll(async () => {
  const host = await startHere();
  for (const run of [svm, network]) undisturbed.push(await reportFor(host, run));
  await host.node.stop();
});

/** A node of this process, without threads. */
async function startHere(): Promise<DigitsNode> {
  const { training } = await digits();
  return startDigits(memory(), async (task) => learn(task, training));
}

async function reportFor(host: DigitsNode, run: Run): Promise<ModelReport> {
  return reportOf(run, (await train(host, run))!, 0, await digits());
}

/** The part of a report that must be the same. */
function resultOf({ fingerprint, accuracy, confusion, loss }: ModelReport): unknown {
  return { fingerprint, accuracy, confusion, loss };
}

describe("training", () => {
  it("reads digits that it has not seen", () => {
    const [machine, net] = undisturbed as [ModelReport, ModelReport];
    expect(machine.accuracy).toBeGreaterThan(0.85);
    expect(net.accuracy).toBeGreaterThan(0.9);
    const seen = net.confusion.flat().reduce((sum, count) => sum + count, 0);
    expect(seen).toBe(2_000);
    expect(net.mistakes).toHaveLength(Math.round(2_000 * (1 - net.accuracy)));
  });

  it("depends on its seed and on the number of workers, and on nothing else", async () => {
    const host = await startHere();
    const short: Run = { ...svm, rounds: 1 };
    const variants = [short, { ...short, seed: 8 }, { ...short, workers: 2 }];
    const results = [];
    for (const run of variants) results.push((await reportFor(host, run)).fingerprint);
    expect(new Set(results).size).toBe(3);
    await host.node.stop();
    const other = await startHere();
    expect((await reportFor(other, short)).fingerprint).toBe(results[0]);
    await other.node.stop();
  });

  it("gives a worker that was lost before it had told every server the parameters that it had", async () => {
    const host = await startHere();
    const { client } = host.node;
    const servers = serversOf(client, network);
    // What the last worker told half of the servers before it was lost.
    const last = network.workers - 1;
    const values = models.network.first(network.seed);
    const { change } = learn({ run: network, worker: last, round: 0, values }, (await digits()).training);
    const half = Math.floor(servers.length / 2);
    for (const [shard, server] of servers.slice(0, half).entries())
      await server.send({ type: "step", round: 0, worker: last, change: bytesOf(change, shard) });
    // The others go on without it, as far as they can: those servers are in the next round before it is back.
    for (let worker = 0; worker < last; worker++)
      await client.actor(host.worker, keyOf(network, worker)).send({ type: "begin" });
    for (const server of servers.slice(0, half))
      for await (const { context } of server.watch()) if (context.round === 1) break;
    expect((await servers[half]!.get()).context.round).toBe(0);

    const report = await reportFor(host, network);
    expect(resultOf(report)).toEqual(resultOf(undisturbed[1]!));
    await host.node.stop();
  });
});

describe("a worker", () => {
  it("is stuck when its round fails again and again, and goes on from there when it is begun again", async () => {
    const { training } = await digits();
    let broken = true;
    let connect: (client: Client) => void = () => undefined;
    const worker = workerOf(new Promise<Client>((resolve) => (connect = resolve)), async (task) => {
      if (broken && task.round === 1) throw new Error("The chalk is gone.");
      return learn(task, training);
    });
    const t = await testRuntime({ actors: [parameters, worker] });
    connect(t.client);
    const ref = t.client.actor(worker, keyOf({ model: "svm", workers: 1, rounds: 2, seed: 0 }, 0));
    await ref.send({ type: "begin" });
    // The promises are real, and take the time that they take.
    while ((await ref.get()).value !== "stuck") await t.advance("10 seconds");
    expect(await ref.get()).toMatchObject({
      value: "stuck",
      context: { round: 1, trouble: "The chalk is gone." },
    });
    broken = false;
    await ref.send({ type: "begin" });
    while ((await ref.get()).value !== "done") await t.advance("10 seconds");
    expect((await ref.get()).context.round).toBe(2);
    await t.stop();
  });
});

describe("a parameter server", () => {
  it("adds up in the order of the workers, whatever came when and however often", async () => {
    const host = await startHere();
    const run: Run = { model: "svm", workers: 3, rounds: 2, seed: 0 };
    const { length } = valuesOf(bytesOf(models.svm.first(0), 0));
    // Their sum depends on the order in which they are added: 0.1 is lost beside 2 ** 24.
    const change = (worker: number, round: number): Uint8Array =>
      bytesOf(new Float32Array(length).fill([2 ** 26, -(2 ** 26), 0.3 + round][worker]!), 0);
    const results = [];
    for (const [seed, order] of [
      [0, 1, 2],
      [2, 1, 0],
      [1, 1, 2, 2, 0, 0],
    ].entries()) {
      const server = client(host).actor(parameters, keyOf({ ...run, seed }, 0));
      for (const round of [0, 1])
        for (const worker of order) {
          await server.send({ type: "step", round, worker, change: change(worker, round) });
          // A round that is over, and one that has not begun.
          await server.send({ type: "step", round: round - 1, worker, change: change(0, 0) });
          await server.send({ type: "step", round: round + 2, worker, change: change(0, 0) });
        }
      const { value, context } = await server.get();
      expect(value).toBe("trained");
      expect(context.steps).toEqual({});
      results.push(valuesOf(context.values)[0]);
    }
    expect(results).toEqual([results[0], results[0], results[0]]);
    expect(results[0]).not.toBe(0);
    await host.node.stop();
  });

  it("is refused under a key that names no part of a training", async () => {
    const host = await startHere();
    const error: unknown = await client(host)
      .actor(parameters, "perceptron.4x60.1:0")
      .get()
      .catch((caught: unknown) => caught);
    expect(isKeyturnError(error)).toBe(true);
    expect(String(error)).toContain("does not name a part of a training");
    await host.node.stop();
  });
});

function client({ node }: DigitsNode): DigitsNode["node"]["client"] {
  return node.client;
}

describe("killed in the middle of a training and started again", () => {
  let server: NatsServer;
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let programs: string;
  beforeAll(async () => {
    folder = await temporaryFolder();
    [programs, server] = await Promise.all([
      builtPackage().then((built) => join(built, "dist")),
      startServer(),
    ]);
  }, 120_000);
  afterAll(async () => {
    await server.stop();
    await folder.remove();
  });

  it.concurrent.each([
    ["on the embedded store", () => join(folder.path, "data"), (path: string) => ["--data", path]],
    ["on NATS", () => `nats:${server.url}`, () => ["--nats", server.url]],
  ])("comes to the same weights, bit by bit: %s", { timeout: 60_000 }, async (_, placeOf, argsOf) => {
    const place = placeOf();
    const runs = JSON.stringify([svm, network]);
    const killed = startJob(join(programs, "test/examples/digits-killed.js"), place, `${ROUNDS / 2}`, runs);
    expect(await killed.ended).toEqual({ code: "SIGKILL", stdout: "", stderr: "" });

    const settings = ["--workers", "3", "--rounds", `${ROUNDS}`, "--seed", "7", "--json"];
    const again = await runJob(join(programs, "examples/digits/main.js"), ...argsOf(place), ...settings);
    expect(again).toMatchObject({ code: 0, stderr: "" });
    const { models: reports } = JSON.parse(again.stdout) as Report;
    expect(reports.map(resultOf)).toEqual(undisturbed.map(resultOf));
    expect(reports[0]!.roundsBefore).toBe(ROUNDS);
    expect(reports[1]!.roundsBefore).toBeGreaterThanOrEqual(ROUNDS / 2);
    expect(reports[1]!.roundsBefore).toBeLessThan(ROUNDS);
  });
});

describe("what a person is shown", () => {
  it("is a row for each model, who was mistaken for whom, and the worst mistakes", async () => {
    const net = undisturbed[1]!;
    const row = tableOf(undisturbed)
      .split("\n")
      .find((line) => line.includes("neural net"))!;
    expect(
      row
        .split("│")
        .map((text) => text.trim())
        .slice(1, -1),
    ).toEqual([
      "neural net 784-32-10",
      "25,450",
      `${shardCount(network)} + 3`,
      `${ROUNDS}`,
      "11,988",
      net.loss.toFixed(3),
      `${(100 * net.accuracy).toFixed(2)} %`,
      "0.0 s",
      net.fingerprint.slice(0, 8),
    ]);
    const sevens = confusionOf(net)
      .split("\n")
      .find((line) => line.startsWith("│ 7"))!;
    expect(sevens.split("│")[9]?.trim()).toBe(`${net.confusion[7]![7]}`);
    const drawn = drawingsOf(net, (await digits()).heldOut, 4).split("\n");
    expect(drawn).toHaveLength(2 * 12 + 1);
    expect(drawn[0]).toContain(`${net.mistakes[0]!.is}, read as ${net.mistakes[0]!.readAs}`);
    expect(drawn.join("")).toMatch(/█/);
    for (const line of [...drawn, row]) expect(line.length).toBeLessThanOrEqual(110);
  });

  it.each([
    [["--workers", "0"], /--workers is a whole number from 1 to 16/],
    [["--rounds", "many"], /--rounds is a whole number/],
    [["--seed=-1"], /--seed is a whole number/],
    [["--data", "here", "--nats", "127.0.0.1:4222"], /not both/],
    [["--epochs", "3"], /--epochs/],
  ])("is what is wrong with %j", async (args, text) => {
    const errors = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    expect(await execute(program, args, new AbortController().signal)).toBe(2);
    expect(errors.mock.calls.join("")).toMatch(text);
    errors.mockRestore();
  });
});
