/**
 * What a rebuild has found: counts with a few examples each, bounded however large the app is.
 *
 * Owns the tally and its form for others. Talks to nobody.
 */
import { pathOf } from "../engine/population.ts";
import type { MachineState } from "../engine/machine.ts";
import type { EventObject } from "../engine/machine/internals.ts";
import type { KeyturnError } from "../words/errors.ts";
import type { Difference } from "./compare.ts";
import type { Findings, Life } from "./life.ts";
import type { Sent, Way } from "./tells.ts";

/** Examples of each kind. */
const SAMPLES = 3;
/** Kinds that are told apart; the rest is one. */
const KINDS_MAX = 1_000;
const OTHERS = "(others)";

export interface Sample {
  readonly key: string;
  readonly running: unknown;
  readonly rebuilt: unknown;
}

/** Actors whose states differ there. */
export interface PathRow {
  /** `context.delay.total`, `timers.<id>`, `children.<path>`, `output` …; `[]` for any element of a list. */
  readonly path: string;
  readonly keys: number;
  readonly samples: readonly Sample[];
}

/** Actors that stand in another state. */
export interface StateRow {
  readonly running: string;
  readonly rebuilt: string;
  readonly keys: number;
  readonly samples: readonly string[];
}

/** Events that the new definition refuses, and the running one has taken. */
export interface RejectedRow {
  readonly event: string;
  readonly code: string;
  readonly events: number;
  readonly samples: readonly {
    readonly key: string;
    /** After which turn of its, and when: milliseconds since the epoch. */
    readonly turn: number;
    readonly time: number;
    readonly event: unknown;
    readonly reason: string;
  }[];
}

export interface CountRow {
  readonly name: string;
  readonly count: number;
  /** Keys. */
  readonly samples: readonly string[];
}

/** Messages of one kind that the new definition would not have sent as they were. */
export interface TellRow {
  /** `told`, `asked` and `answered` go to actors of the type `to`; `emitted` to whoever listens. */
  readonly way: Way;
  /** Type of the actors that they are for; empty for what is emitted. */
  readonly to: string;
  /** Type of their events; of an answer `xstate.promise.resolve` or `xstate.promise.reject`. */
  readonly event: string;
  /** Told by both in the same turn, with other contents. */
  readonly otherwise: number;
  /** Told by the running definition only. */
  readonly notAnyMore: number;
  /** Told by the new definition only: nobody has been told that. */
  readonly notYet: number;
  readonly samples: readonly {
    readonly key: string;
    /** In which turn, and when: milliseconds since the epoch. */
    readonly turn: number;
    readonly time: number;
    readonly to: string;
    readonly running: unknown;
    readonly rebuilt: unknown;
  }[];
}

/** The same by whom they are for. */
export interface ToldRow {
  /** An address, `type/key`. */
  readonly to: string;
  readonly otherwise: number;
  readonly notAnyMore: number;
  readonly notYet: number;
}

/** What the new definition would have told others, beside what they were told. Told by a promotion that is to tell, as far as they are `notYet`. */
export interface TellsReport {
  /** Messages that were told, and that would have been. */
  readonly running: number;
  readonly rebuilt: number;
  readonly rows: readonly TellRow[];
  /** A thousand addresses at most, those with most messages first; the rest is `(others)`. */
  readonly addresses: readonly ToldRow[];
  /** False if so many differ that some which are told in another turn count as told by one only. */
  readonly exact: boolean;
}

export interface RebuildReport {
  readonly type: string;
  readonly version: number;
  /** Records of the type that were replayed, of all its actors. */
  readonly records: number;
  /** Milliseconds, and how many records that was a second; without the comparison. */
  readonly elapsed_ms: number;
  readonly per_s: number;
  /** Passes over the journal: more than one where the states of all actors do not fit into memory. */
  readonly passes: number;
  /** Actors that live: of these `equal` and `differing` were compared. */
  readonly keys: number;
  readonly equal: number;
  readonly differing: number;
  /** Whose last turn an older version recorded: `promote` records them too, whether or not they differ. */
  readonly outdated: number;
  /** Actors that the new definition does not let begin: all their events are rejected. They stay as they are. */
  readonly unbegun: CountRow;
  /** Actors of whose past a part has been trimmed from the journal. Without `fromSnapshots` they are not compared. */
  readonly notWhole: CountRow;
  readonly states: readonly StateRow[];
  readonly paths: readonly PathRow[];
  readonly rejected: readonly RejectedRow[];
  /** Timers that fired, and results that came, for which the new definition does not wait. By event type. */
  readonly unmatched: readonly CountRow[];
  readonly tells: TellsReport;
  /** Actors in which the new definition's timers go in a circle. */
  readonly circled: CountRow;
}

class Count {
  count = 0;
  readonly samples: string[] = [];

  add(key: string): void {
    this.count++;
    if (this.samples.length < SAMPLES && !this.samples.includes(key)) this.samples.push(key);
  }

  row(name: string): CountRow {
    return { name, count: this.count, samples: this.samples };
  }
}

type Counts = "otherwise" | "notAnyMore" | "notYet";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Collects findings of one pass, or of all. */
export class Tally implements Findings {
  keys = 0;
  equal = 0;
  differing = 0;
  outdated = 0;
  readonly unbegun = new Count();
  readonly notWhole = new Count();
  readonly circles = new Count();
  readonly #unmatched = new Map<string, Count>();
  readonly #rejected = new Map<
    string,
    Mutable<RejectedRow> & { samples: RejectedRow["samples"][number][] }
  >();
  readonly #states = new Map<string, Mutable<StateRow> & { samples: string[] }>();
  readonly #paths = new Map<string, Mutable<PathRow> & { samples: Sample[] }>();

  #running = 0;
  #rebuilt = 0;
  #exact = true;
  readonly #tells = new Map<string, Mutable<TellRow> & { samples: TellRow["samples"][number][] }>();
  readonly #told = new Map<string, Mutable<ToldRow>>();

  counted(running: number, rebuilt: number): void {
    this.#running += running;
    this.#rebuilt += rebuilt;
  }

  otherwise(
    { key }: Life,
    running: Sent | undefined,
    rebuilt: Sent | undefined,
    turn: number,
    time: number,
  ): void {
    const { way, to, event } = (running ?? rebuilt) as Sent;
    const which = running === undefined ? "notYet" : rebuilt === undefined ? "notAnyMore" : "otherwise";
    const type = to.slice(0, Math.max(0, to.indexOf("/")));
    const row = this.#tellRow(way, type, String((event as Partial<EventObject> | null)?.type));
    row[which]++;
    if (row.samples.length < SAMPLES)
      row.samples.push({ key, turn, time, to, running: running?.event, rebuilt: rebuilt?.event });
    if (to !== "") this.#toldRow(to)[which]++;
  }

  overflowed(): void {
    this.#exact = false;
  }

  #tellRow(way: Way, to: string, event: string) {
    return kindOf(this.#tells, `${way} ${to} ${event}`, (name) => ({
      way,
      ...(name === OTHERS ? { to: "", event: OTHERS } : { to, event }),
      otherwise: 0,
      notAnyMore: 0,
      notYet: 0,
      samples: [],
    }));
  }

  #toldRow(to: string) {
    return kindOf(this.#told, to, (name) => ({ to: name, otherwise: 0, notAnyMore: 0, notYet: 0 }));
  }

  rejected(life: Life, event: EventObject, time: number, error: KeyturnError): void {
    const row = kindOf(this.#rejected, `${error.code} ${event.type}`, () => ({
      event: event.type,
      code: error.code as string,
      events: 0,
      samples: [],
    }));
    row.events++;
    if (row.samples.length < SAMPLES)
      row.samples.push({ key: life.key, turn: life.turn, time, event, reason: error.message });
  }

  unmatched(life: Life, event: EventObject): void {
    kindOf(this.#unmatched, event.type, () => new Count()).add(life.key);
  }

  circled(life: Life): void {
    this.circles.add(life.key);
  }

  /** Notes an actor that was compared. */
  compared(key: string, found: readonly Difference[]): void {
    if (found.length === 0) {
      this.equal++;
      return;
    }
    this.differing++;
    for (const { path, before: running, after: rebuilt } of found) {
      if (path === "state") this.#state(key, String(running), String(rebuilt));
      else {
        const row = kindOf(this.#paths, path, (name) => ({ path: name, keys: 0, samples: [] }));
        row.keys++;
        if (row.samples.length < SAMPLES) row.samples.push({ key, running, rebuilt });
      }
    }
  }

  #state(key: string, running: string, rebuilt: string): void {
    const row = kindOf(this.#states, JSON.stringify([running, rebuilt]), (name) =>
      name === OTHERS
        ? { running: OTHERS, rebuilt: OTHERS, keys: 0, samples: [] }
        : { running, rebuilt, keys: 0, samples: [] },
    );
    row.keys++;
    if (row.samples.length < SAMPLES) row.samples.push(key);
  }

  /** Adds what another has collected, of other actors. */
  add(other: Tally): void {
    this.#addTells(other);
    this.keys += other.keys;
    this.equal += other.equal;
    this.differing += other.differing;
    this.outdated += other.outdated;
    for (const name of ["unbegun", "notWhole", "circles"] as const) addCount(this[name], other[name]);
    for (const [name, count] of other.#unmatched)
      addCount(
        kindOf(this.#unmatched, name, () => new Count()),
        count,
      );
    for (const [name, row] of other.#rejected) {
      const own = kindOf(this.#rejected, name, () => ({ ...row, events: 0, samples: [] }));
      own.events += row.events;
      fill(own.samples, row.samples);
    }
    for (const [name, row] of other.#states) {
      const own = kindOf(this.#states, name, () => ({ ...row, keys: 0, samples: [] }));
      own.keys += row.keys;
      fill(own.samples, row.samples);
    }
    for (const [name, row] of other.#paths) {
      const own = kindOf(this.#paths, name, () => ({ ...row, keys: 0, samples: [] }));
      own.keys += row.keys;
      fill(own.samples, row.samples);
    }
  }

  #addTells(other: Tally): void {
    this.#running += other.#running;
    this.#rebuilt += other.#rebuilt;
    this.#exact &&= other.#exact;
    for (const row of other.#tells.values()) {
      const own = this.#tellRow(row.way, row.to, row.event);
      addTold(own, row);
      fill(own.samples, row.samples);
    }
    for (const row of other.#told.values()) addTold(this.#toldRow(row.to), row);
  }

  get #tellsReport(): TellsReport {
    return {
      running: this.#running,
      rebuilt: this.#rebuilt,
      rows: [...this.#tells.values()].sort((a, b) => sumOf(b) - sumOf(a)),
      addresses: [...this.#told.values()].sort((a, b) => sumOf(b) - sumOf(a)),
      exact: this.#exact,
    };
  }

  get findings(): Omit<RebuildReport, "type" | "version" | "records" | "elapsed_ms" | "per_s" | "passes"> {
    return {
      keys: this.keys,
      equal: this.equal,
      differing: this.differing,
      outdated: this.outdated,
      unbegun: this.unbegun.row("unbegun"),
      notWhole: this.notWhole.row("not whole"),
      states: [...this.#states.values()].sort((a, b) => b.keys - a.keys),
      paths: [...this.#paths.values()].sort((a, b) => b.keys - a.keys),
      rejected: [...this.#rejected.values()].sort((a, b) => b.events - a.events),
      unmatched: [...this.#unmatched]
        .map(([name, count]) => count.row(name))
        .sort((a, b) => b.count - a.count),
      tells: this.#tellsReport,
      circled: this.circles.row("circled"),
    };
  }
}

/** The row of a kind; over the limit, that of the others. */
function kindOf<T>(rows: Map<string, T>, name: string, make: (name: string) => T): T {
  const known = rows.get(name);
  if (known !== undefined) return known;
  const own = rows.size < KINDS_MAX ? name : OTHERS;
  let row = rows.get(own);
  if (row === undefined) rows.set(own, (row = make(own)));
  return row;
}

function addTold(to: Mutable<Pick<ToldRow, Counts>>, from: Pick<ToldRow, Counts>): void {
  to.otherwise += from.otherwise;
  to.notAnyMore += from.notAnyMore;
  to.notYet += from.notYet;
}

function sumOf({ otherwise, notAnyMore, notYet }: Pick<ToldRow, Counts>): number {
  return otherwise + notAnyMore + notYet;
}

function addCount(to: Count, from: Count): void {
  to.count += from.count;
  fill(to.samples, from.samples);
}

function fill<T>(to: T[], from: readonly T[]): void {
  to.push(...from.slice(0, SAMPLES - to.length));
}

/** A state as people read it. */
export function stateText({ value }: MachineState): string {
  return pathOf(value) || "(no states)";
}
