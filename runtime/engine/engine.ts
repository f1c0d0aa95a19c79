/**
 * The engine of one node in one life: takes messages in, steps actors, commits, and opens the gate.
 *
 * Owns the shards and actors in memory, and the loop. The cluster gives it shards and takes them away; frames come from
 * the transport; time, storage and the lease are handed in. Each station of a message's way is a module of its own:
 *
 *   intake, local-intake → queue → the loop: is its actor in memory? → turns, on top of the actor's latest state
 *   → commits: into the open batch; nothing in flight? append it to the lane                  ← the only await
 *   → gate: replies, tells, watches, timers, actions. Meanwhile the next batch is stepped.
 *
 * What cannot be stepped yet waits for its actor (loader), in its channel (parking), or for a while (local-intake).
 *
 * Invariants:
 * 1. Per actor, messages are stepped in the order in which they were taken in.
 * 2. After `stop` nothing is stepped, appended or sent.
 * And those of commits.ts (one batch in flight), gate.ts (nothing leaves before it is committed) and turns.ts.
 */
import { KeyturnError } from "../words/errors.ts";
import { type Frame, Query, Replace } from "../words/frames.ts";
import { Activation, ChildJob, type Job, TimerJob } from "./activation.ts";
import { Actors } from "./actors.ts";
import { Alarm } from "./alarm.ts";
import { Answers, isTurn } from "./answers.ts";
import { Catalogs } from "./catalog/catalogs.ts";
import { IndexWriter } from "./catalog/index-writer.ts";
import { Commits, type TailSize } from "./commits.ts";
import type { HostedType } from "./definition.ts";
import { Gate } from "./gate.ts";
import { HistoryReader } from "./history.ts";
import { Inquiry } from "./inquiry.ts";
import { Intake } from "./intake.ts";
import { Lane } from "./lane.ts";
import { Loader } from "./loader.ts";
import { LocalIntake } from "./local-intake.ts";
import { Mailboxes } from "./mailbox.ts";
import { Outbox } from "./outbox.ts";
import { Parking } from "./parking.ts";
import { Owner } from "./owner.ts";
import type { EngineParts } from "./parts.ts";
import { Queue } from "./queue.ts";
import { Reads } from "./reads.ts";
import { typeOfId } from "./record.ts";
import { Saver } from "./saver.ts";
import type { ShardState } from "./shard.ts";
import { asError, unknownType } from "./faults.ts";
import { checkMessage } from "./step.ts";
import { Tracing } from "./telemetry.ts";
import { Turns } from "./turns.ts";
import { Watches } from "./watches.ts";
import { Works } from "./works.ts";

/**
 * Messages stepped before other work gets its chance. Few enough that the first of a burst are on their way to disk
 * while the others are stepped, and that a finished append opens its gate soon; more only makes batches uneven.
 */
const PUMP_MESSAGES = 256;
/** Between looks at who owns a shard, when the shard table cannot be read. */
const OWNER_LOOK_MS = 200;

export class Engine {
  readonly parts: EngineParts;
  readonly lane: Lane;
  readonly shards = new Map<number, ShardState>();
  readonly actors = new Actors();
  readonly owner: Owner;
  readonly saver: Saver;
  readonly loader: Loader;
  readonly history: HistoryReader;
  readonly outbox: Outbox;
  readonly works: Works;
  readonly catalogs: Catalogs;
  readonly indexes: IndexWriter;

  readonly #queue = new Queue();
  readonly #answers: Answers;
  readonly #watches: Watches;
  readonly #intake: Intake;
  readonly #local: LocalIntake;
  readonly #parking: Parking;
  readonly #inquiry: Inquiry;
  readonly #alarm: Alarm;
  readonly #commits: Commits;
  readonly #gate: Gate;
  readonly #turns: Turns;
  readonly #mailboxes: Mailboxes;
  #scheduled = false;
  #stopped = false;

  constructor(parts: EngineParts) {
    this.parts = parts;
    const { world, store, incarnation, settings, registry, observer, tally, telemetry, lease } = parts;
    const { clock } = world;
    const { shards } = this;
    const queue = this.#queue;
    const tracing = telemetry && new Tracing(telemetry, world);
    this.lane = new Lane(incarnation, store.journal, clock, (task, cause) => observer.troubled(task, cause));
    this.history = new HistoryReader(
      store.journal,
      (id, value) => registry.get(typeOfId(id))?.host.tagsOf(value) ?? [],
    );
    const isStopped = (): boolean => this.#stopped;
    this.owner = new Owner(incarnation, store.directory, lease);
    this.saver = new Saver(
      parts,
      this.actors,
      this.owner,
      (a, turn) => this.indexes.saved(a, turn),
      isStopped,
    );
    this.loader = new Loader(store.snapshots, clock, {
      ready: (a) => this.#ready(a),
      damaged: (shard, error) => this.failShard(shard, error),
      wake: () => this.wakeForTimers(),
      isStopped,
    });
    this.catalogs = new Catalogs(this);
    const { catalogs, owner } = this;
    const breathe = (): Promise<void> => this.breathe();
    this.indexes = new IndexWriter(parts, catalogs, owner, breathe, isStopped);

    const outbox = new Outbox(store.transport, clock);
    const watches = new Watches(store.transport, clock);
    const answers = new Answers(incarnation, store.transport, this.history, tally, tracing);
    this.outbox = outbox;
    this.#watches = watches;
    this.#answers = answers;

    const wake = { queue: () => this.schedule(), timers: () => this.wakeForTimers() };
    const look = (job: Job): void => this.#mailboxes.answer(job);
    const intake = new Intake(clock, queue, settings.intakeMessages, answers, outbox, lease, tally, look);
    const local = new LocalIntake(clock, queue, shards, registry, parts.shards, wake);
    const parking = new Parking(clock, queue, wake.queue);
    this.#intake = intake;
    this.#local = local;
    this.#parking = parking;
    const alarm = new Alarm(
      clock,
      settings,
      shards,
      () => intake.hasRoom(),
      (shard, id) => local.ring(shard, id),
    );
    this.#alarm = alarm;
    const works = new Works(
      clock,
      settings.promisesAtOnce,
      (...sent) => local.deliver(...sent),
      (id, what, error) => observer.actionFailed(id, what, error),
      telemetry,
    );
    this.works = works;
    for (const { host } of registry.values()) {
      host.outside.outlet = (owner, session, event) => local.sentOutside(owner, session, event);
      host.outside.logger = (id, label, value) => observer.logged(id, label, value);
    }

    const exits = { answers, outbox, watches, catalogs, works, alarm };
    this.#gate = new Gate(parts, exits, { shards, queue, intake, local });
    const commits = new Commits(this.lane, parts, tracing, {
      open: (batch) => this.#gate.open(batch),
      shut: (batches, cause) => this.#gate.shut(batches, cause),
      fenced: () => this.#fence(),
      settled: () => this.#settled(),
    });
    this.#commits = commits;
    const holders = { actors: this.actors, queue, commits, local, works };
    this.#mailboxes = new Mailboxes(clock, registry, answers, holders);
    const reads = new Reads(commits, answers, watches);
    const around = { commits, reads, answers, parking, local, works, alarm, tracing };
    this.#turns = new Turns(parts, around);
    this.#inquiry = new Inquiry(
      clock,
      catalogs,
      answers,
      () => this.#surelyCurrent(),
      () => commits.seq,
      breathe,
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
    return this.#commits.inFlight ?? this.#queue.peek();
  }

  /** Position of the last batch whose gate was opened, or of the lane's end when it was empty. */
  get committedSeq(): number {
    return this.#commits.seq;
  }

  /** What was appended since the last checkpoint. */
  get tail(): TailSize {
    return this.#commits.tail;
  }

  /** Resolves when what is running and what it queued is done: long work goes on in parts, with turns in between. */
  breathe(): Promise<void> {
    return new Promise((resolve) => this.parts.world.clock.defer(resolve));
  }

  // ---- Shards, given and taken by the cluster -------------------------------------------------------------------

  addShard(shard: ShardState): void {
    this.shards.set(shard.shard, shard);
    shard.watched_ms = this.parts.world.clock.now();
    this.indexes.add(shard);
    this.outbox.resume(shard);
    this.#intake.greet(shard);
    this.#gate.bury(shard);
    this.wakeForTimers();
  }

  /** Drops a shard and its actors. What was in flight of it is never answered. */
  removeShard(number: number): void {
    const shard = this.shards.get(number);
    if (shard === undefined) return;
    shard.phase = "gone";
    this.shards.delete(number);
    this.#forget(shard);
    this.catalogs.drop(shard);
    this.indexes.drop(shard);
    this.#watches.move(shard);
  }

  /** Forgets the told messages of a shard that are not stepped yet: their senders bring them to the next owner. */
  dropTold(shard: ShardState): void {
    this.#queue.keep((job) => {
      const told = job.shard === shard && job.fromShard >= 0;
      if (told) shard.busy--;
      return !told;
    });
    for (const channel of shard.ins.values()) shard.busy -= channel.forget();
  }

  /** True when nothing of the shard is queued, loading or in flight. */
  isIdle(shard: ShardState): boolean {
    return shard.busy === 0;
  }

  /** Ends this life of the node. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#commits.stop();
    this.#alarm.stop();
    this.#answers.stop();
    for (const shard of this.shards.values()) {
      shard.phase = "gone";
      this.#watches.move(shard);
    }
    this.shards.clear();
    this.actors.clear();
    this.works.stop();
    this.catalogs.stop();
    this.indexes.stop();
    this.#queue.clear();
    this.outbox.stop();
  }

  /**
   * Storage of a shard does not hold together: it is stopped, loudly, and serves nothing. Unless the shard belongs to
   * another node by now, whose newer snapshots only look like damage from here: then this life is over.
   */
  async failShard(shard: ShardState, error: KeyturnError): Promise<void> {
    const isOwned = await this.#owns(shard);
    // It was handed over, before or meanwhile: nothing is wrong with this life.
    if (shard.phase === "gone") return;
    if (!isOwned) this.#fence();
    if (this.#stopped || shard.failed !== undefined) return;
    shard.failed = error;
    this.#forget(shard);
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

  #forget(shard: ShardState): void {
    this.actors.deleteShard(shard);
    this.works.stopShard(shard);
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
    for (let steps = 0; steps < PUMP_MESSAGES && !this.#commits.blocked; steps++) {
      const job = this.#queue.peek();
      if (job === undefined) break;
      if (this.#dispatch(job, now)) this.#queue.drop();
    }
    this.loader.start();
    this.#commits.start();
    this.#answers.flush();
    // Acknowledgements of what was repeated: nothing may be committed here for a long time.
    this.outbox.flush();
    // Here too, because what is only read commits nothing.
    this.saver.passivate();
    if (this.#queue.length > 0 && !this.#commits.blocked) this.schedule();
  }

  /** An append has come to its end. */
  #settled(): void {
    this.#answers.flush();
    this.saver.passivate();
    if (this.#queue.length > 0) this.schedule();
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
    const a = this.actors.get(job.message.id) ?? this.#activate(job);
    if (a === undefined) return true;
    this.parts.tally.look(job, a);
    a.used = true;
    if (a.failed?.retryable) {
      // Its snapshot could not be read just now. Who comes next tries again; what nobody sends again waits for it.
      this.actors.delete(a);
      this.#bringLater(a, job, a.failed);
      return true;
    }
    if (job.fromShard >= 0 && this.#parking.mustWait(a, job)) return true;
    // Also of an actor that this version cannot load: that is what it may be for.
    if (job.kind === Replace && a.mailbox === undefined) return this.#turns.replace(a, job, now);
    if (a.failed !== undefined) return this.#turns.refuse(a, job, a.failed, now);
    if (a.mailbox === undefined) return this.#turns.step(a, job, now);
    this.#await(a, a.mailbox, job);
    return true;
  }

  /** An actor that is not in memory begins to be loaded. Undefined if it is not, and the message is settled. */
  #activate(job: Job): Activation | undefined {
    const { id, key } = job.message;
    const type = id.slice(0, id.indexOf("."));
    const hosted = this.parts.registry.get(type);
    if (hosted === undefined && job.fromShard < 0) {
      this.#answers.reject(job, unknownType(type));
      return undefined;
    }
    if (hosted === undefined && this.#parking.awaitsDeploy(job, type)) return undefined;
    if (hosted !== undefined && this.#unfit(job, hosted)) return undefined;
    const a = new Activation(id, key, job.shard, hosted as HostedType);
    if (hosted === undefined) a.failed = unknownType(type);
    else {
      this.parts.tally.activations++;
      this.loader.add(a);
    }
    this.actors.add(a);
    return a;
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

  /** A message waits for its actor to be loaded. */
  #await(a: Activation, mailbox: Job[], job: Job): void {
    if (this.#unfit(job, a.hosted)) return;
    if (mailbox.length < this.parts.settings.mailboxMessages) mailbox.push(job);
    // Nobody would bring what came of work again.
    else if (job.kind === ChildJob) this.#local.bringLater(job);
    else this.#answers.reject(job, mailboxFull(a.id));
  }

  /** A message whose actor cannot be read comes again; a request is refused. */
  #bringLater(a: Activation, job: Job, error: KeyturnError): void {
    if (job.fromShard >= 0) this.#parking.park(job);
    else if (job.kind === TimerJob) this.#local.ringLater(a);
    else if (job.kind === ChildJob) this.#local.bringLater(job);
    else this.#answers.reject(job, error);
  }

  /** An actor was loaded, or failed to: whatever waited for it goes on, before newer messages. */
  #ready(a: Activation): void {
    const waiting = a.mailbox ?? [];
    a.mailbox = undefined;
    a.used_ms = this.parts.world.clock.now();
    if (a.failed === undefined && this.actors.holds(a)) this.works.sync(a, true);
    this.#parking.loaded(a.shard);
    if (waiting.length > 0) this.#queue.unshift(waiting);
    this.schedule();
  }

  /** Resolves at once while no other node can own the shards, or else after an append that proves it. */
  async #surelyCurrent(): Promise<void> {
    if (this.parts.lease.holds()) return;
    await new Promise<void>((resolve, reject) => {
      this.#commits.prove((failed) => (failed === undefined ? resolve() : reject(failed)));
      this.schedule();
    });
  }
}

function mailboxFull(id: string): KeyturnError {
  return new KeyturnError("mailbox_full", `Too many messages wait for ${id}. Try again later.`);
}
