/** An order whose chart has all that charts can have: nested, parallel, history and final states, guards, delays, a schema. */
import { defineActor, tell } from "keyturn";
import { assign, setup } from "xstate";
import { z } from "zod";

export const order = defineActor({
  type: "order",
  index: ["customer"],
  events: z.discriminatedUnion("type", [
    z.object({
      type: z.literal("place"),
      customer: z.string(),
      cents: z.number().int(),
      express: z.boolean().optional(),
    }),
    z.object({ type: z.literal("pay"), cents: z.number() }),
    z.object({ type: z.literal("ship") }),
    z.object({ type: z.literal("scan"), place: z.string() }),
    z.object({ type: z.literal("sign") }),
    z.object({ type: z.literal("hold") }),
    z.object({ type: z.literal("resume") }),
    z.object({ type: z.literal("cancel"), reason: z.enum(["customer", "stock"]) }),
  ]),
  machine: setup({
    types: {
      context: {} as { customer: string; due: number; paid: number; seen: readonly string[] },
      events: {} as
        | { type: "place"; customer: string; cents: number; express?: boolean }
        | { type: "pay"; cents: number }
        | { type: "ship" }
        | { type: "scan"; place: string }
        | { type: "sign" }
        | { type: "hold" }
        | { type: "resume" }
        | { type: "cancel"; reason: "customer" | "stock" },
    },
    guards: { isPaid: ({ context }) => context.paid >= context.due },
    actions: {
      take: assign({
        paid: ({ context, event }) => context.paid + (event.type === "pay" ? event.cents : 0),
      }),
      see: assign({
        seen: ({ context, event }) => (event.type === "scan" ? [...context.seen, event.place] : context.seen),
      }),
    },
    delays: { patience: 3_600_000 },
  }).createMachine({
    id: "order",
    initial: "new",
    context: { customer: "", due: 0, paid: 0, seen: [] },
    states: {
      new: {
        on: {
          place: {
            target: "open",
            actions: assign({ customer: ({ event }) => event.customer, due: ({ event }) => event.cents }),
          },
        },
      },
      open: {
        initial: "unpaid",
        on: {
          cancel: { target: "cancelled", actions: tell("counter/audit", { type: "nonsense" }) },
          hold: "held",
        },
        states: {
          unpaid: {
            on: { pay: { actions: "take" } },
            always: { guard: "isPaid", target: "paid" },
            after: { patience: "#order.cancelled" },
          },
          paid: { on: { ship: "#order.underway" } },
          back: { type: "history" },
        },
      },
      held: { on: { resume: "open.back" } },
      underway: {
        type: "parallel",
        onDone: "delivered",
        states: {
          parcel: {
            initial: "moving",
            states: {
              moving: { on: { scan: { actions: "see" }, sign: "handed" } },
              handed: { type: "final" },
            },
          },
          bill: {
            initial: "due",
            states: { due: { after: { 60000: "settled" } }, settled: { type: "final" } },
          },
        },
      },
      delivered: { type: "final" },
      cancelled: { type: "final" },
    },
  }),
});
