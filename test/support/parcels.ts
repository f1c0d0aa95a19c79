/** Parcels: an actor type that is found by what is in it, and that waits. */
import { defineActor } from "keyturn";
import { assign, raise, setup } from "xstate";

export interface Parcel {
  readonly owner: { readonly id: string } | null;
  readonly weight: number;
  readonly note?: string;
}

type ParcelEvent =
  | { type: "pack"; owner: string; weight: number }
  | { type: "note"; text: string }
  | { type: "send" }
  | { type: "arrive" }
  | { type: "remind"; in_ms: number }
  | { type: "reminder" };

const lost = setup({ types: { events: {} as { type: "found" } } }).createMachine({
  initial: "searching",
  states: { searching: { after: { 500000: "given up" } }, "given up": {} },
});

export const parcel = defineActor({
  type: "parcel",
  index: ["owner.id", "weight", "note"],
  machine: setup({
    types: { context: {} as Parcel, events: {} as ParcelEvent },
    actors: { lost },
  }).createMachine({
    context: { owner: null, weight: 0 },
    initial: "open",
    on: {
      note: { actions: assign({ note: ({ event }) => event.text }) },
      remind: {
        actions: raise({ type: "reminder" as const }, { id: "reminder", delay: ({ event }) => event.in_ms }),
      },
      reminder: { actions: assign({ note: "reminded" }) },
    },
    states: {
      open: {
        on: {
          pack: {
            actions: assign({
              owner: ({ event }) => ({ id: event.owner }),
              weight: ({ event }) => event.weight,
            }),
          },
          send: "under way",
        },
      },
      "under way": {
        initial: "moving",
        on: { arrive: "there" },
        states: {
          moving: { after: { 60000: "late" } },
          late: { invoke: { src: "lost", id: "search" } },
        },
      },
      there: { type: "final" },
    },
  }),
});
