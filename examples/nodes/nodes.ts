/**
 * Several nodes share the actors: half of the shards move to a second node when it starts, and back when it stops.
 * Whoever sends messages meanwhile notices nothing, and no message is lost or applied twice.
 *
 * The nodes are in one process here, on one store. On a store that machines share it is the same program.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type KeyturnNode, memory, startNode } from "keyturn";
import { counter } from "keyturn/actors";
import type { OpenStore } from "../run.ts";

const COUNTERS = 50;

/** Returns how many shards each node had at each step, the adds that were answered, and what was counted. */
export async function main(
  open: OpenStore = memory,
): Promise<{ steps: number[][]; answered: number; counted: number }> {
  const store = await open();
  const first = await startNode({ actors: [counter], store, name: "first" });
  const now = new Date().toISOString();
  const counters = Array.from({ length: COUNTERS }, (_, n) => first.client.actor(counter, `${now}:${n}`));
  const steps: number[][] = [];
  const show = (what: string, ...nodes: KeyturnNode[]): void => {
    const shards = nodes.map((node) => node.shards.length);
    console.log(`${what}: ${nodes.map((node, n) => `${node.name} has ${shards[n]} shards`).join(", ")}`);
    steps.push(shards);
  };

  // Adds to all counters without a break.
  let answered = 0;
  let goOn = true;
  const adding = Promise.all(
    counters.map(async (ref) => {
      while (goOn) {
        await ref.ask({ type: "add", by: 1 });
        answered++;
      }
    }),
  );

  show("One node", first);
  const second = await startNode({ actors: [counter], store, name: "second" });
  await rest(() => [first.shards.length, second.shards.length]);
  show("Two nodes", first, second);
  await sleep(100);
  await second.stop({ closeStore: false });
  await until(() => first.shards.length === 64);
  show("One again", first);

  goOn = false;
  await adding;
  const states = await Promise.all(counters.map((ref) => ref.get()));
  const counted = states.reduce((sum, { context }) => sum + context.count, 0);
  console.log(`${answered} adds answered, ${counted} counted.`);
  await first.stop();
  return { steps, answered, counted };
}

/** Waits until all 64 shards are served, some by each node, and none has moved for half a second: they move in groups. */
async function rest(look: () => [number, number]): Promise<void> {
  let before = "";
  for (let since = performance.now(); performance.now() - since < 500; await sleep(5)) {
    const [first, second] = look();
    const now = `${first} ${second}`;
    if (now !== before || first + second !== 64 || first === 0 || second === 0) since = performance.now();
    before = now;
  }
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await sleep(5);
}
