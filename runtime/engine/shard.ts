/**
 * A shard's own state, beside that of its actors: the channels into it and out of it, and its timers.
 *
 * Owns client sessions, shard-to-shard channels and the due heap. Talks to records; the engine drives it.
 *
 * Invariants:
 * 1. A channel takes number `last + 1` and nothing else: below is a repetition, above is a gap. A client's `base`
 *    moves `last` up, past numbers that the client has settled otherwise.
 * 2. What is taken in and not yet committed is forgotten by `rollback` and by a new owner; the sender sends it again.
 * 3. A told message stays in the outbox until its receiver has committed it.
 * 4. The stored entry (shard-entry.ts) plus the records after it give all of this back.
 */
import { messageBytes, type Reply, type Told } from "../words/frames.ts";
import { isSinkLane, laneOfChannel } from "../words/lanes.ts";
import { limits } from "../words/limits.ts";
import { KeyturnError } from "../words/errors.ts";
import { sizeOf } from "../words/values.ts";
import type { Activation, Job } from "./activation.ts";
import type { Actors } from "./actors.ts";
import { Letters } from "./dead-letters.ts";
import { isWorkTimer } from "./machine.ts";
import { FromSession, FromShard, type Link, type TurnRecord } from "./record.ts";
import { earliestDue, type Patch } from "./state.ts";
import { DueHeap } from "./timers.ts";

/** A request that was stepped, and where its record lies. A turn of the engine is one of these. */
export interface Stepped {
  readonly id: string;
  /** Undefined until it is committed. */
  readonly at: Link | undefined;
}

/** How many requests all sessions of a shard have stepped that their clients have not settled. */
export class OpenRequests {
  count = 0;
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
  readonly #open: OpenRequests;

  constructor(name: string, base: number, used_ms: number, open: OpenRequests) {
    this.#open = open;
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
      if (this.#stepped[slot] !== undefined) this.#open.count--;
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
    if (slot < 0) return;
    if (this.#stepped[slot] === undefined) this.#open.count++;
    this.#stepped[slot] = stepped;
  }

  /** Forgets everything. */
  end(): void {
    this.advance(this.#offset + this.#stepped.length);
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
  /** Highest number that is a turn, committed or not. */
  stepped: number;
  /** Highest number committed. */
  committed: number;
  /** Taken in and waiting, in the order of their numbers; parking's. */
  parked: Job[] = [];
  /** Whether a timer will bring those back that are parked. */
  resting = false;

  constructor(committed: number) {
    this.accepted = committed;
    this.stepped = committed;
    this.committed = committed;
  }

  /** Whether a number is the one to be taken in next. */
  isNext(number: number): boolean {
    return number === this.accepted + 1;
  }

  /** A message waits, in its place. */
  park(job: Job): void {
    let at = this.parked.length;
    while (at > 0 && (this.parked[at - 1] as Job).number > job.number) at--;
    this.parked.splice(at, 0, job);
  }

  commit(number: number): void {
    this.committed = number;
    // After a rollback, what was in flight then is committed all the same.
    if (this.stepped < number) this.stepped = number;
    if (this.accepted < number) this.accepted = number;
  }

  /** Forgets what is not stepped. Returns how many messages were waiting. */
  forget(): number {
    const dropped = this.parked.length;
    this.parked = [];
    this.accepted = this.stepped;
    return dropped;
  }

  /** Forgets what is not committed: nothing of it is in flight any more. The same. */
  rollback(): number {
    this.stepped = this.committed;
    return this.forget();
  }
}

/** A told message with what it takes in a frame, about. */
export interface Waiting extends Told {
  readonly bytes: number;
}

/** What all channels out of a shard hold, in bytes. */
export class OutboxSize {
  bytes = 0;
  /** Of those, for sinks. */
  sinkBytes = 0;

  add(bytes: number, sink: boolean): void {
    this.bytes += bytes;
    if (sink) this.sinkBytes += bytes;
  }
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
  /** Who waits until the receiver has committed a message, by its number. */
  #waiters: { readonly number: number; readonly resolve: () => void }[] = [];
  readonly #size: OutboxSize;
  readonly #sink: boolean;

  constructor(size: OutboxSize, lane: number) {
    this.#size = size;
    this.#sink = isSinkLane(lane);
  }

  push({ id, key, type, event, trace, link }: Told, bytes: number): void {
    const waiting = { id, key, type, event, trace, bytes };
    this.waiting.push(link === undefined ? waiting : { ...waiting, link });
    this.#size.add(bytes, this.#sink);
    this.committed++;
  }

  /** Takes an acknowledgement; returns whether it was news. */
  acknowledge(upTo: number): boolean {
    if (upTo <= this.acknowledged || upTo > this.committed) return false;
    for (const { bytes } of this.waiting.splice(0, upTo - this.acknowledged))
      this.#size.add(-bytes, this.#sink);
    this.acknowledged = upTo;
    if (this.sent < upTo) this.sent = upTo;
    for (const { number, resolve } of this.#waiters) if (number <= upTo) resolve();
    this.#waiters = this.#waiters.filter(({ number }) => number > upTo);
    return true;
  }

  /** Resolves when the receiver has committed all that is committed here now; never, if the shard moves before. */
  taken(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push({ number: this.committed, resolve }));
  }

  rollback(): void {
    this.numbered = this.committed;
  }
}

/** Pieces of an entry that may lie in the store and are of no use. */
export type Leftover = readonly [generation: number, pieces: number];

/** What a node knows of a shard's entry in the store; see shard-entry.ts. */
export interface StoredEntry {
  /** 0 if there is none. */
  readonly revision: number;
  readonly claimed: number;
  readonly generation: number;
  readonly pieces: number;
  readonly leftovers: readonly Leftover[];
}

const nothingStored: StoredEntry = { revision: 0, claimed: 0, generation: 0, pieces: 0, leftovers: [] };

/** See above. */
export class ShardState {
  readonly shard: number;
  readonly sessions = new Map<string, Session>();
  readonly ins = new Map<number, InChannel>();
  readonly outs = new Map<number, OutChannel>();
  readonly outbox = new OutboxSize();
  readonly open = new OpenRequests();
  readonly due = new DueHeap();
  /** What the tail says of actors that are not in memory, by id. Emptied by the next checkpoint. */
  readonly patches = new Map<string, Patch>();
  readonly letters = new Letters();
  /** Types of which the stored index is kept: it shows, with the tail, what is committed. */
  readonly indexed = new Set<string>();
  /** Which ownership of the shard this is. */
  epoch = 0;
  /** What is known of its entry in the store. */
  stored: StoredEntry = nothingStored;
  /** Set when storage of this shard does not hold together: everything sent to it is refused so. */
  failed: KeyturnError | undefined = undefined;
  /** Messages taken in whose outcome is not settled yet. */
  busy = 0;
  /** `serving`: takes messages in. `draining`: finishes what it has. `gone`: drops everything. */
  phase: "serving" | "draining" | "gone" = "serving";
  /** Timers due before this time are to be in `due`; later ones are found in the store's index. */
  horizon_ms = 0;
  /** Since when this node has looked after the timers without a break, by its wall clock. */
  watched_ms = 0;
  /** Up to here the index has been read. Behind the horizon only while it is being moved. */
  indexed_ms = 0;

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
    if (session === undefined)
      this.sessions.set(name, (session = new Session(name, base, now_ms, this.open)));
    session.used_ms = now_ms;
    return session;
  }

  /** The channel of a name (words/lanes.ts): in lane 0 the shard at its other end. */
  in(name: number): InChannel {
    let channel = this.ins.get(name);
    if (channel === undefined) this.ins.set(name, (channel = new InChannel(0)));
    return channel;
  }

  out(name: number): OutChannel {
    let channel = this.outs.get(name);
    if (channel === undefined)
      this.outs.set(name, (channel = new OutChannel(this.outbox, laneOfChannel(name))));
    return channel;
  }

  /** Forgets sessions that no retry can come from any more. */
  forgetIdle(now_ms: number): void {
    for (const [name, session] of this.sessions) {
      if (now_ms - session.used_ms <= limits.sessionIdle_ms) continue;
      session.end();
      this.sessions.delete(name);
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
  replay(
    record: Pick<TurnRecord, "id" | "source" | "sourceName" | "sourceNumber" | "out">,
    at: Link,
    now_ms: number,
  ): void {
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
      channel.rollback();
    }
    for (const message of record.out) {
      const channel = this.out(message.toShard);
      if (message.number <= channel.committed) continue;
      channel.push(message, messageBytes(message, sizeOf(message.event)));
      channel.numbered = channel.committed;
    }
  }

  /**
   * A time below which no actor of this shard has anything due, as far as it is committed: so the due index, corrected
   * by the tail from now on, need not be read below it.
   */
  dueFrom(actors: Actors): number {
    let from = Math.min(this.indexed_ms, this.due.earliest() ?? Number.POSITIVE_INFINITY);
    for (const [id, due] of this.due.taken) {
      const a = actors.get(id);
      // What is not loaded has the timer still that it was taken out for.
      const known = a !== undefined && !a.loading && a.failed === undefined;
      const committed = known ? earliestDue(a.committed.timers) : due;
      if (committed !== undefined) from = Math.min(from, committed);
    }
    return from;
  }

  /** The heap may be believed again of an actor that was taken out of it, if it says what is committed. */
  settleDue(a: Activation): void {
    if (!this.due.taken.has(a.id)) return;
    const { timers } = a.committed;
    const committed = earliestDue(timers);
    // Work that runs is in no heap, and what of the index is still to be read may be older than it.
    const indexed = committed !== undefined && committed >= this.indexed_ms && !timers.some(isWorkTimer);
    if (committed === undefined || indexed || this.due.get(a.id) === committed) this.due.taken.delete(a.id);
  }
}
