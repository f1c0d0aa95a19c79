/**
 * Rebuilding: a type that counted wrongly is replayed through a definition that does not, and promoted, while actors take
 * turns, nodes die and come back, appends fail and the rebuilding process itself is killed. Nothing that was acknowledged
 * is lost, no event counts twice, and no actor is replaced twice.
 *
 * The mistake is in the events: those that were sent before it was mended are marked, and the definition that runs leaves
 * out a part of them. So what runs is right from then on, as after a deploy, and what is stored is not until it is promoted.
 * Not among the workloads that seeds draw; it is run by its name.
 */
import { assign, enqueueActions, raise, setup } from "xstate";
import type { Client } from "../../../runtime/client/client.ts";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { REBUILT } from "../../../runtime/engine/replace.ts";
import { type Rebuild, rebuildType } from "../../../runtime/rebuild/rebuild.ts";
import { insist, type Visitor, type Workload } from "../../../runtime/testing/simulator/index.ts";
import { isKeyturnError } from "../../../runtime/words/errors.ts";

type Event =
  | { type: "add"; by: number; wrong: boolean }
  /** The same after a delay. */
  | { type: "later"; by: number; ms: number };

/** Adds up, and counts the odd ones. */
function tallyOf(isWrong: (event: { wrong: boolean }) => boolean) {
  return defineActor({
    type: "simTally",
    machine: setup({
      types: { context: {} as { sum: number; odd: number }, events: {} as Event },
    }).createMachine({
      context: { sum: 0, odd: 0 },
      on: {
        add: {
          actions: assign({
            sum: ({ context, event }) => context.sum + event.by,
            odd: ({ context, event }) => context.odd + (isWrong(event) ? 0 : event.by % 2),
          }),
        },
        later: {
          actions: enqueueActions(({ enqueue, event }) => {
            enqueue(raise({ type: "add", by: event.by, wrong: false }, { delay: event.ms }));
          }),
        },
      },
    }),
  });
}

const running = tallyOf(({ wrong }) => wrong);
const mended = tallyOf(() => false);

interface Tally {
  readonly key: string;
  sum: number;
  odd: number;
  gone: boolean;
}

export const rebuildingWorkload: Workload = {
  name: "rebuilding",
  actors: [running],
  needsAll: true,
  begin(context) {
    const { random, clients } = context;
    const tallies: Tally[] = [];
    const violations: string[] = [];
    /** Events that the running definition takes wrongly are sent no more. */
    let isMended = false;
    let wrongInFlight = 0;
    let requests = 0;
    /** Nodes of several versions: nothing can be promoted. */
    let mixed = false;

    const write = (at: number) => async (): Promise<void> => {
      const client = clients[at % clients.length] as Client;
      const own: Tally[] = [];
      for (let made = 0; made < context.requests && !context.ending; made++) {
        if (own.length < 4 && random.chance(0.3)) {
          const tally = { key: `t${at}.${made}`, sum: 0, odd: 0, gone: false };
          own.push(tally);
          tallies.push(tally);
        }
        const tally = own.length === 0 ? undefined : random.pick(own);
        if (tally === undefined) continue;
        const ref = client.actor(running, tally.key);
        // A key that is deleted is not used again: what became of an earlier life's requests is nobody's concern.
        if (random.chance(0.05)) {
          own.splice(own.indexOf(tally), 1);
          tally.gone = true;
          await insist(context, () => ref.delete({ timeout_ms: context.timeout_ms() }));
          continue;
        }
        const by = random.whole(0, 9);
        const wrong = !isMended;
        const event: Event = random.chance(0.2)
          ? { type: "later", by, ms: Math.round(random.logarithmic(1, 3_000)) }
          : { type: "add", by, wrong };
        const requestId = `r${++requests}`;
        if (wrong) wrongInFlight++;
        await insist(context, () => ref.send(event, { requestId, timeout_ms: context.timeout_ms() }));
        if (wrong) wrongInFlight--;
        tally.sum += by;
        tally.odd += by % 2;
        if (random.chance(0.3)) await context.sleep(random.logarithmic(0.1, 200));
      }
    };

    const promote = async (rebuild: Rebuild, { client }: Visitor): Promise<boolean> => {
      isMended = true;
      while (wrongInFlight > 0) await context.sleep(5);
      const abort = new AbortController();
      if (!context.ending && random.chance(0.2))
        void context.sleep(random.logarithmic(1, 500)).then(() => abort.abort());
      return (await rebuild.promote(client, abort.signal)).failed === 0 && !abort.signal.aborted;
    };

    const attempt = async (visitor: Visitor): Promise<boolean> => {
      try {
        const { store, world } = visitor;
        const keysMax = random.pick([1_000, 3]);
        const rebuild = await rebuildType({ store, world, actors: mended, keysMax });
        return await promote(rebuild, visitor);
      } catch (error) {
        if (isKeyturnError(error, "newer_version")) {
          mixed = true;
          return true;
        }
        // The store did not answer, or there is no app yet: it is tried again, as by another process.
        if (isKeyturnError(error) && error.code.startsWith("corrupt")) throw error;
        return false;
      }
    };

    const rebuild = async (): Promise<void> => {
      await context.sleep(random.logarithmic(1, 2_000));
      for (let done = false; !done; ) {
        const visitor = context.visit();
        const killed =
          !context.ending && random.chance(0.4)
            ? context.sleep(random.logarithmic(1, 1_000)).then(() => visitor.kill())
            : undefined;
        const attempted = attempt(visitor);
        done = (await (killed === undefined ? attempted : Promise.race([attempted, killed]))) === true;
        if (!done) await context.sleep(random.logarithmic(1, 200));
      }
    };

    const look = async ({ key, sum, odd, gone }: Tally): Promise<void> => {
      const ref = context.observer.actor(running, key);
      const state = await insist(context, () => ref.get({ timeout_ms: 20_000 }));
      if (gone || state.turn === 0) {
        if (state.turn !== 0) violations.push(`${key} was deleted and is at turn ${state.turn}`);
        else if (!gone && sum > 0) violations.push(`${key} is gone, and had ${sum}`);
        return;
      }
      const { context: found } = state;
      if (found.sum !== sum) violations.push(`${key} has the sum ${found.sum}, acknowledged were ${sum}`);
      if (!mixed && found.odd !== odd) violations.push(`${key} has ${found.odd} odd ones, not ${odd}`);
      const times = await insist(context, async () => {
        let rebuilt = 0;
        for await (const { event } of ref.history()) if (event.type === REBUILT) rebuilt++;
        return rebuilt;
      });
      if (times > 1) violations.push(`${key} was replaced ${times} times`);
    };

    return {
      processes: [
        ...Array.from({ length: random.whole(1, 4) }, (_, at) => write(at)),
        ...Array.from({ length: random.whole(1, 2) }, () => rebuild),
      ],
      finish: async () => {
        await Promise.all(tallies.map(look));
        if (mixed) return;
        const { store, world } = context.visit();
        const { report } = await rebuildType({ store, world, actors: mended });
        if (report.differing + report.rejected.length + report.notWhole.count > 0)
          violations.push(`a rebuild at the end finds ${JSON.stringify(report.paths)}`);
      },
      check: () => violations,
    };
  },
};
