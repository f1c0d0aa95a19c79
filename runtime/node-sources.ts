/**
 * The sources that a node runs: begun when it has joined, ended before it ends.
 *
 * Owns their runs in this process. Who else runs a source takes a share of its parts, and all of them when this node is
 * gone (streams/sources/run.ts). A source that fails for good ends by itself, and is told to the observer; the node goes
 * on.
 */
import type { Client } from "./client/client.ts";
import type { Metric, MetricPoint } from "./engine/metrics.ts";
import type { Observer } from "./engine/observer.ts";
import type { AnySource } from "./streams/sources/define.ts";
import { runSource, type SourceRun } from "./streams/sources/run.ts";
import { type SourceStatus, sourceStatus } from "./streams/sources/status.ts";
import { KeyturnError } from "./words/errors.ts";

/** @throws KeyturnError `invalid_options` */
export function checkSources(sources: unknown): void {
  const fits =
    Array.isArray(sources) && sources.every((one) => typeof (one as AnySource)?.from?.read === "function");
  if (!fits) throw new KeyturnError("invalid_options", "Sources are a list of what defineSource returns.");
  if (new Set(sources.map((one: AnySource) => one.name)).size !== sources.length)
    throw new KeyturnError("invalid_options", "Two of the sources have one name.");
}

export class NodeSources {
  readonly #client: Client;
  readonly #sources: readonly AnySource[];
  readonly #runs = new Map<string, SourceRun>();

  constructor(client: Client, sources: readonly AnySource[]) {
    this.#client = client;
    this.#sources = sources;
  }

  /** @param lease_ms a node that is silent for so long is taken for gone */
  start(node: string, lease_ms: number, observer: Observer): void {
    for (const source of this.#sources) {
      const { name, from } = source;
      // Its items come by requests.
      if (from.passive === true) continue;
      const onTrouble = (error: unknown): void => observer.troubled(`read the source ${name}`, error);
      const run = runSource(this.#client, source, { node, lease_ms, onTrouble });
      this.#runs.set(name, run);
      observer.sourceRuns(name, from.description);
      run.done.then(
        (status) => observer.sourceEnded(name, status),
        (error: unknown) => observer.sourceFailed(name, error),
      );
    }
  }

  /** How each stands, whichever nodes run it. */
  status(): Promise<readonly SourceStatus[]> {
    return Promise.all(this.#sources.map((source) => sourceStatus(this.#client, source)));
  }

  /** Ends this node's shares, once nothing of them is on its way. */
  async stop(): Promise<void> {
    await Promise.all([...this.#runs.values()].map((run) => run.stop()));
  }

  /** Ends them at once: what is on its way is not waited for. */
  kill(): void {
    for (const run of this.#runs.values()) void run.stop();
  }

  metrics(): Metric[] {
    const runs = [...this.#runs].map(([source, { share }]) => ({ source, ...share }));
    if (runs.length === 0) return [];
    const gauge = (name: string, unit: string, help: string, points: Points): Metric => ({
      kind: "gauge",
      name,
      unit,
      help,
      points,
    });
    return [
      gauge(
        "keyturn_source_partitions",
        "{partition}",
        "Parts of a source that this node reads now.",
        runs.map(({ source, partitions }) => ({ labels: { source }, value: partitions })),
      ),
      gauge(
        "keyturn_source_lag",
        "1",
        "What there is of those parts and was not read, in bytes, rows or messages.",
        runs.flatMap(({ source, unit, lag }) =>
          lag === undefined ? [] : [{ labels: { source, unit }, value: lag }],
        ),
      ),
    ];
  }
}

type Points = readonly MetricPoint[];
