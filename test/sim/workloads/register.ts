/** Registers: read, write, compare-and-set. Linearizable per key. */
import { assign, setup } from "xstate";
import type { Client } from "../../../runtime/client/client.ts";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { reply } from "../../../runtime/engine/machine.ts";
import {
  checkLinearizability,
  HistoryRecorder,
  type RegisterInput,
  type RegisterOutput,
  registerModel,
} from "../../../runtime/testing/checkers/index.ts";
import { resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";

type RegisterEvent =
  | { type: "read" }
  | { type: "write"; value: number }
  | { type: "swap"; expected: number; value: number };

const machine = setup({
  types: { context: {} as { value: number }, events: {} as RegisterEvent },
}).createMachine({
  context: { value: 0 },
  on: {
    read: { actions: reply(({ context }) => context.value) },
    write: { actions: assign({ value: ({ event }) => event.value }) },
    swap: [
      {
        guard: ({ context, event }) => context.value === event.expected,
        actions: [assign({ value: ({ event }) => event.value }), reply(true)],
      },
      { actions: reply(false) },
    ],
  },
});

const register = defineActor({
  type: "simRegister",
  machine,
  types: {} as { replies: { read: number; swap: boolean } },
});

type Ref = ReturnType<typeof refOf>;

const refOf = (client: Client, key: string) => client.actor(register, key);

export const registerWorkload: Workload = {
  name: "register",
  actors: [register],
  begin(context) {
    const { random } = context;
    const keys = Array.from({ length: random.whole(1, 6) }, (_, at) => `r/${at} é`);
    const history = new HistoryRecorder<RegisterInput, RegisterOutput>();
    /** Values above those of compare-and-set are written once, so that a stale read shows. */
    let values = 4;
    const process = (client: number) => async (): Promise<void> => {
      const refs = keys.map((key) => refOf(context.clients[client % context.clients.length]!, key));
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const ref = random.pick(refs);
        const dice = random.next();
        const value = random.whole(0, 4);
        const expected = random.whole(0, 4);
        if (dice < 0.4) await operate(client, ref, { type: "read" });
        else if (dice < 0.7) {
          const written = await operate(client, ref, { type: "write", value: ++values });
          // Somebody who may not have heard of a new owner yet looks at once.
          if (written && random.chance(0.5))
            await operate(client, refOf(random.pick(context.clients), ref.key), { type: "read" });
        } else await operate(client, ref, { type: "compareAndSet", expected, value });
        if (random.chance(0.3)) await context.sleep(random.logarithmic(0.1, 300));
      }
    };
    const operate = async (client: number, ref: Ref, input: RegisterInput): Promise<boolean> => {
      const options = { timeout_ms: context.timeout_ms() };
      const handle = history.begin(`p${client}`, ref.key, input, context.now());
      const call = async (): Promise<RegisterOutput> => {
        if (input.type === "read")
          return random.chance(0.5)
            ? (await ref.get(options)).context.value
            : ref.ask({ type: "read" }, options);
        const value = input.value as number;
        if (input.type === "compareAndSet")
          return ref.ask({ type: "swap", expected: input.expected as number, value }, options);
        await ref.send({ type: "write", value }, options);
        return null;
      };
      const result = await resultOf(call());
      if (result.outcome === "ok") history.ok(handle, result.value, context.now());
      else history[result.outcome](handle, result.error.code, context.now());
      return result.outcome === "ok";
    };
    return {
      processes: Array.from({ length: random.whole(2, 5) }, (_, at) => process(at)),
      check() {
        const linear = checkLinearizability(history.operations(), registerModel(0), { stepsMax: 60_000 });
        return linear.ok === false ? [linear.message] : [];
      },
    };
  },
};
