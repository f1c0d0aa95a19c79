/**
 * Traces as they are carried (words/trace.ts) and OpenTelemetry's span contexts: one made of the other; and contexts that
 * hold a span.
 */
import {
  type Context,
  createTraceState,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  trace,
  TraceFlags,
} from "@opentelemetry/api";
import { flagsIn, traceOf, tracestateIn } from "../words/trace.ts";

/**
 * Of what is known to be a trace. Whether its ids are zeros, and so nobody's, is looked at by whoever makes a span of it.
 */
export function spanContextOf(carried: string): SpanContext {
  const state = tracestateIn(carried);
  const traceId = carried.slice(3, 35);
  const spanId = carried.slice(36, 52);
  const traceFlags = flagsIn(carried) & TraceFlags.SAMPLED;
  if (state === undefined) return { traceId, spanId, traceFlags, isRemote: true };
  return { traceId, spanId, traceFlags, isRemote: true, traceState: createTraceState(state) };
}

export function carriedOf({ traceId, spanId, traceFlags: flags, traceState }: SpanContext): string {
  const last = flags === TraceFlags.SAMPLED ? "01" : flags.toString(16).padStart(2, "0");
  const traceparent = `00-${traceId}-${spanId}-${last}`;
  return traceState === undefined ? traceparent : traceOf(traceparent, traceState.serialize());
}

/**
 * A context with a span and nothing else. One of the API's own costs as much as a span: a copied map and three functions.
 */
export class SpanOnly implements Context {
  readonly #span: Span;

  constructor(span: Span) {
    this.#span = span;
  }

  getValue(key: symbol): unknown {
    return key === SPAN ? this.#span : undefined;
  }

  setValue(key: symbol, value: unknown): Context {
    return trace.setSpan(ROOT_CONTEXT, this.#span).setValue(key, value);
  }

  deleteValue(key: symbol): Context {
    return trace.setSpan(ROOT_CONTEXT, this.#span).deleteValue(key);
  }
}

/** Under which key a context has its span: the API does not name it, but uses it. */
const SPAN = ((): symbol | undefined => {
  let used: symbol | undefined;
  const asked: Context = {
    getValue(key) {
      used = key;
      return undefined;
    },
    setValue: () => asked,
    deleteValue: () => asked,
  };
  trace.getSpan(asked);
  return used;
})();
