/** A promise in the hands of a test, and an actor that invokes it. */
import { assign, setup } from "xstate";
import { defineActor, fromDurablePromise, type InvokePolicy } from "../../runtime/index.ts";

/** Calls of an invoked promise, answered by hand. */
export class Calls {
  readonly seen: { input: unknown; idempotencyKey: string; attempt: number; signal: AbortSignal }[] = [];
  readonly #open: { resolve: (value: unknown) => void; reject: (error: unknown) => void }[] = [];

  readonly logic = fromDurablePromise<unknown, unknown>((args) => {
    this.seen.push(args);
    return new Promise((resolve, reject) => this.#open.push({ resolve, reject }));
  });

  settle(at: number): { resolve: (value: unknown) => void; reject: (error: unknown) => void } {
    const open = this.#open[at];
    if (open === undefined) throw new Error(`There was no call ${at}.`);
    return open;
  }
}

/** An actor that invokes it in one state. */
export function loader(calls: Calls, invoke?: InvokePolicy) {
  return defineActor({
    type: "loader",
    ...(invoke === undefined ? {} : { invoke }),
    machine: setup({
      types: {
        context: {} as { got: unknown; why: unknown; n: number },
        events: {} as { type: "go" } | { type: "leave" } | { type: "count" },
      },
      actors: { load: calls.logic },
    }).createMachine({
      context: { got: null, why: null, n: 0 },
      initial: "idle",
      states: {
        idle: { on: { go: "loading" } },
        loading: {
          invoke: {
            src: "load",
            id: "load",
            input: ({ context }: { context: { n: number } }) => ({ n: context.n }),
            onDone: { target: "idle", actions: assign({ got: ({ event }) => event.output }) },
            onError: { target: "failed", actions: assign({ why: ({ event }) => event.error }) },
          },
          on: { leave: "idle" },
        },
        failed: { on: { go: "loading" } },
      },
      on: { count: { actions: assign({ n: ({ context }) => context.n + 1 }) } },
    }),
  });
}
