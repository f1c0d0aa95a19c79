/** Actors as a user would write them, for the tests of the kit. */
import { defineActor, reply, tell } from "keyturn";
import { assign, emit, setup } from "xstate";

export type OrderEvent =
  | { type: "place"; cents: number }
  | { type: "pay"; cents: number }
  | { type: "ship" }
  | { type: "total" };

/** Placed, then paid within three days or cancelled, then shipped. */
export const order = defineActor({
  type: "order",
  machine: setup({
    types: {
      context: {} as { key: string; cents: number; paid: number },
      events: {} as OrderEvent,
      input: {} as { type: string; key: string },
      emitted: {} as { type: "shipped"; key: string },
    },
  }).createMachine({
    id: "order",
    context: ({ input }) => ({ key: input.key, cents: 0, paid: 0 }),
    initial: "new",
    states: {
      new: {
        on: { place: { target: "placed", actions: assign({ cents: ({ event }) => event.cents }) } },
      },
      placed: {
        on: {
          pay: {
            target: "paid",
            actions: [
              assign({ paid: ({ context, event }) => context.paid + event.cents }),
              tell("ledger/shop", ({ event }) => ({ type: "add", cents: event.cents })),
            ],
          },
        },
        after: { [3 * 86_400_000]: "cancelled" },
      },
      paid: {
        on: {
          ship: {
            target: "shipped",
            actions: [
              tell("stock/main", ({ context }) => ({ type: "take", order: context.key })),
              emit(({ context }) => ({ type: "shipped" as const, key: context.key })),
              reply("on its way"),
            ],
          },
        },
      },
      shipped: { type: "final" },
      cancelled: {},
    },
    on: { total: { actions: reply(({ context }) => context.cents) } },
  }),
  types: {} as { replies: { ship: string; total: number } },
});

/** What was paid, over all orders. */
export const ledger = defineActor({
  type: "ledger",
  machine: setup({
    types: {
      context: {} as { cents: number; entries: number },
      events: {} as { type: "add"; cents: number },
    },
  }).createMachine({
    context: { cents: 0, entries: 0 },
    on: {
      add: {
        actions: assign({
          cents: ({ context, event }) => context.cents + event.cents,
          entries: ({ context }) => context.entries + 1,
        }),
      },
    },
  }),
});
