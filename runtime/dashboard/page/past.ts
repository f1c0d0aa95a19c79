/**
 * An actor's past, as far as it was read.
 *
 * Owns the turns by number. A page is read around the turn that is wanted, wherever that lies, so any turn of a long past
 * is one question away, and the pages before and behind it are there when somebody goes on.
 */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type ActorState, actorPath, ask, textOf, type Turn } from "./api.ts";

interface Page {
  readonly turns: readonly Turn[];
  readonly next?: string;
}

const PAGE = 120;
/** Of a page, how many turns lie behind the one that is wanted. */
const AHEAD = 40;
/** Turns that are kept; a page of a few MB may be among them. */
const KEPT = 20_000;

export class Past {
  readonly turns = new Map<number, Turn>();
  readonly #path: string;
  /** The oldest that can be told. */
  #oldest = 1;
  #reading: Promise<void> = Promise.resolve();

  constructor(type: string, key: string) {
    this.#path = `${actorPath(type, key)}/history`;
  }

  /** Reads until a turn and the one before it are there, or known not to be. */
  ensure(turn: number, newest: number, signal: AbortSignal): Promise<void> {
    // One at a time: who drags over a long past is not to ask for all of it.
    const read = async (): Promise<void> => {
      let upTo = Math.min(newest, turn + AHEAD);
      while (!signal.aborted && !this.has(turn) && upTo >= 1) {
        const wanted = Math.min(PAGE, upTo);
        const query = new URLSearchParams({ upTo: String(upTo), limit: String(wanted) });
        const { turns, next } = await ask<Page>(`${this.#path}?${query}`, { signal });
        this.#keep(turns);
        const last = turns.at(-1)?.turn ?? 0;
        if (next === undefined) this.#oldest = Math.max(this.#oldest, last);
        // Turns may be so large that a page holds few of them.
        if (last <= 1 || last === upTo + 1 || next === undefined) return;
        upTo = last - 1;
      }
    };
    const result = this.#reading.then(read);
    this.#reading = result.catch(() => undefined);
    return result;
  }

  has(turn: number): boolean {
    return this.turns.has(turn) && (turn <= this.#oldest || this.turns.has(turn - 1));
  }

  #keep(turns: readonly Turn[]): void {
    if (this.turns.size + turns.length > KEPT) this.turns.clear();
    for (const turn of turns) this.turns.set(turn.turn, turn);
  }
}

export interface Read {
  readonly turns: ReadonlyMap<number, Turn>;
  readonly error: string | undefined;
  readonly isReading: boolean;
}

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
  const past = useMemo(() => new Past(type, key), [type, key, life]);
  const [read, setRead] = useState<Read>({ turns: new Map(), error: undefined, isReading: false });
  const total = state?.turn;
  useEffect(() => {
    if (total === undefined) return undefined;
    if (total < highest.current) setLife((n) => n + 1);
    highest.current = total;
    const stop = new AbortController();
    const show = (error?: string): void => {
      if (!stop.signal.aborted) setRead({ turns: new Map(past.turns), error, isReading: false });
    };
    const wanted = Math.min(selected ?? total, total);
    if (total === 0 || past.has(wanted)) show();
    else {
      setRead((now) => ({ ...now, isReading: true }));
      past.ensure(wanted, total, stop.signal).then(
        () => show(),
        (error: unknown) => show(textOf(error)),
      );
    }
    return () => stop.abort();
  }, [past, total, selected]);
  return read;
}
