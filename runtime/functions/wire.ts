/**
 * How functions elsewhere are invoked: JSON over HTTP, a batch of invocations in one POST.
 *
 * The request, `content-type: application/json`:
 *
 * ```json
 * { "version": 1, "function": "score", "type": "shop",
 *   "invocations": [
 *     { "id": "shop.a:x7.0.m1:1700000000000", "attempt": 1, "key": "a", "now": 1700000000000,
 *       "event": { "type": "score", "text": "…" }, "state": { "seen": 3 } } ] }
 * ```
 *
 * `id` is the invocation's idempotency key: the same for every try, never used for another. `attempt` above 1 says that it
 * may have run before. `type` is the actor type of the function's group, for addresses. States have the names that the
 * function calls them. All invocations of a batch are of different keys; they may be run at once and in any order.
 *
 * The answer, status 200, `application/json`; one result for each invocation, in any order:
 *
 * ```json
 * { "results": [
 *     { "id": "…", "state": { "seen": 4 }, "reset": [], "result": 0.7,
 *       "send": [ { "to": "shop/b", "event": { "type": "score", "text": "…" }, "after_ms": 60000, "id": "again" } ],
 *       "cancel": ["id of something sent later"], "emit": [ { "type": "scored" } ] },
 *     { "id": "…", "error": { "message": "no such text" } } ] }
 * ```
 *
 * All but `id` may be left out. `reset` sets states back to their initial value. `after_ms` and `id` make a send a later
 * one. A result with `error` refuses that event, and is not tried again.
 *
 * Tried again, with pauses that grow: no connection, no answer in time, status 408, 425, 429 and 5xx (a `retry-after` is
 * kept to), an answer that is not like this, an invocation without a result. Any other status refuses the events.
 *
 * Owns reading and writing of both. Talks to invocation.ts, by whose checks a result's sends have to get. Everything that
 * comes from elsewhere is checked.
 */
import { KeyturnError, textOf } from "../words/errors.ts";
import { type Home, Invocation, type Outcome } from "./invocation.ts";
import { stored } from "./run.ts";
import type { States } from "./state.ts";

export interface WireInvocation {
  readonly id: string;
  readonly attempt: number;
  readonly key: string;
  readonly now: number;
  readonly event: { readonly type: string };
  readonly state: Readonly<Record<string, unknown>>;
}

export interface WireRequest {
  readonly version: 1;
  readonly function: string;
  readonly type: string;
  readonly invocations: readonly WireInvocation[];
}

export interface WireSend {
  readonly to: string;
  readonly event: { readonly type: string };
  readonly after_ms?: number;
  readonly id?: string;
}

export interface WireResult {
  readonly id: string;
  readonly state?: Readonly<Record<string, unknown>>;
  readonly reset?: readonly string[];
  readonly result?: unknown;
  readonly send?: readonly WireSend[];
  readonly cancel?: readonly string[];
  readonly emit?: readonly { readonly type: string }[];
  readonly error?: { readonly message: string };
}

/** Largest body of either side, bytes. */
export const BODY_BYTES = 32 * 1024 * 1024;
const DEPTH_MAX = 64;

/** One invocation as a text. Throws `function_failed` for what JSON would change or lose. */
export function written(invocation: WireInvocation): string {
  checkJson(invocation.event, "event", 0);
  checkJson(invocation.state, "state", 0);
  return JSON.stringify(invocation);
}

/** A batch of invocations that were written before. */
export function requestOf(name: string, type: string, invocations: readonly string[]): string {
  const head = JSON.stringify({ version: 1, function: name, type });
  return `${head.slice(0, -1)},"invocations":[${invocations.join(",")}]}`;
}

/** The results of an answer by the ids of their invocations. Throws if it is no answer of this kind. */
export function resultsIn(text: string): ReadonlyMap<string, WireResult> {
  const { results } = (JSON.parse(text) ?? {}) as { readonly results?: unknown };
  if (!Array.isArray(results)) throw new Error('it has no list of "results"');
  return new Map(
    results.map((result: Partial<WireResult> | null) => {
      if (typeof result?.id !== "string") throw new Error('one of its results has no "id"');
      return [result.id, result as WireResult];
    }),
  );
}

/** What a result means. Whatever is wrong with it refuses the event it is about: it would be wrong again. */
export function outcomeIn(
  result: WireResult,
  name: string,
  states: States,
  home: Home,
  { key, now }: { readonly key: string; readonly now: number },
): Outcome {
  const { state, reset, result: value, send, cancel, emit, error } = result;
  try {
    if (error !== undefined && error !== null)
      return failed(`"${name}" threw: ${String((error as { message?: unknown }).message)}`);
    const invocation = new Invocation(home, key, now);
    for (const id of listed(cancel, "cancel")) invocation.cancel(id as string);
    for (const { to, event, after_ms, id } of listed(send, "send") as WireSend[])
      if (after_ms === undefined && id === undefined) invocation.tell(to, event);
      else invocation.tellAfter(after_ms ?? 0, to, event, id === undefined ? {} : { id });
    for (const event of listed(emit, "emit")) invocation.emit(event as { type: string });
    const initial = Object.fromEntries(listed(reset, "reset").map((alias) => [alias, undefined]));
    const next = state === undefined && reset === undefined ? undefined : { ...state, ...initial };
    return { state: stored(name, states, false, next), result: value, wishes: invocation.end() };
  } catch (fault) {
    return failed(`What "${name}" answered cannot be used: ${textOf(fault)}`);
  }
}

export function failed(message: string, code = "function_failed"): Outcome {
  return { state: undefined, result: undefined, wishes: [], error: { code, message } };
}

function listed(value: unknown, name: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new Error(`"${name}" is no list`);
  return value;
}

/** Throws `function_failed` for a value that JSON would change. */
export function checkJson(value: unknown, path: string, depth: number): void {
  if (value === null || typeof value === "string" || typeof value === "boolean") return;
  if (typeof value === "number" && Number.isFinite(value)) return;
  if (depth > DEPTH_MAX) throw new KeyturnError("function_failed", `${path} is nested too deep for JSON.`);
  if (Array.isArray(value)) {
    for (const [at, inner] of value.entries()) checkJson(inner, `${path}[${at}]`, depth + 1);
    return;
  }
  const prototype: unknown = typeof value === "object" ? Object.getPrototypeOf(value) : undefined;
  if (prototype !== Object.prototype && prototype !== null)
    throw new KeyturnError(
      "function_failed",
      `${path} is ${typeof value === "number" ? String(value) : kindOf(value)}, which JSON cannot carry to a function elsewhere.`,
    );
  for (const [name, inner] of Object.entries(value as object))
    if (inner !== undefined) checkJson(inner, `${path}.${name}`, depth + 1);
}

function kindOf(value: unknown): string {
  return typeof value === "object" ? `a ${(value as object).constructor.name}` : `a ${typeof value}`;
}
