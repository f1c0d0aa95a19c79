/** W3C `traceparent` texts and OpenTelemetry's span contexts: one made of the other. */
import { isSpanContextValid, type SpanContext, TraceFlags } from "@opentelemetry/api";
import { traceFlags } from "../engine/telemetry.ts";

/** Undefined if it is none. */
export function spanContextOf(trace: string): SpanContext | undefined {
  const flags = traceFlags(trace);
  if (flags === undefined) return undefined;
  const context: SpanContext = {
    traceId: trace.slice(3, 35),
    spanId: trace.slice(36, 52),
    traceFlags: flags & TraceFlags.SAMPLED,
    isRemote: true,
  };
  return isSpanContextValid(context) ? context : undefined;
}

export function traceparentOf({ traceId, spanId, traceFlags: flags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${flags.toString(16).padStart(2, "0")}`;
}
