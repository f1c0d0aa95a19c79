/**
 * This node as the owner of shards: whether it is that still, looked at before something of a shard is stored.
 *
 * Owns nothing. Talks to the shard table and to the lease. Turns need no look: the journal refuses an append of one who is
 * not the owner any more. Of snapshots, entries and indexes revisions hold off late writes, and this the rest.
 */
import type { Directory } from "../ports/index.ts";
import type { Lease } from "./parts.ts";
import type { ShardState } from "./shard.ts";

export class Owner {
  readonly #incarnation: string;
  readonly #directory: Pick<Directory, "readShard">;
  readonly #lease: Lease;

  constructor(incarnation: string, directory: Pick<Directory, "readShard">, lease: Lease) {
    this.#incarnation = incarnation;
    this.#directory = directory;
    this.#lease = lease;
  }

  /**
   * Throws if a shard is another node's now. What was read before this call was not written by a later owner, and a
   * write that expects a revision which was read before cannot replace what a later owner writes.
   */
  async check(shard: ShardState): Promise<void> {
    const stored = await this.#directory.readShard(shard.shard);
    if (stored?.entry.owner !== this.#incarnation || shard.phase === "gone")
      throw new Error(`Shard ${shard.shard} belongs to another node.`);
  }

  /**
   * Throws while another node may own the shards. Revisions make late writes harmless; this saves most of them, and is
   * what holds off the rest where a store has forgotten a marker or keeps none.
   */
  checkLease(): void {
    if (!this.#lease.holds()) throw new Error("The lease has run out; no snapshots are written.");
  }
}
