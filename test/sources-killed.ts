/**
 * Runs a source of a file on the embedded store, as a process that tests kill: `FOLDER FILE [COUNT]`.
 *
 * Prints `at N` as items count, `done N` at the end, and what the counters hold with `sums [...]`. With COUNT it kills
 * itself, hard, as soon as so many items count.
 */
import { assign, setup } from "xstate";
import { defineActor, embedded, startNode } from "../runtime/index.ts";
import { defineSource, ndjson, runSource, toldTo } from "../runtime/streams/index.ts";

const counter = defineActor({
  type: "counter",
  machine: setup({
    types: { context: {} as { count: number }, events: {} as { type: "add"; by: number } },
  }).createMachine({
    context: { count: 0 },
    on: { add: { actions: assign({ count: ({ context, event }) => context.count + event.by }) } },
  }),
});
const [folder = "", file = "", count = "Infinity"] = process.argv.slice(2);
const items = defineSource<{ key: string; by: number }>("items", {
  from: ndjson({ path: file, partitions: 2 }),
  to: ({ key, by }) => toldTo(counter, key, { type: "add", by }),
  batch: 8,
});
const node = await startNode({
  actors: [counter, ...items.actors],
  store: embedded({ path: folder, durability: "process" }),
});
const run = runSource(node.client, items);
for await (const { items: counted } of run.progress({ every_ms: 1 })) {
  process.stdout.write(`at ${counted}\n`);
  if (counted >= Number(count)) process.kill(process.pid, "SIGKILL");
}
process.stdout.write(`done ${(await run.done).delivered}\n`);
const sums: number[] = [];
for (let key = 0; key < 5; key++)
  sums.push((await node.client.actor(counter, `k${key}`).get()).context.count);
process.stdout.write(`sums ${JSON.stringify(sums)}\n`);
await node.stop();
