/**
 * The due heap of a shard: which actor has something due next.
 *
 * Owns due times only; the timers themselves stand in the actors' states. One entry per actor: its earliest timer.
 *
 * Invariants:
 * 1. `next` is never later than the due time last set for any actor.
 * 2. Superseded heap rows are dropped lazily and never outnumber the live ones by more than a constant factor.
 */

interface Row {
  readonly due: number;
  readonly id: string;
}

export class DueHeap {
  /** Actors that were taken out, with what they were due at, until what became of it is committed. */
  readonly taken = new Map<string, number>();
  #rows: Row[] = [];
  readonly #due = new Map<string, number>();

  get size(): number {
    return this.#due.size;
  }

  /** Sets or, with undefined, removes an actor's earliest due time. */
  set(id: string, due: number | undefined): void {
    if (due === undefined) {
      this.#due.delete(id);
      return;
    }
    if (this.#due.get(id) === due) return;
    this.#due.set(id, due);
    this.#push({ due, id });
    if (this.#rows.length > 2 * this.#due.size + 64) this.#rebuild();
  }

  get(id: string): number | undefined {
    return this.#due.get(id);
  }

  has(id: string): boolean {
    return this.#due.has(id);
  }

  /** The earliest due time, undefined if nothing is due ever. */
  next(): number | undefined {
    this.#dropStale();
    return this.#rows[0]?.due;
  }

  /** Takes out an actor that is due at `now`. */
  take(now: number): string | undefined {
    this.#dropStale();
    const first = this.#rows[0];
    if (first === undefined || first.due > now) return undefined;
    this.#pop();
    this.#due.delete(first.id);
    this.taken.set(first.id, Math.min(first.due, this.taken.get(first.id) ?? first.due));
    return first.id;
  }

  #dropStale(): void {
    let first = this.#rows[0];
    while (first !== undefined && this.#due.get(first.id) !== first.due) {
      this.#pop();
      first = this.#rows[0];
    }
  }

  #rebuild(): void {
    const live = [...this.#due].map(([id, due]): Row => ({ due, id }));
    live.sort((a, b) => a.due - b.due);
    this.#rows = live;
  }

  #push(row: Row): void {
    const rows = this.#rows;
    let at = rows.length;
    rows.push(row);
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = rows[up] as Row;
      if (parent.due <= row.due) break;
      rows[at] = parent;
      at = up;
    }
    rows[at] = row;
  }

  #pop(): void {
    const rows = this.#rows;
    const last = rows.pop() as Row;
    if (rows.length === 0) return;
    let at = 0;
    while (true) {
      let down = 2 * at + 1;
      if (down >= rows.length) break;
      if (down + 1 < rows.length && (rows[down + 1] as Row).due < (rows[down] as Row).due) down++;
      const child = rows[down] as Row;
      if (child.due >= last.due) break;
      rows[at] = child;
      at = down;
    }
    rows[at] = last;
  }
}
