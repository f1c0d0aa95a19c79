/** The batch that is being filled: its records, and what waits for its commit. */
import type { KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import { BatchRef } from "./activation.ts";
import type { Taken } from "./taken.ts";
import type { Slot } from "./turn-record.ts";

/** Room for the batch's header and one row of its table. */
const HEADER_BYTES = 1_024;
const ROW_BYTES = 6;

/** An answer that only reads: told when what it read is committed, or why it never will be. */
export type Read = (failed: KeyturnError | undefined) => void;

export class OpenBatch {
  readonly ref = new BatchRef();
  /** Wall-clock time of the first record. */
  time = 0;
  /** When it was given to the journal, and when that had answered. Monotonic. */
  sent_ms = 0;
  committed_ms = 0;
  readonly parts: Uint8Array[] = [];
  readonly shards: number[] = [];
  bytes = 0;
  readonly entries: Taken[] = [];
  /** Those of them that have spans. */
  readonly traced: Taken[] = [];
  readonly reads: Read[] = [];
  /** True if an append is needed although there is nothing to record: it proves that this node is not fenced. */
  barrier = false;

  get wanted(): boolean {
    return this.parts.length > 0 || this.barrier;
  }

  /** Where the next record will lie. */
  slot(now: number): Slot {
    if (this.parts.length === 0) this.time = now;
    return { batch: this.ref, index: this.parts.length, time: now, delay: Math.max(0, now - this.time) };
  }

  /** Whether a record of so many bytes still fits. The first always does. */
  takes(bytes: number): boolean {
    const count = this.parts.length;
    if (count === 0) return true;
    return (
      count < limits.batchRecords &&
      this.bytes + bytes + (count + 1) * ROW_BYTES + HEADER_BYTES <= limits.batchBytes
    );
  }

  add(taken: Taken): void {
    this.parts.push(taken.record);
    this.shards.push(taken.job.shard.shard);
    this.bytes += taken.record.length;
    this.entries.push(taken);
    if (taken.job.span !== undefined) this.traced.push(taken);
  }
}
