/**
 * Ownership: which shards this incarnation has, how it gets them and how it gives them away.
 *
 * Owns the life of every shard on this node and the subscriptions to the shards' subjects. Talks to the Directory,
 * the journal (seals), recovery, the checkpointer and the engine.
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
 * 2. Before a shard is taken from an owner that did not release it, that owner's lane is sealed.
 * 3. One reconciliation runs at a time; whatever changes meanwhile starts another.
 */
import type { Segment, ShardEntry, Store, StoredShard } from "../ports/index.ts";
import { Checkpointer } from "../engine/checkpoint.ts";
import type { Engine } from "../engine/engine.ts";
import { sealLane } from "../engine/lane.ts";
import { extendTimers, HORIZON_MS, recover } from "../engine/recovery.ts";
import { ShardState } from "../engine/shard.ts";
import { isKeyturnError, type KeyturnError } from "../words/errors.ts";
import type { Frame } from "../words/frames.ts";
import type { Membership } from "./membership.ts";
import { place } from "./placement.ts";

/** Frames kept for a shard that is being acquired; senders repeat what does not fit. */
const PENDING_FRAMES = 4_096;
/** How long a draining shard waits between looks whether it is idle. */
const DRAIN_LOOK_MS = 1;
/** A shard that does not come to rest for so long, because its store does not answer, goes on being served here. */
const DRAIN_MS = 10_000;

interface Held {
  readonly number: number;
  phase: "acquiring" | "serving" | "draining";
  state: ShardState | undefined;
  /** Revision of the shard table's entry that says that it is ours. */
  revision: number;
  epoch: number;
  readonly pending: Frame[];
  readonly unsubscribe: () => void;
}

export class Ownership {
  readonly #store: Store;
  readonly #engine: Engine;
  readonly #membership: Membership;
  readonly #held = new Map<number, Held>();
  readonly #checkpointer: Checkpointer;
  /** Shards whose storage is damaged: they are answered with the error, and left alone. */
  readonly #damaged = new Map<number, KeyturnError>();
  readonly #unlisten: () => void;
  #stopped = false;
  #running: Promise<void> | undefined;
  #again = false;

  constructor(engine: Engine, membership: Membership) {
    this.#engine = engine;
    this.#store = engine.parts.store;
    this.#membership = membership;
    this.#unlisten = this.#store.transport.subscribe(`node.${membership.self.incarnation}`, (frame) =>
      this.#receiveDirect(frame),
    );
    this.#checkpointer = new Checkpointer(engine, (shard, segments) => this.#setSegments(shard, segments));
  }

  /** Shards that are served here now. */
  get serving(): number[] {
    return [...this.#held.values()].filter((h) => h.phase === "serving").map((h) => h.number);
  }

  get isEmpty(): boolean {
    return this.#held.size === 0;
  }

  /** Brings what is held closer to what should be. Resolves when it has been looked at after this call. */
  reconcile(): Promise<void> {
    this.#again = true;
    if (this.#stopped) return Promise.resolve();
    this.#running ??= this.#run();
    return this.#running;
  }

  async #run(): Promise<void> {
    try {
      while (this.#again && !this.#stopped) {
        this.#again = false;
        await this.#reconcile();
      }
    } finally {
      // In the same moment in which `again` was found false: a call in between would be lost.
      this.#running = undefined;
    }
  }

  /** Writes snapshots and cuts the tails of everything served here. */
  async checkpoint(): Promise<void> {
    await this.#checkpointer.run([...this.#engine.shards.values()]);
  }

  /** Looks up the timers that come near. */
  async extendTimers(now: number): Promise<void> {
    for (const shard of [...this.#engine.shards.values()]) {
      if (shard.horizon_ms - now < HORIZON_MS / 2) await extendTimers(this.#store, shard, now + HORIZON_MS);
    }
    this.#engine.wakeForTimers();
  }

  /** This incarnation is over. Nothing is released: others seal its lane. */
  stop(): void {
    this.#stopped = true;
    this.#unlisten();
    for (const held of this.#held.values()) held.unsubscribe();
    this.#held.clear();
  }

  async #reconcile(): Promise<void> {
    await this.#membership.look();
    if (this.#membership.lapsed) await this.#prove();
    const table = await this.#store.directory.readShards(
      Array.from({ length: this.#engine.parts.shards }, (_, shard) => shard),
    );
    if (await this.#hasLost(table)) return;
    const candidates = this.#membership.candidates();
    const self = this.#membership.self;
    const wanted: number[] = [];
    const unwanted: Held[] = [];
    const orphans: number[] = [];
    for (let shard = 0; shard < this.#engine.parts.shards; shard++) {
      const mine = place(shard, candidates)?.incarnation === self.incarnation;
      const held = this.#held.get(shard);
      if (held !== undefined) {
        if (!mine && held.phase === "serving") unwanted.push(held);
        continue;
      }
      const owner = table.get(shard)?.entry.owner;
      const free = owner === undefined || owner === self.incarnation || !this.#membership.alive(owner);
      if (mine && free && !this.#damaged.has(shard)) wanted.push(shard);
      if (!mine && owner === self.incarnation) orphans.push(shard);
    }
    // Given away, but the shard table has not heard of it.
    for (const shard of orphans) await this.#disown(shard, false);
    if (unwanted.length > 0) await this.#release(unwanted);
    if (wanted.length > 0 && !this.#stopped) await this.#acquire(wanted);
  }

  /** The lease had run out: finds out, by writing their entries anew, that all shards are still this node's. */
  async #prove(): Promise<void> {
    const { lapses } = this.#membership;
    for (const held of [...this.#held.values()]) {
      if (held.phase !== "serving" || held.state === undefined) continue;
      const stored = await this.#store.directory.readShard(held.number);
      if (stored?.entry.owner !== this.#membership.self.incarnation) return;
      const revision = await this.#store.directory.writeShard(held.number, stored.entry, stored.revision);
      if (revision === undefined) return;
      held.revision = revision;
    }
    this.#membership.proven(lapses);
  }

  /** Whether another node has taken a shard that is served here: then its lane is sealed, and this life is over. */
  async #hasLost(table: ReadonlyMap<number, StoredShard>): Promise<boolean> {
    const { incarnation } = this.#membership.self;
    for (const { number, phase } of [...this.#held.values()]) {
      if (phase !== "serving" || table.get(number)?.entry.owner === incarnation) continue;
      // The table as a whole may be behind.
      const stored = await this.#store.directory.readShard(number);
      if (stored?.entry.owner === incarnation || this.#stopped) continue;
      this.#engine.stop();
      this.#engine.parts.observer.fenced(incarnation);
      this.#engine.parts.onFenced();
      return true;
    }
    return false;
  }

  // ---- Taking over ------------------------------------------------------------------------------------------------

  async #acquire(numbers: readonly number[]): Promise<void> {
    for (const number of numbers) this.#hold(number);
    try {
      await this.#takeOver(numbers);
    } catch (error) {
      if (isDamage(error) && numbers.length > 1) {
        // One of them is damaged; the others must not suffer.
        for (const number of numbers)
          if (this.#held.get(number)?.phase === "acquiring") await this.#acquireOne(number);
      } else if (isDamage(error)) await this.#setDamaged(numbers[0] as number, error);
      else this.#engine.parts.observer.troubled("acquire shards", error);
    }
    for (const number of numbers) if (this.#held.get(number)?.phase === "acquiring") this.#letGo(number);
  }

  async #acquireOne(number: number): Promise<void> {
    try {
      await this.#takeOver([number]);
    } catch (error) {
      if (isDamage(error)) await this.#setDamaged(number, error);
      else this.#engine.parts.observer.troubled("acquire shards", error);
    }
  }

  async #takeOver(numbers: readonly number[]): Promise<void> {
    const { clock } = this.#engine.parts.world;
    const before = new Map<number, StoredShard | undefined>();
    for (const number of numbers) before.set(number, await this.#store.directory.readShard(number));
    // In this order: an owner that comes back to life between the two writes the entry anew (see Membership).
    await this.#membership.look();
    const closed = new Map<number, readonly Segment[]>();
    const seals = new Map<string, number>();
    for (const [number, stored] of before) {
      const owner = stored?.entry.owner;
      if (owner !== undefined && owner !== this.#membership.self.incarnation && this.#membership.alive(owner))
        continue;
      closed.set(number, await this.#closeSegments(stored?.entry, seals));
    }
    const wanted = [...closed].map(([shard, segments]) => ({ shard, segments }));
    const states = await recover(this.#store, wanted, clock.now(), clock.monotonic());
    if (this.#stopped) return;
    await allDone(
      states.map((state) =>
        this.#claim(state, before.get(state.shard), closed.get(state.shard) as readonly Segment[]),
      ),
    );
  }

  /** The segments of a shard with the open one closed: by sealing its lane, or where this node's own lane stands. */
  async #closeSegments(
    entry: ShardEntry | undefined,
    seals: Map<string, number>,
  ): Promise<readonly Segment[]> {
    if (entry === undefined) return [];
    const closed: Segment[] = [];
    for (const segment of entry.segments) {
      if (segment.to !== undefined) {
        closed.push(segment);
        continue;
      }
      if (segment.lane === this.#engine.lane.name) {
        closed.push({ ...segment, to: this.#engine.committedSeq });
        continue;
      }
      let seal = seals.get(segment.lane);
      if (seal === undefined) {
        seal = await sealLane(
          this.#store.journal,
          segment.lane,
          this.#membership.self.incarnation,
          this.#engine.parts.world.clock,
        );
        seals.set(segment.lane, seal);
      }
      closed.push({ ...segment, to: seal });
    }
    return closed;
  }

  async #claim(
    state: ShardState,
    before: StoredShard | undefined,
    closed: readonly Segment[],
  ): Promise<void> {
    const { journal, directory } = this.#store;
    const incarnation = this.#membership.self.incarnation;
    const held = this.#held.get(state.shard);
    const open: Segment = {
      journal: journal.number,
      lane: this.#engine.lane.name,
      from: this.#engine.committedSeq + 1,
      to: undefined,
    };
    const segments = [...closed.filter(isFilled), open];
    const epoch = (before?.entry.epoch ?? 0) + 1;
    const revision = await directory.writeShard(
      state.shard,
      { owner: incarnation, epoch, segments },
      before?.revision ?? 0,
    );
    if (revision === undefined || held === undefined || this.#held.get(state.shard) !== held) return;
    if (this.#stopped) return;
    state.epoch = epoch;
    held.state = state;
    held.revision = revision;
    held.epoch = epoch;
    held.phase = "serving";
    this.#engine.addShard(state);
    // What was just replayed is to be in snapshots before somebody has to replay it again.
    if (closed.length > 0) this.#engine.tailRecords++;
    this.#engine.parts.observer.shardServing(state.shard, incarnation, epoch);
    for (const frame of held.pending.splice(0)) this.#engine.receive(state, frame);
  }

  // ---- Giving away ------------------------------------------------------------------------------------------------

  async #release(unwanted: readonly Held[]): Promise<void> {
    const states = unwanted.map((held) => held.state as ShardState);
    try {
      // In the background first, so that little is left to write while nobody is served.
      await this.#checkpointer.run(states);
      for (const held of unwanted) {
        held.phase = "draining";
        (held.state as ShardState).phase = "draining";
      }
      for (const state of states) await this.#drained(state);
      const cut = await this.#checkpointer.run(states);
      if (!this.#stopped)
        await allDone(unwanted.map((held) => this.#giveUp(held, cut.has(held.state as ShardState))));
    } catch (error) {
      this.#engine.parts.observer.troubled("release shards", error);
      for (const held of unwanted) {
        if (this.#held.get(held.number) !== held || held.state === undefined) continue;
        held.phase = "serving";
        if (held.state.phase === "draining") held.state.phase = "serving";
      }
      this.#again = false;
    }
  }

  /**
   * Writes into the shard table that nobody owns the shard. From the moment this is tried on, the shard is not served
   * here, whatever the answer: a write without an answer may take effect later. If it does not, the next reconciliation
   * finds that the table still names this incarnation, and tries again, or takes the shard anew.
   * @param cut whether the checkpoint has just cut the tail, behind which nothing of the shard was appended since
   */
  async #giveUp(held: Held, cut: boolean): Promise<void> {
    this.#letGo(held.number);
    await this.#disown(held.number, cut);
  }

  /** Takes this incarnation's name out of the shard table, for a shard that is not served here. */
  async #disown(number: number, cut: boolean): Promise<void> {
    const incarnation = this.#membership.self.incarnation;
    const stored = await this.#store.directory.readShard(number);
    if (stored?.entry.owner !== incarnation) return;
    // A damaged shard keeps its tail: it holds turns that are in no snapshot.
    const segments = cut ? [] : await this.#closeSegments(stored.entry, new Map());
    const entry = { owner: undefined, epoch: stored.entry.epoch, segments: segments.filter(isFilled) };
    const revision = await this.#store.directory.writeShard(number, entry, stored.revision);
    if (revision !== undefined) this.#engine.parts.observer.shardReleased(number, incarnation);
  }

  async #drained(state: ShardState): Promise<void> {
    const { clock } = this.#engine.parts.world;
    this.#engine.dropTold(state);
    const until = clock.monotonic() + DRAIN_MS;
    while (!this.#engine.isIdle(state) && state.phase === "draining") {
      if (clock.monotonic() > until)
        throw new Error(`Shard ${state.shard} did not come to rest within ${DRAIN_MS} ms.`);
      await new Promise<void>((resolve) => clock.after(DRAIN_LOOK_MS, resolve));
    }
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
    const entry: ShardEntry = { owner, epoch: held.epoch, segments };
    let revision = await directory.writeShard(state.shard, entry, held.revision);
    if (revision === undefined) {
      // An earlier write of this node may have had its effect without an answer: then the entry is still this one's.
      const stored = await directory.readShard(state.shard);
      if (stored?.entry.owner !== owner || stored.entry.epoch !== held.epoch) return false;
      revision = await directory.writeShard(state.shard, entry, stored.revision);
    }
    if (revision === undefined) return false;
    held.revision = revision;
    return true;
  }
}

/**
 * Waits for all, then throws the first error. What is still under way when a reconciliation ends would meet the next
 * one, which may be about the same shards.
 */
async function allDone(tasks: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(tasks)) if (result.status === "rejected") throw result.reason;
}

function isFilled({ from, to }: Segment): boolean {
  return to !== undefined && to >= from;
}

/** Storage that does not hold together, or that this runtime must not touch. */
function isDamage(error: unknown): error is KeyturnError {
  return (
    isKeyturnError(error, "corrupt_record") ||
    isKeyturnError(error, "corrupt_snapshot") ||
    isKeyturnError(error, "newer_format")
  );
}
