/**
 * Questions: buyers ask shops for goods, some of which are refused, some of which are answered too late. Every question
 * is answered once: with the goods, with the shop's error, or with its own timeout. Nobody waits for ever.
 */
import { assign, setup } from "xstate";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { ask, reply } from "../../../runtime/engine/machine.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";

const shopMachine = setup({
  types: {
    context: {} as { sold: Record<string, number> },
    events: {} as { type: "buy"; name: string; amount: number } | { type: "refuse"; name: string },
  },
}).createMachine({
  context: { sold: {} },
  on: {
    buy: {
      actions: [
        assign({
          sold: ({ context, event }) => ({
            ...context.sold,
            [event.name]: (context.sold[event.name] ?? 0) + event.amount,
          }),
        }),
        reply(({ event }) => ({ name: event.name, amount: event.amount })),
      ],
    },
    refuse: {
      actions: assign({
        sold: ({ event }) => {
          throw new Error(`no ${event.name}`);
        },
      }),
    },
  },
});

const shop = defineActor({ type: "simShop", machine: shopMachine });

interface Wish {
  readonly name: string;
  readonly shop: string;
  readonly amount: number;
  /** 0 for none. */
  readonly timeout_ms: number;
  readonly refused: boolean;
}

type BuyerEvent = ({ type: "wish" } & Wish) | { type: "giveUp" };

const buyerMachine = setup({
  types: {
    context: {} as {
      queue: Wish[];
      got: { name: string; of: string; amount: number }[];
      failed: { name: string; code: string }[];
      off: string[];
    },
    events: {} as BuyerEvent,
  },
  actors: { ask },
  actions: { next: assign({ queue: ({ context }) => context.queue.slice(1) }) },
}).createMachine({
  context: { queue: [], got: [], failed: [], off: [] },
  initial: "idle",
  on: {
    wish: {
      actions: assign({
        queue: ({ context, event: { name, shop, amount, timeout_ms, refused } }) => [
          ...context.queue,
          { name, shop, amount, timeout_ms, refused },
        ],
      }),
    },
  },
  states: {
    idle: { always: { guard: ({ context }) => context.queue.length > 0, target: "asking" } },
    asking: {
      invoke: {
        src: "ask",
        id: "question",
        input: ({ context }) => {
          const { name, shop, amount, timeout_ms, refused } = context.queue[0] as Wish;
          const event = refused ? { type: "refuse", name } : { type: "buy", name, amount };
          const input = { to: `simShop/${shop}`, event };
          return timeout_ms === 0 ? input : { ...input, timeout_ms };
        },
        onDone: {
          target: "idle",
          actions: [
            assign({
              got: ({ context, event }) => {
                const { name, amount } = event.output as { name: string; amount: number };
                return [...context.got, { name: context.queue[0]?.name ?? "", of: name, amount }];
              },
            }),
            "next",
          ],
        },
        onError: {
          target: "idle",
          actions: [
            assign({
              failed: ({ context, event }) => [
                ...context.failed,
                { name: context.queue[0]?.name ?? "", code: (event.error as { code: string }).code },
              ],
            }),
            "next",
          ],
        },
      },
      on: {
        giveUp: {
          target: "idle",
          actions: [assign({ off: ({ context }) => [...context.off, context.queue[0]?.name ?? ""] }), "next"],
        },
      },
    },
  },
});

const buyer = defineActor({ type: "simBuyer", machine: buyerMachine });

interface Wished extends Wish {
  readonly key: string;
  outcome: "ok" | "failed" | "unknown";
}

export const askingWorkload: Workload = {
  name: "asking",
  actors: [shop, buyer],
  begin(context) {
    const { random } = context;
    const keys = Array.from({ length: random.whole(1, 6) }, (_, at) => `b${at}`);
    const shops = Array.from({ length: random.whole(1, 4) }, (_, at) => `s${at}`);
    const fleeting = new Set(keys.filter(() => random.chance(0.2)));
    const wishes: Wished[] = [];
    const violations: string[] = [];
    const process = (client: number) => async (): Promise<void> => {
      const refs = context.clients[client % context.clients.length];
      for (let made = 0; refs !== undefined && made < context.requests && !context.ending; made++) {
        const key = random.pick(keys);
        const ref = refs.actor(buyer, key);
        const options = { timeout_ms: context.timeout_ms() };
        const dice = random.next();
        if (dice < 0.1) await resultOf(ref.send({ type: "giveUp" }, options));
        else if (dice < 0.25 && fleeting.has(key)) await resultOf(ref.delete(options));
        else {
          const wish: Wish = {
            name: `${key}.p${client}.${made}`,
            shop: random.pick(shops),
            amount: random.whole(1, 9),
            timeout_ms: random.chance(0.5) ? 0 : Math.round(random.logarithmic(1, 2_000)),
            refused: random.chance(0.2),
          };
          const wished: Wished = { ...wish, key, outcome: "unknown" };
          wishes.push(wished);
          wished.outcome = (await resultOf(ref.send({ type: "wish", ...wish }, options))).outcome;
        }
        if (random.chance(0.4)) await context.sleep(random.logarithmic(0.1, 300));
      }
    };
    return {
      processes: Array.from({ length: random.whole(1, 3) }, (_, at) => process(at)),
      async finish() {
        const sold = new Map<string, number>();
        const states = new Map<string, BuyerState>();
        for (const key of keys) {
          const ref = context.observer.actor(buyer, key);
          let state = await insist(context, () => ref.get());
          while (state.value !== "idle") {
            await context.sleep(100);
            state = await insist(context, () => ref.get());
          }
          states.set(key, state.context);
        }
        for (const key of shops) {
          const state = await insist(context, () => context.observer.actor(shop, key).get());
          for (const [name, amount] of Object.entries(state.context.sold)) sold.set(`${key} ${name}`, amount);
        }
        for (const wish of wishes) {
          const state = states.get(wish.key);
          if (state !== undefined)
            judge(wish, state, sold.get(`${wish.shop} ${wish.name}`), fleeting.has(wish.key), violations);
        }
      },
      check: () => violations,
    };
  },
};

interface BuyerState {
  readonly got: readonly { name: string; of: string; amount: number }[];
  readonly failed: readonly { name: string; code: string }[];
  readonly off: readonly string[];
}

function judge(
  wish: Wished,
  state: BuyerState,
  sold: number | undefined,
  fleeting: boolean,
  violations: string[],
): void {
  const { name } = wish;
  const what = `wish ${name} (${wish.outcome})`;
  const got = state.got.filter((one) => one.name === name);
  const failed = state.failed.filter((one) => one.name === name);
  const off = state.off.filter((one) => one === name);
  const ends = got.length + failed.length + off.length;
  if (ends > 1) violations.push(`${what} was answered ${ends} times`);
  if (ends === 0 && wish.outcome === "ok" && !fleeting) violations.push(`${what} was never answered`);
  if (ends > 0 && wish.outcome === "failed") violations.push(`${what} was answered, although it was refused`);
  // A shop sells what is asked for once, or never.
  if (sold !== undefined && sold !== wish.amount)
    violations.push(`${what} for ${wish.amount} was sold ${sold}`);
  for (const { of, amount } of got) {
    if (of !== name) violations.push(`${what} was given the answer to ${of}`);
    else if (sold !== amount || wish.refused) violations.push(`${what} got ${amount}, sold were ${sold}`);
  }
  for (const { code } of failed) {
    const expected = code === "timeout" ? wish.timeout_ms > 0 : wish.refused && code === "machine_failed";
    if (!expected) violations.push(`${what} failed with ${code}`);
    if (code !== "timeout" && sold !== undefined) violations.push(`${what} was refused, and sold`);
  }
}
