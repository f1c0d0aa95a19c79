/** Sinks to files with two live writers. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { type SinkItem, toFile } from "../runtime/streams/index.ts";
import { start } from "./compiled.ts";
import { temporaryPath } from "./support/temporary.ts";

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
