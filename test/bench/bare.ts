/** The floor of one turn: XState's own in-memory `actor.send`, with the machine of the ready-made counter. */
import { createActor } from "xstate";
import { counter } from "../../actors/counter.ts";

/** Sends per second of a bare actor. Short, so that it can be run right beside what is compared with it. */
export function bareSendsPerSecond(milliseconds = 400): number {
  const actor = createActor(counter.machine).start();
  const event = { type: "add", by: 1 } as const;
  const run = (duration: number): number => {
    const start = performance.now();
    let count = 0;
    while (performance.now() - start < duration) {
      for (let n = 0; n < 1_000; n++) actor.send(event);
      count += 1_000;
    }
    return (count / (performance.now() - start)) * 1000;
  };
  run(milliseconds / 2);
  const rate = run(milliseconds);
  const { count } = actor.getSnapshot().context;
  if (count <= 0 || count % 1_000 !== 0) throw new Error(`The bare actor counted ${count}.`);
  return Math.round(rate);
}
