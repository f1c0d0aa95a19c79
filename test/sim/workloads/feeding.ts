/**
 * Feeding: a source of several parts is read by runners that come, go and are forgotten, each a client of its own. Each
 * item counts once, whoever brought it; malformed ones are counted. Run by its name only.
 */
import { assign, setup } from "xstate";
import { defineActor } from "../../../runtime/engine/definition.ts";
import {
  type Chunk,
  defineSource,
  type Item,
  runSource,
  type SourceReader,
  type SourceRun,
  sourceStatus,
  toldTo,
} from "../../../runtime/streams/index.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";

const bin = defineActor({
  type: "simBin",
  machine: setup({
    types: { context: {} as { items: number[] }, events: {} as { type: "add"; item: number } },
  }).createMachine({
    context: { items: [] },
    on: { add: { actions: assign({ items: ({ context, event }) => [...context.items, event.item] }) } },
  }),
});

const PARTS = 3;
const BINS = 5;
const MALFORMED = 11;

/** How the items are read; each run has its own. */
interface Reading {
  /** Items of each part. */
  readonly count: number;
  /** How many come at once, and after how long. */
  readonly next: () => { readonly size: number; readonly pause_ms: number };
  readonly sleep: (duration_ms: number) => Promise<void>;
}

function readerOf({ count, next, sleep }: Reading): SourceReader<number> {
  return {
    description: "numbers",
    unit: "items",
    follow: false,
    plan: async () =>
      Array.from({ length: PARTS }, (_, part) => ({ group: `part ${part}`, spec: { part }, identity: {} })),
    async *read({ spec }, position, { signal }): AsyncGenerator<Chunk<number>> {
      for (let at = (position as number | null) ?? 0; at < count && !signal.aborted; ) {
        const { size, pause_ms } = next();
        if (pause_ms > 0) await sleep(pause_ms);
        const items: Item<number>[] = [];
        for (; at < count && items.length < size; at++) {
          const value = (spec.part as number) * count + at;
          const item = { number: at + 1, after: at + 1 };
          items.push(
            value % MALFORMED === 0 ? { ...item, fault: "It is none.", text: "" } : { ...item, value },
          );
        }
        yield { items };
      }
    },
    extent: async (_, position) => ({ done: (position as number | null) ?? 0, total: count }),
  };
}

/** Its actors are the same in all runs. */
const sourceOf = (from: SourceReader<number>) =>
  defineSource<number>("simNumbers", {
    from,
    to: (item) => toldTo(bin, `b${item % BINS}`, { type: "add", item }),
    batch: 4,
  });
const hosted = sourceOf(
  readerOf({ count: 0, next: () => ({ size: 1, pause_ms: 0 }), sleep: async () => undefined }),
);

export const feedingWorkload: Workload = {
  name: "feeding",
  actors: [bin, ...hosted.actors],
  begin(context) {
    const { random } = context;
    const count = random.whole(5, 60);
    const all = Array.from({ length: PARTS * count }, (_, item) => item);
    const good = all.filter((item) => item % MALFORMED !== 0);
    const source = { ...hosted, from: undefined as unknown as SourceReader<number> };
    source.from = readerOf({
      count,
      next: () => ({
        size: random.whole(1, 9),
        pause_ms: random.chance(0.3) ? random.logarithmic(0.1, 200) : 0,
      }),
      sleep: context.sleep,
    });
    const violations: string[] = [];
    const lease_ms = random.pick([300, 1_000, 5_000]);
    /** False if it has ended early: what it had asked for is done, but nobody else keeps so little of the journal. */
    const ends = async (run: SourceRun): Promise<boolean> => {
      const result = await resultOf(run.done);
      if (result.outcome === "ok") return true;
      if (context.keepsAll || result.error.outcome !== "applied") throw result.error;
      return false;
    };
    const runner = (at: number) => async (): Promise<void> => {
      const client = context.clients[at % context.clients.length]!;
      const runs: SourceRun[] = [];
      while (true) {
        const run = runSource(client, source, { lease_ms, atOnce: random.whole(1, PARTS) });
        runs.push(run);
        const stopped = context.ending || random.chance(0.5) ? undefined : random.logarithmic(1, 3_000);
        if (stopped === undefined) {
          if (await ends(run)) break;
          continue;
        }
        run.done.catch(() => undefined);
        await context.sleep(stopped);
        // Some go on beside the next: whoever has hung and wakes up does.
        if (random.chance(0.7)) await run.stop();
      }
      await Promise.all(runs.map(ends));
    };
    return {
      processes: Array.from({ length: random.whole(1, 3) }, (_, at) => runner(at)),
      async finish() {
        const found: number[] = [];
        for (let key = 0; key < BINS; key++) {
          const state = await insist(context, () => context.observer.actor(bin, `b${key}`).get());
          found.push(...state.context.items);
        }
        found.sort((a, b) => a - b);
        if (found.join() !== good.join())
          violations.push(`of ${good.length} items these have counted: ${found.join()}`);
        const status = await insist(context, () => sourceStatus(context.observer, source));
        const { items, malformed, delivered, ended, lag } = status;
        if (
          items !== all.length ||
          malformed !== all.length - good.length ||
          delivered !== items ||
          !ended ||
          lag !== 0
        )
          violations.push(
            `the source stands at ${JSON.stringify({ items, malformed, delivered, ended, lag })}`,
          );
      },
      check: () => violations,
    };
  },
};
