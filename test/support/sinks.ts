/** Targets and nodes of tests of sinks: what they do to them, and wait for. */
import { afterEach } from "vitest";
import { type KeyturnNode, memory, startNode } from "../../runtime/index.ts";
import { type Sink, type SinkItem, type SinkTarget, toFunction } from "../../runtime/streams/index.ts";
import { emitter } from "./emitter.ts";

/** A target that keeps what it was given, and fails when told to. */
export class Kept {
  readonly items: SinkItem[] = [];
  readonly keys: string[] = [];
  /** The items that came under each key; more than one set would be a fault. */
  readonly batches = new Map<string, Set<string>>();
  readonly attempts: number[] = [];
  fails: (() => unknown) | undefined;
  readonly target: SinkTarget = toFunction(async (items, { idempotencyKey, attempt }) => {
    this.keys.push(idempotencyKey);
    const ids = items.map(({ id }) => id).join();
    this.batches.set(idempotencyKey, (this.batches.get(idempotencyKey) ?? new Set()).add(ids));
    this.attempts.push(attempt);
    const failure = this.fails?.();
    if (failure !== undefined) throw failure;
    this.items.push(...items);
  });

  /** The n's of what one actor emitted, as published. */
  of(from: string): unknown[] {
    return this.items.filter((item) => item.from === from).map(({ event }) => event.n);
  }

  get unique(): number {
    return new Set(this.items.map(({ id }) => id)).size;
  }
}

export const numbered = (n: number) => ({ type: "other", n });

export const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

export async function started(sink: Sink, store = memory(), name = "n1"): Promise<KeyturnNode> {
  const node = await startNode({ actors: [emitter, ...sink.actors], store, name, shards: 4 });
  cleanups.push(() => node.stop({ closeStore: false }));
  return node;
}

/** Kills a node; the others do not wait for its lease. */
export async function lost(node: KeyturnNode): Promise<void> {
  const { name } = node.incarnation;
  node.kill();
  await node.store.directory.leave(name);
}

/** Resolves when a sink's status is as wanted; the partitions are watched, no time is waited for. */
export async function until(
  sink: Sink,
  node: KeyturnNode,
  holds: (status: Awaited<ReturnType<Sink["status"]>>) => boolean,
) {
  const ended = new AbortController();
  const [definition] = sink.actors;
  if (definition === undefined) throw new Error("A sink has a definition.");
  let wake = (): void => undefined;
  for (let partition = 0; partition < sink.partitions; partition++) {
    void (async () => {
      for await (const _ of node.client.actor(definition, String(partition)).watch({ signal: ended.signal }))
        wake();
    })();
  }
  try {
    for (;;) {
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
      });
      const status = await sink.status(node.client);
      if (holds(status)) return status;
      await woken;
    }
  } finally {
    ended.abort();
  }
}
