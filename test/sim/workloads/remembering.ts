/**
 * Remembering: histories are read in both orders while turns are taken and the journal is trimmed. Turns follow each other
 * without a gap that is not said, each shows the state that it made, everything acknowledged is there, and a history that
 * is not whole says so.
 * Run by its name only.
 */
import { assign, setup } from "xstate";
import type { ActorRef } from "../../../runtime/client/client.ts";
import { defineActor } from "../../../runtime/engine/definition.ts";
import type { HistoryTurn } from "../../../runtime/engine/history.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";
import { collected } from "../../support/collected.ts";

const machine = setup({
  types: { context: {} as { count: number; other: number }, events: {} as { type: "add" } },
}).createMachine({
  context: { count: 0, other: 7 },
  on: { add: { actions: assign({ count: ({ context }) => context.count + 1 }) } },
});

const seldom = defineActor({ type: "simSeldom", machine });
/** As the entries of stores. */
const always: typeof seldom = Object.freeze({
  ...defineActor({ type: "simAlways", machine }),
  keyframes: "always" as const,
}) as never;

type Order = "newest" | "oldest";

interface Life {
  readonly type: string;
  readonly key: string;
  acknowledged: number;
}

export const rememberingWorkload: Workload = {
  name: "remembering",
  actors: [seldom, always],
  begin(context) {
    const { random, clients, keepsAll } = context;
    const violations: string[] = [];
    const lives: Life[] = Array.from({ length: random.whole(1, 4) }, (_, at) => ({
      type: random.pick([seldom.type, always.type]),
      key: `k${at}`,
      acknowledged: 0,
    }));
    const refOf = (at: number, { type, key }: Life): ActorRef =>
      (clients[at % clients.length] as (typeof clients)[number]).actor(`${type}/${key}`);

    const write = (at: number) => async (): Promise<void> => {
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const life = random.pick(lives);
        const options = { timeout_ms: context.timeout_ms() };
        const ref = refOf(at, life);
        const sent = Array.from({ length: random.whole(1, 12) }, () =>
          resultOf(ref.send({ type: "add" }, options)),
        );
        for (const { outcome } of await Promise.all(sent)) if (outcome === "ok") life.acknowledged++;
        if (random.chance(0.4)) await context.sleep(random.logarithmic(0.1, 300));
      }
    };

    const check = (life: Life, order: Order, turns: readonly HistoryTurn[], least: number): void => {
      const wrong = (text: string): void => {
        violations.push(`${life.type}/${life.key}, ${order} first: ${text}`);
      };
      const up = order === "oldest" ? turns : turns.toReversed();
      for (const [at, { turn, trimmed, context: shown }] of up.entries()) {
        // Some may be trimmed between two pages.
        const isSaid = order === "oldest" && trimmed === true && !keepsAll;
        if (at > 0 && turn !== (up[at - 1] as HistoryTurn).turn + 1 && !isSaid)
          wrong(`turn ${turn} comes after turn ${up[at - 1]?.turn}`);
        const { count, other } = shown as { count: number; other: number };
        if (count !== turn || other !== 7) wrong(`turn ${turn} shows ${count} and ${other}`);
      }
      const last = up.at(-1)?.turn ?? 0;
      if (last < least) wrong(`it ends with turn ${last}, ${least} were acknowledged`);
      const first = up[0];
      if (first === undefined) return;
      const isWhole = first.turn === 1;
      if (isWhole === (first.trimmed === true))
        wrong(`turn ${first.turn} is the first, and ${isWhole ? "is" : "is not"} said to be trimmed`);
      if (!isWhole && keepsAll) wrong(`it begins with turn ${first.turn}`);
    };

    const read = async (ref: ActorRef, life: Life, order: Order): Promise<void> => {
      const least = life.acknowledged;
      const pages = random.chance(0.5);
      const options = { order, timeout_ms: context.timeout_ms() };
      const result = await resultOf(pages ? byPages(ref, options) : collected(ref.history(options)));
      if (result.outcome === "ok") check(life, order, result.value, least);
      else if (!result.error.retryable && (result.error.code !== "history_trimmed" || keepsAll))
        violations.push(`${life.type}/${life.key}: ${result.error.message}`);
    };

    const byPages = async (
      ref: ActorRef,
      options: { readonly order: Order; readonly timeout_ms: number },
    ): Promise<HistoryTurn[]> => {
      const turns: HistoryTurn[] = [];
      const limit = random.whole(1, 20);
      let cursor: string | undefined;
      do {
        const page = await ref.historyPage({ ...options, limit, cursor });
        turns.push(...(page.turns as readonly HistoryTurn[]));
        cursor = page.next;
        if (random.chance(0.3)) await context.sleep(random.logarithmic(0.1, 100));
      } while (cursor !== undefined);
      return turns;
    };

    const look = (at: number) => async (): Promise<void> => {
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const life = random.pick(lives);
        await read(refOf(at, life), life, random.pick(["newest", "oldest"]));
        await context.sleep(random.logarithmic(0.1, 300));
      }
    };
    return {
      processes: [
        ...Array.from({ length: random.whole(1, 3) }, (_, at) => write(at)),
        ...Array.from({ length: random.whole(1, 2) }, (_, at) => look(at)),
      ],
      async finish() {
        for (const life of lives) {
          const ref = context.observer.actor(`${life.type}/${life.key}`);
          await insist(context, () => ref.get());
          for (const order of ["newest", "oldest"] as const) await read(ref, life, order);
        }
      },
      check: () => violations,
    };
  },
};
