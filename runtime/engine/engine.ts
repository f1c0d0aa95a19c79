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
import { decodeKey, placeOf } from "../words/address.ts";
import { KeyturnError } from "../words/errors.ts";
import {
  Ask,
  AskBoth,
  CancelTimer,
  Create,
  Delete,
  type Frame,
  Get,
  History,
  Query,
  Replace,
  type Reply,
  Timers,
  Unwatch,
  Watch,
} from "../words/frames.ts";
import { laneOfChannel } from "../words/lanes.ts";
import type { NodeSettings } from "../words/limits.ts";
import { seal } from "../words/values.ts";
import { Activation, ChildJob, type Job, linkOf, newJob, TimerJob, type Turn } from "./activation.ts";
import { Alarm } from "./alarm.ts";
import { Answers, isTurn, isWrite, stateBytes, stateOf } from "./answers.ts";
import { OpenBatch } from "./batch.ts";
import { Catalogs } from "./catalog.ts";
import { type ActorState, type HostedType, type Registry, retryAfter } from "./definition.ts";
import { HistoryReader } from "./history.ts";
import { Inquiry } from "./inquiry.ts";
import { Intake } from "./intake.ts";
import { Lane } from "./lane.ts";
import { Loader } from "./loader.ts";
import {
  type ActionEffect,
  familyOf,
  isWorkTimer,
  plainError,
  type Timer,
  WORK,
  type WorkEvent,
} from "./machine.ts";
import { type EventObject, PROMISE_REJECT, PROMISE_RESOLVE } from "./machine/internals.ts";
import { isLifeTimer } from "./life.ts";
import type { Observer } from "./observer.ts";
import { Outbox } from "./outbox.ts";
import { checkTimerName, type PathOf, type PendingTimer, pendingTimers, timerNamed } from "./pending.ts";
import { Queue } from "./queue.ts";
import { decodeRecord, typeOfId } from "./record.ts";
import { isLapsed } from "./resume.ts";
import { checkReplacement, standing, standsAt, takeReplace } from "./replace.ts";
import { Saver } from "./saver.ts";
import type { InChannel, Session, ShardState } from "./shard.ts";
import { checkEvent, isFull } from "./outgoing.ts";
import { earliestDue, nextDue } from "./state.ts";
import {
  asError,
  checkMessage,
  memberOf,
  type Slot,
  type Taken,
  takeCancel,
  takeChildEvent,
  takeDelete,
  takeFailedWork,
  takeLapsed,
  takeLateAnswer,
  takeLife,
  takeRefusal,
  takeRetry,
  takeTimer,
  takeTurn,
} from "./step.ts";
import type { Tally } from "./tally.ts";
import { type Telemetry, Tracing } from "./telemetry.ts";
import { Watches } from "./watches.ts";
import { Works } from "./works.ts";

/**
 * Messages stepped before other work gets its chance. Few enough that the first of a burst are on their way to disk
 * while the others are stepped, and that a finished append opens its gate soon; more only makes batches uneven.
 */
const PUMP_MESSAGES = 256;
/** After the store had no room: how long new messages are refused before it is tried again. */
const FULL_PAUSE_MS = 1_000;
/** Between looks at who owns a shard, when the shard table cannot be read. */
const OWNER_LOOK_MS = 200;
/** How long a told message waits when its own tells do not fit into the outbox, or its actor cannot be read. */
const PARK_MS = 50;
/** And if it is for a sink that is full, or its turn emits to one, unless that has room before. */
const SINK_PARK_MS = 250;
/** How long an event for a view or sink that this node does not have waits for one that does: a rolling deploy. */
const DEPLOY_MS = 15 * 60_000;
const MISSING_MAX = 1_024;
/** Of a channel's parked messages, how many are tried at once. */
const UNPARK_MESSAGES = 32;

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
  readonly tally: Tally;
  readonly telemetry: Telemetry | undefined;
  /** Called once, when this incarnation can never commit again. */
  readonly onFenced: () => void;
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
  readonly works: Works;
  readonly catalogs: Catalogs;
  /** Sequence of the last batch whose gate was opened, or of the lane's end when it was empty. */
  committedSeq = 0;
  /** Records and bytes appended since the last checkpoint. */
  tailRecords = 0;
  tailBytes = 0;

  readonly #queue = new Queue();
  readonly #answers: Answers;
  readonly #tracing: Tracing | undefined;
  /** The trace of the turn whose custom action runs at this moment. */
  #acting: string | undefined;
  readonly #intake: Intake;
  readonly #inquiry: Inquiry;
  readonly #alarm: Alarm;
  #open = new OpenBatch();
  #inFlight: OpenBatch | undefined;
  #scheduled = false;
  /** The open batch has no room for the next message. */
  #blocked = false;
  #stopped = false;
  /** Types of views and sinks that are not hosted here, and since when messages for them have come. Monotonic. */
  readonly #missing = new Map<string, number>();

  constructor(parts: EngineParts) {
    this.parts = parts;
    const { world, store, incarnation } = parts;
    this.lane = new Lane(incarnation, store.journal, world.clock, (task, cause) =>
      parts.observer.troubled(task, cause),
    );
    this.history = new HistoryReader(
      store.journal,
      (id, value) => parts.registry.get(typeOfId(id))?.host.tagsOf(value) ?? [],
    );
    this.watches = new Watches(store.transport, world.clock);
    this.outbox = new Outbox(store.transport, world.clock);
    this.works = new Works(
      world.clock,
      parts.settings.promisesAtOnce,
      (shard, id, key, session, event, sender, trace) =>
        this.#deliver(shard, id, key, session, event, sender, trace),
      (id, what, error) => parts.observer.actionFailed(id, what, error),
      parts.telemetry,
    );
    for (const { host } of parts.registry.values()) {
      host.outlet = (owner, session, event) => this.#sentOutside(owner, session, event);
      host.logger = (id, label, value) => parts.observer.logged(id, label, value);
    }
    this.catalogs = new Catalogs(this);
    this.saver = new Saver(this);
    this.loader = new Loader(this);
    this.#tracing = parts.telemetry && new Tracing(parts.telemetry, world);
    this.#answers = new Answers(incarnation, store.transport, this.history, parts.tally, this.#tracing);
    this.#inquiry = new Inquiry(
      world.clock,
      this.catalogs,
      this.#answers,
      () => this.#surelyCurrent(),
      () => this.committedSeq,
    );
    this.#intake = new Intake(
      world.clock,
      this.#queue,
      parts.settings.intakeMessages,
      this.#answers,
      this.outbox,
      parts.lease,
      parts.tally,
    );
    this.#alarm = new Alarm(
      world.clock,
      parts.settings,
      this.shards,
      () => this.#intake.hasRoom(),
      (shard, id) => this.#ring(shard, id),
    );
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** Messages taken in and not stepped. */
  get queued(): number {
    return this.#queue.length;
  }

  /** Actors with timers that are long overdue and wait for their turn. */
  get overdue(): number {
    let actors = 0;
    for (const { due } of this.shards.values()) actors += due.overdue;
    return actors;
  }

  /** What has waited longest: the batch that is being appended, or else the oldest message. For health. */
  get oldest(): object | undefined {
    return this.#inFlight ?? this.#queue.peek();
  }

  // ---- Shards, given and taken by the cluster -------------------------------------------------------------------

  addShard(shard: ShardState): void {
    this.shards.set(shard.shard, shard);
    shard.watched_ms = this.parts.world.clock.now();
    this.outbox.resume(shard);
    this.#intake.greet(shard);
    this.#bury(shard);
    this.wakeForTimers();
  }

  /** Drops a shard and its actors. What was in flight of it is never answered. */
  removeShard(number: number): void {
    const shard = this.shards.get(number);
    if (shard === undefined) return;
    shard.phase = "gone";
    this.shards.delete(number);
    for (const [id, a] of this.actors) if (a.shard === shard) this.actors.delete(id);
    this.works.stopShard(shard);
    this.catalogs.drop(shard);
    this.watches.move(shard);
  }

  /** Forgets the told messages of a shard that are not stepped yet: their senders bring them to the next owner. */
  dropTold(shard: ShardState): void {
    this.#queue.keep((job) => {
      const told = job.shard === shard && job.fromShard >= 0;
      if (told) shard.busy--;
      return !told;
    });
    for (const channel of shard.ins.values()) shard.busy -= channel.rollback();
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
    this.#alarm.stop();
    this.#answers.stop();
    for (const shard of this.shards.values()) {
      shard.phase = "gone";
      this.watches.move(shard);
    }
    this.shards.clear();
    this.actors.clear();
    this.works.stop();
    this.catalogs.stop();
    this.#queue.clear();
    this.outbox.stop();
  }

  /**
   * Storage of a shard does not hold together: it is stopped, loudly, and serves nothing. Unless the shard belongs to
   * another node by now, whose newer snapshots only look like damage from here: then this life is over.
   */
  async failShard(shard: ShardState, error: KeyturnError): Promise<void> {
    if (!(await this.#owns(shard))) this.#fence();
    if (this.#stopped || shard.phase === "gone" || shard.failed !== undefined) return;
    shard.failed = error;
    for (const [id, a] of this.actors) if (a.shard === shard) this.actors.delete(id);
    this.works.stopShard(shard);
    this.parts.observer.shardFailed(shard.shard, error);
  }

  async #owns(shard: ShardState): Promise<boolean> {
    const { store, world, incarnation, observer } = this.parts;
    while (!this.#stopped) {
      try {
        return (await store.directory.readShard(shard.shard))?.entry.owner === incarnation;
      } catch (cause) {
        observer.troubled(`look at shard ${shard.shard}`, cause);
        await new Promise<void>((resolve) => world.clock.after(OWNER_LOOK_MS, resolve));
      }
    }
    return true;
  }

  /** This incarnation can never commit again. */
  #fence(): void {
    if (this.#stopped) return;
    this.stop();
    this.parts.observer.fenced(this.parts.incarnation);
    this.parts.onFenced();
  }

  /** A frame for a shard that this engine has. */
  receive(shard: ShardState, frame: Frame): void {
    if (this.#stopped) return;
    this.#intake.receive(shard, frame);
    this.schedule();
  }

  /** Looks which timers are due. */
  wakeForTimers(): void {
    this.#alarm.look();
  }

  // ---- The loop ---------------------------------------------------------------------------------------------------

  schedule(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    this.parts.world.clock.defer(() => this.#pump());
  }

  #pump(): void {
    this.#scheduled = false;
    if (this.#stopped) return;
    const now = this.parts.world.clock.now();
    for (let steps = 0; steps < PUMP_MESSAGES && !this.#blocked; steps++) {
      const job = this.#queue.peek();
      if (job === undefined) break;
      if (this.#dispatch(job, now)) this.#queue.drop();
    }
    this.loader.start();
    this.#commit();
    this.#answers.flush();
    // Acknowledgements of what was repeated: nothing may be committed here for a long time.
    this.outbox.flush();
    // Here too, because what is only read commits nothing.
    this.saver.passivate();
    if (this.#queue.length > 0 && !this.#blocked) this.schedule();
  }

  /** Handles one message. False if the open batch has no room for it: it stays at the head of the queue. */
  #dispatch(job: Job, now: number): boolean {
    const { shard } = job;
    if (shard.phase === "gone") return true;
    if (shard.failed !== undefined) {
      this.#answers.reject(job, shard.failed);
      return true;
    }
    if (job.kind === Query) {
      const asked = this.parts.registry.get(job.message.id);
      if (asked === undefined) this.#answers.reject(job, unknownType(job.message.id));
      else this.#inquiry.take(job, asked);
      return true;
    }
    let a = this.actors.get(job.message.id);
    if (a === undefined) {
      const type = job.message.id.slice(0, job.message.id.indexOf("."));
      const hosted = this.parts.registry.get(type);
      if (hosted === undefined && job.fromShard < 0) {
        this.#answers.reject(job, unknownType(type));
        return true;
      }
      if (hosted === undefined && this.#mayCome(job, type)) {
        this.#park(job, SINK_PARK_MS);
        return true;
      }
      if (hosted !== undefined && this.#unfit(job, hosted)) return true;
      a = new Activation(job.message.id, job.message.key, shard, hosted as HostedType);
      if (hosted === undefined) a.failed = unknownType(type);
      else {
        this.parts.tally.activations++;
        this.loader.add(a);
      }
      this.actors.set(job.message.id, a);
    }
    this.parts.tally.look(job, a);
    a.used = true;
    if (a.failed?.retryable) {
      // Its snapshot could not be read just now. Who comes next tries again; a told message waits for it.
      this.actors.delete(a.id);
      if (job.fromShard >= 0) this.#park(job);
      else if (job.kind === TimerJob) this.#ringLater(a);
      else if (job.kind === ChildJob) this.#bringLater(job);
      else this.#answers.reject(job, a.failed);
      return true;
    }
    if (job.fromShard >= 0 && this.#mustWait(a, job)) return true;
    // Also of an actor that this version cannot load: that is what it may be for.
    if (job.kind === Replace && a.mailbox === undefined) return this.#replace(a, job, now);
    if (a.failed !== undefined) return this.#refuseTurn(a, job, a.failed, now);
    if (a.mailbox !== undefined) {
      if (this.#unfit(job, a.hosted)) return true;
      const full = a.mailbox.length >= this.parts.settings.mailboxMessages;
      // Nobody would bring what came of work again.
      if (full && job.kind === ChildJob) this.#bringLater(job);
      else if (full) this.#answers.reject(job, mailboxFull(job.message.id));
      else a.mailbox.push(job);
      return true;
    }
    if (this.#tracing !== undefined && !job.traced && job.kind !== TimerJob && isTraced(job))
      this.#tracing.begin(job, a);
    if (job.message.link !== undefined && job.message.link.from === undefined)
      return this.#child(a, job, job.message.link.session, now);
    if (isTurn(job.kind)) return this.#turn(a, job, now);
    return this.#other(a, job, now);
  }

  /**
   * Refuses a request that does not fit before its actor is loaded, or waits in its mailbox; of an actor in memory it is
   * the turn that does. One with an id may be a repetition of what fitted once: only its actor knows.
   */
  #unfit(job: Job, hosted: HostedType): boolean {
    if (job.session === undefined || job.message.requestId !== undefined || !isTurn(job.kind)) return false;
    try {
      checkMessage(hosted, job);
      return false;
    } catch (error) {
      this.#answers.reject(job, asError(error));
      return true;
    }
  }

  #turn(a: Activation, job: Job, now: number): boolean {
    if (job.message.requestId !== undefined) {
      const known = a.latest.requests.find((r) => r.requestId === job.message.requestId);
      if (known !== undefined) {
        const place = known.place;
        this.parts.tally.repeatedIds++;
        this.#afterCommit(a, job, () => this.#answers.fromJournal(job, a.id, linkOf(place)));
        return true;
      }
    }
    try {
      return this.#take(a, job, takeTurn(a, job, this.#open.slot(now), now, this.parts.shards));
    } catch (error) {
      return this.#refuseTurn(a, job, asError(error), now);
    }
  }

  /** A whole state in an actor's place. */
  #replace(a: Activation, job: Job, now: number): boolean {
    try {
      if (a.failed !== undefined && (a.stored === undefined || a.failed.code === "newer_version"))
        throw a.failed;
      const given = checkReplacement(job.message.event);
      const before = standing(a);
      if (standsAt(before, given))
        return this.#take(
          a,
          job,
          takeReplace(a, before, given, job, this.#open.slot(now), now, this.parts.shards),
        );
      this.#afterCommit(a, job, () => this.#answers.settle(job, undefined, false));
      return true;
    } catch (error) {
      return this.#refuseTurn(a, job, asError(error), now);
    }
  }

  /** An actor that could not be loaded has a state in its place that can. */
  #mend(a: Activation): void {
    a.failed = undefined;
    a.stored = undefined;
    a.shard.patches.delete(a.id);
    // A checkpoint may be writing what the tail said of it at this moment.
    a.written = true;
  }

  #other(a: Activation, job: Job, now: number): boolean {
    switch (job.kind) {
      case TimerJob:
        return this.#fire(a, job, now);
      case ChildJob:
        return this.#child(a, job, job.message.session, now);
      case Delete:
        if (a.latest.turn === 0) {
          this.#afterCommit(a, job, () => this.#answers.settle(job, undefined, undefined));
          return true;
        }
        return this.#take(a, job, takeDelete(a, job, this.#open.slot(now)));
      case CancelTimer:
        return this.#cancelTimer(a, job, now);
      case Timers:
        this.#afterCommit(a, job, () => this.#answers.settle(job, undefined, delaysOf(a.committed)));
        return true;
      case Get:
        this.#afterCommit(a, job, () =>
          this.#answers.settle(job, undefined, stateOf(a, a.committed, now), stateBytes(a.committed)),
        );
        return true;
      case Watch:
        this.#afterCommit(a, job, () => {
          const state = stateOf(a, a.committed, now);
          try {
            this.watches.add(a, (job.session as Session).name, String(job.message.event));
          } catch (error) {
            this.#answers.reject(job, asError(error));
            return;
          }
          this.#answers.settle(job, undefined, state, stateBytes(a.committed));
        });
        return true;
      case Unwatch:
        this.watches.remove(a.id, String(job.message.event));
        this.#answers.settle(job, undefined, undefined);
        return true;
      case History: {
        this.#afterCommit(a, job, () => this.#answers.history(a, job));
        return true;
      }
      default:
        this.#answers.reject(
          job,
          new KeyturnError("invalid_frame", `A request of kind ${job.kind} is not known here.`),
        );
        return true;
    }
  }

  #cancelTimer(a: Activation, job: Job, now: number): boolean {
    try {
      const { latest } = a;
      const timer = timerNamed(latest.timers, checkTimerName(job.message.event), pathIn(latest));
      if (timer !== undefined) return this.#take(a, job, takeCancel(a, job, timer, this.#open.slot(now)));
      this.#afterCommit(a, job, () => this.#answers.settle(job, undefined, false));
      return true;
    } catch (error) {
      return this.#refuseTurn(a, job, asError(error), now);
    }
  }

  /** Resolves at once while no other node can own the shards, or else after an append that proves it. */
  async #surelyCurrent(): Promise<void> {
    if (this.parts.lease.holds()) return;
    await new Promise<void>((resolve, reject) => {
      this.#open.barrier = true;
      this.#open.reads.push((failed) => (failed === undefined ? resolve() : reject(failed)));
      this.schedule();
    });
  }

  /** An actor has something due. */
  #ring(shard: ShardState, id: string): void {
    const key = decodeKey(id.slice(id.indexOf(".") + 1));
    const message = { id, key, event: undefined, trace: undefined };
    shard.busy++;
    this.#queue.push(newJob(TimerJob, shard, message, undefined, -1, 0, this.parts.world.clock.monotonic()));
    this.schedule();
  }

  /** Something for a child of an actor, or for its machine from one. */
  #deliver(
    shard: ShardState,
    id: string,
    key: string,
    session: string | undefined,
    event: EventObject,
    sender?: string,
    trace?: string,
  ): void {
    if (this.#stopped || shard.phase === "gone") return;
    if (shard.phase !== "serving") {
      // Its last checkpoint may be written already. What is handed over is run again there; what stays, goes on here.
      this.parts.world.clock.after(PARK_MS, () =>
        this.#deliver(shard, id, key, session, event, sender, trace),
      );
      return;
    }
    const message = { id, key, event, trace, session, sender };
    shard.busy++;
    this.#queue.push(newJob(ChildJob, shard, message, undefined, -1, 0, this.parts.world.clock.monotonic()));
    this.schedule();
  }

  /** User code sent an actor something, in a custom action. At most once, as the action. */
  #sentOutside(owner: string, session: string | undefined, event: EventObject): void {
    const dot = owner.indexOf(".");
    const {
      type,
      key,
      id,
      shard: number,
    } = placeOf(owner.slice(0, dot), decodeKey(owner.slice(dot + 1)), this.parts.shards);
    const shard = this.shards.get(number);
    if (shard === undefined || !this.parts.registry.has(type)) return;
    checkEvent(event);
    seal(event, "the event");
    this.#deliver(shard, id, key, session, event, undefined, this.#acting);
  }

  /** What came of a child. */
  #child(a: Activation, job: Job, session: string | undefined, now: number): boolean {
    const event = job.message.event as EventObject;
    const slot = this.#open.slot(now);
    const told = job.fromShard >= 0;
    try {
      const retried = session === undefined ? undefined : this.#retry(a, job, session, event, slot, now);
      const taken = retried ?? takeChildEvent(a, job, session, event, slot, now, this.parts.shards);
      if (taken !== undefined) return this.#take(a, job, taken);
    } catch (error) {
      return this.#failChild(a, job, session, event, asError(error), slot, now);
    }
    // The child has ended meanwhile. Of an answer the number is taken all the same.
    if (told) return this.#take(a, job, takeLateAnswer(a, job, slot));
    job.shard.busy--;
    return true;
  }

  /** A promise that rejected and may be tried again. */
  #retry(
    a: Activation,
    job: Job,
    session: string,
    event: EventObject,
    slot: Slot,
    now: number,
  ): Taken | undefined {
    if (event.type !== PROMISE_REJECT) return undefined;
    const { timers } = a.latest;
    const work = timers.find((timer) => timer.source === session && isWorkTimer(timer));
    const member = memberOf(a, session);
    if (work === undefined || member === undefined) return undefined;
    const { begun, attempt } = work.event as WorkEvent;
    const pause = retryAfter(a.hosted.definition.invoke, member.src, attempt);
    if (pause === undefined) return undefined;
    const next: WorkEvent = { type: WORK, begun, attempt: attempt + 1 };
    const again = { ...work, due: now + Math.max(1, pause), event: next };
    return takeRetry(
      a,
      job,
      timers.map((timer) => (timer === work ? again : timer)),
      event,
      slot,
    );
  }

  /** The machine threw on what came of a child: the child failed with that or, if it throws again, is a dead letter. */
  #failChild(
    a: Activation,
    job: Job,
    session: string | undefined,
    event: EventObject,
    error: KeyturnError,
    slot: Slot,
    now: number,
  ): boolean {
    if (isFull(error)) {
      if (job.fromShard >= 0) this.#parkFull(job, a, error);
      else this.#bringLater(job);
      return true;
    }
    if (session !== undefined && event.type === PROMISE_RESOLVE) {
      const failed = { type: PROMISE_REJECT, data: plainError(error) } as EventObject;
      try {
        const taken = takeChildEvent(a, job, session, failed, slot, now, this.parts.shards);
        if (taken !== undefined) return this.#take(a, job, taken);
      } catch {
        // Told below, with what came first.
      }
    }
    if (job.fromShard >= 0) return this.#take(a, job, takeRefusal(a, job, slot, error, this.parts.shards));
    return this.#take(a, job, takeFailedWork(a, job, session, event, slot, error));
  }

  /** What came of a child waits: its actor cannot be read, or what it tells does not fit into the outbox. */
  #bringLater(job: Job): void {
    this.parts.world.clock.after(PARK_MS, () => {
      if (this.#stopped || job.shard.phase === "gone") return;
      this.#queue.push(job);
      this.schedule();
    });
  }

  /** Fires the timers that the actor has now and that are due, one turn each, earliest first. */
  #fire(a: Activation, job: Job, now: number): boolean {
    for (const timer of this.dueTimers(a, now)) {
      // An earlier one may have cancelled it. What they set anew waits for the next look, however short its delay.
      if (!a.latest.timers.includes(timer)) continue;
      const slot = this.#open.slot(now);
      const one = this.#timerJob(a, job, timer);
      let taken: Taken;
      try {
        if (isLifeTimer(timer)) taken = takeLife(a, one, timer, slot, now);
        else if (isLapsed(a, timer, now)) taken = takeLapsed(a, one, timer, slot, now);
        else taken = takeTimer(a, one, timer, slot, now, this.parts.shards);
      } catch (error) {
        if (!isFull(asError(error))) throw error;
        // No room for what it tells. It stands in the actor's state still.
        this.#ringLater(a);
        return true;
      }
      if (!this.#take(a, one, taken)) return false;
      this.parts.tally.timerLateness.add((now - timer.due) / 1_000);
      this.#tracing?.late((now - timer.due) / 1_000);
      job.shard.busy++;
    }
    job.shard.busy--;
    job.shard.due.set(a.id, nextDue(a.latest.timers, now));
    // Also with turns in flight: they need not change timers, and nobody would look again.
    this.works.sync(a, false);
    job.shard.settleDue(a);
    this.#alarm.lookAt(job.shard.due.next());
    return true;
  }

  /** Each timer is a turn of its own, and so has a span of its own. */
  #timerJob(a: Activation, job: Job, { event, trace }: Timer): Job {
    if (this.#tracing === undefined) return job;
    const one = { ...job };
    this.#tracing.begin(one, a, event.type, trace);
    return one;
  }

  /** The actor's timers that are due, earliest first. */
  dueTimers(a: Activation, now: number): Timer[] {
    return a.latest.timers
      .filter((timer) => timer.due <= now && !isWorkTimer(timer))
      .sort((x, y) => x.due - y.due);
  }

  /** Takes a computed turn into the open batch. */
  #take(a: Activation, job: Job, taken: Taken): boolean {
    const open = this.#open;
    if (!open.takes(taken.record.length)) {
      this.#blocked = true;
      return false;
    }
    open.add(taken);
    if (taken.turn.snapshot === undefined && taken.turn !== a.latest)
      a.bornAfter = Math.max(this.parts.world.clock.now(), a.bornAfter) + 1;
    // A refusal is no use of it, and its type may not be hosted.
    if (taken.turn !== a.latest && a.hosted.definition.life !== undefined)
      a.used_ms = this.parts.world.clock.now();
    a.latest = taken.turn;
    if (a.crowd !== undefined && job.fromShard < 0) this.#letIn(a);
    if (job.fromShard >= 0) this.#unparkNext(job);
    for (const message of taken.out) job.shard.out(message.toShard).numbered = message.number;
    if (job.session !== undefined && taken.refusal === undefined) job.session.step(job.number, taken.turn);
    return true;
  }

  /** A message that the machine refused. Nothing of the actor has changed. */
  #refuseTurn(a: Activation, job: Job, error: KeyturnError, now: number): boolean {
    if (job.kind === TimerJob) {
      // The actor cannot be loaded. Its timers stay in its snapshot and are found again by the next owner.
      job.shard.busy--;
      return true;
    }
    if (job.fromShard >= 0) {
      try {
        if (!isFull(error))
          return this.#take(a, job, takeRefusal(a, job, this.#open.slot(now), error, this.parts.shards));
      } catch (cause) {
        // Who asked is told why, and that needs room too.
        if (!isFull(asError(cause))) throw cause;
      }
      this.#parkFull(job, a, error);
      return true;
    }
    // The error follows from a state that may still be in flight: it waits for the gate as a reply does.
    this.#afterCommit(a, job, () => this.#answers.reject(job, error));
    return true;
  }

  /**
   * A channel's messages are committed in the order of their numbers, since only the last number is kept. While one
   * waits for its actor to be loaded, those behind it wait too (and their actors are loaded meanwhile).
   */
  #mustWait(a: Activation, job: Job): boolean {
    const channel = job.shard.in(job.fromShard);
    const first = channel.parked[0];
    if (!a.loading && (first === undefined || job.number < first.number)) return false;
    channel.park(job);
    return true;
  }

  /** A told message that cannot be taken now waits, with those behind it. */
  #park(job: Job, pause_ms = PARK_MS): void {
    const channel = job.shard.in(job.fromShard);
    channel.park(job);
    if (channel.resting) return;
    channel.resting = true;
    this.parts.world.clock.after(pause_ms, () => {
      channel.resting = false;
      this.#unpark(channel, UNPARK_MESSAGES);
    });
  }

  /** A told message that its actor, or the outbox, has no room for. */
  #parkFull(job: Job, a: Activation, { code }: KeyturnError): void {
    if (code !== "sink_full") {
      this.#park(job);
      return;
    }
    (a.crowd ??= new Set()).add(job.shard.in(job.fromShard));
    this.#park(job, SINK_PARK_MS);
  }

  /**
   * Whether a message for a type that is not hosted here may wait for a node that has it: in a rolling deploy a view or
   * sink is there on some nodes before it is on others. Only on their own lanes, where nothing else waits behind it; and
   * not for ever, since the type may have been given up.
   */
  #mayCome({ fromShard }: Job, type: string): boolean {
    if (laneOfChannel(fromShard) < 1) return false;
    const now = this.parts.world.clock.monotonic();
    const since = this.#missing.get(type) ?? now;
    if (this.#missing.size < MISSING_MAX) this.#missing.set(type, since);
    return now - since < DEPLOY_MS;
  }

  /** An actor that had no room has taken a turn: it may have some now. */
  #letIn(a: Activation): void {
    const { crowd } = a;
    a.crowd = undefined;
    for (const channel of crowd ?? []) this.#unparkSoon(channel);
  }

  /** Behind a told message that was taken others may wait that were not tried with it. */
  #unparkNext(job: Job): void {
    const channel = job.shard.ins.get(job.fromShard);
    if (channel?.parked[0]?.number === job.number + 1) this.#unparkSoon(channel);
  }

  /** Not at once: the message that is handled now is still in the queue. */
  #unparkSoon(channel: InChannel): void {
    this.parts.world.clock.defer(() => this.#unpark(channel, UNPARK_MESSAGES));
  }

  /** A timer whose actor could not be read is looked at again soon. */
  #ringLater(a: Activation): void {
    a.shard.busy--;
    this.parts.world.clock.after(PARK_MS, () => {
      if (this.#stopped || a.shard.phase === "gone" || a.shard.due.has(a.id)) return;
      const { due } = a.shard;
      due.set(a.id, due.taken.get(a.id) ?? 0);
      this.wakeForTimers();
    });
  }

  #unpark(channel: InChannel, most = Number.POSITIVE_INFINITY): void {
    if (this.#stopped || channel.parked.length === 0) return;
    const jobs = channel.parked.splice(0, most);
    this.#queue.unshift(jobs);
    this.schedule();
  }

  /** An actor was loaded, or failed to: whatever waited for it goes on, before newer messages. */
  ready(a: Activation): void {
    const waiting = a.mailbox ?? [];
    a.mailbox = undefined;
    a.used_ms = this.parts.world.clock.now();
    if (a.failed === undefined && this.actors.get(a.id) === a) this.works.sync(a, true);
    for (const channel of a.shard.ins.values()) this.#unpark(channel);
    if (waiting.length > 0) this.#queue.unshift(waiting);
    this.schedule();
  }

  /** Calls back when what the actor's latest state is, is committed and surely still current. */
  #afterCommit(a: Activation, job: Job, answer: () => void): void {
    const answered = (failed: KeyturnError | undefined): void => {
      if (failed !== undefined) this.#answers.reject(job, failed);
      else {
        try {
          answer();
        } catch (error) {
          // The initial state of an actor that nobody has sent anything is the machine's to make; it may throw.
          this.#answers.reject(job, asError(error));
        }
      }
    };
    if (a.inFlight) {
      const batch = a.latest.batch === this.#open.ref ? this.#open : this.#inFlight;
      (batch ?? this.#open).reads.push(answered);
    } else if (this.parts.lease.holds()) answered(undefined);
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
    batch.sent_ms = this.parts.world.clock.monotonic();
    const time = batch.parts.length === 0 ? this.parts.world.clock.now() : batch.time;
    const bytes = this.lane.encode(time, batch.parts, batch.shards, batch.bytes);
    void this.#append(batch, bytes);
  }

  async #append(batch: OpenBatch, bytes: Uint8Array): Promise<void> {
    const result = await this.lane.append(bytes);
    if (this.#stopped) return;
    this.#inFlight = undefined;
    if (result.kind === "fenced") {
      this.#fence();
      return;
    }
    if (result.kind === "full") {
      this.parts.observer.storeFull(result.cause);
      this.#intake.close(storeFull(), FULL_PAUSE_MS);
      this.#giveUp(batch);
    } else {
      batch.ref.seq = result.seq;
      this.tailRecords += batch.parts.length;
      this.tailBytes += bytes.length;
      batch.committed_ms = this.parts.world.clock.monotonic();
      this.parts.tally.committed(batch, bytes.length);
      this.#tracing?.committed(batch, bytes.length);
      this.#openGate(batch);
      this.parts.observer.committed(batch.parts.length, bytes.length);
    }
    this.#blocked = false;
    this.#commit();
    this.#answers.flush();
    if (this.queued > 0) this.schedule();
  }

  #openGate(batch: OpenBatch): void {
    const now = this.parts.world.clock.now();
    this.committedSeq = batch.ref.seq;
    for (const entry of batch.entries) this.#release(entry, batch, now);
    for (const read of batch.reads) read(undefined);
    this.#answers.flush();
    this.outbox.flush();
    for (const { a, job, actions, receives } of batch.entries) {
      for (const action of actions) this.#run(a, action, job);
      for (const { session, event } of receives) this.works.receive(a.id, session, event);
    }
    this.saver.passivate();
  }

  /** A custom action, once its turn is committed. The turn stands, whatever becomes of it. */
  #run(a: Activation, action: ActionEffect, { span, trace }: Job): void {
    const failed = (error: unknown): void => this.parts.observer.actionFailed(a.id, action.name, error);
    this.#acting = trace;
    try {
      const run = (): unknown => a.hosted.host.runFor(a.id, a.committed.snapshot, action);
      const result = span === undefined ? run() : this.parts.telemetry?.within(span.trace, run);
      if (result instanceof Promise) result.catch(failed);
    } catch (error) {
      failed(error);
    } finally {
      this.#acting = undefined;
    }
  }

  /** One committed turn's outputs. */
  #release(taken: Taken, batch: OpenBatch, now: number): void {
    const { a, job, turn } = taken;
    const { shard } = job;
    this.parts.tally.released(taken, batch);
    shard.busy--;
    if (shard.phase === "gone") return;
    if (turn !== a.committed) {
      if (a.failed !== undefined && job.kind === Replace) this.#mend(a);
      if (turn.snapshot === undefined) {
        a.life++;
        a.saved = a.revision === 0 && !a.written ? 0 : -1;
      }
      const timersChanged = turn.timers !== a.committed.timers;
      if (timersChanged) shard.due.set(a.id, nextDue(turn.timers, now));
      a.committed = turn;
      this.catalogs.note(a, turn);
      if (timersChanged && (this.works.has(a.id) || turn.timers.some(isWorkTimer)))
        this.works.sync(a, false, job.trace);
      shard.settleDue(a);
      if (this.watches.watched(a.id)) this.#notify(a, turn, now);
    }
    if (job.session !== undefined) {
      const value = answerTo(job.kind, taken, a, now);
      const reply: Reply = [shard.shard, job.number, undefined, value];
      job.session.settle(job.number, reply);
      this.#answers.add(shard, job.session.name, reply, answerBytes(job.kind, taken));
    } else if (job.fromShard >= 0) {
      shard.in(job.fromShard).commit(job.number);
      this.outbox.acknowledge(shard, job.fromShard, job.number);
    }
    if (taken.out.length > 0) this.outbox.add(shard, taken.out);
    if (turn.timers.length > 0) this.#alarm.lookAt(shard.due.next());
    if (taken.refusal !== undefined) {
      const { journal } = this.parts.store;
      const at = [batch.ref.seq, taken.index] as const;
      shard.letters.add(decodeRecord(taken.record), at, journal.number, batch.time);
      this.#bury(shard);
    }
  }

  #notify(a: Activation, turn: Turn, now: number): void {
    let state: ActorState | null = null;
    try {
      state = stateOf(a, turn, now);
    } catch (error) {
      // The machine cannot begin anew. Whoever watches asks again, and is told so.
      this.parts.observer.troubled(`watch of ${a.id}`, error);
    }
    this.watches.notify(a.id, state);
  }

  /** Undoes everything that was stepped and is not in the journal. */
  #giveUp(batch: OpenBatch): void {
    const error = storeFull();
    const given = [batch, this.#open];
    this.#open = new OpenBatch();
    for (const { entries } of given) {
      for (const { a, job } of entries) {
        a.latest = a.committed;
        // Also for a message: a timer that it cancelled may have been rung meanwhile, and found cancelled. Work too: a
        // retry that was due and not rung yet is not running.
        job.shard.due.set(a.id, earliestDue(a.committed.timers));
      }
    }
    // Nothing uncommitted is left anywhere: every channel goes back to what is, and told messages come again.
    for (const shard of this.shards.values()) {
      for (const channel of shard.outs.values()) channel.rollback();
      for (const channel of shard.ins.values()) shard.busy -= channel.rollback();
    }
    this.#queue.keep((job) => {
      if (job.fromShard >= 0) job.shard.busy--;
      return job.fromShard < 0;
    });
    for (const { entries, reads } of given) {
      for (const { job } of entries) {
        if (job.kind === ChildJob) this.#bringLater(job);
        else if (job.session === undefined) job.shard.busy--;
        else this.#answers.reject(job, error);
      }
      for (const read of reads) read(error);
    }
    this.parts.world.clock.after(FULL_PAUSE_MS, () => this.wakeForTimers());
  }

  /** Stores a shard's dead letters. What fails is stored by the next checkpoint. */
  #bury(shard: ShardState): void {
    shard.letters
      .put(this.parts.store.deadLetters)
      .catch((error: unknown) => this.parts.observer.troubled("dead letters", error));
  }
}

/** Whether a message may be a turn, and not only read. */
function isTraced({ kind, session }: Job): boolean {
  return session === undefined || isWrite(kind);
}

/** What a committed turn answers. */
function answerTo(kind: number, { replied, reply, turn }: Taken, a: Activation, now: number): unknown {
  if (kind === Create) return stateOf(a, turn, now);
  if (kind === CancelTimer) return reply;
  if (kind === Replace) return true;
  if (kind === Ask) return replied ? reply : stateOf(a, turn, now);
  if (kind === AskBoth) return { value: replied ? reply : null, state: stateOf(a, turn, now) };
  return undefined;
}

/** What that takes at most when it is encoded: a record holds its reply. */
function answerBytes(kind: number, { replied, record, turn }: Taken): number | undefined {
  if (kind === Create) return stateBytes(turn);
  if (kind === Ask) return replied ? record.length : stateBytes(turn);
  return kind === AskBoth ? record.length + (stateBytes(turn) ?? 0) : 0;
}

function delaysOf(turn: Turn): readonly PendingTimer[] {
  return pendingTimers(turn.timers, pathIn(turn));
}

/** Paths of an actor's children by their sessions. */
function pathIn({ snapshot }: Turn): PathOf {
  const family = familyOf(snapshot);
  return (session) => family?.bySession(session)?.path;
}

function storeFull(): KeyturnError {
  return new KeyturnError(
    "store_full",
    "The store has no room left. Nothing was applied. Free some space, then try again.",
  );
}

function unknownType(type: string): KeyturnError {
  const text = `No actor of type "${type.slice(0, 80)}" is defined here. Give its definition to startNode({ actors }).`;
  return new KeyturnError("unknown_type", text);
}

function mailboxFull(id: string): KeyturnError {
  return new KeyturnError("mailbox_full", `Too many messages wait for ${id}. Try again later.`);
}
