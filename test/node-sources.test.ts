/** Sources, views and sinks that nodes are started with: hosted, read by one node each, and by another when that is gone. */
import { appendFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, onTestFinished, vi } from "vitest";
import { counter } from "../actors/index.ts";
import {
  embedded,
  memory,
  type NodeOptions,
  type Observer,
  type Store,
  startNode,
} from "../runtime/index.ts";
import {
  count,
  defineSink,
  defineSource,
  defineView,
  lines,
  ndjson,
  type SinkItem,
  toFunction,
  toldTo,
} from "../runtime/streams/index.ts";
import { cli } from "./support/cli-run.ts";
import { serveStore } from "../runtime/stores/socket/index.ts";
import { emitter, sold } from "./support/emitter.ts";
import { temporaryPath } from "./support/temporary.ts";

interface Row {
  readonly key: string;
}

const settings = { lease_ms: 1_200, heartbeat_ms: 300 };

function files(count: number): string[] {
  const folder = temporaryPath();
  return Array.from({ length: count }, (_, at) => {
    const path = join(folder, `f${at}.ndjson`);
    writeFileSync(path, '{"key":"a"}\n');
    return path;
  });
}

/** Several nodes may share the paths, never a reader: each program has its own. */
function itemsOf(path: readonly string[], follow = true) {
  return defineSource<Row>("items", {
    from: ndjson({ path, follow, poll_ms: 5 }),
    to: ({ key }) => toldTo(counter, key, { type: "add", by: 1 }),
  });
}

async function started(store: Store, name: string, options: Partial<NodeOptions>) {
  const node = await startNode({ actors: [counter], store, name, settings, ...options });
  onTestFinished(() => node.kill());
  return node;
}

it("each part is read by one of the nodes, and by another when that is killed; the lag is to be seen", async () => {
  const store = memory();
  const path = files(4);
  const a = await started(store, "a", { sources: [itemsOf(path)] });
  const b = await started(store, "b", { sources: [itemsOf(path)] });
  const sharesOf = async (): Promise<Record<string, number>> => {
    const { sources } = await b.client.cluster();
    return Object.fromEntries(sources.map(({ node, partitions }) => [node, partitions]));
  };
  await vi.waitFor(async () => expect(await sharesOf()).toEqual({ a: 2, b: 2 }), { timeout: 20_000 });
  const countOf = async (): Promise<number> => (await b.client.actor(counter, "a").get()).context.count;
  await vi.waitFor(async () => expect(await countOf()).toBe(4), { timeout: 20_000 });
  const [status] = await b.sources();
  expect(status).toMatchObject({ source: "items", items: 4, lag: 0, unit: "bytes" });
  expect(
    Object.values(status?.shares ?? {})
      .map(({ node }) => node)
      .sort(),
  ).toEqual(["a", "b"]);
  const gauge = (name: string) => a.metrics().find((metric) => metric.name === name);
  expect(gauge("keyturn_source_partitions")).toMatchObject({
    kind: "gauge",
    points: [{ labels: { node: "a", source: "items" }, value: 2 }],
  });
  await vi.waitFor(() =>
    expect(gauge("keyturn_source_lag")).toMatchObject({
      points: [{ labels: { node: "a", source: "items", unit: "bytes" }, value: 0 }],
    }),
  );
  a.kill();
  for (const file of path) appendFileSync(file, '{"key":"a"}\n{"key":"a"}\n');
  await vi.waitFor(async () => expect(await countOf()).toBe(12), { timeout: 20_000 });
  await vi.waitFor(async () => expect(await sharesOf()).toEqual({ b: 4 }), { timeout: 20_000 });
  await b.stop({ closeStore: false });
  const c = await started(store, "c", {});
  expect((await c.client.actor(counter, "a").get()).context.count).toBe(12);
});

it("what a node hosts may be named as what it is; sources that fail or end are told to the observer", async () => {
  const [path = ""] = files(1);
  const items = itemsOf([path], false);
  const missing = defineSource<string>("missing", {
    from: lines({ path: `${path}.none` }),
    to: () => undefined,
  });
  const published: SinkItem[] = [];
  const view = defineView("seen", { over: emitter, aggregate: { events: count() } });
  const sink = defineSink("out", { over: emitter, to: toFunction((some) => published.push(...some)) });
  const told: unknown[] = [];
  const observer: Partial<Observer> = {
    sourceRuns: (source) => told.push(["runs", source]),
    sourceEnded: (source, { items: all, ended }) => told.push(["ended", source, all, ended]),
    sourceFailed: (source, error) => told.push(["failed", source, (error as { code: string }).code]),
  };
  const node = await started(memory(), "n", {
    // Named twice, it is one.
    actors: [counter, emitter, ...items.actors],
    sources: [items, missing],
    views: [view],
    sinks: [sink],
    observer,
  });
  await node.client.actor(emitter, "till").ask({ type: "emit", event: sold("a", 1) });
  await view.reader(node.client).settled();
  expect((await view.reader(node.client).get("till")).events).toBe(1);
  await vi.waitFor(() => expect(published).toHaveLength(1), { timeout: 20_000 });
  await vi.waitFor(() => expect(told).toHaveLength(4), { timeout: 20_000 });
  expect(told).toEqual(
    expect.arrayContaining([
      ["runs", "items"],
      ["runs", "missing"],
      ["ended", "items", 1, true],
      ["failed", "missing", "source_failed"],
    ]),
  );
});

it("keyturn nodes shows who reads what, and how far behind", async () => {
  const data = join(temporaryPath(), "data");
  const node = await started(await embedded({ path: data, durability: "process" }), "reader", {
    sources: [itemsOf(files(3))],
  });
  const server = await serveStore(node.store, data);
  onTestFinished(() => server.close());
  const run = (...args: string[]) => cli([...args, "--data", data]);
  await vi.waitFor(
    async () => {
      const { stdout } = await run("nodes");
      expect(stdout).toMatch(/items\s.*reader\s.*3\s.*0 bytes/);
    },
    { timeout: 20_000 },
  );
  const { stdout } = await run("nodes", "--json");
  expect(JSON.parse(stdout)).toMatchObject({
    node: "reader",
    sources: [{ source: "items", partitions: 3, lag: 0, unit: "bytes" }],
  });
  await node.stop();
});

it("what makes no sense is refused by name", async () => {
  const items = itemsOf(files(1));
  const refused = async (options: object): Promise<void> => {
    const node = startNode({ actors: [counter], store: memory(), ...options });
    await expect(node).rejects.toMatchObject({ code: "invalid_options" });
  };
  await refused({ sources: [counter] });
  await refused({ sources: "items" });
  await refused({ sources: [items, itemsOf(files(1))] });
  await refused({ views: [counter] });
  await refused({ sinks: [7] });
});
