/**
 * A trip is booked with a flight, a hotel and a purse, in that order; all of it, or none.
 *
 * No lock holds the three together. Each step is a question to another actor, and whatever was done is undone when a
 * later step is refused, in reverse order and until it succeeds. A question is durable: it leaves with the turn that
 * asks, its answer comes back once, whatever dies in between.
 *
 * A step whose question failed, rather than being refused, may have been done all the same, so it is undone too. Its
 * undoing cannot overtake it: messages from one actor to another keep their order.
 */
import { ask, defineActor } from "keyturn";
import { assign, setup } from "xstate";
import type { SupplierAnswer } from "./suppliers.ts";

export interface Plan {
  /** Keys of a flight, a hotel and a purse. */
  readonly flight: string;
  readonly hotel: string;
  readonly purse: string;
  readonly people: number;
  readonly cents: number;
}

interface Trip {
  readonly key: string;
  readonly plan: Plan;
  /** What happened, in words. */
  readonly steps: readonly string[];
  /** How often something could not be undone at once. */
  readonly waits: number;
}

/** How long a trip waits before it tries again to undo a step, milliseconds. */
export const PAUSE_MS = 250;

const NO_PLAN: Plan = { flight: "", hotel: "", purse: "", people: 0, cents: 0 };

type Supplier = "flight" | "hotel" | "purse";

const parts = setup({
  types: {
    context: {} as Trip,
    input: {} as { key: string },
    events: {} as
      | { type: "book"; plan: Plan }
      /** Gives a booked trip back. */
      | { type: "cancel" },
    tags: {} as "over",
  },
  actors: { ask },
  delays: { pause: PAUSE_MS },
  actions: {
    note: assign({ steps: ({ context }, step: string) => [...context.steps, step] }),
    wait: assign({ waits: ({ context }) => context.waits + 1 }),
  },
});

/** The state that does a step: on to `next` if it is taken, back to `before` if it is refused. */
function doing(supplier: Supplier, next: string, before: string) {
  return parts.createStateConfig({
    invoke: {
      src: "ask",
      input: ({ context: { key, plan } }) => ({
        to: `${supplier}/${plan[supplier]}`,
        event: { type: "take", trip: key, amount: supplier === "purse" ? plan.cents : plan.people },
      }),
      onDone: [
        {
          guard: ({ event }) => (event.output as SupplierAnswer) === "taken",
          target: next,
          actions: { type: "note", params: `${supplier} taken` },
        },
        { target: before, actions: { type: "note", params: `${supplier} refused` } },
      ],
      onError: {
        target: undoing(supplier),
        actions: { type: "note", params: `${supplier} did not answer` },
      },
    },
  });
}

/** The state that undoes a step, again and again until it is undone; then on to `before`. */
function undone(supplier: Supplier, before: string) {
  return parts.createStateConfig({
    initial: "asking",
    states: {
      asking: {
        invoke: {
          src: "ask",
          input: ({ context: { key, plan } }) => ({
            to: `${supplier}/${plan[supplier]}`,
            event: { type: "free", trip: key },
          }),
          onDone: [
            {
              guard: ({ event }) => (event.output as SupplierAnswer) === "free",
              target: before,
              actions: { type: "note", params: `${supplier} free` },
            },
            { target: "waiting", actions: "wait" },
          ],
          onError: { target: "waiting", actions: "wait" },
        },
      },
      waiting: { after: { pause: "asking" } },
    },
  });
}

function undoing(supplier: Supplier): string {
  return `#trip.undoing ${supplier}`;
}

export const trip = defineActor({
  type: "trip",
  machine: parts.createMachine({
    id: "trip",
    context: ({ input }) => ({ key: input.key, plan: NO_PLAN, steps: [], waits: 0 }),
    initial: "planned",
    states: {
      planned: {
        on: { book: { target: "taking flight", actions: assign({ plan: ({ event }) => event.plan }) } },
      },
      "taking flight": doing("flight", "#trip.taking hotel", "#trip.undone"),
      "taking hotel": doing("hotel", "#trip.taking purse", undoing("flight")),
      "taking purse": doing("purse", "#trip.booked", undoing("hotel")),
      "undoing purse": undone("purse", undoing("hotel")),
      "undoing hotel": undone("hotel", undoing("flight")),
      "undoing flight": undone("flight", "#trip.undone"),
      booked: { tags: "over", on: { cancel: "undoing purse" } },
      undone: { tags: "over" },
    },
  }),
});
