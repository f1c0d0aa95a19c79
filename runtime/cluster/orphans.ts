/**
 * Orphans: shards that this incarnation does not serve although the shard table may say that it owns them.
 *
 * Owns which they are. Such a shard comes from a write to the shard table without an answer: of a claim, which may
 * still have its effect, or of a release, which may have had none. Nobody else would take it, since its owner lives.
 * Talks to the Directory.
 *
 * Invariants:
 * 1. A shard is forgotten only when it is served here, or its entry cannot come to name this incarnation any more:
 *    another is the owner, or none, and no claim of this node expects the entry as it is.
 * 2. What is served here, or about to be, is not given away: whoever takes a free shard seals no lane.
 */
import type { Engine } from "../engine/engine.ts";
import { closeSegments, entryOf, isFilled } from "./takeover.ts";

export class Orphans {
  readonly #engine: Engine;
  readonly #isHeld: (shard: number) => boolean;
  /** By shard: the revision that an unanswered claim expects, undefined if there is none. */
  readonly #open = new Map<number, number | undefined>();

  /** @param isHeld whether a shard is served here or about to be */
  constructor(engine: Engine, isHeld: (shard: number) => boolean) {
    this.#engine = engine;
    this.#isHeld = isHeld;
  }

  get shards(): number[] {
    return [...this.#open.keys()];
  }

  /** @param claimed the revision that a claim without an answer expects */
  add(shard: number, claimed?: number): void {
    this.#open.set(shard, claimed ?? this.#open.get(shard));
  }

  /** It is served here. */
  forget(shard: number): void {
    this.#open.delete(shard);
  }

  /**
   * Takes this incarnation's name out of the shard table, for a shard that is not served here.
   * @param cut whether the checkpoint has just cut the tail, behind which nothing of the shard was appended since
   */
  async disown(shard: number, cut = false): Promise<void> {
    const { store, incarnation, observer } = this.#engine.parts;
    this.add(shard);
    const stored = await store.directory.readShard(shard);
    if (stored?.entry.owner !== incarnation) {
      if (this.#open.get(shard) !== (stored?.revision ?? 0)) this.#open.delete(shard);
      return;
    }
    // A damaged shard keeps its tail: it holds turns that are in no snapshot.
    const segments = cut ? [] : await closeSegments(this.#engine, stored.entry.segments, new Map());
    // It may be about to be served here again: by a claim that this is the entry of, or that will replace it.
    if (this.#isHeld(shard)) return;
    const { epoch, versions } = stored.entry;
    const entry = entryOf(undefined, epoch, segments.filter(isFilled), versions);
    const revision = await store.directory.writeShard(shard, entry, stored.revision);
    // Another write of this node came first, which had had no answer: once more, later.
    if (revision === undefined) return;
    this.#open.delete(shard);
    observer.shardReleased(shard, incarnation);
  }
}
