/**
 * An order: placed, then paid in time or cancelled, then shipped.
 *
 * The time to pay is a durable timer. It stands in the order's state like everything else, so it runs on while no node
 * does: what fell due meanwhile is done as soon as one starts.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, defineActor, embedded, startNode } from "keyturn";
import { assign, setup } from "xstate";
import type { OpenStore } from "../run.ts";

export type OrderEvent =
  | { type: "place"; cents: number; payWithin_ms: number }
  | { type: "pay"; cents: number }
  | { type: "ship"; parcel: string };

interface Order {
  readonly cents: number;
  readonly paid: number;
  readonly payWithin_ms: number;
  readonly parcel: string;
}

export const order = defineActor({
  type: "order",
  machine: setup({
    types: { context: {} as Order, events: {} as OrderEvent },
    delays: { timeToPay: ({ context }) => context.payWithin_ms },
  }).createMachine({
    id: "order",
    context: { cents: 0, paid: 0, payWithin_ms: 0, parcel: "" },
    initial: "new",
    states: {
      new: {
        on: {
          place: {
            target: "awaitingPayment",
            actions: assign({
              cents: ({ event }) => event.cents,
              payWithin_ms: ({ event }) => event.payWithin_ms,
            }),
          },
        },
      },
      awaitingPayment: {
        on: { pay: { actions: assign({ paid: ({ context, event }) => context.paid + event.cents }) } },
        always: { guard: ({ context }) => context.paid >= context.cents, target: "paid" },
        after: { timeToPay: "cancelled" },
      },
      paid: {
        on: { ship: { target: "shipped", actions: assign({ parcel: ({ event }) => event.parcel }) } },
      },
      shipped: { type: "final" },
      cancelled: { type: "final" },
    },
  }),
});

/** Where each order ended. */
export interface Outcome {
  readonly paidInTime: string;
  readonly paidTooLate: string;
  readonly forgotten: string;
}

/** One order is paid in two parts and shipped; one is paid too late; and one runs out of time while no node runs. */
export async function main(
  open: OpenStore = () => embedded({ path: "data/checkout" }),
  payWithin_ms = 500,
): Promise<Outcome> {
  const today = Date.now().toString(36);
  let node = await startNode({ actors: [order], store: await open() });

  const first = node.client.actor(order, `${today}-1`);
  await first.send({ type: "place", cents: 4_900, payWithin_ms: 60_000 });
  await first.send({ type: "pay", cents: 2_000 });
  await first.send({ type: "pay", cents: 2_900 });
  await first.send({ type: "ship", parcel: "P-17" });
  const paidInTime = await endOf(node.client, first.key);

  const second = node.client.actor(order, `${today}-2`);
  await second.send({ type: "place", cents: 4_900, payWithin_ms });
  await endOf(node.client, second.key);
  await second.send({ type: "pay", cents: 4_900 });
  const paidTooLate = await endOf(node.client, second.key);

  const third = node.client.actor(order, `${today}-3`);
  await third.send({ type: "place", cents: 4_900, payWithin_ms });
  await node.stop();
  console.log("No node runs.");
  await sleep(payWithin_ms);
  node = await startNode({ actors: [order], store: await open() });
  const forgotten = await endOf(node.client, third.key);
  await node.stop();
  return { paidInTime, paidTooLate, forgotten };
}

/** Waits until an order is at its end. */
async function endOf(client: Client, key: string): Promise<string> {
  for await (const { value, status, context } of client.actor(order, key).watch()) {
    console.log(`Order ${key}: ${value}, ${context.paid} of ${context.cents} cents paid.`);
    if (status === "done") return value;
  }
  throw new Error("A watch ends only when it is told to.");
}
