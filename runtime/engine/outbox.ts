/**
 * Sends what actors told, from shard to shard, until the receiver has committed it.
 *
 * Owns the sending and repeating of the out channels, and the acknowledgements of the in channels. Talks to the
 * transport.
 *
 * Invariants:
 * 1. Only committed messages are sent, in the order of their numbers, at most `limits.outboxWindow` of a channel (of one
 *    to a sink `limits.sinkWindow`) and
 *    `limits.outboxWindowBytes` at a time, in frames that can be carried.
 * 2. An unacknowledged message is sent again, less and less often, for ever: also after a take-over.
 */
import type { Clock, Transport } from "../ports/index.ts";
import { type AckFrame, messageBytes } from "../words/frames.ts";
import { atOtherEnd, isSinkLane, laneOfChannel, shardOfChannel } from "../words/lanes.ts";
import { limits } from "../words/limits.ts";
import { sizeOf } from "../words/values.ts";
import type { OutMessage } from "./record.ts";
import type { OutChannel, ShardState, Waiting } from "./shard.ts";

const REPEAT_MS = 250;
/** The longest pause, in those. A sink may be down for days. */
const REPEATS = 8;
const SINK_REPEATS = 32;
/** Messages in one frame, if their bytes do not fill it before. */
const FRAME_MESSAGES = 128;

export class Outbox {
  readonly #transport: Transport;
  readonly #clock: Clock;
  /** Channels with something to send. */
  readonly #ready = new Map<OutChannel, { shard: ShardState; to: number }>();
  /** Channels with something unacknowledged. */
  readonly #waiting = new Map<OutChannel, { shard: ShardState; to: number }>();
  readonly #acks = new Map<ShardState, Map<number, number>>();
  #cancel: (() => void) | undefined;
  #stopped = false;

  constructor(transport: Transport, clock: Clock) {
    this.#transport = transport;
    this.#clock = clock;
  }

  /** Messages that a turn told, now committed. */
  add(shard: ShardState, messages: readonly OutMessage[]): void {
    for (const message of messages) {
      const { toShard, event, bytes = sizeOf(event) } = message;
      const channel = shard.out(toShard);
      channel.push(message, messageBytes(message, bytes));
      this.#ready.set(channel, { shard, to: toShard });
    }
  }

  /** A shard has just come to this node: whatever is not acknowledged goes out again. */
  resume(shard: ShardState): void {
    for (const [to, channel] of shard.outs) {
      if (channel.waiting.length === 0) continue;
      channel.sent = channel.acknowledged;
      this.#ready.set(channel, { shard, to });
    }
    this.flush();
  }

  /** Notes that messages from another shard up to a number are committed here. */
  acknowledge(shard: ShardState, fromShard: number, upTo: number): void {
    let acks = this.#acks.get(shard);
    if (acks === undefined) this.#acks.set(shard, (acks = new Map()));
    acks.set(fromShard, Math.max(upTo, acks.get(fromShard) ?? 0));
  }

  /** The other side has committed messages of ours. */
  acknowledged(shard: ShardState, frame: AckFrame): void {
    const channel = shard.outs.get(frame.fromShard);
    if (channel === undefined || !channel.acknowledge(frame.upTo)) return;
    channel.pause_ms = REPEAT_MS;
    if (channel.waiting.length === 0) this.#waiting.delete(channel);
    else if (channel.sent < channel.committed) {
      this.#ready.set(channel, { shard, to: frame.fromShard });
      this.#clock.defer(() => this.flush());
    }
  }

  /** Sends what is ready. */
  flush(): void {
    if (this.#stopped) return;
    for (const [shard, acks] of this.#acks) {
      for (const [to, upTo] of acks) {
        const sender = shardOfChannel(to);
        const fromShard = atOtherEnd(to, shard.shard);
        this.#transport.publish(`shard.${sender}`, { kind: "ack", shard: sender, fromShard, upTo });
      }
    }
    this.#acks.clear();
    for (const [channel, { shard, to }] of this.#ready) this.#send(channel, shard, to);
    this.#ready.clear();
    if (this.#waiting.size > 0) this.#arrange();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }

  #send(channel: OutChannel, shard: ShardState, to: number): void {
    if (shard.phase === "gone") return;
    const receiver = shardOfChannel(to);
    const window = isSinkLane(laneOfChannel(to)) ? limits.sinkWindow : limits.outboxWindow;
    const end = Math.min(channel.committed, channel.acknowledged + window);
    let onTheirWay = 0;
    for (let at = 0; at < channel.sent - channel.acknowledged; at++)
      onTheirWay += (channel.waiting[at] as Waiting).bytes;
    while (channel.sent < end) {
      const from = channel.sent - channel.acknowledged;
      const { messages, bytes } = frameful(channel.waiting, from, end - channel.acknowledged);
      if (onTheirWay > 0 && onTheirWay + bytes > limits.outboxWindowBytes) break;
      onTheirWay += bytes;
      const first = channel.sent + 1;
      this.#transport.publish(`shard.${receiver}`, {
        kind: "told",
        shard: receiver,
        fromShard: atOtherEnd(to, shard.shard),
        first,
        messages,
      });
      channel.sent += messages.length;
    }
    channel.sent_ms = this.#clock.monotonic();
    this.#waiting.set(channel, { shard, to });
  }

  #arrange(): void {
    this.#cancel ??= this.#clock.after(REPEAT_MS, () => {
      this.#cancel = undefined;
      this.#repeat();
    });
  }

  #repeat(): void {
    const now = this.#clock.monotonic();
    for (const [channel, { shard, to }] of this.#waiting) {
      if (shard.phase === "gone" || channel.waiting.length === 0) {
        this.#waiting.delete(channel);
      } else if (now - channel.sent_ms >= channel.pause_ms) {
        const most = isSinkLane(laneOfChannel(to)) ? SINK_REPEATS : REPEATS;
        channel.pause_ms = Math.min(channel.pause_ms * 2, most * REPEAT_MS);
        channel.sent = channel.acknowledged;
        this.#ready.set(channel, { shard, to });
      }
    }
    this.flush();
    if (this.#waiting.size > 0) this.#arrange();
  }
}

/** As many messages as go into one frame, one at least. */
function frameful(
  waiting: readonly Waiting[],
  from: number,
  to: number,
): { messages: readonly Waiting[]; bytes: number } {
  let bytes = 0;
  let at = from;
  for (; at < to && at - from < FRAME_MESSAGES; at++) {
    const more = (waiting[at] as Waiting).bytes;
    if (at > from && bytes + more > limits.frameFill) break;
    bytes += more;
  }
  return { messages: waiting.slice(from, at), bytes };
}
