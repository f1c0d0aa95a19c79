/**
 * The real world: the clock and the randomness of this process.
 *
 * The only file of the runtime that reads them (but for stores and edges). Everything else is handed a `World`, so
 * that a whole cluster can run under a seed, in virtual time.
 */
import { randomBytes } from "node:crypto";
import type { Clock, Random, World } from "./ports/index.ts";

const LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz";

export const realClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delay_ms, callback) {
    const timer = setTimeout(callback, delay_ms);
    return () => clearTimeout(timer);
  },
  defer(callback) {
    setImmediate(callback);
  },
};

export const realRandom: Random = {
  next: () => Math.random(),
  id() {
    let id = "";
    for (const byte of randomBytes(10)) id += LETTERS[byte % LETTERS.length];
    return id;
  },
};

export const realWorld: World = { clock: realClock, random: realRandom };
