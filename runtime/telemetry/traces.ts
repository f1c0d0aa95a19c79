/**
 * Spans of requests, turns and commits on an OpenTelemetry tracer.
 *
 *   ask order place            CLIENT     from the call to its outcome
 *     order place              SERVER     from the intake at the shard's owner to the commit
 *       commit                 INTERNAL   the append of the turn's batch to the journal
 *       stock reserve          CONSUMER   the turn of an actor that was told
 *   order xstate.after.…       INTERNAL   a timer's turn begins a trace, and links to the turn that has set it
 *
 * Owns nothing. Called by `otel.ts`.
 */
import {
  type Attributes,
  context,
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer,
} from "@opentelemetry/api";
import type { RequestSpan, RequestStart, TurnCommit, TurnSpan, TurnStart } from "../engine/telemetry.ts";
import type { TurnSource } from "../engine/tally.ts";
import { isKeyturnError } from "../words/errors.ts";
import { carriedOf, spanContextOf } from "./context.ts";

const KINDS: Readonly<Record<TurnSource, SpanKind>> = {
  request: SpanKind.SERVER,
  told: SpanKind.CONSUMER,
  timer: SpanKind.INTERNAL,
  work: SpanKind.INTERNAL,
};

export interface TraceOptions {
  readonly tracer: Tracer;
  /** Whether the actors' keys are shown. */
  readonly keys: boolean;
}

/** The context that a carried trace stands for; without one, the beginning of a trace. */
export function contextOf(parent: string | undefined): Context {
  const found = parent === undefined ? undefined : spanContextOf(parent);
  return found === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, found);
}

/** A turn's span. Undefined if the program's sampler does not want it. */
export function turnSpan({ tracer, keys }: TraceOptions, start: TurnStart): TurnSpan | undefined {
  const { type, key, event, source, shard, start_ms, stepped_ms } = start;
  const attributes: Attributes = {
    "keyturn.actor.type": type,
    "keyturn.event": event,
    "keyturn.source": source,
    "keyturn.shard": shard,
    "keyturn.waited_ms": stepped_ms - start_ms,
  };
  if (keys) attributes["keyturn.actor.key"] = key;
  const name = event === "" ? type : `${type} ${event}`;
  const setter = start.setter === undefined ? undefined : spanContextOf(start.setter);
  const span = tracer.startSpan(
    name,
    {
      kind: KINDS[source],
      startTime: timeOf(start_ms),
      attributes,
      ...(setter === undefined ? {} : { links: [{ context: setter }] }),
    },
    contextOf(start.parent),
  );
  if (!span.isRecording()) return undefined;
  return new OpenTurn(tracer, span);
}

class OpenTurn implements TurnSpan {
  readonly trace: string;
  readonly #tracer: Tracer;
  readonly #span: Span;

  constructor(tracer: Tracer, span: Span) {
    this.#tracer = tracer;
    this.#span = span;
    this.trace = carriedOf(span.spanContext());
  }

  committed({ turn, position, batchRecords, batchBytes, sent_ms, committed_ms, refusal }: TurnCommit): void {
    const attributes: Attributes = {
      "keyturn.position": position,
      "keyturn.batch.records": batchRecords,
      "keyturn.batch.bytes": batchBytes,
    };
    this.#tracer
      .startSpan(
        "commit",
        { startTime: timeOf(sent_ms), attributes },
        trace.setSpan(ROOT_CONTEXT, this.#span),
      )
      .end(timeOf(committed_ms));
    this.#span.setAttributes({ "keyturn.turn": turn, "keyturn.position": position });
    this.ended(refusal, committed_ms, refusal === undefined ? "applied" : "refused");
  }

  ended(error: { readonly code: string } | undefined, end_ms: number, outcome?: string): void {
    this.#span.setAttribute("keyturn.outcome", outcome ?? (error === undefined ? "repeated" : "refused"));
    if (error !== undefined) fail(this.#span, error.code);
    this.#span.end(timeOf(end_ms));
  }
}

/** Whether the caller is in a trace now. */
export function isActive(): boolean {
  return trace.getActiveSpan() !== undefined;
}

/** A request's span. Undefined if it is part of a trace that is not recorded. */
export function requestSpan({ tracer, keys }: TraceOptions, start: RequestStart): RequestSpan | undefined {
  const { operation, type, key, event, shard, start_ms } = start;
  const attributes: Attributes = {
    "keyturn.operation": operation,
    "keyturn.actor.type": type,
    "keyturn.shard": shard,
  };
  if (event !== undefined) attributes["keyturn.event"] = event;
  if (keys) attributes["keyturn.actor.key"] = key;
  const name = event === undefined ? `${operation} ${type}` : `${operation} ${type} ${event}`;
  const span = tracer.startSpan(
    name,
    { kind: SpanKind.CLIENT, startTime: timeOf(start_ms), attributes },
    parentOf(start.parent),
  );
  if (!span.isRecording()) return undefined;
  return {
    trace: carriedOf(span.spanContext()),
    ended: (error, end_ms) => {
      if (error !== undefined) fail(span, isKeyturnError(error) ? error.code : "failed");
      span.end(timeOf(end_ms));
    },
  };
}

/** The active context; unless the caller names another trace, which then has begun elsewhere. */
function parentOf(given: string | undefined): Context {
  const active = context.active();
  if (given === undefined) return active;
  const named = spanContextOf(given);
  const current = trace.getSpanContext(active);
  return named !== undefined && current?.traceId === named.traceId ? active : contextOf(given);
}

/** Only the code: an error's text may name keys. */
function fail(span: Span, code: string): void {
  span.setAttribute("error.type", code);
  span.setStatus({ code: SpanStatusCode.ERROR, message: code });
}

/** Seconds and nanoseconds since the epoch. */
function timeOf(ms: number): [number, number] {
  const seconds = Math.floor(ms / 1_000);
  return [seconds, Math.min(999_999_999, Math.max(0, Math.round((ms - seconds * 1_000) * 1e6)))];
}
