/**
 * Flights in the air and on the ground: what each airport, each route, each day and each hour of the day has seen.
 *
 * Three million flights are six million facts, so what goes to one actor is put together: of some thousand flights in a
 * row, each airport is told once, with sums.
 *
 * An airport's actor for routes has a property for each destination. What a turn writes are the properties that it
 * changes, so a hub with two hundred destinations writes those that planes have left for.
 */
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import { defineActor } from "keyturn";
import { defineSource, parquet, type Source, type SourceReader, type Told, toldTo } from "keyturn/streams";
import { assign, setup } from "xstate";

/** A row of the data set, as far as it is used. */
export interface Flight {
  readonly date: Date;
  readonly origin: string;
  readonly destination: string;
  /** Minutes; below 0 for a flight ahead of its time. */
  readonly delay: number;
  /** Miles. */
  readonly distance: number;
}

/** Sums over flights. */
export interface Tally {
  readonly departures: number;
  readonly arrivals: number;
  /** Departures by 15 minutes and more behind their time, as the US Bureau of Transportation Statistics counts. */
  readonly late: number;
  /** Of the departures, in minutes; and miles. */
  readonly delay: number;
  readonly miles: number;
}

/** Departures, late ones, minutes of delay, miles. */
export type Route = readonly [departures: number, late: number, delay: number, miles: number];

export const LATE_MINUTES = 15;
/** Flights in one batch; each is a turn of the source. */
const BATCH = 8_192;

const nothing: Tally = { departures: 0, arrivals: 0, late: 0, delay: 0, miles: 0 };

function tallyOf<T extends string>(type: T) {
  return defineActor({
    type,
    machine: setup({
      types: { context: {} as Tally, events: {} as { type: "flown" } & Tally },
      actions: {
        add: assign(({ context, event }) => ({
          departures: context.departures + event.departures,
          arrivals: context.arrivals + event.arrivals,
          late: context.late + event.late,
          delay: context.delay + event.delay,
          miles: context.miles + event.miles,
        })),
      },
    }).createMachine({ id: type, context: nothing, on: { flown: { actions: "add" } } }),
    index: ["departures", "arrivals", "late", "delay", "miles"],
  });
}

/** By the airport's code. */
export const airport = tallyOf("airport");
/** By day, `2001-01-31`. */
export const day = tallyOf("day");
/** By hour of the day, `07`. */
export const dayHour = tallyOf("dayHour");

/** The routes from an airport, by the code of the other. */
export const routes = defineActor({
  type: "routes",
  machine: setup({
    types: {
      context: {} as Readonly<Record<string, Route>>,
      events: {} as { type: "flown"; to: Readonly<Record<string, Route>> },
    },
    actions: {
      add: assign(({ context, event }) =>
        Object.fromEntries(
          Object.entries(event.to).map(([code, route]) => [code, sumOf(context[code], route)] as const),
        ),
      ),
    },
  }).createMachine({ id: "routes", context: {}, on: { flown: { actions: "add" } } }),
});

export const flightActors = [airport, day, dayHour, routes] as const;

function sumOf(a: Route | undefined, b: Route): Route {
  return a === undefined ? b : [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]];
}

/** The file, from the npm package `vega-datasets`. */
export function flightsFile(): string {
  const entry = createRequire(import.meta.url).resolve("vega-datasets");
  return fileURLToPath(new URL("../data/flights-3m.parquet", pathToFileURL(entry)));
}

/** The first `take` flights, in the order of their times; all by default. */
export function flightSource(take = Number.POSITIVE_INFINITY): Source<Flight> {
  const from = parquet<Flight>({ path: flightsFile() });
  return defineSource("flights", { from: firstOf(from, take), toBatch: together, batch: BATCH });
}

/** A reader that ends earlier. Where it has ended it goes on, if more is asked for later. */
function firstOf<T>(reader: SourceReader<T>, take: number): SourceReader<T> {
  return {
    ...reader,
    async *read(partition, position, options) {
      for await (const { items, ...rest } of reader.read(partition, position, options)) {
        const some = items.filter(({ number }) => number <= take);
        if (some.length > 0) yield { ...rest, items: some };
        if (some.length < items.length) return;
      }
    },
    extent: async (partition, position) => {
      const { done, total } = await reader.extent(partition, position);
      return { done, total: Math.max(done, Math.min(total, take)) };
    },
  };
}

type Sums = { -readonly [K in keyof Tally]: number };

/** What some flights in a row mean to each actor. */
function together(flights: readonly Flight[]): Told[] {
  const [airports, days, hours] = [new Groups(), new Groups(), new Groups()];
  const from = new Map<string, Record<string, [number, number, number, number]>>();
  for (const { date, origin, destination, delay, distance } of flights) {
    const time = date.toISOString();
    const late = delay >= LATE_MINUTES ? 1 : 0;
    for (const sums of [airports.of(origin), days.of(time.slice(0, 10)), hours.of(time.slice(11, 13))]) {
      sums.departures++;
      sums.late += late;
      sums.delay += delay;
      sums.miles += distance;
    }
    airports.of(destination).arrivals++;
    let to = from.get(origin);
    if (to === undefined) from.set(origin, (to = {}));
    const route = (to[destination] ??= [0, 0, 0, 0]);
    route[0]++;
    route[1] += late;
    route[2] += delay;
    route[3] += distance;
  }
  return [
    ...airports.told((key, sums) => toldTo(airport, key, { type: "flown", ...sums })),
    ...days.told((key, sums) => toldTo(day, key, { type: "flown", ...sums })),
    ...hours.told((key, sums) => toldTo(dayHour, key, { type: "flown", ...sums })),
    ...[...from].map(([key, to]) => toldTo(routes, key, { type: "flown", to })),
  ];
}

class Groups {
  readonly #groups = new Map<string, Sums>();

  of(key: string): Sums {
    let sums = this.#groups.get(key);
    if (sums === undefined) this.#groups.set(key, (sums = { ...nothing }));
    return sums;
  }

  told(to: (key: string, sums: Tally) => Told): Told[] {
    return [...this.#groups].map(([key, sums]) => to(key, sums));
  }
}
