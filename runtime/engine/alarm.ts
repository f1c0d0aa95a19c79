/**
 * Wakes the engine when timers are due.
 *
 * Owns the one pending wake-up of this engine. Reads the shards' due heaps; hands over the ids of actors that have
 * something due. Due times are of the wall clock, which may jump: it is looked at once a minute at least.
 */
import type { Clock } from "../ports/index.ts";
import type { ShardState } from "./shard.ts";

const LOOK_MS = 60_000;

export class Alarm {
  readonly #clock: Clock;
  readonly #shards: ReadonlyMap<number, ShardState>;
  /** Takes an actor with something due; called only while there is room. */
  readonly #fire: (shard: ShardState, id: string) => void;
  readonly #hasRoom: () => boolean;
  #cancel: (() => void) | undefined;
  #at = Number.POSITIVE_INFINITY;
  #stopped = false;

  constructor(
    clock: Clock,
    shards: ReadonlyMap<number, ShardState>,
    hasRoom: () => boolean,
    fire: (shard: ShardState, id: string) => void,
  ) {
    this.#clock = clock;
    this.#shards = shards;
    this.#hasRoom = hasRoom;
    this.#fire = fire;
  }

  /** Looks what is due, and arranges to look again. */
  look(): void {
    if (this.#stopped) return;
    const now = this.#clock.now();
    let next = Number.POSITIVE_INFINITY;
    for (const shard of this.#shards.values()) {
      if (shard.phase !== "serving") continue;
      while (this.#hasRoom()) {
        const id = shard.due.take(now);
        if (id === undefined) break;
        this.#fire(shard, id);
      }
      next = Math.min(next, shard.due.next() ?? next);
    }
    this.#cancel?.();
    this.#cancel = undefined;
    this.#at = Number.POSITIVE_INFINITY;
    this.lookAt(next);
  }

  /** Makes sure that somebody looks when this time has come. */
  lookAt(due: number | undefined): void {
    if (due === undefined || due >= this.#at || this.#stopped) return;
    this.#cancel?.();
    this.#at = due;
    const wait = Math.min(Math.max(1, due - this.#clock.now()), LOOK_MS);
    this.#cancel = this.#clock.after(wait, () => this.look());
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }
}
