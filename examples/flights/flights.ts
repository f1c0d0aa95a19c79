/**
 * The source: 20,000 real flights of 2001, from the npm package `vega-datasets`, and the messages that they are.
 *
 * Flight n is the messages 2n (it departed) and 2n + 1 (it arrived). That position, and for each airport the one
 * before, is all that is needed to apply every message once; see actors/airport.ts.
 */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import type { AirportEvent } from "keyturn/actors";

/** A row of the data set, as far as it is used here. */
export interface Flight {
  /** IATA codes. */
  readonly origin: string;
  readonly destination: string;
  /** Whole minutes; below 0 for a flight ahead of its time. */
  readonly delay: number;
}

export interface Message {
  readonly airport: string;
  readonly event: AirportEvent;
}

/** The flights, in the order of the data set, which is that of their times. */
export async function readFlights(): Promise<readonly Flight[]> {
  const entry = createRequire(import.meta.url).resolve("vega-datasets");
  const file = new URL("../data/flights-20k.json", pathToFileURL(entry));
  return JSON.parse(await readFile(file, "utf8")) as Flight[];
}

/** The messages of all flights, in order. */
export function* messagesOf(flights: readonly Flight[]): Generator<Message> {
  const last = new Map<string, number>();
  const place = (airport: string, position: number): { position: number; after: number } => {
    const after = last.get(airport) ?? -1;
    last.set(airport, position);
    return { position, after };
  };
  for (const [number, { origin, destination, delay }] of flights.entries()) {
    yield { airport: origin, event: { type: "departed", delay, ...place(origin, 2 * number) } };
    yield { airport: destination, event: { type: "arrived", ...place(destination, 2 * number + 1) } };
  }
}

/** Every airport that a flight touches, sorted. */
export function airportsOf(flights: readonly Flight[]): string[] {
  return [...new Set(flights.flatMap(({ origin, destination }) => [origin, destination]))].sort();
}
