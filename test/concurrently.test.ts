/** Bounded concurrency, and tasks of which one run is under way at a time. */
import { describe, expect, it } from "vitest";
import { forEach, Repeated } from "../runtime/engine/concurrently.ts";

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("forEach", () => {
  it("runs as many at once as it may, each once", async () => {
    let running = 0;
    let most = 0;
    const done: number[] = [];
    await forEach([1, 2, 3, 4, 5, 6, 7], 3, async (item) => {
      most = Math.max(most, ++running);
      await tick();
      running--;
      done.push(item);
    });
    expect(most).toBe(3);
    expect(done.sort()).toEqual([1, 2, 3, 4, 5, 6, 7]);
    await forEach([], 3, () => Promise.reject(new Error("of nothing")));
  });

  it("waits for what was begun, begins no other and throws the first error", async () => {
    const begun: number[] = [];
    const ended: number[] = [];
    const run = forEach([1, 2, 3, 4], 2, async (item) => {
      begun.push(item);
      await tick();
      if (item === 1) throw new Error("one");
      await tick();
      ended.push(item);
    });
    await expect(run).rejects.toThrow("one");
    expect(begun).toEqual([1, 2]);
    expect(ended).toEqual([2]);
  });
});

describe("a repeated task", () => {
  it("runs once more for what was asked for while it ran, however often, and never twice at once", async () => {
    let running = 0;
    let runs = 0;
    const task = new Repeated(async () => {
      expect(++running).toBe(1);
      runs++;
      await tick();
      running--;
    });
    const first = task.run();
    void task.run();
    void task.run();
    await first;
    expect(runs).toBe(2);
    await task.run();
    expect(runs).toBe(3);
  });

  it("can be asked for again after it failed", async () => {
    let fails = true;
    const task = new Repeated(async () => {
      if (fails) throw new Error("no luck");
    });
    await expect(task.run()).rejects.toThrow("no luck");
    fails = false;
    await task.run();
  });
});
