/** What the main job found out: as data, and as a table for people. */
import type { ActorState, Client } from "keyturn";
import { airport, meanDelayMinutes } from "keyturn/actors";
import Table from "cli-table3";

export interface AirportRow {
  /** IATA code. */
  readonly airport: string;
  readonly state: string;
  readonly departures: number;
  readonly arrivals: number;
  /** Of the departures, rounded to two decimals; 0 without any. */
  readonly meanDelayMinutes: number;
}

export interface Report {
  /** `applied` and `alreadyApplied` together. */
  readonly flights: number;
  /** Flights of which this run applied at least one message. */
  readonly applied: number;
  /** Flights of which both messages had been applied before this run. */
  readonly alreadyApplied: number;
  /** Flights per second, two messages each. */
  readonly perSecond: number;
  /** Sorted by airport. */
  readonly airports: readonly AirportRow[];
}

/** The airport's actor as a row. */
export function rowOf(name: string, state: ActorState<typeof airport.machine>): AirportRow {
  const { departures, arrivals } = state.context;
  return {
    airport: name,
    state: String(state.value),
    departures,
    arrivals,
    meanDelayMinutes: meanDelayMinutes(state.context),
  };
}

/** The states of all these airports, in the same order. */
export function statesOf(
  client: Client,
  airports: readonly string[],
): Promise<ActorState<typeof airport.machine>[]> {
  return Promise.all(airports.map((name) => client.actor(airport, name).get()));
}

const SHOWN = 10;
/** An airport with fewer departures says little by its mean. */
const DEPARTURES_MIN = 100;

/** The most delayed airports, worst first. */
export function tableOf(airports: readonly AirportRow[]): string {
  const worst = airports
    .filter(({ departures }) => departures >= DEPARTURES_MIN)
    .sort((a, b) => b.meanDelayMinutes - a.meanDelayMinutes)
    .slice(0, SHOWN);
  const table = new Table({
    head: ["airport", "state", "departures", "arrivals", "mean delay"],
    colAligns: ["left", "left", "right", "right", "right"],
    // No colours: what is shown may be a file.
    style: { head: [], border: [], compact: true },
  });
  for (const row of worst) {
    const { airport: name, state, departures, arrivals, meanDelayMinutes: mean } = row;
    table.push([name, state, departures, arrivals, `${mean.toFixed(2)} min`]);
  }
  const states = ["quiet", "busy", "disrupted"].map(
    (state) => `${airports.filter((row) => row.state === state).length} ${state}`,
  );
  return [
    `The most delayed of the airports with at least ${DEPARTURES_MIN} departures:`,
    table.toString(),
    `All ${airports.length} airports: ${states.join(", ")}.`,
  ].join("\n");
}
