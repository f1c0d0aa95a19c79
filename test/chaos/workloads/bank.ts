/** A bank: accounts tell each other money, over others. Each message between actors is applied once, so the sum holds. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../../../runtime/index.ts";
import { checkBank } from "../../../runtime/testing/checkers/index.ts";
import { ACCOUNT_START, account } from "../actors.ts";
import {
  type ChaosContext,
  type ChaosWorkload,
  now,
  operate,
  pause,
  readAll,
  SERVED_WITHIN_MS,
} from "./workload.ts";

const NAME = "bank";
const ACCOUNTS = 24;
const AMOUNT_MAX = 40;

export function bank(context: ChaosContext): ChaosWorkload {
  const { random, clients, steady } = context;
  const accounts = Array.from({ length: ACCOUNTS }, (_, at) => `a${at}`);
  const total = ACCOUNTS * ACCOUNT_START;
  let transfers = 0;
  let balances = new Map<string, number>();

  const process = (client: Client) => async (): Promise<void> => {
    while (!context.ending) {
      const [from, to, ...others] = random.shuffle(accounts) as [string, string, ...string[]];
      const event = {
        type: "transfer",
        to,
        amount: random.whole(1, AMOUNT_MAX),
        over: others.slice(0, random.whole(0, 3)),
      } as const;
      transfers++;
      const timeout_ms = Math.round(random.logarithmic(200, 8_000));
      await operate(context, NAME, client.actor(account, from).send(event, { timeout_ms }));
      await pause(context, random.logarithmic(5, 150));
    }
  };

  const read = (): Promise<Map<string, number>> =>
    readAll(accounts, async (key, timeout_ms) => {
      return (await steady.actor(account, key).get({ timeout_ms })).context.balance;
    });

  return {
    name: NAME,
    processes: [...clients, steady].map((client) => process(client)),
    async finals() {
      // What is on its way arrives: nobody is told when, so it is looked at until the money is there.
      const until_ms = now() + SERVED_WITHIN_MS;
      do {
        balances = await read();
        if (sumOf(balances) === total) break;
        await sleep(100);
      } while (now() < until_ms);
      return new Map([...balances].map(([key, balance]) => [key, `${balance}`]));
    },
    check() {
      const found = [...balances].map(([key, balance]) => ({ account: key, balance }));
      return [
        {
          promise: "messages between actors are applied once: the sum of the accounts holds",
          scope: `${transfers} transfers, ${ACCOUNTS} accounts`,
          violations: checkBank([{ label: "the final read", balances: found }], { total, accounts }).map(
            ({ key, message }) => ({ key, message, history: found.map((entry) => JSON.stringify(entry)) }),
          ),
        },
      ];
    },
  };
}

function sumOf(balances: ReadonlyMap<string, number>): number {
  return [...balances.values()].reduce((sum, balance) => sum + balance, 0);
}
