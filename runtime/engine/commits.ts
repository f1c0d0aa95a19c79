/**
 * Commits: turns go into a batch, the batch into the lane, and then its outputs may leave.
 *
 * Owns the batch that is being filled and the one that is being appended, and counts what the tail holds. Talks to the
 * lane; what becomes of a batch it tells the gate.
 *
 * Invariants:
 * 1. At most one batch is in flight; the next is stepped on top of it.
 * 2. The gate hears of every batch once, in order: it is open, or it stays shut for this batch and for all that was
 *    stepped on top of it.
 * 3. A read is answered when what it has read is committed and, without a lease, when an append has proved that nothing
 *    newer was committed elsewhere.
 * 4. After `stop` nothing is appended, and nobody hears of anything.
 */
import type { Activation } from "./activation.ts";
import { OpenBatch, type Read } from "./batch.ts";
import type { Lane } from "./lane.ts";
import type { EngineParts } from "./parts.ts";
import type { Taken } from "./taken.ts";
import type { Slot } from "./turn-record.ts";
import type { Tracing } from "./telemetry.ts";

/** Hears what became of batches. */
export interface Outcomes {
  /** A batch is in the journal. */
  open(batch: OpenBatch): void;
  /** Batches are not, and never will be: there is no room. */
  shut(batches: readonly OpenBatch[], cause: unknown): void;
  /** This incarnation can never commit again. */
  fenced(): void;
  /** An append has come to its end, and there may be room in a batch again. */
  settled(): void;
}

/** What was appended since the last checkpoint. */
export class TailSize {
  records = 0;
  bytes = 0;

  add(records: number, bytes: number): void {
    this.records += records;
    this.bytes += bytes;
  }

  /** Begins anew; returns what there was. */
  cut(): { readonly records: number; readonly bytes: number } {
    const { records, bytes } = this;
    this.records = 0;
    this.bytes = 0;
    return { records, bytes };
  }
}

export class Commits {
  readonly tail = new TailSize();
  readonly #lane: Lane;
  readonly #parts: EngineParts;
  readonly #tracing: Tracing | undefined;
  readonly #outcomes: Outcomes;
  #open = new OpenBatch();
  #inFlight: OpenBatch | undefined;
  #blocked = false;
  #stopped = false;
  #seq = 0;

  constructor(lane: Lane, parts: EngineParts, tracing: Tracing | undefined, outcomes: Outcomes) {
    this.#lane = lane;
    this.#parts = parts;
    this.#tracing = tracing;
    this.#outcomes = outcomes;
  }

  /** Position of the last batch whose gate was opened, or of the lane's end when it was empty. */
  get seq(): number {
    return this.#seq;
  }

  /** Whether the open batch had no room for a turn: nothing is stepped until it is on its way. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /** Shows each turn that is stepped and not committed, in order. */
  each(look: (taken: Taken) => void): void {
    for (const batch of [this.#inFlight, this.#open]) for (const taken of batch?.entries ?? []) look(taken);
  }

  /** The batch that is being appended. */
  get inFlight(): object | undefined {
    return this.#inFlight;
  }

  /** Where the next record will lie. */
  slot(now: number): Slot {
    return this.#open.slot(now);
  }

  /** Takes a turn into the open batch. False if that has no room for it. */
  add(taken: Taken): boolean {
    const open = this.#open;
    if (!open.takes(taken.record.length)) {
      this.#blocked = true;
      return false;
    }
    open.add(taken);
    return true;
  }

  /** Calls back when what the actor's latest state is, is committed and surely still current. */
  read(a: Activation, read: Read): void {
    if (a.inFlight) {
      const batch = a.latest.batch === this.#open.ref ? this.#open : this.#inFlight;
      (batch ?? this.#open).reads.push(read);
    } else if (this.#parts.lease.holds()) read(undefined);
    else this.prove(read);
  }

  /** Calls back when an append has shown that no other node has committed anything of our shards. */
  prove(read: Read): void {
    this.#open.barrier = true;
    this.#open.reads.push(read);
  }

  /** Gives what there is to the lane, unless that has something already. */
  start(): void {
    if (this.#inFlight !== undefined || !this.#open.wanted) return;
    const { clock } = this.#parts.world;
    const batch = this.#open;
    this.#inFlight = batch;
    this.#open = new OpenBatch();
    this.#blocked = false;
    batch.sent_ms = clock.monotonic();
    const time = batch.parts.length === 0 ? clock.now() : batch.time;
    void this.#append(batch, this.#lane.encode(time, batch.parts, batch.shards, batch.bytes));
  }

  stop(): void {
    this.#stopped = true;
    this.#lane.stop();
  }

  async #append(batch: OpenBatch, bytes: Uint8Array): Promise<void> {
    const result = await this.#lane.append(bytes);
    if (this.#stopped) return;
    this.#inFlight = undefined;
    if (result.kind === "fenced") {
      this.#outcomes.fenced();
      return;
    }
    if (result.kind === "full") {
      const given = [batch, this.#open];
      this.#open = new OpenBatch();
      this.#outcomes.shut(given, result.cause);
    } else this.#committed(batch, result.seq, bytes.length);
    this.#blocked = false;
    this.start();
    this.#outcomes.settled();
  }

  #committed(batch: OpenBatch, seq: number, bytes: number): void {
    const { world, tally, observer } = this.#parts;
    batch.ref.seq = seq;
    this.tail.add(batch.parts.length, bytes);
    batch.committed_ms = world.clock.monotonic();
    tally.committed(batch, bytes);
    this.#tracing?.committed(batch, bytes);
    this.#seq = seq;
    this.#outcomes.open(batch);
    observer.committed(batch.parts.length, bytes);
  }
}
