/**
 * Trips, each of a flight, a hotel and a purse that know nothing of each other, are booked as a whole or not at all,
 * while a node dies.
 *
 * There are fewer beds than seats and some travellers cannot pay, so many trips have to undo what they had done; and
 * some are cancelled while the hotel's office is closed, so they must wait with that. In the end every seat, bed and
 * cent belongs to a booked trip or is free.
 */
import { randomUUID } from "node:crypto";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, embedded, isKeyturnError, startNode } from "keyturn";
import type { OpenStore } from "../run.ts";
import { flight, hotel, purse } from "./suppliers.ts";
import { trip } from "./trip.ts";

const TRIPS = 60;
const SEATS = 90;
const BEDS = 70;
const PRICE = 40_000;
/** A node that dies is missed soon: far shorter than is wise where networks are between nodes. */
const settings = { lease_ms: 300, heartbeat_ms: 100 };

export interface Totals {
  readonly booked: number;
  readonly undone: number;
  /** What is left of seats, beds and cents, and what booked trips have of them. They add up to what there was. */
  readonly seats: readonly [left: number, taken: number];
  readonly beds: readonly [left: number, taken: number];
  readonly cents: readonly [left: number, taken: number];
  /** What was there for the trips. */
  readonly had: { readonly seats: number; readonly beds: number; readonly cents: number };
  /** What the booked trips must have between them. */
  readonly owed: { readonly places: number; readonly cents: number };
}

const onDisk: OpenStore = async () => embedded({ path: await mkdtemp(join(tmpdir(), "keyturn-saga-")) });

/** Sixty trips of one to three people, every fifth with too little money. */
export async function main(open: OpenStore = onDisk): Promise<Totals> {
  const store = await open();
  const actors = [flight, hotel, purse, trip];
  const east = await startNode({ actors, store, settings, name: "east" });
  const west = await startNode({ actors, store, settings, name: "west" });
  const { client } = west;
  // Of today: on a store that lasts, yesterday's are full.
  const today = Date.now().toString(36);
  const plane = client.actor(flight, `KT100:${today}`);
  const inn = client.actor(hotel, `Seaview:${today}`);
  await plane.send({ type: "add", amount: SEATS });
  await inn.send({ type: "add", amount: BEDS });

  const trips = Array.from({ length: TRIPS }, (_, n) => {
    const people = 1 + (n % 3);
    const cents = people * PRICE;
    const plan = { flight: plane.key, hotel: inn.key, purse: `p${n}:${today}`, people, cents };
    return { key: `t${n}:${today}`, plan, has: n % 5 === 4 ? cents - 1 : cents };
  });
  await Promise.all(
    trips.map(({ plan, has }) => client.actor(purse, plan.purse).send({ type: "add", amount: has })),
  );
  const begun = trips.map(({ key, plan }) =>
    surely((requestId) => client.actor(trip, key).send({ type: "book", plan }, { requestId })),
  );
  await begun[TRIPS / 3];
  const there = trips.filter(({ key }) => east.shards.includes(client.actor(trip, key).shard)).length;
  console.log(`The node that has ${there} of ${TRIPS} trips dies, in the middle of them.`);
  // As `kill -9` does it: its memory is gone, and with it every message that was on its way.
  east.kill();
  await Promise.all(begun);
  const first: string[] = [];
  for (const { key } of trips) if ((await endOf(client, key)).value === "booked") first.push(key);

  await surely((requestId) => inn.send({ type: "close" }, { requestId }));
  console.log(
    "The hotel's office closes. Three travellers do not want to go any more: what the hotel has, must wait.",
  );
  for (const key of first.slice(0, 3))
    await surely((requestId) => client.actor(trip, key).send({ type: "cancel" }, { requestId }));
  await sleep(500);
  await surely((requestId) => inn.send({ type: "open" }, { requestId }));
  console.log("It opens again.\n");

  const shown = new Set<string>();
  let booked = 0;
  const owed = { places: 0, cents: 0 };
  for (const { key, plan } of trips) {
    const { value, steps, waits } = await endOf(client, key);
    if (value === "booked") {
      booked++;
      owed.places += plan.people;
      owed.cents += plan.cents;
    }
    // One of each kind is enough to look at.
    const line = `${steps.join(", ")}${waits > 0 ? " (after waiting)" : ""}: ${value}`;
    if (!shown.has(line)) console.log(line);
    shown.add(line);
  }
  const purses = await Promise.all(trips.map(({ plan }) => booksOf(client.actor(purse, plan.purse))));
  const totals: Totals = {
    booked,
    undone: TRIPS - booked,
    seats: await booksOf(plane),
    beds: await booksOf(inn),
    cents: [sum(purses.map(([left]) => left)), sum(purses.map(([, taken]) => taken))],
    had: { seats: SEATS, beds: BEDS, cents: sum(trips.map(({ has }) => has)) },
    owed,
  };
  const { seats, beds, cents } = totals;
  console.log(`\n${booked} trips of ${owed.places} people are booked, ${totals.undone} are undone.`);
  console.log(`${seats[1]} seats are taken and ${seats[0]} free; there are ${SEATS}.`);
  console.log(`${beds[1]} beds are taken and ${beds[0]} free; there are ${BEDS}.`);
  console.log(`${cents[1]} cents are paid and ${cents[0]} not; there were ${totals.had.cents}.`);
  await west.stop();
  return totals;
}

interface Shelf {
  get(): Promise<{ context: { left: number; taken: Readonly<Record<string, number>> } }>;
}

async function booksOf(ref: Shelf): Promise<[left: number, taken: number]> {
  const { left, taken } = (await ref.get()).context;
  return [left, sum(Object.values(taken))];
}

/** Waits until a trip is booked or undone. */
async function endOf(
  client: Client,
  key: string,
): Promise<{ value: string; steps: readonly string[]; waits: number }> {
  for await (const { value, context, tags } of client.actor(trip, key).watch()) {
    if (tags?.includes("over")) return { value: String(value), ...context };
  }
  throw new Error("A watch ends only when it is told to.");
}

/** Asks until there is an answer. One request id for all tries makes them one request, so it is applied once. */
async function surely<T>(ask: (requestId: string) => Promise<T>): Promise<T> {
  const requestId = randomUUID();
  while (true) {
    try {
      return await ask(requestId);
    } catch (error) {
      if (!isKeyturnError(error) || !error.retryable) throw error;
    }
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
