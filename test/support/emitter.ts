/** Actors that emit whatever they are told to, for tests of what listens to them. */
import { assign, emit, enqueueActions, setup } from "xstate";
import { defineActor, reply } from "../../runtime/index.ts";

/** A type, not an interface: only types are taken for records of anything. */
export type Sold = {
  readonly type: "sold";
  readonly shop: string;
  readonly at: number;
  readonly cents: number;
  readonly product: string;
};

/** `emit` emits one event, `burst` several in one turn; both answer how many turns there were. */
export const emitter = defineActor({
  type: "emitter",
  machine: setup({
    types: {
      context: {} as { n: number },
      events: {} as
        | { type: "emit"; event: { readonly type: string; readonly [name: string]: unknown } }
        | { type: "burst"; events: readonly { readonly type: string; readonly [name: string]: unknown }[] },
      emitted: {} as Sold | { type: "other"; [name: string]: unknown },
    },
  }).createMachine({
    context: { n: 0 },
    on: {
      emit: {
        actions: [
          assign({ n: ({ context }) => context.n + 1 }),
          emit(({ event }) => event.event as never),
          reply(({ context }) => context.n),
        ],
      },
      burst: {
        actions: [
          assign({ n: ({ context }) => context.n + 1 }),
          enqueueActions(({ event, enqueue }) => {
            for (const one of event.events) enqueue.emit(one as never);
          }),
          reply(({ context }) => context.n),
        ],
      },
    },
  }),
  types: {} as { replies: { emit: number; burst: number } },
});

export function sold(shop: string, at: number, cents = 1, product = "book"): Sold {
  return { type: "sold", shop, at, cents, product };
}
