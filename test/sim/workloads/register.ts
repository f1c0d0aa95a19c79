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
    /** The latest turn that anybody was shown: whoever asks later must not see an older one. */
    const turns = new Map<string, number>();
    const stale: string[] = [];
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
    /** Never hangs for long, so it goes on on the wrong side of a partition. */
    const restless = (client: number, writes: boolean) => async (): Promise<void> => {
      const own = context.clients[client % context.clients.length]!;
      for (let made = 0; made < context.requests * 4 && !context.ending; made++) {
        const ref = refOf(own, random.pick(keys));
        const input: RegisterInput = writes ? { type: "write", value: ++values } : { type: "read" };
        await operate(client, ref, input, random.logarithmic(10, 100));
        await context.sleep(random.logarithmic(5, 200));
      }
    };
    const operate = async (
      client: number,
      ref: Ref,
      input: RegisterInput,
      timeout_ms = context.timeout_ms(),
    ): Promise<boolean> => {
      const options = { timeout_ms };
      const handle = history.begin(`p${client}`, ref.key, input, context.now());
      const call = async (): Promise<RegisterOutput> => {
        if (input.type === "read" && random.chance(0.3)) return ref.ask({ type: "read" }, options);
        if (input.type === "read") {
          const state = await ref.get(options);
          saw(state);
          return state.context.value;
        }
        const value = input.value as number;
        if (input.type === "compareAndSet")
          return ref.ask({ type: "swap", expected: input.expected as number, value }, options);
        if (random.chance(0.3)) {
          await ref.send({ type: "write", value }, options);
          return null;
        }
        saw(await ref.ask({ type: "write", value }, options));
        return null;
      };
      const known = turns.get(ref.key) ?? 0;
      const saw = ({ turn }: { turn: number }): void => {
        if (turn < known)
          stale.push(
            `register ${ref.key}: turn ${turn} was shown to somebody who asked after turn ${known} was`,
          );
        turns.set(ref.key, Math.max(turn, turns.get(ref.key) ?? 0));
      };
      const result = await resultOf(call());
      if (result.outcome === "ok") history.ok(handle, result.value, context.now());
      else history[result.outcome](handle, result.error.code, context.now());
      return result.outcome === "ok";
    };
    return {
      processes: [
        ...Array.from({ length: random.whole(2, 5) }, (_, at) => process(at)),
        restless(0, true),
        ...Array.from({ length: random.whole(1, 3) }, (_, at) => restless(at + 1, false)),
      ],
      check() {
        const linear = checkLinearizability(history.operations(), registerModel(0), { stepsMax: 60_000 });
        return linear.ok === false ? [...stale, linear.message] : stale;
      },
    };
  },
};
