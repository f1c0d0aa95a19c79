/**
 * The engine of one node in one life: takes messages in, steps actors, commits, and opens the gate.
 *
 * Owns the actors in memory, the queue of messages, the batch being filled and the one being appended. The cluster
 * gives it shards and takes them away; frames come from the transport; time, storage and the lease are handed in.
 *
 * The loop, and its one suspension point:
 *   messages → step each on top of the actor's latest state (synchronous) → into the open batch
 *   nothing in flight? append the open batch to the lane                  ← the only await
 *   appended: open its gate (replies, tells, timers, watches, actions), then append what was stepped meanwhile
 *
 * Invariants:
 * 1. Nothing leaves before the record it follows from is committed: replies, tells, watches, timers, custom actions,
 *    and also answers that only read, if the actor has turns in flight.
 * 2. At most one batch is in flight; the next is stepped on top of it.
 * 3. Per actor, messages are stepped in the order in which they were taken in.
 * 4. After `stop` nothing is stepped, appended or sent.
 */
import type { Store, World } from "../ports/index.ts";
import { decodeKey } from "../words/address.ts";
import { KeyturnError } from "../words/errors.ts";
import {
  Ask,
  Delete,
  type Frame,
  Get,
  History,
  type Reply,
  type Request,
  type RequestFrame,
  Send,
  type ToldFrame,
  Unwatch,
  Watch,
} from "../words/frames.ts";
import { limits, type NodeSettings } from "../words/limits.ts";
import { Activation, BatchRef, type Job, linkOf, type Turn } from "./activation.ts";
import type { ActorState, HostedType, Registry } from "./definition.ts";
import { HistoryReader, type HistoryQuery } from "./history.ts";
import { Lane } from "./lane.ts";
import { Loader } from "./loader.ts";
import type { Observer } from "./observer.ts";
import { Outbox } from "./outbox.ts";
import { Saver } from "./saver.ts";
import { typeOfId } from "./record.ts";
import type { InChannel, Session, ShardState } from "./shard.ts";
import { earliestDue } from "./state.ts";
import { asError, type Taken, takeDelete, takeRefusal, takeTimer, takeTurn } from "./step.ts";
import { Watches } from "./watches.ts";

/** A job that only says: something of this actor is due. */
export const TimerJob = 100;

/** Messages stepped before other work gets its chance. */
const PUMP_MESSAGES = 4_096;
/** After the store had no room: how long new messages are refused before it is tried again. */
const FULL_PAUSE_MS = 1_000;
/** How long a told message waits when its own tells do not fit into the outbox. */
const OUTBOX_PAUSE_MS = 50;
/** A timer is looked at this often at least, because wall clocks jump. */
const TIMER_LOOK_MS = 60_000;

/** Whether this node is sure that no other can own its shards. */
export interface Lease {
  holds(): boolean;
}

export interface EngineParts {
  readonly incarnation: string;
  readonly world: World;
  readonly store: Store;
  readonly settings: NodeSettings;
  readonly registry: Registry;
  readonly shards: number;
  readonly lease: Lease;
  readonly observer: Observer;
  /** Called once, when this incarnation can never commit again. */
  readonly onFenced: () => void;
}

/** The batch that is being filled, and what waits for its commit. */
class OpenBatch {
  readonly ref = new BatchRef();
  time = 0;
  readonly parts: Uint8Array[] = [];
  readonly shards: number[] = [];
  bytes = 0;
  readonly entries: Taken[] = [];
  /** Answers that only read, and wait for what they read. */
  readonly reads: ((failed: KeyturnError | undefined) => void)[] = [];
  /** True if an append is needed although there is nothing to record: it proves that this node is not fenced. */
  barrier = false;

  get wanted(): boolean {
    return this.parts.length > 0 || this.barrier;
  }

  takes(bytes: number): boolean {
    return (
      this.parts.length === 0 ||
      (this.bytes + bytes + 1024 <= limits.batchBytes && this.parts.length < limits.batchRecords)
    );
  }
}

export class Engine {
  readonly parts: EngineParts;
  readonly lane: Lane;
  readonly shards = new Map<number, ShardState>();
  readonly actors = new Map<string, Activation>();
  readonly saver: Saver;
  readonly loader: Loader;
  readonly history: HistoryReader;
  readonly watches: Watches;
  readonly outbox: Outbox;
  /** Sequence of the last batch whose gate was opened, or of the lane's end when it was empty. */
  committedSeq = 0;
  /** Records and bytes appended since the last checkpoint. */
  tailRecords = 0;
  tailBytes = 0;

  #queue: Job[] = [];
  #queueHead = 0;
  #open = new OpenBatch();
  #inFlight: OpenBatch | undefined;
  #scheduled = false;
  /** The open batch has no room for the next message. */
  #blocked = false;
  #stopped = false;
  #fullUntil_ms = 0;
  #now = 0;
  readonly #replies = new Map<string, Reply[]>();
  #cancelTimer: (() => void) | undefined;
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(parts: EngineParts) {
    this.parts = parts;
    const { world, store, incarnation } = parts;
    this.lane = new Lane(incarnation, store.journal, world.clock);
    this.history = new HistoryReader(store.journal);
    this.watches = new Watches(store.transport, world.clock);
    this.outbox = new Outbox(store.transport, world.clock);
    this.saver = new Saver(this);
    this.loader = new Loader(this);
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** Messages taken in and not stepped. */
  get queued(): number {
    return this.#queue.length - this.#queueHead;
  }

  // ---- Shards, given and taken by the cluster -------------------------------------------------------------------

  addShard(shard: ShardState): void {
    this.shards.set(shard.shard, shard);
    this.outbox.resume(shard);
    this.wakeForTimers();
  }

  /** Drops a shard and its actors. What was in flight of it is never answered. */
  removeShard(number: number): void {
    const shard = this.shards.get(number);
    if (shard === undefined) return;
    shard.phase = "gone";
    this.shards.delete(number);
    for (const [id, a] of this.actors) if (a.shard === shard) this.actors.delete(id);
    this.watches.move(shard);
  }

  /** True when nothing of the shard is queued, loading or in flight. */
  isIdle(shard: ShardState): boolean {
    return shard.busy === 0;
  }

  /** Ends this life of the node. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.lane.stop();
    this.#cancelTimer?.();
    for (const shard of this.shards.values()) {
      shard.phase = "gone";
      this.watches.move(shard);
    }
    this.shards.clear();
    this.actors.clear();
    this.#queue = [];
    this.#queueHead = 0;
    this.outbox.stop();
  }

  /** Storage of a shard does not hold together: it is stopped, loudly, and serves nothing. */
  failShard(shard: ShardState, error: KeyturnError): void {
    if (shard.phase === "gone") return;
    shard.failed = error;
    for (const [id, a] of this.actors) if (a.shard === shard) this.actors.delete(id);
    this.parts.observer.shardFailed(shard.shard, error);
  }

  // ---- Intake -----------------------------------------------------------------------------------------------------

  /** A frame for a shard that this engine has. */
  receive(shard: ShardState, frame: Frame): void {
    if (this.#stopped) return;
    if (frame.kind === "request") this.#receiveRequests(shard, frame);
    else if (frame.kind === "told") this.#receiveTold(shard, frame);
    else if (frame.kind === "ack") this.outbox.acknowledged(shard, frame);
  }

  #receiveRequests(shard: ShardState, frame: RequestFrame): void {
    if (shard.phase !== "serving") {
      this.#refuse(shard, frame.session, "moved", 0);
      return;
    }
    const now = this.parts.world.clock.monotonic();
    let session: Session;
    try {
      session = shard.session(frame.session, frame.base, now);
    } catch {
      this.#refuse(shard, frame.session, "moved", 0);
      return;
    }
    session.advance(frame.base);
    let number = frame.first;
    for (const request of frame.requests) {
      const verdict = session.classify(number);
      if (verdict === "next") {
        session.last = number;
        const job = jobOf(shard, session, number, request);
        shard.busy++;
        if (this.queued >= this.parts.settings.intakeMessages) this.#reject(job, this.#overloaded());
        else if (this.#fullUntil_ms > now && isWrite(request.kind)) this.#reject(job, this.#full());
        else this.#queue.push(job);
      } else if (verdict === "gap") {
        this.#refuse(shard, frame.session, "gap", session.last + 1);
        break;
      } else this.#repeat(shard, session, number, request);
      number++;
    }
    this.schedule();
  }

  /** A request that was taken in before: its answer may have been lost. */
  #repeat(shard: ShardState, session: Session, number: number, request: Request): void {
    const settled = session.settledAs(number);
    if (settled !== undefined) {
      if (settled.reply !== undefined) this.#answer(session.name, settled.reply);
      else if (settled.at !== undefined) {
        const job = jobOf(shard, session, number, request);
        shard.busy++;
        this.#answerFromJournal(job, settled.id, settled.at, session);
      }
      return;
    }
    if (number < session.base) return;
    if (!isWrite(request.kind)) {
      shard.busy++;
      this.#queue.push(jobOf(shard, session, number, request));
    } else if (number <= session.inherited) {
      const job = jobOf(shard, session, number, request);
      shard.busy++;
      const text = "The node that took this message in is gone and did not apply it. Send it again.";
      this.#reject(job, new KeyturnError("superseded", text));
    }
  }

  #receiveTold(shard: ShardState, frame: ToldFrame): void {
    if (shard.phase !== "serving") return;
    const channel = shard.in(frame.fromShard);
    let number = frame.first;
    for (const message of frame.messages) {
      if (number === channel.accepted + 1 && this.queued < this.parts.settings.intakeMessages) {
        channel.accepted = number;
        shard.busy++;
        const { fromShard } = frame;
        this.#queue.push({ kind: Send, shard, message, session: undefined, fromShard, number });
      }
      number++;
    }
    // Whatever was repeated is acknowledged again: the first acknowledgement may have been lost.
    if (frame.first <= channel.committed) this.outbox.acknowledge(shard, frame.fromShard, channel.committed);
    this.schedule();
  }

  #refuse(shard: ShardState, session: string, reason: "gap" | "moved", expected: number): void {
    const from = this.parts.incarnation;
    this.parts.store.transport.publish(`client.${session}`, {
      kind: "refusal",
      shard: shard.shard,
      from,
      reason,
      expected,
    });
  }

  /** Puts messages of an actor that was just loaded before all others. */
  requeue(jobs: readonly Job[]): void {
    const rest = this.#queue.slice(this.#queueHead);
    this.#queue = [...jobs, ...rest];
    this.#queueHead = 0;
    this.schedule();
  }

  schedule(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    this.parts.world.clock.defer(() => this.#pump());
  }

  // ---- The loop ---------------------------------------------------------------------------------------------------

  #pump(): void {
    this.#scheduled = false;
    if (this.#stopped) return;
    const now = this.parts.world.clock.now();
    this.#now = now;
    let steps = 0;
    while (this.#queueHead < this.#queue.length && steps < PUMP_MESSAGES && !this.#blocked) {
      const job = this.#queue[this.#queueHead] as Job;
      if (this.#dispatch(job, now)) this.#queueHead++;
      steps++;
    }
    if (this.#queueHead === this.#queue.length) {
      this.#queue.length = 0;
      this.#queueHead = 0;
    } else if (this.#queueHead > 8_192) {
      this.#queue = this.#queue.slice(this.#queueHead);
      this.#queueHead = 0;
    }
    this.loader.start();
    this.#commit();
    this.#flushReplies();
    if (this.#queueHead < this.#queue.length && !this.#blocked) this.schedule();
  }

  /** Handles one message. False if the open batch has no room for it: it stays at the head of the queue. */
  #dispatch(job: Job, now: number): boolean {
    const { shard } = job;
    if (shard.phase === "gone") return true;
    if (shard.failed !== undefined) {
      this.#reject(job, shard.failed);
      return true;
    }
    let a = this.actors.get(job.message.id);
    if (a === undefined) {
      const type = job.message.id.slice(0, job.message.id.indexOf("."));
      const hosted = this.parts.registry.get(type);
      if (hosted === undefined && job.fromShard < 0) {
        this.#reject(job, unknownType(type));
        return true;
      }
      a = new Activation(job.message.id, job.message.key, shard, hosted as HostedType);
      if (hosted === undefined) a.failed = unknownType(type);
      else this.loader.add(a);
      this.actors.set(job.message.id, a);
    }
    a.used = true;
    if (job.fromShard >= 0 && this.#mustWait(a, job)) return true;
    if (a.failed !== undefined) return this.#refuseTurn(a, job, a.failed);
    if (a.mailbox !== undefined) {
      if (a.mailbox.length >= this.parts.settings.mailboxMessages)
        this.#reject(job, mailboxFull(job.message.id));
      else a.mailbox.push(job);
      return true;
    }
    if (job.kind === Ask || job.kind === Send) return this.#turn(a, job, now);
    return this.#other(a, job, now);
  }

  #turn(a: Activation, job: Job, now: number): boolean {
    if (job.message.requestId !== undefined) {
      const known = a.latest.requests.find((r) => r.requestId === job.message.requestId);
      if (known !== undefined) {
        const place = known.place;
        this.#afterCommit(a, job, () => this.#answerFromJournal(job, a.id, linkOf(place), undefined));
        return true;
      }
    }
    try {
      return this.#take(a, job, takeTurn(a, job, this.#slot(now), now, this.parts.shards));
    } catch (error) {
      return this.#refuseTurn(a, job, asError(error));
    }
  }

  #other(a: Activation, job: Job, now: number): boolean {
    switch (job.kind) {
      case TimerJob:
        return this.#fire(a, job, now);
      case Delete:
        if (a.latest.turn === 0) {
          this.#afterCommit(a, job, () => this.#settle(job, undefined, undefined));
          return true;
        }
        return this.#take(a, job, takeDelete(a, job, this.#slot(now)));
      case Get:
        this.#afterCommit(a, job, () => this.#settle(job, undefined, this.stateOf(a, a.committed, now)));
        return true;
      case Watch:
        this.#afterCommit(a, job, () => {
          this.watches.add(a, (job.session as Session).name, String(job.message.event));
          this.#settle(job, undefined, this.stateOf(a, a.committed, now));
        });
        return true;
      case Unwatch:
        this.watches.remove(a.id, String(job.message.event));
        this.#settle(job, undefined, undefined);
        return true;
      case History: {
        this.#afterCommit(a, job, () => this.#answerHistory(a, job));
        return true;
      }
      default:
        this.#reject(
          job,
          new KeyturnError("invalid_frame", `A request of kind ${job.kind} is not known here.`),
        );
        return true;
    }
  }

  /** Fires the actor's due timers, one turn each, earliest first. */
  #fire(a: Activation, job: Job, now: number): boolean {
    while (true) {
      const due = this.firstDue(a, now);
      if (due === undefined) break;
      const taken = takeTimer(a, job, due, this.#slot(now), now, this.parts.shards);
      if (!this.#open.takes(taken.record.length)) {
        this.#blocked = true;
        return false;
      }
      job.shard.busy++;
      this.#take(a, job, taken);
    }
    job.shard.busy--;
    job.shard.due.set(a.id, earliestDue(a.latest.timers));
    return true;
  }

  /** The actor's earliest timer that is due, of those it has now. */
  firstDue(a: Activation, now: number): (typeof a.latest.timers)[number] | undefined {
    let first: (typeof a.latest.timers)[number] | undefined;
    for (const timer of a.latest.timers) {
      if (timer.due <= now && (first === undefined || timer.due < first.due)) first = timer;
    }
    return first;
  }

  #slot(now: number): { batch: BatchRef; index: number; delay: number } {
    const open = this.#open;
    if (open.parts.length === 0) open.time = now;
    return { batch: open.ref, index: open.parts.length, delay: Math.max(0, now - open.time) };
  }

  /** Takes a computed turn into the open batch. */
  #take(a: Activation, job: Job, taken: Taken): boolean {
    const open = this.#open;
    if (!open.takes(taken.record.length)) {
      this.#blocked = true;
      return false;
    }
    open.parts.push(taken.record);
    open.shards.push(job.shard.shard);
    open.bytes += taken.record.length;
    open.entries.push(taken);
    a.latest = taken.turn;
    for (const message of taken.out) job.shard.out(message.toShard).numbered = message.number;
    if (job.session !== undefined && taken.refusal === undefined) job.session.settle(job.number, taken.turn);
    return true;
  }

  /** A message that the machine refused. Nothing of the actor has changed. */
  #refuseTurn(a: Activation, job: Job, error: KeyturnError): boolean {
    if (job.kind === TimerJob) {
      // The actor cannot be loaded. Its timers stay in its snapshot and are found again by the next owner.
      job.shard.busy--;
      return true;
    }
    if (job.fromShard >= 0) {
      if (error.code !== "outbox_full")
        return this.#take(a, job, takeRefusal(a, job, this.#slot(this.#now), error));
      const channel = job.shard.in(job.fromShard);
      channel.parked.push(job);
      this.parts.world.clock.after(OUTBOX_PAUSE_MS, () => this.#unpark(channel));
      return true;
    }
    // The error follows from a state that may still be in flight: it waits for the gate as a reply does.
    this.#afterCommit(a, job, () => this.#reject(job, error));
    return true;
  }

  /**
   * A channel's messages are committed in the order of their numbers, since only the last number is kept. While one
   * waits for its actor to be loaded, those behind it wait too (and their actors are loaded meanwhile).
   */
  #mustWait(a: Activation, job: Job): boolean {
    const channel = job.shard.in(job.fromShard);
    if (channel.parked.length === 0 && !a.loading) return false;
    channel.parked.push(job);
    return true;
  }

  #unpark(channel: InChannel): void {
    if (this.#stopped || channel.parked.length === 0) return;
    const jobs = channel.parked;
    channel.parked = [];
    this.requeue(jobs);
  }

  /** An actor was loaded, or failed to: whatever waited for it goes on, before newer messages. */
  ready(a: Activation): void {
    const waiting = a.mailbox ?? [];
    a.mailbox = undefined;
    for (const channel of a.shard.ins.values()) this.#unpark(channel);
    if (waiting.length > 0) this.requeue(waiting);
  }

  /** Calls back when what the actor's latest state is, is committed and surely still current. */
  #afterCommit(a: Activation, job: Job, answer: () => void): void {
    const answered = (failed: KeyturnError | undefined): void => {
      if (failed === undefined) answer();
      else this.#reject(job, failed);
    };
    if (a.inFlight) {
      const batch = a.latest.batch === this.#open.ref ? this.#open : this.#inFlight;
      (batch ?? this.#open).reads.push(answered);
    } else if (this.parts.lease.holds()) answer();
    else {
      this.#open.barrier = true;
      this.#open.reads.push(answered);
    }
  }

  // ---- Commit and gate --------------------------------------------------------------------------------------------

  #commit(): void {
    if (this.#inFlight !== undefined || !this.#open.wanted) return;
    const batch = this.#open;
    this.#inFlight = batch;
    this.#open = new OpenBatch();
    this.#blocked = false;
    const time = batch.parts.length === 0 ? this.parts.world.clock.now() : batch.time;
    const bytes = this.lane.encode(time, batch.parts, batch.shards, batch.bytes);
    void this.#append(batch, bytes);
  }

  async #append(batch: OpenBatch, bytes: Uint8Array): Promise<void> {
    const result = await this.lane.append(bytes);
    if (this.#stopped) return;
    this.#inFlight = undefined;
    if (result.kind === "fenced") {
      this.stop();
      this.parts.observer.fenced(this.parts.incarnation);
      this.parts.onFenced();
      return;
    }
    if (result.kind === "full") {
      this.parts.observer.storeFull(result.cause);
      this.#fullUntil_ms = this.parts.world.clock.monotonic() + FULL_PAUSE_MS;
      this.#giveUp(batch);
    } else {
      batch.ref.seq = result.seq;
      this.tailRecords += batch.parts.length;
      this.tailBytes += bytes.length;
      this.#openGate(batch);
      this.parts.observer.committed(batch.parts.length, bytes.length);
    }
    this.#blocked = false;
    this.#commit();
    this.#flushReplies();
    if (this.queued > 0) this.schedule();
  }

  #openGate(batch: OpenBatch): void {
    const now = this.parts.world.clock.now();
    this.committedSeq = batch.ref.seq;
    for (const entry of batch.entries) this.#release(entry, now);
    for (const read of batch.reads) read(undefined);
    this.#flushReplies();
    this.outbox.flush();
    for (const { a, actions } of batch.entries) {
      for (const action of actions) {
        try {
          action.run();
        } catch (error) {
          this.parts.observer.actionFailed(a.id, action.name, error);
        }
      }
    }
    this.saver.passivate();
  }

  /** One committed turn's outputs. */
  #release(taken: Taken, now: number): void {
    const { a, job, turn } = taken;
    const { shard } = job;
    shard.busy--;
    if (shard.phase === "gone") return;
    if (turn !== a.committed) {
      if (turn.snapshot === undefined) {
        a.life++;
        a.saved = a.revision === 0 ? 0 : -1;
      }
      if (turn.timers !== a.committed.timers) shard.due.set(a.id, earliestDue(turn.timers));
      a.committed = turn;
      if (this.watches.watched(a.id)) this.watches.notify(a.id, this.stateOf(a, turn, now));
    }
    if (job.session !== undefined) {
      const value = job.kind !== Ask ? undefined : taken.replied ? taken.reply : this.stateOf(a, turn, now);
      turn.reply = [shard.shard, job.number, undefined, value];
      this.#answer(job.session.name, turn.reply);
    } else if (job.fromShard >= 0) {
      shard.in(job.fromShard).committed = job.number;
      this.outbox.acknowledge(shard, job.fromShard, job.number);
    }
    if (taken.out.length > 0) this.outbox.add(shard, taken.out);
    if (turn.timers.length > 0) this.#lookAt(shard.due.next());
    if (taken.refusal !== undefined) this.#bury(a, job, taken, now);
  }

  /** Undoes everything that was stepped and is not in the journal. */
  #giveUp(batch: OpenBatch): void {
    const error = this.#full();
    const given = [batch, this.#open];
    this.#open = new OpenBatch();
    for (const { entries } of given) {
      for (const { a, job } of entries) {
        a.latest = a.committed;
        const { shard } = job;
        for (const channel of shard.outs.values()) channel.rollback();
        for (const channel of shard.ins.values()) shard.busy -= channel.rollback();
        if (job.kind === TimerJob) shard.due.set(a.id, earliestDue(a.committed.timers));
      }
    }
    // Told messages behind the given-up ones are dropped too: their channels were rolled back, they come again.
    this.#queue = this.#queue.slice(this.#queueHead).filter((job) => {
      if (job.fromShard >= 0) job.shard.busy--;
      return job.fromShard < 0;
    });
    this.#queueHead = 0;
    for (const { entries, reads } of given) {
      for (const { job } of entries) {
        if (job.session === undefined) job.shard.busy--;
        else this.#reject(job, error);
      }
      for (const read of reads) read(error);
    }
    this.parts.world.clock.after(FULL_PAUSE_MS, () => this.wakeForTimers());
  }

  #bury(a: Activation, job: Job, taken: Taken, now: number): void {
    const { refusal, turn } = taken;
    if (refusal === undefined) return;
    const position = { journal: this.parts.store.journal.number, seq: this.lane.last };
    const event = job.kind === TimerJob ? { type: "timer", turn: turn.turn } : job.message.event;
    const letter = { position, index: taken.index, type: typeOfId(a.id), key: a.key, event, time: now };
    const put = this.parts.store.deadLetters.put([
      { ...letter, code: refusal.code, reason: refusal.message },
    ]);
    put.catch((error: unknown) => this.parts.observer.troubled("dead letters", error));
  }

  // ---- Answers ----------------------------------------------------------------------------------------------------

  /** An actor's state as clients see it. */
  stateOf(a: Activation, turn: Turn, now: number): ActorState {
    const snapshot = turn.snapshot ?? a.hosted.host.start(a.key, 1, now).snapshot;
    return Object.freeze({
      value: snapshot.value,
      context: snapshot.context,
      status: snapshot.status,
      output: snapshot.output,
      turn: turn.turn,
      position: turn.batch.seq,
    });
  }

  #answer(session: string, reply: Reply): void {
    const replies = this.#replies.get(session);
    if (replies === undefined) this.#replies.set(session, [reply]);
    else replies.push(reply);
  }

  #flushReplies(): void {
    if (this.#replies.size === 0) return;
    const from = this.parts.incarnation;
    for (const [session, replies] of this.#replies) {
      this.parts.store.transport.publish(`client.${session}`, { kind: "reply", from, replies });
    }
    this.#replies.clear();
  }

  /** Answers a request that left no record of its own. */
  #settle(job: Job, error: readonly [string, string] | undefined, value: unknown): void {
    job.shard.busy--;
    if (job.session === undefined || job.shard.phase === "gone") return;
    const reply: Reply = [job.shard.shard, job.number, error, value];
    if (isWrite(job.kind)) job.session.settle(job.number, { id: job.message.id, reply, at: undefined });
    this.#answer(job.session.name, reply);
  }

  #reject(job: Job, error: KeyturnError): void {
    this.#settle(job, [error.code, error.message], undefined);
  }

  #answerFromJournal(
    job: Job,
    id: string,
    at: readonly [number, number],
    session: Session | undefined,
  ): void {
    const answer = (error: readonly [string, string] | undefined, value: unknown): void => {
      if (this.#stopped || job.shard.phase === "gone") return;
      this.#settle(job, error, value);
      if (session !== undefined && error === undefined) {
        session.settle(job.number, { id, reply: [job.shard.shard, job.number, undefined, value], at });
      }
      this.#flushReplies();
    };
    this.history.replyOf(id, at).then(
      (value) => answer(undefined, job.kind === Ask ? value : undefined),
      (error: unknown) => {
        const { code, message } = asError(error);
        answer([code, message], undefined);
      },
    );
  }

  #answerHistory(a: Activation, job: Job): void {
    const { session } = job;
    this.history
      .page(a.id, linkOf(a.committed), linkOf(a.committed.keyframe), job.message.event as HistoryQuery)
      .then(
        (page) => {
          if (this.#stopped || session === undefined) return;
          this.#settle(job, undefined, page);
          this.#flushReplies();
        },
        (error: unknown) => {
          if (this.#stopped) return;
          this.#reject(job, asError(error));
          this.#flushReplies();
        },
      );
  }

  #overloaded(): KeyturnError {
    const text = `This node has ${this.parts.settings.intakeMessages} messages waiting, its limit. Try again later.`;
    return new KeyturnError("overloaded", text);
  }

  #full(): KeyturnError {
    return new KeyturnError(
      "store_full",
      "The store has no room left. Nothing was applied. Free some space, then try again.",
    );
  }

  // ---- Timers -----------------------------------------------------------------------------------------------------

  /** Looks which timers are due, and arranges to look again. */
  wakeForTimers(): void {
    if (this.#stopped) return;
    const now = this.parts.world.clock.now();
    let next = Number.POSITIVE_INFINITY;
    for (const shard of this.shards.values()) {
      if (shard.phase !== "serving") continue;
      while (this.queued < this.parts.settings.intakeMessages) {
        const id = shard.due.take(now);
        if (id === undefined) break;
        shard.busy++;
        this.#queue.push(timerJob(shard, id));
      }
      next = Math.min(next, shard.due.next() ?? next);
    }
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#timerAt = Number.POSITIVE_INFINITY;
    this.#lookAt(next);
    if (this.queued > 0) this.schedule();
  }

  #lookAt(due: number | undefined): void {
    if (due === undefined || due >= this.#timerAt || this.#stopped) return;
    const { clock } = this.parts.world;
    this.#cancelTimer?.();
    this.#timerAt = due;
    const wait = Math.min(Math.max(1, due - clock.now()), TIMER_LOOK_MS);
    this.#cancelTimer = clock.after(wait, () => this.wakeForTimers());
  }
}

function jobOf(shard: ShardState, session: Session, number: number, request: Request): Job {
  return { kind: request.kind, shard, message: request, session, fromShard: -1, number };
}

function timerJob(shard: ShardState, id: string): Job {
  const key = decodeKey(id.slice(id.indexOf(".") + 1));
  const message = { id, key, event: undefined, trace: undefined };
  return { kind: TimerJob, shard, message, session: undefined, fromShard: -1, number: 0 };
}

function isWrite(kind: number): boolean {
  return kind === Ask || kind === Send || kind === Delete;
}

function unknownType(type: string): KeyturnError {
  const text = `No actor of type "${type.slice(0, 80)}" is defined here. Give its definition to startNode({ actors }).`;
  return new KeyturnError("unknown_type", text);
}

function mailboxFull(id: string): KeyturnError {
  return new KeyturnError("mailbox_full", `Too many messages wait for ${id}. Try again later.`);
}
