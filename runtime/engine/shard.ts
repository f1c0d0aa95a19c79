/**
 * A shard's own state, beside that of its actors: the channels into it and out of it, and its timers.
 *
 * Owns client sessions, shard-to-shard channels, the due heap, and the shard's stored entry. Talks to records and the
 * codec; the engine drives it.
 *
 * Invariants:
 * 1. A channel takes number `last + 1` and nothing else: below is a repetition, above is a gap. A client's `base`
 *    moves `last` up, past numbers that the client has settled otherwise.
 * 2. What is taken in and not yet committed is forgotten by `rollback` and by a new owner; the sender sends it again.
 * 3. A told message stays in the outbox until its receiver has committed it.
 * 4. The stored entry plus the records after it give all of this back.
 */
import { messageBytes, type Reply, type Told } from "../words/frames.ts";
import { limits } from "../words/limits.ts";
import { decode, encode, envelope, openEnvelope } from "../words/codec.ts";
import { KeyturnError } from "../words/errors.ts";
import { sizeOf } from "../words/values.ts";
import type { Job } from "./activation.ts";
import { Letters } from "./dead-letters.ts";
import { FromSession, FromShard, type Link, type TurnRecord } from "./record.ts";
import type { Patch } from "./state.ts";
import { DueHeap } from "./timers.ts";

/** A request that was stepped, and where its record lies. A turn of the engine is one of these. */
export interface Stepped {
  readonly id: string;
  /** Undefined until it is committed. */
  readonly at: Link | undefined;
}

/** One client's requests to one shard. */
export class Session {
  readonly name: string;
  /** Highest number taken in. */
  last: number;
  /** Numbers up to here were taken in by an earlier owner; what is not remembered of them was not applied. */
  inherited: number;
  /** Monotonic time of the last frame; the session may be forgotten some time after. */
  used_ms: number;
  /** What the client may still ask about: numbers from `#offset` on, of which those below `#base` are dead. */
  readonly #stepped: (Stepped | undefined)[] = [];
  /** The results of the same numbers. A committed one without a result here has it in the journal. */
  readonly #replies: (Reply | undefined)[] = [];
  #offset: number;
  #base: number;

  constructor(name: string, base: number, used_ms: number) {
    this.name = name;
    this.last = base - 1;
    this.inherited = 0;
    this.#base = base;
    this.#offset = base;
    this.used_ms = used_ms;
  }

  get base(): number {
    return this.#base;
  }

  /** Forgets what the client has settled. */
  advance(base: number): void {
    if (base <= this.#base) return;
    // At once: what is kept here keeps whole states alive.
    const end = base - this.#offset;
    for (let slot = this.#base - this.#offset; slot < end && slot < this.#stepped.length; slot++) {
      this.#stepped[slot] = undefined;
      this.#replies[slot] = undefined;
    }
    this.#base = base;
    if (this.last < base - 1) this.last = base - 1;
    if (end > 256 && end * 2 > this.#stepped.length) {
      this.#stepped.splice(0, end);
      this.#replies.splice(0, end);
      this.#offset = base;
    }
  }

  /** What to do with a request's number. */
  classify(number: number): "next" | "gap" | "repeated" {
    return number === this.last + 1 ? "next" : number > this.last ? "gap" : "repeated";
  }

  /** Notes that a request was stepped. */
  step(number: number, stepped: Stepped): void {
    const slot = this.#slot(number);
    if (slot >= 0) this.#stepped[slot] = stepped;
  }

  /** Notes a request's result. */
  settle(number: number, reply: Reply): void {
    const slot = this.#slot(number);
    if (slot >= 0) this.#replies[slot] = reply;
  }

  steppedAs(number: number): Stepped | undefined {
    return number < this.#base ? undefined : this.#stepped[number - this.#offset];
  }

  replyTo(number: number): Reply | undefined {
    return number < this.#base ? undefined : this.#replies[number - this.#offset];
  }

  /** For recovery: a number that a record proves to have been applied. */
  recover(number: number, stepped: Stepped): void {
    if (number > this.last) this.last = number;
    this.inherited = this.last;
    this.advance(this.last - limits.sessionInFlight);
    this.step(number, stepped);
  }

  /** What was stepped and may still be asked about, by number. */
  *remembered(): Generator<[number: number, stepped: Stepped]> {
    for (let number = this.#base; number - this.#offset < this.#stepped.length; number++) {
      const stepped = this.#stepped[number - this.#offset];
      if (stepped !== undefined) yield [number, stepped];
    }
  }

  /** A number's place in both lists, which are made long enough; below 0 if it is dead. */
  #slot(number: number): number {
    const slot = number - this.#offset;
    while (this.#stepped.length <= slot) {
      this.#stepped.push(undefined);
      this.#replies.push(undefined);
    }
    return slot;
  }
}

/** Messages that the actors of another shard told actors of this one. */
export class InChannel {
  /** Highest number taken in. */
  accepted: number;
  /** Highest number committed. */
  committed: number;
  /** Taken in and waiting, in order; the engine's. */
  parked: Job[] = [];

  constructor(committed: number) {
    this.accepted = committed;
    this.committed = committed;
  }

  /** Whether a number is the one to be taken in next. */
  isNext(number: number): boolean {
    return number === this.accepted + 1;
  }

  commit(number: number): void {
    this.committed = number;
    // After a rollback, what was in flight then is committed all the same.
    if (this.accepted < number) this.accepted = number;
  }

  /** Forgets what is not committed. Returns how many messages were waiting. */
  rollback(): number {
    const dropped = this.parked.length;
    this.parked = [];
    this.accepted = this.committed;
    return dropped;
  }
}

/** A told message with what it takes in a frame, about. */
export interface Waiting extends Told {
  readonly bytes: number;
}

/** What all channels out of a shard hold, in bytes. */
export class OutboxSize {
  bytes = 0;
}

/** Messages that actors of this shard told actors of another. */
export class OutChannel {
  /** Number of the last message given one, committed or not. */
  numbered = 0;
  /** Number of the last committed message. */
  committed = 0;
  /** Number of the last message the receiver has committed. */
  acknowledged = 0;
  /** Committed and not acknowledged; the first has number `acknowledged + 1`. */
  waiting: Waiting[] = [];
  /** Highest number on its way. */
  sent = 0;
  /** Monotonic time of the last sending, and how long after it everything unacknowledged is sent again. */
  sent_ms = 0;
  pause_ms = 250;
  readonly #size: OutboxSize;

  constructor(size: OutboxSize) {
    this.#size = size;
  }

  push({ id, key, type, event, trace }: Told, bytes: number): void {
    this.waiting.push({ id, key, type, event, trace, bytes });
    this.#size.bytes += bytes;
    this.committed++;
  }

  /** Takes an acknowledgement; returns whether it was news. */
  acknowledge(upTo: number): boolean {
    if (upTo <= this.acknowledged || upTo > this.committed) return false;
    for (const { bytes } of this.waiting.splice(0, upTo - this.acknowledged)) this.#size.bytes -= bytes;
    this.acknowledged = upTo;
    if (this.sent < upTo) this.sent = upTo;
    return true;
  }

  rollback(): void {
    this.numbered = this.committed;
  }
}

const SHARD_MAGIC = 0x48;
const SHARD_VERSION = 1;

type StoredSession = [name: string, last: number, base: number, places: [number, string, Link][]];
type StoredOut = [shard: number, committed: number, waiting: [string, string, unknown, string | null][]];

/** See above. */
export class ShardState {
  readonly shard: number;
  readonly sessions = new Map<string, Session>();
  readonly ins = new Map<number, InChannel>();
  readonly outs = new Map<number, OutChannel>();
  readonly outbox = new OutboxSize();
  readonly due = new DueHeap();
  /** What the tail says of actors that are not in memory, by id. Emptied by the next checkpoint. */
  readonly patches = new Map<string, Patch>();
  readonly letters = new Letters();
  /** Which ownership of the shard this is. */
  epoch = 0;
  /** Revision of the stored entry. */
  revision = 0;
  /** Set when storage of this shard does not hold together: everything sent to it is refused so. */
  failed: KeyturnError | undefined = undefined;
  /** Messages taken in whose outcome is not settled yet. */
  busy = 0;
  /** `serving`: takes messages in. `draining`: finishes what it has. `gone`: drops everything. */
  phase: "serving" | "draining" | "gone" = "serving";
  /** Timers due before this time are in `due`; later ones are found in the store's index. */
  horizon_ms = 0;

  constructor(shard: number) {
    this.shard = shard;
  }

  /** @throws KeyturnError `overloaded` if there are too many sessions already */
  session(name: string, base: number, now_ms: number): Session {
    if (!this.sessions.has(name) && this.sessions.size >= limits.sessionsPerShard)
      this.#forgetSession(now_ms);
    return this.#session(name, base, now_ms);
  }

  #session(name: string, base: number, now_ms: number): Session {
    let session = this.sessions.get(name);
    if (session === undefined) this.sessions.set(name, (session = new Session(name, base, now_ms)));
    session.used_ms = now_ms;
    return session;
  }

  in(shard: number): InChannel {
    let channel = this.ins.get(shard);
    if (channel === undefined) this.ins.set(shard, (channel = new InChannel(0)));
    return channel;
  }

  out(shard: number): OutChannel {
    let channel = this.outs.get(shard);
    if (channel === undefined) this.outs.set(shard, (channel = new OutChannel(this.outbox)));
    return channel;
  }

  /** Forgets sessions that no retry can come from any more. */
  forgetIdle(now_ms: number): void {
    for (const [name, session] of this.sessions) {
      if (now_ms - session.used_ms > limits.sessionIdle_ms) this.sessions.delete(name);
    }
  }

  #forgetSession(now_ms: number): void {
    this.forgetIdle(now_ms);
    if (this.sessions.size < limits.sessionsPerShard) return;
    throw new KeyturnError(
      "overloaded",
      `Shard ${this.shard} serves ${limits.sessionsPerShard} client sessions, its limit. Share one client among callers.`,
    );
  }

  /** Adds what a record says about channels. Records may be repeated: numbers below the last are known. */
  replay(record: TurnRecord, at: Link, now_ms: number): void {
    if (record.source === FromSession) {
      const name = record.sourceName as string;
      // Not bounded here: what the tail proves must be known again, however many sessions came and went in it.
      this.#session(name, record.sourceNumber, now_ms).recover(record.sourceNumber, {
        id: record.id,
        at,
      });
    } else if (record.source === FromShard) {
      const channel = this.in(record.sourceName as number);
      channel.committed = Math.max(channel.committed, record.sourceNumber);
      channel.accepted = channel.committed;
    }
    for (const message of record.out) {
      const channel = this.out(message.toShard);
      if (message.number <= channel.committed) continue;
      channel.push(message, messageBytes(message, sizeOf(message.event)));
      channel.numbered = channel.committed;
    }
  }

  /** The shard's stored entry. */
  encode(): Uint8Array {
    const sessions: StoredSession[] = [];
    for (const s of this.sessions.values()) {
      const places: StoredSession[3] = [];
      for (const [number, { id, at }] of s.remembered()) if (at !== undefined) places.push([number, id, at]);
      sessions.push([s.name, s.last, s.base, places]);
    }
    const ins = [...this.ins].map(([shard, channel]) => [shard, channel.committed]);
    const outs: StoredOut[] = [];
    for (const [shard, channel] of this.outs) {
      const waiting = channel.waiting.map((m): StoredOut[2][number] => [
        m.id,
        m.key,
        m.event,
        m.trace ?? null,
      ]);
      outs.push([shard, channel.committed, waiting]);
    }
    return envelope(encode([this.shard, sessions, ins, outs]), SHARD_MAGIC, SHARD_VERSION);
  }

  /** Fills an empty state from its stored entry. */
  load(bytes: Uint8Array, now_ms: number): void {
    const body = openEnvelope(bytes, SHARD_MAGIC, SHARD_VERSION);
    if (typeof body === "string") {
      throw new KeyturnError(
        body === "newer" ? "newer_format" : "corrupt_snapshot",
        `The entry of shard ${this.shard} cannot be read (${body}). The shard is not served. Restore the store from a copy, or upgrade this node.`,
      );
    }
    const [shard, sessions, ins, outs] = decode(body) as [
      number,
      StoredSession[],
      [number, number][],
      StoredOut[],
    ];
    if (shard !== this.shard) {
      throw new KeyturnError("corrupt_snapshot", `The entry of shard ${this.shard} names shard ${shard}.`);
    }
    for (const [name, last, base, places] of sessions) {
      const session = new Session(name, base, now_ms);
      session.last = last;
      session.inherited = last;
      for (const [number, id, at] of places) session.step(number, { id, at });
      this.sessions.set(name, session);
    }
    for (const [from, committed] of ins) this.ins.set(from, new InChannel(committed));
    for (const [to, committed, waiting] of outs) {
      const channel = this.out(to);
      channel.acknowledged = committed - waiting.length;
      channel.committed = channel.acknowledged;
      channel.numbered = committed;
      channel.sent = channel.acknowledged;
      for (const [id, key, event, trace] of waiting) {
        const message = { id, key, type: id.slice(0, id.indexOf(".")), event, trace: trace ?? undefined };
        channel.push(message, messageBytes(message, sizeOf(event)));
      }
    }
  }
}
