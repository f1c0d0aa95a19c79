/**
 * A process that trains models and kills itself, as `kill -9` does, in the middle of the last one.
 * Arguments: the folder or the server, the round, and the runs as JSON.
 */
import { embedded } from "keyturn";
import { natsOn } from "../../examples/run.ts";
import type { Run } from "../../examples/digits/run.ts";
import { startDigits, train } from "../../examples/digits/training.ts";

const [place = "", at, runs = ""] = process.argv.slice(2);
const store = await (place.startsWith("nats:")
  ? natsOn(place.slice("nats:".length), "digits")()
  : embedded({ path: place }));
const host = await startDigits(store);
const todo = JSON.parse(runs) as Run[];
for (const run of todo) {
  const onRound = (round: number): void => {
    if (run === todo.at(-1) && round >= Number(at)) process.kill(process.pid, "SIGKILL");
  };
  await train(host, run, { onRound });
}
