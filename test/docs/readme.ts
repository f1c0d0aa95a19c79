/** What the fragments of the README and of docs/ are about. They see these names unless they declare them. */
import { defineActor } from "keyturn";
import { setup } from "xstate";
import type { Client, KeyValueStore, KeyturnNode, RefFor, Store } from "keyturn";

export {
  ask,
  connect,
  defineActor,
  embedded,
  fromDurablePromise,
  isKeyturnError,
  memory,
  nats,
  rebuildType,
  reply,
  startNode,
  tell,
  whatIf,
} from "keyturn";
export { assign, setup } from "xstate";
export { counter } from "keyturn/actors";

export const machine = setup({
  types: {
    context: {} as { customer: { id: string }; total: number },
    events: {} as { type: "place"; cents?: number } | { type: "pay" } | { type: "add"; by: number },
    emitted: {} as { type: "order.paid"; country: string; cents: number; product: string; at: number },
  },
}).createMachine({
  context: { customer: { id: "ada" }, total: 0 },
  initial: "new",
  states: {
    new: { on: { place: "waiting", add: {} } },
    waiting: { after: { 86400000: "expired" }, on: { pay: "paid" } },
    paid: {},
    expired: {},
  },
});
export const order = defineActor({ type: "order", machine });
export const airport = defineActor({
  type: "airport",
  machine: setup({ types: { events: {} as { type: "departed"; delay: number } } }).createMachine({
    on: { departed: {} },
  }),
});
export declare const newer: typeof order;
export declare const client: Client;
export declare const node: KeyturnNode;
export declare const ref: RefFor<typeof order>;
export declare const store: Store;
export declare const servers: string;
export declare const version: number;
export declare const films: KeyValueStore<{ year: number }>;
export interface Film {
  readonly year: number;
}
export interface Row {
  readonly origin: string;
  readonly delay: number;
}
export interface Receipt {
  readonly id: string;
}
export interface Order {
  readonly total: number;
}
export declare const payments: {
  charge(cents: number, how: { signal: AbortSignal; idempotencyKey: string }): Promise<Receipt>;
};
