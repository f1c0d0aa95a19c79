/** What actors emit is told their subscribers: once, in order, in the record of the turn, whatever happens meanwhile. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assign, emit, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { defineActor, isKeyturnError, KeyturnError, memory, reply, startNode } from "../runtime/index.ts";
import { loadActors } from "../runtime/cli/actors.ts";
import { matches } from "../runtime/engine/routes.ts";
import {
  count,
  defineSink,
  defineView,
  subscribe,
  toFunction,
  withoutRoutes,
} from "../runtime/streams/index.ts";
import { testRuntime } from "../runtime/testing/index.ts";
import { shardOf } from "../runtime/words/address.ts";
import { decodeFrames, encodeFrames, type Frame } from "../runtime/words/frames.ts";
import { atOtherEnd, channelTo, LANES, laneOfChannel, shardOfChannel } from "../runtime/words/lanes.ts";

type Emitted = { type: "paid"; cents: number; account: string } | { type: "note"; text: string };

/** Emits what it is asked to. */
const till = defineActor({
  type: "till",
  machine: setup({
    types: {
      context: {} as { n: number },
      events: {} as { type: "pay"; cents: number; account: string } | { type: "both" } | { type: "quiet" },
      emitted: {} as Emitted,
    },
  }).createMachine({
    context: { n: 0 },
    on: {
      pay: {
        actions: [
          assign({ n: ({ context }) => context.n + 1 }),
          emit(({ event }) => ({ type: "paid" as const, cents: event.cents, account: event.account })),
          reply(({ context }) => context.n),
        ],
      },
      both: {
        actions: [
          emit({ type: "note", text: "first" }),
          emit({ type: "paid", cents: 1, account: "both" }),
          emit({ type: "note", text: "last" }),
        ],
      },
      quiet: { actions: assign({ n: ({ context }) => context.n + 1 }) },
    },
  }),
});

const ledgerOnly = defineActor({
  type: "ledger",
  machine: setup({
    types: { context: {} as { entries: readonly string[] }, events: {} as { type: "book"; text: string } },
  }).createMachine({
    context: { entries: [] },
    on: { book: { actions: assign({ entries: ({ context, event }) => [...context.entries, event.text] }) } },
  }),
});

const ledger = subscribe(ledgerOnly, {
  over: till,
  on: "paid",
  tell: (event, by) => {
    if (event.cents === 13) throw new Error("thirteen");
    if (event.cents === 0) return undefined;
    // More than one turn may tell.
    if (event.cents === 99)
      return Array.from({ length: 1_025 }, (_, at) => ({ key: "x", event: { type: "book", text: `${at}` } }));
    if (event.cents === 12) return { key: "", event: { type: "book", text: "" } };
    return { key: event.account, event: { type: "book", text: `${by.key}:${event.cents}` } };
  },
});

async function code(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "none",
    (error: unknown) => (isKeyturnError(error) ? `${error.code} ${error.outcome}` : String(error)),
  );
}

describe("subscriptions", () => {
  it("are told what is emitted, in order, once, over crashes, take-overs and repeated frames at any moment", async () => {
    for (let seed = 1; seed <= 4; seed++) {
      const t = await testRuntime({ actors: [till, ledger], nodes: 2, seed });
      if (seed % 2 === 0) t.deliveredTwice();
      const tills = ["a", "b", "c"].map((key) => t.client.actor(till, key));
      for (let round = 1; round <= 8; round++) {
        const asked = tills.map((ref) =>
          ref.ask({ type: "pay", cents: 100 + round, account: "x" }, { requestId: `${ref.key}${round}` }),
        );
        for (const one of asked) one.catch(() => undefined);
        await t.pass(seed * 7 + round * 3);
        if (round % 3 === 0) await t.failover();
        else await t.crash();
        await Promise.all(asked);
      }
      await t.settle();
      const { entries } = (await t.client.actor(ledger, "x").get()).context;
      for (const { key } of tills)
        expect(entries.filter((one) => one.startsWith(key))).toEqual(
          [1, 2, 3, 4, 5, 6, 7, 8].map((round) => `${key}:${100 + round}`),
        );
      expect(entries).toHaveLength(24);
      expect(await t.deadLetters()).toEqual([]);
      await t.stop();
    }
  });

  it("are told of what matches only, and a turn that emits several things tells them in its order", async () => {
    const all = subscribe(ledgerOnly, {
      over: [till],
      on: ["note", "pai.*"],
      tell: (event) => ({ key: "k", event: { type: "book", text: JSON.stringify(event) } }),
    });
    const t = await testRuntime({ actors: [till, all] });
    await t.client.actor(till, "a").ask({ type: "both" });
    await t.client.actor(till, "a").ask({ type: "quiet" });
    await t.settle();
    const { entries } = (await t.client.actor(all, "k").get()).context;
    expect(entries.map((text) => JSON.parse(text))).toEqual([
      { type: "note", text: "first" },
      { type: "note", text: "last" },
    ]);
    await t.stop();
    expect(matches(["order.*"], "order.paid")).toBe(true);
    expect(matches(["order.*"], "order")).toBe(true);
    expect(matches(["order.*"], "orders.paid")).toBe(false);
    expect(matches(["*"], "anything")).toBe(true);
    expect(matches(["order.paid"], "order.paid.twice")).toBe(false);
  });

  it("refuse the turn by name if they throw or tell nonsense, and nothing of it is applied", async () => {
    const t = await testRuntime({ actors: [till, ledger] });
    const ref = t.client.actor(till, "a");
    expect(await code(ref.ask({ type: "pay", cents: 13, account: "x" }))).toBe("route_failed rejected");
    expect(await code(ref.ask({ type: "pay", cents: 12, account: "x" }))).toBe("route_failed rejected");
    expect(await code(ref.ask({ type: "pay", cents: 0, account: "x" }))).toBe("none");
    await expect(ref.ask({ type: "pay", cents: 13, account: "x" })).rejects.toThrow(
      /"subscription of ledger" failed for "paid", which till\/a emitted: thirteen/,
    );
    expect(await code(ref.ask({ type: "pay", cents: 99, account: "x" }))).toBe("route_failed rejected");
    await t.settle();
    expect((await ref.get()).context.n).toBe(1);
    expect((await t.client.actor(ledger, "x").get()).turn).toBe(0);
    await t.stop();
  });

  it("need the type that they are over, on every node; without their routes actors are hosted before they are needed", async () => {
    await expect(startNode({ actors: [ledger], store: memory() })).rejects.toMatchObject({
      code: "invalid_options",
    });
    const t = await testRuntime({ actors: [till, ...withoutRoutes([ledger])] });
    await t.client.actor(till, "a").ask({ type: "pay", cents: 13, account: "x" });
    await t.restart({ actors: [till, ledger] });
    await t.client.actor(till, "a").ask({ type: "pay", cents: 14, account: "x" });
    await t.settle();
    expect((await t.client.actor(ledger, "x").get()).context.entries).toEqual(["a:14"]);
    await t.stop();
  });

  it("are refused where they are declared if they are none", () => {
    const wrong = (make: () => unknown): string => {
      try {
        make();
      } catch (error) {
        return (error as KeyturnError).code;
      }
      return "none";
    };
    expect(wrong(() => subscribe(ledgerOnly, {} as never))).toBe("invalid_options");
    expect(wrong(() => subscribe(ledgerOnly, { over: till, on: [], tell: () => undefined }))).toBe(
      "invalid_options",
    );
    expect(wrong(() => subscribe(ledgerOnly, { over: {} as never, tell: () => undefined }))).toBe(
      "invalid_options",
    );
    expect(wrong(() => subscribe(ledgerOnly, { over: [], tell: () => undefined }))).toBe("invalid_options");
  });
});

describe("types", () => {
  it("flow from what a machine emits to subscriptions and views, and from a subscriber's events back", () => {
    const made = [
      subscribe(ledgerOnly, {
        over: till,
        on: "paid",
        // @ts-expect-error the ledger takes no such event
        tell: () => ({ key: "x", event: { type: "nope" } }),
      }),
      subscribe(ledgerOnly, {
        over: till,
        on: "paid",
        // @ts-expect-error what is paid has no text
        tell: (event) => ({ key: "x", event: { type: "book", text: event.text } }),
      }),
      defineView("v", {
        over: till,
        on: ["note"],
        // @ts-expect-error a note has no account
        key: (event) => event.account,
        aggregate: { n: count() },
      }),
    ];
    expect(made).toHaveLength(3);
  });
});

describe("the command line", () => {
  it("hosts what views and sinks that a module exports are made of", async () => {
    const folder = mkdtempSync(join(tmpdir(), "keyturn-routes-"));
    try {
      const path = join(folder, "actors.mjs");
      const definition = (type: string): string =>
        `{ type: "${type}", version: 1, machine: { __xstatenode: true } }`;
      writeFileSync(
        path,
        `export const view = { actors: [${definition("a")}, ${definition("b")}] };
         export default [${definition("c")}, { actors: [${definition("d")}] }];
         export const helper = () => 7;`,
      );
      expect((await loadActors([path])).map(({ type }) => type).sort()).toEqual(["a", "b", "c", "d"]);
      writeFileSync(join(folder, "wrong.mjs"), "export default [{ actors: [7] }];");
      await expect(loadActors([join(folder, "wrong.mjs")])).rejects.toMatchObject({
        code: "invalid_options",
      });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe("lanes", () => {
  it("name a channel by shard and lane, at both ends; lane 0 by the shard alone", () => {
    expect(channelTo(5, 0)).toBe(5);
    const channel = channelTo(5, 3);
    expect([shardOfChannel(channel), laneOfChannel(channel)]).toEqual([5, 3]);
    expect(atOtherEnd(channel, 9)).toBe(channelTo(9, 3));
    expect(laneOfChannel(channelTo(16_383, LANES - 1))).toBe(LANES - 1);
  });

  it("cross the network as they are; others than there are, and shards that there are not, are refused", () => {
    const told = (fromShard: number): Frame => ({
      kind: "told",
      shard: 1,
      fromShard,
      first: 7,
      messages: [{ type: "a", key: "k", id: "a.k", event: { type: "x" }, trace: undefined }],
    });
    const own = shardOf("a", "k", 8);
    const there = (frame: Frame): unknown =>
      decodeFrames(encodeFrames([{ ...frame, shard: own } as Frame])[0] as Uint8Array, 100_000, 8);
    for (const channel of [0, 7, channelTo(7, LANES - 1)]) {
      expect(there(told(channel))).toMatchObject([{ fromShard: channel }]);
      expect(there({ kind: "ack", shard: own, fromShard: channel, upTo: 3 })).toMatchObject([
        { fromShard: channel },
      ]);
    }
    for (const channel of [8, channelTo(8, 1), channelTo(0, LANES), 2 ** 40])
      expect(() => there(told(channel))).toThrow(KeyturnError);
  });
});

describe("a rolling deploy", () => {
  it("lets what is emitted for views and sinks wait for the nodes that do not have them yet; none is lost or dead", async () => {
    const view = defineView("seen", {
      over: till,
      on: "paid",
      key: (event) => event.account,
      aggregate: { n: count() },
    });
    const published: string[] = [];
    const out = defineSink("out", {
      over: till,
      on: "paid",
      to: toFunction((items) => {
        for (const { from } of items) published.push(from);
      }),
    });
    const store = memory();
    const settings = { lease_ms: 3_000, heartbeat_ms: 100 };
    const older = await startNode({ actors: [till], store, name: "older", shards: 16, settings });
    const newer = await startNode({
      actors: [till, ...view.actors, ...out.actors],
      store,
      name: "newer",
      settings,
    });
    const moved = (): boolean => newer.shards.length > 0 && older.shards.length + newer.shards.length === 16;
    while (!moved())
      await new Promise<void>((resolve) => {
        setTimeout(resolve, 5);
      });
    const refs = Array.from({ length: 40 }, (_, at) => newer.client.actor(till, `t${at}`));
    const accounts = Array.from({ length: 12 }, (_, at) => `a${at}`);
    const routed = refs.filter(({ shard }) => newer.shards.includes(shard));
    // Some of the view's keys are served by the node that does not have it.
    const [definition] = view.actors;
    const there = accounts.filter((key) =>
      older.shards.includes(newer.client.actor(definition as never, key).shard),
    );
    expect(there.length).toBeGreaterThan(0);
    expect(routed.length).toBeLessThan(refs.length);
    for (const [at, ref] of refs.entries())
      await ref.ask({ type: "pay", cents: 1, account: accounts[at % accounts.length] as string });
    const last = await startNode({
      actors: [till, ...view.actors, ...out.actors],
      store,
      name: "last",
      settings,
    });
    await older.stop({ closeStore: false });
    const counted = async (): Promise<number> => {
      const states = await Promise.all(accounts.map((key) => view.reader(last.client).get(key)));
      return states.reduce((sum, { values }) => sum + values.n, 0);
    };
    while ((await counted()) < routed.length || published.length < routed.length)
      await new Promise<void>((resolve) => {
        setTimeout(resolve, 5);
      });
    expect(await counted()).toBe(routed.length);
    expect(published.sort()).toEqual(routed.map(({ address }) => address).sort());
    expect(await last.deadLetters()).toEqual([]);
    await last.stop({ closeStore: false });
    await newer.stop();
  });
});
