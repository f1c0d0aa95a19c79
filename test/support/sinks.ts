/** What tests of sinks do to the nodes that run them, and wait for. */
import type { KeyturnNode } from "../../runtime/index.ts";
import type { Sink } from "../../runtime/streams/index.ts";

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
