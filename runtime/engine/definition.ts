/**
 * Definitions: what a user declares an actor type to be, and the types that flow from it to the client.
 *
 * Owns `defineActor` and the registry of a node. Talks to the machine.
 */
import { checkType } from "../words/address.ts";
import { KeyturnError } from "../words/errors.ts";
import { type ContextOf, type EventOf, type Machine, MachineHost, type ValueOf } from "./machine.ts";
import { checkMigrations, type Migrations } from "./migration.ts";

/** What replies a machine gives, by event type, if none are declared: `types: {} as { replies: { add: number } }`. */
export type NoReplies = Record<never, never>;

/**
 * A check of events, as libraries like zod, valibot and arktype make them. Only its verdict is used; what it would turn
 * the event into is not. Source: the Standard Schema specification, version 1.
 */
export interface EventSchema {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaVerdict | Promise<SchemaVerdict>;
  };
}

export interface SchemaVerdict {
  readonly issues?: readonly SchemaIssue[] | undefined;
}

export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
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
  readonly events: EventSchema | undefined;
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

/** An actor's state as clients see it. Frozen. */
export interface ActorState<M extends Machine = Machine> {
  readonly value: ValueOf<M>;
  readonly context: Readonly<ContextOf<M>>;
  readonly status: "active" | "done" | "error" | "stopped";
  readonly output: unknown;
  /** Turns this actor has taken since it began; 0 for one that no message has reached. */
  readonly turn: number;
  /** Journal sequence of the last turn or deletion; 0 without one. */
  readonly position: number;
}

/**
 * Declares an actor type.
 *
 * @param options.type letters, digits, `_` and `-`, starting with a letter; part of every address
 * @param options.machine an XState v5 machine; its `input` is `{ type, key }`
 * @param options.version of the machine, a whole number from 1; raise it whenever stored states have to change
 * @param options.migrations `{ 1: (state) => state2, 2: … }`: from each version to the next, `{ value, context, status,
 *   output, history }` in and out; without a function a state is good as it is. An actor is migrated when it is loaded,
 *   and its next turn records the new state
 * @param options.events a Standard Schema that every event must fit; without one only the event's type is checked
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
  events?: EventSchema;
  types?: { replies: R };
}): ActorDefinition<T, M, R> {
  if (typeof options !== "object" || options === null) {
    throw new KeyturnError("invalid_options", "defineActor takes { type, machine }.");
  }
  const { type, machine, version = 1, events } = options;
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
  if (events !== undefined && typeof events["~standard"]?.validate !== "function") {
    throw new KeyturnError(
      "invalid_options",
      `The events of "${type}" are checked by a Standard Schema, or not at all.`,
    );
  }
  const migrations = checkMigrations(type, version, options.migrations);
  // Hosting it once here makes an unsupported machine fail where it is declared.
  new MachineHost(type, machine);
  return Object.freeze({ type, machine, version, migrations, events });
}

/** A type as a node hosts it. */
export interface HostedType {
  readonly definition: AnyActorDefinition;
  readonly host: MachineHost;
}

/** The types of one node, by name. */
export type Registry = ReadonlyMap<string, HostedType>;

export function registryOf(definitions: readonly AnyActorDefinition[]): Registry {
  const registry = new Map<string, HostedType>();
  for (const definition of definitions) {
    if (typeof definition?.type !== "string" || definition.machine === undefined) {
      throw new KeyturnError(
        "invalid_options",
        "Actors are what defineActor returns: startNode({ actors: [counter] }).",
      );
    }
    if (registry.has(definition.type)) {
      throw new KeyturnError("invalid_options", `Two actors are defined with the type "${definition.type}".`);
    }
    registry.set(definition.type, { definition, host: new MachineHost(definition.type, definition.machine) });
  }
  return registry;
}

/** The events a definition's actors accept. */
export type EventFor<D> = D extends ActorDefinition<string, infer M, object> ? EventOf<M> : never;

/** Throws `invalid_event` if an event does not fit its type's machine or schema. */
export function checkFits({ definition, host }: HostedType, event: { readonly type: string }): void {
  host.checkType(event.type);
  const verdict = definition.events?.["~standard"].validate(event);
  if (verdict === undefined) return;
  if (verdict instanceof Promise) {
    verdict.catch(() => undefined);
    throw new KeyturnError(
      "invalid_event",
      `The schema of "${definition.type}" is asynchronous. Use one that is not.`,
    );
  }
  const [issue] = verdict.issues ?? [];
  if (issue === undefined) return;
  const path = (issue.path ?? []).map((part) => String(typeof part === "object" ? part.key : part));
  throw new KeyturnError("invalid_event", `${["event", ...path].join(".")}: ${issue.message}`);
}

/** The state of a definition's actors. */
export type StateFor<D> = D extends ActorDefinition<string, infer M, object> ? ActorState<M> : never;
