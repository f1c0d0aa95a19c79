/**
 * One side of the telemetry bench, in a process of its own: a node and its load, which runs when it is told to.
 *
 * Owns its node. Talks to telemetry.ts over the channel between the processes.
 */
import { ExportResultCode } from "@opentelemetry/core";
import {
  AggregationTemporality,
  MeterProvider,
  PeriodicExportingMetricReader,
  type PushMetricExporter,
} from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, BatchSpanProcessor, type SpanExporter } from "@opentelemetry/sdk-trace-base";
import { Tally } from "../../runtime/engine/tally.ts";
import type { Telemetry } from "../../runtime/index.ts";
import { telemetry } from "../../runtime/telemetry/index.ts";
import { type BenchOptions, closedLoop, CountingLoad, openBench } from "./harness.ts";

/** What a side does about telemetry. */
export const MODES = {
  off: "nothing: what a node does by itself",
  again: "the same once more: what comes of chance",
  uncounted: "as off, and the counts for metrics are taken out from outside",
  on: "as it is by itself: metrics, and 1 % of the traces, 100 a second at most",
  unbounded: "metrics and 1 % of the traces, however many that are",
  all: "metrics and all traces",
} as const;
export type Mode = keyof typeof MODES;

const SHARES: Readonly<Partial<Record<Mode, number>>> = { on: 0.01, unbounded: 0.01, all: 1 };

export interface SideOptions {
  readonly mode: Mode;
  readonly bench: BenchOptions;
  readonly inFlight: number;
  readonly keys: number;
}

/** To a side: run for so long, or verify everything and end. */
export type ToSide = { readonly seconds: number } | { readonly end: true };

export interface FromSide {
  readonly count: number;
  readonly per_s: number;
  /** Processor time of the whole process for an ask, microseconds; the SDK's work counts too. */
  readonly cpu_us: number;
  /** So far. */
  readonly spans: number;
}

/** OpenTelemetry as a program sets it up, with exporters that drop what they get. */
class Sdk {
  spans = 0;
  readonly telemetry: Telemetry;
  readonly #traces: BasicTracerProvider;
  readonly #metrics: MeterProvider;

  constructor(sample: number, perSecond: number | undefined) {
    const spans: SpanExporter = {
      export: (batch, done) => {
        this.spans += batch.length;
        done({ code: ExportResultCode.SUCCESS });
      },
      shutdown: () => Promise.resolve(),
    };
    const metrics: PushMetricExporter = {
      export: (_metrics, done) => done({ code: ExportResultCode.SUCCESS }),
      selectAggregationTemporality: () => AggregationTemporality.CUMULATIVE,
      forceFlush: () => Promise.resolve(),
      shutdown: () => Promise.resolve(),
    };
    // Room for all, or a part of the spans would cost nothing because it is dropped. They are exported by the SDK's own
    // batches of 512: larger ones are held so long that the garbage collector copies them again and again.
    const processor = new BatchSpanProcessor(spans, { maxQueueSize: 1_000_000 });
    this.#traces = new BasicTracerProvider({ spanProcessors: [processor] });
    const reader = new PeriodicExportingMetricReader({
      exporter: metrics,
      exportIntervalMillis: 1_000,
      exportTimeoutMillis: 1_000,
    });
    this.#metrics = new MeterProvider({ readers: [reader] });
    this.telemetry = telemetry({
      tracer: this.#traces.getTracer("bench"),
      meter: this.#metrics.getMeter("bench"),
      sample,
      ...(perSecond === undefined ? {} : { perSecond }),
    });
  }

  async end(): Promise<void> {
    await this.#traces.shutdown();
    await this.#metrics.shutdown();
  }
}

function stopCounting(): void {
  for (const method of ["look", "committed", "released"] as const) Tally.prototype[method] = () => undefined;
}

async function run({ mode, bench: options, inFlight, keys }: SideOptions): Promise<void> {
  if (mode === "uncounted") stopCounting();
  const share = SHARES[mode];
  const sdk =
    share === undefined ? undefined : new Sdk(share, mode === "on" ? undefined : Number.POSITIVE_INFINITY);
  const bench = await openBench(options, {}, sdk?.telemetry);
  const load = new CountingLoad(bench.node, keys);
  for (let key = 0; key < keys; key += 1_024)
    await Promise.all(Array.from({ length: Math.min(1_024, keys - key) }, (_, n) => load.ask(key + n)));
  const measure = async (seconds: number): Promise<FromSide> => {
    const before = process.cpuUsage();
    const { count, per_s } = await closedLoop(inFlight, seconds, load.next);
    const { user, system } = process.cpuUsage(before);
    return { count, per_s, cpu_us: (user + system) / count, spans: sdk?.spans ?? 0 };
  };
  const end = async (): Promise<void> => {
    await load.verify();
    await bench.end();
    await sdk?.end();
    process.disconnect();
  };
  process.on("message", (message: ToSide) => {
    const done = "end" in message ? end() : measure(message.seconds).then((found) => process.send?.(found));
    done.catch((error: unknown) => {
      console.error(error);
      process.exit(1);
    });
  });
  // Without who asks nobody would end it.
  process.once("disconnect", () => process.exit());
  process.send?.({ count: 0, per_s: 0, cpu_us: 0, spans: 0 } satisfies FromSide);
}

if (process.argv[1] === import.meta.filename) await run(JSON.parse(process.argv[2] as string) as SideOptions);
