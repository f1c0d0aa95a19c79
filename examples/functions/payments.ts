/**
 * Eight hundred card payments, each decided by a function in another process, which is killed in the middle of them.
 *
 * Cards and shops are functions with states (functions.ts); nobody here has written a machine.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { embedded, startNode } from "keyturn";
import { functions } from "keyturn/functions";
import type { OpenStore } from "../run.ts";
import { SUSPICIOUS_CENTS } from "./desk.ts";
import { BLOCKED_MS, cardsOf, cents, type Payment, sales, shops, spent, type Verdict } from "./functions.ts";

const PAYMENTS = 800;
const CARDS = 80;
const SHOPS = ["bakery", "bookshop", "cinema", "flowers", "grocer", "pharmacy", "tea house", "wine bar"];
/** Payments under way at once. */
const OPEN = 200;

/** A desk that runs somewhere. */
export interface Desk {
  readonly port: number;
  /** As `kill -9` does it. */
  kill(): Promise<void>;
}

/** Starts a desk; on a port that it had before, or on any. */
export type StartDesk = (port?: number) => Promise<Desk>;

const inAnotherProcess: StartDesk = async (port = 0) => {
  const child = fork(new URL("./desk-process.js", import.meta.url), [String(port)]);
  const [listening] = (await once(child, "message")) as [number];
  return {
    port: listening,
    kill: async () => {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
};

const onDisk: OpenStore = async () => embedded({ path: await mkdtemp(join(tmpdir(), "keyturn-functions-")) });

export interface Result {
  readonly verdicts: Readonly<Record<Verdict, number>>;
  /** The same sum, in cents: what payers were told, what cards have spent, what shops have taken. */
  readonly told: number;
  readonly spent: number;
  readonly taken: number;
  readonly posts: number;
  /** What a card that was blocked is told a second later. */
  readonly again: Verdict;
}

export async function main(
  open: OpenStore = onDisk,
  startDesk: StartDesk = inAnotherProcess,
): Promise<Result> {
  let desk = await startDesk();
  let posts = 0;
  const cards = cardsOf(`http://127.0.0.1:${desk.port}/`, () => posts++);
  const node = await startNode({ actors: [cards, shops], store: await open() });
  const [pays, sells] = [functions(node.client, cards), functions(node.client, shops)];

  // Of today: on a store that lasts, yesterday's have their own books.
  const today = Date.now().toString(36);
  const payments = paymentsOf(today);
  const verdicts: Record<Verdict, number> = { paid: 0, blocked: 0, declined: 0 };
  let told = 0;
  let stopped = "";
  const begin = performance.now();
  let next = 0;
  const payer = async (): Promise<void> => {
    for (let payment = payments[next++]; payment !== undefined; payment = payments[next++]) {
      const verdict = await pays.processEvent(payment, { timeout_ms: 60_000 });
      verdicts[verdict]++;
      if (verdict === "paid") told += payment.cents;
      if (verdict === "blocked") stopped = payment.key;
      if (next === PAYMENTS / 2) killed ??= kill();
    }
  };
  const kill = async (): Promise<void> => {
    console.log(`After ${verdicts.paid} payments the desk's process is killed.`);
    const { port } = desk;
    await desk.kill();
    await sleep(250);
    desk = await startDesk(port);
    console.log(
      "A quarter of a second later it is started again. What it had not answered is asked again.\n",
    );
  };
  let killed: Promise<void> | undefined;
  await Promise.all(Array.from({ length: OPEN }, payer));
  await killed;
  const seconds = (performance.now() - begin) / 1_000;

  await sleep(BLOCKED_MS);
  const again = await pays.processEvent({ key: stopped, shop: `${SHOPS[0]}:${today}`, cents: 250 });
  if (again === "paid") told += 250;

  console.log("shop          sales      euros");
  let taken = 0;
  for (const name of SHOPS) {
    const key = `${name}:${today}`;
    // The message of the last sale may still be on its way; the shop closes half a second after it.
    for await (const { context } of sells.actor(key).watch()) {
      const { closed: times = [] } = context as { closed?: readonly string[] };
      if (times.at(-1) === `${(context as { sales?: number }).sales} sales`) break;
    }
    const sum = await sells.getState(key, cents);
    taken += sum;
    console.log(
      `${name.padEnd(12)} ${String(await sells.getState(key, sales)).padStart(6)} ${euros(sum).padStart(10)}`,
    );
  }
  const keys = [...new Set(payments.map(({ key }) => key))];
  const all = await Promise.all(keys.map((key) => pays.getState(key, spent)));
  const spentByAll = all.reduce((total, one) => total + one, 0);

  console.log(
    `\n${PAYMENTS} payments of ${CARDS} cards in ${seconds.toFixed(1)} s, in ${posts} posts to the desk:`,
  );
  console.log(
    `${verdicts.paid} paid, ${verdicts.blocked} blocked a card, ${verdicts.declined} declined since it was.`,
  );
  console.log(`A second later ${stopped.split(":")[0]} pays again: ${again}.`);
  console.log(
    `Payers were told ${euros(told)}, cards have spent ${euros(spentByAll)}, shops have taken ${euros(taken)}.`,
  );
  await node.stop();
  await desk.kill();
  return { verdicts, told, spent: spentByAll, taken, posts, again };
}

/** The same payments in every run. */
function paymentsOf(today: string): ({ readonly key: string } & Payment)[] {
  let seed = 42;
  const below = (bound: number): number => {
    // A linear congruential generator. Source: Numerical Recipes.
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 0x1_0000_0000) * bound);
  };
  return Array.from({ length: PAYMENTS }, () => {
    const suspicious = below(150) === 0;
    return {
      key: `card ${below(CARDS)}:${today}`,
      shop: `${SHOPS[below(SHOPS.length)]}:${today}`,
      cents: suspicious ? SUSPICIOUS_CENTS + below(100_000) : 200 + below(6_000),
    };
  });
}

function euros(amount: number): string {
  return (amount / 100).toLocaleString("en", { minimumFractionDigits: 2 });
}
