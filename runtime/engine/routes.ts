/**
 * Routes: what an actor emits becomes messages to other actors, within the turn that emits it.
 *
 * Owns which routes a type has on this node, and what they make of an event. Talks to nobody; step.ts asks it for each
 * turn that emitted something, and puts the messages into the turn's record (outgoing.ts). So they are a transactional
 * outbox like everything that is told: delivered exactly once, in order from one actor to another, with no journal
 * being read. A type without routes pays one comparison a turn.
 *
 * Invariants:
 * 1. A route is a function of the event, the actor's address and the turn's time. It is asked once for each event.
 * 2. A route that throws, or gives something that cannot be told, refuses the turn by name (`route_failed`).
 */
import { KeyturnError, textOf } from "../words/errors.ts";
import type { EventObject } from "./machine/internals.ts";

/** Who emitted an event, and when. */
export interface EmittedBy {
  readonly type: string;
  readonly key: string;
  /** `type/key`. */
  readonly address: string;
  /** Time of the turn, milliseconds since the epoch, by the clock of the actor's node. */
  readonly at: number;
}

/** A message that a route makes of an event. */
export interface RoutedMessage {
  /** An address, `type/key`. */
  readonly to: string;
  readonly event: { readonly type: string; readonly [name: string]: unknown };
}

/** Of events of one type to whoever subscribes to them. Belongs to the definition of the receiving actors. */
export interface Route {
  /** For the texts of errors. */
  readonly name: string;
  /** Type of the actors whose emitted events it is asked about. */
  readonly over: string;
  /** Types of events: `order.paid`, `order.*` or `*`. */
  readonly on: readonly string[];
  /** 0 for what is always taken; another lane for what may have to wait (see words/lanes.ts). */
  readonly lane: number;
  deliver(event: EventObject, by: EmittedBy): RoutedMessage | readonly RoutedMessage[] | undefined;
}

/** Types of events that are remembered, of each type of actors. */
const KNOWN_MAX = 1_024;
const none: readonly Route[] = [];

/** Whether an event's type is one of those that `on` describes. */
export function matches(on: readonly string[], type: string): boolean {
  return on.some(
    (one) => one === "*" || one === type || (one.endsWith(".*") && `${type}.`.startsWith(one.slice(0, -1))),
  );
}

/** The routes of one type on this node. */
export class RouteTable {
  readonly #routes: readonly Route[];
  readonly #known = new Map<string, readonly Route[]>();

  constructor(routes: readonly Route[]) {
    this.#routes = routes;
  }

  /** Those that are to be asked about an event. */
  of({ type }: EventObject): readonly Route[] {
    let found = this.#known.get(type);
    if (found === undefined) {
      const all = this.#routes.filter(({ on }) => matches(on, type));
      found = all.length === 0 ? none : all;
      if (this.#known.size < KNOWN_MAX) this.#known.set(type, found);
    }
    return found;
  }
}

/** What a route makes of an event. Throws `route_failed`. */
export function delivered(route: Route, event: EventObject, by: EmittedBy): readonly RoutedMessage[] {
  let messages: RoutedMessage | readonly RoutedMessage[] | undefined;
  try {
    messages = route.deliver(event, by);
  } catch (cause) {
    throw routeFailed(route, event, by, textOf(cause), cause);
  }
  if (messages === undefined) return [];
  return Array.isArray(messages) ? messages : [messages as RoutedMessage];
}

export function routeFailed(
  { name }: Route,
  { type }: EventObject,
  { address }: EmittedBy,
  why: string,
  cause?: unknown,
): KeyturnError {
  const text = `The route "${name}" failed for "${type.slice(0, 80)}", which ${address} emitted: ${why} The turn is not applied.`;
  return new KeyturnError("route_failed", text, { cause });
}

/** The routes of all definitions, by the type that they are over. */
export function routesByType(
  definitions: readonly { readonly routes?: readonly Route[] | undefined }[],
  hosted: (type: string) => boolean,
): ReadonlyMap<string, RouteTable> {
  const byType = new Map<string, Route[]>();
  for (const { routes = [] } of definitions) {
    for (const route of routes) {
      if (!hosted(route.over))
        throw new KeyturnError(
          "invalid_options",
          `"${route.name}" is over the type "${route.over}", which is not among the actors. Every node hosts all types of an app.`,
        );
      byType.set(route.over, [...(byType.get(route.over) ?? []), route]);
    }
  }
  return new Map([...byType].map(([type, routes]) => [type, new RouteTable(routes)]));
}
