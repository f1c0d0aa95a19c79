/** A bank: accounts tell each other money. The sum holds, also over refused and unknown transfers. */
import { assign, setup } from "xstate";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { tell } from "../../../runtime/engine/machine.ts";
import { checkBank } from "../../../runtime/testing/checkers/index.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";

type AccountEvent =
  | { type: "transfer"; to: string; amount: number }
  | { type: "deposit"; amount: number; hops: number };

const START = 100;

const machine = setup({
  types: {
    context: {} as { balance: number; key: string },
    events: {} as AccountEvent,
    input: {} as { key: string },
  },
}).createMachine({
  context: ({ input }) => ({ balance: START, key: input.key }),
  on: {
    transfer: {
      guard: ({ context, event }) => context.balance >= event.amount,
      actions: [
        assign({ balance: ({ context, event }) => context.balance - event.amount }),
        tell(
          ({ event }) => `simAccount/${event.to}`,
          ({ event }) => ({ type: "deposit", amount: event.amount, hops: event.amount % 3 }),
        ),
      ],
    },
    deposit: [
      {
        // Passes it on, so that messages travel from turn to turn with no client behind them.
        guard: ({ event }) => event.hops > 0,
        actions: tell(
          ({ context, event }) => `simAccount/${(Number(context.key) + event.hops) % 5}`,
          ({ event }) => ({ type: "deposit", amount: event.amount, hops: event.hops - 1 }),
        ),
      },
      { actions: assign({ balance: ({ context, event }) => context.balance + event.amount }) },
    ],
  },
});

const account = defineActor({ type: "simAccount", machine });

export const bankWorkload: Workload = {
  name: "bank",
  actors: [account],
  begin(context) {
    const { random } = context;
    const accounts = Array.from({ length: random.whole(5, 12) }, (_, at) => String(at));
    const balances: { account: string; balance: number }[] = [];
    const process = (client: number) => async (): Promise<void> => {
      const pending: Promise<unknown>[] = [];
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const [from, to] = random.shuffle(accounts);
        const ref = context.clients[client % context.clients.length]!.actor(account, from!);
        const event = { type: "transfer", to: to!, amount: random.whole(1, 40) } as const;
        const call = resultOf(ref.send(event, { timeout_ms: context.timeout_ms() }));
        if (random.chance(0.5)) await call;
        else pending.push(call);
        if (random.chance(0.3)) await context.sleep(random.logarithmic(0.1, 300));
      }
      await Promise.all(pending);
    };
    return {
      processes: Array.from({ length: random.whole(1, 4) }, (_, at) => process(at)),
      async finish() {
        for (const key of accounts) {
          const state = await insist(context, () => context.observer.actor(account, key).get());
          balances.push({ account: key, balance: state.context.balance });
        }
      },
      check: () =>
        checkBank([{ label: "the final read", balances }], { total: accounts.length * START, accounts }).map(
          ({ message }) => message,
        ),
    };
  },
};
