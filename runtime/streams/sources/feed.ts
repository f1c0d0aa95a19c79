/**
 * Brings batches to a partition, each until it is committed.
 *
 * Owns the batches that are not confirmed. Talks to the partition's actor.
 *
 * Invariants:
 * 1. Batches are asked in order, `DEPTH` at most before the first is confirmed. Each names the revision and the position that
 *    it follows, so what comes after one that was refused is refused too, also where another runner's was taken instead.
 * 2. After a refusal or a missing answer nothing more is asked until all answers are in. Then the partition is read, which
 *    says what of it was applied, and the rest is asked again: a batch is never applied twice, whatever is repeated.
 * 3. If the partition stands where none of the batches ends, somebody else has moved it: `lost` is set, and what is left
 *    is dropped.
 */
import type { ActorRef } from "../../client/client.ts";
import type { Clock } from "../../ports/index.ts";
import { isKeyturnError, type KeyturnError } from "../../words/errors.ts";
import {
  type PartitionContext,
  type PartitionEvent,
  type PartitionReply,
  type Position,
  same,
} from "./words.ts";
import type { Batch } from "./mapping.ts";
import { pause } from "./pause.ts";

/** Batches on their way. */
const DEPTH = 4;
const PAUSE_FIRST_MS = 20;
const PAUSE_LAST_MS = 2_000;
/** Codes that say that something in the batch cannot be sent. */
export const CONTENT: ReadonlySet<string> = new Set([
  "event_too_large",
  "invalid_event",
  "reserved_event",
  "tell_invalid",
  "state_too_large",
]);

interface Waiting {
  batch: Batch;
  /** The revision that it follows, once it was asked, and the position. */
  from: number;
  behind: Position;
}

/** Where a partition stands. */
export type Standing = Pick<PartitionContext, "revision" | "position" | "delivered">;

export interface FeedParts {
  readonly clock: Clock;
  readonly ref: ActorRef;
  readonly signal: AbortSignal;
  /** Called with what is in the way, once it is, and without once it is over. */
  readonly troubled: (error: unknown) => void;
  /** The same items in smaller batches. */
  readonly apart: (batch: Batch, refusal: KeyturnError) => Iterable<Batch>;
}

export class Feed {
  /** As it was last heard of. */
  standing: Standing;
  /** Somebody else moved the partition. */
  lost = false;
  readonly #parts: FeedParts;
  #queue: Waiting[] = [];
  #asked = 0;
  #open = 0;
  /** Revision and position that the next batch follows. */
  #next: number;
  #confirmed: Position;
  #trouble: unknown;
  #failure: unknown;
  /** Ends the feed once what is left is confirmed. */
  #end: { readonly fault: unknown } | undefined;
  #pauses = 0;
  #wake: () => void = () => undefined;

  constructor(standing: Standing, parts: FeedParts) {
    this.standing = standing;
    this.#next = standing.revision;
    this.#confirmed = standing.position;
    this.#parts = parts;
  }

  /** Batches that are not confirmed. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** What is in the way. */
  get trouble(): unknown {
    return this.#trouble;
  }

  /** Resolves when there is room for another one. Throws what no repetition can cure. */
  async push(batch: Batch): Promise<void> {
    if (this.#end === undefined) this.#queue.push({ batch, from: -1, behind: null });
    this.#ask();
    await this.#until(() => this.#queue.length < DEPTH);
  }

  /** Resolves when everything is confirmed, or the partition is lost, or `signal` is aborted and nothing on its way. */
  drain(): Promise<void> {
    return this.#until(() => this.#queue.length === 0);
  }

  async #until(holds: () => boolean): Promise<void> {
    const { signal } = this.#parts;
    while (true) {
      if (this.#failure !== undefined && this.#open === 0) throw this.#failure;
      if (this.#end !== undefined && this.#queue.length === 0) throw this.#end.fault;
      if (this.#failure === undefined && (holds() || this.lost)) return;
      if (signal.aborted && this.#open === 0) return;
      if (this.#trouble !== undefined && this.#open === 0) await this.#recover();
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }

  #ask(): void {
    while (
      this.#trouble === undefined &&
      this.#failure === undefined &&
      !this.lost &&
      !this.#parts.signal.aborted &&
      this.#asked < Math.min(this.#queue.length, DEPTH)
    ) {
      const before = this.#queue[this.#asked - 1];
      const waiting = this.#queue[this.#asked++] as Waiting;
      waiting.behind = before === undefined ? this.#confirmed : before.batch.position;
      waiting.from = this.#next++;
      this.#open++;
      this.#parts.ref.ask(eventOf(waiting) as never).then(
        (reply) => this.#answered(waiting, reply as unknown as PartitionReply),
        (error: unknown) => this.#refused(waiting, error),
      );
    }
  }

  #answered(waiting: Waiting, reply: PartitionReply): void {
    this.#open--;
    if (reply.applied && this.#queue[0] === waiting) {
      this.standing = reply;
      this.#confirm();
      if (this.#pauses > 0) {
        this.#pauses = 0;
        this.#parts.troubled(undefined);
      }
      this.#ask();
    } else this.#trouble ??= new Error("The partition was moved.");
    this.#wake();
  }

  #confirm(): void {
    const { batch } = this.#queue.shift() as Waiting;
    this.#confirmed = batch.position;
    this.#asked--;
  }

  #refused(waiting: Waiting, error: unknown): void {
    this.#open--;
    if (isKeyturnError(error) && CONTENT.has(error.code)) {
      this.#takeApart(waiting, error);
      this.#trouble ??= new Error("A batch cannot be sent.");
    } else if (this.#trouble === undefined && !(isKeyturnError(error) && isPassing(error))) {
      this.#failure ??= error;
    }
    this.#trouble ??= error;
    this.#wake();
  }

  #takeApart(waiting: Waiting, error: KeyturnError): void {
    const at = this.#queue.indexOf(waiting);
    if (at < 0) return;
    const parts: Waiting[] = [];
    try {
      for (const batch of this.#parts.apart(waiting.batch, error))
        parts.push({ batch, from: -1, behind: null });
      const last = parts.at(-1);
      if (last !== undefined) last.batch.ended = waiting.batch.ended;
      this.#queue.splice(at, 1, ...parts);
    } catch (fault) {
      // What comes before the item that ends it all counts; nothing after it.
      this.#queue.splice(at, this.#queue.length, ...parts);
      this.#end ??= { fault };
    }
  }

  /** Nothing is on its way: finds out where the partition stands, and goes on from there. */
  async #recover(): Promise<void> {
    const { clock, signal, troubled } = this.#parts;
    if (isKeyturnError(this.#trouble)) {
      troubled(this.#trouble);
      await pause(clock, Math.min(PAUSE_LAST_MS, PAUSE_FIRST_MS * 2 ** this.#pauses++), signal);
    }
    if (signal.aborted) return;
    try {
      const state = await this.#parts.ref.get();
      this.#settle(state.context as unknown as PartitionContext);
    } catch (error) {
      if (!isKeyturnError(error) || !isPassing(error)) this.#failure = error;
      else this.#trouble = error;
      return;
    }
    this.#trouble = undefined;
    this.#ask();
  }

  #settle(standing: PartitionContext): void {
    this.standing = standing;
    const { revision, position } = standing;
    const at = this.#queue.findIndex(
      ({ from, batch }) => from + 1 === revision && same(batch.position, position),
    );
    for (let taken = 0; taken <= at; taken++) this.#confirm();
    const first = this.#queue[0];
    if (at < 0 && !same(this.#confirmed, position)) this.lost = true;
    this.#asked = 0;
    this.#next = revision;
    if (this.lost || first === undefined) this.#queue = [];
  }
}

/** Whether it may be over later: also what is not known to be applied, since the partition tells. */
function isPassing(error: KeyturnError): boolean {
  return error.retryable || error.code === "request_forgotten";
}

function eventOf({ from, behind, batch }: Waiting): PartitionEvent {
  const { position, items, skipped, missed, letters, tells, ended } = batch;
  return { type: "items", from, behind, position, items, skipped, missed, letters, tells, ended };
}
