/**
 * Ranging: of many actors, with an index or without, stretches are asked for that begin anywhere, with limits and
 * conditions, in pages or at once, their timers, and how many they are. Whatever is answered shows every turn that was
 * acknowledged before it was asked for, in the order of the keys, each actor once, and nobody whom no one has asked for.
 *
 * Not among the workloads that seeds draw; it is run by its name.
 */
import { assign, setup } from "xstate";
import type { Client } from "../../../runtime/client/client.ts";
import type { FindQuery } from "../../../runtime/client/find.ts";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";
import { compareKeys } from "../../../runtime/words/address.ts";

const machine = setup({
  types: { context: {} as { count: number }, events: {} as { type: "add" } | { type: "wait" } },
  delays: { long: 24 * 3_600_000 },
}).createMachine({
  context: { count: 0 },
  initial: "open",
  states: { open: { on: { wait: "waiting" } }, waiting: { after: { long: "open" } } },
  on: { add: { actions: assign({ count: ({ context }) => context.count + 1 }) } },
});

const indexed = defineActor({ type: "simRange", machine, index: ["count"] });
const plain = defineActor({ type: "simWalk", machine });

/** Some need two units of UTF-16, some one that natively comes behind those. */
const UNITS = ["a", "b", "m", "\ud7ff", "\ue000", "\uffff", "🙂"];
const LIMITS = [1, 2, 7, 8, 9, 31, 40];

/** One that counts and is there for ever, or one that waits and goes. */
interface Known {
  readonly key: string;
  readonly waits: boolean;
  asked: number;
  acknowledged: number;
  leaving: boolean;
  gone: boolean;
}

/** One that was answered, and how far it had counted, where the index says so. */
type Found = readonly [key: string, count: number | undefined];

interface Asked extends FindQuery {
  readonly from: string;
  readonly least: number;
}

export const rangingWorkload: Workload = {
  name: "ranging",
  actors: [indexed, plain],
  begin(context) {
    const { random, clients } = context;
    const definition = random.chance(0.7) ? indexed : plain;
    const anyKey = (): string =>
      Array.from({ length: random.whole(1, 3) }, () => random.pick(UNITS)).join("");
    const all = new Map<string, Known>();
    const violations: string[] = [];
    const clientOf = (at: number): Client => clients[at % clients.length] as Client;
    const known = (key: string, waits: boolean): Known => {
      let one = all.get(key);
      if (one === undefined)
        all.set(key, (one = { key, waits, asked: 0, acknowledged: 0, leaving: false, gone: false }));
      return one;
    };

    const add = async (at: number): Promise<void> => {
      const one = known(anyKey(), false);
      one.asked++;
      const sent = clientOf(at)
        .actor(definition, one.key)
        .send({ type: "add" }, { timeout_ms: context.timeout_ms() });
      if ((await resultOf(sent)).outcome === "ok") one.acknowledged++;
    };

    const visit = async (at: number, made: number): Promise<void> => {
      // Nobody else has such a key.
      const one = known(`${anyKey()}${at}.${made}`, true);
      const ref = clientOf(at).actor(definition, one.key);
      one.asked++;
      const options = { timeout_ms: context.timeout_ms() };
      if ((await resultOf(ref.send({ type: "wait" }, options))).outcome !== "ok") return;
      one.acknowledged++;
      if (random.chance(0.7)) await context.sleep(random.logarithmic(0.1, 300));
      one.leaving = true;
      one.gone = (await resultOf(ref.delete(options))).outcome === "ok";
    };

    const write = (at: number) => async (): Promise<void> => {
      for (let made = 0; made < context.requests && !context.ending; made++) {
        if (random.chance(0.3)) await visit(at, made);
        else await Promise.all(Array.from({ length: random.whole(1, 30) }, () => add(at)));
        if (random.chance(0.3)) await context.sleep(random.logarithmic(0.1, 300));
      }
    };

    /**
     * What is answered, against what was acknowledged when it was asked for and what was asked for when it was answered.
     * @param answer keys of those found, with their counts, in order
     */
    const look = async (
      asked: Asked,
      ofWaiting: boolean,
      answer: () => Promise<readonly Found[]>,
    ): Promise<void> => {
      const fits = ({ key, waits }: Known): boolean =>
        compareKeys(key, asked.from) >= 0 && (ofWaiting ? waits : !waits || asked.least === 0);
      const before = [...all.values()]
        .filter((one) => fits(one) && one.acknowledged > 0 && !one.leaving)
        .map((one) => ({ one, acknowledged: one.acknowledged }));
      const gone = new Set([...all.values()].filter((one) => one.gone).map(({ key }) => key));
      const result = await resultOf(answer());
      if (result.outcome !== "ok") {
        if (result.error.code.startsWith("corrupt")) violations.push(`range: ${result.error.message}`);
        return;
      }
      const rows = result.value;
      const name = `from ${JSON.stringify(asked.from)}, limit ${asked.limit ?? "none"}`;
      for (const [at, [key]] of rows.entries()) {
        const last = rows[at - 1]?.[0];
        if (last !== undefined && compareKeys(last, key) >= 0)
          violations.push(`${name}: ${key} comes after ${last}`);
        const one = all.get(key);
        if (one === undefined || !fits(one)) violations.push(`${name}: ${key} is found, and does not fit`);
        if (gone.has(key)) violations.push(`${name}: ${key} is found, but gone`);
      }
      const counts = new Map(rows);
      const end = rows.length === asked.limit ? rows.at(-1)?.[0] : undefined;
      for (const { one, acknowledged } of before) {
        if (one.leaving || (end !== undefined && compareKeys(one.key, end) > 0)) continue;
        const count = counts.get(one.key) ?? 0;
        if (!counts.has(one.key)) {
          if (one.waits || acknowledged >= asked.least)
            violations.push(`${name}: ${one.key} is not found, but there, at ${acknowledged}`);
        } else if (!one.waits && definition === indexed && (count < acknowledged || count > one.asked))
          violations.push(`${name}: ${one.key} is found at ${count}, of ${acknowledged} to ${one.asked}`);
      }
    };

    const find = async (client: Client, timeout_ms: number): Promise<void> => {
      const from = random.chance(0.3) ? "" : anyKey();
      const least = definition === indexed && random.chance(0.3) ? random.whole(1, 3) : 0;
      const where = least === 0 ? {} : { where: { count: { gte: least } } };
      const limit = random.chance(0.5) ? random.pick(LIMITS) : undefined;
      const asked = { from, least, ...where, timeout_ms };
      const kind = random.pick(["find", "pages", "timers", "count"]);
      if (kind === "find") {
        await look({ ...asked, limit }, false, async () => {
          const rows: Found[] = [];
          const query = { from, ...where, limit, timeout_ms };
          for await (const { key, fields } of client.find(definition, query))
            rows.push([key, fields.count as number | undefined]);
          return rows;
        });
      } else if (kind === "pages") {
        await look(asked, false, async () => {
          const rows: Found[] = [];
          for (let after: string | undefined; ; ) {
            const query = { from, ...where, after, limit: limit ?? 5, timeout_ms };
            const { actors, next } = await client.findPage(definition, query);
            for (const { key, fields } of actors) rows.push([key, fields.count as number | undefined]);
            if (next === undefined) return rows;
            after = next;
          }
        });
      } else if (kind === "timers") {
        await look({ from, least: 0, limit }, true, async () => {
          const rows: Found[] = [];
          for await (const { key } of client.timers(definition, { from, limit, timeout_ms }))
            rows.push([key, undefined]);
          return rows;
        });
      } else {
        const least = [...all.values()].filter(
          (one) => one.acknowledged > 0 && !one.leaving && compareKeys(one.key, from) >= 0,
        );
        const result = await resultOf(client.count(definition, { from, timeout_ms }));
        if (result.outcome !== "ok") return;
        const most = [...all.values()].filter(({ key }) => compareKeys(key, from) >= 0).length;
        const there = least.filter(({ leaving }) => !leaving).length;
        const { total } = result.value;
        if (total < there || total > most) violations.push(`${total} are counted, of ${there} to ${most}`);
      }
    };

    const ask = (at: number) => async (): Promise<void> => {
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const timeout_ms = context.timeout_ms();
        await Promise.all(Array.from({ length: random.whole(1, 3) }, () => find(clientOf(at), timeout_ms)));
        await context.sleep(random.logarithmic(0.1, 300));
      }
    };
    return {
      processes: [
        ...Array.from({ length: random.whole(1, 3) }, (_, at) => write(at)),
        ...Array.from({ length: random.whole(1, 3) }, (_, at) => ask(at)),
      ],
      finish: () =>
        look({ from: "", least: 0 }, false, () =>
          insist(context, async () => {
            const rows: Found[] = [];
            for await (const { key, fields } of context.observer.find(definition, { timeout_ms: 20_000 }))
              rows.push([key, fields.count as number | undefined]);
            return rows;
          }),
        ),
      check: () => violations,
    };
  },
};
