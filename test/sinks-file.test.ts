/** Sinks to files: each line once, over kills, nodes that wake up, and two live writers. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { memory, startNode } from "../runtime/index.ts";
import { defineSink, type SinkItem, type SinkTarget, toFile } from "../runtime/streams/index.ts";
import { start } from "./compiled.ts";
import { emitter } from "./support/emitter.ts";
import { cleanups, lost, numbered, started, until } from "./support/sinks.ts";
import { temporaryPath } from "./support/temporary.ts";

describe("a sink to files", () => {
  it("appends lines, each once, over kills between writing and confirming; a torn line is cut off", async () => {
    const folder = mkdtempSync(join(tmpdir(), "keyturn-sink-"));
    cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
    const real = toFile({ path: join(folder, "deep", "{sink}-{partition}.ndjson") });
    let killed: (() => void) | undefined;
    const target: SinkTarget = {
      ...real,
      publish: async (batch, args) => {
        const done = await real.publish(batch, args);
        if (killed === undefined) return done;
        killed();
        return new Promise(() => undefined);
      },
    };
    const out = defineSink("out", { over: emitter, to: target, partitions: 2, batch: 4 });
    const store = memory();
    let emitted = 0;
    for (let life = 1; life <= 3; life++) {
      const node = await startNode({ actors: [emitter, ...out.actors], store, name: "n1", shards: 4 });
      const written = new Promise<void>((resolve) => {
        killed = resolve;
      });
      for (let n = 0; n < 5; n++) {
        emitted++;
        await Promise.all(
          ["a", "b", "c"].map((key) =>
            node.client.actor(emitter, key).ask({ type: "emit", event: numbered(emitted) }),
          ),
        );
      }
      await written;
      await lost(node);
      // As if it had been killed within a write.
      for (const partition of [0, 1]) {
        const path = join(folder, "deep", `out-${partition}.ndjson`);
        try {
          writeFileSync(path, `${readFileSync(path, "utf8")}{"id":"torn`);
        } catch {
          // That partition had written nothing yet.
        }
      }
    }
    killed = undefined;
    const node = await started(out, store);
    await until(out, node, ({ published }) => published === emitted * 3);
    const lines = [0, 1].flatMap((partition) =>
      readFileSync(join(folder, "deep", `out-${partition}.ndjson`), "utf8")
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
    );
    expect(new Set(lines.map(({ id }) => id)).size).toBe(lines.length);
    for (const key of ["a", "b", "c"])
      expect(lines.filter(({ from }) => from === `emitter/${key}`).map(({ event }) => event.n)).toEqual(
        Array.from({ length: emitted }, (_, at) => at + 1),
      );
  });

  it("a node that was taken for dead and wakes up writes nothing again that others wrote", async () => {
    const folder = mkdtempSync(join(tmpdir(), "keyturn-sink-"));
    cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
    const target = toFile({ path: join(folder, "out.ndjson") });
    const publish = (from: number, upTo: number) => {
      const items = Array.from({ length: upTo - from + 1 }, (_, at): SinkItem => {
        const number = from + at;
        return { number, id: `out.0.e.${number}`, from: "emitter/a", at: 0, event: numbered(number) };
      });
      const args = { idempotencyKey: "k", attempt: 1, signal: new AbortController().signal };
      return target.publish({ sink: "out", partition: 0, epoch: "e", items, mark: undefined }, args);
    };
    await publish(1, 3);
    await publish(4, 6);
    // The first batch once more, by whoever had begun it; then one that is there in part.
    await publish(1, 3);
    await publish(5, 8);
    const lines = readFileSync(join(folder, "out.ndjson"), "utf8").trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line).event.n)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });
});

it("two that write one file at once: one waits, and one that is frozen in it is named", async () => {
  const folder = temporaryPath();
  const path = join(folder, "out.ndjson");
  const target = toFile({ path, fsync: false });
  const publish = (sink: string, from: number, upTo: number) => {
    const items = Array.from({ length: upTo - from + 1 }, (_, at): SinkItem => {
      const number = from + at;
      return {
        number,
        id: `${sink}.0.e.${number}`,
        from: "emitter/a",
        at: 0,
        event: { type: "n", n: number },
      };
    });
    const args = { idempotencyKey: "k", attempt: 1, signal: new AbortController().signal };
    return target.publish({ sink, partition: 0, epoch: "e", items, mark: undefined }, args);
  };
  const numbersIn = (): number[] =>
    readFileSync(path, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).event.n);
  // The same batches by two at once, as a node that woke up and its heir do.
  for (let n = 1; n <= 20; n++) await Promise.all([publish("out", n, n + 4), publish("out", n, n + 4)]);
  expect(numbersIn()).toEqual(Array.from({ length: 24 }, (_, at) => at + 1));
  // Another process that does not end.
  const holder = start("test/sinks-holder.ts", [`${path}.lock`]);
  onTestFinished(() => holder.kill());
  await holder.until((line) => line === "held");
  expect(holder.lines).toEqual(["held"]);
  await expect(publish("out", 25, 26)).rejects.toMatchObject({
    code: "store_locked",
    message: expect.stringMatching(/written by process \d+/),
  });
  expect(numbersIn()).toHaveLength(24);
  holder.kill();
  await holder.ended;
  await publish("out", 25, 26);
  expect(numbersIn()).toHaveLength(26);
  // Another sink, by a path that names neither.
  await expect(publish("other", 1, 2)).rejects.toThrow(/partition 0 of the sink "out"/);
  expect(numbersIn()).toHaveLength(26);
});
