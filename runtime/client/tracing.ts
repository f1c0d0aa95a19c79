/**
 * Spans of a client's requests.
 *
 * Owns the decision which requests are traced: those made inside of a sampled trace, or with the `traceparent` of one;
 * of the others some are drawn. Talks to the telemetry port. Made only where there is one.
 */
import { Draw, type Telemetry, WallTime } from "../engine/telemetry.ts";
import type { World } from "../ports/index.ts";
import type { KeyturnError } from "../words/errors.ts";
import {
  Ask,
  AskBoth,
  CancelTimer,
  Create,
  Delete,
  Get,
  History,
  Mailbox,
  type RequestKind,
  Send,
  Timers,
} from "../words/frames.ts";
import { isSampled, NOT_DRAWN, traceFlags } from "../words/trace.ts";
import type { Recipient } from "./options.ts";
import { Call } from "./session.ts";

/** What a client does of itself (watches, questions to shards) has no spans. */
const OPERATIONS: ReadonlyMap<number, string> = new Map([
  [Ask, "ask"],
  [AskBoth, "ask"],
  [Send, "send"],
  [Create, "create"],
  [Delete, "delete"],
  [Get, "get"],
  [CancelTimer, "cancelTimer"],
  [Timers, "timers"],
  [History, "history"],
  [Mailbox, "mailbox"],
]);

export class RequestTracing {
  readonly #telemetry: Telemetry;
  readonly #draw: Draw;
  readonly #time: WallTime;

  constructor(telemetry: Telemetry, world: World) {
    this.#telemetry = telemetry;
    this.#draw = new Draw(telemetry, world);
    this.#time = new WallTime(world.clock);
  }

  /** The call, with a span around it if it is traced. */
  call(
    kind: RequestKind,
    ref: Recipient,
    event: unknown,
    bytes: number,
    requestId: string | undefined,
    trace: string | undefined,
    resolve: (value: unknown) => void,
    reject: (error: KeyturnError) => void,
  ): Call {
    const parent = trace !== undefined && traceFlags(trace) !== undefined ? trace : undefined;
    const isWanted = parent === undefined ? this.#telemetry.active() || this.#draw.next() : isSampled(parent);
    const operation = isWanted ? OPERATIONS.get(kind) : undefined;
    // Most requests come by here: nothing is made for them but the call itself.
    if (operation === undefined)
      return new Call(kind, ref, ref, event, bytes, requestId, trace ?? NOT_DRAWN, resolve, reject);
    const span = this.#telemetry.request({
      parent,
      operation,
      type: ref.type,
      key: ref.key,
      event: typeOf(event),
      shard: ref.shard,
      start_ms: this.#time.now(),
    });
    if (span === undefined)
      return new Call(kind, ref, ref, event, bytes, requestId, trace ?? NOT_DRAWN, resolve, reject);
    return new Call(
      kind,
      ref,
      ref,
      event,
      bytes,
      requestId,
      span.trace,
      (value) => {
        span.ended(undefined, this.#time.now());
        resolve(value);
      },
      (error) => {
        span.ended(error, this.#time.now());
        reject(error);
      },
    );
  }
}

function typeOf(event: unknown): string | undefined {
  const type = (event as { type?: unknown } | null | undefined)?.type;
  return typeof type === "string" ? type : undefined;
}
