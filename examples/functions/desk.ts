/**
 * The desk that decides whether a card may pay: a server of its own, that knows nothing but what it is sent.
 *
 * It can be killed at any moment. What it had not answered is asked again.
 */
import { createServer, type Server } from "node:http";
import { type HandlerOf, serveFunctions } from "keyturn/functions";
import type { cardsOf } from "./functions.ts";

type Pay = ReturnType<typeof cardsOf>["functions"][number];

/** Nobody buys bread for so much. */
export const SUSPICIOUS_CENTS = 50_000;

const pay: HandlerOf<Pay> = ({ shop, cents }, { spent, blocked }, { key, tell, emit }) => {
  if (blocked) return { result: "declined" };
  if (cents >= SUSPICIOUS_CENTS) {
    emit({ type: "suspicious", card: key, cents });
    return { state: { blocked: true }, result: "blocked" };
  }
  tell(`shops/${shop}`, { type: "sold", cents });
  return { state: { spent: spent + cents }, result: "paid" };
};

export function deskServer(): Server {
  return createServer(serveFunctions({ pay }));
}
