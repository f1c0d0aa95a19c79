/**
 * The shop's visitors: clients that walk through it over HTTP, on connections that are kept open.
 *
 * Owns the clock of the recording. Two days pass as fast as the requests are answered: whoever is next asks, and the clock
 * is what it is for them. Everything is drawn from a seed, so the log is the same each time, but for the order of lines
 * within one second.
 */
import { rename } from "node:fs/promises";
import { Agent, request } from "node:http";
import { connect } from "node:net";
import { PRODUCTS, startShop, totalOf } from "./shop.ts";

export interface TrafficOptions {
  /** People who come, each once or several times. */
  readonly visitors: number;
  readonly signal: AbortSignal;
  /** Called with how many of the visitors' days are over. */
  readonly onProgress?: (done: number) => void;
}

const BEGIN = Date.UTC(2026, 10, 26);
const DAYS = 2;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const CONNECTIONS = 8;
/** How many of a hundred come in each hour of a day. */
const BY_HOUR = [1, 1, 0, 0, 0, 1, 2, 4, 5, 6, 6, 5, 6, 5, 4, 4, 4, 5, 6, 8, 10, 9, 5, 3];
const AGENTS = [
  "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
  "Mozilla/5.0 (Macintosh; Intel Mac OS X 15_6) AppleWebKit/605.1.15 Version/26.0 Safari/605.1.15",
  "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36",
];
const ROBOT = "ExampleBot/2.1 (+https://example.com/bot)";

/** A request, or a pause before the next one, milliseconds. */
type Step = number | { readonly method?: "POST"; readonly path: string };

interface Walker {
  readonly host: string;
  readonly agent: string;
  readonly steps: Iterator<Step>;
}

/**
 * Records a log of two days into a file that is there, whole, when it resolves true; false if it was stopped.
 * @param seed of everything that is drawn
 */
export async function recordTraffic(file: string, seed: number, options: TrafficOptions): Promise<boolean> {
  const { visitors, signal, onProgress } = options;
  const random = drawn(seed);
  let now = BEGIN;
  const shop = await startShop(`${file}.part`, () => now);
  const connections = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const walkers = new Queue(walkersOf(visitors, random));
  const cuts = [0.2, 0.5, 0.8].map((share) => Math.floor(share * visitors));
  let done = 0;
  const walk = async (walker: Walker, at: number): Promise<void> => {
    const { value, done: over } = walker.steps.next();
    if (over === true) {
      done++;
      onProgress?.(done);
      if (cuts.includes(done)) shop.cutLine();
      return;
    }
    if (typeof value === "number") walkers.add(at + value, walker);
    else {
      await ask(shop.port, connections, walker, value);
      walkers.add(at, walker);
    }
  };
  try {
    for (let due = walkers.next(); due.length > 0 && !signal.aborted; due = walkers.next()) {
      now = due[0]?.at ?? now;
      await Promise.all(due.map(({ walker, at }) => walk(walker, at)));
    }
    if (!signal.aborted) await garble(shop.port);
  } finally {
    connections.destroy();
    await shop.close();
  }
  if (signal.aborted) return false;
  await rename(`${file}.part`, file);
  return true;
}

function ask(port: number, agent: Agent, walker: Walker, step: Exclude<Step, number>): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { "x-forwarded-for": walker.host, "user-agent": walker.agent };
    const { method = "GET", path } = step;
    request({ host: "127.0.0.1", port, path, method, headers, agent }, (response) => {
      response.resume().once("end", resolve).once("error", reject);
    })
      .once("error", reject)
      .end();
  });
}

/** Somebody who speaks another protocol to the shop. */
function garble(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write('\x16\x03\x01 "hello"\r\n\r\n'));
    socket
      .resume()
      .once("close", () => resolve())
      .once("error", reject);
  });
}

function walkersOf(visitors: number, random: () => number): { at: number; walker: Walker }[] {
  return Array.from({ length: visitors }, (_, number) => {
    const isRobot = number % 40 === 39;
    const host = `10.${1 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
    const agent = isRobot ? ROBOT : (AGENTS[number % AGENTS.length] as string);
    // Each draws from a sequence of its own, so who is answered first changes nothing.
    const own = drawn(Math.floor(random() * 2 ** 31));
    const steps = isRobot ? crawl(own) : visit(own);
    return { at: BEGIN + arrival(random), walker: { host, agent, steps } };
  });
}

function arrival(random: () => number): number {
  let place = random() * BY_HOUR.reduce((sum, share) => sum + share, 0);
  const hour = BY_HOUR.findIndex((share) => (place -= share) < 0);
  return Math.floor(random() * DAYS) * 24 * HOUR + Math.max(0, hour) * HOUR + Math.floor(random() * HOUR);
}

/** One to three sessions of a person. */
function* visit(random: () => number): Generator<Step> {
  const cart: number[] = [];
  for (let session = 0; session === 0 || (session < 3 && random() < 0.35); session++) {
    if (session > 0) yield Math.floor((0.6 + 9 * random()) * HOUR);
    yield { path: "/" };
    for (const file of ["/static/shop.css", "/static/shop.js", "/static/logo.png"]) yield { path: file };
    while (random() < 0.8) {
      yield thought(random);
      if (random() < 0.2) yield { path: `/search?q=${random() < 0.5 ? "lamp" : "chair"}` };
      else if (random() < 0.03) yield { path: `/old/offer-${Math.floor(random() * 5)}` };
      // Some products are more popular than others.
      const product = 1 + Math.floor(random() ** 2 * PRODUCTS);
      yield { path: `/products/${product}` };
      if (random() < 0.22) {
        yield thought(random);
        cart.push(product);
        yield { method: "POST", path: `/cart?product=${product}` };
      }
    }
    if (cart.length === 0 || random() < 0.45) continue;
    yield { path: "/cart" };
    yield thought(random);
    yield { method: "POST", path: `/orders?total=${totalOf(cart)}` };
    cart.length = 0;
  }
}

/** A robot takes every page, and some that are long gone. */
function* crawl(random: () => number): Generator<Step> {
  yield { path: "/robots.txt" };
  for (let product = 1; product <= PRODUCTS + 3; product++) {
    yield 1_000 + Math.floor(random() * 4_000);
    yield { path: `/products/${product}` };
  }
}

/** Some make themselves a coffee. */
function thought(random: () => number): number {
  return random() < 0.04 ? Math.floor((10 + 40 * random()) * MINUTE) : 3_000 + Math.floor(random() * 90_000);
}

/** Who is next: everybody within one second. */
class Queue {
  readonly #waiting: { at: number; walker: Walker }[];

  constructor(waiting: { at: number; walker: Walker }[]) {
    this.#waiting = waiting.sort((a, b) => b.at - a.at);
  }

  add(at: number, walker: Walker): void {
    let [low, high] = [0, this.#waiting.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#waiting[middle]?.at ?? 0) > at) low = middle + 1;
      else high = middle;
    }
    this.#waiting.splice(low, 0, { at, walker });
  }

  next(): { at: number; walker: Walker }[] {
    const due: { at: number; walker: Walker }[] = [];
    const second = Math.floor((this.#waiting.at(-1)?.at ?? 0) / 1_000);
    while (this.#waiting.length > 0 && Math.floor((this.#waiting.at(-1)?.at ?? 0) / 1_000) === second)
      due.push(this.#waiting.pop() as { at: number; walker: Walker });
    return due;
  }
}

/** Numbers from 0 to below 1, by a seed (mulberry32). */
function drawn(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
