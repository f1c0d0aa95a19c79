/**
 * The shard table and the members.
 *
 * Owns the table `shards`, the app's settings in `meta`, and the members, which are in memory only: whoever holds the
 * folder's lock knows that no member of an earlier process lives. Talks to the Writer, the Environment and, for the
 * members, to the memory store's directory.
 *
 * Invariants: see Directory in the ports.
 */
import type { AppSettings, Directory, Member, Segment, ShardEntry, StoredShard } from "../../ports/index.ts";
import { MemoryDirectory } from "../memory/directory.ts";
import { NO_JOURNAL } from "../../words/position.ts";
import type { Environment } from "./environment.ts";
import { openRow, packRow } from "./rows.ts";
import type { Group, Writer } from "./writer.ts";

interface Staged {
  app: AppSettings | undefined;
  readonly revisions: Map<number, number>;
}

export class EmbeddedDirectory implements Directory {
  readonly #environment: Environment;
  readonly #writer: Writer;
  /** Members and heartbeats: a directory of its own, whose writes take effect at once. */
  readonly #living = new MemoryDirectory(async (apply) => apply());
  readonly #watchers = new Set<(shard?: number) => void>();

  constructor(environment: Environment, writer: Writer) {
    this.#environment = environment;
    this.#writer = writer;
  }

  app(wanted: AppSettings): Promise<AppSettings> {
    const row = packRow([wanted.shards, wanted.format]);
    return this.#writer.write({
      bytes: row.length,
      decide: (group): AppSettings => {
        const { meta } = this.#environment.tables;
        const staged = this.#staged(group);
        if (staged.app !== undefined) return staged.app;
        const stored = this.#settings();
        if (stored !== undefined) return stored;
        group.put(meta, "app", row);
        staged.app = { shards: wanted.shards, format: wanted.format };
        return staged.app;
      },
    });
  }

  async settings(): Promise<AppSettings | undefined> {
    return this.#environment.read(() => this.#settings());
  }

  #settings(): AppSettings | undefined {
    const stored = this.#environment.tables.meta.get("app");
    if (stored === undefined) return undefined;
    const [shards, format] = openRow("app's settings", stored);
    return { shards: shards as number, format: format as number };
  }

  async readShard(shard: number): Promise<StoredShard | undefined> {
    return this.#environment.read(() => this.#stored(shard));
  }

  async readShards(shards: readonly number[]): Promise<ReadonlyMap<number, StoredShard>> {
    return this.#environment.read(() => {
      const found = new Map<number, StoredShard>();
      for (const shard of shards) {
        const stored = this.#stored(shard);
        if (stored !== undefined) found.set(shard, stored);
      }
      return found;
    });
  }

  async writeShard(shard: number, entry: ShardEntry, expected: number): Promise<number | undefined> {
    // Changes hands, rather than adding to the store: an app must be able to start and to stop when the store is full.
    const revision = await this.#writer.write({
      bytes: 0,
      decide: (group) => this.#decide(group, shard, entry, expected),
    });
    if (revision !== undefined && entry.owner === undefined)
      for (const watcher of [...this.#watchers]) watcher(shard);
    return revision;
  }

  join(member: Member): Promise<boolean> {
    return this.#living.join(member);
  }

  beat(incarnation: string, beat: number): Promise<boolean> {
    return this.#living.beat(incarnation, beat);
  }

  leave(incarnation: string, beat?: number): Promise<boolean> {
    return this.#living.leave(incarnation, beat);
  }

  members(): Promise<readonly Member[]> {
    return this.#living.members();
  }

  beats(incarnations: readonly string[], fresh: boolean): Promise<readonly (number | undefined)[]> {
    return this.#living.beats(incarnations, fresh);
  }

  watch(changed: (shard?: number) => void): () => void {
    const watcher = (shard?: number): void => changed(shard);
    this.#watchers.add(watcher);
    const stop = this.#living.watch(changed);
    return () => {
      this.#watchers.delete(watcher);
      stop();
    };
  }

  #decide(group: Group, shard: number, entry: ShardEntry, expected: number): number | undefined {
    const { revisions } = this.#staged(group);
    if ((revisions.get(shard) ?? this.#stored(shard)?.revision ?? 0) !== expected) return undefined;
    const revision = expected + 1;
    group.put(this.#environment.tables.shards, shard, packShard({ entry, revision }));
    revisions.set(shard, revision);
    return revision;
  }

  #staged(group: Group): Staged {
    return group.staged<Staged>(this, () => ({ app: undefined, revisions: new Map() }));
  }

  #stored(shard: number): StoredShard | undefined {
    const bytes = this.#environment.tables.shards.get(shard);
    return bytes === undefined ? undefined : openShard(shard, bytes);
  }
}

function packShard({ entry, revision }: StoredShard): Uint8Array {
  const segments = entry.segments.map(({ lane, from, to }) => [NO_JOURNAL, lane, from, to ?? null]);
  const fields = [revision, entry.owner ?? null, entry.epoch, segments];
  if (entry.versions !== undefined) fields.push(Object.entries(entry.versions));
  return packRow(fields);
}

type SegmentFields = readonly [noJournal: number, lane: string, from: number, to: number | null];
type VersionFields = readonly (readonly [type: string, version: number])[];
/** The last one is missing where all versions are 1. */
type ShardFields = readonly [number, string | null, number, readonly SegmentFields[], VersionFields?];

function openShard(shard: number, bytes: Uint8Array): StoredShard {
  const [revision, owner, epoch, fields, versions] = openRow(
    `entry of shard ${shard}`,
    bytes,
  ) as unknown as ShardFields;
  const segments = fields.map(([, lane, from, to]): Segment => ({ lane, from, to: to ?? undefined }));
  const entry: ShardEntry = { owner: owner ?? undefined, epoch, segments };
  if (versions === undefined) return { entry, revision };
  return { entry: { ...entry, versions: Object.fromEntries(versions) }, revision };
}
