/**
 * The shard table and the members.
 *
 * Owns the table `shards`, the app's settings in `meta`, and the members, which are in memory only: whoever holds the
 * folder's lock knows that no member of an earlier process lives. Talks to the Writer and the Environment.
 *
 * Invariants: see Directory in the ports.
 */
import type { AppSettings, Directory, Member, Segment, ShardEntry, StoredShard } from "../../ports/index.ts";
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
  readonly #members = new Map<string, Member>();
  readonly #watchers = new Set<() => void>();

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
        const stored = meta.get("app");
        if (stored !== undefined) {
          const [shards, format] = openRow("app's settings", stored);
          return { shards: shards as number, format: format as number };
        }
        group.put(meta, "app", row);
        staged.app = { shards: wanted.shards, format: wanted.format };
        return staged.app;
      },
    });
  }

  async readShard(shard: number): Promise<StoredShard | undefined> {
    return this.#environment.read(() => this.#stored(shard));
  }

  async readShards(): Promise<ReadonlyMap<number, StoredShard>> {
    return this.#environment.read(() => {
      const shards = new Map<number, StoredShard>();
      for (const { key, value } of this.#environment.tables.shards.getRange()) {
        shards.set(key, openShard(key, value));
      }
      return shards;
    });
  }

  async writeShard(shard: number, entry: ShardEntry, expected: number): Promise<number | undefined> {
    // Changes hands, rather than adding to the store: an app must be able to start and to stop when the store is full.
    const revision = await this.#writer.write({
      bytes: 0,
      decide: (group) => this.#decide(group, shard, entry, expected),
    });
    if (revision !== undefined) this.#changed();
    return revision;
  }

  async beat(member: Member): Promise<void> {
    const before = this.#members.get(member.incarnation);
    this.#members.set(member.incarnation, member);
    if (before === undefined || !alike(before, member)) this.#changed();
  }

  async leave(incarnation: string): Promise<void> {
    if (this.#members.delete(incarnation)) this.#changed();
  }

  async members(): Promise<readonly Member[]> {
    return [...this.#members.values()];
  }

  watch(changed: () => void): () => void {
    // A function of its own, so that the same callback may watch twice and stop once.
    const watcher = (): void => changed();
    this.#watchers.add(watcher);
    return () => {
      this.#watchers.delete(watcher);
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

  #changed(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}

/** Whether a heartbeat says nothing new but that the node lives, which nobody waits for. */
function alike(before: Member, after: Member): boolean {
  return JSON.stringify({ ...before, beat: 0 }) === JSON.stringify({ ...after, beat: 0 });
}

function packShard({ entry, revision }: StoredShard): Uint8Array {
  const segments = entry.segments.map(({ journal, lane, from, to }) => [journal, lane, from, to ?? null]);
  return packRow([revision, entry.owner ?? null, entry.epoch, segments]);
}

type SegmentFields = readonly [journal: number, lane: string, from: number, to: number | null];
type ShardFields = readonly [number, string | null, number, readonly SegmentFields[]];

function openShard(shard: number, bytes: Uint8Array): StoredShard {
  const [revision, owner, epoch, fields] = openRow(
    `entry of shard ${shard}`,
    bytes,
  ) as unknown as ShardFields;
  const segments = fields.map(
    ([journal, lane, from, to]): Segment => ({ journal, lane, from, to: to ?? undefined }),
  );
  return { entry: { owner: owner ?? undefined, epoch, segments }, revision };
}
