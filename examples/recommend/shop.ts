/**
 * A shop that knows what goes together: each item is an actor that counts what it was bought with, each basket one that
 * tells its items.
 *
 * A basket is bought once, however often it is said: it is an actor of its own and knows that it was. What it tells its
 * items leaves with the turn in which it was bought, and reaches each of them once, whatever dies in between.
 */
import { defineActor, tell } from "keyturn";
import { assign, enqueueActions, setup } from "xstate";
import { counted, type Counts } from "./counts.ts";

export interface ItemContext {
  /** In how many baskets it was. */
  readonly baskets: number;
  /** What else was in them. */
  readonly together: Counts;
}

/** How many neighbours an item remembers. */
const KEPT = 500;

export const item = defineActor({
  type: "item",
  machine: setup({
    types: {
      context: {} as ItemContext,
      events: {} as { type: "bought"; basket: string; others: readonly string[] },
    },
  }).createMachine({
    id: "item",
    context: { baskets: 0, together: new Map() },
    on: {
      bought: {
        actions: [
          assign({
            baskets: ({ context }) => context.baskets + 1,
            together: ({ context, event }) => counted(context.together, event.others, KEPT),
          }),
          tell(({ event }) => `basket/${event.basket}`, { type: "counted" }),
        ],
      },
    },
  }),
});

export const basket = defineActor({
  type: "basket",
  machine: setup({
    types: {
      context: {} as { key: string; uncounted: number },
      input: {} as { key: string },
      events: {} as { type: "buy"; items: readonly string[] } | { type: "counted" },
    },
    actions: {
      tellItems: enqueueActions(({ context, event, enqueue }) => {
        if (event.type !== "buy") return;
        enqueue.assign({ uncounted: event.items.length });
        for (const name of event.items) {
          const others = event.items.filter((other) => other !== name);
          enqueue(tell(`item/${name}`, { type: "bought", basket: context.key, others }));
        }
      }),
      countDown: assign({ uncounted: ({ context }) => context.uncounted - 1 }),
    },
    guards: { isCounted: ({ context }) => context.uncounted === 0 },
  }).createMachine({
    id: "basket",
    context: ({ input }) => ({ key: input.key, uncounted: 0 }),
    initial: "open",
    states: {
      open: { on: { buy: { target: "bought", actions: "tellItems" } } },
      bought: {
        on: { counted: { actions: "countDown" } },
        always: { guard: "isCounted", target: "counted" },
      },
      /** All its items know of it. */
      counted: {},
    },
  }),
});
