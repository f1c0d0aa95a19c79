/**
 * Definitions: what a user declares an actor type to be, and the types that flow from it to the client.
 *
 * Owns `defineActor` and the registry of a node. Talks to the machine.
 */
import { checkType } from "../words/address.ts";
import { KeyturnError, textOf } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import type { StateValue } from "./machine/internals.ts";
import { type Keep, policyOf } from "./keep.ts";
import { type LifeOptions, type LifePolicy, lifePolicyOf } from "./life.ts";
import {
  type ContextOf,
  type EventOf,
  type InputOf,
  type Machine,
  MachineHost,
  type ValueOf,
} from "./machine.ts";
import { checkMigrations, type Migrations } from "./migration.ts";
import { type DelayPolicy, delayPolicyOf } from "./resume.ts";
import { type Route, type RouteTable, routesByType } from "./routes.ts";
import { checkSchema, isSchema, type StandardSchema } from "./schema.ts";

/** What replies a machine gives, by event type, if none are declared: `types: {} as { replies: { add: number } }`. */
export type NoReplies = Record<never, never>;

/** Which actor it is. */
export interface ActorAddress<T extends string = string> {
  readonly type: T;
  readonly key: string;
}

/** How often an invoked promise is tried again when it rejects, before its machine gets the error. */
export interface RetryPolicy {
  /** Attempts in all; 1 means that none is tried again. */
  readonly attempts: number;
  /** Pause before the second attempt, milliseconds; 1,000 by default. */
  readonly first_ms?: number;
  /** Each further pause is so many times longer; 2 by default. */
  readonly factor?: number;
  /** The longest pause; 60,000 by default. */
  readonly last_ms?: number;
}

/** How the promises that a type invokes are run. */
export interface InvokePolicy {
  /** For all promises, or by the name of their logic (`src`). Without one a rejection is the answer. */
  readonly retry?: RetryPolicy | Readonly<Record<string, RetryPolicy>>;
  /** Promises of this type that run at once on one node; the others wait. As many as the node takes by default. */
  readonly atOnce?: number;
}

/** An actor type. */
export interface ActorDefinition<
  T extends string = string,
  M extends Machine = Machine,
  R extends object = NoReplies,
> {
  readonly type: T;
  readonly machine: M;
  /** Version of the machine, from 1; written into every record and snapshot. */
  readonly version: number;
  /** From each version to the next; one that is missing means that the states of both are the same. */
  readonly migrations: Migrations;
  /** What every event is checked with before the machine sees it. */
  readonly events: StandardSchema | undefined;
  /** Makes the input that an actor begins with when its first message is not a `create`. */
  readonly input?: ((address: ActorAddress) => unknown) | undefined;
  readonly inputSchema?: StandardSchema | undefined;
  readonly outputSchema?: StandardSchema | undefined;
  /** Actor logics that its machine spawns without naming them, by the names that are stored for them. */
  readonly children: ReadonlyMap<string, unknown>;
  readonly invoke: InvokePolicy;
  /** What becomes of delays that fell due while no node ran. */
  readonly delays: DelayPolicy;
  /** Paths of the context by which its actors are found, and the time of their last turn. */
  readonly index?: readonly string[] | undefined;
  /** How long its actors live; without one, until they are deleted. */
  readonly life?: LifePolicy | undefined;
  /** What of the journal is kept at least, for its actors' sake. */
  readonly keep?: Keep | undefined;
  /** "always": each record holds the whole state. For small states whose past is looked up where older records are trimmed. */
  readonly keyframes?: "always" | undefined;
  /** What of an event makes it the same request when its request id comes again; all of it without one. */
  readonly fingerprint?: ((event: never) => unknown) | undefined;
  /** What other types emit and its actors, or others on their behalf, are told of. See keyturn/streams. */
  readonly routes?: readonly Route[] | undefined;
  /** Carries the reply types only; never there at run time. */
  readonly replies?: R;
}

// biome-ignore lint/suspicious/noExplicitAny: a definition of whatever machine and replies, as XState's AnyStateMachine
export type AnyActorDefinition = ActorDefinition<string, Machine, any>;

/** What `ask(event)` resolves with: the declared reply for that event, or else the new state. */
export type AnswerTo<M extends Machine, R extends object, E> = E extends { type: infer N }
  ? N extends keyof R
    ? R[N]
    : ActorState<M>
  : ActorState<M>;

/** What clients see of an actor that a machine has invoked or spawned. */
export interface ChildState {
  /** The name of its logic. */
  readonly src: string;
  readonly status: ActorState["status"];
  /** For a machine: its state. */
  readonly value?: StateValue;
  readonly context?: unknown;
  readonly output?: unknown;
  readonly error?: unknown;
}

/** An actor's state as clients see it. Frozen. */
export interface ActorState<M extends Machine = Machine> {
  readonly value: ValueOf<M>;
  readonly context: Readonly<ContextOf<M>>;
  readonly status: "active" | "done" | "error" | "stopped";
  readonly output: unknown;
  /** Tags of its states; left out if there are none. */
  readonly tags?: readonly string[];
  /** For the status "error": the error of an invoked or spawned actor that the machine did not handle. */
  readonly error?: unknown;
  /** The actors that its machine has invoked and spawned, by id; those of children by path, `child/grandchild`. */
  readonly children?: Readonly<Record<string, ChildState>>;
  /** Turns this actor has taken since it began; 0 for one that no message has reached. */
  readonly turn: number;
  /** Journal sequence of the last turn or deletion; 0 without one. */
  readonly position: number;
}

/**
 * Declares an actor type.
 *
 * @param options.type letters, digits, `_` and `-`, starting with a letter; part of every address
 * @param options.machine an XState v5 machine; its `input` is `{ type, key }`, if nothing else gives it one
 * @param options.version of the machine, a whole number from 1; written into every record and snapshot. Raise it whenever
 *   stored states have to change, and with every change after which the former machine must not go on: nodes with
 *   different versions of a type may run side by side, and what a later one may have written is never given to an
 *   earlier one
 * @param options.migrations `{ 1: (state) => state2, 2: … }`: from each version to the next, `{ value, context, status,
 *   output, history }` in and out; without a function a state is good as it is. An actor is migrated when it is loaded,
 *   and its next turn records the new state
 * @param options.events a Standard Schema (zod, valibot, arktype) that every event must fit, or it is refused as
 *   `invalid_event` before it reaches the actor; without one only the event's type is checked
 * @param options.input makes the machine's input from the actor's address, for actors that begin with a message and not
 *   with `ref.create(input)`; must give the same for the same address
 * @param options.inputSchema a Standard Schema that the input must fit, or the actor does not begin: `invalid_input`
 * @param options.outputSchema a Standard Schema that the output must fit when the machine is done, or the turn is refused
 *   as `output_invalid`
 * @param options.children actor logics that the machine spawns inline, `spawn(todoMachine)`, by a name each that stays:
 *   with it they are found again after a restart. Those in `setup({ actors })` and invoked ones have names already
 * @param options.invoke how invoked promises are run: retries, how many at once
 * @param options.delays what becomes of a delay (`after`, `raise` and `sendTo` with a delay, of the machine and of its
 *   children) that fell due while no node ran and was overdue by more than a minute when one did again: "resume", the
 *   default, fires it then; "restart" sets it anew for its whole time from then on; "drop" takes it away, so the actor
 *   stays as it is. Delays that an actor had set before its type was given "restart" fire
 * @param options.index paths of the context by which actors are found: `["customer.id", "total"]` for
 *   `client.find("order", { where: { "customer.id": "ada" } })`. With it, be it empty, they are found by age too
 * @param options.expireAfter an actor is deleted so long after its first turn, whatever became of it: milliseconds or a
 *   text such as "30 days". As with `delete`, its state, timers, request ids and work are gone, and a later message
 *   begins anew. For all three: an actor that a former definition without them has begun gets them with its next turn
 * @param options.idleAfter it is deleted so long after its last turn; after a restart perhaps later, by less than that
 * @param options.keepFor it is deleted so long after its machine came to its end (done or failed); `idleAfter` does not
 *   count any more then
 * @param options.fingerprint what of an event makes it the same when a request id (`Idempotency-Key`) is used again, as
 *   plain data: `({ at, ...event }) => event` for senders that put their time into each try. All of the event without
 *   one; with another it is refused as `request_id_reused`. Where it gives undefined nothing is compared
 * @param options.keep how much of the journal is kept at least, for these actors' sake, whatever the app says and whoever
 *   trims: `"forever"`, `{ age: "1 year" }`, `{ bytes: "10GB" }`. All types share the journal, so what one asks for keeps the
 *   others' records too; it never makes less kept than the app's `keep` says
 * @param options.types `{} as { replies: { <event type>: <reply type> } }` for machines that use `reply`
 * @throws KeyturnError `invalid_address`, `invalid_options`, `unsupported_machine`
 */
export function defineActor<
  const T extends string,
  M extends Machine,
  R extends object = NoReplies,
>(options: {
  type: T;
  machine: M;
  version?: number;
  migrations?: Migrations;
  events?: StandardSchema;
  input?: (address: ActorAddress<NoInfer<T>>) => InputOf<NoInfer<M>>;
  inputSchema?: StandardSchema;
  outputSchema?: StandardSchema;
  children?: Readonly<Record<string, object>>;
  invoke?: InvokePolicy;
  delays?: DelayPolicy;
  index?: readonly string[];
  expireAfter?: number | string;
  idleAfter?: number | string;
  keepFor?: number | string;
  fingerprint?: (event: EventOf<NoInfer<M>>) => unknown;
  keep?: Keep;
  types?: { replies: R };
}): ActorDefinition<T, M, R> {
  if (typeof options !== "object" || options === null) {
    throw new KeyturnError("invalid_options", "defineActor takes { type, machine }.");
  }
  const { type, machine, version = 1, events, inputSchema, outputSchema } = options;
  checkType(type);
  if (!Number.isSafeInteger(version) || version < 1) {
    throw new KeyturnError("invalid_options", `The version of "${type}" is ${version}; it counts from 1.`);
  }
  if ((machine as { __xstatenode?: unknown } | undefined)?.__xstatenode !== true) {
    throw new KeyturnError(
      "invalid_options",
      `"${type}" has no machine. Make one with setup().createMachine().`,
    );
  }
  for (const [what, schema] of Object.entries({ events, input: inputSchema, output: outputSchema })) {
    if (schema === undefined || isSchema(schema)) continue;
    throw new KeyturnError(
      "invalid_options",
      `The ${what} of "${type}" is checked by a Standard Schema, or not at all.`,
    );
  }
  const input = options.input as ActorDefinition["input"];
  if (input !== undefined && typeof input !== "function") {
    throw new KeyturnError("invalid_options", `The input of "${type}" is a function of { type, key }.`);
  }
  const fingerprint = options.fingerprint as ActorDefinition["fingerprint"];
  if (fingerprint !== undefined && typeof fingerprint !== "function") {
    const text = `The fingerprint of "${type}" is a function of an event, for example ({ at, ...event }) => event.`;
    throw new KeyturnError("invalid_options", text);
  }
  const children = new Map(Object.entries(options.children ?? {}));
  const { invoke = {} } = options;
  checkInvoke(type, invoke);
  const index = checkIndex(type, options.index);
  const migrations = checkMigrations(type, version, options.migrations);
  // Hosting it once here makes an unsupported machine fail where it is declared.
  const delays = delayPolicyOf(type, options.delays);
  new MachineHost(type, machine, children);
  const life = lifePolicyOf(type, options as LifeOptions);
  const keep = checkKeep(type, options.keep);
  return Object.freeze({
    type,
    machine,
    version,
    migrations,
    events,
    input,
    inputSchema,
    outputSchema,
    children,
    invoke,
    delays,
    index,
    life,
    ...(fingerprint === undefined ? {} : { fingerprint }),
    ...(keep === undefined ? {} : { keep }),
  });
}

function checkKeep(type: string, keep: Keep | undefined): Keep | undefined {
  if (keep === undefined) return undefined;
  try {
    policyOf(keep);
    return keep;
  } catch (cause) {
    throw new KeyturnError("invalid_options", `The keep of "${type}": ${textOf(cause)}`, { cause });
  }
}

function checkIndex(type: string, index: unknown): readonly string[] | undefined {
  if (index === undefined) return undefined;
  const paths = Array.isArray(index) && index.every((path) => typeof path === "string" && path !== "");
  if (!paths || new Set(index).size !== index.length || index.length > limits.indexPaths) {
    throw new KeyturnError(
      "invalid_options",
      `The index of "${type}" is a list of at most ${limits.indexPaths} paths in its context, each once, for example ["customer.id"].`,
    );
  }
  return Object.freeze([...index]);
}

function checkInvoke(type: string, { retry, atOnce }: InvokePolicy): void {
  if (atOnce !== undefined && !(Number.isSafeInteger(atOnce) && atOnce > 0))
    throw new KeyturnError(
      "invalid_options",
      `invoke.atOnce of "${type}" is ${atOnce}; it is a whole number from 1.`,
    );
  for (const policy of retry === undefined ? [] : isPolicy(retry) ? [retry] : Object.values(retry)) {
    const { attempts, first_ms = 1_000, factor = 2, last_ms = 60_000 } = policy;
    if (!(Number.isSafeInteger(attempts) && attempts > 0 && first_ms >= 0 && factor >= 1 && last_ms >= 0)) {
      throw new KeyturnError(
        "invalid_options",
        `A retry policy of "${type}" is { attempts, first_ms, factor, last_ms }: attempts from 1, pauses from 0 ms, a factor from 1.`,
      );
    }
  }
}

function isPolicy(retry: NonNullable<InvokePolicy["retry"]>): retry is RetryPolicy {
  return typeof retry.attempts === "number";
}

/** The pause before a further attempt; undefined if there is none. `attempt` is the one that failed, from 1. */
export function retryAfter({ retry }: InvokePolicy, src: string, attempt: number): number | undefined {
  const policy = retry === undefined || isPolicy(retry) ? retry : retry[src];
  if (policy === undefined || attempt >= policy.attempts) return undefined;
  const { first_ms = 1_000, factor = 2, last_ms = 60_000 } = policy;
  return Math.min(first_ms * factor ** (attempt - 1), last_ms);
}

/** A type as a node hosts it. */
export interface HostedType {
  readonly definition: AnyActorDefinition;
  readonly host: MachineHost;
  /** Who is told of what its actors emit. */
  readonly routes?: RouteTable | undefined;
}

/** The types of one node, by name. */
export type Registry = ReadonlyMap<string, HostedType>;

function hostOf({ type, machine, children, delays }: AnyActorDefinition): MachineHost {
  return new MachineHost(type, machine, children, delays === "restart");
}

export function registryOf(definitions: readonly AnyActorDefinition[]): Registry {
  const registry = new Map<string, HostedType>();
  for (const definition of definitions) {
    if (typeof definition?.type !== "string" || definition.machine === undefined) {
      const bare = (definition as { __xstatenode?: unknown } | undefined)?.__xstatenode === true;
      const advice = bare ? ' One of them is a bare machine: defineActor({ type: "counter", machine }).' : "";
      throw new KeyturnError(
        "invalid_options",
        `Actors are what defineActor returns: startNode({ actors: [counter] }).${advice}`,
      );
    }
    if (registry.has(definition.type)) {
      throw new KeyturnError("invalid_options", `Two actors are defined with the type "${definition.type}".`);
    }
    registry.set(definition.type, { definition, host: hostOf(definition) });
  }
  for (const [type, routes] of routesByType(definitions, (name) => registry.has(name)))
    registry.set(type, { ...(registry.get(type) as HostedType), routes });
  return registry;
}

/** Event types that a definition's machine names in any of its states, families as `name.*`; undefined if it takes any. */
export function eventTypesOf(definition: AnyActorDefinition): readonly string[] | undefined {
  return hostOf(definition).eventTypes;
}

/** The events a definition's actors accept. */
export type EventFor<D> = D extends ActorDefinition<string, infer M, object> ? EventOf<M> : never;

/** Throws `invalid_event` if an event does not fit its type's machine or schema. */
export function checkFits({ definition, host }: HostedType, event: { readonly type: string }): void {
  host.checkType(event.type);
  checkEventSchema(definition, event);
}

/** Throws `invalid_event` if an event does not fit its type's schema. */
export function checkEventSchema({ type, events }: AnyActorDefinition, event: unknown): void {
  checkSchema(events, event, { code: "invalid_event", name: "event", type });
}

/** The state of a definition's actors. */
export type StateFor<D> = D extends ActorDefinition<string, infer M, object> ? ActorState<M> : never;
