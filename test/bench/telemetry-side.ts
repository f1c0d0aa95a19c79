/**
 * One generation of the telemetry bench, in a process of its own: four nodes and their loads, two of a mode and two that
 * are off, which run in turns.
 *
 * Owns the nodes. Tells telemetry.ts what came of it over the channel between the processes.
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
import { type Bench, type BenchOptions, closedLoop, CountingLoad, median, openBench } from "./harness.ts";

/** What is compared with a node by itself. */
export const COMPARED = {
  again: "the same once more: what comes of chance",
  uncounted: "the counts for metrics are taken out from outside",
  on: "as telemetry is by itself: metrics, and 1 % of the traces, 100 a second at most",
  unbounded: "metrics and 1 % of the traces, however many that are",
  all: "metrics and all traces",
} as const;
export type Compared = keyof typeof COMPARED;

const SHARES: Readonly<Partial<Record<Compared, number>>> = { on: 0.01, unbounded: 0.01, all: 1 };
const SLICE_S = 0.4;
/**
 * So long they run before anything counts, all together: what happens rarely (a trace of a hundred) is compiled late, and
 * while it is, compiling it costs as much as it does.
 */
const WARM_S = 12;

export interface GenerationOptions {
  readonly mode: Compared;
  /** Whether the nodes of the mode are made first and last, or in between. */
  readonly first: boolean;
  readonly bench: BenchOptions;
  /** To measure for. */
  readonly seconds: number;
  readonly inFlight: number;
  readonly keys: number;
}

export interface Found {
  /** Of the mode. */
  readonly per_s: number;
  readonly spans: number;
  /** Medians of the rounds: throughput, and processor time for an ask, of the mode to off. */
  readonly ratio: number;
  readonly cpu_ratio: number;
}

interface Slice {
  readonly per_s: number;
  /** Processor time of the whole process for an ask, microseconds; the SDK's work counts too. */
  readonly cpu_us: number;
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

  /** What waits to be exported is. */
  async flush(): Promise<void> {
    await this.#traces.forceFlush();
    await this.#metrics.forceFlush();
  }

  async end(): Promise<void> {
    await this.#traces.shutdown();
    await this.#metrics.shutdown();
  }
}

class Side {
  readonly isOff: boolean;
  readonly #bench: Bench;
  readonly #load: CountingLoad;
  readonly #sdk: Sdk | undefined;
  readonly #inFlight: number;

  private constructor(
    isOff: boolean,
    bench: Bench,
    load: CountingLoad,
    sdk: Sdk | undefined,
    inFlight: number,
  ) {
    this.isOff = isOff;
    this.#bench = bench;
    this.#load = load;
    this.#sdk = sdk;
    this.#inFlight = inFlight;
  }

  static async open(mode: Compared | "off", options: GenerationOptions): Promise<Side> {
    const share = mode === "off" ? undefined : SHARES[mode];
    const sdk =
      share === undefined ? undefined : new Sdk(share, mode === "on" ? undefined : Number.POSITIVE_INFINITY);
    const bench = await openBench(options.bench, {}, sdk?.telemetry);
    const { tally } = bench.node.incarnation.engine.parts;
    if (mode === "uncounted")
      for (const method of ["look", "committed", "released"] as const) tally[method] = () => undefined;
    const load = new CountingLoad(bench.node, options.keys);
    for (let key = 0; key < options.keys; key += 1_024)
      await Promise.all(
        Array.from({ length: Math.min(1_024, options.keys - key) }, (_, n) => load.ask(key + n)),
      );
    return new Side(mode === "off", bench, load, sdk, options.inFlight);
  }

  get spans(): number {
    return this.#sdk?.spans ?? 0;
  }

  async run(): Promise<Slice> {
    const before = process.cpuUsage();
    const begun = performance.now();
    const { count } = await closedLoop(this.#inFlight, SLICE_S, this.#load.next);
    // What it has caused is its own to pay for.
    await this.#sdk?.flush();
    const { user, system } = process.cpuUsage(before);
    return { per_s: (count / (performance.now() - begun)) * 1000, cpu_us: (user + system) / count };
  }

  async end(): Promise<void> {
    await this.#load.verify();
    await this.#bench.end();
    await this.#sdk?.end();
  }
}

/** @param numberOf of a slice */
function ratioOf(rounds: readonly ReadonlyMap<Side, Slice>[], numberOf: (slice: Slice) => number): number {
  return median(
    rounds.map((slices) => {
      let mode = 0;
      let off = 0;
      for (const [side, slice] of slices)
        if (side.isOff) off += numberOf(slice);
        else mode += numberOf(slice);
      return mode / off;
    }),
  );
}

async function run(options: GenerationOptions): Promise<Found> {
  const { mode, first, seconds } = options;
  const sides: Side[] = [];
  for (const one of first ? ([mode, "off", "off", mode] as const) : (["off", mode, mode, "off"] as const))
    sides.push(await Side.open(one, options));
  for (const end = performance.now() + WARM_S * 1000; performance.now() < end; )
    for (const side of sides) await side.run();
  const rounds: Map<Side, Slice>[] = [];
  for (let n = 0; n < Math.max(2, Math.round(seconds / SLICE_S / sides.length)); n++) {
    const slices = new Map<Side, Slice>();
    // Another one first in every round.
    for (let at = 0; at < sides.length; at++) {
      const side = sides[(n + at) % sides.length] as Side;
      slices.set(side, await side.run());
    }
    rounds.push(slices);
  }
  for (const side of sides) await side.end();
  const own = rounds.flatMap((slices) =>
    [...slices].flatMap(([side, { per_s }]) => (side.isOff ? [] : [per_s])),
  );
  return {
    per_s: Math.round(median(own)),
    spans: sides.reduce((sum, { spans }) => sum + spans, 0),
    ratio: ratioOf(rounds, ({ per_s }) => per_s),
    cpu_ratio: ratioOf(rounds, ({ cpu_us }) => cpu_us),
  };
}

if (process.argv[1] === import.meta.filename) {
  process.once("disconnect", () => process.exit());
  process.send?.(await run(JSON.parse(process.argv[2] as string) as GenerationOptions));
}
