/**
 * Each thing that a node's metrics are to show is made to happen, and is read as others would: out of Prometheus's text,
 * by its grammar, and by OpenTelemetry's own reader.
 */
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import { expect, it, onTestFinished } from "vitest";
import { memory } from "../runtime/index.ts";
import { prometheus, telemetry } from "../runtime/telemetry/index.ts";
import { FaultStore } from "./support/fault-store.ts";
import { failure, keyIn, type Rig, rig } from "./support/probe.ts";
import { parsed } from "./support/prometheus-text.ts";
import { inPromise, relay } from "./support/traced.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

type Labels = Readonly<Record<string, string>>;
/** A histogram's value is its count. */
type Read = (name: string, labels?: Labels) => Promise<number>;

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

function fromText(r: Rig): Read {
  return async (name, labels = {}) => {
    const family = parsed(prometheus(r.node.metrics())).get(name);
    if (family === undefined) throw new Error(`There is no ${name}.`);
    const sample = family.type === "histogram" ? `${name}_count` : name;
    const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
    return sum(
      [...family.samples]
        .filter(([key]) => key.startsWith(`${sample}{`) && wanted.every((text) => key.includes(text)))
        .map(([, value]) => value),
    );
  };
}

class OtelReader {
  readonly #exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  readonly #reader = new PeriodicExportingMetricReader({
    exporter: this.#exporter,
    exportIntervalMillis: 3_600_000,
  });
  readonly #provider = new MeterProvider({ readers: [this.#reader] });
  readonly telemetry = telemetry({ tracer: false, meter: this.#provider.getMeter("test") });

  readonly read: Read = async (name, labels = {}) => {
    this.#exporter.reset();
    await this.#reader.forceFlush();
    const dotted = name.replace(/_total$|_seconds$/, "").replaceAll("_", ".");
    const metrics = this.#exporter
      .getMetrics()
      .flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((s) => s.metrics));
    const metric = metrics.find(({ descriptor }) => descriptor.name === dotted);
    return sum(
      (metric?.dataPoints ?? [])
        .filter(({ attributes }) =>
          Object.entries(labels).every(([label, text]) => attributes[`keyturn.${label}`] === text),
        )
        .map(({ value }) => (typeof value === "number" ? value : value.count)),
    );
  };

  async end(): Promise<void> {
    await this.#provider.shutdown();
  }
}

interface Scene {
  readonly world: VirtualWorld;
  readonly store: FaultStore;
  readonly r: Rig;
  /** Keys in shards of their own. */
  readonly keys: readonly [string, string];
  is(name: string, value: number, labels?: Labels): Promise<void>;
}

const pass = (via: string[] = []) => ({ type: "pass" as const, via });

/** By what the metrics are to show. */
const SCENES: Readonly<Record<string, (scene: Scene) => Promise<void>>> = {
  "turns and their latency": async ({ world, r, keys: [a, b], is }) => {
    await is("keyturn_turns_total", 0);
    await world.run(r.node.client.actor(relay, a).ask(pass([b])));
    await world.settle();
    await is("keyturn_turns_total", 1, { source: "request", type: "relay" });
    await is("keyturn_turns_total", 1, { source: "told", type: "relay" });
    await is("keyturn_turn_duration_seconds", 2);
  },
  "batches and the latency of commits": async ({ world, store, r, keys: [a], is }) => {
    const before = store.appends;
    const ref = r.node.client.actor(relay, a);
    await world.run(ref.send(pass()));
    await world.run(Promise.all([1, 2, 3].map(() => ref.send(pass()))));
    await is("keyturn_batch_records", store.appends - before);
    await is("keyturn_commit_duration_seconds", store.appends - before);
  },
  "how many messages wait": async ({ world, store, r, keys: [a], is }) => {
    store.snapshotReadGate.close();
    const sent = [1, 2, 3].map(() => r.node.client.actor(relay, a).send(pass()));
    await world.settle();
    await is("keyturn_waiting_messages", 3, { for: "load" });
    store.snapshotReadGate.open();
    await world.run(Promise.all(sent));
    await is("keyturn_waiting_messages", 0);
  },
  "activations, and how many messages found their actor in memory": async ({
    world,
    r,
    keys: [a, b],
    is,
  }) => {
    for (const key of [a, a, b]) await world.run(r.node.client.actor(relay, key).send(pass()));
    await is("keyturn_activations_total", 2);
    await is("keyturn_actors_active", 2);
    await is("keyturn_actor_lookups_total", 2, { result: "miss" });
    await is("keyturn_actor_lookups_total", 1, { result: "hit" });
  },
  "timers that are due, and how late they are": async ({ world, r, keys: [a], is }) => {
    await world.run(r.node.client.actor(relay, a).send({ type: "later", after_ms: 2_000 }));
    await is("keyturn_timers_due_actors", 1);
    await is("keyturn_timer_lateness_seconds", 0);
    await world.advance(3_000);
    await is("keyturn_timers_due_actors", 0);
    await is("keyturn_timer_lateness_seconds", 1);
    await is("keyturn_turns_total", 1, { source: "timer" });
  },
  "how far the last checkpoint is behind": async ({ world, r, keys: [a], is }) => {
    for (let n = 0; n < 3; n++) await world.run(r.node.client.actor(relay, a).send(pass()));
    await is("keyturn_checkpoint_lag_records", 3);
    await world.run(r.node.checkpoint());
    await is("keyturn_checkpoint_lag_records", 0);
    await is("keyturn_checkpoints_total", 1);
  },
  "told messages that are not acknowledged, and those that came again": async ({
    world,
    store,
    r,
    keys: [a, b],
    is,
  }) => {
    store.loses = (_subject, frame) => frame.kind === "ack";
    await world.run(r.node.client.actor(relay, a).send(pass([b])));
    await world.settle();
    await is("keyturn_outbox_messages", 1);
    await world.advance(5_000);
    store.loses = () => false;
    await world.advance(30_000);
    await is("keyturn_outbox_messages", 0);
    await is("keyturn_turns_total", 1, { source: "told" });
    expect(await fromText(r)("keyturn_repeats_total", { by: "told" })).toBeGreaterThan(0);
  },
  "requests that came again": async ({ world, store, r, keys: [a], is }) => {
    const ref = r.node.client.actor(relay, a);
    await world.run(ref.send(pass(), { requestId: "once" }));
    await world.run(ref.send(pass(), { requestId: "once" }));
    await is("keyturn_repeats_total", 1, { by: "request_id" });
    let lost = 0;
    store.loses = (subject) => subject.startsWith("client.") && lost++ === 0;
    await world.run(ref.send(pass()));
    await is("keyturn_repeats_total", 1, { by: "channel" });
    await is("keyturn_turns_total", 2);
  },
  "dead letters and refusals": async ({ world, r, keys: [a], is }) => {
    const ref = r.node.client.actor(relay, a);
    await world.run(ref.send({ type: "lose" }));
    await world.settle();
    await is("keyturn_dead_letters_total", 1);
    await world.run(failure(ref.send({ type: "break" })));
    await is("keyturn_refusals_total", 1, { code: "machine_failed" });
  },
  "promises that run": async ({ world, r, keys: [a], is }) => {
    let end = (): void => undefined;
    inPromise.until = new Promise((resolve) => (end = resolve));
    await world.run(r.node.client.actor(relay, a).send({ type: "work" }));
    await is("keyturn_promises", 1, { state: "running" });
    inPromise.until = undefined;
    end();
    await world.settle();
    await is("keyturn_promises", 0);
    await is("keyturn_turns_total", 1, { source: "work" });
  },
  "shards that are handed over": async ({ world, store, is }) => {
    await is("keyturn_shards_serving", 4);
    const two = await rig({ world, store: new FaultStore(store.inner), actors: [relay], name: "two" });
    await world.advance(20_000);
    const moved = two.node.shards.length;
    expect(moved).toBeGreaterThan(0);
    await is("keyturn_shards_released_total", moved);
    await is("keyturn_shards_serving", 4 - moved);
    two.node.kill();
  },
};

it.each(Object.keys(SCENES))("metrics show %s", async (what) => {
  const otel = new OtelReader();
  onTestFinished(() => otel.end());
  const world = new VirtualWorld();
  const store = new FaultStore(memory());
  const r = await rig({ world, store, actors: [relay], shards: 4, telemetry: otel.telemetry });
  const text = fromText(r);
  await SCENES[what]?.({
    world,
    store,
    r,
    keys: [keyIn(r.node, relay, 0), keyIn(r.node, relay, 1)],
    async is(name, value, labels) {
      expect({ name, labels, text: await text(name, labels), otel: await otel.read(name, labels) }).toEqual({
        name,
        labels,
        text: value,
        otel: value,
      });
    },
  });
  r.node.kill();
});
