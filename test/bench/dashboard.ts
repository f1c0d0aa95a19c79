/**
 * What the dashboard asks of a node with very many actors, over HTTP: how long each answer takes, what it weighs, and how
 * long the node was held up by it, while nothing else is done and while events are sent.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { assign, setup } from "xstate";
import { serveHttp } from "../../runtime/http/index.ts";
import { defineActor, type KeyturnNode, startNode } from "../../runtime/index.ts";
import { type BenchOptions, openStore, type Print, round } from "./harness.ts";

const BATCH = 4_000;
const ROUNDS = 10;
const SENDERS = 64;

const lamp = defineActor({
  type: "lamp",
  index: ["room"],
  machine: setup({
    types: {
      context: {} as { room: number; switched: number },
      events: {} as { type: "put"; room: number } | { type: "switch" } | { type: "break" },
    },
    actions: {
      place: assign({ room: ({ context, event }) => (event.type === "put" ? event.room : context.room) }),
      count: assign({ switched: ({ context }) => context.switched + 1 }),
    },
  }).createMachine({
    context: { room: 0, switched: 0 },
    initial: "off",
    on: {
      put: { actions: "place" },
      break: ".broken",
    },
    states: {
      off: { on: { switch: { target: "on", actions: "count" } } },
      on: { on: { switch: { target: "off", actions: "count" } } },
      broken: {},
      spare: {},
    },
  }),
});

const keyOf = (n: number): string => `l${String(n).padStart(7, "0")}`;

/** Questions of the page, and how many actors an answer must have. */
function questionsOf(keys: number): readonly (readonly [name: string, path: string, found: number])[] {
  const list = "/actors/lamp?limit=50";
  return [
    ["count", "/types/lamp/count", keys],
    ["first page", list, 50],
    ["a page within", `${list}&cursor=${keyOf(keys >> 1)}`, 50],
    ["prefix", `${list}&prefix=${keyOf(keys - 1).slice(0, -1)}`, 10],
    ["state", `${list}&state=on`, 50],
    ["rare state", `${list}&state=broken`, 1],
    ["empty state", `${list}&state=spare`, 0],
    ["rare value", `${list}&where.room=${keys}`, 1],
    ["no such value", `${list}&where.room=-1`, 0],
  ];
}

export async function dashboardBench(options: BenchOptions, print: Print): Promise<void> {
  const keys = options.keys ?? 200_000;
  const path = mkdtempSync(join(tmpdir(), "keyturn-bench-"));
  const node = await startNode({ actors: [lamp], store: await openStore(options, path) });
  const server = await serveHttp(node, { listen: "127.0.0.1:0" });
  try {
    await fill(node, keys);
    for (const load of ["none", "sends"]) {
      const rest = load === "none" ? async () => undefined : work(node, keys);
      for (const [name, question, found] of questionsOf(keys)) {
        const row = await measured(server.url + question, found);
        print({ name: "dashboard", store: options.store, keys, load, question: name, ...row });
      }
      await rest();
    }
  } finally {
    await server.close();
    await node.stop();
    rmSync(path, { recursive: true, force: true });
  }
}

async function fill(node: KeyturnNode, keys: number): Promise<void> {
  for (let at = 0; at < keys; at += BATCH)
    await Promise.all(
      Array.from({ length: Math.min(BATCH, keys - at) }, async (_, n) => {
        const ref = node.client.actor(lamp, keyOf(at + n));
        await ref.send({ type: "put", room: at + n === 77 ? keys : (at + n) % 100 });
        if (n % 2 === 0) await ref.send({ type: "switch" });
      }),
    );
  await node.client.actor(lamp, keyOf(keys - 7)).send({ type: "break" });
}

/** Sends until it is told to rest; no state changes by it. */
function work(node: KeyturnNode, keys: number): () => Promise<void> {
  let isOver = false;
  const sender = async (first: number): Promise<void> => {
    for (let n = first; !isOver; n = (n + 7_919) % keys)
      await node.client.actor(lamp, keyOf(n)).send({ type: "put", room: n === 77 ? keys : n % 100 });
  };
  const senders = Array.from({ length: SENDERS }, (_, n) => sender(n));
  return async () => {
    isOver = true;
    await Promise.all(senders);
  };
}

async function measured(url: string, expected: number): Promise<Record<string, number>> {
  const times: number[] = [];
  let bytes = 0;
  const held = monitorEventLoopDelay({ resolution: 1 });
  held.enable();
  for (let n = 0; n < ROUNDS; n++) {
    const begun = performance.now();
    const text = await (await fetch(url)).text();
    times.push(performance.now() - begun);
    bytes = Buffer.byteLength(text);
    const { actors, total } = JSON.parse(text) as { actors?: unknown[]; total?: number };
    const found = actors?.length ?? total;
    if (found !== expected) throw new Error(`${url} found ${found}, there are ${expected}.`);
  }
  held.disable();
  times.sort((a, b) => a - b);
  return {
    p50_ms: round(times[ROUNDS >> 1] as number, 1),
    max_ms: round(times.at(-1) as number, 1),
    bytes,
    loop_max_ms: round(held.max / 1e6, 1),
  };
}
