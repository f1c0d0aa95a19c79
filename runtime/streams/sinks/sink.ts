/**
 * Sinks: what actors emit, published to the outside.
 *
 * Owns `defineSink`, the route by which events come, and the reading of a sink's status. A sink is made of actors, one a
 * partition (machine.ts); events of one emitting actor go to one partition, so they are published in their order.
 *
 * While a target is down nothing is lost and nothing grows without bound: a partition holds so many events; more of them
 * wait in the channels that they come by, which are the sink's own (words/lanes.ts), so nothing else waits behind them;
 * and when those are full as well, turns that would emit to the sink are refused, `sink_full`, with its name. Turns that
 * emit nothing to it go on.
 */
import type { Client } from "../../client/client.ts";
import { type ActorDefinition, type ActorState, defineActor } from "../../engine/definition.ts";
import type { EmittedBy, Route } from "../../engine/routes.ts";
import { checkType, encodeKey, hashTokens } from "../../words/address.ts";
import { type Duration, durationOf } from "../../words/duration.ts";
import { KeyturnError } from "../../words/errors.ts";
import { SINK_LANES } from "../../words/lanes.ts";
import { sizeOf } from "../../words/values.ts";
import {
  type AnyEmitted,
  type EmittedFor,
  type EmittedOn,
  type Emitting,
  routesOver,
  withRoutes,
} from "../routes.ts";
import { checkTells } from "../views/view.ts";
import {
  DEAD,
  DEAD_BYTES,
  DEAD_KEY,
  oldestOf,
  PUT,
  RETRY,
  type SinkContext,
  type SinkKind,
  sinkMachine,
} from "./machine.ts";
import type { SinkTarget } from "./target.ts";

export interface SinkOptions<D extends Emitting, On extends string | readonly string[]> {
  /** Whose emitted events: a definition, a view (its closed windows), or a list. */
  readonly over: D | readonly D[];
  /** Which of them: a type, `order.*`, `*`, or a list; all by default. */
  readonly on?: On;
  /** Leaves events out. If it throws, the event becomes a dead letter of the sink. */
  readonly where?: (event: EmittedOn<EmittedFor<D>, NoInfer<On>>, by: EmittedBy) => boolean;
  /** What is published instead of the event; must have a `type`. If it throws, the event becomes a dead letter. */
  readonly map?: (
    event: EmittedOn<EmittedFor<D>, NoInfer<On>>,
    by: EmittedBy,
  ) => { readonly type: string; readonly [name: string]: unknown };
  /** `toJetStream`, `toHttp`, `toFile` or `toFunction`. */
  readonly to: SinkTarget;
  /** Actors that publish at once; 8 by default, at most 256. Changing it changes which events keep their order. */
  readonly partitions?: number;
  /** Events in one batch; 100 by default, at most 1,000. */
  readonly batch?: number;
  /** What a partition holds before others wait; 256 events and 256 KiB by default, at most 4,096 and 384 KiB. */
  readonly buffer?: { readonly events?: number; readonly bytes?: number };
  /** Pauses between attempts, and how many there are before a batch becomes dead letters; for ever by default. */
  readonly retry?: {
    readonly attempts?: number;
    /** "1 s" by default. */
    readonly first?: Duration;
    /** 2 by default. */
    readonly factor?: number;
    /** The longest; "1 minute" by default. */
    readonly last?: Duration;
  };
  /** See `defineActor`. */
  readonly version?: number;
}

export interface PartitionStatus {
  readonly partition: number;
  /** `waiting`: the last attempt failed, and another one follows. */
  readonly state: "idle" | "sending" | "waiting";
  /** Events that are taken in and not published: the lag. Those that still wait in channels are not counted. */
  readonly waiting: number;
  /** When the oldest of them was emitted, milliseconds since the epoch. */
  readonly oldest_at: number | undefined;
  readonly published: number;
  /** Events that were given up; they are dead letters. */
  readonly refused: number;
  /** Attempts in a row that failed. */
  readonly failures: number;
  readonly error: string | undefined;
}

export interface SinkStatus {
  readonly target: string;
  readonly waiting: number;
  readonly oldest_at: number | undefined;
  readonly published: number;
  readonly refused: number;
  /** Partitions whose last attempt failed. */
  readonly failing: number;
  /** Partitions that hold as much as they may. */
  readonly full: number;
  readonly error: string | undefined;
  readonly partitions: readonly PartitionStatus[];
}

/** A sink. Host its `actors` on every node. */
export interface Sink {
  readonly name: string;
  readonly actors: readonly SinkDefinition[];
  readonly partitions: number;
  /** How it is, of each partition as of its last committed turn. */
  status(client: Client): Promise<SinkStatus>;
  /** Tries at once what waits for its next attempt. */
  retryNow(client: Client): Promise<void>;
  /** Ends connections that this process holds for it. They are made again when needed. */
  close(): Promise<void>;
}

export type SinkDefinition = ActorDefinition<string, ReturnType<typeof sinkMachine>>;

const PARTITIONS_DEFAULT = 8;
const BATCH_DEFAULT = 100;
const EVENTS_DEFAULT = 256;
const BYTES_DEFAULT = 256 * 1024;
const MOST = { partitions: 256, batch: 1_000, events: 4_096, bytes: 384 * 1024 } as const;

/**
 * Declares a sink:
 *
 * ```ts
 * const out = defineSink("out", {
 *   over: order,
 *   on: "order.*",
 *   to: toJetStream({ nats: { servers: "127.0.0.1:4222" }, stream: "ORDERS", subject: "orders" }),
 *   partitions: 8,
 * });
 * const node = await startNode({ actors: [order, ...out.actors], store });
 * const { waiting, error } = await out.status(node.client);
 * ```
 *
 * @param name the type of its actors
 * @throws KeyturnError `invalid_options`, `invalid_address`
 */
export function defineSink<D extends Emitting, const On extends string | readonly string[]>(
  name: string,
  options: SinkOptions<D, On>,
): Sink {
  checkType(name);
  const kind = kindOf(name, options as unknown as SinkOptions<Emitting, string>);
  const partitions = whole(name, "partitions", options.partitions ?? PARTITIONS_DEFAULT, MOST.partitions);
  kind.target.check?.(name, partitions);
  for (const source of [options.over].flat() as Emitting[]) checkTells(name, source);
  const deliver = delivering(name, options as unknown as SinkOptions<Emitting, string>, partitions);
  // Sinks on different lanes do not wait for one another.
  const lane = 1 + (hashTokens("sink", name) % SINK_LANES);
  const routes = routesOver(name, options.over, options.on ?? "*", lane, deliver);
  const { version } = options;
  const plain = defineActor({
    type: name,
    machine: sinkMachine(kind),
    ...(version === undefined ? {} : { version }),
  });
  const definition: SinkDefinition = withRoutes(plain, routes);
  const refs = (client: Client) =>
    Array.from({ length: partitions }, (_, partition) => client.actor(definition, String(partition)));
  return Object.freeze({
    name,
    actors: Object.freeze([definition]),
    partitions,
    status: async (client: Client) => {
      const states = await Promise.all(refs(client).map((ref) => ref.get()));
      return statusOf(kind, states as unknown as ActorState[]);
    },
    retryNow: async (client: Client) => {
      const waiting = (
        await Promise.all(refs(client).map(async (ref) => ({ ref, state: await ref.get() })))
      ).filter(({ state }) => state.value === "waiting");
      await Promise.all(waiting.map(({ ref }) => ref.send({ type: RETRY })));
    },
    close: async () => kind.target.close?.(),
  });
}

function delivering(
  name: string,
  options: SinkOptions<Emitting, string>,
  partitions: number,
): Route["deliver"] {
  const where = options.where as ((event: AnyEmitted, by: EmittedBy) => boolean) | undefined;
  const map = options.map as ((event: AnyEmitted, by: EmittedBy) => AnyEmitted) | undefined;
  return (emitted, by) => {
    let event = emitted as AnyEmitted;
    try {
      if (where !== undefined && !where(event, by)) return undefined;
      if (map !== undefined) event = map(event, by);
      if (typeof event?.type !== "string") throw new Error('what map() gives has no "type".');
      const size = sizeOf(event);
      return {
        to: `${name}/${partitionOf(by, partitions)}`,
        event: { type: PUT, from: by.address, at: by.at, size, event },
      };
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      const kept = sizeOf(emitted) > DEAD_BYTES ? undefined : (emitted as AnyEmitted);
      const dead = { type: DEAD, why, id: "an event", from: by.address, event: kept };
      return { to: `${name}/${DEAD_KEY}`, event: dead };
    }
  };
}

function partitionOf({ type, key }: EmittedBy, partitions: number): number {
  return hashTokens(type, encodeKey(key)) % partitions;
}

function statusOf(kind: SinkKind, states: readonly ActorState[]): SinkStatus {
  const partitions = states.map(({ value, context }, partition): PartitionStatus => {
    const held = context as unknown as SinkContext;
    return {
      partition,
      state: value as PartitionStatus["state"],
      waiting: held.next - held.sent,
      oldest_at: oldestOf(kind, held)?.at,
      published: held.published,
      refused: held.refused,
      failures: held.failures,
      error: held.error,
    };
  });
  const all = (read: (one: PartitionStatus) => number): number =>
    partitions.reduce((sum, one) => sum + read(one), 0);
  const oldest = Math.min(...partitions.map(({ oldest_at }) => oldest_at ?? Number.POSITIVE_INFINITY));
  const worst = [...partitions]
    .sort((a, b) => b.failures - a.failures)
    .find(({ error }) => error !== undefined);
  return {
    target: kind.target.description,
    waiting: all(({ waiting }) => waiting),
    oldest_at: Number.isFinite(oldest) ? oldest : undefined,
    published: all(({ published }) => published),
    refused: all(({ refused }) => refused),
    failing: all(({ failures }) => Math.sign(failures)),
    full: all(({ waiting }) => (waiting >= kind.capacity ? 1 : 0)),
    error: worst?.error,
    partitions,
  };
}

function kindOf(name: string, options: SinkOptions<Emitting, string>): SinkKind {
  const { to, batch = BATCH_DEFAULT, buffer = {}, retry = {} } = options ?? {};
  if (typeof to?.publish !== "function")
    throw invalid(name, "publishes to something: toJetStream(), toHttp(), toFile() or toFunction()");
  const capacity = whole(name, "buffer.events", buffer.events ?? EVENTS_DEFAULT, MOST.events);
  const { attempts = Number.POSITIVE_INFINITY, factor = 2 } = retry;
  if (!(attempts === Number.POSITIVE_INFINITY || (Number.isSafeInteger(attempts) && attempts > 0)))
    throw invalid(name, `makes a whole number of attempts from 1, not ${attempts}`);
  if (!(factor >= 1 && Number.isFinite(factor)))
    throw invalid(name, `has pauses that grow by 1 at least, not ${factor}`);
  const first_ms = Math.max(1, durationOf(retry.first ?? "1 s", "The first pause"));
  return {
    name,
    target: to,
    capacity,
    bytes: whole(name, "buffer.bytes", buffer.bytes ?? BYTES_DEFAULT, MOST.bytes),
    batch: Math.min(whole(name, "batch", batch, MOST.batch), capacity),
    attempts,
    first_ms,
    factor,
    last_ms: Math.max(first_ms, durationOf(retry.last ?? "1 minute", "The longest pause")),
  };
}

function whole(name: string, what: string, value: number, most: number): number {
  if (Number.isSafeInteger(value) && value >= 1 && value <= most) return value;
  throw invalid(name, `has ${what} from 1 to ${most}, not ${value}`);
}

function invalid(name: string, text: string): KeyturnError {
  return new KeyturnError("invalid_options", `The sink "${name}" ${text}.`);
}
