/**
 * Trains a model: begins its workers, watches them until they are done, and fetches what the parameter servers have.
 *
 * All of that may be done again, at any time, by any process: what has begun goes on, what is done stays done.
 */
import { type Client, type Store, startNode, type KeyturnNode } from "keyturn";
import { ProgramError } from "../program.ts";
import type { Learned, Task } from "./learning.ts";
import { parameters, serversOf } from "./parameters.ts";
import { keyOf, nameOf, type Run, valuesOf } from "./run.ts";
import { learnOnThread } from "./threads.ts";
import { workerOf, type WorkerActor } from "./worker.ts";

export interface Trained {
  /** The model's parameters. */
  readonly values: Float32Array;
  /** The round that the slowest worker was in when this process came. */
  readonly begunAt: number;
  /** Mean loss in the last round. */
  readonly loss: number;
}

export interface TrainOptions {
  /** Called when a round has begun, or is over; the last one after all rounds. */
  readonly onRound?: (round: number, loss: number) => void;
  /** Stops looking at it. The workers go on as long as there are nodes. */
  readonly signal?: AbortSignal;
}

/** A node with the actors of the digits, and their types. */
export interface DigitsNode {
  readonly node: KeyturnNode;
  readonly worker: WorkerActor;
}

/**
 * Starts a node that hosts the workers and the parameter servers, on a store that may be shared with others.
 * @param learn works out a worker's round
 */
export async function startDigits(
  store: Store,
  learn: (task: Task) => Promise<Learned> = learnOnThread,
): Promise<DigitsNode> {
  let connect: (client: Client) => void = () => undefined;
  const worker = workerOf(new Promise<Client>((resolve) => (connect = resolve)), learn);
  const node = await startNode({ actors: [parameters, worker], store });
  connect(node.client);
  return { node, worker };
}

/** @returns undefined if it was stopped */
export async function train(
  { node: { client }, worker }: DigitsNode,
  run: Run,
  { onRound, signal }: TrainOptions = {},
): Promise<Trained | undefined> {
  const workers = Array.from({ length: run.workers }, (_, part) => client.actor(worker, keyOf(run, part)));
  const places = await Promise.all(workers.map(async (ref) => (await ref.get()).context));
  const slowest = (): number => Math.min(...places.map(({ round }) => round));
  const loss = (): number => places.reduce((sum, place) => sum + place.loss, 0) / places.length;
  const begunAt = slowest();

  // One that fails ends the watches of all.
  const end = new AbortController();
  const stop = signal === undefined ? end.signal : AbortSignal.any([signal, end.signal]);
  try {
    await Promise.all(
      workers.map(async (ref, part) => {
        await ref.send({ type: "begin" });
        for await (const { value, context } of ref.watch({ signal: stop })) {
          const before = slowest();
          places[part] = context;
          if (slowest() !== before) onRound?.(slowest(), loss());
          if (value === "stuck") throw new TrainingError(`${ref.address} is stuck: ${context.trouble}`);
          if (value === "done") return;
        }
      }),
    );
  } finally {
    end.abort();
  }
  if (slowest() < run.rounds) return undefined;
  const shards = await Promise.all(
    serversOf(client, run).map(async (server) => (await server.get()).context),
  );
  if (shards.some(({ round }) => round < run.rounds))
    throw new TrainingError(`The workers of ${nameOf(run)} are done and its parameters are not.`);
  return { values: valuesOf(...shards.map((shard) => shard.values)), begunAt, loss: loss() };
}

/** A training that does not get on. */
export class TrainingError extends ProgramError {
  override readonly name = "TrainingError";
}
