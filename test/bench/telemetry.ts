/**
 * What telemetry costs: the same asks on a node without, one with metrics and 1 % of the traces, and one with all.
 *
 * The three take turns in short rounds of one process, so that whatever else the machine does meets all of them; each
 * round is compared with the one without beside it. Spans and metrics go through OpenTelemetry's SDK to exporters that
 * drop them. CPU time a round is of the whole process, so the SDK's work counts too.
 */
import { ExportResultCode } from "@opentelemetry/core";
import {
  AggregationTemporality,
  MeterProvider,
  PeriodicExportingMetricReader,
  type PushMetricExporter,
} from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, BatchSpanProcessor, type SpanExporter } from "@opentelemetry/sdk-trace-base";
import type { Telemetry } from "../../runtime/index.ts";
import { telemetry } from "../../runtime/telemetry/index.ts";
import {
  type Bench,
  type BenchOptions,
  closedLoop,
  CountingLoad,
  openBench,
  type Print,
  round,
} from "./harness.ts";

const ROUNDS_A_SECOND = 4;
const SHARES = { off: undefined, on: 0.01, all: 1 } as const;

type Mode = keyof typeof SHARES;

interface Side {
  readonly mode: Mode;
  readonly bench: Bench;
  readonly load: CountingLoad;
  readonly sdk: Sdk | undefined;
  readonly per_s: number[];
  readonly cpu_us: number[];
}

export async function telemetryCost(options: BenchOptions, print: Print): Promise<void> {
  const { inFlight = 1_024, keys = 1_000, seconds } = options;
  const sides: Side[] = [];
  try {
    for (const mode of Object.keys(SHARES) as Mode[]) sides.push(await open(options, mode, keys));
    for (const side of sides) await closedLoop(inFlight, 1, side.load.next);
    for (const { per_s, cpu_us } of sides) per_s.length = cpu_us.length = 0;
    const rounds = Math.max(3, Math.round(seconds * ROUNDS_A_SECOND));
    for (let n = 0; n < rounds; n++) {
      // Another one first in every round.
      for (let at = 0; at < sides.length; at++)
        await measure(sides[(n + at) % sides.length] as Side, inFlight, 1 / ROUNDS_A_SECOND);
    }
    const off = sides[0] as Side;
    for (const { mode, load, sdk, per_s, cpu_us } of sides) {
      await load.verify();
      print({
        name: "telemetry",
        store: options.store,
        ...(options.store === "memory" ? {} : { durability: options.durability }),
        in_flight: inFlight,
        keys,
        mode,
        per_s: Math.round(median(per_s)),
        cpu_us: round(median(cpu_us), 2),
        spans: sdk?.spans ?? 0,
        ratio: round(median(per_s.map((value, n) => value / (off.per_s[n] as number))), 3),
        cpu_ratio: round(median(cpu_us.map((value, n) => value / (off.cpu_us[n] as number))), 3),
        ratio_to: "off",
      });
    }
  } finally {
    for (const { bench, sdk } of sides) {
      await bench.end();
      await sdk?.end();
    }
  }
}

async function open(options: BenchOptions, mode: Mode, keys: number): Promise<Side> {
  const share = SHARES[mode];
  const sdk = share === undefined ? undefined : new Sdk(share);
  const bench = await openBench(options, {}, sdk?.telemetry);
  const load = new CountingLoad(bench.node, keys);
  for (let key = 0; key < keys; key += 1_024)
    await Promise.all(Array.from({ length: Math.min(1_024, keys - key) }, (_, n) => load.ask(key + n)));
  return { mode, bench, load, sdk, per_s: [], cpu_us: [] };
}

async function measure({ load, per_s, cpu_us }: Side, inFlight: number, seconds: number): Promise<void> {
  const before = process.cpuUsage();
  const { count, per_s: speed } = await closedLoop(inFlight, seconds, load.next);
  const { user, system } = process.cpuUsage(before);
  per_s.push(speed);
  cpu_us.push((user + system) / count);
}

/** As a program sets it up, with exporters that drop what they get. */
class Sdk {
  spans = 0;
  readonly telemetry: Telemetry;
  readonly #traces: BasicTracerProvider;
  readonly #metrics: MeterProvider;

  constructor(sample: number) {
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
    // Room for all, or a part of the spans would cost nothing because it is dropped.
    const processor = new BatchSpanProcessor(spans, { maxQueueSize: 1_000_000, maxExportBatchSize: 8_192 });
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
    });
  }

  async end(): Promise<void> {
    await this.#traces.shutdown();
    await this.#metrics.shutdown();
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
