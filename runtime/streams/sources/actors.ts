/**
 * The actors that a source consists of: its plan, its partitions, its gates, and the pages of its dead letters.
 *
 * Owns their machines and events. Talks to the engine through `tellAll` and `reply` only. (It builds machines, so it
 * imports XState's public interface.)
 *
 * Invariants:
 * 1. A partition moves its position in the turn that tells the items before it: what follows from an item is committed
 *    with the position, in one record, and leaves through the exactly-once channels between shards. There is no other way
 *    to move it.
 * 2. A batch names the revision that it follows. One that does not fit changes nothing, and its answer says where the
 *    partition stands. So any number of runners may bring batches; one of them gets on.
 * 3. `delivered` is a revision below which everything told is committed by whom it was told to: a gate in each shard
 *    answers, in the order of the channel that the items went, after them.
 * 4. Dead letters of a partition lie in a ring of pages of a bounded number; older ones are overwritten.
 */
import { and, assign, cancel, enqueueActions, not, setup } from "xstate";
import { type AddressedEvent, reply, tellAll } from "../../engine/machine.ts";
import { parseAddress, shardOf } from "../../words/address.ts";
import { limits } from "../../words/limits.ts";
import { type AnyActorDefinition, type ActorDefinition, defineActor } from "../../engine/definition.ts";

/** Where a reader stands in a partition: plain data of the reader's own. */
export type Position = string | number | { readonly [name: string]: string | number } | null;

/** A part of a source, as it is stored in the plan. Its key is its index there, for ever. */
export interface PlannedPartition {
  /** What it is a part of: a file's path, a stream's name, a producer. The parts of one group are planned at once. */
  readonly group: string;
  /** The reader's own description of it. */
  readonly spec: Readonly<Record<string, string | number | null>>;
  /** By which the reader knows that the group is still what it was when it was planned. */
  readonly identity: Readonly<Record<string, string | number | null>>;
}

/** An item that could not be used: its number (line, row, sequence), why, and its beginning. */
export type PackedLetter = readonly [number: number, reason: string, text: string, time: number];

export type PartitionEvent =
  | {
      readonly type: "items";
      /** The revision that this follows; `WHEREVER` if it is told apart by a request id instead. */
      readonly from: number;
      /** Where the reader stands after it. */
      readonly position: Position;
      readonly items: number;
      readonly skipped: number;
      readonly missed: number;
      readonly letters: readonly PackedLetter[];
      readonly tells: readonly AddressedEvent[];
      /** Nothing came after it. */
      readonly ended: boolean;
    }
  | FenceEvent
  | { readonly type: "arrived"; readonly fence: number };

/**
 * Asks the gates of the shards that something was told to since the last such question; with `all`, of every shard. Where
 * one turn cannot tell so many, further parts of the same question follow.
 */
export interface FenceEvent {
  readonly type: "fence";
  /** Drawn, so that no answer to another life of the partition fits. */
  readonly fence: number;
  /** Of the app. */
  readonly shards: number;
  readonly all: boolean;
  /** Counts from 0. */
  readonly part: number;
}

export interface PartitionContext {
  /** Batches that it has taken. */
  readonly revision: number;
  readonly position: Position;
  readonly items: number;
  readonly skipped: number;
  /** Also the number of letters that it has written. */
  readonly malformed: number;
  /** Items that were gone before they could be read. */
  readonly missed: number;
  readonly told: number;
  readonly ended: boolean;
  readonly delivered: number;
  /** Items of the batches up to `delivered`. */
  readonly deliveredItems: number;
  /** To whom something was told since the gates were asked last: addresses, or "many". */
  readonly since: readonly string[] | "many";
  readonly fences: readonly Fence[];
}

/** A question to gates that is not wholly answered. */
interface Fence {
  readonly id: number;
  readonly revision: number;
  readonly items: number;
  /** Every gate was asked: so it speaks for all that was told before, also for questions that nobody answers. */
  readonly all: boolean;
  readonly waiting: number;
}

/** What a partition answers to items. */
export interface PartitionReply {
  readonly applied: boolean;
  readonly revision: number;
  readonly position: Position;
  readonly delivered: number;
}

export interface PlanContext {
  readonly partitions: readonly PlannedPartition[];
  readonly runners: readonly string[];
}

export type PlanEvent =
  | { readonly type: "plan"; readonly partitions: readonly PlannedPartition[] }
  | { readonly type: "here"; readonly runner: string; readonly lease_ms: number }
  | { readonly type: "left"; readonly runner: string };

type PageEvent = {
  readonly type: "letters";
  readonly first: number;
  readonly letters: readonly PackedLetter[];
};

export interface PageContext {
  /** Number of the first letter in it. */
  readonly first: number;
  readonly letters: readonly PackedLetter[];
}

/** Follows any revision. */
export const WHEREVER = -1;

/** Letters in one page. */
export const PAGE_LETTERS = 64;
/** Parts of a source; one actor keeps the list of them. */
export const PARTITIONS_MAX = 1_024;
/** Each has a timer in the plan. */
export const RUNNERS_MAX = 200;

/** Questions to gates that may be open. */
const FENCES_MAX = 16;
/** Addresses that are remembered until the gates are asked. */
const SINCE_MAX = 32;

/** Gates that one turn asks. */
export const GATES_AT_ONCE = limits.tellsPerTurn - 24;

export const PLAN_KEY = "plan";

const fresh: PartitionContext = {
  revision: 0,
  position: null,
  items: 0,
  skipped: 0,
  malformed: 0,
  missed: 0,
  told: 0,
  ended: false,
  delivered: 0,
  deliveredItems: 0,
  since: [],
  fences: [],
};

type ItemsEvent = Extract<PartitionEvent, { type: "items" }>;

/** The definitions of a source's actors. */
export interface SourceActors {
  readonly partition: ActorDefinition<string, ReturnType<typeof partitionMachine>>;
  readonly plan: ActorDefinition<string, typeof planMachine>;
  readonly gate: AnyActorDefinition;
  readonly page: ActorDefinition<string, typeof pageMachine>;
}

/**
 * @param name of the source
 * @param letters how many dead letters are kept of each partition
 */
export function sourceActors(name: string, letters: number): SourceActors {
  const type = `source-${name}`;
  const pages = Math.ceil(letters / PAGE_LETTERS) + 1;
  return {
    partition: defineActor({ type, machine: partitionMachine(type, pages) }),
    plan: defineActor({ type: `${type}-plan`, machine: planMachine }),
    gate: defineActor({ type: `${type}-gate`, machine: gateMachine }),
    page: defineActor({ type: `${type}-letters`, machine: pageMachine }),
  };
}

/** Key of the page that holds a partition's letter. */
export function pageKey(partition: string, letter: number, pages: number): string {
  return `${partition}:${Math.floor(letter / PAGE_LETTERS) % pages}`;
}

function partitionMachine(type: string, pages: number) {
  return setup({
    types: {
      context: {} as PartitionContext & { readonly key: string },
      events: {} as PartitionEvent,
      input: {} as { readonly type: string; readonly key: string },
    },
    guards: {
      follows: ({ context, event }) => {
        const { from } = event as ItemsEvent;
        return from === context.revision || from === WHEREVER;
      },
      isFirst: ({ event }) => (event as FenceEvent).part === 0,
      isOpen: ({ context, event }) =>
        context.fences.some(({ id, all }) => all && id === (event as FenceEvent).fence),
      hasRoom: ({ context, event }) => context.fences.length < FENCES_MAX || (event as FenceEvent).all,
    },
    actions: {
      take: assign(({ context, event }) => {
        const since = sinceThen(context, event as ItemsEvent, pages, type);
        const { position, items, skipped, missed, letters, tells, ended } = event as ItemsEvent;
        return {
          revision: context.revision + 1,
          position,
          items: context.items + items,
          ...(skipped === 0 ? {} : { skipped: context.skipped + skipped }),
          ...(letters.length === 0 ? {} : { malformed: context.malformed + letters.length }),
          ...(missed === 0 ? {} : { missed: context.missed + missed }),
          told: context.told + tells.length,
          ended,
          ...(since === context.since ? {} : { since }),
        };
      }),
      tellItems: tellAll(({ event }) => (event as ItemsEvent).tells),
      tellLetters: tellAll(({ context, event }) =>
        pagesOf(`${type}-letters`, context, event as ItemsEvent, pages),
      ),
      askGates: tellAll(({ context, event }) => {
        const { fence, part } = event as FenceEvent;
        const told = { type: "fence", fence, from: `${type}/${context.key}` };
        return gatesAsked(`${type}-gate`, context.since, event as FenceEvent)
          .slice(part * GATES_AT_ONCE, (part + 1) * GATES_AT_ONCE)
          .map((gate) => [gate, told] as const);
      }),
      fence: assign(({ context, event }) => {
        const { revision, items, fences, since } = context;
        const { fence: id, all, shards } = event as FenceEvent;
        const waiting = gatesAsked(`${type}-gate`, since, event as FenceEvent).length;
        const one: Fence = { id, revision, items, all: all || waiting === shards, waiting };
        const open = fences.length < FENCES_MAX ? [...fences, one] : [one];
        return { ...settled({ ...context, fences: open }), since: [] };
      }),
      pass: assign(({ context, event }) => {
        const { fence } = event as { fence: number };
        const fences = context.fences.map((one) =>
          one.id === fence ? { ...one, waiting: one.waiting - 1 } : one,
        );
        return settled({ ...context, fences });
      }),
      answerApplied: reply(({ context }) => standing(context, true)),
      answerRefused: reply(({ context }) => standing(context, false)),
    },
  }).createMachine({
    context: ({ input }) => ({ ...fresh, key: input.key }),
    on: {
      items: [
        // The letters' numbers follow from the count before.
        { guard: "follows", actions: ["tellLetters", "tellItems", "take", "answerApplied"] },
        { actions: "answerRefused" },
      ],
      fence: [
        { guard: and(["isFirst", "hasRoom"]), actions: ["askGates", "fence", "answerApplied"] },
        { guard: and([not("isFirst"), "isOpen"]), actions: ["askGates", "answerApplied"] },
        { actions: "answerRefused" },
      ],
      arrived: { actions: "pass" },
    },
  });
}

function standing({ revision, position, delivered }: PartitionContext, applied: boolean): PartitionReply {
  return { applied, revision, position, delivered };
}

/** Takes away the fences that are passed, and notes how far everything is delivered. */
function settled({ fences, delivered, deliveredItems }: PartitionContext) {
  let at = fences.findLastIndex(({ all, waiting }) => all && waiting <= 0);
  while (at + 1 < fences.length && (fences[at + 1] as Fence).waiting <= 0) at++;
  const passed = fences[at];
  return {
    fences: fences.slice(at + 1),
    delivered: Math.max(delivered, passed?.revision ?? 0),
    deliveredItems: Math.max(deliveredItems, passed?.items ?? 0),
  };
}

/** To whom something was told since the gates were asked, after a batch. */
function sinceThen(
  context: PartitionContext & { readonly key: string },
  event: ItemsEvent,
  pages: number,
  type: string,
): PartitionContext["since"] {
  const { since } = context;
  const { tells, letters } = event;
  if (since === "many" || (tells.length === 0 && letters.length === 0)) return since;
  if (tells.length > 4 * SINCE_MAX) return "many";
  const told = new Set(since);
  for (const [to] of tells) told.add(to);
  for (const [to] of pagesOf(`${type}-letters`, context, event, pages)) told.add(to);
  return told.size > SINCE_MAX ? "many" : [...told];
}

/** The gates that a question is for. Further parts of one come when `since` is empty, so they name all. */
function gatesAsked(type: string, since: PartitionContext["since"], { all, part, shards }: FenceEvent) {
  const gates = gatesOf(type, shards);
  if (all || part > 0 || since === "many") return gates;
  const told = since.map((to) => {
    const { type: of, key } = parseAddress(to);
    return gates[shardOf(of, key, shards)] as string;
  });
  return [...new Set(told)];
}

const known = new Map<string, readonly string[]>();

/** An address of a type in each shard, by shard. */
function gatesOf(type: string, shards: number): readonly string[] {
  const name = `${type}/${shards}`;
  let gates = known.get(name);
  if (gates === undefined) known.set(name, (gates = findGates(type, shards)));
  return gates;
}

function findGates(type: string, shards: number): readonly string[] {
  const gates: string[] = [];
  for (let key = 0, found = 0; found < shards; key++) {
    const shard = shardOf(type, String(key), shards);
    if (gates[shard] !== undefined) continue;
    gates[shard] = `${type}/${key}`;
    found++;
  }
  return gates;
}

function pagesOf(
  type: string,
  { key, malformed }: { readonly key: string; readonly malformed: number },
  { letters }: ItemsEvent,
  pages: number,
): readonly AddressedEvent[] {
  const tells: AddressedEvent[] = [];
  for (let at = 0; at < letters.length; ) {
    const first = malformed + at;
    const here = letters.slice(at, at + PAGE_LETTERS - (first % PAGE_LETTERS));
    tells.push([`${type}/${pageKey(key, first, pages)}`, { type: "letters", first, letters: here }]);
    at += here.length;
  }
  return tells;
}

/** Who runs a source and what its parts are. Also the meeting point of its runners. */
const planMachine = setup({
  types: {
    context: {} as PlanContext,
    events: {} as PlanEvent | { readonly type: "lost"; readonly runner: string },
  },
  guards: {
    isNew: ({ context, event }) => !context.runners.includes((event as { runner: string }).runner),
    hasRoom: ({ context }) => context.runners.length < RUNNERS_MAX,
  },
  actions: {
    add: assign({
      partitions: ({ context, event }) => {
        const known = new Set(context.partitions.map(({ group }) => group));
        const { partitions } = event as { partitions: readonly PlannedPartition[] };
        const more = partitions.filter(({ group }) => !known.has(group));
        const all = [...context.partitions, ...more];
        return all.length > PARTITIONS_MAX ? context.partitions : all;
      },
    }),
    enter: assign({
      runners: ({ context, event }) => [...context.runners, (event as { runner: string }).runner].sort(),
    }),
    watch: enqueueActions(({ event, enqueue }) => {
      const { runner, lease_ms } = event as { runner: string; lease_ms: number };
      enqueue.cancel(runner);
      enqueue.raise({ type: "lost", runner }, { id: runner, delay: lease_ms });
    }),
    forget: assign({
      runners: ({ context, event }) =>
        context.runners.filter((one) => one !== (event as { runner: string }).runner),
    }),
    unwatch: cancel(({ event }) => (event as { runner: string }).runner),
    answer: reply(({ context }) => context),
  },
}).createMachine({
  context: { partitions: [], runners: [] },
  on: {
    plan: { actions: ["add", "answer"] },
    here: [
      { guard: and(["isNew", "hasRoom"]), actions: ["enter", "watch", "answer"] },
      { guard: "isNew", actions: "answer" },
      { actions: ["watch", "answer"] },
    ],
    left: { actions: ["forget", "unwatch", "answer"] },
    lost: { actions: "forget" },
  },
});

/** Answers a partition that its messages to this shard are through. */
const gateMachine = setup({
  types: { events: {} as { readonly type: "fence"; readonly fence: number; readonly from: string } },
}).createMachine({
  on: {
    fence: { actions: tellAll(({ event }) => [[event.from, { type: "arrived", fence: event.fence }]]) },
  },
});

const pageMachine = setup({
  types: { context: {} as PageContext, events: {} as PageEvent },
}).createMachine({
  context: { first: 0, letters: [] },
  on: {
    letters: {
      actions: assign(({ context, event }) => {
        const first = event.first - (event.first % PAGE_LETTERS);
        const kept = first === context.first ? context.letters : [];
        return { first, letters: [...kept, ...event.letters] };
      }),
    },
  },
});
