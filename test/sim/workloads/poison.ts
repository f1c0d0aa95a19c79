/**
 * Poison: machines that throw for some events, or that refuse to begin. The state stays as it was, the asker learns it,
 * told poison becomes a dead letter, and the next message runs.
 */
import { assign, setup } from "xstate";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { reply, tell } from "../../../runtime/engine/machine.ts";
import { checkCounter, type CounterInput, HistoryRecorder } from "../../../runtime/testing/checkers/index.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";

type FragileEvent =
  | { type: "add"; by: number }
  | { type: "break" }
  | { type: "breakIfOdd" }
  | { type: "passOn"; to: string; event: "break" | "breakIfOdd" | "add" }
  | { type: "breakLater" };

const machine = setup({
  types: { context: {} as { count: number }, events: {} as FragileEvent, input: {} as { key: string } },
}).createMachine({
  context: ({ input }) => {
    if (input.key.startsWith("cursed")) throw new Error("cursed");
    return { count: 0 };
  },
  initial: "well",
  states: {
    well: {
      on: {
        add: {
          actions: [
            assign({ count: ({ context, event }) => context.count + event.by }),
            reply(({ context }) => context.count),
          ],
        },
        break: {
          actions: [
            assign({ count: ({ context }) => context.count + 1_000 }),
            assign(() => {
              throw new Error("broken");
            }),
          ],
        },
        breakIfOdd: {
          actions: assign(({ context }) => {
            if (context.count % 2 === 1) throw new Error("odd");
            return {};
          }),
        },
        passOn: {
          actions: tell(
            ({ event }) => `simFragile/${event.to}`,
            ({ event }) => ({ type: event.event, by: 0 }),
          ),
        },
        breakLater: "cracked",
      },
    },
    cracked: {
      // The timer's turn throws: it is taken away all the same.
      after: {
        100: {
          target: "well",
          actions: assign(() => {
            throw new Error("cracked");
          }),
        },
      },
      on: { add: { target: "well", actions: reply(({ context }) => context.count) } },
    },
  },
});

const fragile = defineActor({ type: "simFragile", machine, types: {} as { replies: { add: number } } });

export const poisonWorkload: Workload = {
  name: "poison",
  actors: [fragile],
  begin(context) {
    const { random } = context;
    const keys = Array.from({ length: random.whole(1, 4) }, (_, at) => `f${at}`);
    const violations: string[] = [];
    const history = new HistoryRecorder<CounterInput, number>();
    const final = new Map<string, number>();
    const process = (client: number) => async (): Promise<void> => {
      const own = context.clients[client % context.clients.length]!;
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const key = random.pick(keys);
        const ref = own.actor(fragile, key);
        const options = { timeout_ms: context.timeout_ms() };
        const dice = random.next();
        if (dice < 0.4) {
          const amount = random.whole(1, 9);
          const handle = history.begin(`p${client}`, key, { type: "add", amount }, context.now());
          const before = await resultOf(ref.ask({ type: "add", by: amount }, options));
          if (before.outcome === "ok") history.ok(handle, before.value, context.now());
          else history[before.outcome](handle, before.error.code, context.now());
        } else if (dice < 0.6) {
          const result = await resultOf(ref.send({ type: "break" }, options));
          if (result.outcome === "ok") violations.push(`a turn that throws was acknowledged by ${key}`);
        } else if (dice < 0.7) await resultOf(ref.send({ type: "breakIfOdd" }, options));
        else if (dice < 0.8) {
          const cursed = own.actor(fragile, `cursed${random.whole(0, 2)}`);
          const result = await resultOf<unknown>(
            random.chance(0.5) ? cursed.get(options) : cursed.ask({ type: "add", by: 1 }, options),
          );
          if (result.outcome === "ok") violations.push("an actor that cannot begin has answered");
        } else {
          const to = random.chance(0.2) ? "cursed9" : random.pick(keys);
          const event = random.pick(["break", "breakIfOdd", "add"] as const);
          await resultOf(ref.send({ type: "passOn", to, event }, options));
        }
        if (random.chance(0.3)) await context.sleep(random.logarithmic(0.1, 300));
      }
    };
    return {
      processes: Array.from({ length: random.whole(1, 4) }, (_, at) => process(at)),
      async finish() {
        for (const key of keys) {
          const state = await insist(context, () => context.observer.actor(fragile, key).get());
          final.set(key, state.context.count);
        }
      },
      check: () => [
        ...violations,
        ...checkCounter(history.operations(), final)
          // Told adds of nothing make equal totals possible.
          .filter(({ message }) => !message.includes("same total twice"))
          .map(({ message }) => message),
      ],
    };
  },
};
