/**
 * An order as three versions of a program have it: states are renamed and become deeper, the context changes its form,
 * and the delays are others each time.
 */
import { assign, setup } from "xstate";
import { defineActor, type Migrations, reply } from "../../runtime/index.ts";

export interface OrderV1 {
  readonly items: readonly string[];
  readonly total: number;
}

export interface OrderV3 {
  readonly lines: readonly { readonly sku: string }[];
  readonly cents: number;
  readonly note: string;
}

export type OrderEvent =
  | { type: "put"; sku: string; price: number }
  | { type: "pay" }
  | { type: "hold" }
  | { type: "resume" };

/** Waits a second for payment. */
export const orderV1 = defineActor({
  type: "order",
  machine: setup({
    types: { context: {} as OrderV1, events: {} as OrderEvent },
  }).createMachine({
    id: "order",
    context: { items: [], total: 0 },
    initial: "open",
    states: {
      open: {
        initial: "pending",
        states: {
          pending: { after: { 1000: "late" }, on: { pay: "paid" } },
          late: { on: { pay: "paid" } },
          paid: {},
          before: { type: "history" },
        },
        on: {
          put: {
            actions: [
              assign({
                items: ({ context, event }) => [...context.items, event.sku],
                total: ({ context, event }) => context.total + event.price,
              }),
              reply(({ context }) => context.total),
            ],
          },
          hold: "held",
        },
      },
      held: { on: { resume: "open.before" } },
    },
  }),
  types: {} as { replies: { put: number } },
});

/** `open` is `active` now, `pending` is `waiting.payment`; an hour is waited, and the total is in cents. */
export const toV2: Migrations = {
  1: ({ value, context, status, output, history }) => {
    const names: Readonly<Record<string, string | object>> = { pending: { waiting: "payment" } };
    const inner = (value as { open?: string }).open;
    return {
      value: (inner === undefined ? value : { active: names[inner] ?? inner }) as string,
      context: { lines: context.items.map((sku: string) => ({ sku })), cents: context.total * 100 },
      status,
      output,
      history: Object.fromEntries(
        Object.entries(history).map(([, ids]) => [
          "order.active.before",
          ids.map((id) => id.replace("open.pending", "active.waiting.payment").replace("open.", "active.")),
        ]),
      ),
    };
  },
};

export const toV3: Migrations = {
  ...toV2,
  2: (state) => ({ ...state, context: { ...state.context, note: "" } }),
};

/** @param version 2 or 3, whose machines differ in the context only */
export function orderNow(version: number, migrations: Migrations) {
  return defineActor({
    type: "order",
    version,
    migrations,
    machine: setup({
      types: { context: {} as OrderV3, events: {} as OrderEvent },
      delays: { patience: ({ context }) => 3_600_000 + context.cents },
    }).createMachine({
      id: "order",
      context: { lines: [], cents: 0, note: "" },
      initial: "active",
      states: {
        active: {
          initial: "waiting",
          states: {
            waiting: {
              initial: "payment",
              after: { patience: "late" },
              on: { pay: "paid" },
              states: { payment: {} },
            },
            late: { on: { pay: "paid" } },
            paid: {},
            before: { type: "history", history: "deep" },
          },
          on: {
            put: {
              actions: [
                assign({
                  lines: ({ context, event }) => [...context.lines, { sku: event.sku }],
                  cents: ({ context, event }) => context.cents + event.price * 100,
                }),
                reply(({ context }) => context.cents),
              ],
            },
            hold: "held",
          },
        },
        held: { on: { resume: "active.before" } },
      },
    }),
    types: {} as { replies: { put: number } },
  });
}
