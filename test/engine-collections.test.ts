/** Contract 1 with Maps, Sets and Errors: an actor that holds them is the same after a crash and after a restart. */
import { isDeepStrictEqual } from "node:util";
import { assign, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { defineActor, reply } from "../runtime/index.ts";
import { type KeyturnNode, startNode } from "../runtime/node.ts";
import type { Store } from "../runtime/ports/index.ts";
import { memory } from "../runtime/stores/memory/index.ts";
import { decodeFrames, encodeFrames, type Frame } from "../runtime/words/frames.ts";
import { placeOf } from "../runtime/words/address.ts";
import { limits } from "../runtime/words/limits.ts";
import { useHome } from "./embedded-home.ts";
import { failure } from "./support/probe.ts";
import { isFrozen } from "./support/values.ts";

interface Context {
  readonly carts: ReadonlyMap<string, { readonly count: number }>;
  readonly tags: ReadonlySet<string>;
  readonly error: Error | undefined;
}

type ShopEvent =
  | { type: "put"; lines: ReadonlyMap<string, number>; tag: string }
  | { type: "failed"; error: Error }
  | { type: "spoil" };

const shop = defineActor({
  type: "shop",
  machine: setup({ types: { context: {} as Context, events: {} as ShopEvent } }).createMachine({
    context: { carts: new Map(), tags: new Set(), error: undefined },
    on: {
      put: {
        actions: [
          assign({
            carts: ({ context, event }) => {
              const carts = new Map(context.carts);
              for (const [name, count] of event.lines)
                carts.set(name, { count: (carts.get(name)?.count ?? 0) + count });
              return carts;
            },
            tags: ({ context, event }) => new Set([...context.tags, event.tag]),
          }),
          reply(({ context }) => context.carts),
        ],
      },
      failed: { actions: [assign({ error: ({ event }) => event.error }), reply(({ event }) => event.error)] },
      spoil: {
        actions: assign(({ context }) => {
          (context.carts as Map<string, unknown>).clear();
          return {};
        }),
      },
    },
  }),
});

const put = (name: string, count: number): ShopEvent => ({
  type: "put",
  lines: new Map([[name, count]]),
  tag: `tag ${name}`,
});

const home = useHome();

describe.each([
  ["memory", async (): Promise<Store> => memory()],
  ["embedded", () => home.open()],
])("with the %s store", (_name, open) => {
  it("an actor's Map, Set and Error are there after a crash, from the journal, and after a restart, from a snapshot", async () => {
    const store = await open();
    const start = (name: string): Promise<KeyturnNode> =>
      startNode({ actors: [shop], store, name, shards: 2, settings: { lease_ms: 600, heartbeat_ms: 100 } });
    const error = Object.assign(new RangeError("too much", { cause: new TypeError("inner") }), { code: 7 });
    const expected = {
      carts: new Map([
        ["pears", { count: 3 }],
        ["apples", { count: 1 }],
      ]),
      tags: new Set(["tag pears", "tag apples"]),
      error,
    };
    const check = async (node: KeyturnNode): Promise<void> => {
      const { context } = await node.client.actor(shop, "a").get();
      expect(isDeepStrictEqual(context, expected)).toBe(true);
      expect([...context.carts.keys()]).toEqual(["pears", "apples"]);
      expect(isFrozen(context)).toBe(true);
    };

    const first = await start("n1");
    const ref = first.client.actor(shop, "a");
    await ref.ask(put("pears", 1));
    await ref.ask(put("apples", 1));
    expect(await ref.ask(put("pears", 2))).toEqual(expected.carts);
    expect(await ref.ask({ type: "failed", error })).toBeInstanceOf(RangeError);
    expect((await failure(ref.ask({ type: "spoil" }))).code).toBe("context_mutated");
    await check(first);
    first.kill();

    const second = await start("n2");
    await check(second);
    await second.stop({ closeStore: false });

    const third = await start("n3");
    await check(third);
    const turns = [];
    for await (const turn of third.client.actor(shop, "a").history({ order: "oldest" })) turns.push(turn);
    expect(isDeepStrictEqual(turns[3]?.event, { type: "failed", error })).toBe(true);
    await third.stop({ closeStore: false });
  });
});

describe("over a network", () => {
  it("events, replies and watched states with them come out of a frame as they went in, frozen", () => {
    const place = placeOf("shop", "a", 64);
    const error = Object.assign(new SyntaxError("no", { cause: new Set([1]) }), { at: new Map([[1, 2]]) });
    const event = { ...put("pears", 1), error };
    const frames = [
      {
        kind: "told",
        shard: place.shard,
        fromShard: 3,
        first: 1,
        messages: [{ type: place.type, key: place.key, id: place.id, event, trace: undefined }],
      },
      { kind: "reply", from: "n1", replies: [[1, 1, undefined, new Map([["error", error]])]] },
      { kind: "watch", watch: "w", state: { context: { error, tags: new Set(["a"]) } } },
    ] as unknown as Frame[];
    for (const frame of frames) {
      const [payload = new Uint8Array()] = encodeFrames([frame]);
      const [got] = decodeFrames(Uint8Array.from(payload), limits.frameBytes, 64);
      expect(isDeepStrictEqual(got, frame)).toBe(true);
    }
  });
});
