/**
 * Work: actors that invoke promises, whose effects are recorded outside, by idempotency key, as a payment service would.
 *
 * Every order that was accepted is worked on at least once, its result is applied once, a key belongs to one invocation
 * only, attempts are bounded, and nobody is left at work once all is healed. Some orders are called off while they run,
 * some actors are deleted. Delays are virtual; one counter beside the machine is all that user code shares.
 */
import { assign, fromPromise, setup } from "xstate";
import { defineActor } from "../../../runtime/engine/definition.ts";
import type { PromiseArgs } from "../../../runtime/engine/machine/actions.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";

interface Order {
  readonly name: string;
  /** How long an attempt takes. */
  readonly takes_ms: number;
  /** Attempts that fail before one does not. */
  readonly fails: number;
}

type WorkerEvent = ({ type: "order" } & Order) | { type: "callOff" };

interface Effect {
  readonly order: string;
  runs: number;
  lastAttempt: number;
}

/** What the work of the run that is under way does outside. A run sets it when it begins; runs are one after the other. */
interface Outside {
  sleep(delay_ms: number): Promise<void>;
  readonly effects: Map<string, Effect>;
  readonly violations: string[];
}

let outside: Outside | undefined;

/** Attempts that the policy allows. */
const ATTEMPTS = 4;

const toil = fromPromise<{ name: string; key: string }, Order>(async (args) => {
  const { input, idempotencyKey, attempt } = args as typeof args & PromiseArgs;
  const here = outside as Outside;
  let effect = here.effects.get(idempotencyKey);
  if (effect === undefined)
    here.effects.set(idempotencyKey, (effect = { order: input.name, runs: 0, lastAttempt: 0 }));
  if (effect.order !== input.name)
    here.violations.push(`key ${idempotencyKey} of ${effect.order} was given to ${input.name} too`);
  effect.runs++;
  effect.lastAttempt = Math.max(effect.lastAttempt, attempt);
  await here.sleep(input.takes_ms);
  if (attempt <= input.fails) throw new Error(`not yet, attempt ${attempt}`);
  return { name: input.name, key: idempotencyKey };
});

const machine = setup({
  types: {
    context: {} as { queue: Order[]; done: string[]; keys: string[]; failed: string[]; off: string[] },
    events: {} as WorkerEvent,
  },
  actors: { toil },
  actions: {
    next: assign({ queue: ({ context }) => context.queue.slice(1) }),
  },
}).createMachine({
  context: { queue: [], done: [], keys: [], failed: [], off: [] },
  initial: "idle",
  on: {
    order: {
      actions: assign({
        queue: ({ context, event }) => [
          ...context.queue,
          { name: event.name, takes_ms: event.takes_ms, fails: event.fails },
        ],
      }),
    },
  },
  states: {
    idle: { always: { guard: ({ context }) => context.queue.length > 0, target: "busy" } },
    busy: {
      invoke: {
        id: "toil",
        src: "toil",
        input: ({ context }) => context.queue[0] as Order,
        onDone: {
          target: "idle",
          actions: [
            assign({
              done: ({ context, event }) => [...context.done, event.output.name],
              keys: ({ context, event }) => [...context.keys, event.output.key],
            }),
            "next",
          ],
        },
        onError: {
          target: "idle",
          actions: [
            assign({ failed: ({ context }) => [...context.failed, context.queue[0]?.name ?? ""] }),
            "next",
          ],
        },
      },
      on: {
        callOff: {
          target: "idle",
          actions: [assign({ off: ({ context }) => [...context.off, context.queue[0]?.name ?? ""] }), "next"],
        },
      },
    },
  },
});

const worker = defineActor({
  type: "simWorker",
  machine,
  invoke: { retry: { attempts: ATTEMPTS, first_ms: 20, factor: 3, last_ms: 500 }, atOnce: 3 },
});

interface Placed extends Order {
  readonly key: string;
  outcome: "ok" | "failed" | "unknown";
}

export const workingWorkload: Workload = {
  name: "working",
  actors: [worker],
  begin(context) {
    const { random } = context;
    const here: Outside = {
      sleep: (delay_ms) => context.sleep(delay_ms),
      effects: new Map(),
      violations: [],
    };
    outside = here;
    const { violations } = here;
    const keys = Array.from({ length: random.whole(1, 6) }, (_, at) => `w${at}`);
    // Whose actors are deleted now and then: of them only is known that nothing is done twice, and nothing hangs.
    const fleeting = new Set(keys.filter(() => random.chance(0.2)));
    const placed: Placed[] = [];
    const process = (client: number) => async (): Promise<void> => {
      const { actor: refs } = { actor: context.clients[client % context.clients.length] };
      if (refs === undefined) return;
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const key = random.pick(keys);
        const ref = refs.actor(worker, key);
        const options = { timeout_ms: context.timeout_ms() };
        const dice = random.next();
        if (dice < 0.1) await resultOf(ref.send({ type: "callOff" }, options));
        else if (dice < 0.2 && fleeting.has(key)) await resultOf(ref.delete(options));
        else {
          const order: Placed = {
            key,
            name: `${key}.p${client}.${made}`,
            takes_ms: random.chance(0.3) ? 0 : Math.round(random.logarithmic(1, 3_000)),
            fails: random.chance(0.6) ? 0 : random.whole(1, ATTEMPTS + 1),
            outcome: "unknown",
          };
          placed.push(order);
          const { name, takes_ms, fails } = order;
          order.outcome = (
            await resultOf(ref.send({ type: "order", name, takes_ms, fails }, options))
          ).outcome;
        }
        if (random.chance(0.5)) await context.sleep(random.logarithmic(0.1, 1_000));
      }
    };
    const settle = async (key: string): Promise<void> => {
      const ref = context.observer.actor(worker, key);
      while (true) {
        const { value, context: state } = await insist(context, () => ref.get());
        if (value === "idle" && state.queue.length === 0) {
          judge(key, state);
          return;
        }
        await context.sleep(100);
      }
    };
    const judge = (key: string, state: Record<"done" | "keys" | "failed" | "off", string[]>): void => {
      const ended = [...state.done, ...state.failed, ...state.off];
      if (new Set(ended).size < ended.length)
        violations.push(`an order of ${key} ended twice: ${ended.join(", ")}`);
      if (new Set(state.keys).size < state.keys.length)
        violations.push(`results of ${key} share an idempotency key`);
      state.done.forEach((name, at) => {
        if (here.effects.get(state.keys[at] ?? "")?.order !== name)
          violations.push(
            `the result of ${name} came from ${state.keys[at]}, which worked on something else`,
          );
      });
      for (const order of placed) {
        if (order.key !== key) continue;
        const known = ended.includes(order.name);
        if (order.outcome === "ok" && !known && !fleeting.has(key))
          violations.push(`order ${order.name} was lost`);
        if (order.outcome === "failed" && known)
          violations.push(`order ${order.name} was refused, and worked on`);
        if (state.failed.includes(order.name) && order.fails === 0)
          violations.push(`order ${order.name} failed, although its work does not`);
      }
    };
    return {
      processes: Array.from({ length: random.whole(1, 3) }, (_, at) => process(at)),
      finish: async () => {
        await Promise.all(keys.map(settle));
      },
      check: () => {
        for (const [key, { lastAttempt }] of here.effects)
          if (lastAttempt > ATTEMPTS + 1) violations.push(`${key} came to attempt ${lastAttempt}`);
        return violations;
      },
    };
  },
};
