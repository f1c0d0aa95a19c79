/** `tellAll`: many messages in one action, in the turn's record as so many `tell`. */
import { expect, it } from "vitest";
import { assign, createActor, setup } from "xstate";
import { defineActor, isKeyturnError, memory, startNode, tell, tellAll } from "../runtime/index.ts";
import { limits } from "../runtime/words/limits.ts";

const log = defineActor({
  type: "log",
  machine: setup({
    types: { context: {} as { got: readonly number[] }, events: {} as { type: "put"; n: number } },
  }).createMachine({
    context: { got: [] },
    on: { put: { actions: assign({ got: ({ context, event }) => [...context.got, event.n] }) } },
  }),
});

const machine = setup({
  types: {
    context: {} as { from: number },
    events: {} as { type: "go"; count: number } | { type: "wrong" },
  },
}).createMachine({
  context: { from: 0 },
  on: {
    go: {
      actions: [
        tell("log/a", { type: "put", n: -1 }),
        assign({ from: ({ context, event }) => context.from + event.count }),
        tellAll(({ context, event }) =>
          Array.from(
            { length: event.count },
            (_, n) => ["log/a", { type: "put", n: context.from + n }] as const,
          ),
        ),
        tellAll([["log/a", { type: "put", n: -2 }]]),
      ],
    },
    wrong: {
      actions: tellAll([
        ["log/a", { type: "put", n: 1 }],
        ["nobody", { type: "put" }],
      ]),
    },
  },
});
const teller = defineActor({ type: "teller", machine });

it("tells in the order of the actions and of the list; one that cannot be told refuses all", async () => {
  const node = await startNode({ actors: [log, teller], store: memory() });
  const ref = node.client.actor(teller, "t");
  const told = async (): Promise<readonly number[]> => {
    for await (const { context } of node.client.actor(log, "a").watch())
      if (context.got.at(-1) === -2) return context.got;
    return [];
  };
  await ref.send({ type: "go", count: 3 });
  expect(await told()).toEqual([-1, 3, 4, 5, -2]);
  for (const event of [{ type: "wrong" }, { type: "go", count: limits.tellsPerTurn - 1 }] as const) {
    const error = await ref.send(event).catch((refusal: unknown) => refusal);
    expect(isKeyturnError(error, "tell_invalid"), String(error)).toBe(true);
  }
  expect((await ref.get()).context.from).toBe(3);
  expect(await told()).toEqual([-1, 3, 4, 5, -2]);
  await node.stop();
});

it("does nothing in a plain XState actor", () => {
  const actor = createActor(machine).start();
  actor.send({ type: "go", count: 2 });
  expect(actor.getSnapshot().context).toEqual({ from: 2 });
});
