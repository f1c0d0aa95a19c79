/** `expireAfter`, `idleAfter` and `keepFor`: actors that are over are deleted, whatever happened in between. */
import { assign, fromPromise, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { defineActor, reply, startNode } from "../runtime/index.ts";
import { durationOf } from "../runtime/words/duration.ts";
import { useHome } from "./embedded-home.ts";
import { failure, type Rig, rig } from "./support/probe.ts";

const MINUTE = 60_000;
const home = useHome();

function carts(life: {
  expireAfter?: number | string;
  idleAfter?: number | string;
  keepFor?: number | string;
}) {
  const pending: (() => void)[] = [];
  const cart = defineActor({
    type: "cart",
    machine: setup({
      types: {
        context: {} as { count: number },
        events: {} as { type: "add" } | { type: "finish" } | { type: "work" },
      },
      actors: {
        wait: fromPromise(({ signal }) => {
          return new Promise<void>((resolve) => {
            pending.push(resolve);
            signal.addEventListener("abort", () => pending.splice(pending.indexOf(resolve), 1));
          });
        }),
      },
    }).createMachine({
      context: { count: 0 },
      initial: "open",
      states: {
        open: { on: { finish: "over", work: "working" }, after: { 3600000: "over" } },
        working: { invoke: { src: "wait", onDone: "over" } },
        over: { type: "final" },
      },
      on: {
        add: {
          actions: [
            assign({ count: ({ context }) => context.count + 1 }),
            reply(({ context }) => context.count),
          ],
        },
      },
    }),
    ...life,
    types: {} as { replies: { add: number } },
  });
  return { cart, pending };
}

type Cart = ReturnType<typeof carts>["cart"];

const add = (r: Rig, cart: Cart, requestId?: string): Promise<number> =>
  r.world.run(r.node.client.actor(cart, "a").ask({ type: "add" }, { requestId }));
const turns = async (r: Rig, cart: Cart): Promise<number> =>
  (await r.world.run(r.node.client.actor(cart, "a").get())).turn;

describe("expireAfter", () => {
  it("counts from the first turn; a later message begins anew, its request ids are forgotten", async () => {
    const { cart } = carts({ expireAfter: "10 minutes" });
    const r = await rig({ actors: [cart] });
    expect(await add(r, cart, "one")).toBe(1);
    await r.world.advance(9 * MINUTE);
    expect(await add(r, cart, "two")).toBe(2);
    expect(await add(r, cart, "one")).toBe(1);
    await r.world.advance(MINUTE + 10);
    expect(await turns(r, cart)).toBe(0);
    expect(await add(r, cart, "one")).toBe(1);
    expect(await turns(r, cart)).toBe(1);
    await r.world.advance(10 * MINUTE + 10);
    expect(await turns(r, cart)).toBe(0);
  });

  it("of a cold actor, after a crash and after a hand-over, from the tail and from a snapshot", async () => {
    for (const how of ["kill", "checkpoint and kill", "stop"]) {
      const { cart } = carts({ expireAfter: 10 * MINUTE });
      const first = await rig({ actors: [cart] });
      await add(first, cart);
      if (how === "checkpoint and kill") await first.world.run(first.node.checkpoint());
      if (how === "stop") await first.world.run(first.node.stop({ closeStore: false }));
      else first.node.kill();
      const { world, store } = first;
      const second = await rig({ world, store, actors: [cart], name: "n2" });
      await world.advance(9 * MINUTE);
      expect(await turns(second, cart)).toBe(1);
      await world.advance(MINUTE + 10);
      expect(await turns(second, cart)).toBe(0);
      second.node.kill();
      const third = await rig({ world, store, actors: [cart], name: "n3" });
      expect(await turns(third, cart)).toBe(0);
      expect(await add(third, cart)).toBe(1);
    }
  });

  it("stops work that runs, and tells who watches", async () => {
    const { cart, pending } = carts({ expireAfter: MINUTE });
    const r = await rig({ actors: [cart] });
    const ref = r.node.client.actor(cart, "a");
    await r.world.run(ref.send({ type: "work" }));
    await r.world.advance(10);
    expect(pending.length).toBe(1);
    const stop = new AbortController();
    const seen: unknown[] = [];
    const watching = (async () => {
      for await (const state of ref.watch({ signal: stop.signal })) seen.push(state.value);
    })();
    await r.world.advance(MINUTE);
    expect(pending.length).toBe(0);
    expect(seen).toEqual(["working", "open"]);
    expect(await turns(r, cart)).toBe(0);
    stop.abort();
    await r.world.run(watching);
  });
});

describe("idleAfter", () => {
  it("counts from the last turn, and no turn writes the timer anew", async () => {
    const { cart } = carts({ idleAfter: 10 * MINUTE });
    const r = await rig({ actors: [cart] });
    for (let n = 1; n <= 4; n++) {
      expect(await add(r, cart)).toBe(n);
      await r.world.advance(4 * MINUTE);
    }
    // Four turns, and one that set the timer anew.
    expect(await turns(r, cart)).toBe(5);
    await r.world.advance(6 * MINUTE - 10);
    // It fired once more meanwhile, six minutes after the last turn.
    expect(await turns(r, cart)).toBe(6);
    await r.world.advance(20);
    expect(await turns(r, cart)).toBe(0);
  });

  it("after a crash it is never early, and late by less than itself", async () => {
    const { cart } = carts({ idleAfter: 10 * MINUTE });
    const first = await rig({ actors: [cart] });
    await add(first, cart);
    await first.world.advance(9 * MINUTE);
    await add(first, cart);
    first.node.kill();
    const { world, store } = first;
    const second = await rig({ world, store, actors: [cart], name: "n2" });
    const engine = second.node.incarnation.engine;
    await world.advance(9 * MINUTE);
    expect(engine.actors.get("cart.a")?.committed.turn).toBe(3);
    await world.advance(2 * MINUTE);
    expect(engine.actors.get("cart.a")?.committed.turn).toBe(0);
  });
});

describe("keepFor", () => {
  it("counts from the end of the machine, and of no other actor", async () => {
    const { cart } = carts({ keepFor: "2 min", idleAfter: "1 d" });
    const r = await rig({ actors: [cart] });
    const ref = r.node.client.actor(cart, "a");
    await add(r, cart);
    await r.world.advance(10 * MINUTE);
    await r.world.run(ref.send({ type: "finish" }));
    await r.world.advance(MINUTE);
    expect(await r.world.run(ref.get())).toMatchObject({ status: "done", turn: 3 - 1 });
    await r.world.advance(MINUTE + 10);
    expect(await turns(r, cart)).toBe(0);
  });
});

it("on an embedded store, after a restart", async () => {
  const { cart } = carts({ expireAfter: 1_000 });
  const options = { actors: [cart], shards: 4, name: "n1" };
  const first = await startNode({ ...options, store: await home.open() });
  expect(await first.client.actor(cart, "a").ask({ type: "add" })).toBe(1);
  await first.stop();
  const second = await startNode({ ...options, store: await home.open() });
  const ref = second.client.actor(cart, "a");
  for await (const { turn } of ref.watch()) if (turn === 0) break;
  expect(await ref.ask({ type: "add" })).toBe(1);
  await second.stop();
});

it("durations are milliseconds or texts; what is neither is refused", async () => {
  expect(["30 days", "1.5 h", "90s", "250 ms", 7].map((value) => durationOf(value, "x"))).toEqual([
    2_592_000_000, 5_400_000, 90_000, 250, 7,
  ]);
  for (const bad of ["soon", "3", "-1 s", -1, 0.5, Number.NaN])
    expect((await failure(Promise.resolve().then(() => durationOf(bad, "x")))).code).toBe("invalid_options");
  expect((await failure(Promise.resolve().then(() => carts({ idleAfter: 0 })))).code).toBe("invalid_options");
});
