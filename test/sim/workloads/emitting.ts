/**
 * Emitting: what actors emit is counted by a view, over a lane of its own. Each event that a turn emitted counts once.
 * Run by its name only.
 */
import { assign, emit, setup } from "xstate";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { count, defineView, sum } from "../../../runtime/streams/index.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";

const machine = setup({
  types: {
    context: {} as { count: number; sum: number },
    events: {} as { type: "add"; by: number },
    emitted: {} as { type: "added"; by: number },
  },
}).createMachine({
  context: { count: 0, sum: 0 },
  on: {
    add: {
      actions: [
        assign({
          count: ({ context }) => context.count + 1,
          sum: ({ context, event }) => context.sum + event.by,
        }),
        emit(({ event }) => ({ type: "added" as const, by: event.by })),
      ],
    },
  },
});

const emitter = defineActor({ type: "simEmitter", machine });
const seen = defineView("simSeen", { over: emitter, aggregate: { events: count(), sum: sum("by") } });

export const emittingWorkload: Workload = {
  name: "emitting",
  actors: [emitter, ...seen.actors],
  begin(context) {
    const { random } = context;
    const keys = Array.from({ length: random.whole(1, 8) }, (_, at) => `e${at}`);
    const violations: string[] = [];
    const process = (at: number) => async (): Promise<void> => {
      const client = context.clients[at % context.clients.length]!;
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const by = random.whole(1, 99);
        const ref = client.actor(emitter, random.pick(keys));
        await resultOf(ref.send({ type: "add", by }, { timeout_ms: context.timeout_ms() }));
        if (random.chance(0.3)) await context.sleep(random.logarithmic(0.1, 300));
      }
    };
    return {
      processes: Array.from({ length: random.whole(1, 4) }, (_, at) => process(at)),
      async finish() {
        for (const key of keys) {
          const { observer } = context;
          const { context: told } = await insist(context, () => observer.actor(emitter, key).get());
          const view = await insist(context, () => seen.reader(observer).get(key));
          const { events = 0, sum: all = 0 } = (view?.values ?? {}) as { events?: number; sum?: number };
          if (events !== told.count || all !== told.sum)
            violations.push(
              `${key} emitted ${told.count} events of ${told.sum}, the view has ${events} of ${all}`,
            );
        }
      },
      check: () => violations,
    };
  },
};
