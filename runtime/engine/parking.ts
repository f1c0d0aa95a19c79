/**
 * Told messages that were taken in and cannot be stepped yet.
 *
 * Owns what waits in the shards' in-channels (`InChannel.parked`, `resting`), which channels wait for room at which
 * actor (`Activation.crowd`), and how long messages for types that nobody hosts here are waited for. Brings what waits
 * back into the queue, before newer messages.
 *
 * Invariants:
 * 1. A channel's messages are stepped, and so committed, in the order of their numbers: only the last number is kept.
 *    While one waits those behind it wait too (and their actors are loaded meanwhile).
 * 2. What waits comes back: when its actor is loaded, when the actor that had no room has taken a turn, when the one
 *    before it was taken, or after a pause.
 */
import type { Clock } from "../ports/index.ts";
import type { KeyturnError } from "../words/errors.ts";
import { laneOfChannel } from "../words/lanes.ts";
import type { Activation, Job } from "./activation.ts";
import type { Queue } from "./queue.ts";
import type { InChannel, ShardState } from "./shard.ts";

/** How long a told message waits when its own tells do not fit into the outbox, or its actor cannot be read. */
export const PARK_MS = 50;
/** And if it is for a sink that is full, or its turn emits to one, unless that has room before. */
const SINK_PARK_MS = 250;
/** How long an event for a view or sink that this node does not have waits for one that does: a rolling deploy. */
const DEPLOY_MS = 15 * 60_000;
const MISSING_MAX = 1_024;
/** Of a channel's parked messages, how many are tried at once. */
const UNPARK_MESSAGES = 32;

export class Parking {
  readonly #clock: Clock;
  readonly #queue: Queue;
  /** Has the queue looked at. */
  readonly #wake: () => void;
  /** Types of views and sinks that are not hosted here, and since when messages for them have come. Monotonic. */
  readonly #missing = new Map<string, number>();

  constructor(clock: Clock, queue: Queue, wake: () => void) {
    this.#clock = clock;
    this.#queue = queue;
    this.#wake = wake;
  }

  /** Parks a told message whose actor is being loaded, or that is not the next of its channel. False if it need not wait. */
  mustWait(a: Activation, job: Job): boolean {
    const channel = job.shard.in(job.fromShard);
    // What waits is brought back in parts, by several causes: the order of the queue alone says nothing.
    if (!a.loading && job.number === channel.stepped + 1) return false;
    channel.park(job);
    return true;
  }

  /** A told message that cannot be taken now waits, with those behind it. */
  park(job: Job, pause_ms = PARK_MS): void {
    const { shard } = job;
    const channel = shard.in(job.fromShard);
    channel.park(job);
    if (channel.resting) return;
    channel.resting = true;
    this.#clock.after(pause_ms, () => {
      channel.resting = false;
      this.#unpark(shard, channel, UNPARK_MESSAGES);
    });
  }

  /** A told message that its actor, or the outbox, has no room for. */
  parkFull(job: Job, a: Activation, { code }: KeyturnError): void {
    if (code !== "sink_full") {
      this.park(job);
      return;
    }
    (a.crowd ??= new Set()).add(job.shard.in(job.fromShard));
    this.park(job, SINK_PARK_MS);
  }

  /**
   * Parks a message for a type that is not hosted here, if it may wait for a node that has it: in a rolling deploy a view
   * or sink is there on some nodes before it is on others. Only on their own lanes, where nothing else waits behind it;
   * and not for ever, since the type may have been given up.
   */
  awaitsDeploy(job: Job, type: string): boolean {
    if (laneOfChannel(job.fromShard) < 1) return false;
    const now = this.#clock.monotonic();
    const since = this.#missing.get(type) ?? now;
    if (this.#missing.size < MISSING_MAX) this.#missing.set(type, since);
    if (now - since >= DEPLOY_MS) return false;
    this.park(job, SINK_PARK_MS);
    return true;
  }

  /** A turn was taken: an actor that had no room may have some now, and others may wait behind a told message. */
  taken(a: Activation, job: Job): void {
    if (job.fromShard < 0) {
      if (a.crowd !== undefined) this.#letIn(a);
      return;
    }
    const channel = job.shard.in(job.fromShard);
    channel.stepped = job.number;
    // Those that were not tried together with it.
    if (channel.parked[0]?.number === job.number + 1) this.#unparkSoon(job.shard, channel);
  }

  /** An actor of a shard was loaded, or failed to be: whatever waited for it may go on. */
  loaded(shard: ShardState): void {
    for (const channel of shard.ins.values()) this.#unpark(shard, channel);
  }

  #letIn(a: Activation): void {
    const { crowd, shard } = a;
    a.crowd = undefined;
    for (const channel of crowd ?? []) this.#unparkSoon(shard, channel);
  }

  /** Not at once: the message that is handled now is still in the queue. */
  #unparkSoon(shard: ShardState, channel: InChannel): void {
    this.#clock.defer(() => this.#unpark(shard, channel, UNPARK_MESSAGES));
  }

  #unpark(shard: ShardState, channel: InChannel, most = Number.POSITIVE_INFINITY): void {
    if (shard.phase === "gone" || channel.parked.length === 0) return;
    this.#queue.unshift(channel.parked.splice(0, most));
    this.#wake();
  }
}
