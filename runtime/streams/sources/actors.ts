/**
 * The actors that a source consists of: its plan, its partitions, its gates, and the pages of its dead letters.
 *
 * Owns their definitions, and the machines of all but the partition (partition-machine.ts). (It builds machines, so it
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
 * 4. Dead letters of a partition lie in a ring of pages of a bounded number; older ones are overwritten. A letter whose
 *    item can be used after all is told by its page, in the turn that drops the letter: so that counts once too.
 */
import { and, assign, cancel, enqueueActions, setup } from "xstate";
import { reply, tellAll } from "../../engine/machine.ts";
import { type ActorDefinition, type AnyActorDefinition, defineActor } from "../../engine/definition.ts";
import { lettersType, partitionType, planType } from "../../words/sources.ts";
import { partitionMachine } from "./partition-machine.ts";
import {
  PAGE_LETTERS,
  type PageContext,
  type PageEvent,
  PARTITIONS_MAX,
  type PlanContext,
  type PlanEvent,
  type PlannedPartition,
  RUNNERS_MAX,
} from "./words.ts";

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
  const type = partitionType(name);
  return {
    partition: defineActor({
      type,
      machine: partitionMachine(type, letters),
      // What is posted again counts as the same, however this version of the source maps it.
      fingerprint: (event) => ("of" in event ? event.of : undefined),
    }),
    plan: defineActor({ type: planType(name), machine: planMachine }),
    gate: defineActor({ type: `${type}-gate`, machine: gateMachine }),
    page: defineActor({ type: lettersType(name), machine: pageMachine }),
  };
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
    note: assign({
      shares: ({ context, event }) => {
        const { runner, share } = event as Extract<PlanEvent, { type: "here" }>;
        const { shares = {} } = context;
        return share === undefined || !context.runners.includes(runner)
          ? shares
          : { ...shares, [runner]: share };
      },
    }),
    forget: assign(({ context, event }) => {
      const { runner } = event as { runner: string };
      const { [runner]: _, ...shares } = context.shares ?? {};
      return { runners: context.runners.filter((one) => one !== runner), shares };
    }),
    unwatch: cancel(({ event }) => (event as { runner: string }).runner),
    answer: reply(({ context }) => context),
  },
}).createMachine({
  context: { partitions: [], runners: [] },
  on: {
    plan: { actions: ["add", "answer"] },
    here: [
      { guard: and(["isNew", "hasRoom"]), actions: ["enter", "note", "watch", "answer"] },
      { guard: "isNew", actions: "answer" },
      { actions: ["note", "watch", "answer"] },
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
  guards: {
    isThere: ({ context: { first, letters }, event }) => {
      const { letter, number } = event as Retry;
      return letters[letter - first]?.[0] === number;
    },
  },
  actions: {
    tellItem: tellAll(({ event }) => (event as Retry).tells),
  },
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
    drop: {
      actions: [
        reply(
          ({ context, event }) => event.letters.filter((one) => context.letters[one - context.first]).length,
        ),
        assign(({ context, event }) => without(context, event.letters)),
      ],
    },
    retry: [
      {
        guard: "isThere",
        actions: ["tellItem", assign(({ context, event }) => without(context, [event.letter])), reply(true)],
      },
      { actions: reply(false) },
    ],
  },
});

type Retry = Extract<PageEvent, { type: "retry" }>;

function without({ first, letters }: PageContext, dropped: readonly number[]): Pick<PageContext, "letters"> {
  const gone = new Set(dropped);
  return { letters: letters.map((letter, at) => (gone.has(first + at) ? null : letter)) };
}
