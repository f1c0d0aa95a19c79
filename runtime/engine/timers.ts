/**
 * The due heap of a shard: which actor has something due next; and the backlog of those that are overdue.
 *
 * Owns due times only; the timers themselves stand in the actors' states. One entry per actor: its earliest timer. An
 * entry stands in the heap or, once it was found long overdue, in the backlog, which is a queue: after a downtime the
 * alarm (alarm.ts) works it off at a pace, beside what is on time.
 *
 * Invariants:
 * 1. `next` is never later than the due time last set for any actor that is not in the backlog, `earliest` than that of
 *    any actor.
 * 2. Superseded heap rows are dropped lazily and never outnumber the live ones by more than a constant factor.
 * 3. An actor is in the heap or in the backlog, never in both. It leaves the backlog when it is taken, has nothing due
 *    any more, or is due later than what was set aside; a due time that is overdue as well keeps its place.
 */

interface Row {
  readonly due: number;
  readonly id: string;
}

export class DueHeap {
  /** Actors that were taken out, with what they were due at, until what became of it is committed. */
  readonly taken = new Map<string, number>();
  #rows: Row[] = [];
  /** Of all actors, also of those in the backlog. */
  readonly #due = new Map<string, number>();
  /** The backlog, in order. */
  readonly #overdue = new Set<string>();
  /** Stands behind the last that was taken: looking for the first anew would pass over all that are gone. */
  #first: Iterator<string> | undefined;
  /** What is due earlier was set aside when it was looked at. */
  #before = Number.NEGATIVE_INFINITY;
  /** No later than any due time in the backlog; infinity if that is empty. */
  #oldest = Number.POSITIVE_INFINITY;

  get size(): number {
    return this.#due.size;
  }

  /** How many actors are in the backlog. */
  get overdue(): number {
    return this.#overdue.size;
  }

  /** Sets or, with undefined, removes an actor's earliest due time. */
  set(id: string, due: number | undefined): void {
    if (due === undefined) {
      this.#due.delete(id);
      this.#leave(id);
      return;
    }
    if (this.#due.get(id) === due) return;
    this.#due.set(id, due);
    if (this.#overdue.has(id)) {
      if (due < this.#before) {
        this.#oldest = Math.min(this.#oldest, due);
        return;
      }
      this.#leave(id);
    }
    this.#push({ due, id });
    if (this.#rows.length > 2 * (this.#due.size - this.#overdue.size) + 64) this.#rebuild();
  }

  get(id: string): number | undefined {
    return this.#due.get(id);
  }

  has(id: string): boolean {
    return this.#due.has(id);
  }

  /** The earliest due time, but for the backlog; undefined if nothing else is due ever. */
  next(): number | undefined {
    this.#dropStale();
    return this.#rows[0]?.due;
  }

  /**
   * A time before which nothing is due at all, undefined if nothing is due ever. While there is a backlog it is that of
   * the oldest that has been in it.
   */
  earliest(): number | undefined {
    const next = this.next();
    return this.#overdue.size === 0 ? next : Math.min(this.#oldest, next ?? this.#oldest);
  }

  /** Takes out an actor that is due at `now` and not in the backlog. */
  take(now: number): string | undefined {
    this.#dropStale();
    const first = this.#rows[0];
    if (first === undefined || first.due > now) return undefined;
    this.#pop();
    this.#takeOut(first.id, first.due);
    return first.id;
  }

  /** Moves what is due before a time into the backlog, earliest first, so many at most. Returns how many. */
  setAside(before: number, most: number): number {
    this.#before = before;
    let moved = 0;
    for (; moved < most; moved++) {
      this.#dropStale();
      const first = this.#rows[0];
      if (first === undefined || first.due >= before) break;
      this.#pop();
      this.#overdue.add(first.id);
      this.#oldest = Math.min(this.#oldest, first.due);
    }
    return moved;
  }

  /** Takes out the first of the backlog. */
  takeOverdue(): string | undefined {
    if (this.#overdue.size === 0) return undefined;
    let first = this.#first?.next();
    if (first === undefined || first.done === true) {
      this.#first = this.#overdue.values();
      first = this.#first.next();
    }
    const id = first.value as string;
    this.#leave(id);
    this.#takeOut(id, this.#due.get(id) as number);
    return id;
  }

  #leave(id: string): void {
    this.#overdue.delete(id);
    if (this.#overdue.size === 0) this.#oldest = Number.POSITIVE_INFINITY;
  }

  #takeOut(id: string, due: number): void {
    this.#due.delete(id);
    this.taken.set(id, Math.min(due, this.taken.get(id) ?? due));
  }

  #isLive({ id, due }: Row): boolean {
    return this.#due.get(id) === due && !this.#overdue.has(id);
  }

  #dropStale(): void {
    let first = this.#rows[0];
    while (first !== undefined && !this.#isLive(first)) {
      this.#pop();
      first = this.#rows[0];
    }
  }

  #rebuild(): void {
    const live: Row[] = [];
    for (const [id, due] of this.#due) if (!this.#overdue.has(id)) live.push({ due, id });
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
