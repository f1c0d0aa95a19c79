/**
 * Wakes the engine when timers are due.
 *
 * Owns the one pending wake-up of this engine, and the pace of the backlog. Reads the shards' due heaps; hands over the
 * ids of actors that have something due. Due times are of the wall clock, which may jump: it is looked at every
 * `LOOK_MS` at least, as long as there are shards.
 *
 * What is on time is handed over at once. What is found overdue by more than `overdue_ms` (after a downtime that may be
 * every timer of hours) waits in its shard's backlog and is handed over at `overduePerSecond`, from one shard after the
 * other, the oldest of each first. That counts actors, and all kinds alike: delays, the ends of lives, work that is to
 * be run again and its retries. A queue starves nobody: whoever stands in it waits for those before it and no others.
 *
 * It also knows since when this node has watched without a break, which tells a timer that nobody was there for from
 * one that is late because of load (resume.ts).
 */
import type { Clock } from "../ports/index.ts";
import { limits, type NodeSettings } from "../words/limits.ts";
import { invariant } from "../words/errors.ts";
import { Pace } from "./pace.ts";
import type { ShardState } from "./shard.ts";

const LOOK_MS = 30_000;
/** Between two looks while there is a backlog. */
const BACKLOG_LOOK_MS = 20;
/** Entries that one look moves into the backlog: a million at once would hold the loop for a second. */
const SET_ASIDE = 4_096;

invariant(LOOK_MS < limits.delayGrace_ms, "who watches looks in time");

export class Alarm {
  readonly #clock: Clock;
  readonly #shards: ReadonlyMap<number, ShardState>;
  readonly #overdue_ms: number;
  readonly #pace: Pace;
  /** Takes an actor with something due; called only while there is room. */
  readonly #fire: (shard: ShardState, id: string) => void;
  readonly #hasRoom: () => boolean;
  #cancel: (() => void) | undefined;
  #at = Number.POSITIVE_INFINITY;
  /** The last look, by the wall clock. */
  #looked_ms: number;
  /** Where the next look goes on in the round of shards with a backlog. */
  #round = 0;
  #stopped = false;

  constructor(
    clock: Clock,
    settings: Pick<NodeSettings, "overdue_ms" | "overduePerSecond">,
    shards: ReadonlyMap<number, ShardState>,
    hasRoom: () => boolean,
    fire: (shard: ShardState, id: string) => void,
  ) {
    this.#clock = clock;
    this.#overdue_ms = settings.overdue_ms;
    this.#pace = new Pace(settings.overduePerSecond);
    this.#shards = shards;
    this.#hasRoom = hasRoom;
    this.#fire = fire;
    this.#looked_ms = clock.now();
  }

  /** Looks what is due, and arranges to look again. */
  look(): void {
    if (this.#stopped) return;
    const now = this.#clock.now();
    this.#watch(now);
    const before = now - this.#overdue_ms;
    let next = this.#shards.size === 0 ? Number.POSITIVE_INFINITY : now + LOOK_MS;
    let most = SET_ASIDE;
    const late: ShardState[] = [];
    for (const shard of this.#shards.values()) {
      if (shard.phase !== "serving") continue;
      const { due } = shard;
      most -= due.setAside(before, most);
      // What is overdue and not set aside yet stands before what is on time.
      const more = (due.next() ?? before) < before;
      while (!more && this.#hasRoom()) {
        const id = due.take(now);
        if (id === undefined) break;
        this.#fire(shard, id);
      }
      next = Math.min(next, due.next() ?? next);
      if (due.overdue > 0) late.push(shard);
    }
    const wait_ms = this.#workOff(late);
    if (wait_ms !== undefined) next = Math.min(next, now + wait_ms);
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

  /**
   * Hands over what the pace allows of the backlogs of some shards. Returns when to go on, undefined if nothing is left.
   */
  #workOff(late: ShardState[]): number | undefined {
    while (late.length > 0) {
      if (!this.#hasRoom()) return BACKLOG_LOOK_MS;
      if (!this.#pace.take(this.#clock.monotonic())) return Math.max(BACKLOG_LOOK_MS, this.#pace.wait_ms);
      this.#round %= late.length;
      const shard = late[this.#round] as ShardState;
      this.#fire(shard, shard.due.takeOverdue() as string);
      if (shard.due.overdue === 0) late.splice(this.#round, 1);
      else this.#round++;
    }
    return undefined;
  }

  /** Nobody has looked for so long, by the wall clock: the process was suspended, or the clock was set ahead. */
  #watch(now: number): void {
    if (now - this.#looked_ms > limits.delayGrace_ms)
      for (const shard of this.#shards.values()) shard.watched_ms = now;
    this.#looked_ms = now;
  }
}
