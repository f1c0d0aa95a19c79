/**
 * Emitting: what actors emit is counted by views, over a lane of its own. Each event that a turn emitted counts once, also
 * in a view whose keys are split; and what was acknowledged before a view was settled is read from it. Run by its name
 * only.
 */
import { assign, emit, setup } from "xstate";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { count, defineView, sum } from "../../../runtime/streams/index.ts";
import {
  insist,
  resultOf,
  type Workload,
  type WorkloadContext,
} from "../../../runtime/testing/simulator/index.ts";
import { collected } from "../../support/collected.ts";

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
const parts = defineView("simParts", {
  over: emitter,
  key: ({ by }) => (by % 2 === 0 ? "even" : "odd"),
  aggregate: { events: count(), sum: sum("by") },
  split: 3,
});

export const emittingWorkload: Workload = {
  name: "emitting",
  actors: [emitter, ...seen.actors, ...parts.actors],
  begin(context) {
    const { random } = context;
    const keys = Array.from({ length: random.whole(1, 8) }, (_, at) => `e${at}`);
    const violations: string[] = [];
    const acknowledged = new Map<string, number>();
    /** What was acknowledged before the view was asked to settle is in what is read from it then. */
    const readOwn = async (client: WorkloadContext["observer"], key: string): Promise<void> => {
      const reader = seen.reader(client);
      const before = acknowledged.get(key) ?? 0;
      const of = random.chance(0.5) ? `${emitter.type}/${key}` : undefined;
      const settled = await resultOf(reader.settled({ of, timeout_ms: context.timeout_ms() }));
      if (settled.outcome !== "ok") return;
      const read = await resultOf(reader.get(key, { timeout_ms: context.timeout_ms() }));
      if (read.outcome === "ok" && read.value.events < before)
        violations.push(
          `${key} was settled with ${before} events acknowledged, and shows ${read.value.events}`,
        );
    };
    const process = (at: number) => async (): Promise<void> => {
      const client = context.clients[at % context.clients.length]!;
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const by = random.whole(1, 99);
        const ref = client.actor(emitter, random.pick(keys));
        const sent = await resultOf(ref.send({ type: "add", by }, { timeout_ms: context.timeout_ms() }));
        if (sent.outcome === "ok") acknowledged.set(ref.key, (acknowledged.get(ref.key) ?? 0) + 1);
        if (random.chance(0.2)) await readOwn(client, random.pick(keys));
        if (random.chance(0.3)) await context.sleep(random.logarithmic(0.1, 300));
      }
    };
    return {
      processes: Array.from({ length: random.whole(1, 4) }, (_, at) => process(at)),
      async finish() {
        const emitted: string[] = [];
        let sumOfAll = 0;
        for (const key of keys) {
          const { observer } = context;
          const { context: told } = await insist(context, () => observer.actor(emitter, key).get());
          if (told.count > 0) emitted.push(key);
          sumOfAll += told.sum;
          const view = await insist(context, () => seen.reader(observer).get(key));
          const { events = 0, sum: all = 0 } = (view?.values ?? {}) as { events?: number; sum?: number };
          if (events !== told.count || all !== told.sum)
            violations.push(
              `${key} emitted ${told.count} events of ${told.sum}, the view has ${events} of ${all}`,
            );
        }
        const { observer } = context;
        const reader = parts.reader(observer);
        let sumOfHalves = 0;
        // One after the other: a node may take in fewer messages at once than a page asks for.
        for (const key of await insist(context, () => collected(reader.keys())))
          sumOfHalves += Number((await insist(context, () => reader.get(key))).values.sum);
        if (sumOfHalves !== sumOfAll)
          violations.push(`${sumOfAll} were emitted, the split view has ${sumOfHalves}`);
        const listed = await insist(context, () => collected(seen.reader(observer).keys()));
        if (listed.join() !== emitted.sort().join())
          violations.push(`${emitted.join()} have emitted, the view lists ${listed.join()}`);
      },
      check: () => violations,
    };
  },
};
