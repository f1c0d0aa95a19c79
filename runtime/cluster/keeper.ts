/**
 * Keeps of the journal what is to be kept: one node of an app trims it now and then.
 *
 * Owns when. Talks to `trimJournal`. The node that serves the first shard does it, so there is one at a time, and another
 * when it is gone; where two believe it of themselves, the second one finds that the first trims (engine/holds.ts).
 */
import type { Observer } from "../engine/observer.ts";
import type { KeepPolicy } from "../engine/keep.ts";
import { trimJournal } from "../engine/retention.ts";
import type { Tally } from "../engine/tally.ts";
import type { Store, World } from "../ports/index.ts";

export interface KeeperParts {
  readonly store: Store;
  readonly world: World;
  readonly policy: KeepPolicy;
  readonly every_ms: number;
  readonly observer: Observer;
  readonly tally: Tally;
  /** Whether it is this node's to do, and this incarnation lives. */
  readonly isMine: () => boolean;
}

export class Keeper {
  readonly #parts: KeeperParts;
  #next_ms: number;
  #running = false;

  constructor(parts: KeeperParts) {
    this.#parts = parts;
    this.#next_ms = parts.world.clock.monotonic() + parts.every_ms;
  }

  /** Called now and then: trims if it is time. Failures are told, and are tried again next time. */
  tick(): void {
    const { policy, world, every_ms, isMine } = this.#parts;
    const now = world.clock.monotonic();
    if (policy.isForever || this.#running || now < this.#next_ms || !isMine()) return;
    this.#running = true;
    this.#next_ms = now + every_ms;
    void this.#trim();
  }

  async #trim(): Promise<void> {
    const { store, world, policy, observer, tally, isMine } = this.#parts;
    try {
      const { trimmed } = await trimJournal(store, policy, world, isMine);
      tally.trimmedLanes += trimmed;
    } catch (error) {
      observer.troubled("trim the journal", error);
    } finally {
      this.#running = false;
    }
  }
}
