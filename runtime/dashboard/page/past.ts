/**
 * An actor's past, as far as it was read.
 *
 * Owns the turns by number. A page is read around the turn that is wanted, wherever that lies, so any turn of a long past
 * is one question away, and the pages before and behind it are there when somebody goes on.
 *
 * One page is read at a time, and then the one that is wanted by that time: who drags over a long past does not ask for
 * all of it, and of an actor that takes turn after turn a page is read now and then. What is kept is bounded, and so is
 * what a page takes: where turns are large, only few of them are asked for.
 */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type ActorState, actorPath, askText, textOf, type Turn } from "./api.ts";

interface Page {
  readonly turns: readonly Turn[];
  readonly next?: string;
}

const PAGE = 120;
/** Of a page, how many turns lie behind the one that is wanted. */
const AHEAD = 40;
/** What a page may take, about, in characters; it holds the turn that is wanted and the one before in any case. */
const PAGE_LENGTH = 200_000;
/** Turns that are kept, and how long their text may be. */
const KEPT = 5_000;
const KEPT_LENGTH = 16_000_000;
/** Between two pages of an actor that is at work. */
const PAUSE_MS = 400;

export class Past {
  readonly turns = new Map<number, Turn>();
  readonly #path: string;
  readonly #signal: AbortSignal;
  /** The oldest that can be told. */
  #oldest = 1;
  /** Of the turns that are kept. */
  #length = 0;
  #latest = 0;
  #isReading = false;
  /** Characters of a turn, as the last page was. */
  #turnLength = 0;

  constructor(type: string, key: string, signal: AbortSignal) {
    this.#path = `${actorPath(type, key)}/history`;
    this.#signal = signal;
  }

  get isReading(): boolean {
    return this.#isReading;
  }

  has(turn: number): boolean {
    return this.turns.has(turn) && (turn <= this.#oldest || this.turns.has(turn - 1));
  }

  /** The newest that was read. */
  get latest(): number {
    return this.#latest;
  }

  /**
   * Reads until the turn that is wanted and the one before it are there, or known not to be; what is wanted is looked at
   * anew before each page. Does nothing while it is reading already.
   * @param told is called with what there is after each page
   */
  async read(wanted: () => Wanted, told: (error?: unknown) => void): Promise<void> {
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      for (let isFirst = true; !this.#signal.aborted; isFirst = false) {
        const { turn, newest } = wanted();
        if (turn < 1 || this.has(turn)) break;
        // The newest once more, as it went on while it was read.
        if (!isFirst && turn === newest && this.#latest > 0) await after(PAUSE_MS);
        if (!(await this.#page(turn, newest))) break;
        told();
      }
      this.#isReading = false;
      told();
    } catch (error) {
      this.#isReading = false;
      told(error);
    }
  }

  /** Reads a page that the turn, or the one before it, is in. Answers whether it brought anything. */
  async #page(turn: number, newest: number): Promise<boolean> {
    const most = this.#turnLength === 0 ? PAGE : Math.min(PAGE, Math.floor(PAGE_LENGTH / this.#turnLength));
    const from = this.turns.has(turn) ? turn - 1 : turn;
    const upTo = Math.min(newest, from + Math.min(AHEAD, Math.floor(most / 3)));
    let limit = upTo - from + 1;
    while (limit < most && limit < upTo && !this.turns.has(upTo - limit)) limit++;
    const query = new URLSearchParams({ upTo: String(upTo), limit: String(limit) });
    const text = await askText(`${this.#path}?${query}`, { signal: this.#signal });
    const { turns, next } = JSON.parse(text) as Page;
    const isNew = turns.some((one) => !this.turns.has(one.turn));
    const last = turns.at(-1)?.turn ?? 0;
    if (next === undefined) this.#oldest = Math.max(this.#oldest, last);
    if (turns.length > 0) this.#turnLength = text.length / turns.length;
    this.#keep(turns, text.length);
    return isNew;
  }

  #keep(turns: readonly Turn[], length: number): void {
    if (this.turns.size + turns.length > KEPT || this.#length + length > KEPT_LENGTH) {
      this.turns.clear();
      this.#length = 0;
    }
    this.#length += length;
    for (const turn of turns) this.turns.set(turn.turn, turn);
    this.#latest = Math.max(this.#latest, turns[0]?.turn ?? 0);
  }
}

function after(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** A turn to be looked at, and the newest one there is. */
interface Wanted {
  readonly turn: number;
  readonly newest: number;
}

export interface Read {
  readonly turns: ReadonlyMap<number, Turn>;
  /** The newest that was read. An actor that is at work is ahead of it. */
  readonly latest: number;
  readonly error: string | undefined;
  readonly isReading: boolean;
}

const NOTHING: Read = { turns: new Map(), latest: 0, error: undefined, isReading: false };

/** The turns around the one that is looked at. */
export function usePast(
  type: string,
  key: string,
  state: ActorState | undefined,
  selected: number | undefined,
): Read {
  // A deletion begins another life, whose turns count from 1 again.
  const highest = useRef(0);
  const [life, setLife] = useState(0);
  const { past, stop } = useMemo(() => {
    const stop = new AbortController();
    return { past: new Past(type, key, stop.signal), stop };
  }, [type, key, life]);
  useEffect(() => () => stop.abort(), [stop]);
  const [read, setRead] = useState<Read>(NOTHING);
  const newest = state?.turn ?? 0;
  const wanted = useRef<Wanted>({ turn: 0, newest: 0 });
  wanted.current = { turn: Math.min(selected ?? newest, newest), newest };
  useEffect(() => {
    if (newest < highest.current) setLife((n) => n + 1);
    highest.current = newest;
    const show = (error?: unknown): void => {
      if (stop.signal.aborted) return;
      const { turns, latest } = past;
      const isReading = error === undefined && past.isReading;
      const text = error === undefined ? undefined : textOf(error);
      setRead({ turns: new Map(turns), latest, error: text, isReading });
    };
    if (newest === 0 || past.has(wanted.current.turn)) show();
    else {
      setRead((now) => (now.isReading ? now : { ...now, isReading: true }));
      void past.read(() => wanted.current, show);
    }
  }, [past, newest, selected]);
  return read;
}
