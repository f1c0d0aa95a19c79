/**
 * The machine of a sink's partition: takes emitted events, holds what is not published, and has it published.
 *
 * Owns the buffer and its bounds, the numbering, and when a batch is tried again. It builds a machine for users, by
 * XState's public interface. What publishes is the target, within an invoked promise, so it runs again wherever the
 * partition goes.
 *
 * A record holds the top-level properties that changed. So the buffer is properties, `g0`, `g1` …, each a few items:
 * one for each item would make every turn copy and compare hundreds, one for all would write all with each. A property
 * is taken again when its items are settled (XState cannot remove any). The promise is not given the items by its input,
 * which would write them twice: it reads them from the context that was committed when it began.
 *
 * Invariants:
 * 1. Items `sent + 1` to `next` are in the buffer; their numbers never change, and none is left out.
 * 2. A batch that was begun keeps its bounds until it is settled, whatever fails meanwhile.
 * 3. What does not fit is not refused but waits in the channel that it came by (`sink_full`, see engine.ts).
 */
import { assign, enqueueActions, setup } from "xstate";
import { fromDurablePromise, type PromiseArgs, tell } from "../../engine/machine.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";
import { limits } from "../../words/limits.ts";
import { sizeOf } from "../../words/values.ts";
import type { AnyEmitted } from "../routes.ts";
import type { Published, SinkItem, SinkTarget } from "./target.ts";

export const PUT = "sink.put";
export const RETRY = "sink.retry";
/** An item that was given up; always refused, so that it becomes a dead letter. */
export const DEAD = "sink.dead";
/** Larger events are left out of dead letters: with what is said of them they might not be told. */
export const DEAD_BYTES = limits.eventBytes / 2;
/** Key of the actor that refuses those. */
export const DEAD_KEY = "~dead";

export interface PutEvent {
  readonly type: typeof PUT;
  readonly from: string;
  readonly at: number;
  readonly size: number;
  readonly event: AnyEmitted;
}

export type SinkEvent =
  | PutEvent
  | { readonly type: typeof RETRY }
  | {
      readonly type: typeof DEAD;
      readonly why: string;
      readonly id: string;
      readonly from: string;
      readonly event?: AnyEmitted;
    };

interface SinkHead {
  readonly key: string;
  /** Undefined before the first item. */
  readonly epoch: string | undefined;
  /** Number of the last item taken in, of the last one settled, and of the last one of the batch under way. */
  readonly next: number;
  readonly sent: number;
  readonly upTo: number;
  /** Of what is in the buffer. */
  readonly bytes: number;
  /** Which properties hold groups of items, in the order of their numbers. */
  readonly groups: readonly number[];
  readonly mark: unknown;
  /** Items published, and given up. */
  readonly published: number;
  readonly refused: number;
  /** Attempts in a row that failed, and why the last one did. */
  readonly failures: number;
  readonly error: string | undefined;
  /** How long the next attempt waits. */
  readonly pause_ms: number;
}

/** And the items. */
export interface SinkContext extends SinkHead {
  readonly [item: string]: unknown;
}

/** An item in the buffer. */
export interface Held {
  readonly from: string;
  readonly at: number;
  readonly size: number;
  readonly event: AnyEmitted;
}

/** Items of successive numbers, from `first` on. */
interface Group {
  readonly first: number;
  readonly bytes: number;
  readonly items: readonly Held[];
}

/** A group that has so much takes no more. */
const GROUP_ITEMS = 8;
const GROUP_BYTES = 4 * 1024;

export interface SinkKind {
  readonly name: string;
  readonly target: SinkTarget;
  /** Items that the buffer of a partition holds, and their bytes. */
  readonly capacity: number;
  readonly bytes: number;
  /** Items in a batch. */
  readonly batch: number;
  readonly attempts: number;
  readonly first_ms: number;
  readonly factor: number;
  readonly last_ms: number;
}

interface Order {
  readonly key: string;
  readonly from: number;
  readonly upTo: number;
}

const emptySink: Omit<SinkHead, "key"> = {
  epoch: undefined,
  next: 0,
  sent: 0,
  upTo: 0,
  bytes: 0,
  groups: [],
  mark: undefined,
  published: 0,
  refused: 0,
  failures: 0,
  error: undefined,
  pause_ms: 0,
};

export function sinkMachine(kind: SinkKind) {
  const { name } = kind;
  return setup({
    types: {
      context: {} as SinkContext,
      events: {} as SinkEvent,
      input: {} as { readonly key: string },
    },
    actors: { publish: fromDurablePromise<Published, Order>((args) => publish(kind, args)) },
    delays: { pause: ({ context }) => context.pause_ms },
    guards: {
      has: ({ context }) => context.next > context.sent,
      givesUp: ({ context, event }) => isRefusal(event) || context.failures + 1 >= kind.attempts,
    },
    actions: {
      begin: assign(({ context }) => ({
        upTo: context.upTo > context.sent ? context.upTo : Math.min(context.next, context.sent + kind.batch),
      })),
    },
  }).createMachine({
    context: ({ input }) => ({ ...emptySink, key: input.key }),
    on: {
      [PUT]: { actions: assign(({ context, event }) => put(kind, context, event)) },
      [DEAD]: {
        actions: enqueueActions(({ event }) => {
          const { why, id, from } = event;
          throw new KeyturnError(
            "sink_refused",
            `The sink "${name}" gave up ${id}, which ${from} emitted: ${why}`,
          );
        }),
      },
    },
    initial: "idle",
    states: {
      idle: { always: { guard: "has", target: "sending" } },
      sending: {
        entry: "begin",
        invoke: {
          src: "publish",
          id: "publish",
          input: ({ context }) => ({ key: context.key, from: context.sent + 1, upTo: context.upTo }),
          onDone: {
            target: "idle",
            actions: enqueueActions(({ context, event, enqueue }) => {
              const { mark, refused = [] } = event.output;
              settle(kind, context, refused, mark, enqueue as unknown as Enqueue);
            }),
          },
          onError: [
            {
              guard: "givesUp",
              target: "idle",
              actions: enqueueActions(({ context, event, enqueue }) => {
                const why = whyOf(event.error);
                const all: [number, string][] = [];
                for (let number = context.sent + 1; number <= context.upTo; number++) all.push([number, why]);
                // Where the target stands is not known any more.
                settle(kind, context, all, undefined, enqueue as unknown as Enqueue);
              }),
            },
            {
              target: "waiting",
              actions: assign(({ context, event }) => failed(kind, context, event.error)),
            },
          ],
        },
      },
      waiting: {
        after: { pause: "sending" },
        on: { [RETRY]: "sending" },
      },
    },
  });
}

type Enqueue = ((action: unknown) => void) & { assign(update: object): void };

function put(
  kind: SinkKind,
  context: SinkContext,
  { from, at, size, event }: PutEvent,
): Record<string, unknown> {
  const { next, sent, bytes, epoch } = context;
  if (next > sent && (next - sent >= kind.capacity || bytes + size > kind.bytes))
    throw new KeyturnError(
      "sink_full",
      `The sink "${kind.name}" holds ${next - sent} events of ${bytes} bytes that are not published yet, its limit.${context.error === undefined ? "" : ` The last attempt failed: ${context.error}`}`,
    );
  const held: Held = { from, at, size, event };
  const number = next + 1;
  const head = {
    next: number,
    bytes: bytes + size,
    ...(epoch === undefined ? { epoch: at.toString(36) } : {}),
  };
  const { groups } = context;
  const last = groups.at(-1);
  const group = last === undefined ? undefined : (context[nameOf(last)] as Group);
  if (group !== undefined && group.items.length < GROUP_ITEMS && group.bytes < GROUP_BYTES)
    return {
      ...head,
      [nameOf(last as number)]: { ...group, bytes: group.bytes + size, items: [...group.items, held] },
    };
  let free = 0;
  while (groups.includes(free)) free++;
  return {
    ...head,
    groups: [...groups, free],
    [nameOf(free)]: { first: number, bytes: size, items: [held] },
  };
}

/** A batch is settled: all of it is published but for what was refused. */
function settle(
  kind: SinkKind,
  context: SinkContext,
  refused: readonly (readonly [number, string])[],
  mark: unknown,
  enqueue: Enqueue,
): void {
  const update: Record<string, unknown> = {};
  const settled = itemsOf(kind, context, context.sent + 1, context.upTo);
  for (const [number, why] of refused) {
    const item = settled[number - context.sent - 1] as SinkItem;
    const { id, from } = item;
    const event = sizeOf(item.event) > DEAD_BYTES ? undefined : item.event;
    enqueue(tell(`${kind.name}/${DEAD_KEY}`, { type: DEAD, why, id, from, event }));
  }
  let { bytes } = context;
  const groups: number[] = [];
  for (const at of context.groups) {
    const { first, items } = context[nameOf(at)] as Group;
    for (const [index, { size }] of items.entries())
      if (first + index > context.sent && first + index <= context.upTo) bytes -= size;
    if (first + items.length - 1 > context.upTo) groups.push(at);
    else update[nameOf(at)] = null;
  }
  const count = context.upTo - context.sent;
  enqueue.assign({
    ...update,
    bytes,
    groups,
    sent: context.upTo,
    mark,
    published: context.published + count - refused.length,
    refused: context.refused + refused.length,
    failures: 0,
    error: refused.at(-1)?.[1],
  });
}

function failed(kind: SinkKind, { failures }: SinkContext, error: unknown): Partial<SinkContext> {
  const asked = Number((error as { retryAfter_ms?: unknown } | undefined)?.retryAfter_ms);
  const pause = Math.min(kind.first_ms * kind.factor ** failures, kind.last_ms);
  const pause_ms = asked > pause ? Math.min(asked, kind.last_ms) : pause;
  return { failures: failures + 1, error: whyOf(error).slice(0, 1_000), pause_ms };
}

/** Errors, and whatever else a target throws. */
function whyOf(error: unknown): string {
  const { message } = (error ?? {}) as { message?: unknown };
  return typeof message === "string" ? message : textOf(error);
}

function isRefusal(event: unknown): boolean {
  return (event as { error?: { refused?: unknown } }).error?.refused === true;
}

function nameOf(group: number): string {
  return `g${group}`;
}

/** Items in the buffer, by their numbers. */
function itemsOf(kind: SinkKind, context: SinkContext, from: number, upTo: number): SinkItem[] {
  const found: SinkItem[] = [];
  for (const group of context.groups) {
    const { first, items } = context[nameOf(group)] as Group;
    for (const [index, held] of items.entries()) {
      const number = first + index;
      if (number < from || number > upTo) continue;
      const { at, event } = held;
      found.push({
        number,
        id: `${kind.name}.${context.key}.${context.epoch}.${number}`,
        from: held.from,
        at,
        event,
      });
    }
  }
  return found;
}

/** The item of a partition that has waited longest; undefined if none does. */
export function oldestOf(kind: SinkKind, context: SinkContext): SinkItem | undefined {
  return itemsOf(kind, context, context.sent + 1, context.sent + 1)[0];
}

async function publish(
  kind: SinkKind,
  { input, signal, attempt, context }: { readonly input: Order } & PromiseArgs,
): Promise<Published> {
  const held = context as SinkContext;
  const { key, from, upTo } = input;
  const items = itemsOf(kind, held, from, upTo);
  const epoch = held.epoch as string;
  const { mark, refused } = await kind.target.publish(
    { sink: kind.name, partition: Number(key), epoch, items, mark: held.mark },
    {
      signal,
      attempt: attempt + held.failures,
      idempotencyKey: `${kind.name}.${key}.${epoch}.${from}-${upTo}`,
    },
  );
  return { ...(mark === undefined ? {} : { mark }), ...(refused === undefined ? {} : { refused }) };
}
