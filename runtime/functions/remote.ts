/**
 * Functions that are written elsewhere and take part over HTTP.
 *
 * Owns `defineRemoteFunction`. Built on what async functions are built on, the durable invoked promise: an invocation
 * stands in its key's state until its outcome has entered as a turn, exactly once; who takes the key over asks again, with
 * the same idempotency key. Talks to the batcher of the function, one a process.
 */
import type { RetryPolicy } from "../engine/definition.ts";
import type { StandardSchema } from "../engine/schema.ts";
import { checkType } from "../words/address.ts";
import { durationOf } from "../words/duration.ts";
import { KeyturnError } from "../words/errors.ts";
import { Batcher } from "./batcher.ts";
import { checkedSchema, checkStates, hosted, type StatefulFunction, type WorkOrder } from "./function.ts";
import type { Outcome } from "./invocation.ts";
import { aliased } from "./run.ts";
import type { States } from "./state.ts";
import { outcomeIn, written } from "./wire.ts";

export interface RemoteOptions<S extends States, E extends object, R> {
  /** Where batches are posted; see wire.ts for the format, and `serveFunctions` for a server. */
  readonly url: string;
  /** The states that go with each invocation, by the names that the function calls them. */
  readonly states?: S;
  /** Sent with every post, for example who asks; a function is called anew for each. */
  readonly headers?: Readonly<Record<string, string>> | (() => Readonly<Record<string, string>>);
  /** How long one post may take, milliseconds; 10,000 by default. */
  readonly timeout_ms?: number;
  /** How often an invocation is tried, and with which pauses; 10 times from 100 ms to 30 s by default. */
  readonly retry?: RetryPolicy;
  /** After so long the event is refused, however often it was tried; "5 minutes" by default. */
  readonly giveUpAfter?: number | string;
  readonly batch?: {
    /** Invocations in one post; 100 by default, at most 1,000. */
    readonly atMost?: number;
    /** How long the first of them waits for others, milliseconds; 2 by default. */
    readonly wait_ms?: number;
  };
  /** Posts at once from one process; 4 by default. */
  readonly concurrency?: number;
  /** What every event must fit, before it leaves. */
  readonly event?: StandardSchema;
  /** `{} as { event: { text: string }; result: number }`. */
  readonly types?: { readonly event: E; readonly result: R };
}

const RETRY: RetryPolicy = { attempts: 10, first_ms: 100, factor: 2, last_ms: 30_000 };

/**
 * Declares a function that runs elsewhere. For its callers, and for its keys, it is an async function like any other.
 *
 * ```ts
 * const score = defineRemoteFunction("score", {
 *   url: "http://127.0.0.1:8080/",
 *   states: { seen },
 *   types: {} as { event: { text: string }; result: number },
 * });
 * ```
 *
 * What the server cannot do now is tried again; then the event is refused with `function_unreachable`. What it says of one
 * invocation (`error`) refuses that event with `function_failed`. Meanwhile the key's events wait, up to the mailbox of its
 * group, and then are refused with `mailbox_full`: no more is asked of the server than `concurrency` posts.
 *
 * @throws KeyturnError `invalid_options`, `invalid_address`
 */
export function defineRemoteFunction<
  const N extends string,
  S extends States = Record<never, never>,
  E extends object = object,
  R = unknown,
>(name: N, options: RemoteOptions<S, E, R>): StatefulFunction<N, E, S, R> {
  checkType(name);
  const { url, headers = {}, retry = RETRY, giveUpAfter = "5 minutes", event } = options;
  checkUrl(name, url);
  const states = checkStates(name, options.states ?? {});
  const { atMost = 100, wait_ms = 2 } = options.batch ?? {};
  const { timeout_ms = 10_000, concurrency = 4 } = options;
  checkBound(name, "batch.atMost", atMost, 1, 1_000);
  checkBound(name, "batch.wait_ms", wait_ms, 0, 60_000);
  checkBound(name, "timeout_ms", timeout_ms, 1, 600_000);
  checkBound(name, "concurrency", concurrency, 1, 1_000);
  const batcher = new Batcher({
    name,
    url,
    headers: typeof headers === "function" ? headers : () => headers,
    atMost,
    wait_ms,
    concurrency,
    timeout_ms,
  });
  return hosted({
    name,
    states,
    handler: undefined,
    work: (order) => invoke(name, states, batcher, order),
    timeout_ms: durationOf(giveUpAfter, `giveUpAfter of "${name}"`),
    retry,
    event: checkedSchema(name, event),
  }) as StatefulFunction<N, E, S, R>;
}

async function invoke(name: string, states: States, batcher: Batcher, order: WorkOrder): Promise<Outcome> {
  const { home, event, values, key, now, idempotencyKey: id, attempt, signal } = order;
  let text: string;
  try {
    const state = aliased(states, values);
    text = written({ id, attempt, key, now, event: event as { readonly type: string }, state });
  } catch (error) {
    // It would be the same again.
    const { code, message } = error as KeyturnError;
    return { state: undefined, result: undefined, wishes: [], error: { code, message } };
  }
  const posted = await batcher.invoke(id, home.type, text, signal);
  return "refused" in posted ? posted.refused : outcomeIn(posted, name, states, home, order);
}

function checkUrl(name: string, url: unknown): void {
  if (typeof url === "string" && URL.canParse(url) && /^https?:$/.test(new URL(url).protocol)) return;
  throw new KeyturnError(
    "invalid_options",
    `The url of "${name}" is ${JSON.stringify(url)}; it begins with http: or https:.`,
  );
}

function checkBound(name: string, what: string, value: unknown, low: number, high: number): void {
  if (Number.isSafeInteger(value) && (value as number) >= low && (value as number) <= high) return;
  throw new KeyturnError(
    "invalid_options",
    `${what} of "${name}" is ${String(value)}; it is a whole number from ${low} to ${high}.`,
  );
}
