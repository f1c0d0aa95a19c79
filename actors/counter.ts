/**
 * A counter: adds, can be switched off and on, and answers with its count.
 *
 *     const visits = client.actor(counter, "page:home");
 *     await visits.ask({ type: "add", by: 1 }); // 1
 */
import { defineActor, reply } from "keyturn";
import { assign, setup } from "xstate";
import { checked } from "./checked.ts";

export type CounterEvent =
  /** Adds `by` and answers with the new count. While the counter is off, nothing is added. */
  { type: "add"; by: number } | { type: "off" } | { type: "on" };

export interface CounterReplies {
  /** The count after it. */
  add: number;
}

export interface CounterContext {
  readonly count: number;
}

/** A counter: adds, can be switched off and on, and answers with its count. */
export const counter = defineActor({
  type: "counter",
  machine: setup({
    types: { context: {} as CounterContext, events: {} as CounterEvent },
    actions: { answer: reply(({ context }: { context: CounterContext }) => context.count) },
  }).createMachine({
    id: "counter",
    context: { count: 0 },
    initial: "on",
    states: {
      on: {
        on: {
          add: { actions: [assign({ count: ({ context, event }) => context.count + event.by }), "answer"] },
          off: "off",
        },
      },
      off: { on: { add: { actions: "answer" }, on: "on" } },
    },
  }),
  events: checked((event: Partial<CounterEvent & { by: unknown }>) =>
    event.type !== "add" || Number.isFinite(event.by) ? undefined : ["by", "is a finite number"],
  ),
  types: {} as { replies: CounterReplies },
});
