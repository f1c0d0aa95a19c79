/**
 * Rows as bytes: column by column, since that is read several times as fast as row by row.
 *
 * Owns the form. Talks to the codec; index-format.ts puts blocks into what is stored. Golden files hold it (test/golden).
 *
 * Positions and times are stored as what they are above the block's least. Values of states come from a list of the
 * block's own, so rows that stand in one state share it in memory too.
 */
import { decode, encode } from "../../words/codec.ts";
import { pathOf } from "../population.ts";
import { OMITTED, type Row } from "./row.ts";

/** Some rows, and keys of actors that are gone. */
export interface Block {
  readonly rows: readonly Row[];
  readonly gone: readonly string[];
}

type PackedTimers = [row: number, timers: [id: string, child: string | null, due: number, event: string][]];

type Packed = [
  keys: readonly string[],
  turns: readonly number[],
  position: number,
  positions: readonly number[],
  time: number,
  times: readonly number[],
  states: readonly [value: Row["value"], status: Row["status"]][],
  stands: readonly number[],
  columns: readonly (readonly unknown[])[],
  omitted: readonly [row: number, column: number][],
  timers: readonly PackedTimers[],
  gone: readonly string[],
];

const nothing: readonly never[] = [];

/** @param columns how many values of an index each row has */
export function encodeBlock({ rows, gone }: Block, columns: number): Uint8Array {
  const position = leastOf(rows, (row) => row.position);
  const time = leastOf(rows, (row) => row.time);
  const states: Packed[6][number][] = [];
  const places = new Map<string, number>();
  const stands = rows.map(({ state, status, value }) => {
    const name = `${status} ${state}`;
    let place = places.get(name);
    if (place === undefined) {
      places.set(name, (place = states.length));
      states.push([value, status] as never);
    }
    return place;
  });
  const omitted: [number, number][] = [];
  const valueIn = (row: Row, at: number, column: number): unknown => {
    const value = row.fields[column];
    if (value !== OMITTED) return value;
    omitted.push([at, column]);
    return null;
  };
  const fields = Array.from({ length: columns }, (_, column) =>
    rows.map((row, at) => valueIn(row, at, column)),
  );
  const timers: PackedTimers[] = [];
  for (const [at, row] of rows.entries())
    if (row.timers.length > 0)
      timers.push([at, row.timers.map(({ id, child, due, event }) => [id, child ?? null, due, event.type])]);
  const packed: Packed = [
    rows.map((row) => row.key),
    rows.map((row) => row.turn),
    position,
    rows.map((row) => row.position - position),
    time,
    rows.map((row) => row.time - time),
    states,
    stands,
    fields,
    omitted,
    timers,
    gone,
  ];
  return encode(packed);
}

/** @param bytes of `encodeBlock`, whose checksum fits */
export function decodeBlock(bytes: Uint8Array): Block {
  const [keys, turns, position, positions, time, times, states, stands, columns, omitted, timers, gone] =
    decode(bytes) as Packed;
  const texts = states.map(([value]) => pathOf(value));
  const waiting = new Map(timers.map(([row, packed]) => [row, packed.map(timerOf)] as const));
  const rows = keys.map((key, at): Row => {
    const place = stands[at] as number;
    const [value, status] = states[place] as Packed[6][number];
    return {
      key,
      turn: turns[at] as number,
      position: position + (positions[at] as number),
      time: time + (times[at] as number),
      value,
      state: texts[place] as string,
      status,
      fields: columns.length === 0 ? nothing : columns.map((column) => column[at]),
      timers: waiting.size === 0 ? nothing : (waiting.get(at) ?? nothing),
    };
  });
  for (const [row, column] of omitted) ((rows[row] as Row).fields as unknown[])[column] = OMITTED;
  return { rows, gone };
}

function timerOf([id, child, due, type]: PackedTimers[1][number]): Row["timers"][number] {
  return child === null ? { id, due, event: { type } } : { id, child, due, event: { type } };
}

function leastOf(rows: readonly Row[], numberOf: (row: Row) => number): number {
  let least = rows.length === 0 ? 0 : Number.POSITIVE_INFINITY;
  for (const row of rows) least = Math.min(least, numberOf(row));
  return least;
}
