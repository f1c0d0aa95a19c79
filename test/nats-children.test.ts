/** Questions and work of machines on a real server: across two nodes, and when one of them is lost. */
import { assign, setup } from "xstate";
import { expect, test } from "vitest";
import {
  ask,
  connect,
  defineActor,
  fromDurablePromise,
  type KeyturnNode,
  nats,
  reply,
  startNode,
} from "../runtime/index.ts";
import { startServer } from "./support/nats-server.ts";

const settings = { lease_ms: 1_500, heartbeat_ms: 400 };
const PAYERS = 40;

const account = defineActor({
  type: "account",
  machine: setup({
    types: { context: {} as { balance: number }, events: {} as { type: "take"; amount: number } },
  }).createMachine({
    context: { balance: 1_000 },
    on: {
      take: {
        actions: [
          assign({ balance: ({ context, event }) => context.balance - event.amount }),
          reply(({ context }) => context.balance),
        ],
      },
    },
  }),
});

/** Runs of the invoked promise by idempotency key, and who holds it back. */
const runs = new Map<string, number[]>();
let held = true;
const waiting: (() => void)[] = [];

const payer = defineActor({
  type: "payer",
  machine: setup({
    types: {
      context: {} as { left: number | null; receipt: string | null },
      events: {} as { type: "pay"; to: string },
    },
    actors: {
      ask,
      print: fromDurablePromise<string, number>(async ({ input, idempotencyKey, attempt }) => {
        runs.set(idempotencyKey, [...(runs.get(idempotencyKey) ?? []), attempt]);
        if (held) await new Promise<void>((resolve) => waiting.push(resolve));
        return `receipt for ${input}`;
      }),
    },
  }).createMachine({
    context: { left: null, receipt: null },
    initial: "idle",
    states: {
      idle: { on: { pay: "asking" } },
      asking: {
        invoke: {
          src: "ask",
          input: ({ event }) => ({ to: event.to, event: { type: "take", amount: 1 } }),
          onDone: { target: "printing", actions: assign({ left: ({ event }) => event.output as number }) },
        },
      },
      printing: {
        invoke: {
          src: "print",
          input: ({ context }) => context.left as number,
          onDone: { target: "done", actions: assign({ receipt: ({ event }) => event.output }) },
        },
      },
      done: {},
    },
  }),
});

test("every question is answered once, and work of a lost node is run again with the same key", {
  timeout: 90_000,
}, async () => {
  const server = await startServer({ durability: "process" });
  const start = async (name: string): Promise<KeyturnNode> =>
    startNode({
      actors: [account, payer],
      store: await nats({ servers: server.url }),
      name,
      settings,
      shards: 16,
    });
  const one = await start("one");
  const two = await start("two");
  const client = await connect({ nats: { servers: server.url } });
  const keys = Array.from({ length: PAYERS }, (_, n) => `p${n}`);
  await Promise.all(
    keys.map((key, n) => client.actor(payer, key).send({ type: "pay", to: `account/a${n % 4}` })),
  );
  const inState = async (key: string, value: string): Promise<void> => {
    for await (const state of client.actor(payer, key).watch()) if (state.value === value) return;
  };
  await Promise.all(keys.map((key) => inState(key, "printing")));
  one.kill();
  await one.store.close();
  held = false;
  for (const resolve of waiting) resolve();
  await Promise.all(keys.map((key) => inState(key, "done")));
  const balances = await Promise.all(
    [0, 1, 2, 3].map(async (n) => (await client.actor(account, `a${n}`).get()).context.balance),
  );
  expect(balances).toEqual([0, 0, 0, 0].map(() => 1_000 - PAYERS / 4));
  // Whatever ran again is the same invocation.
  expect(runs.size).toBe(PAYERS);
  const states = await Promise.all(keys.map((key) => client.actor(payer, key).get()));
  for (const { context } of states) expect(context.receipt).toBe(`receipt for ${context.left}`);
  expect(await two.deadLetters()).toEqual([]);
  await client.disconnect();
  await two.stop();
  await server.stop();
});
