/**
 * Checkpoints: everything that only the tail knows goes into snapshots, then the tail is cut.
 *
 * Owns the order of the writes. Talks to the saver, Snapshots and, through `cut`, to the shard table.
 *
 * The order: note where the lane stands and what the shards' channels are (one synchronous moment), write the shard
 * entries, write what recovery left as patches, write every actor that is behind, then the stored indexes, and only then move the start of the
 * shards' segments to the noted place. A crash between any two of these leaves a longer tail, never a gap: replaying
 * a record that a snapshot already has changes nothing.
 *
 * Invariant: the tail is never cut beyond a record that is not in a snapshot.
 */
import type { Segment } from "../ports/index.ts";
import { isKeyturnError, type KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import type { Actors } from "./actors.ts";
import type { IndexWriter } from "./catalog/index-writer.ts";
import type { TailSize } from "./commits.ts";
import { forEach } from "./concurrently.ts";
import { EntryWriter } from "./entries.ts";
import type { Owner } from "./owner.ts";
import type { EngineParts } from "./parts.ts";
import type { Saver } from "./saver.ts";
import type { ShardState } from "./shard.ts";
import { bodyOf } from "./shard-entry.ts";
import { type ActorData, decodeSnapshot, earliestDue, encodeSnapshot } from "./state.ts";

/** Rounds in which snapshots may turn out to have been written by another. */
const CONFLICTS_MAX = 8;
/** Tails that are cut at once: each is a write to the shard table. */
const CUTS_AT_ONCE = 32;

function isHealthy(shard: ShardState): boolean {
  return shard.phase !== "gone" && shard.failed === undefined;
}

/** Sets a shard's segments in the shard table. False if this node does not own the shard any more. */
export type Cut = (shard: ShardState, segments: readonly Segment[]) => Promise<boolean>;

/** What of an engine is checkpointed, and by whom it is written. */
export interface Checkpointed {
  readonly parts: Pick<EngineParts, "store" | "settings" | "world" | "observer">;
  readonly shards: ReadonlyMap<number, ShardState>;
  readonly actors: Actors;
  readonly lane: { readonly name: string };
  readonly saver: Saver;
  readonly indexes: IndexWriter;
  readonly owner: Owner;
  /** Everything up to there is committed. */
  readonly committedSeq: number;
  /** What was appended since the last checkpoint. */
  readonly tail: TailSize;
  readonly stopped: boolean;
  failShard(shard: ShardState, error: KeyturnError): Promise<void>;
}

export class Checkpointer {
  readonly #engine: Checkpointed;
  readonly #entries: EntryWriter;
  readonly #cut: Cut;
  #tail: Promise<unknown> = Promise.resolve();

  constructor(engine: Checkpointed, cut: Cut) {
    const { parts, owner } = engine;
    this.#engine = engine;
    this.#entries = new EntryWriter(parts.store.snapshots, owner, parts.observer);
    this.#cut = cut;
  }

  /**
   * Checkpoints some shards. Resolves with those whose tails are cut: damaged ones are left as they are. Throws if a
   * write fails, and may be repeated then.
   */
  run(shards: readonly ShardState[]): Promise<ReadonlySet<ShardState>> {
    return this.#begin(shards, this.#cut);
  }

  /** Only writes: resolves with those of which the tail holds nothing any more that is not in snapshots. */
  flush(shards: readonly ShardState[]): Promise<ReadonlySet<ShardState>> {
    return this.#begin(shards, () => Promise.resolve(true));
  }

  #begin(shards: readonly ShardState[], cut: Cut): Promise<ReadonlySet<ShardState>> {
    const run = this.#tail.then(() => this.#run(shards, cut));
    this.#tail = run.catch(() => undefined);
    return run;
  }

  async #run(wanted: readonly ShardState[], cut: Cut): Promise<ReadonlySet<ShardState>> {
    const engine = this.#engine;
    const shards = wanted.filter(isHealthy);
    if (shards.length === 0 || engine.stopped) return new Set();
    const whole = shards.length === [...engine.shards.values()].filter(isHealthy).length;
    const tail = whole ? engine.tail.cut() : undefined;
    try {
      return await this.#write(shards, cut);
    } catch (error) {
      if (tail !== undefined) engine.tail.add(tail.records, tail.bytes);
      throw error;
    }
  }

  async #write(shards: readonly ShardState[], cut: Cut): Promise<ReadonlySet<ShardState>> {
    const engine = this.#engine;
    const beginnings = await engine.indexes.prepare(shards);
    const from = this.cutAt();
    engine.indexes.capture(beginnings);
    const now = engine.parts.world.clock.monotonic();
    const entries = shards.map((shard) => {
      shard.forgetIdle(now);
      return { shard, body: bodyOf(shard), dueFrom: this.dueFrom(shard) };
    });
    await this.#entries.write(entries);
    const of = new Set<ShardState>();
    for (const shard of shards) if (await this.#patched(shard)) of.add(shard);
    await engine.saver.save([...engine.actors.values()].filter((a) => a.dirty && of.has(a.shard)));
    await engine.indexes.write(of);
    await forEach([...of], CUTS_AT_ONCE, (shard) => shard.letters.put(engine.parts.store.deadLetters));
    const segments = [{ lane: engine.lane.name, from, to: undefined }];
    const done = new Set<ShardState>();
    await forEach([...of], CUTS_AT_ONCE, async (shard) => {
      if (isHealthy(shard) && (await cut(shard, segments))) done.add(shard);
    });
    return done;
  }

  /** Whether all patches of a shard are in snapshots. A damaged snapshot must not hold up the other shards. */
  async #patched(shard: ShardState): Promise<boolean> {
    try {
      await this.#writePatches(shard);
      return true;
    } catch (error) {
      if (isKeyturnError(error, "corrupt_snapshot") || isKeyturnError(error, "corrupt_record")) {
        await this.#engine.failShard(shard, error);
      } else if (isKeyturnError(error, "newer_format")) {
        this.#engine.parts.observer.troubled(`checkpoint of shard ${shard.shard}`, error);
      } else throw error;
      return false;
    }
  }

  /** See ShardState. */
  dueFrom(shard: ShardState): number {
    return shard.dueFrom(this.#engine.actors);
  }

  /** First sequence that the next recovery has to read: everything before it will be in snapshots. */
  cutAt(): number {
    return this.#engine.committedSeq + 1;
  }

  /** What recovery found in the tail of actors that nobody has used since: into their snapshots, without a machine. */
  async #writePatches(shard: ShardState): Promise<void> {
    const { snapshots } = this.#engine.parts.store;
    const { snapshotBatch } = this.#engine.parts.settings;
    for (let conflicts = 0; shard.patches.size > 0; ) {
      const batch = [...shard.patches].slice(0, snapshotBatch);
      const stored = await snapshots.read(batch.map(([id]) => id));
      // Only on top of what no later owner has written: its state would be overwritten, its deletion undone.
      await this.#engine.owner.check(shard);
      const written: (ActorData | undefined)[] = [];
      const writes = batch.map(([id, patch], index) => {
        const entry = stored[index];
        const base = entry?.value === undefined ? undefined : decodeSnapshot(id, entry.value);
        const data = patch.applyTo(id, base, limits.requestsPerActor);
        written.push(data);
        return {
          id,
          shard: shard.shard,
          value: data === undefined ? undefined : encodeSnapshot(id, data),
          expected: entry?.revision ?? 0,
          due: data === undefined ? undefined : earliestDue(data.timers),
        };
      });
      this.#engine.owner.checkLease();
      // Deletions too, also of what was never stored: the marker holds off a former owner's late first write.
      const revisions = await snapshots.write(writes);
      const refused = new Set(
        writes.filter((_write, index) => revisions[index] === undefined).map(({ id }) => id),
      );
      // Refused, because the actor was loaded and stored meanwhile with all of this in it: then its patch is gone. Or
      // because a former owner's last write came in late: then once more, on top of that.
      if (refused.size > 0 && ++conflicts > CONFLICTS_MAX)
        throw new Error(`Snapshots of shard ${shard.shard} keep changing under this node.`);
      for (const [index, [id, patch]] of batch.entries()) {
        if (refused.has(id)) continue;
        this.#engine.indexes.patched(shard, id, written[index]);
        if (shard.patches.get(id) === patch) shard.patches.delete(id);
      }
      if (this.#engine.stopped || shard.phase === "gone")
        throw new Error(`Shard ${shard.shard} has left this node.`);
    }
  }
}
