/**
 * The memory store's shard table, members and heartbeats.
 *
 * Owns them. Writes go through `write`, which decides when they take effect and are answered; so a copy that lags
 * behind is the same class with another `write`.
 *
 * Invariants: see Directory in the ports.
 */
import type { AppSettings, Directory, Member, ShardEntry, StoredShard } from "../../ports/index.ts";

/** Lets a write take effect at some moment; resolves when it has. */
export type Write = <T>(apply: () => T) => Promise<T>;

export class MemoryDirectory implements Directory {
  readonly #write: Write;
  #app: AppSettings | undefined;
  readonly #shards = new Map<number, StoredShard>();
  readonly #members = new Map<string, Member>();
  readonly #beats = new Map<string, number>();
  /** Incarnations that were taken off the list, for as long as the store lives. */
  readonly #gone = new Set<string>();
  readonly #watchers = new Set<(shard?: number) => void>();
  /** The list as it is given out, until it changes. */
  #list: readonly Member[] | undefined;
  #revision = 0;

  constructor(write: Write) {
    this.#write = write;
  }

  app(wanted: AppSettings): Promise<AppSettings> {
    return this.#write(() => (this.#app ??= { ...wanted }));
  }

  async settings(): Promise<AppSettings | undefined> {
    return this.#app;
  }

  async readShard(shard: number): Promise<StoredShard | undefined> {
    return this.#shards.get(shard);
  }

  async readShards(shards: readonly number[]): Promise<ReadonlyMap<number, StoredShard>> {
    const found = new Map<number, StoredShard>();
    for (const shard of shards) {
      const stored = this.#shards.get(shard);
      if (stored !== undefined) found.set(shard, stored);
    }
    return found;
  }

  writeShard(shard: number, entry: ShardEntry, expected: number): Promise<number | undefined> {
    return this.#write(() => {
      if ((this.#shards.get(shard)?.revision ?? 0) !== expected) return undefined;
      const revision = ++this.#revision;
      this.#shards.set(shard, { entry, revision });
      if (entry.owner === undefined) this.#changed(shard);
      return revision;
    });
  }

  join(member: Member): Promise<boolean> {
    return this.#write(() => {
      const { incarnation, beat } = member;
      if (this.#gone.has(incarnation)) return false;
      if (beat < (this.#beats.get(incarnation) ?? beat)) return true;
      this.#members.set(incarnation, member);
      this.#beats.set(incarnation, beat);
      this.#changed();
      return true;
    });
  }

  beat(incarnation: string, beat: number): Promise<boolean> {
    return this.#write(() => {
      const newest = this.#beats.get(incarnation);
      if (newest === undefined) return false;
      this.#beats.set(incarnation, Math.max(beat, newest));
      return true;
    });
  }

  leave(incarnation: string, beat?: number): Promise<boolean> {
    return this.#write(() => {
      const newest = this.#beats.get(incarnation);
      if (newest !== undefined && beat !== undefined && beat !== newest) return false;
      this.#gone.add(incarnation);
      this.#beats.delete(incarnation);
      if (this.#members.delete(incarnation)) this.#changed();
      return true;
    });
  }

  async members(): Promise<readonly Member[]> {
    this.#list ??= [...this.#members.values()];
    return this.#list;
  }

  async beats(incarnations: readonly string[], _fresh: boolean): Promise<readonly (number | undefined)[]> {
    return incarnations.map((incarnation) => this.#beats.get(incarnation));
  }

  watch(changed: (shard?: number) => void): () => void {
    // A function of its own, so that the same callback may watch twice and stop once.
    const watcher = (shard?: number): void => changed(shard);
    this.#watchers.add(watcher);
    return () => {
      this.#watchers.delete(watcher);
    };
  }

  #changed(shard?: number): void {
    if (shard === undefined) this.#list = undefined;
    for (const watcher of [...this.#watchers]) watcher(shard);
  }
}
