/** Spans kept in memory, and actors that pass a message on: for tests of traces. */
import type { Telemetry } from "../../runtime/index.ts";
import { context, SpanKind, type Tracer } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { assign, setup } from "xstate";
import { defineActor, fromDurablePromise, reply, tell } from "../../runtime/index.ts";
import { telemetry, type TelemetryOptions } from "../../runtime/telemetry/index.ts";

/** A program's own setting up, once a process. */
export function activeContexts(): void {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
}

export class Spans {
  readonly #exporter = new InMemorySpanExporter();
  readonly #provider = new BasicTracerProvider({
    spanProcessors: [new SimpleSpanProcessor(this.#exporter)],
  });
  readonly tracer: Tracer = this.#provider.getTracer("test");

  telemetry(options: Partial<TelemetryOptions> = {}): Telemetry {
    return telemetry({
      tracer: this.tracer,
      meter: false,
      sample: 1,
      perSecond: Number.POSITIVE_INFINITY,
      ...options,
    });
  }

  get all(): ReadableSpan[] {
    return this.#exporter.getFinishedSpans();
  }

  /** The only span of that name. */
  one(name: string): ReadableSpan {
    const found = this.all.filter((span) => span.name === name);
    if (found.length !== 1 || found[0] === undefined)
      throw new Error(
        `There are ${found.length} spans "${name}" of ${this.all.map((s) => s.name).join(", ")}.`,
      );
    return found[0];
  }

  /** Every span below its parent, as lines: `SERVER relay pass` is indented by its depth. */
  tree(): string[] {
    const spans = this.all;
    const ids = new Set(spans.map((span) => span.spanContext().spanId));
    const lines: string[] = [];
    const add = (span: ReadableSpan, depth: number): void => {
      lines.push(`${"  ".repeat(depth)}${SpanKind[span.kind]} ${span.name}`);
      const below = spans.filter((other) => other.parentSpanContext?.spanId === span.spanContext().spanId);
      for (const other of below.sort(byName)) add(other, depth + 1);
    };
    for (const span of spans.filter(({ parentSpanContext: p }) => p === undefined || !ids.has(p.spanId)))
      add(span, 0);
    return lines;
  }

  get traces(): Set<string> {
    return new Set(this.all.map((span) => span.spanContext().traceId));
  }

  reset(): void {
    this.#exporter.reset();
  }
}

function byName(a: ReadableSpan, b: ReadableSpan): number {
  return a.name < b.name ? -1 : 1;
}

type RelayEvent =
  | { type: "pass"; via: string[] }
  | { type: "later"; after_ms: number }
  | { type: "work" }
  /** Is told to a type that nobody hosts. */
  | { type: "lose" }
  | { type: "break" };

interface RelayContext {
  readonly passed: number;
  /** What the invoked promise was given. */
  readonly trace: string | null;
  readonly traceState: string | null;
  readonly delay: number;
}

/** What runs in invoked promises. */
export const inPromise: { run: () => void; until: Promise<void> | undefined } = {
  run: () => undefined,
  until: undefined,
};

/** Passes a message on to the first of `via`, which passes it on to the rest. */
export const relay = defineActor({
  type: "relay",
  machine: setup({
    types: { context: {} as RelayContext, events: {} as RelayEvent },
    actors: {
      job: fromDurablePromise<(string | null)[]>(async ({ trace, traceState }) => {
        inPromise.run();
        await inPromise.until;
        return [trace ?? null, traceState ?? null];
      }),
    },
    delays: { wait: ({ context }) => context.delay },
  }).createMachine({
    context: { passed: 0, trace: null, traceState: null, delay: 0 },
    initial: "idle",
    states: {
      idle: {
        on: {
          pass: [
            {
              guard: ({ event }) => event.via.length > 0,
              actions: [
                assign({ passed: ({ context }) => context.passed + 1 }),
                tell(
                  ({ event }) => `relay/${event.via[0]}`,
                  ({ event }) => ({ type: "pass", via: event.via.slice(1) }),
                ),
                reply("passed on"),
              ],
            },
            { actions: [assign({ passed: ({ context }) => context.passed + 1 }), reply("arrived")] },
          ],
          later: { target: "waiting", actions: assign({ delay: ({ event }) => event.after_ms }) },
          work: "working",
          lose: { actions: tell("nobody/1", { type: "x" }) },
          break: {
            actions: assign(() => {
              throw new Error("broken");
            }),
          },
        },
      },
      waiting: { after: { wait: "idle" } },
      working: {
        invoke: {
          src: "job",
          onDone: {
            target: "idle",
            actions: assign({
              trace: ({ event }) => event.output[0] ?? null,
              traceState: ({ event }) => event.output[1] ?? null,
            }),
          },
        },
      },
    },
  }),
});

/** Sets a delay of a second again and again; and has a custom action that sends it an event. */
export const pacer = defineActor({
  type: "pacer",
  machine: setup({
    types: {
      context: {} as { readonly echoes: number },
      events: {} as { type: "go" } | { type: "echo" } | { type: "echoed" },
    },
    actions: { echo: ({ self }) => self.send({ type: "echoed" }) },
  }).createMachine({
    context: { echoes: 0 },
    initial: "idle",
    on: { echo: { actions: "echo" }, echoed: { actions: assign({ echoes: 1 }) } },
    states: {
      idle: { on: { go: "tick" } },
      tick: { after: { 1000: "tock" } },
      tock: { after: { 1000: "tick" } },
    },
  }),
});
