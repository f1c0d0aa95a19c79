/** Traces as they are carried (words/trace.ts) and OpenTelemetry's span contexts: one made of the other. */
import { createTraceState, type SpanContext, TraceFlags } from "@opentelemetry/api";
import { traceFlags, traceOf, tracestateIn } from "../words/trace.ts";

/** Undefined if it is none. Whether its ids are zeros, and so nobody's, is looked at by whoever makes a span of it. */
export function spanContextOf(trace: string): SpanContext | undefined {
  const flags = traceFlags(trace);
  if (flags === undefined) return undefined;
  const state = tracestateIn(trace);
  return {
    traceId: trace.slice(3, 35),
    spanId: trace.slice(36, 52),
    traceFlags: flags & TraceFlags.SAMPLED,
    isRemote: true,
    ...(state === undefined ? {} : { traceState: createTraceState(state) }),
  };
}

export function carriedOf({ traceId, spanId, traceFlags: flags, traceState }: SpanContext): string {
  const traceparent = `00-${traceId}-${spanId}-${flags.toString(16).padStart(2, "0")}`;
  return traceState === undefined ? traceparent : traceOf(traceparent, traceState.serialize());
}
