/** Brings baskets into the shop, many at once, and reads what its items know. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, isKeyturnError } from "keyturn";
import type { Shelf } from "./advice.ts";
import type { Basket } from "./baskets.ts";
import { basket, item } from "./shop.ts";

const AT_ONCE = 64;
const TRIES = 5;
const PAUSE_MS = 50;

/**
 * Has the baskets bought, until all their items know of them.
 * @param onProgress called with how many are
 * @param signal ends it early
 */
export async function sell(
  client: Client,
  baskets: readonly Basket[],
  onProgress: (done: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const waiting = baskets.values();
  let done = 0;
  const till = async (): Promise<void> => {
    for (const next of waiting) {
      if (signal.aborted) return;
      await buy(client, next);
      onProgress(++done);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, till));
}

/** A basket that was bought before is not bought again, so this may be repeated at will. */
async function buy(client: Client, { name, items }: Basket): Promise<void> {
  const bought = client.actor(basket, name);
  for await (const { value } of bought.watch()) {
    if (value === "counted") return;
    if (value === "open") await untilAnswered(() => bought.send({ type: "buy", items }));
  }
}

/** Again after a failure that a repetition may cure: a basket knows that it was bought. */
async function untilAnswered(call: () => Promise<unknown>): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await call();
      return;
    } catch (error) {
      if (!isKeyturnError(error) || !error.retryable || tries === TRIES) throw error;
      await sleep(PAUSE_MS * 2 ** tries);
    }
  }
}

/** What these items know; those that were never bought are left out. Looking changes nothing. */
export async function shelfOf(client: Client, names: Iterable<string>): Promise<Shelf> {
  const states = await Promise.all(
    [...new Set(names)].map(async (name) => [name, (await client.actor(item, name).get()).context] as const),
  );
  return new Map(states.filter(([, { baskets }]) => baskets > 0));
}
