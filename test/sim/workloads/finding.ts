/**
 * Finding: actors of a type are found while they take turns, begin and go. A question is consistent with every turn that was
 * acknowledged before it began, and shows nothing that nobody had asked for when it ended.
 *
 * Not among the workloads that seeds draw, so that what they draw stays as it was; it is run by its name.
 */
import { assign, setup } from "xstate";
import type { Client } from "../../../runtime/client/client.ts";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";

const machine = setup({
  types: { context: {} as { count: number }, events: {} as { type: "add" } },
}).createMachine({
  context: { count: 0 },
  on: { add: { actions: assign({ count: ({ context }) => context.count + 1 }) } },
});

const found = defineActor({ type: "simFound", machine, index: ["count"] });

/** An actor that counts, and is there for ever. */
interface Counter {
  readonly key: string;
  asked: number;
  acknowledged: number;
}

/** An actor that begins and goes, once. */
interface Guest {
  readonly key: string;
  began: boolean;
  leaving: boolean;
  gone: boolean;
}

async function countsOf(client: Client, timeout_ms: number): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  let last = "";
  for await (const { key, fields } of client.find(found, { timeout_ms })) {
    if (key <= last) throw new Error(`${key} comes after ${last}`);
    last = key;
    counts.set(key, fields.count as number);
  }
  return counts;
}

export const findingWorkload: Workload = {
  name: "finding",
  actors: [found],
  begin(context) {
    const { random, clients } = context;
    const counters: Counter[] = Array.from({ length: random.whole(1, 8) }, (_, at) => ({
      key: `c${at}`,
      asked: 0,
      acknowledged: 0,
    }));
    const guests: Guest[] = [];
    const violations: string[] = [];
    const clientOf = (at: number): Client => clients[at % clients.length] as Client;

    const write = (at: number) => async (): Promise<void> => {
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const options = { timeout_ms: context.timeout_ms() };
        if (random.chance(0.4)) {
          const guest: Guest = { key: `p${at}.${made}`, began: false, leaving: false, gone: false };
          const ref = clientOf(at).actor(found, guest.key);
          guests.push(guest);
          guest.began = (await resultOf(ref.send({ type: "add" }, options))).outcome === "ok";
          if (!guest.began) continue;
          if (random.chance(0.7)) await context.sleep(random.logarithmic(0.1, 300));
          guest.leaving = true;
          guest.gone = (await resultOf(ref.delete(options))).outcome === "ok";
        } else {
          const counter = random.pick(counters);
          counter.asked++;
          const sent = clientOf(at).actor(found, counter.key).send({ type: "add" }, options);
          if ((await resultOf(sent)).outcome === "ok") counter.acknowledged++;
        }
        if (random.chance(0.3)) await context.sleep(random.logarithmic(0.1, 300));
      }
    };

    const look = async (counts: () => Promise<Map<string, number>>): Promise<void> => {
      const least = counters.map(({ acknowledged }) => acknowledged);
      const there = guests.filter(({ began, leaving }) => began && !leaving);
      const gone = guests.filter((guest) => guest.gone);
      const result = await resultOf(counts());
      if (result.outcome !== "ok") {
        if (result.error.code.startsWith("corrupt")) violations.push(`find: ${result.error.message}`);
        return;
      }
      for (const [at, { key, asked }] of counters.entries()) {
        const count = result.value.get(key) ?? 0;
        if (count < (least[at] as number) || count > asked)
          violations.push(`${key} is found at ${count}, of ${least[at]} acknowledged and ${asked} asked`);
      }
      for (const { key, leaving } of there)
        if (!leaving && !result.value.has(key)) violations.push(`${key} is not found, but there`);
      for (const { key } of gone) if (result.value.has(key)) violations.push(`${key} is found, but gone`);
    };

    const find = (at: number) => async (): Promise<void> => {
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const timeout_ms = context.timeout_ms();
        await look(() => countsOf(clientOf(at), timeout_ms));
        await context.sleep(random.logarithmic(0.1, 300));
      }
    };
    return {
      processes: [
        ...Array.from({ length: random.whole(1, 3) }, (_, at) => write(at)),
        ...Array.from({ length: random.whole(1, 3) }, (_, at) => find(at)),
      ],
      finish: () => look(() => insist(context, () => countsOf(context.observer, 20_000))),
      check: () => violations,
    };
  },
};
