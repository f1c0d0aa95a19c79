/**
 * What a view's actor holds of its key, and what one event makes of it.
 *
 * Owns the layout. Pure; machine.ts calls it within turns, reader.ts reads and merges what it made.
 *
 * A key's windows all stand in one actor. So its watermark, which decides what is late and what is closed, changes in the
 * same turn as the windows, with one message an event; an actor for each window would need a second message and another
 * turn for that, and could not be read as a whole. It stays small because windows are bounded: open ones by the lateness,
 * closed ones by `keep`; what is to be kept longer is emitted as each window closes.
 *
 * A record holds the top-level properties of a context that have changed. So each window is one, `w0`, `w1` …, taken
 * again by another window when it is gone (XState cannot remove properties), and a large aggregate has one of its own,
 * `w0.name`: an event writes what it changes, however many windows there are. `m` holds the rest.
 */
import { KeyturnError } from "../../words/errors.ts";
import type { Aggregates } from "./aggregates.ts";
import { SESSIONS_MAX, startsOf, type WindowSpec } from "./windows.ts";

/** What is known of a key besides its windows. */
export interface Meta {
  /** Events that came, late ones too. */
  readonly seen: number;
  readonly late: number;
  /** The latest event time. */
  readonly max: number | null;
  /** Up to here windows are closed, whatever the watermark says: the key was idle. */
  readonly shut: number | null;
  /** The earliest end of an open window. */
  readonly next: number | null;
  /** Properties for windows. */
  readonly slots: number;
  /** The latest end of a closed window that is not kept any more. */
  readonly dropped: number | null;
  /** Events that had come when the idle timer was set; null while it is not. */
  readonly idle: number | null;
}

/** A window. Without `window` in the view's definition there is one, from 0 to 0. */
export interface Slot {
  readonly start: number;
  readonly end: number;
  readonly events: number;
  readonly closed: boolean;
  /** States of the light aggregates. */
  readonly light: Readonly<Record<string, unknown>>;
}

export interface ViewContext {
  readonly m: Meta;
  readonly [slot: string]: unknown;
}

export const emptyContext: ViewContext = {
  m: { seen: 0, late: 0, max: null, shut: null, next: null, slots: 0, dropped: null, idle: null },
};

/** An event as it is told: when it happened, and what each aggregate takes of it. */
export interface Added {
  readonly time: number;
  readonly taken: Readonly<Record<string, unknown>>;
}

export interface Shape {
  readonly aggregates: Aggregates;
  readonly window: WindowSpec | undefined;
}

/** A window with the states of all aggregates. */
export interface WindowState extends Omit<Slot, "light"> {
  readonly states: Readonly<Record<string, unknown>>;
}

/** Windows that are closed in one turn; others are in the next. */
const CLOSED_PER_TURN = 64;

/** What a turn changes. */
export class Change {
  readonly update: Record<string, unknown> = {};
  /** Windows that were closed, earliest end first. */
  readonly closed: WindowState[] = [];
  late = false;
  /** Whether there are more to be closed. */
  more = false;
  readonly #shape: Shape;
  readonly #context: ViewContext;
  #m: Meta;

  constructor(shape: Shape, context: ViewContext) {
    this.#shape = shape;
    this.#context = context;
    this.#m = context.m;
  }

  /** One more event. */
  add({ time, taken }: Added): void {
    const { window } = this.#shape;
    const { seen } = this.#m;
    if (window === undefined) {
      this.#grow(0, 0, taken, this.#find(0, 0));
      this.#meta({ seen: seen + 1 });
      return;
    }
    const watermark = watermarkOf(window, this.#m);
    const counted =
      window.kind === "session"
        ? this.#session(time, taken, watermark)
        : this.#windows(time, taken, watermark);
    this.late = !counted;
    const max = this.#m.max === null ? time : Math.max(this.#m.max, time);
    this.#meta({ seen: seen + 1, late: this.#m.late + (counted ? 0 : 1), max });
    this.close();
  }

  /** Nothing has come for a while: all windows are closed. */
  shut(): void {
    let end = this.#m.shut ?? Number.NEGATIVE_INFINITY;
    for (const [, slot] of this.#open()) end = Math.max(end, slot.end);
    if (end > Number.NEGATIVE_INFINITY) this.#meta({ shut: end });
    this.close();
  }

  idle(idle: number | null): void {
    this.#meta({ idle });
  }

  /** Closes the windows that the watermark has reached, and drops the closed ones that are too many. */
  close(): void {
    const window = this.#shape.window as WindowSpec;
    const watermark = watermarkOf(window, this.#m);
    if (this.#m.next === null || this.#m.next > watermark) return;
    const open = [...this.#open()].sort(([, a], [, b]) => a.end - b.end || a.start - b.start);
    const ready = open.filter(([, { end }]) => end <= watermark);
    for (const [at, slot] of ready.slice(0, CLOSED_PER_TURN)) {
      this.update[nameOf(at)] = { ...slot, closed: true };
      this.closed.push(this.#whole(at, slot, true));
    }
    this.more = ready.length > CLOSED_PER_TURN;
    this.#meta({ next: open[Math.min(ready.length, CLOSED_PER_TURN)]?.[1].end ?? null });
    this.#forget(window.keep);
  }

  finish(): Record<string, unknown> {
    return this.update;
  }

  #meta(change: Partial<Meta>): void {
    this.#m = { ...this.#m, ...change };
    this.update.m = this.#m;
  }

  /** Tumbling and hopping. Returns whether any window took it. */
  #windows(time: number, taken: Added["taken"], watermark: number): boolean {
    const window = this.#shape.window as WindowSpec;
    let counted = false;
    for (const start of startsOf(window, time)) {
      const end = start + window.size_ms;
      if (end <= watermark) continue;
      this.#grow(start, end, taken, this.#find(start, end));
      counted = true;
    }
    return counted;
  }

  /** A session takes it, or it begins one; sessions that it lies between become one. */
  #session(time: number, taken: Added["taken"], watermark: number): boolean {
    const { size_ms } = this.#shape.window as WindowSpec;
    let start = time;
    let end = time + size_ms;
    const near: [number, Slot][] = [];
    let open = 0;
    for (const [at, slot] of this.#open()) {
      open++;
      if (slot.start < time + size_ms && slot.end > time) near.push([at, slot]);
    }
    near.sort(([, a], [, b]) => a.start - b.start);
    for (const [, slot] of near) {
      start = Math.min(start, slot.start);
      end = Math.max(end, slot.end);
    }
    if (end <= watermark) return false;
    const [first, ...others] = near;
    if (first === undefined && open >= SESSIONS_MAX)
      throw new KeyturnError(
        "state_too_large",
        `This key has ${SESSIONS_MAX} sessions open, its limit. Allow less lateness, or use a finer key.`,
      );
    if (first === undefined) {
      this.#grow(start, end, taken, this.#find(start, end));
      return true;
    }
    for (const [at, slot] of others) this.#mergeInto(first[0], at, slot);
    const grown = this.#get(nameOf(first[0])) as Slot;
    this.#grow(start, end, taken, first[0], grown);
    return true;
  }

  #mergeInto(to: number, from: number, slot: Slot): void {
    const into = this.#get(nameOf(to)) as Slot;
    const light: Record<string, unknown> = { ...into.light };
    for (const [name, aggregate] of Object.entries(this.#shape.aggregates)) {
      if (aggregate.heavy) {
        const [mine, theirs] = [heavyName(to, name), heavyName(from, name)];
        this.update[mine] = aggregate.merge(
          this.#get(mine) ?? aggregate.empty,
          this.#get(theirs) ?? aggregate.empty,
        );
      } else {
        const { [name]: mine = aggregate.empty } = light;
        light[name] = aggregate.merge(mine, slot.light[name] ?? aggregate.empty);
      }
    }
    this.update[nameOf(to)] = { ...into, events: into.events + slot.events, light };
    this.#free(from);
  }

  /** Adds what was taken of an event to a window, which may be new. */
  #grow(
    start: number,
    end: number,
    taken: Added["taken"],
    at: number,
    known = this.#get(nameOf(at)) as Slot | null,
  ): void {
    const light: Record<string, unknown> = { ...known?.light };
    for (const [name, aggregate] of Object.entries(this.#shape.aggregates)) {
      const given = taken[name];
      if (aggregate.heavy) {
        const heavy = heavyName(at, name);
        const before = this.#get(heavy) ?? undefined;
        const after = given === undefined ? before : aggregate.add(before ?? aggregate.empty, given);
        if (after !== before) this.update[heavy] = after;
      } else {
        const before = light[name] ?? aggregate.empty;
        light[name] = given === undefined ? before : aggregate.add(before, given);
      }
    }
    this.update[nameOf(at)] = { start, end, events: (known?.events ?? 0) + 1, closed: false, light };
    if (this.#shape.window !== undefined && (this.#m.next === null || end < this.#m.next))
      this.#meta({ next: end });
    if (at >= this.#m.slots) this.#meta({ slots: at + 1 });
  }

  /** Where a window stands; if it does not, where there is room for one. */
  #find(start: number, end: number): number {
    let free = -1;
    for (let at = 0; at < this.#m.slots; at++) {
      const slot = this.#get(nameOf(at)) as Slot | null;
      if (slot === null) {
        if (free < 0) free = at;
      } else if (slot.start === start && slot.end === end && !slot.closed) return at;
    }
    return free < 0 ? this.#m.slots : free;
  }

  *#open(): Generator<[at: number, slot: Slot]> {
    for (let at = 0; at < this.#m.slots; at++) {
      const slot = this.#get(nameOf(at)) as Slot | null;
      if (slot !== null && !slot.closed) yield [at, slot];
    }
  }

  #forget(keep: number): void {
    const closed: [number, Slot][] = [];
    for (let at = 0; at < this.#m.slots; at++) {
      const slot = this.#get(nameOf(at)) as Slot | null;
      if (slot?.closed === true) closed.push([at, slot]);
    }
    if (closed.length <= keep) return;
    closed.sort(([, a], [, b]) => a.end - b.end || a.start - b.start);
    let dropped = this.#m.dropped ?? Number.NEGATIVE_INFINITY;
    for (const [at, { end }] of closed.slice(0, closed.length - keep)) {
      this.#free(at);
      dropped = Math.max(dropped, end);
    }
    this.#meta({ dropped });
  }

  #free(at: number): void {
    this.update[nameOf(at)] = null;
    for (const [name, { heavy }] of Object.entries(this.#shape.aggregates))
      if (heavy && (this.#get(heavyName(at, name)) ?? null) !== null) this.update[heavyName(at, name)] = null;
  }

  #get(name: string): unknown {
    return Object.hasOwn(this.update, name) ? this.update[name] : (this.#context[name] ?? null);
  }

  #whole(at: number, slot: Slot, closed: boolean): WindowState {
    return wholeSlot(this.#shape.aggregates, at, { ...slot, closed }, (name) => this.#get(name));
  }
}

/** Up to here a key's windows are closed. */
export function watermarkOf({ lateness_ms }: WindowSpec, { max, shut }: Meta): number {
  const reached = max === null ? Number.NEGATIVE_INFINITY : max - lateness_ms;
  return Math.max(reached, shut ?? Number.NEGATIVE_INFINITY);
}

/** All windows of a key, earliest first. */
export function windowsOf({ aggregates }: Shape, context: ViewContext): WindowState[] {
  const found: WindowState[] = [];
  for (let at = 0; at < context.m.slots; at++) {
    const slot = (context[nameOf(at)] ?? null) as Slot | null;
    if (slot !== null) found.push(wholeSlot(aggregates, at, slot, (name) => context[name]));
  }
  return found.sort(earlier);
}

/** Windows of several parts of a key as one list. */
export function mergedWindows(
  { aggregates }: Shape,
  parts: readonly (readonly WindowState[])[],
): WindowState[] {
  const merged = new Map<string, WindowState>();
  for (const window of parts.flat()) {
    const name = `${window.start}:${window.end}`;
    const known = merged.get(name);
    if (known === undefined) {
      merged.set(name, window);
      continue;
    }
    const states = Object.fromEntries(
      Object.entries(aggregates).map(([one, aggregate]) => [
        one,
        aggregate.merge(known.states[one], window.states[one]),
      ]),
    );
    const closed = known.closed && window.closed;
    merged.set(name, { ...known, events: known.events + window.events, closed, states });
  }
  return [...merged.values()].sort(earlier);
}

function wholeSlot(
  aggregates: Aggregates,
  at: number,
  { start, end, events, closed, light }: Slot,
  get: (name: string) => unknown,
): WindowState {
  const states = Object.fromEntries(
    Object.entries(aggregates).map(([name, { heavy, empty }]) => [
      name,
      (heavy ? get(heavyName(at, name)) : light[name]) ?? empty,
    ]),
  );
  return { start, end, events, closed, states };
}

function earlier(a: WindowState, b: WindowState): number {
  return a.start - b.start || a.end - b.end;
}

function nameOf(at: number): string {
  return `w${at}`;
}

/** Where the state of a light aggregate stands in the context of a key without windows, as a path. */
export function lightPath(name: string): string {
  return `${nameOf(0)}.light.${name}`;
}

function heavyName(at: number, name: string): string {
  return `w${at}.${name}`;
}

/** Key of the actor that has a part of a key. */
export function partKey(key: string, part: number): string {
  return `${part}:${key}`;
}
