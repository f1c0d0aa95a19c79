/**
 * Functions and groups of them, as actor types.
 *
 * Owns `defineFunction` and `defineFunctions`, and the types that flow from them. A function is an actor type with one
 * function; a group is one with several, which share the states of each key. Talks to machine.ts, which makes the XState
 * machine of a type.
 *
 * Invariants:
 * 1. One key of a group is one actor: its functions are processed one event after the other, in the order of arrival.
 * 2. A function belongs to one group at most: where its messages go is never a guess.
 */
import { type ActorDefinition, defineActor, type RetryPolicy } from "../engine/definition.ts";
import type { Machine } from "../engine/machine.ts";
import type { Migrations } from "../engine/migration.ts";
import { checkSchema, isSchema, type StandardSchema } from "../engine/schema.ts";
import { checkType } from "../words/address.ts";
import { durationOf } from "../words/duration.ts";
import { KeyturnError } from "../words/errors.ts";
import { Book } from "./book.ts";
import { CALL } from "./events.ts";
import type { FunctionContext, Home, Outcome, Returned, RunArgs } from "./invocation.ts";
import { machineOf } from "./machine.ts";
import { runAsync } from "./run.ts";
import type { State, States, ValuesOf } from "./state.ts";

/** A function of the user's: the event and the key's states in, new states and a result out. */
export type Handler<E extends object, S extends States, R> = (
  event: E,
  state: ValuesOf<S>,
  context: FunctionContext,
) => Returned<S, R> | void | Promise<Returned<S, R> | void>;

/** How a function is run, whoever wrote it and wherever it runs. */
export interface FunctionSpec {
  readonly name: string;
  /** By the names that the function calls them. */
  readonly states: States;
  /** Runs within a turn; undefined if it runs after one. */
  readonly handler: ((event: object, state: object, context: FunctionContext) => unknown) | undefined;
  /** Runs after a turn. */
  readonly work: ((order: WorkOrder) => Promise<Outcome>) | undefined;
  /** After so long a function that runs after a turn has failed. */
  readonly timeout_ms: number;
  readonly retry: RetryPolicy | undefined;
  readonly event: StandardSchema | undefined;
}

/** An invocation that runs after its turn. */
export interface WorkOrder extends RunArgs {
  readonly home: Home;
  readonly event: object;
  /** By the names under which they are stored. */
  readonly values: Readonly<Record<string, unknown>>;
  readonly key: string;
  readonly now: number;
}

/** A function; also an actor type of its name, with that function only. */
export interface StatefulFunction<
  N extends string = string,
  E extends object = object,
  S extends States = States,
  R = unknown,
> extends ActorDefinition<N, Machine> {
  readonly name: N;
  readonly functions: readonly [AnyFunction];
  /** @internal */
  readonly spec: FunctionSpec;
  /** Carry types only; never there at run time. */
  readonly of?: { readonly event: E; readonly states: S; readonly result: R };
}

// biome-ignore lint/suspicious/noExplicitAny: a function of whatever event, states and result
export type AnyFunction = StatefulFunction<string, any, any, any>;

/** Functions that share the states of each key: one actor type. */
export interface FunctionGroup<T extends string = string, F extends AnyFunction = AnyFunction>
  extends ActorDefinition<T, Machine> {
  readonly functions: readonly F[];
}

/** What can be reached with `functions(client, …)`: a function by itself, or a group. */
export type Hosted = FunctionGroup | AnyFunction;

type Of<F> = F extends { readonly of?: infer O | undefined } ? NonNullable<O> : never;
/** The events that a function takes. */
export type EventOf<F> = Of<F> extends { readonly event: infer E extends object } ? E : never;
/** What a function answers. */
export type ResultOf<F> = Of<F> extends { readonly result: infer R } ? R : never;
/** The states of a function by the names that it calls them. */
export type StatesRecordOf<F> = Of<F> extends { readonly states: infer S extends States } ? S : never;
/** The states that a function names. */
export type StatesOf<F> = F extends unknown
  ? Of<F> extends { readonly states: infer S }
    ? S[keyof S]
    : never
  : never;

export interface FunctionOptions {
  /** A Standard Schema (zod, valibot, arktype) that every event must fit, or it is refused as `invalid_event`. */
  readonly event?: StandardSchema;
  /** Says that the function returns a promise; needed only where it is not written as `async`. */
  readonly async?: boolean;
  /** Of an async function: after so long it has failed, whatever it does; milliseconds or a text, 30 seconds by default. */
  readonly timeout?: number | string;
  /** Of an async function: how often it is tried again when it rejects, before its event is refused. Never by default. */
  readonly retry?: RetryPolicy;
}

export interface GroupOptions {
  /** Events that may wait for one key while an async function runs; 64 by default, from 1 to 1,024. */
  readonly mailbox?: number;
  /** Of the async functions of this group, how many run at once on one node. */
  readonly atOnce?: number;
  /** As of `defineActor`: how long keys live. */
  readonly expireAfter?: number | string;
  readonly idleAfter?: number | string;
  /** As of `defineActor`: the version of what is stored, and how it becomes the next. */
  readonly version?: number;
  readonly migrations?: Migrations;
}

const homes = new WeakMap<AnyFunction, string>();
const TIMEOUT_MS = 30_000;
const noStates: States = Object.freeze({});

/**
 * Declares a function. It sees an event and its key's states, and returns new states and a result:
 *
 * ```ts
 * const counter = defineState("counter", 0);
 * const process = defineFunction("process", { counter }, (event: { value: number }, { counter }) => {
 *   return { state: { counter: counter + event.value }, result: counter + event.value };
 * });
 * ```
 *
 * It runs within the turn, exactly once, and must be pure: it is given the time, and what it sends leaves after the commit.
 * If it throws, the event is refused with `function_failed` and nothing has changed. An `async` function runs after the
 * turn that took its event, at least once (it is given an `idempotencyKey`); meanwhile the key's other events wait, and its
 * outcome is a turn, exactly once.
 *
 * What it returns is an actor type of its own: `startNode({ actors: [process] })`. For functions that share the states of
 * a key, put them into a group: `defineFunctions("shop", [add, pay])`.
 *
 * @param name also the `type` of its events, and the actor type: letters, digits, `_`, `-`, starting with a letter
 * @throws KeyturnError `invalid_options`, `invalid_address`
 */
export function defineFunction<const N extends string, E extends object, R = undefined>(
  name: N,
  handler: Handler<E, Record<never, never>, R>,
  options?: FunctionOptions,
): StatefulFunction<N, E, Record<never, never>, R>;
export function defineFunction<const N extends string, S extends States, E extends object, R = undefined>(
  name: N,
  states: S,
  handler: Handler<E, S, R>,
  options?: FunctionOptions,
): StatefulFunction<N, E, S, R>;
export function defineFunction(
  name: string,
  states: States | Handler<object, States, unknown>,
  handler?: Handler<object, States, unknown> | FunctionOptions,
  options?: FunctionOptions,
): AnyFunction {
  if (typeof states === "function")
    return functionOf(name, noStates, states, (handler as FunctionOptions | undefined) ?? {});
  return functionOf(name, states, handler as Handler<object, States, unknown>, options ?? {});
}

function functionOf(
  name: string,
  states: States,
  handler: Handler<object, States, unknown>,
  { event, async: promised, timeout, retry }: FunctionOptions,
): AnyFunction {
  checkType(name);
  if (typeof handler !== "function")
    throw new KeyturnError(
      "invalid_options",
      `"${name}" has no function: defineFunction("${name}", { counter }, (event, { counter }) => …).`,
    );
  const after =
    promised ?? (handler as { [Symbol.toStringTag]?: string })[Symbol.toStringTag] === "AsyncFunction";
  if (!after && (timeout !== undefined || retry !== undefined))
    throw new KeyturnError(
      "invalid_options",
      `"${name}" runs within its turn: a timeout and a retry policy are for functions that are async.`,
    );
  const run = handler as NonNullable<FunctionSpec["handler"]>;
  return hosted({
    name,
    states: checkStates(name, states),
    handler: after ? undefined : run,
    work: after ? (order) => runAsync(name, states, run, order) : undefined,
    timeout_ms: timeout === undefined ? TIMEOUT_MS : durationOf(timeout, `timeout of "${name}"`),
    retry,
    event: checkedSchema(name, event),
  });
}

/** A function as an actor type by itself. */
export function hosted(spec: FunctionSpec): AnyFunction {
  const functions = [] as AnyFunction[];
  const definition = definitionOf(spec.name, [spec], {});
  const made: AnyFunction = Object.freeze({ ...definition, name: spec.name, functions, spec }) as never;
  functions.push(made);
  Object.freeze(functions);
  return made;
}

/**
 * Puts functions together: they share the states of each key, and a key's events are processed one after the other,
 * whichever function they are for. The group is an actor type: `startNode({ actors: [shop] })`.
 *
 * @param type letters, digits, `_` and `-`, starting with a letter; part of every address
 * @throws KeyturnError `invalid_options`, `invalid_address`
 */
export function defineFunctions<const T extends string, const F extends readonly AnyFunction[]>(
  type: T,
  functions: F,
  options: GroupOptions = {},
): FunctionGroup<T, F[number]> {
  checkType(type);
  if (!Array.isArray(functions) || functions.length === 0 || functions.some((one) => one?.spec === undefined))
    throw new KeyturnError(
      "invalid_options",
      `"${type}" is made of functions: defineFunctions("${type}", [process, …]).`,
    );
  for (const one of functions as readonly AnyFunction[]) {
    const home = homes.get(one);
    if (home !== undefined && home !== type)
      throw new KeyturnError(
        "invalid_options",
        `The function "${one.name}" is in the group "${home}" already; a function is in one group only.`,
      );
  }
  const specs = functions.map(({ spec }) => spec);
  const definition = definitionOf(type, specs, options);
  for (const one of functions) homes.set(one, type);
  return Object.freeze({ ...definition, functions: Object.freeze([...functions]) }) as never;
}

function definitionOf(type: string, specs: readonly FunctionSpec[], options: GroupOptions): ActorDefinition {
  const { mailbox = 64, atOnce, version, migrations, expireAfter, idleAfter } = options;
  if (!(Number.isSafeInteger(mailbox) && mailbox >= 1 && mailbox <= 1_024))
    throw new KeyturnError(
      "invalid_options",
      `The mailbox of "${type}" is ${mailbox}; it is from 1 to 1,024.`,
    );
  const names = specs.map(({ name }) => name);
  if (new Set(names).size !== names.length)
    throw new KeyturnError("invalid_options", `"${type}" has two functions of the same name.`);
  const home: Home = {
    type,
    has: (name) => names.includes(name),
    typeOf: (to) => (specs.includes(to.spec) ? type : (homes.get(to) ?? to.type)),
  };
  const retry = Object.fromEntries(
    specs.flatMap(({ name, retry: policy }) => (policy === undefined ? [] : [[name, policy]])),
  );
  const book = new Book(home, specs, mailbox);
  const events = eventsOf(type, specs);
  return defineActor({
    type,
    machine: machineOf(book, specs),
    input: ({ key }) => ({ key }) as never,
    inputSchema: onlyByAddress,
    ...(events === undefined ? {} : { events }),
    invoke: { retry, ...(atOnce === undefined ? {} : { atOnce }) },
    ...(version === undefined ? {} : { version }),
    ...(migrations === undefined ? {} : { migrations }),
    ...(expireAfter === undefined ? {} : { expireAfter }),
    ...(idleAfter === undefined ? {} : { idleAfter }),
  });
}

/** Keys begin by themselves, from their address. */
const onlyByAddress: StandardSchema = {
  "~standard": {
    version: 1,
    vendor: "keyturn",
    validate: (input) =>
      typeof (input as { key?: unknown } | undefined)?.key === "string"
        ? {}
        : { issues: [{ message: "is { key }" }] },
  },
};

/** One schema of all events: each is checked by its function's own. */
function eventsOf(type: string, specs: readonly FunctionSpec[]): StandardSchema | undefined {
  const schemas = new Map(
    specs.flatMap(({ name, event }) => (event === undefined ? [] : [[name, event] as const])),
  );
  if (schemas.size === 0) return undefined;
  const validate: StandardSchema["~standard"]["validate"] = (given) => {
    const { type: name, event } = given as { readonly type: string; readonly event?: unknown };
    // What is called is within; see book.ts.
    const inner = name === CALL ? (event as { readonly type: string }) : given;
    const schema = schemas.get((inner as { readonly type: string } | undefined)?.type ?? "");
    checkSchema(schema, inner, { code: "invalid_event", name: "event", type });
    return {};
  };
  return { "~standard": { version: 1, vendor: "keyturn", validate } };
}

export function checkStates(name: string, states: unknown): States {
  if (typeof states !== "object" || states === null)
    throw new KeyturnError(
      "invalid_options",
      `The states of "${name}" are what defineState returns: { counter }.`,
    );
  for (const [alias, state] of Object.entries(states as Record<string, State | undefined>)) {
    if (typeof state?.name !== "string" || !("initial" in state))
      throw new KeyturnError("invalid_options", `"${alias}" of "${name}" is not what defineState returns.`);
  }
  return states as States;
}

export function checkedSchema(name: string, schema: StandardSchema | undefined): StandardSchema | undefined {
  if (schema === undefined || isSchema(schema)) return schema;
  throw new KeyturnError(
    "invalid_options",
    `The events of "${name}" are checked by a Standard Schema, or not at all.`,
  );
}
