/**
 * The machine of a partition: takes batches, tells what they say, and knows how far that is delivered.
 *
 * Talks to the engine through `tellAll` and `reply` only. (It builds a machine, so it imports XState's public interface.)
 */
import { and, assign, not, setup } from "xstate";
import { type AddressedEvent, reply, tellAll } from "../../engine/machine.ts";
import { gatesAsked } from "./gate-addresses.ts";
import {
  type Fence,
  type FenceEvent,
  FENCES_MAX,
  GATES_AT_ONCE,
  type ItemsEvent,
  PAGE_LETTERS,
  pageKey,
  type PackedLetter,
  pagesFor,
  same,
  type PartitionContext,
  type PartitionEvent,
  type PartitionReply,
  SINCE_MAX,
  WHEREVER,
} from "./words.ts";

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

/** @param keep how many letters of a partition are kept */
export function partitionMachine(type: string, keep: number) {
  const pages = pagesFor(keep);
  return setup({
    types: {
      context: {} as PartitionContext & { readonly key: string },
      events: {} as PartitionEvent,
      input: {} as { readonly type: string; readonly key: string },
    },
    guards: {
      follows: ({ context, event }) => {
        const { from, behind } = event as ItemsEvent;
        if (from === WHEREVER) return true;
        return from === context.revision && (behind === undefined || same(behind, context.position));
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
          ...(letters.length === 0 ? {} : { malformed: context.malformed + letters.length, keep }),
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

function pagesOf(
  type: string,
  {
    key,
    malformed,
    position,
  }: { readonly key: string; readonly malformed: number; readonly position: PartitionContext["position"] },
  { letters }: ItemsEvent,
  pages: number,
): readonly AddressedEvent[] {
  const tells: AddressedEvent[] = [];
  const placed = letters.map((letter): PackedLetter => {
    const [number, reason, text, time, before = position] = letter;
    return [number, reason, text, time, before];
  });
  for (let at = 0; at < letters.length; ) {
    const first = malformed + at;
    const here = placed.slice(at, at + PAGE_LETTERS - (first % PAGE_LETTERS));
    tells.push([`${type}/${pageKey(key, first, pages)}`, { type: "letters", first, letters: here }]);
    at += here.length;
  }
  return tells;
}
