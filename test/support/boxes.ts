/** An actor that keeps what it is given, of whatever form. */
import { defineActor, reply } from "keyturn";
import { assign, setup } from "xstate";
import { z } from "zod";

/** Keeps whatever it is given, begins with an input if there is one, and throws if asked to. */
export const box = defineActor({
  type: "box",
  machine: setup({
    types: {
      context: {} as { thing: unknown },
      events: {} as { type: "put"; thing: unknown } | { type: "throw" } | { type: "get" },
      input: {} as { thing?: unknown },
    },
  }).createMachine({
    context: ({ input }) => ({ thing: input.thing ?? null }),
    on: {
      put: {
        actions: [assign({ thing: ({ event }) => event.thing }), reply(({ event }) => event.thing)],
      },
      get: { actions: reply(({ context }) => context.thing) },
      throw: {
        actions: assign(() => {
          throw new Error("It was asked to.");
        }),
      },
    },
  }),
  events: z.discriminatedUnion("type", [
    z.object({ type: z.literal("put"), thing: z.any() }),
    z.object({ type: z.literal("throw") }),
    z.object({ type: z.literal("get") }),
  ]),
});
