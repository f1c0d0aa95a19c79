/** Sources that an actors module exports run with the node that `keyturn start` makes of it. */
import { appendFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import { expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { Console } from "../runtime/cli/console.ts";
import { serve } from "../runtime/cli/serve.ts";
import { memory, startNode } from "../runtime/index.ts";
import { defineSource, http, ndjson, toldTo } from "../runtime/streams/index.ts";
import { temporaryPath } from "./support/temporary.ts";

it("they run while the node does, say how they fare, and are stopped before it", async () => {
  const path = join(temporaryPath(), "items.ndjson");
  writeFileSync(path, '{"by":1}\n{"by":2}\noops\n');
  const to = ({ by }: { by: number }) => toldTo(counter, "k", { type: "add", by });
  const whole = defineSource("whole", { from: ndjson<{ by: number }>({ path }), to });
  const followed = defineSource("followed", {
    from: ndjson<{ by: number }>({ path, follow: true, poll_ms: 5 }),
    to,
  });
  const missing = defineSource("missing", { from: ndjson<{ by: number }>({ path: `${path}.none` }), to });
  const posted = defineSource("posted", { from: http<{ by: number }>(), to });
  const actors = [counter, ...[whole, followed, missing, posted].flatMap((source) => source.actors)];
  const store = memory();
  const stop = new AbortController();
  const said: Record<string, unknown>[] = [];
  const stdout = new Writable({
    write(line, _encoding, done) {
      const event = JSON.parse(String(line)) as Record<string, unknown>;
      if (event.event === "source") said.push(event);
      if (event.source === "whole" && event.ended === true) appendFileSync(path, '{"by":4}\n');
      if (said.some(({ items }) => items === 3) && said.some(({ failed }) => failed !== undefined))
        stop.abort();
      done();
    },
  });
  const stderr = new Writable({ write: (_line, _encoding, done) => done() });
  const console = new Console({ name: "n", json: true, stdout, stderr });
  const code = await serve(
    {
      open: () => Promise.resolve(store),
      where: "memory",
      node: { actors },
      wait_ms: 1_000,
      grace_ms: 20_000,
    },
    console,
    stop.signal,
    { onHealth: () => undefined, onReady: () => undefined },
  );
  expect(code).toBe(0);
  expect(said.find(({ source, running }) => source === "posted" || running === false)).toBeUndefined();
  expect(said).toContainEqual(
    expect.objectContaining({ source: "whole", items: 3, malformed: 1, ended: true }),
  );
  expect(said).toContainEqual(expect.objectContaining({ source: "missing", code: "source_failed" }));
  const stopped = said.find(({ source, ended }) => source === "followed" && ended === false);
  expect(stopped).toMatchObject({ malformed: 1 });
  const node = await startNode({ actors: [counter], store });
  const { context } = await node.client.actor(counter, "k").get();
  expect(context.count).toBe(stopped?.items === 4 ? 10 : 6);
  await node.stop();
});
