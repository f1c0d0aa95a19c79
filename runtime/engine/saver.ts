/**
 * Writes snapshots and passivates actors.
 *
 * Owns the order of snapshot writes (one call at a time) and the passivation sweep. Talks to Snapshots and, before each
 * write, to the owner (owner.ts).
 *
 * Invariants:
 * 1. Only committed state is written.
 * 2. A write replaces the revision that this node knows, of an entry or of a deleted one's marker. After a conflict it
 *    reads the revision anew and goes on only if, after that, the shard is still this node's: then whatever was stored
 *    is a former owner's late write or an earlier one of its own. Otherwise the next append will say so.
 * 3. An actor leaves memory only when its snapshot is what is committed and nothing of it is in flight.
 */
import type { SnapshotWrite } from "../ports/index.ts";
import { type Activation, dataOf, type Turn } from "./activation.ts";
import type { Actors } from "./actors.ts";
import type { Owner } from "./owner.ts";
import type { EngineParts } from "./parts.ts";
import { earliestDue, encodeSnapshot } from "./state.ts";

/** How much of the actors in memory one sweep frees at least, so that sweeps are rare. */
const SWEEP_SHARE = 0.02;
/** How long passivation rests after snapshots could not be written. */
const RETRY_MS = 1_000;

export class Saver {
  readonly #parts: EngineParts;
  readonly #actors: Actors;
  readonly #owner: Owner;
  /** Told of each turn whose snapshot, or deletion, is stored. */
  readonly #saved: (a: Activation, turn: Turn) => void;
  readonly #isStopped: () => boolean;
  #tail: Promise<unknown> = Promise.resolve();
  #sweep: Iterator<Activation> | undefined;
  #sweeping = false;

  constructor(
    parts: EngineParts,
    actors: Actors,
    owner: Owner,
    saved: (a: Activation, turn: Turn) => void,
    isStopped: () => boolean,
  ) {
    this.#parts = parts;
    this.#actors = actors;
    this.#owner = owner;
    this.#saved = saved;
    this.#isStopped = isStopped;
  }

  /**
   * Writes the committed state of actors, those that are behind. Resolves when all of them are stored.
   * @throws what the store throws, or an error if another node's newer state was found
   */
  save(actors: readonly Activation[]): Promise<void> {
    const run = this.#tail.then(() => this.#saveInOrder(actors));
    this.#tail = run.catch(() => undefined);
    return run;
  }

  async #saveInOrder(actors: readonly Activation[]): Promise<void> {
    const { snapshotBatch } = this.#parts.settings;
    for (let at = 0; at < actors.length; at += snapshotBatch) {
      const batch = actors.slice(at, at + snapshotBatch).filter((a) => a.dirty && a.shard.phase !== "gone");
      if (batch.length > 0) await this.#write(batch);
      if (this.#isStopped()) throw new Error("The node stopped before the snapshots were written.");
    }
  }

  async #write(actors: readonly Activation[]): Promise<void> {
    const { snapshots } = this.#parts.store;
    this.#owner.checkLease();
    const written = actors.map((a) => ({ a, turn: a.committed, life: a.life }));
    for (const a of actors) a.written = true;
    const revisions = await snapshots.write(written.map(({ a, turn }) => writeOf(a, turn)));
    const refused: Activation[] = [];
    written.forEach(({ a, turn, life }, index) => {
      const revision = revisions[index];
      if (revision === undefined) {
        refused.push(a);
        return;
      }
      a.revision = revision;
      // Deleted while it was being written: what is stored now is of the old life, whatever stood there before.
      a.saved = a.life === life ? turn.turn : -1;
      this.#saved(a, turn);
      this.#forgetFarTimers(a, turn);
    });
    if (refused.length > 0) await this.#settleConflicts(refused);
  }

  async #settleConflicts(refused: readonly Activation[]): Promise<void> {
    const actors = refused.filter((a) => a.shard.phase !== "gone");
    if (actors.length === 0) return;
    const entries = await this.#parts.store.snapshots.read(actors.map((a) => a.id));
    for (const shard of new Set(actors.map((a) => a.shard))) await this.#owner.check(shard);
    actors.forEach((a, index) => {
      a.revision = entries[index]?.revision ?? 0;
    });
    await this.#write(actors);
  }

  /** A stored timer beyond the horizon is found in the store's index when its time comes. */
  #forgetFarTimers(a: Activation, turn: Turn): void {
    if (turn !== a.committed || turn.timers.length === 0) return;
    const due = earliestDue(turn.timers);
    if (due !== undefined && due >= a.shard.horizon_ms) a.shard.due.set(a.id, undefined);
  }

  /** Makes room if there are too many actors in memory: the least recently used go, after they are stored. */
  passivate(): void {
    const actors = this.#actors;
    const { settings, observer, world } = this.#parts;
    if (actors.size <= settings.activeActors || this.#sweeping) return;
    const wanted = actors.size - settings.activeActors + Math.ceil(settings.activeActors * SWEEP_SHARE);
    const victims = this.#choose(wanted);
    const dirty: Activation[] = [];
    for (const a of victims) {
      if (a.dirty) dirty.push(a);
      else actors.delete(a);
    }
    if (dirty.length === 0) return;
    this.#sweeping = true;
    this.save(dirty)
      .then(() => {
        for (const a of dirty) if (!a.used && !this.#isBusy(a) && !a.dirty) actors.delete(a);
      })
      .catch(async (error: unknown) => {
        observer.troubled("passivation", error);
        await new Promise<void>((resolve) => world.clock.after(RETRY_MS, resolve));
      })
      .finally(() => {
        this.#sweeping = false;
        if (!this.#isStopped()) this.passivate();
      });
  }

  /** Second-chance sweep: who was used since the last pass is spared once. Source: the CLOCK algorithm (Corbató). */
  #choose(wanted: number): Set<Activation> {
    const actors = this.#actors;
    const victims = new Set<Activation>();
    let looked = 0;
    // Two rounds, and the ends of both.
    const lookMax = 2 * actors.size + 2;
    while (victims.size < wanted && looked++ < lookMax) {
      this.#sweep ??= actors.values();
      const next = this.#sweep.next();
      if (next.done) {
        this.#sweep = undefined;
        continue;
      }
      const a = next.value;
      if (this.#isBusy(a)) continue;
      if (a.used) a.used = false;
      else victims.add(a);
    }
    return victims;
  }

  #isBusy(a: Activation): boolean {
    return a.loading || a.inFlight;
  }
}

function writeOf(a: Activation, turn: Turn): SnapshotWrite {
  const data = dataOf(turn);
  return {
    id: a.id,
    shard: a.shard.shard,
    value: data === undefined ? undefined : encodeSnapshot(a.id, data),
    expected: a.revision,
    due: data === undefined ? undefined : earliestDue(data.timers),
  };
}
