/**
 * Handing shards over, planned: flush, come to rest, flush the rest, release.
 *
 * Owns the order of the steps. Talks to the engine, the checkpointer and, for the release, the orphans.
 *
 * Invariants:
 * 1. A shard is released only when nothing of it is in flight and everything committed is in snapshots, or its entry
 *    says where the rest is.
 * 2. A shard that cannot be brought to rest, or cannot be flushed, goes on being served here.
 */
import type { Checkpointer } from "../engine/checkpoint.ts";
import { forEach } from "../engine/concurrently.ts";
import type { Engine } from "../engine/engine.ts";
import type { ShardState } from "../engine/shard.ts";
import type { Held } from "./held.ts";
import type { Orphans } from "./orphans.ts";
import { entryOf } from "./takeover.ts";

/** How many shards come to rest together: who asks one of them waits for these and no others. */
const DRAINED_AT_ONCE = 4;
/** How long a draining shard waits between looks whether it is idle. */
const DRAIN_LOOK_MS = 1;
/** A shard that does not come to rest for so long, because its store does not answer, goes on being served here. */
const DRAIN_MS = 10_000;

export class HandOver {
  readonly #engine: Engine;
  readonly #checkpointer: Checkpointer;
  readonly #orphans: Orphans;
  readonly #letGo: (held: Held) => void;

  /** @param letGo the shard is not served here from now on */
  constructor(engine: Engine, checkpointer: Checkpointer, orphans: Orphans, letGo: (held: Held) => void) {
    this.#engine = engine;
    this.#checkpointer = checkpointer;
    this.#orphans = orphans;
    this.#letGo = letGo;
  }

  /** False if they go on being served here. */
  async run(unwanted: readonly Held[]): Promise<boolean> {
    const states = unwanted.map((held) => held.state as ShardState);
    try {
      // In the background first, so that little is left to write while nobody is served.
      await this.#checkpointer.run(states);
      for (let at = 0; at < unwanted.length && !this.#engine.stopped; at += DRAINED_AT_ONCE)
        await this.#group(unwanted.slice(at, at + DRAINED_AT_ONCE));
      return true;
    } catch (error) {
      this.#engine.parts.observer.troubled("release shards", error);
      for (const held of unwanted) {
        if (held.state === undefined || this.#engine.shards.get(held.number) !== held.state) continue;
        held.phase = "serving";
        if (held.state.phase === "draining") held.state.phase = "serving";
      }
      return false;
    }
  }

  async #group(unwanted: readonly Held[]): Promise<void> {
    const states = unwanted.map((held) => held.state as ShardState);
    // Once more while they are served: what the groups before took their time for is not waited for.
    await this.#checkpointer.flush(states);
    for (const held of unwanted) {
      held.phase = "draining";
      (held.state as ShardState).phase = "draining";
    }
    for (const state of states) await this.#drained(state);
    const flushed = await this.#checkpointer.flush(states);
    if (this.#engine.stopped) return;
    await forEach(unwanted, DRAINED_AT_ONCE, (held) =>
      this.#giveUp(held, flushed.has(held.state as ShardState)),
    );
  }

  /**
   * Writes into the shard table that nobody owns the shard. From the moment this is tried on, the shard is not served
   * here, whatever the answer: a write without an answer may take effect later. If it does not, the shard is an orphan,
   * and a later reconciliation tries again, or takes the shard anew.
   * @param flushed whether the tail holds nothing of it that is not in snapshots
   */
  async #giveUp(held: Held, flushed: boolean): Promise<void> {
    const { number, epoch, revision, versions } = held;
    const { store, observer, incarnation } = this.#engine.parts;
    this.#letGo(held);
    this.#orphans.add(number);
    if (flushed) {
      const entry = entryOf(undefined, epoch, [], versions);
      if ((await store.directory.writeShard(number, entry, revision)) !== undefined) {
        this.#orphans.forget(number);
        observer.shardReleased(number, incarnation);
        return;
      }
    }
    await this.#orphans.disown(number, flushed);
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
}
