/**
 * What a machine may do beyond XState: tell another actor, answer who asked, and ask another actor.
 *
 * Owns the actions `tell` and `reply` and the actor logic `ask`. They only say what is wanted; a step collects it.
 * Outside the runtime, in a plain XState actor, the actions do nothing and `ask` fails.
 */
import {
  type ActionArgs,
  type EventObject,
  fromPromise,
  type MachineContext,
  type ParameterizedObject,
  type PromiseActorLogic,
} from "xstate";
import type { ErrorCode } from "../../words/errors.ts";

const EFFECT = Symbol("keyturn.effect");

interface TellSpec {
  readonly kind: "tell";
  readonly to: unknown;
  readonly event: unknown;
}

interface ReplySpec {
  readonly kind: "reply";
  readonly value: unknown;
}

interface TellAllSpec {
  readonly kind: "tellAll";
  readonly tells: unknown;
}

/** Several at once, known only when the action is reached; see `perform`. */
interface PerformSpec {
  readonly kind: "perform";
  readonly run: () => Performance;
}

/** What a turn's own code wants done, in order. */
export interface Performance {
  readonly replied: boolean;
  readonly reply: unknown;
  readonly wishes: readonly Wish[];
  /** Whoever asked is answered in a later turn, by an `answer`. */
  readonly deferred?: boolean;
}

/** An actor that waits for an answer. Plain data. */
export interface Asker {
  readonly session: string;
  readonly from: string;
}

export type Wish =
  | { readonly kind: "tell"; readonly to: string; readonly event: unknown }
  | { readonly kind: "emit"; readonly event: object }
  /**
   * An event to the actor itself, after a delay. One of the same id replaces it. `spare`: where the actor has no more
   * timers left than so many, this happens instead.
   */
  | {
      readonly kind: "later";
      readonly id: string | undefined;
      readonly delay_ms: number;
      readonly event: EventObject;
      readonly spare?: { readonly timers: number; readonly instead: Wish };
    }
  | { readonly kind: "cancel"; readonly id: string }
  | {
      readonly kind: "answer";
      readonly to: Asker;
      readonly value: unknown;
      readonly error?: { readonly code: ErrorCode; readonly message: string };
    };

export type EffectSpec = TellSpec | TellAllSpec | ReplySpec | PerformSpec;

/**
 * Of the turn that is being taken: its time, milliseconds since the epoch, set by the host before each step, and the actor
 * that asks, set by step.ts.
 */
export const moment: { now: number; asker: Asker | undefined } = { now: 0, asker: undefined };

/** What an action of ours wants; undefined for any other. */
export function effectOf(action: unknown): EffectSpec | undefined {
  return (action as { [EFFECT]?: EffectSpec } | undefined)?.[EFFECT];
}

type Expression<C extends MachineContext, E extends EventObject, P, A extends EventObject, R> = (
  args: ActionArgs<C, E, A>,
  params: P,
) => R;

/**
 * A value that is not a function. (With `unknown` TypeScript would not infer the expression's arguments; without the
 * index signature it would refuse the properties of an object literal.)
 */
type Plain =
  | string
  | number
  | boolean
  | bigint
  | null
  | undefined
  | (object & { readonly call?: never })
  | { readonly call?: never; readonly [name: string]: unknown };

/** An action in a machine, as XState types them. */
export type DurableAction<
  C extends MachineContext,
  E extends EventObject,
  P extends ParameterizedObject["params"] | undefined,
  A extends EventObject,
> = (args: ActionArgs<C, E, A>, params: P) => void;

function mark<A extends (...args: never[]) => void>(spec: EffectSpec, name: string): A {
  const action = (() => undefined) as (() => void) & { [EFFECT]?: EffectSpec };
  Object.defineProperty(action, "name", { value: name });
  action[EFFECT] = spec;
  return action as unknown as A;
}

/**
 * Tells another actor, from inside a machine: the message is part of this turn's record, leaves after the commit,
 * and is applied exactly once.
 * @param to an address, `type/key`
 */
export function tell<
  C extends MachineContext,
  E extends EventObject,
  P extends ParameterizedObject["params"] | undefined,
  A extends EventObject,
>(
  to: string | Expression<C, E, P, A, string>,
  event: (EventObject & { readonly [name: string]: unknown }) | Expression<C, E, P, A, EventObject>,
): DurableAction<C, E, P, A> {
  return mark({ kind: "tell", to, event }, "tell");
}

/** A message for another actor: its address, `type/key`, and the event. */
export type AddressedEvent = readonly [to: string, event: EventObject & { readonly [name: string]: unknown }];

/**
 * Tells many actors in one turn, in the order of the list: as so many `tell`, at a fraction of their cost.
 * @param tells at most `limits.tellsPerTurn` with all that the turn tells
 */
export function tellAll<
  C extends MachineContext,
  E extends EventObject,
  P extends ParameterizedObject["params"] | undefined,
  A extends EventObject,
>(
  tells: readonly AddressedEvent[] | Expression<C, E, P, A, readonly AddressedEvent[]>,
): DurableAction<C, E, P, A> {
  return mark({ kind: "tellAll", tells }, "tellAll");
}

/**
 * Answers whoever asked, from inside a machine. The last reply of a turn counts; without one the asker gets the new
 * state. Ignored when nobody asked.
 */
export function reply<
  C extends MachineContext,
  E extends EventObject,
  P extends ParameterizedObject["params"] | undefined,
  A extends EventObject,
>(value: Plain | Expression<C, E, P, A, unknown>): DurableAction<C, E, P, A> {
  return mark({ kind: "reply", value }, "reply");
}

/**
 * Tells, replies, emits and sets timers, whatever a function says: for facades whose machines run code that is not made
 * of actions. Not part of the public interface.
 */
export function perform(run: () => Performance): () => void {
  return mark({ kind: "perform", run }, "perform");
}

/** What the creator of an invoked promise is given, besides `input`, `self`, `system` and `emit`. */
export interface PromiseArgs {
  /** The same for every attempt and re-run of this invocation, and never used for another. */
  readonly idempotencyKey: string;
  /** Counts from 1. Above 1 it may have run before: it failed and is tried again, or its node was lost. */
  readonly attempt: number;
  /** Aborted when the state is left. */
  readonly signal: AbortSignal;
  /** The context of the durable actor that it works for, as it was committed when this run began. Frozen. */
  readonly context?: unknown;
  /**
   * W3C `traceparent` of the turn that has invoked it, for requests to others. Missing if that turn had none, and, unless
   * its trace is recorded, when the promise is run again after its node was lost.
   */
  readonly trace?: string;
  /** W3C `tracestate` that goes with it. */
  readonly traceState?: string;
}

type Creator<TOutput, TInput> = Parameters<typeof fromPromise<TOutput, TInput>>[0];

/**
 * XState's `fromPromise` with what this runtime gives the creator in its types. The promise is run at least once, after
 * the commit of the turn that invoked it. In a plain XState actor `idempotencyKey` and `attempt` are undefined.
 */
export function fromDurablePromise<TOutput, TInput = unknown>(
  creator: (args: Parameters<Creator<TOutput, TInput>>[0] & PromiseArgs) => PromiseLike<TOutput>,
): PromiseActorLogic<TOutput, TInput> {
  return fromPromise<TOutput, TInput>(creator as Creator<TOutput, TInput>);
}

/** What `ask` takes as its input. */
export interface AskInput {
  /** An address, `type/key`. */
  readonly to: string;
  readonly event: EventObject & { readonly [name: string]: unknown };
  /** After so many milliseconds the question fails with the code `timeout`; without it, it waits for ever. */
  readonly timeout_ms?: number;
}

/**
 * Asks another actor, from inside a machine: `invoke: { src: ask, input: { to: "account/bob", event } }`. Durable: the
 * question leaves with the turn's record, the answer comes back as `done` (the machine's reply, or else the new state)
 * or as `error` (an Error with `code`, `outcome` and `retryable`) exactly once, also when either side moves. Leaving the
 * state does not take the question back; its answer is ignored then.
 */
// biome-ignore lint/suspicious/noExplicitAny: an answer is what the asked actor gives
export const ask: PromiseActorLogic<any, AskInput> = fromPromise<any, AskInput>(() =>
  Promise.reject(new Error("ask is answered by Keyturn; a plain XState actor cannot ask.")),
);
