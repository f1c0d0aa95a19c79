/**
 * Requests with ids of the caller's own, repeated from another client until they are answered: applied once, answered
 * alike. And actors that are deleted and begin anew, linearizable over their lives.
 */
import { assign, setup } from "xstate";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { reply } from "../../../runtime/engine/machine.ts";
import {
  checkLinearizability,
  HistoryRecorder,
  type Model,
} from "../../../runtime/testing/checkers/index.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";

const machine = setup({
  types: { context: {} as { total: number }, events: {} as { type: "add"; by: number } },
}).createMachine({
  context: { total: 0 },
  on: {
    add: {
      actions: [
        assign({ total: ({ context, event }) => context.total + event.by }),
        reply(({ context }) => context.total),
      ],
    },
  },
});

const ledger = defineActor({ type: "simLedger", machine, types: {} as { replies: { add: number } } });

type PhoenixInput = { type: "add"; by: number } | { type: "delete" } | { type: "read" };

/** A sum that a deletion sets back to nothing. */
const phoenixModel: Model<number, PhoenixInput, number> = {
  name: "phoenix",
  init: () => 0,
  step(state, input, output) {
    const next = input.type === "add" ? state + input.by : input.type === "delete" ? 0 : state;
    if (input.type !== "delete" && output !== undefined && output !== next) return { ok: false };
    return { ok: true, state: next };
  },
  stateKey: String,
  isReadOnly: (input) => input.type === "read",
};

export const retryWorkload: Workload = {
  name: "retries",
  actors: [ledger],
  begin(context) {
    const { random } = context;
    const keys = Array.from({ length: random.whole(1, 3) }, (_, at) => `g${at}`);
    const phoenixes = Array.from({ length: random.whole(1, 4) }, (_, at) => `x${at}`);
    const violations: string[] = [];
    const sums = new Map<string, number>();
    const replies = new Map<string, Set<number>>();
    const history = new HistoryRecorder<PhoenixInput, number>();
    const retrier = (client: number) => async (): Promise<void> => {
      for (let made = 0; made < context.requests / 2 && !context.ending; made++) {
        const key = random.pick(keys);
        const requestId = `q${client}.${made}`;
        const by = random.whole(1, 9);
        sums.set(key, (sums.get(key) ?? 0) + by);
        const answers: number[] = [];
        // Until it is answered twice: by whichever client, the second time for certain out of the journal.
        const wanted = random.chance(0.3) ? 2 : 1;
        while (answers.length < wanted) {
          const ref = random.pick(context.clients).actor(ledger, key);
          const result = await resultOf(
            ref.ask({ type: "add", by }, { requestId, timeout_ms: context.timeout_ms() }),
          );
          if (result.outcome === "ok") answers.push(result.value);
          // Certainly not applied again; its answer is trimmed.
          else if (result.error.outcome === "applied") break;
          else if (result.error.retryable) await context.sleep(random.logarithmic(0.1, 50));
          else throw result.error;
        }
        if (new Set(answers).size > 1)
          violations.push(`request ${requestId} was answered ${answers.join(" and ")}`);
        const seen = replies.get(key) ?? new Set();
        replies.set(key, seen);
        if (answers.length === 0) continue;
        if (seen.has(answers[0]!)) violations.push(`two requests to ${key} were answered ${answers[0]}`);
        seen.add(answers[0]!);
      }
    };
    const burner = (client: number) => async (): Promise<void> => {
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const key = random.pick(phoenixes);
        const ref = context.clients[client % context.clients.length]!.actor(ledger, key);
        const dice = random.next();
        const input: PhoenixInput =
          dice < 0.5
            ? { type: "add", by: random.whole(1, 5) }
            : dice < 0.75
              ? { type: "delete" }
              : { type: "read" };
        const options = { timeout_ms: context.timeout_ms() };
        const handle = history.begin(`b${client}`, key, input, context.now());
        const call = async (): Promise<number> => {
          if (input.type === "add") return ref.ask(input, options);
          if (input.type === "read") return (await ref.get(options)).context.total;
          await ref.delete(options);
          return 0;
        };
        const result = await resultOf(call());
        if (result.outcome === "ok") history.ok(handle, result.value, context.now());
        else history[result.outcome](handle, result.error.code, context.now());
        if (random.chance(0.4)) await context.sleep(random.logarithmic(0.1, 300));
      }
    };
    return {
      processes: [
        ...Array.from({ length: random.whole(1, 3) }, (_, at) => retrier(at)),
        ...Array.from({ length: random.whole(1, 3) }, (_, at) => burner(at)),
      ],
      async finish() {
        for (const key of keys) {
          const state = await insist(context, () => context.observer.actor(ledger, key).get());
          if (state.context.total !== (sums.get(key) ?? 0))
            violations.push(
              `ledger ${key} holds ${state.context.total}, its requests add ${sums.get(key) ?? 0}`,
            );
        }
      },
      check() {
        const linear = checkLinearizability(history.operations(), phoenixModel, { stepsMax: 60_000 });
        return linear.ok === false ? [...violations, linear.message] : violations;
      },
    };
  },
};
