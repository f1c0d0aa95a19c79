/**
 * An actor's past, as far as it was read.
 *
 * Owns the turns by number. Reads pages from the newest turn back and from the oldest on, whichever end is nearer to
 * what is wanted, so any turn of a long past can be shown without reading all of it.
 */
import { actorPath, ask, type Turn } from "./api.ts";

interface Page {
  readonly turns: readonly Turn[];
  readonly next?: string;
}

const PAGE = 100;
const LARGEST = 256;

export class Past {
  readonly turns = new Map<number, Turn>();
  readonly #path: string;
  /** Where the next page begins; undefined before the first one, null behind the last one. */
  #backward: string | null | undefined;
  #forward: string | null | undefined;
  /** The turns between the two are not read. */
  #above = Number.POSITIVE_INFINITY;
  #below = 0;
  #reading: Promise<void> = Promise.resolve();

  constructor(type: string, key: string) {
    this.#path = `${actorPath(type, key)}/history`;
  }

  get newest(): number {
    let most = 0;
    for (const turn of this.turns.keys()) if (turn > most) most = turn;
    return most;
  }

  /** Reads what has come since. */
  refresh(upTo: number): Promise<void> {
    return this.#inTurn(async () => {
      const missing = upTo - this.newest;
      if (this.#backward === undefined) return this.#back();
      if (missing <= 0) return;
      if (missing > LARGEST) {
        // Most of it is not looked at: it is read when it is.
        this.#backward = undefined;
        this.#above = Number.POSITIVE_INFINITY;
        return this.#back();
      }
      this.#keep(await this.#read("newest", Math.min(LARGEST, missing + 8)));
    });
  }

  /** Reads until a turn and the one before it are there, or known not to be. */
  ensure(turn: number, signal: AbortSignal): Promise<void> {
    return this.#inTurn(async () => {
      while (!signal.aborted && !this.#has(turn)) {
        const isNearEnd =
          this.#above - turn <= turn - this.#below || this.#above === Number.POSITIVE_INFINITY;
        if ((isNearEnd || this.#forward === null) && this.#backward !== null) await this.#back();
        else if (this.#forward !== null) await this.#on();
        else return;
      }
    });
  }

  #has(turn: number): boolean {
    return this.turns.has(turn) && (turn <= 1 || this.turns.has(turn - 1));
  }

  async #back(): Promise<void> {
    const page = await this.#read("newest", PAGE, this.#backward ?? undefined);
    this.#keep(page);
    this.#backward = page.next ?? null;
    for (const { turn } of page.turns) this.#above = Math.min(this.#above, turn);
  }

  async #on(): Promise<void> {
    const page = await this.#read("oldest", PAGE, this.#forward ?? undefined);
    this.#keep(page);
    this.#forward = page.next ?? null;
    for (const { turn } of page.turns) this.#below = Math.max(this.#below, turn);
  }

  #keep({ turns }: Page): void {
    for (const turn of turns) this.turns.set(turn.turn, turn);
  }

  #read(order: "newest" | "oldest", limit: number, cursor?: string): Promise<Page> {
    const query = new URLSearchParams({ order, limit: String(limit) });
    if (cursor !== undefined) query.set("cursor", cursor);
    return ask<Page>(`${this.#path}?${query}`);
  }

  /** One reading at a time: cursors are moved by each. */
  #inTurn(read: () => Promise<void>): Promise<void> {
    const result = this.#reading.then(read);
    this.#reading = result.catch(() => undefined);
    return result;
  }
}
