/**
 * What is kept of cards and shops, and the functions that change it.
 *
 * Whether a card may pay is decided elsewhere, by a function in a process of its own (desk.ts). What it decides is kept
 * here: exactly once for each payment, whatever becomes of that process.
 */
import { defineFunction, defineFunctions, defineRemoteFunction, defineState } from "keyturn/functions";

/** How long a card is blocked, milliseconds. */
export const BLOCKED_MS = 1_000;

export const spent = defineState("spent", 0);
/** Goes back to false by itself. */
export const blocked = defineState("blocked", false, { expire: BLOCKED_MS });

export interface Payment {
  readonly shop: string;
  readonly cents: number;
}

export type Verdict = "paid" | "blocked" | "declined";

/** @param onPost is called for each post to the desk */
export function cardsOf(desk: string, onPost: () => void) {
  const pay = defineRemoteFunction("pay", {
    url: desk,
    states: { spent, blocked },
    types: {} as { event: Payment; result: Verdict },
    batch: { atMost: 50, wait_ms: 5 },
    retry: { attempts: 1_000, first_ms: 20, factor: 1.5, last_ms: 200 },
    headers: () => {
      onPost();
      return {};
    },
  });
  return defineFunctions("cards", [pay], { idleAfter: "30 days" });
}

export const sales = defineState("sales", 0);
export const cents = defineState("cents", 0);
export const closed = defineState("closed", [] as readonly string[]);

const sold = defineFunction(
  "sold",
  { sales, cents },
  (event: { cents: number }, state, { key, sendAfter }) => {
    // However many sales there are, the shop closes once: the last of the same id counts.
    sendAfter("500 ms", "close", key, {}, { id: "close" });
    return { state: { sales: state.sales + 1, cents: state.cents + event.cents } };
  },
);

const close = defineFunction("close", { sales, cents, closed }, (_event: object, state, { emit }) => {
  emit({ type: "closed", cents: state.cents });
  return { state: { closed: [...state.closed, `${state.sales} sales`] } };
});

export const shops = defineFunctions("shops", [sold, close]);
