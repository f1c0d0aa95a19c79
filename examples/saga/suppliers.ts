/**
 * The three that a trip is booked with: a flight, a hotel and a purse. Each keeps its own books, and none knows of the
 * others.
 *
 * Every question can be asked again: a trip that has a place already has it once, one that has none gives none back.
 * So whoever asked and does not know what came of it asks again, or undoes it.
 */
import { defineActor, reply } from "keyturn";
import { assign, setup } from "xstate";

/** What a trip asks. Flight and hotel answer `take` with "taken" or why not, and `free` with "free" or "later". */
export type SupplierEvent = { type: "take"; trip: string; amount: number } | { type: "free"; trip: string };

export type SupplierAnswer = "taken" | "refused" | "free" | "later";

type Replies = { take: "taken" | "refused"; free: "free" | "later" };

interface Books {
  /** Seats, beds or cents that can still be had. */
  readonly left: number;
  /** Who has how many, by trip. */
  readonly taken: Readonly<Record<string, number>>;
}

const books = setup({
  types: {
    context: {} as Books,
    events: {} as
      | SupplierEvent
      /** More of them: a larger plane, a new wing, money paid in. */
      | { type: "add"; amount: number }
      /** An office that is closed sells nothing and takes nothing back. */
      | { type: "close" }
      | { type: "open" },
  },
  guards: {
    isTaken: ({ context, event }) => "trip" in event && Object.hasOwn(context.taken, event.trip),
    isThere: ({ context, event }) =>
      event.type === "take" && event.amount > 0 && event.amount <= context.left,
  },
  actions: {
    take: assign(({ context, event }) =>
      event.type === "take"
        ? {
            left: context.left - event.amount,
            taken: { ...context.taken, [event.trip]: event.amount },
          }
        : context,
    ),
    free: assign(({ context, event }) => {
      if (event.type !== "free") return context;
      const { [event.trip]: amount = 0, ...taken } = context.taken;
      return { left: context.left + amount, taken };
    }),
    add: assign(({ context, event }) =>
      event.type === "add" ? { left: context.left + event.amount } : context,
    ),
  },
}).createMachine({
  id: "books",
  context: { left: 0, taken: {} },
  on: { add: { actions: "add" } },
  initial: "open",
  states: {
    open: {
      on: {
        take: [
          { guard: "isTaken", actions: reply("taken") },
          { guard: "isThere", actions: ["take", reply("taken")] },
          { actions: reply("refused") },
        ],
        free: { actions: ["free", reply("free")] },
        close: "closed",
      },
    },
    closed: {
      on: {
        take: [{ guard: "isTaken", actions: reply("taken") }, { actions: reply("refused") }],
        free: [{ guard: "isTaken", actions: reply("later") }, { actions: reply("free") }],
        open: "open",
      },
    },
  },
});

const types = {} as { replies: Replies };

/** Its seats. */
export const flight = defineActor({ type: "flight", machine: books, types });
/** Its beds. */
export const hotel = defineActor({ type: "hotel", machine: books, types });
/** A traveller's cents. */
export const purse = defineActor({ type: "purse", machine: books, types });
