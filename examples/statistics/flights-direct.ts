/** The flights counted directly: the file read by `hyparquet` alone, without actors or sources. */
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { flightsFile, LATE_MINUTES, type Route, type Tally } from "./flights.ts";

/** By key; routes by both codes, `ATL-ORD`. */
export interface FlightCounts {
  readonly airports: ReadonlyMap<string, Tally>;
  readonly routes: ReadonlyMap<string, Route>;
  readonly days: ReadonlyMap<string, Tally>;
  readonly hours: ReadonlyMap<string, Tally>;
}

interface Row {
  readonly date: Date;
  readonly delay: bigint;
  readonly distance: bigint;
  readonly origin: string;
  readonly destination: string;
}

const ROWS_AT_ONCE = 100_000;

/** The first `take` flights. */
export async function directFlights(take: number): Promise<FlightCounts> {
  const file = await asyncBufferFromFile(flightsFile());
  const metadata = await parquetMetadataAsync(file);
  const counts = { airports: new Map(), routes: new Map(), days: new Map(), hours: new Map() };
  for (let rowStart = 0; rowStart < take; rowStart += ROWS_AT_ONCE) {
    const rowEnd = Math.min(take, rowStart + ROWS_AT_ONCE);
    const rows = (await parquetReadObjects({ file, metadata, compressors, rowStart, rowEnd })) as unknown[];
    for (const row of rows as Row[]) add(counts, row);
  }
  return counts;
}

function add(
  counts: {
    airports: Map<string, Tally>;
    routes: Map<string, Route>;
    days: Map<string, Tally>;
    hours: Map<string, Tally>;
  },
  row: Row,
): void {
  const [delay, miles] = [Number(row.delay), Number(row.distance)];
  const late = delay < LATE_MINUTES ? 0 : 1;
  const two = (number: number): string => String(number).padStart(2, "0");
  const { date } = row;
  const name = `${date.getUTCFullYear()}-${two(date.getUTCMonth() + 1)}-${two(date.getUTCDate())}`;
  left(counts.airports, row.origin, late, delay, miles);
  left(counts.days, name, late, delay, miles);
  left(counts.hours, two(date.getUTCHours()), late, delay, miles);
  const there = counts.airports.get(row.destination) ?? none;
  counts.airports.set(row.destination, { ...there, arrivals: there.arrivals + 1 });
  const key = `${row.origin}-${row.destination}`;
  const [flights, lates, delays, all] = counts.routes.get(key) ?? [0, 0, 0, 0];
  counts.routes.set(key, [flights + 1, lates + late, delays + delay, all + miles]);
}

const none: Tally = { departures: 0, arrivals: 0, late: 0, delay: 0, miles: 0 };

function left(to: Map<string, Tally>, key: string, late: number, delay: number, miles: number): void {
  const before = to.get(key) ?? none;
  to.set(key, {
    departures: before.departures + 1,
    arrivals: before.arrivals,
    late: before.late + late,
    delay: before.delay + delay,
    miles: before.miles + miles,
  });
}

/** In what the two differ, for people; empty if they say the same. */
export function flightDifferences(actors: FlightCounts, direct: FlightCounts): string[] {
  const differences: string[] = [];
  for (const kind of ["airports", "routes", "days", "hours"] as const) {
    const [mine, theirs]: readonly ReadonlyMap<string, object>[] = [actors[kind], direct[kind]];
    for (const key of new Set([...(mine?.keys() ?? []), ...(theirs?.keys() ?? [])])) {
      const [is, should] = [mine?.get(key) ?? {}, theirs?.get(key) ?? {}] as Record<string, number>[];
      for (const name of Object.keys({ ...is, ...should }))
        if (is?.[name] !== should?.[name])
          differences.push(
            `${kind} ${key}, ${name}: the actors say ${is?.[name]}, the file ${should?.[name]}`,
          );
    }
  }
  return differences;
}
