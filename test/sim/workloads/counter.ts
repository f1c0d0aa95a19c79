/** Counters: adds that answer with the count, and reads. Linearizable; the final count is what was acknowledged. */
import { assign, setup } from "xstate";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { reply } from "../../../runtime/engine/machine.ts";
import {
  checkCounter,
  checkLinearizability,
  type CounterInput,
  counterModel,
  HistoryRecorder,
} from "../../../runtime/testing/checkers/index.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";

const machine = setup({
  types: { context: {} as { count: number }, events: {} as { type: "add"; by: number } },
}).createMachine({
  context: { count: 0 },
  on: {
    add: {
      actions: [
        assign({ count: ({ context, event }) => context.count + event.by }),
        reply(({ context }) => context.count),
      ],
    },
  },
});

export const simCounter = defineActor({
  type: "simCounter",
  machine,
  types: {} as { replies: { add: number } },
});

export const counterWorkload: Workload = {
  name: "counter",
  actors: [simCounter],
  begin(context) {
    const { random } = context;
    const keys = Array.from({ length: random.whole(1, 12) }, (_, at) => `k${at}`);
    const history = new HistoryRecorder<CounterInput, number>();
    const final = new Map<string, number>();
    const process = (client: number) => async (): Promise<void> => {
      const refs = new Map(
        keys.map((key) => [key, context.clients[client % context.clients.length]!.actor(simCounter, key)]),
      );
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const key = random.pick(keys);
        const ref = refs.get(key)!;
        const input: CounterInput = random.chance(0.3)
          ? { type: "read" }
          : { type: "add", amount: random.whole(1, 9) };
        const handle = history.begin(`p${client}`, key, input, context.now());
        const timeout_ms = context.timeout_ms();
        const result = await resultOf(
          input.type === "read"
            ? ref.get({ timeout_ms }).then((state) => state.context.count)
            : ref.ask({ type: "add", by: input.amount }, { timeout_ms }),
        );
        if (result.outcome === "ok") history.ok(handle, result.value, context.now());
        else history[result.outcome](handle, result.error.code, context.now());
        if (random.chance(0.3)) await context.sleep(random.logarithmic(0.1, 300));
      }
    };
    return {
      processes: Array.from({ length: random.whole(1, 5) }, (_, at) => process(at)),
      async finish() {
        for (const key of keys) {
          const state = await insist(context, () => context.observer.actor(simCounter, key).get());
          final.set(key, state.context.count);
        }
      },
      check() {
        const operations = history.operations();
        const found = checkCounter(operations, final).map(({ message }) => message);
        const linear = checkLinearizability(operations, counterModel());
        if (linear.ok === false) found.push(linear.message);
        return found;
      },
    };
  },
};
