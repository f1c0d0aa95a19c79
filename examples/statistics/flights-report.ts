/** Counts the flights, and says what they come to: as data, and as tables for people. */
import type { Client } from "keyturn";
import { runSource, type Source, sourceStatus } from "keyturn/streams";
import type { Progress } from "../program.ts";
import { airport, day, dayHour, type Flight, type Route, routes, type Tally } from "./flights.ts";
import { directFlights, type FlightCounts, flightDifferences } from "./flights-direct.ts";
import { bar, count, percent, share, tableOf } from "./text.ts";
import { checkText } from "./web-report.ts";

export interface FlightReport {
  readonly flights: number;
  readonly malformed: number;
  /** By code. */
  readonly airports: readonly ({ readonly airport: string } & Tally)[];
  /** Those with most flights, most first. */
  readonly routes: readonly {
    readonly route: string;
    readonly flights: number;
    readonly late: number;
    readonly delay: number;
    readonly miles: number;
  }[];
  readonly routeCount: number;
  /** In their order. */
  readonly days: readonly ({ readonly day: string } & Tally)[];
  readonly hours: readonly ({ readonly hour: string } & Tally)[];
  /** Flights counted now and before, how long now took, and the direct count. */
  readonly work: {
    readonly now: number;
    readonly before: number;
    readonly seconds: number;
    readonly directSeconds: number;
  };
  /** From a direct count of the file: none, if all is right. */
  readonly differences: readonly string[];
}

const ROUTES = 10;
const AIRPORTS = 8;
/** A mean over fewer says little. */
const SHARE_MIN = 0.002;

/** Counts what is not counted yet; undefined if it was stopped before. */
export async function countFlights(
  client: Client,
  source: Source<Flight>,
  { signal, progress }: { readonly signal: AbortSignal; readonly progress: Progress },
): Promise<FlightReport | undefined> {
  const before = await sourceStatus(client, source);
  const begun = performance.now();
  const run = runSource(client, source, { signal });
  let started = false;
  try {
    for await (const { items, total = 0 } of run.progress({ every_ms: 50 })) {
      if (!started && total > 0) progress.start(total, before.items, "flights");
      started ||= total > 0;
      if (started) progress.update(items);
    }
  } finally {
    if (started) progress.stop();
  }
  const { items, malformed } = await run.done;
  if (signal.aborted) return undefined;
  const seconds = (performance.now() - begun) / 1_000;
  const counts = await countsOf(client);
  const checked = performance.now();
  const differences = flightDifferences(counts, await directFlights(items));
  return {
    flights: items,
    malformed,
    airports: rowsOf("airport", counts.airports),
    routes: [...counts.routes]
      .map(([route, [flights, late, delay, miles]]) => ({ route, flights, late, delay, miles }))
      .sort((a, b) => b.flights - a.flights || (a.route < b.route ? -1 : 1))
      .slice(0, ROUTES),
    routeCount: counts.routes.size,
    days: rowsOf("day", counts.days),
    hours: rowsOf("hour", counts.hours),
    work: {
      now: items - before.items,
      before: before.items,
      seconds,
      directSeconds: (performance.now() - checked) / 1_000,
    },
    differences,
  };
}

function rowsOf<N extends string>(name: N, tallies: ReadonlyMap<string, Tally>) {
  return [...tallies]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, tally]) => ({ [name]: key, ...tally }) as { readonly [K in N]: string } & Tally);
}

async function countsOf(client: Client): Promise<FlightCounts> {
  const tallies = async (of: typeof airport | typeof day | typeof dayHour): Promise<Map<string, Tally>> => {
    const all = new Map<string, Tally>();
    for await (const { key, fields } of client.find(of)) all.set(key, fields as unknown as Tally);
    return all;
  };
  const byRoute = new Map<string, Route>();
  for await (const { key } of client.find(routes)) {
    const { context } = await client.actor(routes, key).get();
    for (const [to, route] of Object.entries(context)) byRoute.set(`${key}-${to}`, route);
  }
  return {
    airports: await tallies(airport),
    routes: byRoute,
    days: await tallies(day),
    hours: await tallies(dayHour),
  };
}

export function flightsText(report: FlightReport): string {
  const { airports, days, hours, work } = report;
  const enough = airports.filter(({ departures }) => departures >= SHARE_MIN * report.flights);
  const worst = enough.sort((a, b) => meanOf(b) - meanOf(a)).slice(0, AIRPORTS);
  const mostLate = Math.max(1e-9, ...hours.map(lateOf));
  return [
    `${count(report.flights)} flights between ${days[0]?.day} and ${days.at(-1)?.day}, ${airports.length} airports, ${count(report.routeCount)} routes.`,
    `The airports with the longest delays, of those with ${percent(SHARE_MIN)} of the flights and more:`,
    tableOf(
      ["airport", "departures", "arrivals", "late", "mean delay", ""],
      worst.map((row) => [
        row.airport,
        count(row.departures),
        count(row.arrivals),
        percent(lateOf(row)),
        minutes(meanOf(row)),
        bar(meanOf(row) / Math.max(1e-9, meanOf(worst[0] as Tally))),
      ]),
    ),
    "The routes with most flights:",
    tableOf(
      ["route", "flights", "late", "mean delay", "miles"],
      report.routes.map(({ route, flights, late, delay, miles }) => [
        route,
        count(flights),
        percent(share(late, flights)),
        minutes(share(delay, flights)),
        count(Math.round(share(miles, flights))),
      ]),
    ),
    "Who flies late in the day, flies late:",
    tableOf(
      ["hour", "departures", "late", "mean delay", ""],
      hours.map((row) => [
        row.hour,
        count(row.departures),
        percent(lateOf(row)),
        minutes(meanOf(row)),
        bar(lateOf(row) / mostLate),
      ]),
    ),
    daysText(report),
    work.now === 0
      ? `All ${count(work.before)} flights had been counted before.`
      : `${count(work.now)} flights in ${work.seconds.toFixed(1)} s, ${count(Math.round(work.now / work.seconds))} a second; ${count(work.before)} had been counted before.`,
    checkText(report.differences),
  ].join("\n");
}

function daysText({ days }: FlightReport): string {
  const usual = share(
    days.reduce((sum, { departures }) => sum + departures, 0),
    2 * days.length,
  );
  const whole = days.filter(({ departures }) => departures >= usual);
  const worst = whole.sort((a, b) => lateOf(b) - lateOf(a));
  return [
    "The worst days, and the best:",
    tableOf(
      ["day", "departures", "late", "mean delay"],
      [...worst.slice(0, 4), ...worst.slice(4).slice(-2)].map((row) => [
        row.day,
        count(row.departures),
        percent(lateOf(row)),
        minutes(meanOf(row)),
      ]),
    ),
  ].join("\n");
}

function meanOf({ delay, departures }: Tally): number {
  return share(delay, departures);
}

function lateOf({ late, departures }: Tally): number {
  return share(late, departures);
}

function minutes(number: number): string {
  return `${number.toFixed(1)} min`;
}
