/**
 * Running a function of the user's: from the states and an event to an outcome.
 *
 * Owns what a function sees of the states and what may come back. Talks to user code; everything that goes wrong there is
 * a KeyturnError afterwards.
 */
import { isErrorCode, KeyturnError, textOf } from "../words/errors.ts";
import type { FunctionSpec, WorkOrder } from "./function.ts";
import { type Home, Invocation, type Outcome } from "./invocation.ts";
import type { State, States } from "./state.ts";

/** A function with what is looked up for each of its events. */
export interface Compiled {
  readonly spec: FunctionSpec;
  readonly states: readonly (readonly [alias: string, state: State])[];
  /** Whether it calls each state by the name under which it is stored. */
  readonly plain: boolean;
  readonly expires: boolean;
}

export function compile(spec: FunctionSpec): Compiled {
  const states = Object.entries(spec.states);
  return {
    spec,
    states,
    plain: states.every(([alias, { name }]) => alias === name),
    expires: states.some(([, { expire_ms }]) => expire_ms !== undefined),
  };
}

/** Runs a function within a turn. */
export function runHandler(
  home: Home,
  { spec, plain }: Compiled,
  event: object,
  values: object,
  key: string,
  now: number,
): Outcome {
  const invocation = new Invocation(home, key, now);
  let returned: unknown;
  try {
    returned = spec.handler?.(event, values, invocation);
  } catch (error) {
    throw failure(spec.name, error);
  }
  if (returned === undefined) return { state: undefined, result: undefined, wishes: invocation.end() };
  if (typeof (returned as { then?: unknown } | null)?.then === "function") {
    (returned as Promise<unknown>).then(undefined, () => undefined);
    throw new KeyturnError(
      "function_failed",
      `"${spec.name}" returned a promise. Write it as an async function, or say defineFunction(…, { async: true }).`,
    );
  }
  return outcomeOf(spec.name, spec.states, plain, returned, invocation);
}

/** Runs a function after its turn. */
export async function runAsync(
  name: string,
  states: States,
  handler: NonNullable<FunctionSpec["handler"]>,
  order: WorkOrder,
): Promise<Outcome> {
  const { home, event, values, key, now } = order;
  const invocation = new Invocation(home, key, now, order);
  const returned = await handler(event, aliased(states, values), invocation);
  if (returned === undefined) return { state: undefined, result: undefined, wishes: invocation.end() };
  return outcomeOf(name, states, false, returned, invocation);
}

/** States by the names that a function calls them. */
export function aliased(states: States, values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const named: Record<string, unknown> = {};
  for (const alias in states) named[alias] = values[(states[alias] as State).name];
  return named;
}

/** What a function returned, with what it collected. */
function outcomeOf(
  name: string,
  states: States,
  plain: boolean,
  returned: unknown,
  invocation: Invocation,
): Outcome {
  if (typeof returned !== "object" || returned === null || Array.isArray(returned))
    throw new KeyturnError(
      "function_failed",
      `"${name}" returned ${Array.isArray(returned) ? "a list" : String(returned)}; it returns { state, result }.`,
    );
  const { state, result } = returned as { readonly state?: unknown; readonly result?: unknown };
  // What is neither is a state that somebody forgot to wrap, and would be lost in silence.
  for (const other in returned)
    if (other !== "state" && other !== "result")
      throw new KeyturnError(
        "function_failed",
        `"${name}" returned a property "${other}"; it returns { state: { … }, result }.`,
      );
  return { state: stored(name, states, plain, state), result, wishes: invocation.end() };
}

/** New states by the names under which they are stored. */
export function stored(name: string, states: States, plain: boolean, state: unknown): Outcome["state"] {
  if (state === undefined) return undefined;
  if (typeof state !== "object" || state === null || Array.isArray(state))
    throw new KeyturnError(
      "function_failed",
      `The state that "${name}" returned is no object of states by name.`,
    );
  for (const alias in state)
    if (!Object.hasOwn(states, alias))
      throw new KeyturnError(
        "function_failed",
        `"${name}" returned a state "${alias}" that it does not name: defineFunction("${name}", { ${alias} }, …).`,
      );
  if (plain) return state as Readonly<Record<string, unknown>>;
  return Object.fromEntries(
    Object.entries(state).map(([alias, value]) => [(states[alias] as State).name, value]),
  );
}

/** Whatever a function threw, as one of our errors. */
export function failure(name: string, error: unknown): KeyturnError {
  if (error instanceof KeyturnError) return error;
  const text = textOf(error);
  const what = /read only property|not extensible|Cannot delete property|sealed array/.test(text)
    ? `changed its event or a state in place (${text}). Return new values instead`
    : `threw: ${text}`;
  return new KeyturnError("function_failed", `"${name}" ${what}`, { cause: error });
}

/** Why an invocation that ran outside failed, from what is stored of it. */
export function failureOf(name: string, error: unknown): KeyturnError {
  const { code, message } = (error ?? {}) as { readonly code?: unknown; readonly message?: unknown };
  if (isErrorCode(code) && typeof message === "string") return new KeyturnError(code, message);
  return failure(name, typeof message === "string" ? new Error(message) : error);
}
