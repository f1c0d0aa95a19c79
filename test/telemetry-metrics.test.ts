/** Metrics and logs: what a known run did is what they say, in plain form, for Prometheus and in OpenTelemetry. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Writable } from "node:stream";
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import { pino } from "pino";
import { describe, expect, it } from "vitest";
import { KeyturnError, type KeyturnNode, memory, type NodeMetrics, startNode } from "../runtime/index.ts";
import { logTo, prometheus, serveMetrics, telemetry } from "../runtime/telemetry/index.ts";
import { parsed } from "./support/prometheus-text.ts";
import { FaultStore } from "./support/fault-store.ts";
import { failure, keyIn, rig } from "./support/probe.ts";
import { relay } from "./support/traced.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

type Labels = Readonly<Record<string, string>>;

/** A sample's value; 0 if there is none with these labels. */
function valueIn(metrics: NodeMetrics, name: string, labels: Labels = {}): number {
  const metric = metrics.find((one) => one.name === name);
  if (metric === undefined) throw new Error(`There is no ${name}.`);
  const all: readonly { labels: Labels; value?: number; count?: number }[] =
    metric.kind === "histogram" ? metric.histograms : metric.points;
  const found = all.find((point) =>
    Object.entries(labels).every(([label, text]) => point.labels[label] === text),
  );
  return found?.value ?? found?.count ?? 0;
}

/** A run whose counts are known; its keys are in three shards. */
async function knownRun(node: KeyturnNode): Promise<void> {
  const [a = "", b = "", c = ""] = [0, 1, 2].map((shard) => keyIn(node, relay, shard));
  const ref = node.client.actor(relay, a);
  for (let n = 0; n < 3; n++) await ref.ask({ type: "pass", via: [b, c] });
  for await (const state of node.client.actor(relay, c).watch()) if (state.context.passed === 3) break;
  await ref.send({ type: "pass", via: [] }, { requestId: "once" });
  await ref.send({ type: "pass", via: [] }, { requestId: "once" });
  await failure(ref.send({ type: "break" }));
  // A type that is not there: it becomes a dead letter, and nobody waits for it.
  await ref.send({ type: "lose" });
  while ((await node.deadLetters()).length === 0) await node.client.pause(1);
  await ref.send({ type: "work" });
  for await (const state of ref.watch()) if (state.value === "idle") break;
  await ref.send({ type: "later", after_ms: 1 });
  for await (const state of ref.watch()) if (state.value === "idle") break;
  await node.checkpoint();
}

/** What they say of it, as name, labels and value. */
const KNOWN: readonly [string, Labels, number][] = [
  // 3 asked, 1 of two with an id, 1 to nobody, 1 each that begin work and a delay.
  ["keyturn_turns_total", { type: "relay", source: "request" }, 7],
  ["keyturn_turns_total", { type: "relay", source: "told" }, 6],
  ["keyturn_turns_total", { type: "relay", source: "timer" }, 1],
  ["keyturn_turns_total", { type: "relay", source: "work" }, 1],
  ["keyturn_refusals_total", { code: "machine_failed" }, 1],
  ["keyturn_repeats_total", { by: "request_id" }, 1],
  ["keyturn_dead_letters_total", {}, 1],
  // Three relays and nobody.
  ["keyturn_activations_total", {}, 3],
  ["keyturn_actors_active", {}, 4],
  ["keyturn_shards_serving", {}, 4],
  ["keyturn_shards_taken_total", {}, 4],
  ["keyturn_shards_released_total", {}, 0],
  ["keyturn_checkpoints_total", {}, 1],
  ["keyturn_checkpoint_lag_records", {}, 0],
  ["keyturn_waiting_messages", { for: "step" }, 0],
  ["keyturn_waiting_messages", { for: "load" }, 0],
  ["keyturn_outbox_messages", {}, 0],
  ["keyturn_promises", { state: "running" }, 0],
];

describe("metrics", () => {
  it("count what was done, exactly", async () => {
    const node = await startNode({ actors: [relay], store: memory(), shards: 4, name: "n" });
    await knownRun(node);
    const metrics = node.metrics();
    for (const [name, labels, value] of KNOWN)
      expect([name, labels, valueIn(metrics, name, labels)]).toEqual([name, labels, value]);
    expect(valueIn(metrics, "keyturn_turn_duration_seconds")).toBe(15);
    expect(valueIn(metrics, "keyturn_timer_lateness_seconds")).toBe(1);
    expect(valueIn(metrics, "keyturn_journal_bytes_total")).toBeGreaterThan(0);
    // Every record is in some batch: the turns, and the refusal of what nobody took.
    const batches = metrics.find(({ name }) => name === "keyturn_batch_records");
    expect(batches?.kind === "histogram" && batches.histograms[0]?.sum).toBe(16);
    await node.stop();
    expect(valueIn(node.metrics(), "keyturn_shards_serving")).toBe(0);
  });

  it("count who found an actor in memory, what came again over a channel, and what waits", async () => {
    const world = new VirtualWorld();
    const store = new FaultStore();
    const r = await rig({ world, store, actors: [relay] });
    const ref = r.node.client.actor(relay, "a");
    store.snapshotReadGate.close();
    const first = [1, 2, 3].map(() => ref.send({ type: "pass", via: [] }));
    await world.settle();
    expect(valueIn(r.node.metrics(), "keyturn_waiting_messages", { for: "load" })).toBe(3);
    store.snapshotReadGate.open();
    await world.run(Promise.all(first));
    await world.run(ref.send({ type: "pass", via: [] }));
    const lookups = (result: string): number =>
      valueIn(r.node.metrics(), "keyturn_actor_lookups_total", { result });
    expect([lookups("miss"), lookups("hit")]).toEqual([3, 1]);
    // The answer is lost, so that the request comes again.
    let lost = 0;
    store.loses = (subject) => subject.startsWith("client.") && lost++ === 0;
    await world.run(ref.send({ type: "pass", via: [] }));
    expect(valueIn(r.node.metrics(), "keyturn_repeats_total", { by: "channel" })).toBe(1);
    expect(valueIn(r.node.metrics(), "keyturn_turns_total", { source: "request" })).toBe(5);
    r.node.kill();
  });

  it("go on when a node was fenced, and count the shards that move", async () => {
    const world = new VirtualWorld();
    const inner = memory();
    const one = await rig({ world, store: new FaultStore(inner), actors: [relay], name: "one" });
    await world.run(one.node.client.actor(relay, "a").send({ type: "pass", via: [] }));
    const two = await rig({ world, store: new FaultStore(inner), actors: [relay], name: "two" });
    await world.advance(20_000);
    const moved = two.node.shards.length;
    expect(moved).toBeGreaterThan(0);
    expect(valueIn(one.node.metrics(), "keyturn_shards_released_total")).toBe(moved);
    expect(valueIn(two.node.metrics(), "keyturn_shards_taken_total")).toBe(moved);
    // What a fence does.
    one.node.incarnation.ownership.lose();
    await world.advance(60_000);
    expect(valueIn(one.node.metrics(), "keyturn_fenced_total")).toBe(1);
    expect(valueIn(one.node.metrics(), "keyturn_turns_total", { source: "request" })).toBe(1);
    one.node.kill();
    two.node.kill();
  });
});

describe("Prometheus", () => {
  it("reads the metrics of two nodes from any server, with histograms that add up", async () => {
    const store = memory();
    const node = await startNode({ actors: [relay], store, shards: 4, name: "n" });
    await knownRun(node);
    const other = await startNode({ actors: [relay], store: memory(), shards: 4, name: "m" });
    const server = createServer(serveMetrics(() => [node.metrics(), other.metrics()]));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
    const answer = await fetch(url);
    expect(answer.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    const families = parsed(await answer.text());
    expect((await fetch(url, { method: "POST" })).status).toBe(405);
    server.close();
    expect(families.get("keyturn_turns_total")).toEqual({
      type: "counter",
      samples: new Map([
        ['keyturn_turns_total{type="relay",source="request",node="n"}', 7],
        ['keyturn_turns_total{type="relay",source="told",node="n"}', 6],
        ['keyturn_turns_total{type="relay",source="timer",node="n"}', 1],
        ['keyturn_turns_total{type="relay",source="work",node="n"}', 1],
      ]),
    });
    expect([...(families.get("keyturn_shards_serving")?.samples.values() ?? [])]).toEqual([4, 4]);
    const durations = families.get("keyturn_turn_duration_seconds");
    const buckets = [...(durations?.samples ?? [])].filter(
      ([key]) => key.includes("_bucket") && key.includes('node="n"'),
    );
    const counts = buckets.map(([, count]) => count);
    expect(counts).toEqual([...counts].sort((x, y) => x - y));
    expect(counts.at(-1)).toBe(15);
    expect(durations?.samples.get('keyturn_turn_duration_seconds_count{node="n"}')).toBe(15);
    for (const metric of node.metrics()) expect(families.get(metric.name)?.type).toBe(metric.kind);
    await node.stop();
    await other.stop();
  });

  it("gets label values and numbers that are hard to write", () => {
    const text = prometheus([
      {
        name: "hard_total",
        help: "One\nline, with \\.",
        unit: "",
        kind: "counter",
        points: [
          { labels: { type: 'a"b\\c\nd' }, value: 1e21 },
          { labels: { type: "inf" }, value: Number.POSITIVE_INFINITY },
        ],
      },
    ]);
    expect(text).toBe(
      '# HELP hard_total One\\nline, with \\\\.\n# TYPE hard_total counter\nhard_total{type="a\\"b\\\\c\\nd"} 1e+21\nhard_total{type="inf"} +Inf\n',
    );
  });
});

describe("OpenTelemetry's metrics", () => {
  it("are the same counts, read when they are exported, and histograms told once a batch", async () => {
    const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
    const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
    const provider = new MeterProvider({ readers: [reader] });
    const node = await startNode({
      actors: [relay],
      store: memory(),
      shards: 4,
      name: "n",
      telemetry: telemetry({ tracer: false, meter: provider.getMeter("test") }),
    });
    await knownRun(node);
    await reader.forceFlush();
    const [exported] = exporter.getMetrics();
    const all = exported?.scopeMetrics.flatMap(({ metrics }) => metrics) ?? [];
    const found = (name: string, labels: Labels = {}): unknown =>
      all
        .find(({ descriptor }) => descriptor.name === name)
        ?.dataPoints.find(({ attributes }) =>
          Object.entries(labels).every(([label, text]) => attributes[`keyturn.${label}`] === text),
        )?.value;
    for (const [name, labels, value] of KNOWN) {
      const dotted = name.replace("_total", "").replaceAll("_", ".");
      expect([name, labels, found(dotted, { ...labels, node: "n" })]).toEqual([name, labels, value]);
    }
    const plain = node.metrics().find(({ name }) => name === "keyturn_batch_records");
    const batches = plain?.kind === "histogram" ? plain.histograms[0] : undefined;
    expect(found("keyturn.batch.records")).toMatchObject({ count: batches?.count, sum: 16 });
    expect(found("keyturn.commit.duration")).toMatchObject({ count: batches?.count });
    // Its batches were small, so that all turns of them were told; and the refusal of what nobody took.
    expect(found("keyturn.turn.duration")).toMatchObject({ count: 16 });
    expect(found("keyturn.timer.lateness")).toMatchObject({ count: 1 });
    const units = new Map(all.map(({ descriptor }) => [descriptor.name, descriptor.unit]));
    expect(units.get("keyturn.turn.duration")).toBe("s");
    expect(units.get("keyturn.journal.bytes")).toBe("By");
    await node.stop();
    await provider.shutdown();
  });

  it("read each node that there is, and none that has ended", async () => {
    const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
    const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
    const provider = new MeterProvider({ readers: [reader] });
    const port = telemetry({ tracer: false, meter: provider.getMeter("test") });
    const reads = { n: 0, m: 0 };
    const reading = (node: "n" | "m") => (): NodeMetrics => {
      reads[node]++;
      return [
        { name: "x", help: "", unit: "", kind: "gauge", points: [{ labels: { node }, value: reads[node] }] },
      ];
    };
    const ends = [port.node("n", reading("n")), port.node("m", reading("m"))];
    // What instruments there are is read once.
    expect(reads).toEqual({ n: 1, m: 1 });
    await reader.forceFlush();
    expect(reads).toEqual({ n: 2, m: 2 });
    const points = exporter.getMetrics()[0]?.scopeMetrics[0]?.metrics[0]?.dataPoints;
    expect(points?.map(({ attributes, value }) => [attributes["keyturn.node"], value])).toEqual([
      ["n", 2],
      ["m", 2],
    ]);
    ends[0]?.();
    await reader.forceFlush();
    expect(reads).toEqual({ n: 2, m: 3 });
    ends[1]?.();
    await reader.forceFlush();
    expect(reads).toEqual({ n: 2, m: 3 });
    await provider.shutdown();
  });

  it("take only a share from 0 to 1", () => {
    for (const sample of [-1, 1.5, Number.NaN, "1" as unknown as number])
      expect(() => telemetry({ sample })).toThrow(KeyturnError);
  });
});

describe("logs", () => {
  function lines(): { log: ReturnType<typeof pino>; read: () => Record<string, unknown>[] } {
    const written: string[] = [];
    const stream = new Writable({
      write(chunk, _encoding, done) {
        written.push(String(chunk));
        done();
      },
    });
    return {
      log: pino({ level: "debug" }, stream),
      read: () => written.map((line) => JSON.parse(line) as Record<string, unknown>),
    };
  }

  it("are pino's lines for what a node reports", async () => {
    const { log, read } = lines();
    const node = await startNode({
      actors: [relay],
      store: memory(),
      shards: 2,
      observer: logTo(log),
      name: "n",
    });
    await node.stop();
    const said = read().map(({ event, level }) => [event, level]);
    expect(said).toEqual([
      ["shard_serving", 20],
      ["shard_serving", 20],
      ["joined", 30],
      ["shard_released", 20],
      ["shard_released", 20],
    ]);
  });

  it("say each at its level, the same trouble once, and no key where keys are not to be said", () => {
    const { log, read } = lines();
    const observer = logTo(log, { keys: false });
    const error = new KeyturnError("corrupt_snapshot", "It is damaged.");
    observer.shardFailed?.(3, error);
    for (let n = 0; n < 5; n++) observer.troubled?.("checkpoint", new Error("no room"));
    observer.troubled?.("checkpoint", new Error("no way"));
    observer.actionFailed?.("person.ada", "mail", new Error("down"));
    observer.logged?.("person.ada", undefined, { seen: 1 });
    const said = read();
    expect(said.map(({ level, event }) => [level, event])).toEqual([
      [50, "shard_failed"],
      [40, "troubled"],
      [40, "troubled"],
      [50, "action_failed"],
      [30, "logged"],
    ]);
    expect(said[0]).toMatchObject({ shard: 3, code: "corrupt_snapshot", err: { message: "It is damaged." } });
    expect(said[4]).toMatchObject({ type: "person", value: { seen: 1 } });
    expect(JSON.stringify(said)).not.toContain("ada");
  });
});
