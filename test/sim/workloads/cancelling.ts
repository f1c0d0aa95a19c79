/**
 * Cancelling: delays that somebody from outside takes away. What was answered to have been cancelled never comes; what was
 * not there any more has come. Run by its name only.
 */
import { assign, enqueueActions, setup } from "xstate";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";

const machine = setup({
  types: {
    context: {} as { rung: string[] },
    events: {} as { type: "set"; name: string; delay: number } | { type: "ring"; name: string },
  },
}).createMachine({
  context: { rung: [] },
  on: {
    set: {
      actions: enqueueActions(({ event: { name, delay }, enqueue }) => {
        enqueue.raise({ type: "ring", name }, { id: name, delay });
      }),
    },
    ring: { actions: assign({ rung: ({ context, event }) => [...context.rung, event.name] }) },
  },
});

const bell = defineActor({ type: "simBell", machine });

interface Planned {
  readonly key: string;
  readonly name: string;
  cancelled: boolean | undefined;
}

export const cancellingWorkload: Workload = {
  name: "cancelling",
  actors: [bell],
  begin(context) {
    const { random } = context;
    const keys = Array.from({ length: random.whole(1, 6) }, (_, at) => `b${at}`);
    const planned: Planned[] = [];
    const violations: string[] = [];
    const process = (at: number) => async (): Promise<void> => {
      const client = context.clients[at % context.clients.length]!;
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const plan: Planned = { key: random.pick(keys), name: `p${at}.${made}`, cancelled: undefined };
        const ref = client.actor(bell, plan.key);
        const delay = random.chance(0.3) ? 3_600_000 : Math.round(random.logarithmic(1, 2_000));
        const set = ref.send({ type: "set", name: plan.name, delay }, { timeout_ms: context.timeout_ms() });
        if ((await resultOf(set)).outcome !== "ok") continue;
        planned.push(plan);
        if (random.chance(0.6)) await context.sleep(random.logarithmic(0.1, 2_000));
        const cancelled = await resultOf(ref.cancelTimer(plan.name, { timeout_ms: context.timeout_ms() }));
        if (cancelled.outcome === "ok") plan.cancelled = cancelled.value;
      }
    };
    return {
      processes: Array.from({ length: random.whole(1, 4) }, (_, at) => process(at)),
      async finish() {
        for (const key of keys) {
          const { rung } = (await insist(context, () => context.observer.actor(bell, key).get())).context;
          for (const { key: of, name, cancelled } of planned) {
            if (of !== key) continue;
            const times = rung.filter((one) => one === name).length;
            if (times > 1) violations.push(`${name} of ${key} rang ${times} times`);
            if (cancelled === true && times > 0) violations.push(`${name} of ${key} rang, but was cancelled`);
            if (cancelled === false && times === 0)
              violations.push(`${name} of ${key} was gone when it was to be cancelled, and never rang`);
          }
        }
      },
      check: () => violations,
    };
  },
};
