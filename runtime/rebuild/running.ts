/**
 * The states that the running definition has made, as of the very records that a replay has seen.
 *
 * Owns the reading of them: from snapshots with the tails of their shards, as a take-over has them, and for actors that
 * have moved on meanwhile along their links in the journal. No user code, and nothing is claimed or written.
 */
import type { ShardEntry, Store, World } from "../ports/index.ts";
import { forEach } from "../engine/concurrently.ts";
import { HistoryReader } from "../engine/history.ts";
import { rebuild } from "../engine/recovery.ts";
import { type ActorData, decodeSnapshot, type Patch } from "../engine/state.ts";
import { isKeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import { closed, groupsOf } from "../engine/population.ts";
import type { Life } from "./life.ts";
import type { Part } from "./part.ts";

const TABLE_AT_ONCE = 32;
const READ_IDS = 512;
const HISTORY_AT_ONCE = 32;

/** What an actor that was replayed has in the running app: its state, or why it cannot be told. */
export type Running = ActorData | { readonly missing: "trimmed" | "not begun" };

export class RunningStates {
  readonly #store: Store;
  readonly #world: World;
  readonly #history: HistoryReader;
  readonly #patches = new Map<string, Patch>();

  constructor(store: Store, world: World) {
    this.#store = store;
    this.#world = world;
    this.#history = new HistoryReader(store.journal);
  }

  /** Reads the tails of a part's shards. */
  async open(part: Part, type: string): Promise<void> {
    this.#patches.clear();
    const entries: { shard: number; segments: ShardEntry["segments"] }[] = [];
    const wanted = [...part.shards.keys()].filter((shard) => part.shards[shard] === 1);
    await forEach(wanted, TABLE_AT_ONCE, async (shard) => {
      const stored = await this.#store.directory.readShard(shard);
      if (stored !== undefined) entries.push({ shard, segments: stored.entry.segments });
    });
    for (const group of groupsOf(entries)) {
      const lasts = new Map<string, Promise<number>>();
      const ended = await Promise.all(group.map((one) => closed(this.#store, one, lasts)));
      for (const shard of await rebuild(this.#store, ended, this.#world.clock.monotonic()))
        for (const [id, patch] of shard.patches) if (id.startsWith(`${type}.`)) this.#patches.set(id, patch);
    }
  }

  /** Calls back with each life's running state as of the record that it stands at. */
  async each(lives: Iterable<Life>, take: (life: Life, running: Running) => void): Promise<void> {
    let page: Life[] = [];
    for (const life of lives) {
      page.push(life);
      if (page.length < READ_IDS) continue;
      await this.#page(page, take);
      page = [];
    }
    if (page.length > 0) await this.#page(page, take);
  }

  async #page(lives: readonly Life[], take: (life: Life, running: Running) => void): Promise<void> {
    const entries = await this.#store.snapshots.read(lives.map(({ id }) => id));
    const moved: Life[] = [];
    lives.forEach((life, index) => {
      const running = this.#together(life.id, entries[index]?.value);
      if (running !== undefined && running.last[0] === life.seq && running.last[1] === life.index)
        take(life, running);
      else moved.push(life);
    });
    await forEach(moved, HISTORY_AT_ONCE, async (life) => {
      // Only what was refused has begun it.
      if (life.turn === 0) {
        take(life, { missing: "not begun" });
        return;
      }
      try {
        const running = await this.#history.stateAt(life.id, life.at);
        if (running !== undefined) take(life, running);
      } catch (error) {
        if (!isKeyturnError(error, "history_trimmed")) throw error;
        take(life, { missing: "trimmed" });
      }
    });
  }

  #together(id: string, value: Uint8Array | undefined): ActorData | undefined {
    const stored = value === undefined ? undefined : decodeSnapshot(id, value);
    const patch = this.#patches.get(id);
    if (patch === undefined) return stored;
    try {
      return patch.applyTo(id, stored, limits.requestsPerActor);
    } catch (error) {
      // Nodes go on beside this: what was read at two moments need not fit.
      if (isKeyturnError(error, "corrupt_record")) return stored;
      throw error;
    }
  }
}
