/**
 * Subscriptions: an actor type that is told of what actors of other types emit.
 *
 * Owns `subscribe` and what views, sinks and subscriptions share in saying what they are over. The messages themselves
 * are made within the emitting turn (engine/routes.ts) and travel like everything that is told.
 */
import type { EmittedFrom } from "xstate";
import type { ActorDefinition, AnyActorDefinition, EventFor } from "../engine/definition.ts";
import type { Machine } from "../engine/machine.ts";
import type { EmittedBy, Route, RoutedMessage } from "../engine/routes.ts";
import { KeyturnError } from "../words/errors.ts";

export type { EmittedBy } from "../engine/routes.ts";

/** Something that hosts actors which emit: a definition, or a view. */
export type Emitting = AnyActorDefinition | { readonly definition: AnyActorDefinition };

/** Any event, where a machine does not declare what it emits. */
export interface AnyEmitted {
  readonly type: string;
  // biome-ignore lint/suspicious/noExplicitAny: as XState's AnyEventObject
  readonly [name: string]: any;
}

/** What actors of a definition emit: `types: { emitted: {} as … }`. */
export type EmittedFor<D> = D extends { readonly definition: infer I }
  ? EmittedFor<I>
  : // biome-ignore lint/suspicious/noExplicitAny: whatever it replies
    D extends ActorDefinition<string, infer M extends Machine, any>
    ? [EmittedFrom<M>] extends [never]
      ? AnyEmitted
      : EmittedFrom<M> extends { readonly type: string }
        ? string extends EmittedFrom<M>["type"]
          ? AnyEmitted
          : EmittedFrom<M>
        : AnyEmitted
    : AnyEmitted;

/** Of an event union those whose type `on` names; all for a wildcard. */
export type EmittedOn<E, On> = On extends string
  ? Extract<E, { readonly type: On }> extends never
    ? E
    : Extract<E, { readonly type: On }>
  : On extends readonly (infer O)[]
    ? Extract<E, { readonly type: O }> extends never
      ? E
      : Extract<E, { readonly type: O }>
    : E;

/** An event for one of a subscriber's own actors. */
export interface ToldTo<To> {
  readonly key: string;
  readonly event: EventFor<To>;
}

/** What a subscriber makes of an event: an event for one of its own actors, several, or nothing. */
export interface Subscription<
  D extends Emitting,
  To,
  On extends string | readonly string[] = string,
  R = ToldTo<To> | readonly ToldTo<To>[] | undefined,
> {
  /** Whose emitted events. */
  readonly over: D | readonly D[];
  /** Which of them: a type, `order.*`, `*`, or a list; all by default. */
  readonly on?: On;
  /**
   * Called within the turn that emits, once for each event. Must depend on its arguments only. If it throws, that turn is
   * refused (`route_failed`).
   */
  readonly tell: (event: EmittedOn<EmittedFor<D>, On>, by: EmittedBy) => R;
}

/**
 * Subscribes an actor type to what other types emit:
 *
 * ```ts
 * const ledger = subscribe(defineActor({ type: "ledger", machine }), {
 *   over: order,
 *   on: "order.paid",
 *   tell: (event, by) => ({ key: event.account, event: { type: "book", order: by.key, cents: event.cents } }),
 * });
 * ```
 *
 * Each emitted event is told in the record of the turn that emits it: exactly once, in order from one actor to another.
 * Host what is returned on every node, beside the type that it is over. An event that is emitted on a node without the
 * subscription is not told: deploy subscribers before they are needed, or rebuild them afterwards.
 * @returns the definition with its subscription
 * @throws KeyturnError `invalid_options`
 */
export function subscribe<
  T extends AnyActorDefinition,
  D extends Emitting,
  const On extends string | readonly string[] = string,
  const R extends ToldTo<T> | readonly ToldTo<T>[] | undefined = ToldTo<T> | readonly ToldTo<T>[] | undefined,
>(definition: T, subscription: Subscription<D, T, On, R>): T {
  if (typeof definition?.type !== "string" || typeof subscription?.tell !== "function") {
    throw new KeyturnError(
      "invalid_options",
      'subscribe takes a definition and { over, on, tell }: subscribe(ledger, { over: order, on: "order.paid", tell: (event) => ({ key, event }) }).',
    );
  }
  const { type } = definition;
  const tell = subscription.tell as unknown as (
    event: AnyEmitted,
    by: EmittedBy,
  ) =>
    | { key: string; event: RoutedMessage["event"] }
    | { key: string; event: RoutedMessage["event"] }[]
    | undefined;
  const routes = routesOver(
    `subscription of ${type}`,
    subscription.over,
    subscription.on ?? "*",
    0,
    (event, by) => {
      const told = tell(event as AnyEmitted, by);
      if (told === undefined || told === null) return undefined;
      const list = Array.isArray(told) ? told : [told];
      return list.map((one) => ({ to: `${type}/${String(one?.key)}`, event: one?.event }));
    },
  );
  return withRoutes(definition, routes);
}

/** A definition with further routes. */
export function withRoutes<T extends AnyActorDefinition>(definition: T, routes: readonly Route[]): T {
  return Object.freeze({ ...definition, routes: Object.freeze([...(definition.routes ?? []), ...routes]) });
}

/**
 * The same actors without what they are told of: host them so for the first half of a rolling deploy, on all nodes, and
 * as they are in the second half. Then no node emits to actors that another does not have yet.
 */
export function withoutRoutes(actors: readonly AnyActorDefinition[]): readonly AnyActorDefinition[] {
  return actors.map((definition) => Object.freeze({ ...definition, routes: undefined }));
}

/** One route for each type that something is over. Throws `invalid_options`. */
export function routesOver(
  name: string,
  over: Emitting | readonly Emitting[],
  on: string | readonly string[],
  lane: number,
  deliver: Route["deliver"],
): Route[] {
  const list = typeof on === "string" ? [on] : on;
  if (!Array.isArray(list) || list.length === 0 || list.some((one) => typeof one !== "string" || one === ""))
    throw new KeyturnError(
      "invalid_options",
      `The ${name} is told "on" which events: a type, "order.*", "*", or a list of them.`,
    );
  const sources = (Array.isArray(over) ? over : [over]) as readonly Emitting[];
  if (sources.length === 0) throw notEmitting(name);
  return sources.map((source) =>
    Object.freeze({ name, over: typeOf(name, source), on: list, lane, deliver }),
  );
}

function typeOf(name: string, source: Emitting): string {
  const definition = (source as { definition?: AnyActorDefinition } | undefined)?.definition ?? source;
  const { type } = (definition ?? {}) as Partial<AnyActorDefinition>;
  if (typeof type !== "string") throw notEmitting(name);
  return type;
}

function notEmitting(name: string): KeyturnError {
  return new KeyturnError(
    "invalid_options",
    `The ${name} is "over" what defineActor or defineView returns, or a list of those.`,
  );
}
