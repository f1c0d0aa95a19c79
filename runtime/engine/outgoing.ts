/**
 * What a turn sends other actors: told messages, questions and answers, with their channels and numbers.
 *
 * Owns the checks of what leaves a turn. Changes nothing: numbers are taken only when the turn is. Talks to address
 * parsing and the shard's out channels.
 */
import { decodeKey, parseAddress, placeOf } from "../words/address.ts";
import { KeyturnError, textOf } from "../words/errors.ts";
import type { AskLink } from "../words/frames.ts";
import { channelTo, isSinkLane } from "../words/lanes.ts";
import { limits } from "../words/limits.ts";
import { seal } from "../words/values.ts";
import type { Message } from "./activation.ts";
import type { ActorState, ChildState } from "./definition.ts";
import {
  familyOf,
  type MachineSnapshot,
  type MachineState,
  type PackedChild,
  plainContext,
  plainError,
  type TellEffect,
  withoutRefs,
} from "./machine.ts";
import { DISPLACED, type Family, shownMembers } from "./machine/family.ts";
import { type EventObject, PROMISE_REJECT, PROMISE_RESOLVE, type StateValue } from "./machine/internals.ts";
import { type OutMessage, typeOfId } from "./record.ts";
import {
  delivered,
  type EmittedBy,
  type Route,
  type RoutedMessage,
  routeFailed,
  type RouteTable,
} from "./routes.ts";
import type { ShardState } from "./shard.ts";

/** Checks an event that came from outside. */
export function checkEvent(event: unknown): asserts event is { type: string } {
  const type: unknown =
    typeof event === "object" && event !== null && !Array.isArray(event)
      ? (event as { type?: unknown }).type
      : undefined;
  if (typeof type !== "string" || type === "") {
    throw new KeyturnError(
      "invalid_event",
      `An event is an object with a non-empty string "type", for example { type: "add" }.`,
    );
  }
  if (type.startsWith("xstate.") || type === "*") {
    throw new KeyturnError(
      "reserved_event",
      `Events of type "${type.slice(0, 80)}" come from the runtime only. Use another name.`,
    );
  }
}

/** The refusal of an event, or an input, over the limit. */
export function tooLarge(bytes: number, name = "event"): KeyturnError {
  return new KeyturnError(
    "event_too_large",
    `The ${name} takes about ${bytes} bytes, at most ${limits.eventBytes} are allowed. Send a reference to the data instead.`,
  );
}

/** An actor's state as clients and asking machines see it. Frozen. */
export function shownState(snapshot: MachineSnapshot, turn: number, position: number): ActorState {
  const { value, context, status, output, error, tags } = snapshot;
  const family = familyOf(snapshot);
  const plain = { value, context, status, output, turn, position };
  if (family === undefined && tags.size === 0 && error === undefined) return Object.freeze(plain);
  return Object.freeze({
    ...plain,
    context: plainContext(snapshot),
    output: family === undefined ? output : withoutRefs(output),
    ...(tags.size === 0 ? {} : { tags: Object.freeze([...tags]) }),
    ...(error === undefined ? {} : { error }),
    ...(family === undefined || family.members.size === 0 ? {} : { children: childrenOf(family) }),
  });
}

/** The same of a state as it is stored. */
export function storedState(
  machine: MachineState,
  turn: number,
  position: number,
  tags: readonly string[],
): ActorState {
  const { value, context, status, output } = machine;
  const state = { value, context, status, output, turn, position, ...rareParts(machine) };
  return Object.freeze(tags.length === 0 ? state : { ...state, tags });
}

/** What few states have, as it is stored. */
export function rareParts({ error, children = [] }: MachineState): Pick<ActorState, "error" | "children"> {
  if (error === undefined && children.length === 0) return {};
  return {
    ...(error === undefined ? {} : { error }),
    ...(children.length === 0 ? {} : { children: Object.fromEntries(shownStored(children)) }),
  };
}

function shownStored(children: readonly PackedChild[]): [string, ChildState][] {
  const shown = shownMembers(children, ([path, , , , flags]) => ({
    path,
    displaced: (flags & DISPLACED) !== 0,
  }));
  return shown.map(([path, child]) => [path, storedChild(child)]);
}

function storedChild([, , src, , , state]: PackedChild): ChildState {
  const parts = Array.isArray(state)
    ? { value: state[0], context: state[1], status: state[2], output: state[3], error: state[5] }
    : (state as Omit<ChildState, "src">);
  const { status, value, context, output, error } = parts;
  return Object.freeze({
    src,
    status,
    ...(value === undefined ? {} : { value }),
    ...(context === undefined ? {} : { context }),
    ...(output === undefined ? {} : { output }),
    ...(error === undefined ? {} : { error }),
  });
}

function childrenOf(family: Family): Readonly<Record<string, ChildState>> {
  const children: Record<string, ChildState> = {};
  for (const [path, { src, snapshot }] of shownMembers(family.members.values(), (member) => member)) {
    const { status, context, output, error } = snapshot;
    children[path] = Object.freeze({
      src,
      status,
      ...("value" in snapshot ? { value: snapshot.value as StateValue } : {}),
      ...(context === undefined ? {} : { context: withoutRefs(context) }),
      ...(output === undefined ? {} : { output: withoutRefs(output) }),
      ...(error === undefined ? {} : { error }),
    });
  }
  return Object.freeze(children);
}

/** The messages of one turn. */
export class Outgoing {
  readonly messages: OutMessage[] = [];
  readonly #shard: ShardState;
  readonly #trace: string | undefined;
  readonly #shards: number;
  readonly #numbers = new Map<number, number>();
  #bytes: number;
  #sinkBytes: number;

  constructor(shard: ShardState, trace: string | undefined, shards: number) {
    this.#shard = shard;
    this.#trace = trace;
    this.#shards = shards;
    this.#bytes = shard.outbox.bytes;
    this.#sinkBytes = shard.outbox.sinkBytes;
  }

  /**
   * @param id of the actor that tells
   * @throws KeyturnError `tell_invalid`, `outbox_full`
   */
  tell({ to, event, asker }: TellEffect, id: string): void {
    try {
      if (typeof to !== "string")
        throw new KeyturnError("invalid_address", "An address is a text, type/key.");
      checkEvent(event);
      const { type, key } = parseAddress(to);
      this.#add(type, key, event, asker === undefined ? undefined : { session: asker, from: id });
    } catch (cause) {
      if (cause instanceof KeyturnError && cause.code === "outbox_full") throw cause;
      throw new KeyturnError(
        "tell_invalid",
        `A message to ${JSON.stringify(to)} cannot be sent: ${textOf(cause)}`,
        { cause },
      );
    }
  }

  /**
   * What the routes of its type make of an emitted event.
   * @throws KeyturnError `route_failed`, `outbox_full`, `sink_full`
   */
  route(routes: RouteTable, event: EventObject, by: EmittedBy): void {
    for (const route of routes.of(event))
      for (const message of delivered(route, event, by)) this.#routed(route, event, by, message);
  }

  #routed(route: Route, event: EventObject, by: EmittedBy, { to, event: told }: RoutedMessage): void {
    if (this.messages.length >= limits.tellsPerTurn)
      throw routeFailed(route, event, by, `one turn may tell at most ${limits.tellsPerTurn} messages.`);
    try {
      checkEvent(told);
      const { type, key } = parseAddress(to);
      this.#add(type, key, told, undefined, route);
    } catch (cause) {
      if (cause instanceof KeyturnError && isFull(cause)) throw cause;
      const why = `what it tells ${JSON.stringify(to)} cannot be sent: ${textOf(cause)}`;
      throw routeFailed(route, event, by, why, cause);
    }
  }

  /** Answers a question; who asked gets an error instead of an answer that cannot be carried. */
  answer(question: Pick<Message, "id" | "link">, value: unknown): void {
    try {
      this.#reply(question, { type: PROMISE_RESOLVE, data: value } as EventObject);
    } catch (cause) {
      if (!(cause instanceof KeyturnError) || cause.code !== "event_too_large") throw cause;
      const text = `The answer of ${question.id} is too large to be carried. What it was asked is done; ask for less.`;
      this.refuse(question, new KeyturnError("answer_too_large", text));
    }
  }

  refuse(question: Pick<Message, "link">, error: KeyturnError): void {
    this.#reply(question, { type: PROMISE_REJECT, data: plainError(error) } as EventObject);
  }

  #reply({ link }: Pick<Message, "link">, event: EventObject): void {
    const { session, from } = link as AskLink & { readonly from: string };
    const type = typeOfId(from);
    this.#add(type, decodeKey(from.slice(type.length + 1)), event, { session, from: undefined });
  }

  #add(toType: string, toKey: string, event: EventObject, link: AskLink | undefined, route?: Route): void {
    const { type, key, id, shard } = placeOf(toType, toKey, this.#shards);
    const bytes = seal(event, "the told event");
    if (bytes > limits.eventBytes) throw tooLarge(bytes);
    const lane = route?.lane ?? 0;
    const toShard = channelTo(shard, lane);
    const channel = this.#shard.out(toShard);
    const number = (this.#numbers.get(toShard) ?? channel.numbered) + 1;
    const open = number - channel.acknowledged;
    if (isSinkLane(lane)) {
      if (open > limits.sinkPerChannel) throw sinkFull(route, `${limits.sinkPerChannel} events`);
      if (this.#sinkBytes + bytes > limits.sinksBytes)
        throw sinkFull(route, `events of ${limits.sinksBytes} bytes, for all sinks,`);
      this.#sinkBytes += bytes;
    } else if (open > limits.outboxPerChannel)
      throw full(`${limits.outboxPerChannel} messages wait for shard ${shard}, which does not take them.`);
    if (this.#bytes + bytes > limits.outboxBytes)
      throw full(`Messages of ${limits.outboxBytes} bytes wait for shards that do not take them.`);
    this.#bytes += bytes;
    this.#numbers.set(toShard, number);
    const message = { type, key, id, toShard, number, event, trace: this.#trace, bytes };
    this.messages.push(link === undefined ? message : { ...message, link });
  }
}

/** Whether an error says that there is no room just now: what was told is then not refused, but waits. */
export function isFull({ code }: KeyturnError): boolean {
  return code === "outbox_full" || code === "sink_full";
}

function sinkFull(route: Route | undefined, what: string): KeyturnError {
  const text = `The sink "${route?.name}" does not take what is emitted: ${what} wait for it in this shard. Nothing was applied. Look at its status, and try again later.`;
  return new KeyturnError("sink_full", text);
}

function full(text: string): KeyturnError {
  return new KeyturnError("outbox_full", `${text} Try again later.`);
}
