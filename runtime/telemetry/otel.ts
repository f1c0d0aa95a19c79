/**
 * The telemetry port on OpenTelemetry's API.
 *
 * Owns the instruments. A meter's counters and gauges are read from the node's metrics when they are exported, so that
 * counting costs nothing; only histograms have to be told, and are told once a batch. Talks to `traces.ts`.
 *
 * Names of instruments are those of the Prometheus endpoint with dots, without `_total` and units, as OpenTelemetry has
 * them: `keyturn_turn_duration_seconds` is `keyturn.turn.duration` with the unit `s`.
 */
import {
  type Attributes,
  type BatchObservableResult,
  context,
  type Histogram,
  type Meter,
  metrics as globalMetrics,
  type Observable,
  trace as globalTrace,
  type Tracer,
} from "@opentelemetry/api";
import type { Metric, NodeMetrics } from "../engine/metrics.ts";
import type { BatchCommit, Telemetry } from "../engine/telemetry.ts";
import { KeyturnError } from "../words/errors.ts";
import { contextOf, isActive, requestSpan, turnSpan } from "./traces.ts";

export interface TelemetryOptions {
  /** Where spans go; the tracer `keyturn` of the global provider by default, `false` for none. */
  readonly tracer?: Tracer | false;
  /** Where metrics go; the meter `keyturn` of the global provider by default, `false` for none. */
  readonly meter?: Meter | false;
  /**
   * Share of traces that are begun here, 0 to 1; 0.01 by default. It decides for requests without a trace, timers and
   * work; what belongs to a trace already is recorded if that one is. The program's own sampler is asked after it.
   */
  readonly sample?: number;
  /**
   * How many of those each node and each client begins a second at most, so that what they cost is bounded; 100 by
   * default, `Infinity` for all that are drawn.
   */
  readonly perSecond?: number;
  /** Whether spans show the actors' keys; false by default, since they often name people. */
  readonly keys?: boolean;
}

const NAME = "keyturn";

/**
 * Traces and metrics for `startNode({ telemetry })` and `connect({ telemetry })`; one may serve several of them.
 * Set up the program's SDK before: what is global is taken at this moment.
 * @throws KeyturnError `invalid_options`
 */
export function telemetry(options: TelemetryOptions = {}): Telemetry {
  const { sample = 0.01, perSecond = 100, keys = false } = options;
  if (!(typeof sample === "number" && sample >= 0 && sample <= 1))
    throw new KeyturnError("invalid_options", `sample is a number from 0 to 1, not ${String(sample)}.`);
  if (!(typeof perSecond === "number" && perSecond > 0))
    throw new KeyturnError("invalid_options", `perSecond is a number above 0, not ${String(perSecond)}.`);
  const tracer = options.tracer ?? globalTrace.getTracer(NAME);
  const meter = options.meter ?? globalMetrics.getMeter(NAME);
  const traces = tracer === false ? undefined : { tracer, keys };
  const instruments = meter === false ? undefined : new Instruments(meter);
  return {
    sample: traces === undefined ? 0 : sample,
    perSecond,
    active: () => traces !== undefined && isActive(),
    turn: (start) => traces && turnSpan(traces, start),
    request: (start) => traces && requestSpan(traces, start),
    within: (trace, run) => context.with(contextOf(trace), run),
    batch: instruments && ((commit) => instruments.batch(commit)),
    node: (_name, metrics) => instruments?.observe(metrics) ?? ((): void => undefined),
  };
}

class Instruments {
  readonly #meter: Meter;
  readonly #histograms = new Map<string, Histogram>();
  readonly #observables = new Map<string, Observable>();
  readonly #nodes = new Set<() => NodeMetrics>();

  constructor(meter: Meter) {
    this.#meter = meter;
  }

  batch({ records, duration_s, turns_s, lateness_s }: BatchCommit): void {
    this.#histograms.get("keyturn_batch_records")?.record(records);
    this.#histograms.get("keyturn_commit_duration_seconds")?.record(duration_s);
    const turns = this.#histograms.get("keyturn_turn_duration_seconds");
    for (const turn_s of turns_s) turns?.record(turn_s);
    const late = this.#histograms.get("keyturn_timer_lateness_seconds");
    for (const late_s of lateness_s) late?.record(late_s);
  }

  /** Instruments are made once, for the first node; all nodes are read with each export. */
  observe(read: () => NodeMetrics): () => void {
    const first = this.#nodes.size === 0;
    this.#nodes.add(read);
    for (const metric of read()) this.#make(metric);
    if (first) this.#meter.addBatchObservableCallback(this.#report, [...this.#observables.values()]);
    return () => {
      this.#nodes.delete(read);
      if (this.#nodes.size === 0)
        this.#meter.removeBatchObservableCallback(this.#report, [...this.#observables.values()]);
    };
  }

  #make(metric: Metric): void {
    const { name, help: description, unit } = metric;
    if (this.#observables.has(name) || this.#histograms.has(name)) return;
    const options = { description, unit };
    const dotted = dottedName(name);
    if (metric.kind === "histogram") {
      const explicitBucketBoundaries = metric.histograms[0]?.buckets.map(({ upTo }) => upTo) ?? [];
      const advice = { advice: { explicitBucketBoundaries } };
      this.#histograms.set(name, this.#meter.createHistogram(dotted, { ...options, ...advice }));
    } else if (metric.kind === "counter")
      this.#observables.set(name, this.#meter.createObservableCounter(dotted, options));
    else this.#observables.set(name, this.#meter.createObservableGauge(dotted, options));
  }

  readonly #report = (result: BatchObservableResult): void => {
    for (const read of this.#nodes) {
      for (const metric of read()) {
        const observable = this.#observables.get(metric.name);
        if (metric.kind === "histogram" || observable === undefined) continue;
        for (const { labels, value } of metric.points)
          result.observe(observable, value, attributesOf(labels));
      }
    }
  };
}

function attributesOf(labels: Readonly<Record<string, string>>): Attributes {
  return Object.fromEntries(Object.entries(labels).map(([name, value]) => [`keyturn.${name}`, value]));
}

/** `keyturn_journal_bytes_total` is `keyturn.journal.bytes`. */
function dottedName(name: string): string {
  return name.replace(/_total$|_seconds$/, "").replaceAll("_", ".");
}
