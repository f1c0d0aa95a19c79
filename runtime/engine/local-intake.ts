/**
 * Messages of the node's own: timers that are due, what came of work, and what user code sends outside of a turn.
 *
 * Owns their way into the queue, and their way back into it if they cannot be taken yet: nobody would send them again.
 * Talks to the shards.
 *
 * Invariants:
 * 1. What came of work is kept until it is taken, or its shard is gone; whoever takes the shard over runs the work again.
 * 2. Nothing of it is taken in while a shard drains: its last checkpoint may be written already.
 */
import type { Clock } from "../ports/index.ts";
import { placeOfId } from "../words/address.ts";
import { seal } from "../words/values.ts";
import { type Activation, ChildJob, type Job, newJob, TimerJob } from "./activation.ts";
import type { Registry } from "./definition.ts";
import type { EventObject } from "./machine/internals.ts";
import { checkEvent } from "./outgoing.ts";
import { PARK_MS } from "./parking.ts";
import type { Queue } from "./queue.ts";
import { keyOfId } from "./record.ts";
import type { ShardState } from "./shard.ts";

export class LocalIntake {
  /** The trace of the turn whose custom action runs at this moment. */
  acting: string | undefined = undefined;
  readonly #clock: Clock;
  readonly #queue: Queue;
  readonly #shards: ReadonlyMap<number, ShardState>;
  readonly #registry: Registry;
  readonly #shardsOfApp: number;
  /** Has the queue looked at, and the timers. */
  readonly #wake: { queue(): void; timers(): void };
  readonly #later = new Set<Job>();

  constructor(
    clock: Clock,
    queue: Queue,
    shards: ReadonlyMap<number, ShardState>,
    registry: Registry,
    shardsOfApp: number,
    wake: { queue(): void; timers(): void },
  ) {
    this.#clock = clock;
    this.#queue = queue;
    this.#shards = shards;
    this.#registry = registry;
    this.#shardsOfApp = shardsOfApp;
    this.#wake = wake;
  }

  /** An actor has something due. */
  ring(shard: ShardState, id: string): void {
    const key = keyOfId(id);
    const message = { id, key, event: undefined, trace: undefined };
    shard.busy++;
    this.#push(newJob(TimerJob, shard, message, undefined, -1, 0, this.#clock.monotonic()));
  }

  /** A timer whose actor could not be read, or that had no room for what it tells, is looked at again soon. */
  ringLater({ id, shard }: Activation): void {
    shard.busy--;
    this.#clock.after(PARK_MS, () => {
      const { due, phase } = shard;
      if (phase === "gone" || due.has(id)) return;
      due.set(id, due.taken.get(id) ?? 0);
      this.#wake.timers();
    });
  }

  /** Something for a child of an actor or, without a session, for its machine. */
  deliver(
    shard: ShardState,
    id: string,
    key: string,
    session: string | undefined,
    event: EventObject,
    sender?: string,
    trace?: string,
  ): void {
    if (shard.phase === "gone") return;
    if (shard.phase !== "serving") {
      // What is handed over is run again there; what stays, goes on here.
      this.#clock.after(PARK_MS, () => this.deliver(shard, id, key, session, event, sender, trace));
      return;
    }
    const message = { id, key, event, trace, session, sender };
    shard.busy++;
    this.#push(newJob(ChildJob, shard, message, undefined, -1, 0, this.#clock.monotonic()));
  }

  /** What came of a child waits: its actor cannot be read, or what it tells does not fit into the outbox. */
  bringLater(job: Job): void {
    this.#later.add(job);
    this.#clock.after(PARK_MS, () => {
      this.#later.delete(job);
      if (job.shard.phase !== "gone") this.#push(job);
    });
  }

  /** User code sent an actor something, in a custom action. At most once, as the action. */
  sentOutside(owner: string, session: string | undefined, event: EventObject): void {
    const { type, id, key, shard: number } = placeOfId(owner, this.#shardsOfApp);
    const shard = this.#shards.get(number);
    if (shard === undefined || !this.#registry.has(type)) return;
    checkEvent(event);
    seal(event, "the event");
    this.deliver(shard, id, key, session, event, undefined, this.acting);
  }

  /** What came of children and waits. */
  get later(): Iterable<Job> {
    return this.#later;
  }

  #push(job: Job): void {
    this.#queue.push(job);
    this.#wake.queue();
  }
}
