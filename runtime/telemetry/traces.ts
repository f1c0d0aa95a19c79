/**
 * Spans of requests and turns on an OpenTelemetry tracer.
 *
 *   ask order place            CLIENT     from the call to its outcome
 *     order place              SERVER     from the intake at the shard's owner to the end of its commit
 *       · commit                          an event: the turn's batch is given to the journal
 *       stock reserve          CONSUMER   the turn of an actor that was told
 *   order xstate.after.…       INTERNAL   a timer's turn begins a trace, and links to the turn that has set it
 *
 * The commit is an event, not a span: it ends with the turn, and a span more in every trace costs half as much again, here
 * and where traces are kept.
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
import { carriedOf, spanContextOf, SpanOnly } from "./context.ts";

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
  return parent === undefined ? ROOT_CONTEXT : new SpanOnly(trace.wrapSpanContext(spanContextOf(parent)));
}

/** A turn's span. Undefined if the program's sampler does not want it. */
export function turnSpan({ tracer, keys }: TraceOptions, start: TurnStart): TurnSpan | undefined {
  const { type, key, event, source, shard, start_ms, stepped_ms } = start;
  // Only what a sampler may ask for: the SDK copies what it is given here three times.
  const attributes: Attributes = {
    "keyturn.actor.type": type,
    "keyturn.event": event,
    "keyturn.source": source,
    "keyturn.shard": shard,
  };
  if (keys) attributes["keyturn.actor.key"] = key;
  const name = event === "" ? type : `${type} ${event}`;
  const setter = start.setter === undefined ? undefined : spanContextOf(start.setter);
  const kind = KINDS[source];
  const startTime = timeOf(start_ms);
  const span = tracer.startSpan(
    name,
    setter === undefined
      ? { kind, startTime, attributes }
      : { kind, startTime, attributes, links: [{ context: setter }] },
    contextOf(start.parent),
  );
  if (!span.isRecording()) return undefined;
  return new OpenTurn(span, stepped_ms - start_ms);
}

class OpenTurn implements TurnSpan {
  readonly trace: string;
  readonly #span: Span;
  readonly #waited_ms: number;

  constructor(span: Span, waited_ms: number) {
    this.#span = span;
    this.#waited_ms = waited_ms;
    this.trace = carriedOf(span.spanContext());
  }

  committed({ turn, position, batchRecords, batchBytes, sent_ms, committed_ms, refusal }: TurnCommit): void {
    this.#span.addEvent(
      "commit",
      {
        "keyturn.batch.records": batchRecords,
        "keyturn.batch.bytes": batchBytes,
        "keyturn.commit_ms": committed_ms - sent_ms,
      },
      timeOf(sent_ms),
    );
    this.#span.setAttributes({
      "keyturn.waited_ms": this.#waited_ms,
      "keyturn.turn": turn,
      "keyturn.position": position,
      "keyturn.outcome": refusal === undefined ? "applied" : "refused",
    });
    this.#end(refusal, committed_ms);
  }

  ended(error: { readonly code: string } | undefined, end_ms: number): void {
    this.#span.setAttributes({
      "keyturn.waited_ms": this.#waited_ms,
      "keyturn.outcome": error === undefined ? "repeated" : "refused",
    });
    this.#end(error, end_ms);
  }

  #end(error: { readonly code: string } | undefined, end_ms: number): void {
    if (error !== undefined) fail(this.#span, error.code);
    this.#span.end(timeOf(end_ms));
  }
}

/** Whether the caller is in a trace now. */
export function isActive(): boolean {
  const active = context.active();
  // Where it is nobody's, which is the rule, nothing more is asked.
  return active !== ROOT_CONTEXT && trace.getSpan(active) !== undefined;
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
  return current?.traceId === named.traceId ? active : contextOf(given);
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
