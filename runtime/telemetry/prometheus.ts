/**
 * A node's metrics in Prometheus's text format (0.0.4), which every scraper reads.
 *
 * Owns the format and nothing else: the metrics name themselves (engine/metrics.ts). Needs no OpenTelemetry.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Metric, MetricHistogram, NodeMetrics } from "../engine/metrics.ts";

/** The `content-type` of the text. */
export const PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

type Labels = Readonly<Record<string, string>>;

/** The text of one node's metrics, or of several nodes'. */
export function prometheus(...nodes: readonly NodeMetrics[]): string {
  return mergeMetrics(nodes).map(familyOf).join("");
}

/** Metrics of several nodes as those of one: a name comes once, with the points of all. */
export function mergeMetrics(nodes: readonly NodeMetrics[]): NodeMetrics {
  const merged = new Map<string, Metric>();
  for (const metric of nodes.flat()) {
    const { name } = metric;
    const known = merged.get(name);
    if (known === undefined) merged.set(name, metric);
    else if (known.kind === "histogram" && metric.kind === "histogram")
      merged.set(name, { ...known, histograms: [...known.histograms, ...metric.histograms] });
    else if (known.kind !== "histogram" && metric.kind !== "histogram")
      merged.set(name, { ...known, points: [...known.points, ...metric.points] });
  }
  return [...merged.values()];
}

/**
 * A handler for any Node HTTP server: answers with the metrics, whatever the path.
 *
 * ```ts
 * createServer(serveMetrics(() => [node.metrics()])).listen(9464);
 * ```
 */
export function serveMetrics(
  nodes: () => readonly NodeMetrics[],
): (request: IncomingMessage, response: ServerResponse) => void {
  return ({ method }, response) => {
    if (method !== "GET" && method !== "HEAD") {
      response.writeHead(405, { allow: "GET, HEAD" }).end();
      return;
    }
    response.writeHead(200, { "content-type": PROMETHEUS_TYPE, "cache-control": "no-store" });
    response.end(method === "HEAD" ? undefined : prometheus(...nodes()));
  };
}

function familyOf(metric: Metric): string {
  const { name, help, kind } = metric;
  const lines = [
    `# HELP ${name} ${help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`,
    `# TYPE ${name} ${kind}`,
  ];
  if (metric.kind === "histogram") lines.push(...metric.histograms.flatMap((one) => bucketsOf(name, one)));
  else lines.push(...metric.points.map(({ labels, value }) => sample(name, labels, value)));
  return `${lines.join("\n")}\n`;
}

function bucketsOf(name: string, { labels, buckets, sum, count }: MetricHistogram): string[] {
  return [
    ...buckets.map(({ upTo, count: upToIt }) =>
      sample(`${name}_bucket`, { ...labels, le: String(upTo) }, upToIt),
    ),
    sample(`${name}_bucket`, { ...labels, le: "+Inf" }, count),
    sample(`${name}_sum`, labels, sum),
    sample(`${name}_count`, labels, count),
  ];
}

function sample(name: string, labels: Labels, value: number): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text)}"`);
  return `${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${numberOf(value)}`;
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function numberOf(value: number): string {
  if (Number.isFinite(value)) return String(value);
  if (Number.isNaN(value)) return "NaN";
  return value > 0 ? "+Inf" : "-Inf";
}
