/**
 * Timers: alarms that are set, moved and cancelled (`raise` with a delay, `cancel`), and fuses that burn down by
 * themselves (`after`). Each fires once. That none fires early or twice, by its owner's clock, is the audit's business.
 */
import { assign, cancel, raise, setup } from "xstate";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";

type AlarmEvent =
  | { type: "set"; name: string; delay: number }
  | { type: "setSlot"; name: string; delay: number }
  | { type: "dropSlot" }
  | { type: "ring"; name: string };

const alarmMachine = setup({
  types: { context: {} as { rung: string[] }, events: {} as AlarmEvent },
}).createMachine({
  context: { rung: [] },
  on: {
    set: {
      actions: raise(({ event }) => ({ type: "ring" as const, name: event.name }), {
        delay: ({ event }) => event.delay,
      }),
    },
    // One at a time: setting it again moves it.
    setSlot: {
      actions: raise(({ event }) => ({ type: "ring" as const, name: event.name }), {
        id: "slot",
        delay: ({ event }) => event.delay,
      }),
    },
    dropSlot: { actions: cancel("slot") },
    ring: { actions: assign({ rung: ({ context, event }) => [...context.rung, event.name] }) },
  },
});

const alarm = defineActor({ type: "simAlarm", machine: alarmMachine });

const fuseMachine = setup({
  types: { context: {} as { lit: number; burnt: number }, events: {} as { type: "light" } },
}).createMachine({
  context: { lit: 0, burnt: 0 },
  initial: "out",
  states: {
    out: { on: { light: { target: "burning", actions: assign({ lit: ({ context }) => context.lit + 1 }) } } },
    burning: {
      after: { 150: "glowing" },
    },
    glowing: {
      after: { 50: { target: "out", actions: assign({ burnt: ({ context }) => context.burnt + 1 }) } },
    },
  },
});

// Clocks that jump by hours, and owners whose clocks differ, set it anew.
const fuse = defineActor({ type: "simFuse", machine: fuseMachine, delays: "restart" });

interface Planned {
  readonly key: string;
  readonly name: string;
  /** Every one of these rings; one in the slot may have been moved or dropped. */
  readonly slot: boolean;
  set: "ok" | "failed" | "unknown";
}

export const timerWorkload: Workload = {
  name: "timers",
  actors: [alarm, fuse],
  begin(context) {
    const { random } = context;
    const keys = Array.from({ length: random.whole(1, 8) }, (_, at) => `a${at}`);
    const planned: Planned[] = [];
    const violations: string[] = [];
    const process = (client: number) => async (): Promise<void> => {
      const { actor } = { actor: context.clients[client % context.clients.length]! };
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const key = random.pick(keys);
        const options = { timeout_ms: context.timeout_ms() };
        if (random.chance(0.25)) {
          await resultOf(actor.actor(fuse, key).send({ type: "light" }, options));
          continue;
        }
        const ref = actor.actor(alarm, key);
        const name = `p${client}.${made}`;
        const delay = random.chance(0.2)
          ? random.whole(600_000, 1_500_000)
          : Math.round(random.logarithmic(1, 5_000));
        const slot = random.chance(0.3);
        const plan: Planned = { key, name, slot, set: "unknown" };
        planned.push(plan);
        const type = slot ? "setSlot" : "set";
        plan.set = (await resultOf(ref.send({ type, name, delay }, options))).outcome;
        if (random.chance(0.25)) {
          await context.sleep(random.logarithmic(0.1, 500));
          await resultOf(ref.send({ type: "dropSlot" }, options));
        }
        if (random.chance(0.4)) await context.sleep(random.logarithmic(0.1, 500));
      }
    };
    return {
      processes: Array.from({ length: random.whole(1, 3) }, (_, at) => process(at)),
      async finish() {
        for (const key of keys) {
          const { rung } = (await insist(context, () => context.observer.actor(alarm, key).get())).context;
          for (const plan of planned) {
            if (plan.key !== key) continue;
            const times = rung.filter((name) => name === plan.name).length;
            const certain = plan.set === "ok" && !plan.slot;
            if (times > 1) violations.push(`timer ${plan.name} of ${key} rang ${times} times`);
            if (times === 0 && certain) violations.push(`timer ${plan.name} of ${key} never rang`);
            if (times > 0 && plan.set === "failed")
              violations.push(`timer ${plan.name} of ${key} rang, although it was refused`);
          }
          const { value, context: state } = await insist(context, () =>
            context.observer.actor(fuse, key).get(),
          );
          if (value !== "out" || state.lit !== state.burnt)
            violations.push(
              `fuse ${key} is ${String(value)}, lit ${state.lit} times, burnt ${state.burnt} times`,
            );
        }
      },
      check: () => violations,
    };
  },
};
