/** Two versions of a job: what the second invokes, the first does not. The work of tests waits until it is let go. */
import { assign, fromTransition, setup } from "xstate";
import { type ActorRef, ask, defineActor, fromDurablePromise, reply } from "../../runtime/index.ts";

/** One run of the promise. */
export interface Run {
  readonly key: string;
  readonly input: unknown;
  /** Lets it end. */
  end(value: string): void;
}

/** Both versions, whom the second one asks, and what its work has done so far. */
export function begunVersions() {
  const runs: Run[] = [];
  const types = {
    context: {} as { n: number; got: unknown; price: unknown },
    events: {} as { type: "go" } | { type: "add" },
  };
  const context = { n: 0, got: null, price: null };
  const kept = fromTransition((state: number) => state + 1, 0);
  const jobV1 = defineActor({
    type: "job",
    machine: setup({ types, actors: { kept } }).createMachine({
      context,
      initial: "idle",
      states: { idle: { on: { go: "busy" } }, busy: { invoke: { src: "kept", id: "kept" } } },
      on: { add: { actions: assign({ n: ({ context }) => context.n + 1 }) } },
    }),
  });
  const jobV2 = defineActor({
    type: "job",
    version: 2,
    machine: setup({
      types,
      actors: {
        ask,
        kept,
        load: fromDurablePromise<string, { n: number }>(
          ({ idempotencyKey, input }) =>
            new Promise((end) => {
              runs.push({ key: idempotencyKey, input, end });
            }),
        ),
      },
    }).createMachine({
      context,
      initial: "idle",
      states: {
        idle: { on: { go: "busy" } },
        busy: {
          invoke: [
            {
              src: "load",
              input: ({ context }) => ({ n: context.n }),
              onDone: { actions: assign({ got: ({ event }) => event.output }) },
            },
            {
              src: "ask",
              input: { to: "shop/s", event: { type: "price" } },
              onDone: { actions: assign({ price: ({ event }) => event.output }) },
            },
            { src: "kept", id: "kept" },
          ],
        },
      },
      // Twice as much: so the rebuilt state differs, and is promoted.
      on: { add: { actions: assign({ n: ({ context }) => context.n + 2 }) } },
    }),
  });
  const shop = defineActor({
    type: "shop",
    machine: setup({
      types: { context: {} as { asked: number }, events: {} as { type: "price" } },
    }).createMachine({
      context: { asked: 0 },
      on: {
        price: {
          actions: [assign({ asked: ({ context }) => context.asked + 1 }), reply(7)],
        },
      },
    }),
  });
  return { jobV1, jobV2, shop, runs };
}

/** Waits for a state of an actor. */
export async function until(
  ref: Pick<ActorRef, "watch">,
  fits: (context: Record<string, unknown>) => boolean,
) {
  for await (const { context } of ref.watch()) if (fits(context as Record<string, unknown>)) return;
}
