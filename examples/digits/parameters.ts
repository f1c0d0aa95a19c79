/**
 * A parameter server: the actor that holds one shard of a model's parameters.
 *
 * Training goes in rounds. In each, every worker says once by how much it would change the parameters. When the last of
 * them is here, whichever it is, the mean of all, added up in the order of the workers, is applied. So the parameters
 * after any round are the same, bit by bit, whatever came when, came twice, or had to be worked out again.
 */
import { type Client, defineActor, type RefFor } from "keyturn";
import { assign, setup } from "xstate";
import { models } from "./models.ts";
import { bytesOf, keyOf, partOf, type Run, shardCount, valuesOf } from "./run.ts";

export interface Shard {
  readonly run: Run;
  /** The round that is going on, from 0; as many as the run has when it is over. */
  readonly round: number;
  /** The parameters with which it began, as bytes of float32. */
  readonly values: Uint8Array;
  /**
   * Those of the round before. A worker that died after it had told some shards, but not all, works its step out again,
   * and meanwhile those that it told may have gone on.
   */
  readonly before: Uint8Array;
  /** The steps of this round that are here, by worker. */
  readonly steps: Readonly<Record<number, Uint8Array>>;
}

/** What a worker would change in a round, for each parameter of the shard. */
export interface Step {
  readonly type: "step";
  readonly round: number;
  readonly worker: number;
  readonly change: Uint8Array;
}

export const parameters = defineActor({
  type: "digits-parameters",
  machine: setup({
    types: { context: {} as Shard, events: {} as Step, input: {} as { run: Run; part: number } },
    guards: {
      // A worker that lost its node may say again what it said before, also in a round that is long over.
      isNew: ({ context, event }) =>
        event.round === context.round && !Object.hasOwn(context.steps, event.worker),
      isComplete: ({ context }) => Object.keys(context.steps).length === context.run.workers,
      isOver: ({ context }) => context.round === context.run.rounds,
    },
    actions: {
      keep: assign({ steps: ({ context, event }) => ({ ...context.steps, [event.worker]: event.change }) }),
      apply: assign(({ context }) => ({
        round: context.round + 1,
        values: moved(context),
        before: context.values,
        steps: {},
      })),
    },
  }).createMachine({
    id: "parameters",
    context: ({ input: { run, part } }) => {
      const values = bytesOf(models[run.model].first(run.seed), part);
      return { run, round: 0, values, before: values, steps: {} };
    },
    initial: "training",
    states: {
      training: {
        on: { step: { guard: "isNew", actions: "keep" } },
        always: [
          { guard: "isComplete", actions: "apply" },
          { guard: "isOver", target: "trained" },
        ],
      },
      trained: {},
    },
  }),
  input: ({ key }) => partOf(key),
});

/** The parameter servers of a run. */
export function serversOf(client: Client, run: Run): RefFor<typeof parameters>[] {
  return Array.from({ length: shardCount(run) }, (_, shard) => client.actor(parameters, keyOf(run, shard)));
}

/** The parameters after a round. */
function moved({ run, values, steps }: Shard): Uint8Array {
  const next = valuesOf(values);
  for (let worker = 0; worker < run.workers; worker++) {
    const change = valuesOf(steps[worker] as Uint8Array);
    for (let at = 0; at < next.length; at++)
      next[at] = (next[at] as number) + (change[at] as number) / run.workers;
  }
  return bytesOf(next, 0);
}
