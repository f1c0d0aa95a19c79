/**
 * A worker: in every round it takes the parameters, learns from its part of the digits, and tells the parameter servers
 * what that would change.
 *
 * It is an actor, so somebody always has the work: its actor says which round it is in, and whichever node has the actor
 * runs that round, again if a node was lost in the middle of it. The learning itself is a promise, on a thread of its
 * own. What is large, parameters and changes, goes between the promise and the servers and never through the worker's
 * state, so a model may have any number of parameters.
 */
import { type Client, defineActor, fromDurablePromise, type RefFor } from "keyturn";
import { assign, setup } from "xstate";
import type { Learned, Task } from "./learning.ts";
import { type parameters, serversOf } from "./parameters.ts";
import { bytesOf, partOf, type Run, valuesOf } from "./run.ts";

export interface Worker {
  readonly run: Run;
  /** Which of the run's workers it is, from 0. */
  readonly part: number;
  /** The round that it is in; as many as the run has when it is done. */
  readonly round: number;
  /** Mean loss for the digits of the round before, each before it was learned from; 0 before the first. */
  readonly loss: number;
  /** Why it is stuck, if it is. */
  readonly trouble: string;
}

export type WorkerActor = ReturnType<typeof workerOf>;

/**
 * The type of the workers.
 * @param client of the node that they live on: a promise, unlike a machine, speaks to actors as any program does
 * @param learn works out a round
 */
export function workerOf(client: Promise<Client>, learn: (task: Task) => Promise<Learned>) {
  const takeRound = fromDurablePromise<{ loss: number }, Worker>(
    async ({ input: { run, part, round }, signal }) => {
      const servers = serversOf(await client, run);
      const values = valuesOf(
        ...(await Promise.all(servers.map((server) => parametersAt(server, round, signal)))),
      );
      const { change, loss } = await learn({ run, worker: part, round, values });
      // Who is told twice, after a crash, knows the step by its round and worker.
      await Promise.all(
        servers.map((server, shard) =>
          server.send({ type: "step", round, worker: part, change: bytesOf(change, shard) }),
        ),
      );
      return { loss };
    },
  );
  return defineActor({
    type: "digits-worker",
    machine: setup({
      types: {
        context: {} as Worker,
        events: {} as { type: "begin" },
        input: {} as { run: Run; part: number },
      },
      actors: { takeRound },
      guards: { isDone: ({ context }) => context.round === context.run.rounds },
    }).createMachine({
      id: "worker",
      context: ({ input: { run, part } }) => ({ run, part, round: 0, loss: 0, trouble: "" }),
      initial: "idle",
      states: {
        idle: { on: { begin: "next round" } },
        "next round": { always: [{ guard: "isDone", target: "done" }, { target: "working" }] },
        working: {
          invoke: {
            src: "takeRound",
            input: ({ context }) => context,
            onDone: {
              target: "next round",
              actions: assign(({ context, event }) => ({
                round: context.round + 1,
                loss: event.output.loss,
              })),
            },
            onError: {
              target: "stuck",
              actions: assign({ trouble: ({ event }) => (event.error as Error).message }),
            },
          },
        },
        stuck: { on: { begin: "working" } },
        done: {},
      },
    }),
    input: ({ key }) => partOf(key),
    // A server's node may be lost, or its shard on the move. How many run at once is the threads' affair: whoever waits
    // for a round waits for the others.
    invoke: { retry: { attempts: 8, first_ms: 250 } },
  });
}

/** A shard's parameters at the beginning of a round; waits for the other workers if it has not begun yet. */
async function parametersAt(
  server: RefFor<typeof parameters>,
  round: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  for await (const { context } of server.watch({ signal })) {
    if (context.round === round) return context.values;
    if (context.round === round + 1) return context.before;
  }
  throw signal.reason;
}
