import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { memory, startNode } from "../runtime/index.ts";
import { defineSource, ndjson, runSource, sourceDeadLetters, toldTo } from "../runtime/streams/index.ts";
import { counter } from "../actors/index.ts";
import { temporaryPath } from "./support/temporary.ts";

it("counts", async () => {
  const path = join(temporaryPath(), "items.ndjson");
  const lines = Array.from({ length: 3000 }, (_, n) => (n % 100 === 7 ? "{oops" : JSON.stringify({ key: `k${n % 10}`, by: n })));
  writeFileSync(path, `${lines.join("\n")}\n`);
  const items = defineSource("items", {
    from: ndjson<{ key: string; by: number }>({ path, partitions: 3 }),
    to: ({ key, by }) => toldTo(counter, key, { type: "add", by }),
  });
  const node = await startNode({ actors: [counter, ...items.actors], store: memory() });
  const run = runSource(node.client, items);
  const status = await run.done;
  console.log(status, status.partitions);
  let sum = 0;
  for (let k = 0; k < 10; k++) sum += (await node.client.actor(counter, `k${k}`).get()).context.count;
  const want = lines.reduce((all, line, n) => all + (line.startsWith("{o") ? 0 : n), 0);
  expect(sum).toBe(want);
  const letters = [];
  for await (const letter of sourceDeadLetters(node.client, items)) letters.push(letter);
  expect(letters.length).toBe(30);
  console.log(letters[0]);
  await node.stop();
});
