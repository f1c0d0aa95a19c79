/** Schemas of events, inputs and outputs, from the libraries that people use; and actors that begin by `create`. */
import { type } from "arktype";
import * as v from "valibot";
import { assign, setup } from "xstate";
import { describe, expect, expectTypeOf, it } from "vitest";
import { z } from "zod";
import { createClient } from "../runtime/client/client.ts";
import { defineActor, type InputOf, reply, type StandardSchema } from "../runtime/index.ts";
import { checkSchema } from "../runtime/engine/schema.ts";
import { Create, decodeFrames, encodeFrames, type Frame } from "../runtime/words/frames.ts";
import { limits } from "../runtime/words/limits.ts";
import { failure, type Rig, rig } from "./support/probe.ts";
import { refusal } from "./support/machines.ts";

type OrderEvent = { type: "put"; items: readonly { price: number }[] } | { type: "close"; total: unknown };
interface OrderInput {
  readonly owner: string;
  readonly items: readonly { readonly price: number }[];
}

const machine = setup({
  types: {
    context: {} as { owner: string; count: number; total: unknown },
    events: {} as OrderEvent,
    input: {} as OrderInput,
    output: {} as { total: unknown },
  },
}).createMachine({
  context: ({ input }) => ({ owner: input.owner, count: input.items.length, total: null }),
  initial: "open",
  states: {
    open: { on: { close: { target: "closed", actions: assign({ total: ({ event }) => event.total }) } } },
    closed: { type: "final" },
  },
  on: {
    put: {
      actions: [
        assign({ count: ({ context, event }) => context.count + event.items.length }),
        reply(({ context }) => context.count),
      ],
    },
  },
  output: ({ context }) => ({ total: context.total }),
});

interface Schemas {
  readonly events: StandardSchema;
  readonly input: StandardSchema;
  readonly output: StandardSchema;
}

const libraries: Readonly<Record<"zod" | "valibot" | "arktype", Schemas>> = {
  zod: {
    events: z.discriminatedUnion("type", [
      z.object({ type: z.literal("put"), items: z.array(z.object({ price: z.number() })) }),
      z.object({ type: z.literal("close"), total: z.unknown() }),
    ]),
    input: z.object({ owner: z.string(), items: z.array(z.object({ price: z.number() })) }),
    output: z.object({ total: z.number() }),
  },
  valibot: {
    events: v.variant("type", [
      v.object({ type: v.literal("put"), items: v.array(v.object({ price: v.number() })) }),
      v.object({ type: v.literal("close"), total: v.unknown() }),
    ]),
    input: v.object({ owner: v.string(), items: v.array(v.object({ price: v.number() })) }),
    output: v.object({ total: v.number() }),
  },
  arktype: {
    events: type({ type: "'put'", items: type({ price: "number" }).array() }).or({
      type: "'close'",
      total: "unknown",
    }),
    input: type({ owner: "string", items: type({ price: "number" }).array() }),
    output: type({ total: "number" }),
  },
};

function orderOf({ events, input, output }: Schemas) {
  return defineActor({
    type: "order",
    machine,
    events,
    inputSchema: input,
    outputSchema: output,
    types: {} as { replies: { put: number } },
  });
}

const { zod } = libraries;
const order = orderOf(zod);
const good: OrderInput = { owner: "ann", items: [{ price: 1 }] };
const bad = { owner: "ann", items: [{ price: "1" }] } as unknown as OrderInput;
const badPut = { type: "put", items: [{ price: "1" }] } as unknown as OrderEvent;

const requestsOf = ({ store }: Rig): number => store.frames.filter((f) => f.frame.kind === "request").length;

describe.each(Object.entries(libraries))("%s", (_library, schemas) => {
  it("events are refused with the path of the fault, at the client and at the owner", async () => {
    const r = await rig({ actors: [orderOf(schemas)] });
    const ref = r.node.client.actor(orderOf(schemas), "a");
    await r.world.run(ref.create(good));
    const before = requestsOf(r);
    const atClient = await r.world.run(failure(ref.ask(badPut)));
    expect(requestsOf(r)).toBe(before);
    const atOwner = await r.world.run(failure(r.node.client.actor("order/a").send(badPut)));
    for (const error of [atClient, atOwner]) {
      expect(error).toMatchObject({ code: "invalid_event", outcome: "rejected" });
      expect(error.message).toContain("event.items[0].price: ");
    }
    expect(await r.world.run(ref.ask({ type: "put", items: [{ price: 2 }] }))).toBe(2);
  });

  it("inputs are refused with the path, at the client and at the owner", async () => {
    const r = await rig({ actors: [orderOf(schemas)] });
    const ref = r.node.client.actor(orderOf(schemas), "a");
    const atClient = await r.world.run(failure(ref.create(bad)));
    expect(requestsOf(r)).toBe(0);
    const atOwner = await r.world.run(failure(r.node.client.actor("order/a").create(bad)));
    for (const error of [atClient, atOwner]) {
      expect(error).toMatchObject({ code: "invalid_input", outcome: "rejected" });
      expect(error.message).toContain("input.items[0].price: ");
    }
    expect(await r.world.run(ref.create(good))).toMatchObject({
      turn: 1,
      context: { owner: "ann", count: 1 },
    });
  });

  it("a wrong output refuses the turn; the actor stays as it was", async () => {
    const r = await rig({ actors: [orderOf(schemas)] });
    const ref = r.node.client.actor(orderOf(schemas), "a");
    await r.world.run(ref.create(good));
    const error = await r.world.run(failure(ref.ask({ type: "close", total: "much" })));
    expect(error).toMatchObject({ code: "output_invalid", outcome: "rejected" });
    expect(error.message).toContain("output.total: ");
    expect(await r.world.run(ref.get())).toMatchObject({ turn: 1, status: "active", value: "open" });
    const done = await r.world.run(ref.ask({ type: "close", total: 3 }));
    expect(done).toMatchObject({ turn: 2, status: "done", output: { total: 3 } });
  });
});

describe("before the mailbox", () => {
  it("the owner refuses what does not fit without loading its actor", async () => {
    const r = await rig({ actors: [order] });
    const any = r.node.client.actor("order/cold");
    r.store.snapshotReadGate.close();
    const code = { code: "invalid_event" };
    expect(await r.world.run(failure(any.send(badPut)))).toMatchObject(code);
    expect(r.node.incarnation.engine.actors.has("order.cold")).toBe(false);
    expect(await r.world.run(failure(any.create(bad)))).toMatchObject({ code: "invalid_input" });
    expect(r.node.incarnation.engine.actors.has("order.cold")).toBe(false);
    r.store.snapshotReadGate.open();
  });

  it("a repetition of what fitted once is answered from its reply, though it would not fit now", async () => {
    const loose = defineActor({ type: "order", machine, inputSchema: zod.input });
    const first = await rig({ actors: [loose] });
    const { store, world } = first;
    await world.run(first.node.client.actor(loose, "a").create(good));
    expect(await world.run(first.node.client.actor("order/a").ask(badPut, { requestId: "x" }))).toBe(2);
    first.node.kill();
    const second = await rig({ store, world, actors: [order], name: "n2" });
    const ref = second.node.client.actor(order, "a");
    expect(await world.run(ref.ask(badPut as never, { requestId: "x" }))).toBe(2);
    expect(await world.run(failure(ref.ask(badPut, { requestId: "y" })))).toMatchObject({
      code: "invalid_event",
    });
  });
});

describe("running a schema", () => {
  const given = (validate: (value: unknown) => unknown): StandardSchema =>
    ({ "~standard": { version: 1, vendor: "test", validate } }) as StandardSchema;
  const run = (schema: StandardSchema, value: unknown = {}): string => {
    const checked = { code: "invalid_event", name: "event", type: "order" } as const;
    const error = refusal(() => checkSchema(schema, value, checked));
    expect(error.code).toBe("invalid_event");
    return error.message;
  };

  it("asynchronous schemas are refused, also those that would reject", () => {
    expect(
      run(
        z.string().refine(async () => true),
        "x",
      ),
    ).toContain("asynchronous");
    expect(run(given(() => Promise.reject(new Error("late"))))).toContain("asynchronous");
  });

  it("one that throws, or gives no verdict, refuses the value", () => {
    expect(
      run(
        given(() => {
          throw new Error("no luck");
        }),
      ),
    ).toContain('The schema for the event of "order" threw: no luck');
    expect(run(given(() => undefined))).toContain("threw");
    expect(run(given(() => ({ issues: [] })))).toBe("event: does not fit its schema");
  });

  it("paths name properties, indices, symbols and whatever else is a key", () => {
    const path = ["items", 0, { key: "a b" }, { key: Symbol("s") }, "7", Symbol.iterator, "ä"];
    expect(run(given(() => ({ issues: [{ message: "no", path }] })))).toBe(
      'event.items[0]["a b"][Symbol(s)][7][Symbol(Symbol.iterator)].ä: no',
    );
  });

  it("texts are bounded", () => {
    const issue = { message: "m".repeat(10_000), path: Array.from({ length: 10_000 }, () => "deep") };
    const text = run(given(() => ({ issues: Array.from({ length: 50 }, () => issue) })));
    expect(text.length).toBeLessThan(2_500);
    expect(text).toContain("and 47 more");
  });

  it("only a Standard Schema is one", () => {
    for (const wrong of [{}, null, 7, { "~standard": {} }])
      for (const name of ["events", "inputSchema", "outputSchema"])
        expect(() => defineActor({ type: "a", machine, [name]: wrong })).toThrow(
          expect.objectContaining({ code: "invalid_options" }),
        );
    expect(() => defineActor({ type: "a", machine, input: 7 as never })).toThrow(
      expect.objectContaining({ code: "invalid_options" }),
    );
  });
});

describe("input", () => {
  it("is made from the address", async () => {
    const named = defineActor({
      type: "order",
      machine,
      input: ({ type: name, key }) => {
        expectTypeOf(name).toEqualTypeOf<"order">();
        return { owner: `${name} of ${key}`, items: [] };
      },
      inputSchema: zod.input,
    });
    const r = await rig({ actors: [named] });
    const ref = r.node.client.actor(named, "ann");
    expect(await r.world.run(ref.get())).toMatchObject({ turn: 0, context: { owner: "order of ann" } });
    expect(await r.world.run(ref.ask({ type: "put", items: [] }))).toBe(0);
  });

  it("an actor that cannot begin by itself says what to do, for messages and reads", async () => {
    const r = await rig({ actors: [order] });
    const ref = r.node.client.actor(order, "a");
    for (const error of [
      await r.world.run(failure(ref.ask({ type: "put", items: [] }))),
      await r.world.run(failure(ref.get())),
    ]) {
      expect(error).toMatchObject({ code: "invalid_input", outcome: "rejected" });
      expect(error.message).toContain("input.owner");
      expect(error.message).toContain("create it first with ref.create(input)");
    }
    await r.world.run(ref.create(good));
    expect(await r.world.run(ref.get())).toMatchObject({ turn: 1 });
  });
});

describe("create", () => {
  it("is the first turn, in the history too; after it the actor exists, until it is deleted", async () => {
    const r = await rig({ actors: [order] });
    const ref = r.node.client.actor(order, "a");
    await r.world.run(ref.create(good));
    const error = await r.world.run(failure(ref.create(good)));
    expect(error).toMatchObject({ code: "already_exists", outcome: "rejected" });
    const turn = await r.world.run(ref.history().next());
    expect(turn.value).toMatchObject({ turn: 1, event: { type: "xstate.init", input: good } });
    await r.world.run(ref.delete());
    expect(await r.world.run(ref.create({ ...good, owner: "bob" }))).toMatchObject({
      turn: 1,
      context: { owner: "bob" },
    });
  });

  it("of two clients at once one wins; with one request id both get its state", async () => {
    const r = await rig({ actors: [order] });
    const other = await createClient(r.store, r.world, 4);
    const refs = [r.node.client.actor(order, "a"), other.actor(order, "a")];
    const all = await r.world.run(Promise.allSettled(refs.map((ref) => ref.create(good))));
    expect(all.map((result) => result.status).sort()).toEqual(["fulfilled", "rejected"]);
    const same = refs.map((_, n) => [r.node.client, other][n]?.actor(order, "b"));
    const states = await r.world.run(Promise.all(same.map((ref) => ref?.create(good, { requestId: "x" }))));
    expect(states[0]).toMatchObject({ turn: 1, context: { owner: "ann" } });
    expect(states[1]).toEqual(states[0]);
  });

  it.each(["before", "after"] as const)(
    "a node that dies %s the commit: asked again, it is created once",
    async (when) => {
      const first = await rig({ actors: [order] });
      const { store, world } = first;
      if (when === "before") store.appendGate.close();
      else store.loses = (_subject, frame) => frame.kind === "reply";
      const lost = failure(first.node.client.actor(order, "a").create(good, { requestId: "x" }));
      await world.settle();
      first.node.kill();
      store.loses = () => false;
      store.appendGate.open();
      await world.run(lost);
      const second = await rig({ store, world, actors: [order], name: "n2" });
      const ref = second.node.client.actor(order, "a");
      expect(await world.run(ref.create(good, { requestId: "x" }))).toMatchObject({
        turn: 1,
        context: { owner: "ann", count: 1 },
      });
      expect(await world.run(failure(ref.create(good)))).toMatchObject({ code: "already_exists" });
    },
  );

  it("goes over a network as it is", async () => {
    const r = await rig({ actors: [order] });
    await r.world.run(r.node.client.actor(order, "a").create(good));
    const sent = r.store.frames.map(({ frame }) => frame).find((frame) => frame.kind === "request") as Frame;
    expect(sent).toMatchObject({ requests: [{ kind: Create, event: good }] });
    const [payload] = encodeFrames([sent]);
    expect(decodeFrames(payload as Uint8Array, limits.frameBytes, 4)).toMatchObject([
      { kind: "request", requests: [{ kind: Create, id: "order.a", event: good }] },
    ]);
  });

  it("types: the machine's input, which may be left out where it is not declared", () => {
    expectTypeOf<InputOf<typeof machine>>().toEqualTypeOf<OrderInput>();
    const compiled = (ref: Rig["node"]["client"]): unknown => [
      ref.actor(order, "a").create(good),
      // @ts-expect-error it needs an input
      ref.actor(order, "a").create(),
      // @ts-expect-error the items are missing
      ref.actor(order, "a").create({ owner: "ann" }),
      ref.actor("order/a").create(),
      ref.actor("order/a").create({ whatever: 1 }, { timeout_ms: 5 }),
    ];
    expect(compiled).toBeTypeOf("function");
  });
});
