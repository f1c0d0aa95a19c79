/**
 * Snapshots spread over several buckets, by shard: no server has to keep the index of all keys.
 *
 * Owns which bucket an entry lies in. Talks to the buckets.
 */
import type { DueEntry, ListPage, SnapshotEntry, Snapshots, SnapshotWrite } from "../../ports/index.ts";
import { placeOfId } from "../../words/address.ts";
import { KeyturnError } from "../../words/errors.ts";
import { bucketOf, type Layout } from "./layout.ts";
import type { NatsSnapshots } from "./snapshots.ts";

/** What shards have stored of themselves, and of their actors. */
const SHARD_ENTRY = /^_(?:shard|index)\.(\d+)(?:\.|$)/;

export class SpreadSnapshots implements Snapshots {
  readonly #layout: () => Layout;
  readonly #open: (bucket: number) => NatsSnapshots;
  readonly #shards: () => number | undefined;
  readonly #buckets: NatsSnapshots[] = [];

  /**
   * @param layout as far as it is known
   * @param open gives a bucket by its number; asked once for each
   * @param shards of the app, once they are known
   */
  constructor(
    layout: () => Layout,
    open: (bucket: number) => NatsSnapshots,
    shards: () => number | undefined,
  ) {
    this.#layout = layout;
    this.#open = open;
    this.#shards = shards;
  }

  bucketFor(shard: number): NatsSnapshots {
    const number = bucketOf(shard, this.#layout());
    let bucket = this.#buckets[number];
    if (bucket === undefined) this.#buckets[number] = bucket = this.#open(number);
    return bucket;
  }

  async sync(): Promise<void> {
    const numbers = Array.from({ length: this.#layout().snapshotBuckets }, (_, number) => number);
    await Promise.all(numbers.map((number) => this.bucketFor(number).sync()));
  }

  read(ids: readonly string[]): Promise<readonly (SnapshotEntry | undefined)[]> {
    if (this.#layout().snapshotBuckets === 1) return this.bucketFor(0).read(ids);
    return this.#apart(
      ids,
      (id) => this.#shardOf(id),
      (bucket, some) => bucket.read(some),
    );
  }

  write(writes: readonly SnapshotWrite[]): Promise<readonly (number | undefined)[]> {
    if (this.#layout().snapshotBuckets === 1) return this.bucketFor(0).write(writes);
    return this.#apart(
      writes,
      ({ shard }) => shard,
      (bucket, some) => bucket.write(some),
    );
  }

  due(shard: number, before: number, limit: number, after?: DueEntry): Promise<readonly DueEntry[]> {
    return this.bucketFor(shard).due(shard, before, limit, after);
  }

  /** One bucket after another; the cursor is `<bucket>:<cursor there>`. */
  async list(limit: number, cursor = "0:", type?: string): Promise<ListPage> {
    const [number = "0", inner = ""] = cursor.split(":");
    const bucket = Number(number);
    // A bucket belongs to the shards that are numbered like it, beside others.
    const { entries, next } = await this.bucketFor(bucket).list(
      limit,
      inner === "" ? undefined : inner,
      type,
    );
    if (next !== undefined) return { entries, next: `${bucket}:${next}` };
    const more = bucket + 1 < this.#layout().snapshotBuckets;
    return { entries, next: more ? `${bucket + 1}:` : undefined };
  }

  /** Asks each bucket for its part, all at once, and puts the answers together in order. */
  async #apart<T, R>(
    items: readonly T[],
    shardOf: (item: T) => number,
    ask: (bucket: NatsSnapshots, items: readonly T[]) => Promise<readonly R[]>,
  ): Promise<readonly R[]> {
    const parts = new Map<NatsSnapshots, number[]>();
    for (const [index, item] of items.entries()) {
      const bucket = this.bucketFor(shardOf(item));
      const part = parts.get(bucket);
      if (part === undefined) parts.set(bucket, [index]);
      else part.push(index);
    }
    const answers: R[] = new Array(items.length);
    await Promise.all(
      [...parts].map(async ([bucket, indexes]) => {
        const some = await ask(
          bucket,
          indexes.map((index) => items[index] as T),
        );
        for (const [at, index] of indexes.entries()) answers[index] = some[at] as R;
      }),
    );
    return answers;
  }

  #shardOf(id: string): number {
    const entry = SHARD_ENTRY.exec(id);
    if (entry !== null) return Number(entry[1]);
    const shards = this.#shards();
    if (shards === undefined) {
      throw new KeyturnError(
        "not_provisioned",
        "It is not known yet how many shards the app has. Start a node, or connect a client, first.",
      );
    }
    return placeOfId(id, shards).shard;
  }
}
