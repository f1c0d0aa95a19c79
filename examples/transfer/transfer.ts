/**
 * Money goes from account to account, and none of it is lost or made, whatever dies in between.
 *
 * A transfer is two turns: the payer's, which takes the money out and tells the payee, and the payee's. What a turn
 * tells is part of its record, leaves after the commit and is applied exactly once. So there is a moment at which the
 * money is on its way, and none at which it is in two places or nowhere. A payee that cannot take it tells it back.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type CallOptions, defineActor, isKeyturnError, memory, reply, startNode, tell } from "keyturn";
import { assign, setup } from "xstate";
import type { OpenStore } from "../run.ts";

export type AccountEvent =
  | { type: "deposit"; cents: number }
  /** To another account's key. Answers whether there was enough. */
  | { type: "transfer"; to: string; cents: number }
  | { type: "close" }
  /** From the other account; not for people. */
  | { type: "received"; from: string; cents: number }
  | { type: "returned"; cents: number };

interface Account {
  readonly key: string;
  readonly cents: number;
}

export const account = defineActor({
  type: "account",
  machine: setup({
    types: {
      context: {} as Account,
      events: {} as AccountEvent,
      input: {} as { key: string },
    },
    guards: {
      isCovered: ({ context, event }) =>
        event.type === "transfer" && event.cents > 0 && event.cents <= context.cents,
    },
    actions: {
      add: assign({ cents: ({ context, event }) => context.cents + ("cents" in event ? event.cents : 0) }),
    },
  }).createMachine({
    id: "account",
    context: ({ input }) => ({ key: input.key, cents: 0 }),
    // Also what comes back to an account that was closed meanwhile.
    on: { returned: { actions: "add" } },
    initial: "open",
    states: {
      open: {
        on: {
          deposit: { actions: "add" },
          received: { actions: "add" },
          transfer: [
            {
              guard: "isCovered",
              actions: [
                assign({ cents: ({ context, event }) => context.cents - event.cents }),
                tell(
                  ({ event }) => `account/${event.to}`,
                  ({ context, event }) => ({ type: "received", from: context.key, cents: event.cents }),
                ),
                reply("on its way"),
              ],
            },
            { actions: reply("not covered") },
          ],
          close: "closed",
        },
      },
      closed: {
        on: {
          transfer: { actions: reply("not covered") },
          received: {
            actions: tell(
              ({ event }) => `account/${event.from}`,
              ({ event }) => ({ type: "returned", cents: event.cents }),
            ),
          },
        },
      },
    },
  }),
  types: {} as { replies: { transfer: "on its way" | "not covered" } },
});

/** Time to look after a node whose heart does not beat, far shorter than is wise where networks are between nodes. */
const settings = { lease_ms: 300, heartbeat_ms: 100 };
/** More than anybody sends away, so that everybody can always pay, whatever is still on its way. */
const CENTS = 15_000;
const TRANSFERS = 300;

/** Three people send each other money, and some to Dan, who is no customer any more, while a node dies. */
export async function main(
  open: OpenStore = memory,
): Promise<{ before: number; after: number; balances: Record<string, number> }> {
  const store = await open();
  const east = await startNode({ actors: [account], store, settings, name: "east" });
  const west = await startNode({ actors: [account], store, settings, name: "west" });
  // Accounts of today: on a store that lasts, yesterday's still have their money.
  const now = new Date().toISOString();
  const accountOf = (name: string) => west.client.actor(account, `${name}:${now}`);
  const people = ["ada", "ben", "cleo"];
  const everybody = [...people, "dan"];
  for (const name of people) await accountOf(name).send({ type: "deposit", cents: CENTS });
  await accountOf("dan").send({ type: "close" });

  let done = 0;
  const spend = async (name: string): Promise<void> => {
    for (let n = 0; n < TRANSFERS; n++) {
      const to = accountOf(everybody[(everybody.indexOf(name) + 1 + (n % 3)) % 4] as string).key;
      await surely(accountOf(name), { type: "transfer", to, cents: 1 + (n % 90) });
      // As `kill -9` does it: its memory is gone, and with it every message that was on its way.
      if (++done === TRANSFERS) {
        const there = everybody.filter((person) => east.shards.includes(accountOf(person).shard));
        console.log(`The node that has ${there.join(" and ") || "nobody"} dies.`);
        east.kill();
      }
    }
  };
  await Promise.all(people.map(spend));

  const balancesNow = async (): Promise<[string, number][]> =>
    Promise.all(everybody.map(async (name) => [name, (await accountOf(name).get()).context.cents]));
  let balances = await balancesNow();
  // What is on its way arrives soon.
  for (let tries = 0; sum(balances) !== people.length * CENTS && tries < 250; tries++) {
    await sleep(20);
    balances = await balancesNow();
  }
  for (const [name, cents] of balances) console.log(`${name}: ${cents} cents`);
  console.log(`${sum(balances)} cents in all; they were ${people.length * CENTS}.`);
  await west.stop();
  return { before: people.length * CENTS, after: sum(balances), balances: Object.fromEntries(balances) };
}

interface Asked {
  ask(event: AccountEvent, options: CallOptions): Promise<unknown>;
}

/** Asks until there is an answer. One request id for all tries makes them one request, so it is applied once. */
async function surely(ref: Asked, event: AccountEvent): Promise<void> {
  const requestId = randomUUID();
  while (true) {
    try {
      await ref.ask(event, { requestId });
      return;
    } catch (error) {
      if (!isKeyturnError(error) || !error.retryable) throw error;
    }
  }
}

function sum(balances: readonly [string, number][]): number {
  return balances.reduce((total, [, cents]) => total + cents, 0);
}
