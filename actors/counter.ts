/** A counter: adds, can be switched off and on, and answers with its count. */
import { defineActor, reply } from "keyturn";
import { assign, setup } from "xstate";

export type CounterEvent =
  /** Adds `by` and answers with the new count. While the counter is off, nothing is added. */
  { type: "add"; by: number } | { type: "off" } | { type: "on" };

export const counter = defineActor({
  type: "counter",
  machine: setup({
    types: { context: {} as { count: number }, events: {} as CounterEvent },
  }).createMachine({
    id: "counter",
    context: { count: 0 },
    initial: "on",
    states: {
      on: {
        on: {
          add: {
            actions: [
              assign({ count: ({ context, event }) => context.count + event.by }),
              reply(({ context }) => context.count),
            ],
          },
          off: "off",
        },
      },
      off: { on: { on: "on", add: { actions: reply(({ context }) => context.count) } } },
    },
  }),
  types: {} as { replies: { add: number } },
});
