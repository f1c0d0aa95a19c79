/** What a page loads: small, nothing of Node, no machine; and the types that it has all the same. */
import { gzipSync } from "node:zlib";
import { build, type Metafile } from "esbuild";
import { type BrowserRef, createClient, type HistoryTurn, KeyturnError, matchesState } from "keyturn/browser";
import { KeyturnError as NodeError } from "keyturn";
import { describe, expect, expectTypeOf, it } from "vitest";
import { actorType } from "../runtime/browser/index.ts";
import type { counter } from "../actors/counter.ts";
import type { order } from "./support/tracked-order.ts";

interface Bundle {
  readonly bytes: number;
  readonly gzipped: number;
  readonly text: string;
  readonly metafile: Metafile;
}

async function bundleOf(contents: string): Promise<Bundle> {
  const { outputFiles, metafile } = await build({
    stdin: { contents, resolveDir: import.meta.dirname, loader: "ts" },
    bundle: true,
    write: false,
    minify: true,
    metafile: true,
    // A builtin of Node is an error, not left out.
    platform: "browser",
    format: "esm",
    target: ["chrome110", "firefox110", "safari16"],
    conditions: ["keyturn-source"],
    external: ["react"],
    logLevel: "silent",
  });
  const { contents: bytes, text } = outputFiles[0]!;
  return { bytes: bytes.length, gzipped: gzipSync(bytes, { level: 9 }).length, text, metafile };
}

describe("what a page loads", () => {
  it("has no builtin of Node, no dependency, and is small", async () => {
    const { gzipped, metafile, text } = await bundleOf(`
      import type { counter } from "../actors/counter.ts";
      import { actorType, createClient } from "keyturn/browser";
      const client = createClient({ url: "http://127.0.0.1" });
      console.log(await client.actor(actorType<typeof counter>("counter"), "a").get());`);
    const inputs = Object.keys(metafile.inputs).filter((path) => path !== "<stdin>");
    expect(inputs.filter((path) => !path.startsWith("runtime/"))).toEqual([]);
    expect(text).not.toMatch(/\bBuffer\b|\bprocess\.|\brequire\(|node:/);
    expect(gzipped).toBeLessThan(14_000);
  });

  it("has of React only what it imports, and no machine", async () => {
    const { gzipped, metafile } = await bundleOf(`
      import { createClient } from "keyturn/browser";
      import { KeyturnProvider, useActor, useActorSelector } from "keyturn/react";
      console.log(createClient, KeyturnProvider, useActor, useActorSelector);`);
    const [output] = Object.values(metafile.outputs);
    expect(output?.imports.map(({ path }) => path)).toEqual(["react"]);
    expect(Object.keys(metafile.inputs).filter((path) => path.includes("node_modules"))).toEqual([]);
    expect(gzipped).toBeLessThan(15_000);
  });

  it("would not have the machine if it had its definition's types", async () => {
    const { text } = await bundleOf(`
      import type { counter } from "../actors/counter.ts";
      import { actorType } from "keyturn/browser";
      console.log(actorType<typeof counter>("counter"));`);
    expect(text.length).toBeLessThan(12_000);
    expect(text).not.toContain("createMachine");
  });
});

describe("its types", () => {
  it("are those of the definition", () => {
    const client = createClient({ url: "http://127.0.0.1:9" });
    const home = client.actor(actorType<typeof counter>("counter"), "home");
    const ordered = client.actor(actorType<typeof order>("order"), "1");
    expect([home.address, ordered.address]).toEqual(["counter/home", "order/1"]);
    /** Never called: only its types are of interest. */
    const compiled = async (): Promise<void> => {
      expectTypeOf(await home.ask({ type: "add", by: 1 })).toEqualTypeOf<number>();
      expectTypeOf((await home.ask({ type: "off" })).value).toEqualTypeOf<"on" | "off">();
      expectTypeOf((await home.get()).context.count).toEqualTypeOf<number>();
      for await (const state of home.watch()) expectTypeOf(state.context.count).toEqualTypeOf<number>();
      for await (const turn of home.history())
        expectTypeOf(turn).toExtend<HistoryTurn<typeof counter.machine>>();
      home.subscribe(({ state }) => expectTypeOf(state?.context.count).toEqualTypeOf<number | undefined>());
      // @ts-expect-error no such event
      await home.send({ type: "multiply" });
      // @ts-expect-error a part is missing
      await home.ask({ type: "add" });
      // @ts-expect-error not the definition's type
      actorType<typeof counter>("order");
      expectTypeOf(client.actor("counter/home")).toEqualTypeOf<BrowserRef>();
      await client.actor("counter/home").ask({ type: "anything" });
    };
    expect(compiled).toBeTypeOf("function");
  });

  it("errors are the same class as in Node", () => {
    expect(KeyturnError).toBe(NodeError);
  });
});

describe("matchesState", () => {
  it("knows states by name, by path and by region", () => {
    const value = { open: { payment: "due", parcel: { way: "by air" } }, "a.b": "c" };
    for (const test of [
      "open",
      "open.payment",
      "open.payment.due",
      "open.parcel.way.by air",
      { open: "payment" },
      { open: { payment: "due" } },
      { open: { payment: "due", parcel: "way" } },
      { open: {} },
      "a.b",
      "a.b.c",
    ])
      expect([test, matchesState(test, value)]).toEqual([test, true]);
    for (const test of [
      "closed",
      "open.payment.paid",
      "due",
      "open.",
      "",
      "constructor",
      { open: "due" },
      { open: { payment: "paid", parcel: "way" } },
      { open: "payment", closed: "x" },
    ])
      expect([test, matchesState(test, value)]).toEqual([test, false]);
    expect(matchesState("on", "on")).toBe(true);
    expect(matchesState({ on: "x" }, "on")).toBe(false);
    expect(matchesState("on", undefined)).toBe(false);
  });
});
