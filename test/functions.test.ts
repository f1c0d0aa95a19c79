/** Stateful functions, as somebody who thinks in functions uses them. */
import { defineActor, embedded, type KeyturnNode, memory, reply, startNode } from "keyturn";
import { defineFunction, defineFunctions, defineState, type Functions, functions } from "keyturn/functions";
import { testRuntime, type TestRuntime, type TestRuntimeOptions } from "keyturn/testing";
import { assign, setup } from "xstate";
import { afterEach, describe, expect, expectTypeOf, it } from "vitest";
import { z } from "zod";
import { temporaryPath } from "./support/temporary.ts";

const running: TestRuntime[] = [];

async function start(
  actors: TestRuntimeOptions["actors"],
  options: Partial<TestRuntimeOptions> = {},
): Promise<TestRuntime> {
  const t = await testRuntime({ actors, ...options });
  running.push(t);
  return t;
}

afterEach(async () => {
  for (const t of running.splice(0)) {
    expect(t.reports).toEqual([]);
    await t.stop();
  }
});

const counter = defineState("counter", 0);

const process = defineFunction("process", { counter }, (event: { value: number }, { counter: n }) => ({
  state: { counter: n + event.value },
  result: n + event.value,
}));

describe("the document's example", () => {
  it("counts one event of 1 and one update by 1 to 2, on the embedded store, also after a restart", async () => {
    const path = temporaryPath();
    let node = await startNode({ actors: [process], store: embedded({ path }) });
    let app = functions(node.client, process);
    expect(await app.getState("a")).toBe(0);
    expect(await app.processEvent({ key: "a", value: 1 })).toBe(1);
    expect(await app.updateState("a", 1, "add")).toBe(2);
    expect(await app.getState("a")).toBe(2);
    await node.stop();
    node = await startNode({ actors: [process], store: embedded({ path }) });
    app = functions(node.client, process);
    expect(await app.getState("a")).toBe(2);
    expect(await app.updateState("a", 5, "multiply")).toBe(10);
    expect(await app.updateState("a", 4, "divide")).toBe(2.5);
    expect(await app.updateState("a", 0.5, "subtract")).toBe(2);
    await node.stop();
  });
});

describe("async", () => {
  const slow = defineFunction("slow", { counter }, async (event: { by: number }, { counter: n }) => {
    await Promise.resolve();
    return { state: { counter: n + event.by }, result: n + event.by };
  });
  const group = defineFunctions("mixed", [
    slow,
    defineFunction("quick", { counter }, (_e: object, s) => ({ result: s.counter })),
  ]);

  it("works", async () => {
    const t = await start([group]);
    const app = functions(t.client, group);
    const all = await Promise.all([
      app.processEvent({ key: "a", type: "slow", by: 1 }),
      app.processEvent({ key: "a", type: "quick" }),
      app.processEvent({ key: "a", type: "slow", by: 2 }),
      app.updateState("a", 10, "add"),
      app.processEvent({ key: "a", type: "quick" }),
    ]);
    expect(all).toEqual([1, 1, 3, 13, 13]);
  });
});
