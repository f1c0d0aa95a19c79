/**
 * Ownership: which shards this incarnation has, how it gets them and how it gives them away.
 *
 * Owns the life of every shard on this node and the subscriptions to the shards' subjects. Talks to the Directory,
 * the claims, the take-over, the hand-over, the checkpointer and the engine.
 *
 * Life of a shard here:
 *
 *   | from      | to        | when
 *   | absent    | acquiring | it should be here, and nobody alive owns it
 *   | acquiring | serving   | former lane sealed, tail read, shard table won
 *   | acquiring | absent    | somebody else won, or storage failed
 *   | serving   | draining  | it should be elsewhere, or this node leaves
 *   | draining  | absent    | everything flushed, shard table released
 *   | any       | absent    | this incarnation was fenced
 *
 * Invariants:
 * 1. A shard is served only after the compare-and-set that made this incarnation its owner.
 * 2. Before a shard is taken from an owner that did not release it, that owner was found off the list of members by a
 *    read that is not behind, and its lane is sealed.
 * 3. One reconciliation runs at a time; whatever changes meanwhile starts another. A shard that is offered is acquired
 *    beside it, at once: somebody waits for it.
 * 4. Of the shard table only those entries are read that should be this node's and are not: once, when they are offered,
 *    when their owner is not listed any more, and with every heartbeat.
 * 5. A shard is taken only by a node whose versions are at least what its entry needs, by a read that is not behind:
 *    the claim replaces that entry, so no newer version can have come in between.
 */
import type { Segment, ShardEntry, Store, StoredShard } from "../ports/index.ts";
import { Checkpointer } from "../engine/checkpoint.ts";
import { forEach, Repeated } from "../engine/concurrently.ts";
import type { Engine } from "../engine/engine.ts";
import { extendTimers, HORIZON_MS } from "../engine/recovery.ts";
import { ShardState } from "../engine/shard.ts";
import type { KeyturnError } from "../words/errors.ts";
import type { Frame } from "../words/frames.ts";
import { Claims } from "./claims.ts";
import { HandOver } from "./handover.ts";
import type { Held } from "./held.ts";
import type { Membership } from "./membership.ts";
import { Orphans } from "./orphans.ts";
import { entryOf, type Found, takeOver } from "./takeover.ts";

/** Frames kept for a shard that is being acquired; senders repeat what does not fit. */
const PENDING_FRAMES = 4_096;
/** Shards that are given away before it is looked again where they belong. */
const RELEASED_AT_ONCE = 32;
/** Entries of the shard table that are read or written at once. */
const ENTRIES_AT_ONCE = 64;
/** Shards whose timers are looked up at once. */
const TIMERS_AT_ONCE = 16;

export class Ownership {
  readonly #store: Store;
  readonly #engine: Engine;
  readonly #membership: Membership;
  readonly #held = new Map<number, Held>();
  readonly #checkpointer: Checkpointer;
  readonly #orphans: Orphans;
  readonly #handOver: HandOver;
  /** Shards whose storage is damaged: they are answered with the error, and left alone. */
  readonly #damaged = new Map<number, KeyturnError>();
  readonly #claims: Claims;
  readonly #reconciliation = new Repeated(() => this.#reconcile());
  /** What was last said of shards that nobody serves. */
  #told: string | undefined;
  /** Everything is to be looked at; otherwise only what was offered. */
  #whole = false;
  #offered = new Set<number>();
  readonly #unlisten: () => void;
  #stopped = false;

  constructor(engine: Engine, membership: Membership) {
    this.#engine = engine;
    this.#store = engine.parts.store;
    this.#membership = membership;
    this.#unlisten = this.#store.transport.subscribe(`node.${membership.self.incarnation}`, (frame) =>
      this.#receiveDirect(frame),
    );
    this.#checkpointer = new Checkpointer(engine, (shard, segments) => this.#setSegments(shard, segments));
    this.#orphans = new Orphans(engine, (shard) => this.#held.has(shard));
    this.#handOver = new HandOver(engine, this.#checkpointer, this.#orphans, (held) =>
      this.#letGo(held.number),
    );
    this.#claims = new Claims(this.#store.directory, membership, engine.parts.shards);
  }

  /** Shards that are served here now. */
  get serving(): number[] {
    return [...this.#held.values()].filter((h) => h.phase === "serving").map((h) => h.number);
  }

  get isEmpty(): boolean {
    return this.#held.size === 0;
  }

  /** Says which shards nobody serves because all nodes, and so this one, are too old for them: `newer_version`. */
  get unserved(): KeyturnError | undefined {
    return this.#claims.unserved;
  }

  /** The same, if this node is alone and can serve nothing at all. */
  get refusal(): KeyturnError | undefined {
    return this.#claims.refusal;
  }

  /**
   * Brings what is held closer to what should be. Resolves when it has been looked at after this call.
   * @param anew read again what is waited for; otherwise only the entries that were not waited for before
   */
  reconcile(anew = true): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    if (anew) this.#claims.forget();
    this.#whole = true;
    return this.#reconciliation.run();
  }

  /** Some node has given a shard up. */
  async offer(shard: number): Promise<void> {
    if (this.#stopped || !this.#claims.isPossible(shard) || this.#damaged.has(shard)) return;
    const phase = this.#held.get(shard)?.phase;
    if (phase === "serving") return;
    if (phase === undefined) await this.#acquire([shard]);
    else {
      // It was not free when it was looked at, or is just being given away: once more, behind that.
      this.#offered.add(shard);
      await this.#reconciliation.run();
    }
  }

  /** Writes snapshots and cuts the tails of everything served here. */
  async checkpoint(): Promise<void> {
    await this.#checkpointer.run([...this.#engine.shards.values()]);
    this.#engine.parts.tally.checkpoints++;
  }

  /** Looks up the timers that come near. */
  async extendTimers(now: number): Promise<void> {
    const near = [...this.#engine.shards.values()].filter((shard) => shard.horizon_ms - now < HORIZON_MS / 2);
    await forEach(near, TIMERS_AT_ONCE, (shard) => extendTimers(this.#store, shard, now + HORIZON_MS));
    this.#engine.wakeForTimers();
  }

  /** This incarnation is over. Nothing is released: others seal its lane. */
  stop(): void {
    this.#stopped = true;
    this.#unlisten();
    for (const held of this.#held.values()) held.unsubscribe();
    this.#held.clear();
  }

  /** This incarnation was found to be over: it gives up what it has, unflushed. */
  lose(): void {
    if (this.#stopped || this.#engine.stopped) return;
    const { observer, onFenced, incarnation } = this.#engine.parts;
    this.#engine.stop();
    observer.fenced(incarnation);
    onFenced();
  }

  async #reconcile(): Promise<void> {
    if (this.#stopped) return;
    const whole = this.#whole;
    const offered = this.#offered;
    this.#whole = false;
    this.#offered = new Set();
    this.#claims.place();
    if (whole) await this.#settleOrphans();
    const wanted = this.#claims
      .possible()
      .filter((shard) => !this.#held.has(shard) && !this.#damaged.has(shard));
    const free = whole ? await this.#claims.freeOf(wanted) : new Set<number>();
    await this.#acquire(wanted.filter((shard) => free.has(shard) || offered.has(shard)));
    this.#tellUnserved();
    const unwanted = [...this.#held.values()].filter(
      (h) => h.phase === "serving" && this.#claims.isElsewhere(h),
    );
    if (unwanted.length === 0 || this.#stopped) return;
    const released = await this.#handOver.run(unwanted.slice(0, RELEASED_AT_ONCE));
    if (released && unwanted.length > RELEASED_AT_ONCE) void this.#reconciliation.run();
  }

  #tellUnserved(): void {
    const error = this.#claims.unserved;
    if (error !== undefined && error.message !== this.#told)
      this.#engine.parts.observer.troubled("take shards", error);
    this.#told = error?.message;
  }

  async #settleOrphans(): Promise<void> {
    // One that should be here is taken like any other.
    const orphans = this.#orphans.shards.filter(
      (shard) => !this.#claims.isMine(shard) && !this.#held.has(shard),
    );
    await this.#quietly("disown shards", () =>
      forEach(orphans, ENTRIES_AT_ONCE, (shard) => this.#orphans.disown(shard)),
    );
  }

  // ---- Taking over ------------------------------------------------------------------------------------------------

  async #acquire(wanted: readonly number[]): Promise<void> {
    // An offered one may have been begun with since it was looked at.
    const numbers = wanted.filter((number) => !this.#held.has(number));
    if (numbers.length === 0 || this.#stopped) return;
    for (const number of numbers) {
      this.#claims.taken(number);
      this.#hold(number);
    }
    await this.#quietly("acquire shards", async () => {
      const found = await this.#freeNow(numbers);
      await takeOver(this.#engine, found, {
        versions: this.#membership.self.versions,
        claimed: (state, entry, revision) => this.#serve(state, entry, revision),
        unanswered: (shard, revision) => this.#orphans.add(shard, revision),
        damaged: (shard, error) => this.#setDamaged(shard, error),
      });
    });
    for (const number of numbers) if (this.#held.get(number)?.phase === "acquiring") this.#letGo(number);
  }

  /** The entries of those that may be taken, for certain: their owners have released them or are over. */
  async #freeNow(numbers: readonly number[]): Promise<Found[]> {
    const entries = new Map<number, StoredShard | undefined>();
    await this.#quietly("read the shard table", () =>
      forEach(numbers, ENTRIES_AT_ONCE, async (number) => {
        entries.set(number, await this.#store.directory.readShard(number));
      }),
    );
    const { incarnation } = this.#membership.self;
    const owners = new Set<string>();
    for (const stored of entries.values())
      if (stored?.entry.owner !== undefined) owners.add(stored.entry.owner);
    owners.delete(incarnation);
    const over = await this.#membership.overOf(owners);
    const free: Found[] = [];
    for (const [shard, stored] of entries) {
      const owner = stored?.entry.owner;
      if (owner === incarnation) this.#orphans.add(shard);
      if (owner !== undefined && owner !== incarnation && !over.has(owner)) continue;
      if (this.#claims.takes(shard, stored)) free.push({ shard, stored });
    }
    return free;
  }

  #serve(state: ShardState, { epoch, versions }: ShardEntry, revision: number): void {
    const held = this.#held.get(state.shard);
    if (held === undefined || this.#stopped) return;
    this.#orphans.forget(state.shard);
    state.epoch = epoch;
    held.state = state;
    held.revision = revision;
    held.epoch = epoch;
    held.versions = versions;
    held.phase = "serving";
    this.#engine.addShard(state);
    this.#engine.parts.observer.shardServing(state.shard, this.#membership.self.incarnation, epoch);
    for (const frame of held.pending.splice(0)) this.#engine.receive(state, frame);
  }

  // ---- Holding ----------------------------------------------------------------------------------------------------

  #hold(number: number): void {
    const pending: Frame[] = [];
    const unsubscribe = this.#store.transport.subscribe(`shard.${number}`, (frame) =>
      this.#receive(number, frame),
    );
    this.#held.set(number, {
      number,
      phase: "acquiring",
      state: undefined,
      revision: 0,
      epoch: 0,
      versions: undefined,
      pending,
      unsubscribe,
    });
  }

  #letGo(number: number): void {
    const held = this.#held.get(number);
    if (held === undefined) return;
    held.unsubscribe();
    this.#held.delete(number);
    this.#engine.removeShard(number);
  }

  #receive(number: number, frame: Frame): void {
    const held = this.#held.get(number);
    if (held === undefined) return;
    if (held.state !== undefined) this.#engine.receive(held.state, frame);
    else if (held.pending.length < PENDING_FRAMES) held.pending.push(frame);
  }

  /** A frame from a sender who believes that the shard is here. */
  #receiveDirect(frame: Frame): void {
    if (frame.kind !== "request") return;
    const { shard, session } = frame;
    if (this.#held.has(shard)) this.#receive(shard, frame);
    else {
      const from = this.#membership.self.incarnation;
      const moved: Frame = { kind: "refusal", shard, from, reason: "moved", epoch: 0, expected: 0 };
      this.#store.transport.publish(`client.${session}`, moved);
    }
  }

  async #setDamaged(number: number, error: KeyturnError): Promise<void> {
    this.#damaged.set(number, error);
    this.#engine.parts.observer.shardFailed(number, error);
    const held = this.#held.get(number);
    if (held === undefined) return;
    const state = new ShardState(number);
    state.failed = error;
    // Clients are answered in the name of the last owner, whom they know.
    const stored = await this.#store.directory.readShard(number).catch(() => undefined);
    state.epoch = stored?.entry.epoch ?? 0;
    held.state = state;
    // It answers with the error; it is not in the shard table as ours and nothing of it is ever written.
    held.phase = "draining";
    for (const frame of held.pending.splice(0)) this.#engine.receive(state, frame);
  }

  /** For the checkpointer: moves the tail's start. */
  async #setSegments(state: ShardState, segments: readonly Segment[]): Promise<boolean> {
    const held = this.#held.get(state.shard);
    if (held === undefined || held.state !== state) return false;
    const { directory } = this.#store;
    const owner = this.#membership.self.incarnation;
    const entry = entryOf(owner, held.epoch, segments, held.versions);
    let revision = await directory.writeShard(state.shard, entry, held.revision);
    if (revision === undefined) {
      // An earlier write of this node may have had its effect without an answer: then the entry is still this one's.
      const stored = await directory.readShard(state.shard);
      if (stored?.entry.owner !== owner || stored.entry.epoch !== held.epoch) {
        if (this.#held.get(state.shard) === held) this.lose();
        return false;
      }
      revision = await directory.writeShard(state.shard, entry, stored.revision);
    }
    if (revision === undefined) return false;
    held.revision = revision;
    return true;
  }

  async #quietly(task: string, run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      this.#engine.parts.observer.troubled(task, error);
    }
  }
}
