/**
 * The top of a view: from its index, beside reading all keys. In a node that has just taken the events in, after a restart,
 * and with a change before each question.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assign, enqueueActions, setup } from "xstate";
import { type Client, defineActor, startNode } from "../../runtime/index.ts";
import { defineView, sum } from "../../runtime/streams/index.ts";
import { type BenchOptions, openStore, type Print, round } from "./harness.ts";

type Sold = { readonly type: "sold"; readonly shop: string; readonly cents: number };

const till = defineActor({
  type: "till",
  machine: setup({
    types: {
      context: {} as { turns: number },
      events: {} as { type: "sell"; all: readonly Sold[] },
      emitted: {} as Sold,
    },
  }).createMachine({
    context: { turns: 0 },
    on: {
      sell: {
        actions: [
          assign({ turns: ({ context }) => context.turns + 1 }),
          enqueueActions(({ event, enqueue }) => {
            for (const one of event.all) enqueue.emit(one);
          }),
        ],
      },
    },
  }),
});

const shops = defineView("shops", {
  over: till,
  on: "sold",
  key: (event) => event.shop,
  aggregate: { cents: sum("cents") },
  index: ["cents"],
});

const AT_ONCE = 500;
const TOP = 10;
const LOOKS = 20;

function centsOf(at: number): number {
  return (at * 7_919) % 1_000_003;
}

/** Asks for the top, one way; the median of some looks, with a change before each. */
async function look(client: Client, way: "index" | "all keys", keys: number, looks: number): Promise<number> {
  const reader = shops.reader(client);
  const times: number[] = [];
  for (let at = 0; at < looks; at++) {
    const shop = `s${at % keys}`;
    await client
      .actor(till, "one")
      .send({ type: "sell", all: [{ type: "sold", shop, cents: 1_000_000 + at }] });
    await reader.settled();
    const begun = performance.now();
    const found =
      way === "index" ? await reader.top(TOP, "cents") : await reader.top(TOP, ({ values }) => values.cents);
    times.push(performance.now() - begun);
    const sorted = found.every(
      ({ values }, n) => n === 0 || values.cents <= (found[n - 1]?.values.cents as number),
    );
    if (found.length !== TOP || !sorted || !found.some(({ key }) => key === shop))
      throw new Error("The top is wrong.");
  }
  return times.sort((a, b) => a - b)[times.length >> 1] as number;
}

export async function viewTop(options: BenchOptions, print: Print): Promise<void> {
  const keys = options.keys ?? 100_000;
  const path = mkdtempSync(join(tmpdir(), "keyturn-bench-"));
  const start = async () =>
    startNode({ actors: [till], views: [shops], store: await openStore(options, path) });
  try {
    let node = await start();
    const begun = performance.now();
    for (let from = 0; from < keys; from += AT_ONCE) {
      const all = Array.from({ length: Math.min(AT_ONCE, keys - from) }, (_, n): Sold => {
        return { type: "sold", shop: `s${from + n}`, cents: centsOf(from + n) };
      });
      await node.client.actor(till, `t${from % 16}`).send({ type: "sell", all });
    }
    await shops.reader(node.client).settled({ timeout_ms: 120_000 });
    const fed = { fed_s: round((performance.now() - begun) / 1_000, 1) };
    for (const when of ["just fed", "after a restart"]) {
      if (when !== "just fed") {
        await node.stop();
        node = await start();
      }
      const first = await look(node.client, "index", keys, 1);
      const index = await look(node.client, "index", keys, LOOKS);
      const all = await look(node.client, "all keys", keys, 3);
      print({
        name: `top ${TOP}, ${when}`,
        store: options.store,
        keys,
        first_ms: round(first, 1),
        index_ms: round(index, 2),
        all_keys_ms: round(all, 0),
        ratio: round(index / all, 5),
        ...(when === "just fed" ? fed : {}),
      });
    }
    await node.stop();
  } finally {
    rmSync(path, { recursive: true, force: true });
  }
}
