/**
 * The node's lane: the one place where turns become durable, and the fence.
 *
 * Owns the lane's last sequence and chain, and the resolution of appends without an answer. Talks to the Journal.
 *
 * Invariants:
 * 1. Every append expects the sequence of the append before it. Whoever seals the lane changes that sequence, and
 *    nothing of this incarnation is ever committed again, in any shard.
 * 2. One append at a time.
 * 3. An append without an answer is repeated, byte for byte, until the journal tells whether it is there: for ever, if
 *    it never does, and whoever observes the node hears of it.
 */
import type { Clock, Journal } from "../ports/index.ts";
import { checksumOf } from "../words/codec.ts";
import { type BatchHeader, decodeBatch, encodeBatch } from "./record.ts";

export type CommitResult =
  | { readonly kind: "committed"; readonly seq: number }
  | { readonly kind: "fenced" }
  /** Not in the journal: no room. The lane is as before. */
  | { readonly kind: "full"; readonly cause: unknown };

const RETRY_FIRST_MS = 5;
const RETRY_LAST_MS = 1_000;
/** Tries after which it is told what the trouble is, again and again: first after about half a second. */
const TOLD_EVERY = 8;

/** Hears why something is still being repeated. */
export type Troubled = (task: string, cause: unknown) => void;

/** The pauses between repetitions. */
class Retries {
  readonly #clock: Clock;
  readonly #task: string;
  readonly #troubled: Troubled;
  #wait = RETRY_FIRST_MS;
  #tries = 0;

  constructor(clock: Clock, task: string, troubled: Troubled) {
    this.#clock = clock;
    this.#task = task;
    this.#troubled = troubled;
  }

  async pause(cause: unknown): Promise<void> {
    if (++this.#tries % TOLD_EVERY === 0) this.#troubled(this.#task, cause);
    await new Promise<void>((resolve) => this.#clock.after(this.#wait, resolve));
    this.#wait = Math.min(this.#wait * 2, RETRY_LAST_MS);
  }
}

export class Lane {
  readonly name: string;
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #troubled: Troubled;
  #last = 0;
  #crc = 0;
  #number = 0;
  #stopped = false;

  constructor(name: string, journal: Journal, clock: Clock, troubled: Troubled) {
    this.name = name;
    this.#journal = journal;
    this.#clock = clock;
    this.#troubled = troubled;
  }

  /** Sequence of the last committed batch. */
  get last(): number {
    return this.#last;
  }

  /** Gives up repeating: the node stops. */
  stop(): void {
    this.#stopped = true;
  }

  /** Encodes the next batch of this lane. */
  encode(
    time: number,
    parts: readonly Uint8Array[],
    shards: readonly number[],
    partBytes: number,
  ): Uint8Array {
    const header: BatchHeader = {
      incarnation: this.name,
      number: this.#number + 1,
      previousSeq: this.#last,
      previousCrc: this.#crc,
      time,
      sealedBy: undefined,
    };
    return encodeBatch(header, parts, shards, partBytes);
  }

  /** Appends what `encode` made. Resolves when the outcome is certain. */
  async append(bytes: Uint8Array): Promise<CommitResult> {
    const retries = new Retries(this.#clock, "append to the journal", this.#troubled);
    // Once a try has no answer, "no room" says only that this repetition did not get in: the first may have, or still may.
    let uncertain = false;
    while (true) {
      const result = await this.#journal.append(this.name, this.expected(), bytes);
      let cause: unknown;
      switch (result.kind) {
        case "committed":
          return this.#advance(result.seq, bytes);
        case "conflict": {
          const found = await this.#findOwn(bytes);
          if (found.kind === "found") return this.#advance(found.seq, bytes);
          if (found.kind === "none") return { kind: "fenced" };
          cause = found.cause;
          break;
        }
        case "full":
          if (!uncertain) return result;
          cause = result.cause;
          break;
        case "unknown":
          uncertain = true;
          cause = result.cause;
          break;
      }
      if (this.#stopped) return { kind: "fenced" };
      await retries.pause(cause);
    }
  }

  /** What the next append expects to be the lane's last sequence. */
  expected(): number {
    return this.#last;
  }

  #advance(seq: number, bytes: Uint8Array): CommitResult {
    this.#last = seq;
    this.#crc = checksumOf(bytes);
    this.#number++;
    return { kind: "committed", seq };
  }

  /** After a conflict: the sequence of this very batch, if an earlier try had succeeded. */
  async #findOwn(
    bytes: Uint8Array,
  ): Promise<{ kind: "found"; seq: number } | { kind: "none" } | { kind: "unknown"; cause: unknown }> {
    try {
      // A seal may already lie behind our batch, so the lane is read from where we stood.
      for await (const entries of this.#journal.read(this.name, this.#last + 1, Number.MAX_SAFE_INTEGER)) {
        for (const { seq, bytes: found } of entries)
          if (Buffer.compare(found, bytes) === 0) return { kind: "found", seq };
      }
    } catch (cause) {
      return { kind: "unknown", cause };
    }
    return { kind: "none" };
  }
}

/**
 * Seals a lane, so that its writer can never commit again, and returns the seal's sequence.
 * Safe to call at any time, by any number of nodes: only the first seal counts.
 */
export async function sealLane(
  journal: Journal,
  lane: string,
  by: string,
  clock: Clock,
  troubled: Troubled,
): Promise<number> {
  const retries = new Retries(clock, `seal lane ${lane}`, troubled);
  while (true) {
    const last = await journal.last(lane);
    let header: BatchHeader = {
      incarnation: lane,
      number: 1,
      previousSeq: 0,
      previousCrc: 0,
      time: clock.now(),
      sealedBy: by,
    };
    if (last > 0) {
      const bytes = await journal.get(last);
      if (bytes === undefined) throw new Error(`Journal entry ${last}, the last of lane ${lane}, is gone.`);
      const batch = decodeBatch(bytes, last);
      if (batch.header.sealedBy !== undefined) return last;
      header = { ...header, number: batch.header.number + 1, previousSeq: last, previousCrc: batch.crc };
    }
    const result = await journal.append(lane, last, encodeBatch(header, [], [], 0));
    if (result.kind === "committed") return result.seq;
    if (result.kind !== "conflict") await retries.pause(result.cause);
  }
}
