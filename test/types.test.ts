/** What the compiler promises; `npm run types` is the test, and each line that must not compile says so. */
import { createMachine, setup } from "xstate";
import { describe, expect, expectTypeOf, it } from "vitest";
import {
  type ActorRef,
  type ActorState,
  type Client,
  defineActor,
  type EventFor,
  reply,
  tell,
} from "../runtime/index.ts";
import { rig } from "./support/probe.ts";

type CartEvent = { type: "put"; sku: string } | { type: "total" } | { type: "close" };

const cart = defineActor({
  type: "cart",
  machine: setup({
    types: { context: {} as { items: readonly string[] }, events: {} as CartEvent },
  }).createMachine({
    context: { items: [] },
    initial: "open",
    states: { open: { on: { close: "closed" } }, closed: {} },
    on: {
      put: {
        actions: [
          reply(({ context, event }) => {
            expectTypeOf(context.items).toEqualTypeOf<readonly string[]>();
            expectTypeOf(event.sku).toEqualTypeOf<string>();
            return context.items.length;
          }),
          tell(
            ({ event }) => `stock/${event.sku}`,
            ({ context }) => ({ type: "reserve", of: context.items.length }),
          ),
          // A value may be written where it is, whatever it is made of.
          reply({ ok: true, parts: [1, { at: new Date(0) }] }),
          reply(["a", { b: 1 }]),
          // @ts-expect-error a reply's expression sees only the events that lead to it
          reply(({ event }) => event.price),
          // @ts-expect-error an address is a text
          tell(7, { type: "reserve" }),
          // @ts-expect-error an event has a type
          tell("stock/1", { of: 1 }),
        ],
      },
      total: { actions: reply("12.50") },
    },
  }),
  types: {} as { replies: { put: number; total: string } },
});

/** Never called: only its types are of interest. */
async function compiled(client: Client): Promise<void> {
  const ref = client.actor(cart, "1");

  expectTypeOf(await ref.ask({ type: "put", sku: "x" })).toEqualTypeOf<number>();
  expectTypeOf(await ref.ask({ type: "total" })).toEqualTypeOf<string>();
  // No reply is declared for it: the new state.
  const state = await ref.ask({ type: "close" });
  expectTypeOf(state.value).toEqualTypeOf<"open" | "closed">();
  expectTypeOf(state.context.items).toEqualTypeOf<readonly string[]>();
  expectTypeOf(await ref.send({ type: "total" })).toEqualTypeOf<void>();
  expectTypeOf(await ref.get()).toEqualTypeOf<typeof state>();
  expectTypeOf(await ref.get({ stale: true })).toEqualTypeOf<typeof state | undefined>();
  for await (const seen of ref.watch()) expectTypeOf(seen).toEqualTypeOf<typeof state>();
  expectTypeOf<EventFor<typeof cart>>().toEqualTypeOf<CartEvent>();

  // @ts-expect-error no such event
  await ref.ask({ type: "pay" });
  // @ts-expect-error the event lacks its sku
  await ref.send({ type: "put" });
  // @ts-expect-error the sku is a text
  await ref.ask({ type: "put", sku: 7 });
  // @ts-expect-error states are read-only
  state.context = { items: [] };
  // @ts-expect-error there is no such state
  expectTypeOf(state.value === "paid");
  // @ts-expect-error a definition needs a key
  client.actor(cart);
  // @ts-expect-error options have names
  await ref.ask({ type: "total" }, { timeout: 5 });

  // By address nothing is known: any event, any state.
  const any: ActorRef = client.actor("cart/1");
  const loose = await any.ask({ type: "whatever", n: 1 });
  expectTypeOf(loose).toExtend<ActorState>();
}

describe("types", () => {
  it("what they say of replies and states is what comes at run time", async () => {
    const { node, world } = await rig({ actors: [cart] });
    const ref = node.client.actor(cart, "1");
    expect(await world.run(ref.ask({ type: "total" }))).toBe("12.50");
    const { value, context } = await world.run(ref.ask({ type: "close" }));
    expect([value, context.items]).toEqual(["closed", []]);
    expect(compiled).toBeTypeOf("function");
  });

  it("a definition keeps its literal type, and is frozen", () => {
    const plain = defineActor({ type: "plain", machine: createMachine({}) });
    expectTypeOf(plain.type).toEqualTypeOf<"plain">();
    expect(Object.isFrozen(plain)).toBe(true);
    expect(plain.version).toBe(1);
  });

  it.each([
    [
      "a type that is none",
      () => defineActor({ type: "a b", machine: createMachine({}) }),
      "invalid_address",
    ],
    [
      "version 0",
      () => defineActor({ type: "a", version: 0, machine: createMachine({}) }),
      "invalid_options",
    ],
    [
      "half a version",
      () => defineActor({ type: "a", version: 1.5, machine: createMachine({}) }),
      "invalid_options",
    ],
    // @ts-expect-error a machine is needed
    ["no machine", () => defineActor({ type: "a" }), "invalid_options"],
    // @ts-expect-error a machine is made by createMachine
    ["a machine's configuration", () => defineActor({ type: "a", machine: {} }), "invalid_options"],
  ])("defineActor refuses %s", (_what, define, code) => {
    expect(define).toThrow(expect.objectContaining({ code }));
  });
});
