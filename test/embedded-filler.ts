/**
 * A program that appends to an embedded store until it is refused, under a limit of the operating system on the size
 * of files, and says what it saw. Argument: the folder.
 */
import { writeSync } from "node:fs";
import { embedded } from "../runtime/stores/embedded/index.ts";

const [path = ""] = process.argv.slice(2);
const store = await embedded({ path });
const bytes = Buffer.alloc(20_000, 7);
let last = 0;
let committed = 0;

async function append(): Promise<string> {
  const result = await store.journal.append("lane", last, bytes);
  if (result.kind === "committed") {
    last = result.seq;
    committed++;
  }
  return result.kind;
}

let kind = await append();
while (kind === "committed" && committed < 10_000) kind = await append();
const again = await append();
let found = 0;
for await (const chunk of store.journal.read("lane", 1, Number.MAX_SAFE_INTEGER)) found += chunk.length;
await store.close();
writeSync(1, `${JSON.stringify({ kind, again, committed, found, last })}\n`);
