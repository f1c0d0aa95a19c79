/**
 * A program, or a thread, that opens an embedded store and says what became of it: `open`, or the error's code.
 * Arguments: the folder, and how many milliseconds to hold it.
 */
import { writeSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { embedded } from "../runtime/stores/embedded/index.ts";
import { isKeyturnError } from "../runtime/words/errors.ts";

const [path = "", hold_ms = "0"] = (workerData as string[] | null) ?? process.argv.slice(2);

function say(word: string): void {
  if (parentPort === null) writeSync(1, `${word}\n`);
  else parentPort.postMessage(word);
}

try {
  const store = await embedded({ path });
  say("open");
  await new Promise((resolve) => setTimeout(resolve, Number(hold_ms)));
  await store.close();
  say("closed");
} catch (error) {
  say(isKeyturnError(error) ? `${error.code}: ${error.message}` : String(error));
}
