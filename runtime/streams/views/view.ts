/**
 * Views: a stateful aggregation over what actors of other types emit, itself made of actors, one for each key.
 *
 * Owns `defineView` and the route by which events come. What an aggregate takes of an event is taken in the turn that
 * emits it; the view's actors do not see events, and run no code of the view's author but that of `fold`.
 *
 * Invariants:
 * 1. Each emitted event counts once in each view: it is told in its turn's record, over a channel.
 * 2. A function of a view that throws never refuses the turn that emitted: the event becomes a dead letter of the view.
 */
import type { Client } from "../../client/client.ts";
import type { ActorDefinition } from "../../engine/definition.ts";
import { defineActor } from "../../engine/definition.ts";
import type { EmittedBy, Route, RoutedMessage } from "../../engine/routes.ts";
import { checkType, encodeKey, hashTokens } from "../../words/address.ts";
import type { Duration } from "../../words/duration.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";
import { VIEW_LANE } from "../../words/lanes.ts";
import { limits } from "../../words/limits.ts";
import { sizeOf } from "../../words/values.ts";
import {
  type AnyEmitted,
  type EmittedFor,
  type EmittedOn,
  type Emitting,
  routesOver,
  withRoutes,
} from "../routes.ts";
import type { Aggregates } from "./aggregates.ts";
import { ADD, FAULT, FAULTS_KEY, viewMachine, type ViewKind } from "./machine.ts";
import { ViewReader } from "./reader.ts";
import { lightPath, partKey } from "./state.ts";
import { openMax, type WindowSpec } from "./windows.ts";

export interface ViewOptions<
  D extends Emitting,
  On extends string | readonly string[],
  A extends Aggregates,
> {
  /** Whose emitted events: a definition, another view (its closed windows), or a list. */
  readonly over: D | readonly D[];
  /** Which of them: a type, `order.*`, `*`, or a list; all by default. */
  readonly on?: On;
  /** Which key of the view an event belongs to; undefined for none. The key of the emitting actor by default. */
  readonly key?: (event: EmittedOn<EmittedFor<D>, NoInfer<On>>, by: EmittedBy) => string | undefined;
  /** Leaves events out. */
  readonly where?: (event: EmittedOn<EmittedFor<D>, NoInfer<On>>, by: EmittedBy) => boolean;
  /** What is kept: `{ orders: count(), revenue: sum("cents") }`. */
  readonly aggregate: A;
  /** Windows by event time; without it everything is one. */
  readonly window?: WindowSpec;
  /**
   * Splits each key over so many actors, which are merged when it is read: for keys with more events than one actor takes.
   * 1 by default, at most 256. Only if all aggregates are mergeable, and neither sessions nor closed windows are wanted.
   * The events of one emitting actor go to one part; what is late is judged by each part, by what has come to it.
   */
  readonly split?: number;
  /**
   * Names of aggregates by which `top` is asked: kept in the index of the view's type, in step with each commit, so that
   * `top` reads only the keys that it gives. Of `count`, `sum`, `min` and `max`, without `window` and `split`.
   */
  readonly index?: readonly (keyof A & string)[];
  /** A key is forgotten so long after its last event, by the clock; without it, never. */
  readonly idleAfter?: Duration;
  /** See `defineActor`. */
  readonly version?: number;
}

/** A view. Host its `actors` on every node; read it by `reader(client)`. */
export interface View<A extends Aggregates = Aggregates> {
  readonly name: string;
  /** What nodes host: `startNode({ actors: [order, ...sales.actors] })`. */
  readonly actors: readonly ViewDefinition[];
  /** What other views, sinks and subscriptions are over. */
  readonly definition: ViewDefinition;
  readonly split: number;
  reader(client: Client): ViewReader<A>;
}

export type ViewDefinition = ActorDefinition<string, ReturnType<typeof viewMachine>>;

const SPLIT_MAX = 256;
/** Larger events are left out of dead letters. */
const FAULT_BYTES = limits.eventBytes / 2;
/** Of `limits.stateBytes`, what windows may take by the estimates of their aggregates. */
const ROOM_BYTES = 700 * 1024;
const SLOT_BYTES = 48;

/**
 * Declares a view:
 *
 * ```ts
 * const sales = defineView("sales", {
 *   over: order,
 *   on: "order.paid",
 *   key: (event) => event.country,
 *   aggregate: { orders: count(), revenue: sum("cents"), top: topK(10, { by: "product" }) },
 *   window: tumbling("1 hour", { time: "at", lateness: "10 minutes" }),
 * });
 * const node = await startNode({ actors: [order, ...sales.actors], store });
 * const { values } = await sales.reader(node.client).get("DE");
 * ```
 *
 * An event that a function of the view throws on, or that an aggregate cannot take (a sum of a text), becomes a dead
 * letter of the view; the turn that emitted it stands. A view sees what is emitted from the moment on when all nodes host
 * it. Reads are of what has reached the view, shortly behind what was acknowledged; `settled()` waits until it has.
 * @param name the type of its actors
 * @throws KeyturnError `invalid_options`, `invalid_address`
 */
export function defineView<
  D extends Emitting,
  const On extends string | readonly string[],
  const A extends Aggregates,
>(name: string, options: ViewOptions<D, On, A>): View<A> {
  checkType(name);
  if (typeof options?.aggregate !== "object" || options.aggregate === null)
    throw invalid(name, "says what it keeps: { aggregate: { orders: count() } }");
  const { aggregate, window, split = 1, version, idleAfter, index } = options;
  checkAggregates(name, aggregate, window, split);
  if (index !== undefined) checkIndex(name, index, options);
  const kind: ViewKind = { name, aggregates: aggregate, window, tells: split === 1 };
  const deliver = delivering(kind, options as unknown as ViewOptions<Emitting, string, A>, split);
  const routes = routesOver(name, options.over, options.on ?? "*", VIEW_LANE, deliver);
  for (const source of [options.over].flat() as Emitting[]) checkTells(name, source);
  const plain = defineActor({
    type: name,
    machine: viewMachine(kind),
    ...(version === undefined ? {} : { version }),
    ...(idleAfter === undefined ? {} : { idleAfter }),
    ...(index === undefined ? {} : { index: index.map(lightPath) }),
  });
  const definition: ViewDefinition = withRoutes(plain, routes);
  if (split > 1) splitViews.add(definition);
  const depth = 1 + Math.max(...([options.over].flat() as Emitting[]).map(depthOf));
  depths.set(definition, depth);
  return Object.freeze({
    name,
    actors: Object.freeze([definition]),
    definition,
    split,
    reader: (client: Client) =>
      new ViewReader<A>(client, { kind, definition, split, depth, index: index ?? [] }),
  });
}

/** Their actors emit nothing. */
const splitViews = new WeakSet<object>();

/** Of views, how many stand behind one another, the last one included. */
const depths = new WeakMap<object, number>();

function depthOf(source: Emitting): number {
  return depths.get("definition" in source ? source.definition : source) ?? 0;
}

/** Throws if something is to be told what a split view closes. */
export function checkTells(name: string, source: Emitting): void {
  const definition = "definition" in source ? source.definition : source;
  if (!splitViews.has(definition)) return;
  throw invalid(
    name,
    `is over the view "${definition.type}", which is split: no part of a key knows all of a window, so none is emitted`,
  );
}

function delivering<A extends Aggregates>(
  kind: ViewKind,
  options: ViewOptions<Emitting, string, A>,
  split: number,
): Route["deliver"] {
  const { name, window } = kind;
  const key = options.key as ((event: AnyEmitted, by: EmittedBy) => string | undefined) | undefined;
  const where = options.where as ((event: AnyEmitted, by: EmittedBy) => boolean) | undefined;
  const aggregates = Object.entries(options.aggregate);
  const count = (event: AnyEmitted, by: EmittedBy): RoutedMessage | undefined => {
    if (where !== undefined && !where(event, by)) return undefined;
    const group = key === undefined ? by.key : key(event, by);
    if (group === undefined || group === null) return undefined;
    if (typeof group !== "string") throw new Error(`its key is ${typeof group}, not a text.`);
    const part = split === 1 ? group : partKey(group, partOf(by, split));
    encodeKey(part);
    const taken: Record<string, unknown> = {};
    for (const [one, aggregate] of aggregates) {
      const given = aggregate.take(event, by);
      if (given !== undefined) taken[one] = given;
    }
    return { to: `${name}/${part}`, event: { type: ADD, time: timeOf(window, event, by), taken } };
  };
  return (event, by) => {
    try {
      return count(event as AnyEmitted, by);
    } catch (cause) {
      const kept = sizeOf(event) > FAULT_BYTES ? undefined : event;
      return {
        to: `${name}/${FAULTS_KEY}`,
        event: { type: FAULT, why: textOf(cause), from: by.address, event: kept },
      };
    }
  };
}

function timeOf(window: WindowSpec | undefined, event: AnyEmitted, by: EmittedBy): number {
  if (window === undefined) return 0;
  const time = window.timeOf(event, by);
  if (time - by.at > window.ahead_ms)
    throw new Error(
      `its time is ${new Date(time).toISOString()}, more than ${window.ahead_ms} ms ahead of the clock (see "ahead").`,
    );
  return time;
}

/** All events of one actor go to one part, so they stay in their order. */
function partOf({ type, key }: EmittedBy, split: number): number {
  return hashTokens(type, encodeKey(key)) % split;
}

function checkAggregates(
  name: string,
  aggregates: Aggregates,
  window: WindowSpec | undefined,
  split: number,
): void {
  const list = Object.entries(aggregates);
  if (list.length === 0) throw invalid(name, "keeps nothing: give it an aggregate, such as count()");
  for (const [one, aggregate] of list) {
    if (typeof aggregate?.add !== "function" || typeof aggregate.kind !== "string")
      throw invalid(name, `has an aggregate "${one}" that is none; use count(), sum("cents") …`);
  }
  if (window !== undefined && typeof window.timeOf !== "function")
    throw invalid(name, "has a window that is none; use tumbling(), hopping() or session()");
  if (!Number.isSafeInteger(split) || split < 1 || split > SPLIT_MAX)
    throw invalid(name, `is split by a whole number from 1 to ${SPLIT_MAX}, not ${split}`);
  const needed = split > 1 ? "be split" : window?.kind === "session" ? "have sessions" : undefined;
  const fixed = list.find(([, { mergeable }]) => !mergeable);
  if (needed !== undefined && fixed !== undefined)
    throw invalid(
      name,
      `cannot ${needed}: "${fixed[0]}" (${fixed[1].kind}) depends on the order of events, or has no merge. Split views and sessions take aggregates that commute`,
    );
  if (split > 1 && window?.kind === "session")
    throw invalid(name, "cannot be split: a session may lie in several parts, and none would know its end");
  checkRoom(
    name,
    list.reduce((sum, [, { bytes }]) => sum + bytes, SLOT_BYTES),
    window,
  );
}

/** Their states are their results. */
const RANKED: ReadonlySet<string> = new Set(["count", "sum", "min", "max"]);

function checkIndex(
  name: string,
  index: unknown,
  {
    aggregate,
    window,
    split = 1,
  }: Pick<ViewOptions<Emitting, string, Aggregates>, "aggregate" | "window" | "split">,
): void {
  if (!Array.isArray(index) || new Set(index).size !== index.length)
    throw invalid(name, 'has an index that is none: a list of names of its aggregates, ["cents"], each once');
  if (window !== undefined || split > 1)
    throw invalid(
      name,
      `has no index, since ${window === undefined ? "its keys are split: no part has all of one" : "its values are of windows"}. Leave "index" out: top reads all keys`,
    );
  for (const one of index as readonly unknown[]) {
    const { [String(one)]: found } = aggregate;
    if (found === undefined || !Object.hasOwn(aggregate, String(one)))
      throw invalid(
        name,
        `has no aggregate "${String(one)}" for its index. It has ${Object.keys(aggregate).join(", ")}`,
      );
    if (!RANKED.has(found.kind))
      throw invalid(
        name,
        `cannot have "${String(one)}" (${found.kind}) in its index: only count, sum, min and max`,
      );
    if (String(one).includes("."))
      throw invalid(name, `cannot have "${String(one)}" in its index: a name there has no dot`);
  }
}

function checkRoom(name: string, bytes: number, window: WindowSpec | undefined): void {
  const windows = window === undefined ? 1 : openMax(window) + window.keep;
  if (windows * bytes <= ROOM_BYTES) return;
  throw invalid(
    name,
    `may need ${windows} windows of ${bytes} bytes for a key, more than the ${ROOM_BYTES} that an actor holds of them. Keep fewer closed windows, allow less lateness, or use smaller capacities`,
  );
}

function invalid(name: string, text: string): KeyturnError {
  return new KeyturnError("invalid_options", `The view "${name}" ${text}.`);
}
