/**
 * Health over HTTP: `/livez`, `/readyz` and `/healthz`, for whoever runs the process; and `/metrics` for Prometheus.
 *
 * Owns the listener. Every other answer is a JSON document; 200 for yes and 503 for no. `/healthz` says everything and is
 * red like `/readyz`. Requests carry nothing, so a body is not read; there are few of them, so connections are few.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { NodeMetrics } from "../engine/metrics.ts";
import { serveMetrics } from "../telemetry/prometheus.ts";
import { textOf } from "../words/errors.ts";
import type { HostPort } from "./options.ts";
import { Failure } from "./shell.ts";

export interface HealthReport {
  readonly live: boolean;
  readonly ready: boolean;
}

const CONNECTIONS = 64;
const REQUEST_MS = 5_000;

export interface HealthServer {
  /** `http://host:port` */
  readonly url: string;
  close(): Promise<void>;
}

/**
 * Listens.
 * @param report what is so now
 * @param metrics of every node, as far as they are known
 * @throws Failure if the address cannot be had
 */
export async function serveHealth(
  at: HostPort,
  report: () => HealthReport,
  metrics: () => readonly NodeMetrics[],
): Promise<HealthServer> {
  const answerMetrics = serveMetrics(metrics);
  const server = createServer(
    { requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS, keepAliveTimeout: REQUEST_MS },
    (request, response) => {
      if (pathOf(request) === "/metrics") answerMetrics(request, response);
      else answer(request, response, report());
    },
  );
  server.maxConnections = CONNECTIONS;
  await listen(server, at);
  const { address, family, port } = server.address() as AddressInfo;
  return {
    url: `http://${family === "IPv6" ? `[${address}]` : address}:${port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, { host, port }: HostPort): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => {
      reject(new Failure(`Health cannot be served at ${host}:${port}: ${textOf(cause)}`));
    });
    server.listen(port, host === "" ? undefined : host, resolve);
  });
}

function pathOf({ url }: IncomingMessage): string | undefined {
  return url?.split("?")[0];
}

function answer(request: IncomingMessage, response: ServerResponse, report: HealthReport): void {
  const { method } = request;
  const send = (status: number, body: object): void => {
    response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
    response.end(method === "HEAD" ? undefined : `${JSON.stringify(body)}\n`);
  };
  if (method !== "GET" && method !== "HEAD") {
    response.setHeader("allow", "GET, HEAD");
    send(405, { error: "GET it." });
    return;
  }
  switch (pathOf(request)) {
    case "/livez":
      send(report.live ? 200 : 503, { live: report.live });
      return;
    case "/readyz":
      send(report.ready ? 200 : 503, { ready: report.ready });
      return;
    case "/healthz":
      send(report.ready ? 200 : 503, report);
      return;
    default:
      send(404, { error: "There are /livez, /readyz, /healthz and /metrics." });
  }
}
