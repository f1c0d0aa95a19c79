/**
 * `keyturn/telemetry`: traces and metrics on OpenTelemetry, metrics as text for Prometheus, logs for pino.
 *
 * The only folder that imports OpenTelemetry, and only its API: which SDK and exporters there are is the program's choice.
 */
export { type Level, type Log, type LogOptions, logTo } from "./log.ts";
export { telemetry, type TelemetryOptions } from "./otel.ts";
export { mergeMetrics, prometheus, PROMETHEUS_TYPE, serveMetrics } from "./prometheus.ts";
